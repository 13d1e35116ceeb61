//! The harness of the black-box suites: Weir as separate processes, real clients beside it.

pub mod balancer;
pub mod chaos;
pub mod guarded;
pub mod session;
pub mod signed;
pub mod small_disk;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A folder that goes when its test ends well.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("weir-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a scratch folder");
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// The binary under test.
pub fn weir() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/weir");
    std::env::var_os("WEIR_BIN").map_or(built, PathBuf::from)
}

/// A port that nobody has: below those that the kernel gives to connections, and each one once.
pub fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(977);
    loop {
        let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = (FIRST + number) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// One service as a process.
#[derive(Debug)]
pub struct Service {
    pub name: String,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
    namespace: Option<String>,
    binary: PathBuf,
    provoked: Vec<&'static str>,
}

impl Service {
    pub fn new(dir: &Path, name: &str, arguments: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            log: dir.join(format!("{name}.log")),
            child: None,
            namespace: None,
            binary: weir(),
            provoked: Vec::new(),
        }
    }

    /// Runs in a network namespace, which must be there.
    pub fn in_namespace(mut self, name: Option<String>) -> Self {
        self.namespace = name;
        self
    }

    /// Starts the process and waits for its `is ready` line.
    pub fn start(&mut self) {
        let out = self.log.with_extension("out");
        let log = File::options().create(true).append(true).open(&self.log).expect("a log");
        let mut command = match &self.namespace {
            Some(_) => Command::new("nsenter"),
            None => Command::new(&self.binary),
        };
        if let Some(name) = &self.namespace {
            // It becomes the process: kills reach it. (`ip netns exec` would give it mounts of its own, and a disk of chaos
            // could not be taken from it.)
            command.arg(format!("--net=/run/netns/{name}")).arg(&self.binary);
        }
        command.args(&self.arguments).stdin(Stdio::null()).stderr(log);
        command.stdout(File::create(&out).expect("an output file"));
        self.child = Some(command.spawn().expect("the binary is built: cargo build --release"));
        let began = Instant::now();
        while !std::fs::read_to_string(&out).unwrap_or_default().contains("is ready") {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "{} ended at once: {}", self.name, self.log_text());
            assert!(began.elapsed() < Duration::from_secs(30), "{} is not ready: {}", self.name, self.log_text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// From the next start on it is this binary.
    pub fn set_binary(&mut self, binary: &Path) {
        binary.clone_into(&mut self.binary);
    }

    /// From the next start on it is given these, too.
    pub fn add_arguments(&mut self, arguments: &[&str]) {
        self.arguments.extend(arguments.iter().map(|text| (*text).to_owned()));
    }

    /// From the next start on one of its options has another value.
    pub fn replace_option(&mut self, name: &str, value: &str) {
        let at = self.arguments.iter().rposition(|argument| argument == name).expect("an option of it");
        value.clone_into(&mut self.arguments[at + 1]);
    }

    /// The value of one of its options.
    pub fn option(&self, name: &str) -> &str {
        let at = self.arguments.iter().rposition(|argument| argument == name).expect("an option of it");
        &self.arguments[at + 1]
    }

    /// The process's id.
    pub fn id(&self) -> i32 {
        self.child.as_ref().expect("it runs").id() as i32
    }

    /// Ends the process by its own id, without warning.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a process of ours");
            child.wait().expect("its end");
        }
    }

    /// Asks the process to end; its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let mut child = self.child.take()?;
        // SAFETY: sends a signal to a child that was not waited for yet.
        unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
        child.wait().expect("its end").code()
    }

    /// Errors with these words are provoked on purpose.
    pub fn provoke(&mut self, errors: &[&'static str]) {
        self.provoked.extend(errors);
    }

    /// Errors logged so far were provoked on purpose.
    pub fn forget_log(&mut self) {
        self.kill();
        let _ = std::fs::remove_file(&self.log);
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
        // A log line of this level means that a person must look.
        let log = self.log_text();
        let is_provoked = |line: &&str| self.provoked.iter().any(|words| line.contains(words));
        let errors = log.lines().filter(|line| line.contains("\"level\":\"ERROR\"") && !is_provoked(line));
        let errors: Vec<&str> = errors.collect();
        if !std::thread::panicking() {
            assert!(errors.is_empty(), "{} logged errors: {errors:#?}", self.name);
        }
    }
}

