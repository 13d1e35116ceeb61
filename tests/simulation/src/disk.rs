//! A storage node's disk: one journal, one write in flight, and what a power cut leaves of it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use cores::image::Image;
use cores::packing::Cursor;
use cores::recovery::{JournalFile, Recovered, recover};
use cores::replica::{Replica, Segment, chain_seed};
use cores::{Rule, Rules};
use types::limits::JOURNAL_BLOCK_BYTES;
use types::{Epoch, Generation, Incarnation, Nonce, Offset, TopicPartition};
use wire::Batch;
use wire::journal::{EncodedEntry, JournalEntry};

use crate::rng::Rng;

/// How a disk lies about a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// It never gets there.
    Lost,
    /// It gets somewhere else: over what was there.
    Misdirected,
}

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
    file_bytes: u64,
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
    /// What was flushed last, and the batches that are in files.
    catalogue: Option<(Generation, Epoch, Vec<Image>)>,
    files_hold: BTreeMap<Nonce, BTreeMap<Offset, Batch>>,
    /// A bit was flipped: what recovery calls damage may be damage.
    pub is_rotten: bool,
    lie: Option<Lie>,
    /// It said that a write was done, and it was not.
    pub has_lied: bool,
    /// And nobody could find out so far.
    is_hidden: bool,
    /// The last write of all, which is not there: the next one tells that it should be.
    lied: Option<(u64, Vec<u8>)>,
}

impl Disk {
    pub fn new(incarnation: Incarnation, file_bytes: u64) -> Self {
        let cursor = Cursor { file_bytes, end: 0, write: 1, durable_through: 0 };
        Self {
            incarnation,
            file_bytes,
            lie: None,
            has_lied: false,
            is_hidden: false,
            lied: None,
            files: Vec::new(),
            cursor,
            queue: VecDeque::new(),
            flight: None,
            has_failed: false,
            vouched: 0,
            openings: Vec::new(),
            kept: BTreeMap::new(),
            catalogue: None,
            files_hold: BTreeMap::new(),
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
            match self.lie.take() {
                None => {
                    self.lied = None;
                    self.put(flight.at, &flight.bytes, |_| true);
                }
                Some(lie) => {
                    (self.has_lied, self.is_hidden, self.is_rotten) = (true, true, true);
                    let elsewhere = flight.at.saturating_sub(4 * JOURNAL_BLOCK_BYTES as u64);
                    let fits = elsewhere / self.file_bytes == flight.at / self.file_bytes;
                    if lie == Lie::Misdirected && fits {
                        self.put(elsewhere, &flight.bytes, |_| true);
                    }
                    self.lied = Some((flight.at, flight.bytes.clone()));
                }
            }
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
        if let Some((at, bytes)) = self.lied.take() {
            // Of the last write of all nobody could ever tell that it is missing. (The real journal's empty record tells
            // within 10 ms.) It gets there after all.
            self.put(at, &bytes, |_| true);
            self.is_hidden = false;
        }
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
        let file = (at / self.file_bytes) as usize;
        while self.files.len() <= file {
            self.files.push(vec![0; self.file_bytes as usize]);
        }
        let start = (at % self.file_bytes) as usize;
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
        self.files[(at / self.file_bytes) as usize][(at % self.file_bytes) as usize] ^= 1 << rng.range(0, 8);
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
        self.files[(at / self.file_bytes) as usize][(at % self.file_bytes) as usize] ^= 1;
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
        let recovered = recover(&files, self.file_bytes, 0, rules);
        if let Some(torn) = &recovered.torn {
            for at in torn.clone().step_by(JOURNAL_BLOCK_BYTES) {
                let (file, start) = ((at / self.file_bytes) as usize, (at % self.file_bytes) as usize);
                let end = (start + JOURNAL_BLOCK_BYTES).min(self.file_bytes as usize);
                self.files[file][start..end].fill(0);
            }
        }
        self.is_hidden = false;
        self.kept = self.files_hold.clone();
        recovered.entries.iter().for_each(|replayed| note(&mut self.kept, &replayed.entry));
        self.has_failed = false;
        self.cursor = Cursor {
            file_bytes: self.file_bytes,
            end: recovered.end.next_multiple_of(JOURNAL_BLOCK_BYTES as u64),
            write: recovered.next_write,
            durable_through: recovered.end.next_multiple_of(JOURNAL_BLOCK_BYTES as u64),
        };
        recovered
    }

    /// Puts what is committed and durable into files, as a flush does. The journal keeps it all the same: recovery must bear
    /// to meet again what a flush has kept.
    pub fn flush(&mut self, replica: &Replica) {
        let (generation, epoch) = replica.floor();
        let images: Vec<Image> = replica.images().collect();
        self.files_hold.retain(|nonce, _| images.iter().any(|image| image.open.segment.nonce == *nonce));
        for image in &images {
            let nonce = image.open.segment.nonce;
            let batches = self.batches(nonce, image.open.base, image.end, usize::MAX);
            check_chain(image, &batches);
            self.files_hold.entry(nonce).or_default().extend(batches.into_iter().map(|b| (b.base_offset, b)));
        }
        self.catalogue = Some((generation, epoch, images));
    }

    /// The replica as it was flushed last, for the journal to be replayed on.
    pub fn flushed(&self, partition: TopicPartition, rules: Rules) -> Replica {
        let mut replica = Replica::new(partition, rules);
        if let Some((generation, epoch, images)) = &self.catalogue {
            replica.restore((*generation, *epoch), images.iter().cloned().map(Segment::of_image));
            let again: Vec<Image> = replica.images().collect();
            assert_eq!(&again, images, "FLUSH-KEEPS: what is made of a flush is what was flushed");
        }
        replica
    }

    /// The batches of a segment from `from` on, at most `count` of them.
    pub fn batches(&self, nonce: Nonce, from: Offset, end: Offset, count: usize) -> Vec<Batch> {
        let kept = self.kept.get(&nonce).into_iter().flat_map(|kept| kept.range(from..end));
        kept.map(|(_, batch)| batch.clone()).take_while(|batch| batch.end_offset() <= end).take(count).collect()
    }

    /// The write in flight begins a journal file.
    pub fn begins_file(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.at > 0 && flight.at % self.file_bytes == 0)
    }

    /// It has lied, and nobody knows.
    pub fn is_hidden(&self) -> bool {
        self.is_hidden
    }

    /// It will lie, or has and nobody knows.
    pub fn is_lying(&self) -> bool {
        self.lie.is_some() || self.is_hidden
    }

    /// The next write is said to be done.
    pub fn lie_next(&mut self, how: Lie) {
        self.lie = Some(how);
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

/// FLUSH-KNOWS: a chain hash that a flush notes is that of the batches it puts into files. A disk may have lost some.
fn check_chain(image: &Image, batches: &[Batch]) {
    let (mut at, mut chain) = (image.open.base, chain_seed(&image.open.segment));
    for batch in batches {
        if batch.base_offset != at {
            break;
        }
        (at, chain) = (batch.end_offset(), batch.chain_after(chain));
    }
    let is_known = image.chain != 0 && !image.is_damaged;
    assert!(
        !is_known || at != image.end || chain == image.chain,
        "FLUSH-KNOWS: the hash at {at} is another's: {image:?}"
    );
}
