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
    let read = T::decode(bytes.clone(), version).expect("own bytes");
    let mut writer = Writer::new();
    read.encode(&mut writer, version);
    assert_eq!(writer.freeze(), bytes, "{ours:?} v{version}");
    for cut in 0..bytes.len() {
        assert!(T::decode(bytes.slice(..cut), version).is_err(), "{ours:?} v{version} cut at {cut}");
    }
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
        let _ = InitProducerIdRequest::decode(bytes, version);
    }
}
