//! What must fail, call by call, where no client of today would try it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use tests::guarded::{Guarded, Key, app_policy, output_text};
use tests::session::Session;
use tests::signed::{Signed, send};
use tests::{Cluster, Scratch, free_port, run, succeed, weir};
use wire::compression::Codec;
use wire::kafka::*;
use wire::records::{BatchBuilder, NewRecord};

const OURS: &str = "111111111111";
/// Denied: of a topic, of a group.
const TOPIC_DENIED: i16 = 29;
const GROUP_DENIED: i16 = 30;

fn everything() -> Value {
    json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "*", "Resource": "*" }] })
}

/// What is wrong with a batch.
type Change<'a> = &'a dyn Fn(&mut Vec<u8>);

fn batch() -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for value in [b"one", b"two"] {
        builder.push(NewRecord { key: None, value: Some(value), timestamp: 1_700_000_000_000, headers: &[] });
    }
    builder.finish(Codec::None).expect("a batch").to_bytes().to_vec()
}

fn produce(session: &mut Session, topic: &str, batch: Vec<u8>) -> i16 {
    let partitions = vec![ProducePartition { index: 0, records: Some(batch.into()) }];
    let topics = vec![ProduceTopic { name: topic.to_owned(), partitions }];
    let request = ProduceRequest { acks: -1, timeout_ms: 5_000, topics, ..Default::default() };
    let answer: Option<ProduceResponse> = session.call(ApiKey::Produce, 8, &request);
    answer.expect("an answer").topics[0].partitions[0].error
}

fn fetch(topics: &[(&str, i64)], wait_ms: i32) -> FetchRequest {
    let topic = |(name, fetch_offset): &(&str, i64)| {
        let partition = FetchPartition { max_bytes: 1_000_000, fetch_offset: *fetch_offset, ..Default::default() };
        FetchTopic { name: (*name).to_owned(), partitions: vec![partition] }
    };
    let topics = topics.iter().map(topic).collect();
    FetchRequest { max_wait_ms: wait_ms, min_bytes: 1, max_bytes: 1_000_000, topics, ..Default::default() }
}

/// With a deny more.
fn without(policy: &Value, action: &str, resource: &str) -> Value {
    let mut policy = policy.clone();
    let deny = json!({ "Effect": "Deny", "Action": action, "Resource": resource });
    policy["Statement"].as_array_mut().expect("statements").push(deny);
    policy
}

