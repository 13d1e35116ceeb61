//! What placement described last and no segment says, on disk: topics with their names, and where logs begin. So the map can
//! be made anew from nodes alone. A cache: placement is right.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use service::api::{LogStarts, MapChanges};
use types::{Offset, TopicId, TopicPartition, TopicRecord};

use crate::node::write_durably;

/// How often it is written, at most: what is younger is lost with placement's store.
const WRITE_EVERY: Duration = Duration::from_secs(1);
const TOPICS: &str = "topics.json";
const LOG_STARTS: &str = "log-starts.json";

#[derive(Debug)]
struct State {
    topics: BTreeMap<TopicId, TopicRecord>,
    /// Of partitions whose beginning was given up.
    log_starts: BTreeMap<TopicPartition, Offset>,
    is_dirty: bool,
    written: Option<Instant>,
}

/// See the module's text.
#[derive(Debug)]
pub struct TopicCache {
    dir: PathBuf,
    state: Mutex<State>,
}

impl TopicCache {
    /// What cannot be read is as good as nothing: placement tells it again.
    pub fn open(dir: &Path) -> Self {
        let text = |name: &str| std::fs::read(dir.join(name)).unwrap_or_default();
        let topics: Vec<TopicRecord> = serde_json::from_slice(&text(TOPICS)).unwrap_or_default();
        let starts: LogStarts = serde_json::from_slice(&text(LOG_STARTS)).unwrap_or_default();
        let topics = topics.into_iter().map(|topic| (topic.id, topic)).collect();
        let log_starts = starts.log_starts.into_iter().collect();
        let state = State { topics, log_starts, is_dirty: false, written: None };
        Self { dir: dir.to_owned(), state: Mutex::new(state) }
    }

    pub fn all(&self) -> Vec<TopicRecord> {
        self.state.lock().expect("no panic holds this lock").topics.values().cloned().collect()
    }

    pub fn log_starts(&self) -> LogStarts {
        let state = self.state.lock().expect("no panic holds this lock");
        LogStarts { log_starts: state.log_starts.iter().map(|(id, start)| (*id, *start)).collect() }
    }

    /// Takes what changed.
    pub fn learn(&self, changes: &MapChanges) {
        let mut state = self.state.lock().expect("no panic holds this lock");
        if changes.is_whole {
            state.topics.clear();
            state.log_starts.clear();
        }
        for (id, topic) in &changes.topics {
            match topic {
                Some(topic) => drop(state.topics.insert(*id, topic.clone())),
                None => {
                    state.topics.remove(id);
                    state.log_starts.retain(|partition, _| partition.topic != *id);
                }
            }
        }
        state.is_dirty |= changes.is_whole || !changes.topics.is_empty();
        for record in changes.partitions.iter().filter(|record| record.log_start > 0) {
            state.is_dirty |= state.log_starts.insert(record.id(), record.log_start) != Some(record.log_start);
        }
    }

    /// Writes what changed, unless that was done just now. Called now and then.
    pub fn write(&self) {
        let mut state = self.state.lock().expect("no panic holds this lock");
        if !state.is_dirty || state.written.is_some_and(|at| at.elapsed() < WRITE_EVERY) {
            return;
        }
        (state.is_dirty, state.written) = (false, Some(Instant::now()));
        drop(state);
        let write = |name: &str, text: Result<String, _>| {
            write_durably(&self.dir.join(name), &text.expect("records are plain data"))
        };
        let written = write(TOPICS, serde_json::to_string(&self.all()))
            .and_then(|()| write(LOG_STARTS, serde_json::to_string(&self.log_starts())));
        if let Err(error) = written {
            tracing::warn!(%error, "the names of topics, or where logs begin, could not be noted");
            self.state.lock().expect("no panic holds this lock").is_dirty = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use types::{AccountId, ClusterId, Epoch, Generation, PartitionRecord};

    use super::*;

    fn partition(topic: u128, log_start: Offset) -> PartitionRecord {
        PartitionRecord {
            account: AccountId(0),
            cluster: ClusterId(0),
            topic: TopicId(topic),
            partition: 3,
            generation: Generation(1),
            epoch: Epoch(1),
            log_start,
            gaps: Vec::new(),
            chain: Vec::new(),
            version: 1,
        }
    }

    fn changes(is_whole: bool, partitions: Vec<PartitionRecord>, gone: &[u128]) -> MapChanges {
        MapChanges {
            revision: 1,
            generation: Generation(1),
            is_whole,
            topics: gone.iter().map(|topic| (TopicId(*topic), None)).collect(),
            partitions,
            nodes: Vec::new(),
            gateways: Vec::new(),
        }
    }

    #[test]
    fn where_logs_begin_is_known_after_a_restart() {
        let dir = std::env::temp_dir().join(format!("weir-topics-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let cache = TopicCache::open(&dir);
        let starts = |cache: &TopicCache| -> Vec<(u128, Offset)> {
            cache.log_starts().log_starts.into_iter().map(|(id, start)| (id.topic.0, start)).collect()
        };
        cache.learn(&changes(true, vec![partition(1, 5), partition(2, 0), partition(3, 7)], &[]));
        cache.learn(&changes(false, vec![partition(1, 9)], &[3]));
        assert_eq!(starts(&cache), [(1, 9)]);
        cache.write();
        assert_eq!(starts(&TopicCache::open(&dir)), [(1, 9)]);
        cache.learn(&changes(true, vec![partition(2, 4)], &[]));
        assert_eq!(starts(&cache), [(2, 4)], "this is all there is");
        std::fs::remove_dir_all(&dir).expect("it is there");
    }
}
