//! What the disks say, and what is concluded from it: one case each.

use types::{Incarnation, NodeId, TopicId};

use super::*;

const P: TopicPartition = TopicPartition { topic: TopicId(1), partition: 0 };

fn disk(node: u32) -> Replica {
    Replica { node: NodeId(node), incarnation: Incarnation(u128::from(node)) }
}

/// `(epoch, nonce, base, first_free, pair, end, sealed)` as a disk says it.
fn held(epoch: i32, nonce: u128, base: i64, free: i64, pair: [u32; 2], end: i64, sealed: Option<i64>) -> HeldSegment {
    HeldSegment {
        account: AccountId(1),
        cluster: ClusterId(1),
        segment: SegmentId { partition: P, generation: Generation(1), epoch: Epoch(epoch), nonce: Nonce(nonce) },
        base,
        first_free: free,
        leader: disk(pair[0]),
        follower: disk(pair[1]),
        end,
        sealed,
        is_damaged: false,
        copied_for: 0,
    }
}

fn disks(all: &[(u32, &[HeldSegment])]) -> Vec<Disk> {
    let disk = |(node, segments): &(u32, &[HeldSegment])| Disk {
        replica: disk(*node),
        az: format!("az-{node}"),
        held: HeldPartition { partition: P, generation: Generation(2), epoch: Epoch(0), segments: segments.to_vec() },
    };
    all.iter().map(disk).collect()
}

fn rebuilt(all: &[(u32, &[HeldSegment])], known: Option<&PartitionRecord>) -> Rebuilt {
    rebuild(P, known, &disks(all), Generation(2), Rules::ALL).expect("no contradiction").expect("a partition")
}

/// `(nonce, base, end)` of each segment.
fn chain(rebuilt: &Rebuilt) -> Vec<(u128, i64, Option<i64>)> {
    rebuilt.record.chain.iter().map(|segment| (segment.nonce.0, segment.base, segment.end)).collect()
}

#[test]
fn what_was_open_is_open_again() {
    let (first, open) = (held(1, 10, 0, 0, [1, 2], 5, Some(5)), held(2, 20, 5, 5, [2, 3], 9, None));
    let rebuilt = rebuilt(&[(1, &[first]), (2, &[first, open]), (3, &[open])], None);
    assert_eq!(chain(&rebuilt), [(10, 0, Some(5)), (20, 5, None)]);
    assert_eq!((rebuilt.record.generation, rebuilt.record.epoch), (Generation(2), Epoch(2)));
    assert_eq!(rebuilt.record.chain[1].replicas, [disk(2), disk(3)]);
    assert!(rebuilt.holes.is_empty());
}

#[test]
fn an_opening_with_appends_beats_a_longer_one_without() {
    // Both followed the first segment; only one of them was listed, and that one has been appended to.
    let first = held(1, 10, 0, 0, [1, 2], 9, None);
    let (longer, listed) = (held(2, 20, 4, 9, [1, 3], 9, None), held(2, 21, 7, 7, [2, 3], 8, None));
    let rebuilt = rebuilt(&[(1, &[first, longer]), (2, &[first, listed]), (3, &[longer, listed])], None);
    assert_eq!(chain(&rebuilt), [(10, 0, Some(7)), (21, 7, None)]);
}

#[test]
fn an_opening_that_may_have_been_listed_is_taken_the_longest_of_several() {
    let first = held(1, 10, 0, 0, [1, 2], 9, None);
    let (longer, other) = (held(2, 20, 4, 9, [1, 3], 9, None), held(2, 21, 7, 7, [2, 3], 7, None));
    let all = [(1, &[first, longer][..]), (2, &[first, other]), (3, &[longer, other])];
    assert_eq!(chain(&rebuilt(&all, None)), [(10, 0, Some(4)), (20, 4, None)]);
}

#[test]
fn an_opening_that_is_not_whole_on_both_disks_was_never_listed() {
    let first = held(1, 10, 0, 0, [1, 2], 9, None);
    let (whole, part) = (held(2, 20, 4, 9, [1, 3], 9, None), held(2, 20, 4, 9, [1, 3], 6, None));
    let all = [(1, &[first, whole][..]), (2, &[first]), (3, &[part])];
    assert_eq!(chain(&rebuilt(&all, None)), [(10, 0, None)]);
    // The other disk is gone: it may have been.
    assert_eq!(chain(&rebuilt(&all[..2], None)), [(10, 0, Some(4)), (20, 4, None)]);
}

#[test]
fn what_stood_between_is_found_by_what_it_carried() {
    // The second was listed, sealed and never appended to; no disk heard of it. The third begins where it ended.
    let first = held(1, 10, 0, 0, [1, 2], 4, Some(4));
    let (second, third) = (held(2, 20, 4, 7, [1, 3], 7, None), held(3, 30, 7, 7, [3, 2], 9, None));
    let rebuilt = rebuilt(&[(1, &[first, second]), (2, &[third]), (3, &[second, third])], None);
    assert_eq!(chain(&rebuilt), [(10, 0, Some(4)), (20, 4, Some(7)), (30, 7, None)]);
}

#[test]
fn what_no_disk_has_is_a_hole_and_not_given_again() {
    let (first, third) = (held(1, 10, 0, 0, [1, 2], 4, Some(4)), held(3, 30, 8, 8, [1, 2], 9, None));
    let rebuilt = rebuilt(&[(1, &[first, third]), (2, &[first, third])], None);
    assert_eq!(rebuilt.holes, [Hole { from: 4, to: 8 }]);
    assert_eq!(chain(&rebuilt), [(10, 0, Some(4)), (30, 8, None)]);
}

#[test]
fn a_copy_that_repair_made_is_listed_in_place_of_the_disk_that_is_gone() {
    let original = held(1, 10, 0, 0, [1, 2], 5, Some(5));
    let copy = HeldSegment { leader: NOBODY, follower: NOBODY, copied_for: 7, ..original };
    let rebuilt = rebuilt(&[(2, &[original]), (3, &[copy])], None);
    assert_eq!(rebuilt.record.chain[0].replicas, [disk(2), disk(3)]);
    assert!(rebuilt.record.version > 7, "copies made for a lost record are not kept for ever");
}

#[test]
fn a_backup_adds_what_nobody_holds_and_takes_nothing_away() {
    let (first, open) = (held(1, 10, 0, 0, [1, 2], 5, Some(5)), held(2, 20, 5, 5, [2, 3], 9, None));
    let all = [(1, &[first][..]), (2, &[first, open]), (3, &[open])];
    let whole = rebuilt(&all, None).record;
    // From before the second segment, and from now.
    let mut old = whole.clone();
    old.chain.truncate(1);
    old.chain[0].end = None;
    assert_eq!(rebuilt(&all, Some(&old)).record.chain, whole.chain);
    // The disks of the first segment are away: the backup knows of it.
    let away = rebuilt(&[(3, &[open])], Some(&whole));
    assert_eq!((chain(&away), away.holes), (chain(&rebuilt(&all, None)), Vec::new()));
    assert_eq!(away.absent, [Hole { from: 0, to: 5 }], "and that is said");
}