#[test]
fn what_is_weirs_own_is_nobodys() {
    let scratch = Scratch::new("negative-own");
    let guarded = Guarded::start(scratch.path());
    guarded.make_account(OURS, "orders", "abcd-1");
    guarded.operate(&["quota", "set", "unlimited", "--account", OURS], b"");
    let key = guarded.make_user(OURS, "admin", &everything());
    assert!(guarded.weir_as(&key, &["topic", "create", "t"]).status.success());
    // A coordinator's log is there from now on.
    assert!(guarded.weir_as(&key, &["group", "reset", "g", "--topic", "t", "--to", "latest"]).status.success());
    let mut session = Session::of(&guarded.plain, &key);
    let unknown = KafkaError::UnknownTopicOrPartition as i16;
    for name in ["__weir_coordinator", "__weir_groups", "__weir_"] {
        assert_eq!(produce(&mut session, name, batch()), unknown, "{name}");
        let read: FetchResponse = session.call(ApiKey::Fetch, 11, &fetch(&[(name, 0)], 0)).expect("an answer");
        assert_eq!(read.topics[0].partitions[0].error, unknown, "{name}");
        let topic = MetadataRequestTopic { name: NullableSince10(Some(name.to_owned())), ..Default::default() };
        let request =
            MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation: true, ..Default::default() };
        let told: MetadataResponse = session.call(ApiKey::Metadata, 9, &request).expect("an answer");
        assert_eq!((told.topics[0].error, told.topics[0].partitions.len()), (unknown, 0), "{name}");
        let topics = vec![CreatableTopic {
            name: name.to_owned(),
            num_partitions: 1,
            replication_factor: 3,
            ..Default::default()
        }];
        let request = CreateTopicsRequest { topics, timeout_ms: 5_000, ..Default::default() };
        let made: CreateTopicsResponse = session.call(ApiKey::CreateTopics, 5, &request).expect("an answer");
        assert_ne!(made.topics[0].error, 0, "{name}");
        let request = DeleteTopicsRequest { names: vec![name.to_owned()], timeout_ms: 5_000, ..Default::default() };
        let gone: DeleteTopicsResponse = session.call(ApiKey::DeleteTopics, 5, &request).expect("an answer");
        assert_ne!(gone.responses[0].error, 0, "{name}");
        let partitions = vec![DeleteRecordsPartition { index: 0, offset: -1 }];
        let topics = vec![DeleteRecordsTopic { name: name.to_owned(), partitions }];
        let request = DeleteRecordsRequest { topics, timeout_ms: 5_000 };
        let cut: DeleteRecordsResponse = session.call(ApiKey::DeleteRecords, 2, &request).expect("an answer");
        assert_ne!(cut.topics[0].partitions[0].error, 0, "{name}");
    }
    let all = MetadataRequest { topics: None, ..Default::default() };
    let told = session.tell::<_, MetadataResponse>(ApiKey::Metadata, 9, &all);
    assert!(told.contains("\"t\"") && !told.contains("__weir"), "{told}");
}

#[test]
fn names_that_differ_in_case_are_two() {
    let scratch = Scratch::new("negative-case");
    let guarded = Guarded::start(scratch.path());
    guarded.make_account(OURS, "orders", "abcd-1");
    let admin = guarded.make_user(OURS, "admin", &everything());
    let policy = app_policy(OURS, "orders", "abcd-1");
    let key = guarded.make_user(OURS, "app", &policy);
    for topic in ["app", "APP"] {
        assert!(guarded.weir_as(&admin, &["topic", "create", topic]).status.success());
    }
    // Right after one another, on one connection, in either order.
    for names in [["app", "APP"], ["APP", "app"]] {
        let mut session = Session::of(&guarded.plain, &key);
        for name in names {
            let read: FetchResponse = session.call(ApiKey::Fetch, 11, &fetch(&[(name, 0)], 0)).expect("an answer");
            let expected = if name == "app" { 0 } else { TOPIC_DENIED };
            assert_eq!(read.topics[0].partitions[0].error, expected, "{names:?}: {name}");
        }
    }
}

#[test]
fn who_waits_for_records_is_asked_again_about_each_topic() {
    let scratch = Scratch::new("negative-parked");
    let guarded = Guarded::start(scratch.path());
    guarded.make_account(OURS, "orders", "abcd-1");
    let policy = app_policy(OURS, "orders", "abcd-1");
    let key = guarded.make_user(OURS, "app", &policy);
    let writer = guarded.make_user(OURS, "writer", &policy);
    for topic in ["app-a", "app-b"] {
        assert!(guarded.weir_as(&writer, &["topic", "create", topic]).status.success());
    }
    // Of one topic its data is waited for where it is; of two they are looked at again and again.
    for topics in [[("app-b", 0)].as_slice(), &[("app-a", 0), ("app-b", 1)]] {
        guarded.put_policy(OURS, "--user", "app", &policy);
        std::thread::sleep(Duration::from_millis(300));
        let (mut session, request) = (Session::of(&guarded.plain, &key), fetch(topics, 15_000));
        let waiting = std::thread::spawn(move || session.call::<_, FetchResponse>(ApiKey::Fetch, 11, &request));
        std::thread::sleep(Duration::from_secs(1));
        guarded.put_policy(
            OURS,
            "--user",
            "app",
            &without(&policy, "kafka-cluster:ReadData", "arn:aws:kafka:*:*:topic/*/*/app-b"),
        );
        // Less than a decision is taken for.
        std::thread::sleep(Duration::from_millis(500));
        assert!(guarded.produce_as(&writer, "app-b", "secret\n").status.success());
        let answer = waiting.join().expect("no panic").expect("an answer");
        let last = answer.topics.last().and_then(|topic| topic.partitions.first()).expect("a partition");
        assert_eq!(last.error, TOPIC_DENIED, "{topics:?}");
        assert!(last.records.as_ref().is_none_or(Bytes::is_empty), "{topics:?}");
    }
}

