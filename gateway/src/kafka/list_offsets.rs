//! ListOffsets (key 2), versions 1 to 9: earliest, latest, the record with the newest timestamp, and the first record that
//! is not older than a time.

use std::sync::Arc;

use policies::vocabulary::DESCRIBE_TOPIC;
use types::{ErrorCode, TopicPartition};
use wire::frame::Refusal;
use wire::kafka::{
    EARLIEST_LOCAL_TIMESTAMP, EARLIEST_TIMESTAMP, LATEST_TIERED_TIMESTAMP, LATEST_TIMESTAMP, ListOffsetsPartition,
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse, MAX_TIMESTAMP,
};

use super::Named;
use crate::caller::{Caller, Found};
use crate::error::{kafka_code, refuse};
use crate::fetch::{earliest, first_since, latest, newest};

pub async fn handle(caller: Arc<Caller>, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut named = Named::default();
    for topic in request.topics {
        let record = caller.topic(DESCRIBE_TOPIC, &topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            if !named.is_new(&topic.name, partition.index) {
                continue;
            }
            let answer = match offset(&caller, record.as_ref(), &partition).await {
                Ok(found) => ListOffsetsPartitionResponse { index: partition.index, ..found },
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
    caller: &Arc<Caller>,
    topic: Found<'_>,
    partition: &ListOffsetsPartition,
) -> Result<ListOffsetsPartitionResponse, Refusal> {
    let topic = topic.map_err(Clone::clone)?;
    if !(0..topic.partitions).contains(&partition.index) {
        return Err(refuse(ErrorCode::UnknownPartition, "the partition does not exist"));
    }
    let id = TopicPartition { topic: topic.id, partition: partition.index };
    let mut answer = ListOffsetsPartitionResponse::default();
    match partition.timestamp {
        LATEST_TIMESTAMP => {
            let end = latest(caller, id).await?;
            (answer.offset, answer.leader_epoch) = (end.high_watermark, end.leader_epoch);
        }
        EARLIEST_TIMESTAMP | EARLIEST_LOCAL_TIMESTAMP => {
            (answer.offset, answer.leader_epoch) = earliest(caller, id).await?;
        }
        // Nothing is in tiered storage: offset -1, as Kafka says it.
        LATEST_TIERED_TIMESTAMP => {}
        since_ms if since_ms >= 0 || since_ms == MAX_TIMESTAMP => {
            let found = match since_ms {
                MAX_TIMESTAMP => newest(caller, id).await?,
                _ => first_since(caller, id, since_ms).await?,
            };
            if let Some(found) = found {
                answer.offset = found.offset;
                answer.timestamp = found.timestamp;
                answer.leader_epoch = found.leader_epoch;
            }
        }
        other => return Err(refuse(ErrorCode::Unsupported, format!("timestamp {other} has no meaning here"))),
    }
    Ok(answer)
}
