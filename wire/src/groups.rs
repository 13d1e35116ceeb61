//! Consumer groups inside Weir: what a gateway asks the coordinator, what it answers, and the records of its log.
//!
//! The coordinator of a group is the leader of the group's coordinator log (`docs/adr/0013-groups.md`). Topics are ids
//! here; their names are the gateways' business.

use bytes::{BufMut, Bytes, BytesMut};
use types::{AccountId, ClusterId, ErrorCode, Offset, TopicPartition};

use crate::codec::{DecodeError, Reader};
use crate::layout::{Layout, layout};

impl Layout for Bytes {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32(self.len() as u32);
        out.put_slice(self);
    }

    fn take(reader: &mut Reader) -> Result<Self, DecodeError> {
        let length = reader.u32("bytes length")?;
        let length = reader.check_count("bytes length", i64::from(length), 1)?;
        // Not a slice of the frame: what a group keeps must not keep the frame.
        reader.bytes("bytes", length).map(|bytes| Self::copy_from_slice(&bytes))
    }
}

/// A question for the coordinator that leads `log`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupQuestion {
    pub account: AccountId,
    pub cluster: ClusterId,
    pub log: TopicPartition,
    /// 128 fresh random bits: a new member's id is made of them.
    pub fresh: u128,
    pub request: GroupRequest,
}

/// How a member names itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct MemberName {
    /// Empty: not a member yet, or (static, leaving) named by its instance alone.
    pub member: String,
    /// Static membership (KIP-345).
    pub instance: Option<String>,
}