/// The whole system as separate processes.
#[derive(Debug)]
pub struct Cluster {
    pub kafka: String,
    pub http: String,
    /// Placement, three storage nodes, a gateway.
    pub services: Vec<Service>,
}

impl Cluster {
    pub fn start(dir: &Path) -> Self {
        Self::with_nodes(dir, &["az-a", "az-b", "az-c"])
    }

    /// Storage nodes `n1`, `n2` and so on, in these zones.
    pub fn with_nodes(dir: &Path, zones: &[&str]) -> Self {
        let store = format!("redb:{}", dir.join("placement").to_str().expect("a path"));
        Self::with_store(dir, zones, &store, 1)
    }

    /// As [`Cluster::with_nodes`], with this metadata store and as many placement processes: they come first.
    pub fn with_store(dir: &Path, zones: &[&str], store: &str, placements: usize) -> Self {
        Self::build(dir, zones, store, placements, None)
    }

    /// As [`Cluster::start`], with TLS between services; `certs` is what `weir certs dev` wrote.
    pub fn with_trust(dir: &Path, certs: &Path) -> Self {
        let store = format!("redb:{}", dir.join("placement").to_str().expect("a path"));
        Self::build(dir, &["az-a", "az-b", "az-c"], &store, 1, Some(certs))
    }

    fn build(dir: &Path, zones: &[&str], store: &str, placements: usize, certs: Option<&Path>) -> Self {
        let scheme = if certs.is_some() { "https" } else { "http" };
        let trust = |service: &mut Service, role: &str| {
            let Some(certs) = certs else { return };
            let file = |name: String| certs.join(name).to_str().expect("a path").to_owned();
            let (ca, cert) = (file("internal-ca.pem".into()), file(format!("internal-{role}.pem")));
            let (key, crl) = (file(format!("internal-{role}-key.pem")), file("internal-crl.pem".into()));
            service.add_arguments(&["--internal-ca", &ca, "--internal-cert", &cert, "--internal-key", &key]);
            service.add_arguments(&["--internal-crl", &crl]);
        };
        let local = || format!("127.0.0.1:{}", free_port());
        let (kafka, http) = (local(), local());
        let at = |name: &str| dir.join(name).to_str().expect("a path").to_owned();
        let (mut services, mut urls) = (Vec::new(), Vec::new());
        for number in 0..placements {
            let listen = local();
            let name = if placements == 1 { "placement".to_owned() } else { format!("placement-{}", number + 1) };
            let mut placement = Service::new(dir, &name, &["placement", "--listen", &listen, "--store", store]);
            trust(&mut placement, "placement");
            services.push(placement);
            urls.push(format!("{scheme}://{listen}"));
        }
        let url = urls.join(",");
        for (number, az) in zones.iter().enumerate() {
            let name = format!("n{}", number + 1);
            let (listen, admin, data) = (local(), local(), at(&name));
            let arguments = [
                "storage-node",
                "--az",
                az,
                "--name",
                &name,
                "--data",
                &data,
                "--listen",
                &listen,
                "--admin",
                &admin,
                "--placement",
                &url,
            ];
            let mut node = Service::new(dir, &name, &arguments);
            trust(&mut node, &format!("storage-node-{name}"));
            services.push(node);
        }
        let arguments = ["gateway", "--kafka", &kafka, "--http", &http, "--placement", &url];
        let mut gateway = Service::new(dir, "gateway", &arguments);
        trust(&mut gateway, "gateway");
        services.push(gateway);
        services.iter_mut().for_each(Service::start);
        Self { kafka, http: format!("http://{http}"), services }
    }

