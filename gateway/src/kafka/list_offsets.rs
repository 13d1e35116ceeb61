//! ListOffsets (key 2), versions 1 to 9: earliest and latest.
//!
//! Other timestamps are answered with UNSUPPORTED_VERSION until lookups by time are built.

use std::sync::Arc;

use types::{ErrorCode, TopicPartition, TopicRecord};
use wire::frame::Refusal;
use wire::kafka::{
    EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest,
    ListOffsetsResponse, ListOffsetsTopicResponse,
};

use crate::Gateway;
use crate::error::{kafka_code, refuse};
use crate::fetch::latest;

pub async fn handle(gateway: Arc<Gateway>, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let record = gateway.map.topic(gateway.tenant, &topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let answer = match offset(&gateway, record.as_deref(), &partition).await {
                Ok((offset, leader_epoch)) => {
                    ListOffsetsPartitionResponse { index: partition.index, offset, leader_epoch, ..Default::default() }
                }
                Err(refusal) => ListOffsetsPartitionResponse {
                    index: partition.index,
                    error: kafka_code(refusal.code),
                    ..Default::default()
                },
            };
            partitions.push(answer);
        }
        topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
    }
    ListOffsetsResponse { throttle_ms: 0, topics }
}

async fn offset(
    gateway: &Arc<Gateway>,
    topic: Option<&TopicRecord>,
    partition: &ListOffsetsPartition,
) -> Result<(i64, i32), Refusal> {
    let topic = topic.ok_or_else(|| refuse(ErrorCode::UnknownTopic, "the topic does not exist"))?;
    if !(0..topic.partitions).contains(&partition.index) {
        return Err(refuse(ErrorCode::UnknownPartition, "the partition does not exist"));
    }
    let id = TopicPartition { topic: topic.id, partition: partition.index };
    let end = latest(gateway, id).await?;
    match partition.timestamp {
        LATEST_TIMESTAMP => Ok((end.high_watermark, end.leader_epoch)),
        EARLIEST_TIMESTAMP => Ok((end.log_start, end.leader_epoch)),
        _ => Err(refuse(ErrorCode::Unsupported, "offsets by time are not built yet")),
    }
}
