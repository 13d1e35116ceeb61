//! The embedded store: one redb file, one writer. Transactions that come while one is written are written together
//! after it: one fsync for all of them, a revision for each.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;

use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition};
use tokio::sync::{oneshot, watch};

use super::{Answer, Changes, Entry, MetadataStore, Outcome, StoreError, Transaction};

/// Value: 8 bytes of revision, then the bytes.
const DATA: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("data");
const STATE: TableDefinition<'_, &str, u64> = TableDefinition::new("state");
const REVISION: &str = "revision";
const FILE: &str = "metadata.redb";
/// Changes remembered for watchers.
const HISTORY_MAX: usize = 65_536;

/// See the module's text.
#[derive(Debug)]
pub struct RedbStore {
    database: Database,
    history: Mutex<History>,
    /// One for each caller that waits for `writing`.
    queue: Mutex<Vec<Queued>>,
    writing: tokio::sync::Mutex<()>,
    revisions: watch::Sender<u64>,
}

#[derive(Debug)]
struct Queued {
    wanted: Transaction,
    answer: oneshot::Sender<Result<Outcome, StoreError>>,
}

#[derive(Debug)]
struct History {
    /// Changes at or below this revision are not remembered.
    floor: u64,
    changes: VecDeque<(u64, String)>,
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

macro_rules! into_store_error {
    ($($error:ty),*) => {
        $(impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::Unavailable(error.to_string())
            }
        })*
    };
}
into_store_error!(redb::DatabaseError, redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);

impl RedbStore {
    /// Whether a store was made in `dir`.
    pub fn is_in(dir: &Path) -> bool {
        dir.join(FILE).exists()
    }

    /// Opens or creates `metadata.redb` in `dir`.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir)
            .map_err(|error| StoreError::Unavailable(format!("`{}`: {error}", dir.display())))?;
        let database = Database::create(dir.join(FILE)).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => {
                StoreError::Unavailable(format!("`{}` is in use by another process", dir.display()))
            }
            error => error.into(),
        })?;
        let transaction = database.begin_write()?;
        transaction.open_table(DATA)?;
        let revision = transaction.open_table(STATE)?.get(REVISION)?.map_or(0, |value| value.value());
        transaction.commit()?;
        let history = Mutex::new(History { floor: revision, changes: VecDeque::new() });
        let (queue, writing) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self { database, history, queue, writing, revisions: watch::channel(revision).0 })
    }

    fn get_now(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let table = self.database.begin_read()?.open_table(DATA)?;
        table.get(key)?.map(|value| entry(value.value())).transpose()
    }

    fn range_now(&self, prefix: &str) -> Result<(u64, Vec<(String, Entry)>), StoreError> {
        let transaction = self.database.begin_read()?;
        let revision = transaction.open_table(STATE)?.get(REVISION)?.map_or(0, |value| value.value());
        let mut rows = Vec::new();
        for row in transaction.open_table(DATA)?.range(prefix..)? {
            let (key, value) = row?;
            if !key.value().starts_with(prefix) {
                break;
            }
            rows.push((key.value().to_owned(), entry(value.value())?));
        }
        Ok((revision, rows))
    }

    /// Writes all that is queued in one commit, and answers it. Only with `writing` held: the history keeps the order.
    fn write_queued(&self) {
        let mut queued = std::mem::take(&mut *self.queue.lock().expect("no panic holds this lock"));
        // Who went away before its turn gets nothing written.
        queued.retain(|one| !one.answer.is_closed());
        if queued.is_empty() {
            return;
        }
        let (wanted, answers): (Vec<_>, Vec<_>) = queued.into_iter().map(|one| (one.wanted, one.answer)).unzip();
        match self.transact_all(wanted) {
            Ok(outcomes) => answers.into_iter().zip(outcomes).for_each(|(answer, outcome)| {
                let _ = answer.send(Ok(outcome));
            }),
            Err(error) => answers.into_iter().for_each(|answer| {
                let _ = answer.send(Err(StoreError::Unavailable(error.to_string())));
            }),
        }
    }

    /// One commit of all whose compares hold when those before them are done; all or none of it is durable.
    fn transact_all(&self, all: Vec<Transaction>) -> Result<Vec<Outcome>, StoreError> {
        let transaction = self.database.begin_write()?;
        let mut outcomes = Vec::with_capacity(all.len());
        let mut changed = Vec::new();
        let mut revision;
        {
            let mut data = transaction.open_table(DATA)?;
            let mut state = transaction.open_table(STATE)?;
            revision = state.get(REVISION)?.map_or(0, |value| value.value());
            for wanted in all {
                if !holds(&data, &wanted)? {
                    outcomes.push(Outcome::Conflict);
                    continue;
                }
                revision += 1;
                for (key, value) in wanted.puts {
                    let mut bytes = revision.to_be_bytes().to_vec();
                    bytes.extend_from_slice(&value);
                    data.insert(key.as_str(), &bytes[..])?;
                    changed.push((revision, key));
                }
                for key in wanted.deletes {
                    data.remove(key.as_str())?;
                    changed.push((revision, key));
                }
                outcomes.push(Outcome::Committed { revision });
            }
            state.insert(REVISION, revision)?;
        }
        if outcomes.iter().all(|outcome| *outcome == Outcome::Conflict) {
            transaction.abort()?;
            return Ok(outcomes);
        }
        transaction.commit()?;
        let mut history = self.history.lock().expect("no panic holds this lock");
        history.changes.extend(changed);
        while history.changes.len() > HISTORY_MAX {
            if let Some((dropped, _)) = history.changes.pop_front() {
                history.floor = dropped;
            }
        }
        drop(history);
        self.revisions.send_modify(|current| *current = (*current).max(revision));
        Ok(outcomes)
    }

    fn changes_now(&self, after: u64) -> Changes {
        let history = self.history.lock().expect("no panic holds this lock");
        let revision = history.changes.back().map_or(history.floor, |(revision, _)| *revision).max(history.floor);
        let keys = (after >= history.floor && after <= revision).then(|| {
            let at = history.changes.partition_point(|(revision, _)| *revision <= after);
            history.changes.iter().skip(at).map(|(_, key)| key.clone()).collect()
        });
        Changes { revision, keys }
    }
}

