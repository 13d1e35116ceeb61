//! Moves of open segments: off nodes that are emptied, from busy nodes to idle ones, by hand; and the parking of what
//! nobody uses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cores::failover::Goal;
use cores::repair::{Health, NodeView};
use cores::scheduler::{NodeLoad, Scheduler};
use service::api::{ApiError, DrainNode};
use service::clock;
use service::drain::Drain;
use types::limits::{LOAD_MAX, REPAIR_AFTER_MS};
use types::{ErrorCode, NodeId, NodeRecord, PartitionRecord, SegmentRecord, TopicPartition};

use crate::records::{NODES, json, parse};
use crate::store::{Outcome, StoreError, Transaction};
use crate::{Placement, failover, members, records, repair};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks between two plans of the scheduler: loads are averages of two seconds.
const PLAN_EVERY: u64 = 5;
/// Segments that leave emptied or lost nodes in one look.
const LEAVING_MAX: usize = 200;
/// Where more than one node is lost it may be placement that is cut off: of all partitions one in so many leaves them in
/// a look, 5 % in a minute. Partitions that are written to do not wait for this: their gateways ask.
const LOST_DIVISOR: usize = 20 * 60;
/// Of them at a time.
const LEAVING_AT_ONCE: usize = 4;
/// Partitions that are parked in one look, and of them at a time.
const PARKING_MAX: usize = 1_000;
const PARKING_AT_ONCE: usize = 16;

/// Partitions whose failover did not come about rest until then, so that others have their turn.
type Resting = BTreeMap<TopicPartition, u64>;
const REST_MS: u64 = 20_000;

fn note_failure(ended: Option<Result<Option<TopicPartition>, tokio::task::JoinError>>, resting: &mut Resting) {
    if let Some(Ok(Some(id))) = ended {
        resting.insert(id, clock::monotonic_ms() + REST_MS);
    }
}

/// The node of a name, or of a number.
pub(crate) async fn find_node(placement: &Placement, name: &str) -> Result<NodeRecord, ApiError> {
    let nodes = members::nodes(&*placement.store).await?;
    let known: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    let node = nodes.into_iter().find(|node| node.name == name || node.id.to_string() == name);
    node.ok_or_else(|| {
        let message = format!("there is no storage node `{name}`; there are {}", known.join(", "));
        ApiError::new(ErrorCode::NotFound, message)
    })
}

/// Notes that a node is to be emptied, or used again.
pub(crate) async fn drain_node(placement: &Placement, request: DrainNode) -> Result<(), ApiError> {
    loop {
        let node = find_node(placement, &request.node).await?;
        let key = format!("{NODES}{}", node.id);
        let Some(entry) = placement.store.get(&key).await? else { continue };
        let mut record: NodeRecord = parse(&entry)?;
        record.is_draining = request.is_draining;
        let compares = vec![(key.clone(), entry.revision)];
        let transaction = Transaction { compares, puts: vec![(key, json(&record))], ..Transaction::default() };
        if let Outcome::Committed { .. } = placement.store.transact(transaction).await? {
            let what = if request.is_draining { "is emptied" } else { "is used again" };
            placement.events.note(format!("storage node `{}` {what}: an operator wants it", record.name));
            return Ok(());
        }
    }
}

