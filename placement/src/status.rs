//! What placement sees and does, for `weir status`.

use std::collections::BTreeMap;

use cores::repair::{Condition, condition};
use service::api::{NodeStatus, PartitionCounts, Status};
use types::NodeId;

use crate::store::StoreError;
use crate::{Placement, members, repair};

/// Offline partitions that are named.
const OFFLINE_MAX: usize = 100;

pub(crate) async fn status(placement: &Placement) -> Result<Status, StoreError> {
    let (_, partitions) = placement.index.read(&*placement.store).await?;
    let view = repair::view(placement, &partitions).await?;
    let repairs = placement.repairs.status();
    let mut counts = PartitionCounts { total: partitions.len() as u64, ..PartitionCounts::default() };
    let mut offline = Vec::new();
    // Leads, follows, sealed.
    let mut held: BTreeMap<NodeId, [u64; 3]> = BTreeMap::new();
    for record in partitions.values() {
        match condition(record, &view) {
            Condition::Open => counts.open += 1,
            Condition::Parked => counts.parked += 1,
            Condition::Offline => {
                counts.offline += 1;
                if offline.len() < OFFLINE_MAX {
                    offline.push(record.id());
                }
            }
            Condition::OneCopy if repairs.iter().any(|repair| repair.partition == record.id()) => counts.repairing += 1,
            Condition::OneCopy => counts.one_copy += 1,
        }
        for segment in &record.chain {
            for (at, replica) in segment.replicas.iter().enumerate() {
                let at = if segment.end.is_some() { 2 } else { at };
                held.entry(replica.node).or_default()[at] += 1;
            }
        }
    }
    let nodes = members::nodes(&*placement.store).await?.into_iter().map(|node| {
        let [leads, follows, sealed] = held.get(&node.id).copied().unwrap_or_default();
        let is_alive = placement.members.is_node_alive(node.id);
        let is_lost = placement.failovers.pool().is_lost(&node.address);
        let state = match (is_alive, node.is_draining) {
            (false, _) => "down",
            (true, _) if is_lost => "silent",
            (true, true) if leads + follows + sealed == 0 => "drained",
            (true, true) => "draining",
            (true, false) if placement.members.is_slow(node.id) => "slow",
            (true, false) => "up",
        };
        NodeStatus {
            id: node.id,
            az: node.az,
            address: node.address,
            state: state.to_owned(),
            away_ms: if is_alive && !is_lost { 0 } else { placement.members.away_ms(node.id) },
            leads,
            follows,
            sealed,
            bytes_per_s: placement.members.load(node.id).iter().map(|(_, bytes)| bytes).sum(),
            name: node.name,
        }
    });
    let mut nodes: Vec<NodeStatus> = nodes.collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Status { nodes, partitions: counts, offline, repairs, events: placement.events.last() })
}
