//! The leader of one open segment: gives offsets, writes and replicates at once, commits what both have fsynced.
//!
//! Phases: *opening* (its opening record and the carried tail go to both disks), *asking* (both have them;
//! placement decides whether this segment or another is the partition's), *active*. Appends that arrive before
//! the last phase wait.

mod follower;

use std::collections::VecDeque;

use types::limits::{
    ACTIVATION_ASK_MS, ACTIVATION_ASK_MS_MAX, PARTITION_IN_FLIGHT_APPENDS_MAX, PARTITION_IN_FLIGHT_BYTES_MAX,
    REFUSED_PRODUCERS_MAX, SEQUENCE_GAP_BATCHES, SEQUENCE_GAP_MS,
};
use types::{ErrorCode, Offset, SegmentId};
use wire::frame::{AppendRequest, Appended, OpenReply, OpenRequest, PeerMessage, PeerReply, Refusal};
use wire::journal::{AppendMeta, OpenMeta};
use wire::{Batch, DedupeKey, DedupeSnapshot};

use super::{Effect, Now, Token, refusal};
use crate::producers::{ProducerState, Verdict};
use crate::replica::{Replica, Segment};
use crate::{Rule, Rules};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Opening { token: Token },
    Asking { next_ms: u64, interval_ms: u64 },
    Active,
}

/// An append whose answer waits for the watermark.
#[derive(Debug, Clone, Hash)]
struct Waiter {
    token: Token,
    end: Offset,
    appended: Appended,
}

/// An append that waits for the one before it.
#[derive(Debug, Clone, Hash)]
struct Early {
    token: Token,
    request: Box<AppendRequest>,
    until_ms: u64,
}

/// See the module's text.
#[derive(Debug, Clone, Hash)]
pub struct Leader {
    open: OpenMeta,
    phase: Phase,
    /// Producer state with everything that was given an offset.
    producers: ProducerState,
    follower_durable: Option<Offset>,
    /// Since when the follower's connection is gone, in monotonic ms: until it answers. A connection alone is no sign
    /// of life; what stands between may accept it.
    follower_down_ms: Option<u64>,
    /// There is a connection again: an answer comes over it.
    is_follower_back: bool,
    /// Its process has ended, and nobody waited for it then.
    is_follower_gone: bool,
    /// Nothing that is new can get a second copy until the follower is back.
    has_no_pair: bool,
    /// When a follower that stays away is next complained of.
    next_call_ms: u64,
    visible: Option<Offset>,
    waiters: VecDeque<Waiter>,
    early: VecDeque<Early>,
    /// Producers, and their epochs, whose first batch was refused here: what comes after it is not their first.
    refused: VecDeque<(i64, i16)>,
    held: VecDeque<(Token, Box<AppendRequest>)>,
    rules: Rules,
}

impl Leader {
    /// Begins to open a segment: journals its opening and the carried tail, and sends both to the follower.
    pub(super) fn open(
        now: Now,
        token: Token,
        request: OpenRequest,
        producers: Option<&DedupeSnapshot>,
        replica: &mut Replica,
        rules: Rules,
        out: &mut Vec<Effect>,
    ) -> Result<Self, Refusal> {
        let closed = |message: &str| refusal(ErrorCode::Fenced, message);
        let (snapshot, tail) = match request.previous {
            Some(_) if producers.is_some() && request.carry_to <= request.base => {
                let producers = producers.filter(|_| rules.holds(Rule::ProducersTravel));
                (producers.map(ProducerState::from_snapshot).unwrap_or_default(), Vec::new())
            }
            None => (ProducerState::default(), Vec::new()),
            Some(previous) => {
                let segment = replica.segment(previous.nonce).filter(|segment| !segment.is_damaged);
                let segment = segment.ok_or_else(|| closed("the segment before it is not on this disk"))?;
                let state = if rules.holds(Rule::ForgetAboveSeal) {
                    segment.producers_at(request.base)
                } else {
                    segment.producers_at(segment.end)
                };
                let state = state.ok_or_else(|| closed("the state at the seal is not known here"))?;
                let tail: Vec<_> = segment.tail(request.base, request.carry_to).cloned().collect();
                let reached = tail.last().map_or(request.base, |last| last.batch.end_offset());
                if reached < request.carry_to {
                    return Err(closed("the tail to carry is not on this disk"));
                }
                (state, tail)
            }
        };
        let open = OpenMeta {
            account: request.account,
            cluster: request.cluster,
            segment: request.segment,
            base: request.base,
            first_free: request.carry_to.max(request.base),
            leader: request.leader,
            follower: request.follower,
            encryption_key: 0,
            snapshot: snapshot.snapshot(),
        };
        let entry = replica.open(open.clone()).map_err(|_| closed("a newer leadership has begun"))?;
        out.push(Effect::Journal(entry));
        let mut leader = Self {
            phase: Phase::Opening { token },
            producers: snapshot,
            follower_durable: None,
            follower_down_ms: None,
            is_follower_back: false,
            is_follower_gone: false,
            has_no_pair: false,
            next_call_ms: 0,
            visible: None,
            waiters: VecDeque::new(),
            early: VecDeque::new(),
            refused: VecDeque::new(),
            held: VecDeque::new(),
            rules,
            open,
        };
        out.push(Effect::Send { to: leader.follower().node, message: PeerMessage::Open(leader.open.clone()) });
        for pending in tail {
            let meta = AppendMeta { segment: leader.segment(), commit: leader.open.base, ..pending.meta };
            leader.write(meta, pending.batch, replica, out);
        }
        if !rules.holds(Rule::ActivateAfterCas) {
            leader.phase = Phase::Active;
            leader.visible = Some(leader.open.first_free);
            out.push(Effect::AnswerOpen { token, result: Ok(OpenReply { end: leader.open.first_free }) });
        }
        out.push(Effect::Wake { at_ms: now.monotonic_ms + ACTIVATION_ASK_MS });
        Ok(leader)
    }

