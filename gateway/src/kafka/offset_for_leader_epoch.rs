//! OffsetForLeaderEpoch (key 23), versions 2 to 4 (KIP-320): where an epoch of the log ends.
//!
//! Consumers ask after a failover whether what they have read was taken back. It never is: no reader ever saw what a
//! failover cut off (docs/invariants.md, 3). So every epoch reaches as far as readers may see, and a record that was
//! carried over from the epoch before is never taken for a truncated one.

use std::sync::Arc;

use types::{ErrorCode, TopicPartition, TopicRecord};
use wire::frame::Refusal;
use wire::kafka::{
    EpochPartition, EpochPartitionResult, EpochTopicResult, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use crate::Gateway;
use crate::error::{kafka_code, refuse};
use crate::fetch::latest;

pub async fn handle(gateway: Arc<Gateway>, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let record = gateway.map.topic(gateway.tenant, &topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let index = partition.index;
            partitions.push(match end(&gateway, record.as_deref(), &partition).await {
                Ok((leader_epoch, end_offset)) => EpochPartitionResult { error: 0, index, leader_epoch, end_offset },
                Err(refusal) => {
                    EpochPartitionResult { error: kafka_code(refusal.code), index, ..EpochPartitionResult::default() }
                }
            });
        }
        topics.push(EpochTopicResult { name: topic.name, partitions });
    }
    OffsetForLeaderEpochResponse { throttle_ms: 0, topics }
}

async fn end(
    gateway: &Arc<Gateway>,
    topic: Option<&TopicRecord>,
    partition: &EpochPartition,
) -> Result<(i32, i64), Refusal> {
    let topic = topic.ok_or_else(|| refuse(ErrorCode::UnknownTopic, "the topic does not exist"))?;
    if !(0..topic.partitions).contains(&partition.index) {
        return Err(refuse(ErrorCode::UnknownPartition, "the partition does not exist"));
    }
    let end = latest(gateway, TopicPartition { topic: topic.id, partition: partition.index }).await?;
    // Of an epoch that has not begun nothing is known: -1, as Kafka says it.
    Ok(if partition.leader_epoch > end.leader_epoch { (-1, -1) } else { (partition.leader_epoch, end.high_watermark) })
}
