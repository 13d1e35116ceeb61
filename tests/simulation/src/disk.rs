//! A storage node's disk: one journal, one write in flight, and what a power cut leaves of it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use cores::packing::Cursor;
use cores::recovery::{JournalFile, Recovered, recover};
use cores::{Rule, Rules};
use types::limits::JOURNAL_BLOCK_BYTES;
use types::{Incarnation, Nonce, Offset, TopicPartition};
use wire::Batch;
use wire::journal::{EncodedEntry, JournalEntry};

use crate::rng::Rng;

const FILE_BYTES: u64 = 1024 * 1024;

/// What one entry was, for the oracle and the owner.
#[derive(Debug, Clone)]
pub struct Queued {
    pub partition: TopicPartition,
    pub entry: JournalEntry,
    encoded: EncodedEntry,
}

#[derive(Debug)]
struct Flight {
    at: u64,
    bytes: Vec<u8>,
    entries: Vec<Queued>,
    positions: Vec<u64>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Disk {
    pub incarnation: Incarnation,
    files: Vec<Vec<u8>>,
    cursor: Cursor,
    queue: VecDeque<Queued>,
    flight: Option<Flight>,
    /// A write failed; without the rule the process goes on as if nothing were.
    pub has_failed: bool,
    /// The highest `durable_through` that is on disk: damage below it can be told from a torn write. (The real
    /// journal's empty record after a silence brings it up to the end within 10 ms.)
    vouched: u64,
    /// Where each segment's opening is.
    openings: Vec<(Nonce, u64)>,
    /// The batches of each segment that are on it, for readers.
    kept: BTreeMap<Nonce, BTreeMap<Offset, Batch>>,
    /// A bit was flipped: what recovery calls damage may be damage.
    pub is_rotten: bool,
}

impl Disk {
    pub fn new(incarnation: Incarnation) -> Self {
        let cursor = Cursor { file_bytes: FILE_BYTES, end: 0, write: 1, durable_through: 0 };
        Self {
            incarnation,
            files: Vec::new(),
            cursor,
            queue: VecDeque::new(),
            flight: None,
            has_failed: false,
            vouched: 0,
            openings: Vec::new(),
            kept: BTreeMap::new(),
            is_rotten: false,
        }
    }

    pub fn queue(&mut self, partition: TopicPartition, entry: JournalEntry) {
        self.queue.push_back(Queued { partition, encoded: entry.encode(), entry });
    }

    /// Starts a write of all that is queued; true when one began.
    pub fn start_write(&mut self) -> bool {
        if self.flight.is_some() || self.queue.is_empty() {
            return false;
        }
        let (count, length) = self.cursor.plan(self.queue.iter().map(|queued| &queued.encoded));
        let entries: Vec<Queued> = self.queue.drain(..count).collect();
        let encoded: Vec<EncodedEntry> = entries.iter().map(|queued| queued.encoded.clone()).collect();
        let at = self.cursor.end;
        let mut bytes = vec![0; length];
        let positions = self.cursor.pack(&encoded, &mut bytes);
        self.flight = Some(Flight { at, bytes, entries, positions });
        true
    }

    /// The write in flight is complete: its entries are durable.
    pub fn finish_write(&mut self) -> Vec<Queued> {
        let Some(flight) = self.flight.take() else { return Vec::new() };
        if !self.has_failed {
            self.put(flight.at, &flight.bytes, |_| true);
            self.vouched = flight.at;
            for (queued, position) in flight.entries.iter().zip(&flight.positions) {
                if let JournalEntry::Open(open) = &queued.entry {
                    self.openings.push((open.segment.nonce, *position));
                }
                note(&mut self.kept, &queued.entry);
            }
        }
        self.cursor.durable_through = self.cursor.end;
        flight.entries
    }

    /// Power is cut: what is queued is lost, the write in flight leaves any subset of its blocks.
    pub fn cut_power(&mut self, rng: &mut Rng) {
        self.queue.clear();
        if let Some(flight) = self.flight.take() {
            // All, none, or each block by chance.
            let style = rng.range(0, 4);
            self.put(flight.at, &flight.bytes, |_| match style {
                0 => false,
                1 => true,
                _ => rng.chance(50),
            });
        }
    }

