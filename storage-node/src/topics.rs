//! What placement described last and no segment says, on disk: topics with their names, and where logs begin. So the map can
//! be made anew from nodes alone. A cache: placement is right.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Serialize;
use service::api::{LogStarts, MapChanges};
use types::limits::INTERNAL_PREFIX;
use types::{Offset, TopicId, TopicPartition, TopicRecord};

use crate::node::write_durably;

/// How often each is written, at most: what is younger is lost with placement's store if the node does not end well.
const WRITE_EVERY: Duration = Duration::from_secs(1);
const TOPICS: &str = "topics.json";
const LOG_STARTS: &str = "log-starts.json";

#[derive(Debug)]
struct State {
    topics: BTreeMap<TopicId, TopicRecord>,
    /// Of partitions whose beginning was given up.
    log_starts: BTreeMap<TopicPartition, Offset>,
    are_topics_due: Due,
    are_starts_due: Due,
}

/// Whether something is to be written, and when it was written last.
#[derive(Debug, Default)]
struct Due {
    is_dirty: bool,
    written: Option<Instant>,
}

impl Due {
    /// It is written now, unless that was done just now (`None`: nevertheless).
    fn take(&mut self, every: Option<Duration>) -> bool {
        let is_fresh = |at: Instant| every.is_some_and(|every| at.elapsed() < every);
        let is_due = self.is_dirty && !self.written.is_some_and(is_fresh);
        if is_due {
            *self = Self { is_dirty: false, written: Some(Instant::now()) };
        }
        is_due
    }
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
        let state = State { topics, log_starts, are_topics_due: Due::default(), are_starts_due: Due::default() };
        Self { dir: dir.to_owned(), state: Mutex::new(state) }
    }

    pub fn all(&self) -> Vec<TopicRecord> {
        self.state.lock().expect("no panic holds this lock").topics.values().cloned().collect()
    }

    /// Whether it is one of Weir's own.
    pub fn is_internal(&self, topic: TopicId) -> bool {
        let state = self.state.lock().expect("no panic holds this lock");
        state.topics.get(&topic).is_some_and(|topic| topic.name.starts_with(INTERNAL_PREFIX))
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
                    state.are_starts_due.is_dirty = true;
                }
            }
        }
        state.are_topics_due.is_dirty |= changes.is_whole || !changes.topics.is_empty();
        state.are_starts_due.is_dirty |= changes.is_whole;
        for record in changes.partitions.iter().filter(|record| record.log_start > 0) {
            let known = state.log_starts.insert(record.id(), record.log_start);
            state.are_starts_due.is_dirty |= known != Some(record.log_start);
        }
    }

    /// Writes what changed, unless that was done just now. Called now and then.
    pub fn write(&self) {
        self.write_if(Some(WRITE_EVERY));
    }

    /// Writes what changed: the node ends.
    pub fn close(&self) {
        self.write_if(None);
    }

    fn write_if(&self, every: Option<Duration>) {
        let mut state = self.state.lock().expect("no panic holds this lock");
        let (topics, starts) = (state.are_topics_due.take(every), state.are_starts_due.take(every));
        drop(state);
        if topics && !self.note(TOPICS, &self.all()) {
            self.state.lock().expect("no panic holds this lock").are_topics_due.is_dirty = true;
        }
        if starts && !self.note(LOG_STARTS, &self.log_starts()) {
            self.state.lock().expect("no panic holds this lock").are_starts_due.is_dirty = true;
        }
    }

    fn note(&self, name: &str, what: &impl Serialize) -> bool {
        let text = serde_json::to_string(what).expect("records are plain data");
        let written = write_durably(&self.dir.join(name), &text);
        if let Err(error) = &written {
            tracing::warn!(%error, name, "what placement described could not be noted");
        }
        written.is_ok()
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
