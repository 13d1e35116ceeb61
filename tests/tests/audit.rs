//! The audit log: who did what, from where, and what was decided.

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::Scratch;
use tests::guarded::{Guarded, Key, app_policy, output_text};
use tests::session::Session;
use tests::signed::Signed;

const OURS: &str = "111111111111";

/// Waits for an event with these values.
fn wait_for(guarded: &Guarded, wanted: &[(&str, &str)]) -> Value {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let events = guarded.audited();
        let is_it = |event: &&Value| {
            wanted.iter().all(|(key, value)| event[*key].as_str().is_some_and(|told| told.contains(value)))
        };
        if let Some(found) = events.iter().find(is_it) {
            return found.clone();
        }
        assert!(Instant::now() < until, "{wanted:?}: {events:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_callers_do_and_are_denied_is_written_down() {
    let dir = Scratch::new("audit");
    let guarded = Guarded::start(dir.path());
    guarded.make_account(OURS, "ours", "u-1");
    let key = guarded.make_user(OURS, "app", &app_policy(OURS, "ours", "u-1"));
    let principal = format!("arn:aws:iam::{OURS}:user/app");
    assert!(guarded.weir_as(&key, &["topic", "create", "app"]).status.success());
    assert!(guarded.produce_as(&key, "app", "line\n").status.success());
    let arn = format!("arn:aws:kafka:us-east-1:{OURS}:topic/ours/u-1/app");
    let written =
        wait_for(&guarded, &[("action", "kafka-cluster:WriteData"), ("resource", &arn), ("outcome", "allowed")]);
    assert_eq!((&written["principal"], &written["access_key"]), (&principal.into(), &key.id.clone().into()));
    assert_eq!(written["source"], "127.0.0.1");
    assert!(
        written["time"].as_str().is_some_and(|time| time.ends_with('Z')) && written["gateway"].is_i64(),
        "{written}"
    );
    // A denial under the id that its caller was told.
    let denied = guarded.produce_as(&key, "secret", "line\n");
    let told = output_text(&denied);
    let event =
        wait_for(&guarded, &[("action", "kafka-cluster:WriteData"), ("resource", "/secret"), ("outcome", "denied")]);
    assert!(event["id"].as_str().is_some_and(|id| told.contains(id)), "{event}: {told}");
    // A login that failed, under the id that its client was told, with a reason that the client was not.
    let wrong = Key { secret: "wrong".to_owned(), ..key.clone() };
    let message = Session::connect(&guarded.plain).log_in(&wrong).expect_err("a wrong secret");
    let event = wait_for(&guarded, &[("outcome", "refused"), ("reason", "wrong_signature")]);
    assert!(
        event["principal"].is_null() && event["id"].as_str().is_some_and(|id| message.contains(id)),
        "{event}: {message}"
    );
    // Kafka's calls as well; and no secret is in it.
    Session::of(&guarded.plain, &key);
    wait_for(&guarded, &[("action", "kafka-cluster:Connect"), ("outcome", "allowed")]);
    let text = std::fs::read_to_string(&guarded.audit).expect("a log");
    assert!(!text.contains(&key.secret));
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&guarded.audit).expect("a log"));
    assert_eq!(mode & 0o077, 0, "for its owner alone");
}

