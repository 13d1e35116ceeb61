//! TLS between services: each is taken for what its certificate says, and may do what is its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::guarded::{Guarded, app_policy, output_text};
use tests::{Cluster, Scratch, Service, free_port, run, succeed, weir};
use types::{
    AccountId, ClusterId, Epoch, Generation, Incarnation, NodeId, Nonce, PrincipalId, Protocol, Replica, SegmentId,
    TopicId, TopicPartition,
};
use wire::DedupeKey;
use wire::compression::Codec;
use wire::frame::{
    AppendHead, AppendRequest, CopyRequest, DescribeRequest, FenceRequest, FetchRequest, Frame, OpenRequest,
    PeerMessage, UseRequest,
};
use wire::groups::{GroupQuestion, GroupRequest};
use wire::inventory::InventoryRequest;
use wire::records::{BatchBuilder, NewRecord};

const ROLES: [&str; 4] = ["placement", "gateway", "storage-node", "operator"];

fn certs(dir: &Path) -> PathBuf {
    let certs = dir.join("certs");
    succeed(Command::new(weir()).args(["certs", "dev", "--dir"]).arg(&certs), b"");
    certs
}

/// A certificate with its key: `NAME.pem` and `NAME-key.pem` in a folder.
#[derive(Clone)]
struct Shown {
    dir: PathBuf,
    name: String,
}

impl Shown {
    fn of(dir: &Path, name: &str) -> Self {
        Self { dir: dir.to_owned(), name: name.to_owned() }
    }

    /// A service's own; of storage nodes the first's.
    fn of_role(dir: &Path, role: &str) -> Self {
        Self::of(dir, &format!("internal-{role}{}", if role == "storage-node" { "-n1" } else { "" }))
    }

    fn cert(&self) -> PathBuf {
        self.dir.join(format!("{}.pem", self.name))
    }

    fn key(&self) -> PathBuf {
        self.dir.join(format!("{}-key.pem", self.name))
    }
}

/// A certificate that `ca` of `dir` signs: `extensions` as openssl has them; valid for so many days.
fn sign(dir: &Path, ca: &str, name: &str, extensions: &str, days: &str) -> Shown {
    let shown = Shown::of(dir, name);
    let (request, file) = (dir.join("request.pem"), dir.join("extensions"));
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-new",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=test",
    ]);
    succeed(openssl.arg("-keyout").arg(shown.key()).arg("-out").arg(&request), b"");
    std::fs::write(&file, extensions).expect("written");
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-req", "-days", days, "-CAcreateserial", "-extfile"]).arg(&file).arg("-in").arg(&request);
    openssl.arg("-CA").arg(dir.join(format!("{ca}.pem"))).arg("-CAkey").arg(dir.join(format!("{ca}-key.pem")));
    succeed(openssl.arg("-out").arg(shown.cert()), b"");
    shown
}

/// A certificate of the CA `ca` that is valid from so many seconds from now on, until so many.
fn sign_between(dir: &Path, ca: &str, name: &str, extensions: &str, from_s: i64, to_s: i64) -> Shown {
    let shown = sign(dir, ca, name, extensions, "10");
    let date = |seconds: i64| {
        let told = Command::new("date").args(["-u", "-d", &format!("{seconds} seconds"), "+%y%m%d%H%M%SZ"]).output();
        String::from_utf8(told.expect("date").stdout).expect("text").trim().to_owned()
    };
    let (index, serial) = (dir.join("index"), dir.join("serial"));
    std::fs::write(&index, "").and_then(|()| std::fs::write(&serial, "77")).expect("written");
    let config = dir.join("ca.cnf");
    let text = format!(
        "[ca]\ndefault_ca=c\n[c]\ndatabase={}\nserial={}\nnew_certs_dir={}\ndefault_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=optional\n",
        index.display(),
        serial.display(),
        dir.display()
    );
    std::fs::write(&config, text).expect("written");
    let mut openssl = Command::new("openssl");
    openssl.args(["ca", "-batch", "-notext", "-startdate", &date(from_s), "-enddate", &date(to_s), "-config"]);
    openssl.arg(&config).arg("-extfile").arg(dir.join("extensions")).arg("-in").arg(dir.join("request.pem"));
    openssl.arg("-cert").arg(dir.join(format!("{ca}.pem"))).arg("-keyfile").arg(dir.join(format!("{ca}-key.pem")));
    succeed(openssl.arg("-out").arg(shown.cert()), b"");
    shown
}

/// Puts a certificate on the list of its CA.
fn revoke(dir: &Path, name: &str) {
    succeed(Command::new(weir()).args(["certs", "revoke", name, "--dir"]).arg(dir), b"");
}

/// How long a connection with this certificate stays, on which nothing more is said than `text`; looked at for `most`.
fn stays(shown: &Shown, address: &str, text: &[u8], most: Duration) -> Duration {
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-quiet", "-connect", address, "-cert"]).arg(shown.cert()).arg("-key").arg(shown.key());
    let openssl = openssl.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let (mut child, began) = (openssl.spawn().expect("openssl"), Instant::now());
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(text).and_then(|()| stdin.flush()).expect("openssl reads");
    while began.elapsed() < most && child.try_wait().expect("a child").is_none() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let took = began.elapsed();
    drop(stdin);
    let _ = child.kill();
    let _ = child.wait();
    took
}