    /// What the planted bug does: goes on in the epoch of an earlier process lifetime.
    pub(super) fn resumed(replica: &Replica, me: types::Replica) -> Option<Self> {
        let segment: &Segment = replica.segments().filter(|s| s.sealed.is_none() && s.open.leader == me).last()?;
        Some(Self {
            open: segment.open.clone(),
            phase: Phase::Active,
            producers: segment.producers_at(segment.end)?,
            follower_durable: Some(segment.commit),
            follower_down_ms: None,
            is_follower_back: false,
            is_follower_gone: false,
            has_no_pair: false,
            next_call_ms: 0,
            visible: Some(segment.commit),
            waiters: VecDeque::new(),
            early: VecDeque::new(),
            refused: VecDeque::new(),
            held: VecDeque::new(),
            rules: Rules::without(Rule::LeaderNeverResumes),
        })
    }

    pub fn segment(&self) -> SegmentId {
        self.open.segment
    }

    pub fn follower(&self) -> types::Replica {
        self.open.follower
    }

    /// VW: what readers may see; nothing before placement has published the segment.
    pub fn visible(&self) -> Option<Offset> {
        self.visible
    }

    /// May clients append?
    pub fn is_active(&self) -> bool {
        self.phase == Phase::Active
    }

    /// Appends without an answer yet.
    pub fn waiting(&self) -> usize {
        self.waiters.len() + self.early.len() + self.held.len()
    }

    pub(super) fn shed(&mut self) {
        self.waiters.shrink_to_fit();
        self.early.shrink_to_fit();
        self.held.shrink_to_fit();
    }

    pub(super) fn append(
        &mut self,
        now: Now,
        token: Token,
        request: Box<AppendRequest>,
        no_room: Option<Box<Refusal>>,
        replica: &mut Replica,
        out: &mut Vec<Effect>,
    ) {
        if self.phase != Phase::Active {
            if self.held.len() < PARTITION_IN_FLIGHT_APPENDS_MAX {
                self.held.push_back((token, request));
            } else {
                self.note_refused(&DedupeKey::of_producer(&request.batch).unwrap_or(request.head.dedupe));
                let result = Err(refusal(ErrorCode::LeaderNotAvailable, "the segment is being opened"));
                out.push(Effect::Answer { token, result });
            }
            return;
        }
        self.admit(now, token, request, no_room, replica, out);
        self.retry_early(now, replica, out);
    }

