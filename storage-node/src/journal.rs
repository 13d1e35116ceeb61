//! The journal: one thread, one write in flight, group commit over all partitions.
//!
//! What is queued while a write is in flight goes out together in the next one, up to a bound, so the number of
//! device writes follows time and bytes, not tenants. After a failed write the process stops acknowledging at once and ends (invariant
//! 28): what the kernel says about those pages afterwards cannot be trusted.

mod direct;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use cores::packing::Cursor;
use cores::recovery::Recovered;
use service::clock;
use types::limits::{DISK_HUNG_MS, JOURNAL_FILE_BYTES, JOURNAL_IDLE_MS, JOURNAL_WRITE_BYTES_MAX};
use wire::journal::{EncodedEntry, JournalEntry};

pub use direct::{AlignedBuffer, DirectFiles, open_for_writing};

/// The files of one journal. Each holds [`JOURNAL_FILE_BYTES`] and is named by its lap.
pub trait JournalFiles: Send + Sync + 'static {
    /// Makes the file of `lap` ready for writing: created and filled, or a recycled one renamed. Durable. Takes its
    /// time, for the sake of writes to other files, until `is_urgent`.
    fn prepare(&self, lap: u64, is_urgent: &AtomicBool) -> io::Result<Box<dyn JournalFile>>;
    /// The laps that exist, ascending.
    fn laps(&self) -> io::Result<Vec<u64>>;
    /// A whole file's bytes, past any cache that a failed write may have left.
    fn read(&self, lap: u64) -> io::Result<Vec<u8>>;
    /// Overwrites a range of a file with zeros, durably.
    fn erase(&self, lap: u64, from: u64, to: u64) -> io::Result<()>;
    /// The file of `lap` is not needed any more.
    fn retire(&self, lap: u64) -> io::Result<()>;
    /// Part of a file, for readers: any bytes that a completed write put there.
    fn read_at(&self, lap: u64, at: u64, into: &mut [u8]) -> io::Result<()>;
}

/// One file.
pub trait JournalFile: Send {
    /// Writes whole blocks; durable on return.
    fn write_at(&mut self, at: u64, blocks: &[u8]) -> io::Result<()>;
}

/// An entry on its way to the disk.
pub struct Request<O> {
    pub encoded: EncodedEntry,
    /// Whose it is: named in the report of the write that made it durable.
    pub owner: O,
}

/// Entries of the last write from which on the next one waits for [`GATHER`], unless as many are there already.
const GATHER_MIN: usize = 4;
/// Under load, what comes within this moment goes out in one write: each costs the device, two task switches and
/// a round of wake-ups, however little it holds. A lone writer never waits.
const GATHER: Duration = Duration::from_micros(150);

/// Counts of what the journal did.
#[derive(Debug, Default)]
pub struct JournalStats {
    pub writes: AtomicU64,
    pub bytes: AtomicU64,
    /// Sum of write times, in µs.
    pub write_us: AtomicU64,
    /// Since when the write in flight is, in ms of the monotonic clock; 0 if there is none.
    writing_since_ms: AtomicU64,
    /// Since when the next file is waited for, or since when there is space for it again; 0 if it is not waited for.
    awaiting_since_ms: AtomicU64,
}

/// A file takes longer to make than a write, also where nothing hangs.
const FILE_HUNG_MS: u64 = 15 * DISK_HUNG_MS;

impl JournalStats {
    /// The write in flight, or the next file, takes so long that the disk hangs.
    fn is_hung(&self, is_full: bool) -> bool {
        let is_over = |since: &AtomicU64, bound_ms| {
            let since = since.load(Ordering::Relaxed);
            since > 0 && clock::monotonic_ms().saturating_sub(since) > bound_ms
        };
        is_over(&self.writing_since_ms, DISK_HUNG_MS) || (!is_full && is_over(&self.awaiting_since_ms, FILE_HUNG_MS))
    }
}

