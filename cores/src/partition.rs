//! The owner of a partition on one node: its [`Replica`], and its leader while this node leads.
//!
//! Contract: call [`Partition::step`] with one input and the time; carry out the effects in order. After each
//! journal entry's fsync, in order, give [`Input::JournalDurable`].
//!
//! The epoch of a leader is one process lifetime: a [`Partition`] made by recovery leads nothing.

mod copy;
mod lead;

use types::limits::ORPHAN_LOOK_MS;
use types::{AccountId, ClusterId, ErrorCode, NodeId, Nonce, Offset, PartitionRecord, SegmentId, TopicPartition};
use wire::DedupeSnapshot;
use wire::frame::{
    AppendRequest, Appended, CopyReply, CopyRequest, FenceReply, FenceRequest, MemberState, OpenReply, OpenRequest,
    PeerMessage, PeerReply, Refusal,
};
use wire::inventory::{HeldPartition, HeldSegment};
use wire::journal::JournalEntry;

use crate::replica::{Replica, ReplicaError, Segment, Settled};
use crate::{Rule, Rules};

pub use copy::Progress;
pub use lead::Leader;

/// Names an asker who waits for an answer; the shell's to choose.
pub type Token = u64;

/// Ms of a monotonic clock, and ms since 1970 of the wall clock. Safety depends on neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Now {
    pub monotonic_ms: u64,
    pub wall_ms: i64,
}

/// What happens to a partition.
#[derive(Debug, Clone, Hash)]
pub enum Input {
    /// A gateway's batch. `no_room`: what is new is refused with this; what the log holds already is answered.
    Append {
        token: Token,
        request: Box<AppendRequest>,
        no_room: Option<Box<Refusal>>,
    },
    /// From the leader, where this node follows.
    Peer {
        from: NodeId,
        message: Box<PeerMessage>,
    },
    /// From the follower, where this node leads.
    PeerReply {
        from: NodeId,
        reply: PeerReply,
    },
    /// The connection to the follower broke, or is back.
    PeerDown {
        node: NodeId,
    },
    /// Nobody listens where the follower did: its process has ended.
    PeerGone {
        node: NodeId,
    },
    PeerUp {
        node: NodeId,
    },
    /// From placement.
    Fence {
        token: Token,
        request: FenceRequest,
    },
    /// `producers`: for a node that does not hold the segment before.
    Open {
        token: Token,
        request: Box<OpenRequest>,
        producers: Option<Box<DedupeSnapshot>>,
    },
    /// From placement: make a copy of a sealed segment.
    Copy {
        token: Token,
        request: Box<CopyRequest>,
    },
    /// What an [`Effect::Copy`] brought.
    Copied(Progress),
    /// The partition's record as placement has it now.
    Record(Box<PartitionRecord>),
    /// Placement has nowhere to fail over to: no two zones have a node that is there.
    NoPair,
    /// The topic is gone.
    Deleted,
    /// The next entry of this partition is fsynced.
    JournalDurable,
    /// A timer asked for by [`Effect::Wake`] is due.
    Tick,
}

/// What the shell is to do.
#[derive(Debug, Clone)]
pub enum Effect {
    Journal(JournalEntry),
    Send {
        to: NodeId,
        message: PeerMessage,
    },
    Reply {
        to: NodeId,
        reply: PeerReply,
    },
    Answer {
        token: Token,
        result: Result<Appended, Refusal>,
    },
    AnswerFence {
        token: Token,
        result: Result<FenceReply, Refusal>,
    },
    AnswerOpen {
        token: Token,
        result: Result<OpenReply, Refusal>,
    },
    AnswerCopy {
        token: Token,
        result: Result<CopyReply, Refusal>,
    },
    /// Ask the sources for what the segment is like, and for its batches from this offset on, and give what they say as
    /// [`Input::Copied`].
    Copy {
        request: Box<CopyRequest>,
        from: Offset,
    },
    /// A segment is gone from this replica: so are its batches.
    Dropped {
        nonce: Nonce,
    },
    /// Tell placement that this copy of a sealed segment is damaged.
    ReportDamage {
        segment: SegmentId,
    },
    /// Read the partition's record from placement, linearizably, and give it back as [`Input::Record`].
    AskPlacement,
    /// Ask placement to fail this partition over: the segment cannot go on.
    RequestFailover {
        segment: SegmentId,
    },
    /// The visible watermark of an open segment, or the end of a sealed one, moved.
    Visible {
        nonce: Nonce,
        offset: Offset,
    },
    /// Give [`Input::Tick`] at this monotonic time.
    Wake {
        at_ms: u64,
    },
}

