//! The shell of `cores::repair`: looks for sealed segments that want a copy, and has them copied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cores::Rules;
use cores::repair::{Effect, Health as CopyHealth, Input, Need, NodeView, Repair, View, needs};
use service::api::RepairStatus;
use service::clock;
use service::drain::Drain;
use service::health::{Health, Metric};
use tokio::sync::{Notify, mpsc};
use types::limits::COPY_STALLED_MS;
use types::{ErrorCode, NodeId, Nonce, PartitionRecord, Replica, TopicPartition};
use wire::frame::{Frame, Refusal};

use crate::index::Partitions;
use crate::store::StoreError;
use crate::{Placement, failover, members, records};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After one is over others are waited for so long.
const COALESCE: Duration = Duration::from_millis(50);
/// Copies that this process has made at once, over all nodes and to one of them.
const REPAIRS_MAX: usize = 32;
const REPAIRS_PER_TARGET: usize = 16;
const ASK_TIMEOUT: Duration = Duration::from_millis(COPY_STALLED_MS);
/// After how long the target of a copy is first asked how far it is, in ms.
const ASK_FIRST_MS: u64 = 10;
/// How long a segment whose repair failed rests.
const REST_MS: u64 = 3_000;

/// See the module's text.
#[derive(Debug)]
pub struct Repairs {
    running: Mutex<BTreeMap<Nonce, Running>>,
    resting: Mutex<BTreeMap<Nonce, u64>>,
    /// One is over: there is room for another.
    ended: Notify,
    done: Arc<Metric>,
    failed: Arc<Metric>,
    wanted: Arc<Metric>,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    partition: TopicPartition,
    base: i64,
    end: i64,
    copied_to: i64,
    target: NodeId,
    since_ms: u64,
}

impl Repairs {
    pub fn new(health: &Health) -> Self {
        Self {
            running: Mutex::default(),
            resting: Mutex::default(),
            ended: Notify::new(),
            done: health.register(Metric::counter("weir_repairs_total", "Segments that were copied again.")),
            failed: health.register(Metric::counter("weir_repairs_failed_total", "Attempts that copied nothing.")),
            wanted: health.register(Metric::gauge("weir_repairs_wanted", "Segments that want another copy.")),
        }
    }

    pub fn status(&self) -> Vec<RepairStatus> {
        let running = self.running.lock().expect("no panic holds this lock");
        let status = |running: &Running| RepairStatus {
            partition: running.partition,
            base: running.base,
            end: running.end,
            copied_to: running.copied_to,
            target: running.target,
            for_ms: clock::monotonic_ms().saturating_sub(running.since_ms),
        };
        running.values().map(status).collect()
    }

    /// Whether one of this partition is under way, and whether there is room for another. One at a time: each changes the
    /// record, and a copy is for the record that it was begun with.
    pub(crate) fn is_running(&self, partition: TopicPartition) -> (bool, bool) {
        let running = self.running.lock().expect("no panic holds this lock");
        (running.values().any(|running| running.partition == partition), running.len() >= REPAIRS_MAX)
    }

    fn is_free(&self, nonce: Nonce, target: NodeId) -> bool {
        let running = self.running.lock().expect("no panic holds this lock");
        let to_target = running.values().filter(|running| running.target == target).count();
        !running.contains_key(&nonce) && running.len() < REPAIRS_MAX && to_target < REPAIRS_PER_TARGET
    }
}

/// What is known of all nodes now; `partitions` tells who has how much.
pub(crate) async fn view(placement: &Placement, partitions: &Partitions) -> Result<View, StoreError> {
    let nodes = members::nodes(&*placement.store).await?;
    let mut segments: BTreeMap<Replica, u64> = BTreeMap::new();
    for segment in partitions.values().flat_map(|record| &record.chain) {
        segment.replicas.iter().for_each(|replica| *segments.entry(*replica).or_default() += 1);
    }
    let view = |node: types::NodeRecord| {
        let replica = Replica { node: node.id, incarnation: node.incarnation };
        let is_alive = placement.members.is_node_alive(node.id);
        let view = NodeView {
            replica,
            az: node.az,
            address: node.address,
            is_alive,
            away_ms: if is_alive { 0 } else { placement.members.away_ms(node.id) },
            is_draining: node.is_draining,
            segments: segments.get(&replica).copied().unwrap_or(0),
        };
        (node.id, view)
    };
    Ok(View { nodes: nodes.into_iter().map(view).collect(), damaged: placement.members.damaged() })
}

