//! The world of one seed: nodes, network, placement, clients, and the events between them.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt::Write as _;

use cores::Rules;
use cores::failover::{self, Candidate, Failover, Goal};
use cores::partition::{Effect, Input, Now, Partition};
use cores::recovery;
use cores::repair::{self, Repair};
use cores::replica::Replica as ReplicaCore;
use types::{
    AccountId, ClusterId, Epoch, Generation, Incarnation, NodeId, Nonce, PartitionRecord, Replica, TopicId,
    TopicPartition,
};
use wire::frame::{Appended, MemberState, Refusal};
use wire::journal::JournalEntry;

use crate::client::Client;
use crate::disk::Disk;
use crate::oracle::Oracle;
use crate::rng::Rng;

mod faults;
mod repairs;
mod restore;

/// What a run is made of.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    pub rules: Rules,
    pub scenario: Scenario,
    /// Print each event.
    pub is_verbose: bool,
}

/// What befalls a run before chance takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Nothing: chance has it all.
    Mixed,
    /// Once something is acknowledged, both members of the open segment stop. One comes back at once, on a disk
    /// where the segment's opening has rotted; the other comes back later.
    LostOpening,
    /// The same, but the one that comes back at once has a new disk.
    LostDisk,
    /// Journal files are small, power fails again and again, and nothing else does: what recovery calls damage is none.
    Torn,
    /// Bits rot on disks again and again, as long as another copy is intact.
    Rotten,
    /// Placement parks the partition again and again, often just as one of its members stops.
    Parking,
    /// One member of the open segment, leader or follower, stops and stays away; nothing else happens. Records must
    /// go on being acknowledged by others.
    OneAway,
    /// Placement's store is restored from a backup again and again, or made anew from what the nodes hold, while the old
    /// one goes on.
    Restore,
    /// Clients give up the beginning of the log again and again.
    Trimmed,
    /// Consumers of a group and its coordinators ([`crate::groups`]).
    Groups,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub violation: Option<String>,
    /// Equal for equal seeds, or the simulator is not deterministic.
    pub trace_hash: u64,
    pub events: u64,
    pub acked: usize,
    pub faults: u64,
}

const PARTITION: TopicPartition = TopicPartition { topic: TopicId(77), partition: 0 };
/// Faults happen until here; after it everything heals and must finish.
const FAULTS_END_MS: u64 = 4_000;
const END_MS: u64 = 30_000;
/// With one node away everything is acknowledged by then.
const ONE_AWAY_END_MS: u64 = 12_000;
/// Attempts to fail the partition over that run at once.
const ATTEMPTS_MAX: usize = 3;
/// A gateway that cannot reach its leader for this long asks for a failover.
const CLIENT_PATIENCE_MS: u64 = 1_000;

type Correlation = u64;

#[derive(Debug)]
enum Event {
    ToNode {
        node: usize,
        life: u64,
        input: Input,
    },
    DiskDone {
        node: usize,
        life: u64,
    },
    /// Placement's linearizable answer to a node's question.
    RecordRead {
        node: usize,
        life: u64,
    },
    ToActor {
        actor: u64,
        input: failover::Input,
    },
    Swap {
        actor: u64,
        revision: Option<u64>,
        record: Box<PartitionRecord>,
    },
    StartFailover {
        nonce: Option<Nonce>,
        goal: Goal,
    },
    /// A node puts what it has into files.
    Flush {
        node: usize,
    },
    /// Placement moves the log start up.
    Trim,
    /// Placement looks for segments that want a copy.
    LookForRepairs,
    ToRepair {
        actor: u64,
        input: repair::Input,
    },
    SwapRepaired {
        actor: u64,
        revision: u64,
        record: Box<PartitionRecord>,
    },
    /// A node that makes a copy asks a source for more.
    CopyStep(repairs::CopyStep),
    /// An operator who restores metadata asks the nodes that have not answered yet.
    AskInventories,
    Register {
        node: usize,
        life: u64,
    },
    Answer {
        client: usize,
        number: u64,
        attempt: u64,
        result: Result<Appended, Refusal>,
    },
    ClientTurn {
        client: usize,
    },
    Read,
    Fault,
    Restart {
        node: usize,
    },
    PowerOff {
        node: usize,
    },
    /// It has stood still for so long that others give up its connections.
    FellSilent {
        node: usize,
        life: u64,
    },
    Reconnect {
        a: usize,
        b: usize,
        epoch: u64,
    },
}

#[derive(Debug)]
struct Queued {
    at_ms: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.at_ms, self.order) == (other.at_ms, other.order)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at_ms, other.order).cmp(&(self.at_ms, self.order))
    }
}