#[test]
fn a_member_that_waits_for_its_share_is_not_told_after_a_deny() {
    let scratch = Scratch::new("negative-sync");
    let guarded = Guarded::start(scratch.path());
    guarded.make_account(OURS, "orders", "abcd-1");
    let policy = app_policy(OURS, "orders", "abcd-1");
    let keys = ["first", "second"].map(|user| guarded.make_user(OURS, user, &policy));
    let join = |member_id: &str| JoinGroupRequest {
        group_id: "app".to_owned(),
        member_id: member_id.to_owned(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 20_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupProtocol { name: "range".to_owned(), metadata: Bytes::new() }],
        ..Default::default()
    };
    let [mut one, mut two] = [0, 1].map(|at: usize| Session::of(&guarded.plain, &keys[at]));
    let first: JoinGroupResponse = one.call(ApiKey::JoinGroup, 2, &join("")).expect("an answer");
    let request = join("");
    let joining = std::thread::spawn(move || {
        let joined: JoinGroupResponse = two.call(ApiKey::JoinGroup, 2, &request).expect("an answer");
        (two, joined)
    });
    std::thread::sleep(Duration::from_millis(500));
    let first: JoinGroupResponse = one.call(ApiKey::JoinGroup, 2, &join(&first.member_id)).expect("an answer");
    let (mut two, second) = joining.join().expect("no panic");
    assert_eq!((first.error, second.error, first.leader == first.member_id), (0, 0, true));
    let sync = |member: &JoinGroupResponse, assignments: Vec<SyncGroupAssignment>| SyncGroupRequest {
        group_id: "app".to_owned(),
        generation_id: member.generation_id,
        member_id: member.member_id.clone(),
        assignments,
        ..Default::default()
    };
    let request = sync(&second, Vec::new());
    let waiting = std::thread::spawn(move || two.call::<_, SyncGroupResponse>(ApiKey::SyncGroup, 2, &request));
    std::thread::sleep(Duration::from_millis(500));
    guarded.put_policy(OURS, "--user", "second", &without(&policy, "kafka-cluster:AlterGroup", "*"));
    std::thread::sleep(Duration::from_millis(1_500));
    let shares = [&first, &second].map(|member| SyncGroupAssignment {
        member_id: member.member_id.clone(),
        assignment: Bytes::from_static(b"secret share"),
    });
    let led: SyncGroupResponse = one.call(ApiKey::SyncGroup, 2, &sync(&first, shares.to_vec())).expect("an answer");
    assert_eq!((led.error, &led.assignment[..]), (0, &b"secret share"[..]));
    let told = waiting.join().expect("no panic").expect("an answer");
    assert_eq!((told.error, told.assignment.len()), (GROUP_DENIED, 0));
}

