//! Reading: by segment, from the leader for the open one, from any intact member for sealed ones.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use service::clock;
use types::limits::UNPACKED_BYTES_MAX;
use types::{ErrorCode, Nonce, Offset, PartitionRecord, Replica, SegmentRecord, TopicPartition};
use wire::dedupe::ProducerEntry;
use wire::frame::{DescribeRequest, FetchReply, FetchRequest, Frame, Refusal};
use wire::records::records;
use wire::{Batch, BatchError};

use crate::Gateway;
use crate::caller::Caller;
use crate::error::{from_api, refuse};

/// What a reader gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Whole batches; the first may begin below the offset asked for.
    pub batches: Bytes,
    pub high_watermark: Offset,
    pub log_start: Offset,
    pub leader_epoch: i32,
    /// Where the segment ends that was read, if it is sealed.
    sealed_end: Option<Offset>,
}

/// How long a read goes on looking for a member that answers.
const LOOK_MS: u64 = 5_000;
const ASK_MARGIN: Duration = Duration::from_secs(2);
/// How long a segment may stay without a leader before placement is asked to fail it over.
const LEADERLESS_MS: u64 = 1_000;

/// Reads from `offset` on, waiting up to `wait_ms` for a batch to be there.
pub async fn fetch(
    caller: &Caller,
    id: TopicPartition,
    offset: Offset,
    bytes_max: u32,
    wait_ms: u64,
) -> Result<Fetched, Refusal> {
    read(caller, id, offset, None, bytes_max, wait_ms).await
}

