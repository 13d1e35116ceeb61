//! The coordinator of consumer groups: the leader of a coordinator log, and the groups that the log tells of.
//!
//! Contract: call [`Coordinator::step`] with one input and the time; carry out the effects in order. What changes a group
//! is a record of the log; an answer leaves only once everything that was decided before it is below the watermark, so
//! nobody sees what a failover could take back (docs/invariants.md, 33 and 34). A write that fails ends the leadership,
//! and with it this coordinator: the next one reads the log ([`Coordinator::load`]).
//!
//! The protocol is that of Kafka's classic groups (`GroupCoordinator.scala`; KIP-62, 345, 394, 429, 814).

mod group;
mod log;
mod membership;
mod offsets;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use types::ErrorCode;
use types::limits::{GROUP_NAME_BYTES_MAX, OFFSETS_EXPIRE_EVERY_MS};
use wire::groups::{GroupRecord, GroupReply, GroupRequest};

use crate::partition::{Now, Token};
use crate::{Rule, Rules};
use group::Group;
use log::{Loaded, entries};

pub use log::Log;

/// What happens to a coordinator.
#[derive(Debug, Clone)]
pub enum Input {
    /// `fresh`: 128 random bits that nobody has used before.
    Ask { token: Token, fresh: u128, request: GroupRequest },
    /// This write, and so all before it, is below the watermark.
    Written { write: u64 },
    /// A time that an [`Effect::Wake`] named has come.
    Tick,
}

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Append these to the log, in order, and give [`Input::Written`].
    Write {
        write: u64,
        records: Vec<GroupRecord>,
    },
    Answer {
        token: Token,
        reply: GroupReply,
    },
    /// Nobody needs what was written before this write any more: a snapshot begins with it.
    Forget {
        before: u64,
    },
    /// Give [`Input::Tick`] at this monotonic time.
    Wake {
        at_ms: u64,
    },
}

/// How a cluster's groups behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a new group waits for more members before its first assignment, in ms.
    pub initial_delay_ms: u64,
    /// Offsets and members that were told, after which a snapshot stands for what came before; more if that tells more.
    pub snapshot_entries: usize,
}

/// What one step decided.
#[derive(Debug, Default)]
struct Out {
    records: Vec<GroupRecord>,
    answers: Vec<(Token, GroupReply)>,
}

impl Out {
    fn answer(&mut self, token: Token, reply: GroupReply) {
        self.answers.push((token, reply));
    }

