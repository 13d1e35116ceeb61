//! Failover of one partition: fence, decide, carry, open, compare-and-swap.
//!
//! One [`Failover`] is one attempt by one placement process, begun from a partition record read at a revision.
//! Any number may run at once, in any number of processes: at most one compare-and-swap on that revision wins,
//! and the others stop. The same machine opens the first segment of a partition that has none.
//!
//! The rules marked there with a number are those of `docs/invariants.md`.

use types::limits::{FENCE_GRACE_MS, FENCE_RETRY_MS, OPEN_TIMEOUT_MS};
use types::{Epoch, ErrorCode, NodeId, Nonce, Offset, PartitionRecord, Replica, SegmentId, SegmentRecord};
use wire::DedupeSnapshot;
use wire::frame::{
    DescribeRequest, Description, FenceReply, FenceRequest, MemberState, OpenReply, OpenRequest, Refusal,
};

use crate::scheduler::{Place, are_partners};
use crate::{Rule, Rules};

/// Openings that are tried one after the other as each is refused at once.
const REFUSED_AT_ONCE: u8 = 2;

/// A storage node that could hold a copy, as placement sees it now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Candidate {
    pub replica: Replica,
    pub az: String,
    pub address: String,
    /// It is being emptied: chosen only where there is no other.
    pub is_draining: bool,
    /// Among the nodes of its zone.
    pub place: Place,
}

/// What an attempt is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Goal {
    /// Clients can append.
    Open,
    /// As [`Goal::Open`], led by this node if that is possible without carrying a tail.
    Move(NodeId),
    /// Sealed, and nothing open: metadata alone. Only if both members answer.
    Park,
}

/// What happens to an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Input {
    Fenced {
        node: NodeId,
        result: Result<FenceReply, Refusal>,
    },
    /// The node cannot be reached: says nothing about what it holds.
    Unreachable {
        node: NodeId,
    },
    /// A member described the segment before, for a leader that does not hold it.
    Described {
        node: NodeId,
        result: Result<Box<Description>, Refusal>,
    },
    /// A new pair's leader answered; `nonce` names which opening.
    Opened {
        nonce: Nonce,
        result: Result<OpenReply, Refusal>,
    },
    /// The compare-and-swap won, or the record had changed.
    Swapped {
        won: bool,
    },
    /// Nodes that nobody reaches just now, in place of those named before: chosen only where there is no other.
    Suspected {
        nodes: Vec<NodeId>,
    },
    Tick,
}

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Fence {
        node: NodeId,
        request: FenceRequest,
    },
    Open {
        node: NodeId,
        request: Box<OpenRequest>,
        producers: Option<Box<DedupeSnapshot>>,
    },
    Describe {
        node: NodeId,
        request: DescribeRequest,
    },
    /// Replace the record if it still is at `revision` (`None`: whatever it is, which only a planted bug does). The times of what
    /// changed are the shell's to add ([`crate::expiry::stamp`]).
    Swap {
        revision: Option<u64>,
        record: Box<PartitionRecord>,
    },
    /// Give [`Input::Tick`] after this many ms.
    Wake {
        after_ms: u64,
    },
    /// Over. On `Err` the record is as it was; the message says why.
    Done(Result<(), Refusal>),
}

#[derive(Debug, Clone, Hash)]
enum Stage {
    Fencing {
        answers: Vec<(NodeId, Option<FenceReply>)>,
        since_ms: u64,
        asked_ms: u64,
    },
    /// A member is asked for the producer state that the chosen leader lacks.
    Describing {
        node: NodeId,
        leader: Candidate,
        follower: Candidate,
        since_ms: u64,
    },
    Opening {
        request: Box<OpenRequest>,
        since_ms: u64,
        sealed_at: Option<Offset>,
    },
    Swapping,
    Over,
}

/// What is decided about the segment before: where it ends and who can vouch for it.
#[derive(Debug, Clone, Hash)]
struct Decision {
    seal: Offset,
    carry_to: Offset,
    /// Members that may lead the new segment: they hold everything below `carry_to`.
    able: Vec<Replica>,
}

