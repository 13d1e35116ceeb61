//! Quotas: who uses more than it may is slowed down or refused and told which quota it was; nobody else is.

use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use tests::guarded::{Guarded, Key, REGION, app_policy, output_text};
use tests::session::Session;
use tests::{Scratch, run};
use wire::compression::Codec;
use wire::kafka::*;
use wire::records::{BatchBuilder, NewRecord};

const NOISY: &str = "111111111111";
const QUIET: &str = "222222222222";

/// A batch of about so many bytes.
fn batch(bytes: usize) -> Bytes {
    let value = vec![b'x'; bytes];
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord { key: None, value: Some(&value), timestamp: 1_700_000_000_000, headers: &[] });
    builder.finish(Codec::None).expect("a batch").to_bytes()
}

fn produce(session: &mut Session, topic: &str, bytes: usize) -> ProduceResponse {
    let partitions = vec![ProducePartition { index: 0, records: Some(batch(bytes)) }];
    let topics = vec![ProduceTopic { name: topic.to_owned(), partitions }];
    let request = ProduceRequest { acks: -1, timeout_ms: 5_000, topics, ..Default::default() };
    let answer: ProduceResponse = session.call(ApiKey::Produce, 9, &request).expect("an answer");
    assert_eq!(answer.topics[0].partitions[0].error, 0, "{answer:?}");
    answer
}

fn fetch(session: &mut Session, topic: &str) -> FetchResponse {
    let partitions = vec![FetchPartition { max_bytes: 100_000_000, ..Default::default() }];
    let topics = vec![FetchTopic { name: topic.to_owned(), partitions }];
    let request = FetchRequest { topics, max_bytes: 100_000_000, ..Default::default() };
    session.call(ApiKey::Fetch, 11, &request).expect("an answer")
}

/// Two accounts with a cluster, a user and topic `app` each; the first with these limits.
fn start(dir: &std::path::Path, limits: &[&str]) -> (Guarded, Key, Key) {
    let guarded = Guarded::start(dir);
    let user = |account, name| {
        guarded.make_account(account, name, "u-1");
        let key = guarded.make_user(account, "app", &app_policy(account, name, "u-1"));
        let made = guarded.weir_as(&key, &["topic", "create", "app"]);
        assert!(made.status.success(), "{}", output_text(&made));
        key
    };
    let (noisy, quiet) = (user(NOISY, "noisy"), user(QUIET, "quiet"));
    define(&guarded, limits);
    guarded.operate(&["quota", "set", "small", "--account", NOISY], b"");
    (guarded, noisy, quiet)
}

fn define(guarded: &Guarded, limits: &[&str]) {
    let limits = limits.iter().flat_map(|limit| ["--limit", limit]).collect::<Vec<_>>();
    guarded.operate(&[&["quota", "define", "small"], &limits[..]].concat(), b"");
}

fn shown(guarded: &Guarded) -> Value {
    guarded.operate_json(&["quota", "show", "--account", NOISY])
}

fn flow<'a>(shown: &'a Value, name: &str) -> &'a Value {
    shown["flows"].as_array().expect("flows").iter().find(|flow| flow["name"] == name).expect("the flow")
}

#[test]
fn a_kafka_client_that_uses_too_much_is_told_and_made_to_wait() {
    let dir = Scratch::new("quotas-kafka");
    let (guarded, noisy, quiet) = start(dir.path(), &["ingress=1M", "egress=2M"]);
    let mut session = Session::of(&guarded.plain, &noisy);
    // What was saved up in a second, and one request more.
    let began = Instant::now();
    let told = (0..4).map(|_| produce(&mut session, "app", 500_000).throttle_ms).collect::<Vec<_>>();
    // Whatever a client makes of what it is told: the gateway does not read on.
    let took = began.elapsed();
    assert!(told[0] == 0 && (300..=1_200).contains(&told[2]) && told[3] > 0, "{told:?}");
    assert!(took > Duration::from_millis(400), "{took:?}");
    // Nor does it help to connect anew.
    let began = Instant::now();
    for _ in 0..3 {
        produce(&mut Session::of(&guarded.plain, &noisy), "app", 500_000);
    }
    assert!(began.elapsed() > Duration::from_millis(1_000), "{:?}", began.elapsed());
    // The same for what is read, after it was read.
    let mut reader = Session::of(&guarded.plain, &noisy);
    // No more than a second's worth at once, the first of it saved up.
    let told = [fetch(&mut reader, "app"), fetch(&mut reader, "app")].map(|answer| answer.throttle_ms);
    assert!(told[1] > 300, "twice 2 MB at 2 MB/s: {told:?}");
    let began = Instant::now();
    fetch(&mut reader, "app");
    assert!(began.elapsed() > Duration::from_millis(300), "{:?}", began.elapsed());
    // Whose usage it was.
    let used = shown(&guarded);
    assert_eq!((&used["profile"], &flow(&used, "ingress")["limit"]), (&json!("small"), &json!(1_000_000)));
    let of_neighbour = guarded.operate_json(&["quota", "show", "--account", QUIET]);
    assert_eq!(of_neighbour["profile"], "msk-serverless", "what an account begins with");
    // Neighbours notice nothing of it.
    let mut neighbour = Session::of(&guarded.plain, &quiet);
    let told = (0..6).map(|_| produce(&mut neighbour, "app", 500_000).throttle_ms).collect::<Vec<_>>();
    assert_eq!(told, [0; 6]);
    // A limit that is lifted holds nobody back any more.
    guarded.operate(&["quota", "set", "unlimited", "--account", NOISY], b"");
    std::thread::sleep(Duration::from_secs(2));
    let mut session = Session::of(&guarded.plain, &noisy);
    let told = (0..6).map(|_| produce(&mut session, "app", 500_000).throttle_ms).collect::<Vec<_>>();
    assert_eq!(told, [0; 6]);
}

