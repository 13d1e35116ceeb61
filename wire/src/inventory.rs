//! What a storage node says of all that it holds, so that placement's records can be made anew from the nodes.

use types::{AccountId, ClusterId, Epoch, Generation, Offset, Replica, SegmentId, TopicPartition};

use crate::layout::layout;

/// Asks a node for what it holds, a page at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InventoryRequest {
    /// From now on this node takes no openings, fences or appends of a generation below this one: what it answers is
    /// what it will always have. `None`: it only looks.
    pub fence: Option<Generation>,
    /// Partitions after this one.
    pub after: Option<TopicPartition>,
}

/// A page of what a node holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Inventory {
    pub me: Replica,
    pub name: String,
    pub az: String,
    /// The cluster of the metadata that its data belongs to.
    pub cluster: ClusterId,
    /// The generation that it was fenced for last.
    pub generation: Generation,
    /// How long ago a placement took its heartbeat, in ms; `u64::MAX` if none ever did.
    pub placement_heard_ms: u64,
    pub partitions: Vec<HeldPartition>,
    /// On the first page: records of all topics that the node was told of, as JSON, and where logs begin (`service::api`'s
    /// `LogStarts`). Neither is in a segment.
    pub topics: Vec<String>,
    /// Partitions follow this page.
    pub has_more: bool,
}

/// A partition on one disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeldPartition {
    pub partition: TopicPartition,
    /// Appends of a leadership below this fail.
    pub generation: Generation,
    pub epoch: Epoch,
    pub segments: Vec<HeldSegment>,
}

/// A segment on one disk: what its opening says, and how far the disk has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HeldSegment {
    pub account: AccountId,
    pub cluster: ClusterId,
    pub segment: SegmentId,
    pub base: Offset,
    /// Clients' appends begin here; below it is what was carried from the segment before.
    pub first_free: Offset,
    /// Leader and follower, as the segment was opened; nobody, twice, in a copy that repair made.
    pub leader: Replica,
    pub follower: Replica,
    /// Where what is fsynced ends.
    pub end: Offset,
    /// The end that placement recorded, if it was heard of here.
    pub sealed: Option<Offset>,
    pub is_damaged: bool,
    /// As of the copy: the version of the record that it was made for; 0 of an original.
    pub copied_for: u64,
}

layout!(struct InventoryRequest { fence, after });
layout!(struct Inventory { me, name, az, cluster, generation, placement_heard_ms, partitions, topics, has_more });
layout!(struct HeldPartition { partition, generation, epoch, segments });
layout!(struct HeldSegment {
    account, cluster, segment, base, first_free, leader, follower, end, sealed, is_damaged, copied_for,
});
