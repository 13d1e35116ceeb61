//! What a checkpoint may pass: entries that are on disk and whose owner knows it, and nothing else.
//!
//! The node is a real one but for its journal files, which are memory that can be held back, and for placement,
//! which nobody asks here.

use std::sync::{Condvar, Mutex};
use std::time::Instant;

use cores::replica::Replica as ReplicaCore;
use types::{AccountId, ClusterId, Epoch, Generation, PrincipalId, Protocol, SegmentId, TopicId};
use wire::compression::Codec;
use wire::frame::PeerMessage;
use wire::journal::{AppendMeta, OpenMeta};
use wire::records::{BatchBuilder, NewRecord};
use wire::{DedupeKey, DedupeSnapshot};

use super::*;
use crate::flush::FlushAnswer;
use crate::journal::JournalFile as OneFile;

const PARTITION: TopicPartition = TopicPartition { topic: TopicId(3), partition: 0 };
const ME: Replica = Replica { node: NodeId(2), incarnation: Incarnation(7) };

/// Journal files whose writes wait for a gate, and are kept nowhere.
struct Gated(Arc<(Mutex<bool>, Condvar)>);

impl Gated {
    fn new(is_open: bool) -> Self {
        Self(Arc::new((Mutex::new(is_open), Condvar::new())))
    }

    fn open(&self) {
        *self.0.0.lock().expect("a lock") = true;
        self.0.1.notify_all();
    }
}

impl OneFile for Gated {
    fn write_at(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        let mut is_open = self.0.0.lock().expect("a lock");
        while !*is_open {
            is_open = self.0.1.wait(is_open).expect("a lock");
        }
        Ok(())
    }
}

