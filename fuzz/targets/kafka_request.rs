//! Requests of every offered API and version.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use wire::kafka::*;

fuzz_target!(|data: &[u8]| {
    let Ok((header, body)) = RequestHeader::split(Bytes::copy_from_slice(data)) else { return };
    let Some(offered) = Offered::of(header.key) else { return };
    let version = header.version.rem_euclid(offered.max + 1).max(offered.accepted);
    match offered.key {
        ApiKey::Produce => drop(ProduceRequest::decode(body, version)),
        ApiKey::Fetch => drop(FetchRequest::decode(body, version)),
        ApiKey::ListOffsets => drop(ListOffsetsRequest::decode(body, version)),
        ApiKey::Metadata => drop(MetadataRequest::decode(body, version)),
        ApiKey::OffsetCommit => drop(OffsetCommitRequest::decode(body, version)),
        ApiKey::OffsetFetch => drop(OffsetFetchRequest::decode(body, version)),
        ApiKey::FindCoordinator => drop(FindCoordinatorRequest::decode(body, version)),
        ApiKey::JoinGroup => drop(JoinGroupRequest::decode(body, version)),
        ApiKey::Heartbeat => drop(HeartbeatRequest::decode(body, version)),
        ApiKey::LeaveGroup => drop(LeaveGroupRequest::decode(body, version)),
        ApiKey::SyncGroup => drop(SyncGroupRequest::decode(body, version)),
        ApiKey::DescribeGroups => drop(DescribeGroupsRequest::decode(body, version)),
        ApiKey::ListGroups => drop(ListGroupsRequest::decode(body, version)),
        ApiKey::ApiVersions => drop(ApiVersionsRequest::decode(body, version)),
        ApiKey::CreateTopics => drop(CreateTopicsRequest::decode(body, version)),
        ApiKey::DeleteTopics => drop(DeleteTopicsRequest::decode(body, version)),
        ApiKey::DeleteRecords => drop(DeleteRecordsRequest::decode(body, version)),
        ApiKey::InitProducerId => drop(InitProducerIdRequest::decode(body, version)),
        ApiKey::OffsetForLeaderEpoch => drop(OffsetForLeaderEpochRequest::decode(body, version)),
        ApiKey::DescribeAcls => drop(DescribeAclsRequest::decode(body, version)),
        ApiKey::CreateAcls => drop(CreateAclsRequest::decode(body, version)),
        ApiKey::DeleteAcls => drop(DeleteAclsRequest::decode(body, version)),
        ApiKey::DescribeConfigs => drop(DescribeConfigsRequest::decode(body, version)),
        ApiKey::AlterConfigs => drop(AlterConfigsRequest::decode(body, version)),
        ApiKey::DescribeLogDirs => drop(DescribeLogDirsRequest::decode(body, version)),
        ApiKey::CreatePartitions => drop(CreatePartitionsRequest::decode(body, version)),
        ApiKey::DeleteGroups => drop(DeleteGroupsRequest::decode(body, version)),
        ApiKey::IncrementalAlterConfigs => drop(IncrementalAlterConfigsRequest::decode(body, version)),
        ApiKey::ListPartitionReassignments => drop(ListPartitionReassignmentsRequest::decode(body, version)),
        ApiKey::OffsetDelete => drop(OffsetDeleteRequest::decode(body, version)),
        ApiKey::DescribeClientQuotas => drop(DescribeClientQuotasRequest::decode(body, version)),
        ApiKey::DescribeCluster => drop(DescribeClusterRequest::decode(body, version)),
        ApiKey::DescribeProducers => drop(DescribeProducersRequest::decode(body, version)),
        ApiKey::DescribeTopicPartitions => drop(DescribeTopicPartitionsRequest::decode(body, version)),
    }
});
