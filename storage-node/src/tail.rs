//! Where each batch of a partition is: in memory, in the journal, or in an extent.
//!
//! Recent batches stay in memory within a node-wide budget, so consumers that keep up never touch the disk.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use types::limits::{FETCH_BYTES_MAX, JOURNAL_FILE_BYTES, TAIL_BUDGET_BYTES, UNFLUSHED_BYTES_MAX};
use types::{Nonce, Offset};
use wire::Batch;

use crate::catalogue::Extent;
use crate::files::Files;

/// Bytes of batches in memory over all partitions of a node.
#[derive(Debug, Default)]
pub struct TailBudget {
    used: AtomicUsize,
    /// Those of them that are in no file yet: they cannot be let go of.
    unflushed: AtomicUsize,
    is_behind: AtomicBool,
}

impl TailBudget {
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Files are written more slowly than batches come: appends have to wait.
    pub fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Relaxed)
    }

    fn took(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        if self.unflushed.fetch_add(bytes, Ordering::Relaxed) + bytes > UNFLUSHED_BYTES_MAX {
            self.is_behind.store(true, Ordering::Relaxed);
        }
    }

    fn flushed(&self, bytes: usize) {
        // Some way below the bound, or it would be crossed again at once.
        if self.unflushed.fetch_sub(bytes, Ordering::Relaxed) - bytes < UNFLUSHED_BYTES_MAX / 4 * 3 {
            self.is_behind.store(false, Ordering::Relaxed);
        }
    }

    fn let_go(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.used() > TAIL_BUDGET_BYTES
    }
}

#[derive(Debug)]
struct Entry {
    batch: Batch,
    /// Start of its journal record, once durable.
    position: Option<u64>,
}

#[derive(Debug, Default)]
struct SegmentTail {
    /// In offset order; a suffix of the segment. The first `flushed` of them are in extents as well.
    entries: VecDeque<Entry>,
    flushed: usize,
    /// In offset order; each with the newest timestamp up to its end, so that a time is found by bisection.
    extents: Vec<Extent>,
    /// Bytes of `entries` that are in no extent.
    unflushed_bytes: usize,
}

impl SegmentTail {
    fn push_extent(&mut self, extent: Extent) {
        let before = self.extents.last().map_or(i64::MIN, |last| last.max_timestamp);
        self.extents.push(Extent { max_timestamp: extent.max_timestamp.max(before), ..extent });
    }

    /// The first offset that a reader who wants nothing older than `since_ms` has to look at.
    fn first_since(&self, offset: Offset, since_ms: i64) -> Offset {
        let at = self.extents.partition_point(|extent| extent.max_timestamp < since_ms || extent.end <= offset);
        if let Some(extent) = self.extents.get(at) {
            return extent.base.max(offset);
        }
        let unflushed = self.entries.iter().skip(self.flushed);
        let mut newer = unflushed.filter(|entry| entry.batch.header().max_timestamp >= since_ms);
        newer.find(|entry| entry.batch.end_offset() > offset).map_or(Offset::MAX, |entry| entry.batch.base_offset)
    }
}

/// See the module's text. One per partition.
#[derive(Debug)]
pub struct Tail {
    /// Boxed: a map's node has room for eleven, and most partitions have one.
    segments: BTreeMap<Nonce, Box<SegmentTail>>,
    budget: Arc<TailBudget>,
    files: Arc<Files>,
    unflushed_bytes: usize,
}

impl Tail {
    pub fn new(budget: Arc<TailBudget>, files: Arc<Files>) -> Self {
        Self { segments: BTreeMap::new(), budget, files, unflushed_bytes: 0 }
    }

    /// Extents known from the catalogue, in offset order.
    pub fn restore(&mut self, nonce: Nonce, extent: Extent) {
        self.segments.entry(nonce).or_default().push_extent(extent);
    }

    /// Everything that is in files, to be let go of.
    pub fn extents(&self) -> impl Iterator<Item = (Nonce, Extent)> {
        self.segments.iter().flat_map(|(nonce, segment)| segment.extents.iter().map(|extent| (*nonce, *extent)))
    }

