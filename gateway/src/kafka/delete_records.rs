//! DeleteRecords (key 21), versions 0 to 2 (KIP-107): moves the log start of partitions up.

use std::sync::Arc;
use std::time::Duration;

use types::{Offset, TopicPartition, TopicRecord};
use wire::kafka::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult, KafkaError,
};

use crate::Gateway;
use crate::configs::is_deleting;
use crate::error::kafka_code;
use crate::topics::trim;

/// "Up to the high watermark."
const ALL: Offset = -1;

/// The longest that a request waits.
const TIMEOUT: Duration = Duration::from_secs(60);

pub async fn handle(gateway: Arc<Gateway>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)).min(TIMEOUT);
    let deadline = tokio::time::Instant::now() + timeout;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let record = gateway.map.topic(gateway.tenant, &topic.name);
        let deleting = topic.partitions.into_iter().map(|wanted| {
            let (gateway, record) = (Arc::clone(&gateway), record.clone());
            let index = wanted.index;
            (index, tokio::spawn(async move { delete(&gateway, record.as_deref(), &wanted).await }))
        });
        let mut partitions = Vec::new();
        for (index, deleted) in deleting.collect::<Vec<_>>() {
            let (low_watermark, error) = match tokio::time::timeout_at(deadline, deleted).await {
                Ok(Ok(Ok(start))) => (start, 0),
                Ok(Ok(Err(code))) => (-1, code),
                Ok(Err(_)) => (-1, KafkaError::UnknownServerError as i16),
                Err(_) => (-1, KafkaError::RequestTimedOut as i16),
            };
            partitions.push(DeleteRecordsPartitionResult { index, low_watermark, error });
        }
        topics.push(DeleteRecordsTopicResult { name: topic.name, partitions });
    }
    DeleteRecordsResponse { throttle_ms: 0, topics }
}

/// The log start, or Kafka's error.
async fn delete(
    gateway: &Arc<Gateway>,
    topic: Option<&TopicRecord>,
    wanted: &DeleteRecordsPartition,
) -> Result<Offset, i16> {
    let topic = topic.ok_or(KafkaError::UnknownTopicOrPartition as i16)?;
    if !is_deleting(topic) {
        // The last record of each key is there for good.
        return Err(KafkaError::PolicyViolation as i16);
    }
    let before = (wanted.offset != ALL).then_some(wanted.offset);
    let trimmed = trim(gateway, topic, TopicPartition { topic: topic.id, partition: wanted.index }, before).await;
    trimmed.map_err(|refusal| kafka_code(refusal.code))
}
