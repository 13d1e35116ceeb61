//! The system as separate processes, from outside: kcat, curl and bare sockets.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use bytes::{BufMut, BytesMut};
use serde_json::json;
use tests::{Cluster, Scratch, Service, curl, curl_json, has_command, java, kafka_call, run, succeed, tool, weir};
use wire::codec::Writer;
use wire::compression::Codec;
use wire::kafka::{ApiKey, KafkaError, Message as _, ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic};
use wire::records::{BatchBuilder, NewRecord};

fn is_equipped() -> bool {
    tool("kcat", has_command("kcat")) && tool("curl", has_command("curl"))
}

fn kcat(cluster: &Cluster, arguments: &[&str]) -> Command {
    let mut command = Command::new("kcat");
    command.args(["-b", &cluster.kafka]).args(arguments);
    command
}

fn read_all(cluster: &Cluster, topic: &str) -> Vec<u8> {
    succeed(&mut kcat(cluster, &["-C", "-t", topic, "-p", "0", "-o", "beginning", "-e", "-q"]), b"")
}

fn topic_with(cluster: &Cluster, name: &str, partitions: u32) {
    let body = json!({"name": name, "partitions": partitions}).to_string();
    let (status, _) =
        curl(&["-XPOST", &format!("{}/v1/topics", cluster.http), "-Hcontent-type: application/json", "-d", &body]);
    assert_eq!(status, 201);
}

#[test]
fn what_kafka_wrote_http_reads_and_the_other_way_round() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("both-ways");
    let cluster = Cluster::start(scratch.path());
    let text: String = (0..200).map(|n| format!("k{n}:{}\n", format!("wert {n} ä ").repeat(40))).collect();
    for (number, codec) in ["none", "gzip", "snappy", "lz4", "zstd"].into_iter().enumerate() {
        let topic = format!("codec-{codec}");
        let produce = ["-P", "-t", &topic, "-K:", "-z", codec, "-H", "h=1", "-H", "h=2"];
        succeed(&mut kcat(&cluster, &produce), text.as_bytes());
        let format = ["-C", "-t", &topic, "-o", "beginning", "-e", "-q", "-f", "%o %k:%s %h\n"];
        let by_kafka = String::from_utf8(succeed(&mut kcat(&cluster, &format), b"")).expect("text");
        let url = format!("{}/v1/topics/{topic}/partitions/0/records?offset=earliest", cluster.http);
        let protocol = if number % 2 == 0 { "--http1.1" } else { "--http2-prior-knowledge" };
        let (status, page) = curl_json(&[protocol, &url]);
        assert_eq!((status, &page["next_offset"], &page["high_watermark"]), (200, &json!(200), &json!(200)));
        let records = page["records"].as_array().expect("records");
        let by_http: String = records
            .iter()
            .map(|r| {
                format!("{} {}:{} h=1,h=2\n", r["offset"], r["key"].as_str().unwrap(), r["value"].as_str().unwrap())
            })
            .collect();
        assert_eq!(by_kafka, by_http, "{codec}");
        assert!(records.iter().all(|r| r["headers"] == json!([["h", "1"], ["h", "2"]])));
        // Kafka says what it stored: the batches are as compressed as kcat made them.
        let first = kcat_codec(&cluster, &topic);
        assert_eq!(first, Codec::from_name(codec).expect("a codec") as i16, "{codec} passed through");
    }
    let url = format!("{}/v1/topics/http/records", cluster.http);
    let ndjson = concat!(
        r#"{"key":"a","value":"text ä","headers":[["n","1"],["n",null]],"timestamp":1700000000001}"#,
        "\n",
        r#"{"key_b64":"/w==","value_b64":"AP8=","partition":0,"timestamp":1700000000002}"#,
        "\n",
        r#"{"value":{"n": 1.50, "z":[ ]},"timestamp":1700000000003}"#,
        "\n",
        r#"{"key":"a","value":null,"timestamp":1700000000004}"#,
        "\n",
    );
    let (status, answer) = curl(&["-XPOST", &url, "-Hcontent-type: application/x-ndjson", "--data-binary", ndjson]);
    let answer = String::from_utf8(answer).expect("text");
    assert_eq!((status, answer.lines().count()), (200, 4), "{answer}");
    let format = ["-C", "-t", "http", "-o", "beginning", "-e", "-q", "-f", "%T %K %S %s|%h\n"];
    let by_kafka = succeed(&mut kcat(&cluster, &format), b"");
    let expected = b"1700000000001 1 7 text \xc3\xa4|n=1,n=NULL\n1700000000002 1 2 \x00\xff|\n\
        1700000000003 -1 20 {\"n\": 1.50, \"z\":[ ]}|\n1700000000004 1 -1 |\n";
    assert_eq!(String::from_utf8_lossy(&by_kafka), String::from_utf8_lossy(expected));
    // The same topic through the command line.
    let out = succeed(
        Command::new(weir()).args(["consume", "http", "-o", "-2", "-e", "-f", "%o %k %S\n", "--server", &cluster.http]),
        b"",
    );
    assert_eq!(String::from_utf8_lossy(&out), "2  20\n3 a -1\n");
}