/// See the module's text.
#[derive(Debug, Clone, Hash)]
pub struct Failover {
    record: PartitionRecord,
    revision: u64,
    candidates: Vec<Candidate>,
    /// Fresh nonces, one per opening; drawn by the shell.
    nonces: Vec<Nonce>,
    decision: Option<Decision>,
    goal: Goal,
    /// No leader that lacks the segment before: its state could not be had, or it did not open.
    only_able: bool,
    /// Followers that did not answer an opening in time.
    avoid: Vec<NodeId>,
    suspected: Vec<NodeId>,
    /// Openings that were refused since the last tick.
    refused: u8,
    stage: Stage,
    rules: Rules,
}

/// Two zones have a node that is there. Without that nothing should be fenced: what cannot go on elsewhere is read where it
/// is.
pub fn has_pair(candidates: &[Candidate], suspected: &[NodeId]) -> bool {
    let mut zones = candidates.iter().filter(|c| !suspected.contains(&c.replica.node)).map(|c| &c.az);
    zones.next().is_some_and(|first| zones.any(|az| az != first))
}

fn refusal(code: ErrorCode, message: String) -> Refusal {
    Refusal { code, message }
}

impl Failover {
    /// Begins an attempt on `record` as read at `revision`. `nonces` must be fresh; one is used per opening.
    pub fn begin(
        now_ms: u64,
        record: PartitionRecord,
        revision: u64,
        candidates: Vec<Candidate>,
        nonces: Vec<Nonce>,
        goal: Goal,
        rules: Rules,
    ) -> (Self, Vec<Effect>) {
        let stage = Stage::Fencing { answers: Vec::new(), since_ms: now_ms, asked_ms: now_ms };
        let mut this = Self {
            record,
            revision,
            candidates,
            nonces,
            decision: None,
            goal,
            only_able: false,
            avoid: Vec::new(),
            suspected: Vec::new(),
            refused: 0,
            stage,
            rules,
        };
        let effects = this.fence(now_ms);
        (this, effects)
    }

    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    pub fn step(&mut self, now_ms: u64, input: Input) -> Vec<Effect> {
        match input {
            Input::Fenced { node, result } => self.fenced(now_ms, node, result),
            Input::Unreachable { node } => self.unreachable(now_ms, node),
            Input::Described { node, result } => self.described(now_ms, node, result),
            Input::Opened { nonce, result } => self.opened(now_ms, nonce, result),
            Input::Swapped { won } => self.swapped(won),
            Input::Suspected { nodes } => {
                self.suspected = nodes;
                Vec::new()
            }
            Input::Tick => self.tick(now_ms),
        }
    }

    fn fence(&mut self, now_ms: u64) -> Vec<Effect> {
        let Some(open) = self.record.open() else {
            return self.begin_without_open_segment(now_ms);
        };
        let request = FenceRequest {
            partition: self.record.id(),
            generation: self.record.generation,
            epoch: self.record.epoch.next(),
            nonce: Some(open.nonce),
        };
        let mut effects: Vec<Effect> =
            open.replicas.iter().map(|replica| Effect::Fence { node: replica.node, request }).collect();
        effects.push(Effect::Wake { after_ms: FENCE_GRACE_MS });
        effects
    }

    /// A parked or new partition: nothing to fence or carry. Its last member, if any, knows the producers.
    fn begin_without_open_segment(&mut self, now_ms: u64) -> Vec<Effect> {
        if self.goal == Goal::Park {
            return self.finish(Ok(()));
        }
        let end = self.record.sealed_end();
        let able = match self.record.last_before_next() {
            Some(last) => last.replicas.to_vec(),
            None => self.candidates.iter().map(|candidate| candidate.replica).collect(),
        };
        self.decision = Some(Decision { seal: end, carry_to: end, able });
        self.open(now_ms)
    }