#[test]
fn who_does_not_log_in_is_not_waited_for() {
    let scratch = Scratch::new("negative-silent");
    let guarded = Guarded::start(scratch.path());
    let began = Instant::now();
    // Silent, half a request, and one that asks for the table of versions again and again and reads nothing.
    let mut streams: Vec<TcpStream> = [&b""[..], &[0, 0, 0, 40, 0, 18, 0, 0]]
        .iter()
        .map(|bytes| {
            let mut stream = TcpStream::connect(&guarded.plain).expect("connected");
            stream.write_all(bytes).expect("sent");
            stream
        })
        .collect();
    let versions = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    let mut deaf = TcpStream::connect(&guarded.plain).expect("connected");
    deaf.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    while deaf.write_all(&versions.repeat(1_000)).is_ok() && began.elapsed() < Duration::from_secs(10) {}
    // Others are served meanwhile.
    guarded.make_account(OURS, "orders", "abcd-1");
    let key = guarded.make_user(OURS, "app", &everything());
    assert!(guarded.weir_as(&key, &["topic", "list"]).status.success());
    streams.push(deaf);
    for mut stream in streams {
        stream.set_read_timeout(Some(Duration::from_secs(40))).expect("a timeout");
        // Whatever was answered, then its end.
        let mut some = [0; 65_536];
        while stream.read(&mut some).is_ok_and(|bytes| bytes > 0) {}
        let took = began.elapsed();
        assert!((Duration::from_secs(28)..Duration::from_secs(36)).contains(&took), "{took:?}");
    }
}

