//! Consumers of one group and its coordinators: the log fails over, coordinators that were deposed go on for a while,
//! consumers crash, hang, come back, and commit what is not theirs any more.
//!
//! Checked: what was acknowledged is what is read (33), no commit of an older generation replaces one of a newer (33),
//! each partition has one owner in a generation (34), a member that was never silent is not lost, and at the end everybody
//! has a share of the work.

use std::collections::BTreeMap;

use bytes::Bytes;
use cores::groups::{Coordinator, Effect, Input, Log, Settings};
use cores::partition::{Now, Token};
use types::{ErrorCode, TopicId, TopicPartition};
use wire::groups::{
    CommitOffsets, CommittedOffset, GroupRecord, GroupReply, GroupRequest, JoinGroup, Joined, MemberName, NamedBytes,
    SyncGroup,
};

use crate::rng::Rng;
use crate::{Outcome, Profile};

const GROUP: &str = "g";
const CLIENTS: usize = 4;
/// Somebody who reads offsets all the while and is no member.
const MONITOR: usize = CLIENTS;
/// Somebody who reads partitions of its own choice and commits to a group that nobody ever joins.
const LONER: usize = CLIENTS + 1;
const LONELY: &str = "lonely";
/// Fewer than consumers: some have none.
const PARTITIONS: u8 = 3;
const FAULTS_END_MS: u64 = 60_000;
const END_MS: u64 = 110_000;
const SESSION_MS: u64 = 8_000;
/// How long a consumer waits for an answer; for a new generation longer.
const TIMEOUT_MS: u64 = 2_000;
const JOIN_TIMEOUT_MS: u64 = 15_000;

#[derive(Debug)]
enum Event {
    Request { node: usize, client: usize, ask: u64, fresh: u128, request: GroupRequest },
    Reply { client: usize, ask: u64, reply: Option<GroupReply> },
    TimedOut { client: usize, ask: u64 },
    Written { node: usize, write: u64 },
    Tick { node: usize },
    Turn { client: usize },
    Look,
    FailOver,
    Elected,
    Dies { node: usize },
    Fault,
}

/// A coordinator while, and for a moment after, it leads the log.
struct Node {
    coordinator: Coordinator,
    leads: bool,
    is_up: bool,
    /// Written, not yet on two disks.
    pending: Vec<(u64, Vec<GroupRecord>)>,
    /// Where its writes are in the log.
    places: BTreeMap<u64, usize>,
    free_ms: u64,
    wake_ms: Option<u64>,
    askers: BTreeMap<Token, (usize, u64)>,
    next: Token,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Out,
    Stable,
}

#[derive(Debug)]
struct Client {
    phase: Phase,
    member: String,
    is_static: bool,
    generation: i32,
    share: Vec<u8>,
    /// The question that waits for its answer, and what it was.
    asked: Option<(u64, Asked)>,
    paused_until_ms: u64,
    is_back: bool,
    /// When a heartbeat of its was answered last.
    beat_ms: u64,
    /// Since its last share it was neither silent nor away.
    is_lively: bool,
}

#[derive(Debug, Clone)]
enum Asked {
    Join,
    Sync {
        generation: i32,
    },
    Heartbeat,
    Commit {
        attempt: usize,
    },
    Offsets {
        begun: u64,
    },
    Leave,
    LonelyCommit {
        offset: i64,
    },
    /// What is read is at least this.
    LonelyOffsets {
        least: i64,
    },
}

/// One consumer's try to commit one offset; no two are of the same offset.
#[derive(Debug)]
struct Attempt {
    client: usize,
    partition: u8,
    generation: i32,
    begun: u64,
    acked: Option<u64>,
    is_refused: bool,
}

struct World {
    rng: Rng,
    profile: Profile,
    now_ms: u64,
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
    log: Vec<GroupRecord>,
    /// What stands before is gone.
    log_start: usize,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    attempts: Vec<Attempt>,
    owners: BTreeMap<(i32, u8), usize>,
    /// Of the loner: the offset that was tried last, and the last one that was acknowledged.
    lonely: (i64, i64),
    asks: u64,
    faults: u64,
    violation: Option<String>,
    trace: Hashed,
}

