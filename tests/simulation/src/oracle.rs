//! What must be true, whatever happens: the invariants of `docs/invariants.md`, by their numbers.
//!
//! The oracle sees everything: each fsync, each answer, each change of a partition's record. It keeps its own
//! books and never asks a core what it believes.

use std::collections::{BTreeMap, BTreeSet};

use types::{Epoch, Generation, Incarnation, NodeId, Nonce, Offset, PartitionRecord, Replica};
use wire::Batch;
use wire::frame::Appended;
use wire::journal::{JournalEntry, OpenMeta};

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

type Check = Result<(), Violation>;

fn broken(text: String) -> Check {
    Err(Violation(text))
}

/// The batches of one segment that one disk fsynced: base offset to (end, hash).
type Copies = BTreeMap<Offset, (Offset, u32)>;

/// See the module's text. One per partition.
#[derive(Debug, Default)]
pub struct Oracle {
    /// What each disk holds now, and what it ever held.
    copies: BTreeMap<(Incarnation, Nonce), Copies>,
    ever: BTreeMap<(Incarnation, Nonce), Copies>,
    /// Base offset to (end, hash) of each acknowledged batch.
    acked: BTreeMap<Offset, (Offset, u32)>,
    /// Append time of each acknowledged batch, as its clients were told.
    times: BTreeMap<Offset, i64>,
    read: BTreeMap<Offset, (Offset, u32)>,
    /// Where each batch that was read is.
    read_at: BTreeMap<u32, Offset>,
    fenced: BTreeMap<Incarnation, (Generation, Epoch)>,
    fenced_at: BTreeMap<(Incarnation, Nonce), Offset>,
    authors: BTreeMap<Nonce, (NodeId, u64)>,
    published: BTreeMap<Nonce, [Replica; 2]>,
    /// The pair that each segment was listed with first: its records were acknowledged by these.
    opened: BTreeMap<Nonce, [Replica; 2]>,
    seals: BTreeMap<Nonce, Offset>,
    visible: BTreeMap<(NodeId, u64, Nonce), Offset>,
    last_leadership: (Generation, Epoch),
    last_chain: Vec<(Nonce, Option<Offset>)>,
    /// What is below was given up by its owner.
    log_start: Offset,
    /// Segments whose opening a disk fsynced, and the newest record version that a fsynced copy is kept for.
    openings: BTreeSet<(Incarnation, Nonce)>,
    confirmed: BTreeMap<(Incarnation, Nonce), u64>,
    lost_disks: BTreeSet<Incarnation>,
    /// Quarantined copies.
    damaged: BTreeSet<(Incarnation, Nonce)>,
    /// First violation.
    pub violation: Option<Violation>,
}

fn hash(batch: &Batch) -> u32 {
    batch.header().crc
}

impl Oracle {
    fn note(&mut self, check: Check) {
        if let Err(violation) = check {
            self.violation.get_or_insert(violation);
        }
    }

    /// What this entry on a disk lets it say.
    fn note_entry(&mut self, disk: Incarnation, entry: &JournalEntry) {
        match entry {
            JournalEntry::Open(open) => drop(self.openings.insert((disk, open.segment.nonce))),
            JournalEntry::Copied(copied) => {
                let version = self.confirmed.entry((disk, copied.segment.nonce)).or_default();
                *version = (*version).max(copied.record_version);
            }
            JournalEntry::Drop { segment } => drop(self.confirmed.remove(&(disk, segment.nonce))),
            _ => {}
        }
    }

    /// A disk completed a write that holds this entry.
    pub fn fsynced(&mut self, disk: Incarnation, entry: &JournalEntry) {
        self.note_entry(disk, entry);
        if let JournalEntry::Drop { segment } | JournalEntry::Open(OpenMeta { segment, .. }) = entry {
            // What was queued before it came to the disk all the same; or its earlier opening had rotted away.
            self.copies.remove(&(disk, segment.nonce));
        }
        let JournalEntry::Append { meta, batch } = entry else { return };
        let check = self.check_fsynced(disk, meta.segment.nonce, meta.segment.leadership(), batch);
        self.note(check);
        let value = (batch.end_offset(), hash(batch));
        self.copies.entry((disk, meta.segment.nonce)).or_default().insert(batch.base_offset, value);
        self.ever.entry((disk, meta.segment.nonce)).or_default().insert(batch.base_offset, value);
    }