/// The codec of the first stored batch, read by a bare Fetch.
fn kcat_codec(cluster: &Cluster, topic: &str) -> i16 {
    use wire::kafka::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
    let partition = FetchPartition { max_bytes: 1 << 20, ..FetchPartition::default() };
    let request = FetchRequest {
        max_wait_ms: 100,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic { name: topic.into(), partitions: vec![partition] }],
        ..FetchRequest::default()
    };
    let mut writer = Writer::new();
    writer.buffer.put_slice(&header(ApiKey::Fetch, 11));
    request.encode(&mut writer, 11);
    let answer = kafka_call(&cluster.kafka, &writer.freeze()).expect("an answer");
    let response = FetchResponse::decode(bytes::Bytes::from(answer).slice(4..), 11).expect("a response");
    let mut records = response.topics[0].partitions[0].records.clone().expect("records");
    wire::Batch::split_from(&mut records).expect("a batch").header().compression()
}

fn header(key: ApiKey, version: i16) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i16(key as i16);
    out.put_i16(version);
    out.put_i32(7);
    out.put_i16(-1);
    out
}

fn produce(cluster: &Cluster, topic: &str, index: i32, records: Vec<u8>) -> i16 {
    let partitions = vec![ProducePartition { index, records: Some(records.into()) }];
    let topics = vec![ProduceTopic { name: topic.into(), partitions }];
    let request = ProduceRequest { acks: -1, timeout_ms: 10_000, topics, ..ProduceRequest::default() };
    let mut writer = Writer::new();
    writer.buffer.put_slice(&header(ApiKey::Produce, 8));
    request.encode(&mut writer, 8);
    let answer = kafka_call(&cluster.kafka, &writer.freeze()).expect("an answer");
    let response = ProduceResponse::decode(bytes::Bytes::from(answer).slice(4..), 8).expect("a response");
    response.topics[0].partitions[0].error
}

fn batch(size: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord { key: None, value: Some(&vec![b'x'; size]), timestamp: 1, headers: &[] });
    builder.finish(Codec::None).expect("a batch").to_bytes().to_vec()
}

