//! `/metrics/kafka`: topics, offsets and lag under the names of kafka_exporter, so that its dashboards find their series.
//!
//! Read anew at each scrape: every gateway tells of the whole cluster, so one of them is scraped.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::Extension;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use policies::vocabulary::{DESCRIBE_CLUSTER, DESCRIBE_GROUP, DESCRIBE_TOPIC};
use tokio::sync::Semaphore;
use types::TopicPartition;
use wire::groups::{GroupReply, GroupRequest};

use super::problem::Problem;
use crate::caller::Caller;
use crate::fetch::latest;
use crate::groups::{ask, list};
use crate::lag;
use crate::map::shown_order;

/// Partitions and groups that are asked after at a time.
const AT_ONCE: usize = 32;

pub async fn metrics(Extension(caller): Extension<Arc<Caller>>) -> Result<impl IntoResponse, Problem> {
    caller.cluster(DESCRIBE_CLUSTER)?;
    let mut page = Page::default();
    // Those that a client is shown.
    let gateways = caller.gateway.gateways_for(false);
    page.add("kafka_brokers", "Number of brokers: the gateways that are alive.", &[], gateways.len() as f64);
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut asking = tokio::task::JoinSet::new();
    for topic in caller.topics(DESCRIBE_TOPIC) {
        let labels = [("topic", topic.name.as_str())];
        page.add("kafka_topic_partitions", "Number of partitions of the topic.", &labels, f64::from(topic.partitions));
        for partition in 0..topic.partitions {
            let id = TopicPartition { topic: topic.id, partition };
            let shown = usize::try_from(topic.replication_factor).unwrap_or(1).clamp(1, gateways.len().max(1));
            let order = shown_order(&gateways, id);
            let number = partition.to_string();
            let labels = [("partition", number.as_str()), ("topic", topic.name.as_str())];
            let leader = f64::from(order.first().copied().unwrap_or(-1));
            page.add("kafka_topic_partition_leader", "Broker that is shown as the leader.", &labels, leader);
            page.add("kafka_topic_partition_replicas", "Replicas as shown.", &labels, shown as f64);
            page.add("kafka_topic_partition_in_sync_replica", "In-sync replicas as shown.", &labels, shown as f64);
            page.add("kafka_topic_partition_leader_is_preferred", "1: the leader is the preferred one.", &labels, 1.0);
            page.add("kafka_topic_partition_under_replicated_partition", "1: it has too few replicas.", &labels, 0.0);
            let (caller, permits, name) = (Arc::clone(&caller), Arc::clone(&permits), topic.name.clone());
            asking.spawn(async move {
                let _permit = permits.acquire().await;
                (name, partition, latest(&caller, id).await)
            });
        }
    }
    for (name, partition, ends) in asking.join_all().await {
        // Of one that does not answer just now there is no sample.
        let Ok(ends) = ends else { continue };
        let number = partition.to_string();
        let labels = [("partition", number.as_str()), ("topic", name.as_str())];
        let (end, start) = (ends.high_watermark as f64, ends.log_start as f64);
        page.add("kafka_topic_partition_current_offset", "The end of what readers may see.", &labels, end);
        page.add("kafka_topic_partition_oldest_offset", "The first offset that is there.", &labels, start);
    }
    groups(&caller, &mut page).await?;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], page.finish()))
}

async fn groups(caller: &Arc<Caller>, page: &mut Page) -> Result<(), Problem> {
    for group in list(caller).await?.into_iter().filter(|group| caller.sees(DESCRIBE_GROUP, &group.group)) {
        let name = group.group.as_str();
        if let GroupReply::Described { described } =
            ask(caller, GroupRequest::Describe { group: group.group.clone() }).await?
        {
            let members = described.members.len() as f64;
            page.add("kafka_consumergroup_members", "Members of the group.", &[("consumergroup", name)], members);
        }
        let mut sums: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        let mut lags = lag::of_group(caller, name).await?;
        lags.retain(|lag| caller.sees(DESCRIBE_TOPIC, &lag.topic.name));
        for lag in lags {
            let (topic, number) = (lag.topic.name.as_str(), lag.committed.partition.partition.to_string());
            let labels = [("consumergroup", name), ("partition", number.as_str()), ("topic", topic)];
            let committed = lag.committed.offset;
            page.add("kafka_consumergroup_current_offset", "What the group has committed.", &labels, committed as f64);
            let sum = sums.entry(topic.to_owned()).or_default();
            sum.0 = sum.0.saturating_add(committed);
            if let Some(records) = lag.records {
                page.add("kafka_consumergroup_lag", "Records that the group has not read.", &labels, records as f64);
                sum.1 = sum.1.saturating_add(records);
            }
            if let Some(ms) = lag.ms {
                let help = "Age of the first record that the group has not read.";
                page.add("kafka_consumergroup_lag_seconds", help, &labels, ms as f64 / 1_000.0);
            }
        }
        for (topic, (offset, lag)) in sums {
            let labels = [("consumergroup", name), ("topic", topic.as_str())];
            page.add("kafka_consumergroup_current_offset_sum", "The same over a topic.", &labels, offset as f64);
            page.add("kafka_consumergroup_lag_sum", "The same over a topic.", &labels, lag as f64);
        }
    }
    Ok(())
}

/// Samples by the name of their series, as Prometheus wants them.
#[derive(Debug, Default)]
struct Page(BTreeMap<&'static str, (&'static str, String)>);

impl Page {
    fn add(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: f64) {
        let samples = &mut self.0.entry(name).or_insert((help, String::new())).1;
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(samples, "{name}{labels} {value}");
    }

    fn finish(self) -> String {
        let mut page = String::new();
        for (name, (help, samples)) in self.0 {
            let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} gauge\n{samples}");
        }
        page
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_stand_together_and_labels_are_escaped() {
        let mut page = Page::default();
        page.add("b", "Second.", &[("group", "a \"quoted\\\" one")], 1.5);
        page.add("a", "First.", &[], 2.0);
        page.add("b", "Second.", &[("group", "x")], -1.0);
        let expected = "# HELP a First.\n# TYPE a gauge\na 2\n# HELP b Second.\n# TYPE b gauge\n\
                        b{group=\"a \\\"quoted\\\\\\\" one\"} 1.5\nb{group=\"x\"} -1\n";
        assert_eq!(page.finish(), expected);
    }
}
