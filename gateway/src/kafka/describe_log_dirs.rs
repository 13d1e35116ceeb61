//! DescribeLogDirs (key 35), versions 1 to 4. Tools ask every broker: each gateway answers for the partitions that it is
//! shown to lead, with the bytes that one copy takes.

use std::collections::BTreeSet;
use std::sync::Arc;

use policies::vocabulary::DESCRIBE_CLUSTER;
use tokio::sync::Semaphore;
use types::{TopicPartition, TopicRecord};
use wire::kafka::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, LogDirsPartition, LogDirsResult, LogDirsTopicResult,
};

use super::Client;
use crate::caller::Caller;
use crate::fetch::local_bytes;
use crate::map::shown_order;

/// The one directory that is shown: where bytes are is no client's business.
const LOG_DIR: &str = "/weir";
/// Partitions that are asked after at a time.
const AT_ONCE: usize = 32;

pub async fn handle(caller: Arc<Caller>, client: Client, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let wanted: Vec<(Arc<TopicRecord>, Vec<i32>)> = match request.topics {
        None => caller
            .gateway
            .map
            .topics(caller.tenant)
            .into_iter()
            .map(|topic| (Arc::clone(&topic), all(&topic)))
            .collect(),
        Some(topics) => {
            let known = topics
                .into_iter()
                .filter_map(|topic| Some((caller.gateway.map.topic(caller.tenant, &topic.name)?, topic.partitions)));
            known.collect()
        }
    };
    // As at Kafka: whoever may not describe the cluster sees nothing, and no error.
    if !caller.sees(DESCRIBE_CLUSTER, "") {
        return DescribeLogDirsResponse::default();
    }
    let gateways = caller.gateways(client.is_tls);
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut topics = Vec::with_capacity(wanted.len());
    for (topic, partitions) in wanted {
        let mut asking = tokio::task::JoinSet::new();
        // Each once, however often it is named.
        let partitions: BTreeSet<i32> = partitions.into_iter().filter(|i| (0..topic.partitions).contains(i)).collect();
        for index in partitions {
            let id = TopicPartition { topic: topic.id, partition: index };
            if shown_order(&gateways, id).first().is_some_and(|shown| *shown != caller.gateway.id) {
                continue;
            }
            let (caller, permits) = (Arc::clone(&caller), Arc::clone(&permits));
            asking.spawn(async move {
                let _permit = permits.acquire().await;
                // Of one that does not answer just now nothing is known.
                let bytes = local_bytes(&caller, id).await.unwrap_or(0) as i64;
                LogDirsPartition { index, bytes, ..LogDirsPartition::default() }
            });
        }
        let mut partitions = asking.join_all().await;
        partitions.sort_by_key(|partition| partition.index);
        topics.push(LogDirsTopicResult { name: topic.name.clone(), partitions });
    }
    let result = LogDirsResult { log_dir: LOG_DIR.to_owned(), topics, ..LogDirsResult::default() };
    DescribeLogDirsResponse { results: vec![result], ..DescribeLogDirsResponse::default() }
}

fn all(topic: &TopicRecord) -> Vec<i32> {
    (0..topic.partitions).collect()
}
