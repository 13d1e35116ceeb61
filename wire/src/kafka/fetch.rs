//! Fetch (key 1) and ListOffsets (key 2).

use bytes::Bytes;

use super::message;

/// ListOffsets timestamps with a meaning of their own.
pub const LATEST_TIMESTAMP: i64 = -1;
pub const EARLIEST_TIMESTAMP: i64 = -2;
/// ListOffsets: the record with the newest timestamp (KIP-734).
pub const MAX_TIMESTAMP: i64 = -3;
/// ListOffsets: the earliest offset on local disks (KIP-405).
pub const EARLIEST_LOCAL_TIMESTAMP: i64 = -4;
/// ListOffsets: the newest offset in tiered storage (KIP-1005).
pub const LATEST_TIERED_TIMESTAMP: i64 = -5;

message! {
    struct FetchRequest flexible 12 {
        replica_id: i32 [0..] = -1,
        max_wait_ms: i32 [0..],
        min_bytes: i32 [0..],
        max_bytes: i32 [3..] = i32::MAX,
        isolation_level: i8 [4..],
        session_id: i32 [7..],
        session_epoch: i32 [7..] = -1,
        topics: Vec<FetchTopic> [0..],
        forgotten_topics: Vec<ForgottenTopic> [7..],
        rack_id: String [11..],
    }

    struct FetchTopic {
        name: String [0..],
        partitions: Vec<FetchPartition> [0..],
    }

    struct FetchPartition {
        index: i32 [0..],
        current_leader_epoch: i32 [9..] = -1,
        fetch_offset: i64 [0..],
        last_fetched_epoch: i32 [12..] = -1,
        log_start_offset: i64 [5..] = -1,
        max_bytes: i32 [0..],
    }

    struct ForgottenTopic {
        name: String [7..],
        partitions: Vec<i32> [7..],
    }

    struct FetchResponse flexible 12 {
        throttle_ms: i32 [1..],
        error: i16 [7..],
        session_id: i32 [7..],
        topics: Vec<FetchTopicResponse> [0..],
    }

    struct FetchTopicResponse {
        name: String [0..],
        partitions: Vec<FetchPartitionResponse> [0..],
    }

    struct FetchPartitionResponse {
        index: i32 [0..],
        error: i16 [0..],
        high_watermark: i64 [0..] = -1,
        last_stable_offset: i64 [4..] = -1,
        log_start_offset: i64 [5..] = -1,
        aborted_transactions: Option<Vec<AbortedTransaction>> [4..],
        preferred_read_replica: i32 [11..] = -1,
        records: Option<Bytes> [0..],
    }

    struct AbortedTransaction {
        producer_id: i64 [4..],
        first_offset: i64 [4..],
    }

    struct ListOffsetsRequest flexible 6 {
        replica_id: i32 [0..] = -1,
        isolation_level: i8 [2..],
        topics: Vec<ListOffsetsTopic> [0..],
    }

    struct ListOffsetsTopic {
        name: String [0..],
        partitions: Vec<ListOffsetsPartition> [0..],
    }

    struct ListOffsetsPartition {
        index: i32 [0..],
        current_leader_epoch: i32 [4..] = -1,
        timestamp: i64 [0..],
    }

    struct ListOffsetsResponse flexible 6 {
        throttle_ms: i32 [2..],
        topics: Vec<ListOffsetsTopicResponse> [0..],
    }

    struct ListOffsetsTopicResponse {
        name: String [0..],
        partitions: Vec<ListOffsetsPartitionResponse> [0..],
    }

    struct ListOffsetsPartitionResponse {
        index: i32 [0..],
        error: i16 [0..],
        timestamp: i64 [1..] = -1,
        offset: i64 [1..] = -1,
        leader_epoch: i32 [4..] = -1,
    }
}
