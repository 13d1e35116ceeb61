//! Failover of one partition: fence, decide, carry, open, compare-and-swap.
//!
//! One [`Failover`] is one attempt by one placement process, begun from a partition record read at a revision.
//! Any number may run at once, in any number of processes: at most one compare-and-swap on that revision wins,
//! and the others stop. The same machine opens the first segment of a partition that has none.
//!
//! The rules marked there with a number are those of `docs/invariants.md`.

use types::limits::{FENCE_GRACE_MS, OPEN_TIMEOUT_MS};
use types::{ErrorCode, NodeId, Nonce, Offset, PartitionRecord, Replica, SegmentId, SegmentRecord};
use wire::frame::{FenceReply, FenceRequest, MemberState, OpenReply, OpenRequest, Refusal};

use crate::{Rule, Rules};

/// A storage node that could hold a copy, as placement sees it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub replica: Replica,
    pub az: String,
    pub address: String,
}

/// What happens to an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    Fenced {
        node: NodeId,
        result: Result<FenceReply, Refusal>,
    },
    /// The node cannot be reached: says nothing about what it holds.
    Unreachable {
        node: NodeId,
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
    },
    /// Replace the record if it still is at `revision` (`None`: whatever it is, which only a planted bug does).
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

#[derive(Debug)]
enum Stage {
    Fencing { answers: Vec<(NodeId, Option<FenceReply>)>, since_ms: u64 },
    Opening { request: Box<OpenRequest>, since_ms: u64, sealed_at: Option<Offset> },
    Swapping,
    Over,
}

/// What is decided about the segment before: where it ends and who can vouch for it.
#[derive(Debug, Clone)]
struct Decision {
    seal: Offset,
    carry_to: Offset,
    /// Members that may lead the new segment: they hold everything below `carry_to`.
    able: Vec<Replica>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Failover {
    record: PartitionRecord,
    revision: u64,
    candidates: Vec<Candidate>,
    /// Fresh nonces, one per opening; drawn by the shell.
    nonces: Vec<Nonce>,
    decision: Option<Decision>,
    /// Followers that did not answer an opening in time.
    avoid: Vec<NodeId>,
    stage: Stage,
    rules: Rules,
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
        rules: Rules,
    ) -> (Self, Vec<Effect>) {
        let stage = Stage::Fencing { answers: Vec::new(), since_ms: now_ms };
        let mut this = Self { record, revision, candidates, nonces, decision: None, avoid: Vec::new(), stage, rules };
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
            Input::Opened { nonce, result } => self.opened(now_ms, nonce, result),
            Input::Swapped { won } => self.swapped(won),
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
        let end = self.record.sealed_end();
        let able = match self.record.chain.last() {
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
        if answers.len() == 2 && answers.iter().all(|(_, reply)| reply.is_some()) {
            return self.decide(now_ms);
        }
        Vec::new()
    }

    fn tick(&mut self, now_ms: u64) -> Vec<Effect> {
        match &self.stage {
            Stage::Fencing { answers, since_ms } => {
                let is_due = now_ms.saturating_sub(*since_ms) >= FENCE_GRACE_MS;
                if is_due && answers.iter().any(|(_, reply)| reply.is_some()) {
                    return self.decide(now_ms);
                }
                if now_ms.saturating_sub(*since_ms) >= 10 * OPEN_TIMEOUT_MS {
                    let message = "neither member answered its fence".to_owned();
                    return self.finish(Err(refusal(ErrorCode::PartitionOffline, message)));
                }
                vec![Effect::Wake { after_ms: FENCE_GRACE_MS }]
            }
            Stage::Opening { request, since_ms, .. } => {
                if now_ms.saturating_sub(*since_ms) < OPEN_TIMEOUT_MS {
                    return vec![Effect::Wake { after_ms: OPEN_TIMEOUT_MS }];
                }
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
                let end = d1.min(d2);
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
        let partition = self.record.id();
        let segment =
            SegmentId { partition, generation: self.record.generation, epoch: self.record.epoch.next(), nonce };
        let request = OpenRequest {
            account: self.record.account,
            cluster: self.record.cluster,
            segment,
            base: decision.seal,
            previous: self.record.chain.last().map(|last| last.id(partition)),
            carry_to: decision.carry_to,
            leader: leader.replica,
            follower: follower.replica,
            follower_address: follower.address.clone(),
        };
        let sealed_at = self.record.open().map(|_| decision.seal);
        self.stage = Stage::Opening { request: Box::new(request.clone()), since_ms: now_ms, sealed_at };
        vec![
            Effect::Open { node: leader.replica.node, request: Box::new(request) },
            Effect::Wake { after_ms: OPEN_TIMEOUT_MS },
        ]
    }

    /// The first able leader that is alive, and a follower in another AZ: an able one before others, and one that was
    /// silent or failed before only where there is no other.
    fn choose_pair(&self, decision: &Decision) -> Option<(Candidate, Candidate)> {
        self.pair_without(decision, &self.avoid).or_else(|| self.pair_without(decision, &[]))
    }

    fn pair_without(&self, decision: &Decision, avoid: &[NodeId]) -> Option<(Candidate, Candidate)> {
        let candidate = |replica: &Replica| self.candidates.iter().find(|c| c.replica == *replica);
        let leaders = decision.able.iter().filter_map(candidate);
        for leader in leaders {
            let is_elsewhere = |c: &&Candidate| c.az != leader.az && !avoid.contains(&c.replica.node);
            let able = decision.able.iter().filter_map(candidate).find(is_elsewhere);
            if let Some(follower) = able.or_else(|| self.candidates.iter().find(is_elsewhere)) {
                return Some((leader.clone(), follower.clone()));
            }
        }
        None
    }

    fn opened(&mut self, now_ms: u64, nonce: Nonce, result: Result<OpenReply, Refusal>) -> Vec<Effect> {
        let Stage::Opening { request, sealed_at, .. } = &self.stage else { return Vec::new() };
        if request.segment.nonce != nonce {
            return Vec::new();
        }
        match result {
            Err(_) => {
                let follower = request.follower.node;
                self.try_others(follower);
                self.open(now_ms)
            }
            Ok(OpenReply { end }) => {
                if self.rules.holds(Rule::CarryTail) {
                    assert!(end >= request.carry_to, "INVARIANT (TAIL-CARRIED): the whole tail is on both disks");
                }
                let record = self.next_record(request, *sealed_at);
                self.stage = Stage::Swapping;
                let revision = self.rules.holds(Rule::CasOnRevision).then_some(self.revision);
                vec![Effect::Swap { revision, record: Box::new(record) }]
            }
        }
    }

    /// The record with the old segment sealed and the new one open.
    fn next_record(&self, request: &OpenRequest, sealed_at: Option<Offset>) -> PartitionRecord {
        let mut record = self.record.clone();
        if let Some(last) = record.chain.last_mut()
            && let Some(seal) = sealed_at
        {
            last.end = Some(seal);
        }
        // A segment that holds nothing is no part of the chain; its epoch stays used.
        record.chain.retain(|segment| segment.end != Some(segment.base));
        record.epoch = request.segment.epoch;
        record.chain.push(SegmentRecord {
            generation: request.segment.generation,
            epoch: request.segment.epoch,
            nonce: request.segment.nonce,
            base: request.base,
            end: None,
            replicas: [request.leader, request.follower],
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
