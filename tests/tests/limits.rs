//! What one client can take of a gateway: a few bytes that would come to many, and connections that nobody has paid for.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tests::guarded::{Guarded, app_policy};
use tests::session::Session;
use tests::{Cluster, Scratch, Service, curl_json, succeed, weir};
use wire::compression::Codec;
use wire::kafka::*;
use wire::records::{BatchBuilder, NewRecord};

const OURS: &str = "111111111111";

fn create(cluster: &Cluster, topic: &str, more: &[&str]) {
    let mut command = std::process::Command::new(weir());
    command.args(["topic", "create", topic, "--server", &cluster.http]).args(more);
    succeed(&mut command, b"");
}

fn produce(session: &mut Session, topic: &str, index: i32, records: Bytes) -> ProducePartitionResponse {
    let partitions = vec![ProducePartition { index, records: Some(records) }];
    let topics = vec![ProduceTopic { name: topic.to_owned(), partitions }];
    let request = ProduceRequest { acks: -1, timeout_ms: 20_000, topics, ..Default::default() };
    let answer: Option<ProduceResponse> = session.call(ApiKey::Produce, 8, &request);
    answer.expect("an answer").topics.remove(0).partitions.remove(0)
}

fn batch(codec: Codec, count: usize, value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for _ in 0..count {
        builder.push(NewRecord { key: None, value: Some(value), timestamp: 1_700_000_000_000, headers: &[] });
    }
    builder.finish(codec).expect("a batch").to_bytes()
}

/// The most memory that a process had, in MiB.
fn peak_mib(service: &Service) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.id())).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("Linux tells it");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
}

/// By the other end, before the time for reading is over.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 1]) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

fn times<T: Clone>(one: &T) -> Vec<T> {
    vec![one.clone(); 1_000]
}

#[test]
fn what_is_named_again_and_again_is_answered_once() {
    let scratch = Scratch::new("limits-again");
    let cluster = Cluster::start(scratch.path());
    create(&cluster, "t", &["--partitions", "20"]);
    let mut session = Session::connect(&cluster.kafka);
    assert_eq!(produce(&mut session, "t", 0, batch(Codec::None, 1, &[b'v'; 100_000])).error, 0);

    let one = FetchPartition { max_bytes: 1_000_000, ..Default::default() };
    let fetch = |partitions| FetchTopic { name: "t".to_owned(), partitions };
    for topics in [vec![fetch(times(&one))], times(&fetch(vec![one]))] {
        let request = FetchRequest { max_bytes: 50_000_000, topics, ..Default::default() };
        let answer: FetchResponse = session.call(ApiKey::Fetch, 11, &request).expect("an answer");
        let read = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|one| one.records.clone());
        let read: Vec<usize> = read.map(|records| records.map_or(0, |records| records.len())).collect();
        assert!(matches!(read[..], [bytes] if bytes > 100_000), "{read:?}");
    }
    let topic = MetadataRequestTopic { name: NullableSince10(Some("t".to_owned())), ..Default::default() };
    let request = MetadataRequest { topics: Some(times(&topic)), ..Default::default() };
    let answer: MetadataResponse = session.call(ApiKey::Metadata, 9, &request).expect("an answer");
    assert_eq!(answer.topics.len(), 1);

    let resource = DescribeConfigsResource { resource_type: 2, resource_name: "t".to_owned(), keys: None };
    let request = DescribeConfigsRequest { resources: times(&resource), ..Default::default() };
    let answer: DescribeConfigsResponse = session.call(ApiKey::DescribeConfigs, 4, &request).expect("an answer");
    assert_eq!(answer.results.len(), 1);

    let partition = ListOffsetsPartition { timestamp: 0, ..Default::default() };
    let topic = ListOffsetsTopic { name: "t".to_owned(), partitions: vec![partition] };
    let request = ListOffsetsRequest { topics: times(&topic), ..Default::default() };
    let answer: ListOffsetsResponse = session.call(ApiKey::ListOffsets, 7, &request).expect("an answer");
    assert_eq!(answer.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>(), 1);

    let request = DescribeGroupsRequest { groups: times(&"g".to_owned()), ..Default::default() };
    let answer: DescribeGroupsResponse = session.call(ApiKey::DescribeGroups, 5, &request).expect("an answer");
    assert_eq!(answer.groups.len(), 1);

    let group = OffsetFetchGroup { group_id: "g".to_owned(), topics: None, ..Default::default() };
    let request = OffsetFetchRequest { groups: times(&group), ..Default::default() };
    let answer: OffsetFetchResponse = session.call(ApiKey::OffsetFetch, 8, &request).expect("an answer");
    assert_eq!(answer.groups.len(), 1);

    let topic = DescribeProducersTopic { name: "t".to_owned(), partitions: vec![0] };
    let request = DescribeProducersRequest { topics: times(&topic) };
    let answer: DescribeProducersResponse = session.call(ApiKey::DescribeProducers, 0, &request).expect("an answer");
    assert_eq!(answer.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>(), 1);
}

