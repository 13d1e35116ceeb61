//! The records that placement holds and every service reads.
//!
//! A partition record is the only authority on who leads what; it changes by compare-and-swap alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::TOPIC_NAME_BYTES_MAX;
use crate::{
    AccountId, ClusterId, Epoch, Generation, Incarnation, NodeId, Nonce, Offset, SegmentId, TopicId, TopicPartition,
};

/// One storage node's copy of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Replica {
    pub node: NodeId,
    /// Which life of that node's disk holds the copy.
    pub incarnation: Incarnation,
}

/// A contiguous range of a partition with one epoch and one replica pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct SegmentRecord {
    pub generation: Generation,
    pub epoch: Epoch,
    pub nonce: Nonce,
    /// The first offset that the segment holds.
    pub base: Offset,
    /// The end (exclusive) once sealed; `None` while open.
    pub end: Option<Offset>,
    /// The leader first, then the follower.
    pub replicas: [Replica; 2],
    /// When it was opened and, once sealed, when it was sealed: placement's clock, in ms since 1970. `None`: nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_ms: Option<i64>,
}

impl SegmentRecord {
    pub fn id(&self, partition: TopicPartition) -> SegmentId {
        SegmentId { partition, generation: self.generation, epoch: self.epoch, nonce: self.nonce }
    }

    pub fn leader(&self) -> Replica {
        self.replicas[0]
    }

    pub fn follower(&self) -> Replica {
        self.replicas[1]
    }
}

/// A partition: its chain of segments, sealed ones first, at most one open one last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct PartitionRecord {
    pub account: AccountId,
    pub cluster: ClusterId,
    pub topic: TopicId,
    pub partition: i32,
    pub generation: Generation,
    /// The highest epoch ever published; 0 before the first segment.
    pub epoch: Epoch,
    /// Offsets below are gone by retention; never falls.
    pub log_start: Offset,
    pub chain: Vec<SegmentRecord>,
    /// Counts the record's changes: of two records of one partition the higher is the newer.
    #[serde(default)]
    pub version: u64,
    /// Offsets that no copy is left of, as an operator accepted; ordered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
}

/// Offsets from `from` to below `to` that are lost, and since when, in ms since 1970, that is accepted. Readers go on at
/// `to`; no record ever gets an offset in between again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Gap {
    pub from: Offset,
    pub to: Offset,
    pub accepted_ms: i64,
}

impl PartitionRecord {
    pub fn id(&self) -> TopicPartition {
        TopicPartition { topic: self.topic, partition: self.partition }
    }

    /// The open segment, when there is one.
    pub fn open(&self) -> Option<&SegmentRecord> {
        self.chain.last().filter(|segment| segment.end.is_none())
    }

    /// Where sealed offsets end: the base of the open segment, or of the next one.
    pub fn sealed_end(&self) -> Offset {
        let end = match self.chain.last() {
            Some(last) => last.end.unwrap_or(last.base),
            None => self.log_start,
        };
        end.max(self.gaps.last().map_or(0, |gap| gap.to))
    }

    /// The last segment, if what comes next goes on from it: not if a gap lies between.
    pub fn last_before_next(&self) -> Option<&SegmentRecord> {
        self.chain.last().filter(|last| last.end.unwrap_or(last.base) == self.sealed_end())
    }

    /// The segment that holds `offset`: the last one whose base is at or below it and whose end is above. Of an offset
    /// in a gap the one after the gap.
    pub fn segment_of(&self, offset: Offset) -> Option<&SegmentRecord> {
        let in_gap = self.gaps.iter().find(|gap| gap.from <= offset && offset < gap.to);
        match in_gap {
            Some(gap) => self.segment_of(gap.to),
            None => self.chain.iter().rev().find(|s| s.base <= offset && s.end.is_none_or(|end| offset < end)),
        }
    }
}

/// A topic of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct TopicRecord {
    pub account: AccountId,
    pub cluster: ClusterId,
    pub name: String,
    pub id: TopicId,
    pub partitions: i32,
    /// As asked for: stored and shown; every record has two copies all the same.
    pub replication_factor: i16,
    pub configs: BTreeMap<String, String>,
    /// Counts its changes: of two records of one topic the higher is the newer.
    #[serde(default)]
    pub version: u64,
}

/// A storage node as placement knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct NodeRecord {
    pub id: NodeId,
    pub name: String,
    pub az: String,
    /// `host:port` of its frame listener.
    pub address: String,
    pub incarnation: Incarnation,
    /// Counts the registrations of this node: one per process lifetime.
    pub registration: u64,
    /// An operator wants it emptied.
    #[serde(default)]
    pub is_draining: bool,
    /// The newest version of frames that it understands; 0: it did not say.
    #[serde(default)]
    pub frames: u8,
}

/// A gateway as placement knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct GatewayRecord {
    /// The broker id that Kafka clients see; belongs to the advertised address.
    pub id: i32,
    pub host: String,
    pub port: u16,
    pub az: Option<String>,
    /// Where its clients connect that speak TLS.
    #[serde(default)]
    pub tls: Option<Endpoint>,
    /// Its clients must log in: those of others are not sent to it, nor its own to others.
    #[serde(default)]
    pub is_login_required: bool,
}

/// A host's name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

/// Kafka's rule for topic names: 1 to 249 of `[a-zA-Z0-9._-]`, not `.` or `..`.
pub fn is_valid_topic_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= TOPIC_NAME_BYTES_MAX
        && name != "."
        && name != ".."
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(base: Offset, end: Option<Offset>) -> SegmentRecord {
        let replica = Replica { node: NodeId(1), incarnation: Incarnation(1) };
        SegmentRecord {
            generation: Generation(1),
            epoch: Epoch(1),
            nonce: Nonce(1),
            base,
            end,
            replicas: [replica, replica],
            changed_ms: None,
        }
    }

    #[test]
    fn offsets_resolve_to_their_segment() {
        let record = PartitionRecord {
            account: AccountId(0),
            cluster: ClusterId(0),
            topic: TopicId(1),
            partition: 0,
            generation: Generation(1),
            epoch: Epoch(3),
            log_start: 0,
            gaps: Vec::new(),
            chain: vec![segment(0, Some(5)), segment(5, Some(5)), segment(5, None)],
            version: 3,
        };
        assert_eq!(record.segment_of(4).map(|s| s.base), Some(0));
        assert_eq!(record.segment_of(5).map(|s| s.end), Some(None));
        assert_eq!(record.sealed_end(), 5);
    }

    #[test]
    fn topic_names_follow_kafka() {
        assert!(is_valid_topic_name("a.b_c-1"));
        assert!(!is_valid_topic_name(""));
        assert!(!is_valid_topic_name(".."));
        assert!(!is_valid_topic_name("ä"));
        assert!(!is_valid_topic_name(&"x".repeat(250)));
    }
}
