//! Fetch (key 1), versions 4 to 12.
//!
//! No fetch sessions: each request names its partitions (session id 0, KIP-227). `preferred_read_replica` is -1.
//! A fetch inside a batch gets the whole batch. The last stable offset is the watermark: there are no
//! transactions yet.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use policies::vocabulary::READ_DATA;
use service::clock;
use types::limits::{FETCH_BYTES_MAX, FETCH_WAIT_MS_MAX};
use types::{ErrorCode, Flow, TopicPartition};
use wire::frame::Refusal;
use wire::kafka::{
    FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopic, FetchTopicResponse, KafkaError,
};

use crate::caller::Caller;
use crate::configs;
use crate::error::{kafka_code, refuse};
use crate::fetch::{Fetched, fetch};

/// How long after its time a fetch waits for a partition that does not answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long at least each is waited for, when others took that time.
const LATE_PATIENCE: Duration = Duration::from_millis(100);
/// Partitions that are read at once.
const WAVE_MIN: usize = 8;
const WAVE_MAX: usize = 512;
/// Waits between two looks at many partitions at once, in ms.
const LOOK_AGAIN_MS: u64 = 10;

pub async fn handle(caller: Arc<Caller>, request: FetchRequest) -> FetchResponse {
    if request.session_id != 0 && request.session_epoch > 0 {
        // We never gave one: the client begins anew with all of its partitions.
        return FetchResponse { error: KafkaError::FetchSessionIdNotFound as i16, ..FetchResponse::default() };
    }
    let wait_ms = u64::try_from(request.max_wait_ms).unwrap_or(0).min(FETCH_WAIT_MS_MAX);
    let deadline = clock::monotonic_ms() + wait_ms;
    let asked: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
    // Several that are under way at once are not to be paid for long after.
    let most = usize::try_from(caller.toll.most(Flow::Egress)).unwrap_or(usize::MAX);
    let bytes_max = (request.max_bytes.max(0) as usize).min(FETCH_BYTES_MAX).min(most);
    // More than fits never comes.
    let min_bytes = (request.min_bytes.max(0) as usize).min(bytes_max);
    loop {
        let left = deadline.saturating_sub(clock::monotonic_ms());
        // One partition waits where its data is; several are looked at together.
        let wait = if asked == 1 && min_bytes > 0 { left } else { 0 };
        let topics = read_all(&caller, &request, bytes_max, wait).await;
        let partitions = topics.iter().flat_map(|topic| &topic.partitions);
        let bytes: usize = partitions.clone().filter_map(|p| p.records.as_ref()).map(Bytes::len).sum();
        let is_enough = bytes >= min_bytes || partitions.clone().any(|p| p.error != 0);
        let left = deadline.saturating_sub(clock::monotonic_ms());
        if is_enough || left == 0 || asked == 0 {
            caller.gateway.metrics.fetched_bytes.add(bytes as u64);
            caller.toll.charge(Flow::Egress, bytes as u64);
            return FetchResponse { topics, ..FetchResponse::default() };
        }
        tokio::time::sleep(Duration::from_millis(LOOK_AGAIN_MS.min(left))).await;
    }
}

/// A partition of the request, by the place of its topic.
struct Asked<'a> {
    topic: usize,
    partition: &'a FetchPartition,
    id: Result<TopicPartition, Refusal>,
    /// What may come of it: a batch comes whole, whatever was asked for.
    bytes: usize,
}

/// Each partition once, however often it is named.
fn asked<'a>(caller: &Caller, request: &'a FetchRequest) -> Vec<Asked<'a>> {
    let mut seen = HashSet::new();
    let mut asked = Vec::new();
    for (at, topic) in request.topics.iter().enumerate() {
        let record = caller.topic(READ_DATA, &topic.name);
        for partition in &topic.partitions {
            let id = record.as_ref().map_err(Clone::clone).and_then(|record| {
                let id = TopicPartition { topic: record.id, partition: partition.index };
                let is_there = (0..record.partitions).contains(&partition.index);
                let absent = || refuse(ErrorCode::UnknownPartition, "the partition does not exist");
                is_there.then_some(id).ok_or_else(absent)
            });
            if id.as_ref().is_ok_and(|id| !seen.insert(*id)) {
                continue;
            }
            let batch = record.as_ref().map_or(0, |record| configs::bytes_max(record));
            let bytes = (partition.max_bytes.max(1) as usize).max(batch);
            asked.push(Asked { topic: at, partition, id, bytes });
        }
    }
    asked
}