/// See the module's text.
#[derive(Debug, Clone, Hash)]
pub struct Partition {
    /// Whose it is, once a segment said so.
    tenant: Option<(AccountId, ClusterId)>,
    me: types::Replica,
    replica: Replica,
    leader: Option<Leader>,
    copying: copy::Copying,
    rules: Rules,
}

fn refusal(code: ErrorCode, message: &str) -> Refusal {
    Refusal { code, message: message.to_owned() }
}

impl Partition {
    pub fn new(partition: TopicPartition, me: types::Replica, rules: Rules) -> Self {
        Self::recovered(Replica::new(partition, rules), me, rules)
    }

    /// A partition whose replica was rebuilt from the journal.
    pub fn recovered(replica: Replica, me: types::Replica, rules: Rules) -> Self {
        let tenant = replica.segments().map(|segment| (segment.open.account, segment.open.cluster)).next();
        let mut partition = Self { tenant, me, replica, leader: None, copying: copy::Copying::default(), rules };
        if !rules.holds(Rule::LeaderNeverResumes) {
            partition.leader = Leader::resumed(&partition.replica, me);
        }
        partition
    }

    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    pub fn leader(&self) -> Option<&Leader> {
        self.leader.as_ref()
    }

    /// Whether a request speaks of the tenant whose partition it is. Readers and copiers name the account alone.
    ///
    /// # Errors
    /// `TenantMismatch`.
    pub fn check_tenant(&self, account: AccountId, cluster: Option<ClusterId>) -> Result<(), Refusal> {
        let is_own = self.tenant.is_none_or(|own| own.0 == account && cluster.is_none_or(|cluster| own.1 == cluster));
        if is_own { Ok(()) } else { Err(refusal(ErrorCode::TenantMismatch, "the partition belongs to another tenant")) }
    }