#[test]
fn bad_input_gets_the_protocols_own_error_and_harms_nobody() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("bad-input");
    let cluster = Cluster::start(scratch.path());
    topic_with(&cluster, "t", 2);
    assert_eq!(produce(&cluster, "t", 0, batch(10)), KafkaError::None as i16);
    let mut wrong_crc = batch(10);
    *wrong_crc.last_mut().expect("a byte") ^= 1;
    assert_eq!(produce(&cluster, "t", 0, wrong_crc), KafkaError::CorruptMessage as i16);
    let mut truncated = batch(10);
    truncated.pop();
    assert_eq!(produce(&cluster, "t", 0, truncated), KafkaError::CorruptMessage as i16);
    let mut old = batch(10);
    old[16] = 1;
    assert_eq!(produce(&cluster, "t", 0, old), KafkaError::InvalidRecord as i16);
    assert_eq!(produce(&cluster, "t", 0, batch(2_000_000)), KafkaError::MessageTooLarge as i16);
    assert_eq!(produce(&cluster, "t", 9, batch(10)), KafkaError::UnknownTopicOrPartition as i16);
    assert_eq!(produce(&cluster, "none", 0, batch(10)), KafkaError::UnknownTopicOrPartition as i16);
    let two = [batch(10), batch(10)].concat();
    assert_eq!(produce(&cluster, "t", 0, two), KafkaError::CorruptMessage as i16);

    // ApiVersions of an unknown version: version 0 with the error (KIP-511).
    let answer = kafka_call(&cluster.kafka, &header(ApiKey::ApiVersions, 99)).expect("an answer");
    assert_eq!(answer[4..6], (KafkaError::UnsupportedVersion as i16).to_be_bytes());
    // Every other API answers a version that it does not know in its own words, and so it does a body that is none.
    for api in wire::kafka::OFFERED.iter().filter(|api| api.key != ApiKey::ApiVersions) {
        for (version, body, expected) in [
            (api.max + 40, &b""[..], KafkaError::UnsupportedVersion),
            (api.accepted, &b"\xff\xff\xff"[..], KafkaError::InvalidRequest),
        ] {
            let mut request = header(api.key, version);
            if version >= api.flexible {
                request.put_u8(0);
            }
            request.put_slice(body);
            let answer = kafka_call(&cluster.kafka, &request);
            // Two that no answer can tell: Fetch below version 7 has no place for it, and a Produce without readable
            // `acks` may not want one.
            let is_silent = (api.key == ApiKey::Fetch && version < 7) || api.key == ApiKey::Produce;
            let Some(answer) = answer else {
                assert!(is_silent, "{:?} {version}: closed", api.key);
                continue;
            };
            assert!(!is_silent, "{:?} {version}: answered", api.key);
            assert_eq!(answer[..4], 7_i32.to_be_bytes(), "the correlation id comes back");
            // It has no fields in that version: the three bytes stand behind the request, where Kafka ignores them.
            if api.key == ApiKey::ListGroups && version == api.accepted {
                assert_eq!(answer[4..], [0; 6], "no error and no group");
                continue;
            }
            let code = (expected as i16).to_be_bytes();
            assert!(answer[4..].windows(2).any(|pair| pair == code), "{:?} {version}: {answer:?}", api.key);
        }
    }
    // A Produce whose `acks` can be read, and the rest cannot.
    let mut request = header(ApiKey::Produce, 8);
    request.put_slice(b"\xff\xff\xff\xff\x00");
    let answer = kafka_call(&cluster.kafka, &request).expect("an answer");
    let response = ProduceResponse::decode(bytes::Bytes::from(answer).slice(4..), 8).expect("a response");
    assert_eq!(response.topics[0].partitions[0].error, KafkaError::InvalidRequest as i16);
    // The same connection goes on after it.
    let mut stream = TcpStream::connect(&cluster.kafka).expect("connected");
    for (version, length) in [(99, 6), (0, 6)] {
        let request = header(ApiKey::ApiVersions, version);
        stream.write_all(&(request.len() as u32).to_be_bytes()).expect("written");
        stream.write_all(&request).expect("written");
        let mut size = [0; 4];
        stream.read_exact(&mut size).expect("an answer");
        let mut answer = vec![0; u32::from_be_bytes(size) as usize];
        stream.read_exact(&mut answer).expect("an answer");
        assert!(answer.len() > length);
    }
    // A frame that claims 2 GB, half a request then silence, and an unknown API: nobody else notices.
    let mut huge = TcpStream::connect(&cluster.kafka).expect("connected");
    huge.write_all(&[0x7f, 0xff, 0xff, 0xff]).expect("written");
    let mut silent = TcpStream::connect(&cluster.kafka).expect("connected");
    silent.write_all(&[0, 0, 1, 0, 0, 0]).expect("written");
    assert_eq!(kafka_call(&cluster.kafka, &[0, 99, 0, 0, 0, 0, 0, 1, 0xff, 0xff]), None);

    let records = format!("{}/v1/topics/t/records", cluster.http);
    let json = "-Hcontent-type: application/json";
    for (body, expected) in [
        ("not json", "invalid_request"),
        (r#"{"records":[{"key":"no value"}]}"#, "invalid_request"),
        (r#"{"records":[{"value":1,"partition":7}]}"#, "unknown_partition"),
        (r#"{"records":[{"value":1}],"acks":"1"}"#, "invalid_request"),
    ] {
        let (status, problem) = curl_json(&["-XPOST", &records, json, "-d", body]);
        assert!((400..500).contains(&status), "{body}: {status}");
        assert_eq!((problem["code"].as_str(), problem["side_effects"].as_str()), (Some(expected), Some("none")));
    }
    for (arguments, expected) in [
        (vec!["-Hcontent-type: text/csv", "-d", "1"], (415, "unsupported_media_type")),
        (vec![json, "-Hcontent-encoding: gzip", "-d", "{}"], (415, "unsupported_media_type")),
        (vec![json, "-Hcontent-length: 99999999999", "-d", "{}"], (413, "body_too_large")),
        (vec!["-XPUT", "-d", "{}"], (405, "method_not_allowed")),
    ] {
        let arguments: Vec<&str> = arguments.into_iter().chain([&records[..]]).collect();
        let (status, problem) = curl_json(&arguments);
        assert_eq!((status, problem["code"].as_str().expect("a code")), expected, "{arguments:?}");
    }
    for path in
        ["partitions/x/records", "partitions/0/records?offset=1&colour=red", "partitions/0/records?offset=@noon"]
    {
        let (status, problem) = curl_json(&[&format!("{}/v1/topics/t/{path}", cluster.http)]);
        assert_eq!((status, problem["code"].as_str()), (400, Some("invalid_request")), "{path}");
    }
    let large = scratch.path().join("large");
    std::fs::write(&large, vec![b'x'; 17 * 1024 * 1024]).expect("a file");
    let at = format!("@{}", large.display());
    let (status, problem) =
        curl_json(&["-XPOST", &records, "-Hcontent-type: application/octet-stream", "--data-binary", &at]);
    assert_eq!((status, problem["code"].as_str()), (413, Some("body_too_large")));
    let (status, problem) = curl_json(&[&format!("{}/v1/topics/t/partitions/0/records?offset=5", cluster.http)]);
    assert_eq!((status, &problem["high_watermark"], &problem["log_start_offset"]), (416, &json!(1), &json!(0)));
    let (status, _) = curl_json(&[&format!("{}/v1/topics/none/partitions/0/records", cluster.http)]);
    assert_eq!(status, 404);

    // Nothing was stored in part.
    let (_, page) = curl_json(&[&format!("{}/v1/topics/t/partitions/0/records?offset=earliest", cluster.http)]);
    assert_eq!(page["records"].as_array().expect("records").len(), 1);
    drop((huge, silent));
}

/// A batch whose producer compressed noise and called it gzip: Weir passes batches through, so it is stored.
fn badly_compressed() -> Vec<u8> {
    let mut bytes = batch(200);
    bytes[22] = 1;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn records_before_and_behind_a_badly_compressed_batch_can_be_read() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("bad-batch");
    let cluster = Cluster::start(scratch.path());
    topic_with(&cluster, "t", 1);
    for records in [batch(10), batch(10), badly_compressed(), batch(10)] {
        assert_eq!(produce(&cluster, "t", 0, records), KafkaError::None as i16);
    }
    let read =
        |offset: u32| curl_json(&[&format!("{}/v1/topics/t/partitions/0/records?offset={offset}", cluster.http)]);
    let (status, page) = read(0);
    assert_eq!((status, page["records"].as_array().map(Vec::len), &page["next_offset"]), (200, Some(2), &json!(2)));
    let (status, problem) = read(2);
    assert_eq!((status, problem["code"].as_str()), (500, Some("damaged")));
    assert!(problem["detail"].as_str().expect("a text").contains("go on at 3"), "{problem}");
    assert_eq!(read(3).1["records"].as_array().map(Vec::len), Some(1));
}

/// Where the record of each offset is found by time, through kcat and through HTTP.
fn look_up_times(cluster: &Cluster, topic: &str, base_ms: i64) {
    for (since_ms, offset) in [(0, 0), (base_ms, 0), (base_ms + 1, 1), (base_ms + 15, 2), (base_ms + 30, 3)] {
        let from = format!("s@{since_ms}");
        let out =
            succeed(&mut kcat(cluster, &["-C", "-t", topic, "-p0", "-o", &from, "-c1", "-e", "-q", "-f", "%o"]), b"");
        assert_eq!(String::from_utf8_lossy(&out), offset.to_string(), "since {since_ms}");
        let url = format!("{}/v1/topics/{topic}/partitions/0/records?offset=@{since_ms}&max_records=1", cluster.http);
        assert_eq!(curl_json(&[&url]).1["records"][0]["offset"], offset, "since {since_ms}");
    }
    let url = format!("{}/v1/topics/{topic}/partitions/0/records?offset=@2100-01-01T00:00:00Z", cluster.http);
    let (status, page) = curl_json(&[&url]);
    assert_eq!((status, &page["records"], &page["next_offset"]), (200, &json!([]), &page["high_watermark"]));
}

/// Segment files of all nodes.
fn segment_files(dir: &Path) -> usize {
    let folders = ["n1", "n2", "n3"].map(|az| dir.join(az).join("segments"));
    folders.iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten()).count()
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn records_are_found_by_time_in_memory_and_in_files_and_a_deleted_topic_leaves_none() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("times");
    let mut cluster = Cluster::start(scratch.path());
    topic_with(&cluster, "t", 1);
    let base_ms = 1_700_000_000_000_i64;
    let url = format!("{}/v1/topics/t/records", cluster.http);
    let produce_at = |timestamp: i64, value: &str| {
        let record = json!({"value": value, "partition": 0, "timestamp": timestamp}).to_string();
        assert_eq!(curl(&["-XPOST", &url, "-Hcontent-type: application/x-ndjson", "-d", &record]).0, 200);
    };
    for number in 0..5 {
        produce_at(base_ms + 10 * number, "v");
    }
    look_up_times(&cluster, "t", base_ms);
    let describe =
        |cluster: &Cluster| curl_json(&[&format!("{}/v1/topics/t", cluster.http)]).1["partitions"][0].clone();
    let small = describe(&cluster)["local_bytes"].as_u64().expect("a count");
    assert!((100..10_000).contains(&small), "{small}");
    // Noise, so that it does not pack: more than an owner holds back.
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    let noise: Vec<u8> = (0..800_000).map(|_| next()).collect();
    let file = scratch.path().join("noise");
    std::fs::write(&file, noise).expect("a file");
    let at = format!("@{}", file.display());
    for _ in 0..50 {
        let arguments =
            ["-XPOST", &format!("{url}?partition=0"), "-Hcontent-type: application/octet-stream", "--data-binary", &at];
        assert_eq!(curl(&arguments).0, 200);
    }
    wait_for("two copies are in files", || segment_files(scratch.path()) >= 2);
    look_up_times(&cluster, "t", base_ms);
    let bytes = describe(&cluster)["local_bytes"].as_u64().expect("a count");
    assert!((40_000_000..41_000_000).contains(&bytes), "{bytes}");
    for service in &mut cluster.services[1..4] {
        service.kill();
    }
    cluster.services[1..4].iter_mut().for_each(Service::start);
    look_up_times(&cluster, "t", base_ms);
    // One node that has a copy is away when the topic goes, and hears of it when it is back.
    let has_file =
        |az: &str| std::fs::read_dir(scratch.path().join(az).join("segments")).is_ok_and(|mut d| d.next().is_some());
    let away = 1 + ["n1", "n2", "n3"].into_iter().position(has_file).expect("a copy");
    cluster.services[away].kill();
    assert_eq!(curl(&["-XDELETE", &format!("{}/v1/topics/t", cluster.http)]).0, 204);
    assert!(segment_files(scratch.path()) > 0);
    cluster.services[away].start();
    wait_for("its files are gone", || segment_files(scratch.path()) == 0);
    // A topic of the same name is another one.
    topic_with(&cluster, "t", 1);
    produce_at(base_ms, "new");
    assert_eq!(describe(&cluster)["end_offset"], 1);
}

#[test]
fn a_node_refuses_a_placement_that_is_not_its_own_and_keeps_its_records() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("other-store");
    let mut cluster = Cluster::start(scratch.path());
    succeed(&mut kcat(&cluster, &["-P", "-t", "t", "-p", "0"]), b"kept\n");
    // Somebody starts placement on an empty store: every partition is unknown there.
    let store = scratch.path().join("placement");
    let aside = scratch.path().join("aside");
    cluster.services[0].kill();
    std::fs::rename(&store, &aside).expect("moved");
    cluster.services[0].start();
    std::thread::sleep(Duration::from_secs(3));
    cluster.services[1].kill();
    assert!(cluster.services[1].log_text().contains("the asker belongs to"), "{}", cluster.services[1].log_text());
    cluster.services[0].kill();
    std::fs::remove_dir_all(&store).expect("removed");
    std::fs::rename(&aside, &store).expect("moved back");
    cluster.services[0].start();
    cluster.services[1].start();
    assert_eq!(read_all(&cluster, "t"), b"kept\n");
}