/// A running hash (FNV-1a) of all that happened.
struct Hashed(u64);

impl Hashed {
    fn add(&mut self, text: &str) {
        self.0 = text.bytes().fold(self.0, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    }
}

pub fn run(seed: u64, profile: Profile) -> Outcome {
    let mut world = World::new(seed, profile);
    while let Some(((at_ms, _), event)) = world.events.pop_first() {
        world.now_ms = at_ms;
        if at_ms > END_MS || world.violation.is_some() {
            break;
        }
        let text = format!("{at_ms:>7} {event:?}");
        world.trace.add(&text);
        if profile.is_verbose {
            println!("{text}");
        }
        world.count += 1;
        world.handle(event);
    }
    if world.violation.is_none() {
        world.check_end();
    }
    let acked = world.attempts.iter().filter(|attempt| attempt.acked.is_some()).count();
    let Hashed(trace_hash) = world.trace;
    Outcome { violation: world.violation, trace_hash, acked, faults: world.faults, events: world.count }
}

fn partition(number: u8) -> TopicPartition {
    TopicPartition { topic: TopicId(1), partition: i32::from(number) }
}

impl World {
    fn new(seed: u64, profile: Profile) -> Self {
        let client = |number: usize| Client {
            phase: Phase::Out,
            member: String::new(),
            is_static: number == 0,
            generation: -1,
            share: Vec::new(),
            asked: None,
            paused_until_ms: 0,
            is_back: false,
            beat_ms: 0,
            is_lively: false,
        };
        let mut world = Self {
            rng: Rng::new(seed),
            profile,
            now_ms: 0,
            events: BTreeMap::new(),
            count: 0,
            log: Vec::new(),
            log_start: 0,
            nodes: Vec::new(),
            clients: (0..=LONER).map(client).collect(),
            attempts: Vec::new(),
            owners: BTreeMap::new(),
            lonely: (0, 0),
            asks: 0,
            faults: 0,
            violation: None,
            trace: Hashed(0xcbf2_9ce4_8422_2325),
        };
        world.at(0, Event::Elected);
        for client in 0..CLIENTS {
            let after = world.rng.range(0, 3_000);
            world.at(after, Event::Turn { client });
        }
        world.at(2_000, Event::Fault);
        world.at(100, Event::Look);
        world
    }

    fn at(&mut self, after_ms: u64, event: Event) {
        self.count += 1;
        self.events.insert((self.now_ms + after_ms, self.count), event);
    }

    fn now(&self) -> Now {
        Now { monotonic_ms: self.now_ms, wall_ms: 1_700_000_000_000 + self.now_ms as i64 }
    }

    fn fail(&mut self, what: String) {
        self.violation.get_or_insert(format!("at {} ms: {what}", self.now_ms));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Request { node, client, ask, fresh, request } => {
                if !self.nodes[node].is_up {
                    let after = self.rng.range(1, 20);
                    return self.at(after, Event::Reply { client, ask, reply: None });
                }
                let token = self.nodes[node].next;
                self.nodes[node].next += 1;
                self.nodes[node].askers.insert(token, (client, ask));
                self.step(node, Input::Ask { token, fresh, request });
            }
            Event::Reply { client, ask, reply } => self.replied(client, ask, reply),
            Event::TimedOut { client, ask } => self.replied(client, ask, None),
            Event::Written { node, write } => {
                // Fenced: nothing of a deposed leader is ever on two disks.
                if self.nodes[node].leads && self.nodes[node].pending.first().is_some_and(|(first, _)| *first == write)
                {
                    let (_, records) = self.nodes[node].pending.remove(0);
                    self.nodes[node].places.insert(write, self.log.len());
                    self.log.extend(records);
                    self.step(node, Input::Written { write });
                }
            }
            Event::Tick { node } if self.nodes[node].is_up => {
                self.nodes[node].wake_ms = None;
                self.step(node, Input::Tick);
            }
            Event::Tick { .. } => {}
            Event::Turn { client } => self.turn(client),
            Event::Look => {
                let after = self.rng.range(50, 150);
                self.at(after, Event::Look);
                if self.clients[MONITOR].asked.is_none() {
                    let begun = self.count;
                    self.ask(MONITOR, Asked::Offsets { begun }, GroupRequest::Offsets { group: GROUP.into() });
                }
                self.look_lonely();
            }
            Event::FailOver => self.fail_over(),
            Event::Elected => self.elected(),
            Event::Dies { node } => {
                self.nodes[node].is_up = false;
                for (_, (client, ask)) in std::mem::take(&mut self.nodes[node].askers) {
                    self.at(5, Event::Reply { client, ask, reply: None });
                }
            }
            Event::Fault => self.fault(),
        }
    }