    fn fenced(&mut self, now_ms: u64, node: NodeId, result: Result<FenceReply, Refusal>) -> Vec<Effect> {
        match result {
            Err(why) if why.code == ErrorCode::Fenced => {
                // Someone is ahead of this attempt: its compare-and-swap could only lose.
                self.finish(Err(why))
            }
            Err(_) => self.unreachable(now_ms, node),
            Ok(reply) => self.answered(now_ms, node, Some(reply)),
        }
    }

    fn unreachable(&mut self, now_ms: u64, node: NodeId) -> Vec<Effect> {
        self.answered(now_ms, node, None)
    }

    fn answered(&mut self, now_ms: u64, node: NodeId, reply: Option<FenceReply>) -> Vec<Effect> {
        let Stage::Fencing { answers, .. } = &mut self.stage else { return Vec::new() };
        answers.retain(|(answered, _)| *answered != node);
        answers.push((node, reply));
        // Nothing more will come. One answer is enough: whatever its member has, it has all that was acknowledged.
        if answers.len() == 2 && answers.iter().any(|(_, reply)| reply.is_some()) {
            return self.decide(now_ms);
        }
        Vec::new()
    }

    fn tick(&mut self, now_ms: u64) -> Vec<Effect> {
        match &self.stage {
            Stage::Fencing { answers, since_ms, asked_ms } => {
                let is_due = now_ms.saturating_sub(*since_ms) >= FENCE_GRACE_MS;
                if is_due && answers.iter().any(|(_, reply)| reply.is_some()) {
                    return self.decide(now_ms);
                }
                if now_ms.saturating_sub(*since_ms) >= 10 * OPEN_TIMEOUT_MS {
                    let message = "neither member answered its fence".to_owned();
                    return self.finish(Err(refusal(ErrorCode::PartitionOffline, message)));
                }
                if answers.len() == 2 && now_ms.saturating_sub(*asked_ms) >= FENCE_RETRY_MS {
                    // Neither was there; one of them may be now.
                    self.stage = Stage::Fencing { answers: Vec::new(), since_ms: *since_ms, asked_ms: now_ms };
                    return self.fence(now_ms);
                }
                vec![Effect::Wake { after_ms: FENCE_GRACE_MS }]
            }
            Stage::Describing { since_ms, .. } => {
                if now_ms.saturating_sub(*since_ms) < OPEN_TIMEOUT_MS {
                    return vec![Effect::Wake { after_ms: OPEN_TIMEOUT_MS }];
                }
                self.only_able = true;
                self.open(now_ms)
            }
            Stage::Opening { request, since_ms, .. } => {
                if now_ms.saturating_sub(*since_ms) < OPEN_TIMEOUT_MS {
                    return vec![Effect::Wake { after_ms: OPEN_TIMEOUT_MS }];
                }
                self.refused = 0;
                self.try_others(request.follower.node);
                self.open(now_ms)
            }
            Stage::Swapping | Stage::Over => Vec::new(),
        }
    }

    /// An opening was refused, or nobody answered: the leader or its follower may be the cause. Another able member
    /// leads, if there is one, and another node follows.
    fn try_others(&mut self, follower: NodeId) {
        self.avoid.push(follower);
        self.only_able = true;
        if let Some(decision) = &mut self.decision {
            decision.able.rotate_left(1);
        }
    }

