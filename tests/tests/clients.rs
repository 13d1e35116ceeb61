//! Clients that nobody here wrote, unmodified: confluent-kafka (Python) and Apache Kafka's own console tools.

use std::process::Command;
use std::time::Duration;

use tests::{Cluster, Scratch, java, run, succeed, tool, tools};

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