/// Revokes a certificate of this folder: its connections to these addresses, on which this is said first, end within ten seconds; those of
/// another stay.
fn ends_once_revoked(dir: &Path, revoked: &Shown, other: &Shown, addresses: [(&str, &[u8]); 2]) {
    let most = Duration::from_secs(14);
    std::thread::scope(|scope| {
        let begin = |shown: &Shown| {
            addresses.map(|(address, text)| {
                let shown = shown.clone();
                scope.spawn(move || stays(&shown, address, text, most))
            })
        };
        let (ending, staying) = (begin(revoked), begin(other));
        std::thread::sleep(Duration::from_secs(2));
        revoke(dir, &format!("{}.pem", revoked.name));
        for one in ending {
            let took = one.join().expect("no panic");
            assert!(took > Duration::from_secs(2) && took < Duration::from_secs(12), "{took:?}");
        }
        staying.into_iter().for_each(|one| assert!(one.join().expect("no panic") >= most));
    });
}

/// What a call of placement's API comes to with this certificate: the status, or why there was none.
fn call(certs: &Path, shown: Option<&Shown>, method: &str, url: &str) -> String {
    call_with(certs, shown, method, url, "{}")
}

fn call_with(certs: &Path, shown: Option<&Shown>, method: &str, url: &str, body: &str) -> String {
    let mut curl = Command::new("curl");
    // Certificates say what a service is, not where.
    curl.args(["-sk", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", "-X", method]);
    curl.args(["-H", "content-type: application/json", "-d", body]).arg("--cacert").arg(certs.join("internal-ca.pem"));
    if let Some(shown) = shown {
        curl.arg("--cert").arg(shown.cert()).arg("--key").arg(shown.key());
    }
    String::from_utf8(run(curl.arg(url), b"", Duration::from_secs(10)).stdout).expect("text")
}

/// Sends a frame to a storage node with this certificate; how many bytes it sent beside keepalives, within a second.
fn tell(shown: &Shown, address: &str, frame: &Frame) -> bool {
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-quiet", "-connect", address, "-cert"]).arg(shown.cert()).arg("-key").arg(shown.key());
    let mut child =
        openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("openssl");
    let (head, tail) = frame.encode(77);
    let mut stdin = child.stdin.take().expect("piped");
    let bytes = [&head[..], tail.as_deref().unwrap_or_default()].concat();
    stdin.write_all(&bytes).and_then(|()| stdin.flush()).expect("openssl reads");
    std::thread::sleep(Duration::from_millis(700));
    let has_ended = child.try_wait().expect("a child").is_some();
    drop(stdin);
    let _ = child.kill();
    let answered = child.wait_with_output().expect("its end").stdout;
    // Answers carry the number that was asked with.
    let is_answered = answered.windows(8).any(|bytes| bytes == 77_u64.to_be_bytes());
    assert!(is_answered != has_ended, "answered {is_answered}, ended {has_ended}");
    is_answered
}

fn partition() -> TopicPartition {
    TopicPartition { topic: TopicId(7), partition: 0 }
}

#[test]
fn services_do_what_their_certificates_say_and_nothing_else() {
    let dir = Scratch::new("trust-roles");
    let certs = certs(dir.path());
    let mut cluster = Cluster::with_trust(dir.path(), &certs);
    // Everything goes on as without: writing, reading, a failover.
    let weir_at = |arguments: &[&str], input: &[u8]| {
        run(Command::new(weir()).args(arguments).args(["--server", &cluster.http]), input, Duration::from_secs(30))
    };
    assert!(weir_at(&["topic", "create", "t", "--partitions", "3"], b"").status.success());
    let write = |line: &str| {
        let written = weir_at(&["produce", "t"], format!("{line}\n").as_bytes());
        assert!(written.status.success(), "{}", output_text(&written));
    };
    write("before");
    let shown = |role: &str| Shown::of_role(&certs, role);
    let url = cluster.services[4].option("--placement").to_owned();
    let node = cluster.services[1].option("--listen").to_owned();

    // Placement's calls.
    let calls = [
        ("POST", "nodes", "storage-node"),
        ("POST", "nodes/drain", "gateway"),
        ("POST", "gateways", "gateway"),
        ("GET", "map?after=0", "gateway storage-node"),
        ("GET", "identities", "gateway"),
        ("POST", "identities", "gateway"),
        ("POST", "quotas", "gateway"),
        ("POST", "topics", "gateway"),
        ("POST", "topics/delete", "gateway"),
        ("GET", "status", "gateway"),
        ("GET", "backup", "operator"),
        ("POST", "producer-ids", "gateway"),
        ("GET", "partitions/7/0", "gateway storage-node"),
        ("POST", "partitions/7/0/failover", "gateway storage-node"),
        ("POST", "partitions/7/0/open", "gateway"),
        ("POST", "partitions/7/0/accept-loss", "gateway"),
        ("POST", "partitions/7/0/move", "gateway"),
        ("POST", "partitions/7/0/trim", "gateway storage-node"),
        ("POST", "topics/alter", "gateway"),
    ];
    for (method, path, allowed) in calls {
        for role in ROLES {
            let status = call(&certs, Some(&shown(role)), method, &format!("{url}/placement/v1/{path}"));
            let may = allowed.split(' ').any(|known| known == role);
            assert!((status != "403") == may && status != "000", "{role} {method} {path}: {status}");
        }
    }

    // A storage node trims the logs of groups, and nothing of a tenant's.
    let told = weir_at(&["topic", "describe", "t", "--output", "json"], b"").stdout;
    let told: serde_json::Value = serde_json::from_slice(&told).expect("JSON");
    let of_tenant = format!("{url}/placement/v1/partitions/{}/0/trim", told["id"].as_str().expect("an id"));
    for (role, expected) in [("storage-node", "403"), ("gateway", "200")] {
        assert_eq!(call_with(&certs, Some(&shown(role)), "POST", &of_tenant, r#"{"before":0}"#), expected, "{role}");
    }

    let written = weir_at(&["group", "reset", "g", "--topic", "t", "--to", "latest"], b"");
    assert!(written.status.success(), "{}", output_text(&written));
    let map = {
        let mut curl = Command::new("curl");
        let gateway = shown("gateway");
        curl.args(["-sk", "--cert"]).arg(gateway.cert()).arg("--key").arg(gateway.key());
        let told = run(curl.arg(format!("{url}/placement/v1/map?after=0")), b"", Duration::from_secs(10)).stdout;
        serde_json::from_slice::<serde_json::Value>(&told).expect("JSON")
    };
    let topics = map["topics"].as_array().expect("topics");
    let log = topics.iter().find(|topic| topic[1]["name"].as_str().is_some_and(|name| name.starts_with("__weir_")));
    let log = log.expect("a coordinator's log")[0].as_str().expect("an id").to_owned();
    let of_log = format!("{url}/placement/v1/partitions/{log}/0/trim");
    assert_eq!(call_with(&certs, Some(&shown("storage-node")), "POST", &of_log, r#"{"before":0}"#), "200");

    // What storage nodes are sent.
    let segment = SegmentId { partition: partition(), generation: Generation(1), epoch: Epoch(1), nonce: Nonce(1) };
    let fence = FenceRequest { partition: partition(), generation: Generation(1), epoch: Epoch(9), nonce: None };
    let frames = [
        (Frame::Fence(fence), "placement"),
        (Frame::Inventory(InventoryRequest { fence: None, after: None }), "placement operator"),
        (Frame::Describe(DescribeRequest { account: AccountId(0), segment, end: 0 }), "placement gateway storage-node"),
    ];
    for (frame, allowed) in &frames {
        for role in ROLES {
            let may = allowed.split(' ').any(|known| known == role);
            assert_eq!(tell(&shown(role), &node, frame), may, "{role}: {frame:?}");
        }
    }
    // Those that change something, or have no answer, by each role that may not: its connection ends.
    let me = Replica { node: NodeId(99), incarnation: Incarnation(1) };
    let request = OpenRequest {
        account: AccountId(0),
        cluster: ClusterId(0),
        segment,
        base: 0,
        previous: None,
        carry_to: 0,
        leader: me,
        follower: me,
        follower_address: String::new(),
    };
    let copy = CopyRequest {
        account: AccountId(0),
        segment,
        base: 0,
        end: 0,
        generation: Generation(1),
        record_version: 1,
        target: me,
        sources: Vec::new(),
    };
    let head = AppendHead {
        account: AccountId(0),
        cluster: ClusterId(0),
        segment,
        principal: PrincipalId(0),
        protocol: Protocol::Kafka,
        dedupe: DedupeKey::None,
        encryption_key: 0,
        log_append_time: false,
    };
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord { key: None, value: Some(b"v"), timestamp: 1, headers: &[] });
    let batch = builder.finish(Codec::None).expect("a batch");
    let fetch = FetchRequest {
        account: AccountId(0),
        segment,
        sealed_end: None,
        offset: 0,
        since_ms: None,
        bytes_max: 1,
        wait_ms: 0,
    };
    let question = GroupQuestion {
        account: AccountId(0),
        cluster: ClusterId(0),
        log: partition(),
        fresh: 1,
        request: GroupRequest::List {},
    };
    let refused = [
        (Frame::Hello { node: me.node, incarnation: me.incarnation }, "gateway operator placement"),
        (Frame::Peer(Box::new(PeerMessage::Resume { segment })), "gateway operator placement"),
        (Frame::Open { request: Box::new(request), producers: None }, "gateway operator storage-node"),
        (Frame::Copy(Box::new(copy)), "gateway operator storage-node"),
        (Frame::Hint { partition: partition() }, "gateway operator storage-node"),
        (Frame::Append(Box::new(AppendRequest { head, batch })), "operator placement storage-node"),
        (Frame::Ask(Box::new(question)), "operator placement storage-node"),
        (Frame::Use(UseRequest { account: AccountId(0), mark: 1 }), "operator placement storage-node"),
        (Frame::Fetch(fetch), "operator"),
    ];
    for (frame, roles) in &refused {
        for role in roles.split(' ') {
            let told = || cluster.services[1].log_text().matches("a service sent what it may not").count();
            let before = told();
            assert!(!tell(&shown(role), &node, frame), "{role}: {frame:?}");
            assert_eq!(told(), before + 1, "{role} {frame:?}");
        }
    }

    // Certificates that are none of ours.
    let both = "extendedKeyUsage=serverAuth,clientAuth\n";
    let uri = |uri: &str| format!("subjectAltName=URI:{uri}\n{both}");
    let other = dir.path().join("other");
    succeed(Command::new(weir()).args(["certs", "dev", "--dir"]).arg(&other), b"");
    let refused = [
        ("nobody's", None),
        ("a client's", Some(Shown::of(&certs, "client"))),
        ("another CA's", Some(Shown::of(&other, "internal-gateway"))),
        ("one of no role", Some(sign(&certs, "internal-ca", "no-role", both, "10"))),
        ("a longer name's", Some(sign(&certs, "internal-ca", "longer", &uri("urn:weir:gateway2"), "10"))),
        ("a pattern's", Some(sign(&certs, "internal-ca", "pattern", &uri("urn:weir:*"), "10"))),
        ("another case's", Some(sign(&certs, "internal-ca", "case", &uri("urn:weir:Gateway"), "10"))),
        (
            "a DNS name's",
            Some(sign(&certs, "internal-ca", "dns", &format!("subjectAltName=DNS:gateway\n{both}"), "10")),
        ),
        (
            "a server's alone",
            Some(sign(
                &certs,
                "internal-ca",
                "server-only",
                "subjectAltName=URI:urn:weir:gateway\nextendedKeyUsage=serverAuth\n",
                "10",
            )),
        ),
        (
            "one of tomorrow",
            Some(sign_between(&certs, "internal-ca", "tomorrow", &uri("urn:weir:gateway"), 86_400, 999_999)),
        ),
        ("an expired one", Some(sign(&certs, "internal-ca", "expired", &uri("urn:weir:gateway"), "-1"))),
    ];
    for (what, shown) in &refused {
        let status = call(&certs, shown.as_ref(), "GET", &format!("{url}/placement/v1/status"));
        assert!(["000", "403"].contains(&status.as_str()), "{what}: {status}");
        if let Some(shown) = shown {
            assert!(!tell(shown, &node, &frames[2].0), "{what}");
        }
    }
    let right = sign(&certs, "internal-ca", "right", &uri("urn:weir:gateway"), "10");
    assert_eq!(call(&certs, Some(&right), "GET", &format!("{url}/placement/v1/status")), "200");
    // Nor is anything said without TLS.
    assert_eq!(call(&certs, None, "GET", &format!("{}/placement/v1/status", url.replace("https", "http"))), "000");

    // A node takes nobody for placement who is not, wherever it is told to look: a gateway's certificate does not do.
    let listen = format!("127.0.0.1:{}", free_port());
    let store = format!("redb:{}", dir.path().join("false").display());
    let mut false_placement =
        Service::new(dir.path(), "false-placement", &["placement", "--listen", &listen, "--store", &store]);
    let file = |shown: &Shown| [shown.cert(), shown.key()].map(|path| path.to_str().expect("a path").to_owned());
    let client_only = "subjectAltName=URI:urn:weir:placement\nextendedKeyUsage=clientAuth\n";
    let client_only = sign(&certs, "internal-ca", "client-only", client_only, "10");
    let ca = certs.join("internal-ca.pem").to_str().expect("a path").to_owned();
    false_placement.add_arguments(&["--internal-ca", &ca, "--internal-cert", "", "--internal-key", ""]);
    let backup = |url: &str, role: &str| {
        let [cert, key] = file(&shown(role));
        let mut command = Command::new(weir());
        command.args(["placement", "backup"]).arg(dir.path().join("backup")).args(["--placement", url]);
        command.args(["--internal-ca", &ca, "--internal-cert", &cert, "--internal-key", &key]);
        command.arg("--internal-crl").arg(certs.join("internal-crl.pem"));
        run(&mut command, b"", Duration::from_secs(30))
    };
    let uri_placement = uri("urn:weir:placement");
    let revoked = sign(&certs, "internal-ca", "revoked-placement", &uri_placement, "10");
    revoke(&certs, "revoked-placement.pem");
    let shows = [(&shown("gateway"), false), (&client_only, false), (&revoked, false), (&shown("placement"), true)];
    for (shown, does) in shows {
        let [cert, key] = file(shown);
        false_placement.replace_option("--internal-cert", &cert);
        false_placement.replace_option("--internal-key", &key);
        false_placement.start();
        assert_eq!(backup(&format!("https://{listen}"), "operator").status.success(), does, "{}", shown.name);
        false_placement.kill();
    }
    assert!(backup(&url, "operator").status.success());
    assert!(!backup(&url, "gateway").status.success());
    let plain =
        run(Command::new(weir()).args(["placement", "backup", "x", "--placement", &url]), b"", Duration::from_secs(10));
    assert_eq!(plain.status.code(), Some(2), "{}", output_text(&plain));

    // A node that is gone is done without.
    cluster.services[2].kill();
    for n in 0..6 {
        let written = run(
            Command::new(weir()).args(["produce", "t", "-p", &(n % 3).to_string(), "--server", &cluster.http]),
            b"after\n",
            Duration::from_secs(30),
        );
        assert!(written.status.success(), "{}", output_text(&written));
    }
    cluster.services[2].start();
}

#[test]
fn new_certificates_between_services_are_taken_while_they_run() {
    let dir = Scratch::new("trust-rotation");
    let certs = certs(dir.path());
    let mut cluster = Cluster::with_trust(dir.path(), &certs);
    let write = |cluster: &Cluster| {
        let written = run(
            Command::new(weir()).args(["produce", "t", "--server", &cluster.http]),
            b"line\n",
            Duration::from_secs(30),
        );
        assert!(written.status.success(), "{}", output_text(&written));
    };
    write(&cluster);
    // Other certificates by another CA: whoever still shows an old one is not taken any more.
    let old = dir.path().join("old");
    std::fs::create_dir(&old).expect("a folder");
    for name in std::fs::read_dir(&certs).expect("a folder").flatten() {
        std::fs::copy(name.path(), old.join(name.file_name())).expect("copied");
    }
    for name in ["internal-ca.pem", "internal-ca-key.pem"] {
        std::fs::remove_file(certs.join(name)).expect("removed");
    }
    succeed(Command::new(weir()).args(["certs", "dev", "--dir"]).arg(&certs), b"");
    let url = cluster.services[4].option("--placement").to_owned();
    let status = |dir: &Path| {
        let shown = Shown::of(dir, "internal-gateway");
        call(&certs, Some(&shown), "GET", &format!("{url}/placement/v1/status"))
    };
    let until = Instant::now() + Duration::from_secs(30);
    while status(&certs) != "200" {
        assert!(Instant::now() < until, "the new CA is not taken");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(status(&old), "000");
    write(&cluster);
    // All of it is new by now: what connects anew does so by the new ones.
    std::thread::sleep(Duration::from_secs(6));
    cluster.services[1].kill();
    cluster.services[1].start();
    write(&cluster);
    // Nothing that was acknowledged meanwhile is missing.
    let mut weir = Command::new(weir());
    weir.args(["consume", "t", "-o", "beginning", "-e", "--server", &cluster.http]);
    let read = String::from_utf8(run(&mut weir, b"", Duration::from_secs(30)).stdout).expect("text");
    assert_eq!(read.lines().count(), 3, "{read}");
}

#[test]
fn connections_end_with_the_certificates_that_they_began_with() {
    let dir = Scratch::new("trust-ends");
    let certs = certs(dir.path());
    let cluster = Cluster::with_trust(dir.path(), &certs);
    let node = cluster.services[1].option("--listen").to_owned();
    let placement = cluster.services[4].option("--placement").trim_start_matches("https://").to_owned();
    let gateway = "subjectAltName=URI:urn:weir:gateway\nextendedKeyUsage=serverAuth,clientAuth\n";
    let request = b"GET /placement/v1/status HTTP/1.1\r\nhost: a\r\n\r\n";
    let most = Duration::from_secs(9);
    for (address, text) in [(&node, &b""[..]), (&placement, request)] {
        let (short, long) = std::thread::scope(|scope| {
            let stays = |shown: Shown| scope.spawn(move || stays(&shown, address, text, most));
            let short = stays(sign_between(&certs, "internal-ca", "short", gateway, -60, 5));
            let long = stays(sign(&certs, "internal-ca", "long", gateway, "10"));
            (short.join().expect("no panic"), long.join().expect("no panic"))
        });
        assert!(short > Duration::from_secs(3) && short < Duration::from_secs(7), "{address}: {short:?}");
        assert!(long >= most, "{address}: {long:?}");
    }
}

#[test]
fn what_is_revoked_is_refused_and_its_connections_end() {
    let dir = Scratch::new("trust-revoked");
    let certs = certs(dir.path());
    let mut cluster = Cluster::with_trust(dir.path(), &certs);
    let node = cluster.services[1].option("--listen").to_owned();
    let url = cluster.services[4].option("--placement").to_owned();
    let placement = url.trim_start_matches("https://").to_owned();
    let both = "extendedKeyUsage=serverAuth,clientAuth\n";
    let gateway =
        |name: &str| sign(&certs, "internal-ca", name, &format!("subjectAltName=URI:urn:weir:gateway\n{both}"), "10");
    let (stolen, other) = (gateway("stolen"), gateway("other"));
    let status = |shown: &Shown| call(&certs, Some(shown), "GET", &format!("{url}/placement/v1/status"));
    assert_eq!([status(&stolen), status(&other)], ["200", "200"]);
    // Connections that are open: of what is revoked they end, within ten seconds; others stay.
    let request = b"GET /placement/v1/status HTTP/1.1\r\nhost: a\r\n\r\n";
    ends_once_revoked(&certs, &stolen, &other, [(&node, b""), (&placement, request)]);
    assert_eq!([status(&stolen), status(&other)], ["000", "200"]);
    // It is the handshake that fails, before anything is listened to: alert 44, certificate_revoked.
    for address in [&node, &placement] {
        let alert = |shown: &Shown| {
            let mut openssl = Command::new("timeout");
            openssl.args(["2", "openssl", "s_client", "-connect", address, "-cert"]).arg(shown.cert());
            openssl.arg("-key").arg(shown.key()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = openssl.spawn().expect("openssl");
            let stdin = child.stdin.take();
            std::thread::sleep(Duration::from_secs(1));
            drop(stdin);
            let told = child.wait_with_output().expect("its end");
            String::from_utf8_lossy(&told.stderr).contains("alert number 44")
        };
        assert!(alert(&stolen) && !alert(&other), "{address}");
    }
    let frame = Frame::Describe(DescribeRequest {
        account: AccountId(0),
        segment: SegmentId { partition: partition(), generation: Generation(1), epoch: Epoch(1), nonce: Nonce(1) },
        end: 0,
    });
    assert!(!tell(&stolen, &node, &frame) && tell(&other, &node, &frame));

    // A list that is none, or of another CA alone, changes nothing: the last one that was valid holds.
    let list = certs.join("internal-crl.pem");
    let right = std::fs::read(&list).expect("a list");
    std::fs::copy(certs.join("crl.pem"), dir.path().join("foreign")).expect("copied");
    for wrong in [b"nonsense".to_vec(), Vec::new(), std::fs::read(dir.path().join("foreign")).expect("a list")] {
        std::fs::write(&list, wrong).expect("written");
        std::thread::sleep(Duration::from_secs(6));
        assert_eq!([status(&stolen), status(&other)], ["000", "200"]);
    }
    // Nor does a service begin with it, whatever else it is told.
    let mut backup = Command::new(weir());
    backup.args(["placement", "backup"]).arg(dir.path().join("backup")).args(["--placement", &url, "--internal-ca"]);
    backup.arg(certs.join("internal-ca.pem")).arg("--internal-cert").arg(other.cert());
    backup.arg("--internal-key").arg(other.key()).arg("--internal-crl").arg(&list);
    let refused = run(&mut backup, b"", Duration::from_secs(10));
    assert!(output_text(&refused).contains("none of CA"), "{}", output_text(&refused));
    // A list is taken although other files are not as they should be.
    std::fs::write(&list, right).expect("written");
    let key = certs.join("internal-placement-key.pem");
    let own = std::fs::read(&key).expect("a key");
    std::fs::write(&key, std::fs::read(certs.join("internal-gateway-key.pem")).expect("a key")).expect("written");
    std::thread::sleep(Duration::from_secs(6));
    revoke(&certs, "other.pem");
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(status(&other), "000");
    std::fs::write(&key, own).expect("written");
    // What no CA of the folder signed, or a CA itself, is not said to be revoked.
    for cert in ["internal-ca.pem", "internal-gateway-key.pem", "foreign"] {
        let mut weir = Command::new(weir());
        let told = run(weir.args(["certs", "revoke", cert, "--dir"]).arg(&certs), b"", Duration::from_secs(10));
        assert!(!told.status.success(), "{cert}: {}", output_text(&told));
    }

    // A storage node whose certificate is revoked is one that is gone: written is on the others.
    let silenced = |service: &Service| service.log_text().matches("its certificate was revoked").count();
    let before = silenced(&cluster.services[0]);
    revoke(&certs, "internal-storage-node-n3.pem");
    let told = |cluster: &Cluster| {
        let told = succeed(Command::new(weir()).args(["status", "--server", &cluster.http, "--output", "json"]), b"");
        serde_json::from_slice::<serde_json::Value>(&told).expect("JSON")
    };
    let state = |cluster: &Cluster| {
        let told = told(cluster);
        let third = told["nodes"].as_array().expect("nodes").iter().find(|node| node["name"] == "n3").cloned();
        third.expect("a node")["state"].clone()
    };
    let until = Instant::now() + Duration::from_secs(25);
    while !["down", "silent"].contains(&state(&cluster).as_str().unwrap_or_default()) {
        assert!(Instant::now() < until, "{}", told(&cluster));
        std::thread::sleep(Duration::from_millis(500));
    }
    // Placement's connections with it ended, those that it began too.
    assert!(silenced(&cluster.services[0]) >= before + 2, "{}", cluster.services[0].log_text());
    for _ in 0..6 {
        let mut weir = Command::new(weir());
        let written = run(weir.args(["produce", "t", "--server", &cluster.http]), b"line\n", Duration::from_secs(60));
        assert!(written.status.success(), "{}", output_text(&written));
    }
    assert_ne!(state(&cluster), "up");
    cluster.services[3].provoke(&["this service's own certificate is on the revocation list"]);
    cluster.services[3].kill();
}

#[test]
fn a_storage_node_is_the_one_that_its_certificate_names() {
    let dir = Scratch::new("trust-nodes");
    let certs = certs(dir.path());
    let cluster = Cluster::with_trust(dir.path(), &certs);
    let url = cluster.services[4].option("--placement").to_owned();
    let shown = |name: &str| Shown::of(&certs, &format!("internal-storage-node-{name}"));
    let map = {
        let mut curl = Command::new("curl");
        let gateway = Shown::of_role(&certs, "gateway");
        curl.args(["-sk", "--cert"]).arg(gateway.cert()).arg("--key").arg(gateway.key());
        let told = run(curl.arg(format!("{url}/placement/v1/map?after=0")), b"", Duration::from_secs(10)).stdout;
        serde_json::from_slice::<serde_json::Value>(&told).expect("JSON")
    };
    let nodes = map["nodes"].as_array().expect("nodes");
    let of = |name: &str| nodes.iter().find(|node| node["name"] == name).expect("a node").clone();
    let (first, second) = (of("n1"), of("n2"));
    // What n1 sends, as somebody would have it who listened, or as n2 would make it up.
    let registration = |id: &serde_json::Value, name: &str, is_start: bool| {
        let mut body = first.clone();
        (body["id"], body["name"], body["is_start"]) = (id.clone(), name.into(), is_start.into());
        body.to_string()
    };
    let register =
        |shown: &Shown, body: &str| call_with(&certs, Some(shown), "POST", &format!("{url}/placement/v1/nodes"), body);
    for is_start in [false, true] {
        for name in ["n1", "n2", "n3"] {
            let status = register(&shown("n2"), &registration(&first["id"], name, is_start));
            assert_eq!(status, "403", "{name} {is_start}");
        }
        assert_eq!(register(&shown("n2"), &registration(&second["id"], "n1", is_start)), "403", "{is_start}");
    }
    assert_eq!(register(&shown("n1"), &registration(&first["id"], "n1", false)), "200");
    // Nor where another is: who is taken to be there would be cut off.
    let elsewhere = |id: &serde_json::Value, is_start: bool| {
        let mut body = second.clone();
        (body["id"], body["address"], body["is_start"]) = (id.clone(), first["address"].clone(), is_start.into());
        register(&shown("n2"), &body.to_string())
    };
    assert_eq!([elsewhere(&second["id"], false), elsewhere(&second["id"], true)], ["403", "403"]);
    assert_eq!(elsewhere(&serde_json::Value::Null, false), "400");
    // A certificate of a storage node, of none by name.
    let both = "extendedKeyUsage=serverAuth,clientAuth\n";
    let uris = |uris: &str| format!("subjectAltName={uris}\n{both}");
    for (name, alternative) in [
        ("nameless", "URI:urn:weir:storage-node"),
        ("all", "URI:urn:weir:storage-node,URI:urn:weir:node:*"),
        ("case", "URI:urn:weir:storage-node,URI:urn:weir:node:N1"),
        ("longer", "URI:urn:weir:storage-node,URI:urn:weir:node:n11"),
        ("dns", "URI:urn:weir:storage-node,DNS:n1"),
    ] {
        let shown = sign(&certs, "internal-ca", name, &uris(alternative), "10");
        assert_eq!(register(&shown, &registration(&first["id"], "n1", false)), "403", "{name}");
    }

    // Nor does a node lead under another's name.
    let id = |node: &serde_json::Value| NodeId(node["id"].as_u64().expect("a number") as u32);
    let hello = |node: NodeId| {
        let (head, tail) = Frame::Hello { node, incarnation: Incarnation(1) }.encode(1);
        [&head[..], tail.as_deref().unwrap_or_default()].concat()
    };
    let third = cluster.services[3].option("--listen").to_owned();
    let most = Duration::from_secs(3);
    assert!(stays(&shown("n1"), &third, &hello(id(&first)), most) >= most);
    assert!(stays(&shown("n2"), &third, &hello(id(&first)), most) < most);

    // A process that was given another's certificate says so, and ends.
    let mut impostor = Command::new(weir());
    impostor.args(["storage-node", "--az", "az-a", "--name", "n1", "--data"]).arg(dir.path().join("impostor"));
    impostor.args([
        "--listen",
        &format!("127.0.0.1:{}", free_port()),
        "--admin",
        &format!("127.0.0.1:{}", free_port()),
    ]);
    impostor.args(["--placement", &url, "--internal-ca"]).arg(certs.join("internal-ca.pem"));
    impostor.arg("--internal-cert").arg(shown("n2").cert()).arg("--internal-key").arg(shown("n2").key());
    let ended = run(&mut impostor, b"", Duration::from_secs(20));
    assert!(!ended.status.success() && output_text(&ended).contains("urn:weir:node:n1"), "{}", output_text(&ended));
}

#[test]
fn clients_whose_certificates_name_a_user_need_no_other_login() {
    const OURS: &str = "111111111111";
    let dir = Scratch::new("trust-clients");
    let certs = dir.path().join("certs");
    // Both gateways ask for certificates: clients are sent to either.
    let client_ca = certs.join("ca.pem");
    let client_crl = certs.join("crl.pem");
    let [client_ca, client_crl] = [&client_ca, &client_crl].map(|path| path.to_str().expect("a path"));
    let mut guarded = Guarded::start_with(dir.path(), &["--tls-client-ca", client_ca, "--tls-client-crl", client_crl]);
    let local = || format!("127.0.0.1:{}", free_port());
    let (kafka, http, kafka_tls, https) = (local(), local(), local(), local());
    let file = |name: &str| certs.join(name).to_str().expect("a path").to_owned();
    let services = &guarded.cluster.services;
    let placement = services[services.len() - 1].option("--placement").to_owned();
    let (cert, key, ca) = (file("server.pem"), file("server-key.pem"), file("ca.pem"));
    let arguments = [
        ["gateway", "--kafka", &kafka, "--http", &http, "--placement", &placement, "--require-login"].as_slice(),
        &["--kafka-tls", &kafka_tls, "--https", &https, "--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca],
        &["--tls-client-crl", client_crl],
    ]
    .concat();
    let mut gateway = Service::new(dir.path(), "gateway-certs", &arguments);
    gateway.start();
    guarded.cluster.services.push(gateway);
    guarded.make_account(OURS, "ours", "u-1");
    guarded.make_user(OURS, "app", &app_policy(OURS, "ours", "u-1"));
    guarded.operate(&["user", "create", "idle", "--account", OURS], b"");
    let shown = |name: &str, uri: &str| {
        sign(&certs, "ca", name, &format!("subjectAltName=URI:{uri}\nextendedKeyUsage=clientAuth\n"), "10")
    };
    let right = shown("app", &format!("arn:aws:iam::{OURS}:user/app"));
    let ask = |shown: &Shown, path: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-w", "\n%{http_code}", "--cacert", &ca, "--cert"])
            .arg(shown.cert())
            .arg("--key")
            .arg(shown.key());
        let url = format!("https://{https}{path}");
        String::from_utf8(run(curl.arg(url), b"", Duration::from_secs(10)).stdout).expect("text")
    };
    let who = ask(&right, "/v1/whoami");
    assert!(who.contains(&format!("arn:aws:iam::{OURS}:user/app")) && who.ends_with("200"), "{who}");
    assert!(ask(&shown("idle", &format!("arn:aws:iam::{OURS}:user/idle")), "/v1/topics").ends_with("403"));
    let wrong = [
        Shown::of(&certs, "client"),
        shown("nobody", &format!("arn:aws:iam::{OURS}:user/nobody")),
        shown("case", &format!("arn:aws:iam::{OURS}:user/APP")),
        shown("role", &format!("arn:aws:iam::{OURS}:role/app")),
        shown("short", "arn:aws:iam::1:user/app"),
        sign(
            &certs,
            "ca",
            "two",
            &format!(
                "subjectAltName=URI:arn:aws:iam::{OURS}:user/app,URI:arn:aws:iam::{OURS}:user/idle\nextendedKeyUsage=clientAuth\n"
            ),
            "10",
        ),
    ];
    for shown in &wrong {
        let answer = ask(shown, "/v1/topics");
        assert!(answer.ends_with("401"), "{}: {answer}", shown.name);
    }
    let kcat = |shown: &Shown, arguments: &[&str]| {
        let mut kcat = Command::new("kcat");
        let path = |path: PathBuf| path.to_str().expect("a path").to_owned();
        kcat.args(["-b", &kafka_tls, "-X", "security.protocol=ssl", "-X", &format!("ssl.ca.location={ca}")]);
        kcat.args(["-X", &format!("ssl.certificate.location={}", path(shown.cert()))]);
        kcat.args(["-X", &format!("ssl.key.location={}", path(shown.key()))]).args(arguments);
        run(&mut kcat, b"line\n", Duration::from_secs(20))
    };
    let key = guarded.make_user(OURS, "maker", &app_policy(OURS, "ours", "u-1"));
    assert!(guarded.weir_as(&key, &["topic", "create", "app"]).status.success());
    let written = kcat(&right, &["-P", "-t", "app", "-X", "message.timeout.ms=8000"]);
    assert!(written.status.success(), "{}", output_text(&written));
    let refused = kcat(&wrong[1], &["-P", "-t", "app", "-X", "message.timeout.ms=3000"]);
    assert!(!refused.status.success(), "{}", output_text(&refused));
    // A connection ends with the certificate that it began with.
    let uri = format!("subjectAltName=URI:arn:aws:iam::{OURS}:user/app\nextendedKeyUsage=clientAuth\n");
    let most = Duration::from_secs(9);
    for address in [&kafka_tls, &https] {
        let short = sign_between(&certs, "ca", "short", &uri, -60, 5);
        let took = stays(&short, address, b"", most);
        assert!(took > Duration::from_secs(3) && took < Duration::from_secs(7), "{address}: {took:?}");
    }
    assert!(stays(&right, &kafka_tls, b"", most) >= most);
    // Nor does one that its CA took back: within ten seconds, on open connections too. The user has another.
    let lost = shown("lost", &format!("arn:aws:iam::{OURS}:user/app"));
    assert!(ask(&lost, "/v1/whoami").ends_with("200"));
    ends_once_revoked(&certs, &lost, &right, [(&kafka_tls, b""), (&https, b"")]);
    assert!(ask(&lost, "/v1/whoami").ends_with("000") && ask(&right, "/v1/whoami").ends_with("200"));
    // Who is deleted is nobody, whatever is shown.
    guarded.operate(&["user", "delete", "app", "--account", OURS], b"");
    let until = Instant::now() + Duration::from_secs(10);
    while !ask(&right, "/v1/topics").ends_with("401") {
        assert!(Instant::now() < until, "a deleted user is still let in");
        std::thread::sleep(Duration::from_millis(200));
    }
}