/// Looks again and again until the drain begins.
pub(crate) async fn run(placement: Arc<Placement>, mut drain: Drain) {
    loop {
        tokio::select! {
            biased;
            () = drain.begun() => return,
            // Many small segments are copied faster than one looks.
            () = placement.repairs.ended.notified() => tokio::time::sleep(COALESCE).await,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if !placement.turn.is_mine() {
            continue;
        }
        if let Err(error) = look(&placement).await {
            tracing::debug!(%error, "repair cannot look around");
        }
    }
}

async fn look(placement: &Arc<Placement>) -> Result<(), StoreError> {
    let (_, partitions) = placement.index.read(&*placement.store).await?;
    if !placement.members.damaged().is_empty() {
        let segments = partitions.values().flat_map(|record| &record.chain);
        let listed: BTreeSet<(Nonce, Replica)> =
            segments.flat_map(|segment| segment.replicas.map(|replica| (segment.nonce, replica))).collect();
        placement.members.retain_damaged(|nonce, replica| listed.contains(&(nonce, replica)));
    }
    let view = view(placement, &partitions).await?;
    let mut wanted: Vec<(&Arc<PartitionRecord>, Need)> = Vec::new();
    for record in partitions.values() {
        wanted.extend(needs(record, &view, Rules::ALL).into_iter().map(|need| (record, need)));
    }
    placement.repairs.wanted.set(wanted.len() as u64);
    // Fewest copies first.
    wanted.sort_by_key(|(_, need)| need.copies);
    if placement.members.is_deaf(view.nodes.values().filter(|node| node.segments > 0).count()) {
        return Ok(());
    }
    let now_ms = clock::monotonic_ms();
    let resting: BTreeSet<Nonce> = {
        let mut resting = placement.repairs.resting.lock().expect("no panic holds this lock");
        resting.retain(|_, until| *until > now_ms);
        resting.keys().copied().collect()
    };
    for (record, need) in wanted {
        let (is_running, is_busy) = placement.repairs.is_running(record.id());
        if is_busy {
            break;
        }
        if is_running || resting.contains(&need.nonce) {
            continue;
        }
        let id = record.id();
        // What the index says may be old.
        let Ok((record, revision)) = records::partition(&*placement.store, id).await else { continue };
        let nonce = need.nonce;
        let is_leaving = view.health(nonce, need.lost) == CopyHealth::Leaving;
        match Repair::begin(now_ms, record, revision, need, &view, Rules::ALL) {
            // From one node that is emptied to another: nothing would be gained.
            Ok((repair, _)) if is_leaving && view.nodes[&repair.target().node].is_draining => rest(placement, nonce),
            Ok((repair, effects)) if placement.repairs.is_free(nonce, repair.target().node) => {
                let name = members::name(&*placement.store, repair.target().node).await?;
                start(placement, id, name, repair, effects);
            }
            Ok(_) => {}
            Err(why) => {
                tracing::debug!(partition = %id, reason = why.message, "a segment cannot be copied now");
                rest(placement, nonce);
            }
        }
    }
    Ok(())
}

fn rest(placement: &Placement, nonce: Nonce) {
    let mut resting = placement.repairs.resting.lock().expect("no panic holds this lock");
    resting.insert(nonce, clock::monotonic_ms() + REST_MS);
}

fn start(placement: &Arc<Placement>, id: TopicPartition, name: String, repair: Repair, effects: Vec<Effect>) {
    let (nonce, target) = (repair.nonce(), repair.target());
    let (base, end) = repair.range();
    let since_ms = clock::monotonic_ms();
    let running = Running { partition: id, base, end, copied_to: base, target: target.node, since_ms };
    placement.repairs.running.lock().expect("no panic holds this lock").insert(nonce, running);
    let placement = Arc::clone(placement);
    tokio::spawn(async move {
        let result = attempt(&placement, id, repair, effects).await;
        placement.repairs.running.lock().expect("no panic holds this lock").remove(&nonce);
        match result {
            Ok(()) => {
                placement.members.copied(nonce, target);
                placement.repairs.done.add(1);
                let took_ms = clock::monotonic_ms() - since_ms;
                placement.events.note(format!(
                    "offsets {base} to {end} of {id} were copied to `{name}` in {took_ms} ms: they had one copy, or left a node that is emptied"
                ));
            }
            Err(why) => {
                placement.repairs.failed.add(1);
                rest(&placement, nonce);
                tracing::warn!(partition = %id, reason = why.message, "a segment was not copied; trying again");
            }
        }
        placement.repairs.ended.notify_one();
    });
}

async fn attempt(
    placement: &Arc<Placement>,
    id: TopicPartition,
    mut repair: Repair,
    effects: Vec<Effect>,
) -> Result<(), Refusal> {
    let gone = || Refusal { code: ErrorCode::PlacementUnavailable, message: "the attempt was given up".into() };
    let nodes = members::nodes(&*placement.store).await.map_err(|_| gone())?;
    let target = repair.target().node;
    let address = nodes.into_iter().find(|node| node.id == target).map(|node| node.address);
    let (inputs, mut received) = mpsc::unbounded_channel();
    let mut effects = effects;
    // Most segments are small: asked soon, then less often.
    let mut patience_ms = ASK_FIRST_MS;
    loop {
        for effect in effects {
            let inputs = inputs.clone();
            match effect {
                Effect::Copy { request, .. } => {
                    let (pool, address) = (placement.failovers.pool().clone(), address.clone());
                    tokio::spawn(async move {
                        let answer = failover::ask(&pool, address, &Frame::Copy(request), ASK_TIMEOUT).await;
                        if let Some(Frame::Copied(result)) = answer {
                            let _ = inputs.send(Input::Copied(result));
                        }
                    });
                }
                Effect::Swap { revision, record } => {
                    let won = records::swap_partition(&*placement.store, id, Some(revision), &record).await;
                    let _ = inputs.send(Input::Swapped { won });
                }
                Effect::Wake { after_ms } => {
                    let after_ms = after_ms.min(patience_ms);
                    patience_ms = (2 * patience_ms).min(COPY_STALLED_MS);
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(after_ms)).await;
                        let _ = inputs.send(Input::Tick);
                    });
                }
                Effect::Done(result) => return result,
            }
        }
        let input = received.recv().await.ok_or_else(gone)?;
        if let Input::Copied(Ok(reply)) = &input
            && let Some(running) =
                placement.repairs.running.lock().expect("no panic holds this lock").get_mut(&repair.nonce())
        {
            running.copied_to = reply.copied_to;
        }
        effects = repair.step(clock::monotonic_ms(), input);
    }
}