#[test]
fn an_http_client_that_uses_too_much_is_told_which_quota_it_was_and_when_to_come_back() {
    let dir = Scratch::new("quotas-http");
    let (guarded, noisy, quiet) = start(dir.path(), &["ingress=100k", "requests=1000"]);
    let post = |key: &Key| {
        let mut curl = Command::new("curl");
        let user = format!("{}:{}", key.id, key.secret);
        curl.args(["-s", "-i", "--aws-sigv4", &format!("aws:amz:{REGION}:kafka-cluster"), "--user", &user]);
        curl.args(["-H", "content-type: application/octet-stream", "--data-binary", "@-"]);
        curl.arg(format!("{}/v1/topics/app/records", guarded.http));
        let answer = run(&mut curl, &vec![b'x'; 600_000], Duration::from_secs(20));
        String::from_utf8_lossy(&answer.stdout).to_ascii_lowercase()
    };
    let first = post(&noisy);
    assert!(
        first.starts_with("http/1.1 200") && first.contains("ratelimit-policy: \"ingress\";q=100000;w=1"),
        "{first}"
    );
    std::thread::sleep(Duration::from_millis(1_100));
    let second = post(&noisy);
    assert!(second.starts_with("http/1.1 429"), "{second}");
    for told in [
        "retry-after: ",
        "ratelimit: \"ingress\";r=0;t=",
        "\"quota_exceeded\"",
        "\"name\":\"ingress\"",
        "account/111111111111",
        "user/111111111111/app",
    ] {
        assert!(second.contains(told), "{told}: {second}");
    }
    assert!(post(&quiet).starts_with("http/1.1 200"));
    // `weir` comes back when it was told to.
    let lines = format!("{}\n", "y".repeat(400_000));
    let began = Instant::now();
    for _ in 0..2 {
        let written = guarded.produce_as(&noisy, "app", &lines);
        assert!(written.status.success(), "{}", output_text(&written));
    }
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());
    // Whoever has used it up can still look at it.
    guarded.put_policy(
        NOISY,
        "--user",
        "app",
        &json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": ["kafka-cluster:*", "account:*"], "Resource": "*" } ] }),
    );
    let looked = guarded.weir_as(&noisy, &["quota", "show"]);
    assert!(looked.status.success() && output_text(&looked).contains("100000/s"), "{}", output_text(&looked));
    // But not loosen it: that is up to operators. Its own users it may limit.
    for arguments in [&["quota", "set", "unlimited"][..], &["quota", "set", "unlimited", "--for-cluster", "noisy"]] {
        let refused = guarded.weir_as(&noisy, arguments);
        assert!(refused.status.code() == Some(4), "{arguments:?}: {}", output_text(&refused));
    }
    assert_eq!(flow(&shown(&guarded), "ingress")["limit"], 100_000);
    for arguments in
        [&["quota", "define", "tiny", "--limit", "requests=1"][..], &["quota", "set", "tiny", "--user", "app"]]
    {
        let done = guarded.weir_as(&noisy, arguments);
        assert!(done.status.success(), "{arguments:?}: {}", output_text(&done));
    }
    let of_user = guarded.operate_json(&["quota", "show", "--user", "app", "--account", NOISY]);
    assert_eq!((&of_user["profile"], &flow(&of_user, "requests")["limit"]), (&json!("tiny"), &json!(1)));
    // What cannot be read changes nothing.
    for wrong in ["speed=1", "ingress=0"] {
        let refused = guarded.weir_as(&noisy, &["quota", "define", "tiny", "--limit", wrong]);
        assert!(refused.status.code() == Some(2), "{wrong}: {}", output_text(&refused));
    }
}

