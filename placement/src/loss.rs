//! The shell of `cores::loss`: finds out what is lost of a partition, and goes on without it if an operator says so.

use std::sync::Arc;

use cores::failover::Goal;
use cores::loss::{Loss, accept as without, losses};
use service::api::{AcceptLoss, ApiError, Losses, LostRange};
use service::clock;
use types::{ErrorCode, Offset, PartitionRecord, Replica, TopicPartition};
use wire::frame::{FenceReply, FenceRequest, FetchRequest, Frame, MemberState};

use crate::{Placement, failover, members, records, repair};

/// Tells what no copy is left of; if the asker names the version of the record that this was told of, takes it out of the
/// record and opens the partition behind it.
pub(crate) async fn accept(
    placement: &Arc<Placement>,
    id: TopicPartition,
    request: AcceptLoss,
) -> Result<Losses, ApiError> {
    let (record, _) = records::partition(&*placement.store, id).await?;
    let is_led = is_led(placement, &record).await;
    // A copy that can be had is had: whatever the reason was, it may be over. What is led is left alone.
    if let Some(open) = record.open().filter(|_| !is_led) {
        match failover::run(placement, id, Some(open.nonce), Goal::Open).await {
            Err(error) if error.code != ErrorCode::PartitionOffline => return Err(error),
            _ => {}
        }
    }
    let (record, revision) = records::partition(&*placement.store, id).await?;
    let (_, partitions) = placement.index.read(&*placement.store).await?;
    let view = repair::view(placement, &partitions).await?;
    if placement.members.is_deaf(view.nodes.len()) {
        let message = "fewer than half of the storage nodes are heard here: this process may be cut off".to_owned();
        return Err(ApiError::new(ErrorCode::PlacementUnavailable, message));
    }
    let empty = if is_led { Vec::new() } else { empty(placement, &record).await };
    let lost = losses(&record, &view, &empty);
    let mut answer =
        Losses { lost: ranges(placement, &record, &lost).await?, version: record.version, next_offset: None };
    let Some(version) = request.version.filter(|_| !lost.is_empty()) else { return Ok(answer) };
    let after = without(&record, &lost, clock::wall_ms());
    let has_changed = version != record.version;
    if has_changed || !records::swap_partition(&*placement.store, id, Some(revision), &after).await {
        let message = "the partition has changed since; look again at what is lost".to_owned();
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    for range in &answer.lost {
        let to = range.to.map_or("the end".to_owned(), |to| to.to_string());
        placement.events.note(format!("{id}: an operator accepted the loss of offsets {} to {to}", range.from));
    }
    let opened = failover::run(placement, id, None, Goal::Open).await?;
    // What was open all the time goes on where it was.
    let is_behind = |base: &Offset| after.gaps.last().is_some_and(|gap| gap.to == *base);
    answer.next_offset = opened.open().map(|open| open.base).filter(is_behind);
    Ok(answer)
}

/// The leader of the open segment tells how far it can be read: there is nothing to fail over.
async fn is_led(placement: &Placement, record: &PartitionRecord) -> bool {
    let Some(open) = record.open() else { return false };
    let nodes = members::nodes(&*placement.store).await.unwrap_or_default();
    let leader = nodes.iter().find(|node| node.id == open.leader().node);
    let request = FetchRequest {
        account: record.account,
        segment: open.id(record.id()),
        sealed_end: None,
        offset: open.base,
        since_ms: None,
        bytes_max: 0,
        wait_ms: 0,
    };
    let address = leader.map(|node| node.address.clone());
    let pool = placement.failovers.pool();
    let answer = failover::ask(pool, address, &Frame::Fetch(request), failover::FENCE_TIMEOUT).await;
    matches!(answer, Some(Frame::Fetched(Ok(_))))
}

/// Members of the open segment that say, behind a fence, that they have nothing of it that is intact.
async fn empty(placement: &Placement, record: &PartitionRecord) -> Vec<Replica> {
    let Some(open) = record.open() else { return Vec::new() };
    let request = FenceRequest {
        partition: record.id(),
        generation: record.generation,
        epoch: record.epoch.next(),
        nonce: Some(open.nonce),
    };
    let nodes = members::nodes(&*placement.store).await.unwrap_or_default();
    let mut empty = Vec::new();
    for replica in open.replicas {
        let address = nodes.iter().find(|node| node.id == replica.node).map(|node| node.address.clone());
        let pool = placement.failovers.pool();
        let answer = failover::ask(pool, address, &Frame::Fence(request), failover::FENCE_TIMEOUT).await;
        let Some(Frame::Fenced(Ok(FenceReply { incarnation, state }))) = answer else { continue };
        if incarnation != replica.incarnation || !matches!(state, MemberState::Known { .. }) {
            empty.push(replica);
        }
    }
    empty
}

async fn ranges(placement: &Placement, record: &PartitionRecord, lost: &[Loss]) -> Result<Vec<LostRange>, ApiError> {
    let mut ranges = Vec::new();
    for Loss { nonce, from, to } in lost {
        let mut nodes = Vec::new();
        let segment = record.chain.iter().find(|segment| segment.nonce == *nonce);
        for replica in segment.into_iter().flat_map(|segment| segment.replicas) {
            nodes.push(members::name(&*placement.store, replica.node).await?);
        }
        ranges.push(LostRange { from: *from, to: *to, nodes });
    }
    Ok(ranges)
}
