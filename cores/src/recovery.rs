//! Which bytes of a journal are records, which are a torn last write, and which are damaged.
//!
//! The journal is a row of files of one size; the file of lap `n` holds positions from `n * file_bytes` on. One
//! write is in flight at a time and each record says `durable_through`, the end of the last write known to be
//! complete. So, with H the highest `durable_through` of any valid record: a hole below H was complete once and
//! is *damage*; a hole at or above H belongs to the one write that was in flight, is *torn*, and that whole
//! write is cut. Nothing of it was ever acknowledged.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use types::limits::JOURNAL_BLOCK_BYTES;
use types::{SegmentId, TopicPartition};
use wire::journal::{AppendMeta, FoundRecord, JournalEntry, NoRecord, OpenMeta, parse_record};

use crate::replica::Replica;
use crate::{Rule, Rules};

const BLOCK: u64 = JOURNAL_BLOCK_BYTES as u64;

/// One journal file's bytes, from its start.
#[derive(Debug, Clone)]
pub struct JournalFile {
    pub lap: u64,
    pub bytes: Bytes,
}

/// A record that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    pub position: u64,
    /// Bytes of the whole record.
    pub length: usize,
    pub entry: JournalEntry,
}

/// What a journal holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// The records, by position.
    pub entries: Vec<Replayed>,
    /// Ranges that were complete once and cannot be read. Never cut, never guessed at.
    pub damage: Vec<Range<u64>>,
    /// Bytes of a torn write: to be overwritten with zeros, durably, before anything else is done.
    pub torn: Option<Range<u64>>,
    /// Where the next write goes.
    pub end: u64,
    /// The number of the next write.
    pub next_write: u64,
    /// Version of a record that only a newer release can read.
    pub newer: Option<u8>,
}

struct Found {
    record: FoundRecord,
    /// Where the unaccounted bytes before this record began, if any.
    hole_from: Option<u64>,
}

/// Reads `files`, ordered by lap without gaps, from position `from` (a block boundary) on.
pub fn recover(files: &[JournalFile], file_bytes: u64, from: u64, rules: Rules) -> Recovered {
    let mut out = Recovered { end: from, next_write: 1, ..Recovered::default() };
    let mut found: Vec<Found> = Vec::new();
    let mut last_write = 0;
    let mut hole_from = None;
    // Where a record must follow because the one before it was not the last of its write.
    for file in files {
        let file_start = file.lap * file_bytes;
        let mut at = from.max(file_start) - file_start;
        while at < file.bytes.len() as u64 {
            match parse_record(&file.bytes.slice(at as usize..), file.lap, file_start + at) {
                Ok(record) if record.place.write >= last_write => {
                    last_write = record.place.write;
                    at += record.length as u64;
                    if record.place.is_last {
                        at = at.next_multiple_of(BLOCK);
                    }
                    found.push(Found { record, hole_from: hole_from.take() });
                }
                Ok(stale) => {
                    out.next_write = out.next_write.max(stale.place.write + 1);
                    hole_from.get_or_insert(file_start + at);
                    at = next_block(at);
                }
                Err(error) => {
                    if let NoRecord::Newer(version) = error {
                        out.newer = Some(version);
                    }
                    hole_from.get_or_insert(file_start + at);
                    at = next_block(at);
                }
            }
        }
    }
    out.next_write = out.next_write.max(last_write + 1);
    settle(found, &mut out, file_bytes, files.last().map_or(from, |f| (f.lap + 1) * file_bytes), rules);
    out
}

fn next_block(at: u64) -> u64 {
    at / BLOCK * BLOCK + BLOCK
}