#[test]
fn what_a_query_says_of_records_is_heeded_and_bytes_stay_bytes() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("query");
    let cluster = Cluster::start(scratch.path());
    topic_with(&cluster, "t", 3);
    let post = |query: &str, kind: &str, body: &str| {
        let url = format!("{}/v1/topics/t/records{query}", cluster.http);
        curl_json(&["-XPOST", &url, &format!("-Hcontent-type: {kind}"), "-d", body])
    };
    assert_eq!(post("?partition=1&key=a+%ff", "application/octet-stream", "x").0, 200);
    assert_eq!(
        post("?partition=1", "application/json", r#"{"records":[{"value":1},{"value":2,"partition":2}]}"#).0,
        200
    );
    assert_eq!(post("?key=k", "application/json", r#"{"records":[{"value":1}]}"#).0, 400);
    for timestamp in ["-1", "9223372036854775807"] {
        let body = format!(r#"{{"records":[{{"value":1,"timestamp":{timestamp}}}]}}"#);
        assert_eq!(post("", "application/json", &body).0, 400, "{timestamp}");
    }
    let out = succeed(&mut kcat(&cluster, &["-C", "-t", "t", "-p1", "-o0", "-e", "-q", "-f", "%k|%s\n"]), b"");
    assert_eq!(out, b"a \xff|x\n|1\n");
    assert_eq!(read_all(&cluster, "t"), b"");
    // What one command prints the other takes, raw headers included.
    let header = r#"{"records":[{"value":"v","partition":0,"headers":[["n",{"b64":"/wA="}],["z",null]]}]}"#;
    assert_eq!(post("", "application/json", header).0, 200);
    let weir = |arguments: &[&str], input: &[u8]| {
        succeed(Command::new(weir()).args(arguments).args(["--server", &cluster.http]), input)
    };
    let lines = weir(&["consume", "t", "-o", "beginning", "-e", "--json"], b"");
    weir(&["produce", "copy", "--json", "-p", "0"], &lines);
    let copied = weir(&["consume", "copy", "-o", "beginning", "-e", "-f", "%k|%s|%h\n"], b"");
    assert_eq!(copied, b"|v|n=\xff\x00,z=NULL\na \xff|x|\n|1|\n|2|\n");
    // Over HTTP/2, too, a body over the limit is answered.
    let large = scratch.path().join("large");
    std::fs::write(&large, vec![b'x'; 17 * 1024 * 1024]).expect("a file");
    let url = format!("{}/v1/topics/t/records", cluster.http);
    let at = format!("@{}", large.display());
    let kind = "-Hcontent-type: application/octet-stream";
    let (status, problem) = curl_json(&["--http2-prior-knowledge", "-XPOST", &url, kind, "--data-binary", &at]);
    assert_eq!((status, problem["code"].as_str()), (413, Some("body_too_large")));
}

#[test]
fn a_new_topic_takes_the_first_records_of_many_at_once() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("at-once");
    let cluster = Cluster::start(scratch.path());
    for round in 0..5 {
        let url = format!("{}/v1/topics/new-{round}/records", cluster.http);
        let producers: Vec<_> = (0..6)
            .map(|_| {
                let url = url.clone();
                std::thread::spawn(move || curl(&["-XPOST", &url, "-d", r#"{"records":[{"value":1}]}"#]).0)
            })
            .collect();
        for producer in producers {
            assert_eq!(producer.join().expect("an answer"), 200);
        }
    }
    // A transactional producer is told at once, and finally.
    let output = tests::run(
        &mut kcat(&cluster, &["-P", "-t", "new-0", "-X", "transactional.id=t", "-X", "transaction.timeout.ms=20000"]),
        b"x\n",
        Duration::from_secs(10),
    );
    assert!(!output.status.success());
}

#[test]
fn a_topic_is_altered() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("alter");
    let cluster = Cluster::start(scratch.path());
    topic_with(&cluster, "t", 1);
    let alter = |arguments: &[&str]| {
        let mut command = Command::new(weir());
        command.args(["topic", "alter", "t", "--server", &cluster.http]).args(arguments);
        tests::run(&mut command, b"", Duration::from_secs(10)).status.code()
    };
    assert_eq!(produce(&cluster, "t", 0, batch(5_000)), KafkaError::None as i16);
    assert_eq!(alter(&["--partitions", "3", "--config", "max.message.bytes=1000"]), Some(0));
    assert_eq!(produce(&cluster, "t", 0, batch(5_000)), KafkaError::MessageTooLarge as i16);
    assert_eq!(produce(&cluster, "t", 2, batch(10)), KafkaError::None as i16);
    assert_eq!(alter(&["--remove-config", "max.message.bytes"]), Some(0));
    assert_eq!(produce(&cluster, "t", 2, batch(5_000)), KafkaError::None as i16);
    assert_eq!(alter(&["--partitions", "2"]), Some(2), "records of partition 2 would be lost");
    assert_eq!(alter(&["--config", "colour=red"]), Some(2));
    assert_eq!(alter(&[]), Some(2));
}

/// What lies below the log start is gone for readers at once, and stays gone; its segments leave the disks.
#[test]
fn a_log_begins_where_it_was_trimmed() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("trim");
    let mut cluster = Cluster::start(scratch.path());
    cluster.add_gateway(scratch.path());
    topic_with(&cluster, "t", 1);
    let write = |numbers: std::ops::Range<u32>| {
        let lines: String = numbers.map(|n| format!("{{\"value\":\"{n}\",\"partition\":0}}\n")).collect();
        let url = format!("{}/v1/topics/t/records", cluster.http);
        assert_eq!(curl(&["-XPOST", &url, "-Hcontent-type: application/x-ndjson", "--data-binary", &lines]).0, 200);
    };
    let trim = |before: &str| {
        let arguments = ["partition", "trim", "t", "0", "--before", before, "--server", &cluster.http];
        tests::run(Command::new(weir()).args(arguments), b"", Duration::from_secs(10))
    };
    write(0..100);
    let trimmed = trim("40");
    assert!(trimmed.status.success() && String::from_utf8_lossy(&trimmed.stdout).contains("40"), "{trimmed:?}");
    assert!(read_all(&cluster, "t").starts_with(b"40\n41\n"));
    let at = |offset: &str| curl(&[&format!("{}/v1/topics/t/partitions/0/records?offset={offset}", cluster.http)]).0;
    assert_eq!((at("39"), at("40")), (416, 200));
    assert!(trim("20").status.success(), "nothing is to be done");
    assert_eq!((at("39"), at("40")), (416, 200), "a log start never falls");
    assert!(!trim("101").status.success(), "nobody knows yet what that will be");
    let describe = || curl_json(&[&format!("{}/v1/topics/t", cluster.http)]).1["partitions"][0].clone();
    let bounds = || (describe()["log_start_offset"].as_i64(), describe()["end_offset"].as_i64());
    assert_eq!(bounds(), (Some(40), Some(100)));

    // Another segment; the first one lies wholly below the log start then, and the second one does not.
    let move_to = |node: &str| {
        let arguments = ["partition", "move", "t", "0", "--to", node, "--server", &cluster.http];
        succeed(Command::new(weir()).args(arguments), b"");
    };
    let leader = describe()["leader"].as_str().expect("a leader").to_owned();
    let others: Vec<&str> = ["n1", "n2", "n3"].into_iter().filter(|node| *node != leader).collect();
    move_to(others[0]);
    write(100..200);
    move_to(others[1]);
    write(200..300);
    let bytes = || describe()["local_bytes"].as_u64().expect("a count");
    let before = bytes();
    assert!(trim("150").status.success());
    wait_for("the first segment is gone", || bytes() < before);
    assert!(read_all(&cluster, "t").starts_with(b"150\n151\n"));
    assert!(trim("300").status.success(), "all of it");
    assert_eq!(read_all(&cluster, "t"), b"");
    write(300..301);
    cluster.services.iter_mut().for_each(Service::kill);
    cluster.services.iter_mut().for_each(Service::start);
    assert_eq!(read_all(&cluster, "t"), b"300\n");
    let describe = curl_json(&[&format!("{}/v1/topics/t", cluster.http)]).1["partitions"][0].clone();
    assert_eq!((&describe["log_start_offset"], &describe["end_offset"]), (&json!(300), &json!(301)));
}

/// `weir consume -G`: what was printed is committed, and nothing comes twice to members that leave in peace.
#[test]
fn members_of_a_group_on_the_command_line_share_and_go_on_where_they_were() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("consume-group");
    let cluster = Cluster::start(scratch.path());
    topic_with(&cluster, "t", 4);
    let write = |numbers: std::ops::Range<u32>| {
        let lines: String = numbers.map(|n| format!("{{\"value\":\"{n}\",\"partition\":{}}}\n", n % 4)).collect();
        let url = format!("{}/v1/topics/t/records", cluster.http);
        assert_eq!(curl(&["-XPOST", &url, "-Hcontent-type: application/x-ndjson", "--data-binary", &lines]).0, 200);
    };
    let consume = |more: &[&str]| {
        let mut command = Command::new(weir());
        command.args(["consume", "t", "-G", "g", "--kafka", &cluster.kafka, "--server", &cluster.http]).args(more);
        command
    };
    let numbers = |out: &[u8]| -> Vec<u32> {
        String::from_utf8_lossy(out).lines().map(|line| line.parse().expect("a number of ours")).collect()
    };
    write(0..100);
    let mut seen = numbers(&succeed(&mut consume(&["-o", "beginning", "-c", "60"]), b""));
    assert_eq!(seen.len(), 60);
    seen.extend(numbers(&succeed(&mut consume(&["-e"]), b"")));
    assert_eq!(numbers(&succeed(&mut consume(&["-e"]), b"")), Vec::<u32>::new(), "all is committed");
    // Two at once: one waits, the other takes its share and leaves.
    write(100..200);
    let first = consume(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("weir");
    let group = || curl_json(&[&format!("{}/v1/groups/g", cluster.http)]).1;
    wait_for("the first one is a member", || group()["members"].as_array().is_some_and(|all| all.len() == 1));
    let second = consume(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("weir");
    wait_for("both are members", || {
        let group = group();
        group["state"] == "Stable" && group["members"].as_array().is_some_and(|all| all.len() == 2)
    });
    write(200..300);
    wait_for("all is read", || group()["lag_records"] == 0);
    for member in [first, second] {
        let id = i32::try_from(member.id()).expect("an id");
        // SAFETY: ends a child of ours.
        unsafe { libc::kill(id, libc::SIGINT) };
        let output = member.wait_with_output().expect("its end");
        assert!(output.status.success(), "{output:?}");
        let shared = numbers(&output.stdout);
        assert!(!shared.is_empty());
        seen.extend(shared);
    }
    assert!(group()["members"].as_array().is_some_and(Vec::is_empty), "both have left");
    seen.sort_unstable();
    assert_eq!(seen, (0..300).collect::<Vec<_>>());
}

#[test]
fn health_metrics_and_a_drain_that_ends_with_0() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("health");
    let mut cluster = Cluster::start(scratch.path());
    succeed(&mut kcat(&cluster, &["-P", "-t", "m"]), b"one\n");
    for path in ["/livez", "/readyz"] {
        assert_eq!(curl(&[&format!("{}{path}", cluster.http)]).0, 200);
    }
    let (_, text) = curl(&[&format!("{}/metrics", cluster.http)]);
    let text = String::from_utf8(text).expect("text");
    assert!(text.contains("weir_gateway_produced_bytes_total"), "{text}");
    for service in cluster.services.iter_mut().rev() {
        assert_eq!(service.terminate(), Some(0), "{}", service.name);
    }
}

/// Lines to stream: those of the folders in `WEIR_STREAM_MATERIAL` (separated by `:`), else this project's own,
/// again and again. Empty lines and those over 900 KB are left out: kcat skips them.
fn material(bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes + bytes / 8);
    if let Ok(folders) = std::env::var("WEIR_STREAM_MATERIAL") {
        folders.split(':').for_each(|folder| add_folder(Path::new(folder), bytes, &mut text));
        assert!(text.len() >= bytes, "{folders} holds {} bytes of lines", text.len());
        return text;
    }
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let listed = succeed(Command::new("git").args(["-C", root, "ls-files"]), b"");
    let mut round = 0;
    while text.len() < bytes {
        for file in String::from_utf8_lossy(&listed).lines() {
            let content = std::fs::read(format!("{root}/{file}")).unwrap_or_default();
            for line in content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                text.extend_from_slice(format!("{round} ").as_bytes());
                text.extend_from_slice(line);
                text.push(b'\n');
            }
        }
        text.extend_from_slice("ein langes Wort: ßüöä ".repeat(5_000).as_bytes());
        text.push(b'\n');
        round += 1;
    }
    text
}

/// The lines of all files of text below a folder, by name.
fn add_folder(folder: &Path, bytes: usize, text: &mut Vec<u8>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let Ok(kind) = entry.file_type() else { continue };
        if text.len() >= bytes {
            return;
        }
        if kind.is_dir() {
            add_folder(&entry.path(), bytes, text);
        } else if kind.is_file() {
            let content = std::fs::read(entry.path()).unwrap_or_default();
            if !content.contains(&0) {
                let lines = content.split(|byte| *byte == b'\n');
                for line in lines.filter(|line| !line.is_empty() && line.len() <= 900_000) {
                    text.extend_from_slice(line);
                    text.push(b'\n');
                }
            }
        }
    }
}