    fn check_fsynced(&self, disk: Incarnation, nonce: Nonce, leadership: (Generation, Epoch), batch: &Batch) -> Check {
        // Repair copies what is sealed: the same bytes as on another disk, below the seal.
        let is_copy = self.seals.get(&nonce).is_some_and(|end| batch.end_offset() <= *end)
            && (self.damaged.contains(&(disk, nonce))
                || self.published.get(&nonce).is_some_and(|pair| pair.iter().all(|m| m.incarnation != disk)));
        if !is_copy && self.fenced.get(&disk).is_some_and(|fence| leadership < *fence) {
            return broken(format!("12 FENCE-DURABLE: {batch:?} of {leadership:?} fsynced after a higher fence"));
        }
        if !is_copy && self.fenced_at.get(&(disk, nonce)).is_some_and(|end| batch.base_offset >= *end) {
            return broken(format!("13 FENCE-COMPLETE: {batch:?} fsynced above the end in a fence's reply"));
        }
        for ((other, _), copies) in self.copies.iter().filter(|((other, n), _)| *n == nonce && *other != disk) {
            if let Some((_, known)) = copies.get(&batch.base_offset)
                && *known != hash(batch)
                // A copy that is not what its source has must not be listed: that is looked at when it is.
                && !is_copy
            {
                return broken(format!("7 PREFIX: {batch:?} differs from the copy on {other}"));
            }
        }
        let own = self.copies.get(&(disk, nonce));
        if let Some((end, _)) = own.and_then(|copies| copies.values().next_back())
            && batch.base_offset != *end
        {
            return broken(format!("5 CONTIGUOUS: {batch:?} fsynced after {end}"));
        }
        Ok(())
    }

    /// A fence was answered with this end.
    pub fn fence_answered(
        &mut self,
        disk: Incarnation,
        leadership: (Generation, Epoch),
        segment: Option<(Nonce, Offset)>,
    ) {
        let fence = self.fenced.entry(disk).or_insert(leadership);
        *fence = (*fence).max(leadership);
        if let Some((nonce, end)) = segment {
            let known = self.fenced_at.entry((disk, nonce)).or_insert(end);
            *known = (*known).min(end);
        }
    }

    /// A leader journals a batch of its own segment, in this process lifetime.
    pub fn authored(&mut self, node: NodeId, life: u64, nonce: Nonce) {
        let author = *self.authors.entry(nonce).or_insert((node, life));
        if author != (node, life) {
            self.note(broken(format!(
                "14 ONE-AUTHOR: {node}/{life} appends in a segment of {}/{}",
                author.0, author.1
            )));
        }
    }

    /// A client was told that its batch is at `base`.
    pub fn acknowledged(&mut self, appended: Appended, batch: &Batch) {
        let Appended { base_offset: base, append_time } = appended;
        let check = self.check_time(base, append_time);
        self.note(check);
        self.times.insert(base, append_time);
        let batch = batch.clone().placed_at(base, 0);
        let check = self.check_acknowledged(&batch);
        self.note(check);
        if base >= self.log_start {
            self.acked.insert(base, (batch.end_offset(), hash(&batch)));
        }
    }

    /// Where batches begin that are acknowledged, and not given up.
    pub fn acknowledged_bases(&self) -> Vec<Offset> {
        self.acked.keys().copied().collect()
    }

    /// Everything below was given up.
    pub fn trimmed(&mut self, before: Offset) {
        self.log_start = self.log_start.max(before);
        self.acked.retain(|base, _| *base >= before);
        self.read.retain(|base, _| *base >= before);
    }

    fn check_time(&self, base: Offset, append_time: i64) -> Check {
        if let Some(first) = self.times.get(&base).filter(|first| **first != append_time) {
            return broken(format!("21 NO-CLOCK: the batch at {base} was appended at {first}, then at {append_time}"));
        }
        let before = self.times.range(..base).next_back().filter(|(_, time)| **time > append_time);
        let after = self.times.range(base + 1..).next().filter(|(_, time)| **time < append_time);
        match before.or(after) {
            Some((other, time)) => broken(format!("21 NO-CLOCK: {base} has time {append_time}, {other} has {time}")),
            None => Ok(()),
        }
    }

