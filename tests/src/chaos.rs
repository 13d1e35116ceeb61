//! Chaos on real processes: three zones of two storage nodes, two gateways, placement, and clients that keep ledgers
//! while processes are killed and stopped, disks are lost and the network fails.
//!
//! A run is a number of faults; each heals before the next begins, and some come in pairs.

pub mod ledger;
pub mod network;
pub mod proxy;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::chaos::ledger::{Ledger, Log, Read, Value, parse};
use crate::chaos::network::Network;
use crate::small_disk::SmallDisk;
use crate::{Service, curl_json, succeed, tools, weir};

const PARTITIONS: u32 = 12;
/// So many nodes have a file system of their own, of this size; the space is taken as it is used.
const DISKS: usize = 3;
const DISK_MIB: u64 = 8 * 1024;
const ZONES: [&str; 6] = ["az-a", "az-b", "az-c", "az-a", "az-b", "az-c"];

/// Which faults a run is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    All,
    /// `kill -9` of a node or a zone, and nothing else: to measure pauses.
    Kills,
}

/// How long, and with how much load.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub kinds: Kinds,
    pub duration: Duration,
    /// It goes on until there were so many, on a slow machine for up to twice as long.
    pub faults_min: usize,
    pub seed: u64,
    /// Records per second of the Kafka client.
    pub rate: u32,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Report {
    pub faults: BTreeMap<&'static str, usize>,
    pub acked: usize,
    pub read: usize,
    /// Of these reads it is checked that they see what was there before they began.
    pub tail_reads: usize,
    pub errors: Vec<String>,
    pub wrong: Vec<String>,
    /// After each fault of a kind, the longest time without an acknowledgement on any partition; sorted.
    pub pauses: BTreeMap<&'static str, Vec<Pause>>,
}