/// Moves the open segment of a partition to a node.
pub(crate) async fn move_partition(
    placement: &Arc<Placement>,
    id: TopicPartition,
    to: &str,
) -> Result<PartitionRecord, ApiError> {
    let node = find_node(placement, to).await?;
    let is_there = placement.members.is_node_alive(node.id)
        && placement.failovers.pool().wait_for(&node.address, Duration::from_secs(2)).await;
    if !is_there {
        return Err(ApiError::new(ErrorCode::InvalidRequest, format!("storage node `{}` is not up", node.name)));
    }
    if node.is_draining {
        let message = format!("storage node `{}` is being emptied; `weir node undrain` ends that", node.name);
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    let (record, _) = records::partition(&*placement.store, id).await?;
    if record.open().is_some_and(|open| open.leader().node == node.id) {
        return Ok(record);
    }
    let nonce = record.open().map(|open| open.nonce);
    let record = failover::run(placement, id, nonce, Goal::Move(node.id)).await?;
    match record.open() {
        Some(open) if open.leader().node == node.id => {
            placement.events.note(format!("{id} is led by `{}` now: an operator wanted it", node.name));
            Ok(record)
        }
        _ => {
            let message = format!("`{}` did not open the segment; the partition goes on elsewhere", node.name);
            Err(ApiError::new(ErrorCode::LeaderNotAvailable, message))
        }
    }
}

/// Empties nodes, takes what nobody writes to off lost ones, and evens out loads until the drain begins.
pub(crate) async fn run(placement: Arc<Placement>, mut drain: Drain) {
    let mut scheduler = Scheduler::default();
    let mut looks: u64 = 0;
    let mut resting = Resting::new();
    let mut are_more_idle = false;
    loop {
        tokio::select! {
            biased;
            () = drain.begun() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if !placement.turn.is_mine() {
            continue;
        }
        looks += 1;
        let looked = async {
            empty_nodes(&placement, &mut resting).await?;
            if are_more_idle || looks.is_multiple_of(PLAN_EVERY) {
                are_more_idle = park_idle(&placement, &mut resting).await?;
            }
            if looks.is_multiple_of(PLAN_EVERY) {
                even_out(&placement, &mut scheduler).await?;
            }
            Ok::<_, StoreError>(())
        };
        if let Err(error) = looked.await {
            tracing::debug!(%error, "the scheduler cannot look around");
        }
    }
}

async fn empty_nodes(placement: &Arc<Placement>, resting: &mut Resting) -> Result<(), StoreError> {
    let now_ms = clock::monotonic_ms();
    resting.retain(|_, until| *until > now_ms);
    let (_, partitions) = placement.index.read(&*placement.store).await?;
    let view = repair::view(placement, &partitions).await?;
    let lost_nodes = view.nodes.values().filter(|node| node.away_ms > REPAIR_AFTER_MS).count();
    let lost_max = if lost_nodes > 1 { (partitions.len() / LOST_DIVISOR).max(1) } else { LEAVING_MAX };
    // Without a pair to go to nothing is fenced: what cannot be opened elsewhere stays where it is.
    let steady = || view.nodes.values().filter(|node| node.is_alive && !node.is_draining);
    let is_slow = |node: NodeId| placement.members.is_slow(node);
    let is_lost = |node: &NodeView| placement.failovers.pool().is_lost(&node.address);
    let has_quick_pair = zones(steady().filter(|node| !is_slow(node.replica.node) && !is_lost(node))) >= 2;
    let on = |wanted: Health, max: usize| {
        let open = partitions.values().filter_map(|record| Some((record.id(), record.open()?)));
        let is_wanted = |open: &SegmentRecord| {
            let health = open.replicas.map(|replica| view.health(open.nonce, replica));
            let is_held_up = || has_quick_pair && open.replicas.iter().any(|replica| is_slow(replica.node));
            let is_leaving = health.contains(&wanted) || (wanted == Health::Leaving && is_held_up());
            // Without a member that answers there is nothing to decide by.
            is_leaving && health.iter().any(|health| *health <= Health::Leaving)
        };
        let there = open.filter(|(id, open)| is_wanted(open) && !resting.contains_key(id));
        there.map(|(id, open)| (id, open.nonce)).take(max).collect::<Vec<_>>()
    };
    if zones(steady()) < 2 || placement.members.is_deaf(view.nodes.values().filter(|node| node.segments > 0).count()) {
        return Ok(());
    }
    let mut there = on(Health::Lost, lost_max);
    there.extend(on(Health::Leaving, LEAVING_MAX));
    let mut moving = tokio::task::JoinSet::new();
    for (id, nonce) in there {
        if moving.len() >= LEAVING_AT_ONCE {
            note_failure(moving.join_next().await, resting);
        }
        let placement = Arc::clone(placement);
        moving.spawn(async move {
            if let Err(error) = failover::run(&placement, id, Some(nonce), Goal::Open).await {
                tracing::warn!(%error, partition = %id, "a segment did not leave a node that is emptied or lost; trying again");
                return Some(id);
            }
            None
        });
    }
    while let Some(ended) = moving.join_next().await {
        note_failure(Some(ended), resting);
    }
    Ok(())
}

fn zones<'a>(nodes: impl Iterator<Item = &'a NodeView>) -> usize {
    nodes.map(|node| node.az.as_str()).collect::<BTreeSet<_>>().len()
}

/// Seals what nobody appends to and opens nothing: such a partition is metadata alone, and has no leader to lose. Whether there
/// are more than one look takes.
async fn park_idle(placement: &Arc<Placement>, resting: &mut Resting) -> Result<bool, StoreError> {
    let (_, partitions) = placement.index.read(&*placement.store).await?;
    let view = repair::view(placement, &partitions).await?;
    // A node that could not name all that is active is no witness.
    let is_witness = |node: NodeId| placement.members.load(node).len() < LOAD_MAX;
    let is_well = |record: &PartitionRecord| {
        let open = record.open();
        open.is_some_and(|open| {
            open.replicas.iter().all(|r| view.health(open.nonce, *r) == Health::Intact && is_witness(r.node))
        })
    };
    let open: Vec<TopicPartition> =
        partitions.values().filter(|record| is_well(record)).map(|record| record.id()).collect();
    let mut idle = placement.members.idle(&open, placement.park_after.as_millis() as u64);
    idle.retain(|id| !resting.contains_key(id));
    let are_more = idle.len() > PARKING_MAX;
    let mut parking = tokio::task::JoinSet::new();
    for id in idle.into_iter().take(PARKING_MAX) {
        if parking.len() >= PARKING_AT_ONCE {
            note_failure(parking.join_next().await, resting);
        }
        let placement = Arc::clone(placement);
        let nonce = partitions[&id].open().map(|open| open.nonce);
        parking.spawn(async move {
            if let Err(error) = failover::run(&placement, id, nonce, Goal::Park).await {
                tracing::debug!(%error, partition = %id, "a partition was not parked");
                return Some(id);
            }
            None
        });
    }
    while let Some(ended) = parking.join_next().await {
        note_failure(Some(ended), resting);
    }
    Ok(are_more)
}

async fn even_out(placement: &Arc<Placement>, scheduler: &mut Scheduler) -> Result<(), StoreError> {
    let nodes = members::nodes(&*placement.store).await?;
    let load = |node: &NodeRecord| {
        let partitions = placement.members.load(node.id);
        NodeLoad {
            node: node.id,
            is_target: !node.is_draining && !placement.members.is_slow(node.id),
            bytes_per_s: partitions.iter().map(|(_, bytes)| bytes).sum(),
            partitions,
        }
    };
    let loads = nodes.iter().filter(|node| placement.members.is_node_alive(node.id)).map(load).collect();
    let name = |id| nodes.iter().find(|node| node.id == id).map_or("?", |node| node.name.as_str());
    for planned in scheduler.plan(clock::monotonic_ms(), loads) {
        let Ok((record, _)) = records::partition(&*placement.store, planned.partition).await else { continue };
        let open = record.open().filter(|open| open.leader().node == planned.from);
        let Some(nonce) = open.map(|open| open.nonce) else { continue };
        match failover::run(placement, planned.partition, Some(nonce), Goal::Move(planned.to)).await {
            Ok(_) => placement.events.note(format!(
                "{} moved from `{}` to `{}`, with {} kB/s: the one was busier than the other",
                planned.partition,
                name(planned.from),
                name(planned.to),
                planned.bytes_per_s / 1_000
            )),
            Err(error) => tracing::warn!(%error, partition = %planned.partition, "a partition did not move"),
        }
    }
    Ok(())
}