/// How long writes take, from one question to the next.
#[derive(Debug)]
pub struct WriteTimes {
    stats: Arc<JournalStats>,
    writes: u64,
    write_us: u64,
}

impl WriteTimes {
    pub fn of(stats: Arc<JournalStats>) -> Self {
        Self { stats, writes: 0, write_us: 0 }
    }

    /// The mean of those that ended since the last question, in µs, or the age of the one in flight if that is more; `None`
    /// if there were none.
    pub fn mean_us(&mut self) -> Option<u64> {
        let (writes, write_us) =
            (self.stats.writes.load(Ordering::Relaxed), self.stats.write_us.load(Ordering::Relaxed));
        let (count, sum) = (writes - self.writes, write_us.saturating_sub(self.write_us));
        (self.writes, self.write_us) = (writes, write_us);
        let since = self.stats.writing_since_ms.load(Ordering::Relaxed);
        let in_flight_us = if since > 0 { 1_000 * clock::monotonic_ms().saturating_sub(since) } else { 0 };
        let mean = sum.checked_div(count);
        if in_flight_us > 0 { Some(in_flight_us.max(mean.unwrap_or(0))) } else { mean }
    }
}

struct Shared<O> {
    queue: Mutex<Queue<O>>,
    wake: Condvar,
    is_full: AtomicBool,
    /// The next file is waited for.
    is_file_urgent: AtomicBool,
    /// Where the next write goes.
    end: AtomicU64,
    stats: Arc<JournalStats>,
}

struct Queue<O> {
    requests: Vec<Request<O>>,
    is_closed: bool,
}

/// A handle on the journal thread; cheap to clone.
pub struct Journal<O> {
    shared: Arc<Shared<O>>,
}

impl<O> Clone for Journal<O> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<O> std::fmt::Debug for Journal<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}

impl<O: Send + 'static> Journal<O> {
    /// Starts the thread after recovery. `durable` is called once per write with the owner and the position of
    /// each of its entries, in the order of [`Journal::queue`]: one wake-up for all of them. `failed` is called
    /// once, when a write fails. Both are called on the journal thread.
    pub fn start(
        files: Arc<dyn JournalFiles>,
        recovered: &Recovered,
        mut durable: impl FnMut(Vec<(O, u64)>) + Send + 'static,
        failed: impl FnOnce(io::Error) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { requests: Vec::new(), is_closed: false }),
            wake: Condvar::new(),
            is_full: AtomicBool::new(false),
            is_file_urgent: AtomicBool::new(false),
            end: AtomicU64::new(recovered.end),
            stats: Arc::default(),
        });
        let cursor = Cursor {
            file_bytes: JOURNAL_FILE_BYTES,
            end: recovered.end,
            write: recovered.next_write,
            durable_through: recovered.end,
        };
        let mut spare = Spare::start(Arc::clone(&files), Arc::clone(&shared))?;
        // The first append must not wait for its file to be filled.
        spare.ask(recovered.end / JOURNAL_FILE_BYTES);
        let writer = Writer {
            spare,
            shared: Arc::clone(&shared),
            cursor,
            file: None,
            buffer: AlignedBuffer::new(1 << 20),
            is_vouched: true,
            last_count: 0,
        };
        std::thread::Builder::new().name("journal".into()).spawn(move || {
            // A broken assertion is no better than a failed write.
            let run = std::panic::AssertUnwindSafe(|| writer.run(&mut durable));
            let result = std::panic::catch_unwind(run);
            if let Err(error) = result.unwrap_or_else(|_| Err(io::Error::other("the journal's thread panicked"))) {
                failed(error);
            }
        })?;
        Ok(Self { shared })
    }

    /// Queues entries, in order.
    pub fn queue(&self, requests: &mut Vec<Request<O>>) {
        if requests.is_empty() {
            return;
        }
        let mut queue = self.shared.queue.lock().expect("no panic holds this lock");
        let was_empty = queue.requests.is_empty();
        queue.requests.append(requests);
        drop(queue);
        if was_empty {
            self.shared.wake.notify_one();
        }
    }

    /// True when there is no room for more appends; fences and seals still fit.
    pub fn is_full(&self) -> bool {
        self.shared.is_full.load(Ordering::Relaxed)
    }

    /// Where the next write goes.
    pub fn end(&self) -> u64 {
        self.shared.end.load(Ordering::Acquire)
    }

    /// Nothing that is queued becomes durable: the disk hangs.
    pub fn is_hung(&self) -> bool {
        self.shared.stats.is_hung(self.is_full())
    }

    pub fn stats(&self) -> Arc<JournalStats> {
        Arc::clone(&self.shared.stats)
    }

    /// Writes what is queued, then ends the thread.
    pub fn close(&self) {
        self.shared.queue.lock().expect("no panic holds this lock").is_closed = true;
        self.shared.wake.notify_one();
    }
}

