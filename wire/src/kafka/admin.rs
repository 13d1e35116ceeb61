//! CreateTopics (key 19) and DeleteTopics (key 20).

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