    /// What readers may see of a segment: its watermark if this node leads it, its end if it is sealed.
    pub fn visible(&self, nonce: Nonce) -> Option<Offset> {
        let segment = self.replica.segment(nonce).filter(|segment| !segment.is_damaged)?;
        if self.copying.is_under_way(nonce) {
            return None;
        }
        match (&self.leader, segment.sealed) {
            // An original reaches its seal; a copy is not shown before it is whole on disk.
            (_, Some(end)) => segment.durable.filter(|durable| *durable >= end).map(|_| end),
            (Some(leader), None) if leader.segment().nonce == nonce => leader.visible(),
            _ => None,
        }
    }

    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        match input {
            Input::Append { token, request, no_room } => self.append(now, token, request, no_room, &mut out),
            Input::Peer { from, message } => {
                let is_opening = matches!(*message, PeerMessage::Open(_));
                self.peer(from, *message, &mut out);
                if is_opening && matches!(out.last(), Some(Effect::Journal(_))) {
                    out.push(Effect::Wake { at_ms: now.monotonic_ms + ORPHAN_LOOK_MS });
                }
            }
            Input::PeerReply { from, reply } => self.peer_reply(now, from, reply, &mut out),
            Input::PeerDown { node } => {
                if let Some(leader) = &mut self.leader
                    && leader.peer_down(now, node, &mut out)
                {
                    self.step_down(ErrorCode::LeaderNotAvailable, "the follower cannot be reached", &mut out);
                }
            }
            Input::PeerGone { node } => {
                if let Some(leader) = &mut self.leader {
                    leader.peer_gone(now, node, &mut out);
                }
            }
            Input::PeerUp { node } => {
                if let Some(leader) = &mut self.leader {
                    leader.peer_up(node, &mut out);
                }
            }
            Input::Fence { token, request } => self.fence(token, request, &mut out),
            Input::Open { token, request, producers } => self.open(now, token, *request, producers, &mut out),
            Input::Copy { token, request } => self.copy(token, request, &mut out),
            Input::Copied(progress) => self.progress(progress, &mut out),
            Input::Record(record) => self.record(now, &record, &mut out),
            Input::NoPair => self.with_leader(|leader, _| leader.no_pair()),
            Input::Deleted => {
                self.step_down(ErrorCode::UnknownTopic, "the topic was deleted", &mut out);
                self.copying = copy::Copying::default();
                out.push(Effect::Journal(self.replica.delete()));
            }
            Input::JournalDurable => self.journal_durable(now, &mut out),
            Input::Tick => {
                if let Some(leader) = &mut self.leader {
                    leader.tick(now, &mut self.replica, &mut out);
                }
                if self.may_have_orphans() {
                    out.push(Effect::AskPlacement);
                }
            }
        }
        out
    }

    /// All that this disk has of the partition, for records that are made anew ([`crate::rebuild`]). Final only once a
    /// fence of the new generation is answered.
    pub fn inventory(&self) -> HeldPartition {
        let (generation, epoch) = self.replica.floor();
        let is_here = |segment: &&Segment| {
            // A copy that is not whole is nobody's.
            !segment.is_copy() || (segment.confirmed_for > 0 && !self.copying.is_under_way(segment.open.segment.nonce))
        };
        let held = self.replica.segments().filter(is_here).filter_map(|segment| {
            let open = &segment.open;
            Some(HeldSegment {
                account: open.account,
                cluster: open.cluster,
                segment: open.segment,
                base: open.base,
                first_free: open.first_free,
                leader: open.leader,
                follower: open.follower,
                end: segment.durable?,
                sealed: segment.sealed,
                is_damaged: segment.is_damaged,
                copied_for: segment.copied_for,
            })
        });
        HeldPartition { partition: self.replica.partition(), generation, epoch, segments: held.collect() }
    }

    /// A copy of a segment is being made here.
    pub fn is_copying(&self) -> bool {
        self.copying.is_any()
    }

    /// Gives back memory that only work needs; changes nothing else.
    pub fn shed(&mut self) {
        self.replica.shed();
        if let Some(leader) = &mut self.leader {
            leader.shed();
        }
    }

    /// Several openings are here, and at most one of them is part of the log: the record tells which to let go of (invariant
    /// 20). A leader whose opening is under way asks by itself.
    fn may_have_orphans(&self) -> bool {
        let open = self.replica.segments().filter(|segment| segment.sealed.is_none() && !segment.is_copy());
        open.count() > 1 && self.leader.as_ref().is_none_or(Leader::is_active)
    }

    fn with_leader(&mut self, f: impl FnOnce(&mut Leader, &mut Replica)) {
        if let Some(leader) = &mut self.leader {
            f(leader, &mut self.replica);
        }
    }

    fn append(
        &mut self,
        now: Now,
        token: Token,
        request: Box<AppendRequest>,
        no_room: Option<Box<Refusal>>,
        out: &mut Vec<Effect>,
    ) {
        let is_own = self.check_tenant(request.head.account, Some(request.head.cluster));
        match &mut self.leader {
            Some(leader) if leader.segment().nonce == request.head.segment.nonce => {
                if let Err(refusal) = is_own {
                    return out.push(Effect::Answer { token, result: Err(refusal) });
                }
                leader.append(now, token, request, no_room, &mut self.replica, out);
            }
            _ => {
                let result = Err(refusal(ErrorCode::NotLeader, "this node does not lead the segment"));
                out.push(Effect::Answer { token, result });
            }
        }
    }

    fn peer(&mut self, from: NodeId, message: PeerMessage, out: &mut Vec<Effect>) {
        let reply = match message {
            PeerMessage::Open(open) => {
                let segment = open.segment;
                if self.check_tenant(open.account, Some(open.cluster)).is_err() || open.follower != self.me {
                    // Not the disk that the leader means: that will not change, and `Unknown` would ask it to send
                    // the opening again.
                    Some(PeerReply::Fenced { segment })
                } else {
                    let tenant = (open.account, open.cluster);
                    match self.replica.open(open) {
                        Ok(entry) => {
                            self.tenant = Some(tenant);
                            self.lose_to(segment, out);
                            out.push(Effect::Journal(entry));
                            None
                        }
                        Err(error) => self.reply_to(segment, error),
                    }
                }
            }
            PeerMessage::Append { meta, chain_before, batch } => {
                match self.replica.append(meta, chain_before, batch) {
                    Ok(Some(entry)) => {
                        out.push(Effect::Journal(entry));
                        None
                    }
                    // A resend of what is here: say how far this disk is.
                    Ok(None) => self.durable_reply(meta.segment),
                    Err(error) => self.reply_to(meta.segment, error),
                }
            }
            PeerMessage::Commit { segment, commit } => {
                self.replica.raise_commit(&segment, commit);
                None
            }
            PeerMessage::Resume { segment } => {
                let error = match self.replica.segment(segment.nonce) {
                    _ if segment.leadership() < self.replica.floor() => ReplicaError::Fenced,
                    None => ReplicaError::Unknown,
                    Some(state) if state.is_damaged || state.sealed.is_some() => ReplicaError::Closed,
                    Some(state) => ReplicaError::Gap { end: state.end, chain: state.chain },
                };
                if matches!(error, ReplicaError::Gap { .. }) {
                    // The word of what is fsynced may have been lost with the connection.
                    out.extend(self.durable_reply(segment).map(|reply| Effect::Reply { to: from, reply }));
                }
                self.reply_to(segment, error)
            }
        };
        out.extend(reply.map(|reply| Effect::Reply { to: from, reply }));
    }

    fn reply_to(&self, segment: SegmentId, error: ReplicaError) -> Option<PeerReply> {
        Some(match error {
            ReplicaError::Fenced | ReplicaError::Diverged => PeerReply::Fenced { segment },
            ReplicaError::Unknown => PeerReply::Unknown { segment },
            ReplicaError::Gap { end, chain } => {
                PeerReply::Gap { segment, incarnation: self.me.incarnation, end, chain }
            }
            // A resend of an opening: known here, so it only needs to hear how far.
            ReplicaError::Closed => match self.replica.segment(segment.nonce) {
                Some(state) if state.sealed.is_none() && !state.is_damaged => return self.durable_reply(segment),
                _ => PeerReply::Fenced { segment },
            },
        })
    }

    fn durable_reply(&self, segment: SegmentId) -> Option<PeerReply> {
        let end = self.replica.segment(segment.nonce)?.durable?;
        Some(PeerReply::Durable { segment, incarnation: self.me.incarnation, end })
    }

    fn peer_reply(&mut self, now: Now, from: NodeId, reply: PeerReply, out: &mut Vec<Effect>) {
        let Some(leader) = &mut self.leader else { return };
        if leader.follower().node != from {
            return;
        }
        if leader.peer_reply(now, reply, &mut self.replica, out) {
            let segment = leader.segment();
            self.step_down(ErrorCode::NotLeader, "the follower knows of a newer leadership", out);
            out.push(Effect::RequestFailover { segment });
        }
    }

    fn fence(&mut self, token: Token, request: FenceRequest, out: &mut Vec<Effect>) {
        let leadership = (request.generation, request.epoch);
        let is_early = !self.rules.holds(Rule::FenceBehindAppends) || !self.rules.holds(Rule::FenceIsDurable);
        if is_early {
            // Planted bugs: the answer leaves before the fence is in the journal.
            if self.rules.holds(Rule::FenceIsDurable) {
                if let Ok(entry) = self.replica.fence(Token::MAX, leadership, None) {
                    out.push(Effect::Journal(entry));
                }
            } else {
                self.replica.fence_in_memory(leadership);
            }
            self.step_down_below(leadership, out);
            let state = self.state_of(request.nonce);
            let result = Ok(FenceReply { incarnation: self.me.incarnation, state });
            return out.push(Effect::AnswerFence { token, result });
        }
        match self.replica.fence(token, leadership, request.nonce) {
            Ok(entry) => {
                self.step_down_below(leadership, out);
                out.push(Effect::Journal(entry));
            }
            Err(_) => {
                let result = Err(refusal(ErrorCode::Fenced, "a newer leadership has been fenced here already"));
                out.push(Effect::AnswerFence { token, result });
            }
        }
    }

    fn state_of(&self, nonce: Option<Nonce>) -> MemberState {
        nonce.map_or(MemberState::Unknown, |nonce| self.replica.member_state(nonce))
    }

    fn step_down_below(&mut self, leadership: (types::Generation, types::Epoch), out: &mut Vec<Effect>) {
        if self.leader.as_ref().is_some_and(|leader| leader.segment().leadership() < leadership) {
            self.step_down(ErrorCode::NotLeader, "a newer leadership has begun", out);
        }
    }

    /// A segment of another leader was opened here: an older leader of ours is over.
    fn lose_to(&mut self, segment: SegmentId, out: &mut Vec<Effect>) {
        self.step_down_below(segment.leadership(), out);
    }

    fn step_down(&mut self, code: ErrorCode, message: &str, out: &mut Vec<Effect>) {
        if let Some(leader) = self.leader.take() {
            leader.give_up(code, message, out);
        }
    }

    fn open(
        &mut self,
        now: Now,
        token: Token,
        request: OpenRequest,
        producers: Option<Box<DedupeSnapshot>>,
        out: &mut Vec<Effect>,
    ) {
        if let Err(refusal) = self.check_tenant(request.account, Some(request.cluster)) {
            return out.push(Effect::AnswerOpen { token, result: Err(refusal) });
        }
        if request.leader != self.me {
            let result = Err(refusal(ErrorCode::TenantMismatch, "the segment is not for this disk"));
            return out.push(Effect::AnswerOpen { token, result });
        }
        let tenant = (request.account, request.cluster);
        let segment = request.segment;
        match Leader::open(now, token, request, producers.as_deref(), &mut self.replica, self.rules, out) {
            Ok(leader) => {
                self.tenant = Some(tenant);
                let older = self.leader.replace(leader);
                if let Some(older) = older {
                    older.give_up(ErrorCode::NotLeader, "another segment was opened", out);
                }
                debug_assert_eq!(self.leader.as_ref().map(Leader::segment), Some(segment));
            }
            Err(refusal) => out.push(Effect::AnswerOpen { token, result: Err(refusal) }),
        }
    }

    /// A stored batch cannot be read: this copy counts as damaged, if the segment is sealed. Of an open one the leader has
    /// what matters in memory.
    pub fn mark_damaged(&mut self, nonce: Nonce) -> Vec<Effect> {
        let sealed = self.replica.segment(nonce).filter(|segment| segment.sealed.is_some());
        let Some(segment) = sealed.map(|segment| segment.open.segment) else { return Vec::new() };
        self.replica.mark_damaged(nonce);
        vec![Effect::ReportDamage { segment }]
    }

    /// Reconciles with the record: seals what it seals, drops what it does not name, activates what it opens.
    fn record(&mut self, now: Now, record: &PartitionRecord, out: &mut Vec<Effect>) {
        if record.generation < self.replica.floor().0 && self.rules.holds(Rule::OlderGenerationIsOver) {
            // Of metadata that was restored since: who asked for the fence counts on what is here.
            return;
        }
        self.report_damage(record, out);
        let here: Vec<SegmentId> = self.replica.segments().map(|segment| segment.open.segment).collect();
        for id in here {
            let listed = record.chain.iter().find(|segment| segment.nonce == id.nonce);
            let is_led = self.leader.as_ref().is_some_and(|leader| leader.segment() == id);
            if self.is_unneeded(record, id) {
                if is_led {
                    self.step_down(ErrorCode::NotLeader, "another segment was opened", out);
                }
                self.let_go(id.nonce, out);
                continue;
            }
            if self.copying.is_under_way(id.nonce) {
                continue;
            }
            if let Some(end) = listed.and_then(|segment| segment.end) {
                self.seal(id.nonce, end, out);
            } else if listed.is_some() {
                if is_led {
                    self.with_leader(|leader, replica| leader.activate(now, replica, out));
                } else if record.open().is_some_and(|open| open.nonce == id.nonce && open.leader() == self.me) {
                    // The record names this node, but no process lifetime of ours may lead it (any more).
                    out.push(Effect::RequestFailover { segment: id });
                }
            }
        }
    }

    /// Placement recorded that a segment ends: who led it leads no more, and readers hear of it.
    fn seal(&mut self, nonce: Nonce, end: Offset, out: &mut Vec<Effect>) {
        if self.leader.as_ref().is_some_and(|leader| leader.segment().nonce == nonce) {
            self.step_down(ErrorCode::NotLeader, "the segment was sealed", out);
        }
        if let Some(entry) = self.replica.seal(nonce, end) {
            out.push(Effect::Journal(entry));
            if self.rules.holds(Rule::ReadersHearOfSeals) {
                out.push(Effect::Visible { nonce, offset: end });
            }
        }
    }

    fn journal_durable(&mut self, now: Now, out: &mut Vec<Effect>) {
        match self.replica.journal_durable() {
            Settled::Durable { segment, end } => match &mut self.leader {
                Some(leader) if leader.segment() == segment => {
                    leader.local_durable(now, end, &mut self.replica, out);
                }
                _ => {
                    let state = self.replica.segment(segment.nonce).filter(|state| !state.is_copy());
                    let leader = state.map(|state| state.open.leader.node);
                    if let Some(to) = leader.filter(|node| *node != self.me.node) {
                        let reply = PeerReply::Durable { segment, incarnation: self.me.incarnation, end };
                        out.push(Effect::Reply { to, reply });
                    }
                }
            },
            Settled::Fence { token, nonce } if token != Token::MAX => {
                let reply = FenceReply { incarnation: self.me.incarnation, state: self.state_of(nonce) };
                out.push(Effect::AnswerFence { token, result: Ok(reply) });
            }
            // A record that came while the copy was made was not heeded: it may not list it, and never will.
            Settled::Copied { .. } => out.push(Effect::AskPlacement),
            Settled::Fence { .. } | Settled::Quiet => {}
        }
    }
}

#[cfg(test)]
mod tests;