    fn put(&mut self, at: u64, bytes: &[u8], mut reaches: impl FnMut(usize) -> bool) {
        let file = (at / FILE_BYTES) as usize;
        while self.files.len() <= file {
            self.files.push(vec![0; FILE_BYTES as usize]);
        }
        let start = (at % FILE_BYTES) as usize;
        for (i, block) in bytes.chunks(JOURNAL_BLOCK_BYTES).enumerate() {
            if reaches(i) {
                let at = start + i * JOURNAL_BLOCK_BYTES;
                self.files[file][at..at + block.len()].copy_from_slice(block);
            }
        }
    }

    /// Flips one bit in what was complete some time ago.
    pub fn rot(&mut self, rng: &mut Rng) -> bool {
        let written = self.vouched;
        if written == 0 {
            return false;
        }
        // Most of a block is padding: aim at its front, where the records are.
        let block = rng.range(0, written / JOURNAL_BLOCK_BYTES as u64) * JOURNAL_BLOCK_BYTES as u64;
        let at = block + rng.range(0, 300);
        self.files[(at / FILE_BYTES) as usize][(at % FILE_BYTES) as usize] ^= 1 << rng.range(0, 8);
        self.is_rotten = true;
        true
    }

    /// Flips one bit in the opening of a segment; false where that is not on disk, or not vouched for.
    pub fn rot_opening(&mut self, nonce: Nonce) -> bool {
        let Some((_, at)) = self.openings.iter().find(|(known, _)| *known == nonce) else { return false };
        if *at >= self.vouched {
            return false;
        }
        // Past the record's own length, so that the record is bad and nothing else.
        let at = at + 40;
        self.files[(at / FILE_BYTES) as usize][(at % FILE_BYTES) as usize] ^= 1;
        self.is_rotten = true;
        true
    }

    /// Reads the journal back as a starting process does, and cleans up a torn write.
    pub fn recover(&mut self, rules: Rules) -> Recovered {
        let files: Vec<JournalFile> = self
            .files
            .iter()
            .enumerate()
            .map(|(lap, bytes)| JournalFile { lap: lap as u64, bytes: Bytes::copy_from_slice(bytes) })
            .collect();
        let recovered = recover(&files, FILE_BYTES, 0, rules);
        if let Some(torn) = &recovered.torn {
            for at in torn.clone().step_by(JOURNAL_BLOCK_BYTES) {
                let (file, start) = ((at / FILE_BYTES) as usize, (at % FILE_BYTES) as usize);
                let end = (start + JOURNAL_BLOCK_BYTES).min(FILE_BYTES as usize);
                self.files[file][start..end].fill(0);
            }
        }
        self.kept.clear();
        recovered.entries.iter().for_each(|replayed| note(&mut self.kept, &replayed.entry));
        self.has_failed = false;
        self.cursor = Cursor {
            file_bytes: FILE_BYTES,
            end: recovered.end.next_multiple_of(JOURNAL_BLOCK_BYTES as u64),
            write: recovered.next_write,
            durable_through: recovered.end.next_multiple_of(JOURNAL_BLOCK_BYTES as u64),
        };
        recovered
    }

    /// The batches of a segment from `from` on, at most `count` of them.
    pub fn batches(&self, nonce: Nonce, from: Offset, end: Offset, count: usize) -> Vec<Batch> {
        let kept = self.kept.get(&nonce).into_iter().flat_map(|kept| kept.range(from..end));
        kept.map(|(_, batch)| batch.clone()).take_while(|batch| batch.end_offset() <= end).take(count).collect()
    }

    /// The next write fails; with the rule the process must stop.
    pub fn fail_next(&mut self, rules: Rules) -> bool {
        self.has_failed = true;
        rules.holds(Rule::StopAfterError)
    }
}

fn note(kept: &mut BTreeMap<Nonce, BTreeMap<Offset, Batch>>, entry: &JournalEntry) {
    match entry {
        JournalEntry::Append { meta, batch } => {
            kept.entry(meta.segment.nonce).or_default().insert(batch.base_offset, batch.clone());
        }
        JournalEntry::Drop { segment } => {
            kept.remove(&segment.nonce);
        }
        _ => {}
    }
}
