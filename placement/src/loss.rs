//! The shell of `cores::loss`: finds out what is lost of a partition, and goes on without it if an operator says so.

use std::sync::Arc;

use cores::failover::Goal;
use cores::loss::{Loss, accept as without, losses};
use service::api::{AcceptLoss, ApiError, Losses, LostRange};
use service::clock;
use types::{ErrorCode, PartitionRecord, TopicPartition};

use crate::{Placement, failover, members, records, repair};

/// Tells what no copy is left of; if that is confirmed, takes it out of the record and opens the partition behind it.
pub(crate) async fn accept(
    placement: &Arc<Placement>,
    id: TopicPartition,
    request: AcceptLoss,
) -> Result<Losses, ApiError> {
    let (record, _) = records::partition(&*placement.store, id).await?;
    // A copy that can be had is had: whatever the reason was, it may be over.
    let is_open_offline = match record.open() {
        Some(open) => match failover::run(placement, id, Some(open.nonce), Goal::Open).await {
            Ok(_) => false,
            Err(error) if error.code == ErrorCode::PartitionOffline => true,
            Err(error) => return Err(error),
        },
        None => false,
    };
    let (record, revision) = records::partition(&*placement.store, id).await?;
    let (_, partitions) = placement.index.read(&*placement.store).await?;
    let view = repair::view(placement, &partitions).await?;
    let lost = losses(&record, &view, is_open_offline);
    if lost.is_empty() && is_open_offline {
        let message = "a storage node that has the open segment fell silent just now; it may come back".to_owned();
        return Err(ApiError::new(ErrorCode::PartitionOffline, message));
    }
    let mut answer = Losses { lost: ranges(placement, &record, &lost).await?, next_offset: None };
    if lost.is_empty() || !request.is_confirmed {
        return Ok(answer);
    }
    let after = without(&record, &lost, clock::wall_ms());
    if !records::swap_partition(&*placement.store, id, Some(revision), &after).await {
        let message = "the partition has just changed; look again at what is lost".to_owned();
        return Err(ApiError::new(ErrorCode::PlacementUnavailable, message));
    }
    for range in &answer.lost {
        let to = range.to.map_or("the end".to_owned(), |to| to.to_string());
        placement.events.note(format!("{id}: an operator accepted the loss of offsets {} to {to}", range.from));
    }
    let opened = failover::run(placement, id, None, Goal::Open).await?;
    answer.next_offset = opened.open().map(|open| open.base);
    Ok(answer)
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
