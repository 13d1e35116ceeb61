//! DeleteRecords (key 21), versions 0 to 2 (KIP-107): moves the log start of partitions up.

use std::sync::Arc;
use std::time::Duration;

use policies::vocabulary::DELETE_TOPIC;
use types::{Offset, TopicPartition};
use wire::kafka::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult, KafkaError,
};

use crate::caller::{Caller, Found};
use crate::configs::is_deleting;
use crate::error::kafka_code;
use crate::topics::trim;

/// "Up to the high watermark."
const ALL: Offset = -1;

/// The longest that a request waits.
const TIMEOUT: Duration = Duration::from_secs(60);

pub async fn handle(caller: Arc<Caller>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)).min(TIMEOUT);
    let deadline = tokio::time::Instant::now() + timeout;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let record = caller.topic(DELETE_TOPIC, &topic.name);
        let deleting = topic.partitions.into_iter().map(|wanted| {
            let (caller, record) = (Arc::clone(&caller), record.clone());
            let index = wanted.index;
            (index, tokio::spawn(async move { delete(&caller, record.as_ref(), &wanted).await }))
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
async fn delete(caller: &Arc<Caller>, topic: Found<'_>, wanted: &DeleteRecordsPartition) -> Result<Offset, i16> {
    let topic = topic.map_err(|refusal| kafka_code(refusal.code))?;
    if !is_deleting(topic) {
        // The last record of each key is there for good.
        return Err(KafkaError::PolicyViolation as i16);
    }
    let before = (wanted.offset != ALL).then_some(wanted.offset);
    let trimmed = trim(caller, topic, TopicPartition { topic: topic.id, partition: wanted.index }, before).await;
    trimmed.map_err(|refusal| kafka_code(refusal.code))
}