struct Node {
    disk: Disk,
    /// Counts process lifetimes; messages to an earlier one are lost.
    life: u64,
    is_up: bool,
    core: Partition,
    fences: BTreeMap<Correlation, (u64, wire::frame::FenceRequest)>,
    opens: BTreeMap<Correlation, (u64, Nonce)>,
    appends: BTreeMap<Correlation, (usize, u64, u64)>,
    copies: BTreeMap<Correlation, (u64, Nonce, u64)>,
    /// Appends that were given to the core and not answered.
    asked: BTreeSet<Correlation>,
    /// Since when it is down, in ms.
    down_since_ms: u64,
    paused_until_ms: u64,
    slow_until_ms: u64,
    full_until_ms: u64,
}

struct World {
    /// Draws flushes and their like, apart from all else: a seed goes the same way with and without them.
    asides: Rng,
    /// Half the seeds have none: what only a journal keeps is at risk in those.
    has_asides: bool,
    rng: Rng,
    now_ms: u64,
    order: u64,
    queue: BinaryHeap<Queued>,
    nodes: Vec<Node>,
    /// Cut pairs, and a counter of each pair's connections: what was under way on an old one is lost.
    cuts: BTreeMap<(usize, usize), bool>,
    connections: BTreeMap<(usize, usize), u64>,
    /// Connections keep order: the time of the last message on each way.
    ways: BTreeMap<(usize, usize), u64>,
    record: PartitionRecord,
    revision: u64,
    repairs: BTreeMap<u64, Repair>,
    /// Copies that nodes said are damaged.
    damaged: Vec<(Nonce, Replica)>,
    actors: BTreeMap<u64, Failover>,
    restoring: Option<restore::Restoring>,
    /// Every record that there was: a backup is one of them.
    history: Vec<PartitionRecord>,
    next_actor: u64,
    next_token: u64,
    clients: Vec<Client>,
    attempts: u64,
    oracle: Oracle,
    profile: Profile,
    trace_hash: u64,
    faults: u64,
    has_lost_data: bool,
    disk_ms: u64,
    file_bytes: u64,
    net_ms: u64,
    fault_every_ms: u64,
    /// The faults of this seed, each as often as it comes.
    swarm: Vec<faults::Kind>,
    /// Turns of clients; every so many of them an old batch comes again.
    turns: u64,
}

/// Whether each segment is sealed, and what readers may see of it.
fn shown(core: &Partition) -> BTreeMap<Nonce, (bool, Option<i64>)> {
    let originals = core.replica().segments().filter(|segment| !segment.is_copy());
    let shown = originals.map(|segment| {
        let nonce = segment.open.segment.nonce;
        (nonce, (segment.sealed.is_some(), core.visible(nonce)))
    });
    shown.collect()
}

/// Runs one seed to its end. A core's own assertion counts as a violation.
pub fn run(seed: u64, profile: Profile) -> Outcome {
    let run = match profile.scenario {
        Scenario::Groups => crate::groups::run,
        _ => run_to_end,
    };
    std::panic::catch_unwind(|| run(seed, profile)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let violation = format!("assertion: {}", text.unwrap_or_default());
        Outcome { violation: Some(violation), trace_hash: 0, events: 0, acked: 0, faults: 0 }
    })
}

/// More events than this at one moment: somebody answers an answer for ever. (A process that stood still has thousands.)
const AT_ONCE_MAX: u32 = 200_000;

fn run_to_end(seed: u64, profile: Profile) -> Outcome {
    let mut world = World::new(seed, profile);
    let mut events = 0;
    let mut at_once = 0;
    while let Some(Queued { at_ms, event, .. }) = world.queue.pop() {
        at_once = if at_ms == world.now_ms { at_once + 1 } else { 0 };
        world.now_ms = at_ms;
        events += 1;
        if at_once > AT_ONCE_MAX {
            world.oracle.fail(format!("LIVELOCK: more than {AT_ONCE_MAX} events at {at_ms} ms"));
            break;
        }
        world.trace(&event);
        world.handle(event);
        if world.oracle.violation.is_some() || world.is_finished() {
            break;
        }
        let is_late = profile.scenario == Scenario::OneAway && at_ms > ONE_AWAY_END_MS;
        if at_ms > END_MS || is_late {
            world.not_live();
            break;
        }
    }
    if world.oracle.violation.is_none() {
        let record = world.record.clone();
        world.oracle.check_kept_at_end(&record);
    }
    Outcome {
        violation: world.oracle.violation.clone().map(|violation| violation.0),
        trace_hash: world.trace_hash,
        events,
        acked: world.oracle.acked_batches(),
        faults: world.faults,
    }
}