    /// What of the old segment is certain (docs/invariants.md, 2, 9 and 18).
    fn decide(&mut self, now_ms: u64) -> Vec<Effect> {
        let Stage::Fencing { answers, .. } = &self.stage else { return Vec::new() };
        let Some(open) = self.record.open() else { return Vec::new() };
        let is_incarnation_checked = self.rules.holds(Rule::IncarnationMustMatch);
        // INVARIANT (ABSENCE): only a listed incarnation's own word is a length.
        let known = |replica: &Replica| {
            let (_, reply) = answers.iter().find(|(node, _)| *node == replica.node)?;
            match reply.as_ref()? {
                FenceReply { incarnation, .. } if *incarnation != replica.incarnation && is_incarnation_checked => None,
                FenceReply { state: MemberState::Known { durable, commit, chain }, .. } => {
                    Some((*replica, *durable, *commit, *chain))
                }
                _ => None,
            }
        };
        let mut members: Vec<_> = open.replicas.iter().filter_map(known).collect();
        // A member that is shorter than what the other knows to be committed has lost something.
        let committed = members.iter().map(|(_, _, commit, _)| *commit).max().unwrap_or(0);
        members.retain(|(_, durable, _, _)| *durable >= committed);
        let keep_tail = self.rules.holds(Rule::KeepTail);
        let carry = self.rules.holds(Rule::CarryTail);
        let decision = match members[..] {
            [(a, d1, _, chain1), (_, d2, _, chain2)] if d1 == d2 && chain1 != chain2 => {
                let message = format!("the two copies differ at {d1} (`{}`)", a.node);
                return self.finish(Err(refusal(ErrorCode::PartitionOffline, message)));
            }
            [(a, d1, ..), (b, d2, ..)] => {
                let end = if self.rules.holds(Rule::SealAtShorter) { d1.min(d2) } else { d1.max(d2) };
                Decision { seal: end, carry_to: end, able: vec![a, b] }
            }
            [(a, durable, commit, _)] => Decision {
                seal: if carry || !keep_tail { commit } else { durable },
                carry_to: if keep_tail { durable } else { commit },
                able: vec![a],
            },
            _ => {
                let message = "no intact copy of the open segment answered".to_owned();
                return self.finish(Err(refusal(ErrorCode::PartitionOffline, message)));
            }
        };
        // A member that is silent now would be silent as a follower, too.
        let silent = open.replicas.iter().map(|replica| replica.node);
        let silent = silent.filter(|node| !answers.iter().any(|(other, reply)| other == node && reply.is_some()));
        let silent: Vec<NodeId> = silent.collect();
        if self.goal == Goal::Park {
            return self.park(&decision, silent.is_empty());
        }
        self.avoid.extend(silent);
        self.decision = Some(decision);
        self.open(now_ms)
    }

    /// Opens the next segment on a pair in two AZs.
    fn open(&mut self, now_ms: u64) -> Vec<Effect> {
        let Some(decision) = self.decision.clone() else { return Vec::new() };
        let Some((leader, follower)) = self.choose_pair(&decision) else {
            let message = "no pair of storage nodes in two availability zones".to_owned();
            return self.finish(Err(refusal(ErrorCode::AzUnavailable, message)));
        };
        let Some(nonce) = self.nonces.pop() else {
            let message = "no pair opened the segment in time".to_owned();
            return self.finish(Err(refusal(ErrorCode::LeaderNotAvailable, message)));
        };
        let holds_it = decision.able.contains(&leader.replica);
        let is_here = |replica: &&Replica| self.candidates.iter().any(|candidate| candidate.replica == **replica);
        let able = decision.able.iter().find(is_here);
        if let (false, Some(last), Some(able)) = (holds_it, self.record.last_before_next(), able) {
            let account = self.record.account;
            let request = DescribeRequest { account, segment: last.id(self.record.id()), end: decision.seal };
            let node = able.node;
            self.nonces.push(nonce);
            self.stage = Stage::Describing { node, leader, follower, since_ms: now_ms };
            return vec![Effect::Describe { node, request }, Effect::Wake { after_ms: OPEN_TIMEOUT_MS }];
        }
        self.open_on(now_ms, nonce, &leader, &follower, None)
    }

    fn next_epoch(&self) -> Epoch {
        if self.rules.holds(Rule::EpochRises) { self.record.epoch.next() } else { self.record.epoch.max(Epoch(1)) }
    }

    /// Seals what is open, and opens nothing.
    fn park(&mut self, decision: &Decision, has_both: bool) -> Vec<Effect> {
        let has_two = has_both && decision.carry_to <= decision.seal && decision.able.len() == 2;
        if !has_two && self.rules.holds(Rule::ParkNeedsBoth) {
            let message = "only a partition with two intact members is parked".to_owned();
            return self.finish(Err(refusal(ErrorCode::LeaderNotAvailable, message)));
        }
        let mut record = self.sealed_record(Some(decision.seal));
        // The fence took this epoch: it stays used.
        record.epoch = self.record.epoch.next();
        self.swap(record)
    }

