//! A cluster whose clients must log in, and whoever is made there.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::signed::Signed;
use crate::{Cluster, Service, free_port, run, succeed, weir};

/// Of all signatures, and all clusters.
pub const REGION: &str = "us-east-1";

/// A cluster whose one gateway is the operator's, and a gateway whose clients must log in.
pub struct Guarded {
    pub cluster: Cluster,
    /// With TLS.
    pub kafka: String,
    pub plain: String,
    pub http: String,
    pub ca: PathBuf,
    /// Its audit log.
    pub audit: PathBuf,
    /// What was handed out, and must be in no log.
    secrets: RefCell<Vec<String>>,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let audit = std::fs::read_to_string(&self.audit).unwrap_or_default();
        let logs = self.cluster.services.iter().map(Service::log_text).chain([audit]);
        for log in logs {
            for secret in self.secrets.borrow().iter() {
                assert!(!log.contains(secret.as_str()), "a secret is in a log");
            }
        }
    }
}

/// An access key as it is told when it is made.
#[derive(Clone)]
pub struct Key {
    pub id: String,
    pub secret: String,
    pub token: Option<String>,
}

impl Key {
    pub fn from(told: &Value) -> Self {
        let text = |key: &str| told[key].as_str().map(str::to_owned);
        Self { id: text("id").expect("an id"), secret: text("secret").expect("a secret"), token: text("session_token") }
    }

    /// As the SDKs of AWS and `weir` read it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![
            ("AWS_ACCESS_KEY_ID", self.id.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.secret.clone()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_DEFAULT_REGION", REGION.to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("WEIR_ACCESS_KEY_ID", self.id.clone()),
            ("WEIR_SECRET_ACCESS_KEY", self.secret.clone()),
            ("WEIR_REGION", REGION.to_owned()),
        ];
        if let Some(token) = &self.token {
            all.extend([("AWS_SESSION_TOKEN", token.clone()), ("WEIR_SESSION_TOKEN", token.clone())]);
        }
        all
    }
}

