//! The policy engine against a second one that was written from the rules alone, in another language by another hand
//! (`tests/policies/evaluate.py`), and the commands of `weir policy`.

use std::process::{Command, Output};

use serde_json::{Value, json};
use tests::{Scratch, weir};

fn python(script: &str, arguments: &[&str]) -> String {
    let script = format!("{}/policies/{script}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("python3").arg(script).args(arguments).output().expect("Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn policy(arguments: &[&str]) -> Output {
    Command::new(weir()).arg("policy").args(arguments).output().expect("weir")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `POLICY_CASES=20000 POLICY_SEED=1` is the long form.
#[test]
fn a_second_engine_decides_the_same() {
    let variable = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
    let scratch = Scratch::new("policy-cases");
    let file = scratch.path().join("cases.jsonl");
    let cases = python("generate.py", &[&variable("POLICY_SEED", "7"), &variable("POLICY_CASES", "4000")]);
    std::fs::write(&file, &cases).expect("a file");
    let file = file.to_str().expect("a path");
    let theirs = python("evaluate.py", &[file]);
    let ours = out(&policy(&["simulate", "--cases", file]));
    let decision = |line: &str| -> (Value, Value) {
        let answer: Value = serde_json::from_str(line).expect("JSON");
        let decision = answer.get("decision").cloned().unwrap_or_else(|| json!("error"));
        (answer["id"].clone(), decision)
    };
    assert_eq!((cases.lines().count(), theirs.lines().count()), (ours.lines().count(), ours.lines().count()));
    let mut counts = std::collections::BTreeMap::new();
    for ((case, theirs), ours) in cases.lines().zip(theirs.lines()).zip(ours.lines()) {
        assert_eq!(decision(ours), decision(theirs), "{case}\n{ours}");
        *counts.entry(decision(ours).1.to_string()).or_insert(0) += 1;
    }
    println!("{counts:?}");
    assert!(counts.len() == 4 && counts.values().all(|count| *count * 50 > cases.lines().count()), "{counts:?}");
}

#[test]
fn documents_are_checked_and_calls_decided_offline() {
    let scratch = Scratch::new("policy-commands");
    let write = |name: &str, text: &str| {
        let path = scratch.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("a path").to_owned()
    };
    let topic = "arn:aws:kafka:eu-west-1:123456789012:topic/orders/u-1/clicks";
    let readers = write(
        "readers.json",
        r#"{"Version": "2012-10-17", "Statement": {"Sid": "readers", "Effect": "Allow", "Action": "kafka-cluster:ReadData",
            "Resource": "arn:aws:kafka:*:*:topic/orders/*/${aws:username}*"}}"#,
    );
    let broken = write("broken.json", "{\"Statement\":\n  [{\"Effect\": \"allow\"}]}");
    let broad = write("broad.json", r#"{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}"#);

    let clean = policy(&["lint", &readers]);
    assert!(clean.status.success(), "{clean:?}");
    let wrong = policy(&["lint", &readers, &broken, &broad, "-o", "json"]);
    assert_eq!(wrong.status.code(), Some(1));
    let found: Value = serde_json::from_str(&out(&wrong)).expect("JSON");
    assert_eq!((&found[0]["line"], &found[0]["column"], &found[0]["level"]), (&json!(2), &json!(15), &json!("error")));
    assert_eq!(found[1]["rule"], "allow-everything");
    assert_eq!(policy(&["lint", &broad]).status.code(), Some(0), "a warning is no failure");
    assert_eq!(policy(&["lint", &broad, "--strict"]).status.code(), Some(1));

    let ask = |principal: &str, action: &str| {
        let arguments = ["simulate", "--policy", &readers, "--principal", principal, "--action", action];
        let output = policy(&[&arguments[..], &["--resource", topic, "-o", "json"]].concat());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_str::<Value>(&out(&output)).expect("JSON")[0].clone()
    };
    let click = ask("arn:aws:iam::123456789012:user/click", "kafka-cluster:ReadData");
    assert_eq!((&click["decision"], &click["statements"]), (&json!("allowed"), &json!(["readers"])));
    let alice = ask("arn:aws:iam::123456789012:user/alice", "kafka-cluster:ReadData");
    assert_eq!(alice["decision"], "implicitDeny");
    assert_eq!(alice["reports"][0]["element"], "Resource");
    let writing = ask("arn:aws:iam::123456789012:user/click", "kafka-cluster:WriteData");
    let proposed = &writing["would_allow"][0]["policy"];
    let statement = &proposed["Statement"][0];
    assert_eq!((&statement["Action"], &statement["Resource"]), (&json!("kafka-cluster:WriteData"), &json!(topic)));
    // What it proposes is a policy.
    let added = write("added.json", &proposed.to_string());
    let arguments = ["simulate", "--policy", &added, "--action", "kafka-cluster:WriteData", "--resource", topic];
    assert!(out(&policy(&arguments)).contains("allowed"));
    for wrong in [
        ["--action", "a:b", "--resource", "*", "--principal", "me"],
        ["--action", "a:*", "--resource", "*", "--context", "k=v"],
        ["--action", "a:b", "--resource", "orders", "--context", "k=v"],
        ["--action", "a:b", "--resource", "*", "--context", "k"],
    ] {
        assert_eq!(policy(&[&["simulate"], &wrong[..]].concat()).status.code(), Some(2), "{wrong:?}");
    }
}