impl Report {
    pub fn text(&self) -> String {
        let total: usize = self.faults.values().sum();
        let mut text = format!(
            "{total} faults, {} records acknowledged, {} read meanwhile, {} reads at the tail\n",
            self.acked, self.read, self.tail_reads
        );
        text += "longest pause of any of the partitions, in ms          count    p50    p90    p99    max  (partition, at)\n";
        for (name, pauses) in &self.pauses {
            // The value below which so many of a hundred lie.
            let quantile = |share: usize| pauses[(pauses.len() * share).div_ceil(100).max(1) - 1].ms;
            let last = pauses[pauses.len() - 1];
            text += &format!(
                "  {name:50} {:6} {:6} {:6} {:6} {:6}  ({}, {})\n",
                pauses.len(),
                quantile(50),
                quantile(90),
                quantile(99),
                last.ms,
                last.partition,
                last.at_ms
            );
        }
        text += &format!("client errors: {}\n", self.errors.len());
        self.errors.iter().take(5).for_each(|error| text += &format!("  {error}\n"));
        text += &format!("wrong: {}\n", self.wrong.len());
        self.wrong.iter().for_each(|wrong| text += &format!("  {wrong}\n"));
        text
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

struct World<'a> {
    dir: &'a Path,
    placement: Service,
    nodes: Vec<Service>,
    network: Network,
    /// Of the last nodes, one of each zone; none where nothing can be mounted.
    disks: Vec<SmallDisk>,
    gateways: Vec<Service>,
    http: Vec<String>,
    kafka: Vec<String>,
    rng: Rng,
    kinds: Kinds,
    report: Report,
    /// When each fault began.
    timeline: Vec<(u64, &'static str)>,
}

const NODE_KILL: &str = "kill -9 of a node";
const ZONE_KILL: &str = "kill -9 of a zone";

/// Runs a plan in `dir`.
pub fn run(dir: &Path, plan: Plan) -> Report {
    let mut world = World::start(dir, plan);
    let target = format!("{}/v1/topics", world.http[0]);
    let body = format!("{{\"name\":\"t\",\"partitions\":{PARTITIONS}}}");
    let (code, answer) = curl_json(&["-X", "POST", "-H", "content-type: application/json", "-d", &body, &target]);
    assert_eq!(code, 201, "{answer}");
    let ledger = dir.join("ledger-1");
    let mut producer = kafka_writer(&world.kafka.join(","), plan.rate, &ledger);
    let is_over = Arc::new(AtomicBool::new(false));
    let (http_ledger, reads) = (Arc::new(Mutex::new(Ledger::default())), Arc::new(Mutex::new(Reads::default())));
    let writer = {
        let (http, is_over, ledger) = (world.http.clone(), Arc::clone(&is_over), Arc::clone(&http_ledger));
        std::thread::spawn(move || http_writer(&http, &is_over, &ledger))
    };
    let reader = {
        let (http, is_over, reads) = (world.http.clone(), Arc::clone(&is_over), Arc::clone(&reads));
        std::thread::spawn(move || http_reader(&http, &is_over, &reads))
    };
    std::thread::sleep(Duration::from_secs(2));
    let began = Instant::now();
    let is_short = |world: &World| world.report.faults.values().sum::<usize>() < plan.faults_min;
    while began.elapsed() < plan.duration || (is_short(&world) && began.elapsed() < 2 * plan.duration) {
        world.fault();
        let rest = 1_000 + world.rng.below(1_500);
        std::thread::sleep(Duration::from_millis(rest));
    }
    world.heal();
    std::thread::sleep(Duration::from_secs(2));
    is_over.store(true, Ordering::Relaxed);
    writer.join().expect("the HTTP writer");
    reader.join().expect("the HTTP reader");
    drop(producer.stdin.take());
    let ended = producer.wait().expect("the Kafka writer");
    let kafka_ledger = Ledger::read(&ledger, 1);
    let mut report = world.finish();
    if !ended.success() {
        report.report.wrong.push("UNKNOWN: the Kafka writer could not flush within two minutes".to_owned());
    }
    let log = read_log(&report.kafka);
    let http_ledger = std::mem::take(&mut *http_ledger.lock().expect("no panic"));
    let reads = std::mem::take(&mut *reads.lock().expect("no panic"));
    let mut out = report.report;
    out.acked = kafka_ledger.acked.len() + http_ledger.acked.len();
    out.read = reads.values.len();
    out.tail_reads = reads.pages.iter().filter(|page| !page.is_full).count();
    for name in out.faults.keys() {
        out.pauses.insert(name, pauses(&kafka_ledger, &report.timeline, name));
    }
    out.pauses.retain(|_, pauses| !pauses.is_empty());
    let ledgers = [kafka_ledger, http_ledger];
    out.wrong.extend(ledger::check(&log, &ledgers, &reads.values));
    out.wrong.extend(ledger::check_linear(&ledgers, &reads.pages));
    out.errors.extend(ledgers.into_iter().flat_map(|ledger| ledger.errors));
    out
}

struct Finished {
    report: Report,
    kafka: String,
    timeline: Vec<(u64, &'static str)>,
    _network: Network,
    _services: Vec<Service>,
    // After the services: nobody may have files open there.
    _disks: Vec<SmallDisk>,
}

impl<'a> World<'a> {
    fn start(dir: &'a Path, plan: Plan) -> Self {
        let mut network = Network::begin();
        let listen = network.hub();
        let url = format!("http://{listen}");
        let at = |name: &str| dir.join(name).to_str().expect("a path").to_owned();
        let store = format!("redb:{}", at("placement"));
        let mut placement = Service::new(dir, "placement", &["placement", "--listen", &listen, "--store", &store]);
        placement.add_arguments(network.flags());
        placement.start();
        let (mut nodes, mut disks) = (Vec::new(), Vec::new());
        for (number, az) in ZONES.iter().enumerate() {
            let name = format!("n{}", number + 1);
            let (place, data) = (network.add(), at(&name));
            if number >= ZONES.len() - DISKS {
                disks.extend(SmallDisk::mount(&dir.join(format!("{name}.disk")), Path::new(&data), DISK_MIB));
            }
            let arguments = ["storage-node", "--az", az, "--name", &name, "--data", &data, "--listen", &place.listen];
            let rest = ["--admin", &place.admin, "--advertise", &place.public, "--placement", &url];
            let node = Service::new(dir, &name, &[&arguments[..], &rest[..]].concat());
            let mut node = node.in_namespace(place.namespace);
            node.add_arguments(network.flags());
            node.provoke(&["the disk hangs", "the journal cannot be written"]);
            node.start();
            nodes.push(node);
        }
        let (mut gateways, mut http, mut kafka) = (Vec::new(), Vec::new(), Vec::new());
        for number in 1..=2 {
            let (k, h, name) = (network.hub(), network.hub(), format!("gateway-{number}"));
            let mut gateway = Service::new(dir, &name, &["gateway", "--kafka", &k, "--http", &h, "--placement", &url]);
            gateway.add_arguments(network.flags());
            gateway.start();
            gateways.push(gateway);
            http.push(format!("http://{h}"));
            kafka.push(k);
        }
        let rng = Rng(plan.seed.max(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (report, timeline, kinds) = (Report::default(), Vec::new(), plan.kinds);
        Self { dir, placement, nodes, network, disks, gateways, http, kafka, rng, kinds, report, timeline }
    }

    fn pick(&mut self) -> usize {
        self.rng.below(self.nodes.len() as u64) as usize
    }

    fn wait(&mut self, from_ms: u64, to_ms: u64) {
        let ms = from_ms + self.rng.below(to_ms - from_ms);
        std::thread::sleep(Duration::from_millis(ms));
    }

    fn fault(&mut self) {
        let kind = match self.kinds {
            Kinds::All => self.rng.below(if self.disks.len() == DISKS { 112 } else { 100 }),
            Kinds::Kills => self.rng.below(37),
        };
        let node = self.pick();
        let began_ms = now_ms();
        let name = match kind {
            0..=29 => {
                self.nodes[node].kill();
                self.wait(1_500, 3_000);
                self.nodes[node].start();
                NODE_KILL
            }
            30..=36 => {
                let zone = node % 3;
                self.nodes[zone].kill();
                self.nodes[zone + 3].kill();
                self.wait(3_000, 5_000);
                self.nodes[zone].start();
                self.nodes[zone + 3].start();
                ZONE_KILL
            }
            37..=48 => {
                self.stop(node, true);
                self.wait(50, 5_000);
                self.stop(node, false);
                "a node is stopped and goes on"
            }
            49..=57 => {
                // A pair, one way or both.
                let other = (node + 1 + self.rng.below(5) as usize) % 6;
                let is_both = self.rng.below(2) == 0;
                if !self.network.cut_between(node, other) || (is_both && !self.network.cut_between(other, node)) {
                    return;
                }
                self.wait(50, 5_000);
                [node, other].iter().for_each(|node| self.network.heal(*node));
                ["one node does not hear another", "two nodes do not hear each other"][usize::from(is_both)]
            }
            58..=66 => {
                // One way, the other, or both.
                let ways = self.rng.below(3);
                self.network.cut(node, ways != 1, ways != 0);
                self.wait(50, 5_000);
                self.network.heal(node);
                ["requests to a node are cut", "answers of a node are cut", "a node is cut off"][ways as usize]
            }
            67..=71 => {
                let zone = node % 3;
                let other = (zone + 1) % 3;
                let is_whole = self.rng.below(2) == 0;
                for (node, peer) in [(zone, other), (zone, other + 3), (zone + 3, other), (zone + 3, other + 3)] {
                    if is_whole || !self.network.cut_between(node, peer) || !self.network.cut_between(peer, node) {
                        self.network.cut(node, true, true);
                    }
                }
                self.wait(500, 5_000);
                self.heal();
                ["two zones do not hear each other", "a zone is cut off"][usize::from(is_whole)]
            }
            72..=79 => {
                let delay = 5 + self.rng.below(60);
                self.network.slow(node, delay);
                self.wait(500, 3_000);
                self.network.heal(node);
                "a slow network"
            }
            80..=86 => {
                let gateway = self.rng.below(2) as usize;
                self.gateways[gateway].kill();
                self.wait(100, 1_500);
                self.gateways[gateway].start();
                "kill -9 of a gateway"
            }
            87..=91 => {
                self.placement.kill();
                self.wait(100, 2_000);
                self.placement.start();
                "kill -9 of placement"
            }
            92..=95 => {
                let to = format!("n{}", node + 1);
                let partition = self.rng.below(u64::from(PARTITIONS)).to_string();
                let server = self.http[0].clone();
                let arguments = ["partition", "move", "t", &partition, "--to", &to, "--server", &server];
                let _ = Command::new(weir()).args(arguments).output();
                "a partition is moved"
            }
            100..=103 => {
                let disk = &self.disks[node % DISKS];
                if !disk.fill(24) {
                    return;
                }
                self.wait(500, 4_000);
                self.disks[node % DISKS].free();
                "a disk is full"
            }
            104..=107 => {
                if !self.disks[node % DISKS].hang(true) {
                    return;
                }
                self.wait(200, 5_000);
                self.disks[node % DISKS].hang(false);
                "a disk hangs and goes on"
            }
            108..=111 => {
                let of = ZONES.len() - DISKS + node % DISKS;
                if !self.disks[node % DISKS].fail() {
                    return;
                }
                self.wait(1_500, 3_000);
                // It ends by itself; if nobody wrote to it meanwhile, now.
                self.nodes[of].kill();
                assert!(self.disks[node % DISKS].mend(), "the disk is there again");
                self.nodes[of].start();
                "a disk fails"
            }
            _ => {
                if !self.is_whole() {
                    return;
                }
                self.nodes[node].kill();
                wipe(&self.dir.join(&self.nodes[node].name));
                self.nodes[node].start();
                // Another disk may go once everything has two copies again: that is the promise.
                let began = Instant::now();
                while !self.is_whole() {
                    if began.elapsed() > Duration::from_secs(60) {
                        self.report
                            .wrong
                            .push(format!("REPAIR-LIVE: not repaired in a minute after {node} lost its disk"));
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(300));
                }
                "a disk is lost"
            }
        };
        self.timeline.push((began_ms, name));
        *self.report.faults.entry(name).or_default() += 1;
    }

    fn stop(&self, node: usize, is_stopped: bool) {
        let signal = if is_stopped { libc::SIGSTOP } else { libc::SIGCONT };
        // SAFETY: a signal to a child that was not waited for.
        unsafe { libc::kill(self.nodes[node].id(), signal) };
    }

    /// Everything has two copies, as placement sees it.
    fn is_whole(&self) -> bool {
        let (code, status) = curl_json(&[&format!("{}/v1/status", self.http[0])]);
        let partitions = &status["partitions"];
        let whole = partitions["open"].as_u64().unwrap_or(0) + partitions["parked"].as_u64().unwrap_or(0);
        code == 200 && partitions["total"] == whole
    }

    fn heal(&mut self) {
        (0..self.nodes.len()).for_each(|node| self.network.heal(node));
    }

    fn finish(self) -> Finished {
        let kafka = self.kafka[0].clone();
        let services = self.nodes.into_iter().chain(self.gateways).chain([self.placement]).collect();
        let (report, timeline) = (self.report, self.timeline);
        Finished { report, kafka, timeline, _network: self.network, _services: services, _disks: self.disks }
    }
}

/// Removes all that is in a folder, which may be a disk's.
fn wipe(data: &Path) {
    for entry in std::fs::read_dir(data).expect("its data").flatten() {
        let path = entry.path();
        let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        removed.expect("its data");
    }
}

fn kafka_writer(bootstrap: &str, rate: u32, ledger: &Path) -> Child {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python/ledger.py");
    let mut command = Command::new(tools().join("python/bin/python"));
    command.arg(script).args([bootstrap, "t", &PARTITIONS.to_string(), &rate.to_string(), "1"]).arg(ledger);
    command.stdin(Stdio::piped()).spawn().expect("python: ./test installs it")
}

/// One request on a connection of its own; the answer's status and body.
fn http(server: &str, request: &str, body: &str) -> Option<(u16, serde_json::Value)> {
    let address = server.strip_prefix("http://")?;
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(40))).ok()?;
    let head = format!(
        "{request} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).ok()?))
}

/// Writes over HTTP, never the same record twice: what has no answer stays unknown.
fn http_writer(servers: &[String], is_over: &AtomicBool, ledger: &Mutex<Ledger>) {
    let mut number = 0;
    while !is_over.load(Ordering::Relaxed) {
        let partition = number % u64::from(PARTITIONS);
        let server = &servers[(number / 7) as usize % servers.len()];
        let body = format!("{{\"records\":[{{\"partition\":{partition},\"value\":\"2:{number}:http\"}}]}}");
        let sent_ms = now_ms();
        let answer = http(server, "POST /v1/topics/t/records", &body);
        let mut ledger = ledger.lock().expect("no panic");
        match answer {
            Some((200, answer)) => {
                let offset = answer["results"][0]["offset"].as_u64().expect("an offset");
                let (at_ms, partition) = (now_ms(), partition as u32);
                ledger.acked.push(ledger::Acked { sent_ms, at_ms, partition, offset, value: (2, number) });
            }
            // The disk is full: refused, and said so.
            Some((507, _)) => {}
            // Refused, and said so; a gateway that was just killed has no answer.
            Some((status, answer)) => ledger.errors.push(format!("HTTP {status}: {answer}")),
            None => {}
        }
        drop(ledger);
        number += 1;
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// What the reader saw.
#[derive(Debug, Default)]
struct Reads {
    values: Vec<(u32, u64, Value)>,
    pages: Vec<Read>,
}

/// Reads at the tail over HTTP, from one gateway and then the other.
fn http_reader(servers: &[String], is_over: &AtomicBool, reads: &Mutex<Reads>) {
    let mut next = vec![0_u64; PARTITIONS as usize];
    let mut round = 0;
    while !is_over.load(Ordering::Relaxed) {
        for partition in 0..PARTITIONS {
            round += 1;
            let offset = next[partition as usize];
            let path = format!("GET /v1/topics/t/partitions/{partition}/records?offset={offset}&max_records=1000");
            let sent_ms = now_ms();
            let Some((200, page)) = http(&servers[round % servers.len()], &path, "") else { continue };
            let at_ms = now_ms();
            let mut reads = reads.lock().expect("no panic");
            let records = page["records"].as_array().map(Vec::as_slice).unwrap_or_default();
            for record in records {
                let at = record["offset"].as_u64().expect("an offset");
                let value = record["value"].as_str().and_then(parse).expect("a value of ours");
                reads.values.push((partition, at, value));
                next[partition as usize] = at + 1;
            }
            // A page with records may end where its bytes do, or its segment; one without says that there is nothing more.
            let end = next[partition as usize];
            let is_full = !records.is_empty();
            reads.pages.push(Read { sent_ms, at_ms, partition, next: end, is_full });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn read_log(kafka: &str) -> Log {
    let mut command = Command::new("kcat");
    command.args(["-b", kafka, "-C", "-t", "t", "-o", "beginning", "-e", "-q", "-f", "%p %o %s\\n"]);
    let out = succeed(&mut command, b"");
    let mut log = Log::new();
    for line in std::str::from_utf8(&out).expect("text").lines() {
        let mut fields = line.splitn(3, ' ');
        let mut field = || fields.next().expect("three fields");
        let (partition, offset) = (field().parse().expect("a partition"), field().parse().expect("an offset"));
        log.entry(partition).or_default().insert(offset, parse(field()).expect("a value of ours"));
    }
    log
}

/// A time without an acknowledgement on one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pause {
    pub ms: u64,
    pub at_ms: u64,
    pub partition: u32,
}

/// After each fault of a name the longest time between two acknowledgements of one partition, of all partitions, that
/// begins before the next fault does; what lies beyond that belongs to the next fault. Sorted.
fn pauses(ledger: &Ledger, timeline: &[(u64, &str)], name: &str) -> Vec<Pause> {
    let mut by_partition: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    ledger.acked.iter().for_each(|acked| by_partition.entry(acked.partition).or_default().push(acked.at_ms));
    by_partition.values_mut().for_each(|times| times.sort_unstable());
    let mut all = Vec::new();
    for (number, (from, _)) in timeline.iter().enumerate().filter(|(_, (_, fault))| *fault == name) {
        let to = timeline.get(number + 1).map_or(u64::MAX, |(at, _)| *at);
        let longest = by_partition.iter().filter_map(|(partition, times)| {
            let start = times.partition_point(|at| at < from).saturating_sub(1);
            let gaps = times[start..].windows(2).take_while(|pair| pair[0] < to);
            let ms = gaps.map(|pair| pair[1].min(to).saturating_sub(pair[0].max(*from))).max()?;
            Some(Pause { ms, at_ms: *from, partition: *partition })
        });
        all.extend(longest.max());
    }
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_belongs_to_its_fault() {
        let acked = |partition, at_ms| ledger::Acked { sent_ms: 0, at_ms, partition, offset: 0, value: (1, 0) };
        let times = [(0, 900), (0, 1_400), (0, 1_500), (1, 990), (1, 1_100), (0, 2_900), (0, 6_000), (1, 6_000)];
        let acked = times.map(|(partition, at_ms)| acked(partition, at_ms)).to_vec();
        let ledger = Ledger { acked, errors: Vec::new() };
        let timeline = [(1_000, "a"), (3_000, "b")];
        let of = |name| pauses(&ledger, &timeline, name).iter().map(|p| (p.ms, p.partition)).collect::<Vec<_>>();
        // Partition 1 was silent from 1,100 until the next fault, and for longer.
        assert_eq!(of("a"), [(1_900, 1)]);
        assert_eq!(of("b"), [(3_000, 1)]);
    }
}