#[test]
fn a_fetch_holds_no_more_than_it_may_give() {
    let scratch = Scratch::new("limits-fetch");
    let cluster = Cluster::start(scratch.path());
    let gateway = &cluster.services[cluster.services.len() - 1];
    create(&cluster, "t", &["--partitions", "200"]);
    let mut session = Session::connect(&cluster.kafka);
    for index in 0..200 {
        assert_eq!(produce(&mut session, "t", index, batch(Codec::None, 1, &[b'v'; 900_000])).error, 0);
    }
    let before = peak_mib(gateway);
    let partition = |index| FetchPartition { index, max_bytes: 50_000_000, ..Default::default() };
    let topics = vec![FetchTopic { name: "t".to_owned(), partitions: (0..200).map(partition).collect() }];
    // Whatever each partition may give: a batch comes whole.
    let small = |index| FetchPartition { index, max_bytes: 1, ..Default::default() };
    let of_one = vec![FetchTopic { name: "t".to_owned(), partitions: (0..200).map(small).collect() }];
    for (max_bytes, topics) in [(4_000_000, &topics), (4_000_000, &of_one), (1, &topics), (1, &of_one)] {
        let request = FetchRequest { max_bytes, topics: topics.clone(), ..Default::default() };
        let answer: FetchResponse = session.call(ApiKey::Fetch, 11, &request).expect("an answer");
        let partitions = &answer.topics[0].partitions;
        let bytes: usize = partitions.iter().filter_map(|one| one.records.as_ref()).map(Bytes::len).sum();
        // The first batch comes in any case, and each partition with its watermark.
        assert!(bytes > 900_000 && bytes <= (max_bytes as usize).max(901_000), "{bytes}");
        assert!(partitions.len() == 200 && partitions.iter().all(|one| one.error == 0 && one.high_watermark == 1));
    }
    // 180 MB lie there.
    let after = peak_mib(gateway);
    assert!(after < before + 60, "{before} MiB, then {after}");
}

#[test]
fn a_few_bytes_that_unpack_to_many_harm_nobody() {
    let scratch = Scratch::new("limits-bomb");
    let cluster = Cluster::start(scratch.path());
    let gateway = &cluster.services[cluster.services.len() - 1];
    create(&cluster, "t", &[]);
    create(&cluster, "compacted", &["--config", "cleanup.policy=compact"]);
    let mut session = Session::connect(&cluster.kafka);
    const COUNT: usize = 1_100_000;
    let bomb = batch(Codec::Zstd, COUNT, b"");
    assert!(bomb.len() < 1_000_000, "{} bytes", bomb.len());
    assert_eq!(produce(&mut session, "t", 0, bomb.clone()).error, 0);
    let before = peak_mib(gateway);
    // Page by page.
    let url = format!("{}/v1/topics/t/partitions/0/records", cluster.http);
    let (mut offset, mut pages) = (0, 0);
    while pages < 3 {
        let (status, page) = curl_json(&[&format!("{url}?offset={offset}&max_bytes=16000000")]);
        let next = page["next_offset"].as_u64().expect("an offset");
        let count = page["records"].as_array().expect("records").len() as u64;
        assert!(status == 200 && count > 100_000 && next == offset + count && next < COUNT as u64, "{next} {count}");
        (offset, pages) = (next, pages + 1);
    }
    // By its time, and its keys.
    let time = curl_json(&[&format!("{url}?offset=@1700000000001&max_records=1")]);
    assert_eq!(time.1["next_offset"], COUNT, "nothing is as new");
    let refused = produce(&mut session, "compacted", 0, bomb);
    assert_eq!(refused.error, KafkaError::InvalidRecord as i16);
    assert!((1..=100).contains(&refused.record_errors.len()), "{}", refused.record_errors.len());
    // All of its records at once, and as JSON, would take twice that.
    let after = peak_mib(gateway);
    assert!(after < before + 140, "{before} MiB, then {after}");
    assert_eq!(produce(&mut session, "t", 0, batch(Codec::None, 1, b"next")).error, 0);
}

