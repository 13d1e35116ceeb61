//! Which actions each Kafka call needs, as data: Kafka's own table of calls and ACLs (`docs/security/authorization-and-acls`,
//! "ACLs for protocols"), joined with MSK's table of actions and the ACLs that they equal.

use crate::vocabulary::*;

/// What a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Kafka's `api_key`.
    pub api_key: i16,
    pub name: &'static str,
    /// All of these, on each object of its kind that the request names. Empty: whoever is connected may.
    pub needs: &'static [KnownAction],
}

/// All calls that are authorized, by key. A call that is not here is not offered.
pub const KAFKA: &[Call] = &[
    call(0, "Produce", &[WRITE_DATA]),
    call(1, "Fetch", &[READ_DATA]),
    call(2, "ListOffsets", &[DESCRIBE_TOPIC]),
    // A topic that is to be made by it needs CreateTopic too.
    call(3, "Metadata", &[DESCRIBE_TOPIC]),
    call(8, "OffsetCommit", &[ALTER_GROUP, READ_DATA]),
    call(9, "OffsetFetch", &[DESCRIBE_GROUP, DESCRIBE_TOPIC]),
    call(10, "FindCoordinator", &[DESCRIBE_GROUP]),
    call(11, "JoinGroup", &[ALTER_GROUP]),
    call(12, "Heartbeat", &[ALTER_GROUP]),
    call(13, "LeaveGroup", &[ALTER_GROUP]),
    call(14, "SyncGroup", &[ALTER_GROUP]),
    call(15, "DescribeGroups", &[DESCRIBE_GROUP]),
    // Each group that is listed; with DescribeCluster all of them.
    call(16, "ListGroups", &[DESCRIBE_GROUP]),
    call(17, "SaslHandshake", &[]),
    call(18, "ApiVersions", &[]),
    call(19, "CreateTopics", &[CREATE_TOPIC]),
    call(20, "DeleteTopics", &[DELETE_TOPIC]),
    call(21, "DeleteRecords", &[DELETE_TOPIC]),
    call(22, "InitProducerId", &[WRITE_DATA_IDEMPOTENTLY]),
    call(23, "OffsetForLeaderEpoch", &[DESCRIBE_TOPIC]),
    call(29, "DescribeAcls", &[DESCRIBE_CLUSTER]),
    call(30, "CreateAcls", &[ALTER_CLUSTER]),
    call(31, "DeleteAcls", &[ALTER_CLUSTER]),
    // Of a topic, or of the cluster for what is a broker's.
    call(32, "DescribeConfigs", &[DESCRIBE_TOPIC_CONFIG, DESCRIBE_CLUSTER_CONFIG]),
    call(33, "AlterConfigs", &[ALTER_TOPIC_CONFIG, ALTER_CLUSTER_CONFIG]),
    call(35, "DescribeLogDirs", &[DESCRIBE_CLUSTER]),
    call(36, "SaslAuthenticate", &[CONNECT]),
    call(37, "CreatePartitions", &[ALTER_TOPIC]),
    call(42, "DeleteGroups", &[DELETE_GROUP]),
    call(44, "IncrementalAlterConfigs", &[ALTER_TOPIC_CONFIG, ALTER_CLUSTER_CONFIG]),
    call(46, "ListPartitionReassignments", &[DESCRIBE_CLUSTER]),
    call(47, "OffsetDelete", &[DELETE_GROUP, READ_DATA]),
    call(48, "DescribeClientQuotas", &[DESCRIBE_CLUSTER_CONFIG]),
    call(60, "DescribeCluster", &[DESCRIBE_CLUSTER]),
    call(61, "DescribeProducers", &[READ_DATA]),
    call(75, "DescribeTopicPartitions", &[DESCRIBE_TOPIC]),
];

const fn call(api_key: i16, name: &'static str, needs: &'static [KnownAction]) -> Call {
    Call { api_key, name, needs }
}

/// The call of this key.
pub fn kafka(api_key: i16) -> Option<&'static Call> {
    KAFKA.iter().find(|call| call.api_key == api_key)
}
