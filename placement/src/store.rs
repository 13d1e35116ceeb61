//! Where metadata lives: keys, values, revisions, and transactions that compare before they write.
//!
//! One behaviour suite (`store/tests.rs`) holds for every implementation.

mod etcd_batch;
mod etcd_store;
mod redb_store;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::pin::Pin;

use tokio::sync::watch;

pub use etcd_store::EtcdStore;
pub use redb_store::RedbStore;

/// A future's answer.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why the store did not do it. Whether a failed transaction took effect is not known.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("metadata store: {0}")]
    Unavailable(String),
    #[error("metadata store holds what cannot be read: {0}")]
    Corrupt(String),
}

/// A value and the revision that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub value: Vec<u8>,
    pub revision: u64,
}

/// Writes that happen together, if every compare holds. Of more than a hundred the first puts may be there before, and
/// the last deletes a while longer: only keys that nothing names without the others may be so many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Key and the revision it must have; 0 = it must not exist.
    pub compares: Vec<(String, u64)>,
    pub puts: Vec<(String, Vec<u8>)>,
    pub deletes: Vec<String>,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Committed {
        revision: u64,
    },
    /// A compare did not hold; nothing was written.
    Conflict,
}

/// Keys that changed after a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    pub revision: u64,
    /// `None`: too long ago to say; read everything.
    pub keys: Option<Vec<String>>,
}

/// See the module's text. Reads are linearizable; a committed transaction is durable.
pub trait MetadataStore: Debug + Send + Sync {
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Entry>>;
    /// Every key with this prefix, in order, and the store's revision at that moment.
    fn range<'a>(&'a self, prefix: &'a str) -> Answer<'a, (u64, Vec<(String, Entry)>)>;
    fn transact(&self, transaction: Transaction) -> Answer<'_, Outcome>;
    fn changes(&self, after: u64) -> Answer<'_, Changes>;
    /// Moves with every commit. A hint: what it says may be late.
    fn revisions(&self) -> watch::Receiver<u64>;
}
