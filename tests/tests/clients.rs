//! Clients that nobody here wrote, unmodified: confluent-kafka (Python) and Apache Kafka's own console tools.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use tests::{Cluster, Scratch, java, java_with_kafka, run, succeed, tool, tools};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

#[test]
fn confluent_kafka_produces_and_reads_with_assign() {
    let python = tools().join("python/bin/python");
    if !tool("confluent-kafka", python.exists()) {
        return;
    }
    let scratch = Scratch::new("confluent");
    let cluster = Cluster::start(scratch.path());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python/assign.py");
    for codec in CODECS {
        let topic = format!("py-{codec}");
        let out = succeed(Command::new(&python).args([script, &cluster.kafka, &topic, codec]), b"");
        assert_eq!(String::from_utf8_lossy(&out), format!("{codec}: 500 records\n"));
    }
}

/// Runs one of the Python programs on a topic of six partitions; it says `ok` at its end.
fn python_group(cluster: &Cluster, program: &str, topic: &str, more: &[&str]) {
    let python = tools().join("python/bin/python");
    if !tool("Python clients", python.exists()) {
        return;
    }
    let create = ["topic", "create", topic, "--partitions", "6", "--server", &cluster.http];
    succeed(Command::new(tests::weir()).args(create), b"");
    let script = format!("{}/clients/python/{program}.py", env!("CARGO_MANIFEST_DIR"));
    let group = format!("{topic}-group");
    let mut command = Command::new(&python);
    command.args([&script, &cluster.kafka, topic, &group]).args(more);
    let output = run(&mut command, b"", Duration::from_secs(170));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && output.stdout == b"ok\n", "{program}: {text}");
}

#[test]
fn groups_of_confluent_kafka_share_commit_and_come_back() {
    let scratch = Scratch::new("group-confluent");
    let cluster = Cluster::start(scratch.path());
    for strategy in ["range", "cooperative-sticky"] {
        python_group(&cluster, "group_confluent", strategy, &[strategy]);
    }
}

#[test]
fn groups_of_kafka_python_and_aiokafka_share_and_commit() {
    let scratch = Scratch::new("group-python");
    let cluster = Cluster::start(scratch.path());
    python_group(&cluster, "group_kafka_python", "kp", &[]);
    python_group(&cluster, "group_aiokafka", "aio", &[]);
}

/// What franz-go's own tests ask of a broker and Weir does not have; docs/third-party.md says why.
const FRANZ_GO_SKIPS: &str = "^(TestTxnEtl|TestConsumeRegex|TestIssueFetchLargerThanBrokerMaxReadBytes)$";

#[test]
fn franz_go_passes_its_own_tests() {
    let (program, folder) = (tools().join("franz-go.test"), tools().join("franz-go"));
    if !tool("franz-go's tests", program.exists()) {
        return;
    }
    let scratch = Scratch::new("franz-go");
    let mut cluster = Cluster::start(scratch.path());
    cluster.add_gateway(scratch.path());
    let mut command = Command::new(program);
    command.current_dir(folder).args(["-test.v", "-test.timeout", "160s", "-test.skip", FRANZ_GO_SKIPS]);
    command.env("KGO_SEEDS", &cluster.kafka).env("KGO_TEST_RF", "2").env("KGO_TEST_RECORDS", "20000");
    let output = run(&mut command, b"", Duration::from_secs(170));
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = |start: &'static str| text.lines().filter(move |line| line.trim_start().starts_with(start));
    let failed: Vec<&str> = lines("--- FAIL").chain(lines("panic:")).collect();
    let last: Vec<&str> = text.lines().rev().take(40).collect();
    assert!(output.status.success() && failed.is_empty(), "{failed:?} {last:#?}");
    assert!(
        lines("--- PASS: TestGroupETL").count() > 3,
        "groups that read, write and commit while members come and go"
    );
}