#[test]
fn an_account_reads_its_events_in_a_topic_that_the_service_alone_writes() {
    const THEIRS: &str = "222222222222";
    let dir = Scratch::new("audit-topics");
    let mut guarded = Guarded::start_with(dir.path(), &["--audit-topics"]);
    let everything = serde_json::json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "*", "Resource": "*" }] });
    let [ours, theirs] = [OURS, THEIRS].map(|account| {
        guarded.make_account(account, "orders", "u-1");
        let key = guarded.make_user(account, "admin", &everything);
        assert!(guarded.weir_as(&key, &["topic", "create", "t"]).status.success());
        assert!(guarded.produce_as(&key, "t", "line\n").status.success());
        key
    });
    let wrong = Key { secret: "wrong".to_owned(), ..ours.clone() };
    Session::connect(&guarded.plain).log_in(&wrong).expect_err("a wrong secret");
    // A wrong password, and a key that was right and may connect to nothing, concern the account as well.
    guarded.set_password(OURS, "admin", "correct-horse-battery");
    let tried =
        guarded.kcat(&format!("{OURS}/admin"), "wrong-horse-battery", &["-L", "-m", "3"]).output().expect("kcat");
    assert!(!tried.status.success());
    let idle = guarded.make_user(
        OURS,
        "idle",
        &serde_json::json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Deny", "Action": "*", "Resource": "*" } ] }),
    );
    Session::connect(&guarded.plain).log_in(&idle).expect_err("it may not connect");
    let weak = guarded.make_user(OURS, "weak", &app_policy(OURS, "orders", "u-1"));
    assert!(!guarded.produce_as(&weak, "t", "line\n").status.success());

    let read = |key: &Key| {
        let consume = ["consume", "audit", "--cluster", "weir", "-o", "beginning", "-e"];
        String::from_utf8(guarded.weir_as(key, &consume).stdout).expect("text")
    };
    let wanted = [
        r#""outcome":"allowed","principal":"arn:aws:iam::111111111111:user/admin""#,
        r#""outcome":"denied","principal":"arn:aws:iam::111111111111:user/weak""#,
        r#""outcome":"refused","principal":null,"reason":"wrong_signature""#,
        r#""outcome":"refused","principal":null,"reason":"wrong_password""#,
        r#""outcome":"refused","principal":null,"reason":"may_not_connect""#,
        "/orders/u-1/t",
    ];
    let until = Instant::now() + Duration::from_secs(15);
    let told = loop {
        let told = read(&ours);
        if wanted.iter().all(|one| told.contains(one)) {
            break told;
        }
        assert!(Instant::now() < until, "{told}");
        std::thread::sleep(Duration::from_millis(300));
    };
    let events: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let refused = |reason: &str| events.iter().find(|event| event["reason"] == reason).expect("a login that failed");
    assert_eq!(refused("wrong_signature")["access_key"], ours.id, "whose key it was");
    assert_eq!(refused("may_not_connect")["access_key"], idle.id);
    assert!(events.iter().all(|event| event["account"] == OURS), "{told}");
    assert!(events.iter().all(|event| event["time"].as_str().is_some_and(|time| time.len() == 24)), "{told}");
    // Nothing of another account, and nothing about the reading of it, which has had its time to come.
    std::thread::sleep(Duration::from_millis(1_500));
    let told = read(&ours);
    assert!(!told.contains(THEIRS) && !told.contains("/weir/"), "{told}");
    assert!(!read(&theirs).contains(OURS));

    // It is read alone, whatever policies say; and an account's only cluster is the one that it made.
    let in_weir = |arguments: &[&str]| guarded.weir_as(&ours, &[arguments, &["--cluster", "weir"]].concat());
    let before = read(&ours).lines().count();
    for arguments in [
        ["topic", "create", "more"].as_slice(),
        &["topic", "delete", "audit"],
        &["topic", "alter", "audit", "--config", "retention.ms=1"],
    ] {
        let output = in_weir(arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", output_text(&output));
    }
    let mut signed = Signed::of(&guarded.http, &ours);
    for (path, body) in [
        ("/v1/topics/audit/records", r#"{"records":[{"value":1}]}"#),
        ("/v1/topics/audit/partitions/0/trim", r#"{"before":1}"#),
    ] {
        let answer = signed.ask("POST", path, body, &[("weir-cluster-name", "weir")]);
        assert_eq!(answer.status, 403, "{path}: {answer:?}");
    }
    for arguments in
        [["cluster", "delete", "weir"].as_slice(), &["cluster", "create", "weir"], &["cluster", "create", "Weir"]]
    {
        let output = guarded.weir_as(&ours, arguments);
        let text = output_text(&output);
        assert!(!output.status.success() && text.contains("the service's own"), "{arguments:?}: {text}");
    }
    assert!(read(&ours).lines().count() >= before);
    let listed = output_text(&guarded.weir_as(&ours, &["topic", "list"]));
    assert!(listed.contains(" t ") && !listed.contains("audit"), "{listed}");
    assert!(output_text(&guarded.weir_as(&ours, &["cluster", "list"])).contains("weir"));

    // What came just before the end of a gateway is written all the same.
    let denied = guarded.produce_as(&weak, "last", "line\n");
    assert!(!denied.status.success());
    let gateway = guarded.cluster.services.last_mut().expect("the guarded one");
    assert_eq!(gateway.terminate(), Some(0));
    gateway.start();
    let read = |key: &Key| {
        let consume = ["consume", "audit", "--cluster", "weir", "-o", "beginning", "-e"];
        String::from_utf8(guarded.weir_as(key, &consume).stdout).expect("text")
    };
    let told = read(&ours);
    assert!(told.contains("/orders/u-1/last"), "{told}");
    // So is who tried to change it.
    for action in ["CreateTopic", "DeleteTopic", "AlterTopicDynamicConfiguration", "WriteData"] {
        let tried = |event: &Value| {
            let resource = event["resource"].as_str().unwrap_or_default();
            event["action"] == format!("kafka-cluster:{action}")
                && resource.contains("/weir/")
                && event["outcome"] == "denied"
        };
        assert!(
            told.lines().any(|line| serde_json::from_str(line).is_ok_and(|event| tried(&event))),
            "{action}: {told}"
        );
    }
}
