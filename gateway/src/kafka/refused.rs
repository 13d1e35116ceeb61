//! Answers to requests of which the header alone could be read: each API's own error, no topic named.
//!
//! Apache Kafka closes the connection instead. An answer says what was wrong, and the requests that follow on the
//! connection are served.

use bytes::Bytes;
use wire::codec::Reader;
use wire::kafka::{
    AclCreationResult, AlterConfigsResponse, AlteredResource, ApiKey, ApiVersionsResponse, Coordinator,
    CreateAclsResponse, CreatePartitionsResponse, CreatePartitionsResult, CreateTopicsResponse, CreatedTopic,
    DeleteAclsResponse, DeleteAclsResult, DeleteGroupsResponse, DeleteRecordsPartitionResult, DeleteRecordsResponse,
    DeleteRecordsTopicResult, DeleteTopicsResponse, DeletedGroup, DeletedTopic, DescribeAclsResponse,
    DescribeClientQuotasResponse, DescribeClusterResponse, DescribeConfigsResponse, DescribeConfigsResult,
    DescribeGroupsResponse, DescribeLogDirsResponse, DescribeProducersResponse, DescribeTopicPartitionsResponse,
    DescribedGroup, DescribedProducersPartition, DescribedProducersTopic, DescribedTopic, EpochPartitionResult,
    EpochTopicResult, FetchResponse, FindCoordinatorResponse, HeartbeatResponse, IncrementalAlterConfigsResponse,
    InitProducerIdResponse, JoinGroupResponse, KafkaError, LeaveGroupResponse, ListGroupsResponse,
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse, ListPartitionReassignmentsResponse,
    LogDirsResult, MetadataResponse, MetadataTopic, OffsetCommitPartitionResponse, OffsetCommitResponse,
    OffsetCommitTopicResponse, OffsetDeleteResponse, OffsetFetchGroupResponse, OffsetFetchPartitionResponse,
    OffsetFetchResponse, OffsetFetchTopicResponse, OffsetForLeaderEpochResponse, ProducePartitionResponse,
    ProduceResponse, ProduceTopicResponse, SaslAuthenticateResponse, SaslHandshakeResponse, SyncGroupResponse,
};

use super::{Pending, Reply, said};

