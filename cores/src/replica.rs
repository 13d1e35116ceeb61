//! One node's copy of one partition: what it has been told to keep, and what it can prove to have kept.
//!
//! Every change goes to the journal as an entry; entries of one partition become durable in the order in which
//! they were given. A replica rebuilt from the same entries ([`Replica::replay`]) is the same replica.
//!
//! INVARIANT (PREFIX): for one segment, the two members' bytes agree below the smaller of their durable ends.
//! INVARIANT (FENCE-DURABLE): after a fence's reply no append of a lower leadership is fsynced here.

use std::collections::{BTreeMap, VecDeque};

use types::{
    Epoch, Generation, Incarnation, NodeId, Nonce, Offset, PrincipalId, Protocol, Replica as Member, SegmentId,
    TopicPartition,
};
use wire::Batch;
use wire::DedupeKey;
use wire::batch::mix;
use wire::frame::MemberState;
use wire::journal::{AppendMeta, CopiedMeta, JournalEntry, OpenMeta};

use crate::producers::ProducerState;
use crate::{Rule, Rules};

/// A batch above the commit watermark as known here: it may be asked for again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pending {
    pub meta: AppendMeta,
    pub batch: Batch,
    /// The chain hash before and after it.
    pub chain_before: u64,
    pub chain_after: u64,
}

/// One segment on this disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Segment {
    pub open: OpenMeta,
    /// End of what was given to the journal, and the chain hash there.
    pub end: Offset,
    pub chain: u64,
    /// D: end of what the journal has fsynced; `None` until the opening record is.
    pub durable: Option<Offset>,
    /// CW as known here.
    pub commit: Offset,
    /// The end that placement recorded.
    pub sealed: Option<Offset>,
    /// Part of it was complete once and cannot be read.
    pub is_damaged: bool,
    /// The version of the record for which repair made this copy, or made sure of it; 0 for an original. Only a newer
    /// record can say that the copy is not needed.
    pub copied_for: u64,
    /// As `copied_for`, as far as the journal has it.
    pub confirmed_for: u64,
    /// Producer state at `commit`.
    pub committed: ProducerState,
    /// Everything from `commit` to `end`.
    pub pending: VecDeque<Pending>,
    /// Bytes of `pending`.
    pub pending_bytes: usize,
}

/// Why an append or an opening is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplicaError {
    /// Another leadership has begun.
    Fenced,
    /// This disk has no such segment, or cannot vouch for it.
    Unknown,
    /// The append does not follow what is here.
    Gap { end: Offset, chain: u64 },
    /// What is here is not what the sender has: its word of an end would be another's bytes.
    Diverged,
    /// The segment is sealed or damaged, or (an opening) here already.
    Closed,
}

/// What a fsync made true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Settled {
    /// The segment's durable end moved (or its opening became durable).
    Durable { segment: SegmentId, end: Offset },
    /// A copy is durable, and kept for records up to this version.
    Copied { nonce: Nonce, record_version: u64 },
    /// A fence is durable: its waiter may be answered.
    Fence { token: u64, nonce: Option<Nonce> },
    /// Nothing that anyone waits for.
    Quiet,
}

/// In the place of the leader and the follower of a copy that repair made.
pub const NOBODY: Member = Member { node: NodeId(0), incarnation: Incarnation(0) };

/// See the module's text.
#[derive(Debug, Clone, Hash)]
pub struct Replica {
    partition: TopicPartition,
    floor: (Generation, Epoch),
    /// Boxed: a map's node has room for eleven, and most partitions have one.
    segments: BTreeMap<Nonce, Box<Segment>>,
    /// What the journal still owes, in order.
    owed: VecDeque<Settled>,
    /// The topic is gone, and nothing came since.
    is_deleted: bool,
    rules: Rules,
}

/// The chain hash at the base of a segment.
pub fn chain_seed(segment: &SegmentId) -> u64 {
    mix(segment.nonce.0 as u64, (segment.nonce.0 >> 64) as u64)
}

impl Replica {
    pub fn new(partition: TopicPartition, rules: Rules) -> Self {
        Self {
            partition,
            floor: (Generation(0), Epoch(0)),
            segments: BTreeMap::new(),
            owed: VecDeque::new(),
            is_deleted: false,
            rules,
        }
    }

    pub fn partition(&self) -> TopicPartition {
        self.partition
    }

    /// The topic is gone, and no segment was opened since.
    pub fn is_deleted(&self) -> bool {
        self.is_deleted
    }

