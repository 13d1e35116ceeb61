//! The audit log: who did what, from where, and what was decided.

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::Scratch;
use tests::guarded::{Guarded, Key, app_policy, output_text};
use tests::session::Session;

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
    let event = wait_for(&guarded, &[("outcome", "refused"), ("reason", "WrongSignature")]);
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
