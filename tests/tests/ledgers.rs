//! Clients of many languages, unmodified, keep ledgers while storage nodes and gateways are killed:
//! `tests/clients/go/main.go` says what each of them does and demands.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use tests::{Cluster, Scratch, has_command, java_with_kafka, kill_in_turn, tool, tools};

/// Kills each storage node and each gateway in turn while the client works; it must say `ok` at its end.
fn outlives_nodes_and_gateways(name: &str, client: impl FnOnce(&Cluster, &Scratch) -> Command) {
    let scratch = Scratch::new(&format!("ledger-{name}"));
    let mut cluster = Cluster::start(scratch.path());
    cluster.add_gateway(scratch.path());
    let mut child = client(&cluster, &scratch).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut next = || lines.next().map(|line| line.expect("text")).unwrap_or_default();
    assert_eq!(next(), "ready", "{name}");
    kill_in_turn(&mut cluster, || ());
    drop(child.stdin.take());
    let last = next();
    println!("{name}: {last}");
    assert!(last.starts_with("ok: ") && child.wait().expect("it ends").success(), "{name}: {last}");
}

fn go(name: &str) {
    let binary = tools().join("go-clients");
    if tool("Go clients", binary.exists()) {
        outlives_nodes_and_gateways(name, |cluster, _| {
            let mut command = Command::new(binary);
            command.args([name, &cluster.kafka, "t", "g"]);
            command
        });
    }
}

#[test]
fn franz_go() {
    go("franz-go");
}

#[test]
fn sarama() {
    go("sarama");
}

#[test]
fn sarama_with_its_newest_versions() {
    go("sarama-newest");
}

#[test]
fn kafka_go() {
    go("kafka-go");
}

fn javascript(client: &str) {
    let modules = tools().join("js/node_modules");
    if tool("JavaScript clients", modules.exists() && has_command("node")) {
        outlives_nodes_and_gateways(client, |cluster, _| {
            let mut command = Command::new("node");
            command.env("NODE_PATH", modules).arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/js/ledger.js"));
            command.args([client, &cluster.kafka, "t", "g"]);
            command
        });
    }
}

#[test]
fn kafkajs() {
    javascript("kafkajs");
}

#[test]
fn confluent_kafka_javascript() {
    javascript("confluent");
}

/// A Java program of one file, with Apache Kafka's libraries.
fn java(program: &str) -> Command {
    let mut command = java_with_kafka();
    command.arg(format!("{}/clients/java/{program}.java", env!("CARGO_MANIFEST_DIR")));
    command
}

#[test]
fn apache_kafkas_client() {
    if tool("Apache Kafka's libraries", tools().join("java").exists()) {
        for assignor in ["RangeAssignor", "CooperativeStickyAssignor"] {
            outlives_nodes_and_gateways(&format!("java-{assignor}"), |cluster, _| {
                let mut command = java("Ledger");
                command.args([&cluster.kafka, "t", "g", assignor]);
                command
            });
        }
    }
}

#[test]
fn kafka_streams() {
    if tool("Apache Kafka's libraries", tools().join("java").exists()) {
        outlives_nodes_and_gateways("streams", |cluster, scratch| {
            let mut command = java("Counting");
            command.args([&cluster.kafka, "s"]).arg(scratch.path().join("state"));
            command
        });
    }
}
