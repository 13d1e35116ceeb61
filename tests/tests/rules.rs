//! What brokers that are compatible with Kafka have got wrong, each rule by bare requests over a socket, on two gateways.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes};
use serde_json::json;
use tests::{Cluster, Scratch, Service, curl, curl_json, kafka_call, succeed, weir};
use types::TopicId;
use wire::codec::Writer;
use wire::compression::Codec;
use wire::kafka::*;
use wire::records::{BatchBuilder, NewRecord};

/// Asks, and reads the answer in the same version.
fn call<Q: Message, A: Message>(address: &str, key: ApiKey, version: i16, request: &Q) -> A {
    let offered = Offered::of(key as i16).expect("it is offered");
    let mut writer = Writer::new();
    writer.buffer.put_i16(key as i16);
    writer.buffer.put_i16(version);
    writer.buffer.put_i32(7);
    writer.buffer.put_i16(-1);
    if version >= offered.flexible {
        writer.buffer.put_u8(0);
    }
    request.encode(&mut writer, version);
    let answer = Bytes::from(kafka_call(address, &writer.freeze()).expect("an answer"));
    let header = if has_flexible_response_header(offered, version) { 5 } else { 4 };
    A::decode(answer.slice(header..), version).expect("a response")
}

/// A cluster of two gateways, and the Kafka address of each.
fn cluster(dir: &Path) -> (Cluster, Vec<String>) {
    let mut cluster = Cluster::start(dir);
    cluster.add_gateway(dir);
    let gateways = cluster.kafka.split(',').map(str::to_owned).collect();
    (cluster, gateways)
}