    /// Appends of a leadership below this fail.
    pub fn floor(&self) -> (Generation, Epoch) {
        self.floor
    }

    pub fn segment(&self, nonce: Nonce) -> Option<&Segment> {
        self.segments.get(&nonce).map(|segment| &**segment)
    }

    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.values().map(|segment| &**segment)
    }

    /// Opens a segment: the entry for the journal.
    pub fn open(&mut self, open: OpenMeta) -> Result<JournalEntry, ReplicaError> {
        if open.segment.leadership() < self.floor {
            return Err(ReplicaError::Fenced);
        }
        if self.segments.contains_key(&open.segment.nonce) {
            return Err(ReplicaError::Closed);
        }
        self.insert(open.clone());
        self.owed.push_back(Settled::Durable { segment: open.segment, end: open.base });
        Ok(JournalEntry::Open(open))
    }

    fn insert(&mut self, open: OpenMeta) {
        // The opening of a segment raises the floor as a fence would: a zombie of an older one is stopped.
        self.floor = self.floor.max(open.segment.leadership());
        self.is_deleted = false;
        let segment = Segment {
            end: open.base,
            chain: chain_seed(&open.segment),
            durable: None,
            commit: open.base,
            sealed: None,
            is_damaged: false,
            copied_for: 0,
            confirmed_for: 0,
            committed: ProducerState::from_snapshot(&open.snapshot),
            pending: VecDeque::new(),
            pending_bytes: 0,
            open,
        };
        self.segments.insert(segment.open.segment.nonce, Box::new(segment));
    }

    /// Accepts a batch at its place: the entry for the journal.
    pub fn append(
        &mut self,
        meta: AppendMeta,
        chain_before: u64,
        batch: Batch,
    ) -> Result<Option<JournalEntry>, ReplicaError> {
        if meta.segment.leadership() < self.floor {
            return Err(ReplicaError::Fenced);
        }
        let (rules, check_chain) = (self.rules, self.rules.holds(Rule::CheckChain));
        let segment = self.segments.get_mut(&meta.segment.nonce).ok_or(ReplicaError::Unknown)?;
        if segment.sealed.is_some() || segment.is_damaged {
            return Err(ReplicaError::Closed);
        }
        let gap = ReplicaError::Gap { end: segment.end, chain: segment.chain };
        if batch.base_offset > segment.end {
            return Err(gap);
        }
        if batch.base_offset < segment.end {
            // A resend. It is the same batch only if the chain says so, never because the offset does.
            let known = segment.pending.iter().find(|p| p.batch.base_offset == batch.base_offset);
            let is_same = known.is_none_or(|p| p.chain_after == batch.chain_after(chain_before));
            if check_chain && !is_same {
                return Err(ReplicaError::Diverged);
            }
            segment.raise_commit(meta.commit);
            return Ok(None);
        }
        if check_chain && chain_before != segment.chain {
            return Err(ReplicaError::Diverged);
        }
        segment.accept(meta, batch.clone(), rules);
        self.owed.push_back(Settled::Durable { segment: meta.segment, end: batch.end_offset() });
        Ok(Some(JournalEntry::Append { meta, batch }))
    }

    /// The watermark moved, says the leader.
    pub fn raise_commit(&mut self, segment: &SegmentId, commit: Offset) {
        if let Some(segment) = self.segments.get_mut(&segment.nonce) {
            segment.raise_commit(commit);
        }
    }

    /// Fences: the entry for the journal. Its [`Settled::Fence`] comes after every append before it.
    pub fn fence(
        &mut self,
        token: u64,
        leadership: (Generation, Epoch),
        nonce: Option<Nonce>,
    ) -> Result<JournalEntry, ReplicaError> {
        if leadership < self.floor {
            return Err(ReplicaError::Fenced);
        }
        self.floor = leadership;
        self.owed.push_back(Settled::Fence { token, nonce });
        Ok(JournalEntry::Fence { partition: self.partition, generation: leadership.0, epoch: leadership.1 })
    }

    /// Raises the floor in memory alone: what the planted bug does.
    pub(crate) fn fence_in_memory(&mut self, leadership: (Generation, Epoch)) {
        self.floor = self.floor.max(leadership);
    }

    /// Notes where placement sealed a segment, or that it never became part of the log (`end` = its base).
    pub fn seal(&mut self, nonce: Nonce, end: Offset) -> Option<JournalEntry> {
        let segment = self.segments.get_mut(&nonce).filter(|segment| segment.sealed.is_none())?;
        segment.seal(end);
        self.owed.push_back(Settled::Quiet);
        Some(JournalEntry::Seal { segment: segment.open.segment, end })
    }

    /// Begins a copy of a sealed segment: the entry for the journal. Its leadership is over, so no fence is in its way.
    pub fn begin_copy(&mut self, open: OpenMeta) -> JournalEntry {
        // A copy has neither led nor followed: it must not be taken for an original, whose producer state is its own.
        let open = OpenMeta { leader: NOBODY, follower: NOBODY, ..open };
        self.owed.push_back(Settled::Durable { segment: open.segment, end: open.base });
        self.insert(open.clone());
        JournalEntry::Open(open)
    }

    /// Takes the next batch of a copy: the entry for the journal.
    ///
    /// # Errors
    /// If the batch does not begin where the copy ends, or there is no copy under way.
    pub fn copy(&mut self, nonce: Nonce, batch: Batch, append_time: i64) -> Result<JournalEntry, ReplicaError> {
        let rules = self.rules;
        let segment = self.segments.get_mut(&nonce).ok_or(ReplicaError::Unknown)?;
        if segment.sealed.is_some() || segment.is_damaged {
            return Err(ReplicaError::Closed);
        }
        if batch.base_offset != segment.end {
            return Err(ReplicaError::Gap { end: segment.end, chain: segment.chain });
        }
        let meta = AppendMeta {
            account: segment.open.account,
            cluster: segment.open.cluster,
            segment: segment.open.segment,
            principal: PrincipalId(0),
            protocol: Protocol::Internal,
            dedupe: DedupeKey::None,
            encryption_key: segment.open.encryption_key,
            append_time,
            // All of a sealed segment is committed; here it is once it is on this disk: a flush keeps what is, and must know
            // the chain hash there.
            commit: if rules.holds(Rule::CopyCommitsWhatIsDurable) {
                segment.durable.unwrap_or(segment.open.base)
            } else {
                batch.base_offset
            },
        };
        segment.accept(meta, batch.clone(), rules);
        self.owed.push_back(Settled::Durable { segment: meta.segment, end: batch.end_offset() });
        Ok(JournalEntry::Append { meta, batch })
    }

    /// The copy is whole, or a copy or original that is here is needed for a newer record: the entry for the journal.
    /// `chain`: the source's chain hash at the end, 0 if it does not know it.
    ///
    /// # Errors
    /// If what is here is not what was to be copied.
    pub fn finish_copy(&mut self, copied: CopiedMeta, chain: u64) -> Result<JournalEntry, ReplicaError> {
        let segment = self.segments.get_mut(&copied.segment.nonce).ok_or(ReplicaError::Unknown)?;
        if segment.is_damaged {
            return Err(ReplicaError::Closed);
        }
        if segment.end != copied.end {
            return Err(ReplicaError::Gap { end: segment.end, chain: segment.chain });
        }
        if chain != 0 && segment.chain != 0 && chain != segment.chain {
            return Err(ReplicaError::Diverged);
        }
        segment.become_copy(&copied);
        let settled = Settled::Copied { nonce: copied.segment.nonce, record_version: copied.record_version };
        self.owed.push_back(settled);
        Ok(JournalEntry::Copied(copied))
    }

    /// Lets go of a segment: the entry for the journal.
    pub fn drop_segment(&mut self, nonce: Nonce) -> Option<JournalEntry> {
        let segment = self.segments.remove(&nonce)?;
        // What the journal still owes is of this life of the segment: it may be copied anew.
        for owed in &mut self.owed {
            match owed {
                Settled::Durable { segment, .. } if segment.nonce == nonce => *owed = Settled::Quiet,
                Settled::Copied { nonce: copied, .. } if *copied == nonce => *owed = Settled::Quiet,
                _ => {}
            }
        }
        self.owed.push_back(Settled::Quiet);
        Some(JournalEntry::Drop { segment: segment.open.segment })
    }

    /// The journal has fsynced this partition's next entry.
    pub fn journal_durable(&mut self) -> Settled {
        let settled = self.owed.pop_front();
        let settled = settled.expect("INVARIANT: the journal completes what it was given, once");
        if let Settled::Durable { segment, end } = settled
            && let Some(state) = self.segments.get_mut(&segment.nonce)
        {
            assert!(end <= state.end || state.sealed.is_some(), "INVARIANT: no durable end above the end");
            let end = state.sealed.map_or(end, |sealed| end.min(sealed));
            state.durable = Some(state.durable.map_or(end, |durable| durable.max(end)));
        }
        if let Settled::Copied { nonce, record_version } = settled
            && let Some(state) = self.segments.get_mut(&nonce)
        {
            state.confirmed_for = state.confirmed_for.max(record_version);
        }
        settled
    }

    /// What this disk can say of a segment.
    pub fn member_state(&self, nonce: Nonce) -> MemberState {
        let Some(segment) = self.segments.get(&nonce) else {
            if !self.rules.holds(Rule::UnknownIsNotEmpty) {
                return MemberState::Known { durable: 0, commit: 0, chain: 0 };
            }
            return MemberState::Unknown;
        };
        match segment.durable {
            _ if segment.is_damaged => MemberState::Damaged,
            None => MemberState::Unknown,
            Some(durable) => {
                MemberState::Known { durable, commit: segment.commit.min(durable), chain: segment.chain_at(durable) }
            }
        }
    }

    /// Applies an entry that recovery found: it is durable already.
    pub fn replay(&mut self, entry: &JournalEntry) {
        let rules = self.rules;
        match entry {
            JournalEntry::Open(open) => {
                if self.segments.contains_key(&open.segment.nonce) {
                    return; // The catalogue had it already, and more of it.
                }
                self.insert(open.clone());
                if let Some(segment) = self.segments.get_mut(&open.segment.nonce) {
                    segment.durable = Some(open.base);
                }
            }
            JournalEntry::Append { meta, batch } => {
                let Some(segment) = self.segments.get_mut(&meta.segment.nonce) else { return };
                if batch.base_offset == segment.end {
                    segment.accept(*meta, batch.clone(), rules);
                    segment.durable = Some(segment.end);
                } else if batch.base_offset > segment.end {
                    // What stood between is gone: never pretend that the segment ends here.
                    segment.is_damaged = true;
                }
            }
            JournalEntry::Fence { generation, epoch, .. } => self.floor = self.floor.max((*generation, *epoch)),
            JournalEntry::Seal { segment, end } => {
                if let Some(segment) = self.segments.get_mut(&segment.nonce) {
                    segment.seal(*end);
                }
            }
            JournalEntry::Delete { .. } => {
                self.segments.clear();
                self.is_deleted = true;
            }
            JournalEntry::Copied(copied) => {
                if let Some(segment) = self.segments.get_mut(&copied.segment.nonce) {
                    segment.is_damaged |= segment.end != copied.end;
                    segment.become_copy(copied);
                    segment.confirmed_for = segment.copied_for;
                }
            }
            JournalEntry::Drop { segment } => {
                self.segments.remove(&segment.nonce);
            }
            JournalEntry::Idle => {}
        }
    }

    /// Takes a segment from the catalogue, before the journal is replayed on top of it.
    pub fn restore(&mut self, floor: (Generation, Epoch), segments: impl IntoIterator<Item = Segment>) {
        self.floor = self.floor.max(floor);
        self.segments.extend(segments.into_iter().map(|segment| (segment.open.segment.nonce, Box::new(segment))));
    }

    /// Recovery found damage that may hold entries of this segment.
    pub fn mark_damaged(&mut self, nonce: Nonce) {
        if let Some(segment) = self.segments.get_mut(&nonce) {
            segment.is_damaged = true;
        }
    }

    /// Forgets every segment (the topic is deleted). The floor stays as long as this is kept; a node forgets it all
    /// once the deletion is in its catalogue: no record names the partition then, so that no segment becomes active.
    pub fn delete(&mut self) -> JournalEntry {
        self.segments.clear();
        for owed in &mut self.owed {
            if matches!(owed, Settled::Durable { .. } | Settled::Copied { .. }) {
                *owed = Settled::Quiet;
            }
        }
        self.is_deleted = true;
        self.owed.push_back(Settled::Quiet);
        JournalEntry::Delete { partition: self.partition }
    }

    /// Nothing of it can change by itself: every segment is sealed, whole, durable and known to be so.
    pub fn is_at_rest(&self) -> bool {
        let is_settled = |segment: &Segment| {
            let is_whole = segment.sealed.is_some_and(|end| segment.durable == Some(end) && segment.end == end);
            let is_known = !segment.is_copy() || segment.confirmed_for == segment.copied_for;
            is_whole && is_known && !segment.is_damaged && segment.pending.is_empty()
        };
        !self.is_deleted && self.owed.is_empty() && self.segments.values().all(|segment| is_settled(segment))
    }

    /// Gives back memory that only work needs.
    pub fn shed(&mut self) {
        self.owed.shrink_to_fit();
        self.segments.values_mut().for_each(|segment| segment.pending.shrink_to_fit());
    }
}

