//! The shell of `cores::failover`: carries its effects to storage nodes and to the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cores::Rules;
use cores::expiry::stamp;
use cores::failover::{Candidate, Effect, Failover, Goal, Input, has_pair};
use cores::scheduler::places;
use service::api::ApiError;
use service::health::{Health, Metric};
use service::nodes::NodePool;
use service::trust::Trust;
use service::{clock, random};
use tokio::sync::{Semaphore, mpsc, watch};
use types::limits::OPEN_TIMEOUT_MS;
use types::{ErrorCode, Incarnation, NodeId, NodeRecord, Nonce, PartitionRecord, Replica, TopicPartition};
use wire::batch::mix;
use wire::frame::{FenceReply, Frame, MemberState, Refusal};

use crate::{Placement, members, records};

/// Attempts under way in this process.
const CONCURRENT_MAX: usize = 256;
/// Openings that one attempt may try.
const NONCES: usize = 4;
/// How long an attempt waits for a member that is just starting.
const MEMBER_WAIT: Duration = Duration::from_millis(1_500);
/// How long an attempt waits for a second zone before it says that there is none.
const PAIR_WAIT: Duration = Duration::from_millis(500);
pub(crate) const FENCE_TIMEOUT: Duration = Duration::from_millis(1_000);

type Running = HashMap<TopicPartition, watch::Receiver<bool>>;

/// See the module's text.
#[derive(Debug)]
pub struct Failovers {
    pool: NodePool,
    running: Mutex<Running>,
    permits: Semaphore,
    /// Nodes whose connection ended and is not back, and since when that is known, in monotonic ms.
    lost: Mutex<HashMap<NodeId, u64>>,
    done: Arc<Metric>,
    rolled: Arc<Metric>,
    failed: Arc<Metric>,
}

impl Failovers {
    pub fn pool(&self) -> &NodePool {
        &self.pool
    }

    pub fn new(health: &Health, trust: Option<Arc<Trust>>) -> Self {
        Self {
            pool: NodePool::new(trust),
            running: Mutex::default(),
            lost: Mutex::default(),
            permits: Semaphore::new(CONCURRENT_MAX),
            done: health
                .register(Metric::counter("weir_failovers_total", "Segments opened by this process, but for rolls.")),
            rolled: health.register(Metric::counter("weir_rolls_total", "Segments sealed for their age or size.")),
            failed: health.register(Metric::counter("weir_failovers_failed_total", "Attempts that opened nothing.")),
        }
    }
}

/// Fails a partition over if `nonce` is (still) its open segment; opens it if `nonce` is `None` and nothing is
/// open. Returns the record as it is then. One attempt at a time per partition; others wait for it.
pub(crate) async fn run(
    placement: &Arc<Placement>,
    id: TopicPartition,
    nonce: Option<Nonce>,
    goal: Goal,
) -> Result<PartitionRecord, ApiError> {
    run_for(placement, id, nonce, goal, Cause::Other).await
}

/// Seals the open segment of a partition whose members are well, and opens the next one.
pub(crate) async fn roll(placement: &Arc<Placement>, id: TopicPartition, nonce: Nonce) -> Result<(), ApiError> {
    run_for(placement, id, Some(nonce), Goal::Open, Cause::Roll).await.map(|_| ())
}

impl Failovers {
    /// Whether one of this partition is under way.
    pub(crate) fn is_running(&self, partition: TopicPartition) -> bool {
        self.running.lock().expect("no panic holds this lock").contains_key(&partition)
    }
}

/// Why a segment is sealed: what is routine is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Roll,
    Other,
}

