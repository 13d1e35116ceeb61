//! What tools ask of a cluster: DescribeCluster (key 60), DescribeLogDirs (35), OffsetForLeaderEpoch (23),
//! DescribeTopicPartitions (75), ListPartitionReassignments (46), DescribeClientQuotas (48), and ACLs (29 to 31).

use types::TopicId;

use super::{Field, Version, message};
use crate::codec::{DecodeError, Reader, Writer};

message! {
    struct DescribeClusterRequest flexible 0 {
        include_authorized_operations: bool [0..],
        endpoint_type: i8 [1..] = 1,
        include_fenced_brokers: bool [2..],
    }

    struct DescribeClusterResponse flexible 0 {
        throttle_ms: i32 [0..],
        error: i16 [0..],
        error_message: Option<String> [0..],
        endpoint_type: i8 [1..] = 1,
        cluster_id: String [0..],
        controller_id: i32 [0..] = -1,
        brokers: Vec<DescribedBroker> [0..],
        authorized_operations: i32 [0..] = i32::MIN,
    }

    struct DescribedBroker {
        id: i32 [0..],
        host: String [0..],
        port: i32 [0..],
        rack: Option<String> [0..],
        is_fenced: bool [2..],
    }

    struct DescribeLogDirsRequest flexible 2 {
        /// All topics when null.
        topics: Option<Vec<LogDirsTopic>> [0..],
    }

    struct LogDirsTopic {
        name: String [0..],
        partitions: Vec<i32> [0..],
    }

    struct DescribeLogDirsResponse flexible 2 {
        throttle_ms: i32 [0..],
        error: i16 [3..],
        results: Vec<LogDirsResult> [0..],
    }

    struct LogDirsResult {
        error: i16 [0..],
        log_dir: String [0..],
        topics: Vec<LogDirsTopicResult> [0..],
        total_bytes: i64 [4..] = -1,
        usable_bytes: i64 [4..] = -1,
    }

    struct LogDirsTopicResult {
        name: String [0..],
        partitions: Vec<LogDirsPartition> [0..],
    }

    struct LogDirsPartition {
        index: i32 [0..],
        bytes: i64 [0..],
        offset_lag: i64 [0..],
        is_future: bool [0..],
    }

    struct OffsetForLeaderEpochRequest flexible 4 {
        replica_id: i32 [3..] = -2,
        topics: Vec<EpochTopic> [0..],
    }

    struct EpochTopic {
        name: String [0..],
        partitions: Vec<EpochPartition> [0..],
    }

    struct EpochPartition {
        index: i32 [0..],
        current_leader_epoch: i32 [2..] = -1,
        leader_epoch: i32 [0..],
    }

    struct OffsetForLeaderEpochResponse flexible 4 {
        throttle_ms: i32 [2..],
        topics: Vec<EpochTopicResult> [0..],
    }

    struct EpochTopicResult {
        name: String [0..],
        partitions: Vec<EpochPartitionResult> [0..],
    }

    struct EpochPartitionResult {
        error: i16 [0..],
        index: i32 [0..],
        leader_epoch: i32 [1..] = -1,
        end_offset: i64 [0..] = -1,
    }

    struct DescribeTopicPartitionsRequest flexible 0 {
        topics: Vec<DescribedTopicName> [0..],
        partitions_max: i32 [0..] = 2000,
        cursor: Option<TopicCursor> [0..],
    }

    struct DescribedTopicName {
        name: String [0..],
    }

    /// Where a page begins, or the next one does.
    struct TopicCursor {
        topic: String [0..],
        partition: i32 [0..],
    }

    struct DescribeTopicPartitionsResponse flexible 0 {
        throttle_ms: i32 [0..],
        topics: Vec<DescribedTopic> [0..],
        next: Option<TopicCursor> [0..],
    }

    struct DescribedTopic {
        error: i16 [0..],
        name: Option<String> [0..],
        topic_id: TopicId [0..],
        is_internal: bool [0..],
        partitions: Vec<DescribedPartition> [0..],
        authorized_operations: i32 [0..] = i32::MIN,
    }

    struct DescribedPartition {
        error: i16 [0..],
        index: i32 [0..],
        leader: i32 [0..],
        leader_epoch: i32 [0..] = -1,
        replicas: Vec<i32> [0..],
        isr: Vec<i32> [0..],
        eligible_leaders: Option<Vec<i32>> [0..],
        last_known_eligible_leaders: Option<Vec<i32>> [0..],
        offline_replicas: Vec<i32> [0..],
    }

    struct ListPartitionReassignmentsRequest flexible 0 {
        timeout_ms: i32 [0..] = 60_000,
        topics: Option<Vec<LogDirsTopic>> [0..],
    }

    struct ListPartitionReassignmentsResponse flexible 0 {
        throttle_ms: i32 [0..],
        error: i16 [0..],
        error_message: Option<String> [0..],
        topics: Vec<Never> [0..],
    }

    struct DescribeClientQuotasRequest flexible 1 {
        components: Vec<QuotaComponent> [0..],
        strict: bool [0..],
    }

    struct QuotaComponent {
        entity_type: String [0..],
        match_type: i8 [0..],
        matches: Option<String> [0..],
    }

    struct DescribeClientQuotasResponse flexible 1 {
        throttle_ms: i32 [0..],
        error: i16 [0..],
        error_message: Option<String> [0..],
        entries: Option<Vec<Never>> [0..],
    }

    struct DescribeAclsRequest flexible 2 {
        filter: AclFilter [0..],
    }

    struct DescribeAclsResponse flexible 2 {
        throttle_ms: i32 [0..],
        error: i16 [0..],
        error_message: Option<String> [0..],
        resources: Vec<Never> [0..],
    }

    struct CreateAclsRequest flexible 2 {
        creations: Vec<AclCreation> [0..],
    }

    struct AclCreation {
        resource_type: i8 [0..],
        resource_name: String [0..],
        pattern_type: i8 [1..] = 3,
        principal: String [0..],
        host: String [0..],
        operation: i8 [0..],
        permission: i8 [0..],
    }

    struct CreateAclsResponse flexible 2 {
        throttle_ms: i32 [0..],
        results: Vec<AclCreationResult> [0..],
    }

    struct AclCreationResult {
        error: i16 [0..],
        error_message: Option<String> [0..],
    }

    struct DeleteAclsRequest flexible 2 {
        filters: Vec<DeletedAclFilter> [0..],
    }

    struct DeletedAclFilter {
        filter: AclFilter [0..],
    }

    struct DeleteAclsResponse flexible 2 {
        throttle_ms: i32 [0..],
        results: Vec<DeleteAclsResult> [0..],
    }

    struct DeleteAclsResult {
        error: i16 [0..],
        error_message: Option<String> [0..],
        matches: Vec<Never> [0..],
    }
}

