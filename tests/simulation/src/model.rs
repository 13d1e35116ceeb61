//! A bounded model check: every order of events within small bounds, over the same cores that run in production.
//!
//! The world is smaller than the simulator's, and complete: messages between nodes keep order and may be cut, calls of
//! placement come in any order or never, each fsync is an event, processes crash with any part of a write on disk, a disk is lost. What
//! must hold is looked at in every state: nothing acknowledged is lost, moved or doubled, copies do not differ, and
//! what readers see is there to stay.
//!
//! What is left out, because it adds orders and no outcomes:
//! - An answer to placement arrives at once or never: one that is later than a decision is ignored like a lost one, and
//!   the question may be late itself.
//! - Once nothing can crash any more, what is given to a journal is fsynced at once: a disk that is lost loses both alike.
//! - A record is given to the leader that it names, at once. What others do with it, seal and drop, no later step
//!   depends on; the simulator looks at that.
//! - Nothing is sent to a leader that is not active yet: it would wait there.
//! - Once no attempt is left that could change the record, nothing crashes any more: instead of a last loss, two copies of
//!   everything acknowledged are asked for as long as no disk was lost. If nobody but the record's leader leads then, one
//!   order stands for all.
//! - Nodes that hold nothing neither crash nor lose their disks.
//! - An attempt tries one pair.
//! - Questions of an attempt that is over are not asked any more.

mod shared;

use std::collections::{BTreeMap, HashSet, VecDeque};

use cores::Rules;
use cores::failover::{self, Candidate, Failover, Goal};
use cores::partition::{Effect, Input, Now, Partition};
use cores::replica::Replica as ReplicaCore;
use cores::scheduler::Place;
use types::{
    AccountId, ClusterId, Epoch, Generation, Incarnation, NodeId, Nonce, Offset, PartitionRecord, PrincipalId,
    Protocol, Replica, SessionId, TopicId, TopicPartition,
};
use wire::compression::Codec;
use wire::frame::{AppendHead, AppendRequest};
use wire::journal::JournalEntry;
use wire::records::{BatchBuilder, NewRecord};
use wire::{Batch, DedupeKey};

use self::shared::{Shared, hash};

/// How large the world is.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Attempts to fail over, each by a placement process of its own.
    pub failovers: u8,
    pub crashes: u8,
    pub disk_losses: u8,
    /// Cut connections between nodes.
    pub cuts: u8,
    /// Batches of clients, and how often each is sent.
    pub records: u8,
    pub sends: u8,
    /// Give up after so many states; a run that does was not exhaustive.
    pub states_max: usize,
}

/// What a check found.
#[derive(Debug, Clone)]
pub struct Report {
    pub states: usize,
    pub is_exhaustive: bool,
    /// The broken invariant, and the steps that lead to it.
    pub violation: Option<(String, Vec<String>)>,
}

const PARTITION: TopicPartition = TopicPartition { topic: TopicId(7), partition: 0 };
const NODES: usize = 3;
/// Of a disk that takes the place of a lost one.
const FIRST_INCARNATION: u128 = 100;
/// Timeouts that one attempt may meet.
const TICKS: u64 = 1;

#[derive(Clone, Hash)]
struct Node {
    core: Partition,
    queued: VecDeque<JournalEntry>,
    durable: Vec<JournalEntry>,
    incarnation: Incarnation,
}

/// A call of placement, or the answer to one: in any order, or never.
#[derive(Clone, Hash, PartialEq, Eq)]
enum Call {
    ToNode(usize, u64, Box<Asked>),
    ToActor(usize, failover::Input),
    Swap(usize, Option<u64>, Box<PartitionRecord>),
}

impl Call {
    fn actor(&self) -> usize {
        match self {
            Self::ToActor(actor, _) | Self::Swap(actor, ..) => *actor,
            Self::ToNode(_, token, _) => *token as usize % 16,
        }
    }
}

#[derive(Clone, Hash, PartialEq, Eq)]
enum Asked {
    Fence(wire::frame::FenceRequest),
    Open(wire::frame::OpenRequest, Option<Box<wire::DedupeSnapshot>>),
}

