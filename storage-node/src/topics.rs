//! Topics as placement described them last, on disk: names are nowhere else on a storage node, and the map can be made anew
//! from nodes alone. A cache: placement is right.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use service::api::MapChanges;
use types::{TopicId, TopicRecord};

use crate::node::write_durably;

/// How often it is written, at most: a name that is younger is lost with placement's store.
const WRITE_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct State {
    topics: BTreeMap<TopicId, TopicRecord>,
    is_dirty: bool,
    written: Option<Instant>,
}

/// See the module's text.
#[derive(Debug)]
pub struct TopicCache {
    path: PathBuf,
    state: Mutex<State>,
}

impl TopicCache {
    /// What cannot be read is as good as nothing: placement tells it again.
    pub fn open(path: &Path) -> Self {
        let text = std::fs::read(path).unwrap_or_default();
        let topics: Vec<TopicRecord> = serde_json::from_slice(&text).unwrap_or_default();
        let topics = topics.into_iter().map(|topic| (topic.id, topic)).collect();
        let state = State { topics, is_dirty: false, written: None };
        Self { path: path.to_owned(), state: Mutex::new(state) }
    }

    pub fn all(&self) -> Vec<TopicRecord> {
        self.state.lock().expect("no panic holds this lock").topics.values().cloned().collect()
    }

    /// Takes what changed.
    pub fn learn(&self, changes: &MapChanges) {
        let mut state = self.state.lock().expect("no panic holds this lock");
        if changes.is_whole {
            state.topics.clear();
        }
        for (id, topic) in &changes.topics {
            match topic {
                Some(topic) => drop(state.topics.insert(*id, topic.clone())),
                None => drop(state.topics.remove(id)),
            }
        }
        state.is_dirty |= changes.is_whole || !changes.topics.is_empty();
    }

    /// Writes what changed, unless that was done just now. Called now and then.
    pub fn write(&self) {
        let mut state = self.state.lock().expect("no panic holds this lock");
        if !state.is_dirty || state.written.is_some_and(|at| at.elapsed() < WRITE_EVERY) {
            return;
        }
        let topics: Vec<TopicRecord> = state.topics.values().cloned().collect();
        (state.is_dirty, state.written) = (false, Some(Instant::now()));
        drop(state);
        let text = serde_json::to_string(&topics).expect("records are plain data");
        if let Err(error) = write_durably(&self.path, &text) {
            tracing::warn!(%error, "the names of topics could not be noted");
            self.state.lock().expect("no panic holds this lock").is_dirty = true;
        }
    }
}