    /// Starts another gateway, the last of the services; `kafka` names all of them.
    pub fn add_gateway(&mut self, dir: &Path) {
        let gateways = self.kafka.split(',').count();
        let placement = self.services[self.services.len() - 1].option("--placement").to_owned();
        let (kafka, http) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
        let arguments = ["gateway", "--kafka", &kafka, "--http", &http, "--placement", &placement];
        let mut gateway = Service::new(dir, &format!("gateway-{}", gateways + 1), &arguments);
        gateway.start();
        self.services.push(gateway);
        self.kafka = format!("{},{kafka}", self.kafka);
    }
}

/// The binary of the release before this one, which `./test` builds from history; `None` where there is no history.
pub fn previous_weir() -> Option<PathBuf> {
    std::env::var_os("WEIR_PREVIOUS").map(PathBuf::from).filter(|binary| binary.exists())
}

/// An etcd cluster of three members, as processes.
#[derive(Debug)]
pub struct Etcd {
    pub urls: Vec<String>,
    commands: Vec<Vec<String>>,
    children: Vec<Option<Child>>,
}

impl Etcd {
    pub fn start(dir: &Path) -> Self {
        let url = || format!("http://127.0.0.1:{}", free_port());
        let (urls, peers): (Vec<String>, Vec<String>) = (0..3).map(|_| (url(), url())).unzip();
        let members: Vec<String> = peers.iter().enumerate().map(|(n, peer)| format!("m{n}={peer}")).collect();
        let command = |n: usize| {
            let data = dir.join(format!("etcd-{n}"));
            let name = format!("m{n}");
            let arguments = [
                ["--name", &name],
                ["--data-dir", data.to_str().expect("a path")],
                ["--listen-client-urls", &urls[n]],
                ["--advertise-client-urls", &urls[n]],
                ["--listen-peer-urls", &peers[n]],
                ["--initial-advertise-peer-urls", &peers[n]],
                ["--initial-cluster", &members.join(",")],
                ["--heartbeat-interval", "50"],
                ["--election-timeout", "500"],
                ["--log-level", "error"],
            ];
            arguments.concat().into_iter().map(str::to_owned).collect::<Vec<String>>()
        };
        let commands: Vec<Vec<String>> = (0..3).map(command).collect();
        let mut etcd = Self { urls, commands, children: (0..3).map(|_| None).collect() };
        (0..3).for_each(|n| etcd.restart(n));
        let began = Instant::now();
        while etcd.leader().is_none() {
            assert!(began.elapsed() < Duration::from_secs(30), "etcd elects no leader");
            std::thread::sleep(Duration::from_millis(50));
        }
        etcd
    }

    pub fn restart(&mut self, n: usize) {
        let mut command = Command::new("etcd");
        command.args(&self.commands[n]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.children[n] = Some(command.spawn().expect("etcd is installed: ./test installs it"));
    }

    /// Ends a member without warning.
    pub fn kill(&mut self, n: usize) {
        if let Some(mut child) = self.children[n].take() {
            child.kill().expect("a process of ours");
            child.wait().expect("its end");
        }
    }

    /// The member that leads, by its own word.
    pub fn leader(&self) -> Option<usize> {
        (0..3).filter(|n| self.children[*n].is_some()).find(|n| {
            let url = format!("{}/v3/maintenance/status", self.urls[*n]);
            let out = Command::new("curl").args(["-s", "--max-time", "2", "-X", "POST", "-d", "{}", &url]).output();
            let status: serde_json::Value =
                out.ok().and_then(|out| serde_json::from_slice(&out.stdout).ok()).unwrap_or_default();
            status["leader"].is_string() && status["leader"] == status["header"]["member_id"]
        })
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        (0..3).for_each(|n| self.kill(n));
    }
}

/// Whether a missing tool fails a test (`WEIR_CI=1`) or skips it, loudly.
pub fn tool(name: &str, is_there: bool) -> bool {
    if !is_there {
        assert!(std::env::var_os("WEIR_CI").is_none(), "{name} is not installed: ./test installs it");
        eprintln!("SKIPPED: {name} is not installed; ./test installs it");
    }
    is_there
}

pub fn has_command(name: &str) -> bool {
    Command::new("sh").args(["-c", &format!("command -v {name}")]).output().is_ok_and(|out| out.status.success())
}

/// Where `./test` puts tools that are no Debian packages.
pub fn tools() -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    std::env::var_os("WEIR_TOOLS").map_or_else(|| home.join(".cache/weir-tools"), PathBuf::from)
}