/// The error in the version of the request, or in the nearest one that is known: a client that asks in a version
/// that was not offered has to guess anyway.
///
/// `None` where no answer can say it: a Fetch below version 7 has no place for an error without a topic, and would
/// look like an empty success; a Produce whose `acks` are 0, or cannot be read, may not expect an answer.
pub fn refuse(reply: Reply, body: Bytes, error: KafkaError, message: &str) -> Option<Pending> {
    let offered = reply.offered;
    match offered.key {
        ApiKey::Fetch if reply.version < 7 => return None,
        ApiKey::Produce if !wants_answer(body, reply.version) => return None,
        _ => {}
    }
    let reply = Reply { version: reply.version.clamp(offered.min, offered.max), ..reply };
    let error = error as i16;
    let error_message = Some(message.to_owned());
    Some(match offered.key {
        ApiKey::Produce => {
            let partition = ProducePartitionResponse { error, error_message, ..Default::default() };
            let topics = vec![ProduceTopicResponse { name: String::new(), partitions: vec![partition] }];
            said(reply, ProduceResponse { topics, throttle_ms: 0 })
        }
        ApiKey::Fetch => said(reply, FetchResponse { error, ..Default::default() }),
        ApiKey::ListOffsets => {
            let partitions = vec![ListOffsetsPartitionResponse { error, ..Default::default() }];
            let topics = vec![ListOffsetsTopicResponse { name: String::new(), partitions }];
            said(reply, ListOffsetsResponse { throttle_ms: 0, topics })
        }
        ApiKey::Metadata => {
            let topics = vec![MetadataTopic { error, name: "".into(), ..Default::default() }];
            said(reply, MetadataResponse { topics, ..Default::default() })
        }
        ApiKey::FindCoordinator => {
            let coordinators = vec![Coordinator { error, error_message: error_message.clone(), ..Default::default() }];
            said(reply, FindCoordinatorResponse { error, error_message, coordinators, ..Default::default() })
        }
        // KIP-511: version 0 with the error, so that the client may choose again.
        ApiKey::ApiVersions => said(Reply { version: 0, ..reply }, ApiVersionsResponse::offer(error)),
        ApiKey::CreateTopics => {
            let topics = vec![CreatedTopic { error, error_message, ..Default::default() }];
            said(reply, CreateTopicsResponse { topics, ..Default::default() })
        }
        ApiKey::DeleteTopics => {
            let responses = vec![DeletedTopic { error, error_message, ..Default::default() }];
            said(reply, DeleteTopicsResponse { responses, ..Default::default() })
        }
        ApiKey::InitProducerId => said(reply, InitProducerIdResponse { error, ..Default::default() }),
        ApiKey::OffsetCommit => {
            let partitions = vec![OffsetCommitPartitionResponse { error, ..Default::default() }];
            let topics = vec![OffsetCommitTopicResponse { name: String::new(), partitions }];
            said(reply, OffsetCommitResponse { throttle_ms: 0, topics })
        }
        ApiKey::OffsetFetch => {
            let groups = vec![OffsetFetchGroupResponse { error, ..Default::default() }];
            let partitions = vec![OffsetFetchPartitionResponse { error, ..Default::default() }];
            let topics = vec![OffsetFetchTopicResponse { name: String::new(), partitions }];
            said(reply, OffsetFetchResponse { throttle_ms: 0, error, topics, groups })
        }
        ApiKey::JoinGroup => {
            let protocol_name = Some(String::new());
            said(reply, JoinGroupResponse { error, protocol_name, ..Default::default() })
        }
        ApiKey::Heartbeat => said(reply, HeartbeatResponse { throttle_ms: 0, error }),
        ApiKey::LeaveGroup => said(reply, LeaveGroupResponse { error, ..Default::default() }),
        ApiKey::SyncGroup => said(reply, SyncGroupResponse { error, ..Default::default() }),
        ApiKey::DescribeGroups => {
            let groups = vec![DescribedGroup { error, ..Default::default() }];
            said(reply, DescribeGroupsResponse { throttle_ms: 0, groups })
        }
        ApiKey::ListGroups => said(reply, ListGroupsResponse { error, ..Default::default() }),
        ApiKey::DeleteGroups => {
            let results = vec![DeletedGroup { group_id: String::new(), error }];
            said(reply, DeleteGroupsResponse { throttle_ms: 0, results })
        }
        ApiKey::OffsetForLeaderEpoch => {
            let partitions = vec![EpochPartitionResult { error, ..Default::default() }];
            let topics = vec![EpochTopicResult { name: String::new(), partitions }];
            said(reply, OffsetForLeaderEpochResponse { throttle_ms: 0, topics })
        }
        ApiKey::SaslHandshake => said(reply, SaslHandshakeResponse { error, ..Default::default() }),
        ApiKey::SaslAuthenticate => {
            said(reply, SaslAuthenticateResponse { error, error_message, ..Default::default() })
        }
        ApiKey::DescribeAcls => said(reply, DescribeAclsResponse { error, error_message, ..Default::default() }),
        ApiKey::CreateAcls => {
            let results = vec![AclCreationResult { error, error_message }];
            said(reply, CreateAclsResponse { throttle_ms: 0, results })
        }
        ApiKey::DeleteAcls => {
            let results = vec![DeleteAclsResult { error, error_message, matches: Vec::new() }];
            said(reply, DeleteAclsResponse { throttle_ms: 0, results })
        }
        ApiKey::DescribeConfigs => {
            let results = vec![DescribeConfigsResult { error, error_message, ..Default::default() }];
            said(reply, DescribeConfigsResponse { throttle_ms: 0, results })
        }
        ApiKey::AlterConfigs => {
            let responses = vec![AlteredResource { error, error_message, ..Default::default() }];
            said(reply, AlterConfigsResponse { throttle_ms: 0, responses })
        }
        ApiKey::IncrementalAlterConfigs => {
            let responses = vec![AlteredResource { error, error_message, ..Default::default() }];
            said(reply, IncrementalAlterConfigsResponse { throttle_ms: 0, responses })
        }
        ApiKey::DescribeLogDirs => {
            let results = vec![LogDirsResult { error, ..Default::default() }];
            said(reply, DescribeLogDirsResponse { error, results, ..Default::default() })
        }
        ApiKey::CreatePartitions => {
            let results = vec![CreatePartitionsResult { name: String::new(), error, error_message }];
            said(reply, CreatePartitionsResponse { throttle_ms: 0, results })
        }
        ApiKey::ListPartitionReassignments => {
            said(reply, ListPartitionReassignmentsResponse { error, error_message, ..Default::default() })
        }
        ApiKey::DescribeClientQuotas => {
            said(reply, DescribeClientQuotasResponse { error, error_message, ..Default::default() })
        }
        ApiKey::DescribeCluster => said(reply, DescribeClusterResponse { error, error_message, ..Default::default() }),
        ApiKey::DescribeProducers => {
            let partitions = vec![DescribedProducersPartition { error, error_message, ..Default::default() }];
            let topics = vec![DescribedProducersTopic { partitions, ..Default::default() }];
            said(reply, DescribeProducersResponse { throttle_ms: 0, topics })
        }
        ApiKey::DescribeTopicPartitions => {
            let topics = vec![DescribedTopic { error, ..Default::default() }];
            said(reply, DescribeTopicPartitionsResponse { topics, ..Default::default() })
        }
        ApiKey::DeleteRecords => {
            let partitions = vec![DeleteRecordsPartitionResult { error, low_watermark: -1, ..Default::default() }];
            let topics = vec![DeleteRecordsTopicResult { partitions, ..Default::default() }];
            said(reply, DeleteRecordsResponse { throttle_ms: 0, topics })
        }
        ApiKey::OffsetDelete => said(reply, OffsetDeleteResponse { error, ..Default::default() }),
    })
}

/// Reads a Produce as far as its `acks`.
fn wants_answer(body: Bytes, version: i16) -> bool {
    let mut reader = Reader::new(body);
    let mut acks = || {
        if version >= 9 {
            let length = reader.unsigned_varint("transactional id")?.saturating_sub(1);
            reader.bytes("transactional id", length as usize)?;
        } else if version >= 3 {
            let length = reader.i16("transactional id")?.max(0);
            reader.bytes("transactional id", length as usize)?;
        }
        reader.i16("acks")
    };
    acks().is_ok_and(|acks| acks != 0)
}