impl World {
    fn new(seed: u64, profile: Profile) -> Self {
        let mut rng = Rng::new(seed);
        let count = 3 + rng.range(0, 2) as usize;
        let swarm = faults::swarm(&mut rng);
        // Small files are full often, so that a write begins one.
        let file_bytes =
            if profile.scenario == Scenario::Torn { 64 * 1024 } else { [128, 1_024][rng.range(0, 2) as usize] * 1_024 };
        let nodes = (0..count)
            .map(|index| {
                let incarnation = Incarnation(rng.wide());
                let me = Replica { node: NodeId(index as u32 + 1), incarnation };
                Node {
                    disk: Disk::new(incarnation, file_bytes),
                    life: 1,
                    is_up: true,
                    core: Partition::new(PARTITION, me, profile.rules),
                    fences: BTreeMap::new(),
                    opens: BTreeMap::new(),
                    appends: BTreeMap::new(),
                    copies: BTreeMap::new(),
                    asked: BTreeSet::new(),
                    down_since_ms: 0,
                    paused_until_ms: 0,
                    slow_until_ms: 0,
                    full_until_ms: 0,
                }
            })
            .collect();
        let clients = (0..2 + rng.range(0, 2))
            .map(|id| {
                let is_idempotent = rng.chance(50);
                let window = 1 + rng.range(0, if is_idempotent { 5 } else { 12 }) as usize;
                Client::new(id, is_idempotent, 20 + rng.range(0, 60), window)
            })
            .collect();
        let mut world = Self {
            now_ms: 0,
            order: 0,
            queue: BinaryHeap::new(),
            nodes,
            cuts: BTreeMap::new(),
            connections: BTreeMap::new(),
            ways: BTreeMap::new(),
            record: PartitionRecord {
                account: AccountId(1),
                cluster: ClusterId(1),
                topic: PARTITION.topic,
                partition: PARTITION.partition,
                generation: Generation(1),
                epoch: Epoch(0),
                version: 1,
                log_start: 0,
                gaps: Vec::new(),
                chain: Vec::new(),
            },
            revision: 1,
            repairs: BTreeMap::new(),
            damaged: Vec::new(),
            actors: BTreeMap::new(),
            restoring: None,
            history: Vec::new(),
            next_actor: 1,
            next_token: 1,
            clients,
            attempts: 0,
            oracle: Oracle::default(),
            profile,
            trace_hash: 0,
            faults: 0,
            has_lost_data: false,
            disk_ms: 1 + rng.range(0, 12),
            net_ms: 1 + rng.range(0, 12),
            fault_every_ms: 60 + rng.range(0, 400),
            swarm,
            file_bytes,
            turns: 0,
            asides: Rng::new(!seed),
            has_asides: seed.is_multiple_of(2) || matches!(profile.scenario, Scenario::Rotten | Scenario::Trimmed),
            rng,
        };
        world.at(0, Event::StartFailover { nonce: None, goal: Goal::Open });
        world.at(100, Event::LookForRepairs);
        for node in (0..world.nodes.len()).filter(|_| world.has_asides).collect::<Vec<_>>() {
            let after = world.asides.range(100, 4_000);
            world.at(after, Event::Flush { node });
        }
        if profile.scenario == Scenario::Trimmed {
            world.at(100, Event::Trim);
        }
        for client in 0..world.clients.len() {
            world.at(5, Event::ClientTurn { client });
        }
        world.at(20, Event::Read);
        world.at(50, Event::Fault);
        world
    }

    fn at(&mut self, after_ms: u64, event: Event) {
        self.order += 1;
        self.queue.push(Queued { at_ms: self.now_ms + after_ms, order: self.order, event });
    }

    fn trace(&mut self, event: &Event) {
        let mut text = String::new();
        let _ = write!(text, "{} {event:?}", self.now_ms);
        for byte in text.bytes() {
            self.trace_hash = wire::batch::mix(self.trace_hash, u64::from(byte));
        }
        if self.profile.is_verbose {
            println!("{text}");
        }
    }

    fn is_finished(&self) -> bool {
        self.now_ms > FAULTS_END_MS && self.clients.iter().all(Client::is_done) && self.is_healed()
    }

    fn not_live(&mut self) {
        let left: Vec<_> = self.clients.iter().map(|c| format!("{} of {}", c.acked, c.target)).collect();
        let nodes: Vec<_> = self.nodes.iter().map(|n| n.core.leader().map(|l| l.is_active())).collect();
        if self.profile.is_verbose {
            for (index, node) in self.nodes.iter().enumerate() {
                println!("node {} is up: {}", index + 1, node.is_up);
                for s in node.core.replica().segments() {
                    let (id, durable, sealed) = (s.open.segment.nonce, s.durable, s.sealed);
                    println!("  {id}: end {}, durable {durable:?}, sealed {sealed:?}, damaged {}", s.end, s.is_damaged);
                }
            }
            println!("damaged: {:?}", self.damaged);
        }
        self.oracle.fail(format!(
            "38 WRITE-LIVE, 40 REPAIR-LIVE or 27: not finished long after the last fault: acked {left:?}, leaders {nodes:?}, chain {:?}",
            self.record.chain
        ));
    }