    fn admit(
        &mut self,
        now: Now,
        token: Token,
        request: Box<AppendRequest>,
        no_room: Option<Box<Refusal>>,
        replica: &mut Replica,
        out: &mut Vec<Effect>,
    ) {
        let dedupe = DedupeKey::of_producer(&request.batch).unwrap_or(request.head.dedupe);
        let refuse = |out: &mut Vec<Effect>, code, message: &str| {
            out.push(Effect::Answer { token, result: Err(refusal(code, message)) });
        };
        match self.producers.judge(&dedupe) {
            // After the judgement: of what is in the log already it would be no true word that nothing happened.
            Verdict::New | Verdict::Gap if no_room.is_some() => {
                self.note_refused(&dedupe);
                out.extend(no_room.map(|refusal| Effect::Answer { token, result: Err(*refusal) }));
            }
            Verdict::New | Verdict::Gap if self.has_no_pair => {
                self.note_refused(&dedupe);
                refuse(out, ErrorCode::AzUnavailable, "no storage node in a second zone is there for the other copy");
            }
            Verdict::New => self.accept(now, token, *request, dedupe, replica, out),
            Verdict::Duplicate(found) => {
                let has_own = self.rules.holds(Rule::DuplicateHasItsTime);
                let append_time = if has_own { found.append_time } else { now.wall_ms + 1 };
                let appended = Appended { base_offset: found.base_offset, append_time };
                let is_committed = replica.segment(self.segment().nonce).is_some_and(|s| found.end_offset <= s.commit);
                let is_below = found.end_offset <= self.open.base;
                if is_below || is_committed || !self.rules.holds(Rule::DuplicateWaitsForCommit) {
                    out.push(Effect::Answer { token, result: Ok(appended) });
                } else {
                    let at = self.waiters.partition_point(|w| w.end <= found.end_offset);
                    self.waiters.insert(at, Waiter { token, end: found.end_offset, appended });
                }
            }
            Verdict::Gap if matches!(dedupe, DedupeKey::Producer { .. }) => {
                if self.early.len() >= SEQUENCE_GAP_BATCHES * 64 {
                    return refuse(out, ErrorCode::OutOfOrderSequence, "too many batches wait for an earlier one");
                }
                let until_ms = now.monotonic_ms + SEQUENCE_GAP_MS;
                self.early.push_back(Early { token, request, until_ms });
                out.push(Effect::Wake { at_ms: until_ms });
            }
            Verdict::Gap => refuse(out, ErrorCode::NotLeader, "an earlier append of this session is missing"),
            Verdict::StaleEpoch if !self.rules.holds(Rule::StaleEpochIsFenced) => {
                self.accept(now, token, *request, dedupe, replica, out);
            }
            Verdict::StaleEpoch => refuse(out, ErrorCode::ProducerFenced, "a newer epoch of this producer has written"),
            Verdict::Forgotten => {
                refuse(out, ErrorCode::OutOfOrderSequence, "the batch is older than those remembered");
            }
        }
    }

    fn note_refused(&mut self, dedupe: &DedupeKey) {
        if let DedupeKey::Producer { id, epoch, base_sequence: 0, .. } = dedupe
            && !self.refused.contains(&(*id, *epoch))
        {
            if self.refused.len() >= REFUSED_PRODUCERS_MAX {
                self.refused.pop_front();
            }
            self.refused.push_back((*id, *epoch));
        }
    }

    fn was_refused(&self, dedupe: &DedupeKey) -> bool {
        matches!(dedupe, DedupeKey::Producer { id, epoch, .. } if self.refused.contains(&(*id, *epoch)))
    }

    fn accept(
        &mut self,
        now: Now,
        token: Token,
        request: AppendRequest,
        dedupe: DedupeKey,
        replica: &mut Replica,
        out: &mut Vec<Effect>,
    ) {
        let Some(segment) = replica.segment(self.segment().nonce) else { return };
        let in_flight = segment.pending_bytes;
        if segment.pending.len() >= 4 * PARTITION_IN_FLIGHT_APPENDS_MAX
            || in_flight + request.batch.len() > 2 * PARTITION_IN_FLIGHT_BYTES_MAX
        {
            self.note_refused(&dedupe);
            let result = Err(refusal(ErrorCode::Overloaded, "too much is in flight on this partition"));
            return out.push(Effect::Answer { token, result });
        }
        let (base_offset, commit) = (segment.end, segment.commit);
        let never_falls = self.rules.holds(Rule::LogTimeNeverFalls);
        let append_time = if never_falls { now.wall_ms.max(self.producers.log_time()) } else { now.wall_ms };
        let batch = request.batch.placed_at(base_offset, self.segment().epoch.0);
        let stamped = if request.head.log_append_time { batch.stamped(append_time) } else { Ok(batch) };
        let batch = match stamped {
            Ok(batch) => batch,
            Err(error) => {
                let result = Err(refusal(ErrorCode::CorruptBatch, &error.to_string()));
                return out.push(Effect::Answer { token, result });
            }
        };
        let meta = AppendMeta {
            account: request.head.account,
            cluster: request.head.cluster,
            segment: self.segment(),
            principal: request.head.principal,
            protocol: request.head.protocol,
            dedupe,
            encryption_key: request.head.encryption_key,
            append_time,
            commit,
        };
        if let DedupeKey::Producer { id, epoch, base_sequence: 0, .. } = dedupe {
            self.refused.retain(|refused| *refused != (id, epoch));
        }
        let end = batch.end_offset();
        self.write(meta, batch, replica, out);
        self.waiters.push_back(Waiter { token, end, appended: Appended { base_offset, append_time } });
    }

