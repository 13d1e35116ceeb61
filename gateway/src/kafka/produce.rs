//! Produce (key 0), versions 3 to 11; 0 to 2 are refused.
//!
//! Each batch is checked once (layout, CRC-32C, size) and passed on byte for byte. `acks=1` is answered as
//! `acks=all`: there is no acknowledgement on one copy; `acks=0` gets no answer, as the protocol says.

use std::sync::Arc;

use bytes::Bytes;
use policies::vocabulary::WRITE_DATA;
use service::clock;
use types::limits::UNPACKED_BYTES_MAX;
use types::{ErrorCode, Flow, PrincipalId, Protocol, TopicPartition, TopicRecord};
use wire::Batch;
use wire::batch::BatchError;
use wire::frame::{Appended, Refusal};
use wire::kafka::{ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopicResponse, RecordError};
use wire::records::check_records;

use super::{Pending, Reply};
use crate::caller::{Caller, Found};
use crate::configs::{KEYLESS, bytes_max, check_times, is_compacted, is_log_append_time};
use crate::error::{kafka_code, refuse};
use crate::lane::{self, NewAppend};

/// Records of a batch that are told to be wrong.
const BLAMED_MAX: usize = 100;

type Outcome = tokio::sync::oneshot::Receiver<Result<Appended, Refusal>>;

enum Begun {
    Waiting(Outcome),
    /// And which records are to blame, if single ones are.
    Refused(Refusal, Vec<RecordError>),
}

struct BegunPartition {
    index: i32,
    log_append_time: bool,
    state: Begun,
}

/// Hands every batch to its lane before it returns, so that a connection's order is kept.
pub fn begin(caller: Arc<Caller>, reply: Reply, request: ProduceRequest) -> Pending {
    let acks = request.acks;
    let is_transactional = request.transactional_id.is_some();
    let mut begun = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let record = caller.topic(WRITE_DATA, &topic.name);
        // Whoever may not write uses up nobody's quota of bytes.
        if record.is_ok() {
            let batches = topic.partitions.iter().filter_map(|partition| partition.records.as_ref());
            caller.toll.charge(Flow::Ingress, batches.map(|batch| batch.len() as u64).sum());
        }
        let partitions: Vec<BegunPartition> = topic
            .partitions
            .into_iter()
            .map(|partition| {
                let log_append_time = record.as_ref().is_ok_and(|record| is_log_append_time(record));
                let state = match check(record.as_ref(), acks, is_transactional, partition.index, partition.records) {
                    Ok((id, batch)) => {
                        let new = NewAppend {
                            tenant: caller.tenant,
                            batch,
                            principal: PrincipalId(0),
                            protocol: Protocol::Kafka,
                            log_append_time,
                        };
                        Begun::Waiting(lane::append(&caller.gateway, id, new))
                    }
                    Err((refusal, records)) => Begun::Refused(refusal, records),
                };
                BegunPartition { index: partition.index, log_append_time, state }
            })
            .collect();
        begun.push((topic.name, partitions));
    }
    Box::pin(async move {
        let mut topics = Vec::with_capacity(begun.len());
        for (name, partitions) in begun {
            let mut answers = Vec::with_capacity(partitions.len());
            for partition in partitions {
                answers.push(finish(partition).await);
            }
            topics.push(ProduceTopicResponse { name, partitions: answers });
        }
        (acks != 0).then(|| reply.encode(&ProduceResponse { topics, throttle_ms: caller.toll.throttle_ms() }))
    })
}

