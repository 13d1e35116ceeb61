//! What placement did lately, and why: for people who ask `weir status`.

use std::collections::VecDeque;
use std::sync::Mutex;

use service::api::Event;
use service::clock;

const EVENTS_MAX: usize = 50;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Events(Mutex<VecDeque<Event>>);

impl Events {
    pub fn note(&self, text: String) {
        tracing::info!(event = text, "placement acted");
        let mut events = self.0.lock().expect("no panic holds this lock");
        events.push_front(Event { at_ms: clock::wall_ms(), text });
        events.truncate(EVENTS_MAX);
    }

    /// The newest first.
    pub fn last(&self) -> Vec<Event> {
        self.0.lock().expect("no panic holds this lock").iter().cloned().collect()
    }
}
