//! A storage node's life: recovery, registration, serving, drain.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cores::Rules;
use cores::recovery::{self, JournalFile};
use service::api::{ApiError, PlacementClient};
use service::drain::Drain;
use service::health::{self, Health};
use service::nodes::NodePool;
use service::proxy::Proxies;
use service::trust::{Trust, TrustFiles};
use service::{clock, random};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use types::limits::JOURNAL_FILE_BYTES;
use types::{
    ClusterId, Epoch, ErrorCode, Generation, Incarnation, NodeId, Nonce, PartitionRecord, Replica, SegmentId,
    TopicPartition,
};
use wire::Batch;
use wire::frame::{PeerMessage, PeerReply};
use wire::journal::JournalEntry;

use crate::admin::Metrics;
use crate::catalogue::{Catalogue, CatalogueError, Extent};
use crate::copy::COPIES_MAX;
use crate::files::{FileWriter, Files};
use crate::flush::{self, Flusher};
use crate::journal::{DirectFiles, Journal, JournalFiles};
use crate::membership::{heartbeat, register_start};
use crate::owner::resting::REST_AFTER_MS;
use crate::owner::{self, Mail, OwnerHandle};
use crate::owners::Owners;
use crate::peers::{self, Peers};
use crate::topics::TopicCache;
use crate::uses::Uses;
use crate::{following, inventory, listener, tail::TailBudget};

/// Damaged segments that a heartbeat names.
const DAMAGED_MAX: usize = 1_000;
/// How often owners are looked at that have no work; each gives memory back after the second look in vain.
const SHED_EVERY: Duration = Duration::from_secs(2);

/// What a user may set.
#[derive(Debug, Clone)]
pub struct Settings {
    pub name: String,
    pub az: String,
    pub data: PathBuf,
    /// Where others reach the data-path listener.
    pub advertise: String,
    pub placement: Vec<String>,
    /// For TLS with other services; `None`: plain TCP, and everybody may do everything.
    pub trust: Option<TrustFiles>,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("certificates between services: {0}")]
    Trust(String),
    #[error("data directory `{dir}`: {source}")]
    Data { dir: PathBuf, source: io::Error },
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    #[error("a journal record has version {0}, which this release cannot read")]
    Newer(u8),
    #[error("placement did not register this node: {0}")]
    Placement(String),
}

/// What the tasks of a node share.
#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub az: String,
    pub data: PathBuf,
    me: Replica,
    /// The cluster of the metadata that this data belongs to.
    cluster: ClusterId,
    /// Nothing of a generation below this begins here; as it is on disk, and a copy to look at.
    pub fenced: Mutex<Generation>,
    pub generation: AtomicU32,
    /// Topics as placement described them last.
    pub topics: TopicCache,
    /// When placement took a heartbeat last, in ms of the monotonic clock; 0: never.
    pub heard_ms: AtomicU64,
    pub owners: Owners,
    pub journal: Journal<OwnerHandle>,
    pub journal_files: Arc<dyn JournalFiles>,
    pub catalogue: Catalogue,
    pub files: Arc<Files>,
    pub budget: Arc<TailBudget>,
    pub flusher: Flusher,
    /// Position of the last journal entry that its owner was told of, and so of all before it.
    pub reported: AtomicU64,
    /// Everything before it has left the journal.
    pub checkpoint: AtomicU64,
    pub peers: Peers,
    /// Connections to other nodes, for copies.
    pub pool: NodePool,
    /// How other services prove what they are.
    pub trust: Option<Arc<Trust>>,
    /// Bounds the copies that are made here at once.
    pub copies: Semaphore,
    /// Signatures that gateways took.
    pub uses: Uses,
    /// Sealed segments whose copies here are damaged: placement is told with each heartbeat.
    damaged: Mutex<BTreeSet<SegmentId>>,
    pub placement: PlacementClient,
    pub metrics: Metrics,
    /// Placement's store is an older copy of the one that was known: it does not know what was made since.
    pub is_placement_older: AtomicBool,
    /// How long nothing must have come for a partition of which everything is sealed before it rests, in ms.
    pub rest_after_ms: u64,
}

impl std::fmt::Debug for OwnerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnerHandle")
    }
}