#[test]
fn what_cannot_be_meant_is_not_stored_and_keys_sign_for_their_own_regions() {
    let scratch = Scratch::new("negative-stored");
    let guarded = Guarded::start(scratch.path());
    guarded.make_account(OURS, "orders", "abcd-1");
    let key = guarded.make_user(OURS, "admin", &everything());
    let mut signed = tests::signed::Signed::of(&guarded.http, &key);
    let statement = |more: &str| {
        format!(r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"*","Resource":"*"{more}}}]}}"#)
    };
    let path = format!("/v1/accounts/{OURS}/users/admin");
    for (what, more) in [
        ("an unknown operator", r#","Condition":{"StringResembles":{"aws:username":"a"}}"#),
        ("an unknown element", r#","Unless":"x""#),
        ("an effect twice", r#","Effect":"Deny""#),
        ("a principal", r#","Principal":"*""#),
    ] {
        for place in ["policies/more", "boundary"] {
            let answer = signed.ask("PUT", &format!("{path}/{place}"), &statement(more), &[]);
            assert!(answer.status == 400 && answer.body.contains("line 1"), "{what}: {answer:?}");
        }
    }
    let large = statement(&format!(r#","Sid":"{}""#, "a".repeat(200_000)));
    assert_eq!(signed.ask("PUT", &format!("{path}/policies/large"), &large, &[]).status, 400);
    assert_eq!(signed.ask("PUT", &format!("{path}/policies/more"), &statement(""), &[]).status, 204);
    // Signed for where the account has no cluster, and for another service.
    let user = format!("{}:{}", key.id, key.secret);
    let url = format!("{}/v1/topics", guarded.http);
    for (scope, expected) in [
        ("us-east-1:kafka-cluster", 200),
        ("mars-1:kafka-cluster", 401),
        ("us-east-1:s3", 401),
        ("us-east-1:kafka", 401),
    ] {
        let sigv4 = format!("aws:amz:{scope}");
        assert_eq!(tests::curl(&["--aws-sigv4", &sigv4, "--user", &user, &url]).0, expected, "{scope}");
    }
}

#[test]
fn batches_that_lie_are_refused_whole() {
    let scratch = Scratch::new("negative-batches");
    let cluster = Cluster::start(scratch.path());
    let mut create = std::process::Command::new(weir());
    succeed(create.args(["topic", "create", "t", "--server", &cluster.http]), b"");
    let mut session = Session::connect(&cluster.kafka);
    // Its checksum covers what follows it.
    let lie = |change: Change<'_>| {
        let mut batch = batch();
        change(&mut batch);
        let checksum = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&checksum.to_be_bytes());
        batch
    };
    assert_eq!(produce(&mut session, "t", lie(&|_| {})), 0);
    let attributes = |bit: u8| move |batch: &mut Vec<u8>| batch[22] |= bit;
    let lies: [(&str, Change<'_>); 7] = [
        ("a control batch", &attributes(0x20)),
        ("a transactional batch", &attributes(0x10)),
        ("an unknown codec", &attributes(0x07)),
        ("more records than there are", &|batch| batch[60] = 3),
        ("fewer records than there are", &|batch| batch[60] = 1),
        ("no records", &|batch| batch[60] = 0),
        ("a last offset that is another", &|batch| batch[26] = 7),
    ];
    for (what, change) in lies {
        assert_ne!(produce(&mut session, "t", lie(change)), 0, "{what}");
    }
    assert_eq!(produce(&mut session, "t", lie(&|_| {})), 0);
    let url = format!("{}/v1/topics/t/partitions/0/records?offset=earliest", cluster.http);
    let (_, page) = tests::curl_json(&[&url]);
    assert_eq!(page["high_watermark"], 4, "nothing of them is there");
}

/// What is answered to these bytes: the status of each answer, and whether the connection was closed after them.
fn raw(address: &str, text: &str) -> (Vec<String>, String, bool) {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_millis(700))).expect("a timeout");
    let _ = stream.write_all(text.as_bytes());
    let (mut told, mut some, until) = (Vec::new(), [0; 4_096], Instant::now() + Duration::from_secs(10));
    let is_closed = loop {
        match stream.read(&mut some) {
            Ok(0) => break true,
            Ok(bytes) => told.extend_from_slice(&some[..bytes]),
            Err(error) => break error.kind() == std::io::ErrorKind::ConnectionReset,
        }
        assert!(Instant::now() < until, "it goes on and on");
    };
    let told = String::from_utf8_lossy(&told).into_owned();
    let statuses = told.match_indices("HTTP/1.").map(|(at, _)| told[at..].chars().skip(9).take(3).collect()).collect();
    (statuses, told.to_lowercase(), is_closed)
}

#[test]
fn requests_whose_end_is_not_clear_end_the_connection() {
    let scratch = Scratch::new("negative-http");
    let cluster = Cluster::start(scratch.path());
    let mut create = std::process::Command::new(weir());
    succeed(create.args(["topic", "create", "t", "--server", &cluster.http]), b"");
    let address = cluster.http.trim_start_matches("http://");
    let post = "POST /v1/topics/t/records HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";
    let body = r#"{"records":[{"value":1}]}"#;
    // What another would take for the next request.
    let next = "GET /v1/status HTTP/1.1\r\nhost: a\r\n\r\n";
    for (what, text) in [
        ("a length and chunks", format!("content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{next}")),
        ("chunks and a length", format!("transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n{next}")),
        ("two encodings", format!("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n{next}")),
        ("an unknown encoding", format!("transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{next}")),
        ("two lengths", format!("content-length: 25\r\ncontent-length: 0\r\n\r\n{body}{next}")),
        ("a list of lengths", format!("content-length: 25, 25\r\n\r\n{body}{next}")),
        ("a signed length", format!("content-length: +25\r\n\r\n{body}{next}")),
        ("a length in hexadecimal", format!("content-length: 0x19\r\n\r\n{body}{next}")),
        ("a folded header", format!("x-a: b\r\n c\r\ncontent-length: 25\r\n\r\n{body}{next}")),
        ("a space before the colon", format!("content-length : 25\r\n\r\n{body}{next}")),
        ("a signed chunk", format!("transfer-encoding: chunked\r\n\r\n+19\r\n{body}\r\n0\r\n\r\n{next}")),
        (
            "an endless chunk",
            format!("transfer-encoding: chunked\r\n\r\nffffffffffffffff1\r\n{body}\r\n0\r\n\r\n{next}"),
        ),
        ("a byte 0", format!("x-a: a\0b\r\ncontent-length: 25\r\n\r\n{body}{next}")),
        ("two hosts", format!("host: b\r\ncontent-length: 25\r\n\r\n{body}{next}")),
    ] {
        let (statuses, _, is_closed) = raw(address, &format!("{post}{text}"));
        assert!(statuses == ["400"] && is_closed, "{what}: {statuses:?}, closed {is_closed}");
    }
    let get = |line: &str, more: &str| raw(address, &format!("{line} HTTP/1.1\r\n{more}\r\n"));
    let (statuses, _, is_closed) = get("GET /v1/topics", "");
    assert!(statuses == ["400"] && is_closed, "no host: {statuses:?}");
    let (statuses, _, is_closed) = get("GET X /v1/topics", "host: a\r\n");
    assert!(statuses == ["400"] && is_closed, "a method of two words: {statuses:?}");
    for (what, more) in [
        ("long headers", format!("host: a\r\nx-a: {}\r\n", "a".repeat(500_000))),
        ("many headers", format!("host: a\r\n{}", "x-a: b\r\n".repeat(2_000))),
    ] {
        let (statuses, _, is_closed) = get("GET /v1/topics", &more);
        assert!(is_closed && statuses.iter().all(|status| status == "431"), "{what}: {statuses:?}");
    }
    // Not for tunnels, echoes, other protocols or other origins.
    for (line, more, expected) in [
        ("TRACE /v1/topics", "", "405"),
        ("CONNECT example.com:443", "", "404"),
        ("OPTIONS /v1/topics", "origin: https://evil.example\r\naccess-control-request-method: POST\r\n", "405"),
        ("GET /v1/topics", "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n", "200"),
        (
            "GET /v1/topics",
            "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQ\r\n",
            "200",
        ),
        ("GET /v1/topics", "origin: https://evil.example\r\n", "200"),
    ] {
        let (statuses, told, _) = get(line, &format!("host: a\r\n{more}"));
        assert!(statuses == [expected] && !told.contains("access-control-"), "{line}: {statuses:?}");
    }
    let url = format!("{}/v1/topics/t/partitions/0/records?offset=earliest", cluster.http);
    let (_, page) = tests::curl_json(&[&url]);
    assert_eq!(page["high_watermark"], 0, "nothing of it was written");
}

/// The name of several gateways.
const NAME: &str = "front.example";

/// A write that a client signed whose clock is ahead by so much.
fn write_ahead(key: &Key, ahead_s: i64) -> String {
    let body = r#"{"records":[{"value":"v"}]}"#;
    Signed::of("http://nowhere", key).ahead(ahead_s).request(NAME, "POST", "/v1/topics/app/records", body, &[])
}

/// Balancers stand before several gateways of one name: what one took, another takes no more.
#[test]
fn a_signed_request_is_taken_once_by_all_gateways_of_a_name() {
    let dir = Scratch::new("negative-replays");
    let mut guarded = Guarded::start_with(dir.path(), &["--host-name", NAME]);
    let (_, second) = guarded.add_gateway(dir.path(), &["--host-name", NAME]);
    let gateways = [guarded.http.clone(), second];
    guarded.make_account(OURS, "ours", "u-1");
    let key = guarded.make_user(OURS, "app", &app_policy(OURS, "ours", "u-1"));
    assert!(guarded.weir_as(&key, &["topic", "create", "app"]).status.success());
    let mut signer = Signed::of(&guarded.http, &key);
    let mut write = || {
        let body = r#"{"records":[{"value":"v"}]}"#;
        signer.request(NAME, "POST", "/v1/topics/app/records", body, &[])
    };
    let status = |at: usize, text: &str| send(&gateways[at], text).status;
    let written = |guarded: &Guarded| {
        let read = guarded.weir_as(&key, &["consume", "app", "-o", "beginning", "-e"]);
        String::from_utf8(read.stdout).expect("text").lines().count()
    };

    // Enough of them that each two nodes remember some.
    let first: Vec<String> = (0..12).map(|_| write()).collect();
    for (n, text) in first.iter().enumerate() {
        assert_eq!(status(n % 2, text), 200);
        assert_eq!([status(0, text), status(1, text)], [401, 401], "{n}");
    }
    // These come again once, and late.
    let later: Vec<String> = (0..12).map(|_| write()).collect();
    assert!(later.iter().all(|text| status(1, text) == 200));
    // At once to both: one of them takes it, or none if they cross.
    for _ in 0..20 {
        let text = write();
        let both = std::thread::scope(|scope| {
            let send = |at: usize| {
                let (text, status) = (&text, &status);
                scope.spawn(move || status(at, text))
            };
            let both = [send(0), send(1)];
            both.map(|one| one.join().expect("no panic"))
        });
        assert!(both.iter().filter(|status| **status == 200).count() <= 1, "{both:?}");
        assert!(both.iter().any(|status| [401, 503].contains(status)), "{both:?}");
    }
    let count = written(&guarded);
    assert!((24..=44).contains(&count), "{count}");

    // A storage node that goes takes nothing with it, nor does a gateway.
    let restart = |guarded: &mut Guarded| {
        let at = guarded.cluster.services.len() - 2;
        guarded.cluster.services[at].kill();
        guarded.cluster.services[at].start();
    };
    // What is taken may come again, so each try is signed anew.
    let taken = |write: &mut dyn FnMut() -> String, at: usize, within: u64| {
        let until = Instant::now() + Duration::from_secs(within);
        while status(at, &write()) != 200 {
            assert!(Instant::now() < until, "nothing is taken any more");
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    guarded.cluster.services[3].kill();
    restart(&mut guarded);
    taken(&mut write, 0, 20);
    assert!(first.iter().all(|text| status(0, text) == 401));
    // Those that are there vouch for nothing that they were not asked about: of some both are gone, of some one began anew.
    guarded.cluster.services[3].start();
    taken(&mut write, 0, 20);
    guarded.cluster.services[2].kill();
    restart(&mut guarded);
    let told: Vec<u16> = later.iter().map(|text| status(0, text)).collect();
    assert!(told.iter().all(|status| [401, 503].contains(status)) && told.contains(&503), "{told:?}");
    guarded.cluster.services[2].start();
    taken(&mut write, 0, 20);
    // After an end in order all know what was taken before, whatever its client's clock was.
    let ahead = write();
    let early: Vec<String> = (0..6).map(|_| write_ahead(&key, 60)).chain([ahead]).collect();
    assert!(early.iter().all(|text| status(1, text) == 200));
    for node in 1..4 {
        assert_eq!(guarded.cluster.services[node].terminate(), Some(0));
        guarded.cluster.services[node].start();
    }
    taken(&mut write, 0, 20);
    let told: Vec<u16> = early.iter().map(|text| status(0, text)).collect();
    assert!(told.iter().all(|status| *status == 401), "{told:?}");
    // Where nobody is left who could know, nobody claims to: what is signed now is taken.
    for node in 1..4 {
        guarded.cluster.services[node].kill();
        guarded.cluster.services[node].start();
    }
    restart(&mut guarded);
    taken(&mut write, 0, 20);
    for text in &first {
        let answer = send(&gateways[0], text);
        assert!(answer.status == 503 && answer.body.contains("came before"), "{answer:?}");
        assert!([401, 503].contains(&status(0, text)), "a second time");
    }
}

#[test]
fn what_counts_all_tenants_together_is_the_operators() {
    let dir = Scratch::new("negative-metrics");
    let admin = format!("127.0.0.1:{}", free_port());
    let guarded = Guarded::start_with(dir.path(), &["--admin", &admin]);
    guarded.make_account(OURS, "ours", "u-1");
    let tenant = guarded.make_user(OURS, "admin", &everything());
    assert!(guarded.weir_as(&tenant, &["topic", "create", "app"]).status.success());
    let operator = "000000000000";
    let service = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "cluster:DescribeService", "Resource": "*" } ] });
    let scraper = guarded.make_user(operator, "scraper", &service);
    let idle = guarded.make_user(
        operator,
        "idle",
        &json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "kafka-cluster:*", "Resource": "*" } ] }),
    );
    let open = |url: &str| tests::curl(&[url]).0;
    assert_eq!(["/metrics", "/livez", "/readyz"].map(|path| open(&format!("{}{path}", guarded.http))), [401, 200, 200]);
    let asks = |key: &Key| Signed::of(&guarded.http, key).ask("GET", "/metrics", "", &[]);
    for key in [&tenant, &idle] {
        let answer = asks(key);
        assert!(answer.status == 403 && !answer.body.contains("weir_gateway"), "{answer:?}");
    }
    let answer = asks(&scraper);
    assert!(answer.status == 200 && answer.body.contains("weir_gateway_kafka_requests_total"), "{answer:?}");
    // Where an operator says so it is open; of that address nothing else is.
    assert_eq!(
        ["/metrics", "/livez", "/v1/topics", "/v1/status"].map(|path| open(&format!("http://{admin}{path}"))),
        [200, 200, 404, 404]
    );
    // A tenant counts the gateways that it is shown, and no operator's.
    let told = Signed::of(&guarded.http, &tenant).ask("GET", "/metrics/kafka", "", &[]);
    let brokers = told.body.lines().find(|line| line.starts_with("kafka_brokers")).expect("a series").to_owned();
    assert_eq!(brokers, "kafka_brokers 1");
    // Nor is it bound to what others reach without being asked for by name.
    let mut open = Command::new(weir());
    open.args(["gateway", "--require-login", "--admin", "0.0.0.0:0", "--placement", "http://127.0.0.1:1"]);
    let refused = run(&mut open, b"", Duration::from_secs(10));
    assert!(refused.status.code() == Some(2) && output_text(&refused).contains("--insecure-bind"), "{refused:?}");
}

