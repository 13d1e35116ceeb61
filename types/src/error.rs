//! The one list of what can go wrong, with what a caller may do about it.
//!
//! Gateways turn a code into an HTTP status and a Kafka error code in one table of their own
//! (`gateway/src/error.rs`); no other place chooses a status.

use serde::{Deserialize, Serialize};

/// May the caller try again?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    Yes,
    No,
}

/// Did the failed call change anything?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SideEffects {
    None,
    Unknown,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $retry:ident, $effects:ident;)*) => {
        /// What went wrong. The numbers travel in internal frames: never reuse one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[repr(u16)]
        pub enum ErrorCode { $($(#[$doc])* $variant = $number,)* }

        impl ErrorCode {
            /// Every code, for tables and tests.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable name that answers carry.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            pub fn retry(self) -> Retry {
                match self { $(Self::$variant => Retry::$retry,)* }
            }

            pub fn side_effects(self) -> SideEffects {
                match self { $(Self::$variant => SideEffects::$effects,)* }
            }

            /// The code of a number in a frame; an unknown one is `Internal`.
            pub fn from_number(number: u16) -> Self {
                match number { $($number => Self::$variant,)* _ => Self::Internal }
            }
        }
    };
}

error_codes! {
    /// A bug of ours; the message says which.
    Internal = 1, "internal", Yes, Unknown;
    /// The append may or may not be in the log.
    RequestTimedOut = 2, "request_timed_out", Yes, Unknown;
    /// The batch's checksum, length or layout is wrong.
    CorruptBatch = 3, "corrupt_batch", No, None;
    /// The batch is larger than `max.message.bytes`.
    BatchTooLarge = 4, "batch_too_large", No, None;
    /// The batch is well formed but not allowed (its magic, its attributes).
    InvalidRecord = 5, "invalid_record", No, None;
    UnknownTopic = 6, "unknown_topic", Yes, None;
    UnknownPartition = 7, "unknown_partition", Yes, None;
    TopicExists = 8, "topic_exists", No, None;
    InvalidTopicName = 9, "invalid_topic_name", No, None;
    InvalidPartitions = 10, "invalid_partitions", No, None;
    InvalidReplicationFactor = 11, "invalid_replication_factor", No, None;
    InvalidConfig = 12, "invalid_config", No, None;
    /// The request is not understood; the message says where.
    InvalidRequest = 13, "invalid_request", No, None;
    OffsetOutOfRange = 14, "offset_out_of_range", No, None;
    /// This node does not lead the segment (any more).
    NotLeader = 15, "not_leader", Yes, None;
    /// Another leadership has begun.
    Fenced = 16, "fenced", Yes, None;
    /// The partition has no leader yet, or is between two.
    LeaderNotAvailable = 17, "leader_not_available", Yes, None;
    /// Two AZs are not available for a new segment.
    AzUnavailable = 18, "az_unavailable", Yes, None;
    /// Both copies are unreachable or damaged; an operator must look.
    PartitionOffline = 19, "partition_offline", Yes, None;
    OutOfOrderSequence = 20, "out_of_order_sequence", No, None;
    /// A newer epoch of this producer id has written.
    ProducerFenced = 21, "producer_fenced", No, None;
    /// A queue is full; try later.
    Overloaded = 22, "overloaded", Yes, None;
    /// The storage node's disk has no room for appends.
    StorageFull = 23, "storage_full", Yes, None;
    UnsupportedVersion = 24, "unsupported_version", No, None;
    /// Not built yet; the message names what.
    Unsupported = 25, "unsupported", No, None;
    BodyTooLarge = 26, "body_too_large", No, None;
    NotFound = 27, "not_found", No, None;
    /// Placement or its store did not answer.
    PlacementUnavailable = 28, "placement_unavailable", Yes, None;
    /// An account or cluster does not own what the request names.
    TenantMismatch = 29, "tenant_mismatch", No, None;
    /// A stored record is damaged; it is quarantined and named in the node's log.
    Damaged = 30, "damaged", No, None;
    /// The service is draining.
    ShuttingDown = 31, "shutting_down", Yes, None;
    /// The content type or content encoding of a body is not understood.
    UnsupportedMediaType = 32, "unsupported_media_type", No, None;
    MethodNotAllowed = 33, "method_not_allowed", No, None;
    /// A request's body did not come in time; nothing of it was used.
    BodyTimedOut = 34, "body_timed_out", Yes, None;
    /// The node that leads the group's log is not the one that was asked, or is not known.
    NotCoordinator = 35, "not_coordinator", Yes, None;
    /// The coordinator reads its log.
    CoordinatorLoading = 36, "coordinator_loading", Yes, None;
    InvalidGroup = 37, "invalid_group", No, None;
    GroupNotFound = 38, "group_not_found", No, None;
    /// The group has members.
    GroupNotEmpty = 39, "group_not_empty", No, None;
    /// A member subscribes to the topic.
    GroupSubscribed = 40, "group_subscribed", No, None;
    /// The group has as many members as it may.
    GroupFull = 41, "group_full", No, None;
    UnknownMember = 42, "unknown_member", No, None;
    /// Another member has taken the instance's place (KIP-345).
    FencedInstance = 43, "fenced_instance", No, None;
    IllegalGeneration = 44, "illegal_generation", No, None;
    /// The member is to join again.
    RebalanceInProgress = 45, "rebalance_in_progress", Yes, None;
    /// No way of assigning is supported by all members, or the group has another protocol type.
    InconsistentProtocol = 46, "inconsistent_protocol", No, None;
    InvalidSessionTimeout = 47, "invalid_session_timeout", No, None;
    OffsetMetadataTooLarge = 48, "offset_metadata_too_large", No, None;
    /// A record's timestamp is further from now than the topic allows.
    InvalidTimestamp = 49, "invalid_timestamp", No, None;
    /// No policy allows it, or one denies it: on a topic.
    TopicDenied = 50, "topic_denied", No, None;
    GroupDenied = 51, "group_denied", No, None;
    /// On the cluster, an account or the installation.
    ClusterDenied = 52, "cluster_denied", No, None;
    /// The caller did not prove who it is.
    LoginRequired = 53, "login_required", No, None;
    /// What is to be made is there already, under this name.
    AlreadyExists = 54, "already_exists", No, None;
    /// A quota is used up for now; the message says which.
    QuotaExceeded = 55, "quota_exceeded", Yes, None;
    /// As many are there as a quota allows; the message says which.
    LimitReached = 56, "limit_reached", No, None;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_round_trip() {
        for (i, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(ErrorCode::from_number(*code as u16), *code);
            for other in &ErrorCode::ALL[i + 1..] {
                assert_ne!(code.name(), other.name());
            }
        }
        assert_eq!(ErrorCode::from_number(9999), ErrorCode::Internal);
    }
}