/// Makes a topic; every gateway knows it on return.
fn create(cluster: &Cluster, arguments: &[&str]) {
    let mut command = Command::new(weir());
    succeed(command.args(["topic", "create"]).args(arguments).args(["--server", &cluster.http]), b"");
    let topic = MetadataRequestTopic { name: arguments[0].into(), ..MetadataRequestTopic::default() };
    let topics = Some(vec![topic]);
    let request = MetadataRequest { topics, allow_auto_topic_creation: false, ..MetadataRequest::default() };
    let began = Instant::now();
    for gateway in cluster.kafka.split(',') {
        while call::<_, MetadataResponse>(gateway, ApiKey::Metadata, 12, &request).topics[0].error != 0 {
            assert!(began.elapsed() < Duration::from_secs(10), "`{gateway}` has not heard of {arguments:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Records of these keys and times.
fn batch(records: &[(Option<&str>, i64)], codec: Codec) -> Bytes {
    let mut builder = BatchBuilder::new();
    for (key, timestamp) in records {
        let key = key.map(str::as_bytes);
        builder.push(NewRecord { key, value: Some(b"v"), timestamp: *timestamp, headers: &[] });
    }
    builder.finish(codec).expect("a batch").to_bytes()
}

fn produce(gateway: &str, topic: &str, version: i16, records: Bytes) -> ProducePartitionResponse {
    let partitions = vec![ProducePartition { index: 0, records: Some(records) }];
    let topics = vec![ProduceTopic { name: topic.into(), partitions }];
    let request = ProduceRequest { acks: -1, timeout_ms: 10_000, topics, ..ProduceRequest::default() };
    let response: ProduceResponse = call(gateway, ApiKey::Produce, version, &request);
    response.topics[0].partitions[0].clone()
}

fn list_offset(gateway: &str, topic: &str, timestamp: i64) -> (i16, i64, i64) {
    let partition = ListOffsetsPartition { timestamp, ..ListOffsetsPartition::default() };
    let topics = vec![ListOffsetsTopic { name: topic.into(), partitions: vec![partition] }];
    let request = ListOffsetsRequest { topics, ..ListOffsetsRequest::default() };
    let response: ListOffsetsResponse = call(gateway, ApiKey::ListOffsets, 9, &request);
    let found = &response.topics[0].partitions[0];
    (found.error, found.offset, found.timestamp)
}

fn fetch(gateway: &str, topic: &str, offset: i64, min_bytes: i32, max_wait_ms: i32) -> FetchPartitionResponse {
    let partition = FetchPartition { fetch_offset: offset, max_bytes: 1 << 20, ..FetchPartition::default() };
    let topics = vec![FetchTopic { name: topic.into(), partitions: vec![partition] }];
    let request = FetchRequest { max_wait_ms, min_bytes, max_bytes: 1 << 20, topics, ..FetchRequest::default() };
    let response: FetchResponse = call(gateway, ApiKey::Fetch, 11, &request);
    response.topics[0].partitions[0].clone()
}

#[test]
fn old_versions_of_produce_are_refused_in_their_own_layout() {
    let scratch = Scratch::new("rules-versions");
    let (cluster, gateways) = cluster(scratch.path());
    create(&cluster, &["t"]);
    for version in 0..=2 {
        let answer = produce(&gateways[0], "t", version, batch(&[(None, 1)], Codec::None));
        assert_eq!(answer.error, KafkaError::UnsupportedVersion as i16);
    }
    for version in 3..=11 {
        assert_eq!(produce(&gateways[0], "t", version, batch(&[(None, 1)], Codec::None)).error, 0);
    }
}

#[test]
fn topic_ids_outlive_a_restart_and_topics_are_made_only_where_they_are_asked_for() {
    let scratch = Scratch::new("rules-ids");
    let (mut cluster, gateways) = cluster(scratch.path());
    create(&cluster, &["t"]);
    let ask = |topic_id: TopicId, name: Option<&str>, allow_auto_topic_creation: bool| {
        let topic = MetadataRequestTopic { topic_id, name: NullableSince10(name.map(str::to_owned)) };
        let request =
            MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation, ..MetadataRequest::default() };
        let response: MetadataResponse = call(&gateways[1], ApiKey::Metadata, 12, &request);
        response.topics[0].clone()
    };
    let id = ask(TopicId(0), Some("t"), false).topic_id;
    assert_ne!(id, TopicId(0));
    cluster.services.iter_mut().for_each(Service::kill);
    cluster.services.iter_mut().for_each(Service::start);
    let found = ask(id, None, false);
    assert_eq!((found.error, found.name.0.as_deref(), found.topic_id), (0, Some("t"), id));
    assert_eq!(ask(TopicId(0), Some("none"), false).error, KafkaError::UnknownTopicOrPartition as i16);
    assert_eq!(curl(&[&format!("{}/v1/topics/none", cluster.http)]).0, 404);
    let began = Instant::now();
    // As in Apache Kafka the first answer may be that it is being made.
    while ask(TopicId(0), Some("none"), true).error != 0 {
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn every_config_is_described_with_its_source_and_taken_back_unchanged() {
    let scratch = Scratch::new("rules-configs");
    let (cluster, gateways) = cluster(scratch.path());
    create(&cluster, &["t", "--config", "retention.ms=1000000"]);
    let describe = |resource_type: i8, resource_name: &str| {
        let resource = DescribeConfigsResource { resource_type, resource_name: resource_name.into(), keys: None };
        let request = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
        let response: DescribeConfigsResponse = call(&gateways[0], ApiKey::DescribeConfigs, 4, &request);
        assert_eq!(response.results[0].error, 0);
        response.results[0].configs.clone()
    };
    let of = |name: &str| describe(2, "t").into_iter().find(|config| config.name == name).and_then(|one| one.value);
    let configs = describe(2, "t");
    for name in ["cleanup.policy", "max.message.bytes", "min.insync.replicas", "retention.bytes", "segment.bytes"] {
        assert!(configs.iter().any(|config| config.name == name && config.source > 0), "{name}");
    }
    let brokers = describe(4, "1");
    for name in ["num.partitions", "default.replication.factor", "inter.broker.protocol.version"] {
        assert!(brokers.iter().any(|config| config.name == name && config.value.is_some()), "{name}");
    }
    let taken = configs.iter().map(|one| AlterableConfig { name: one.name.clone(), value: one.value.clone() });
    let resource = AlterConfigsResource { resource_type: 2, resource_name: "t".into(), configs: taken.collect() };
    let request = AlterConfigsRequest { resources: vec![resource], validate_only: false };
    let altered: AlterConfigsResponse = call(&gateways[0], ApiKey::AlterConfigs, 2, &request);
    assert_eq!((altered.responses[0].error, &altered.responses[0].error_message), (0, &None));
    assert_eq!(of("retention.ms").as_deref(), Some("1000000"));
    for (operation, value, expected) in [
        (2, Some("compact"), "delete,compact"),
        (3, Some("delete"), "compact"),
        (0, Some("delete"), "delete"),
        (2, Some("compact"), "delete,compact"),
        (1, None, "delete"),
    ] {
        let config = IncrementalConfig { name: "cleanup.policy".into(), operation, value: value.map(str::to_owned) };
        let resource = IncrementalResource { resource_type: 2, resource_name: "t".into(), configs: vec![config] };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let altered: IncrementalAlterConfigsResponse = call(&gateways[0], ApiKey::IncrementalAlterConfigs, 1, &request);
        assert_eq!(altered.responses[0].error, 0);
        assert_eq!(of("cleanup.policy").as_deref(), Some(expected), "operation {operation}");
    }
}

#[test]
fn replication_factors_from_one_to_three_are_taken_and_shown() {
    let scratch = Scratch::new("rules-factors");
    let (_cluster, gateways) = cluster(scratch.path());
    for (replication_factor, error) in
        [(1, 0), (2, 0), (3, 0), (-1, 0), (4, KafkaError::InvalidReplicationFactor as i16)]
    {
        let name = format!("t{replication_factor}");
        let topic = CreatableTopic { name, replication_factor, num_partitions: 1, ..CreatableTopic::default() };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, validate_only: false };
        let response: CreateTopicsResponse = call(&gateways[0], ApiKey::CreateTopics, 7, &request);
        let created = &response.topics[0];
        assert_eq!(created.error, error, "{replication_factor}");
        if error == 0 && replication_factor > 0 {
            assert_eq!(created.replication_factor, replication_factor);
        }
    }
}

#[test]
fn a_compacted_topic_takes_records_with_keys_alone() {
    let scratch = Scratch::new("rules-compacted");
    let (cluster, gateways) = cluster(scratch.path());
    for (topic, policy) in [("c", "cleanup.policy=compact"), ("cd", "cleanup.policy=compact,delete")] {
        create(&cluster, &[topic, "--config", policy]);
        for codec in [Codec::None, Codec::Gzip] {
            let answer = produce(&gateways[0], topic, 8, batch(&[(Some("a"), 1), (None, 1), (Some("b"), 1)], codec));
            assert_eq!(answer.error, KafkaError::InvalidRecord as i16);
            assert_eq!(answer.record_errors.iter().map(|error| error.index).collect::<Vec<_>>(), [1]);
        }
        assert_eq!(list_offset(&gateways[0], topic, LATEST_TIMESTAMP).1, 0, "nothing of it was stored");
        assert_eq!(produce(&gateways[0], topic, 8, batch(&[(Some("a"), 1)], Codec::Gzip)).error, 0);
        let url = format!("{}/v1/topics/{topic}/records", cluster.http);
        let body = json!({ "records": [{ "key": "k", "value": "v" }, { "value": "v" }] }).to_string();
        let (status, answer) = curl_json(&["-XPOST", &url, "-Hcontent-type: application/json", "-d", &body]);
        assert_eq!((status, &answer["results"][1]["error"]["code"]), (207, &json!("invalid_record")), "{answer}");
    }
    create(&cluster, &["plain"]);
    assert_eq!(produce(&gateways[0], "plain", 8, batch(&[(None, 1)], Codec::None)).error, 0);
}

#[test]
fn a_fetch_waits_as_long_as_it_was_told_and_gets_whole_batches() {
    let scratch = Scratch::new("rules-fetch");
    let (mut cluster, gateways) = cluster(scratch.path());
    create(&cluster, &["t"]);
    assert_eq!(produce(&gateways[0], "t", 8, batch(&[(None, 1); 10], Codec::None)).error, 0);
    let began = Instant::now();
    assert_eq!(fetch(&gateways[0], "t", 10, 1, 1_000).error, 0);
    let waited = began.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(2)).contains(&waited), "{waited:?}");
    let began = Instant::now();
    assert_eq!(fetch(&gateways[0], "t", 10, 0, 5_000).error, 0);
    assert!(began.elapsed() < Duration::from_secs(1), "nothing was asked for: {:?}", began.elapsed());
    let began = Instant::now();
    let found = fetch(&gateways[0], "t", 5, i32::MAX, 1_000);
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!((found.error, found.preferred_read_replica), (0, -1));
    let mut records = found.records.expect("records");
    assert_eq!(wire::Batch::split_from(&mut records).expect("a batch").base_offset, 0);
    // A session that nobody gave is not there: the client is to begin anew.
    let request = FetchRequest { session_id: 5, session_epoch: 2, max_bytes: 1, ..FetchRequest::default() };
    let response: FetchResponse = call(&gateways[0], ApiKey::Fetch, 11, &request);
    assert_eq!(response.error, KafkaError::FetchSessionIdNotFound as i16);
    // Java's consumer throws what it does not expect out of `poll`.
    cluster.services[1..4].iter_mut().for_each(Service::kill);
    let began = Instant::now();
    let answer = fetch(&gateways[0], "t", 0, 1, 500);
    assert_eq!(answer.error, KafkaError::NotLeaderOrFollower as i16);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn offsets_are_listed_by_every_special_time() {
    let scratch = Scratch::new("rules-offsets");
    let (cluster, gateways) = cluster(scratch.path());
    create(&cluster, &["t"]);
    let empty = list_offset(&gateways[0], "t", MAX_TIMESTAMP);
    assert_eq!(empty, (0, -1, -1), "no record is the newest");
    assert_eq!(produce(&gateways[0], "t", 8, batch(&[(None, 10), (None, 30), (None, 20)], Codec::None)).error, 0);
    assert_eq!(produce(&gateways[0], "t", 8, batch(&[(None, 30), (None, 5)], Codec::Gzip)).error, 0);
    for (timestamp, offset) in [
        (MAX_TIMESTAMP, 1),
        (EARLIEST_LOCAL_TIMESTAMP, 0),
        (LATEST_TIERED_TIMESTAMP, -1),
        (EARLIEST_TIMESTAMP, 0),
        (LATEST_TIMESTAMP, 5),
        (15, 1),
        (31, -1),
    ] {
        let found = list_offset(&gateways[1], "t", timestamp);
        assert_eq!((found.0, found.1), (0, offset), "{timestamp}");
    }
    assert_eq!(list_offset(&gateways[1], "t", MAX_TIMESTAMP).2, 30);
    assert_ne!(list_offset(&gateways[1], "t", -9).0, 0);
}

#[test]
fn what_a_group_committed_comes_back_as_it_was_and_a_group_is_listed_once() {
    let scratch = Scratch::new("rules-groups");
    let (cluster, gateways) = cluster(scratch.path());
    create(&cluster, &["t"]);
    let partition =
        OffsetCommitPartition { offset: 7, metadata: Some("mine".into()), ..OffsetCommitPartition::default() };
    let topics = vec![OffsetCommitTopic { name: "t".into(), partitions: vec![partition] }];
    let request = OffsetCommitRequest { group_id: "g".into(), topics, ..OffsetCommitRequest::default() };
    let began = Instant::now();
    let commit = || {
        let response: OffsetCommitResponse = call(&gateways[0], ApiKey::OffsetCommit, 8, &request);
        response.topics[0].partitions[0].error
    };
    // The first one makes the coordinator's log.
    while commit() != 0 {
        assert!(began.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(100));
    }
    let topics = Some(vec![OffsetFetchTopic { name: "t".into(), partitions: vec![0] }]);
    let request = OffsetFetchRequest { group_id: "g".into(), topics, ..OffsetFetchRequest::default() };
    let response: OffsetFetchResponse = call(&gateways[1], ApiKey::OffsetFetch, 7, &request);
    let found = &response.topics[0].partitions[0];
    assert_eq!((found.error, found.offset, found.metadata.as_deref()), (0, 7, Some("mine")));
    let listed = gateways.iter().flat_map(|gateway| {
        let response: ListGroupsResponse = call(gateway, ApiKey::ListGroups, 4, &ListGroupsRequest::default());
        assert_eq!(response.error, 0);
        response.groups
    });
    assert_eq!(listed.filter(|group| group.group_id == "g").count(), 1);
}

/// As Kafka's brokers take it, and librdkafka 2.16 sends it: with bytes left over behind the request.
#[test]
fn bytes_behind_a_request_are_ignored() {
    let scratch = Scratch::new("rules-behind");
    let (cluster, gateways) = cluster(scratch.path());
    create(&cluster, &["t"]);
    // Metadata 12 for all topics, from a client without a name.
    let request = [0, 3, 0, 12, 0, 0, 0, 7, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0];
    let answer = Bytes::from(kafka_call(&gateways[0], &request).expect("an answer"));
    let response = MetadataResponse::decode(answer.slice(5..), 12).expect("a response");
    let names: Vec<_> = response.topics.iter().filter_map(|topic| topic.name.0.as_deref()).collect();
    assert_eq!((names, response.brokers.len()), (vec!["t"], 2));
}

/// A member that died goes when its session is over, though the coordinator's nodes were killed and nobody asks.
#[test]
fn sessions_end_whoever_coordinates() {
    let scratch = Scratch::new("rules-sessions");
    let (mut cluster, gateways) = cluster(scratch.path());
    create(&cluster, &["t"]);
    let mut member = Command::new("kcat")
        .args(["-b", &gateways[0], "-G", "g", "t", "-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=500"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("kcat");
    let members = || {
        let (code, group) = curl_json(&[&format!("{}/v1/groups/g", cluster.http)]);
        (code == 200).then(|| group["members"].as_array().map_or(0, Vec::len))
    };
    let began = Instant::now();
    while members() != Some(1) {
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", members());
        std::thread::sleep(Duration::from_millis(200));
    }
    member.kill().expect("it runs");
    member.wait().expect("it ends");
    for node in [1, 2] {
        cluster.services[node].kill();
        cluster.services[node].start();
    }
    std::thread::sleep(Duration::from_secs(16));
    let began = Instant::now();
    loop {
        let (code, group) = curl_json(&[&format!("{}/v1/groups/g", cluster.http)]);
        if code == 200 {
            assert_eq!(group["members"], json!([]), "{group}");
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(3), "{group}");
    }
}

/// The coordinator's log begins at its last snapshot, whatever was committed before; and the commits outlive it.
#[test]
fn a_coordinators_log_does_not_grow_for_ever() {
    let scratch = Scratch::new("rules-log");
    let (mut cluster, gateways) = cluster(scratch.path());
    create(&cluster, &["t", "--partitions", "100"]);
    let commit = |offset: i64| {
        let partition = |index| OffsetCommitPartition { index, offset, ..OffsetCommitPartition::default() };
        let topics = vec![OffsetCommitTopic { name: "t".into(), partitions: (0..100).map(partition).collect() }];
        let request = OffsetCommitRequest { group_id: "g".into(), topics, ..OffsetCommitRequest::default() };
        let response: OffsetCommitResponse = call(&gateways[0], ApiKey::OffsetCommit, 8, &request);
        response.topics[0].partitions.iter().all(|partition| partition.error == 0)
    };
    let began = Instant::now();
    while !commit(0) {
        assert!(began.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(100));
    }
    // A snapshot for every fifty thousand offsets.
    assert!((1..=1_050).all(commit));
    let placement = format!("http://{}", cluster.services[0].option("--listen"));
    let backup = scratch.path().join("backup.json");
    let start = || {
        let mut command = Command::new(weir());
        succeed(command.args(["placement", "backup", "--placement", &placement]).arg(&backup), b"");
        let text = std::fs::read(&backup).expect("a backup");
        std::fs::remove_file(&backup).expect("it is there");
        let backup: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        let records: Vec<_> = backup["entries"].as_array().expect("entries").iter().map(|entry| &entry[1]).collect();
        let internal = records.iter().find(|value| value["name"] == "__weir_coordinator");
        let topic = &internal.expect("the coordinator's topic")["id"];
        let ours = records.iter().filter(|value| value["topic"] == *topic);
        ours.filter_map(|value| value["log_start"].as_i64()).max().expect("partitions")
    };
    let began = Instant::now();
    while start() < 1_000 {
        assert!(began.elapsed() < Duration::from_secs(10), "it begins at {}", start());
        std::thread::sleep(Duration::from_millis(200));
    }
    for node in [1, 2] {
        cluster.services[node].kill();
        cluster.services[node].start();
    }
    let topics = Some(vec![OffsetFetchTopic { name: "t".into(), partitions: (0..100).collect() }]);
    let request = OffsetFetchRequest { group_id: "g".into(), topics, ..OffsetFetchRequest::default() };
    let began = Instant::now();
    loop {
        let response: OffsetFetchResponse = call(&gateways[1], ApiKey::OffsetFetch, 7, &request);
        if response.error == 0 && response.topics[0].partitions.iter().all(|found| found.error == 0) {
            let found: Vec<i64> = response.topics[0].partitions.iter().map(|found| found.offset).collect();
            assert_eq!(found, [1_050; 100]);
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn producers_are_described_as_their_leader_remembers_them() {
    let scratch = Scratch::new("rules-producers");
    let (cluster, gateways) = cluster(scratch.path());
    create(&cluster, &["t"]);
    let describe = || {
        let topics = vec![DescribeProducersTopic { name: "t".into(), partitions: vec![0, 1] }];
        let request = DescribeProducersRequest { topics };
        let response: DescribeProducersResponse = call(&gateways[1], ApiKey::DescribeProducers, 0, &request);
        let partitions = &response.topics[0].partitions;
        assert_eq!((partitions[0].error, partitions[1].error), (0, KafkaError::UnknownTopicOrPartition as i16));
        partitions[0].producers.clone()
    };
    assert_eq!(describe(), []);
    let mut produce = Command::new("kcat");
    produce.args(["-b", &gateways[0], "-P", "-t", "t", "-p", "0", "-X", "enable.idempotence=true"]);
    succeed(&mut produce, b"1\n2\n3\n");
    let known = describe();
    assert_eq!((known.len(), known[0].epoch, known[0].last_sequence, known[0].transaction_start), (1, 0, 2, -1));
}

#[test]
fn records_of_another_time_are_refused_where_the_topic_says_so() {
    let scratch = Scratch::new("rules-times");
    let (cluster, gateways) = cluster(scratch.path());
    create(&cluster, &["t", "--config", "message.timestamp.before.max.ms=60000"]);
    create(&cluster, &["log", "--config", "message.timestamp.type=LogAppendTime"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let now = i64::try_from(now.as_millis()).expect("a time");
    let hours = 3_600_000;
    for (topic, timestamp, error) in [
        ("t", now, 0),
        ("t", now - 30_000, 0),
        ("t", now - 90_000, KafkaError::InvalidTimestamp as i16),
        // Kafka's default: an hour ahead.
        ("t", now + hours / 2, 0),
        ("t", now + 2 * hours, KafkaError::InvalidTimestamp as i16),
        ("log", now + 2 * hours, 0),
    ] {
        let answer = produce(&gateways[0], topic, 8, batch(&[(None, timestamp)], Codec::None));
        assert_eq!(answer.error, error, "{topic} {}", timestamp - now);
    }
    let url = format!("{}/v1/topics/t/records", cluster.http);
    let body = json!({ "records": [{ "value": "v", "timestamp": now - 90_000 }] }).to_string();
    let (status, problem) = curl_json(&["-XPOST", &url, "-Hcontent-type: application/json", "-d", &body]);
    assert_eq!((status, problem["code"].as_str()), (400, Some("invalid_timestamp")), "{problem}");
}

/// `retention.ms`, `retention.bytes`: whole segments go, and only they, while records are written.
#[test]
fn what_is_too_old_or_too_much_goes_and_nothing_else() {
    let scratch = Scratch::new("rules-retention");
    let (cluster, _) = cluster(scratch.path());
    let topics: &[(&str, &[&str])] = &[
        ("aged", &["retention.ms=20000"]),
        ("large", &["retention.ms=-1", "retention.bytes=2097152", "segment.bytes=1048576"]),
        ("kept", &["segment.ms=1"]),
        ("compacted", &["cleanup.policy=compact", "retention.ms=1000", "retention.bytes=1"]),
    ];
    for (name, configs) in topics {
        let configs = configs.iter().flat_map(|config| ["--config", config]);
        create(&cluster, &[&[*name, "--partitions", "1"][..], &configs.collect::<Vec<_>>()].concat());
    }
    let write = |topic: &str, value: &str| {
        let line = format!("{{\"key\":\"k\",\"value\":\"{value}\",\"partition\":0}}\n");
        let body = scratch.path().join("line");
        std::fs::write(&body, line).expect("a file");
        let url = format!("{}/v1/topics/{topic}/records", cluster.http);
        let data = format!("@{}", body.display());
        let (code, answer) = curl(&["-XPOST", &url, "-Hcontent-type: application/x-ndjson", "--data-binary", &data]);
        assert_eq!(code, 200, "{answer:?}");
    };
    let bounds = |topic: &str| {
        let partition = curl_json(&[&format!("{}/v1/topics/{topic}", cluster.http)]).1["partitions"][0].clone();
        let number = |name: &str| partition[name].as_i64().expect("a number");
        (number("log_start_offset"), number("end_offset"))
    };
    // Nothing that LZ4 makes smaller.
    let mut state = 1_u64;
    let mut noise = || -> String {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[(state >> 58) as usize])
        };
        (0..256 * 1024).map(|_| next()).collect()
    };
    ["kept", "compacted"].iter().for_each(|topic| write(topic, "first"));
    let began = Instant::now();
    let mut written = Vec::new();
    loop {
        written.push(Instant::now());
        write("aged", "a");
        write("large", &noise());
        std::thread::sleep(Duration::from_millis(200));
        if ["aged", "large"].iter().all(|topic| bounds(topic).0 > 0) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(90), "{:?} {:?}", bounds("aged"), bounds("large"));
    }
    let (aged_start, end) = bounds("aged");
    assert_eq!(end, written.len() as i64);
    let newest = written[aged_start as usize - 1].elapsed();
    assert!(newest >= Duration::from_secs(20), "what was written {newest:?} ago is not too old");
    let (start, end) = bounds("large");
    assert!((end - start) * 256 * 1024 >= 2 * 1024 * 1024, "as much stays as was asked for");
    assert_eq!((bounds("kept").0, bounds("compacted").0), (0, 0));
    let url = |offset: i64| format!("{}/v1/topics/aged/partitions/0/records?offset={offset}", cluster.http);
    assert_eq!((curl(&[&url(aged_start - 1)]).0, curl(&[&url(aged_start)]).0), (416, 200));
}