    /// To the journal and to the follower, at the same time.
    fn write(&mut self, meta: AppendMeta, batch: Batch, replica: &mut Replica, out: &mut Vec<Effect>) {
        let Some(chain_before) = replica.segment(self.segment().nonce).map(|segment| segment.chain) else { return };
        self.producers.record(&meta.dedupe, &batch, meta.append_time);
        match replica.append(meta, chain_before, batch.clone()) {
            Ok(Some(entry)) => {
                out.push(Effect::Journal(entry));
                match self.follower_down_ms {
                    Some(_) => self.miss_follower(out),
                    None => {
                        let message = PeerMessage::Append { meta, chain_before, batch };
                        out.push(Effect::Send { to: self.follower().node, message });
                    }
                }
            }
            other => unreachable!("INVARIANT: a leader's own append fits its own replica: {other:?}"),
        }
    }

    /// This node's disk has the segment up to `end`.
    pub(super) fn local_durable(&mut self, now: Now, _end: Offset, replica: &mut Replica, out: &mut Vec<Effect>) {
        self.advance(now, replica, out);
    }

    /// Handles the follower's word; true when the segment is over.
    pub(super) fn peer_reply(
        &mut self,
        now: Now,
        reply: PeerReply,
        replica: &mut Replica,
        out: &mut Vec<Effect>,
    ) -> bool {
        let mine = self.segment();
        if matches!(reply, PeerReply::Durable { segment, .. } | PeerReply::Gap { segment, .. } if segment == mine) {
            self.follower_answers(now, out);
        }
        match reply {
            PeerReply::Durable { segment, incarnation, end } if segment == mine => {
                if incarnation != self.follower().incarnation {
                    return true;
                }
                self.follower_durable = Some(self.follower_durable.map_or(end, |durable| durable.max(end)));
                self.advance(now, replica, out);
                false
            }
            PeerReply::Gap { segment, incarnation, end, chain } if segment == mine => {
                if incarnation != self.follower().incarnation {
                    return true;
                }
                self.resend(end, chain, replica, out)
            }
            PeerReply::Unknown { segment } if segment == mine => {
                if matches!(self.phase, Phase::Opening { .. }) {
                    // The opening was lost on the way.
                    out.push(Effect::Send { to: self.follower().node, message: PeerMessage::Open(self.open.clone()) });
                    self.resend(self.open.base, 0, replica, out);
                    return false;
                }
                true
            }
            PeerReply::Fenced { segment } => segment == mine,
            _ => false,
        }
    }

    /// Sends again what the follower lacks; true when it stands where this segment never was.
    fn resend(&self, from: Offset, chain: u64, replica: &Replica, out: &mut Vec<Effect>) -> bool {
        let Some(segment) = replica.segment(self.segment().nonce) else { return true };
        let is_ours = from >= segment.commit && from <= segment.end && (chain == 0 || segment.chain_at(from) == chain);
        if !is_ours && self.rules.holds(Rule::CheckChain) {
            return true;
        }
        for pending in segment.pending.iter().filter(|p| p.batch.base_offset >= from) {
            let meta = AppendMeta { commit: segment.commit, ..pending.meta };
            let message =
                PeerMessage::Append { meta, chain_before: pending.chain_before, batch: pending.batch.clone() };
            out.push(Effect::Send { to: self.follower().node, message });
        }
        false
    }

    /// Moves the watermark as far as both disks allow, and answers what is below it.
    fn advance(&mut self, now: Now, replica: &mut Replica, out: &mut Vec<Effect>) {
        let id = self.segment();
        let Some(local) = replica.segment(id.nonce).and_then(|segment| segment.durable) else { return };
        let both = if self.rules.holds(Rule::AckAfterBothFsyncs) {
            let Some(follower) = self.follower_durable else { return };
            local.min(follower)
        } else {
            local
        };
        match self.phase {
            Phase::Opening { token } => {
                if both >= self.open.first_free {
                    out.push(Effect::AnswerOpen { token, result: Ok(OpenReply { end: self.open.first_free }) });
                    out.push(Effect::AskPlacement);
                    let next_ms = now.monotonic_ms + ACTIVATION_ASK_MS;
                    self.phase = Phase::Asking { next_ms, interval_ms: ACTIVATION_ASK_MS };
                    out.push(Effect::Wake { at_ms: next_ms });
                }
            }
            Phase::Asking { .. } => {}
            Phase::Active => self.commit(both, replica, out),
        }
    }