#[derive(Clone, Hash)]
struct State {
    nodes: Vec<Shared<Node>>,
    links: BTreeMap<(usize, usize), VecDeque<Shared<Input>>>,
    actors: Vec<Option<Shared<Failover>>>,
    ticks: Vec<u64>,
    /// Of each attempt's opening.
    nonces: Vec<Nonce>,
    calls: Vec<Shared<Call>>,
    record: Shared<PartitionRecord>,
    revision: u64,
    sends_left: Vec<u8>,
    acked: BTreeMap<Offset, u8>,
    failovers_left: u8,
    crashes_left: u8,
    losses_left: u8,
    cuts_left: u8,
    next_nonce: u128,
    next_incarnation: u128,
    /// An attempt that has read the record and done nothing else yet.
    fresh: Option<usize>,
}

#[derive(Clone, Debug)]
enum Action {
    Fsync(usize),
    Deliver(usize, usize),
    Call(usize),
    LoseAnswer(usize),
    Send(u8, usize),
    StartFailover,
    Tick(usize),
    /// What the journal still owes is lost, but for its first entries.
    Crash(usize, usize),
    LoseDisk(usize),
    Cut(usize, usize),
}

fn id(node: usize) -> NodeId {
    NodeId(node as u32 + 1)
}

fn batch(record: u8) -> Batch {
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord { key: None, value: Some(&[b'a' + record]), timestamp: 1, headers: &[] });
    builder.finish(Codec::None).expect("a batch")
}

struct Checker {
    rules: Rules,
    may_lose: bool,
    sends: u8,
    batches: Vec<Batch>,
    violation: Option<String>,
}

impl Checker {
    fn start(&mut self, bounds: Bounds) -> State {
        let nodes = (0..NODES).map(|index| {
            let incarnation = Incarnation(index as u128 + 1);
            let me = Replica { node: id(index), incarnation };
            Node {
                core: Partition::new(PARTITION, me, self.rules),
                queued: VecDeque::new(),
                durable: Vec::new(),
                incarnation,
            }
        });
        let mut state = State {
            nodes: nodes.map(Shared::new).collect(),
            links: BTreeMap::new(),
            actors: Vec::new(),
            ticks: Vec::new(),
            nonces: Vec::new(),
            calls: Vec::new(),
            record: Shared::new(PartitionRecord {
                account: AccountId(1),
                cluster: ClusterId(1),
                topic: PARTITION.topic,
                partition: PARTITION.partition,
                generation: Generation(1),
                epoch: Epoch(0),
                log_start: 0,
                gaps: Vec::new(),
                chain: Vec::new(),
                version: 1,
            }),
            revision: 1,
            sends_left: vec![0; bounds.records as usize],
            acked: BTreeMap::new(),
            failovers_left: 1,
            crashes_left: 0,
            losses_left: 0,
            cuts_left: 0,
            next_nonce: 1,
            next_incarnation: FIRST_INCARNATION,
            fresh: None,
        };
        // The first segment is open on nodes 1 and 2 before anything can go wrong.
        self.apply(&mut state, &Action::StartFailover);
        while let Some(action) = self.actions(&state).into_iter().find(|action| !matches!(action, Action::Tick(_))) {
            self.apply(&mut state, &action);
        }
        assert!(state.nodes.iter().any(|node| node.core.leader().is_some_and(|leader| leader.is_active())));
        state.actors.clear();
        state.ticks.clear();
        state.nonces.clear();
        state.sends_left = vec![bounds.sends; bounds.records as usize];
        state.failovers_left = bounds.failovers;
        state.crashes_left = bounds.crashes;
        state.losses_left = bounds.disk_losses;
        state.cuts_left = bounds.cuts;
        state
    }