/// A way of assigning partitions that a member supports, with its metadata.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NamedBytes {
    /// A protocol's name, or a member's id.
    pub name: String,
    pub bytes: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JoinGroup {
    pub group: String,
    pub name: MemberName,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub protocol_type: String,
    pub protocols: Vec<NamedBytes>,
    /// A new member is only told its id, and joins with it then (KIP-394).
    pub needs_known_id: bool,
    /// A leader that is told that nothing changed need not assign anew (KIP-814).
    pub may_skip_assignment: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SyncGroup {
    pub group: String,
    pub name: MemberName,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// From the group's leader: what each member gets.
    pub assignments: Vec<NamedBytes>,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommittedOffset {
    pub partition: TopicPartition,
    pub offset: Offset,
    /// -1: not said.
    pub leader_epoch: i32,
    pub metadata: String,
    /// When, in ms since 1970.
    pub at_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommitOffsets {
    pub group: String,
    pub name: MemberName,
    /// Negative: not by a member.
    pub generation: i32,
    pub offsets: Vec<CommittedOffset>,
}

/// A topic whose offsets are to be forgotten; its name, because a member's subscription names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ForgottenOffset {
    pub topic: String,
    pub partition: TopicPartition,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GroupRequest {
    Join { join: Box<JoinGroup> },
    Sync { sync: Box<SyncGroup> },
    Heartbeat { group: String, name: MemberName, generation: i32 },
    Leave { group: String, names: Vec<MemberName> },
    Commit { commit: Box<CommitOffsets> },
    Offsets { group: String },
    Forget { group: String, offsets: Vec<ForgottenOffset> },
    Describe { group: String },
    List {},
    Delete { group: String },
}

impl GroupRequest {
    /// The group that it is about; of a list none.
    pub fn group(&self) -> &str {
        match self {
            Self::Join { join } => &join.group,
            Self::Sync { sync } => &sync.group,
            Self::Commit { commit } => &commit.group,
            Self::Heartbeat { group, .. }
            | Self::Leave { group, .. }
            | Self::Offsets { group }
            | Self::Forget { group, .. }
            | Self::Describe { group }
            | Self::Delete { group } => group,
            Self::List {} => "",
        }
    }
}

/// A member as the group's leader sees it when it assigns.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JoinedMember {
    pub name: MemberName,
    pub metadata: Bytes,
}

/// A new generation, as a member is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Joined {
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: String,
    pub leader: String,
    pub skip_assignment: bool,
    pub member: String,
    /// For the leader alone: everybody.
    pub members: Vec<JoinedMember>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Synced {
    pub protocol_type: String,
    pub protocol: String,
    pub assignment: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Left {
    pub name: MemberName,
    pub error: Option<ErrorCode>,
}

/// A member as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DescribedMember {
    pub name: MemberName,
    pub client_id: String,
    pub client_host: String,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

/// A group as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Described {
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`.
    pub state: String,
    pub protocol_type: String,
    pub protocol: String,
    pub members: Vec<DescribedMember>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Listed {
    pub group: String,
    pub protocol_type: String,
    pub state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GroupReply {
    Refused {
        code: ErrorCode,
    },
    /// A new member's id, with which it is to join.
    MemberId {
        member: String,
    },
    Joined {
        joined: Box<Joined>,
    },
    Synced {
        synced: Box<Synced>,
    },
    Done {},
    Left {
        members: Vec<Left>,
    },
    Offsets {
        offsets: Vec<CommittedOffset>,
    },
    /// The answer for each, in the order of the request.
    Forgotten {
        errors: Vec<Option<ErrorCode>>,
    },
    Described {
        described: Box<Described>,
    },
    Listed {
        groups: Vec<Listed>,
    },
}

/// A member as the log has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LoggedMember {
    pub name: MemberName,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub protocols: Vec<NamedBytes>,
    pub assignment: Bytes,
}

/// A group as the log has it: of the newest generation that was assigned, or of the last that ended without members.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LoggedGroup {
    pub group: String,
    pub protocol_type: String,
    pub protocol: String,
    pub generation: i32,
    pub leader: String,
    pub members: Vec<LoggedMember>,
    /// When, in ms since 1970.
    pub at_ms: i64,
}

/// A record of a coordinator log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GroupRecord {
    Group {
        group: Box<LoggedGroup>,
    },
    Offsets {
        group: String,
        offsets: Vec<CommittedOffset>,
    },
    Forgotten {
        group: String,
        partitions: Vec<TopicPartition>,
    },
    Deleted {
        group: String,
    },
    /// What follows, up to its end, is all that there is: what stands before is not needed.
    SnapshotBegins {},
    SnapshotEnds {},
    /// Nothing: whoever had it written still leads the log.
    Barrier {},
}

layout!(struct GroupQuestion { account, cluster, log, fresh, request });
layout!(struct MemberName { member, instance });
layout!(struct NamedBytes { name, bytes });
layout!(struct JoinGroup {
    group, name, client_id, client_host, session_timeout_ms, rebalance_timeout_ms, protocol_type, protocols,
    needs_known_id, may_skip_assignment,
});
layout!(struct SyncGroup { group, name, generation, protocol_type, protocol, assignments });
layout!(struct CommittedOffset { partition, offset, leader_epoch, metadata, at_ms });
layout!(struct CommitOffsets { group, name, generation, offsets });
layout!(struct ForgottenOffset { topic, partition });
layout!(struct JoinedMember { name, metadata });
layout!(struct Joined { generation, protocol_type, protocol, leader, skip_assignment, member, members });
layout!(struct Synced { protocol_type, protocol, assignment });
layout!(struct Left { name, error });
layout!(struct DescribedMember { name, client_id, client_host, metadata, assignment });
layout!(struct Described { state, protocol_type, protocol, members });
layout!(struct Listed { group, protocol_type, state });
layout!(struct LoggedMember {
    name, client_id, client_host, session_timeout_ms, rebalance_timeout_ms, protocols, assignment,
});
layout!(struct LoggedGroup { group, protocol_type, protocol, generation, leader, members, at_ms });
layout!(enum GroupRequest {
    0 = Join { join },
    1 = Sync { sync },
    2 = Heartbeat { group, name, generation },
    3 = Leave { group, names },
    4 = Commit { commit },
    5 = Offsets { group },
    6 = Forget { group, offsets },
    7 = Describe { group },
    8 = List {},
    9 = Delete { group },
});
layout!(enum GroupReply {
    0 = Refused { code },
    1 = MemberId { member },
    2 = Joined { joined },
    3 = Synced { synced },
    4 = Done {},
    5 = Left { members },
    6 = Offsets { offsets },
    7 = Forgotten { errors },
    8 = Described { described },
    9 = Listed { groups },
});
layout!(enum GroupRecord {
    0 = Group { group },
    1 = Offsets { group, offsets },
    2 = Forgotten { group, partitions },
    3 = Deleted { group },
    4 = SnapshotBegins {},
    5 = SnapshotEnds {},
    6 = Barrier {},
});

/// Topics that a member of protocol type `consumer` subscribes to, by its metadata (`ConsumerProtocolSubscription`);
/// `None` if that cannot be read.
pub fn subscribed_topics(metadata: &Bytes) -> Option<Vec<String>> {
    let mut reader = Reader::new(metadata.clone());
    reader.i16("version").ok()?;
    let count = i64::from(reader.i32("topics").ok()?);
    let count = reader.check_count("topics", count, 2).ok()?;
    let mut topics = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        let length = reader.i16("topic").ok()?;
        let length = reader.check_count("topic", i64::from(length), 1).ok()?;
        topics.push(reader.text("topic", length).ok()?);
    }
    Some(topics)
}

/// Topics and partitions that a member of protocol type `consumer` was given (`ConsumerProtocolAssignment`); `None` if
/// that cannot be read. No bytes: nothing.
pub fn assigned_partitions(assignment: &Bytes) -> Option<Vec<(String, Vec<i32>)>> {
    if assignment.is_empty() {
        return Some(Vec::new());
    }
    let mut reader = Reader::new(assignment.clone());
    reader.i16("version").ok()?;
    let count = i64::from(reader.i32("topics").ok()?);
    let count = reader.check_count("topics", count, 6).ok()?;
    let mut topics = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        let length = reader.i16("topic").ok()?;
        let length = reader.check_count("topic", i64::from(length), 1).ok()?;
        let topic = reader.text("topic", length).ok()?;
        let count = i64::from(reader.i32("partitions").ok()?);
        let count = reader.check_count("partitions", count, 4).ok()?;
        let partitions = (0..count).map(|_| reader.i32("partition")).collect::<Result<_, _>>().ok()?;
        topics.push((topic, partitions));
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::TopicId;

    use super::*;
    use crate::layout::{decode, encode};

    #[test]
    fn questions_answers_and_records_are_read_back() {
        let name = MemberName { member: "m".into(), instance: Some("i".into()) };
        let bytes = NamedBytes { name: "range".into(), bytes: Bytes::from_static(b"\0\x01") };
        let join = JoinGroup {
            group: "g".into(),
            name: name.clone(),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".into(),
            protocols: vec![bytes.clone()],
            needs_known_id: true,
            may_skip_assignment: false,
        };
        let partition = TopicPartition { topic: TopicId(7), partition: 3 };
        let offset = CommittedOffset {
            partition,
            offset: 9,
            leader_epoch: -1,
            metadata: "here".into(),
            at_ms: 1_700_000_000_000,
        };
        let question = GroupQuestion {
            account: AccountId(1),
            cluster: ClusterId(2),
            log: partition,
            fresh: 5,
            request: GroupRequest::Join { join: Box::new(join) },
        };
        assert_eq!(decode::<GroupQuestion>(encode(&question)), Ok(question.clone()));
        assert_eq!(question.request.group(), "g");
        let reply = GroupReply::Offsets { offsets: vec![offset.clone()] };
        assert_eq!(decode::<GroupReply>(encode(&reply)), Ok(reply));
        let member = LoggedMember {
            name,
            client_id: "c".into(),
            client_host: "h".into(),
            session_timeout_ms: 1,
            rebalance_timeout_ms: 2,
            protocols: vec![bytes],
            assignment: Bytes::from_static(b"a"),
        };
        let group = LoggedGroup {
            group: "g".into(),
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            generation: 4,
            leader: "m".into(),
            members: vec![member],
            at_ms: 3,
        };
        for record in [
            GroupRecord::Group { group: Box::new(group) },
            GroupRecord::Offsets { group: "g".into(), offsets: vec![offset] },
            GroupRecord::SnapshotEnds {},
        ] {
            assert_eq!(decode::<GroupRecord>(encode(&record)), Ok(record));
        }
    }

    #[test]
    fn a_subscription_names_its_topics() {
        let metadata = Bytes::from_static(b"\0\x03\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff");
        assert_eq!(subscribed_topics(&metadata), Some(vec!["a".into(), "bc".into()]));
        assert_eq!(subscribed_topics(&Bytes::from_static(b"\0\x03\0\0\0\x09\0")), None);
        let assignment = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x07\xff\xff\xff\xff");
        assert_eq!(assigned_partitions(&assignment), Some(vec![("a".into(), vec![0, 7])]));
        assert_eq!(assigned_partitions(&Bytes::new()), Some(Vec::new()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let bytes = Bytes::from(bytes);
            let _ = decode::<GroupQuestion>(bytes.clone());
            let _ = decode::<GroupReply>(bytes.clone());
            let _ = decode::<GroupRecord>(bytes.clone());
            let _ = subscribed_topics(&bytes);
            let _ = assigned_partitions(&bytes);
        }
    }
}
