//! Who is paired with whom, and what moves: pairs of few partners, and hot partitions off busy nodes.
//!
//! A partition moves by sealing here and opening there, so a move costs no data. Still moves are few: only a clear
//! difference between two nodes is worth one, what moved rests a while, and a minute has room for so many.

use std::collections::BTreeMap;

use types::limits::{MOVE_BYTES_PER_S_MIN, MOVE_REST_MS, MOVES_PER_MINUTE};
use types::{NodeId, TopicPartition};

/// Where a node stands among those of its zone: the same for everybody who knows the same nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Place {
    pub index: u32,
    /// Nodes of the zone.
    pub count: u32,
}

/// The place of each node, by its zone and id.
pub fn places<'a>(nodes: impl Iterator<Item = (NodeId, &'a str)>) -> BTreeMap<NodeId, Place> {
    let mut zones: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
    nodes.for_each(|(node, az)| zones.entry(az).or_default().push(node));
    let mut places = BTreeMap::new();
    for nodes in zones.values_mut() {
        nodes.sort();
        let count = nodes.len() as u32;
        places.extend(nodes.iter().zip(0..).map(|(node, index)| (*node, Place { index, count })));
    }
    places
}

/// Whether two nodes of different zones share segments: each has up to three partners in each other zone, so that the
/// loss of any two disks together touches few pairs (Cidon et al., Copysets, 2013).
pub fn are_partners(a: Place, b: Place) -> bool {
    // A smaller zone's nodes each stand for several.
    let size = a.count.min(b.count).max(1);
    let (a, b) = (a.index % size, b.index % size);
    let distance = a.abs_diff(b);
    distance.min(size - distance) <= 1
}

/// A node's share of the work now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLoad {
    pub node: NodeId,
    /// May it take more? It is alive and is not being emptied.
    pub is_target: bool,
    /// What the partitions that it leads append, and the busiest of them.
    pub bytes_per_s: u64,
    pub partitions: Vec<(TopicPartition, u64)>,
}

/// A partition to be led elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    pub partition: TopicPartition,
    pub from: NodeId,
    pub to: NodeId,
    pub bytes_per_s: u64,
}

/// Remembers what moved.
#[derive(Debug, Default)]
pub struct Scheduler {
    moved: BTreeMap<TopicPartition, u64>,
}

