//! Write-behind: committed batches leave the journal for segment and pack files, and its files are used again.
//!
//! One thread. A segment with at least 1 MiB to write gets a file of its own; smaller pieces of many segments go
//! into one pack file. Files are fsynced before the catalogue names them, the catalogue is durable before the
//! journal's checkpoint moves.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use types::limits::{JOURNAL_FILE_BYTES, SEGMENT_FILE_BYTES_MIN, TAIL_BUDGET_BYTES};
use types::{Nonce, TopicPartition};
use wire::Batch;
use wire::journal::OpenMeta;
use wire::segment::SegmentFileHeader;

use crate::catalogue::{CatalogueError, Extent, FlushRecord, PartitionImage};
use crate::files::{FileWriter, IsUrgent};
use crate::node::Node;
use crate::owner::{Mail, OwnerHandle};
use crate::tail::lap_of;

/// Journal files in use that start a checkpoint.
const JOURNAL_FILES_MAX: u64 = 3;
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Pause after files could not be written.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// What one owner hands over.
pub struct FlushJob {
    pub owner: OwnerHandle,
    pub image: PartitionImage,
    pub pieces: Vec<(OpenMeta, Vec<Batch>)>,
    /// Extents that nobody reads any more.
    pub dropped: Vec<(Nonce, Extent)>,
    /// The topic is gone: the partition leaves the catalogue.
    pub is_deleted: bool,
    /// The lowest journal position that the partition still needs after this.
    pub needed: Option<u64>,
}

/// An owner's answer to a checkpoint.
pub enum FlushAnswer {
    Job(Box<FlushJob>),
    /// Nothing changed since the image that the catalogue has.
    Clean,
    /// A job of its own is under way and does not cover everything: no checkpoint this time.
    Busy,
}

/// Where owners send what is large enough to be written at once.
#[derive(Debug, Clone)]
pub struct Flusher(mpsc::UnboundedSender<FlushJob>);

/// The other end, for [`run`].
pub type Jobs = mpsc::UnboundedReceiver<FlushJob>;

impl Flusher {
    pub fn new() -> (Self, Jobs) {
        let (sender, jobs) = mpsc::unbounded_channel();
        (Self(sender), jobs)
    }

    pub fn submit(&self, job: FlushJob) {
        let _ = self.0.send(job);
    }
}

#[derive(Debug, thiserror::Error)]
enum FlushError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

/// Whether files must be written without pauses: the journal is about to run over its files.
pub fn is_urgent(node: &Arc<Node>) -> IsUrgent {
    let node = Arc::clone(node);
    Box::new(move || {
        let lag = node.journal.end().saturating_sub(node.checkpoint.load(Ordering::Relaxed));
        lag / JOURNAL_FILE_BYTES >= JOURNAL_FILES_MAX
    })
}

/// Runs until the node ends.
pub async fn run(node: Arc<Node>, mut jobs: Jobs, mut writer: FileWriter, mut checkpoint: u64) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            count = jobs.recv_many(&mut batch, 64) => if count == 0 { return },
            _ = ticks.tick() => {}
        }
        if !batch.is_empty() {
            writer = write(&node, writer, batch, None, &mut jobs).await;
        }
        // The file of the last entry that its owner was told of: of every file before it, owners know all entries.
        // What is written but not reported yet would be in no answer to the question below.
        let current = lap_of(node.reported.load(Ordering::Acquire));
        let used = current.saturating_sub(lap_of(checkpoint));
        let is_memory_tight = node.budget.used() > TAIL_BUDGET_BYTES * 3 / 4;
        let is_space_tight = is_memory_tight || node.journal.is_full();
        if used >= JOURNAL_FILES_MAX || (is_space_tight && used > 0) {
            // Everything before the file that is being written.
            let limit = current * JOURNAL_FILE_BYTES;
            let (answers, mut answered) = mpsc::unbounded_channel();
            node.tell_all(|| Mail::Flush(answers.clone()));
            drop(answers);
            let mut all = Vec::new();
            let mut is_complete = true;
            while let Some(job) = answered.recv().await {
                match job {
                    FlushAnswer::Job(job) => all.push(*job),
                    FlushAnswer::Clean => {}
                    FlushAnswer::Busy => is_complete = false,
                }
            }
            while let Ok(job) = jobs.try_recv() {
                all.push(job);
            }
            let needed = all.iter().filter_map(|job| job.needed).min().unwrap_or(limit).min(limit);
            let old = checkpoint;
            if is_complete {
                checkpoint = needed.max(checkpoint);
            }
            writer = write(&node, writer, all, is_complete.then_some(checkpoint), &mut jobs).await;
            node.checkpoint.store(checkpoint, Ordering::Relaxed);
            for lap in lap_of(old)..lap_of(checkpoint) {
                if let Err(error) = node.journal_files.retire(lap) {
                    tracing::warn!(%error, lap, "a journal file could not be retired");
                }
            }
        }
    }
}