#[test]
fn requests_without_records_are_small_and_frames_have_a_length() {
    let scratch = Scratch::new("limits-frames");
    let cluster = Cluster::start(scratch.path());
    // Metadata of 20 MB, of no bytes, of one, of a negative number, and of 2 GB.
    for length in [20_000_000_u32, 0, 1, u32::MAX, i32::MAX as u32] {
        let mut stream = TcpStream::connect(&cluster.kafka).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let mut bytes = length.to_be_bytes().to_vec();
        if length == 20_000_000 {
            bytes.extend([0, 3, 0, 9]);
        }
        if length == 1 {
            bytes.push(0);
        }
        stream.write_all(&bytes).expect("sent");
        assert!(is_closed(&mut stream), "{length}");
    }
    // As many bytes of records are taken.
    let mut stream = TcpStream::connect(&cluster.kafka).expect("connected");
    stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    stream.write_all(&[20_000_000_u32.to_be_bytes(), [0, 0, 0, 8]].concat()).expect("sent");
    assert!(stream.read(&mut [0; 16]).is_err(), "it waits for the rest");
}

#[test]
fn connections_that_nobody_has_logged_in_on_do_not_take_all_places() {
    let scratch = Scratch::new("limits-guests");
    let guarded = Guarded::start(scratch.path());
    guarded.make_account(OURS, "ours", "u-1");
    let key = guarded.make_user(OURS, "app", &app_policy(OURS, "ours", "u-1"));
    // They say nothing, or half of what they have to say.
    // Both ends of each are here.
    let many = libc::rlimit { rlim_cur: 4_096, rlim_max: 4_096 };
    // SAFETY: reads one struct.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &many) }, 0);
    let silent: Vec<TcpStream> = (0..1_024)
        .map(|at| {
            let mut stream = TcpStream::connect(&guarded.plain).expect("connected");
            stream.write_all(&[0, 0, 0, 100, 0, 18][..at % 6]).expect("sent");
            stream
        })
        .collect();
    // Each is given its place in a moment.
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let mut more = TcpStream::connect(&guarded.plain).expect("connected");
        more.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        if is_closed(&mut more) {
            break;
        }
        assert!(Instant::now() < until, "one too many of this address");
    }
    // From another address one logs in; and here too, once they are gone: of themselves after 30 s.
    let other = tests::balancer::Balancer::start(&guarded.plain, "127.0.0.9", b"");
    assert_eq!(Session::connect(&other.address).log_in(&key), Ok(()));
    let began = Instant::now();
    drop(silent);
    let until = began + Duration::from_secs(5);
    while Session::connect(&guarded.plain).log_in(&key).is_err() {
        assert!(Instant::now() < until, "their places are free again");
        std::thread::sleep(Duration::from_millis(50));
    }
    // Those who have logged in are no guests.
    let users: Vec<Session> = (0..40).map(|_| Session::of(&guarded.plain, &key)).collect();
    drop(users);
}