async fn finish(partition: BegunPartition) -> ProducePartitionResponse {
    let index = partition.index;
    let mut record_errors = Vec::new();
    let result = match partition.state {
        Begun::Refused(refusal, records) => {
            record_errors = records;
            Err(refusal)
        }
        Begun::Waiting(outcome) => {
            outcome.await.unwrap_or_else(|_| Err(refuse(ErrorCode::LeaderNotAvailable, "try again")))
        }
    };
    match result {
        Ok(appended) => ProducePartitionResponse {
            index,
            base_offset: appended.base_offset,
            log_append_time_ms: if partition.log_append_time { appended.append_time } else { -1 },
            // Not known: clients take it for a hint.
            log_start_offset: -1,
            ..ProducePartitionResponse::default()
        },
        Err(refusal) => ProducePartitionResponse {
            index,
            error: kafka_code(refusal.code),
            error_message: Some(refusal.message),
            record_errors,
            ..ProducePartitionResponse::default()
        },
    }
}

fn check(
    topic: Found<'_>,
    acks: i16,
    is_transactional: bool,
    index: i32,
    records: Option<Bytes>,
) -> Result<(TopicPartition, Batch), (Refusal, Vec<RecordError>)> {
    let whole = |refusal| (refusal, Vec::new());
    let (topic, batch) = check_batch(topic, acks, is_transactional, index, records).map_err(whole)?;
    if is_compacted(topic) {
        let wrong = |error| whole(refuse(ErrorCode::InvalidRecord, format!("the records: {error}")));
        let mut to_blame = Vec::new();
        for (record, index) in wire::records::records(&batch, UNPACKED_BYTES_MAX).map_err(wrong)?.zip(0..) {
            if record.map_err(wrong)?.key.is_none() && to_blame.len() < BLAMED_MAX {
                to_blame.push(RecordError { index, message: Some(KEYLESS.to_owned()) });
            }
        }
        if !to_blame.is_empty() {
            return Err((refuse(ErrorCode::InvalidRecord, KEYLESS), to_blame));
        }
    }
    Ok((TopicPartition { topic: topic.id, partition: index }, batch))
}

fn check_batch<'a>(
    topic: Found<'a>,
    acks: i16,
    is_transactional: bool,
    index: i32,
    records: Option<Bytes>,
) -> Result<(&'a TopicRecord, Batch), Refusal> {
    let topic = topic.map_err(Clone::clone)?;
    if !(0..topic.partitions).contains(&index) {
        let message = format!("topic `{}` has partitions 0 to {}", topic.name, topic.partitions - 1);
        return Err(refuse(ErrorCode::UnknownPartition, message));
    }
    if !matches!(acks, -1..=1) {
        return Err(refuse(ErrorCode::InvalidRequest, format!("acks {acks} is not -1, 0 or 1")));
    }
    let records = records.unwrap_or_default();
    let bytes_max = bytes_max(topic);
    if records.len() > bytes_max {
        let message = format!("a batch of {} bytes is over max.message.bytes = {bytes_max}", records.len());
        return Err(refuse(ErrorCode::BatchTooLarge, message));
    }
    let batch = Batch::parse_one(records).map_err(|error| match error {
        BatchError::Magic(magic) => {
            let message = format!("record format {magic} is not supported: only format 2 is (Kafka 0.11 and later)");
            refuse(ErrorCode::InvalidRecord, message)
        }
        error => refuse(ErrorCode::CorruptBatch, error.to_string()),
    })?;
    let times = (batch.header().base_timestamp, batch.header().max_timestamp);
    check_times(topic, times, clock::wall_ms()).map_err(|message| refuse(ErrorCode::InvalidTimestamp, message))?;
    if batch.header().is_control() {
        return Err(refuse(ErrorCode::InvalidRecord, "a client may not write control records"));
    }
    if is_transactional || batch.header().is_transactional() {
        return Err(refuse(ErrorCode::Unsupported, "transactions are not built yet"));
    }
    if batch.header().compression() > 4 {
        return Err(refuse(
            ErrorCode::InvalidRecord,
            format!("compression codec {} is unknown", batch.header().compression()),
        ));
    }
    if batch.header().compression() == 0 {
        check_records(&batch).map_err(|error| {
            refuse(ErrorCode::InvalidRecord, format!("the records are not those that the header counts: {error}"))
        })?;
    }
    Ok((topic, batch))
}
