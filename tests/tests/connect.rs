//! What others build on Kafka, unmodified, while storage nodes and gateways are killed: Kafka Connect with a file at both
//! ends, and MirrorMaker 2 from a real Apache Kafka.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{
    Cluster, Scratch, curl_json, free_port, has_command, java_with_kafka, kill_in_turn, run, succeed, tool, tools,
};

fn is_equipped() -> bool {
    tool("Apache Kafka's libraries", tools().join("java").exists()) && tool("kcat", has_command("kcat"))
}

fn java(class: &str, arguments: &[&str]) -> Command {
    let mut command = java_with_kafka();
    command.arg(class).args(arguments);
    command
}

/// A process that is ended with the test, and its log.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(mut command: Command, log: PathBuf) -> Self {
        let file = fs::File::create(&log).expect("a log");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("the log")).stderr(file);
        Self { child: command.spawn().expect("it starts"), log }
    }

    fn check(&mut self) {
        let status = self.child.try_wait().expect("its state");
        assert!(status.is_none(), "it ended: {status:?}\n{}", self.log_end());
    }

    fn log_end(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_until(what: &str, limit: Duration, process: &mut Process, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        process.check();
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}\n{}", process.log_end());
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn properties(path: &Path, entries: &[(&str, &str)]) -> String {
    let text: String = entries.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    fs::write(path, text).expect("settings");
    path.to_str().expect("a path").to_owned()
}

/// Lines from a file through a topic to another file: each line is there, in order where it came first.
#[test]
fn kafka_connect() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("connect");
    let mut cluster = Cluster::start(scratch.path());
    cluster.add_gateway(scratch.path());
    let at = |name: &str| scratch.path().join(name).to_str().expect("a path").to_owned();
    let rest = format!("http://127.0.0.1:{}", free_port());
    let worker = properties(
        &scratch.path().join("worker.properties"),
        &[
            ("bootstrap.servers", &cluster.kafka),
            ("group.id", "connect"),
            ("listeners", &rest),
            ("key.converter", "org.apache.kafka.connect.storage.StringConverter"),
            ("value.converter", "org.apache.kafka.connect.storage.StringConverter"),
            ("offset.storage.topic", "connect-offsets"),
            ("config.storage.topic", "connect-configs"),
            ("status.storage.topic", "connect-status"),
            ("offset.flush.interval.ms", "1000"),
        ],
    );
    let start = || {
        let command = java("org.apache.kafka.connect.cli.ConnectDistributed", &[&worker]);
        Process::start(command, scratch.path().join("connect.log"))
    };
    let mut connect = start();
    let is_up = || {
        let answer = Command::new("curl").args(["-s", "-f", "--max-time", "5", &format!("{rest}/connectors")]).output();
        answer.is_ok_and(|answer| answer.status.success())
    };
    wait_until("the worker answers", Duration::from_secs(90), &mut connect, is_up);
    fs::write(at("in"), "").expect("a file");
    let post = |name: &str, config: Value| {
        let body = json!({ "name": name, "config": config }).to_string();
        let url = format!("{rest}/connectors");
        let (status, answer) = curl_json(&["-H", "content-type: application/json", "-d", &body, &url]);
        assert_eq!(status, 201, "{answer}");
    };
    let class = |end: &str| format!("org.apache.kafka.connect.file.FileStream{end}Connector");
    post("source", json!({ "connector.class": class("Source"), "tasks.max": "1", "file": at("in"), "topic": "lines" }));
    post("sink", json!({ "connector.class": class("Sink"), "tasks.max": "1", "file": at("out"), "topics": "lines" }));

    let mut file = fs::OpenOptions::new().append(true).open(at("in")).expect("the file");
    let mut written = 0_u64;
    let mut write = || {
        for _ in 0..500 {
            writeln!(file, "line {written}").expect("a line");
            written += 1;
        }
    };
    kill_in_turn(&mut cluster, &mut write);
    // The worker itself is killed too: it goes on where its topics say.
    drop(connect);
    write();
    let mut connect = start();
    wait_until("the worker is back", Duration::from_secs(90), &mut connect, is_up);
    write();
    // The next number that is expected; what is known comes again where offsets were not committed yet.
    let (mut next, mut again) = (0, 0);
    wait_until("every line is at the other end", Duration::from_secs(90), &mut connect, || {
        (next, again) = (0, 0);
        let text = fs::read_to_string(at("out")).unwrap_or_default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let number: u64 = line.strip_prefix("line ").and_then(|number| number.parse().ok()).unwrap_or(u64::MAX);
            // The last one may be half written.
            assert!(number <= next || !text.ends_with('\n'), "{number} comes, {next} never did");
            if number == next {
                next += 1;
            } else {
                again += 1;
            }
        }
        next == written
    });
    println!("connect: {written} lines, {again} of them came again");
}

