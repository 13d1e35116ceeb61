//! What placement sees and does, for `weir status`.

use std::collections::BTreeMap;

use cores::repair::{Condition, condition};
use service::api::{NodeStatus, PartitionCounts, Status};
use types::NodeId;

use crate::store::StoreError;
use crate::{Placement, members, repair};

pub(crate) async fn status(placement: &Placement) -> Result<Status, StoreError> {
    let (_, partitions) = placement.index.read(&*placement.store).await?;
    let view = repair::view(placement, &partitions).await?;
    let repairs = placement.repairs.status();
    let mut counts = PartitionCounts { total: partitions.len() as u64, ..PartitionCounts::default() };
    // Leads, follows, sealed.
    let mut held: BTreeMap<NodeId, [u64; 3]> = BTreeMap::new();
    for record in partitions.values() {
        match condition(record, &view) {
            Condition::Open => counts.open += 1,
            Condition::Parked => counts.parked += 1,
            Condition::Offline => counts.offline += 1,
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
        let state = match (is_alive, node.is_draining) {
            (false, _) => "down",
            (true, true) if leads + follows + sealed == 0 => "drained",
            (true, true) => "draining",
            (true, false) => "up",
        };
        NodeStatus {
            id: node.id,
            az: node.az,
            address: node.address,
            state: state.to_owned(),
            away_ms: if is_alive { 0 } else { placement.members.away_ms(node.id) },
            leads,
            follows,
            sealed,
            bytes_per_s: placement.members.load(node.id).iter().map(|(_, bytes)| bytes).sum(),
            name: node.name,
        }
    });
    Ok(Status { nodes: nodes.collect(), partitions: counts, repairs, events: placement.events.last() })
}
