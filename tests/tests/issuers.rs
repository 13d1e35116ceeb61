//! Tokens of an OpenID Connect issuer: whoever has one takes on a role, in the account that trusts it and in no other.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tests::guarded::{Guarded, app_policy, output_text};
use tests::session::Session;
use tests::{Scratch, free_port, java_with_kafka, run, succeed, tools, weir};
use wire::kafka::{ApiKey, FetchPartition, FetchRequest, FetchResponse, FetchTopic, MetadataRequest, MetadataResponse};

const OURS: &str = "111111111111";
const THEIRS: &str = "222222222222";
const AUDIENCE: &str = "weir-111111111111";

/// An issuer: a web server of its documents, and the key that it signs with.
struct Issuer {
    server: Child,
    dir: PathBuf,
    url: String,
    key: EncodingKey,
    key_id: &'static str,
}

impl Issuer {
    fn start(dir: &Path) -> Self {
        let (port, folder) = (free_port(), dir.join("issuer"));
        let url = format!("http://127.0.0.1:{port}");
        std::fs::create_dir_all(folder.join(".well-known")).expect("a folder");
        let document = json!({ "issuer": url, "jwks_uri": format!("{url}/keys.json") });
        std::fs::write(folder.join(".well-known/openid-configuration"), document.to_string()).expect("written");
        let mut python = Command::new("python3");
        python.args(["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1", "--directory"]).arg(&folder);
        let server = python.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("python3");
        let mut issuer = Self { server, key: new_key(dir, "a").0, dir: folder, url, key_id: "a" };
        issuer.rotate(dir, "a");
        let until = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "the issuer does not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
        issuer
    }

    /// From now on it signs with a key of this id, and shows no other.
    fn rotate(&mut self, dir: &Path, id: &'static str) {
        let (key, n) = new_key(dir, id);
        let public = json!({ "kty": "RSA", "kid": id, "use": "sig", "alg": "RS256", "e": "AQAB", "n": n });
        std::fs::write(self.dir.join("keys.json"), json!({ "keys": [public] }).to_string()).expect("written");
        (self.key, self.key_id) = (key, id);
    }

    fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs();
        let mut claims = json!({
            "iss": self.url, "aud": AUDIENCE, "sub": "auth0|alice", "iat": now_s, "exp": now_s + 600, "role": "writer",
        });
        change(&mut claims);
        let header = Header { kid: Some(self.key_id.to_owned()), ..Header::new(Algorithm::RS256) };
        encode(&header, &claims, &self.key).expect("a token")
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A private key, and the modulus of its public half.
fn new_key(dir: &Path, id: &str) -> (EncodingKey, String) {
    let (pem, der) = (dir.join(format!("{id}.pem")), dir.join(format!("{id}.der")));
    succeed(Command::new("openssl").args(["genrsa", "-traditional", "-out"]).arg(&pem).arg("2048"), b"");
    succeed(
        Command::new("openssl").args(["rsa", "-traditional", "-outform", "DER", "-in"]).arg(&pem).arg("-out").arg(&der),
        b"",
    );
    let told = succeed(Command::new("openssl").args(["rsa", "-noout", "-modulus", "-in"]).arg(&pem), b"");
    let told = String::from_utf8(told).expect("text");
    let digits = told.trim().strip_prefix("Modulus=").expect("a modulus");
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    let modulus: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
    (EncodingKey::from_rsa_der(&std::fs::read(der).expect("a key")), URL_SAFE_NO_PAD.encode(modulus))
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// What a request with this token comes to: the status, and the answer.
fn ask(guarded: &Guarded, token: &str, path: &str) -> (String, String) {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-w", "\n%{http_code}", "-H", &format!("authorization: Bearer {token}")]);
    curl.arg(format!("{}{path}", guarded.http));
    let text = String::from_utf8(run(&mut curl, b"", Duration::from_secs(20)).stdout).expect("text");
    let (body, status) = text.rsplit_once('\n').expect("a status");
    (status.to_owned(), body.to_owned())
}

#[test]
fn a_token_of_a_trusted_issuer_is_a_session_of_a_role() {
    let dir = Scratch::new("issuers");
    let guarded = Guarded::start(dir.path());
    let mut issuer = Issuer::start(dir.path());
    for (account, name) in [(OURS, "ours"), (THEIRS, "theirs")] {
        guarded.make_account(account, name, "u-1");
        for role in ["writer", "idle"] {
            guarded.operate(&["role", "create", role, "--account", account], b"");
        }
        guarded.put_policy(account, "--role", "writer", &app_policy(account, name, "u-1"));
    }
    // Where its keys are is asked of it, by the gateway that is told to trust it; from a loopback only if it may.
    let add = |name: &str, account: &str, more: &[&str]| {
        let arguments = ["issuer", "add", name, "--issuer", &issuer.url, "--account", account];
        let server = ["--server", &guarded.cluster.http];
        run(Command::new(weir()).args(arguments).args(more).args(server), b"", Duration::from_secs(20))
    };
    let by_claim = ["--role", "writer", "--role", "idle", "--role-claim", "role"];
    let refused = add("sso", OURS, &[&["--audience", AUDIENCE], &by_claim[..]].concat());
    assert!(
        refused.status.code() == Some(2) && output_text(&refused).contains("https://"),
        "{}",
        output_text(&refused)
    );
    let keys = issuer.dir.join("keys.json");
    let given = add(
        "given",
        THEIRS,
        &["--audience", "weir-theirs", "--role", "writer", "--jwks", keys.to_str().expect("a path")],
    );
    assert!(given.status.success(), "{}", output_text(&given));
    let taken = add(
        "taken",
        OURS,
        &["--audience", "weir-theirs", "--role", "writer", "--jwks", keys.to_str().expect("a path")],
    );
    assert!(!taken.status.success() && output_text(&taken).contains("already"), "{}", output_text(&taken));
    let admin = guarded.make_user(
        OURS,
        "admin",
        &json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": ["account:*", "kafka-cluster:*"], "Resource": "*" } ] }),
    );
    let arguments = ["issuer", "add", "sso", "--issuer", &issuer.url, "--audience", AUDIENCE];
    // What an account chooses itself is its own, and the roles are there.
    let squat = ["issuer", "add", "sso", "--issuer", &issuer.url, "--audience", "weir", "--role", "writer"];
    let nobody = [&arguments[..], &["--role", "nobody"]].concat();
    for wrong in [&squat[..], &nobody] {
        let refused = guarded.weir_as(&admin, wrong);
        assert_eq!(refused.status.code(), Some(2), "{}", output_text(&refused));
    }
    let added = guarded.weir_as(&admin, &[&arguments[..], &by_claim[..]].concat());
    assert!(added.status.success(), "{}", output_text(&added));

    // Who it is.
    let right = issuer.token(|_| ());
    let (status, body) = ask(&guarded, &right, "/v1/whoami");
    assert_eq!(status, "200", "{body}");
    let who: Value = serde_json::from_str(&body).expect("JSON");
    let principal = who["principal"].as_str().expect("a principal");
    assert!(principal.starts_with(&format!("arn:aws:sts::{OURS}:assumed-role/writer/auth0-alice-")), "{principal}");
    assert_eq!((&who["account"], who["expires_ms"].is_i64()), (&json!(OURS), true));

    // Clients of Kafka.
    let topic = guarded.weir_as(&admin, &["topic", "create", "app"]);
    assert!(topic.status.success(), "{}", output_text(&topic));
    let file = dir.path().join("token");
    std::fs::write(&file, &right).expect("written");
    let python = |token: &str, value: &str| {
        let mut command = Command::new(tools().join("python/bin/python"));
        command.arg(clients().join("python/login.py")).arg("confluent-jwt").env("WEIR_TOKEN", token);
        run(command.args([&guarded.kafka]).arg(&guarded.ca).args(["app", value]), b"", Duration::from_secs(60))
    };
    let written = python(&right, "by librdkafka");
    assert!(written.status.success(), "{}", output_text(&written));
    let mut java = java_with_kafka();
    java.arg(clients().join("java/Login.java")).arg("JWT").env("WEIR_TOKEN_FILE", &file);
    let written =
        run(java.args([&guarded.kafka]).arg(&guarded.ca).args(["app", "by Java"]), b"", Duration::from_secs(90));
    assert!(written.status.success(), "{}", output_text(&written));

    // A role without a policy may do nothing; one that the issuer may not give is none.
    let (status, _) = ask(&guarded, &issuer.token(|claims| claims["role"] = "idle".into()), "/v1/topics");
    assert_eq!(status, "403");
    for wrong in [json!("admin"), json!(["writer"]), json!("writer "), json!(null)] {
        let (status, body) = ask(&guarded, &issuer.token(|claims| claims["role"] = wrong.clone()), "/v1/topics");
        assert_eq!(status, "401", "{wrong}: {body}");
    }
    // For somebody else, from somebody else, or of another time.
    let mut wrong = vec![
        issuer.token(|claims| claims["aud"] = "weir".into()),
        issuer.token(|claims| claims["aud"] = AUDIENCE.to_uppercase().into()),
        issuer.token(|claims| claims["aud"] = json!({ AUDIENCE: true })),
        issuer.token(|claims| claims["aud"] = json!([])),
        issuer.token(|claims| claims["aud"] = json!([AUDIENCE, "weir-theirs"])),
        issuer.token(|claims| claims["iss"] = format!("{}/", claims["iss"].as_str().expect("text")).into()),
        issuer.token(|claims| claims["iss"] = claims["iss"].as_str().expect("text").to_uppercase().into()),
        issuer.token(|claims| claims["exp"] = 1_000_000_000.into()),
        issuer.token(|claims| drop(claims.as_object_mut().expect("an object").remove("aud"))),
    ];
    let mut parts: Vec<&str> = right.split('.').collect();
    let other = issuer.token(|claims| claims["sub"] = "mallory".into());
    parts[1] = other.split('.').nth(1).expect("claims");
    wrong.push(parts.join("."));
    for token in &wrong {
        let (status, body) = ask(&guarded, token, "/v1/topics");
        assert!(status == "401" && body.contains("Access denied"), "{token}: {status} {body}");
    }
    let refused = python(&wrong[0], "refused");
    assert_eq!(refused.status.code(), Some(3), "{}", output_text(&refused));
    // A tenant's token is nobody in another's cluster: what it says of accounts means nothing.
    let theirs = issuer.token(|claims| (claims["aud"], claims["account"]) = ("weir-theirs".into(), OURS.into()));
    let (_, body) = ask(&guarded, &theirs, "/v1/whoami");
    assert!(body.contains(&format!("arn:aws:sts::{THEIRS}:assumed-role/writer/")), "{body}");
    let (status, body) = ask(&guarded, &theirs, "/v1/topics");
    assert!(status == "200" && !body.contains("\"app\""), "{body}");

    // An issuer that is not trusted any more ends what its tokens began, and takes no more.
    issuer.rotate(dir.path(), "b");
    let (status, _) = ask(&guarded, &right, "/v1/topics");
    assert_eq!(status, "200", "its old key is known for minutes");
    // A key that is not known is looked for, if that was not done within a minute.
    let began = Instant::now();
    let rotated = issuer.token(|_| ());
    while ask(&guarded, &rotated, "/v1/topics").0 != "200" {
        assert!(began.elapsed() < Duration::from_secs(70), "the new key is not taken");
        std::thread::sleep(Duration::from_secs(2));
    }
    assert_eq!(ask(&guarded, &right, "/v1/topics").0, "401", "the old key is gone");
    let removed = guarded.weir_as(&admin, &["issuer", "remove", "sso"]);
    assert!(removed.status.success(), "{}", output_text(&removed));
    assert_eq!(ask(&guarded, &rotated, "/v1/topics").0, "401");
    assert!(!guarded.log().contains(&rotated), "no token is in a log");
}

#[test]
fn what_a_token_opened_ends_when_it_does() {
    let dir = Scratch::new("issuers-expiry");
    let guarded = Guarded::start(dir.path());
    let issuer = Issuer::start(dir.path());
    guarded.make_account(OURS, "ours", "u-1");
    guarded.operate(&["role", "create", "writer", "--account", OURS], b"");
    guarded.put_policy(OURS, "--role", "writer", &app_policy(OURS, "ours", "u-1"));
    let keys = issuer.dir.join("keys.json");
    let keys = keys.to_str().expect("a path");
    let add = ["issuer", "add", "sso", "--issuer", &issuer.url, "--account", OURS, "--audience", AUDIENCE];
    guarded.operate(&[&add[..], &["--role", "writer", "--jwks", keys]].concat(), b"");
    let maker = guarded.make_user(OURS, "maker", &app_policy(OURS, "ours", "u-1"));
    assert!(guarded.weir_as(&maker, &["topic", "create", "app"]).status.success());
    let in_s = |seconds: u64| {
        issuer.token(|claims| claims["exp"] = (claims["iat"].as_u64().expect("a time") + seconds).into())
    };
    let connect = || Session::connect(&guarded.plain);
    assert!(connect().log_in_by_token(&in_s(8)).expect_err("too short").contains("too short"));

    let began = Instant::now();
    let (mut idle, mut renewing) = (connect(), connect());
    for session in [&mut idle, &mut renewing] {
        let lifetime_ms = session.log_in_by_token(&in_s(17)).expect("let in");
        assert!((14_000..=17_000).contains(&lifetime_ms), "{lifetime_ms} ms");
    }
    // Some wait for a record, one does nothing, and one renews in time. What ends is not what happens to be looked at then.
    let waiters = [17, 23].map(|seconds| {
        let (mut session, token) = (connect(), in_s(seconds));
        session.log_in_by_token(&token).expect("let in");
        let ends = Instant::now() + Duration::from_secs(seconds);
        let partitions = vec![FetchPartition { max_bytes: 1_000, ..Default::default() }];
        let topics = vec![FetchTopic { name: "app".to_owned(), partitions }];
        let request =
            FetchRequest { max_wait_ms: 60_000, min_bytes: 1, max_bytes: 1_000, topics, ..Default::default() };
        std::thread::spawn(move || {
            let answer: Option<FetchResponse> = session.call(ApiKey::Fetch, 11, &request);
            (answer.is_none(), Instant::now(), ends)
        })
    });
    std::thread::sleep(Duration::from_secs(5));
    assert!(renewing.log_in_by_token(&in_s(600)).is_ok());
    for waiter in waiters {
        let (is_closed, at, ends) = waiter.join().expect("no panic");
        // Times of tokens are whole seconds.
        let early = ends.saturating_duration_since(at);
        let late = at.saturating_duration_since(ends);
        assert!(
            is_closed && early < Duration::from_millis(1_200) && late < Duration::from_secs(1),
            "{early:?} {late:?}"
        );
    }
    std::thread::sleep(Duration::from_secs(20).saturating_sub(began.elapsed()));
    let metadata = MetadataRequest::default();
    assert!(idle.call::<_, MetadataResponse>(ApiKey::Metadata, 9, &metadata).is_none());
    assert!(renewing.call::<_, MetadataResponse>(ApiKey::Metadata, 9, &metadata).is_some());
}

#[test]
fn one_token_can_be_denied_before_it_ends() {
    let dir = Scratch::new("issuers-denied");
    let mut guarded = Guarded::start(dir.path());
    let issuer = Issuer::start(dir.path());
    // Another gateway, which knows of it from placement alone.
    let (kafka, second) = guarded.add_gateway(dir.path(), &[]);
    for (account, name) in [(OURS, "ours"), (THEIRS, "theirs")] {
        guarded.make_account(account, name, "u-1");
        guarded.operate(&["role", "create", "writer", "--account", account], b"");
        guarded.put_policy(account, "--role", "writer", &app_policy(account, name, "u-1"));
        let keys = issuer.dir.join("keys.json");
        let (keys, audience) = (keys.to_str().expect("a path"), format!("weir-{account}"));
        let add = ["issuer", "add", "sso", "--issuer", &issuer.url, "--account", account, "--audience", &audience];
        guarded.operate(&[&add[..], &["--role", "writer", "--jwks", keys]].concat(), b"");
    }
    let of = |id: Value| issuer.token(|claims| claims["jti"] = id);
    let (lost, kept) = (of("lost/1 ü".into()), of("kept".into()));
    let theirs = issuer.token(|claims| {
        (claims["aud"], claims["jti"]) = (format!("weir-{THEIRS}").into(), "lost/1 ü".into());
    });
    let status = |http: &str, token: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", &format!("authorization: Bearer {token}")]);
        run(curl.arg(format!("{http}/v1/topics")), b"", Duration::from_secs(20)).stdout
    };
    let everywhere = |token: &str| [&guarded.http, &second].map(|http| status(http, token));
    for token in [&lost, &kept, &theirs] {
        assert_eq!(everywhere(token), [b"200", b"200"]);
    }
    // One that has an id which cannot be denied is none.
    for id in [json!(7), json!(null), json!(["lost"]), json!("x".repeat(600)), json!("")] {
        assert_eq!(everywhere(&of(id.clone())), [b"401", b"401"], "{id}");
    }
    let open = |address: &str, token: &str| {
        let mut session = Session::connect(address);
        session.log_in_by_token(token).expect("let in");
        session
    };
    let mut ending = [open(&guarded.plain, &lost), open(&kafka, &lost)];
    let mut staying = [open(&guarded.plain, &kept), open(&kafka, &theirs)];
    let deny = ["issuer", "deny", "sso", "lost/1 ü", "--account", OURS];
    guarded.operate(&deny, b"");
    let began = Instant::now();
    while everywhere(&lost) != [b"401", b"401"] {
        assert!(began.elapsed() < Duration::from_secs(10), "a denied token is still taken");
        std::thread::sleep(Duration::from_millis(100));
    }
    let is_there = |session: &mut Session| {
        session.call::<_, MetadataResponse>(ApiKey::Metadata, 9, &MetadataRequest::default()).is_some()
    };
    assert!(ending.iter_mut().all(|session| !is_there(session)));
    assert!(staying.iter_mut().all(is_there));
    let refused = Session::connect(&kafka).log_in_by_token(&lost).expect_err("denied");
    assert!(refused.contains("Access denied"), "{refused}");
    for token in [&kept, &theirs] {
        assert_eq!(everywhere(token), [b"200", b"200"]);
    }
    // What is denied is told, and can be taken back; the issuer's end is the list's.
    let listed = guarded.operate_json(&["issuer", "denied", "sso", "--account", OURS]);
    assert_eq!(listed["denied"], json!([{ "jti": "lost/1 ü", "until_s": null, "until": null }]));
    guarded.operate(&["issuer", "deny", "sso", "later", "--hours", "1", "--account", OURS], b"");
    guarded.operate(&["issuer", "allow", "sso", "lost/1 ü", "--account", OURS], b"");
    let began = Instant::now();
    while everywhere(&lost) != [b"200", b"200"] {
        assert!(began.elapsed() < Duration::from_secs(10), "a token that is allowed again is not taken");
        std::thread::sleep(Duration::from_millis(100));
    }
    guarded.operate(&["issuer", "remove", "sso", "--account", OURS], b"");
    let deny = [&deny[..], &["--server", &guarded.cluster.http]].concat();
    let gone = run(Command::new(weir()).args(deny), b"", Duration::from_secs(20));
    assert!(!gone.status.success() && output_text(&gone).contains("no issuer"), "{}", output_text(&gone));
}
