//! This process's copy of all partition records: for looking around, never for deciding. Whoever acts on what it finds
//! reads the record again.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Mutex;
use types::{PartitionRecord, TopicPartition};

use crate::records::{PARTITIONS, parse, partition_of};
use crate::store::{MetadataStore, StoreError};

/// All partitions at one moment.
pub type Partitions = Arc<BTreeMap<TopicPartition, Arc<PartitionRecord>>>;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Index(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    revision: u64,
    partitions: Partitions,
}

impl Index {
    /// The records as of now, and the store's revision.
    pub async fn read(&self, store: &dyn MetadataStore) -> Result<(u64, Partitions), StoreError> {
        let mut state = self.0.lock().await;
        let changes = store.changes(state.revision).await?;
        match changes.keys.filter(|_| state.revision > 0) {
            Some(keys) if keys.is_empty() => {}
            Some(keys) => {
                let mut changed: Vec<&String> = keys.iter().filter(|key| key.starts_with(PARTITIONS)).collect();
                changed.sort();
                changed.dedup();
                let mut news = Vec::new();
                for key in changed {
                    let entry = store.get(key).await?;
                    let record: Option<PartitionRecord> = entry.as_ref().map(parse).transpose()?;
                    news.push((key, record));
                }
                // Copied only if somebody still looks at the last one.
                let partitions = Arc::make_mut(&mut state.partitions);
                for (key, record) in news {
                    match record {
                        Some(record) => drop(partitions.insert(record.id(), Arc::new(record))),
                        None => drop(partition_of(key).and_then(|id| partitions.remove(&id))),
                    }
                }
            }
            None => {
                let (revision, rows) = store.range(PARTITIONS).await?;
                let mut partitions = BTreeMap::new();
                for (_, entry) in &rows {
                    let record: PartitionRecord = parse(entry)?;
                    partitions.insert(record.id(), Arc::new(record));
                }
                state.partitions = Arc::new(partitions);
                state.revision = revision;
                return Ok((revision, Arc::clone(&state.partitions)));
            }
        }
        state.revision = changes.revision;
        Ok((state.revision, Arc::clone(&state.partitions)))
    }
}
