//! What one node's partition answers to its peers.

use types::{ClusterId, Epoch, Generation, Incarnation, NodeId, Nonce, PrincipalId, Protocol, TopicId};
use wire::compression::Codec;
use wire::journal::{AppendMeta, OpenMeta};
use wire::records::{BatchBuilder, NewRecord};
use wire::{Batch, DedupeKey, DedupeSnapshot};

use super::*;

const PARTITION: TopicPartition = TopicPartition { topic: TopicId(1), partition: 0 };
const LEADER: types::Replica = types::Replica { node: NodeId(1), incarnation: Incarnation(10) };
const FOLLOWER: types::Replica = types::Replica { node: NodeId(2), incarnation: Incarnation(20) };

fn segment() -> SegmentId {
    SegmentId { partition: PARTITION, generation: Generation(1), epoch: Epoch(1), nonce: Nonce(5) }
}

fn open() -> PeerMessage {
    PeerMessage::Open(OpenMeta {
        account: AccountId(1),
        cluster: ClusterId(1),
        segment: segment(),
        base: 0,
        first_free: 0,
        leader: LEADER,
        follower: FOLLOWER,
        encryption_key: 0,
        snapshot: DedupeSnapshot::default(),
    })
}

fn batch(text: &str, offset: Offset) -> Batch {
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord { key: None, value: Some(text.as_bytes()), timestamp: 1, headers: &[] });
    builder.finish(Codec::None).expect("a batch").placed_at(offset, 1)
}

fn append(batch: Batch, chain_before: u64) -> PeerMessage {
    let meta = AppendMeta {
        account: AccountId(1),
        cluster: ClusterId(1),
        segment: segment(),
        principal: PrincipalId(0),
        protocol: Protocol::Kafka,
        dedupe: DedupeKey::None,
        encryption_key: 0,
        append_time: 1,
        commit: 0,
    };
    PeerMessage::Append { meta, chain_before, batch }
}

fn tell(follower: &mut Partition, message: PeerMessage) -> Vec<Effect> {
    follower.step(Now::default(), Input::Peer { from: LEADER.node, message: Box::new(message) })
}

/// `Unknown` would ask the leader to send the opening again, for ever.
#[test]
fn an_opening_for_a_disk_that_was_replaced_ends_that_leadership() {
    let replaced = types::Replica { incarnation: Incarnation(21), ..FOLLOWER };
    let mut follower = Partition::new(PARTITION, replaced, Rules::ALL);
    let effects = tell(&mut follower, open());
    assert!(matches!(effects[..], [Effect::Reply { reply: PeerReply::Fenced { .. }, .. }]), "{effects:?}");
    assert!(follower.replica().segment(segment().nonce).is_none());
}

/// No run of the simulator has two authors of one segment: `LeaderNeverResumes` sees to that. Should it ever
/// happen, the offset alone would take one author's batch for the other's.
#[test]
fn a_follower_tells_batches_by_their_chain_and_not_by_their_offset() {
    for rules in [Rules::ALL, Rules::without(Rule::CheckChain)] {
        let mut follower = Partition::new(PARTITION, FOLLOWER, rules);
        tell(&mut follower, open());
        let seed = follower.replica().segment(segment().nonce).expect("opened").chain;
        tell(&mut follower, append(batch("one author's", 0), seed));
        // At an offset that is taken, and behind a batch that is not there.
        let taken = tell(&mut follower, append(batch("another's", 0), seed));
        let behind = tell(&mut follower, append(batch("its next", 1), batch("another's", 0).chain_after(seed)));
        let end = follower.replica().segment(segment().nonce).expect("opened").end;
        if rules == Rules::ALL {
            for effects in [taken, behind] {
                assert!(matches!(effects[..], [Effect::Reply { reply: PeerReply::Fenced { .. }, .. }]), "{effects:?}");
            }
            assert_eq!(end, 1);
        } else {
            assert_eq!(end, 2, "the breach shows here");
        }
    }
}