    fn clock(&self) -> Now {
        // The wall clock jumps with the node's lifetimes: safety must not care.
        Now { monotonic_ms: self.now_ms, wall_ms: 1_000_000 + (self.now_ms as i64 / 700 % 3) * 5_000 }
    }

    fn link(a: usize, b: usize) -> (usize, usize) {
        (a.min(b), a.max(b))
    }

    /// Sends between nodes, in order, if their connection stands; it may break before it arrives.
    fn send(&mut self, from: usize, to: usize, input: Input) {
        let link = Self::link(from, to);
        if self.cuts.get(&link).copied().unwrap_or(false) || !self.nodes[to].is_up {
            return;
        }
        let earliest = self.ways.get(&(from, to)).copied().unwrap_or(0);
        let at = (self.now_ms + self.rng.range(0, self.net_ms)).max(earliest);
        self.ways.insert((from, to), at);
        let life = self.nodes[to].life;
        self.at(at - self.now_ms, Event::ToNode { node: to, life, input });
    }

    fn handle(&mut self, event: Event) {
        if let Event::ToNode { node, .. } | Event::DiskDone { node, .. } = &event
            && self.nodes[*node].paused_until_ms > self.now_ms
        {
            // Late, and in the same order.
            let after = self.nodes[*node].paused_until_ms - self.now_ms;
            return self.at(after, event);
        }
        match event {
            Event::ToNode { node, life, input } => {
                if self.is_alive(node, life) {
                    self.step(node, input);
                }
            }
            Event::DiskDone { node, life } => self.disk_done(node, life),
            Event::Flush { node } => {
                let after = self.asides.range(100, 4_000);
                self.at(after, Event::Flush { node });
                let state = &mut self.nodes[node];
                if state.is_up && !state.disk.has_failed {
                    state.disk.flush(state.core.replica());
                }
            }
            Event::RecordRead { node, life } => {
                if self.is_alive(node, life) {
                    let record = Box::new(self.record.clone());
                    let after = self.rng.range(0, self.net_ms);
                    self.at(after, Event::ToNode { node, life, input: Input::Record(record) });
                }
            }
            Event::ToActor { actor, input } => {
                let now_ms = self.now_ms;
                if let Some(failover) = self.actors.get_mut(&actor) {
                    let effects = failover.step(now_ms, input);
                    self.act(actor, effects);
                }
            }
            Event::Swap { actor, revision, record } => {
                let won = revision.is_none_or(|revision| revision == self.revision);
                if won {
                    self.changed(*record);
                }
                // One answer in ten is lost; the actor then never hears, and another must go on.
                if self.rng.chance(10) {
                    self.actors.remove(&actor);
                } else {
                    let after = self.rng.range(0, self.net_ms);
                    self.at(after, Event::ToActor { actor, input: failover::Input::Swapped { won } });
                }
                for node in 0..self.nodes.len() {
                    let (life, after) = (self.nodes[node].life, self.rng.range(0, 3 * self.net_ms));
                    self.at(after, Event::RecordRead { node, life });
                }
            }
            Event::StartFailover { nonce, goal } => self.start_failover(nonce, goal),
            Event::Trim => self.trim(),
            Event::LookForRepairs => self.look_for_repairs(),
            Event::ToRepair { actor, input } => self.step_repair(actor, input),
            Event::SwapRepaired { actor, revision, record } => self.swap_repaired(actor, revision, *record),
            Event::CopyStep(step) => self.copy_step(step),
            Event::AskInventories => self.ask_inventories(),
            Event::Register { node, life } => {
                if self.is_alive(node, life) {
                    let id = NodeId(node as u32 + 1);
                    let open = self.record.open().filter(|open| open.replicas.iter().any(|r| r.node == id));
                    if let Some(nonce) = open.map(|open| open.nonce) {
                        self.at(0, Event::StartFailover { nonce: Some(nonce), goal: Goal::Open });
                    }
                    self.at(1, Event::RecordRead { node, life });
                }
            }
            Event::Answer { client, number, attempt, result } => self.answered(client, number, attempt, result),
            Event::ClientTurn { client } => self.client_turn(client),
            Event::Read => self.read(),
            Event::Fault => self.fault(),
            Event::PowerOff { node } => self.crash(node, 200),
            Event::FellSilent { node, life } => {
                if self.is_alive(node, life) && self.nodes[node].paused_until_ms > self.now_ms {
                    self.fell_silent(node);
                }
            }
            Event::Restart { node } => self.restart(node),
            Event::Reconnect { a, b, epoch } => self.reconnect(a, b, epoch),
        }
    }