#[test]
fn apache_kafkas_console_tools_produce_and_read() {
    if !tool("Apache Kafka's tools", tools().join("java").exists()) {
        return;
    }
    let scratch = Scratch::new("java");
    let cluster = Cluster::start(scratch.path());
    let text: String = (0..300).map(|n| format!("key {n}\twert ä {n} {}\n", "x".repeat(200))).collect();
    for codec in CODECS {
        let topic = format!("java-{codec}");
        let produce = [
            "--topic",
            &topic,
            "--compression-codec",
            codec,
            "--reader-property",
            "parse.key=true",
            "--request-timeout-ms",
            "30000",
        ];
        let mut command = java("org.apache.kafka.tools.ConsoleProducer", &cluster, &produce);
        let output = run(&mut command, text.as_bytes(), Duration::from_secs(60));
        // The tool ends with 0 whatever happens: what it says on stderr is its word.
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let consume = [
            "--topic",
            &topic,
            "--partition",
            "0",
            "--offset",
            "earliest",
            "--max-messages",
            "300",
            "--timeout-ms",
            "20000",
            "--formatter-property",
            "print.key=true",
        ];
        let mut command = java("org.apache.kafka.tools.consumer.ConsoleConsumer", &cluster, &consume);
        let output = run(&mut command, b"", Duration::from_secs(60));
        assert!(output.stdout == text.as_bytes(), "{codec}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Each storage node is killed in turn, that of the group's coordinator among them: no committed offset is lost, and every
/// partition has one owner again.
#[test]
fn a_group_outlives_the_node_of_its_coordinator() {
    let python = tools().join("python/bin/python");
    if !tool("confluent-kafka", python.exists()) {
        return;
    }
    let scratch = Scratch::new("group-many");
    let mut cluster = Cluster::with_nodes(scratch.path(), &["az-a", "az-b", "az-c"]);
    // `GROUP_MEMBERS=100 GROUP_PARTITIONS=1000` is what docs/benchmarks.md has.
    let number = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
    let (members, partitions) = (number("GROUP_MEMBERS", "20"), number("GROUP_PARTITIONS", "60"));
    let create = ["topic", "create", "t", "--partitions", &partitions, "--server", &cluster.http];
    succeed(Command::new(tests::weir()).args(create), b"");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python/group_many.py");
    let mut child = Command::new(&python)
        .args([script, &cluster.kafka, "t", "g", &members, &partitions])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut next = || lines.next().expect("it goes on").expect("text");
    assert_eq!(next(), "ready");
    println!("{}", next());
    for node in 1..=3 {
        cluster.services[node].kill();
        std::thread::sleep(Duration::from_secs(3));
        cluster.services[node].start();
        std::thread::sleep(Duration::from_secs(2));
    }
    drop(child.stdin.take());
    let last = next();
    println!("{last}");
    assert!(last.starts_with("ok: ") && child.wait().expect("it ends").success(), "{last}");
}

/// Kafka's own tools, on a cluster of two gateways: they ask every broker, and put the answers together.
#[test]
fn apache_kafkas_tools_administer_topics_and_groups() {
    if !tool("Apache Kafka's tools", tools().join("java").exists()) {
        return;
    }
    let scratch = Scratch::new("java-tools");
    let mut cluster = Cluster::start(scratch.path());
    cluster.add_gateway(scratch.path());
    let ask = |class: &str, arguments: &[&str]| {
        let class = format!("org.apache.kafka.tools.{class}");
        let output = run(&mut java(&class, &cluster, arguments), b"", Duration::from_secs(60));
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && !out.contains("Error"), "{class} {arguments:?}: {out}{err}");
        out.into_owned()
    };
    let create = ["--create", "--topic", "t", "--partitions", "4", "--replication-factor", "3"];
    ask(
        "TopicCommand",
        &[&create[..], &["--config", "cleanup.policy=compact", "--config", "segment.bytes=52428800"]].concat(),
    );
    ask("TopicCommand", &["--alter", "--topic", "t", "--partitions", "6"]);
    let shown = ask("TopicCommand", &["--describe", "--topic", "t"]);
    assert!(shown.contains("PartitionCount: 6") && shown.contains("cleanup.policy=compact"), "{shown}");
    let text: String = (0..100).map(|n| format!("{n}\t{n}\n")).collect();
    let produce = ["--topic", "t", "--request-timeout-ms", "30000", "--reader-property", "parse.key=true"];
    run(
        &mut java("org.apache.kafka.tools.ConsoleProducer", &cluster, &produce),
        text.as_bytes(),
        Duration::from_secs(60),
    );
    let consume =
        ["--topic", "t", "--group", "g", "--from-beginning", "--max-messages", "100", "--timeout-ms", "30000"];
    let mut command = java("org.apache.kafka.tools.consumer.ConsoleConsumer", &cluster, &consume);
    let output = run(&mut command, b"", Duration::from_secs(60));
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 100);
    let group = "consumer.group.ConsumerGroupCommand";
    assert!(ask(group, &["--list"]).lines().any(|line| line.trim() == "g"));
    let described = ask(group, &["--describe", "--group", "g"]);
    let rows = described.lines().filter(|line| line.starts_with("g "));
    let lag = rows.filter_map(|row| row.split_whitespace().nth(5)?.parse::<u64>().ok());
    assert_eq!(lag.collect::<Vec<_>>(), [0; 6], "{described}");
    ask(group, &["--group", "g", "--reset-offsets", "--to-earliest", "--topic", "t", "--execute"]);
    let described = ask(group, &["--describe", "--group", "g"]);
    let rows = described.lines().filter(|line| line.starts_with("g "));
    let lag = rows.filter_map(|row| row.split_whitespace().nth(5)?.parse::<u64>().ok());
    assert_eq!(lag.sum::<u64>(), 100, "{described}");
    let offsets = ask("GetOffsetShell", &["--topic", "t"]);
    let ends = offsets.lines().filter_map(|line| line.rsplit(':').next()?.parse::<u64>().ok());
    assert_eq!(ends.sum::<u64>(), 100, "{offsets}");
    let mut shell =
        java("org.apache.kafka.tools.GetOffsetShell", &cluster, &["--topic", "t", "--time", "max-timestamp"]);
    let output = run(&mut shell, b"", Duration::from_secs(60));
    let newest = String::from_utf8_lossy(&output.stdout);
    let found = newest.lines().filter_map(|line| line.rsplit(':').next()?.parse::<i64>().ok());
    // Those that have records say which is the newest; the rest say that there is none.
    assert!(found.filter(|offset| *offset >= 0).count() > 0, "{output:?}");
    let from = scratch.path().join("offsets.json");
    let wanted = r#"{"partitions":[{"topic":"t","partition":0,"offset":-1}],"version":1}"#;
    let alter = ["--alter", "--topic", "t", "--add-config", "cleanup.policy=delete"];
    succeed(&mut java("kafka.admin.ConfigCommand", &cluster, &alter), b"");
    std::fs::write(&from, wanted).expect("a file");
    ask("DeleteRecordsCommand", &["--offset-json-file", from.to_str().expect("a path")]);
    let bounds = |time: &str| {
        let offsets = ask("GetOffsetShell", &["--topic-partitions", "t:0", "--time", time]);
        offsets.trim().rsplit(':').next().and_then(|offset| offset.parse::<i64>().ok())
    };
    assert_eq!(bounds("earliest"), bounds("latest"));
    assert!(ask("LogDirsCommand", &["--describe", "--topic-list", "t"]).contains("\"partition\":\"t-5\""));
    ask(group, &["--delete", "--group", "g"]);
    assert!(!ask(group, &["--list"]).lines().any(|line| line.trim() == "g"));
}

/// The calls of web consoles, page by page, on two gateways: `tests/clients/java/Consoles.java` says what they need.
#[test]
fn web_consoles_get_the_answers_that_they_need() {
    if !tool("Apache Kafka's tools", tools().join("java").exists()) {
        return;
    }
    let scratch = Scratch::new("consoles");
    let mut cluster = Cluster::start(scratch.path());
    cluster.add_gateway(scratch.path());
    let mut command = java_with_kafka();
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/java/Consoles.java")).arg(&cluster.kafka);
    let output = run(&mut command, b"", Duration::from_secs(120));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
