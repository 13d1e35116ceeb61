//! Reading: by segment, from the leader for the open one, from any intact member for sealed ones.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use service::clock;
use types::{ErrorCode, Offset, PartitionRecord, Replica, SegmentRecord, TopicPartition};
use wire::frame::{FetchRequest, Frame, Refusal};
use wire::{Batch, BatchError};

use crate::Gateway;
use crate::error::{from_api, refuse};

/// What a reader gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Whole batches; the first may begin below the offset asked for.
    pub batches: Bytes,
    pub high_watermark: Offset,
    pub log_start: Offset,
    pub leader_epoch: i32,
}

/// How long a read goes on looking for a member that answers.
const LOOK_MS: u64 = 5_000;
const ASK_MARGIN: Duration = Duration::from_secs(2);
/// How long a segment may stay without a leader before placement is asked to fail it over.
const LEADERLESS_MS: u64 = 1_000;

/// Reads from `offset` on, waiting up to `wait_ms` for a batch to be there.
pub async fn fetch(
    gateway: &Arc<Gateway>,
    id: TopicPartition,
    offset: Offset,
    bytes_max: u32,
    wait_ms: u64,
) -> Result<Fetched, Refusal> {
    let began = clock::monotonic_ms();
    let mut is_fresh = false;
    loop {
        let mut changes = gateway.map.changes();
        changes.mark_unchanged();
        let record = record(gateway, id, is_fresh).await?;
        let waited = clock::monotonic_ms() - began;
        let left = wait_ms.saturating_sub(waited);
        if offset < record.log_start {
            return Err(out_of_range(&record, gateway.watermark(id, record.sealed_end())));
        }
        let Some(segment) = record.segment_of(offset) else {
            // At the end of a partition without an open segment: nothing to read until one is opened.
            let end = record.sealed_end();
            if offset > end {
                return Err(out_of_range(&record, end));
            }
            if left == 0 || offset < end {
                return Ok(fetched(gateway, &record, end, Bytes::new()));
            }
            let _ = tokio::time::timeout(Duration::from_millis(left), changes.changed()).await;
            continue;
        };
        match read_segment(gateway, &record, segment, offset, bytes_max, left).await {
            Ok((visible, batches)) => return Ok(fetched(gateway, &record, visible, batches)),
            Err(refusal) if refusal.code == ErrorCode::OffsetOutOfRange => {
                return Err(out_of_range(&record, gateway.watermark(id, segment.base)));
            }
            Err(refusal) if waited > LOOK_MS => return Err(refusal),
            Err(refusal) => {
                tracing::debug!(partition = %id, reason = refusal.message, "reading again");
                is_fresh = true;
                if segment.end.is_none() && waited > LEADERLESS_MS {
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
pub async fn latest(gateway: &Arc<Gateway>, id: TopicPartition) -> Result<Fetched, Refusal> {
    let record = record(gateway, id, false).await?;
    let offset = record.open().map_or(record.sealed_end(), |open| open.base);
    fetch(gateway, id, offset, 0, 0).await
}

async fn record(gateway: &Arc<Gateway>, id: TopicPartition, is_fresh: bool) -> Result<Arc<PartitionRecord>, Refusal> {
    if let Some(record) = gateway.map.partition(id).filter(|_| !is_fresh) {
        return Ok(record);
    }
    let record = gateway.placement.partition(id).await.map_err(from_api)?;
    gateway.map.learn(record.clone());
    Ok(Arc::new(record))
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

fn fetched(gateway: &Gateway, record: &PartitionRecord, visible: Offset, batches: Bytes) -> Fetched {
    Fetched {
        batches,
        high_watermark: gateway.watermark(record.id(), visible),
        log_start: record.log_start,
        leader_epoch: record.epoch.0,
    }
}

fn out_of_range(record: &PartitionRecord, end: Offset) -> Refusal {
    let message = format!("offsets {} to {end} can be read", record.log_start);
    refuse(ErrorCode::OffsetOutOfRange, message)
}

async fn read_segment(
    gateway: &Arc<Gateway>,
    record: &PartitionRecord,
    segment: &SegmentRecord,
    offset: Offset,
    bytes_max: u32,
    wait_ms: u64,
) -> Result<(Offset, Bytes), Refusal> {
    let request = FetchRequest {
        account: record.account,
        segment: segment.id(record.id()),
        sealed_end: segment.end,
        offset,
        bytes_max,
        wait_ms: wait_ms as u32,
    };
    let members: &[Replica] = if segment.end.is_some() { &segment.replicas } else { &segment.replicas[..1] };
    let mut last = refuse(ErrorCode::LeaderNotAvailable, "no member of the segment answers");
    for member in members {
        let Some(node) = gateway.map.node(member.node) else { continue };
        let Ok(client) = gateway.pool.get(&node.address).await else { continue };
        match client.ask(&Frame::Fetch(request), Duration::from_millis(wait_ms) + ASK_MARGIN).await {
            Some(Frame::Fetched(Ok(reply))) => match plain(reply.batches) {
                Ok(batches) => return Ok((reply.visible, batches)),
                // Another member may have it intact.
                Err(error) => {
                    tracing::error!(%error, node = node.name, partition = %record.id(), "a stored batch is damaged");
                    last = refuse(ErrorCode::Damaged, format!("a stored batch cannot be read: {error}"));
                }
            },
            Some(Frame::Fetched(Err(refusal))) => last = refusal,
            _ => last = refuse(ErrorCode::LeaderNotAvailable, format!("storage node `{}` does not answer", node.name)),
        }
    }
    Err(last)
}