impl std::fmt::Debug for dyn JournalFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JournalFiles")
    }
}

impl Node {
    /// The generation that was fenced here last; 0 before metadata was ever restored.
    pub fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    /// How long ago a placement took a heartbeat, in ms; `u64::MAX` if none ever did.
    pub fn placement_heard_ms(&self) -> u64 {
        match self.heard_ms.load(Ordering::Relaxed) {
            0 => u64::MAX,
            at => clock::monotonic_ms().saturating_sub(at),
        }
    }

    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// This node's disk, as records name it.
    pub fn me(&self) -> Replica {
        self.me
    }

    /// Why appends cannot be taken just now.
    pub fn why_no_room(&self) -> Option<ErrorCode> {
        if self.journal.is_full() {
            return Some(ErrorCode::StorageFull);
        }
        self.budget.is_behind().then_some(ErrorCode::Overloaded)
    }

    /// A write of the journal does not end: nothing that comes here would be acknowledged, so this node ends its connections,
    /// takes none and sends no heartbeats, and others do without it until the disk goes on.
    pub fn is_hung(&self) -> bool {
        self.journal.is_hung()
    }

    /// Notes another node's name and where it listens.
    pub fn learn(&self, other: NodeId, name: &str, address: &str) {
        for gone in self.peers.learn(other, name, address) {
            self.tell_all(|| Mail::PeerDown(gone));
        }
    }

    /// False if the follower is known not to be there.
    pub fn send_to_follower(self: &Arc<Self>, to: NodeId, message: PeerMessage) -> bool {
        peers::send(self, to, message)
    }

    pub fn reply_to_leader(&self, to: NodeId, reply: PeerReply) {
        self.peers.reply(to, reply);
    }

    /// With the heartbeats from now on.
    pub fn report_damage(&self, segment: SegmentId) {
        if self.damaged.lock().expect("no panic holds this lock").insert(segment) {
            tracing::warn!(?segment, "this copy of a sealed segment is damaged; placement is told");
        }
    }

    /// A copy is gone, or is made anew.
    pub fn forget_damage(&self, nonce: Nonce) {
        self.damaged.lock().expect("no panic holds this lock").retain(|segment| segment.nonce != nonce);
    }

    /// What is damaged, as much of it as a heartbeat tells. Told again and again: placement keeps it in memory alone.
    pub fn damaged(&self) -> Vec<SegmentId> {
        self.damaged.lock().expect("no panic holds this lock").iter().take(DAMAGED_MAX).copied().collect()
    }

    /// What the record does not list this disk for need not be whole here.
    pub fn forget_unlisted(&self, record: &PartitionRecord) {
        let mut damaged = self.damaged.lock().expect("no panic holds this lock");
        if !damaged.is_empty() {
            let is_listed = |nonce| record.chain.iter().any(|s| s.nonce == nonce && s.replicas.contains(&self.me));
            damaged.retain(|segment| segment.partition != record.id() || is_listed(segment.nonce));
        }
    }

    /// A record that comes where no owner is, and that lists this disk: its copies are gone.
    pub fn report_absent(&self, record: &PartitionRecord) {
        let sealed = record.chain.iter().filter(|segment| segment.end.is_some());
        sealed.filter(|s| s.replicas.contains(&self.me)).for_each(|s| self.report_damage(s.id(record.id())));
    }