async fn run_for(
    placement: &Arc<Placement>,
    id: TopicPartition,
    nonce: Option<Nonce>,
    goal: Goal,
    cause: Cause,
) -> Result<PartitionRecord, ApiError> {
    loop {
        let (begun, running) = watch::channel(false);
        let other = {
            let mut all = placement.failovers.running.lock().expect("no panic holds this lock");
            let other = all.get(&id).cloned();
            if other.is_none() {
                all.insert(id, running);
            }
            other
        };
        if let Some(mut other) = other {
            let _ = other.wait_for(|done| *done).await;
            let (record, _) = records::partition(&*placement.store, id).await?;
            if record.open().map(|open| open.nonce) != nonce {
                return Ok(record);
            }
            continue;
        }
        let task = Arc::clone(placement);
        // On a task of its own: an asker that goes away must not leave an attempt half done.
        let attempt = tokio::spawn(async move {
            // Also if the attempt panics: others must not wait for it.
            let _over = Over { task: Arc::clone(&task), id, begun };
            let permit = task.failovers.permits.acquire().await;
            let _permit = permit.map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
            // Not before: what was read while another attempt was under way would be fenced for nothing.
            let (record, revision) = records::partition(&*task.store, id).await?;
            if record.open().map(|open| open.nonce) != nonce {
                return Ok(Some(record));
            }
            match attempt(&task, record, revision, goal, cause).await {
                Ok(()) if cause == Cause::Roll => task.failovers.rolled.add(1),
                Ok(()) => task.failovers.done.add(1),
                Err(refusal) => {
                    task.failovers.failed.add(1);
                    return Err(ApiError::new(refusal.code, refusal.message));
                }
            }
            Ok(None)
        });
        let attempted = attempt.await.map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
        let record = match attempted {
            Ok(Some(record)) => return Ok(record),
            Ok(None) | Err(_) => records::partition(&*placement.store, id).await?.0,
        };
        if record.open().map(|open| open.nonce) != nonce {
            return Ok(record);
        }
        // Opened and gone again: once more.
        attempted?;
    }
}

/// On which nodes the record that is swapped in opens the partition.
fn opened(effect: &Effect) -> Option<[Replica; 2]> {
    match effect {
        Effect::Swap { record, .. } => record.open().map(|open| open.replicas),
        _ => None,
    }
}

/// Tells those who wait that an attempt is over.
struct Over {
    task: Arc<Placement>,
    id: TopicPartition,
    begun: watch::Sender<bool>,
}

impl Drop for Over {
    fn drop(&mut self) {
        self.task.failovers.running.lock().expect("no panic holds this lock").remove(&self.id);
        self.begun.send_replace(true);
    }
}

async fn attempt(
    placement: &Arc<Placement>,
    record: PartitionRecord,
    revision: u64,
    goal: Goal,
    cause: Cause,
) -> Result<(), Refusal> {
    let unavailable = |error: String| Refusal { code: ErrorCode::PlacementUnavailable, message: error };
    wait_for_members(placement, &record).await;
    let nodes = members::nodes(&*placement.store).await.map_err(|error| unavailable(error.to_string()))?;
    let names: HashMap<NodeId, String> = nodes.iter().map(|node| (node.id, node.name.clone())).collect();
    let addresses: HashMap<NodeId, String> = nodes.iter().map(|node| (node.id, node.address.clone())).collect();
    let candidates = candidates(placement, nodes, record.id());
    if goal != Goal::Park {
        find_pair(placement, &candidates, &addresses).await?;
    }
    let nonces = (0..NONCES).map(|_| Nonce(random::wide())).collect();
    let partition = record.id();
    let before = record.open().map(|open| open.replicas);
    let (mut failover, effects) =
        Failover::begin(clock::monotonic_ms(), record, revision, candidates, nonces, goal, Rules::ALL);
    let (inputs, mut received) = mpsc::unbounded_channel();
    let shell = Shell { placement: Arc::clone(placement), partition, addresses, inputs };
    failover.step(clock::monotonic_ms(), Input::Suspected { nodes: shell.suspected() });
    let mut result = shell.act(effects);
    let mut after = None;
    while result.is_none() {
        let Some(input) = received.recv().await else { break };
        failover.step(clock::monotonic_ms(), Input::Suspected { nodes: shell.suspected() });
        let effects = failover.step(clock::monotonic_ms(), input);
        after = effects.iter().find_map(opened).or(after);
        result = shell.act(effects);
    }
    let result = result.unwrap_or_else(|| Err(unavailable("the attempt was given up".into())));
    match &result {
        Ok(()) if goal == Goal::Park => tracing::info!(%partition, "a partition was parked"),
        Ok(()) => {
            placement.members.opened(partition);
            if let (Some(before), Some(after), Goal::Open) = (before, after, goal) {
                let left: Vec<&Replica> = before.iter().filter(|replica| !after.contains(replica)).collect();
                let name = |replica: &Replica| {
                    names.get(&replica.node).map_or("a replaced disk".into(), |name| format!("`{name}`"))
                };
                if cause == Cause::Other || !left.is_empty() {
                    placement.events.failed_over(&left.into_iter().map(name).collect::<Vec<_>>().join(" and "));
                }
            }
            tracing::info!(%partition, "a segment was opened");
        }
        Err(refusal) => tracing::warn!(%partition, reason = refusal.message, "no segment was opened"),
    }
    result
}