/// Keeps the next file ready, so that no write waits for one to be filled.
struct Spare {
    ready: std::sync::mpsc::Receiver<io::Result<Box<dyn JournalFile>>>,
    ask: std::sync::mpsc::Sender<u64>,
    asked: Option<u64>,
}

impl Spare {
    fn start<O: Send + 'static>(files: Arc<dyn JournalFiles>, shared: Arc<Shared<O>>) -> io::Result<Self> {
        let (ask, asks) = std::sync::mpsc::channel::<u64>();
        let (give, ready) = std::sync::mpsc::channel();
        std::thread::Builder::new().name("journal-files".into()).spawn(move || {
            while let Ok(lap) = asks.recv() {
                let mut was_full = false;
                loop {
                    let result = files.prepare(lap, &shared.is_file_urgent);
                    let is_full = matches!(&result, Err(e) if e.kind() == io::ErrorKind::StorageFull);
                    if was_full && !is_full {
                        // A full disk is no hanging one: it is from now on that the file is late.
                        let since = &shared.stats.awaiting_since_ms;
                        let _ = since.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |since| {
                            (since > 0).then(clock::monotonic_ms)
                        });
                    }
                    shared.is_full.store(is_full, Ordering::Relaxed);
                    if is_full {
                        // Not a failed write: nothing was lost. Appends are refused until space is freed.
                        if !std::mem::replace(&mut was_full, true) {
                            tracing::warn!(lap, "the disk is full: appends are refused until space is freed");
                        }
                        std::thread::sleep(Duration::from_millis(200));
                        continue;
                    }
                    if give.send(result).is_err() {
                        return;
                    }
                    break;
                }
            }
        })?;
        Ok(Self { ready, ask, asked: None })
    }

    fn ask(&mut self, lap: u64) {
        if self.asked.is_none() {
            self.asked = Some(lap);
            let _ = self.ask.send(lap);
        }
    }

    fn take(&mut self, lap: u64) -> io::Result<Box<dyn JournalFile>> {
        loop {
            self.ask(lap);
            let given = self.ready.recv().map_err(|_| io::Error::other("the journal's file thread is gone"))?;
            match self.asked.take() {
                Some(asked) if asked == lap => return given,
                // What was left of that file is too small for the entry that comes first: it is passed over.
                Some(asked) if asked < lap => drop(given?),
                asked => unreachable!("INVARIANT: laps are used in order: {asked:?}, now {lap}"),
            }
        }
    }
}

struct Writer<O> {
    shared: Arc<Shared<O>>,
    cursor: Cursor,
    file: Option<(u64, Box<dyn JournalFile>)>,
    spare: Spare,
    buffer: AlignedBuffer,
    /// The last record on disk says that everything before it is complete.
    is_vouched: bool,
    /// Entries of the last write.
    last_count: usize,
}