    /// To the beginning of something that is acknowledged.
    fn trim(&mut self) {
        let after = self.asides.range(50, 600);
        self.at(after, Event::Trim);
        let bases = self.oracle.acknowledged_bases();
        if bases.is_empty() {
            return;
        }
        let before = bases[self.asides.range(0, bases.len() as u64) as usize];
        if let Some(record) = cores::retention::trim(&self.record, before, self.profile.rules) {
            self.oracle.trimmed(before);
            self.changed(record);
            for node in 0..self.nodes.len() {
                let (life, after) = (self.nodes[node].life, self.asides.range(0, 3 * self.net_ms));
                self.at(after, Event::RecordRead { node, life });
            }
        }
    }

    fn changed(&mut self, record: PartitionRecord) {
        self.revision += 1;
        self.record = record;
        self.history.push(self.record.clone());
        self.oracle.recorded(&self.record);
    }

    fn is_alive(&self, node: usize, life: u64) -> bool {
        self.nodes[node].is_up && self.nodes[node].life == life
    }

    fn step(&mut self, node: usize, mut input: Input) {
        let now = self.clock();
        if let Input::Append { token, no_room, .. } = &mut input {
            self.nodes[node].asked.insert(*token);
            if self.nodes[node].full_until_ms > self.now_ms {
                let refusal = Refusal { code: types::ErrorCode::StorageFull, message: "the disk is full".into() };
                *no_room = Some(Box::new(refusal));
            }
        }
        let before = shown(&self.nodes[node].core);
        let effects = self.nodes[node].core.step(now, input);
        self.check_step(node, &before, &effects);
        self.carry_out(node, effects);
    }

