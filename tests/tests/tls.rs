//! TLS at the gateway's listeners, by clients that nobody here wrote: Kafka and HTTPS, certificates that change, and what is
//! refused.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tests::{Cluster, Scratch, Service, free_port, java, run, succeed, tool, tools, weir};

/// A cluster of a plain gateway and one that speaks TLS too, and where that is.
struct Secured {
    cluster: Cluster,
    kafka: String,
    https: String,
    certs: PathBuf,
}

impl Secured {
    fn start(dir: &Path, more: &[&str]) -> Self {
        let mut cluster = Cluster::start(dir);
        let certs = dir.join("certs");
        make_certs(&certs);
        let local = || format!("127.0.0.1:{}", free_port());
        let (kafka, https, plain, http) = (local(), local(), local(), local());
        let placement = cluster.services[cluster.services.len() - 1].option("--placement").to_owned();
        let (cert, key) = (path(&certs, "server.pem"), path(&certs, "server-key.pem"));
        let shown = kafka.replace("127.0.0.1", "localhost");
        let arguments = [
            ["gateway", "--kafka", &plain, "--http", &http, "--placement", &placement, "--kafka-tls", &kafka]
                .as_slice(),
            &["--advertise-kafka-tls", &shown, "--https", &https],
            &["--tls-cert", &cert, "--tls-key", &key],
            more,
        ]
        .concat();
        let mut gateway = Service::new(dir, "gateway-tls", &arguments);
        gateway.start();
        cluster.services.push(gateway);
        Self { cluster, kafka, https: format!("https://{https}"), certs }
    }

    fn ca(&self) -> String {
        path(&self.certs, "ca.pem")
    }

    fn kcat(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kcat");
        command.args([
            "-b",
            &self.kafka,
            "-X",
            "security.protocol=ssl",
            "-X",
            &format!("ssl.ca.location={}", self.ca()),
        ]);
        command.args(arguments);
        command
    }

    fn curl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("curl");
        command.args(["-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code} %{http_version}"]);
        command.args(arguments).output().expect("curl")
    }

    /// The serial number of the certificate that a new client is shown.
    fn serial(&self) -> String {
        let address = self.https.trim_start_matches("https://");
        let script =
            format!("openssl s_client -connect {address} </dev/null 2>/dev/null | openssl x509 -noout -serial");
        let output = Command::new("sh").args(["-c", &script]).output().expect("openssl");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().expect("a path").to_owned()
}

