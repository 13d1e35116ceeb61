//! Which disks are slow: a node whose journal writes take far longer than its peers' holds up every partition that it
//! leads or follows, and is alive all the while.
//!
//! A node is judged against the others, never against a fixed figure alone: where all are slow nobody is. Judged slow, it
//! is left by open segments for a while, then gets another chance; each further time the while doubles.

use std::collections::BTreeMap;

use types::NodeId;
use types::limits::{SLOW_AFTER_MS, SLOW_FACTOR, SLOW_REST_DOUBLINGS, SLOW_REST_MS, SLOW_WRITE_US_MIN};

/// What a node said of its journal last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample<'a> {
    pub node: NodeId,
    pub az: &'a str,
    /// Mean time of its writes since the time before, in µs; `None`: it wrote nothing, or nothing was heard of it.
    pub write_us: Option<u64>,
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Open segments are to leave it. `peers_us` is the median of the others.
    Slow { node: NodeId, write_us: u64, peers_us: u64 },
    /// It is used again.
    Again { node: NodeId },
}

#[derive(Debug, Default)]
struct State {
    /// Since when each of its samples was slow, and when the last of them was.
    since_ms: Option<u64>,
    last_ms: u64,
    /// Until when it is left alone.
    until_ms: Option<u64>,
    /// How often it was judged slow.
    times: u32,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Slowness(BTreeMap<NodeId, State>);

impl Slowness {
    pub fn is_slow(&self, node: NodeId) -> bool {
        self.0.get(&node).is_some_and(|state| state.until_ms.is_some())
    }

    /// Looks at what all nodes said last. At most one node of a zone is slow at a time.
    pub fn look(&mut self, now_ms: u64, samples: &[Sample<'_>]) -> Vec<Change> {
        self.0.retain(|node, _| samples.iter().any(|sample| sample.node == *node));
        let mut changes = Vec::new();
        for (node, state) in &mut self.0 {
            if state.until_ms.is_some_and(|until| now_ms >= until) {
                (state.until_ms, state.since_ms) = (None, None);
                changes.push(Change::Again { node: *node });
            }
        }
        for sample in samples {
            let peers_us = median_of_others(samples, sample.node);
            let is_slow = |us: u64, peers: u64| us > SLOW_WRITE_US_MIN && us > SLOW_FACTOR * peers;
            let zone_has_one = samples.iter().any(|other| other.az == sample.az && self.is_slow(other.node));
            let state = self.0.entry(sample.node).or_default();
            match (sample.write_us, peers_us) {
                (Some(write_us), Some(peers_us)) if is_slow(write_us, peers_us) => {
                    if now_ms - state.last_ms >= SLOW_AFTER_MS {
                        // Nothing was heard in between.
                        state.since_ms = None;
                    }
                    state.last_ms = now_ms;
                    let since_ms = *state.since_ms.get_or_insert(now_ms);
                    if now_ms - since_ms >= SLOW_AFTER_MS && !zone_has_one {
                        let rest_ms = SLOW_REST_MS << state.times.min(SLOW_REST_DOUBLINGS);
                        let times = state.times + 1;
                        *state = State { until_ms: Some(now_ms + rest_ms), times, ..State::default() };
                        changes.push(Change::Slow { node: sample.node, write_us, peers_us });
                    }
                }
                // Without writes, or without peers, nothing is said.
                (None, _) | (_, None) => {}
                _ => state.since_ms = None,
            }
        }
        changes
    }
}

/// The upper median of what the others said; `None` if fewer than two did: of two nodes nobody knows which is slow.
fn median_of_others(samples: &[Sample<'_>], node: NodeId) -> Option<u64> {
    let mut others: Vec<u64> =
        samples.iter().filter(|sample| sample.node != node).filter_map(|sample| sample.write_us).collect();
    others.sort_unstable();
    (others.len() >= 2).then(|| others[others.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW_US: u64 = 100 * SLOW_WRITE_US_MIN;

    fn look(slowness: &mut Slowness, now_ms: u64, writes: [Option<u64>; 4]) -> Vec<Change> {
        let samples: Vec<Sample<'_>> = writes
            .into_iter()
            .zip([(1, "a"), (2, "a"), (3, "b"), (4, "c")])
            .map(|(write_us, (node, az))| Sample { node: NodeId(node), az, write_us })
            .collect();
        slowness.look(now_ms, &samples)
    }

    #[test]
    fn only_who_is_slow_for_long_and_beside_quick_peers_is_left() {
        let mut slowness = Slowness::default();
        let quick = Some(300);
        let slow = [quick, quick, Some(SLOW_US), quick];
        // A look a second, from `from_ms` up to `to_ms`; the last one's word.
        let mut looks = |from_ms: u64, to_ms: u64, writes| {
            let mut changes = Vec::new();
            for now_ms in (from_ms..=to_ms).step_by(1_000) {
                assert_eq!(changes, [], "before {now_ms}");
                changes = look(&mut slowness, now_ms, writes);
            }
            (changes, slowness.is_slow(NodeId(3)))
        };
        let nothing = (Vec::new(), false);
        assert_eq!(looks(0, 9_000, slow), nothing);
        // One good moment, and the wait begins anew; a moment without writes says nothing.
        assert_eq!(looks(10_000, 10_000, [quick; 4]), nothing);
        assert_eq!(looks(11_000, 15_000, slow), nothing);
        assert_eq!(looks(16_000, 16_000, [quick, quick, None, quick]), nothing);
        let found = Change::Slow { node: NodeId(3), write_us: SLOW_US, peers_us: 300 };
        assert_eq!(looks(17_000, 21_000, slow), (vec![found], true));
        // It writes little, and gets another chance; then it is left for twice as long.
        let rest = 21_000 + SLOW_REST_MS;
        assert_eq!(looks(22_000, rest - 1_000, slow), (Vec::new(), true));
        assert_eq!(looks(rest, rest, slow), (vec![Change::Again { node: NodeId(3) }], false));
        assert_eq!(looks(rest + 1_000, rest + 9_000, slow), nothing);
        assert_eq!(looks(rest + 10_000, rest + 10_000, slow).0.len(), 1);
        assert_eq!(looks(rest + 11_000, rest + 10_000 + SLOW_REST_MS, slow), (Vec::new(), true));
        // Two bad moments an hour apart are no ten bad seconds.
        let mut slowness = Slowness::default();
        for now_ms in [0, 3_600_000] {
            assert_eq!(look(&mut slowness, now_ms, slow), []);
        }
    }

    #[test]
    fn where_all_are_slow_nobody_is_and_a_zone_keeps_a_node() {
        let mut slowness = Slowness::default();
        for now_ms in (0..2 * SLOW_AFTER_MS).step_by(1_000) {
            assert_eq!(look(&mut slowness, now_ms, [Some(SLOW_US); 4]), []);
            assert_eq!(look(&mut slowness, now_ms, [Some(SLOW_US), None, None, Some(300)]), [], "who of two?");
        }
        let mut slowness = Slowness::default();
        let mut found = 0;
        for now_ms in (0..3 * SLOW_AFTER_MS).step_by(1_000) {
            // Both nodes of zone a.
            found += look(&mut slowness, now_ms, [Some(SLOW_US), Some(8 * SLOW_US), Some(300), Some(300)]).len();
        }
        assert_eq!(found, 1);
    }
}