    /// What must hold of each step: whoever waits is told.
    fn check_step(&mut self, node: usize, before: &BTreeMap<Nonce, (bool, Option<i64>)>, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Answer { token, .. } = effect
                && !self.nodes[node].asked.remove(token)
            {
                self.oracle.fail(format!("36 ONE-ANSWER: an append has two answers on node {}", node + 1));
            }
        }
        let is_led = self.nodes[node].core.leader().is_some();
        if !is_led && !self.nodes[node].asked.is_empty() {
            self.oracle.fail(format!("36 ONE-ANSWER: node {} gave up, and appends wait there for ever", node + 1));
        }
        for (nonce, (is_sealed, visible)) in shown(&self.nodes[node].core) {
            let Some((was_sealed, was_visible)) = before.get(&nonce) else { continue };
            let is_told =
                effects.iter().any(|effect| matches!(effect, Effect::Visible { nonce: told, .. } if *told == nonce));
            let has_grown = was_visible.is_some() && *was_visible < visible;
            if (has_grown || (is_sealed && !was_sealed)) && !is_told {
                self.oracle
                    .fail(format!("39 READ-LIVE: {nonce} is seen to {visible:?} now, and no reader hears of it"));
            }
        }
    }

    fn carry_out(&mut self, node: usize, effects: Vec<Effect>) {
        let life = self.nodes[node].life;
        let disk = self.nodes[node].disk.incarnation;
        for effect in effects {
            match effect {
                Effect::Journal(entry) => {
                    if let JournalEntry::Append { meta, .. } = &entry
                        && self.nodes[node].core.leader().is_some_and(|l| l.segment() == meta.segment)
                    {
                        self.oracle.authored(NodeId(node as u32 + 1), life, meta.segment.nonce);
                    }
                    self.nodes[node].disk.queue(PARTITION, entry);
                }
                Effect::Send { to, message } => {
                    let from = NodeId(node as u32 + 1);
                    let to = to.0 as usize - 1;
                    if !self.nodes[to].is_up && self.rng.chance(50) {
                        // Nobody takes the connection.
                        let input = Input::PeerDown { node: NodeId(to as u32 + 1) };
                        self.at(1, Event::ToNode { node, life, input });
                    }
                    self.send(node, to, Input::Peer { from, message: Box::new(message) });
                }
                Effect::Reply { to, reply } => {
                    let from = NodeId(node as u32 + 1);
                    self.send(node, to.0 as usize - 1, Input::PeerReply { from, reply });
                }
                Effect::Answer { token, result } => {
                    if let Some((client, number, attempt)) = self.nodes[node].appends.remove(&token) {
                        if let Ok(appended) = &result {
                            self.check_answer(client, number, *appended);
                        }
                        let after = self.rng.range(0, self.net_ms);
                        self.at(after, Event::Answer { client, number, attempt, result });
                    }
                }
                Effect::AnswerFence { token, result } => {
                    if let Some((actor, request)) = self.nodes[node].fences.remove(&token) {
                        if actor == restore::OPERATOR && result.is_ok() {
                            self.take_inventory(node, request.generation);
                        }
                        if let Ok(reply) = &result {
                            let end = match reply.state {
                                MemberState::Known { durable, .. } => request.nonce.map(|nonce| (nonce, durable)),
                                _ => None,
                            };
                            self.oracle.fence_answered(disk, (request.generation, request.epoch), end);
                        }
                        let after = self.rng.range(0, self.net_ms);
                        let input = failover::Input::Fenced { node: NodeId(node as u32 + 1), result };
                        self.at(after, Event::ToActor { actor, input });
                    }
                }
                Effect::AnswerOpen { token, result } => {
                    if let Some((actor, nonce)) = self.nodes[node].opens.remove(&token) {
                        let after = self.rng.range(0, self.net_ms);
                        self.at(after, Event::ToActor { actor, input: failover::Input::Opened { nonce, result } });
                    }
                }
                Effect::AskPlacement => {
                    let after = self.rng.range(0, self.net_ms);
                    self.at(after, Event::RecordRead { node, life });
                }
                Effect::RequestFailover { segment } => {
                    self.at(5, Event::StartFailover { nonce: Some(segment.nonce), goal: Goal::Open });
                    if self.has_asides && self.asides.chance(20) {
                        // Placement may take others for dead that are not: what it says of pairs decides nothing.
                        let after = self.asides.range(0, self.net_ms);
                        self.at(after, Event::ToNode { node, life, input: Input::NoPair });
                    }
                }
                Effect::AnswerCopy { token, result } => self.copy_answered(node, token, result),
                Effect::Copy { request, from } => self.begin_copy(node, *request, from),
                Effect::Dropped { nonce } => {
                    let record = self.record.clone();
                    self.oracle.dropped(NodeId(node as u32 + 1), disk, nonce, &record);
                }
                Effect::ReportDamage { segment } => {
                    let me = Replica { node: NodeId(node as u32 + 1), incarnation: disk };
                    let is_absent = self.nodes[node].core.replica().segment(segment.nonce).is_none();
                    self.oracle.damaged(disk, segment.nonce, is_absent);
                    if !self.damaged.contains(&(segment.nonce, me)) {
                        self.damaged.push((segment.nonce, me));
                    }
                }
                Effect::Visible { .. } => {}
                Effect::Wake { at_ms } => {
                    let after = at_ms.saturating_sub(self.now_ms);
                    self.at(after, Event::ToNode { node, life, input: Input::Tick });
                }
            }
        }
        if self.nodes[node].disk.start_write() {
            let factor = if self.nodes[node].slow_until_ms > self.now_ms { 30 } else { 1 };
            let after = factor * (1 + self.rng.range(0, self.disk_ms));
            self.at(after, Event::DiskDone { node, life });
            let is_torn = self.profile.scenario == Scenario::Torn && self.now_ms < FAULTS_END_MS;
            if is_torn && self.nodes[node].disk.begins_file() && self.rng.chance(60) {
                self.at(after.saturating_sub(1), Event::PowerOff { node });
            }
        }
    }

    fn disk_done(&mut self, node: usize, life: u64) {
        if !self.is_alive(node, life) {
            return;
        }
        let has_failed = self.nodes[node].disk.has_failed;
        let disk = self.nodes[node].disk.incarnation;
        let lied_before = self.nodes[node].disk.is_hidden();
        for queued in self.nodes[node].disk.finish_write() {
            if !has_failed {
                self.oracle.fsynced(disk, &queued.entry);
            }
            self.step(node, Input::JournalDurable);
        }
        self.carry_out(node, Vec::new());
        if self.nodes[node].disk.is_hidden() && lied_before {
            // Nobody knows before the next start; and nobody ever could, of the last write of all: another came after it.
            let after = self.rng.range(1, 60);
            self.at(after, Event::PowerOff { node });
        }
    }

    fn candidates(&self) -> Vec<Candidate> {
        (0..self.nodes.len())
            // Placement hears of a death late: some that are down are listed all the same.
            .filter(|node| self.nodes[*node].is_up || (self.nodes[*node].life + self.revision).is_multiple_of(2))
            .map(|node| Candidate {
                replica: Replica { node: NodeId(node as u32 + 1), incarnation: self.nodes[node].disk.incarnation },
                az: format!("az-{}", node % 3),
                address: node.to_string(),
                is_draining: false,
                place: cores::scheduler::Place {
                    index: node as u32 / 3,
                    count: 1 + (self.nodes.len() as u32 - 1 - node as u32 % 3) / 3,
                },
            })
            .collect()
    }

    /// Begins an attempt if the record still needs one; sometimes two at once.
    fn start_failover(&mut self, nonce: Option<Nonce>, goal: Goal) {
        if self.record.open().map(|open| open.nonce) != nonce {
            return;
        }
        // One attempt at a time by each of two placement processes, and sometimes a third that was thought dead.
        let often = if self.profile.scenario == Scenario::Restore { 60 } else { 25 };
        let times = if self.rng.chance(often) { 2 } else { 1 };
        for _ in 0..times.min(ATTEMPTS_MAX.saturating_sub(self.actors.len())) {
            let actor = self.next_actor;
            self.next_actor += 1;
            let nonces = (0..4).map(|_| Nonce(self.rng.wide())).collect();
            let (mut failover, effects) = Failover::begin(
                self.now_ms,
                self.record.clone(),
                self.revision,
                self.candidates(),
                nonces,
                goal,
                self.profile.rules,
            );
            if self.rng.chance(30) {
                // Right or wrong: what is suspected decides nothing about data.
                let nodes = (0..self.nodes.len()).filter(|node| !self.nodes[*node].is_up || self.rng.chance(20));
                let nodes = nodes.map(|node| NodeId(node as u32 + 1)).collect();
                failover.step(self.now_ms, failover::Input::Suspected { nodes });
            }
            self.actors.insert(actor, failover);
            self.act(actor, effects);
        }
    }

    fn act(&mut self, actor: u64, effects: Vec<failover::Effect>) {
        for effect in effects {
            match effect {
                failover::Effect::Fence { node: id, request } => {
                    let node = id.0 as usize - 1;
                    let after = self.rng.range(0, 2 * self.net_ms);
                    if self.nodes[node].is_up {
                        let token = self.next_token;
                        self.next_token += 1;
                        self.nodes[node].fences.insert(token, (actor, request));
                        let life = self.nodes[node].life;
                        self.at(after, Event::ToNode { node, life, input: Input::Fence { token, request } });
                    } else {
                        self.at(after, Event::ToActor { actor, input: failover::Input::Unreachable { node: id } });
                    }
                }
                failover::Effect::Describe { node: id, request } => {
                    let node = id.0 as usize - 1;
                    let after = self.rng.range(0, 2 * self.net_ms);
                    if self.nodes[node].is_up {
                        let result = self.nodes[node].core.describe(&request).map(Box::new);
                        self.at(
                            after,
                            Event::ToActor { actor, input: failover::Input::Described { node: id, result } },
                        );
                    }
                }
                failover::Effect::Open { node: id, request, producers } => {
                    let node = id.0 as usize - 1;
                    let token = self.next_token;
                    self.next_token += 1;
                    self.nodes[node].opens.insert(token, (actor, request.segment.nonce));
                    let (life, after) = (self.nodes[node].life, self.rng.range(0, self.net_ms));
                    self.at(after, Event::ToNode { node, life, input: Input::Open { token, request, producers } });
                }
                failover::Effect::Swap { revision, record } => {
                    let after = self.rng.range(0, 3 * self.net_ms);
                    self.at(after, Event::Swap { actor, revision, record });
                }
                failover::Effect::Wake { after_ms } => {
                    self.at(after_ms, Event::ToActor { actor, input: failover::Input::Tick });
                }
                failover::Effect::Done(result) => {
                    self.actors.remove(&actor);
                    if result.is_err() {
                        let nonce = self.record.open().map(|open| open.nonce);
                        let after = 100 + self.rng.range(0, 200);
                        self.at(after, Event::StartFailover { nonce, goal: Goal::Open });
                    }
                }
            }
        }
    }

    fn check_answer(&mut self, client: usize, number: u64, appended: Appended) {
        if let Some(outgoing) = self.clients[client].window.iter().find(|o| o.number == number) {
            let batch = outgoing.batch.clone();
            self.oracle.acknowledged(appended, &batch);
        }
    }

    fn answered(&mut self, client: usize, number: u64, attempt: u64, result: Result<Appended, Refusal>) {
        match result {
            Ok(appended) => {
                self.clients[client].answered_at_ms = self.now_ms;
                let before = self.clients[client].acked;
                self.clients[client].acknowledge(number, appended);
                if self.clients[client].acked > before {
                    self.client_send(client);
                }
            }
            Err(refusal) => {
                use types::{ErrorCode, Retry};
                if refusal.code.retry() == Retry::No && refusal.code != ErrorCode::OutOfOrderSequence {
                    self.oracle.fail(format!("a client was told {refusal:?} for its batch {number}"));
                }
                if attempt == self.attempts || self.clients[client].sent_to.is_some() {
                    self.clients[client].sent_to = None;
                    self.at(30, Event::ClientTurn { client });
                }
            }
        }
    }

    fn client_turn(&mut self, client: usize) {
        if self.clients[client].is_done() {
            return;
        }
        let silence_ms = self.now_ms.saturating_sub(self.clients[client].sent_at_ms);
        if silence_ms > 700 {
            self.clients[client].sent_to = None;
        }
        let answered_ms = self.now_ms.saturating_sub(self.clients[client].answered_at_ms);
        let open = self.record.open().map(|open| (open.nonce, open.leader().node.0 as usize - 1));
        if let Some((nonce, leader)) = open
            && answered_ms > CLIENT_PATIENCE_MS
            && !self.nodes[leader].is_up
        {
            self.clients[client].answered_at_ms = self.now_ms;
            self.at(1, Event::StartFailover { nonce: Some(nonce), goal: Goal::Open });
        }
        if self.record.open().is_none() && self.actors.is_empty() {
            // Parked: the first produce opens it.
            self.at(1, Event::StartFailover { nonce: None, goal: Goal::Open });
        }
        self.client_send(client);
        self.turns += 1;
        if self.turns.is_multiple_of(5) {
            self.send_stale(client);
        }
        let after = 20 + self.rng.range(0, 60);
        self.at(after, Event::ClientTurn { client });
    }

    /// Sends what is new, or, after a change of leader or a silence, the whole window again in order.
    fn client_send(&mut self, client: usize) {
        let Some(open) = self.record.open().cloned() else { return };
        let segment = open.id(PARTITION);
        // Mostly one new batch, sometimes a burst that fills the window: then writes hold several entries.
        let fills = if self.rng.chance(15) { 12 } else { self.rng.range(0, 2) };
        for _ in 0..fills {
            let (records, padding) = (1 + self.rng.range(0, 3) as i32, self.rng.range(0, 3) as usize * 2500);
            self.clients[client].fill(records, padding);
        }
        if self.clients[client].sent_to != Some(segment) {
            self.clients[client].sent_to = Some(segment);
            self.clients[client].sent = 0;
        }
        let node = open.leader().node.0 as usize - 1;
        while self.clients[client].sent < self.clients[client].window.len() {
            let index = self.clients[client].sent;
            self.clients[client].sent += 1;
            self.clients[client].sent_at_ms = self.now_ms;
            if self.clients[client].window[index].acked.is_some() || !self.nodes[node].is_up {
                continue;
            }
            let request = self.clients[client].request(index, segment);
            let token = self.next_token;
            self.next_token += 1;
            self.attempts += 1;
            let number = self.clients[client].window[index].number;
            self.nodes[node].appends.insert(token, (client, number, self.attempts));
            let way = (100 + client, node);
            let earliest = self.ways.get(&way).copied().unwrap_or(0);
            let at = (self.now_ms + self.rng.range(0, self.net_ms)).max(earliest);
            self.ways.insert(way, at);
            let life = self.nodes[node].life;
            // Now and then a disk or a memory is full for a moment.
            let no_room = self
                .attempts
                .is_multiple_of(61)
                .then(|| Box::new(Refusal { code: types::ErrorCode::Overloaded, message: "no room just now".into() }));
            let input = Input::Append { token, request: Box::new(request), no_room };
            self.at(at - self.now_ms, Event::ToNode { node, life, input });
        }
    }

    /// A producer that was replaced sends its last batch once more, in its old epoch. Nobody waits for the answer;
    /// the oracle sees to it that the batch is in the log once.
    fn send_stale(&mut self, client: usize) {
        let Some(open) = self.record.open().cloned() else { return };
        let node = open.leader().node.0 as usize - 1;
        if let Some(request) = self.clients[client].stale(open.id(PARTITION)).filter(|_| self.nodes[node].is_up) {
            let token = self.next_token;
            self.next_token += 1;
            let life = self.nodes[node].life;
            let input = Input::Append { token, request: Box::new(request), no_room: None };
            self.at(1, Event::ToNode { node, life, input });
        }
    }

    /// Readers look at whatever each node would show them.
    fn read(&mut self) {
        for node in 0..self.nodes.len() {
            if !self.nodes[node].is_up {
                continue;
            }
            let (life, disk) = (self.nodes[node].life, self.nodes[node].disk.incarnation);
            let shown: Vec<_> = self.nodes[node]
                .core
                .replica()
                .segments()
                .filter_map(|segment| {
                    let nonce = segment.open.segment.nonce;
                    let is_listed = self.record.chain.iter().any(|listed| listed.nonce == nonce);
                    let visible = self.nodes[node].core.visible(nonce)?;
                    is_listed.then_some((nonce, visible, segment.sealed.is_none()))
                })
                .collect();
            for (nonce, visible, is_open) in shown {
                self.oracle.shown(NodeId(node as u32 + 1), life, disk, nonce, visible, is_open);
            }
        }
        let after = 5 + self.rng.range(0, 40);
        self.at(after, Event::Read);
    }
}
