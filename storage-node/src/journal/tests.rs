//! One behaviour suite for journal files, and what the journal does on top of a failing one.

use std::sync::mpsc;

use bytes::Bytes;
use cores::Rules;
use cores::recovery::{JournalFile as Found, recover};
use types::{
    AccountId, ClusterId, Epoch, Generation, Incarnation, NodeId, Nonce, Replica, SegmentId, TopicId, TopicPartition,
};
use wire::dedupe::{DedupeSnapshot, ProducerEntry};
use wire::journal::OpenMeta;

use super::*;

/// Passes positions on, and owners (here: numbers) to nobody.
fn tell(told: mpsc::Sender<u64>) -> impl FnMut(Vec<(i32, u64)>) + Send + 'static {
    move |entries| {
        entries.into_iter().for_each(|(_, position)| {
            let _ = told.send(position);
        })
    }
}

/// Files whose writes fail after a number of them, or tear.
struct Faulty {
    inner: DirectFiles,
    writes_left: Arc<Mutex<usize>>,
    full: Arc<AtomicBool>,
}

struct FaultyFile {
    inner: Box<dyn JournalFile>,
    writes_left: Arc<Mutex<usize>>,
}

impl JournalFile for FaultyFile {
    fn write_at(&mut self, at: u64, blocks: &[u8]) -> io::Result<()> {
        let mut left = self.writes_left.lock().expect("a lock");
        if *left == 0 {
            // Half of it reaches the disk, then the device gives up.
            let half = blocks.len() / 2 / 4096 * 4096;
            self.inner.write_at(at, &blocks[..half])?;
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        *left -= 1;
        self.inner.write_at(at, blocks)
    }
}

impl JournalFiles for Faulty {
    fn prepare(&self, lap: u64, is_urgent: &AtomicBool) -> io::Result<Box<dyn JournalFile>> {
        if lap > 0 && self.full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(Box::new(FaultyFile {
            inner: self.inner.prepare(lap, is_urgent)?,
            writes_left: Arc::clone(&self.writes_left),
        }))
    }
    fn laps(&self) -> io::Result<Vec<u64>> {
        self.inner.laps()
    }
    fn read(&self, lap: u64) -> io::Result<Vec<u8>> {
        self.inner.read(lap)
    }
    fn erase(&self, lap: u64, from: u64, to: u64) -> io::Result<()> {
        self.inner.erase(lap, from, to)
    }
    fn retire(&self, lap: u64) -> io::Result<()> {
        self.inner.retire(lap)
    }
    fn read_at(&self, lap: u64, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(lap, at, into)
    }
}

fn scratch(name: &str) -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("weir-journal-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

fn fence(number: i32) -> EncodedEntry {
    let partition = TopicPartition { topic: TopicId(number as u128), partition: 0 };
    JournalEntry::Fence { partition, generation: Generation(1), epoch: Epoch(number) }.encode()
}

/// What every implementation must do.
fn behaves(files: &dyn JournalFiles) {
    let urgent = AtomicBool::new(true);
    let mut buffer = AlignedBuffer::new(8192);
    buffer.bytes_mut(8192).fill(7);
    files.prepare(0, &urgent).expect("a file").write_at(4096, buffer.bytes_mut(8192)).expect("a write");
    let bytes = files.read(0).expect("its bytes");
    assert_eq!(bytes.len() as u64, JOURNAL_FILE_BYTES);
    assert!(bytes[4096..12288].iter().all(|b| *b == 7) && bytes[12288] == 0 && bytes[0] == 0);
    files.prepare(0, &urgent).expect("the same file again");
    assert_eq!(files.read(0).expect("its bytes")[4096], 7, "opening again changes nothing");
    let mut two = [0; 2];
    files.read_at(0, 12287, &mut two).expect("two bytes");
    assert_eq!(two, [7, 0]);
    files.erase(0, 4096, 8192).expect("zeros");
    assert_eq!((files.read(0).expect("bytes")[8191], files.read(0).expect("bytes")[8192]), (0, 7));
    files.prepare(1, &urgent).expect("a second file");
    assert_eq!(files.laps().expect("laps"), [0, 1]);
    files.retire(0).expect("retired");
    assert_eq!(files.laps().expect("laps"), [1]);
    files.prepare(2, &urgent).expect("a recycled file");
    assert_eq!(files.laps().expect("laps"), [1, 2]);
}

#[test]
fn direct_files_behave() {
    let dir = scratch("direct");
    behaves(&DirectFiles::new(&dir).expect("files"));
    std::fs::remove_dir_all(dir).expect("cleaned");
}

#[test]
fn faulty_files_behave_while_they_are_well() {
    let dir = scratch("faulty");
    let inner = DirectFiles::new(&dir).expect("files");
    behaves(&Faulty { inner, writes_left: Arc::new(Mutex::new(usize::MAX)), full: Arc::default() });
    std::fs::remove_dir_all(dir).expect("cleaned");
}

#[test]
fn after_a_failed_write_nothing_is_acknowledged_and_what_was_is_there() {
    let dir = scratch("fails");
    let files: Arc<dyn JournalFiles> = Arc::new(Faulty {
        inner: DirectFiles::new(&dir).expect("files"),
        writes_left: Arc::new(Mutex::new(2)),
        full: Arc::default(),
    });
    let (failed, failure) = mpsc::channel();
    let (told, durable) = mpsc::channel();
    let start = Recovered { next_write: 1, ..Recovered::default() };
    let journal = Journal::start(Arc::clone(&files), &start, tell(told), move |e| {
        let _ = failed.send(e.raw_os_error());
    })
    .expect("a journal");
    let mut acked = 0;
    for number in 1..50 {
        journal.queue(&mut vec![Request { encoded: fence(number), owner: 0 }]);
        if durable.recv_timeout(Duration::from_secs(30)).is_err() {
            break;
        }
        acked += 1;
    }
    assert_eq!(failure.recv_timeout(Duration::from_secs(5)).expect("a failure"), Some(libc::EIO));
    assert!(acked <= 2 && durable.try_recv().is_err());
    let file = Found { lap: 0, bytes: Bytes::from(files.read(0).expect("bytes")) };
    let recovered = recover(&[file], JOURNAL_FILE_BYTES, 0, Rules::ALL);
    assert!(recovered.entries.len() >= acked && recovered.damage.is_empty());
    std::fs::remove_dir_all(dir).expect("cleaned");
}

#[test]
fn entries_become_durable_in_order_across_files_and_a_full_disk_only_refuses() {
    let dir = scratch("order");
    let full = Arc::new(AtomicBool::new(false));
    let files: Arc<dyn JournalFiles> = Arc::new(Faulty {
        inner: DirectFiles::new(&dir).expect("files"),
        writes_left: Arc::new(Mutex::new(usize::MAX)),
        full: Arc::clone(&full),
    });
    let start = Recovered { next_write: 1, end: JOURNAL_FILE_BYTES / 2, ..Recovered::default() };
    let (told, durable) = mpsc::channel();
    let journal = Journal::start(files, &start, tell(told), |e| panic!("{e}")).expect("a journal");
    full.store(true, Ordering::Relaxed);
    journal.queue(&mut vec![Request { encoded: fence(1), owner: 1 }]);
    durable.recv_timeout(Duration::from_secs(5)).expect("room in this file");
    journal.queue(&mut vec![Request { encoded: fence(2), owner: 0 }]);
    durable.recv_timeout(Duration::from_secs(5)).expect("still room");
    let began = std::time::Instant::now();
    while !journal.is_full() && began.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(journal.is_full(), "the next file cannot be made");
    full.store(false, Ordering::Relaxed);
    while journal.is_full() && began.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!journal.is_full(), "freed space resumes");
    let mut requests: Vec<_> = (0..2000).map(|number| Request { encoded: fence(number), owner: 0 }).collect();
    journal.queue(&mut requests);
    let positions: Vec<u64> =
        (0..2000).map(|_| durable.recv_timeout(Duration::from_secs(5)).expect("durable")).collect();
    assert!(positions.windows(2).all(|pair| pair[0] < pair[1]));
    journal.close();
    std::fs::remove_dir_all(dir).expect("cleaned");
}

#[test]
fn a_first_entry_that_does_not_fit_the_file_goes_into_the_next() {
    let dir = scratch("passed-over");
    let files: Arc<dyn JournalFiles> = Arc::new(DirectFiles::new(&dir).expect("files"));
    let (told, durable) = mpsc::channel();
    // One block is left, and the entry needs more.
    let start = Recovered { next_write: 1, end: JOURNAL_FILE_BYTES - 4096, ..Recovered::default() };
    let journal = Journal::start(Arc::clone(&files), &start, tell(told), |e| panic!("{e}")).expect("a journal");
    let partition = TopicPartition { topic: TopicId(1), partition: 0 };
    let segment = SegmentId { partition, generation: Generation(1), epoch: Epoch(1), nonce: Nonce(1) };
    let replica = Replica { node: NodeId(1), incarnation: Incarnation(1) };
    let producer = |id| ProducerEntry { id, epoch: 0, last_time: 0, batches: Vec::new() };
    let snapshot = DedupeSnapshot { producers: (0..1_000).map(producer).collect(), ..DedupeSnapshot::default() };
    let open = JournalEntry::Open(OpenMeta {
        account: AccountId(0),
        cluster: ClusterId(1),
        segment,
        base: 0,
        first_free: 0,
        leader: replica,
        follower: replica,
        encryption_key: 0,
        snapshot,
    });
    let encoded = open.encode();
    assert!(encoded.len() > 4096);
    journal.queue(&mut vec![Request { encoded, owner: 0 }]);
    assert_eq!(durable.recv_timeout(Duration::from_secs(30)), Ok(JOURNAL_FILE_BYTES));
    journal.close();
    std::fs::remove_dir_all(dir).expect("cleaned");
}