    /// Forgets a segment; its extents, to be let go of.
    pub fn remove(&mut self, nonce: Nonce) -> Vec<Extent> {
        let Some(segment) = self.segments.remove(&nonce) else { return Vec::new() };
        let held: usize = segment.entries.iter().map(|entry| entry.batch.stored_len()).sum();
        self.budget.let_go(held);
        self.budget.flushed(segment.unflushed_bytes);
        self.unflushed_bytes -= segment.unflushed_bytes;
        segment.extents
    }

    /// Takes a batch that was given to the journal, or that recovery read from it at `position`.
    pub fn push(&mut self, nonce: Nonce, batch: Batch, position: Option<u64>) {
        let segment = self.segments.entry(nonce).or_default();
        let end = segment.entries.back().map(|entry| entry.batch.end_offset());
        let end = end.or(segment.extents.last().map(|extent| extent.end));
        if end.is_some_and(|end| batch.base_offset < end) {
            return; // Recovery meets again what an extent holds already.
        }
        self.budget.took(batch.stored_len());
        self.unflushed_bytes += batch.stored_len();
        segment.unflushed_bytes += batch.stored_len();
        segment.entries.push_back(Entry { batch, position });
    }

    /// The next batch of the segment that had no position yet is durable there.
    pub fn durable(&mut self, nonce: Nonce, base: Offset, position: u64) {
        if let Some(segment) = self.segments.get_mut(&nonce)
            // Near the end: only what is in flight lies behind it.
            && let Some(entry) = segment.entries.iter_mut().rev().find(|entry| entry.batch.base_offset <= base)
            && entry.batch.base_offset == base
        {
            entry.position = Some(position);
        }
    }

    /// Bytes that are in no extent yet.
    pub fn unflushed_bytes(&self) -> usize {
        self.unflushed_bytes
    }

    /// Bytes that this copy of a segment takes in files and in the journal.
    pub fn stored_bytes(&self, nonce: Nonce) -> u64 {
        let Some(segment) = self.segments.get(&nonce) else { return 0 };
        segment.extents.iter().map(|extent| extent.length).sum::<u64>() + segment.unflushed_bytes as u64
    }

    /// Batches below `end` that are in no extent yet.
    pub fn unflushed(&self, nonce: Nonce, end: Offset) -> Vec<Batch> {
        let Some(segment) = self.segments.get(&nonce) else { return Vec::new() };
        let entries = segment.entries.iter().skip(segment.flushed);
        entries.take_while(|entry| entry.batch.end_offset() <= end).map(|entry| entry.batch.clone()).collect()
    }

    /// The lowest journal position that a batch outside all extents needs, if those below `ends` are flushed.
    pub fn journal_needed(&self, ends: &BTreeMap<Nonce, Offset>) -> Option<u64> {
        let needed = self.segments.iter().flat_map(|(nonce, segment)| {
            let end = ends.get(nonce).copied().unwrap_or(0);
            let left = segment.entries.iter().skip(segment.flushed);
            left.filter(move |entry| entry.batch.end_offset() > end).filter_map(|entry| entry.position)
        });
        needed.min()
    }

    /// These extents now hold what they say.
    pub fn flushed(&mut self, nonce: Nonce, extents: &[Extent]) {
        let (Some(segment), Some(last)) = (self.segments.get_mut(&nonce), extents.last()) else { return };
        extents.iter().for_each(|extent| segment.push_extent(*extent));
        while segment.entries.get(segment.flushed).is_some_and(|entry| entry.batch.end_offset() <= last.end) {
            let bytes = segment.entries[segment.flushed].batch.stored_len();
            segment.unflushed_bytes -= bytes;
            self.unflushed_bytes -= bytes;
            self.budget.flushed(bytes);
            segment.flushed += 1;
        }
    }

    /// Lets go of memory while the node is over its budget: what extents hold, oldest first.
    pub fn evict(&mut self) {
        for segment in self.segments.values_mut() {
            while self.budget.is_over() && segment.flushed > 0 {
                let Some(entry) = segment.entries.pop_front() else { break };
                self.budget.let_go(entry.batch.stored_len());
                segment.flushed -= 1;
            }
        }
    }

    /// Gives back memory that only work needs.
    pub fn shed(&mut self) {
        for segment in self.segments.values_mut() {
            segment.entries.shrink_to_fit();
            segment.extents.shrink_to_fit();
        }
    }