/// Streams text through kcat while every service is killed and restarted in turn.
fn stream_through_restarts(name: &str, is_idempotent: bool) {
    if !is_equipped() {
        return;
    }
    let bytes = std::env::var("WEIR_STREAM_BYTES").ok().and_then(|n| n.parse().ok()).unwrap_or(60_000_000);
    let scratch = Scratch::new(name);
    let mut cluster = Cluster::start(scratch.path());
    topic_with(&cluster, "stream", 1);
    let text = material(bytes);
    let idempotence = format!("enable.idempotence={is_idempotent}");
    let mut command = kcat(&cluster, &["-E", "-P", "-t", "stream", "-p", "0", "-X", &idempotence]);
    command.args(["-X", "message.timeout.ms=600000", "-X", "message.max.bytes=1000000"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("kcat");
    let mut stdin = child.stdin.take().expect("a pipe");
    let count = cluster.services.len();
    let parts: Vec<Vec<u8>> = text.chunks(text.len().div_ceil(count + 1)).map(<[u8]>::to_vec).collect();
    for (number, part) in parts.into_iter().enumerate() {
        stdin.write_all(&part).expect("kcat reads on");
        if number < count {
            let service = &mut cluster.services[number];
            service.kill();
            std::thread::sleep(Duration::from_millis(300));
            service.start();
        }
    }
    drop(stdin);
    assert!(child.wait().expect("kcat's end").success(), "kcat failed");
    let read = read_all(&cluster, "stream");
    if is_idempotent {
        assert!(read == text, "{} bytes in, {} out", text.len(), read.len());
        assert!(by_http(&cluster, "stream") == text, "HTTP reads something else than Kafka");
        if std::env::var_os("WEIR_STREAM_JAVA").is_some() {
            assert!(by_java(&cluster, "stream", &text) == text, "Java reads something else than Kafka");
        }
    } else {
        // At least once: no line is lost; a resend may repeat some.
        let lines = |bytes: &[u8]| -> std::collections::BTreeMap<Vec<u8>, usize> {
            let mut all = std::collections::BTreeMap::new();
            bytes.split(|b| *b == b'\n').for_each(|line| *all.entry(line.to_vec()).or_default() += 1);
            all
        };
        let out = lines(&read);
        for (line, times) in lines(&text) {
            assert!(out.get(&line).is_some_and(|n| *n >= times), "lost: {}", String::from_utf8_lossy(&line));
        }
    }
}

/// The whole partition through curl, as NDJSON.
fn by_java(cluster: &Cluster, topic: &str, text: &[u8]) -> Vec<u8> {
    let lines = text.iter().filter(|byte| **byte == b'\n').count().to_string();
    let arguments = ["--topic", topic, "--partition", "0", "--offset", "earliest", "--timeout-ms", "60000"];
    let mut command = java("org.apache.kafka.tools.consumer.ConsoleConsumer", cluster, &arguments);
    run(command.args(["--max-messages", &lines]), b"", Duration::from_secs(900)).stdout
}

fn by_http(cluster: &Cluster, topic: &str) -> Vec<u8> {
    let mut text = Vec::new();
    let mut offset = 0;
    loop {
        let url = format!("{}/v1/topics/{topic}/partitions/0/records?offset={offset}&max_bytes=8000000", cluster.http);
        let (status, body) = curl(&["-Haccept: application/x-ndjson", &url]);
        assert_eq!(status, 200);
        let mut bounds = serde_json::Value::Null;
        for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let value: serde_json::Value = serde_json::from_slice(line).expect("a line of JSON");
            // Text that is no UTF-8 comes as base64.
            let record = match (value["value"].as_str(), value["value_b64"].as_str()) {
                (Some(record), _) => record.as_bytes().to_vec(),
                (None, Some(base64)) => base64::engine::general_purpose::STANDARD.decode(base64).expect("base64"),
                (None, None) => {
                    bounds = value;
                    continue;
                }
            };
            assert_eq!(value["offset"], offset);
            offset += 1;
            text.extend_from_slice(&record);
            text.push(b'\n');
        }
        if bounds["next_offset"] == bounds["high_watermark"] {
            return text;
        }
    }
}

#[test]
fn an_idempotent_stream_comes_out_byte_identical_through_kill_9_of_every_service() {
    stream_through_restarts("idempotent", true);
}

#[test]
fn a_plain_stream_loses_no_line_through_kill_9_of_every_service() {
    stream_through_restarts("plain", false);
}

/// Whichever node goes, and stays away: its partitions go on in the two zones that are left.
#[test]
fn records_go_on_while_a_storage_node_stays_away() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("one-away");
    let mut cluster = Cluster::start(scratch.path());
    let mut expected: Vec<String> = Vec::new();
    topic_with(&cluster, "t", 12);
    for (round, node) in [1, 2, 3].into_iter().enumerate() {
        let mut produce = kcat(&cluster, &["-P", "-t", "t", "-X", "enable.idempotence=true"]);
        produce.args(["-X", "message.timeout.ms=30000"]);
        let mut child = produce.stdin(Stdio::piped()).spawn().expect("kcat");
        let mut stdin = child.stdin.take().expect("a pipe");
        for number in 0..3_000 {
            if number == 1_000 {
                cluster.services[node].kill();
            }
            let line = format!("round {round} line {number}");
            writeln!(stdin, "{line}").expect("kcat reads on");
            expected.push(line);
        }
        drop(stdin);
        let began = std::time::Instant::now();
        assert!(child.wait().expect("kcat's end").success(), "kcat failed");
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        // A new topic, too, does without it.
        topic_with(&cluster, &format!("new-{round}"), 3);
        for partition in 0..3 {
            assert_eq!(produce_to(&cluster, &format!("new-{round}"), partition), KafkaError::None as i16);
        }
        let read = succeed(&mut kcat(&cluster, &["-C", "-t", "t", "-o", "beginning", "-e", "-q"]), b"");
        let mut read: Vec<&str> = std::str::from_utf8(&read).expect("text").lines().collect();
        let mut all: Vec<&str> = expected.iter().map(String::as_str).collect();
        read.sort_unstable();
        all.sort_unstable();
        assert!(read == all, "round {round}: {} of {} lines", read.len(), all.len());
        cluster.services[node].start();
    }
}