    fn check_acknowledged(&self, batch: &Batch) -> Check {
        let base = batch.base_offset;
        if let Some((_, known)) = self.acked.get(&base)
            && *known != hash(batch)
        {
            return broken(format!("4 UNIQUE-OFFSET: two batches acknowledged at {base}"));
        }
        let before = self.acked.range(..base).next_back();
        if let Some((_, (end, _))) = before.filter(|(_, (end, _))| *end > base) {
            return broken(format!("4 UNIQUE-OFFSET: a batch at {base} lies below the end {end} of another"));
        }
        if let Some((at, _)) = self.acked.iter().find(|(at, (_, known))| *known == hash(batch) && **at != base) {
            return broken(format!("30 EXACTLY-ONCE: one batch acknowledged at {at} and {base}"));
        }
        let is_on_both = |(nonce, pair): (&Nonce, &[Replica; 2])| {
            pair.iter().all(|member| {
                let copies = self.ever.get(&(member.incarnation, *nonce));
                copies.and_then(|copies| copies.get(&base)).is_some_and(|(_, known)| *known == hash(batch))
            })
        };
        if !self.opened.iter().any(is_on_both) {
            let anywhere = self.ever.iter().any(|(_, copies)| copies.get(&base).is_some_and(|c| c.1 == hash(batch)));
            let name = if anywhere { "1 ACKED-DURABLE or 15 CAS-FIRST" } else { "1 ACKED-DURABLE" };
            return broken(format!("{name}: {batch:?} is not fsynced on both members of a published segment"));
        }
        Ok(())
    }

    /// Placement's record was made anew: where it ends what only a lost record had sealed is its own to say.
    pub fn restored(&mut self, record: &PartitionRecord) {
        let listed = record.chain.iter().filter_map(|segment| Some((segment.nonce, segment.end?)));
        self.seals = listed.collect();
        self.visible.clear();
        self.take(record);
    }

    /// 9: an opening is listed once both disks have it.
    fn check_opening(&self, record: &PartitionRecord) -> Check {
        let is_new = |nonce: Nonce| !self.published.contains_key(&nonce);
        let Some(open) = record.open().filter(|open| is_new(open.nonce)) else { return Ok(()) };
        let is_gone = |member: &Replica| self.lost_disks.contains(&member.incarnation);
        let has = |member: &Replica| self.openings.contains(&(member.incarnation, open.nonce)) || is_gone(member);
        if !open.replicas.iter().all(has) {
            return broken(format!("9 TAIL-CARRIED: {} is listed, and a disk does not have its opening", open.nonce));
        }
        Ok(())
    }

    /// A node says that its copy is whole and stays: that must be on disk by then (22 TWO-COPIES).
    pub fn copy_confirmed(&mut self, disk: Incarnation, nonce: Nonce, version: u64) {
        if self.confirmed.get(&(disk, nonce)).is_none_or(|known| *known < version) {
            self.note(broken(format!("22 TWO-COPIES: a copy of {nonce} is said to be kept, and that is not on disk")));
        }
    }

    /// Placement's record changed.
    pub fn recorded(&mut self, record: &PartitionRecord) {
        let check = self.check_opening(record);
        self.note(check);
        self.take(record);
    }

    fn take(&mut self, record: &PartitionRecord) {
        let check = self.check_recorded(record).and_then(|()| self.check_replicas(record));
        self.note(check);
        self.last_chain = record.chain.iter().map(|segment| (segment.nonce, segment.end)).collect();
        for segment in &record.chain {
            self.published.insert(segment.nonce, segment.replicas);
            self.opened.entry(segment.nonce).or_insert(segment.replicas);
            if let Some(end) = segment.end {
                self.seals.insert(segment.nonce, end);
            }
        }
        self.last_leadership = (record.generation, record.epoch);
        let check = self.check_kept(record);
        self.note(check);
    }