fn make_certs(dir: &Path) {
    succeed(Command::new(weir()).args(["certs", "dev", "--dir"]).arg(dir), b"");
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn clients_speak_tls_and_see_the_gateways_that_do() {
    let scratch = Scratch::new("tls");
    let secured = Secured::start(scratch.path(), &[]);
    let line: String = (0..1_000).map(|n| format!("line {n} {}\n", "x".repeat(500))).collect();
    succeed(&mut secured.kcat(&["-P", "-t", "t", "-X", "topic.metadata.refresh.interval.ms=500"]), line.as_bytes());
    let read = succeed(&mut secured.kcat(&["-C", "-t", "t", "-e", "-q", "-o", "beginning"]), b"");
    assert!(read == line.as_bytes());
    let group = ["-G", "g", "t", "-c", "1000", "-q", "-X", "auto.offset.reset=earliest"];
    assert_eq!(succeed(&mut secured.kcat(&group), b"").iter().filter(|byte| **byte == b'\n').count(), 1_000);
    // By TLS there is one broker, under its name; without there are two.
    let listed = String::from_utf8_lossy(&succeed(&mut secured.kcat(&["-L"]), b"")).into_owned();
    let port = secured.kafka.rsplit(':').next().expect("a port");
    assert!(listed.contains("1 brokers") && listed.contains(&format!("at localhost:{port}")), "{listed}");
    let listed = succeed(Command::new("kcat").args(["-b", &secured.cluster.kafka, "-L"]), b"");
    assert!(String::from_utf8_lossy(&listed).contains("2 brokers"));
    // HTTP/2 by ALPN, HTTP/1.1 for who wants it, and nothing for who trusts another CA.
    let url = format!("{}/v1/topics", secured.https);
    assert_eq!(text(&secured.curl(&["--cacert", &secured.ca(), &url])), "200 2");
    assert_eq!(text(&secured.curl(&["--cacert", &secured.ca(), "--http1.1", &url])), "200 1.1");
    assert!(!secured.curl(&[&url]).status.success());
    let weir_list = |more: &[&str]| {
        Command::new(weir()).args(["topic", "list", "--server", &secured.https]).args(more).output().expect("weir")
    };
    assert!(text(&weir_list(&["--ca", &secured.ca()])).contains('t'));
    assert_eq!(weir_list(&[]).status.code(), Some(3));
    if tool("Apache Kafka's tools", tools().join("java").exists()) {
        let config = scratch.path().join("client.properties");
        let ca = secured.ca();
        let properties = format!("security.protocol=SSL\nssl.truststore.type=PEM\nssl.truststore.location={ca}\n");
        std::fs::write(&config, properties).expect("a file");
        let arguments = ["--list", "--command-config", config.to_str().expect("a path")];
        let by_tls = Cluster {
            kafka: secured.kafka.replace("127.0.0.1", "localhost"),
            http: String::new(),
            services: Vec::new(),
        };
        let output =
            run(&mut java("org.apache.kafka.tools.TopicCommand", &by_tls, &arguments), b"", Duration::from_secs(60));
        assert_eq!(text(&output).trim(), "t", "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn new_certificates_are_taken_and_connections_stay() {
    let scratch = Scratch::new("tls-reload");
    let secured = Secured::start(scratch.path(), &[]);
    succeed(&mut secured.kcat(&["-P", "-t", "t"]), b"first\n");
    // A producer that stays connected all the while: kcat sends a line as it comes.
    let mut producer = secured.kcat(&["-P", "-t", "t", "-X", "linger.ms=0", "-d", "broker"]);
    let told = scratch.path().join("producer.log");
    let log = std::fs::File::create(&told).expect("a file");
    let mut producer = producer.stdin(Stdio::piped()).stderr(log).spawn().expect("kcat");
    let mut input = producer.stdin.take().expect("its input");
    input.write_all(b"before\n").expect("it reads");
    let before = secured.serial();
    assert!(before.starts_with("serial="), "{before}");
    // A certificate whose key is another's changes nothing.
    let own = std::fs::read(secured.certs.join("server-key.pem")).expect("a key");
    std::fs::copy(secured.certs.join("client-key.pem"), secured.certs.join("server-key.pem")).expect("a copy");
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(secured.serial(), before);
    std::fs::write(secured.certs.join("server-key.pem"), own).expect("a file");
    make_certs(&secured.certs);
    let began = Instant::now();
    while secured.serial() == before {
        assert!(began.elapsed() < Duration::from_secs(15), "the old certificate is still shown");
        std::thread::sleep(Duration::from_millis(200));
    }
    input.write_all(b"after\n").expect("it is still there");
    drop(input);
    assert!(producer.wait().expect("it ends").success());
    let told = std::fs::read_to_string(told).expect("text");
    let handshakes = told.matches("-> UP").count().max(told.matches("to state UP").count());
    let lost = told.matches("Disconnected").count() + told.matches("_TRANSPORT").count();
    assert!(handshakes > 0 && lost == 0, "{handshakes} {lost} {told}");
    let read = succeed(&mut secured.kcat(&["-C", "-t", "t", "-e", "-q", "-o", "beginning"]), b"");
    assert_eq!(String::from_utf8_lossy(&read), "first\nbefore\nafter\n");
}

#[test]
fn clients_without_the_right_certificate_are_refused() {
    let scratch = Scratch::new("tls-clients");
    let ca = path(&scratch.path().join("certs"), "ca.pem");
    let secured = Secured::start(scratch.path(), &["--tls-client-ca", &ca]);
    let others = scratch.path().join("others");
    make_certs(&others);
    let url = format!("{}/v1/topics", secured.https);
    let with = |dir: &Path, name: &str| {
        let (cert, key) = (path(dir, &format!("{name}.pem")), path(dir, &format!("{name}-key.pem")));
        text(&secured.curl(&["--cacert", &ca, "--cert", &cert, "--key", &key, &url]))
    };
    assert_eq!(with(&secured.certs, "client"), "200 2");
    assert!(with(&others, "client").starts_with("000"), "another CA signed it");
    assert!(with(&secured.certs, "server").starts_with("000"), "it is none of a client");
    assert!(text(&secured.curl(&["--cacert", &ca, &url])).starts_with("000"));
    let certs = |name: &str| path(&secured.certs, name);
    let own = [
        format!("ssl.certificate.location={}", certs("client.pem")),
        format!("ssl.key.location={}", certs("client-key.pem")),
    ];
    let known = ["-P", "-t", "t", "-X", &own[0], "-X", &own[1]];
    succeed(&mut secured.kcat(&known), b"one\n");
    let unknown =
        run(&mut secured.kcat(&["-P", "-t", "t", "-X", "message.timeout.ms=3000"]), b"two\n", Duration::from_secs(30));
    assert!(!unknown.status.success());
    let read = succeed(&mut secured.kcat(&["-C", "-t", "t", "-e", "-q", "-X", &own[0], "-X", &own[1]]), b"");
    assert_eq!(read, b"one\n");
    // Whoever showed it once does not go on with that session: the next time it is shown again.
    let session = path(scratch.path(), "session.pem");
    let connect = |version: &str, more: &[&str]| {
        let mut openssl = Command::new("openssl");
        let address = secured.https.trim_start_matches("https://");
        openssl.args(["s_client", "-connect", address, "-CAfile", &ca, version]).args(more);
        // An answer of HTTP, after which tickets have come.
        let request = b"GET /v1/topics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let output = run(openssl.arg("-ign_eof"), request, Duration::from_secs(10));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (cert, key) = (certs("client.pem"), certs("client-key.pem"));
    for version in ["-tls1_2", "-tls1_3"] {
        let _ = std::fs::remove_file(&session);
        let first = connect(version, &["-cert", &cert, "-key", &key, "-sess_out", &session]);
        assert!(first.contains("200 OK"), "{version}: {first}");
        if Path::new(&session).exists() {
            let again = connect(version, &["-sess_in", &session]);
            assert!(!again.contains("Reused") && !again.contains("200 OK"), "{version}: {again}");
        }
    }
}

/// `weir up` makes its own certificates, heeds the CA of clients with them, and is bound beyond loopback only with one.
#[test]
fn weir_up_with_tls() {
    let scratch = Scratch::new("tls-up");
    let others = scratch.path().join("clients");
    make_certs(&others);
    let local = || format!("127.0.0.1:{}", free_port());
    let (kafka, http, kafka_tls, https) = (local(), local(), local(), local());
    let (data, ca) = (path(scratch.path(), "data"), path(&others, "ca.pem"));
    let listeners =
        ["up", "--data", &data, "--kafka", &kafka, "--http", &http, "--kafka-tls", &kafka_tls, "--https", &https];
    let mut up = Service::new(scratch.path(), "up", &[&listeners[..], &["--tls-client-ca", &ca]].concat());
    up.start();
    let own = path(&scratch.path().join("data/certs"), "ca.pem");
    let curl = |more: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", &own]).args(more);
        text(&command.arg(format!("https://{https}/v1/topics")).output().expect("curl"))
    };
    let (cert, key) = (path(&others, "client.pem"), path(&others, "client-key.pem"));
    assert_eq!(curl(&["--cert", &cert, "--key", &key]), "200");
    assert_eq!(curl(&[]), "000", "nobody else");
    for name in ["server-key.pem", "ca-key.pem"] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(scratch.path().join("data/certs").join(name)).expect("a key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    up.kill();
    let refused = |arguments: &[&str]| {
        let output = run(Command::new(weir()).args(arguments), b"", Duration::from_secs(10));
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let wide = format!("0.0.0.0:{}", free_port());
    let (code, told) = refused(&["up", "--data", &data, "--kafka", &kafka, "--http", &http, "--https", &wide]);
    assert!(code == Some(2) && told.contains("--insecure-bind"), "{told}");
    let certs =
        ["--tls-cert", &path(&others, "server.pem"), "--tls-key", &path(&others, "server-key.pem")].map(str::to_owned);
    let certs: Vec<&str> = certs.iter().map(String::as_str).collect();
    let gateway = ["gateway", "--kafka", &kafka, "--http", &http, "--kafka-tls", &wide, "--tls-client-ca", &ca];
    let (code, told) = refused(&[&gateway[..], &certs].concat());
    assert!(code == Some(2) && told.contains("--advertise-kafka"), "{told}");
    // Certificates of another kind are not written over.
    std::fs::remove_file(others.join("ca-key.pem")).expect("it is there");
    let before = std::fs::read(others.join("server-key.pem")).expect("a key");
    let (code, told) = refused(&["certs", "dev", "--dir", others.to_str().expect("a path")]);
    assert!(code == Some(1) && told.contains("another folder"), "{told}");
    assert_eq!(std::fs::read(others.join("server-key.pem")).expect("a key"), before);
}

/// What it takes until a connection is closed by the other side, after these bytes.
fn closed_after(address: &str, bytes: &[u8]) -> Duration {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let began = Instant::now();
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.len() < 100, "no more than an alert");
    began.elapsed()
}

#[test]
fn what_is_no_handshake_ends_and_holds_nobody_up() {
    let scratch = Scratch::new("tls-bad");
    let secured = Secured::start(scratch.path(), &[]);
    let https = secured.https.trim_start_matches("https://").to_owned();
    // Plain requests on ports of TLS, and the other way round.
    let versions = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 255, 255];
    assert!(closed_after(&secured.kafka, &versions) < Duration::from_secs(5));
    assert!(closed_after(&https, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") < Duration::from_secs(5));
    let hello = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
    assert!(closed_after(&secured.cluster.kafka, &hello) < Duration::from_secs(5));
    for (version, is_offered) in [("-tls1", false), ("-tls1_1", false), ("-tls1_2", true), ("-tls1_3", true)] {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &https, version, "-cipher", "ALL:@SECLEVEL=0"]);
        let output = run(&mut command, b"", Duration::from_secs(10));
        assert_eq!(!text(&output).contains("Cipher is (NONE)"), is_offered, "{version}: {}", text(&output));
        // The gateway refuses it, not the client by a rule of its own.
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(told.contains("SSL alert number"), !is_offered, "{version}: {told}");
    }
    // Those who say nothing are many; others of another address do not notice.
    let silent: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(&https).expect("it listens")).collect();
    std::thread::sleep(Duration::from_millis(500));
    let url = format!("https://localhost:{}/livez", https.rsplit(':').next().expect("a port"));
    let began = Instant::now();
    let output = secured.curl(&["--cacert", &secured.ca(), "--interface", "127.0.0.2", "-4", &url]);
    assert!(text(&output).starts_with("200"), "{output:?}");
    assert!(began.elapsed() < Duration::from_secs(3));
    let is_open = |stream: &TcpStream| {
        stream.set_nonblocking(true).expect("a socket");
        let mut byte = [0];
        matches!((&*stream).read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    };
    let open = silent.iter().filter(|stream| is_open(stream)).count();
    assert!((1..=128).contains(&open), "{open} of one address are waited for");
    std::thread::sleep(Duration::from_secs(11));
    assert_eq!(silent.iter().filter(|stream| is_open(stream)).count(), 0, "for ten seconds");
}

/// A ClientHello of TLS 1.2 with these suites, and P-256 with ECDSA to agree by.
fn client_hello(suites: &[u16]) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let list = |values: &[u16]| sized(&values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<u8>>());
    let extension = |kind: u16, body: &[u8]| [&kind.to_be_bytes()[..], &sized(body)].concat();
    let groups = extension(10, &list(&[23]));
    let points = extension(11, &[1, 0]);
    let algorithms = extension(13, &list(&[0x0403, 0x0503, 0x0804, 0x0401]));
    let extensions = sized(&[groups, points, algorithms].concat());
    let body = [&[3, 3][..], &[7; 32], &[0], &list(suites), &[1, 0], &extensions].concat();
    let message = [&[1][..], &(body.len() as u32).to_be_bytes()[1..], &body].concat();
    [&[22, 3, 1][..], &sized(&message)].concat()
}

/// The first bytes of what is answered.
fn answer_to(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    stream.write_all(bytes).expect("sent");
    let mut answer = vec![0; 7];
    let length = stream.read(&mut answer).expect("an answer");
    answer.truncate(length);
    answer
}

#[test]
fn suites_without_encryption_and_negotiating_again_are_refused() {
    let scratch = Scratch::new("tls-suites");
    let secured = Secured::start(scratch.path(), &[]);
    let https = secured.https.trim_start_matches("https://");
    for address in [&*secured.kafka, https] {
        // Without encryption, without authentication, for export, of single DES, with RC4.
        let weak =
            [0x0001, 0x0002, 0x003b, 0xc006, 0xc010, 0x0034, 0xc018, 0x0003, 0x0008, 0x0014, 0x0009, 0x0005, 0xc011];
        for suites in weak.map(|suite| vec![suite]).iter().chain([&weak.to_vec()]) {
            // An alert: handshake_failure.
            assert_eq!(answer_to(address, &client_hello(suites)), [21, 3, 3, 0, 2, 2, 40], "{suites:04x?}");
        }
        // The same with one that is good begins with the server's hello.
        let good = [0xc02b, 0xc02c, 0xcca9];
        for suite in good {
            let answer = answer_to(address, &client_hello(&[&weak[..], &[suite]].concat()));
            assert_eq!((answer[0], answer[5]), (22, 2), "{suite:04x} {answer:?}");
        }
    }
    // No request is taken in early data: it could be sent again (RFC 8470).
    let script = format!("(sleep 1) | timeout 4 openssl s_client -connect {https} -tls1_3 2>&1");
    let told = text(&Command::new("sh").args(["-c", &script]).output().expect("openssl"));
    assert!(told.contains("Max Early Data: 0") && !told.contains("Early data was accepted"), "{told}");
    let script = format!("(sleep 1; echo R; sleep 1) | timeout 4 openssl s_client -connect {https} -tls1_2 -msg 2>&1");
    let output = Command::new("sh").args(["-c", &script]).output().expect("openssl");
    let told = text(&output);
    let said = |what: &str| told.lines().filter(|line| line.ends_with(what)).count();
    // A second hello of the client is not answered by one of the server.
    assert_eq!([said(", ClientHello"), said(", ServerHello"), said("RENEGOTIATING")], [2, 1, 1], "{told}");
}

/// CPU time that a process took, in s, and its threads.
fn used(service: &Service) -> (f64, usize) {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", service.id())).expect("a process");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    let number = |at: usize| fields[at].parse::<f64>().expect("a number");
    // Of the fields after the name: user and system time, in hundredths of a second, and threads.
    ((number(11) + number(12)) / 100.0, number(17) as usize)
}

#[test]
fn handshakes_that_lead_nowhere_leave_nothing_behind() {
    let scratch = Scratch::new("tls-nowhere");
    let secured = Secured::start(scratch.path(), &[]);
    let https = secured.https.trim_start_matches("https://").to_owned();
    let gateway = secured.cluster.services.last().expect("the gateway");
    let open = |service: &Service| std::fs::read_dir(format!("/proc/{}/fd", service.id())).expect("a process").count();
    let (threads, files) = (used(gateway).1, open(gateway));
    // A hello, and goodbye: ten thousand times.
    let hello = client_hello(&[0xc02b]);
    let goodbye = [21, 3, 3, 0, 2, 1, 0];
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..1_250 {
                    let mut stream = TcpStream::connect(&https).expect("it listens");
                    // It may be closed meanwhile: there are too many at a time.
                    let _ = stream.write_all(&hello).and_then(|()| stream.write_all(&goodbye));
                }
            });
        }
    });
    let until = Instant::now() + Duration::from_secs(12);
    while open(gateway) > files + 2 {
        assert!(Instant::now() < until, "{} files, {files} before", open(gateway));
        std::thread::sleep(Duration::from_millis(100));
    }
    let (before, _) = used(gateway);
    std::thread::sleep(Duration::from_secs(2));
    let (after, now) = used(gateway);
    assert!(after - before < 0.3, "{:.2} s of CPU in two seconds of nothing", after - before);
    assert!(now <= threads + 2, "{now} threads, {threads} before");
    let answer = secured.curl(&[
        "--cacert",
        &secured.ca(),
        &format!("{}/livez", secured.https.replace("127.0.0.1", "localhost")),
    ]);
    assert!(text(&answer).starts_with("200"), "{answer:?}");

    // A byte now and then is not enough to stay.
    let mut slow: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(&https).expect("it listens")).collect();
    let began = Instant::now();
    for byte in hello.iter().cycle().take(14) {
        slow.iter_mut().for_each(|stream| drop(stream.write_all(&[*byte])));
        std::thread::sleep(Duration::from_secs(1));
    }
    for stream in &mut slow {
        stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
        let is_closed = match stream.read(&mut [0; 16]) {
            Ok(length) => length == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        };
        assert!(is_closed, "after {:?}", began.elapsed());
    }
}

