//! Metadata (key 3) and FindCoordinator (key 10).

use types::TopicId;

use super::message;

message! {
    struct MetadataRequest flexible 9 {
        /// All topics when null (or, in version 0, empty).
        topics: Option<Vec<MetadataRequestTopic>> [0..],
        allow_auto_topic_creation: bool [4..] = true,
        include_cluster_authorized_operations: bool [8..=10],
        include_topic_authorized_operations: bool [8..],
    }

    struct MetadataRequestTopic {
        topic_id: TopicId [10..],
        name: NullableSince10 [0..],
    }

    struct MetadataResponse flexible 9 {
        throttle_ms: i32 [3..],
        brokers: Vec<MetadataBroker> [0..],
        cluster_id: Option<String> [2..],
        controller_id: i32 [1..] = -1,
        topics: Vec<MetadataTopic> [0..],
        cluster_authorized_operations: i32 [8..=10] = i32::MIN,
    }

    struct MetadataBroker {
        node_id: i32 [0..],
        host: String [0..],
        port: i32 [0..],
        rack: Option<String> [1..],
    }

    struct MetadataTopic {
        error: i16 [0..],
        name: NullableSince12 [0..],
        topic_id: TopicId [10..],
        is_internal: bool [1..],
        partitions: Vec<MetadataPartition> [0..],
        topic_authorized_operations: i32 [8..] = i32::MIN,
    }

    struct MetadataPartition {
        error: i16 [0..],
        partition: i32 [0..],
        leader: i32 [0..],
        leader_epoch: i32 [7..] = -1,
        replicas: Vec<i32> [0..],
        isr: Vec<i32> [0..],
        offline_replicas: Vec<i32> [5..],
    }

    struct FindCoordinatorRequest flexible 3 {
        key: String [0..=3],
        key_type: i8 [1..],
        keys: Vec<String> [4..],
    }

    struct FindCoordinatorResponse flexible 3 {
        throttle_ms: i32 [1..],
        error: i16 [0..=3],
        error_message: Option<String> [1..=3],
        node_id: i32 [0..=3] = -1,
        host: String [0..=3],
        port: i32 [0..=3] = -1,
        coordinators: Vec<Coordinator> [4..],
    }

    struct Coordinator {
        key: String [4..],
        node_id: i32 [4..] = -1,
        host: String [4..],
        port: i32 [4..] = -1,
        error: i16 [4..],
        error_message: Option<String> [4..],
    }
}

macro_rules! nullable_since {
    ($name:ident, $since:literal) => {
        /// A name that may be null from a version on.
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct $name(pub Option<String>);

        impl super::Field for $name {
            fn read(
                reader: &mut crate::codec::Reader,
                version: super::Version,
            ) -> Result<Self, crate::codec::DecodeError> {
                let name = Option::<String>::read(reader, version)?;
                if name.is_none() && version.number < $since {
                    return Err(crate::codec::DecodeError::Length { what: "name", length: -1 });
                }
                Ok(Self(name))
            }

            fn write(&self, writer: &mut crate::codec::Writer, version: super::Version) {
                if version.number < $since {
                    self.0.clone().unwrap_or_default().write(writer, version);
                } else {
                    self.0.write(writer, version);
                }
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(Some(name.to_owned()))
            }
        }
    };
}

nullable_since!(NullableSince10, 10);
nullable_since!(NullableSince12, 12);
