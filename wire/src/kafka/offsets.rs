//! OffsetCommit (key 8), OffsetFetch (9) and OffsetDelete (47).

use super::message;

message! {
    struct OffsetCommitRequest flexible 8 {
        group_id: String [0..],
        generation_id: i32 [1..] = -1,
        member_id: String [1..],
        group_instance_id: Option<String> [7..],
        retention_ms: i64 [2..=4] = -1,
        topics: Vec<OffsetCommitTopic> [0..],
    }

    struct OffsetCommitTopic {
        name: String [0..],
        partitions: Vec<OffsetCommitPartition> [0..],
    }

    struct OffsetCommitPartition {
        index: i32 [0..],
        offset: i64 [0..],
        leader_epoch: i32 [6..] = -1,
        metadata: Option<String> [0..],
    }

    struct OffsetCommitResponse flexible 8 {
        throttle_ms: i32 [3..],
        topics: Vec<OffsetCommitTopicResponse> [0..],
    }

    struct OffsetCommitTopicResponse {
        name: String [0..],
        partitions: Vec<OffsetCommitPartitionResponse> [0..],
    }

    struct OffsetCommitPartitionResponse {
        index: i32 [0..],
        error: i16 [0..],
    }

    struct OffsetFetchRequest flexible 6 {
        group_id: String [0..=7],
        /// All topics when null.
        topics: Option<Vec<OffsetFetchTopic>> [0..=7],
        groups: Vec<OffsetFetchGroup> [8..],
        require_stable: bool [7..],
    }

    struct OffsetFetchGroup {
        group_id: String [8..],
        member_id: Option<String> [9..],
        member_epoch: i32 [9..] = -1,
        topics: Option<Vec<OffsetFetchTopic>> [8..],
    }

    struct OffsetFetchTopic {
        name: String [0..],
        partitions: Vec<i32> [0..],
    }

    struct OffsetFetchResponse flexible 6 {
        throttle_ms: i32 [3..],
        topics: Vec<OffsetFetchTopicResponse> [0..=7],
        error: i16 [2..=7],
        groups: Vec<OffsetFetchGroupResponse> [8..],
    }

    struct OffsetFetchGroupResponse {
        group_id: String [8..],
        topics: Vec<OffsetFetchTopicResponse> [8..],
        error: i16 [8..],
    }

    struct OffsetFetchTopicResponse {
        name: String [0..],
        partitions: Vec<OffsetFetchPartitionResponse> [0..],
    }

    struct OffsetFetchPartitionResponse {
        index: i32 [0..],
        /// -1: nothing was committed.
        offset: i64 [0..] = -1,
        leader_epoch: i32 [5..] = -1,
        metadata: Option<String> [0..],
        error: i16 [0..],
    }

    struct OffsetDeleteRequest flexible 32767 {
        group_id: String [0..],
        topics: Vec<OffsetDeleteTopic> [0..],
    }

    struct OffsetDeleteTopic {
        name: String [0..],
        partitions: Vec<OffsetDeletePartition> [0..],
    }

    struct OffsetDeletePartition {
        index: i32 [0..],
    }

    struct OffsetDeleteResponse flexible 32767 {
        error: i16 [0..],
        throttle_ms: i32 [0..],
        topics: Vec<OffsetDeleteTopicResponse> [0..],
    }

    struct OffsetDeleteTopicResponse {
        name: String [0..],
        partitions: Vec<OffsetDeletePartitionResponse> [0..],
    }

    struct OffsetDeletePartitionResponse {
        index: i32 [0..],
        error: i16 [0..],
    }
}