/// One broker of Apache Kafka.
fn kafka(scratch: &Scratch) -> (Process, String) {
    let (address, controller) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    let settings = properties(
        &scratch.path().join("server.properties"),
        &[
            ("process.roles", "broker,controller"),
            ("node.id", "1"),
            ("controller.quorum.voters", &format!("1@{controller}")),
            ("listeners", &format!("PLAINTEXT://{address},CONTROLLER://{controller}")),
            ("controller.listener.names", "CONTROLLER"),
            ("log.dirs", scratch.path().join("kafka").to_str().expect("a path")),
            ("offsets.topic.replication.factor", "1"),
            ("transaction.state.log.replication.factor", "1"),
            ("transaction.state.log.min.isr", "1"),
            ("share.coordinator.state.topic.replication.factor", "1"),
            ("share.coordinator.state.topic.min.isr", "1"),
            ("group.initial.rebalance.delay.ms", "0"),
        ],
    );
    let uuid = succeed(&mut java("kafka.tools.StorageTool", &["random-uuid"]), b"");
    let uuid = String::from_utf8_lossy(&uuid).trim().to_owned();
    succeed(&mut java("kafka.tools.StorageTool", &["format", "-t", &uuid, "-c", &settings]), b"");
    let mut process = Process::start(java("kafka.Kafka", &[&settings]), scratch.path().join("kafka.log"));
    wait_until("Apache Kafka answers", Duration::from_secs(90), &mut process, || {
        Command::new("kcat").args(["-b", &address, "-L", "-m", "2"]).output().is_ok_and(|out| out.status.success())
    });
    (process, address)
}

/// What a topic's partitions hold, in order.
fn read(bootstrap: &str, topic: &str) -> BTreeMap<i32, Vec<String>> {
    let arguments = ["-b", bootstrap, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%p %s\n"];
    let output = run(Command::new("kcat").args(arguments), b"", Duration::from_secs(60));
    let mut partitions: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let (partition, value) = line.split_once(' ').expect("two words");
        partitions.entry(partition.parse().expect("a number")).or_default().push(value.to_owned());
    }
    partitions
}

/// Each in order where it came first.
fn firsts(values: &[String]) -> Vec<&String> {
    let mut known = std::collections::HashSet::new();
    values.iter().filter(|value| known.insert(*value)).collect()
}

/// A topic of a real Apache Kafka is mirrored with its records, partitions and a group's offsets.
#[test]
fn mirror_maker() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("mirror");
    let mut cluster = Cluster::start(scratch.path());
    cluster.add_gateway(scratch.path());
    let (mut kafka, source) = kafka(&scratch);
    let create = ["--bootstrap-server", &source, "--create", "--topic", "lines", "--partitions", "3"];
    succeed(&mut java("org.apache.kafka.tools.TopicCommand", &create), b"");
    let mut written = 0;
    let mut write = || {
        let text: String = (written..written + 500).map(|number| format!("{}\tline {number}\n", number % 50)).collect();
        written += 500;
        succeed(Command::new("kcat").args(["-b", &source, "-P", "-t", "lines", "-K", "\t", "-q"]), text.as_bytes());
    };
    write();
    let settings = properties(
        &scratch.path().join("mirror.properties"),
        &[
            ("clusters", "source,target"),
            ("source.bootstrap.servers", &source),
            ("target.bootstrap.servers", &cluster.kafka),
            ("source->target.enabled", "true"),
            ("source->target.topics", "lines"),
            ("source.replication.factor", "1"),
            ("source.offset-syncs.topic.replication.factor", "1"),
            // It has one broker, and the way back keeps its state there.
            ("source.offset.storage.replication.factor", "1"),
            ("source.config.storage.replication.factor", "1"),
            ("source.status.storage.replication.factor", "1"),
            ("offset-syncs.topic.location", "target"),
            ("refresh.topics.interval.seconds", "2"),
            ("sync.group.offsets.enabled", "true"),
            ("sync.group.offsets.interval.seconds", "2"),
            ("emit.checkpoints.interval.seconds", "2"),
            ("refresh.groups.interval.seconds", "2"),
            ("offset.flush.interval.ms", "1000"),
            ("consumer.auto.offset.reset", "earliest"),
        ],
    );
    let command = java("org.apache.kafka.connect.mirror.MirrorMaker", &[&settings]);
    let mut mirror = Process::start(command, scratch.path().join("mirror.log"));
    let topic = "source.lines";
    wait_until("records are mirrored", Duration::from_secs(120), &mut mirror, || {
        read(&cluster.kafka, topic).values().map(Vec::len).sum::<usize>() >= 500
    });
    // A group of the source, with offsets.
    let consume = ["-b", &source, "-G", "readers", "lines", "-c", "400", "-X", "auto.offset.reset=earliest", "-q"];
    succeed(Command::new("kcat").args(consume), b"");
    kill_in_turn(&mut cluster, &mut write);
    write();
    let expected = read(&source, "lines");
    assert_eq!(expected.values().map(Vec::len).sum::<usize>(), written);
    wait_until("everything is mirrored", Duration::from_secs(90), &mut mirror, || {
        let found = read(&cluster.kafka, topic);
        let as_sent = |(partition, values): (&i32, &Vec<String>)| {
            found.get(partition).is_some_and(|found| firsts(found) == firsts(values))
        };
        expected.iter().all(as_sent)
    });
    wait_until("the group's offsets are there", Duration::from_secs(60), &mut mirror, || {
        let arguments = ["--bootstrap-server", &cluster.kafka, "--describe", "--group", "readers"];
        let output = run(
            &mut java("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", &arguments),
            b"",
            Duration::from_secs(60),
        );
        String::from_utf8_lossy(&output.stdout).contains(topic)
    });
    kafka.check();
    println!("mirror: {written} records of {} partitions", expected.len());
}
