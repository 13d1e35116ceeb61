//! What a node knows of its own files: extents, segments and floors as of the last flush, the checkpoint.
//!
//! Written only when batches leave the journal (a redb transaction per flush); everything since the checkpoint
//! is in the journal.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use bytes::{Bytes, BytesMut};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use types::{Epoch, Generation, Nonce, Offset, TopicPartition};
use wire::DedupeSnapshot;
use wire::codec::{DecodeError, Reader};
use wire::journal::OpenMeta;
use wire::layout::{Layout, decode, encode};

const PARTITIONS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("partitions");
const EXTENTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("extents");
const STATE: TableDefinition<'_, &str, u64> = TableDefinition::new("state");
const CHECKPOINT: &str = "checkpoint";
const NEXT_FILE: &str = "next_file";
const COMMITS: &str = "commits";
const VERSION_KEY: &str = "version";
/// The version of the rows: 2 has each extent's newest timestamp, 3 the marks of copies. A catalogue carries the oldest
/// version that has all that is in it.
const VERSION: u64 = 3;
const OLDEST: u64 = 2;

/// A segment as of its last flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentImage {
    pub open: OpenMeta,
    /// Everything below is in extents, and is committed.
    pub end: Offset,
    pub chain: u64,
    pub sealed: Option<Offset>,
    pub is_damaged: bool,
    /// Producer state at `end`.
    pub producers: DedupeSnapshot,
}

/// A partition as of its last flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionImage {
    pub partition: TopicPartition,
    pub generation: Generation,
    pub epoch: Epoch,
    pub segments: Vec<SegmentImage>,
    /// Those that repair copied here.
    pub copies: Vec<CopyMark>,
}

/// A copy that repair made, and the version of the record that it was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyMark {
    pub nonce: Nonce,
    pub record_version: u64,
}

impl Layout for CopyMark {
    fn put(&self, out: &mut BytesMut) {
        self.nonce.put(out);
        self.record_version.put(out);
    }

    fn take(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { nonce: Layout::take(r)?, record_version: Layout::take(r)? })
    }
}

/// A run of batches in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub base: Offset,
    pub end: Offset,
    pub file: u64,
    pub at: u64,
    pub length: u64,
    /// The time index: the newest timestamp of its batches, in ms since 1970.
    pub max_timestamp: i64,
}

impl Layout for SegmentImage {
    fn put(&self, out: &mut BytesMut) {
        self.open.put(out);
        self.end.put(out);
        self.chain.put(out);
        self.sealed.put(out);
        self.is_damaged.put(out);
        self.producers.put(out);
    }

    fn take(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            open: Layout::take(r)?,
            end: Layout::take(r)?,
            chain: Layout::take(r)?,
            sealed: Layout::take(r)?,
            is_damaged: Layout::take(r)?,
            producers: Layout::take(r)?,
        })
    }
}

impl Layout for PartitionImage {
    fn put(&self, out: &mut BytesMut) {
        self.partition.put(out);
        self.generation.put(out);
        self.epoch.put(out);
        self.segments.put(out);
        // Rows of version 2 end here.
        if !self.copies.is_empty() {
            self.copies.put(out);
        }
    }

    fn take(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            partition: Layout::take(r)?,
            generation: Layout::take(r)?,
            epoch: Layout::take(r)?,
            segments: Layout::take(r)?,
            copies: if r.left() == 0 { Vec::new() } else { Layout::take(r)? },
        })
    }
}

/// Why the catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    #[error("the catalogue: {0}")]
    Store(#[from] redb::Error),
    /// A failed commit may have come about all the same, and the file cannot be opened to see.
    #[error("the catalogue, which was being written: {0}")]
    Uncertain(String),
    #[error("`{0}` is in use by another process")]
    InUse(String),
    #[error(
        "`{0}` is missing, and there are segment files that only it explains; bring it back, or start with an empty data directory"
    )]
    Missing(String),
    #[error("the catalogue has version {0}; this release reads versions {OLDEST} to {VERSION}")]
    Version(u64),
    #[error("the catalogue has no row of {0}, which is on this node")]
    Lost(TopicPartition),
    #[error("the catalogue holds what cannot be read: {0}")]
    Decode(#[from] DecodeError),
}

macro_rules! into_store_error {
    ($($error:ty),*) => {
        $(impl From<$error> for CatalogueError {
            fn from(error: $error) -> Self {
                Self::Store(error.into())
            }
        })*
    };
}
into_store_error!(redb::DatabaseError, redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);

/// What one flush changes.
#[derive(Debug, Default)]
pub struct FlushRecord {
    pub images: Vec<PartitionImage>,
    pub extents: Vec<(Nonce, Extent)>,
    /// Partitions whose topic is gone, and extents that nobody reads any more.
    pub deleted: Vec<TopicPartition>,
    pub dropped: Vec<(Nonce, Extent)>,
    pub checkpoint: Option<u64>,
    pub next_file: u64,
}

