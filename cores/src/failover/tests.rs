//! Decisions of one failover, case by case.

use types::{AccountId, ClusterId, Epoch, Generation, Incarnation, TopicId};

use super::*;
use crate::scheduler::Place;

fn replica(node: u32) -> Replica {
    Replica { node: NodeId(node), incarnation: Incarnation(u128::from(node)) }
}

fn candidates() -> Vec<Candidate> {
    (1..=3)
        .map(|n| Candidate {
            replica: replica(n),
            az: format!("az-{n}"),
            address: format!("127.0.0.1:{n}"),
            is_draining: false,
            place: Place::default(),
        })
        .collect()
}

fn record(open: bool) -> PartitionRecord {
    let segment = SegmentRecord {
        generation: Generation(1),
        epoch: Epoch(1),
        nonce: Nonce(1),
        base: 0,
        end: None,
        replicas: [replica(1), replica(2)],
        changed_ms: None,
    };
    PartitionRecord {
        account: AccountId(0),
        cluster: ClusterId(0),
        topic: TopicId(1),
        partition: 0,
        generation: Generation(1),
        epoch: Epoch(i32::from(open)),
        version: 1,
        log_start: 0,
        gaps: Vec::new(),
        chain: if open { vec![segment] } else { Vec::new() },
    }
}

fn known(node: u32, durable: Offset, commit: Offset) -> Input {
    let state = MemberState::Known { durable, commit, chain: durable as u64 };
    Input::Fenced { node: NodeId(node), result: Ok(FenceReply { incarnation: replica(node).incarnation, state }) }
}

fn begin(open: bool) -> (Failover, Vec<Effect>) {
    Failover::begin(0, record(open), 7, candidates(), vec![Nonce(9), Nonce(8)], Goal::Open, Rules::ALL)
}

#[test]
fn a_pair_is_two_zones_that_are_there() {
    let mut candidates = candidates();
    assert!(has_pair(&candidates, &[NodeId(1)]));
    assert!(!has_pair(&candidates, &[NodeId(1), NodeId(3)]));
    candidates[2].az = "az-2".into();
    assert!(!has_pair(&candidates, &[NodeId(1)]), "two nodes of one zone");
    assert!(!has_pair(&[], &[]));
}

fn opening(effects: &[Effect]) -> &OpenRequest {
    effects
        .iter()
        .find_map(|effect| match effect {
            Effect::Open { request, .. } => Some(&**request),
            _ => None,
        })
        .expect("an opening")
}

#[test]
fn both_answered_seals_at_the_smaller_end_and_carries_nothing() {
    let (mut failover, _) = begin(true);
    assert!(failover.step(1, known(1, 10, 5)).is_empty());
    let effects = failover.step(2, known(2, 8, 8));
    let request = opening(&effects);
    assert_eq!((request.base, request.carry_to), (8, 8));
    assert_eq!((request.leader, request.follower), (replica(1), replica(2)));
    let effects = failover.step(3, Input::Opened { nonce: request.segment.nonce, result: Ok(OpenReply { end: 8 }) });
    let Effect::Swap { revision: Some(7), record } = &effects[0] else { panic!("{effects:?}") };
    assert_eq!(record.chain.iter().map(|s| (s.base, s.end)).collect::<Vec<_>>(), [(0, Some(8)), (8, None)]);
    assert_eq!(record.epoch, Epoch(2));
}

#[test]
fn one_answered_seals_at_its_watermark_and_carries_the_rest_to_another_node() {
    let (mut failover, _) = begin(true);
    assert!(failover.step(1, known(2, 10, 6)).is_empty(), "the other may answer within the grace");
    let mut gone = failover.clone();
    let silent = failover.step(FENCE_GRACE_MS, Input::Tick);
    // A member that is known to be gone is not waited for.
    for effects in [silent, gone.step(2, Input::Unreachable { node: NodeId(1) })] {
        let request = opening(&effects);
        assert_eq!((request.base, request.carry_to), (6, 10));
        assert_eq!(request.leader, replica(2));
        assert_eq!(request.follower, replica(3), "listed as alive, and silent: another is quicker");
    }
}

#[test]
fn members_that_were_not_there_are_asked_again() {
    let (mut failover, _) = begin(true);
    for node in [1, 2] {
        assert!(failover.step(1, Input::Unreachable { node: NodeId(node) }).is_empty());
    }
    let fences = |effects: &[Effect]| effects.iter().filter(|e| matches!(e, Effect::Fence { .. })).count();
    assert_eq!(fences(&failover.step(FENCE_GRACE_MS, Input::Tick)), 0);
    assert_eq!(fences(&failover.step(FENCE_RETRY_MS, Input::Tick)), 2);
    failover.step(FENCE_RETRY_MS + 1, known(1, 10, 10));
    let effects = failover.step(FENCE_RETRY_MS + 2, known(2, 10, 10));
    assert_eq!(opening(&effects).leader, replica(1));
}