#[test]
fn two_gateways_share_a_limit() {
    let dir = Scratch::new("quotas-share");
    let (mut guarded, noisy, _) = start(dir.path(), &["ingress=1M"]);
    let (kafka, _) = guarded.add_gateway(dir.path(), &[]);
    let plain = guarded.plain.clone();
    let written = |seconds: u64| {
        let until = Instant::now() + Duration::from_secs(seconds);
        let writers: Vec<_> = [plain.clone(), kafka.clone()]
            .into_iter()
            .map(|address| {
                let noisy = noisy.clone();
                std::thread::spawn(move || {
                    let (mut session, mut count) = (Session::of(&address, &noisy), 0);
                    while Instant::now() < until {
                        produce(&mut session, "app", 100_000);
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().expect("a writer")).collect::<Vec<u64>>()
    };
    // Until each has its share.
    written(4);
    let counts = written(10);
    let total: u64 = counts.iter().sum();
    // Ten seconds of it, what a second saves up, and a last request of each.
    assert!((60..=113).contains(&total), "{counts:?} times 100 kB in 10 s at 1 MB/s");
    assert!(counts.iter().all(|count| *count >= 20), "{counts:?}");
}

#[test]
fn all_sessions_of_a_role_share_its_limit() {
    let dir = Scratch::new("quotas-role");
    let (guarded, ..) = start(dir.path(), &["ingress=100000000"]);
    guarded.operate(&["role", "create", "worker", "--account", NOISY], b"");
    guarded.put_policy(NOISY, "--role", "worker", &app_policy(NOISY, "noisy", "u-1"));
    guarded.operate(&["quota", "define", "slow", "--limit", "ingress=100000", "--account", NOISY], b"");
    guarded.operate(&["quota", "set", "slow", "--role", "worker", "--account", NOISY], b"");
    std::thread::sleep(Duration::from_millis(500));
    let [mut one, mut two] = ["one", "two"].map(|session| {
        let create = ["key", "create", "--role", "worker", "--session", session, "--account", NOISY];
        Session::of(&guarded.plain, &Key::from(&guarded.operate_json(&create)))
    });
    produce(&mut one, "app", 400_000);
    // The other's first is heard once that is paid for.
    let began = Instant::now();
    produce(&mut two, "app", 1_000);
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}: what the other session used", began.elapsed());
}

#[test]
fn there_are_no_more_connections_groups_and_partitions_than_may_be() {
    let dir = Scratch::new("quotas-stock");
    let limits = ["connections=3", "groups=2", "partitions=4", "topic_changes=100", "connects=50"];
    let (guarded, noisy, quiet) = start(dir.path(), &limits);
    let mut sessions: Vec<Session> = (0..3).map(|_| Session::of(&guarded.plain, &noisy)).collect();
    let refused = Session::connect(&guarded.plain).log_in(&noisy).expect_err("one too many");
    assert!(refused.contains("Too many connects") && refused.contains("account/111111111111"), "{refused}");
    Session::of(&guarded.plain, &quiet);
    // One that ends makes room, and a login anew takes none.
    sessions.pop();
    std::thread::sleep(Duration::from_millis(200));
    let mut session = Session::of(&guarded.plain, &noisy);
    session.log_in(&noisy).expect("the same connection");
    let refused = Session::connect(&guarded.plain).log_in(&noisy).expect_err("it has its place still");
    assert!(refused.contains("Too many connects"), "{refused}");
    // Partitions: one is there.
    let mut create = |name: &str, num_partitions: i32| {
        let topic =
            CreatableTopic { name: name.to_owned(), num_partitions, replication_factor: -1, ..Default::default() };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 5_000, validate_only: false };
        let answer: CreateTopicsResponse = session.call(ApiKey::CreateTopics, 7, &request).expect("an answer");
        (answer.topics[0].error, answer.topics[0].error_message.clone().unwrap_or_default())
    };
    assert_eq!(create("app-2", 3).0, 0);
    let (error, message) = create("app-3", 1);
    assert!(error == KafkaError::PolicyViolation as i16 && message.contains("4 partitions at most"), "{message}");
    let more = guarded.weir_as(&noisy, &["topic", "alter", "app-2", "--partitions", "4"]);
    assert!(!more.status.success() && output_text(&more).contains("4 partitions at most"), "{}", output_text(&more));
    assert!(guarded.weir_as(&noisy, &["topic", "delete", "app-2"]).status.success());
    assert_eq!(create("app-3", 1).0, 0);
    // Groups: those that are there go on.
    let mut commit = |group: &str| {
        let partitions = vec![OffsetCommitPartition { index: 0, offset: 1, ..Default::default() }];
        let topics = vec![OffsetCommitTopic { name: "app".into(), partitions }];
        let request = OffsetCommitRequest { group_id: group.into(), generation_id: -1, topics, ..Default::default() };
        let answer: OffsetCommitResponse = session.call(ApiKey::OffsetCommit, 8, &request).expect("an answer");
        answer.topics[0].partitions[0].error
    };
    assert_eq!(["app-a", "app-b", "app-c", "app-a"].map(&mut commit), [0, 0, KafkaError::PolicyViolation as i16, 0]);
}

#[test]
fn topics_are_not_made_faster_than_may_be() {
    let dir = Scratch::new("quotas-topics");
    let (guarded, noisy, _) = start(dir.path(), &["topic_changes=2", "partition_changes=10"]);
    let mut session = Session::of(&guarded.plain, &noisy);
    let mut create = |name: String, num_partitions: i32| {
        let topic = CreatableTopic { name, num_partitions, replication_factor: -1, ..Default::default() };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 5_000, validate_only: false };
        let answer: CreateTopicsResponse = session.call(ApiKey::CreateTopics, 7, &request).expect("an answer");
        (answer.topics[0].error, answer.throttle_ms, answer.topics[0].error_message.clone().unwrap_or_default())
    };
    let began = Instant::now();
    let told: Vec<_> = (0..6).map(|i| create(format!("app-{i}"), 1)).collect();
    assert!(
        told.iter().all(|(error, ..)| *error == 0) && told.iter().any(|(_, throttle_ms, _)| *throttle_ms > 0),
        "{told:?}"
    );
    assert!(began.elapsed() > Duration::from_millis(1_500), "six at two a second: {:?}", began.elapsed());
    // Ten partitions in five minutes: the one that goes over is still made, the next waits.
    assert_eq!(create("app-more".into(), 5).0, 0);
    let (error, _, message) = create("app-too-much".into(), 1);
    assert_eq!(error, KafkaError::ThrottlingQuotaExceeded as i16, "{message}");
    assert!(message.contains("partition_changes") && message.contains("10 partitions in 300 s"), "{message}");
    let mut curl = Command::new("curl");
    curl.args(["-s", "-i", "--aws-sigv4", &format!("aws:amz:{REGION}:kafka-cluster")]);
    curl.args(["--user", &format!("{}:{}", noisy.id, noisy.secret), "-H", "content-type: application/json"]);
    curl.args(["-d", r#"{"name":"app-http"}"#, &format!("{}/v1/topics", guarded.http)]);
    let answer = run(&mut curl, b"", Duration::from_secs(20));
    let answer = String::from_utf8_lossy(&answer.stdout).to_ascii_lowercase();
    for told in ["http/1.1 429", "retry-after: ", "\"name\":\"partition_changes\""] {
        assert!(answer.contains(told), "{told}: {answer}");
    }
}

#[test]
fn producers_do_not_begin_faster_than_may_be() {
    let dir = Scratch::new("quotas-producers");
    let (guarded, noisy, quiet) = start(dir.path(), &["producer_ids=2"]);
    let mut noisy = Session::of(&guarded.plain, &noisy);
    let mut quiet = Session::of(&guarded.plain, &quiet);
    let begin = |session: &mut Session| {
        let answer: InitProducerIdResponse =
            session.call(ApiKey::InitProducerId, 4, &InitProducerIdRequest::default()).expect("an answer");
        assert_eq!(answer.error, 0);
        answer.throttle_ms
    };
    let began = Instant::now();
    let told: Vec<i32> = (0..6).map(|_| begin(&mut noisy)).collect();
    assert!(told.iter().any(|throttle_ms| *throttle_ms > 0), "{told:?}");
    assert!(began.elapsed() > Duration::from_millis(1_500), "six at two a second: {:?}", began.elapsed());
    let shown = shown(&guarded);
    assert_eq!(flow(&shown, "producer_ids")["limit"], 2, "{shown}");
    // Another account's are not held up.
    let began = Instant::now();
    assert!((0..6).all(|_| begin(&mut quiet) == 0) && began.elapsed() < Duration::from_secs(1));
}