fn produce_to(cluster: &Cluster, topic: &str, index: i32) -> i16 {
    produce(cluster, topic, index, batch(10))
}

#[test]
fn up_keeps_everything_through_kill_9() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("up");
    let local = || format!("127.0.0.1:{}", tests::free_port());
    let (kafka, http) = (local(), local());
    let data = scratch.path().join("data");
    let data = data.to_str().expect("a path");
    let mut up = Service::new(scratch.path(), "up", &["up", "--data", data, "--kafka", &kafka, "--http", &http]);
    let text: String = (0..5_000).map(|n| format!("line {n}\n")).collect();
    let mut expected = Vec::new();
    for round in 0..3 {
        up.start();
        let mut produce = Command::new("kcat");
        produce.args(["-b", &kafka, "-P", "-t", "t", "-p", "0", "-X", "enable.idempotence=true"]);
        succeed(&mut produce, text.as_bytes());
        expected.extend_from_slice(text.as_bytes());
        up.kill();
        up.start();
        let mut consume = Command::new("kcat");
        consume.args(["-b", &kafka, "-C", "-t", "t", "-p", "0", "-o", "beginning", "-e", "-q"]);
        assert!(succeed(&mut consume, b"") == expected, "round {round}");
        up.kill();
    }
}

#[test]
fn a_command_line_mistake_says_what_is_wrong_and_exits_with_2() {
    let run = |arguments: &[&str]| {
        let output = tests::run(Command::new(weir()).args(arguments), b"", Duration::from_secs(10));
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = run(&["up", "--kafka", "0.0.0.0:9092", "--data", "/nonexistent"]);
    assert!(code == Some(2) && text.contains("--insecure-bind"), "{text}");
    let (code, text) = run(&["placement", "--store", "etcd:127.0.0.1:2379"]);
    assert!(code == Some(2) && text.contains("redb:DIR"), "{text}");
    assert_eq!(run(&["topic", "list", "--server", "http://127.0.0.1:1"]).0, Some(3));
    assert_eq!(run(&["nonsense"]).0, Some(2));
}
