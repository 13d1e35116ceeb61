//! Produce (key 0) and InitProducerId (key 22).

use bytes::Bytes;

use super::message;

message! {
    struct ProduceRequest flexible 9 {
        transactional_id: Option<String> [3..],
        acks: i16 [0..],
        timeout_ms: i32 [0..],
        topics: Vec<ProduceTopic> [0..],
    }

    struct ProduceTopic {
        name: String [0..],
        partitions: Vec<ProducePartition> [0..],
    }

    struct ProducePartition {
        index: i32 [0..],
        records: Option<Bytes> [0..],
    }

    struct ProduceResponse flexible 9 {
        topics: Vec<ProduceTopicResponse> [0..],
        throttle_ms: i32 [1..],
    }

    struct ProduceTopicResponse {
        name: String [0..],
        partitions: Vec<ProducePartitionResponse> [0..],
    }

    struct ProducePartitionResponse {
        index: i32 [0..],
        error: i16 [0..],
        base_offset: i64 [0..] = -1,
        log_append_time_ms: i64 [2..] = -1,
        log_start_offset: i64 [5..] = -1,
        record_errors: Vec<RecordError> [8..],
        error_message: Option<String> [8..],
    }

    struct RecordError {
        index: i32 [8..],
        message: Option<String> [8..],
    }

    struct InitProducerIdRequest flexible 2 {
        transactional_id: Option<String> [0..],
        transaction_timeout_ms: i32 [0..],
        producer_id: i64 [3..] = -1,
        producer_epoch: i16 [3..] = -1,
    }

    struct InitProducerIdResponse flexible 2 {
        throttle_ms: i32 [0..],
        error: i16 [0..],
        producer_id: i64 [0..] = -1,
        producer_epoch: i16 [0..],
    }
}