    fn described(&mut self, now_ms: u64, node: NodeId, result: Result<Box<Description>, Refusal>) -> Vec<Effect> {
        let Stage::Describing { node: asked, leader, follower, .. } = &self.stage else { return Vec::new() };
        if *asked != node {
            return Vec::new();
        }
        let (leader, follower) = (leader.clone(), follower.clone());
        match (result, self.nonces.pop()) {
            (Ok(description), Some(nonce)) => {
                self.open_on(now_ms, nonce, &leader, &follower, Some(Box::new(description.producers)))
            }
            (_, nonce) => {
                self.nonces.extend(nonce);
                self.only_able = true;
                self.open(now_ms)
            }
        }
    }

    fn open_on(
        &mut self,
        now_ms: u64,
        nonce: Nonce,
        leader: &Candidate,
        follower: &Candidate,
        producers: Option<Box<DedupeSnapshot>>,
    ) -> Vec<Effect> {
        let Some(decision) = &self.decision else { return Vec::new() };
        let partition = self.record.id();
        let segment = SegmentId { partition, generation: self.record.generation, epoch: self.next_epoch(), nonce };
        let request = OpenRequest {
            account: self.record.account,
            cluster: self.record.cluster,
            segment,
            base: decision.seal,
            previous: self.record.last_before_next().map(|last| last.id(partition)),
            carry_to: decision.carry_to,
            leader: leader.replica,
            follower: follower.replica,
            follower_address: follower.address.clone(),
        };
        let sealed_at = self.record.open().map(|_| decision.seal);
        self.stage = Stage::Opening { request: Box::new(request.clone()), since_ms: now_ms, sealed_at };
        vec![
            Effect::Open { node: leader.replica.node, request: Box::new(request), producers },
            Effect::Wake { after_ms: OPEN_TIMEOUT_MS },
        ]
    }

    /// A leader that is alive, and a follower in another AZ: an able one before others, and one that was silent or
    /// failed before only where there is no other. Nodes that are being emptied come last.
    fn choose_pair(&self, decision: &Decision) -> Option<(Candidate, Candidate)> {
        let silent = [&self.avoid[..], &self.suspected[..]].concat();
        let is_there = |c: &&Candidate| !silent.contains(&c.replica.node);
        let wanted = match self.goal {
            Goal::Move(node) => self.candidates.iter().filter(is_there).find(|c| c.replica.node == node),
            Goal::Open | Goal::Park => None,
        };
        let candidate = |replica: &Replica| self.candidates.iter().find(|c| c.replica == *replica);
        let able: Vec<&Candidate> = decision.able.iter().filter_map(candidate).collect();
        // Only who holds the tail can carry it.
        let is_free = decision.carry_to <= decision.seal && !self.only_able && !decision.able.is_empty();
        let others = self.candidates.iter().filter(|_| is_free);
        let may_lead = |c: &&Candidate| is_free || decision.able.contains(&c.replica);
        // Who holds the tail leads even if it is suspected; whoever else it could be is there.
        let is_steady = |c: &&Candidate| !c.is_draining && (!is_free || !self.suspected.contains(&c.replica.node));
        let steady = able.iter().copied().filter(is_steady);
        let leaders = wanted.into_iter().filter(may_lead).chain(steady);
        let leaders = leaders.chain(others.filter(is_there).filter(|c| !c.is_draining)).chain(able.iter().copied());
        let leaders: Vec<&Candidate> = leaders.collect();
        let draining = self.candidates.iter().filter(|c| c.is_draining).map(|c| c.replica.node);
        let unwanted = [&silent[..], &draining.collect::<Vec<_>>()[..]].concat();
        let pair = |avoid: &[NodeId]| self.pair_of(&leaders, &able, avoid);
        pair(&unwanted).or_else(|| pair(&silent)).or_else(|| pair(&[]))
    }

