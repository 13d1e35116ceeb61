//! Copies of sealed segments: what repair makes on this node, and what this node lets go of.
//!
//! Placement asks a target to copy a segment, again and again, until the answer is that it is done; then it lists the
//! target by compare-and-swap. A copy says for which version of the record it was made: a record of that version or an
//! older one, which cannot list it yet, is no reason to drop it (docs/invariants.md, 23).

use std::collections::BTreeSet;

use types::{ErrorCode, Nonce, Offset, PartitionRecord, SegmentId};
use wire::Batch;
use wire::frame::{CopyReply, CopyRequest, DescribeRequest, Description, Refusal};
use wire::journal::{CopiedMeta, OpenMeta};

use super::{Effect, Partition, Token, refusal};
use crate::Rule;
use crate::replica::Segment;

/// What the shell's copying brings.
#[derive(Debug, Clone, Hash)]
pub enum Progress {
    /// The source described the segment.
    Begun(Box<OpenMeta>),
    /// The next batches, in order; `append_time` for those that have no better one.
    Batches { nonce: Nonce, batches: Vec<Batch> },
    /// Everything was given.
    Whole { segment: SegmentId, end: Offset, record_version: u64, description: Box<Description> },
    /// No source went on. What is here already is gone on with when the copy is asked for again.
    Failed { nonce: Nonce },
}

/// Copies that the shell is making.
#[derive(Debug, Clone, Default, Hash)]
pub struct Copying(BTreeSet<Nonce>);

impl Copying {
    pub fn is_any(&self) -> bool {
        !self.0.is_empty()
    }

    pub fn is_under_way(&self, nonce: Nonce) -> bool {
        self.0.contains(&nonce)
    }
}

impl Partition {
    pub(super) fn copy(&mut self, token: Token, request: Box<CopyRequest>, out: &mut Vec<Effect>) {
        let result = self.copy_reply(request, out);
        out.push(Effect::AnswerCopy { token, result });
    }

    fn copy_reply(&mut self, request: Box<CopyRequest>, out: &mut Vec<Effect>) -> Result<CopyReply, Refusal> {
        self.check_tenant(request.account, None)?;
        if request.target != self.me {
            return Err(refusal(ErrorCode::InvalidRequest, "the copy is not for this disk"));
        }
        if request.generation < self.replica.floor().0 && self.rules.holds(Rule::OlderGenerationIsOver) {
            return Err(refusal(ErrorCode::Fenced, "metadata was restored: another generation has begun"));
        }
        let nonce = request.segment.nonce;
        let unsealed = self.replica.segment(nonce).filter(|segment| segment.sealed.is_none());
        if unsealed.is_some_and(|segment| !segment.is_copy()) && !self.copying.is_under_way(nonce) {
            // It had not heard of its seal.
            self.seal(nonce, request.end, out);
        }
        // A flush may have seen a copy sealed whose last batches a power cut took.
        let is_short = |segment: &Segment| segment.sealed.is_some_and(|sealed| segment.end < sealed);
        if self.replica.segment(nonce).is_some_and(|segment| segment.is_damaged || is_short(segment)) {
            self.copying.0.remove(&nonce);
            self.let_go(nonce, out);
        }
        let state = self.replica.segment(nonce);
        let copied_to = state.and_then(|segment| segment.durable).unwrap_or(request.base);
        let Some(segment) = state.filter(|segment| segment.sealed.is_some()) else {
            if self.copying.0.insert(nonce) {
                let from = state.map_or(request.base, |segment| segment.end);
                out.push(Effect::Copy { request, from });
            }
            return Ok(CopyReply { copied_to, is_done: false });
        };
        let is_on_disk = self.rules.holds(Rule::KeptIsOnDisk);
        let kept_for = if is_on_disk { segment.confirmed_for } else { segment.copied_for.max(segment.confirmed_for) };
        let is_kept = kept_for >= request.record_version || !self.rules.holds(Rule::CopyIsKept);
        if segment.copied_for < request.record_version {
            // Whole, but what says so must be in the journal before the answer does.
            let copied = CopiedMeta {
                segment: request.segment,
                end: request.end,
                record_version: if self.rules.holds(Rule::CopyIsKept) { request.record_version } else { 0 },
                producers: segment.committed.snapshot(),
            };
            match self.replica.finish_copy(copied, 0) {
                Ok(entry) => out.push(Effect::Journal(entry)),
                Err(_) => return Err(refusal(ErrorCode::Damaged, "what is here is not what the record seals")),
            }
        }
        Ok(CopyReply { copied_to, is_done: is_kept && copied_to >= request.end })
    }