/// The fields of a filter of ACLs: no structure of its own on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AclFilter {
    pub resource_type: i8,
    pub resource_name: Option<String>,
    /// From version 1 on.
    pub pattern_type: i8,
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: i8,
    pub permission: i8,
}

impl Field for AclFilter {
    fn read(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
        Ok(Self {
            resource_type: Field::read(reader, version)?,
            resource_name: Field::read(reader, version)?,
            pattern_type: if version.number >= 1 { Field::read(reader, version)? } else { 3 },
            principal: Field::read(reader, version)?,
            host: Field::read(reader, version)?,
            operation: Field::read(reader, version)?,
            permission: Field::read(reader, version)?,
        })
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        self.resource_type.write(writer, version);
        self.resource_name.write(writer, version);
        if version.number >= 1 {
            self.pattern_type.write(writer, version);
        }
        self.principal.write(writer, version);
        self.host.write(writer, version);
        self.operation.write(writer, version);
        self.permission.write(writer, version);
    }
}

/// What a list that is always empty holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Never {}

impl Field for Never {
    fn read(_: &mut Reader, _: Version) -> Result<Self, DecodeError> {
        Err(DecodeError::Value { what: "entry", value: 0 })
    }

    fn write(&self, _: &mut Writer, _: Version) {
        match *self {}
    }
}

/// A structure that may be null: a byte before it says so (KIP-893).
impl Field for Option<TopicCursor> {
    fn read(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
        Ok(if reader.i8("null or not")? < 0 { None } else { Some(TopicCursor::read(reader, version)?) })
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        match self {
            None => (-1_i8).write(writer, version),
            Some(cursor) => {
                1_i8.write(writer, version);
                cursor.write(writer, version);
            }
        }
    }
}