impl Guarded {
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[])
    }

    /// With more options for the gateway whose clients must log in.
    pub fn start_with(dir: &Path, more: &[&str]) -> Self {
        let mut cluster = Cluster::start(dir);
        let certs = dir.join("certs");
        succeed(Command::new(weir()).args(["certs", "dev", "--dir"]).arg(&certs), b"");
        let local = || format!("127.0.0.1:{}", free_port());
        let (kafka, plain, http) = (local(), local(), local());
        let placement = cluster.services[cluster.services.len() - 1].option("--placement").to_owned();
        let shown = kafka.replace("127.0.0.1", "localhost");
        let file = |name: &str| certs.join(name).to_str().expect("a path").to_owned();
        let audit = dir.join("audit.jsonl").to_str().expect("a path").to_owned();
        let (cert, key) = (file("server.pem"), file("server-key.pem"));
        let arguments = [
            ["gateway", "--kafka", &plain, "--http", &http, "--placement", &placement, "--kafka-tls", &kafka]
                .as_slice(),
            &["--advertise-kafka-tls", &shown, "--tls-cert", &cert, "--tls-key", &key, "--require-login"],
            // Issuers of tests are on this machine.
            &["--private-issuers", "--audit-log", &audit],
            more,
        ]
        .concat();
        let mut gateway = Service::new(dir, "gateway-guarded", &arguments);
        gateway.start();
        cluster.services.push(gateway);
        let (http, ca) = (format!("http://{http}"), certs.join("ca.pem"));
        Self { cluster, kafka: shown, plain, http, ca, audit: audit.into(), secrets: RefCell::default() }
    }

    /// Starts another gateway whose clients must log in, the last of the services; its Kafka address, and `http://ADDRESS`.
    pub fn add_gateway(&mut self, dir: &Path, more: &[&str]) -> (String, String) {
        let local = || format!("127.0.0.1:{}", free_port());
        let (kafka, http) = (local(), local());
        let services = &mut self.cluster.services;
        let placement = services[services.len() - 1].option("--placement").to_owned();
        let arguments = ["gateway", "--kafka", &kafka, "--http", &http, "--placement", &placement, "--require-login"];
        let mut gateway = Service::new(dir, "gateway-second", &[&arguments[..], more].concat());
        gateway.start();
        services.push(gateway);
        (kafka, format!("http://{http}"))
    }

    /// The operator's command.
    pub fn operate(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        succeed(Command::new(weir()).args(arguments).args(["--server", &self.cluster.http]), input)
    }

    pub fn operate_json(&self, arguments: &[&str]) -> Value {
        let told = self.operate(&[arguments, &["--output", "json"]].concat(), b"");
        let told: Value = serde_json::from_slice(&told).expect("JSON");
        let secrets = ["secret", "session_token"].iter().filter_map(|name| told[name].as_str());
        self.secrets.borrow_mut().extend(secrets.map(str::to_owned));
        told
    }

    /// An account with one cluster, whose ARNs end with `tail`.
    pub fn make_account(&self, account: &str, name: &str, uuid: &str) {
        self.operate(&["account", "create", name, "--id", account], b"");
        self.operate(&["cluster", "create", name, "--uuid", uuid, "--region", REGION, "--account", account], b"");
    }

    pub fn make_user(&self, account: &str, user: &str, policy: &Value) -> Key {
        self.operate(&["user", "create", user, "--account", account], b"");
        self.put_policy(account, "--user", user, policy);
        let key = Key::from(&self.operate_json(&["key", "create", "--user", user, "--account", account]));
        // The gateway where one must log in hears of it in a moment.
        let until = Instant::now() + Duration::from_secs(10);
        while Signed::of(&self.http, &key).ask("GET", "/v1/whoami", "", &[]).status != 200 {
            assert!(Instant::now() < until, "the key is not known there");
            std::thread::sleep(Duration::from_millis(10));
        }
        key
    }

    pub fn put_policy(&self, account: &str, kind: &str, name: &str, policy: &Value) {
        let text = policy.to_string();
        self.operate(&["policy", "put", "test", "-", kind, name, "--account", account], text.as_bytes());
    }

    /// `weir` as somebody, at the gateway where one must log in.
    pub fn weir_as(&self, key: &Key, arguments: &[&str]) -> Output {
        let mut command = Command::new(weir());
        command.args(arguments).args(["--server", &self.http]).envs(key.environment());
        run(&mut command, b"", Duration::from_secs(30))
    }

    pub fn kcat(&self, user: &str, password: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("kcat");
        command.args([
            "-b",
            &self.plain,
            "-X",
            "security.protocol=sasl_plaintext",
            "-X",
            "sasl.mechanism=SCRAM-SHA-512",
        ]);
        command.args(["-X", &format!("sasl.username={user}"), "-X", &format!("sasl.password={password}")]);
        command.args(arguments);
        command
    }

    pub fn produce_as(&self, key: &Key, topic: &str, lines: &str) -> Output {
        let mut command = Command::new(weir());
        command.args(["produce", topic, "--server", &self.http]).envs(key.environment());
        run(&mut command, lines.as_bytes(), Duration::from_secs(30))
    }

    /// A client that has come to the end of a topic, and waits for more.
    pub fn reader(&self, user: &str, password: &str, topic: &str) -> Reader {
        let mut command = self.kcat(user, password, &["-C", "-t", topic, "-o", "beginning"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("kcat");
        let (sender, lines) = std::sync::mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut reader = Reader { child, lines };
        reader.wait_for("Reached end of topic", Duration::from_secs(20));
        reader
    }

    pub fn set_password(&self, account: &str, user: &str, password: &str) {
        self.secrets.borrow_mut().push(password.to_owned());
        self.operate(&["user", "set-password", user, "--account", account], format!("{password}\n").as_bytes());
    }

    /// Events of the audit log so far; they are written a moment after they came about.
    pub fn audited(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.audit).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    pub fn log(&self) -> String {
        self.cluster.services[self.cluster.services.len() - 1].log_text()
    }
}

/// A reader that waits.
pub struct Reader {
    child: Child,
    lines: Receiver<String>,
}

impl Reader {
    /// Until it says so on its standard error.
    pub fn wait_for(&mut self, words: &str, within: Duration) {
        let until = Instant::now() + within;
        let mut said = Vec::new();
        while !said.last().is_some_and(|line: &String| line.contains(words)) {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => said.push(line),
                Err(_) => panic!("`{words}` was not said in {within:?}: {said:#?}"),
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All that a client of topics and groups called `app…` needs.
pub fn app_policy(account: &str, name: &str, uuid: &str) -> Value {
    let arn = |kind: &str, rest: &str| format!("arn:aws:kafka:{REGION}:{account}:{kind}/{name}/{uuid}{rest}");
    json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": ["kafka-cluster:Connect", "kafka-cluster:WriteDataIdempotently"],
          "Resource": arn("cluster", "") },
        { "Effect": "Allow", "Resource": arn("topic", "/app*"),
          "Action": ["kafka-cluster:*Topic", "kafka-cluster:WriteData", "kafka-cluster:ReadData"] },
        { "Effect": "Allow", "Action": "kafka-cluster:*Group", "Resource": arn("group", "/app*") },
    ]})
}

/// All that it said.
pub fn output_text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