    fn actions(&self, state: &State) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(index) = state.calls.iter().position(|call| matches!(**call, Call::ToActor(..))) {
            actions.push(Action::Call(index));
            // An opening whose answer is lost is one whose compare-and-swap never comes.
            let is_fence = matches!(*state.calls[index], Call::ToActor(_, failover::Input::Fenced { .. }));
            if is_fence && self.may_lose {
                actions.push(Action::LoseAnswer(index));
            }
            return actions;
        }
        if let Some(fresh) = state.fresh {
            // It matters what it read: the next step is its own, or changes the record.
            let matters = |index: &usize| {
                let call = &state.calls[*index];
                call.actor() == fresh || matches!(**call, Call::Swap(..))
            };
            return (0..state.calls.len()).filter(matters).map(Action::Call).collect();
        }
        actions.extend((0..NODES).filter(|node| !state.nodes[*node].queued.is_empty()).map(Action::Fsync));
        actions.extend(
            state.links.iter().filter(|(_, queue)| !queue.is_empty()).map(|((a, b), _)| Action::Deliver(*a, *b)),
        );
        let is_decided = state.failovers_left == 0 && state.actors.iter().all(Option::is_none);
        if is_decided && !actions.is_empty() && self.is_alone(state) {
            // One leader, its follower, and nobody who could come between: any order ends in the same state.
            actions.truncate(1);
            return actions;
        }
        actions.extend((0..state.calls.len()).map(Action::Call));
        let live = state.actors.iter().enumerate().filter_map(|(index, actor)| Some((index, actor.as_ref()?)));
        actions.extend(
            live.filter(|(index, actor)| self.is_patience_over(state, *index, actor))
                .map(|(index, _)| Action::Tick(index)),
        );
        // Batches are alike: the first is sent first.
        let next = state.sends_left.iter().position(|left| *left > 0);
        let again = |record: &usize| state.sends_left[*record] < self.sends && state.sends_left[*record] > 0;
        let records = next.into_iter().chain((0..state.sends_left.len()).filter(again).filter(|r| Some(*r) != next));
        for record in records {
            let leads = |node: &usize| state.nodes[*node].core.leader().is_some_and(|leader| leader.is_active());
            actions.extend((0..NODES).filter(leads).map(|node| Action::Send(record as u8, node)));
        }
        if is_decided {
            // No record will change any more: what a crash or a loss could still do is looked at as the number of copies.
            return actions;
        }
        if state.failovers_left > 0 {
            actions.push(Action::StartFailover);
        }
        let holds = |node: &usize| !state.nodes[*node].durable.is_empty() || !state.nodes[*node].queued.is_empty();
        if state.crashes_left > 0 {
            let kept = |node: usize| (0..=state.nodes[node].queued.len()).map(move |kept| Action::Crash(node, kept));
            actions.extend((0..NODES).filter(holds).flat_map(kept));
        }
        if state.losses_left > 0 {
            actions.extend((0..NODES).filter(holds).map(Action::LoseDisk));
        }
        if state.cuts_left > 0 {
            actions.extend([(0, 1), (0, 2), (1, 2)].map(|(a, b)| Action::Cut(a, b)));
        }
        actions
    }

    /// The only leader is the record's.
    fn is_alone(&self, state: &State) -> bool {
        let open = state.record.open().map(|open| open.nonce);
        let leaders = state.nodes.iter().filter_map(|node| node.core.leader());
        leaders.map(|leader| Some(leader.segment().nonce)).all(|nonce| nonce == open)
    }

    /// A timeout would make an attempt go on. One that would only end it is as good as an attempt that sleeps for ever.
    fn is_patience_over(&self, state: &State, index: usize, actor: &Shared<Failover>) -> bool {
        if state.ticks[index] >= TICKS {
            return false;
        }
        let effects = Failover::clone(actor).step((state.ticks[index] + 1) * 1_000, failover::Input::Tick);
        effects.iter().any(|effect| !matches!(effect, failover::Effect::Wake { .. } | failover::Effect::Done(_)))
    }

    fn apply(&mut self, state: &mut State, action: &Action) {
        state.fresh = None;
        match action {
            Action::Fsync(node) => self.fsync(state, *node),
            Action::Deliver(from, to) => {
                if let Some(input) = state.links.get_mut(&(*from, *to)).and_then(VecDeque::pop_front) {
                    self.step(state, *to, input.take());
                }
            }
            Action::Call(index) => {
                let call = state.calls.remove(*index).take();
                self.call(state, call);
            }
            Action::LoseAnswer(index) => drop(state.calls.remove(*index)),
            Action::Send(record, node) => self.send(state, *record, *node),
            Action::StartFailover => {
                state.failovers_left -= 1;
                let nonces = vec![Nonce(state.next_nonce)];
                state.nonces.push(Nonce(state.next_nonce));
                state.next_nonce += 1;
                let candidates = (0..NODES).map(|node| Candidate {
                    replica: Replica { node: id(node), incarnation: state.nodes[node].incarnation },
                    az: format!("az-{node}"),
                    address: String::new(),
                    is_draining: false,
                    place: Place { index: 0, count: 1 },
                });
                let (failover, effects) = Failover::begin(
                    0,
                    state.record.clone().take(),
                    state.revision,
                    candidates.collect(),
                    nonces,
                    Goal::Open,
                    self.rules,
                );
                state.actors.push(Some(Shared::new(failover)));
                state.ticks.push(0);
                let actor = state.actors.len() - 1;
                state.fresh = Some(actor);
                self.act(state, actor, effects);
            }
            Action::Tick(actor) => {
                state.ticks[*actor] += 1;
                let now_ms = state.ticks[*actor] * 1_000;
                self.step_actor(state, *actor, now_ms, failover::Input::Tick);
            }
            Action::Crash(node, kept) => {
                state.crashes_left -= 1;
                let at = state.nodes[*node].edit();
                at.durable.extend(at.queued.drain(..*kept));
                self.restart(state, *node);
            }
            Action::LoseDisk(node) => {
                state.losses_left -= 1;
                let at = state.nodes[*node].edit();
                at.durable.clear();
                at.incarnation = Incarnation(state.next_incarnation);
                state.next_incarnation += 1;
                self.restart(state, *node);
            }
            Action::Cut(a, b) => {
                state.cuts_left -= 1;
                self.reconnect(state, *a, *b);
            }
        }
        self.activate(state);
        self.forget(state);
        if state.crashes_left == 0 {
            while let Some(node) = (0..NODES).find(|node| !state.nodes[*node].queued.is_empty()) {
                self.fsync(state, node);
            }
        }
    }

    /// What nothing can depend on any more is as good as gone.
    fn forget(&self, state: &mut State) {
        for ((_, to), queue) in &mut state.links {
            // Nobody leads the same segment twice.
            let led = state.nodes[*to].core.leader().map(|leader| leader.segment());
            queue.retain(|input| match &**input {
                Input::PeerReply { reply, .. } => Some(reply.segment()) == led,
                _ => true,
            });
        }
        state.links.retain(|_, queue| !queue.is_empty());
        for index in 0..state.actors.len() {
            let Some(actor) = &state.actors[index] else { continue };
            let is_asked = state.calls.iter().any(|call| call.actor() == index);
            // Its fence waits for an fsync, or its opening for both.
            let is_awaited = |node: &Shared<Node>| {
                let opening = node.core.leader().filter(|leader| !leader.is_active());
                let is_opening = opening.is_some_and(|leader| leader.segment().nonce == state.nonces[index]);
                is_opening || !node.queued.is_empty()
            };
            if !is_asked && !state.nodes.iter().any(is_awaited) && !self.is_patience_over(state, index, actor) {
                state.actors[index] = None;
            }
        }
    }

    /// A leader that the record names hears of it at once: later is as if nobody had sent it anything yet.
    fn activate(&mut self, state: &mut State) {
        let open = state.record.open().map(|open| open.nonce);
        let waits = |node: &usize| {
            let leader = state.nodes[*node].core.leader().filter(|leader| !leader.is_active());
            leader.is_some_and(|leader| Some(leader.segment().nonce) == open)
        };
        if let Some(node) = (0..NODES).find(waits) {
            let record = Box::new(PartitionRecord::clone(&state.record));
            self.step(state, node, Input::Record(record));
        }
    }

    fn fsync(&mut self, state: &mut State, node: usize) {
        let at = state.nodes[node].edit();
        let count = at.queued.len();
        at.durable.extend(at.queued.drain(..));
        (0..count).for_each(|_| self.step(state, node, Input::JournalDurable));
    }

    fn restart(&mut self, state: &mut State, node: usize) {
        let mut replica = ReplicaCore::new(PARTITION, self.rules);
        state.nodes[node].durable.iter().for_each(|entry| replica.replay(entry));
        let me = Replica { node: id(node), incarnation: state.nodes[node].incarnation };
        let at = state.nodes[node].edit();
        at.core = Partition::recovered(replica, me, self.rules);
        at.queued.clear();
        // Whoever waits for an answer of the earlier process waits in vain.
        state.calls.retain(|call| !matches!(**call, Call::ToNode(to, ..) if to == node));
        for other in (0..NODES).filter(|other| *other != node) {
            self.reconnect(state, node, other);
        }
    }

    fn reconnect(&mut self, state: &mut State, a: usize, b: usize) {
        state.links.remove(&(a, b));
        state.links.remove(&(b, a));
        for (at, peer) in [(a, b), (b, a)] {
            self.step(state, at, Input::PeerDown { node: id(peer) });
            self.step(state, at, Input::PeerUp { node: id(peer) });
        }
    }

    fn send(&mut self, state: &mut State, record: u8, node: usize) {
        state.sends_left[record as usize] -= 1;
        let Some(segment) = state.nodes[node].core.leader().map(|leader| leader.segment()) else { return };
        let head = AppendHead {
            account: AccountId(1),
            cluster: ClusterId(1),
            segment,
            principal: PrincipalId(0),
            protocol: Protocol::Kafka,
            dedupe: DedupeKey::Session { session: SessionId(u128::from(record) + 1), number: 0, floor: 0 },
            encryption_key: 0,
            log_append_time: false,
        };
        let request = Box::new(AppendRequest { head, batch: self.batches[record as usize].clone() });
        self.step(state, node, Input::Append { token: 1_000 + u64::from(record), request, no_room: None });
    }

    fn step(&mut self, state: &mut State, node: usize, input: Input) {
        let effects = state.nodes[node].edit().core.step(Now::default(), input);
        for effect in effects {
            match effect {
                Effect::Journal(entry) => state.nodes[node].edit().queued.push_back(entry),
                Effect::Send { to, message } => {
                    let input = Input::Peer { from: id(node), message: Box::new(message) };
                    state.links.entry((node, to.0 as usize - 1)).or_default().push_back(Shared::new(input));
                }
                Effect::Reply { to, reply } => {
                    let input = Input::PeerReply { from: id(node), reply };
                    state.links.entry((node, to.0 as usize - 1)).or_default().push_back(Shared::new(input));
                }
                Effect::Answer { token, result: Ok(appended) } => {
                    self.acknowledged(state, (token - 1_000) as u8, appended.base_offset);
                }
                Effect::AnswerFence { token, result } => {
                    let input = failover::Input::Fenced { node: id(node), result };
                    push(&mut state.calls, Call::ToActor(token as usize, input));
                }
                Effect::AnswerOpen { token, result } => {
                    let (actor, nonce) = (token as usize % 16, Nonce(u128::from(token / 16)));
                    push(&mut state.calls, Call::ToActor(actor, failover::Input::Opened { nonce, result }));
                }
                _ => {}
            }
        }
    }

    fn call(&mut self, state: &mut State, call: Call) {
        match call {
            Call::ToNode(node, token, asked) => match *asked {
                Asked::Fence(request) => self.step(state, node, Input::Fence { token, request }),
                Asked::Open(request, producers) => {
                    self.step(state, node, Input::Open { token, request: Box::new(request), producers });
                }
            },
            Call::ToActor(actor, input) => {
                let now_ms = state.ticks[actor] * 1_000;
                self.step_actor(state, actor, now_ms, input);
            }
            Call::Swap(actor, revision, record) => {
                let won = revision.is_none_or(|revision| revision == state.revision);
                if won {
                    state.revision += 1;
                    state.record = Shared::new(*record);
                }
                push(&mut state.calls, Call::ToActor(actor, failover::Input::Swapped { won }));
            }
        }
    }

    fn step_actor(&mut self, state: &mut State, actor: usize, now_ms: u64, input: failover::Input) {
        if let Some(failover) = &mut state.actors[actor] {
            let effects = failover.edit().step(now_ms, input);
            self.act(state, actor, effects);
        }
    }

    fn act(&mut self, state: &mut State, actor: usize, effects: Vec<failover::Effect>) {
        for effect in effects {
            match effect {
                failover::Effect::Fence { node, request } => {
                    let asked = Box::new(Asked::Fence(request));
                    push(&mut state.calls, Call::ToNode(node.0 as usize - 1, actor as u64, asked));
                }
                failover::Effect::Describe { node, request } => {
                    // What is sealed does not change: answered at once.
                    let result = state.nodes[node.0 as usize - 1].core.describe(&request).map(Box::new);
                    push(&mut state.calls, Call::ToActor(actor, failover::Input::Described { node, result }));
                }
                failover::Effect::Open { node, request, producers } => {
                    let token = actor as u64 + 16 * request.segment.nonce.0 as u64;
                    let asked = Box::new(Asked::Open(*request, producers));
                    push(&mut state.calls, Call::ToNode(node.0 as usize - 1, token, asked));
                }
                failover::Effect::Swap { revision, record } => {
                    push(&mut state.calls, Call::Swap(actor, revision, record))
                }
                failover::Effect::Wake { .. } => {}
                failover::Effect::Done(_) => {
                    state.actors[actor] = None;
                    state.calls.retain(|call| call.actor() != actor);
                }
            }
        }
    }

    fn acknowledged(&mut self, state: &mut State, record: u8, offset: Offset) {
        let before = state.acked.insert(offset, record);
        if before.is_some_and(|before| before != record) {
            self.violation.get_or_insert(format!("4 UNIQUE-OFFSET: two batches are acknowledged at {offset}"));
        }
        if state.acked.iter().any(|(other, known)| *known == record && *other != offset) {
            self.violation.get_or_insert(format!("30 EXACTLY-ONCE: batch {record} is acknowledged at two offsets"));
        }
    }

    fn hash_of(&self, record: u8) -> u32 {
        self.batches[record as usize].header().crc
    }

    /// What must hold in every state.
    fn check(&self, state: &State) -> Option<String> {
        let at = |node: usize, nonce: Nonce, offset: Offset| -> Option<u32> {
            state.nodes[node].durable.iter().find_map(|entry| match entry {
                JournalEntry::Append { meta, batch } if meta.segment.nonce == nonce && batch.base_offset == offset => {
                    Some(batch.header().crc)
                }
                _ => None,
            })
        };
        // Until a disk is lost there are two copies of what was acknowledged or seen, so that its loss is survived.
        let needed = if state.next_incarnation > FIRST_INCARNATION { 1 } else { 2 };
        let kept = |offset: Offset, hash: u32| {
            let segment = state.record.segment_of(offset)?;
            let is_there = |replica: &&Replica| {
                let node = replica.node.0 as usize - 1;
                state.nodes[node].incarnation == replica.incarnation && at(node, segment.nonce, offset) == Some(hash)
            };
            (segment.replicas.iter().filter(is_there).count() >= needed).then_some(())
        };
        for (offset, record) in &state.acked {
            if kept(*offset, self.hash_of(*record)).is_none() {
                return Some(format!(
                    "2 ACKED-KEPT: acknowledged batch {record} at {offset} has too few listed copies"
                ));
            }
        }
        for node in &state.nodes {
            for segment in node.core.replica().segments() {
                let nonce = segment.open.segment.nonce;
                let Some(visible) = node.core.visible(nonce) else { continue };
                if !state.record.chain.iter().any(|listed| listed.nonce == nonce) {
                    continue;
                }
                for entry in &node.durable {
                    let JournalEntry::Append { meta, batch } = entry else { continue };
                    if meta.segment.nonce == nonce
                        && batch.end_offset() <= visible
                        && kept(batch.base_offset, batch.header().crc).is_none()
                    {
                        return Some(format!("3 READ-STABLE: {batch:?} can be read, and is not there to stay"));
                    }
                }
            }
        }
        for (a, first) in state.nodes.iter().enumerate() {
            for entry in &first.durable {
                let JournalEntry::Append { meta, batch } = entry else { continue };
                let differs = (a + 1..NODES)
                    .filter_map(|b| at(b, meta.segment.nonce, batch.base_offset))
                    .any(|other| other != batch.header().crc);
                if differs {
                    return Some(format!("7 PREFIX: two copies differ at {}", batch.base_offset));
                }
            }
        }
        None
    }
}

