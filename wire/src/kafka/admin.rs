//! CreateTopics (key 19), DeleteTopics (20), DeleteRecords (21) and DescribeProducers (61).

use types::TopicId;

use super::message;

message! {
    struct CreateTopicsRequest flexible 5 {
        topics: Vec<CreatableTopic> [0..],
        timeout_ms: i32 [0..],
        validate_only: bool [1..],
    }

    struct CreatableTopic {
        name: String [0..],
        /// -1: the default.
        num_partitions: i32 [0..] = -1,
        replication_factor: i16 [0..] = -1,
        assignments: Vec<CreatableAssignment> [0..],
        configs: Vec<CreatableConfig> [0..],
    }

    struct CreatableAssignment {
        partition_index: i32 [0..],
        broker_ids: Vec<i32> [0..],
    }

    struct CreatableConfig {
        name: String [0..],
        value: Option<String> [0..],
    }

    struct CreateTopicsResponse flexible 5 {
        throttle_ms: i32 [2..],
        topics: Vec<CreatedTopic> [0..],
    }

    struct CreatedTopic {
        name: String [0..],
        topic_id: TopicId [7..],
        error: i16 [0..],
        error_message: Option<String> [1..],
        num_partitions: i32 [5..] = -1,
        replication_factor: i16 [5..] = -1,
        configs: Option<Vec<CreatedConfig>> [5..],
    }

    struct CreatedConfig {
        name: String [5..],
        value: Option<String> [5..],
        read_only: bool [5..],
        source: i8 [5..],
        is_sensitive: bool [5..],
    }

    struct DeleteTopicsRequest flexible 4 {
        topics: Vec<DeleteTopicState> [6..],
        names: Vec<String> [0..=5],
        timeout_ms: i32 [0..],
    }

    struct DeleteTopicState {
        name: Option<String> [6..],
        topic_id: TopicId [6..],
    }

    struct DeleteTopicsResponse flexible 4 {
        throttle_ms: i32 [1..],
        responses: Vec<DeletedTopic> [0..],
    }

    struct DeletedTopic {
        name: DeletedName [0..],
        topic_id: TopicId [6..],
        error: i16 [0..],
        error_message: Option<String> [5..],
    }

    struct DeleteRecordsRequest flexible 2 {
        topics: Vec<DeleteRecordsTopic> [0..],
        timeout_ms: i32 [0..],
    }

    struct DeleteRecordsTopic {
        name: String [0..],
        partitions: Vec<DeleteRecordsPartition> [0..],
    }

    struct DeleteRecordsPartition {
        index: i32 [0..],
        /// -1: the high watermark.
        offset: i64 [0..],
    }

    struct DeleteRecordsResponse flexible 2 {
        throttle_ms: i32 [0..],
        topics: Vec<DeleteRecordsTopicResult> [0..],
    }

    struct DeleteRecordsTopicResult {
        name: String [0..],
        partitions: Vec<DeleteRecordsPartitionResult> [0..],
    }

    struct DeleteRecordsPartitionResult {
        index: i32 [0..],
        low_watermark: i64 [0..],
        error: i16 [0..],
    }

    struct DescribeProducersRequest flexible 0 {
        topics: Vec<DescribeProducersTopic> [0..],
    }

    struct DescribeProducersTopic {
        name: String [0..],
        partitions: Vec<i32> [0..],
    }

    struct DescribeProducersResponse flexible 0 {
        throttle_ms: i32 [0..],
        topics: Vec<DescribedProducersTopic> [0..],
    }

    struct DescribedProducersTopic {
        name: String [0..],
        partitions: Vec<DescribedProducersPartition> [0..],
    }

    struct DescribedProducersPartition {
        index: i32 [0..],
        error: i16 [0..],
        error_message: Option<String> [0..],
        producers: Vec<ActiveProducer> [0..],
    }

    struct ActiveProducer {
        id: i64 [0..],
        epoch: i32 [0..],
        last_sequence: i32 [0..] = -1,
        last_timestamp: i64 [0..] = -1,
        coordinator_epoch: i32 [0..] = -1,
        /// -1: no transaction is open.
        transaction_start: i64 [0..] = -1,
    }
}

/// A deleted topic's name: may be null from version 6 on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeletedName(pub Option<String>);

impl super::Field for DeletedName {
    fn read(reader: &mut crate::codec::Reader, version: super::Version) -> Result<Self, crate::codec::DecodeError> {
        Option::<String>::read(reader, version).map(Self)
    }

    fn write(&self, writer: &mut crate::codec::Writer, version: super::Version) {
        if version.number < 6 {
            self.0.clone().unwrap_or_default().write(writer, version);
        } else {
            self.0.write(writer, version);
        }
    }
}