    fn refuse(&mut self, token: Token, code: ErrorCode) {
        self.answer(token, GroupReply::Refused { code });
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Coordinator {
    groups: BTreeMap<String, Group>,
    /// When each group next does something by itself; never later than that.
    timers: BTreeSet<(u64, String)>,
    expire_ms: u64,
    /// What records told since the last snapshot began.
    unfolded: usize,
    /// What it told.
    folded: usize,
    writes: u64,
    written: u64,
    /// Writes that are snapshots, on their way.
    snapshots: VecDeque<u64>,
    /// Answers with the write that they wait for.
    answers: VecDeque<(u64, Token, GroupReply)>,
    settings: Settings,
    rules: Rules,
}

impl Coordinator {
    /// From all that the log holds. Every member has a full session timeout from now on.
    pub fn load(now: Now, log: Log, settings: Settings, rules: Rules) -> (Self, Vec<Effect>) {
        let Loaded { groups, unfolded, folded } = log.finish(now, rules);
        let mut this = Self {
            groups,
            timers: BTreeSet::new(),
            expire_ms: now.monotonic_ms + OFFSETS_EXPIRE_EVERY_MS,
            unfolded,
            folded,
            writes: 0,
            written: 0,
            snapshots: VecDeque::new(),
            answers: VecDeque::new(),
            settings,
            rules,
        };
        for (name, group) in &mut this.groups {
            if let Some(at_ms) = group.next_ms() {
                group.timer_ms = Some(at_ms);
                this.timers.insert((at_ms, name.clone()));
            }
        }
        let mut effects = Vec::new();
        // Ends a snapshot that the coordinator before may have left unfinished.
        let out = Out { records: vec![GroupRecord::Barrier {}], answers: Vec::new() };
        this.carry_out(out, &mut effects);
        this.wake(&mut effects);
        (this, effects)
    }

    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut out = Out::default();
        match input {
            Input::Ask { token, fresh, request } => self.ask(now, token, fresh, request, &mut out),
            Input::Written { write } => self.written = self.written.max(write),
            Input::Tick => self.tick(now, &mut out),
        }
        let mut effects = Vec::new();
        self.carry_out(out, &mut effects);
        self.wake(&mut effects);
        effects
    }

    fn ask(&mut self, now: Now, token: Token, fresh: u128, request: GroupRequest, out: &mut Out) {
        if let GroupRequest::List {} = request {
            return out.answer(token, GroupReply::Listed { groups: self.list() });
        }
        let name = request.group().to_owned();
        if name.is_empty() || name.len() > GROUP_NAME_BYTES_MAX {
            return out.refuse(token, ErrorCode::InvalidGroup);
        }
        // A heartbeat only moves deadlines later: the timer may stay where it is, and finds nothing to do.
        let moves_timer = !matches!(request, GroupRequest::Heartbeat { .. });
        let is_deletion = matches!(request, GroupRequest::Delete { .. });
        match request {
            GroupRequest::Join { join } => self.join(now, token, fresh, *join, out),
            GroupRequest::Commit { commit } => self.commit(now, token, *commit, out),
            GroupRequest::Offsets { .. } => {
                // Another may lead the log already, and have taken newer ones: a write tells.
                if self.rules.holds(Rule::OffsetsAreReadBehindAWrite) {
                    out.records.push(GroupRecord::Barrier {});
                }
                let offsets = self.groups.get(&name).map(Group::committed).unwrap_or_default();
                out.answer(token, GroupReply::Offsets { offsets });
            }
            request => match self.groups.get_mut(&name) {
                Some(group) => group.handle(now, token, request, self.settings, self.rules, out),
                None => out.refuse(token, unknown(&request)),
            },
        }
        if moves_timer {
            self.settle(now, &name, is_deletion, out);
        }
    }

    /// After a group changed: what is left of it goes, or its timer is set.
    fn settle(&mut self, now: Now, name: &str, is_cleaning: bool, out: &mut Out) {
        let Some(group) = self.groups.get_mut(name) else { return };
        if let Some(at_ms) = group.timer_ms.take() {
            self.timers.remove(&(at_ms, name.to_owned()));
        }
        if group.is_forgettable(is_cleaning) {
            let was_logged = group.is_logged;
            self.groups.remove(name);
            if was_logged {
                out.records.push(GroupRecord::Deleted { group: name.to_owned() });
            }
            return;
        }
        if let Some(at_ms) = group.next_ms() {
            let at_ms = at_ms.max(now.monotonic_ms);
            group.timer_ms = Some(at_ms);
            self.timers.insert((at_ms, name.to_owned()));
        }
    }

    fn tick(&mut self, now: Now, out: &mut Out) {
        while let Some((at_ms, name)) = self.timers.first().cloned() {
            if at_ms > now.monotonic_ms {
                break;
            }
            self.timers.pop_first();
            if let Some(group) = self.groups.get_mut(&name) {
                group.timer_ms = None;
                group.tick(now, self.rules, out);
            }
            self.settle(now, &name, false, out);
        }
        if now.monotonic_ms >= self.expire_ms {
            self.expire_ms = now.monotonic_ms + OFFSETS_EXPIRE_EVERY_MS;
            let names: Vec<String> = self.groups.keys().cloned().collect();
            for name in names {
                if let Some(group) = self.groups.get_mut(&name) {
                    group.expire_offsets(now, out);
                }
                self.settle(now, &name, true, out);
            }
        }
    }

    fn carry_out(&mut self, out: Out, effects: &mut Vec<Effect>) {
        if !out.records.is_empty() {
            self.unfolded += entries(&out.records);
            self.writes += 1;
            effects.push(Effect::Write { write: self.writes, records: out.records });
            if self.unfolded >= self.settings.snapshot_entries.max(self.folded) {
                let records = self.snapshot();
                (self.unfolded, self.folded) = (0, entries(&records));
                self.writes += 1;
                self.snapshots.push_back(self.writes);
                effects.push(Effect::Write { write: self.writes, records });
            }
        }
        self.forget(effects);
        self.answers.extend(out.answers.into_iter().map(|(token, reply)| (self.writes, token, reply)));
        let waits = self.rules.holds(Rule::AnswersWaitForTheLog);
        while self.answers.front().is_some_and(|(write, ..)| *write <= self.written || !waits) {
            let Some((_, token, reply)) = self.answers.pop_front() else { break };
            effects.push(Effect::Answer { token, reply });
        }
    }

    /// Once a snapshot is whole in the log, what stands before it is not needed.
    fn forget(&mut self, effects: &mut Vec<Effect>) {
        let waits = self.rules.holds(Rule::SnapshotIsWholeFirst);
        let whole = self.snapshots.iter().take_while(|write| **write <= self.written || !waits).count();
        effects.extend(self.snapshots.drain(..whole).next_back().map(|before| Effect::Forget { before }));
    }

    fn wake(&self, effects: &mut Vec<Effect>) {
        let timer = self.timers.first().map(|(at_ms, _)| *at_ms);
        let expiry = (!self.groups.is_empty()).then_some(self.expire_ms);
        if let Some(at_ms) = timer.into_iter().chain(expiry).min() {
            effects.push(Effect::Wake { at_ms });
        }
    }

    /// There are groups with members: somebody uses this log.
    pub fn is_in_use(&self) -> bool {
        self.groups.values().any(Group::has_members)
    }
}

/// What is said of a group that does not exist.
fn unknown(request: &GroupRequest) -> ErrorCode {
    match request {
        GroupRequest::Describe { .. } | GroupRequest::Delete { .. } | GroupRequest::Forget { .. } => {
            ErrorCode::GroupNotFound
        }
        _ => ErrorCode::UnknownMember,
    }
}