#[test]
fn whom_nobody_reaches_is_chosen_last() {
    let suspect = |node: u32| Input::Suspected { nodes: vec![NodeId(node)] };
    let (mut failover, _) = begin(true);
    failover.step(1, suspect(3));
    failover.step(1, Input::Unreachable { node: NodeId(1) });
    let effects = failover.step(2, known(2, 10, 10));
    assert_eq!(opening(&effects).follower, replica(1), "the suspect is no worse than the silent member");
    let mut four = candidates();
    four.push(Candidate { replica: replica(4), az: "az-3".into(), ..four[2].clone() });
    let (mut failover, _) = Failover::begin(0, record(true), 7, four, vec![Nonce(9)], Goal::Open, Rules::ALL);
    failover.step(1, suspect(3));
    failover.step(1, Input::Unreachable { node: NodeId(1) });
    let effects = failover.step(2, known(2, 10, 10));
    assert_eq!(opening(&effects).follower, replica(4));
}

#[test]
fn a_refused_opening_goes_elsewhere_at_once_and_to_the_same_pair_only_after_a_while() {
    let (mut failover, effects) = begin(false);
    let refused = || Err(refusal(ErrorCode::LeaderNotAvailable, "the follower cannot be reached".into()));
    let first = opening(&effects).segment.nonce;
    let effects = failover.step(1, Input::Opened { nonce: first, result: refused() });
    let second = opening(&effects).clone();
    assert_ne!(second.follower, replica(2), "that one was not reached");
    let two = candidates().into_iter().take(2).collect();
    let (mut failover, effects) =
        Failover::begin(0, record(false), 7, two, vec![Nonce(9), Nonce(8), Nonce(7)], Goal::Open, Rules::ALL);
    let first = opening(&effects).segment.nonce;
    let effects = failover.step(1, Input::Opened { nonce: first, result: refused() });
    let other_way = opening(&effects).segment.nonce;
    assert!(failover.step(2, Input::Opened { nonce: other_way, result: refused() }).is_empty(), "no third pair");
    opening(&failover.step(2 + OPEN_TIMEOUT_MS, Input::Tick));
}

#[test]
fn unknown_damaged_and_foreign_disks_are_no_lengths() {
    for state in [MemberState::Unknown, MemberState::Damaged] {
        let (mut failover, _) = begin(true);
        failover.step(1, known(2, 10, 6));
        let reply = FenceReply { incarnation: replica(1).incarnation, state };
        let effects = failover.step(2, Input::Fenced { node: NodeId(1), result: Ok(reply) });
        assert_eq!((opening(&effects).base, opening(&effects).carry_to), (6, 10));
    }
    let (mut failover, _) = begin(true);
    failover.step(1, known(2, 10, 6));
    let state = MemberState::Known { durable: 2, commit: 2, chain: 0 };
    let reply = FenceReply { incarnation: Incarnation(99), state };
    let effects = failover.step(2, Input::Fenced { node: NodeId(1), result: Ok(reply) });
    assert_eq!(opening(&effects).carry_to, 10);
}

#[test]
fn a_member_below_the_others_watermark_is_damaged() {
    let (mut failover, _) = begin(true);
    failover.step(1, known(1, 4, 4));
    let effects = failover.step(2, known(2, 10, 6));
    assert_eq!((opening(&effects).leader, opening(&effects).carry_to), (replica(2), 10));
}

#[test]
fn no_intact_member_is_offline_and_never_truncated() {
    let (mut failover, _) = begin(true);
    for node in [1, 2] {
        let reply = FenceReply { incarnation: replica(node).incarnation, state: MemberState::Unknown };
        let effects = failover.step(1, Input::Fenced { node: NodeId(node), result: Ok(reply) });
        if node == 2 {
            assert!(matches!(&effects[0], Effect::Done(Err(r)) if r.code == ErrorCode::PartitionOffline));
        }
    }
}

#[test]
fn a_silent_partner_is_replaced_after_its_time() {
    let (mut failover, effects) = begin(false);
    let first = opening(&effects).clone();
    assert_eq!((first.leader, first.follower), (replica(1), replica(2)));
    let effects = failover.step(OPEN_TIMEOUT_MS, Input::Tick);
    let second = opening(&effects).clone();
    assert_eq!((second.leader, second.follower), (replica(2), replica(3)), "either may have been the silent one");
    assert_ne!(first.segment.nonce, second.segment.nonce);
    let late = failover.step(600, Input::Opened { nonce: first.segment.nonce, result: Ok(OpenReply { end: 0 }) });
    assert!(late.is_empty(), "the first opening counts no more");
}

#[test]
fn a_lost_swap_stops() {
    let (mut failover, effects) = begin(false);
    let nonce = opening(&effects).segment.nonce;
    failover.step(1, Input::Opened { nonce, result: Ok(OpenReply { end: 0 }) });
    let effects = failover.step(2, Input::Swapped { won: false });
    assert!(matches!(&effects[0], Effect::Done(Err(_))));
    assert!(failover.is_over());
}