    pub fn ask_placement(self: &Arc<Self>, partition: TopicPartition) {
        let node = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = node.hear_of(partition).await {
                tracing::debug!(%error, %partition, "placement did not answer for a partition");
            }
        });
    }

    /// Asks placement for a partition's record, and tells its owner.
    pub async fn hear_of(self: &Arc<Self>, partition: TopicPartition) -> Result<(), ApiError> {
        match self.placement.partition(partition).await {
            // Older metadata does not know what was made since.
            Ok(_) if self.is_placement_older.load(Ordering::Relaxed) => {}
            Ok(record) => self.hear_record(record),
            // A record is made with its topic and goes with it: in this cluster's metadata, and not in an older copy
            // of it, an absence is a deletion.
            Err(error) if error.code == ErrorCode::UnknownPartition => {
                if !self.is_placement_older.load(Ordering::Relaxed) {
                    let _ = self.deliver(partition, Mail::Deleted);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// A running storage node.
#[derive(Debug)]
pub struct StorageNode {
    node: Arc<Node>,
    is_direct: bool,
    flush_us: u64,
}

impl StorageNode {
    /// Recovers, registers and serves; returns when the node is ready.
    pub async fn start(
        settings: Settings,
        listener: TcpListener,
        admin: TcpListener,
        drain: Drain,
    ) -> Result<Self, StartError> {
        let data = settings.data.clone();
        let in_data = |source| StartError::Data { dir: data.clone(), source };
        fs::create_dir_all(&data).map_err(in_data)?;
        let incarnation = identity(&data).map_err(in_data)?;
        let health = Health::new();
        let metrics = Metrics::new(&health);
        let trust =
            settings.trust.as_ref().map(|files| Trust::open(files, &[])).transpose().map_err(StartError::Trust)?;
        if let Some(trust) = &trust {
            // What is wrong with them may be mended while placement is waited for.
            tokio::spawn(Arc::clone(trust).follow(drain.clone()));
        }
        let placement = PlacementClient::new(&settings.placement, trust.as_ref());
        let direct = DirectFiles::new(&data.join("journal")).map_err(in_data)?;
        let is_direct = direct.is_direct();
        let flush_us = direct.measure_us().map_err(in_data)?;
        let journal_files: Arc<dyn JournalFiles> = Arc::new(direct);
        let files = Arc::new(Files::new(&data.join("segments"), is_direct).map_err(in_data)?);
        let has_files = !files.ids().map_err(in_data)?.is_empty();
        let catalogue = Catalogue::open(&data.join("catalogue.redb"), has_files)?;

        let state = Recovering::read(&catalogue, &*journal_files).map_err(|error| match error {
            RecoveryError::Io(source) => in_data(source),
            RecoveryError::Catalogue(error) => StartError::Catalogue(error),
            RecoveryError::Newer(version) => StartError::Newer(version),
        })?;
        let disk = data.display().to_string();
        let failed = move |error: io::Error| {
            tracing::error!(%error, disk, "the journal cannot be written: this process acknowledges nothing more and ends");
            std::process::exit(1);
        };
        let recovered_end = state.recovered.end;
        let (reported, reports) = mpsc::unbounded_channel();
        let durable = move |entries| drop(reported.send(entries));
        let journal = Journal::start(Arc::clone(&journal_files), &state.recovered, durable, failed).map_err(in_data)?;
        let (id, cluster, is_registered) = register_start(&placement, &settings, &data, incarnation).await?;
        let generation = inventory::noted(&data).map_err(in_data)?;
        let (flusher, jobs) = Flusher::new();
        let node = Arc::new(Node {
            name: settings.name.clone(),
            az: settings.az.clone(),
            data: data.clone(),
            me: Replica { node: id, incarnation },
            cluster,
            fenced: Mutex::new(generation),
            generation: AtomicU32::new(generation.0),
            topics: TopicCache::open(&data),
            heard_ms: AtomicU64::new(0),
            owners: Owners::default(),
            journal,
            journal_files,
            catalogue,
            budget: Arc::default(),
            flusher,
            peers: Peers::default(),
            pool: NodePool::new(trust.clone()),
            trust: trust.clone(),
            copies: Semaphore::new(COPIES_MAX),
            uses: Uses::open(&data),
            damaged: Mutex::default(),
            placement,
            metrics,
            files: Arc::clone(&files),
            checkpoint: AtomicU64::new(state.checkpoint),
            reported: AtomicU64::new(recovered_end.saturating_sub(1)),
            is_placement_older: AtomicBool::new(false),
            rest_after_ms: REST_AFTER_MS,
        });
        tokio::spawn(tell_owners(Arc::clone(&node), reports));
        node.metrics.damaged.set(state.quarantined as u64);
        let checkpoint = state.checkpoint;
        let extents = state.extents.values().flatten().map(|(_, extent)| extent);
        let writer = FileWriter::new(files, state.next_file, extents, flush::is_urgent(&node)).map_err(in_data)?;
        state.start_owners(&node);
        tokio::spawn(flush::run(Arc::clone(&node), jobs, writer, checkpoint));
        tokio::spawn(listener::serve(Arc::clone(&node), listener, drain.clone()));
        tokio::spawn(following::follow_map(Arc::clone(&node), data.join("revision"), drain.clone()));
        tokio::spawn(heartbeat(Arc::clone(&node), settings, data, is_registered, drain.clone()));
        tokio::spawn(count(Arc::clone(&node)));
        tokio::spawn(report_room(Arc::clone(&node)));
        tokio::spawn(shed(Arc::clone(&node)));
        tokio::spawn(service::http::serve(admin, None, Proxies::default(), health::routes(Arc::clone(&health)), drain));
        health.set_ready(true);
        Ok(Self { node, is_direct, flush_us })
    }

    /// Whether the journal is written past the page cache.
    pub fn is_direct(&self) -> bool {
        self.is_direct
    }

    /// Measured time of one durable write, in µs.
    pub fn flush_us(&self) -> u64 {
        self.flush_us
    }

    /// Writes what is queued and ends the journal.
    pub fn close(&self) {
        self.node.uses.close();
        self.node.topics.close();
        self.node.journal.close();
    }
}

/// The incarnation of a data directory; a new directory gets a new one.
fn identity(data: &Path) -> io::Result<Incarnation> {
    let path = data.join("incarnation");
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| io::Error::other("`incarnation` holds no UUID")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let incarnation = Incarnation(random::wide());
            write_durably(&path, incarnation.to_string())?;
            Ok(incarnation)
        }
        Err(error) => Err(error),
    }
}

pub fn write_durably(path: &Path, what: impl AsRef<[u8]>) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, what)?;
    fs::File::open(&new)?.sync_all()?;
    fs::rename(&new, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

enum RecoveryError {
    Io(io::Error),
    Catalogue(CatalogueError),
    Newer(u8),
}

/// What start-up found on disk.
struct Recovering {
    recovered: recovery::Recovered,
    replicas: BTreeMap<TopicPartition, cores::replica::Replica>,
    extents: HashMap<TopicPartition, Vec<(Nonce, Extent)>>,
    checkpoint: u64,
    next_file: u64,
    quarantined: usize,
}

impl Recovering {
    fn read(catalogue: &Catalogue, files: &dyn JournalFiles) -> Result<Self, RecoveryError> {
        let loaded = catalogue.load().map_err(RecoveryError::Catalogue)?;
        let mut replicas: BTreeMap<_, _> = loaded.images.into_iter().map(owner::restored).collect();
        let mut owner_of: HashMap<Nonce, TopicPartition> = HashMap::new();
        for replica in replicas.values() {
            owner_of.extend(replica.segments().map(|s| (s.open.segment.nonce, s.open.segment.partition)));
        }
        let mut extents: HashMap<TopicPartition, Vec<(Nonce, Extent)>> = HashMap::new();
        for (nonce, extent) in loaded.extents {
            if let Some(partition) = owner_of.get(&nonce) {
                extents.entry(*partition).or_default().push((nonce, extent));
            }
        }
        let mut found = Vec::new();
        let io = RecoveryError::Io;
        for lap in files.laps().map_err(io)? {
            if (lap + 1) * JOURNAL_FILE_BYTES <= loaded.checkpoint {
                files.retire(lap).map_err(io)?;
            } else {
                found.push(JournalFile { lap, bytes: files.read(lap).map_err(io)?.into() });
            }
        }
        let recovered = recovery::recover(&found, JOURNAL_FILE_BYTES, loaded.checkpoint, Rules::ALL);
        if let Some(version) = recovered.newer {
            return Err(RecoveryError::Newer(version));
        }
        // Before anything is reported: a torn write is erased, and what survived in the page cache alone is
        // written again (invariant 27; the tail may have been read from memory).
        if let Some(torn) = &recovered.torn {
            for file in &found {
                let start = file.lap * JOURNAL_FILE_BYTES;
                let from = torn.start.clamp(start, start + JOURNAL_FILE_BYTES) - start;
                let to = torn.end.clamp(start, start + JOURNAL_FILE_BYTES) - start;
                let is_blank = file.bytes[from as usize..to as usize].iter().all(|byte| *byte == 0);
                if from < to && !is_blank {
                    files.erase(file.lap, from, to).map_err(io)?;
                }
            }
        }
        let quarantined = recovery::replay(&recovered, &mut replicas, Rules::ALL);
        for damage in &recovered.damage {
            tracing::error!(
                from = damage.start,
                to = damage.end,
                "the journal is damaged: what was complete cannot be read"
            );
        }
        for segment in &quarantined {
            tracing::error!(?segment, "a segment is quarantined: this copy of it counts as damaged");
        }
        let (checkpoint, next_file) = (loaded.checkpoint, loaded.next_file);
        Ok(Self { recovered, replicas, extents, checkpoint, next_file, quarantined: quarantined.len() })
    }

    fn start_owners(mut self, node: &Arc<Node>) {
        let mut batches: HashMap<TopicPartition, Vec<(Nonce, Batch, u64)>> = HashMap::new();
        let mut dropped: HashMap<TopicPartition, Vec<(Nonce, Extent)>> = HashMap::new();
        // What the journal speaks of is not in the catalogue yet, or not as it is now.
        let mut in_journal: BTreeSet<TopicPartition> = BTreeSet::new();
        for replayed in self.recovered.entries {
            in_journal.extend(replayed.entry.partition());
            match replayed.entry {
                JournalEntry::Append { meta, batch } => {
                    let segment = meta.segment;
                    batches.entry(segment.partition).or_default().push((segment.nonce, batch, replayed.position));
                }
                // What was dropped is gone from memory and files alike; a later copy of it begins anew.
                JournalEntry::Drop { segment } => {
                    batches.entry(segment.partition).or_default().retain(|(nonce, ..)| *nonce != segment.nonce);
                    let extents = self.extents.entry(segment.partition).or_default();
                    let gone = extents.extract_if(.., |(nonce, _)| *nonce == segment.nonce);
                    dropped.entry(segment.partition).or_default().extend(gone);
                }
                _ => {}
            }
        }
        for (partition, mut replica) in self.replicas {
            if !in_journal.contains(&partition) && replica.is_at_rest() {
                node.owners.lay(partition);
                continue;
            }
            replica.restore((node.generation(), Epoch(0)), []);
            let batches = batches.remove(&partition).unwrap_or_default();
            let extents = self.extents.remove(&partition).unwrap_or_default();
            let dropped = dropped.remove(&partition).unwrap_or_default();
            node.owners.awake_or(partition, || owner::start(node, replica, batches, extents, dropped));
        }
    }
}

/// Passes on what the journal made durable. One wake-up from its thread for all owners of a write: they run one
/// after the other, and what they send to one peer leaves in one system call.
async fn tell_owners(node: Arc<Node>, mut reports: mpsc::UnboundedReceiver<Vec<(OwnerHandle, u64)>>) {
    while let Some(entries) = reports.recv().await {
        let Some((_, last)) = entries.last() else { continue };
        let last = *last;
        entries.into_iter().for_each(|(owner, position)| owner.tell(Mail::Durable(position)));
        // After the telling: whoever reads this and then asks an owner finds it informed.
        node.reported.store(last, Ordering::Release);
    }
}

/// Leaders refuse appends that this node, as their follower, could not take. What comes until they know goes into
/// the rest of the present journal file.
async fn report_room(node: Arc<Node>) {
    let mut known = None;
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let refused = node.why_no_room();
        if std::mem::replace(&mut known, refused) != refused {
            node.peers.tell_room(refused);
        }
    }
}

/// Owners without work give memory back; names of topics are noted.
async fn shed(node: Arc<Node>) {
    loop {
        tokio::time::sleep(SHED_EVERY).await;
        node.owners.for_each_awake(|_, owner| owner.shed_if_quiet());
        tokio::task::block_in_place(|| node.topics.write());
    }
}

async fn count(node: Arc<Node>) {
    use std::sync::atomic::Ordering::Relaxed;
    let stats = node.journal.stats();
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        node.metrics.journal_writes.set(stats.writes.load(Relaxed));
        node.metrics.journal_bytes.set(stats.bytes.load(Relaxed));
        node.metrics.tail_bytes.set(node.budget.used() as u64);
        let (partitions, resting) = node.owners.count();
        node.metrics.partitions.set(partitions as u64);
        node.metrics.resting.set(resting as u64);
    }
}

#[cfg(test)]
mod tests;