    fn step(&mut self, node: usize, input: Input) {
        let now = self.now();
        for effect in self.nodes[node].coordinator.step(now, input) {
            self.carry_out(node, effect);
        }
    }

    fn carry_out(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::Write { write, records } => {
                let took = self.rng.range(1, 30);
                let at_ms = self.nodes[node].free_ms.max(self.now_ms) + took;
                self.nodes[node].free_ms = at_ms;
                self.nodes[node].pending.push((write, records));
                self.at(at_ms - self.now_ms, Event::Written { node, write });
            }
            Effect::Answer { token, reply } => {
                if let Some((client, ask)) = self.nodes[node].askers.remove(&token) {
                    let after = self.rng.range(1, 30);
                    // Some are lost on the way.
                    let reply = (!self.rng.chance(2)).then_some(reply);
                    self.at(after, Event::Reply { client, ask, reply });
                }
            }
            Effect::Wake { at_ms } if self.nodes[node].wake_ms.is_none_or(|known| at_ms < known) => {
                self.nodes[node].wake_ms = Some(at_ms);
                self.at(at_ms.saturating_sub(self.now_ms), Event::Tick { node });
            }
            Effect::Wake { .. } => {}
            Effect::Forget { before } => {
                // One that is not in the log yet would be next.
                let at = self.nodes[node].places.get(&before).copied().unwrap_or(self.log.len());
                self.log_start = self.log_start.max(at);
            }
        }
    }

    fn fail_over(&mut self) {
        let Some(node) = self.nodes.iter().position(|node| node.leads) else { return };
        self.faults += 1;
        self.nodes[node].leads = false;
        // What was in flight: some of it is on the survivor's disk and is carried, and nobody was told.
        let pending = std::mem::take(&mut self.nodes[node].pending);
        let records: Vec<GroupRecord> = pending.into_iter().flat_map(|(_, records)| records).collect();
        let kept = self.rng.range(0, records.len() as u64 + 1) as usize;
        self.log.extend(records.into_iter().take(kept));
        let lingers = if self.rng.chance(50) { 0 } else { self.rng.range(0, 3_000) };
        self.at(lingers, Event::Dies { node });
        let after = self.rng.range(20, 1_000);
        self.at(after, Event::Elected);
    }

    fn elected(&mut self) {
        let mut log = Log::default();
        self.log.iter().skip(self.log_start).for_each(|record| log.apply(record.clone()));
        let settings = Settings { initial_delay_ms: 0, snapshot_entries: 60 };
        let (coordinator, effects) = Coordinator::load(self.now(), log, settings, self.profile.rules);
        self.nodes.push(Node {
            coordinator,
            leads: true,
            is_up: true,
            pending: Vec::new(),
            places: BTreeMap::new(),
            free_ms: self.now_ms,
            wake_ms: None,
            askers: BTreeMap::new(),
            next: 1,
        });
        let node = self.nodes.len() - 1;
        effects.into_iter().for_each(|effect| self.carry_out(node, effect));
    }

    fn fault(&mut self) {
        if self.now_ms > FAULTS_END_MS {
            return;
        }
        let after = self.rng.range(500, 4_000);
        self.at(after, Event::Fault);
        let client = self.rng.range(0, CLIENTS as u64) as usize;
        match self.rng.range(0, 10) {
            0..=4 => self.at(0, Event::FailOver),
            5..=6 => {
                // Hangs, for longer than its session perhaps, and goes on as if nothing were.
                self.faults += 1;
                self.clients[client].paused_until_ms = self.now_ms + self.rng.range(500, 2 * SESSION_MS);
                self.clients[client].is_lively = false;
                self.clients[client].is_back = true;
            }
            7..=8 => {
                self.faults += 1;
                self.forget(client);
            }
            _ => {
                if self.clients[client].phase == Phase::Stable && self.clients[client].asked.is_none() {
                    let name = self.name(client);
                    // Whether or not it hears that it has left.
                    self.clients[client].is_lively = false;
                    self.ask(client, Asked::Leave, GroupRequest::Leave { group: GROUP.into(), names: vec![name] });
                }
            }
        }
    }

    /// The process ends; another begins in its place.
    fn forget(&mut self, client: usize) {
        let client = &mut self.clients[client];
        (client.phase, client.asked, client.is_lively) = (Phase::Out, None, false);
        client.member.clear();
        client.share.clear();
    }

    fn name(&self, client: usize) -> MemberName {
        let instance = self.clients[client].is_static.then(|| format!("i{client}"));
        MemberName { member: self.clients[client].member.clone(), instance }
    }

    fn ask(&mut self, client: usize, asked: Asked, request: GroupRequest) {
        self.asks += 1;
        let (ask, is_join) = (self.asks, matches!(asked, Asked::Join));
        self.clients[client].asked = Some((ask, asked));
        self.at(if is_join { JOIN_TIMEOUT_MS } else { TIMEOUT_MS }, Event::TimedOut { client, ask });
        let last = self.nodes.len().checked_sub(1);
        // Its gateway may not have heard of the newest leader.
        let node = last.map(|last| if self.rng.chance(20) { last.saturating_sub(1) } else { last });
        let fresh = self.rng.wide();
        let after = self.rng.range(1, 30);
        match node {
            Some(node) => self.at(after, Event::Request { node, client, ask, fresh, request }),
            None => self.at(after, Event::Reply { client, ask, reply: None }),
        }
    }

    fn turn(&mut self, client: usize) {
        let after = self.rng.range(200, 900);
        self.at(after, Event::Turn { client });
        if self.clients[client].asked.is_some() || self.clients[client].paused_until_ms > self.now_ms {
            return;
        }
        if self.clients[client].phase == Phase::Out {
            return self.join(client);
        }
        let (generation, name) = (self.clients[client].generation, self.name(client));
        // Heartbeats alone tell of a rebalance: no consumer does without.
        let is_due = self.clients[client].beat_ms + 1_000 < self.now_ms;
        // Who hung goes on where it was, which may be another's by now.
        let is_back = std::mem::take(&mut self.clients[client].is_back);
        let has_work = !self.clients[client].share.is_empty();
        match if is_back { 0 } else { self.rng.range(0, 10) } {
            _ if is_due && !(is_back && has_work) => {
                let beat = GroupRequest::Heartbeat { group: GROUP.into(), name, generation };
                self.ask(client, Asked::Heartbeat, beat);
            }
            0..=3 if has_work => {
                let share = &self.clients[client].share;
                let number = share[self.rng.range(0, share.len() as u64) as usize];
                let attempt = self.attempts.len();
                let begun = self.count;
                self.attempts.push(Attempt {
                    client,
                    partition: number,
                    generation,
                    begun,
                    acked: None,
                    is_refused: false,
                });
                let offset = CommittedOffset {
                    partition: partition(number),
                    offset: attempt as i64,
                    leader_epoch: -1,
                    metadata: String::new(),
                    at_ms: self.now().wall_ms,
                };
                let commit = CommitOffsets { group: GROUP.into(), name, generation, offsets: vec![offset] };
                self.ask(client, Asked::Commit { attempt }, GroupRequest::Commit { commit: Box::new(commit) });
            }
            4..=5 => {
                let begun = self.count;
                self.ask(client, Asked::Offsets { begun }, GroupRequest::Offsets { group: GROUP.into() });
            }
            _ => {}
        }
    }

    /// Offsets of a group without members are kept like all others.
    fn look_lonely(&mut self) {
        if self.clients[LONER].asked.is_some() {
            return;
        }
        let (tried, least) = self.lonely;
        if self.rng.chance(50) {
            return self.ask(LONER, Asked::LonelyOffsets { least }, GroupRequest::Offsets { group: LONELY.into() });
        }
        self.lonely.0 = tried + 1;
        let offset = CommittedOffset {
            partition: partition(0),
            offset: tried + 1,
            leader_epoch: -1,
            metadata: String::new(),
            at_ms: self.now().wall_ms,
        };
        let name = MemberName { member: String::new(), instance: None };
        let commit = CommitOffsets { group: LONELY.into(), name, generation: -1, offsets: vec![offset] };
        let request = GroupRequest::Commit { commit: Box::new(commit) };
        self.ask(LONER, Asked::LonelyCommit { offset: tried + 1 }, request);
    }

    fn join(&mut self, client: usize) {
        let join = JoinGroup {
            group: GROUP.into(),
            name: self.name(client),
            client_id: format!("c{client}"),
            client_host: String::new(),
            session_timeout_ms: SESSION_MS as i32,
            rebalance_timeout_ms: 10_000,
            protocol_type: "test".into(),
            protocols: vec![NamedBytes { name: "p".into(), bytes: Bytes::new() }],
            needs_known_id: self.rng.chance(50),
            may_skip_assignment: self.rng.chance(50),
        };
        self.ask(client, Asked::Join, GroupRequest::Join { join: Box::new(join) });
    }

    fn replied(&mut self, client: usize, ask: u64, reply: Option<GroupReply>) {
        let paused_ms = self.clients[client].paused_until_ms.saturating_sub(self.now_ms);
        if paused_ms > 0 {
            return self.at(paused_ms, Event::Reply { client, ask, reply });
        }
        let Some((_, asked)) = self.clients[client].asked.take_if(|(known, _)| *known == ask) else { return };
        match (asked, reply) {
            (_, Some(GroupReply::Refused { code: ErrorCode::NotCoordinator })) => {}
            (Asked::Join, Some(GroupReply::MemberId { member })) => {
                self.clients[client].member = member;
                self.join(client);
            }
            (Asked::Join, Some(GroupReply::Joined { joined })) => self.joined(client, *joined),
            (Asked::Sync { generation }, Some(GroupReply::Synced { synced })) => {
                self.synced(client, generation, &synced.assignment);
            }
            (Asked::Commit { attempt }, Some(GroupReply::Done {})) => self.acked(attempt),
            (Asked::Offsets { begun }, Some(GroupReply::Offsets { offsets })) => self.read(begun, &offsets),
            (Asked::Leave, Some(GroupReply::Left { .. })) => self.forget(client),
            (Asked::LonelyCommit { offset }, Some(GroupReply::Done {})) => self.lonely.1 = offset,
            (Asked::LonelyOffsets { least }, Some(GroupReply::Offsets { offsets })) => {
                let read = offsets.first().map_or(0, |read| read.offset);
                if read < least {
                    self.fail(format!("(33) {read} is read where {least} was committed, of a group without members"));
                }
            }
            (asked, Some(GroupReply::Refused { code })) => self.refused(client, &asked, code),
            (Asked::Heartbeat, Some(GroupReply::Done {})) => self.clients[client].beat_ms = self.now_ms,
            // Lost: a share that is not known is asked for from the beginning.
            (Asked::Sync { .. } | Asked::Join, None) => self.clients[client].phase = Phase::Out,
            (_, None) => {}
            (asked, reply) => self.fail(format!("{asked:?} was answered with {reply:?}")),
        }
    }

    fn joined(&mut self, client: usize, joined: Joined) {
        self.clients[client].member.clone_from(&joined.member);
        self.clients[client].generation = joined.generation;
        let mut assignments = Vec::new();
        if joined.leader == joined.member && !joined.skip_assignment {
            let mut ids: Vec<String> = joined.members.iter().map(|member| member.name.member.clone()).collect();
            let turn = self.rng.range(0, ids.len() as u64) as usize;
            ids.rotate_left(turn);
            let mut shares: BTreeMap<&String, Vec<u8>> = BTreeMap::new();
            for number in 0..PARTITIONS {
                shares.entry(&ids[number as usize % ids.len()]).or_default().push(number);
            }
            // Who gets nothing is not named.
            let share = |(id, share): (&String, Vec<u8>)| NamedBytes { name: id.clone(), bytes: share.into() };
            assignments = shares.into_iter().map(share).collect();
        }
        let sync = SyncGroup {
            group: GROUP.into(),
            name: self.name(client),
            generation: joined.generation,
            protocol_type: None,
            protocol: None,
            assignments,
        };
        self.ask(client, Asked::Sync { generation: joined.generation }, GroupRequest::Sync { sync: Box::new(sync) });
    }

    fn synced(&mut self, client: usize, generation: i32, share: &Bytes) {
        for number in share.iter() {
            let owner = *self.owners.entry((generation, *number)).or_insert(client);
            if owner != client {
                let what =
                    format!("(34) partition {number} has the owners {owner} and {client} in generation {generation}");
                return self.fail(what);
            }
        }
        let client = &mut self.clients[client];
        // What it asked for before it hung tells nothing of what it missed.
        let is_lively =
            client.paused_until_ms + JOIN_TIMEOUT_MS + TIMEOUT_MS < self.now_ms || client.paused_until_ms == 0;
        (client.phase, client.share, client.is_lively) = (Phase::Stable, share.to_vec(), is_lively);
    }

    fn refused(&mut self, client: usize, asked: &Asked, code: ErrorCode) {
        if let Asked::Commit { attempt } = asked {
            self.attempts[*attempt].is_refused = true;
        }
        let was_known = matches!(asked, Asked::Heartbeat | Asked::Commit { .. });
        match code {
            ErrorCode::UnknownMember if self.clients[client].is_lively && was_known => {
                self.fail(format!("a member that was never silent, {client}, is not known any more"));
            }
            ErrorCode::UnknownMember | ErrorCode::FencedInstance => self.forget(client),
            ErrorCode::IllegalGeneration | ErrorCode::RebalanceInProgress => self.clients[client].phase = Phase::Out,
            other => self.fail(format!("{asked:?} was refused with {other:?}")),
        }
    }

    fn acked(&mut self, attempt: usize) {
        let Attempt { client, partition, generation, begun, .. } = self.attempts[attempt];
        self.attempts[attempt].acked = Some(self.count);
        let is_before = |a: &&Attempt| a.partition == partition && a.acked.is_some_and(|acked| acked < begun);
        if let Some(newer) = self.attempts.iter().filter(is_before).find(|a| a.generation > generation) {
            let what = format!("(33) a commit of generation {generation} followed one of {}", newer.generation);
            return self.fail(what);
        }
        let owner = *self.owners.entry((generation, partition)).or_insert(client);
        if owner != client {
            let what =
                format!("(34) {client} committed for {owner}'s partition {partition} in generation {generation}");
            self.fail(what);
        }
    }

    /// What was asked for at `begun` is at least as new as what was acknowledged before.
    fn read(&mut self, begun: u64, offsets: &[CommittedOffset]) {
        for number in 0..PARTITIONS {
            let read = offsets.iter().find(|offset| offset.partition == partition(number)).map(|o| o.offset as usize);
            let is_sure = |a: &&Attempt| a.partition == number && a.acked.is_some_and(|acked| acked < begun);
            let mut sure = self.attempts.iter().filter(is_sure);
            let violation = match read {
                None => sure.next().map(|_| format!("(33) a commit of partition {number} is gone")),
                Some(at) => {
                    let found = &self.attempts[at];
                    let is_old = found.acked.is_some_and(|acked| sure.any(|newer| newer.begun > acked));
                    let what = if found.is_refused { "was refused" } else { "is not the newest" };
                    (found.is_refused || is_old)
                        .then(|| format!("(33) what is read of partition {number}, {at}, {what}"))
                }
            };
            if let Some(what) = violation {
                return self.fail(what);
            }
        }
    }

    /// Long after the last fault everybody is at work.
    fn check_end(&mut self) {
        let newest = self.clients.iter().map(|client| client.generation).max().unwrap_or(0);
        let mut shares: Vec<u8> = Vec::new();
        for client in &self.clients {
            if client.phase == Phase::Stable && client.generation == newest {
                shares.extend(&client.share);
            }
        }
        shares.sort_unstable();
        if shares != (0..PARTITIONS).collect::<Vec<u8>>() {
            let clients = format!("{:?}", self.clients);
            self.fail(format!("at the end the partitions {shares:?} are read: {clients}"));
        }
    }
}