/// Of many addresses together no more handshakes are under way than there may be, whoever they are.
#[test]
fn handshakes_have_one_bound_for_all_addresses() {
    // Both ends of each are on this machine; the gateway has the limit of who begins it.
    let many = libc::rlimit { rlim_cur: 4_096, rlim_max: 4_096 };
    // SAFETY: reads one struct.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &many) }, 0);
    let scratch = Scratch::new("tls-bound");
    let secured = Secured::start(scratch.path(), &[]);
    let https: std::net::SocketAddr = secured.https.trim_start_matches("https://").parse().expect("an address");
    let connect = |from: u8| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        let from = std::net::SocketAddr::from(([127, 0, 0, from], 0));
        socket.bind(&from.into()).expect("an address of this machine");
        socket.connect(&https.into()).expect("it listens");
        TcpStream::from(socket)
    };
    // Of each of twelve addresses fewer than one may have.
    let silent: Vec<TcpStream> = (0..1_200).map(|n| connect(10 + (n % 12) as u8)).collect();
    let open = || {
        silent.iter().filter(|stream| {
            stream.set_nonblocking(true).expect("a socket");
            matches!((&**stream).read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        })
    };
    // Those that are too many are closed once they are accepted.
    let until = Instant::now() + Duration::from_secs(8);
    while open().count() > 1_024 {
        assert!(Instant::now() < until, "{} of 1,200 are waited for", open().count());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(open().count() > 900, "{} are waited for", open().count());
    // They end, and others have their places.
    let until = Instant::now() + Duration::from_secs(15);
    while open().count() > 0 {
        assert!(Instant::now() < until, "{} are still waited for", open().count());
        std::thread::sleep(Duration::from_millis(200));
    }
    let url = format!("https://localhost:{}/livez", https.port());
    let answer = secured.curl(&["--cacert", &secured.ca(), "-4", &url]);
    assert!(text(&answer).starts_with("200"), "{answer:?}");
}