fn holds(data: &Table<'_, &str, &[u8]>, wanted: &Transaction) -> Result<bool, StoreError> {
    for (key, expected) in &wanted.compares {
        let found = data.get(key.as_str())?.map(|value| entry(value.value())).transpose()?;
        if found.map_or(0, |entry| entry.revision) != *expected {
            return Ok(false);
        }
    }
    Ok(true)
}

fn entry(stored: &[u8]) -> Result<Entry, StoreError> {
    let (revision, value) =
        stored.split_first_chunk::<8>().ok_or_else(|| StoreError::Corrupt("a value without revision".into()))?;
    Ok(Entry { value: value.to_vec(), revision: u64::from_be_bytes(*revision) })
}

impl MetadataStore for RedbStore {
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Entry>> {
        Box::pin(async move { self.get_now(key) })
    }

    fn range<'a>(&'a self, prefix: &'a str) -> Answer<'a, (u64, Vec<(String, Entry)>)> {
        Box::pin(async move { self.range_now(prefix) })
    }

    fn transact(&self, wanted: Transaction) -> Answer<'_, Outcome> {
        Box::pin(async move {
            let (answer, mut answered) = oneshot::channel();
            self.queue.lock().expect("no panic holds this lock").push(Queued { wanted, answer });
            tokio::select! {
                biased;
                // Somebody who came before has written it.
                answered = &mut answered => {
                    return answered.map_err(|_| StoreError::Unavailable("a commit was given up".into()))?;
                }
                // A commit is one fsync of a small file: on a thread that may block.
                _one = self.writing.lock() => tokio::task::block_in_place(|| self.write_queued()),
            }
            answered.await.map_err(|_| StoreError::Unavailable("a commit was given up".into()))?
        })
    }

    fn changes(&self, after: u64) -> Answer<'_, Changes> {
        Box::pin(async move { Ok(self.changes_now(after)) })
    }

    fn revisions(&self) -> watch::Receiver<u64> {
        self.revisions.subscribe()
    }
}