/// Everything, at start-up.
#[derive(Debug, Default)]
pub struct Loaded {
    pub images: Vec<PartitionImage>,
    pub extents: Vec<(Nonce, Extent)>,
    pub checkpoint: u64,
    pub next_file: u64,
}

/// See the module's text.
#[derive(Debug)]
pub struct Catalogue {
    path: PathBuf,
    state: Mutex<State>,
    /// For readers: they wait for no writer. `None` after an error, until it is opened again.
    open: RwLock<Option<Arc<Database>>>,
}

#[derive(Debug)]
struct State {
    /// `None` after an error: redb takes nothing more after one, until it is opened again.
    database: Option<Arc<Database>>,
    /// Counts commits: tells whether one that failed came about all the same.
    commits: u64,
}

impl Catalogue {
    /// Opens it, or makes a new one where `has_files` says that there is nothing for it to explain.
    pub fn open(path: &Path, has_files: bool) -> Result<Self, CatalogueError> {
        if has_files && !path.exists() {
            return Err(CatalogueError::Missing(path.display().to_string()));
        }
        let database = create(path)?;
        let transaction = database.begin_write()?;
        transaction.open_table(PARTITIONS)?;
        transaction.open_table(EXTENTS)?;
        {
            let is_new = transaction.open_table(PARTITIONS)?.is_empty()?;
            let mut state = transaction.open_table(STATE)?;
            let version = state.get(VERSION_KEY)?.map_or(1, |version| version.value());
            if is_new {
                state.insert(VERSION_KEY, OLDEST)?;
            } else if !(OLDEST..=VERSION).contains(&version) {
                return Err(CatalogueError::Version(version));
            }
        }
        transaction.commit()?;
        let commits = commits(&database)?;
        let database = Arc::new(database);
        let open = RwLock::new(Some(Arc::clone(&database)));
        Ok(Self { path: path.to_owned(), state: Mutex::new(State { database: Some(database), commits }), open })
    }

    /// Durable on return.
    ///
    /// # Errors
    /// Nothing was recorded; only after [`CatalogueError::Uncertain`] that is not known.
    pub fn record(&self, flush: &FlushRecord) -> Result<(), CatalogueError> {
        let mut state = self.state.lock().expect("no panic holds this lock");
        let uncertain = |error: CatalogueError| CatalogueError::Uncertain(error.to_string());
        let open = match state.database.take() {
            Some(open) => open,
            None => {
                self.show(None);
                let open = Arc::new(create(&self.path).map_err(uncertain)?);
                state.commits = commits(&open).map_err(uncertain)?;
                self.show(Some(&open));
                open
            }
        };
        let number = state.commits + 1;
        match Self::write(&open, flush, number) {
            Ok(()) => {
                *state = State { database: Some(open), commits: number };
                Ok(())
            }
            Err(error) => {
                self.show(None);
                drop(open);
                let again = Arc::new(create(&self.path).map_err(uncertain)?);
                let last = commits(&again).map_err(uncertain)?;
                self.show(Some(&again));
                *state = State { database: Some(again), commits: last };
                if last == number { Ok(()) } else { Err(error) }
            }
        }
    }

    fn show(&self, open: Option<&Arc<Database>>) {
        *self.open.write().expect("no panic holds this lock") = open.cloned();
    }