    fn commit(&mut self, both: Offset, replica: &mut Replica, out: &mut Vec<Effect>) {
        let id = self.segment();
        replica.raise_commit(&id, both);
        let Some(segment) = replica.segment(id.nonce) else { return };
        let commit = segment.commit.max(self.open.first_free);
        if self.visible != Some(commit) {
            assert!(self.visible.is_none_or(|visible| visible < commit), "INVARIANT: the watermark never falls");
            self.visible = Some(commit);
            out.push(Effect::Visible { nonce: id.nonce, offset: commit });
            if segment.pending.is_empty() {
                // Nothing is in flight that could carry it.
                let message = PeerMessage::Commit { segment: id, commit };
                out.push(Effect::Send { to: self.follower().node, message });
            }
        }
        while self.waiters.front().is_some_and(|waiter| waiter.end <= both) {
            let waiter = self.waiters.pop_front().expect("just seen");
            out.push(Effect::Answer { token: waiter.token, result: Ok(waiter.appended) });
        }
    }

    /// Placement's record names this segment: clients may append.
    pub(super) fn activate(&mut self, now: Now, replica: &mut Replica, out: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Asking { .. }) {
            return;
        }
        self.phase = Phase::Active;
        self.advance(now, replica, out);
        for (token, request) in std::mem::take(&mut self.held) {
            self.append(now, token, request, None, replica, out);
        }
    }

    pub(super) fn tick(&mut self, now: Now, replica: &mut Replica, out: &mut Vec<Effect>) {
        match &mut self.phase {
            Phase::Asking { next_ms, interval_ms } if now.monotonic_ms >= *next_ms => {
                *interval_ms = (*interval_ms * 2).min(ACTIVATION_ASK_MS_MAX);
                *next_ms = now.monotonic_ms + *interval_ms;
                out.push(Effect::AskPlacement);
                out.push(Effect::Wake { at_ms: *next_ms });
            }
            _ => {}
        }
        self.replace_follower(now, out);
        self.retry_early(now, replica, out);
    }

    /// Lets in what waited for an earlier batch, and refuses what waited too long.
    fn retry_early(&mut self, now: Now, replica: &mut Replica, out: &mut Vec<Effect>) {
        let mut progress = true;
        while progress {
            progress = false;
            for _ in 0..self.early.len() {
                let Some(Early { token, request, until_ms }) = self.early.pop_front() else { break };
                let dedupe = DedupeKey::of_producer(&request.batch).unwrap_or(request.head.dedupe);
                let verdict = self.producers.judge(&dedupe);
                if verdict != Verdict::Gap {
                    self.admit(now, token, request, None, replica, out);
                    progress = true;
                } else if now.monotonic_ms < until_ms {
                    self.early.push_back(Early { token, request, until_ms });
                } else if self.producers.is_unknown(&dedupe) && !self.was_refused(&dedupe) {
                    // Its state expired, or retention removed it: the broker starts anew (KIP-360).
                    self.accept(now, token, *request, dedupe, replica, out);
                } else {
                    let result = Err(refusal(ErrorCode::OutOfOrderSequence, "an earlier batch never came"));
                    out.push(Effect::Answer { token, result });
                }
            }
        }
    }

    /// The leadership is over: nothing that waits was acknowledged, and its outcome is the next leader's to say.
    pub(super) fn give_up(self, code: ErrorCode, message: &str, out: &mut Vec<Effect>) {
        if let Phase::Opening { token } = self.phase {
            out.push(Effect::AnswerOpen { token, result: Err(refusal(code, message)) });
            // The record tells whether anything of it is needed.
            out.push(Effect::AskPlacement);
        }
        let tokens = self.waiters.into_iter().map(|waiter| waiter.token);
        let are_told = self.rules.holds(Rule::AllAreAnswered);
        let tokens = tokens.chain(self.early.into_iter().filter(|_| are_told).map(|early| early.token));
        for token in tokens.chain(self.held.into_iter().map(|(token, _)| token)) {
            out.push(Effect::Answer { token, result: Err(refusal(code, message)) });
        }
    }
}
