//! Finds the leader of a partition: opens the partition if it must, and asks for a failover of a leader that stays away.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use service::clock;
use service::connection::FrameClient;
use types::{ErrorCode, PartitionRecord, SegmentId, TopicPartition};
use wire::frame::Refusal;

use crate::Gateway;
use crate::error::{from_api, refuse};

/// How long a segment may refuse before placement is asked to fail it over.
const REFUSED_MS: u64 = 1_000;
/// The same for a leader to which no connection can be made, though something may still take it.
const UNREACHABLE_MS: u64 = 200;

/// Nobody listens where the leader did. Only of one to whom there was a connection: who never got through, because of a wrong
/// address say, would depose one leader after the other.
async fn is_gone(gateway: &Gateway, record: &PartitionRecord) -> bool {
    let leader = record.open().and_then(|open| gateway.map.node(open.leader().node));
    match leader {
        Some(node) => {
            gateway.pool.get(&node.address).await.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        }
        None => false,
    }
}

/// The open segment and a connection to its leader; opens one, or asks for a failover, if it must. `refused`: the segment that
/// refused last, and since when; `lost`: the one to whose leader the connection ended.
pub async fn find_route(
    gateway: &Arc<Gateway>,
    partition: TopicPartition,
    refused: Option<(SegmentId, u64)>,
    lost: Option<SegmentId>,
) -> Result<(SegmentId, FrameClient), Refusal> {
    let mut record = match gateway.map.partition(partition) {
        Some(record) => (*record).clone(),
        None => gateway.placement.partition(partition).await.map_err(from_api)?,
    };
    let is_refused = |record: &PartitionRecord| {
        refused.filter(|(segment, _)| record.open().is_some_and(|open| open.nonce == segment.nonce))
    };
    if let Some((segment, since)) = is_refused(&record) {
        let was_connected = lost == Some(segment);
        // What stands between may take a connection in place of a process that is gone.
        let patience_ms = if lost.is_some() { UNREACHABLE_MS } else { REFUSED_MS };
        record = gateway.placement.partition(partition).await.map_err(from_api)?;
        if is_refused(&record).is_some() {
            // The record still names it. A leader that hangs needs a moment; one that never answers is what the data path
            // has to report, and one whose process has ended leads nothing any more, whatever begins in its place.
            if clock::monotonic_ms() - since > patience_ms || (was_connected && is_gone(gateway, &record).await) {
                record = gateway.placement.failover(partition, segment.nonce).await.map_err(from_api)?;
            } else {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    if record.open().is_none() {
        record = gateway.placement.open(partition).await.map_err(from_api)?;
    }
    gateway.map.learn(record.clone());
    let Some(open) = record.open() else {
        return Err(refuse(ErrorCode::LeaderNotAvailable, "the partition has no open segment"));
    };
    let node = match gateway.map.node(open.leader().node) {
        Some(node) => node,
        None => return Err(refuse(ErrorCode::LeaderNotAvailable, "the leader's address is not known yet")),
    };
    let segment = open.id(partition);
    match gateway.pool.get(&node.address).await {
        Ok(client) => Ok((segment, client)),
        Err(error) => {
            let is_first = refused.is_none_or(|(known, _)| known != segment);
            let since = refused.filter(|(known, _)| *known == segment).map_or(0, |(_, since)| since);
            if !is_first && clock::monotonic_ms() - since > UNREACHABLE_MS {
                gateway.placement.failover(partition, segment.nonce).await.map_err(from_api)?;
            }
            Err(refuse(ErrorCode::LeaderNotAvailable, format!("storage node `{}`: {error}", node.name)))
        }
    }
}