    /// There is a pair whose follower was not tried in vain.
    fn has_fresh_pair(&self) -> bool {
        let pair = self.decision.as_ref().and_then(|decision| self.choose_pair(decision));
        pair.is_some_and(|(_, follower)| !self.avoid.contains(&follower.replica.node))
    }

    fn pair_of(&self, leaders: &[&Candidate], able: &[&Candidate], avoid: &[NodeId]) -> Option<(Candidate, Candidate)> {
        for leader in leaders {
            let is_apart = |c: &Candidate| c.az != leader.az || !self.rules.holds(Rule::PairInTwoZones);
            let is_elsewhere =
                |c: &&Candidate| c.replica != leader.replica && is_apart(c) && !avoid.contains(&c.replica.node);
            let able = able.iter().copied().find(|c| is_elsewhere(c));
            let partner = || self.candidates.iter().find(|c| is_elsewhere(c) && are_partners(leader.place, c.place));
            let any = || self.candidates.iter().find(is_elsewhere);
            if let Some(follower) = able.or_else(partner).or_else(any) {
                return Some(((*leader).clone(), follower.clone()));
            }
        }
        None
    }

    fn opened(&mut self, now_ms: u64, nonce: Nonce, result: Result<OpenReply, Refusal>) -> Vec<Effect> {
        let Stage::Opening { request, sealed_at, .. } = &self.stage else { return Vec::new() };
        if request.segment.nonce != nonce && self.rules.holds(Rule::AnswerNamesItsOpening) {
            return Vec::new();
        }
        match result {
            Err(why) => {
                let follower = request.follower.node;
                self.try_others(follower);
                self.refused += 1;
                let is_last = self.refused >= REFUSED_AT_ONCE || !self.has_fresh_pair();
                if why.code == ErrorCode::LeaderNotAvailable && is_last {
                    // The follower was not reached, and there is no other, or it is the leader that reaches nobody: they
                    // have until the next tick to come back.
                    return Vec::new();
                }
                self.open(now_ms)
            }
            Ok(OpenReply { end }) => {
                if self.rules.holds(Rule::CarryTail) {
                    assert!(end >= request.carry_to, "INVARIANT (TAIL-CARRIED): the whole tail is on both disks");
                }
                let record = self.next_record(request, *sealed_at);
                self.swap(record)
            }
        }
    }

    fn swap(&mut self, record: PartitionRecord) -> Vec<Effect> {
        self.stage = Stage::Swapping;
        let revision = self.rules.holds(Rule::CasOnRevision).then_some(self.revision);
        vec![Effect::Swap { revision, record: Box::new(record) }]
    }

    /// The record with the open segment sealed.
    fn sealed_record(&self, sealed_at: Option<Offset>) -> PartitionRecord {
        let mut record = self.record.clone();
        record.version += 1;
        if let Some(last) = record.chain.last_mut()
            && let Some(seal) = sealed_at
        {
            last.end = Some(seal);
            last.changed_ms = None;
        }
        // A segment that holds nothing is no part of the chain; its epoch stays used.
        record.chain.retain(|segment| segment.end != Some(segment.base));
        record
    }

    /// The record with the old segment sealed and the new one open.
    fn next_record(&self, request: &OpenRequest, sealed_at: Option<Offset>) -> PartitionRecord {
        let mut record = self.sealed_record(sealed_at);
        record.epoch = request.segment.epoch;
        record.chain.push(SegmentRecord {
            generation: request.segment.generation,
            epoch: request.segment.epoch,
            nonce: request.segment.nonce,
            base: request.base,
            end: None,
            replicas: [request.leader, request.follower],
            changed_ms: None,
        });
        record
    }

    fn swapped(&mut self, won: bool) -> Vec<Effect> {
        if won {
            self.finish(Ok(()))
        } else {
            // A lost compare-and-swap stops [mc]: what was opened is an orphan.
            self.finish(Err(refusal(ErrorCode::NotLeader, "another failover was first".to_owned())))
        }
    }

    fn finish(&mut self, result: Result<(), Refusal>) -> Vec<Effect> {
        self.stage = Stage::Over;
        vec![Effect::Done(result)]
    }
}

#[cfg(test)]
mod tests;
