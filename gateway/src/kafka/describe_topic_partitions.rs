//! DescribeTopicPartitions (key 75), version 0 (KIP-966): metadata of topics, a page at a time.

use std::sync::Arc;

use policies::vocabulary::DESCRIBE_TOPIC;
use wire::kafka::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, DescribedPartition, DescribedTopic, TopicCursor,
};

use super::Client;
use super::metadata::show;
use crate::caller::Caller;
use crate::error::kafka_code;

/// Partitions of a page at most, whatever is asked for (`max.request.partition.size.limit`).
const PARTITIONS_MAX: i32 = 2_000;

pub async fn handle(
    caller: Arc<Caller>,
    client: Client,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let mut names: Vec<String> = if request.topics.is_empty() {
        caller.topics(DESCRIBE_TOPIC).iter().map(|topic| topic.name.clone()).collect()
    } else {
        request.topics.into_iter().map(|topic| topic.name).collect()
    };
    names.sort_unstable();
    names.dedup();
    let cursor = request.cursor.unwrap_or_default();
    let mut left = request.partitions_max.clamp(1, PARTITIONS_MAX) as usize;
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names.into_iter().filter(|name| *name >= cursor.topic) {
        let first = if name == cursor.topic { cursor.partition.max(0) as usize } else { 0 };
        if left == 0 {
            response.next = Some(TopicCursor { topic: name, partition: first as i32 });
            return response;
        }
        let topic = match caller.topic(DESCRIBE_TOPIC, &name) {
            Ok(topic) => topic,
            Err(refusal) => {
                let error = kafka_code(refusal.code);
                response.topics.push(DescribedTopic { error, name: Some(name), ..DescribedTopic::default() });
                continue;
            }
        };
        let shown = show(&caller, &client, &topic);
        let count = shown.partitions.len();
        let page = shown.partitions.into_iter().skip(first).take(left).map(|partition| DescribedPartition {
            error: partition.error,
            index: partition.partition,
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            replicas: partition.replicas,
            isr: partition.isr,
            offline_replicas: partition.offline_replicas,
            // Not null: Java's client would fall over it.
            eligible_leaders: Some(Vec::new()),
            last_known_eligible_leaders: Some(Vec::new()),
        });
        let page: Vec<DescribedPartition> = page.collect();
        left -= page.len();
        let reached = first + page.len();
        response.topics.push(DescribedTopic {
            name: Some(name.clone()),
            topic_id: topic.id,
            partitions: page,
            ..DescribedTopic::default()
        });
        if reached < count {
            response.next = Some(TopicCursor { topic: name, partition: reached as i32 });
            return response;
        }
    }
    response
}