/// Both members may be starting after a power cut, this process with them: a moment's patience saves carrying a tail.
async fn wait_for_members(placement: &Placement, record: &PartitionRecord) {
    let Some(open) = record.open().filter(|_| placement.members.is_young()) else { return };
    let began = clock::monotonic_ms();
    while clock::monotonic_ms() - began < MEMBER_WAIT.as_millis() as u64 {
        // Who was heard of and is silent now does not start: it is gone.
        if open.replicas.iter().all(|replica| placement.members.was_heard(replica.node)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Two zones must have a node that is there; one whose connection just ended may be back in a moment.
async fn find_pair(
    placement: &Placement,
    candidates: &[Candidate],
    addresses: &HashMap<NodeId, String>,
) -> Result<(), Refusal> {
    let began = clock::monotonic_ms();
    // Heard of since its connection ended it is there, if not for this process: an opening may choose it where there is no
    // other. Heard of before, it may have died just now with all others: nothing must be fenced for it.
    let absent = || {
        let mut suspected = suspected(placement, addresses);
        let now_ms = clock::monotonic_ms();
        let mut lost = placement.failovers.lost.lock().expect("no panic holds this lock");
        lost.retain(|node, _| suspected.contains(node));
        suspected.retain(|node| {
            let lost_ms = now_ms - *lost.entry(*node).or_insert(now_ms);
            placement.members.away_ms(*node) >= lost_ms
        });
        suspected
    };
    suspected(placement, addresses).iter().for_each(|node| placement.failovers.pool.watch(&addresses[node]));
    while !has_pair(candidates, &absent()) {
        let is_hopeless = !has_pair(candidates, &[]);
        if is_hopeless || clock::monotonic_ms() - began >= PAIR_WAIT.as_millis() as u64 {
            let message = "storage nodes of one zone alone are there; a segment needs two".to_owned();
            return Err(Refusal { code: ErrorCode::AzUnavailable, message });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Nodes to which there was a connection and is none now: what one attempt meets, all others know.
fn suspected(placement: &Placement, addresses: &HashMap<NodeId, String>) -> Vec<NodeId> {
    let pool = &placement.failovers.pool;
    addresses.iter().filter(|(_, address)| pool.is_lost(address)).map(|(node, _)| *node).collect()
}

/// Nodes that are alive, in an order of the partition's own, so that leaders spread.
fn candidates(placement: &Placement, nodes: Vec<NodeRecord>, partition: TopicPartition) -> Vec<Candidate> {
    let seed = mix(partition.topic.0 as u64, partition.partition as u64);
    let places = places(nodes.iter().map(|node| (node.id, node.az.as_str())));
    let mut alive: Vec<NodeRecord> =
        nodes.into_iter().filter(|node| placement.members.is_node_alive(node.id)).collect();
    alive.sort_by_key(|node| mix(seed, u64::from(node.id.0)));
    alive
        .into_iter()
        .map(|node| Candidate {
            replica: Replica { node: node.id, incarnation: node.incarnation },
            az: node.az,
            address: node.address,
            // A slow disk is used where there is no other, like one that is emptied.
            is_draining: node.is_draining || placement.members.is_slow(node.id),
            place: places[&node.id],
        })
        .collect()
}

struct Shell {
    placement: Arc<Placement>,
    partition: TopicPartition,
    addresses: HashMap<NodeId, String>,
    inputs: mpsc::UnboundedSender<Input>,
}

impl Shell {
    fn suspected(&self) -> Vec<NodeId> {
        suspected(&self.placement, &self.addresses)
    }

    /// Starts what the effects ask for; the result once the attempt is over.
    fn act(&self, effects: Vec<Effect>) -> Option<Result<(), Refusal>> {
        for effect in effects {
            let inputs = self.inputs.clone();
            match effect {
                Effect::Fence { node, .. } if !self.addresses.contains_key(&node) => {
                    // Another disk has taken its place: there is nobody to wait for.
                    let reply = FenceReply { incarnation: Incarnation(0), state: MemberState::Unknown };
                    let _ = inputs.send(Input::Fenced { node, result: Ok(reply) });
                }
                Effect::Fence { node, request } => {
                    let (pool, address) = (self.placement.failovers.pool.clone(), self.addresses.get(&node).cloned());
                    tokio::spawn(async move {
                        let answer = ask(&pool, address, &Frame::Fence(request), FENCE_TIMEOUT).await;
                        let _ = inputs.send(match answer {
                            Some(Frame::Fenced(result)) => Input::Fenced { node, result },
                            _ => Input::Unreachable { node },
                        });
                    });
                }
                Effect::Describe { node, request } => {
                    let (pool, address) = (self.placement.failovers.pool.clone(), self.addresses.get(&node).cloned());
                    tokio::spawn(async move {
                        let answer = ask(&pool, address, &Frame::Describe(request), FENCE_TIMEOUT).await;
                        if let Some(Frame::Described(result)) = answer {
                            let _ = inputs.send(Input::Described { node, result });
                        }
                    });
                }
                Effect::Open { node, request, producers } => {
                    let (pool, address) = (self.placement.failovers.pool.clone(), self.addresses.get(&node).cloned());
                    tokio::spawn(async move {
                        let nonce = request.segment.nonce;
                        let timeout = Duration::from_millis(2 * OPEN_TIMEOUT_MS);
                        if let Some(Frame::Opened(result)) =
                            ask(&pool, address, &Frame::Open { request, producers }, timeout).await
                        {
                            let _ = inputs.send(Input::Opened { nonce, result });
                        }
                    });
                }
                Effect::Swap { revision, mut record } => {
                    let (placement, id) = (Arc::clone(&self.placement), self.partition);
                    if let Some(agreed) = placement.members.agreed() {
                        stamp(&mut record, agreed.latest_ms);
                    }
                    let leader = record.open().and_then(|open| self.addresses.get(&open.leader().node).cloned());
                    tokio::spawn(async move {
                        let won = records::swap_partition(&*placement.store, id, revision, &record).await;
                        let _ = inputs.send(Input::Swapped { won });
                        if won
                            && let Some(leader) = leader
                            && let Ok(client) = placement.failovers.pool.get(&leader).await
                        {
                            // It asks by itself a moment later.
                            client.tell(&Frame::Hint { partition: id });
                        }
                    });
                }
                Effect::Wake { after_ms } => {
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(after_ms)).await;
                        let _ = inputs.send(Input::Tick);
                    });
                }
                Effect::Done(result) => return Some(result),
            }
        }
        None
    }
}

pub(crate) async fn ask(pool: &NodePool, address: Option<String>, frame: &Frame, timeout: Duration) -> Option<Frame> {
    let client = pool.get(&address?).await.ok()?;
    client.ask(frame, timeout).await
}

/// A storage node began a new process lifetime: every open segment that it led or followed is failed over.
pub(crate) async fn after_restart(placement: Arc<Placement>, node: NodeId) {
    let rows = match placement.store.range(records::PARTITIONS).await {
        Ok((_, rows)) => rows,
        Err(error) => return tracing::error!(%error, "partitions cannot be read"),
    };
    // Partitions that are written to, or read, are asked for by their gateways, and do not wait behind all others.
    let few = Arc::new(Semaphore::new(CONCURRENT_MAX / 4));
    for (_, entry) in rows {
        let Ok(record) = records::parse::<PartitionRecord>(&entry) else { continue };
        let open = record.open().filter(|open| open.replicas.iter().any(|replica| replica.node == node));
        let Some(nonce) = open.map(|open| open.nonce) else { continue };
        let (placement, few) = (Arc::clone(&placement), Arc::clone(&few));
        tokio::spawn(async move {
            for wait_ms in [0, 500, 2_000, 5_000, 15_000] {
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                let Ok(_one_of_few) = few.acquire().await else { return };
                if run(&placement, record.id(), Some(nonce), Goal::Open).await.is_ok() {
                    return;
                }
            }
        });
    }
}