/// Calls are a set: their order is nothing.
fn push(calls: &mut Vec<Shared<Call>>, call: Call) {
    let new = Shared::new(call);
    let at = calls.partition_point(|known| known.key() < new.key());
    calls.insert(at, new);
}

/// Looks at every state that can be reached within the bounds.
pub fn check(bounds: Bounds, rules: Rules) -> Report {
    let batches = (0..bounds.records).map(batch).collect();
    let mut checker = Checker { rules, may_lose: false, sends: bounds.sends, batches, violation: None };
    let first = checker.start(bounds);
    checker.may_lose = true;
    let mut seen = HashSet::from([hash(&first)]);
    let mut stack = vec![(checker.actions(&first).into_iter(), first)];
    let mut path: Vec<Action> = Vec::new();
    let mut is_exhaustive = true;
    while let Some((actions, state)) = stack.last_mut() {
        let Some(action) = actions.next() else {
            stack.pop();
            path.pop();
            continue;
        };
        let mut next = state.clone();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| checker.apply(&mut next, &action)));
        let assertion = panicked.is_err().then(|| "an assertion of the cores".to_owned());
        let violation = assertion.or_else(|| checker.violation.take()).or_else(|| checker.check(&next));
        if let Some(violation) = violation {
            path.push(action);
            let steps = path.iter().map(|action| format!("{action:?}")).collect();
            return Report { states: seen.len(), is_exhaustive: false, violation: Some((violation, steps)) };
        }
        if seen.len() >= bounds.states_max {
            is_exhaustive = false;
            break;
        }
        if seen.insert(hash(&next)) {
            path.push(action);
            stack.push((checker.actions(&next).into_iter(), next));
        }
    }
    Report { states: seen.len(), is_exhaustive, violation: None }
}
