//! Every message and version against the `kafka-protocol` crate, byte for byte, both ways; and hostile bytes.

use bytes::Bytes;
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable};
use proptest::prelude::*;

use super::*;

/// Our bytes are read by the other crate, and its bytes of the same value are ours.
fn agrees<T: Message + PartialEq + std::fmt::Debug, O: Encodable + Decodable>(ours: &T, version: i16) {
    let mut writer = Writer::new();
    ours.encode(&mut writer, version);
    let bytes = writer.freeze();
    let mut left = bytes.clone();
    let other = O::decode(&mut left, version).unwrap_or_else(|e| panic!("{ours:?} v{version}: {e}"));
    assert!(left.is_empty(), "{ours:?} v{version}: {} bytes left", left.len());
    let mut again = bytes::BytesMut::new();
    other.encode(&mut again, version).unwrap_or_else(|e| panic!("{ours:?} v{version}: {e}"));
    assert_eq!(again.freeze(), bytes, "{ours:?} v{version}");
    // Fields that this version lacks come back as their defaults: encoding again must give the same bytes.
    let read = T::decode_whole(bytes.clone(), version).expect("own bytes");
    let mut writer = Writer::new();
    read.encode(&mut writer, version);
    assert_eq!(writer.freeze(), bytes, "{ours:?} v{version}");
    for cut in 0..bytes.len() {
        assert!(T::decode(bytes.slice(..cut), version).is_err(), "{ours:?} v{version} cut at {cut}");
    }
}

fn encoded<T: Message>(message: &T, version: i16) -> Bytes {
    let mut writer = Writer::new();
    message.encode(&mut writer, version);
    writer.freeze()
}

fn range(key: ApiKey) -> std::ops::RangeInclusive<i16> {
    let offered = Offered::of(key as i16).expect("an offered API");
    offered.accepted..=offered.max
}

#[test]
fn produce_agrees() {
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 1500,
        topics: vec![ProduceTopic {
            name: "orders".into(),
            partitions: vec![
                ProducePartition { index: 3, records: Some(Bytes::from_static(b"not looked at")) },
                ProducePartition { index: 4, records: None },
            ],
        }],
    };
    let response = ProduceResponse {
        topics: vec![ProduceTopicResponse {
            name: "orders".into(),
            partitions: vec![ProducePartitionResponse {
                index: 3,
                error: 0,
                base_offset: 7,
                log_append_time_ms: 8,
                log_start_offset: 1,
                record_errors: vec![],
                error_message: Some("why".into()),
            }],
        }],
        throttle_ms: 5,
    };
    for version in range(ApiKey::Produce) {
        agrees::<_, theirs::ProduceRequest>(&request, version);
        agrees::<_, theirs::ProduceResponse>(&response, version);
    }
}

#[test]
fn fetch_agrees() {
    let request = FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 1000,
        isolation_level: 1,
        topics: vec![FetchTopic {
            name: "t".into(),
            partitions: vec![FetchPartition { index: 1, fetch_offset: 9, max_bytes: 100, ..FetchPartition::default() }],
        }],
        forgotten_topics: vec![ForgottenTopic { name: "u".into(), partitions: vec![1, 2] }],
        rack_id: "az-a".into(),
        ..FetchRequest::default()
    };
    let response = FetchResponse {
        throttle_ms: 1,
        error: 0,
        session_id: 0,
        topics: vec![FetchTopicResponse {
            name: "t".into(),
            partitions: vec![FetchPartitionResponse {
                index: 1,
                high_watermark: 10,
                last_stable_offset: 10,
                log_start_offset: 0,
                aborted_transactions: Some(vec![AbortedTransaction { producer_id: 1, first_offset: 2 }]),
                records: Some(Bytes::from(vec![7; 10_000])),
                ..FetchPartitionResponse::default()
            }],
        }],
    };
    for version in range(ApiKey::Fetch) {
        agrees::<_, theirs::FetchRequest>(&request, version);
        agrees::<_, theirs::FetchResponse>(&response, version);
    }
}

