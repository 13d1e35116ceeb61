//! Who may do what, on separate processes: real clients log in as they would to Amazon MSK, policies are held to on open
//! connections, and what was revoked ends.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tests::guarded::{Guarded, Key, REGION, app_policy, output_text};
use tests::session::Session;
use tests::signed::Signed;
use tests::{Scratch, Service, curl, curl_json, java_with_kafka, run, succeed, tool, tools};
use wire::kafka::*;

const ACCOUNT: &str = "111111111111";
const PASSWORD: &str = "correct horse, battery=staple";

/// One of the clients of tests/clients, which all take the same arguments.
fn client(name: &str, guarded: &Guarded, topic: &str, environment: &[(&'static str, String)]) -> Output {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    let ca = guarded.ca.to_str().expect("a path");
    let mut command = match name.split_once('/').expect("a language and a client") {
        ("python", client) => {
            let mut command = Command::new(tools().join("python/bin/python"));
            command.arg(sources.join("python/login.py")).arg(client);
            command
        }
        ("go", client) => {
            let mut command = Command::new(tools().join("go-clients"));
            command.arg(client);
            command
        }
        ("js", _) => {
            let mut command = Command::new("node");
            command.env("NODE_PATH", tools().join("js/node_modules")).arg(sources.join("js/login.js"));
            command
        }
        (_, mechanism) => {
            let mut command = java_with_kafka();
            command.arg(sources.join("java/Login.java")).arg(mechanism);
            command
        }
    };
    command.args([&guarded.kafka, ca, topic, &format!("from {name}")]).envs(environment.iter().cloned());
    run(&mut command, b"", Duration::from_secs(90))
}

/// Every client that the tools hold and that logs in as to MSK.
const SIGNERS: [&str; 7] = [
    "python/confluent-signer",
    "python/kafka-python",
    "go/login-franz-go",
    "go/login-sarama",
    "js/kafkajs",
    "java/AWS_MSK_IAM",
    "java/OAUTHBEARER",
];

fn has_tools() -> bool {
    tool("python clients", tools().join("python").exists())
        && tool("go clients", tools().join("go-clients").exists())
        && tool("js clients", tools().join("js").exists())
        && tool("java clients", tools().join("java").exists())
}

#[test]
fn clients_of_msk_log_in_unmodified_and_fail_rightly() {
    if !has_tools() {
        return;
    }
    let scratch = Scratch::new("identity-signers");
    let guarded = Guarded::start(scratch.path());
    guarded.make_account(ACCOUNT, "orders", "abcd-1");
    let key = guarded.make_user(ACCOUNT, "app", &app_policy(ACCOUNT, "orders", "abcd-1"));
    assert!(guarded.weir_as(&key, &["topic", "create", "app"]).status.success());
    for name in SIGNERS {
        let output = client(name, &guarded, "app", &key.environment());
        assert!(output.status.success(), "{name}: {}", output_text(&output));
        // Another secret: refused, in the words of MSK, and nobody is told why.
        let wrong = Key { secret: key.secret.chars().rev().collect(), ..key.clone() };
        let output = client(name, &guarded, "app", &wrong.environment());
        let text = output_text(&output);
        assert_eq!(output.status.code(), Some(3), "{name}: {text}");
        // kafka-python and kafkajs keep the words to themselves, and say that there is no broker.
        let is_silent = ["python/kafka-python", "js/kafkajs"].contains(&name);
        assert!(text.contains("Access denied") || is_silent, "{name}: {text}");
        // A topic that no policy names.
        let output = client(name, &guarded, "other", &key.environment());
        assert_eq!(output.status.code(), Some(3), "{name}: {}", output_text(&output));
    }
    // Temporary credentials of a role, with their session token; and without it.
    guarded.operate(&["role", "create", "job", "--account", ACCOUNT], b"");
    guarded.put_policy(ACCOUNT, "--role", "job", &app_policy(ACCOUNT, "orders", "abcd-1"));
    let session = ["key", "create", "--role", "job", "--session", "s-1", "--duration", "900", "--account", ACCOUNT];
    let session = Key::from(&guarded.operate_json(&session));
    for name in ["python/confluent-signer", "python/kafka-python", "java/AWS_MSK_IAM", "go/login-franz-go"] {
        let output = client(name, &guarded, "app", &session.environment());
        assert!(output.status.success(), "{name}: {}", output_text(&output));
        let tokenless = Key { token: None, ..session.clone() };
        let output = client(name, &guarded, "app", &tokenless.environment());
        assert_eq!(output.status.code(), Some(3), "{name}: {}", output_text(&output));
    }
    let refused = |name: &str, why: &str| {
        let output = client(name, &guarded, "app", &key.environment());
        assert_eq!(output.status.code(), Some(3), "{name}: {}", output_text(&output));
        assert!(guarded.log().contains(why), "{name}: the log says why: {why}");
    };
    refused("python/confluent-expired", "Expired");
    refused("python/kafka-python-elsewhere", "Elsewhere");
    // No secret is in any log.
    let logs: String = guarded.cluster.services.iter().map(Service::log_text).collect();
    assert!(!logs.contains(&key.secret) && !logs.contains(&session.token.expect("a token")));
}

#[test]
fn passwords_log_in_by_scram_and_end_when_they_change() {
    let scratch = Scratch::new("identity-scram");
    let guarded = Guarded::start(scratch.path());
    guarded.make_account(ACCOUNT, "orders", "abcd-1");
    let key = guarded.make_user(ACCOUNT, "app", &app_policy(ACCOUNT, "orders", "abcd-1"));
    let user = format!("{ACCOUNT}/app");
    assert!(guarded.weir_as(&key, &["topic", "create", "app-1"]).status.success());
    guarded.set_password(ACCOUNT, "app", PASSWORD);
    succeed(&mut guarded.kcat(&user, PASSWORD, &["-P", "-t", "app-1"]), b"one\n");
    let read = ["-C", "-t", "app-1", "-e", "-q", "-o", "beginning"];
    assert_eq!(succeed(&mut guarded.kcat(&user, PASSWORD, &read), b""), b"one\n");
    // A wrong password, a user that is not there, and no login at all.
    for (user, password) in [(user.as_str(), "wrong password"), ("111111111111/nobody", PASSWORD), ("app", PASSWORD)] {
        let output = run(&mut guarded.kcat(user, password, &["-L", "-m", "3"]), b"", Duration::from_secs(20));
        assert!(output_text(&output).contains("Access denied"), "{user}: {}", output_text(&output));
    }
    let output = run(Command::new("kcat").args(["-b", &guarded.plain, "-L", "-m", "2"]), b"", Duration::from_secs(20));
    assert!(!output.status.success(), "{}", output_text(&output));
    // A reader that waits at the end is cut off once the password is another's.
    let mut waiting = guarded.reader(&user, PASSWORD, "app-1");
    guarded.set_password(ACCOUNT, "app", "another password");
    waiting.wait_for("Access denied", Duration::from_secs(10));
    assert!(guarded.log().contains("were revoked"));
    drop(waiting);
    succeed(&mut guarded.kcat(&user, "another password", &["-P", "-t", "app-1"]), b"two\n");
    if has_tools() {
        let environment = [("WEIR_USER", user), ("WEIR_PASSWORD", "another password".to_owned())];
        for name in ["python/confluent-scram", "go/login-franz-go-scram"] {
            let output = client(name, &guarded, "app-1", &environment);
            assert!(output.status.success(), "{name}: {}", output_text(&output));
        }
    }
}

#[test]
fn policies_and_keys_are_revoked_on_open_connections() {
    let scratch = Scratch::new("identity-revoked");
    let guarded = Guarded::start(scratch.path());
    guarded.make_account(ACCOUNT, "orders", "abcd-1");
    let policy = app_policy(ACCOUNT, "orders", "abcd-1");
    let key = guarded.make_user(ACCOUNT, "app", &policy);
    guarded.set_password(ACCOUNT, "app", PASSWORD);
    let user = format!("{ACCOUNT}/app");
    assert!(guarded.weir_as(&key, &["topic", "create", "app"]).status.success());
    succeed(&mut guarded.kcat(&user, PASSWORD, &["-P", "-t", "app"]), b"one\n");
    // One connection reads all the time.
    let mut reader = guarded.reader(&user, PASSWORD, "app");
    let mut denying = policy.clone();
    denying["Statement"].as_array_mut().expect("statements").push(json!({
        "Sid": "NoMore", "Effect": "Deny", "Action": ["kafka-cluster:ReadData", "kafka-cluster:WriteData"], "Resource": "*"
    }));
    guarded.put_policy(ACCOUNT, "--user", "app", &denying);
    reader.wait_for("Topic authorization failed", Duration::from_secs(10));
    drop(reader);
    // Nor is one given anything that began to wait before.
    guarded.put_policy(ACCOUNT, "--user", "app", &policy);
    let writer = guarded.make_user(ACCOUNT, "writer", &policy);
    let url = format!("{}/v1/topics/app/partitions/0/records?offset=latest&wait_ms=8000", guarded.http);
    let mut waiting = Command::new("curl");
    waiting.args(["-sS", "-m", "20", "--aws-sigv4", &format!("aws:amz:{REGION}:kafka-cluster")]);
    waiting.args(["--user", &format!("{}:{}", key.id, key.secret), &url]);
    let waiting = waiting.stdout(Stdio::piped()).spawn().expect("curl");
    std::thread::sleep(Duration::from_secs(1));
    guarded.put_policy(ACCOUNT, "--user", "app", &denying);
    std::thread::sleep(Duration::from_millis(500));
    assert!(guarded.produce_as(&writer, "app", "not for app\n").status.success());
    let told = output_text(&waiting.wait_with_output().expect("curl ends"));
    assert!(told.contains("topic_denied") && !told.contains("not for app"), "{told}");
    // Whoever was denied is told by which statement.
    let output = guarded.produce_as(&key, "app", "x\n");
    let text = output_text(&output);
    assert_eq!(output.status.code(), Some(4), "{text}");
    let id = text.split("weir policy why ").nth(1).and_then(|rest| rest.split('`').next()).expect("an id");
    let why = output_text(&guarded.weir_as(&key, &["policy", "why", id]));
    assert!(why.contains("denied by statement `NoMore` of the identity policy"), "{why}");
    // Who may not connect any more is cut off.
    guarded.put_policy(ACCOUNT, "--user", "app", &policy);
    let mut session = Session::of(&guarded.plain, &key);
    let mut severed = policy.clone();
    severed["Statement"].as_array_mut().expect("statements").push(json!({
        "Effect": "Deny", "Action": "kafka-cluster:Connect", "Resource": "*"
    }));
    guarded.put_policy(ACCOUNT, "--user", "app", &severed);
    let before = Instant::now();
    while session.call::<_, MetadataResponse>(ApiKey::Metadata, 12, &MetadataRequest::default()).is_some() {
        assert!(before.elapsed() < Duration::from_secs(10), "a connection without Connect");
        std::thread::sleep(Duration::from_millis(50));
    }
    guarded.put_policy(ACCOUNT, "--user", "app", &policy);
    // A key that was revoked is worth nothing, at once.
    assert!(guarded.weir_as(&key, &["topic", "list"]).status.success());
    guarded.operate(&["key", "revoke", &key.id, "--user", "app", "--account", ACCOUNT], b"");
    let before = Instant::now();
    while guarded.weir_as(&key, &["topic", "list"]).status.code() != Some(4) {
        assert!(before.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn signed_requests_are_taken_once_and_only_as_they_were_signed() {
    let scratch = Scratch::new("identity-sigv4");
    let guarded = Guarded::start(scratch.path());
    guarded.make_account(ACCOUNT, "orders", "abcd-1");
    let key = guarded.make_user(ACCOUNT, "app", &app_policy(ACCOUNT, "orders", "abcd-1"));
    // In a cluster that was created no topic is made by writing to it.
    assert_eq!(guarded.produce_as(&key, "app", "x\n").status.code(), Some(5));
    assert!(guarded.weir_as(&key, &["topic", "create", "app"]).status.success());
    let url = format!("{}/v1/topics/app/records", guarded.http);
    let body = r#"{"records":[{"value":"v"}]}"#;
    let user = format!("{}:{}", key.id, key.secret);
    // curl signs by itself; what it sent is told on its standard error.
    let mut command = Command::new("curl");
    command.args(["-sSv", "-m", "10", "--aws-sigv4", &format!("aws:amz:{REGION}:kafka-cluster"), "--user", &user]);
    command.args(["-H", "content-type: application/json", "-d", body, &url]);
    let output = run(&mut command, b"", Duration::from_secs(20));
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"offset\":0"), "{}", output_text(&output));
    let sent = String::from_utf8_lossy(&output.stderr).into_owned();
    let header = |name: &str| {
        let line = sent.lines().find(|line| line.to_lowercase().starts_with(&format!("> {name}:")));
        line.expect("curl sent it").trim_start_matches("> ").trim().to_owned()
    };
    let (authorization, date) = (header("authorization"), header("x-amz-date"));
    let again = |url: &str, body: &str, more: &[&str]| {
        let fixed = ["-H", &authorization, "-H", &date, "-H", "content-type: application/json", "-d", body];
        curl_json(&[&fixed, more, &[url]].concat()).0
    };
    assert_eq!(again(&url, body, &[]), 401, "the same request a second time");
    assert_eq!(again(&url, r#"{"records":[{"value":"w"}]}"#, &[]), 401, "another body");
    assert_eq!(again(&url.replace("/app/", "/app2/"), body, &[]), 401, "another path");
    assert_eq!(again(&url, body, &["-H", "x-amz-security-token: t"]), 401, "a header that means something, unsigned");
    assert_eq!(again(&url, body, &["-H", &authorization]), 401, "twice the same header");
    assert_eq!(curl_json(&[&url]).0, 401, "nothing");
    assert_eq!(curl_json(&["-H", "authorization: Bearer nonsense", &url]).0, 401);
    assert_eq!(curl_json(&["-u", "a:b", &url]).0, 401);
    let read = output_text(&guarded.weir_as(&key, &["consume", "app", "-o", "beginning", "-e"]));
    assert_eq!(read.lines().filter(|line| *line == "v").count(), 1, "{read}");
    // What is meant twice can be sent twice, in one second.
    for _ in 0..3 {
        assert!(guarded.produce_as(&key, "app", "w\n").status.success());
    }
}

/// Two tenants with the same names, each by its own keys.
#[test]
fn tenants_see_nothing_of_each_other() {
    let scratch = Scratch::new("identity-tenants");
    let guarded = Guarded::start(scratch.path());
    let all = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "*", "Resource": "*" }] });
    let accounts = [(ACCOUNT, "orders", "abcd-1"), ("222222222222", "orders", "abcd-1")];
    let keys = accounts.map(|(account, name, uuid)| {
        guarded.make_account(account, name, uuid);
        guarded.make_user(account, "admin", &all)
    });
    for (key, (account, ..)) in keys.iter().zip(&accounts) {
        assert!(guarded.weir_as(key, &["topic", "create", "shared-name"]).status.success());
        assert!(guarded.weir_as(key, &["topic", "create", &format!("only-{account}")]).status.success());
        let output = guarded.produce_as(key, "shared-name", &format!("of {account}\n"));
        assert!(output.status.success(), "{}", output_text(&output));
        let reset = ["group", "reset", "g", "--topic", "shared-name", "--to", "latest"];
        let output = guarded.weir_as(key, &reset);
        assert!(output.status.success(), "{}", output_text(&output));
    }
    // A cluster with topics stays; without them it goes, and what its groups had committed with it.
    guarded.make_account("333333333333", "brief", "abcd-3");
    let brief = guarded.make_user("333333333333", "admin", &all);
    assert!(guarded.weir_as(&brief, &["topic", "create", "t"]).status.success());
    let output = guarded.weir_as(&brief, &["group", "reset", "g", "--topic", "t", "--to", "latest"]);
    assert!(output.status.success(), "{}", output_text(&output));
    let gone = ["cluster", "delete", "brief"];
    assert_eq!(guarded.weir_as(&brief, &gone).status.code(), Some(2));
    assert!(guarded.weir_as(&brief, &["topic", "delete", "t"]).status.success());
    guarded.operate(&[&gone[..], &["--account", "333333333333"]].concat(), b"");
    assert_eq!(guarded.weir_as(&brief, &["topic", "list"]).status.code(), Some(4));
    for (key, other) in [(&keys[0], accounts[1].0), (&keys[1], accounts[0].0)] {
        let read = output_text(&guarded.weir_as(key, &["consume", "shared-name", "-o", "beginning", "-e"]));
        assert!(read.contains("of ") && !read.contains(other), "{read}");
        let told: Vec<String> = [
            ["topic", "list"].as_slice(),
            &["topic", "describe", "shared-name"],
            &["group", "list"],
            &["group", "describe", "g"],
            &["account", "list"],
            &["cluster", "list"],
            &["user", "list"],
            &["whoami"],
        ]
        .iter()
        .map(|arguments| output_text(&guarded.weir_as(key, arguments)))
        .collect();
        assert!(!told.concat().contains(other), "{told:?}");
        // Nor do Kafka's lists of everything tell of it.
        let mut session = Session::of(&guarded.plain, key);
        let all = MetadataRequest { topics: None, ..Default::default() };
        let lists = [
            session.tell::<_, MetadataResponse>(ApiKey::Metadata, 9, &all),
            session.tell::<_, ListGroupsResponse>(ApiKey::ListGroups, 4, &ListGroupsRequest::default()),
            session.tell::<_, DescribeLogDirsResponse>(ApiKey::DescribeLogDirs, 4, &DescribeLogDirsRequest::default()),
            session.tell::<_, DescribeTopicPartitionsResponse>(
                ApiKey::DescribeTopicPartitions,
                0,
                &DescribeTopicPartitionsRequest { partitions_max: 1_000, ..Default::default() },
            ),
            Signed::of(&guarded.http, key).ask("GET", "/metrics/kafka", "", &[]).body,
        ];
        for told in &lists {
            assert!(!told.contains(other), "{told}");
        }
        let own = lists.iter().filter(|told| told.contains("shared-name") || told.contains("\"g\"")).count();
        assert_eq!(own, lists.len(), "each tells of one's own: {lists:#?}");
        // What is another's looks exactly like what is not there.
        let gone = |name: &str| {
            let output = guarded.weir_as(key, &["topic", "describe", name]);
            (output.status.code(), output_text(&output).replace(name, "NAME"))
        };
        assert_eq!(gone(&format!("only-{other}")), gone("only-999999999999"));
        let account = |id: &str, arguments: &[&str]| {
            let output = guarded.weir_as(key, &[arguments, &["--account", id]].concat());
            assert!(!output.status.success());
            (output.status.code(), output_text(&output).replace(id, "ID"))
        };
        for arguments in [
            ["cluster", "list"].as_slice(),
            &["user", "list"],
            &["user", "create", "intruder"],
            &["key", "create", "--user", "admin"],
            &["cluster", "create", "mine"],
            &["key", "list", "--user", "admin"],
            &["quota", "show"],
            &["issuer", "list"],
        ] {
            assert_eq!(account(other, arguments), account("999999999999", arguments), "{arguments:?}");
        }
        // Allowed everything, and yet no operator.
        for arguments in [["status"].as_slice(), &["node", "drain", "az-a-7100"], &["account", "create", "more"]] {
            assert_eq!(guarded.weir_as(key, arguments).status.code(), Some(4), "{arguments:?}");
        }
    }
}

#[test]
fn nothing_is_answered_before_a_login() {
    let scratch = Scratch::new("identity-before");
    let guarded = Guarded::start(scratch.path());
    guarded.make_account(ACCOUNT, "orders", "abcd-1");
    let key = guarded.make_user(ACCOUNT, "app", &app_policy(ACCOUNT, "orders", "abcd-1"));
    let other = guarded.make_user(ACCOUNT, "other", &app_policy(ACCOUNT, "orders", "abcd-1"));
    let connect = || Session::connect(&guarded.plain);
    let versions = ApiVersionsRequest { client_software_name: "t".into(), client_software_version: "1".into() };
    // The table of versions, as often as it is asked for; nothing else.
    let mut session = connect();
    for _ in 0..2 {
        assert!(session.call::<_, ApiVersionsResponse>(ApiKey::ApiVersions, 3, &versions).is_some());
    }
    let metadata = MetadataRequest::default();
    assert!(session.call::<_, MetadataResponse>(ApiKey::Metadata, 12, &metadata).is_none());
    assert!(
        connect()
            .call::<_, InitProducerIdResponse>(ApiKey::InitProducerId, 4, &InitProducerIdRequest::default())
            .is_none()
    );
    // In the midst of a login neither.
    let handshake = |mechanism: &str| SaslHandshakeRequest { mechanism: mechanism.to_owned() };
    let mut session = connect();
    let answer: Option<SaslHandshakeResponse> = session.call(ApiKey::SaslHandshake, 1, &handshake("SCRAM-SHA-512"));
    assert_eq!(answer.map(|answer| answer.error), Some(0));
    let told = session.tell::<_, MetadataResponse>(ApiKey::Metadata, 12, &metadata);
    assert!(told.contains("error: 34") && told.contains("brokers: []"), "{told}");
    assert!(session.call::<_, MetadataResponse>(ApiKey::Metadata, 12, &metadata).is_none(), "it is closed after that");
    // A proof without a handshake; a mechanism that is not there, and then one that is.
    let told =
        connect().tell::<_, SaslAuthenticateResponse>(ApiKey::SaslAuthenticate, 2, &SaslAuthenticateRequest::default());
    assert!(told.contains("error: 34"), "{told}");
    let mut session = connect();
    let answer: Option<SaslHandshakeResponse> = session.call(ApiKey::SaslHandshake, 1, &handshake("PLAIN"));
    let answer = answer.expect("an answer");
    assert_eq!((answer.error, answer.mechanisms.len()), (33, 3));
    session.log_in(&key).expect("the next one is right");
    let told = session.tell::<_, MetadataResponse>(ApiKey::Metadata, 12, &metadata);
    assert!(told.contains("brokers: [MetadataBroker"), "{told}");
    // Again as the same user, and not as another; a refused login ends the connection.
    session.log_in(&key).expect("again");
    let refused = session.log_in(&other).expect_err("another principal");
    assert!(refused.contains("Cannot change principals"), "{refused}");
    // Of the same name in another account.
    guarded.make_account("222222222222", "theirs", "abcd-2");
    let namesake = guarded.make_user("222222222222", "app", &app_policy("222222222222", "theirs", "abcd-2"));
    let mut one = Session::of(&guarded.plain, &key);
    let refused = one.log_in(&namesake).expect_err("another principal");
    assert!(refused.contains("Cannot change principals"), "{refused}");
    assert!(session.call::<_, MetadataResponse>(ApiKey::Metadata, 12, &metadata).is_none());
    // Version 0 of the handshake would have tokens without a frame follow.
    let told = connect().tell::<_, SaslHandshakeResponse>(ApiKey::SaslHandshake, 0, &handshake("AWS_MSK_IAM"));
    assert!(told.contains("error: 35"), "{told}");
    // A message that is longer than any login.
    let long = SaslAuthenticateRequest { auth_bytes: vec![b'x'; 100_000].into() };
    let mut session = connect();
    let _: Option<SaslHandshakeResponse> = session.call(ApiKey::SaslHandshake, 1, &handshake("AWS_MSK_IAM"));
    assert!(session.call::<_, SaslAuthenticateResponse>(ApiKey::SaslAuthenticate, 2, &long).is_none());
    // Messages that are none.
    for message in ["", "{", "{}", "null", "n,,\u{1}auth=Bearer x\u{1}\u{1}", "n,,n=a,r=b"] {
        for mechanism in ["AWS_MSK_IAM", "OAUTHBEARER", "SCRAM-SHA-512"] {
            let mut session = connect();
            let _: Option<SaslHandshakeResponse> = session.call(ApiKey::SaslHandshake, 1, &handshake(mechanism));
            let auth_bytes = message.as_bytes().to_vec().into();
            let request = SaslAuthenticateRequest { auth_bytes };
            let answer = session.call::<_, SaslAuthenticateResponse>(ApiKey::SaslAuthenticate, 2, &request);
            let answer = answer.expect("an answer");
            let is_first_of_scram = mechanism.starts_with("SCRAM") && message == "n,,n=a,r=b";
            assert_eq!(answer.error, if is_first_of_scram { 0 } else { 58 }, "{mechanism} {message}: {answer:?}");
        }
    }
}

/// Accounts with several clusters, which have host names of their own.
#[test]
fn clusters_are_told_apart_by_name_and_accounts_need_none() {
    let scratch = Scratch::new("identity-names");
    let mut guarded = Guarded::start_with(scratch.path(), &["--audit-topics"]);
    let plain = guarded.plain.clone();
    let port = plain.rsplit(':').next().expect("a port");
    // Both addresses have the template: a cluster has one name all the same.
    let template = format!("{{cluster}}.{{region}}.example:{port}");
    let gateway = guarded.cluster.services.last_mut().expect("the guarded one");
    gateway.kill();
    gateway.add_arguments(&["--advertise-kafka", &template]);
    let tls = gateway.option("--advertise-kafka-tls").to_owned();
    gateway.replace_option("--advertise-kafka-tls", &tls.replace("localhost", "{cluster}.{region}.example"));
    gateway.start();
    let all = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "*", "Resource": "*" }] });
    guarded.operate(&["account", "create", "new", "--id", ACCOUNT], b"");
    let key = guarded.make_user(ACCOUNT, "admin", &all);
    // Whoever may manage an account makes its first cluster; until there is one there is nothing else.
    assert_eq!(guarded.weir_as(&key, &["topic", "list"]).status.code(), Some(4));
    for cluster in ["orders", "orders-test"] {
        let output = guarded.weir_as(&key, &["cluster", "create", cluster]);
        assert!(output.status.success(), "{}", output_text(&output));
    }
    assert_eq!(guarded.weir_as(&key, &["cluster", "create", "Orders"]).status.code(), Some(1), "one host name");
    let topic = |cluster: &str| {
        let output = guarded.weir_as(&key, &["topic", "create", &format!("of-{cluster}"), "--cluster", cluster]);
        assert!(output.status.success(), "{}", output_text(&output));
    };
    topic("orders");
    topic("orders-test");
    // By host name; one that is nobody's is refused, and so is none at all.
    let http = guarded.http.trim_start_matches("http://").to_owned();
    let user = format!("{}:{}", key.id, key.secret);
    let by_host = |host: &str| {
        let sigv4 = format!("aws:amz:{REGION}:kafka-cluster");
        let to = format!("{host}:80:{http}");
        let url = format!("http://{host}/v1/topics");
        let arguments = ["--aws-sigv4", &sigv4, "--user", &user, "--connect-to", &to, &url];
        let (status, json) = curl_json(&arguments);
        (status, json.to_string())
    };
    for (cluster, other) in [("orders", "of-orders-test"), ("orders-test", "of-orders\"")] {
        let (status, told) = by_host(&format!("{cluster}.{REGION}.example"));
        assert!(status == 200 && told.contains(&format!("of-{cluster}\"")) && !told.contains(other), "{told}");
    }
    for host in ["kafka.us-east-1.amazonaws.com", "evil.example"] {
        let (status, told) = by_host(host);
        assert!(status == 401 && told.contains("none of this gateway's"), "{host}: {told}");
    }
    // Another account's cluster is not told from one that is not there; unless that account lets the caller connect.
    let theirs = "222222222222";
    guarded.operate(&["account", "create", "theirs", "--id", theirs], b"");
    guarded.operate(&["cluster", "create", "theirs", "--account", theirs], b"");
    let foreign = |name: &str| {
        let (status, told) = by_host(&format!("{name}.{REGION}.example"));
        let id = told.split(']').next().and_then(|text| text.split('[').nth(1)).expect("an id").to_owned();
        (status, told.replace(name, "NAME").replace(&id, "ID"))
    };
    assert_eq!(foreign("theirs"), foreign("nobody"));
    assert!(foreign("theirs").1.contains("may connect to"), "{:?}", foreign("theirs"));
    // Nor by what is written down for its own account.
    let audited = |key: &Key| {
        let consume = ["consume", "audit", "--cluster", "weir", "-o", "beginning", "-e"];
        std::thread::sleep(Duration::from_millis(1_500));
        output_text(&guarded.weir_as(key, &consume))
    };
    let told = audited(&key);
    assert!(told.contains(ACCOUNT) && !told.contains(theirs), "{told}");
    let policy = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": { "AWS": format!("arn:aws:iam::{ACCOUNT}:user/admin") },
        "Action": "kafka-cluster:*", "Resource": "*",
    }]});
    let url = format!("{}/v1/accounts/{theirs}/clusters/theirs/policy", guarded.cluster.http);
    let json = "content-type: application/json";
    assert_eq!(curl(&["-X", "PUT", "-H", json, "-d", &policy.to_string(), &url]).0, 204);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(by_host(&format!("theirs.{REGION}.example")).0, 200);
    // Who came in is told to the cluster's account, too.
    let owner = guarded.make_user(theirs, "owner", &all);
    let (own, their) = (audited(&key), audited(&owner));
    assert!(own.contains(theirs) && their.contains(&format!("arn:aws:iam::{ACCOUNT}:user/admin")), "{their}");
    let output = guarded.weir_as(&key, &["topic", "list"]);
    assert!(output_text(&output).contains("which cluster is meant is not clear"), "{}", output_text(&output));
    // Kafka's clients are told the names of their cluster: by SCRAM its users need not say the account.
    guarded.set_password(ACCOUNT, "admin", PASSWORD);
    let refused =
        run(&mut guarded.kcat(&format!("{ACCOUNT}/admin"), PASSWORD, &["-L", "-m", "3"]), b"", Duration::from_secs(20));
    assert!(output_text(&refused).contains("the account has several"), "{}", output_text(&refused));
    // Without the right to connect one still learns why, and manages what one may.
    let denied = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "account:*", "Resource": "*" }] });
    let keeper = guarded.make_user(ACCOUNT, "keeper", &denied);
    let output = guarded.weir_as(&keeper, &["user", "list"]);
    assert!(output_text(&output).contains("keeper"), "{}", output_text(&output));
    let output = guarded.weir_as(&keeper, &["topic", "list", "--cluster", "orders"]);
    let told = output_text(&output);
    assert!(output.status.code() == Some(4) && told.contains("kafka-cluster:Connect"), "{told}");
    let id = told.split("weir policy why ").nth(1).and_then(|rest| rest.split('`').next()).expect("an id");
    let why = output_text(&guarded.weir_as(&keeper, &["policy", "why", id]));
    assert!(why.contains("no identity policy allows"), "{why}");
    // What is of a role is not taken for a user's.
    let output = guarded.weir_as(&key, &["key", "create", "--user", "admin", "--duration", "900"]);
    assert_eq!(output.status.code(), Some(2), "{}", output_text(&output));
}