/// Writes until it is done. Deletions go first and by themselves: they free the space that the rest may be missing,
/// and what the records of a deleted partition would still have brought is void.
async fn write(
    node: &Arc<Node>,
    mut writer: FileWriter,
    mut jobs: Vec<FlushJob>,
    mut checkpoint: Option<u64>,
    incoming: &mut Jobs,
) -> FileWriter {
    loop {
        let (deletions, mut rest): (Vec<FlushJob>, Vec<FlushJob>) = jobs.into_iter().partition(|job| job.is_deleted);
        let gone: BTreeSet<TopicPartition> = deletions.iter().map(|job| job.image.partition).collect();
        rest.retain_mut(|job| {
            let is_void = gone.contains(&job.image.partition);
            if is_void {
                // What it was to drop is the deletion's now.
                let extents = std::mem::take(&mut job.dropped);
                job.owner.tell(Mail::Flushed { extents, is_deletion: false });
            }
            !is_void
        });
        let mut left = Vec::new();
        let mut failed = None;
        if !deletions.is_empty() {
            (writer, failed) = attempt(node, writer, deletions, None).await;
        }
        // The journal keeps a deletion that is not in the catalogue yet.
        let moves_to = checkpoint.filter(|_| failed.is_none());
        left.extend(failed.into_iter().flatten());
        if !rest.is_empty() || moves_to.is_some() {
            (writer, failed) = attempt(node, writer, rest, moves_to).await;
            if failed.is_none() && moves_to.is_some() {
                checkpoint = None;
            }
            left.extend(failed.into_iter().flatten());
        }
        if left.is_empty() && checkpoint.is_none() {
            return writer;
        }
        // The journal still holds it all: nothing is lost, and nothing leaves the journal.
        tokio::time::sleep(RETRY_AFTER).await;
        while let Ok(job) = incoming.try_recv() {
            left.push(job);
        }
        jobs = left;
    }
}

/// Writes once; gives the jobs back if that failed.
async fn attempt(
    node: &Arc<Node>,
    mut writer: FileWriter,
    jobs: Vec<FlushJob>,
    checkpoint: Option<u64>,
) -> (FileWriter, Option<Vec<FlushJob>>) {
    let node = Arc::clone(node);
    let writing = tokio::task::spawn_blocking(move || match write_blocking(&node, &mut writer, &jobs, checkpoint) {
        Ok(mut extents) => {
            for job in jobs {
                let own = extents.remove(&job.image.partition).unwrap_or_default();
                let is_deletion = job.is_deleted;
                job.owner.tell(Mail::Flushed { extents: own, is_deletion });
            }
            (writer, None)
        }
        Err(error) => {
            if !matches!(error, FlushError::Catalogue(CatalogueError::Uncertain(_))) {
                writer.abandon();
            }
            tracing::warn!(%error, "batches could not be written to files; trying again");
            (writer, Some(jobs))
        }
    });
    writing.await.expect("the flusher does not panic")
}

type ByPartition = BTreeMap<TopicPartition, Vec<(Nonce, Extent)>>;

fn write_blocking(
    node: &Node,
    writer: &mut FileWriter,
    jobs: &[FlushJob],
    checkpoint: Option<u64>,
) -> Result<ByPartition, FlushError> {
    let mut extents: ByPartition = BTreeMap::new();
    let mut small: Vec<(TopicPartition, Nonce, &[Batch])> = Vec::new();
    let mut bytes = 0;
    for job in jobs {
        for (open, batches) in &job.pieces {
            let partition = job.image.partition;
            let size: usize = batches.iter().map(Batch::stored_len).sum();
            bytes += size;
            if size < SEGMENT_FILE_BYTES_MIN {
                small.push((partition, open.segment.nonce, batches));
                continue;
            }
            let header = SegmentFileHeader {
                account: open.account,
                cluster: open.cluster,
                segment: open.segment,
                base: open.base,
                encryption_key: open.encryption_key,
            };
            let written = writer.write_segment(&header, batches)?;
            let written = written.into_iter().map(|extent| (open.segment.nonce, extent));
            extents.entry(partition).or_default().extend(written);
        }
    }
    if !small.is_empty() {
        let pieces: Vec<(Nonce, &[Batch])> = small.iter().map(|(_, nonce, batches)| (*nonce, *batches)).collect();
        let owners: BTreeMap<Nonce, TopicPartition> =
            small.iter().map(|(partition, nonce, _)| (*nonce, *partition)).collect();
        for (nonce, extent) in writer.write_pack(&pieces)? {
            extents.entry(owners[&nonce]).or_default().push((nonce, extent));
        }
    }
    writer.sync()?;
    let dropped: BTreeMap<(Nonce, i64), Extent> =
        jobs.iter().flat_map(|job| &job.dropped).map(|(nonce, extent)| ((*nonce, extent.base), *extent)).collect();
    let dropped: Vec<(Nonce, Extent)> = dropped.into_iter().map(|((nonce, _), extent)| (nonce, extent)).collect();
    let (deleted, kept): (Vec<&FlushJob>, Vec<&FlushJob>) = jobs.iter().partition(|job| job.is_deleted);
    let record = FlushRecord {
        images: kept.iter().map(|job| job.image.clone()).collect(),
        deleted: deleted.iter().map(|job| job.image.partition).collect(),
        dropped: dropped.clone(),
        extents: extents.values().flatten().copied().collect(),
        checkpoint,
        next_file: writer.next_file(),
    };
    node.catalogue.record(&record)?;
    writer.named(record.extents.iter().map(|(_, extent)| extent));
    writer.release(dropped.iter().map(|(_, extent)| extent));
    node.metrics.bytes_flushed.add(bytes as u64);
    Ok(extents)
}