    /// A segment ends at `end`: what lies above is not part of the log.
    pub fn truncate(&mut self, nonce: Nonce, end: Offset) {
        let Some(segment) = self.segments.get_mut(&nonce) else { return };
        while segment.entries.back().is_some_and(|entry| entry.batch.end_offset() > end) {
            let Some(entry) = segment.entries.pop_back() else { break };
            let bytes = entry.batch.stored_len();
            self.budget.let_go(bytes);
            if segment.entries.len() < segment.flushed {
                segment.flushed = segment.entries.len();
            } else {
                segment.unflushed_bytes -= bytes;
                self.unflushed_bytes -= bytes;
                self.budget.flushed(bytes);
            }
        }
    }

    /// A run of the batches from the one that holds `offset` on, below `visible`, about `bytes_max` of them as
    /// clients know them, at least one. With `since_ms` it begins with the first batch that is not older.
    ///
    /// # Errors
    /// When a file cannot be read, or what it holds is damaged (invariant 29).
    pub fn read(
        &self,
        nonce: Nonce,
        offset: Offset,
        since_ms: Option<i64>,
        visible: Offset,
        bytes_max: usize,
    ) -> io::Result<Bytes> {
        let Some(segment) = self.segments.get(&nonce) else { return Ok(Bytes::new()) };
        let offset = since_ms.map_or(offset, |since| segment.first_since(offset, since));
        let mut page = Page::new(offset, since_ms, visible, bytes_max);
        let in_memory = segment.entries.front().map(|entry| entry.batch.base_offset);
        if in_memory.is_none_or(|base| offset < base) {
            let at = segment.extents.partition_point(|extent| extent.end <= offset);
            if at < segment.extents.len() {
                self.read_extents(&segment.extents[at..], &mut page)?;
                // In extents the newest record may lie below the offset: then what is in memory is looked at too.
                if since_ms.is_none() || !page.run.is_empty() {
                    return Ok(page.run.freeze());
                }
            }
        }
        let at = segment.entries.partition_point(|entry| entry.batch.end_offset() <= offset);
        let older = segment.entries.iter().skip(at).take_while(|entry| page.is_older(&entry.batch)).count();
        let at = at + older;
        let mut fitting = segment.entries.iter().skip(at).take_while(|entry| page.measure(&entry.batch));
        let count = fitting.by_ref().count();
        page.run.reserve(page.run_bytes);
        segment.entries.iter().skip(at).take(count).for_each(|entry| entry.batch.put_in_run(&mut page.run));
        Ok(page.run.freeze())
    }

    fn read_extents(&self, extents: &[Extent], page: &mut Page) -> io::Result<()> {
        for extent in extents {
            if !page.run.is_empty() && page.plain_bytes >= page.bytes_max {
                break;
            }
            let mut bytes = self.files.read(extent)?;
            while !bytes.is_empty() {
                let damaged = |error| io::Error::new(io::ErrorKind::InvalidData, format!("{extent:?}: {error}"));
                let batch = Batch::take_from_file(&mut bytes).map_err(damaged)?;
                if batch.end_offset() <= page.offset || (page.run.is_empty() && page.is_older(&batch)) {
                    continue;
                }
                if !page.measure(&batch) {
                    return Ok(());
                }
                batch.put_in_run(&mut page.run);
            }
        }
        Ok(())
    }
}

/// An answer to a reader as it fills: bounded by what the reader asked for and by what a frame holds.
struct Page {
    offset: Offset,
    since_ms: Option<i64>,
    visible: Offset,
    bytes_max: usize,
    run: BytesMut,
    /// Bytes as clients know them, and as the run holds them.
    plain_bytes: usize,
    run_bytes: usize,
}

impl Page {
    fn new(offset: Offset, since_ms: Option<i64>, visible: Offset, bytes_max: usize) -> Self {
        Self { offset, since_ms, visible, bytes_max, run: BytesMut::new(), plain_bytes: 0, run_bytes: 0 }
    }

    fn is_older(&self, batch: &Batch) -> bool {
        self.since_ms.is_some_and(|since| batch.header().max_timestamp < since)
    }