impl JournalFiles for Gated {
    fn prepare(&self, _: u64, _: &AtomicBool) -> io::Result<Box<dyn OneFile>> {
        Ok(Box::new(Self(Arc::clone(&self.0))))
    }
    fn laps(&self) -> io::Result<Vec<u64>> {
        Ok(Vec::new())
    }
    fn read(&self, _: u64) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn erase(&self, _: u64, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn retire(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn read_at(&self, _: u64, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

type Reports = mpsc::UnboundedReceiver<Vec<(OwnerHandle, u64)>>;

struct Bench {
    dir: PathBuf,
    files: Arc<Gated>,
    node: Arc<Node>,
    /// What the journal reports, until somebody passes it on.
    reports: Reports,
    jobs: flush::Jobs,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.files.open();
        self.node.journal.close();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn bench(name: &str, is_open: bool) -> Bench {
    let dir = std::env::temp_dir().join(format!("weir-node-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a folder");
    let files = Arc::new(Gated::new(is_open));
    let recovered = recovery::recover(&[], JOURNAL_FILE_BYTES, 0, Rules::ALL);
    let (reported, reports) = mpsc::unbounded_channel();
    let durable = move |entries| drop(reported.send(entries));
    let gated: Arc<dyn JournalFiles> = Arc::clone(&files) as Arc<dyn JournalFiles>;
    let journal = Journal::start(Arc::clone(&gated), &recovered, durable, |_| {}).expect("a thread");
    let (flusher, jobs) = Flusher::new();
    let node = Arc::new(Node {
        name: "az-a".into(),
        me: ME,
        az: "az-a".into(),
        data: dir.to_owned(),
        cluster: ClusterId(1),
        fenced: Mutex::default(),
        generation: AtomicU32::new(0),
        topics: TopicCache::open(&dir.join("topics.json")),
        heard_ms: AtomicU64::new(0),
        owners: Owners::default(),
        journal,
        journal_files: gated,
        catalogue: Catalogue::open(&dir.join("catalogue.redb"), false).expect("a catalogue"),
        budget: Arc::default(),
        flusher,
        peers: Peers::default(),
        pool: NodePool::default(),
        trust: None,
        copies: Semaphore::new(COPIES_MAX),
        uses: Uses::open(&dir),
        damaged: Mutex::default(),
        placement: PlacementClient::new(&[], None),
        metrics: Metrics::new(&Health::new()),
        files: Arc::new(Files::new(&dir.join("segments"), false).expect("files")),
        checkpoint: AtomicU64::new(0),
        reported: AtomicU64::new(0),
        is_placement_older: AtomicBool::new(false),
        rest_after_ms: 20,
    });
    node.owners.awake_or(PARTITION, || {
        owner::start(&node, ReplicaCore::new(PARTITION, Rules::ALL), Vec::new(), Vec::new(), Vec::new())
    });
    Bench { dir, files, node, reports, jobs }
}

fn segment() -> SegmentId {
    SegmentId { partition: PARTITION, generation: Generation(1), epoch: Epoch(1), nonce: Nonce(5) }
}

/// The opening of a segment that this node follows.
fn opening(segment: SegmentId) -> OpenMeta {
    OpenMeta {
        account: AccountId(1),
        cluster: ClusterId(1),
        segment,
        base: 0,
        first_free: 0,
        leader: Replica { node: NodeId(1), incarnation: Incarnation(6) },
        follower: ME,
        encryption_key: 0,
        snapshot: DedupeSnapshot::default(),
    }
}

/// As a leader elsewhere would: opens the segment and sends `count` batches of `bytes`.
fn follow(node: &Node, count: i64, bytes: usize) {
    let tell = |message| node.tell(PARTITION, Mail::Peer(NodeId(1), Box::new(message)));
    let open = opening(segment());
    // The chain's seed, as every replica computes it.
    let mut seed = ReplicaCore::new(PARTITION, Rules::ALL);
    seed.open(open.clone()).expect("a new segment");
    let mut chain = seed.segment(Nonce(5)).expect("opened").chain;
    tell(PeerMessage::Open(open));
    let value = vec![b'v'; bytes];
    for offset in 0..count {
        let mut builder = BatchBuilder::new();
        builder.push(NewRecord { key: None, value: Some(&value), timestamp: 1, headers: &[] });
        let batch = builder.finish(Codec::None).expect("a batch").placed_at(offset, 1);
        let meta = AppendMeta {
            account: AccountId(1),
            cluster: ClusterId(1),
            segment: segment(),
            principal: PrincipalId(0),
            protocol: Protocol::Kafka,
            dedupe: DedupeKey::None,
            encryption_key: 0,
            append_time: 1,
            commit: offset,
        };
        let next = batch.chain_after(chain);
        tell(PeerMessage::Append { meta, chain_before: chain, batch });
        chain = next;
    }
}

/// The record in which what [`follow`] brought ends at `end`.
fn sealed_at(end: i64) -> PartitionRecord {
    PartitionRecord {
        account: AccountId(1),
        cluster: ClusterId(1),
        topic: PARTITION.topic,
        partition: PARTITION.partition,
        generation: Generation(1),
        epoch: Epoch(1),
        log_start: 0,
        chain: vec![types::SegmentRecord {
            generation: Generation(1),
            epoch: Epoch(1),
            nonce: Nonce(5),
            base: 0,
            end: Some(end),
            replicas: [Replica { node: NodeId(1), incarnation: Incarnation(6) }, ME],
            changed_ms: None,
        }],
        version: 2,
        gaps: Vec::new(),
    }
}

async fn ask_flush(node: &Node) -> FlushAnswer {
    let (answers, mut answered) = mpsc::unbounded_channel();
    node.tell(PARTITION, Mail::Flush(answers));
    answered.recv().await.expect("an answer")
}

#[tokio::test]
async fn an_owner_is_not_clean_while_the_journal_owes_it_entries() {
    let bench = bench("owed", false);
    follow(&bench.node, 3, 10);
    let FlushAnswer::Job(job) = ask_flush(&bench.node).await else { panic!("there is something to flush") };
    assert_eq!(job.needed, None, "no entry has a position yet");
    bench.node.tell(PARTITION, Mail::Flushed { extents: Vec::new(), is_deletion: false });
    assert!(
        !matches!(ask_flush(&bench.node).await, FlushAnswer::Clean),
        "a checkpoint would pass what is written meanwhile"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_waits_for_owners_that_were_not_told_yet() {
    let mut bench = bench("untold", true);
    let node = Arc::clone(&bench.node);
    let writer = FileWriter::new(Arc::clone(&node.files), 1, [].iter(), Box::new(|| true)).expect("a writer");
    let jobs = std::mem::replace(&mut bench.jobs, mpsc::unbounded_channel().1);
    tokio::spawn(flush::run(Arc::clone(&node), jobs, writer, 0));
    // More than four journal files.
    follow(&node, 45, 6 * 1024 * 1024);
    let began = Instant::now();
    while node.journal.end() < 4 * JOURNAL_FILE_BYTES {
        assert!(began.elapsed() < Duration::from_secs(30), "the journal stands at {}", node.journal.end());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(node.checkpoint.load(Ordering::Relaxed), 0, "its owner was told of nothing yet");
    // Now it is told.
    let reports = std::mem::replace(&mut bench.reports, mpsc::unbounded_channel().1);
    tokio::spawn(tell_owners(Arc::clone(&node), reports));
    while node.checkpoint.load(Ordering::Relaxed) == 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "the checkpoint never moved");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What lies above a seal is carried by the next segment; here it must not keep the journal's files for ever.
#[tokio::test]
async fn a_restart_lets_go_of_what_lies_above_a_seal() {
    let bench = bench("sealed", true);
    let other = TopicPartition { topic: TopicId(4), partition: 0 };
    let segment = SegmentId { partition: other, ..segment() };
    let open = opening(segment);
    let mut replica = ReplicaCore::new(other, Rules::ALL);
    let sealed = cores::replica::Segment::stored(open, 1, 7, Some(1), cores::producers::ProducerState::default());
    replica.restore((Generation(1), Epoch(1)), [sealed]);
    let batches = (0..3).map(|offset| {
        let mut builder = BatchBuilder::new();
        builder.push(NewRecord { key: None, value: Some(b"v"), timestamp: 1, headers: &[] });
        (segment.nonce, builder.finish(Codec::None).expect("a batch").placed_at(offset, 1), 4096 * offset as u64)
    });
    let batches = batches.collect();
    bench.node.owners.awake_or(other, || owner::start(&bench.node, replica, batches, Vec::new(), Vec::new()));
    let (answers, mut answered) = mpsc::unbounded_channel();
    bench.node.tell(other, Mail::Flush(answers));
    let Some(FlushAnswer::Job(job)) = answered.recv().await else { panic!("there is something to flush") };
    assert_eq!(job.needed, None, "a checkpoint may pass all of it");
    assert_eq!(job.pieces.iter().map(|(_, batches)| batches.len()).sum::<usize>(), 1);
}

/// A leader that was cut off knew more to be committed than the survivor whose watermark became the seal: its copy is
/// flushed like any other, or it would hold the journal back for ever and be gone after a restart.
#[tokio::test]
async fn a_segment_sealed_below_its_watermark_is_flushed() {
    let bench = bench("below", false);
    // The last batch says that the one before it is committed.
    follow(&bench.node, 3, 10);
    let record = sealed_at(1);
    // All of it is on disk.
    (0..4).for_each(|entry| bench.node.tell(PARTITION, Mail::Durable(4_096 * entry)));
    bench.node.tell(PARTITION, Mail::Record(Box::new(record)));
    bench.node.tell(PARTITION, Mail::Durable(4 * 4_096));
    let FlushAnswer::Job(job) = ask_flush(&bench.node).await else { panic!("there is something to flush") };
    let ends: Vec<_> = job.image.segments.iter().map(|segment| (segment.end, segment.sealed)).collect();
    assert_eq!(ends, [(1, Some(1))], "it is in the image");
    assert_eq!(job.pieces.iter().map(|(_, batches)| batches.len()).sum::<usize>(), 1, "with what it keeps");
    assert_eq!(job.needed, None, "and holds no journal file back");
}

/// A checkpoint's job and the deletion that overtakes it meet in the flusher: what others keep in the same pack file
/// must stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_overtakes_a_flush_takes_nothing_of_others_with_it() {
    let mut bench = bench("overtaken", true);
    let node = Arc::clone(&bench.node);
    let reports = std::mem::replace(&mut bench.reports, mpsc::unbounded_channel().1);
    tokio::spawn(tell_owners(Arc::clone(&node), reports));
    follow(&node, 3, 10);
    let began = Instant::now();
    let wait = |what: &'static str| {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(10))
    };
    // Two of the three are committed, as far as a follower knows.
    let job = loop {
        if let FlushAnswer::Job(job) = ask_flush(&node).await
            && job.pieces.iter().map(|(_, batches)| batches.len()).sum::<usize>() == 2
        {
            break *job;
        }
        node.tell(PARTITION, Mail::Flushed { extents: Vec::new(), is_deletion: false });
        wait("it is durable").await;
    };
    // Another partition's records, of the same making, in the same pack.
    let (open, batches) = job.pieces[0].clone();
    let other = TopicPartition { topic: TopicId(8), partition: 0 };
    let other_segment = SegmentId { partition: other, nonce: Nonce(6), ..segment() };
    let others = flush::FlushJob {
        owner: job.owner.clone(),
        image: crate::catalogue::PartitionImage { partition: other, segments: Vec::new(), ..job.image.clone() },
        pieces: vec![(OpenMeta { segment: other_segment, ..open }, batches)],
        dropped: Vec::new(),
        is_deleted: false,
        needed: None,
    };
    // Nobody has taken the jobs yet: the deletion stands behind both.
    node.flusher.submit(job);
    node.flusher.submit(others);
    node.tell(PARTITION, Mail::Deleted);
    let writer = FileWriter::new(Arc::clone(&node.files), 1, [].iter(), Box::new(|| true)).expect("a writer");
    let jobs = std::mem::replace(&mut bench.jobs, mpsc::unbounded_channel().1);
    tokio::time::sleep(Duration::from_millis(200)).await;
    tokio::spawn(flush::run(Arc::clone(&node), jobs, writer, 0));
    while node.owners.contains(PARTITION) {
        wait("the deleted one's owner ends").await;
    }
    // Deletions are written first: what the other brought follows.
    let extents = loop {
        let extents = node.catalogue.load().expect("loaded").extents;
        if !extents.is_empty() {
            break extents;
        }
        wait("what the other partition brought is in the catalogue").await;
    };
    assert_eq!(extents.iter().map(|(nonce, _)| *nonce).collect::<Vec<_>>(), [Nonce(6)]);
    assert!(node.files.read(&extents[0].1).is_ok(), "its file is there");
}

/// A partition that nobody uses costs no memory; it wakes as it fell asleep, and no mail is lost on the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_partition_rests_and_wakes_as_it_was() {
    let mut bench = bench("resting", true);
    let node = Arc::clone(&bench.node);
    let reports = std::mem::replace(&mut bench.reports, mpsc::unbounded_channel().1);
    tokio::spawn(tell_owners(Arc::clone(&node), reports));
    let writer = FileWriter::new(Arc::clone(&node.files), 1, [].iter(), Box::new(|| true)).expect("a writer");
    let jobs = std::mem::replace(&mut bench.jobs, mpsc::unbounded_channel().1);
    tokio::spawn(flush::run(Arc::clone(&node), jobs, writer, 0));
    follow(&node, 3, 10);
    let inventory = async || {
        let (to, answer) = tokio::sync::oneshot::channel();
        assert!(node.deliver(PARTITION, Mail::Inventory(None, to)).is_ok(), "it is here");
        answer.await.expect("no mail is lost").expect("not refused")
    };
    let began = Instant::now();
    let wait = async |what: &str| {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        node.owners.for_each_awake(|_, owner| owner.shed_if_quiet());
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let rest = async || {
        while node.owners.awake(PARTITION).is_some() {
            wait("it falls asleep").await;
        }
    };
    while inventory().await.segments.first().is_none_or(|segment| segment.end < 3) {
        wait("it is on disk").await;
    }
    for _ in 0..20 {
        wait("").await;
    }
    assert!(node.owners.awake(PARTITION).is_some(), "an open segment does not rest");
    node.hear_record(sealed_at(3));
    while inventory().await.segments[0].sealed.is_none() {
        wait("it is sealed").await;
    }
    let before = inventory().await;
    rest().await;
    assert_eq!(node.owners.count(), (1, 1));
    assert_eq!(node.budget.used(), 0, "nothing of it is in memory");
    assert_eq!(before, inventory().await, "it wakes as it was");
    rest().await;
    node.hear_record(sealed_at(3));
    assert!(node.owners.awake(PARTITION).is_none(), "what it has heard before does not wake it");
    // Whoever comes just when it falls asleep is answered all the same.
    for delay_us in 0..200 {
        assert_eq!(before, inventory().await);
        rest().await;
        tokio::time::sleep(Duration::from_micros(delay_us)).await;
    }
    // As a restart finds it: nothing of it is in the journal any more.
    let catalogue = node.catalogue.load().expect("loaded");
    let replicas = catalogue.images.into_iter().map(owner::restored).collect();
    let recovered = recovery::recover(&[], JOURNAL_FILE_BYTES, 0, Rules::ALL);
    let extents = HashMap::from([(PARTITION, catalogue.extents)]);
    node.owners.forget(PARTITION);
    let recovering = Recovering { recovered, replicas, extents, checkpoint: 0, next_file: 9, quarantined: 0 };
    recovering.start_owners(&node);
    assert_eq!(node.owners.count(), (1, 1), "it goes on resting");
    assert_eq!(before, inventory().await);
    rest().await;
    assert!(node.deliver(PARTITION, Mail::Deleted).is_ok());
    while node.owners.contains(PARTITION) {
        wait("its topic is gone, and so is it").await;
    }
    assert!(node.catalogue.load().expect("loaded").extents.is_empty());
}

/// A dropped segment must neither hold the journal back after a restart nor keep its rows and files; a copy of it that
/// was made later is of the journal alone.
#[tokio::test]
async fn a_restart_heeds_what_was_dropped() {
    let bench = bench("dropped", true);
    let other = TopicPartition { topic: TopicId(9), partition: 0 };
    let (gone, again) = (Nonce(41), Nonce(42));
    let segment = |nonce| SegmentId { partition: other, nonce, ..segment() };
    let append = |nonce, offset: i64| {
        let mut builder = BatchBuilder::new();
        builder.push(NewRecord { key: None, value: Some(b"v"), timestamp: 1, headers: &[] });
        let meta = AppendMeta {
            account: AccountId(1),
            cluster: ClusterId(1),
            segment: segment(nonce),
            principal: PrincipalId(0),
            protocol: Protocol::Internal,
            dedupe: DedupeKey::None,
            encryption_key: 0,
            append_time: 1,
            commit: offset,
        };
        JournalEntry::Append { meta, batch: builder.finish(Codec::None).expect("a batch").placed_at(offset, 1) }
    };
    let open = |nonce| JournalEntry::Open(opening(segment(nonce)));
    let drop = |nonce| JournalEntry::Drop { segment: segment(nonce) };
    let entries = [
        open(gone),
        append(gone, 0),
        drop(gone),
        open(again),
        append(again, 0),
        append(again, 1),
        drop(again),
        open(again),
        append(again, 0),
    ];
    let mut recovered = recovery::recover(&[], JOURNAL_FILE_BYTES, 0, Rules::ALL);
    let replayed = entries.into_iter().zip(0..);
    recovered.entries.extend(replayed.map(|(entry, number)| recovery::Replayed {
        position: number * 4096,
        length: 4096,
        entry,
    }));
    let mut replicas = BTreeMap::new();
    recovery::replay(&recovered, &mut replicas, Rules::ALL);
    // The catalogue still names what both held before.
    let extent = |nonce, file| (nonce, Extent { base: 0, end: 2, file, at: 4096, length: 9, max_timestamp: 1 });
    let named = vec![extent(gone, 7), extent(again, 8)];
    let extents = HashMap::from([(other, named.clone())]);
    let recovering = Recovering { recovered, replicas, extents, checkpoint: 0, next_file: 9, quarantined: 0 };
    recovering.start_owners(&bench.node);
    let (answers, mut answered) = mpsc::unbounded_channel();
    bench.node.tell(other, Mail::Flush(answers));
    let Some(FlushAnswer::Job(job)) = answered.recv().await else { panic!("there is something to flush") };
    assert_eq!(job.dropped, named, "rows and files of the earlier lives go");
    assert_eq!(job.needed, Some(8 * 4096), "only the batch of the last life is needed");
}
