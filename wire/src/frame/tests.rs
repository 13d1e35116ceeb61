//! Round trips of every frame, and hostile bytes.

use proptest::prelude::*;
use types::{SessionId, TopicId};

use super::*;
use crate::compression::Codec;
use crate::dedupe::DedupeSnapshot;
use crate::inventory::{HeldPartition, HeldSegment};
use crate::records::{BatchBuilder, NewRecord};

fn frames() -> Vec<Frame> {
    let partition = TopicPartition { topic: TopicId(7), partition: 3 };
    let segment = SegmentId { partition, generation: Generation(1), epoch: Epoch(2), nonce: Nonce(9) };
    let replica = |n| Replica { node: NodeId(n), incarnation: Incarnation(u128::from(n)) };
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord { key: Some(b"k"), value: Some(b"v"), timestamp: 5, headers: &[] });
    let batch = builder.finish(Codec::None).expect("a batch").placed_at(11, 2);
    let dedupe = DedupeKey::Session { session: SessionId(4), number: 8, floor: 6 };
    let meta = AppendMeta {
        account: AccountId(5),
        cluster: ClusterId(1),
        segment,
        principal: PrincipalId(2),
        protocol: Protocol::Http2,
        dedupe,
        encryption_key: 0,
        append_time: 1000,
        commit: 10,
    };
    let refusal = Refusal { code: ErrorCode::NotLeader, message: "elsewhere".into() };
    let open = OpenRequest {
        account: AccountId(5),
        cluster: ClusterId(1),
        segment,
        base: 3,
        previous: Some(segment),
        carry_to: 5,
        leader: replica(1),
        follower: replica(2),
        follower_address: "127.0.0.1:7100".into(),
    };
    vec![
        Frame::Append(Box::new(AppendRequest {
            head: AppendHead {
                account: AccountId(5),
                cluster: ClusterId(1),
                segment,
                principal: PrincipalId(2),
                protocol: Protocol::Kafka,
                dedupe: DedupeKey::Producer { id: 1, epoch: 2, base_sequence: 3, last_sequence: 3 },
                encryption_key: 0,
                log_append_time: true,
            },
            batch: batch.clone(),
        })),
        Frame::Use(UseRequest { account: AccountId(5), mark: u64::MAX }),
        Frame::Used(Ok(Used { is_first: true, since_ms: 1_700_000_000_000 })),
        Frame::Used(Err(refusal.clone())),
        Frame::Appended(Ok(Appended { base_offset: 4, append_time: 5 })),
        Frame::Appended(Err(refusal.clone())),
        Frame::Peer(Box::new(PeerMessage::Open(OpenMeta {
            account: AccountId(5),
            cluster: ClusterId(1),
            segment,
            base: 4,
            first_free: 5,
            leader: replica(1),
            follower: replica(2),
            encryption_key: 0,
            snapshot: DedupeSnapshot::default(),
        }))),
        Frame::Peer(Box::new(PeerMessage::Append { meta, chain_before: 77, batch: batch.clone() })),
        Frame::Peer(Box::new(PeerMessage::Commit { segment, commit: 3 })),
        Frame::Peer(Box::new(PeerMessage::Resume { segment })),
        Frame::PeerReply(PeerReply::Durable { segment, incarnation: Incarnation(1), end: 6 }),
        Frame::PeerReply(PeerReply::Gap { segment, incarnation: Incarnation(1), end: 6, chain: 7 }),
        Frame::PeerReply(PeerReply::Fenced { segment }),
        Frame::PeerReply(PeerReply::Unknown { segment }),
        Frame::Fence(FenceRequest { partition, generation: Generation(1), epoch: Epoch(3), nonce: Some(Nonce(9)) }),
        Frame::Fenced(Ok(FenceReply {
            incarnation: Incarnation(1),
            state: MemberState::Known { durable: 3, commit: 2, chain: 1 },
        })),
        Frame::Open { request: Box::new(open.clone()), producers: None },
        Frame::Open { request: Box::new(open), producers: Some(Box::default()) },
        Frame::Describe(DescribeRequest { account: AccountId(5), segment, end: 9 }),
        Frame::Described(Err(refusal.clone())),
        Frame::Copy(Box::new(CopyRequest {
            generation: Generation(1),
            account: AccountId(5),
            segment,
            base: 1,
            end: 9,
            record_version: 4,
            target: replica(3),
            sources: vec!["127.0.0.1:7100".into()],
        })),
        Frame::Copy(Box::new(CopyRequest {
            generation: Generation(2),
            account: AccountId(5),
            segment,
            base: 1,
            end: 9,
            record_version: 4,
            target: replica(3),
            sources: Vec::new(),
        })),
        Frame::Inventory(InventoryRequest { fence: Some(Generation(2)), after: Some(partition) }),
        Frame::Inventoried(Ok(Box::new(Inventory {
            me: replica(3),
            name: "a".into(),
            az: "az-a".into(),
            cluster: ClusterId(7),
            generation: Generation(2),
            placement_heard_ms: 7,
            partitions: vec![HeldPartition {
                partition,
                generation: Generation(2),
                epoch: Epoch(0),
                segments: vec![HeldSegment {
                    account: AccountId(5),
                    cluster: ClusterId(7),
                    segment,
                    base: 1,
                    first_free: 2,
                    leader: replica(3),
                    follower: replica(4),
                    end: 9,
                    sealed: None,
                    is_damaged: false,
                    copied_for: 0,
                }],
            }],
            topics: vec!["{}".into()],
            has_more: true,
        }))),
        Frame::Copied(Ok(CopyReply { copied_to: 9, is_done: true })),
        Frame::Opened(Ok(OpenReply { end: 5 })),
        Frame::Fetch(FetchRequest {
            account: AccountId(5),
            segment,
            sealed_end: None,
            offset: 4,
            since_ms: Some(9),
            bytes_max: 100,
            wait_ms: 5,
        }),
        Frame::Fetched(Ok(FetchReply { visible: 12, stored_bytes: 7, batches: batch.to_bytes() })),
        Frame::Fetched(Err(refusal)),
        Frame::Hint { partition },
        Frame::Room { refused: Some(ErrorCode::StorageFull) },
        Frame::Hello { node: NodeId(1), incarnation: Incarnation(2) },
    ]
}

fn whole(frame: &Frame, correlation: u64) -> Bytes {
    let (head, tail) = frame.encode(correlation);
    let mut out = head.to_vec();
    out.extend_from_slice(&tail.unwrap_or_default());
    out.into()
}

#[test]
fn every_frame_round_trips() {
    for frame in frames() {
        let bytes = whole(&frame, 42);
        let length = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        assert_eq!(length, bytes.len() - 4, "{frame:?}");
        assert_eq!(Frame::decode(bytes.slice(4..)), Ok((42, frame)));
    }
}

#[test]
fn every_truncation_is_an_error() {
    for frame in frames() {
        let bytes = whole(&frame, 1);
        for cut in 4..bytes.len() {
            // A fetch answer's batches run to the end of the frame: their length is not the frame's business.
            if !matches!(frame, Frame::Fetched(Ok(_))) {
                assert!(Frame::decode(bytes.slice(4..cut)).is_err(), "{frame:?} cut at {cut}");
            }
        }
    }
}

proptest! {
    #[test]
    fn no_input_panics(kind in 0_u8..30, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = vec![VERSION, kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend(body);
        let _ = Frame::decode(bytes.into());
    }
}