    /// Counts a batch in, if it still belongs to the answer; the first one always fits.
    fn measure(&mut self, batch: &Batch) -> bool {
        let (plain, run) = (self.plain_bytes + batch.len(), self.run_bytes + batch.run_len());
        let fits = self.run_bytes == 0 || (plain <= self.bytes_max && run <= FETCH_BYTES_MAX);
        let is_in = fits && batch.end_offset() <= self.visible;
        if is_in {
            (self.plain_bytes, self.run_bytes) = (plain, run);
        }
        is_in
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let held: usize =
            self.segments.values().flat_map(|segment| &segment.entries).map(|entry| entry.batch.stored_len()).sum();
        self.budget.let_go(held);
        self.budget.flushed(self.unflushed_bytes);
    }
}

/// The lap of a journal position.
pub fn lap_of(position: u64) -> u64 {
    position / JOURNAL_FILE_BYTES
}

#[cfg(test)]
mod tests {
    use wire::compression::Codec;
    use wire::records::{BatchBuilder, NewRecord};

    use super::*;

    fn batch(offset: Offset, bytes: usize, timestamp: i64) -> Batch {
        let mut builder = BatchBuilder::new();
        builder.push(NewRecord { key: None, value: Some(&vec![b'v'; bytes]), timestamp, headers: &[] });
        builder.finish(Codec::None).expect("a batch").placed_at(offset, 1)
    }

    fn tail(name: &str) -> (Tail, Arc<TailBudget>, std::path::PathBuf) {
        let dir = std::env::temp_dir().join(format!("weir-tail-{name}-{}", std::process::id()));
        let budget = Arc::new(TailBudget::default());
        let files = Arc::new(Files::new(&dir, false).expect("files"));
        (Tail::new(Arc::clone(&budget), files), budget, dir)
    }

    fn extent(base: Offset, end: Offset, max_timestamp: i64) -> Extent {
        Extent { base, end, file: 1, at: 4096, length: 100, max_timestamp }
    }

    #[test]
    fn a_node_is_behind_while_too_much_is_in_no_file() {
        let (mut tail, budget, dir) = tail("behind");
        let large = batch(0, 8_000_000, 1);
        let mut end = 0;
        while !budget.is_behind() {
            assert!(end < 100, "never behind");
            // The body is shared: this takes no memory.
            tail.push(Nonce(1), large.clone().placed_at(end, 1), None);
            end += 1;
        }
        tail.flushed(Nonce(1), &[extent(0, end, 1)]);
        assert!(!budget.is_behind(), "files have caught up");
        assert!(budget.used() > TAIL_BUDGET_BYTES);
        tail.evict();
        assert!(budget.used() <= TAIL_BUDGET_BYTES);
        tail.push(Nonce(1), large.placed_at(end, 1), None);
        drop(tail);
        assert_eq!((budget.used(), budget.unflushed.load(Ordering::Relaxed)), (0, 0));
        std::fs::remove_dir_all(dir).expect("cleaned");
    }

    #[test]
    fn times_are_found_in_extents_first_and_then_in_memory() {
        let (mut tail, _, dir) = tail("times");
        // Timestamps go up and down: what counts is the first batch that is not older.
        for (base, end, newest) in [(0, 10, 100), (10, 20, 50), (20, 30, 200)] {
            tail.restore(Nonce(1), extent(base, end, newest));
        }
        tail.push(Nonce(1), batch(30, 1, 150), None);
        tail.push(Nonce(1), batch(31, 1, 300), None);
        let first = |offset, since| tail.segments[&Nonce(1)].first_since(offset, since);
        assert_eq!((first(0, 0), first(0, 100), first(0, 101)), (0, 0, 20));
        assert_eq!((first(0, 201), first(0, 300), first(0, 301)), (31, 31, Offset::MAX));
        assert_eq!(first(15, 60), 15, "an extent in the middle may hold it");
        let found = tail.read(Nonce(1), 0, Some(201), 32, 1).expect("from memory");
        assert_eq!(Batch::take_from_run(&mut found.clone()).expect("a batch").base_offset, 31);
        assert!(tail.read(Nonce(1), 0, Some(301), 32, 1).expect("nothing").is_empty());
        assert!(tail.read(Nonce(1), 0, Some(201), 31, 1).expect("not visible yet").is_empty());
        std::fs::remove_dir_all(dir).expect("cleaned");
    }
}