/// Decides of each hole what it is.
fn settle(found: Vec<Found>, out: &mut Recovered, file_bytes: u64, files_end: u64, rules: Rules) {
    let durable_through = found.iter().map(|f| f.record.place.durable_through).max().unwrap_or(0);
    // Start of the write that the record before belongs to, its number, and whether it is whole so far.
    let mut write_start = out.end;
    let mut write = 0;
    let mut whole = true;
    for Found { record, hole_from } in found {
        let place = record.place;
        // A later write names the end of the one before it: what lies between that and its own start was never used.
        let hole = match hole_from {
            Some(a) if place.write == write => Some(a..place.position),
            Some(a) if place.durable_through > a => Some(a..place.durable_through),
            // The front of this write is missing: it begins where the one before it ended. Only at the start of a file
            // may space before it be unused, because its first entry did not fit the file before.
            Some(a) if place.position != place.lap * file_bytes => Some(a..place.position),
            // The write before it never ended: its last record is missing, whatever the lengths say.
            Some(a) if !whole => Some(a..place.durable_through.max(a + 1)),
            _ => None,
        };
        if let Some(hole) = hole {
            let is_torn = hole.start >= durable_through || !rules.holds(Rule::DamageIsNotTorn);
            if is_torn && rules.holds(Rule::TornIsCut) {
                return cut(out, write_start.min(hole.start), hole.start, whole, files_end);
            }
            out.damage.push(hole);
            write_start = place.position;
        } else if place.write != write {
            // Where the write before it ended: what is unused between, at the end of a file, must not be vouched for by
            // what is written after this one was cut.
            write_start = if rules.holds(Rule::CutFromTheEndBefore) { out.end } else { place.position };
        }
        write = place.write;
        whole = place.is_last;
        let end = place.position + record.length as u64;
        out.end = if place.is_last { end.next_multiple_of(BLOCK) } else { end };
        out.entries.push(Replayed { position: place.position, length: record.length, entry: record.entry });
    }
    if !whole {
        let at = out.end;
        if at >= durable_through && rules.holds(Rule::TornIsCut) {
            return cut(out, write_start, at, false, files_end);
        }
        out.damage.push(at..next_block(at));
        out.end = next_block(at);
    }
    // Blocks of a write whose first record is missing leave no trace that counts; they are erased all the same.
    out.torn = Some(out.end..files_end).filter(|torn| torn.start < torn.end);
}

/// Cuts the torn write: from the start of its first record if that was read, else from the hole.
fn cut(out: &mut Recovered, write_start: u64, hole: u64, whole: bool, files_end: u64) {
    let at = if whole { hole } else { write_start };
    out.entries.retain(|entry| entry.position < at);
    out.end = at.next_multiple_of(BLOCK);
    out.torn = Some(out.end..files_end).filter(|torn| torn.start < torn.end);
}

/// Rebuilds replicas from what was recovered, on top of what the catalogue restored into `replicas`.
///
/// A damaged range does not say whose it was. A segment is cleared of it only by a later entry of its own that
/// follows without a gap, or by its seal; every other segment that was open then is quarantined. Returns those.
pub fn replay(recovered: &Recovered, replicas: &mut BTreeMap<TopicPartition, Replica>, rules: Rules) -> Vec<SegmentId> {
    let mut last: BTreeMap<SegmentId, u64> = BTreeMap::new();
    for Replayed { position, entry, .. } in &recovered.entries {
        let Some(partition) = entry.partition() else { continue };
        if let JournalEntry::Append { meta: AppendMeta { segment, .. }, .. }
        | JournalEntry::Open(OpenMeta { segment, .. }) = entry
        {
            last.insert(*segment, *position);
        }
        replicas.entry(partition).or_insert_with(|| Replica::new(partition, rules)).replay(entry);
    }
    let mut quarantined = Vec::new();
    for replica in replicas.values_mut() {
        let suspects: Vec<SegmentId> = replica
            .segments()
            .filter(|segment| segment.sealed.is_none())
            .map(|segment| segment.open.segment)
            .filter(|id| {
                // Nothing of it was found at all: any damage may have been its own.
                let last = last.get(id);
                recovered.damage.iter().any(|damage| last.is_none_or(|position| *position < damage.start))
            })
            .collect();
        suspects.iter().for_each(|id| replica.mark_damaged(id.nonce));
        let damaged = replica.segments().filter(|segment| segment.is_damaged);
        quarantined.extend(damaged.map(|segment| segment.open.segment));
    }
    quarantined
}

#[cfg(test)]
mod tests;