#[test]
fn a_member_that_waits_for_its_group_does_not_join_after_a_deny() {
    let scratch = Scratch::new("identity-join");
    let guarded = Guarded::start(scratch.path());
    guarded.make_account(ACCOUNT, "orders", "abcd-1");
    let policy = app_policy(ACCOUNT, "orders", "abcd-1");
    let (first, second) = (guarded.make_user(ACCOUNT, "first", &policy), guarded.make_user(ACCOUNT, "second", &policy));
    let join = JoinGroupRequest {
        group_id: "app".to_owned(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 4_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupProtocol { name: "range".to_owned(), metadata: Default::default() }],
        ..Default::default()
    };
    // Version 2: joins without being told an id first.
    let mut one = Session::of(&guarded.plain, &first);
    let joined: JoinGroupResponse = one.call(ApiKey::JoinGroup, 2, &join).expect("an answer");
    assert_eq!(joined.error, 0);
    // The second waits until the first has joined again, or its time is over.
    let mut two = Session::of(&guarded.plain, &second);
    let waiting = std::thread::spawn(move || two.call::<_, JoinGroupResponse>(ApiKey::JoinGroup, 2, &join));
    std::thread::sleep(Duration::from_secs(1));
    let mut denying = policy;
    denying["Statement"].as_array_mut().expect("statements").push(json!({
        "Effect": "Deny", "Action": "kafka-cluster:AlterGroup", "Resource": "*"
    }));
    guarded.put_policy(ACCOUNT, "--user", "second", &denying);
    let answer = waiting.join().expect("no panic").expect("an answer");
    assert_eq!((answer.error, answer.members.len()), (30, 0));
}