    pub(super) fn progress(&mut self, progress: Progress, out: &mut Vec<Effect>) {
        match progress {
            Progress::Begun(open) => {
                let nonce = open.segment.nonce;
                if self.copying.is_under_way(nonce) && self.replica.segment(nonce).is_none() {
                    self.tenant.get_or_insert((open.account, open.cluster));
                    out.push(Effect::Journal(self.replica.begin_copy(*open)));
                }
            }
            Progress::Batches { nonce, batches } => {
                if !self.copying.is_under_way(nonce) {
                    return;
                }
                for batch in batches {
                    let time = batch.header().max_timestamp;
                    match self.replica.copy(nonce, batch, time) {
                        Ok(entry) => out.push(Effect::Journal(entry)),
                        Err(_) => break,
                    }
                }
            }
            Progress::Whole { segment, end, record_version, description } => {
                if !self.copying.0.remove(&segment.nonce) {
                    return;
                }
                let chain = if self.rules.holds(Rule::CopyIsChecked) { description.chain } else { 0 };
                let copied = CopiedMeta { segment, end, record_version, producers: description.producers };
                match self.replica.finish_copy(copied, chain) {
                    Ok(entry) => out.push(Effect::Journal(entry)),
                    // Not what the source has: begun anew when it is asked for again.
                    Err(_) => self.let_go(segment.nonce, out),
                }
            }
            Progress::Failed { nonce } => {
                self.copying.0.remove(&nonce);
                out.push(Effect::AskPlacement);
            }
        }
    }

    /// What this member can say of a segment that ends, or is about to end, at `end`.
    ///
    /// # Errors
    /// If it does not have the segment whole up to there, on disk.
    pub fn describe(&self, request: &DescribeRequest) -> Result<Description, Refusal> {
        self.check_tenant(request.account, None)?;
        let absent = || refusal(ErrorCode::NotLeader, "the segment is not here");
        let segment = self.replica.segment(request.segment.nonce).ok_or_else(absent)?;
        let is_whole = segment.durable.is_some_and(|durable| durable >= request.end);
        if segment.is_damaged || !is_whole || self.copying.is_under_way(request.segment.nonce) {
            return Err(refusal(ErrorCode::Damaged, "the segment is not whole here"));
        }
        // Of a leader that knew more to be committed than the survivor whose watermark became the seal: its state is
        // that of a later offset, which the next segment carries.
        let producers = segment.producers_at(request.end).unwrap_or_else(|| segment.committed.clone());
        let is_chain_known = segment.commit <= request.end;
        let chain = if is_chain_known { segment.chain_at(request.end) } else { 0 };
        Ok(Description { open: segment.open.clone(), chain, producers: producers.snapshot() })
    }

    /// Sealed segments that the record lists here and that are damaged, or whose very opening is gone.
    pub(super) fn report_damage(&self, record: &PartitionRecord, out: &mut Vec<Effect>) {
        let sealed = record.chain.iter().filter(|segment| segment.end.is_some() && segment.replicas.contains(&self.me));
        for listed in sealed.filter(|segment| !self.copying.is_under_way(segment.nonce)) {
            let is_short = |segment: &Segment| segment.is_damaged || listed.end.is_some_and(|end| segment.end < end);
            if self.replica.segment(listed.nonce).is_none_or(is_short) {
                out.push(Effect::ReportDamage { segment: listed.id(record.id()) });
            }
        }
    }

    /// The record does not list this disk for a segment that it seals, or has no such segment.
    pub(super) fn is_unneeded(&self, record: &PartitionRecord, id: SegmentId) -> bool {
        let Some(segment) = self.replica.segment(id.nonce) else { return false };
        let is_newer = record.version > segment.copied_for || !self.rules.holds(Rule::CopyIsKept);
        if !is_newer || self.copying.is_under_way(id.nonce) || !self.rules.holds(Rule::UnlistedIsDropped) {
            return false;
        }
        match record.chain.iter().find(|listed| listed.nonce == id.nonce) {
            // Nor does restored metadata know who has a copy by now.
            Some(listed) => {
                listed.end.is_some() && !listed.replicas.contains(&self.me) && id.generation == record.generation
            }
            // Its epoch is taken or over, and it is not in the chain: it will never be, and nothing of it was
            // acknowledged. What an earlier generation made is kept: metadata restored from a backup may not know it.
            None => id.generation == record.generation && id.leadership() <= (record.generation, record.epoch),
        }
    }

    /// Drops a segment.
    pub(super) fn let_go(&mut self, nonce: Nonce, out: &mut Vec<Effect>) {
        if let Some(entry) = self.replica.drop_segment(nonce) {
            out.push(Effect::Journal(entry));
            out.push(Effect::Dropped { nonce });
        }
    }
}
