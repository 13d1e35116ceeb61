//! Losses that an operator accepts: what no copy is left of becomes a gap, and the partition goes on behind it.
//!
//! Nothing here happens by itself. A partition without an intact copy stays offline for as long as nobody says that the
//! copies will not come back (docs/durability.md).

use types::{Gap, Nonce, Offset, PartitionRecord, Replica, SegmentRecord};

use crate::repair::{Health, View};

/// How far above the base of a lost open segment the next one begins. Nobody may know how far the lost one was, and an
/// offset is never given twice: this is more than a segment can have got, at a million records a second for twelve days.
pub const MARGIN: Offset = 1 << 40;

/// A segment of which no copy is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    pub nonce: Nonce,
    pub from: Offset,
    /// `None`: it was open; how far it was is not known.
    pub to: Option<Offset>,
}

/// What is lost of a record. `empty`: members of the open segment that have just said, behind a fence, that they have
/// nothing of it that is intact. Silence says nothing, unless it has been long.
pub fn losses(record: &PartitionRecord, view: &View, empty: &[Replica]) -> Vec<Loss> {
    let is_lost = |segment: &&SegmentRecord| {
        let is_gone = |replica: &Replica| view.health(segment.nonce, *replica) == Health::Lost;
        let mut replicas = segment.replicas.iter();
        match segment.end {
            Some(_) => replicas.all(is_gone),
            None => replicas.all(|replica| is_gone(replica) || empty.contains(replica)),
        }
    };
    let lost = record.chain.iter().filter(is_lost);
    lost.map(|segment| Loss { nonce: segment.nonce, from: segment.base, to: segment.end }).collect()
}

/// The record without what is lost. Nothing is open in it if the open segment is.
pub fn accept(record: &PartitionRecord, losses: &[Loss], now_ms: i64) -> PartitionRecord {
    let mut record = record.clone();
    record.version += 1;
    // Fences of failovers that found nothing have used it.
    record.epoch = record.epoch.next();
    for Loss { nonce, from, to } in losses {
        record.chain.retain(|segment| segment.nonce != *nonce);
        record.gaps.push(Gap { from: *from, to: to.unwrap_or(from + MARGIN), accepted_ms: now_ms });
    }
    record.gaps.sort_by_key(|gap| gap.from);
    record
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use types::{AccountId, ClusterId, Epoch, Generation, Incarnation, NodeId, TopicId};

    use super::*;
    use crate::repair::NodeView;

    fn replica(node: u32) -> Replica {
        Replica { node: NodeId(node), incarnation: Incarnation(u128::from(node)) }
    }

    fn record() -> PartitionRecord {
        let segment = |nonce, base, end, replicas| SegmentRecord {
            generation: Generation(1),
            epoch: Epoch(1),
            nonce: Nonce(nonce),
            base,
            end,
            replicas,
            changed_ms: None,
        };
        let (a, b) = ([replica(1), replica(2)], [replica(3), replica(2)]);
        PartitionRecord {
            account: AccountId(0),
            cluster: ClusterId(0),
            topic: TopicId(1),
            partition: 0,
            generation: Generation(1),
            epoch: Epoch(3),
            version: 3,
            log_start: 0,
            gaps: Vec::new(),
            chain: vec![segment(1, 0, Some(10), a), segment(2, 10, Some(20), b), segment(3, 20, None, a)],
        }
    }

    fn view(away: &[(u32, u64)]) -> View {
        let node = |node: u32| {
            let away_ms = away.iter().find(|(of, _)| *of == node).map_or(0, |(_, ms)| *ms);
            let view = NodeView {
                replica: replica(node),
                az: format!("az-{node}"),
                address: String::new(),
                is_alive: away_ms == 0,
                away_ms,
                is_draining: false,
                segments: 0,
            };
            (NodeId(node), view)
        };
        View { nodes: BTreeMap::from_iter((1..=3).map(node)), damaged: Vec::new() }
    }

    #[test]
    fn what_no_copy_is_left_of_becomes_a_gap_and_no_offset_is_used_again() {
        let gone = view(&[(1, 60_000), (2, 60_000)]);
        let found = losses(&record(), &gone, &[]);
        assert_eq!(found.iter().map(|loss| (loss.from, loss.to)).collect::<Vec<_>>(), [(0, Some(10)), (20, None)]);
        let after = accept(&record(), &found, 7);
        assert_eq!(after.chain.iter().map(|s| s.base).collect::<Vec<_>>(), [10]);
        assert_eq!((after.open(), after.sealed_end()), (None, 20 + MARGIN));
        assert_eq!(after.last_before_next(), None, "nobody knows the producers of what was lost");
        assert_eq!((after.epoch, after.version), (Epoch(4), 4));
        // A reader in a gap goes on behind it.
        assert_eq!(after.segment_of(3).map(|s| s.base), Some(10));
        assert_eq!(after.segment_of(25).map(|s| s.base), None);
    }

    #[test]
    fn what_may_come_back_is_not_lost() {
        let both = [replica(1), replica(2)];
        assert_eq!(losses(&record(), &view(&[]), &[]), [], "both are heard, and did not answer just now");
        assert_eq!(losses(&record(), &view(&[(1, 60_000), (2, 100)]), &[]), [], "node 2 fell silent just now");
        assert_eq!(losses(&record(), &view(&[]), &both[..1]), [], "node 2 may have it");
        assert_eq!(losses(&record(), &view(&[(2, 60_000)]), &both[..1]).len(), 1, "the other is gone for good");
        assert_eq!(losses(&record(), &view(&[]), &both).len(), 1, "both answer, and have nothing of it");
    }
}