async fn read(
    caller: &Caller,
    id: TopicPartition,
    offset: Offset,
    since_ms: Option<i64>,
    bytes_max: u32,
    wait_ms: u64,
) -> Result<Fetched, Refusal> {
    let gateway = &caller.gateway;
    let began = clock::monotonic_ms();
    let (mut is_fresh, mut was_refreshed) = (false, false);
    // The open segment that nobody led when it was asked last, and since when.
    let mut leaderless: Option<(Nonce, u64)> = None;
    loop {
        let mut changes = gateway.map.changes();
        changes.mark_unchanged();
        let record = record(caller, id, std::mem::take(&mut is_fresh)).await?;
        let waited = clock::monotonic_ms() - began;
        let left = wait_ms.saturating_sub(waited);
        if offset < record.log_start {
            return Err(out_of_range(&record, gateway.watermark(id, record.sealed_end())));
        }
        let Some(segment) = record.segment_of(offset) else {
            // At the end of a partition without an open segment: nothing to read until one is opened.
            let end = record.sealed_end();
            if offset > end {
                // What is out of range by a record that may be old is looked up once more.
                if !std::mem::replace(&mut was_refreshed, true) {
                    is_fresh = true;
                    continue;
                }
                return Err(out_of_range(&record, end));
            }
            // In a gap with nothing behind it there is nothing to read either, until something comes.
            let is_in_gap = record.gaps.iter().any(|gap| gap.from <= offset && gap.to == end);
            if left == 0 || (offset < end && !is_in_gap) {
                return Ok(fetched(gateway, &record, end, Bytes::new(), None));
            }
            let _ = tokio::time::timeout(Duration::from_millis(left), changes.changed()).await;
            continue;
        };
        let request = FetchRequest {
            account: caller.tenant.account,
            segment: segment.id(id),
            sealed_end: segment.end,
            // A reader in a gap goes on behind it.
            offset: offset.max(segment.base),
            since_ms,
            bytes_max,
            wait_ms: left as u32,
        };
        match ask(caller, id, segment, &request).await {
            Ok(reply) => return Ok(fetched(gateway, &record, reply.visible, reply.batches, segment.end)),
            Err(refusal) if refusal.code == ErrorCode::OffsetOutOfRange => {
                // A leader that was cut off does not know how far the next one is.
                if !std::mem::replace(&mut was_refreshed, true) {
                    is_fresh = true;
                    continue;
                }
                return Err(out_of_range(&record, gateway.watermark(id, segment.base)));
            }
            Err(refusal) if waited > LOOK_MS => return Err(refusal),
            Err(refusal) => {
                tracing::debug!(partition = %id, reason = refusal.message, "reading again");
                is_fresh = true;
                let now_ms = clock::monotonic_ms();
                let since = leaderless.filter(|(nonce, _)| *nonce == segment.nonce).map_or(now_ms, |(_, since)| since);
                leaderless = Some((segment.nonce, since));
                if segment.end.is_none() && now_ms - since > LEADERLESS_MS {
                    // Nobody leads the open segment: what is acknowledged in it must become readable.
                    let failover = gateway.placement.failover(id, segment.nonce).await;
                    failover.map(|record| gateway.map.learn(record)).map_err(from_api)?;
                } else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

/// The end of what readers may see.
pub async fn latest(caller: &Caller, id: TopicPartition) -> Result<Fetched, Refusal> {
    let record = record(caller, id, false).await?;
    let offset = record.open().map_or(record.sealed_end(), |open| open.base);
    // The log may begin in the middle of the open segment.
    fetch(caller, id, offset.max(record.log_start), 0, 0).await
}

/// Where a partition begins, and its leader's epoch: metadata alone, whoever is there.
pub async fn earliest(caller: &Caller, id: TopicPartition) -> Result<(Offset, i32), Refusal> {
    let record = record(caller, id, false).await?;
    Ok((record.log_start, record.epoch.0))
}

/// A record by its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dated {
    pub offset: Offset,
    pub timestamp: i64,
    pub leader_epoch: i32,
}

/// The first record that is no older than `since_ms` (ms since 1970), if there is one: Kafka's lookup by time.
pub async fn first_since(caller: &Caller, id: TopicPartition, since_ms: i64) -> Result<Option<Dated>, Refusal> {
    let start = record(caller, id, false).await?.log_start;
    first_from(caller, id, start, since_ms, &mut false).await
}

/// The same from an offset on. `is_sure`: this gateway knows the partition's record as it was a moment ago.
async fn first_from(
    caller: &Caller,
    id: TopicPartition,
    start: Offset,
    since_ms: i64,
    is_sure: &mut bool,
) -> Result<Option<Dated>, Refusal> {
    let mut offset = start;
    loop {
        let fetched = read(caller, id, offset, Some(since_ms), 1, 0).await?;
        let leader_epoch = fetched.leader_epoch;
        let mut batches = fetched.batches;
        if !batches.is_empty() {
            let damaged = |error: BatchError| refuse(ErrorCode::Damaged, format!("a stored batch: {error}"));
            let batch = Batch::split_from(&mut batches).map_err(damaged)?;
            // A batch that no client can unpack is found as a whole.
            let mut records = records(&batch, UNPACKED_BYTES_MAX).into_iter().flatten().map_while(Result::ok);
            let found = records.find(|record| record.offset >= offset && record.timestamp >= since_ms);
            let (found, timestamp) = match found {
                Some(found) => (found.offset, found.timestamp),
                None => (batch.base_offset.max(offset), batch.header().max_timestamp),
            };
            return Ok(Some(Dated { offset: found, timestamp, leader_epoch }));
        }
        match fetched.sealed_end {
            Some(end) if end > offset => offset = end,
            // The map may not know yet that this segment was sealed and another holds what is newer.
            _ if !std::mem::replace(is_sure, true) => {
                record(caller, id, true).await?;
            }
            _ => return Ok(None),
        }
    }
}

/// The first of the records with the newest timestamp, if there is any record (KIP-734).
pub async fn newest(caller: &Caller, id: TopicPartition) -> Result<Option<Dated>, Refusal> {
    let Some(mut best) = first_since(caller, id, i64::MIN).await? else { return Ok(None) };
    let mut is_sure = false;
    // The first record that is no older than a time is never before the one of an earlier time: each step goes on from there.
    let mut step = 1;
    let mut above = None;
    while above.is_none_or(|above: i64| above.saturating_sub(best.timestamp) > 1) {
        let wanted = match above {
            // Further each time, until nothing is as new; then by halves.
            None => best.timestamp.saturating_add(step),
            Some(above) => best.timestamp + above.saturating_sub(best.timestamp) / 2,
        };
        if wanted == best.timestamp {
            break;
        }
        match first_from(caller, id, best.offset, wanted, &mut is_sure).await? {
            Some(found) => best = found,
            None => above = Some(wanted),
        }
        step = step.saturating_mul(4);
    }
    Ok(Some(best))
}

/// Who writes to a partition, as the leader of its last segment remembers it.
pub async fn producers(caller: &Caller, id: TopicPartition) -> Result<Vec<ProducerEntry>, Refusal> {
    let end = latest(caller, id).await?.high_watermark;
    let gateway = &caller.gateway;
    let record = record(caller, id, false).await?;
    let Some(segment) = record.chain.last() else { return Ok(Vec::new()) };
    let request =
        DescribeRequest { account: caller.tenant.account, segment: segment.id(id), end: segment.end.unwrap_or(end) };
    let mut last = refuse(ErrorCode::LeaderNotAvailable, "no member of the segment answers");
    for member in segment.replicas {
        let Some(node) = gateway.map.node(member.node) else { continue };
        let Ok(client) = gateway.pool.get(&node.address).await else { continue };
        match client.ask(&Frame::Describe(request), ASK_MARGIN).await {
            Some(Frame::Described(Ok(described))) => return Ok(described.producers.producers),
            Some(Frame::Described(Err(refusal))) => last = refusal,
            _ => {}
        }
    }
    Err(last)
}

/// Bytes of one copy of a partition on the disks of storage nodes.
pub async fn local_bytes(caller: &Caller, id: TopicPartition) -> Result<u64, Refusal> {
    let record = record(caller, id, false).await?;
    let mut bytes = 0;
    for segment in &record.chain {
        let request = FetchRequest {
            account: caller.tenant.account,
            segment: segment.id(id),
            sealed_end: segment.end,
            offset: segment.base,
            since_ms: None,
            bytes_max: 0,
            wait_ms: 0,
        };
        bytes += ask(caller, id, segment, &request).await?.stored_bytes;
    }
    Ok(bytes)
}

/// What is known of a partition of the caller's own cluster.
async fn record(caller: &Caller, id: TopicPartition, is_fresh: bool) -> Result<Arc<PartitionRecord>, Refusal> {
    let gateway = &caller.gateway;
    let record = match gateway.map.partition(id).filter(|_| !is_fresh) {
        Some(record) => record,
        None => {
            let record = gateway.placement.partition(id).await.map_err(from_api)?;
            gateway.map.learn(record.clone());
            Arc::new(record)
        }
    };
    // Whatever led here: what is another's is not read. Storage nodes look at the account once more.
    if record.account != caller.tenant.account || record.cluster != caller.tenant.cluster {
        tracing::error!(partition = %id, tenant = ?caller.tenant, "a read of another tenant's partition was stopped");
        return Err(refuse(ErrorCode::TenantMismatch, "the partition belongs to another tenant"));
    }
    Ok(record)
}

/// What a storage node sends, as clients know it.
fn plain(run: Bytes) -> Result<Bytes, BatchError> {
    let mut batches = Vec::new();
    let mut left = run;
    while !left.is_empty() {
        batches.push(Batch::take_from_run(&mut left)?);
    }
    let mut out = BytesMut::with_capacity(batches.iter().map(Batch::len).sum());
    batches.iter().try_for_each(|batch| batch.write_plain(&mut out))?;
    Ok(out.freeze())
}

fn fetched(
    gateway: &Gateway,
    record: &PartitionRecord,
    visible: Offset,
    batches: Bytes,
    sealed_end: Option<Offset>,
) -> Fetched {
    Fetched {
        sealed_end,
        batches,
        // What is sealed can be read, whichever segment was asked.
        high_watermark: gateway.watermark(record.id(), visible.max(record.sealed_end())),
        log_start: record.log_start,
        leader_epoch: record.epoch.0,
    }
}

fn out_of_range(record: &PartitionRecord, end: Offset) -> Refusal {
    let message = format!("offsets {} to {end} can be read", record.log_start);
    refuse(ErrorCode::OffsetOutOfRange, message)
}

/// Asks the members of a segment in turn, the leader first, until one gives what can be read. The batches of the
/// reply are as clients know them.
async fn ask(
    caller: &Caller,
    id: TopicPartition,
    segment: &SegmentRecord,
    request: &FetchRequest,
) -> Result<FetchReply, Refusal> {
    let gateway = &caller.gateway;
    let members: &[Replica] = if segment.end.is_some() { &segment.replicas } else { &segment.replicas[..1] };
    let mut last = refuse(ErrorCode::LeaderNotAvailable, "no member of the segment answers");
    for member in members {
        let Some(node) = gateway.map.node(member.node) else { continue };
        let Ok(client) = gateway.pool.get(&node.address).await else { continue };
        let timeout = Duration::from_millis(request.wait_ms.into()) + ASK_MARGIN;
        match client.ask(&Frame::Fetch(*request), timeout).await {
            Some(Frame::Fetched(Ok(reply))) => match plain(reply.batches) {
                Ok(batches) => return Ok(FetchReply { batches, ..reply }),
                // Another member may have it intact.
                Err(error) => {
                    tracing::error!(%error, node = node.name, partition = %id, "a stored batch is damaged");
                    last = refuse(ErrorCode::Damaged, format!("a stored batch cannot be read: {error}"));
                }
            },
            Some(Frame::Fetched(Err(refusal))) => last = refusal,
            _ => last = refuse(ErrorCode::LeaderNotAvailable, format!("storage node `{}` does not answer", node.name)),
        }
    }
    Err(last)
}