/// Runs a command with this input, within a time.
pub fn run(command: &mut Command, input: &[u8], timeout: Duration) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let id = child.id() as i32;
    let (done, ended) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if ended.recv_timeout(timeout).is_err() {
            // SAFETY: ends a child that is being waited for.
            unsafe { libc::kill(id, libc::SIGKILL) };
            return true;
        }
        false
    });
    let output = child.wait_with_output().expect("its end");
    let _ = done.send(());
    assert!(!watchdog.join().expect("a watchdog"), "{command:?} took longer than {timeout:?}");
    writer.join().expect("a writer");
    output
}

/// The output of a command that must succeed.
pub fn succeed(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let output = run(command, input, Duration::from_secs(120));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {:?} {error}", output.status);
    output.stdout
}

/// `curl` with these arguments: status and body.
pub fn curl(arguments: &[&str]) -> (u16, Vec<u8>) {
    let mut command = Command::new("curl");
    command.args(["-s", "-S", "-g", "--max-time", "60", "-w", "\n%{http_code}"]).args(arguments);
    let mut out = succeed(&mut command, b"");
    let at = out.iter().rposition(|byte| *byte == b'\n').expect("the status line");
    let status = String::from_utf8_lossy(&out[at + 1..]).parse().expect("a status");
    out.truncate(at);
    (status, out)
}

/// `curl`, with the answer as JSON.
pub fn curl_json(arguments: &[&str]) -> (u16, serde_json::Value) {
    let (status, body) = curl(arguments);
    let json = serde_json::from_slice(&body);
    (status, json.unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", String::from_utf8_lossy(&body))))
}

/// Sends one Kafka request on a bare socket; the answer, or `None` when the connection was closed.
pub fn kafka_call(address: &str, request: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).expect("the gateway listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream.write_all(&(request.len() as u32).to_be_bytes()).expect("a write");
    stream.write_all(request).expect("a write");
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).ok()?;
    Some(answer)
}

/// Java with Apache Kafka's libraries: a class, or a program of one file, comes next.
pub fn java_with_kafka() -> Command {
    let libs = format!("{}/*", tools().join("java").display());
    let mut command = Command::new("java");
    command.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-XX:TieredStopAtLevel=1", "-cp", &libs]);
    command
}

/// One of Apache Kafka's own tools.
pub fn java(class: &str, cluster: &Cluster, arguments: &[&str]) -> Command {
    let mut command = java_with_kafka();
    command.arg(class).args(["--bootstrap-server", &cluster.kafka]).args(arguments);
    command
}

/// Kills each storage node and each gateway in turn, for `LEDGER_SECONDS` (twelve unless it says otherwise); `work` is done
/// before each kill, after it, and once the service is back. Placement is not in the way of data, and left alone.
pub fn kill_in_turn(cluster: &mut Cluster, mut work: impl FnMut()) {
    let seconds = std::env::var("LEDGER_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let began = Instant::now();
    for service in (1..cluster.services.len()).rev().cycle() {
        if began.elapsed() >= Duration::from_secs(seconds) {
            return;
        }
        work();
        cluster.services[service].kill();
        work();
        std::thread::sleep(Duration::from_secs(1));
        cluster.services[service].start();
        work();
        std::thread::sleep(Duration::from_millis(1_500));
    }
}