    fn check_recorded(&self, record: &PartitionRecord) -> Check {
        let chain: Vec<_> = record.chain.iter().map(|segment| (segment.nonce, segment.end)).collect();
        if record.log_start < self.log_start {
            return broken(format!("10 NO-RESET: the log start fell to {}", record.log_start));
        }
        // The beginning may leave it: what must stay is looked at elsewhere.
        let is_repair = (record.generation, record.epoch) == self.last_leadership && self.last_chain.ends_with(&chain);
        if (record.generation, record.epoch) <= self.last_leadership && !is_repair {
            return broken(format!("17 EPOCH-UP: {} after {:?}", record.epoch, self.last_leadership));
        }
        for pair in record.chain.windows(2) {
            if pair[0].end != Some(pair[1].base) || pair[0].epoch >= pair[1].epoch {
                return broken(format!("5 CONTIGUOUS: {pair:?}"));
            }
        }
        for segment in &record.chain {
            if let (Some(known), end) = (self.seals.get(&segment.nonce), segment.end)
                && Some(*known) != end
            {
                return broken(format!("16 SEAL-ONCE: {known} became {end:?}"));
            }
        }
        // 9 TAIL-CARRIED: all that may have been acknowledged above the seal is on both new members.
        if let Some(open) = record.open() {
            for (base, (_, known)) in self.acked.range(open.base..) {
                for member in open.replicas.iter().filter(|member| !self.lost_disks.contains(&member.incarnation)) {
                    let copies = self.ever.get(&(member.incarnation, open.nonce));
                    if copies.and_then(|c| c.get(base)).is_none_or(|(_, hash)| hash != known) {
                        return broken(format!(
                            "9 TAIL-CARRIED: acknowledged {base} is not on {}, which has {:?}",
                            member.node,
                            copies.and_then(|c| c.get(base))
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// 2 ACKED-KEPT and 10 NO-RESET: every acknowledged batch is in the chain, on a disk that is listed.
    pub fn check_kept(&self, record: &PartitionRecord) -> Check {
        for (base, (end, known)) in &self.acked {
            let Some(segment) = record.segment_of(*base) else {
                return broken(format!("10 NO-RESET: no segment holds acknowledged {base}"));
            };
            if segment.end.is_some_and(|seal| seal < *end) {
                return broken(format!("2 ACKED-KEPT: the seal cuts the batch at {base}"));
            }
            let is_there = segment.replicas.iter().any(|member| {
                let copies = self.copies.get(&(member.incarnation, segment.nonce));
                copies.and_then(|copies| copies.get(base)).is_some_and(|(_, hash)| hash == known)
            });
            if !is_there {
                return broken(format!("2 ACKED-KEPT: no listed disk has acknowledged {base}"));
            }
        }
        for (base, (_, known)) in &self.read {
            let segment = record.segment_of(*base);
            let is_there = segment.is_some_and(|segment| {
                segment.replicas.iter().any(|member| {
                    let copies = self.copies.get(&(member.incarnation, segment.nonce));
                    copies.and_then(|copies| copies.get(base)).is_some_and(|(_, hash)| hash == known)
                })
            });
            if !is_there {
                return broken(format!("3 READ-STABLE: what was read at {base} is gone or changed"));
            }
        }
        Ok(())
    }

    /// 22 TWO-COPIES and 19 AZ-PAIR: who is listed anew for a sealed segment has all of it on disk.
    fn check_replicas(&self, record: &PartitionRecord) -> Check {
        for segment in &record.chain {
            let [a, b] = segment.replicas;
            // Nobody, until repair finds someone.
            let is_someone = a.node.0 > 0 && b.node.0 > 0;
            if is_someone && (a.node.0 - 1) % 3 == (b.node.0 - 1) % 3 {
                return broken(format!("19 AZ-PAIR: {} and {} are in one zone", a.node, b.node));
            }
            let Some(pair) = self.published.get(&segment.nonce) else { continue };
            let is_new = |member: &&Replica| {
                // Nobody, or a disk that is gone: listed until repair finds another.
                member.node.0 > 0 && !pair.contains(member) && !self.lost_disks.contains(&member.incarnation)
            };
            for member in segment.replicas.iter().filter(is_new) {
                let copies = self.copies.get(&(member.incarnation, segment.nonce));
                for (base, (_, known)) in self.acked.range(segment.base..segment.end.unwrap_or(segment.base)) {
                    if copies.and_then(|copies| copies.get(base)).is_none_or(|(_, hash)| hash != known) {
                        let has = copies.and_then(|copies| copies.get(base));
                        return broken(format!("22 TWO-COPIES: {} is listed and lacks {base}: {has:?}", member.node));
                    }
                }
            }
        }
        Ok(())
    }

    /// A node finds its copy of a segment damaged; `is_absent`: it does not even know the segment.
    pub fn damaged(&mut self, disk: Incarnation, nonce: Nonce, is_absent: bool) {
        self.damaged.insert((disk, nonce));
        if is_absent {
            self.copies.remove(&(disk, nonce));
        }
    }

    /// A disk let go of a segment, while this was the record.
    pub fn dropped(&mut self, node: NodeId, disk: Incarnation, nonce: Nonce, record: &PartitionRecord) {
        // Another copy may come, and grow.
        self.visible.retain(|(at, _, known), _| (*at, *known) != (node, nonce));
        self.copies.remove(&(disk, nonce));
        let listed = record.chain.iter().find(|segment| segment.nonce == nonce);
        let is_listed = listed.is_some_and(|segment| segment.replicas.iter().any(|r| r.incarnation == disk));
        // A damaged copy is thrown away before it is made anew.
        if is_listed && !self.damaged.contains(&(disk, nonce)) {
            self.note(broken(format!("23 DROP-LAST: {disk} let go of {nonce}, for which it is listed")));
        }
        let check = self.check_kept(record);
        self.note(check);
    }

    pub fn check_kept_at_end(&mut self, record: &PartitionRecord) {
        let check = self.check_kept(record);
        self.note(check);
    }

    /// A reader is shown everything of a segment below `visible` by this disk.
    pub fn shown(&mut self, node: NodeId, life: u64, disk: Incarnation, nonce: Nonce, visible: Offset, is_open: bool) {
        let before = self.visible.insert((node, life, nonce), visible);
        // A leader that stood still may know more to be committed than the survivor whose watermark became the seal: what
        // lies between is read in the next segment.
        let is_at_seal = !is_open && self.seals.get(&nonce) == Some(&visible);
        if before.is_some_and(|before| before > visible) && !is_at_seal {
            self.note(broken(format!("8 CW-BOUND: the watermark of {nonce} fell from {before:?} to {visible}")));
        }
        let copies = self.copies.get(&(disk, nonce)).cloned().unwrap_or_default();
        // Below the log start nobody is shown anything.
        for (base, (end, known)) in copies.range(self.log_start.min(visible)..visible) {
            if *end > visible {
                break;
            }
            if is_open && !self.is_on_both(nonce, *base, *known) {
                self.note(broken(format!("8 CW-BOUND: {base} is shown and not fsynced on both")));
                return;
            }
            let at = *self.read_at.entry(*known).or_insert(*base);
            if at != *base {
                self.note(broken(format!("30 EXACTLY-ONCE: one batch is read at {at} and at {base}")));
                return;
            }
            let seen = *self.read.entry(*base).or_insert((*end, *known));
            if seen != (*end, *known) {
                self.note(broken(format!("3 READ-STABLE: {base} was read as something else")));
                return;
            }
        }
    }

    fn is_on_both(&self, nonce: Nonce, base: Offset, known: u32) -> bool {
        let Some(pair) = self.opened.get(&nonce) else { return false };
        pair.iter().all(|member| {
            let copies = self.ever.get(&(member.incarnation, nonce));
            copies.and_then(|copies| copies.get(&base)).is_some_and(|(_, hash)| *hash == known)
        })
    }

    /// A process recovered a segment with this end; `None` when it is quarantined.
    /// `has_lied`: the disk had said that a write was done, and it was not.
    pub fn recovered(
        &mut self,
        disk: Incarnation,
        nonce: Nonce,
        end: Option<Offset>,
        seal: Option<Offset>,
        has_lied: bool,
    ) {
        if end.is_none() {
            self.damaged.insert((disk, nonce));
        }
        let held = self.copies.get(&(disk, nonce)).and_then(|copies| copies.values().map(|(end, _)| *end).max());
        let held = held.map(|held| seal.map_or(held, |seal| held.min(seal)));
        if let (Some(held), Some(end)) = (held, end)
            && end < held
            && !has_lied
        {
            self.note(broken(format!("27 NO-SILENT-TRUNCATION: {nonce} came back at {end}, fsynced to {held}")));
        }
    }

    /// A torn write that reached the disk whole was never reported, yet it is there.
    pub fn found(&mut self, disk: Incarnation, entry: &JournalEntry) {
        self.note_entry(disk, entry);
        // What lies before its opening is of an earlier life of this copy.
        if let JournalEntry::Drop { segment } | JournalEntry::Open(OpenMeta { segment, .. }) = entry {
            self.copies.remove(&(disk, segment.nonce));
        }
        let JournalEntry::Append { meta, batch } = entry else { return };
        let value = (batch.end_offset(), hash(batch));
        self.copies.entry((disk, meta.segment.nonce)).or_default().insert(batch.base_offset, value);
        self.ever.entry((disk, meta.segment.nonce)).or_default().insert(batch.base_offset, value);
    }

    /// A batch that a flush has put into a file, whatever became of its entry in the journal.
    pub fn in_file(&mut self, disk: Incarnation, nonce: Nonce, batch: &Batch) {
        let value = (batch.end_offset(), hash(batch));
        self.copies.entry((disk, nonce)).or_default().insert(batch.base_offset, value);
    }

    /// A disk is gone for good.
    pub fn disk_lost(&mut self, disk: Incarnation) {
        self.lost_disks.insert(disk);
        self.copies.retain(|(owner, _), _| *owner != disk);
    }

    /// A client's batch was acknowledged below one that it sent later.
    pub fn out_of_order(&mut self, text: String) {
        self.note(broken(format!("6 ORDER: {text}")));
    }

    pub fn fail(&mut self, text: String) {
        self.note(broken(text));
    }

    /// Whether a batch at or above `base` was acknowledged.
    pub fn has_acknowledged_from(&self, base: Offset) -> bool {
        self.acked.range(base..).next().is_some()
    }

    pub fn acked_batches(&self) -> usize {
        self.acked.len()
    }
}