async fn read_all(
    caller: &Arc<Caller>,
    request: &FetchRequest,
    bytes_max: usize,
    wait_ms: u64,
) -> Vec<FetchTopicResponse> {
    let asked = asked(caller, request);
    let of_topic = |topic: &FetchTopic| FetchTopicResponse { name: topic.name.clone(), partitions: Vec::new() };
    let mut topics: Vec<FetchTopicResponse> = request.topics.iter().map(of_topic).collect();
    let patience = tokio::time::Instant::now() + Duration::from_millis(wait_ms) + PATIENCE;
    let mut left = bytes_max;
    let mut rest = &asked[..];
    while !rest.is_empty() {
        let (wave, later) = rest.split_at(wave(rest, left));
        // After the first wave what did not fit is not read only to be left out: of the rest the watermark is told.
        let is_full = left < bytes_max && wave[0].bytes > left;
        left = if is_full { 0 } else { left };
        rest = later;
        let begin = |one: &Asked<'_>| {
            let (caller, id) = (Arc::clone(caller), one.id.clone());
            // Where the answer is full the watermark is asked for alone.
            let bytes = (one.partition.max_bytes.max(1) as usize).min(left) as u32;
            let offset = one.partition.fetch_offset;
            tokio::spawn(async move { fetch(&caller, id?, offset, bytes, wait_ms).await })
        };
        let reading: Vec<_> = wave.iter().map(begin).collect();
        // A partition that nobody leads must not hold the others back; its task goes on, and has it failed over.
        let until = patience.max(tokio::time::Instant::now() + LATE_PATIENCE);
        for (task, one) in reading.into_iter().zip(wave) {
            let result = match tokio::time::timeout_at(until, task).await {
                Ok(Ok(result)) => result,
                Ok(Err(error)) => Err(refuse(ErrorCode::Internal, error.to_string())),
                Err(_) => Err(refuse(ErrorCode::LeaderNotAvailable, "no member of the segment answers yet")),
            };
            let read = result.as_ref().map_or(0, |fetched| fetched.batches.len());
            let answer = answer(one.partition, result, left, bytes_max);
            let given = answer.records.as_ref().map_or(0, Bytes::len);
            left = if given < read { 0 } else { left.saturating_sub(given) };
            topics[one.topic].partitions.push(answer);
        }
    }
    if wait_ms > 0 {
        // It may have waited for long: what the caller may not read any more it is not given.
        for topic in &mut topics {
            if let Err(refusal) = caller.may_topic(READ_DATA, &topic.name) {
                for one in &mut topic.partitions {
                    let asked = FetchPartition { index: one.index, ..FetchPartition::default() };
                    *one = self::answer(&asked, Err(refusal.clone()), left, bytes_max);
                }
            }
        }
    }
    topics
}

/// How many of the partitions are read at once. What they may come to is little more than may be sent; a few are read together
/// in any case, so that one that nobody leads does not have the others wait for it.
fn wave(rest: &[Asked<'_>], left: usize) -> usize {
    if left == 0 {
        return rest.len().min(WAVE_MAX);
    }
    let mut sum = 0_usize;
    let fits = rest.iter().take_while(|one| {
        sum = sum.saturating_add(one.bytes);
        sum <= left
    });
    fits.count().clamp(WAVE_MIN, WAVE_MAX).min(rest.len())
}

/// The first batch of a response goes out whatever its size (KIP-74); later partitions stay within the bound.
fn answer(
    partition: &FetchPartition,
    result: Result<Fetched, Refusal>,
    left: usize,
    bytes_max: usize,
) -> FetchPartitionResponse {
    let index = partition.index;
    match result {
        Ok(fetched) => {
            let is_over = fetched.batches.len() > left && left < bytes_max;
            FetchPartitionResponse {
                index,
                high_watermark: fetched.high_watermark,
                last_stable_offset: fetched.high_watermark,
                log_start_offset: fetched.log_start,
                records: Some(if is_over { Bytes::new() } else { fetched.batches }),
                ..FetchPartitionResponse::default()
            }
        }
        Err(refusal) => FetchPartitionResponse {
            index,
            error: code(refusal.code),
            records: Some(Bytes::new()),
            ..FetchPartitionResponse::default()
        },
    }
}

/// Apache Kafka's consumer throws what it does not expect of a fetch out of `poll`, and it expects few: whatever passes is
/// told as the one after which it looks for the leader and goes on.
fn code(code: ErrorCode) -> i16 {
    match code {
        ErrorCode::LeaderNotAvailable
        | ErrorCode::PlacementUnavailable
        | ErrorCode::PartitionOffline
        | ErrorCode::AzUnavailable
        | ErrorCode::Overloaded
        | ErrorCode::RequestTimedOut => KafkaError::NotLeaderOrFollower as i16,
        code => kafka_code(code),
    }
}

#[cfg(test)]
mod tests {
    use types::Retry;

    use super::*;

    #[test]
    fn what_passes_is_told_in_a_way_that_javas_consumer_goes_on_after() {
        for known in ErrorCode::ALL.iter().filter(|code| code.retry() == Retry::Yes) {
            let unexpected =
                [KafkaError::LeaderNotAvailable, KafkaError::NotEnoughReplicas, KafkaError::RequestTimedOut];
            assert!(unexpected.iter().all(|error| *error as i16 != code(*known)), "{known:?}");
        }
    }
}