impl Segment {
    /// Takes a segment from stored state: everything below `end` is in a file and durable.
    pub fn stored(open: OpenMeta, end: Offset, chain: u64, sealed: Option<Offset>, committed: ProducerState) -> Self {
        Self {
            end,
            chain,
            durable: Some(end),
            commit: end,
            sealed,
            is_damaged: false,
            copied_for: 0,
            confirmed_for: 0,
            committed,
            pending: VecDeque::new(),
            pending_bytes: 0,
            open,
        }
    }

    fn accept(&mut self, meta: AppendMeta, batch: Batch, rules: Rules) {
        let chain_before = self.chain;
        // 0 is no hash: what follows what is not known is not known either.
        let is_known = chain_before != 0 || !rules.holds(Rule::UnknownChainStays);
        self.chain = if is_known { batch.chain_after(chain_before) } else { 0 };
        self.end = batch.end_offset();
        self.pending_bytes += batch.len();
        self.pending.push_back(Pending { meta, batch, chain_before, chain_after: self.chain });
        self.raise_commit(meta.commit);
    }

    /// CW never falls, and never passes what is here.
    pub(crate) fn raise_commit(&mut self, commit: Offset) {
        while let Some(first) = self.pending.front() {
            if first.batch.end_offset() > commit {
                break;
            }
            let Pending { meta, batch, .. } = self.pending.pop_front().expect("just seen");
            self.pending_bytes -= batch.len();
            self.committed.record(&meta.dedupe, &batch, meta.append_time);
        }
        let known = self.pending.front().map_or(self.end, |first| first.batch.base_offset);
        self.commit = self.commit.max(commit.min(known));
    }

