//! OffsetForLeaderEpoch (key 23), versions 2 to 4 (KIP-320): where an epoch of the log ends.
//!
//! Consumers ask after a failover whether what they have read was taken back. It never is: no reader ever saw what a
//! failover cut off (docs/invariants.md, 3). So every epoch reaches as far as readers may see, and a record that was
//! carried over from the epoch before is never taken for a truncated one.

use std::sync::Arc;

use policies::vocabulary::DESCRIBE_TOPIC;
use types::{ErrorCode, TopicPartition};
use wire::frame::Refusal;
use wire::kafka::{
    EpochPartition, EpochPartitionResult, EpochTopicResult, KafkaError, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
};

use super::Named;
use crate::caller::{Caller, Found};
use crate::error::{kafka_code, refuse};
use crate::fetch::latest;

pub async fn handle(caller: Arc<Caller>, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut named = Named::default();
    for topic in request.topics {
        let record = caller.topic(DESCRIBE_TOPIC, &topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            if !named.is_new(&topic.name, partition.index) {
                continue;
            }
            let index = partition.index;
            partitions.push(match end(&caller, record.as_ref(), &partition).await {
                Ok(Some(end_offset)) => {
                    EpochPartitionResult { error: 0, index, leader_epoch: partition.leader_epoch, end_offset }
                }
                Ok(None) => {
                    let error = KafkaError::UnknownLeaderEpoch as i16;
                    EpochPartitionResult { error, index, ..EpochPartitionResult::default() }
                }
                Err(refusal) => {
                    EpochPartitionResult { error: kafka_code(refusal.code), index, ..EpochPartitionResult::default() }
                }
            });
        }
        topics.push(EpochTopicResult { name: topic.name, partitions });
    }
    OffsetForLeaderEpochResponse { throttle_ms: 0, topics }
}

async fn end(caller: &Arc<Caller>, topic: Found<'_>, partition: &EpochPartition) -> Result<Option<i64>, Refusal> {
    let topic = topic.map_err(Clone::clone)?;
    if !(0..topic.partitions).contains(&partition.index) {
        return Err(refuse(ErrorCode::UnknownPartition, "the partition does not exist"));
    }
    let end = latest(caller, TopicPartition { topic: topic.id, partition: partition.index }).await?;
    // An epoch that is not known here has begun elsewhere: the client asks again, and must not take it for a truncation.
    let newest = partition.leader_epoch.max(partition.current_leader_epoch);
    Ok((newest <= end.leader_epoch).then_some(end.high_watermark))
}