    fn write(database: &Database, flush: &FlushRecord, number: u64) -> Result<(), CatalogueError> {
        let transaction = database.begin_write()?;
        {
            let mut partitions = transaction.open_table(PARTITIONS)?;
            for image in &flush.images {
                partitions.insert(&encode(&image.partition)[..], &encode(image)[..])?;
            }
            for partition in &flush.deleted {
                partitions.remove(&encode(partition)[..])?;
            }
            let mut extents = transaction.open_table(EXTENTS)?;
            for (nonce, extent) in &flush.dropped {
                extents.remove(&extent_key(*nonce, extent.base)[..])?;
            }
            for (nonce, extent) in &flush.extents {
                let mut value = BytesMut::new();
                extent.end.put(&mut value);
                extent.file.put(&mut value);
                extent.at.put(&mut value);
                extent.length.put(&mut value);
                extent.max_timestamp.put(&mut value);
                extents.insert(&extent_key(*nonce, extent.base)[..], &value[..])?;
            }
            let mut state = transaction.open_table(STATE)?;
            if let Some(checkpoint) = flush.checkpoint {
                state.insert(CHECKPOINT, checkpoint)?;
            }
            if flush.images.iter().any(|image| !image.copies.is_empty()) {
                state.insert(VERSION_KEY, VERSION)?;
            }
            state.insert(NEXT_FILE, flush.next_file)?;
            state.insert(COMMITS, number)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// One partition and its extents, in offset order; nothing if it has no row.
    pub fn load_one(
        &self,
        partition: TopicPartition,
    ) -> Result<Option<(PartitionImage, Vec<(Nonce, Extent)>)>, CatalogueError> {
        let transaction = self.begin_read()?;
        let partitions = transaction.open_table(PARTITIONS)?;
        let Some(row) = partitions.get(&encode(&partition)[..])? else { return Ok(None) };
        let image: PartitionImage = decode(Bytes::copy_from_slice(row.value()))?;
        let table = transaction.open_table(EXTENTS)?;
        let mut extents = Vec::new();
        for segment in &image.segments {
            let nonce = segment.open.segment.nonce;
            let (first, last) = (extent_key(nonce, 0), extent_key(nonce, Offset::MAX));
            for row in table.range(&first[..]..=&last[..])? {
                let (key, value) = row?;
                extents.push(extent_of(key.value(), value.value())?);
            }
        }
        Ok(Some((image, extents)))
    }

    fn begin_read(&self) -> Result<redb::ReadTransaction, CatalogueError> {
        let open = self.open.read().expect("no panic holds this lock").clone();
        let database = open.ok_or_else(|| CatalogueError::Uncertain("not open".into()))?;
        Ok(database.begin_read()?)
    }

    pub fn load(&self) -> Result<Loaded, CatalogueError> {
        let transaction = self.begin_read()?;
        let mut loaded = Loaded::default();
        for row in transaction.open_table(PARTITIONS)?.iter()? {
            let (_, value) = row?;
            loaded.images.push(decode(Bytes::copy_from_slice(value.value()))?);
        }
        for row in transaction.open_table(EXTENTS)?.iter()? {
            let (key, value) = row?;
            loaded.extents.push(extent_of(key.value(), value.value())?);
        }
        let state = transaction.open_table(STATE)?;
        loaded.checkpoint = state.get(CHECKPOINT)?.map_or(0, |value| value.value());
        loaded.next_file = state.get(NEXT_FILE)?.map_or(1, |value| value.value());
        Ok(loaded)
    }
}

fn create(path: &Path) -> Result<Database, CatalogueError> {
    Database::create(path).map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => CatalogueError::InUse(path.display().to_string()),
        error => error.into(),
    })
}

fn commits(database: &Database) -> Result<u64, CatalogueError> {
    let transaction = database.begin_read()?;
    let state = transaction.open_table(STATE)?;
    Ok(state.get(COMMITS)?.map_or(0, |value| value.value()))
}

fn extent_key(nonce: Nonce, base: Offset) -> BytesMut {
    let mut key = BytesMut::new();
    nonce.put(&mut key);
    base.put(&mut key);
    key
}

fn extent_of(key: &[u8], value: &[u8]) -> Result<(Nonce, Extent), DecodeError> {
    let mut key = Reader::new(Bytes::copy_from_slice(key));
    let mut value = Reader::new(Bytes::copy_from_slice(value));
    let nonce = Nonce::take(&mut key)?;
    let extent = Extent {
        base: Layout::take(&mut key)?,
        end: Layout::take(&mut value)?,
        file: Layout::take(&mut value)?,
        at: Layout::take(&mut value)?,
        length: Layout::take(&mut value)?,
        max_timestamp: Layout::take(&mut value)?,
    };
    Ok((nonce, extent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flush_is_there_after_a_restart_and_dropped_extents_are_not() {
        let path = std::env::temp_dir().join(format!("weir-catalogue-{}.redb", std::process::id()));
        let _ = std::fs::remove_file(&path);
        assert!(matches!(Catalogue::open(&path, true), Err(CatalogueError::Missing(_))), "files would be orphans");
        let extent = |base, file| Extent { base, end: base + 5, file, at: 4096, length: 100, max_timestamp: 7 };
        let catalogue = Catalogue::open(&path, false).expect("a new one");
        let extents = vec![(Nonce(1), extent(0, 5)), (Nonce(1), extent(5, 6)), (Nonce(2), extent(0, 6))];
        // Without a checkpoint, as after one partition's large flush.
        let flush = FlushRecord { extents: extents.clone(), next_file: 7, ..FlushRecord::default() };
        catalogue.record(&flush).expect("recorded");
        drop(catalogue);
        let catalogue = Catalogue::open(&path, true).expect("the same");
        let loaded = catalogue.load().expect("loaded");
        assert_eq!((loaded.next_file, loaded.checkpoint, loaded.extents), (7, 0, extents.clone()));
        let flush =
            FlushRecord { dropped: extents[..2].to_vec(), checkpoint: Some(9), next_file: 7, ..FlushRecord::default() };
        catalogue.record(&flush).expect("recorded");
        let loaded = catalogue.load().expect("loaded");
        assert_eq!((loaded.next_file, loaded.checkpoint, loaded.extents), (7, 9, extents[2..].to_vec()));
        // After an error it is opened anew, and goes on.
        catalogue.state.lock().expect("a lock").database = None;
        catalogue.record(&FlushRecord { next_file: 8, ..FlushRecord::default() }).expect("recorded");
        assert_eq!(catalogue.load().expect("loaded").next_file, 8);
        assert_eq!(catalogue.state.lock().expect("a lock").commits, 3);
        drop(catalogue);
        std::fs::remove_file(path).expect("cleaned");
    }
}
