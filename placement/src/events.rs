//! What placement did lately, and why: for people who ask `weir status`.

use std::collections::VecDeque;
use std::sync::Mutex;

use service::api::Event;
use service::clock;

const EVENTS_MAX: usize = 50;
/// Failovers off the same nodes within this time are one event, in ms.
const TOGETHER_MS: i64 = 10_000;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Events(Mutex<VecDeque<Known>>);

#[derive(Debug)]
struct Known {
    event: Event,
    /// Of failovers: the nodes that were left, and how many partitions left them.
    failovers: Option<(String, u64)>,
}

impl Events {
    pub fn note(&self, text: String) {
        tracing::info!(event = text, "placement acted");
        self.push(Known { event: Event { at_ms: clock::wall_ms(), text }, failovers: None });
    }

    /// A partition's open segment was failed over, off these nodes.
    pub fn failed_over(&self, left: &str) {
        let at_ms = clock::wall_ms();
        let mut events = self.0.lock().expect("no panic holds this lock");
        let is_same = |known: &&mut Known| {
            at_ms - known.event.at_ms < TOGETHER_MS && known.failovers.as_ref().is_some_and(|(nodes, _)| nodes == left)
        };
        if let Some(known) = events.iter_mut().find(is_same) {
            let count = known.failovers.as_ref().map_or(1, |(_, count)| count + 1);
            *known = failovers(known.event.at_ms, left, count);
            return;
        }
        drop(events);
        self.push(failovers(at_ms, left, 1));
    }

    fn push(&self, known: Known) {
        let mut events = self.0.lock().expect("no panic holds this lock");
        events.push_front(known);
        events.truncate(EVENTS_MAX);
    }

    /// The newest first.
    pub fn last(&self) -> Vec<Event> {
        self.0.lock().expect("no panic holds this lock").iter().map(|known| known.event.clone()).collect()
    }
}

fn failovers(at_ms: i64, left: &str, count: u64) -> Known {
    let partitions = if count == 1 { "1 partition".to_owned() } else { format!("{count} partitions") };
    let text = match left {
        "" => format!("{partitions} failed over and stayed on their nodes: one was away for a moment, or restarted"),
        left => format!("{partitions} failed over, off {left}"),
    };
    Known { event: Event { at_ms, text }, failovers: Some((left.to_owned(), count)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failovers_of_one_cause_are_one_event() {
        let events = Events::default();
        events.failed_over("`az-a`");
        events.note("`az-b` is emptied".to_owned());
        events.failed_over("`az-a`");
        events.failed_over("");
        let texts: Vec<String> = events.last().into_iter().map(|event| event.text).collect();
        assert!(texts[0].starts_with("1 partition failed over and stayed"), "{texts:?}");
        assert_eq!(texts[1..], ["`az-b` is emptied", "2 partitions failed over, off `az-a`"]);
    }
}