impl Scheduler {
    /// The next moves: from the busiest node to the idlest, as long as that evens them out.
    pub fn plan(&mut self, now_ms: u64, mut loads: Vec<NodeLoad>) -> Vec<Move> {
        self.moved.retain(|_, at| now_ms.saturating_sub(*at) < MOVE_REST_MS);
        let mut moves = Vec::new();
        let recent = self.moved.values().filter(|at| now_ms.saturating_sub(**at) < 60_000).count();
        for _ in recent..MOVES_PER_MINUTE {
            let busiest = (0..loads.len()).max_by_key(|at| loads[*at].bytes_per_s);
            let idlest = (0..loads.len()).filter(|at| loads[*at].is_target).min_by_key(|at| loads[*at].bytes_per_s);
            let (Some(busiest), Some(idlest)) = (busiest, idlest) else { break };
            let difference = loads[busiest].bytes_per_s.saturating_sub(loads[idlest].bytes_per_s);
            // Less than a third more is no reason.
            if difference < MOVE_BYTES_PER_S_MIN || difference < loads[busiest].bytes_per_s / 4 {
                break;
            }
            // What makes the difference smaller, most of all; never what only turns it around.
            let fits = |(partition, bytes): &&(TopicPartition, u64)| {
                *bytes > 0 && *bytes < difference && !self.moved.contains_key(partition)
            };
            let rest = |bytes: u64| (difference / 2).abs_diff(bytes);
            let best = loads[busiest].partitions.iter().filter(fits).min_by_key(|(id, bytes)| (rest(*bytes), *id));
            let Some((partition, bytes_per_s)) = best.copied() else { break };
            self.moved.insert(partition, now_ms);
            moves.push(Move { partition, from: loads[busiest].node, to: loads[idlest].node, bytes_per_s });
            loads[busiest].bytes_per_s -= bytes_per_s;
            loads[busiest].partitions.retain(|(id, _)| *id != partition);
            loads[idlest].bytes_per_s += bytes_per_s;
        }
        moves
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::TopicId;

    fn id(number: i32) -> TopicPartition {
        TopicPartition { topic: TopicId(1), partition: number }
    }

    fn load(node: u32, partitions: &[(i32, u64)]) -> NodeLoad {
        NodeLoad {
            node: NodeId(node),
            is_target: true,
            bytes_per_s: partitions.iter().map(|(_, bytes)| bytes).sum(),
            partitions: partitions.iter().map(|(number, bytes)| (id(*number), *bytes)).collect(),
        }
    }

    #[test]
    fn a_new_node_takes_its_share_and_then_all_is_quiet() {
        let mib = 1024 * 1024;
        let mut scheduler = Scheduler::default();
        let busy = [(0, 4 * mib), (1, 3 * mib), (2, 2 * mib), (3, mib)];
        let moves = scheduler.plan(0, vec![load(1, &busy), load(2, &[])]);
        let moved: u64 = moves.iter().map(|m| m.bytes_per_s).sum();
        assert!((4 * mib..=6 * mib).contains(&moved), "{moves:?}");
        assert!(moves.iter().all(|m| (m.from, m.to) == (NodeId(1), NodeId(2))));
        let left: Vec<_> = busy.iter().copied().filter(|(p, _)| moves.iter().all(|m| m.partition != id(*p))).collect();
        let taken: Vec<_> = busy.iter().copied().filter(|(p, _)| moves.iter().any(|m| m.partition == id(*p))).collect();
        assert_eq!(scheduler.plan(1_000, vec![load(1, &left), load(2, &taken)]), [], "even enough");
        // What moved rests, even if it is all there is.
        assert_eq!(scheduler.plan(2_000, vec![load(1, &[]), load(2, &taken)]).len(), 0);
    }

    #[test]
    fn one_hot_partition_does_not_go_back_and_forth() {
        let mut scheduler = Scheduler::default();
        let only = [(0, 50 * 1024 * 1024)];
        assert_eq!(scheduler.plan(0, vec![load(1, &only), load(2, &[])]), []);
        let idle = NodeLoad { is_target: false, ..load(2, &[]) };
        let many = [(0, 50 * 1024 * 1024), (1, 50 * 1024 * 1024)];
        assert_eq!(scheduler.plan(0, vec![load(1, &many), idle]), [], "a node that is emptied takes nothing");
    }

    #[test]
    fn a_minute_has_room_for_few_moves() {
        let mut scheduler = Scheduler::default();
        let many: Vec<_> = (0..1_000).map(|number| (number, 1024 * 1024)).collect();
        let first = scheduler.plan(0, vec![load(1, &many), load(2, &[])]);
        assert_eq!(first.len(), MOVES_PER_MINUTE);
        assert_eq!(scheduler.plan(30_000, vec![load(1, &many), load(2, &[])]), []);
        assert_eq!(scheduler.plan(61_000, vec![load(1, &many), load(2, &[])]).len(), MOVES_PER_MINUTE);
    }

    #[test]
    fn partners_are_few_and_mutual() {
        let nodes: Vec<(NodeId, &str)> =
            (0..60).map(|n| (NodeId(n), ["az-a", "az-b", "az-c"][n as usize % 3])).collect();
        let places = places(nodes.iter().copied());
        for (a, az) in &nodes {
            let partners = nodes.iter().filter(|(b, other)| other != az && are_partners(places[a], places[b])).count();
            assert!((4..=8).contains(&partners), "{a} has {partners} partners");
        }
        let pair = [Place { index: 0, count: 1 }, Place { index: 0, count: 1 }];
        assert!(are_partners(pair[0], pair[1]));
    }
}