impl<O> Writer<O> {
    fn run(mut self, durable: &mut impl FnMut(Vec<(O, u64)>)) -> io::Result<()> {
        let mut queued: VecDeque<Request<O>> = VecDeque::new();
        loop {
            let left = queued.len();
            let mut is_closed = self.collect(&mut queued);
            if self.last_count >= GATHER_MIN && left == 0 && !queued.is_empty() && queued.len() < self.last_count {
                std::thread::sleep(GATHER);
                is_closed = self.collect(&mut queued);
            }
            if queued.is_empty() {
                if is_closed {
                    return Ok(());
                }
                // A silence: vouch for the last write, so that only a write in flight can look torn.
                self.write(&[JournalEntry::Idle.encode()])?;
                self.is_vouched = true;
                self.last_count = 0;
                continue;
            }
            let (count, _) = self.cursor.plan(queued.iter().map(|request| &request.encoded));
            self.last_count = count;
            let batch: Vec<Request<O>> = queued.drain(..count).collect();
            let encoded: Vec<EncodedEntry> = batch.iter().map(|request| request.encoded.clone()).collect();
            let positions = self.write(&encoded)?;
            self.is_vouched = false;
            durable(batch.into_iter().map(|request| request.owner).zip(positions).collect());
        }
    }

    /// Waits for requests; returns with none after the idle time if the last write is not vouched for yet.
    fn collect(&self, queued: &mut VecDeque<Request<O>>) -> bool {
        let mut queue = self.shared.queue.lock().expect("no panic holds this lock");
        while queue.requests.is_empty() && queued.is_empty() && !queue.is_closed {
            if self.is_vouched {
                queue = self.shared.wake.wait(queue).expect("no panic holds this lock");
            } else {
                let idle = Duration::from_millis(JOURNAL_IDLE_MS);
                let (guard, timeout) = self.shared.wake.wait_timeout(queue, idle).expect("no panic holds this lock");
                queue = guard;
                if timeout.timed_out() {
                    break;
                }
            }
        }
        queued.extend(queue.requests.drain(..));
        queue.is_closed
    }

    fn write(&mut self, entries: &[EncodedEntry]) -> io::Result<Vec<u64>> {
        let (count, bytes) = self.cursor.plan(entries.iter());
        assert_eq!(count, entries.len(), "INVARIANT: the caller planned this write");
        debug_assert!(bytes <= JOURNAL_WRITE_BYTES_MAX);
        let at = self.cursor.end;
        let lap = at / JOURNAL_FILE_BYTES;
        if self.file.as_ref().is_none_or(|(open, _)| *open != lap) {
            self.shared.is_file_urgent.store(true, Ordering::Relaxed);
            self.shared.stats.awaiting_since_ms.store(clock::monotonic_ms().max(1), Ordering::Relaxed);
            self.file = Some((lap, self.spare.take(lap)?));
            self.shared.stats.awaiting_since_ms.store(0, Ordering::Relaxed);
            self.shared.is_file_urgent.store(false, Ordering::Relaxed);
        }
        if at % JOURNAL_FILE_BYTES > JOURNAL_FILE_BYTES / 16 {
            self.spare.ask(lap + 1);
        }
        let out = self.buffer.bytes_mut(bytes);
        let positions = self.cursor.pack(entries, out);
        let began = std::time::Instant::now();
        let Some((_, file)) = &mut self.file else { unreachable!("opened above") };
        self.shared.stats.writing_since_ms.store(clock::monotonic_ms().max(1), Ordering::Relaxed);
        file.write_at(at % JOURNAL_FILE_BYTES, self.buffer.bytes_mut(bytes))?;
        self.shared.stats.writing_since_ms.store(0, Ordering::Relaxed);
        self.cursor.durable_through = self.cursor.end;
        self.shared.end.store(self.cursor.end, Ordering::Release);
        let stats = &self.shared.stats;
        stats.writes.fetch_add(1, Ordering::Relaxed);
        stats.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        stats.write_us.fetch_add(began.elapsed().as_micros() as u64, Ordering::Relaxed);
        Ok(positions)
    }
}