#[test]
fn answers_that_nobody_reads_are_not_made_without_end() {
    let scratch = Scratch::new("limits-unread");
    let cluster = Cluster::start(scratch.path());
    let gateway = &cluster.services[cluster.services.len() - 1];
    create(&cluster, "t", &[]);
    let mut session = Session::connect(&cluster.kafka);
    // As JSON each byte of it takes six.
    assert_eq!(produce(&mut session, "t", 0, batch(Codec::Zstd, 12, &vec![0; 1_000_000])).error, 0);
    let address = cluster.http.trim_start_matches("http://").to_owned();
    let request = "GET /v1/topics/t/partitions/0/records?offset=0 HTTP/1.1\r\nhost: a\r\n\r\n";
    let before = peak_mib(gateway);
    let mut unread: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).expect("connected");
            stream.write_all(request.as_bytes()).expect("sent");
            std::thread::sleep(Duration::from_millis(50));
            stream
        })
        .collect();
    let mut refused = 0;
    for stream in &mut unread {
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let mut first = [0; 12];
        stream.read_exact(&mut first).expect("an answer");
        refused += usize::from(&first == b"HTTP/1.1 503");
    }
    // Each is two records; 256 MiB of one address are some twenty of them.
    assert!((10..30).contains(&refused), "{refused} of 40 were refused");
    let after = peak_mib(gateway);
    assert!(after < before + 1_000, "{before} MiB, then {after}");
    drop(unread);
    let url = format!("{}/v1/topics/t/partitions/0/records?offset=0&max_records=1", cluster.http);
    let until = Instant::now() + Duration::from_secs(10);
    while curl_json(&[&url]).0 != 200 {
        assert!(Instant::now() < until, "there is room again");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn h2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What becomes of a connection on which `more` is said after the greeting, again and again: how many bytes of it were taken until the
/// end, and the error of the last GOAWAY, if there was one.
fn flood(address: &str, mut more: impl FnMut(u32) -> Vec<u8>, most: u32) -> (usize, Option<u32>) {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    stream.set_write_timeout(Some(Duration::from_secs(2))).expect("a timeout");
    let greeting = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), h2_frame(4, 0, 0, &[])].concat();
    stream.write_all(&greeting).expect("sent");
    let mut sent = 0;
    for n in 0..most {
        let bytes = more(n);
        if stream.write_all(&bytes).is_err() {
            break;
        }
        sent += bytes.len();
    }
    let mut told = Vec::new();
    let _ = stream.read_to_end(&mut told);
    // Frames one after the other; the last that says goodbye.
    let (mut at, mut error) = (0, None);
    while let Some(head) = told.get(at..at + 9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if head[3] == 7 {
            error = told.get(at + 13..at + 17).and_then(|code| code.try_into().ok()).map(u32::from_be_bytes);
        }
        at += 9 + length;
    }
    (sent, error)
}

#[test]
fn floods_of_http2_end_their_connection_and_harm_nobody() {
    const ENHANCE_YOUR_CALM: u32 = 11;
    let scratch = Scratch::new("limits-h2");
    let guarded = Guarded::start(scratch.path());
    let address = guarded.http.trim_start_matches("http://").to_owned();
    let before = peak_mib(guarded.cluster.services.last().expect("the gateway"));
    // GET http://a/livez, of which each part is known to HPACK or said as it is.
    let header = [&[0x82, 0x86, 0x41, 1, b'a', 0x04, 6][..], b"/livez"].concat();
    let began = Instant::now();
    std::thread::scope(|scope| {
        // Streams that are begun and given up (CVE-2023-44487).
        scope.spawn(|| {
            let (sent, error) = flood(
                &address,
                |n| {
                    let stream = 2 * n + 1;
                    [h2_frame(1, 5, stream, &header), h2_frame(3, 0, stream, &[0, 0, 0, 8])].concat()
                },
                200_000,
            );
            // What was said of why may be lost with the rest of the connection.
            assert!(matches!(error, Some(ENHANCE_YOUR_CALM) | None) && sent < 2_000_000, "{sent} bytes, {error:?}");
        });
        // Headers that do not end (CVE-2024-27316).
        scope.spawn(|| {
            let piece = vec![0x00; 16_000];
            let (sent, _) = flood(
                &address,
                |n| if n == 0 { h2_frame(1, 1, 1, &header) } else { h2_frame(9, 0, 1, &piece) },
                10_000,
            );
            assert!(sent < 20_000_000, "{sent} bytes of headers were taken");
        });
        // Streams that this side must reset, for windows that overflow (CVE-2025-8671).
        scope.spawn(|| {
            let (sent, error) = flood(
                &address,
                |n| {
                    let stream = 2 * n + 1;
                    [h2_frame(1, 4, stream, &header), h2_frame(8, 0, stream, &[0; 4])].concat()
                },
                200_000,
            );
            assert!(sent < 2_000_000, "{sent} bytes, {error:?}");
        });
        // Meanwhile others are answered.
        scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while began.elapsed() < Duration::from_secs(3) {
                let asked = Instant::now();
                assert_eq!(tests::curl(&[&format!("{}/livez", guarded.http)]).0, 200);
                slowest = slowest.max(asked.elapsed());
            }
            assert!(slowest < Duration::from_secs(2), "{slowest:?}");
        });
    });
    let after = peak_mib(guarded.cluster.services.last().expect("the gateway"));
    assert!(after < before + 64, "{before} MiB before, {after} after");
}