    fn seal(&mut self, end: Offset) {
        // A leader may know more to be committed than the survivor whose watermark became the seal: what lies
        // between was carried, and is the next segment's. Its producer state stays above, and is not used again.
        while self.pending.back().is_some_and(|last| last.batch.end_offset() > end) {
            if let Some(cut) = self.pending.pop_back() {
                self.pending_bytes -= cut.batch.len();
                self.chain = cut.chain_before;
            }
        }
        if self.commit > end {
            // Not known at the seal any more; 0 is no hash to compare with.
            self.chain = 0;
        }
        // A copy that ends below its seal has lost something: a seal never lies above an intact member's end.
        self.is_damaged |= self.end < end;
        self.end = self.end.min(end);
        self.durable = self.durable.map(|durable| durable.min(end));
        self.sealed = Some(end);
        self.raise_commit(end);
    }

    /// Made by repair, whole or not.
    pub fn is_copy(&self) -> bool {
        self.open.leader == NOBODY
    }

    fn become_copy(&mut self, copied: &CopiedMeta) {
        self.raise_commit(copied.end);
        self.sealed = Some(copied.end);
        self.committed = ProducerState::from_snapshot(&copied.producers);
        self.copied_for = self.copied_for.max(copied.record_version);
    }

    /// The chain hash at a batch boundary at or above the watermark; 0 where it is not known any more.
    pub fn chain_at(&self, offset: Offset) -> u64 {
        if offset == self.end {
            return self.chain;
        }
        self.pending.iter().find(|p| p.batch.base_offset == offset).map_or(0, |p| p.chain_before)
    }

    /// Producer state at `offset`, a batch boundary at or above the watermark; `None` for what is not here: a copy that
    /// is being made knows only of what it has.
    pub fn producers_at(&self, offset: Offset) -> Option<ProducerState> {
        if offset < self.commit || offset > self.end {
            return None;
        }
        let mut state = self.committed.clone();
        for pending in self.pending.iter().take_while(|p| p.batch.end_offset() <= offset) {
            state.record(&pending.meta.dedupe, &pending.batch, pending.meta.append_time);
        }
        Some(state)
    }

    /// What lies in `[from, to)`, to be carried into the next segment.
    pub fn tail(&self, from: Offset, to: Offset) -> impl Iterator<Item = &Pending> {
        self.pending.iter().filter(move |p| p.batch.base_offset >= from && p.batch.end_offset() <= to)
    }
}