#[test]
fn names_are_kafkas_transactions_are_refused_and_memory_stays_in_memory() {
    let dir = Scratch::new("negative-names");
    let cluster = Cluster::start(dir.path());
    let mut session = Session::connect(&cluster.kafka);
    let mut create = |name: &str| {
        let topic =
            CreatableTopic { name: name.to_owned(), num_partitions: 1, replication_factor: -1, ..Default::default() };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 5_000, validate_only: false };
        let answer: CreateTopicsResponse = session.call(ApiKey::CreateTopics, 7, &request).expect("an answer");
        answer.topics[0].error
    };
    for name in ["", ".", "..", "a\0b", "a b", "a/b", "../a", "a%2fb", "a\nb", "ä", "а", "a:b", &"x".repeat(250)] {
        assert_eq!(create(name), KafkaError::InvalidTopic as i16, "{name:?}");
        let mut curl = Command::new("curl");
        curl.args(["-s", "-w", "%{http_code}", "-H", "content-type: application/json", "-d"]);
        curl.args([&json!({ "name": name }).to_string(), &format!("{}/v1/topics", cluster.http)]);
        let told = String::from_utf8(run(&mut curl, b"", Duration::from_secs(10)).stdout).expect("text");
        assert!(told.ends_with("400"), "{name:?}: {told}");
    }
    for name in ["a", "...", "-", "_a", &"x".repeat(249)] {
        assert_eq!(create(name), 0, "{name}");
    }
    // What a service has in memory is on no disk when it is killed.
    for service in &cluster.services {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", service.id())).expect("a process");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("Linux tells it");
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    }
    // Nobody is told that a transaction began.
    for version in 0..=4 {
        let request = InitProducerIdRequest { transactional_id: Some("t".into()), ..Default::default() };
        let answer: InitProducerIdResponse =
            session.call(ApiKey::InitProducerId, version, &request).expect("an answer");
        assert_eq!(answer.error, KafkaError::TransactionalIdAuthorizationFailed as i16, "{version}");
    }
}