#[test]
fn list_offsets_agrees() {
    let request = ListOffsetsRequest {
        topics: vec![ListOffsetsTopic {
            name: "t".into(),
            partitions: vec![ListOffsetsPartition {
                index: 0,
                current_leader_epoch: -1,
                timestamp: EARLIEST_TIMESTAMP,
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    let response = ListOffsetsResponse {
        throttle_ms: 0,
        topics: vec![ListOffsetsTopicResponse {
            name: "t".into(),
            partitions: vec![ListOffsetsPartitionResponse {
                index: 0,
                offset: 5,
                leader_epoch: 2,
                ..Default::default()
            }],
        }],
    };
    for version in range(ApiKey::ListOffsets) {
        agrees::<_, theirs::ListOffsetsRequest>(&request, version);
        agrees::<_, theirs::ListOffsetsResponse>(&response, version);
    }
}

#[test]
fn metadata_agrees() {
    let topics = vec![MetadataRequestTopic { topic_id: TopicId(0), name: "t".into() }];
    let request = MetadataRequest { topics: Some(topics), ..MetadataRequest::default() };
    let response = MetadataResponse {
        brokers: vec![MetadataBroker { node_id: 1, host: "h".into(), port: 9092, rack: Some("az-a".into()) }],
        cluster_id: Some("c".into()),
        controller_id: 1,
        topics: vec![MetadataTopic {
            error: 0,
            name: "t".into(),
            topic_id: TopicId(5),
            partitions: vec![MetadataPartition {
                leader: 1,
                leader_epoch: 4,
                replicas: vec![1],
                isr: vec![1],
                ..MetadataPartition::default()
            }],
            ..MetadataTopic::default()
        }],
        ..MetadataResponse::default()
    };
    for version in range(ApiKey::Metadata) {
        let mut request = request.clone();
        request.allow_auto_topic_creation = true;
        agrees::<_, theirs::MetadataRequest>(&request, version);
        agrees::<_, theirs::MetadataResponse>(&response, version);
    }
}

#[test]
fn the_rest_agrees() {
    for version in range(ApiKey::ApiVersions) {
        let request = ApiVersionsRequest { client_software_name: "kcat".into(), client_software_version: "1".into() };
        agrees::<_, theirs::ApiVersionsRequest>(&request, version);
        agrees::<_, theirs::ApiVersionsResponse>(&ApiVersionsResponse::offer(0), version);
    }
    for version in range(ApiKey::InitProducerId) {
        agrees::<_, theirs::InitProducerIdRequest>(&InitProducerIdRequest::default(), version);
        let response = InitProducerIdResponse { producer_id: 4, ..InitProducerIdResponse::default() };
        agrees::<_, theirs::InitProducerIdResponse>(&response, version);
    }
    for version in range(ApiKey::FindCoordinator) {
        let mut request = FindCoordinatorRequest { key: "g".into(), key_type: 0, keys: vec!["g".into()] };
        if version >= 4 {
            request.key = String::new();
        }
        agrees::<_, theirs::FindCoordinatorRequest>(&request, version);
        let coordinator =
            Coordinator { key: "g".into(), error: 15, error_message: Some("no".into()), ..Default::default() };
        let response = FindCoordinatorResponse { error: 15, coordinators: vec![coordinator], ..Default::default() };
        agrees::<_, theirs::FindCoordinatorResponse>(&response, version);
    }
    for version in range(ApiKey::CreateTopics) {
        let topic = CreatableTopic {
            name: "t".into(),
            num_partitions: 2,
            replication_factor: 1,
            configs: vec![CreatableConfig { name: "retention.ms".into(), value: Some("1".into()) }],
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1, validate_only: true };
        agrees::<_, theirs::CreateTopicsRequest>(&request, version);
        let created = CreatedTopic { name: "t".into(), configs: Some(vec![]), ..CreatedTopic::default() };
        let response = CreateTopicsResponse { throttle_ms: 0, topics: vec![created] };
        agrees::<_, theirs::CreateTopicsResponse>(&response, version);
    }
    for version in range(ApiKey::DeleteTopics) {
        let state = DeleteTopicState { name: Some("t".into()), topic_id: TopicId(0) };
        let request = DeleteTopicsRequest { topics: vec![state], names: vec!["t".into()], timeout_ms: 5 };
        agrees::<_, theirs::DeleteTopicsRequest>(&request, version);
        let deleted = DeletedTopic { name: DeletedName(Some("t".into())), ..DeletedTopic::default() };
        let response = DeleteTopicsResponse { throttle_ms: 0, responses: vec![deleted] };
        agrees::<_, theirs::DeleteTopicsResponse>(&response, version);
    }
}

#[test]
fn groups_agree() {
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    for version in range(ApiKey::JoinGroup) {
        let request = JoinGroupRequest {
            group_id: "g".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            member_id: "m".into(),
            group_instance_id: Some("i".into()),
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupProtocol { name: "range".into(), metadata: bytes("topics") }],
            reason: Some("why".into()),
        };
        // The other crate refuses to drop what a version lacks.
        let request = JoinGroupRequest::decode(encoded(&request, version), version).expect("own bytes");
        agrees::<_, theirs::JoinGroupRequest>(&request, version);
        let member = JoinGroupMember { member_id: "m".into(), metadata: bytes("x"), ..Default::default() };
        let response = JoinGroupResponse {
            generation_id: 3,
            protocol_name: Some("range".into()),
            leader: "m".into(),
            member_id: "m".into(),
            members: vec![member],
            ..JoinGroupResponse::default()
        };
        agrees::<_, theirs::JoinGroupResponse>(&response, version);
    }
    for version in range(ApiKey::SyncGroup) {
        let assignment = SyncGroupAssignment { member_id: "m".into(), assignment: bytes("a") };
        let request = SyncGroupRequest {
            group_id: "g".into(),
            generation_id: 3,
            member_id: "m".into(),
            assignments: vec![assignment],
            ..SyncGroupRequest::default()
        };
        agrees::<_, theirs::SyncGroupRequest>(&request, version);
        let response = SyncGroupResponse { error: 27, assignment: bytes("a"), ..Default::default() };
        agrees::<_, theirs::SyncGroupResponse>(&response, version);
    }
    for version in range(ApiKey::Heartbeat) {
        let request = HeartbeatRequest { group_id: "g".into(), member_id: "m".into(), ..Default::default() };
        agrees::<_, theirs::HeartbeatRequest>(&request, version);
        agrees::<_, theirs::HeartbeatResponse>(&HeartbeatResponse { throttle_ms: 0, error: 27 }, version);
    }
    for version in range(ApiKey::LeaveGroup) {
        let member = LeavingMember { member_id: "m".into(), ..Default::default() };
        let mut request = LeaveGroupRequest { group_id: "g".into(), ..Default::default() };
        if version < 3 {
            request.member_id = "m".into()
        } else {
            request.members = vec![member]
        }
        agrees::<_, theirs::LeaveGroupRequest>(&request, version);
        let left = LeftMember { member_id: "m".into(), error: 25, ..Default::default() };
        let members = if version < 3 { vec![] } else { vec![left] };
        agrees::<_, theirs::LeaveGroupResponse>(&LeaveGroupResponse { members, ..Default::default() }, version);
    }
    for version in range(ApiKey::DescribeGroups) {
        let request = DescribeGroupsRequest { groups: vec!["g".into()], include_authorized_operations: false };
        agrees::<_, theirs::DescribeGroupsRequest>(&request, version);
        let member = DescribedGroupMember {
            member_id: "m".into(),
            client_host: "/127.0.0.1".into(),
            member_assignment: bytes("a"),
            ..Default::default()
        };
        let group = DescribedGroup { group_id: "g".into(), members: vec![member], ..Default::default() };
        let response = DescribeGroupsResponse { throttle_ms: 0, groups: vec![group] };
        agrees::<_, theirs::DescribeGroupsResponse>(&response, version);
    }
    for version in range(ApiKey::ListGroups) {
        let mut request = ListGroupsRequest::default();
        if version >= 5 {
            request.types_filter = vec!["classic".into()];
        }
        agrees::<_, theirs::ListGroupsRequest>(&request, version);
        let mut group = ListedGroup { group_id: "g".into(), protocol_type: "consumer".into(), ..Default::default() };
        if version >= 5 {
            (group.group_state, group.group_type) = ("Stable".into(), "classic".into());
        }
        let response = ListGroupsResponse { groups: vec![group], ..Default::default() };
        agrees::<_, theirs::ListGroupsResponse>(&response, version);
    }
    for version in range(ApiKey::DeleteGroups) {
        agrees::<_, theirs::DeleteGroupsRequest>(&DeleteGroupsRequest { groups: vec!["g".into()] }, version);
        let results = vec![DeletedGroup { group_id: "g".into(), error: 68 }];
        agrees::<_, theirs::DeleteGroupsResponse>(&DeleteGroupsResponse { throttle_ms: 0, results }, version);
    }
}

#[test]
fn group_offsets_agree() {
    for version in range(ApiKey::OffsetCommit) {
        let partition =
            OffsetCommitPartition { index: 1, offset: 9, metadata: Some("here".into()), ..Default::default() };
        let topics = vec![OffsetCommitTopic { name: "t".into(), partitions: vec![partition] }];
        let request = OffsetCommitRequest { group_id: "g".into(), topics, ..Default::default() };
        agrees::<_, theirs::OffsetCommitRequest>(&request, version);
        let partitions = vec![OffsetCommitPartitionResponse { index: 1, error: 22 }];
        let topics = vec![OffsetCommitTopicResponse { name: "t".into(), partitions }];
        agrees::<_, theirs::OffsetCommitResponse>(&OffsetCommitResponse { throttle_ms: 0, topics }, version);
    }
    for version in range(ApiKey::OffsetFetch) {
        let topics = Some(vec![OffsetFetchTopic { name: "t".into(), partitions: vec![1, 2] }]);
        let partition =
            OffsetFetchPartitionResponse { index: 1, offset: 9, metadata: Some("m".into()), ..Default::default() };
        let found = vec![OffsetFetchTopicResponse { name: "t".into(), partitions: vec![partition] }];
        let (mut request, mut response) = (OffsetFetchRequest::default(), OffsetFetchResponse::default());
        if version < 8 {
            (request.group_id, request.topics) = ("g".into(), topics);
            response.topics = found;
        } else {
            request.groups = vec![OffsetFetchGroup { group_id: "g".into(), topics, ..Default::default() }];
            let group = OffsetFetchGroupResponse { group_id: "g".into(), topics: found, error: 0 };
            response.groups = vec![group];
        }
        agrees::<_, theirs::OffsetFetchRequest>(&request, version);
        agrees::<_, theirs::OffsetFetchResponse>(&response, version);
    }
    let topics = vec![DescribeProducersTopic { name: "t".into(), partitions: vec![1, 2] }];
    agrees::<_, theirs::DescribeProducersRequest>(&DescribeProducersRequest { topics }, 0);
    let producers = vec![ActiveProducer { id: 7, epoch: 1, last_sequence: 9, last_timestamp: 5, ..Default::default() }];
    let partitions = vec![DescribedProducersPartition { index: 1, producers, ..Default::default() }];
    let topics = vec![DescribedProducersTopic { name: "t".into(), partitions }];
    agrees::<_, theirs::DescribeProducersResponse>(&DescribeProducersResponse { throttle_ms: 0, topics }, 0);
    for version in 0..=2 {
        let partitions = vec![DeleteRecordsPartition { index: 1, offset: 7 }];
        let topics = vec![DeleteRecordsTopic { name: "t".into(), partitions }];
        agrees::<_, theirs::DeleteRecordsRequest>(&DeleteRecordsRequest { topics, timeout_ms: 9 }, version);
        let partitions = vec![DeleteRecordsPartitionResult { index: 1, low_watermark: 7, error: 0 }];
        let topics = vec![DeleteRecordsTopicResult { name: "t".into(), partitions }];
        agrees::<_, theirs::DeleteRecordsResponse>(&DeleteRecordsResponse { throttle_ms: 0, topics }, version);
    }
    let partitions = vec![OffsetDeletePartition { index: 1 }];
    let topics = vec![OffsetDeleteTopic { name: "t".into(), partitions }];
    agrees::<_, theirs::OffsetDeleteRequest>(&OffsetDeleteRequest { group_id: "g".into(), topics }, 0);
    let partitions = vec![OffsetDeletePartitionResponse { index: 1, error: 86 }];
    let topics = vec![OffsetDeleteTopicResponse { name: "t".into(), partitions }];
    agrees::<_, theirs::OffsetDeleteResponse>(&OffsetDeleteResponse { topics, ..Default::default() }, 0);
}

#[test]
fn administration_agrees() {
    for version in range(ApiKey::DescribeConfigs) {
        let keys = Some(vec!["retention.ms".into()]);
        let resource = DescribeConfigsResource { resource_type: 2, resource_name: "t".into(), keys };
        let request =
            DescribeConfigsRequest { resources: vec![resource], include_synonyms: true, ..Default::default() };
        agrees::<_, theirs::DescribeConfigsRequest>(&request, version);
        let synonym = ConfigSynonym { name: "log.retention.ms".into(), value: Some("1".into()), source: 5 };
        let config = DescribedConfig {
            name: "retention.ms".into(),
            value: Some("1".into()),
            source: 5,
            synonyms: vec![synonym],
            ..Default::default()
        };
        let result = DescribeConfigsResult {
            resource_type: 2,
            resource_name: "t".into(),
            configs: vec![config],
            ..Default::default()
        };
        let response = DescribeConfigsResponse { throttle_ms: 0, results: vec![result] };
        agrees::<_, theirs::DescribeConfigsResponse>(&response, version);
    }
    let altered = || AlteredResource { error: 40, resource_type: 2, resource_name: "t".into(), ..Default::default() };
    for version in range(ApiKey::AlterConfigs) {
        let config = AlterableConfig { name: "retention.ms".into(), value: Some("1".into()) };
        let resource = AlterConfigsResource { resource_type: 2, resource_name: "t".into(), configs: vec![config] };
        let request = AlterConfigsRequest { resources: vec![resource], validate_only: true };
        agrees::<_, theirs::AlterConfigsRequest>(&request, version);
        let response = AlterConfigsResponse { throttle_ms: 0, responses: vec![altered()] };
        agrees::<_, theirs::AlterConfigsResponse>(&response, version);
    }
    for version in range(ApiKey::IncrementalAlterConfigs) {
        let config = IncrementalConfig { name: "cleanup.policy".into(), operation: 2, value: Some("compact".into()) };
        let resource = IncrementalResource { resource_type: 2, resource_name: "t".into(), configs: vec![config] };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        agrees::<_, theirs::IncrementalAlterConfigsRequest>(&request, version);
        let response = IncrementalAlterConfigsResponse { throttle_ms: 0, responses: vec![altered()] };
        agrees::<_, theirs::IncrementalAlterConfigsResponse>(&response, version);
    }
    for version in range(ApiKey::CreatePartitions) {
        let topic = CreatePartitionsTopic { name: "t".into(), count: 6, assignments: None };
        let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: 1, validate_only: false };
        agrees::<_, theirs::CreatePartitionsRequest>(&request, version);
        let result = CreatePartitionsResult { name: "t".into(), error: 37, error_message: Some("no".into()) };
        let response = CreatePartitionsResponse { throttle_ms: 0, results: vec![result] };
        agrees::<_, theirs::CreatePartitionsResponse>(&response, version);
    }
}

#[test]
fn questions_about_the_cluster_agree() {
    for version in range(ApiKey::DescribeCluster) {
        agrees::<_, theirs::DescribeClusterRequest>(&DescribeClusterRequest::default(), version);
        let broker =
            DescribedBroker { id: 1, host: "h".into(), port: 9092, rack: Some("az-a".into()), is_fenced: false };
        let response = DescribeClusterResponse { cluster_id: "c".into(), brokers: vec![broker], ..Default::default() };
        agrees::<_, theirs::DescribeClusterResponse>(&response, version);
    }
    let topic = || LogDirsTopic { name: "t".into(), partitions: vec![1] };
    for version in range(ApiKey::DescribeLogDirs) {
        agrees::<_, theirs::DescribeLogDirsRequest>(&DescribeLogDirsRequest { topics: Some(vec![topic()]) }, version);
        let partition = LogDirsPartition { index: 1, bytes: 9, ..Default::default() };
        let topics = vec![LogDirsTopicResult { name: "t".into(), partitions: vec![partition] }];
        let result = LogDirsResult { log_dir: "weir".into(), topics, ..Default::default() };
        let response = DescribeLogDirsResponse { results: vec![result], ..Default::default() };
        agrees::<_, theirs::DescribeLogDirsResponse>(&response, version);
    }
    for version in range(ApiKey::OffsetForLeaderEpoch) {
        let partition = EpochPartition { index: 1, current_leader_epoch: -1, leader_epoch: 3 };
        let topics = vec![EpochTopic { name: "t".into(), partitions: vec![partition] }];
        let request = OffsetForLeaderEpochRequest { topics, ..Default::default() };
        agrees::<_, theirs::OffsetForLeaderEpochRequest>(&request, version);
        let partition = EpochPartitionResult { error: 0, index: 1, leader_epoch: 3, end_offset: 9 };
        let topics = vec![EpochTopicResult { name: "t".into(), partitions: vec![partition] }];
        let response = OffsetForLeaderEpochResponse { throttle_ms: 0, topics };
        agrees::<_, theirs::OffsetForLeaderEpochResponse>(&response, version);
    }
    for cursor in [None, Some(TopicCursor { topic: "t".into(), partition: 3 })] {
        let topics = vec![DescribedTopicName { name: "t".into() }];
        let request = DescribeTopicPartitionsRequest { topics, partitions_max: 10, cursor: cursor.clone() };
        agrees::<_, theirs::DescribeTopicPartitionsRequest>(&request, 0);
        let partition = DescribedPartition { index: 1, replicas: vec![1], isr: vec![1], ..Default::default() };
        let topic = DescribedTopic {
            name: Some("t".into()),
            topic_id: TopicId(5),
            partitions: vec![partition],
            ..Default::default()
        };
        let response = DescribeTopicPartitionsResponse { throttle_ms: 0, topics: vec![topic], next: cursor };
        agrees::<_, theirs::DescribeTopicPartitionsResponse>(&response, 0);
    }
    let request = ListPartitionReassignmentsRequest { topics: Some(vec![topic()]), ..Default::default() };
    agrees::<_, theirs::ListPartitionReassignmentsRequest>(&request, 0);
    agrees::<_, theirs::ListPartitionReassignmentsResponse>(&ListPartitionReassignmentsResponse::default(), 0);
    for version in range(ApiKey::DescribeClientQuotas) {
        let component = QuotaComponent { entity_type: "user".into(), match_type: 2, matches: None };
        let request = DescribeClientQuotasRequest { components: vec![component], strict: false };
        agrees::<_, theirs::DescribeClientQuotasRequest>(&request, version);
        let response = DescribeClientQuotasResponse { entries: Some(vec![]), ..Default::default() };
        agrees::<_, theirs::DescribeClientQuotasResponse>(&response, version);
    }
    for version in range(ApiKey::DescribeAcls) {
        let filter = AclFilter { resource_type: 1, pattern_type: 1, operation: 1, permission: 1, ..Default::default() };
        agrees::<_, theirs::DescribeAclsRequest>(&DescribeAclsRequest { filter: filter.clone() }, version);
        let error_message = Some("no".to_owned());
        let response = DescribeAclsResponse { error: 54, error_message: error_message.clone(), ..Default::default() };
        agrees::<_, theirs::DescribeAclsResponse>(&response, version);
        let creation = AclCreation { resource_type: 2, resource_name: "t".into(), ..Default::default() };
        agrees::<_, theirs::CreateAclsRequest>(&CreateAclsRequest { creations: vec![creation] }, version);
        let results = vec![AclCreationResult { error: 54, error_message: error_message.clone() }];
        agrees::<_, theirs::CreateAclsResponse>(&CreateAclsResponse { throttle_ms: 0, results }, version);
        let filters = vec![DeletedAclFilter { filter }];
        agrees::<_, theirs::DeleteAclsRequest>(&DeleteAclsRequest { filters }, version);
        let results = vec![DeleteAclsResult { error: 54, error_message, matches: vec![] }];
        agrees::<_, theirs::DeleteAclsResponse>(&DeleteAclsResponse { throttle_ms: 0, results }, version);
    }
}

#[test]
fn a_header_with_unknown_tags_is_read() {
    // Produce v9, correlation 7, client id "c", one tag 5 of 2 bytes, then the body.
    let frame = Bytes::from_static(&[0, 0, 0, 9, 0, 0, 0, 7, 0, 1, b'c', 1, 5, 2, 9, 9, 42]);
    let (header, body) = RequestHeader::split(frame).expect("a header");
    assert_eq!((header.key, header.version, header.correlation), (0, 9, 7));
    assert_eq!((header.client_id.as_deref(), &body[..]), (Some("c"), &[42][..]));
}

#[test]
fn eight_bytes_that_claim_billions_allocate_nothing() {
    let hostile = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    assert!(MetadataRequest::decode(hostile.clone(), 1).is_err());
    assert!(CreateTopicsRequest::decode(hostile.clone(), 2).is_err());
    assert!(FetchRequest::decode(hostile, 4).is_err());
}

proptest! {
    #[test]
    fn no_input_panics(version in 0_i16..13, bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let bytes = Bytes::from(bytes);
        let _ = RequestHeader::split(bytes.clone());
        let _ = ProduceRequest::decode(bytes.clone(), version);
        let _ = FetchRequest::decode(bytes.clone(), version);
        let _ = MetadataRequest::decode(bytes.clone(), version);
        let _ = ListOffsetsRequest::decode(bytes.clone(), version);
        let _ = CreateTopicsRequest::decode(bytes.clone(), version);
        let _ = DeleteTopicsRequest::decode(bytes.clone(), version);
        let _ = FindCoordinatorRequest::decode(bytes.clone(), version);
        let _ = InitProducerIdRequest::decode(bytes.clone(), version);
        let _ = JoinGroupRequest::decode(bytes.clone(), version);
        let _ = SyncGroupRequest::decode(bytes.clone(), version);
        let _ = LeaveGroupRequest::decode(bytes.clone(), version);
        let _ = OffsetCommitRequest::decode(bytes.clone(), version);
        let _ = OffsetFetchRequest::decode(bytes.clone(), version);
        let _ = OffsetDeleteRequest::decode(bytes.clone(), version);
        let _ = DeleteRecordsRequest::decode(bytes.clone(), version);
        let _ = DescribeGroupsRequest::decode(bytes.clone(), version);
        let _ = ListGroupsRequest::decode(bytes, version);
    }
}
