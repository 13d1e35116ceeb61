//! What an operator relies on: copies come back, nodes can be emptied, partitions move, and nothing is lost meanwhile.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::{Cluster, Etcd, Scratch, curl, curl_json, has_command, previous_weir, succeed, tool, weir};

fn is_equipped() -> bool {
    tool("kcat", has_command("kcat"))
}

fn command(cluster: &Cluster, arguments: &[&str]) -> Command {
    let mut command = Command::new(weir());
    command.args(arguments).args(["--server", &cluster.http]);
    command
}

fn status(cluster: &Cluster) -> Value {
    let (code, status) = curl_json(&[&format!("{}/v1/status", cluster.http)]);
    assert_eq!(code, 200, "{status}");
    status
}

fn node(status: &Value, name: &str) -> Value {
    let nodes = status["nodes"].as_array().expect("nodes");
    nodes.iter().find(|node| node["name"] == name).cloned().unwrap_or_else(|| panic!("no {name}: {status}"))
}

fn held(status: &Value, name: &str) -> u64 {
    let node = node(status, name);
    ["leads", "follows", "sealed"].iter().map(|what| node[*what].as_u64().expect("a count")).sum()
}

/// Waits until every partition has two copies of everything, none of it on `gone`.
fn wait_for_two_copies(cluster: &Cluster, gone: Option<&str>, timeout: Duration) -> Duration {
    let began = Instant::now();
    loop {
        let status = status(cluster);
        let partitions = &status["partitions"];
        let whole = partitions["open"].as_u64().unwrap_or(0) + partitions["parked"].as_u64().unwrap_or(0);
        if partitions["total"] == whole && gone.is_none_or(|gone| held(&status, gone) == 0) {
            return began.elapsed();
        }
        assert!(began.elapsed() < timeout, "not repaired after {timeout:?}: {status}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn write(cluster: &Cluster, topic: &str, lines: impl Iterator<Item = String>) {
    let text: String = lines.map(|line| line + "\n").collect();
    let mut produce = Command::new("kcat");
    produce.args(["-b", &cluster.kafka, "-P", "-t", topic, "-X", "enable.idempotence=true"]);
    succeed(&mut produce, text.as_bytes());
}

fn read(cluster: &Cluster, topic: &str) -> Vec<String> {
    let mut consume = Command::new("kcat");
    consume.args(["-b", &cluster.kafka, "-C", "-t", topic, "-o", "beginning", "-e", "-q"]);
    let out = succeed(&mut consume, b"");
    let mut lines: Vec<String> = String::from_utf8(out).expect("text").lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

fn sorted(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.collect();
    lines.sort_unstable();
    lines
}

fn create(cluster: &Cluster, topic: &str, partitions: &str) {
    succeed(&mut command(cluster, &["topic", "create", topic, "--partitions", partitions]), b"");
}

/// kcat, writing a line every few ms.
struct Writer {
    child: Child,
    lines: usize,
}

impl Writer {
    fn start(cluster: &Cluster, topic: &str) -> Self {
        let mut produce = Command::new("kcat");
        produce.args(["-b", &cluster.kafka, "-P", "-t", topic, "-X", "enable.idempotence=true", "-X", "linger.ms=1"]);
        let child = produce.stdin(Stdio::piped()).spawn().expect("kcat");
        Self { child, lines: 0 }
    }

    fn write_for(&mut self, duration: Duration) {
        let began = Instant::now();
        while began.elapsed() < duration {
            let stdin = self.child.stdin.as_mut().expect("a pipe");
            writeln!(stdin, "line {}", self.lines).expect("kcat reads on");
            self.lines += 1;
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// How many lines were written; all of them are acknowledged.
    fn end(mut self) -> usize {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("its end").success(), "kcat failed");
        self.lines
    }
}

/// A wiped disk comes back as a new replica, never as an empty old one; what was on it is copied from the others.
#[test]
fn a_wiped_disk_is_filled_again() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("wiped");
    let mut cluster = Cluster::start(scratch.path());
    create(&cluster, "t", "6");
    let lines = || (0..30_000).map(|number| format!("line {number} {}", "x".repeat(100)));
    write(&cluster, "t", lines());
    for victim in [1, 2, 3] {
        // Everything is sealed, on two of the three.
        wait_for_two_copies(&cluster, None, Duration::from_secs(60));
        let name = cluster.services[victim].name.clone();
        cluster.services[victim].kill();
        wipe(&scratch.path().join(&name));
        cluster.services[victim].start();
        write(&cluster, "t", std::iter::once(format!("after {name}")));
        let took = wait_for_two_copies(&cluster, None, Duration::from_secs(60));
        println!("{name}: two copies of everything after {took:?}");
    }
    // Each disk was lost once: what is read now was copied.
    let expected = lines().chain([1, 2, 3].map(|number| format!("after n{number}")));
    assert!(read(&cluster, "t") == sorted(expected), "not what was acknowledged");
    let shown = String::from_utf8(succeed(&mut command(&cluster, &["status"]), b"")).expect("text");
    assert!(shown.contains("were copied to `n"), "{shown}");
}

fn wipe(data: &Path) {
    std::fs::remove_dir_all(data).expect("a data directory");
}

/// Moves and drains under load: no error, no loss, and a drained node holds nothing.
#[test]
fn a_node_is_emptied_and_used_again_under_load() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("drain");
    let cluster = Cluster::with_nodes(scratch.path(), &["az-a", "az-b", "az-c", "az-a"]);
    create(&cluster, "t", "4");
    let mut writer = Writer::start(&cluster, "t");
    writer.write_for(Duration::from_secs(1));
    let drained = command(&cluster, &["node", "drain", "n1", "--output", "json"]).stdout(Stdio::piped()).spawn();
    writer.write_for(Duration::from_secs(3));
    let drained = drained.expect("weir").wait_with_output().expect("its end");
    assert!(drained.status.success());
    let drained: Value = serde_json::from_slice(&drained.stdout).expect("JSON");
    assert_eq!((&drained["state"], drained["leads"].as_u64()), (&Value::from("drained"), Some(0)));
    assert_eq!(held(&status(&cluster), "n1"), 0);

    // Refused while it is emptied, and in words; then it takes partitions again.
    let refused = command(&cluster, &["partition", "move", "t", "0", "--to", "n1"]).output().expect("weir");
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("weir node undrain"), "{refused:?}");
    succeed(&mut command(&cluster, &["node", "undrain", "n1"]), b"");
    for to in ["n1", "n2", "n3", "n4", "n1"] {
        writer.write_for(Duration::from_millis(300));
        let moved =
            succeed(&mut command(&cluster, &["partition", "move", "t", "0", "--to", to, "--output", "json"]), b"");
        let moved: Value = serde_json::from_slice(&moved).expect("JSON");
        assert_eq!(moved["leader"], to);
    }
    let unknown = command(&cluster, &["partition", "move", "t", "0", "--to", "nowhere"]).output().expect("weir");
    assert_eq!(unknown.status.code(), Some(5), "{unknown:?}");
    writer.write_for(Duration::from_millis(300));
    let lines = writer.end();
    assert!(read(&cluster, "t") == sorted((0..lines).map(|number| format!("line {number}"))), "not what was written");
    wait_for_two_copies(&cluster, None, Duration::from_secs(30));
}

/// Sealed segments of a node that stays away are copied elsewhere, and what nobody writes to leaves it, too.
#[test]
fn a_node_that_stays_away_is_done_without() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("away");
    let mut cluster = Cluster::with_nodes(scratch.path(), &["az-a", "az-b", "az-c"]);
    create(&cluster, "t", "6");
    let lines = || (0..3_000).map(|number| format!("line {number}"));
    write(&cluster, "t", lines());
    cluster.services[2].kill();
    let took = wait_for_two_copies(&cluster, Some("n2"), Duration::from_secs(60));
    println!("two copies of everything without n2 after {took:?}");
    assert!(read(&cluster, "t") == sorted(lines()), "not what was acknowledged");
    // It comes back with copies that nobody counts any more: it lets go of them, and takes new ones.
    cluster.services[2].start();
    succeed(&mut command(&cluster, &["partition", "move", "t", "0", "--to", "n2"]), b"");
    cluster.services[1].kill();
    cluster.services[1].start();
    assert!(read(&cluster, "t") == sorted(lines()), "not what was acknowledged");
}

/// As an upgrade does it: every process is ended and started in turn, the next storage node once everything has two
/// copies again. All but the only gateway: kcat ends when no broker is left. Chaos has two, and kills them.
#[test]
fn a_rolling_restart_goes_unnoticed() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("rolling");
    let mut cluster = Cluster::with_nodes(scratch.path(), &["az-a", "az-b", "az-c"]);
    create(&cluster, "t", "6");
    let mut writer = Writer::start(&cluster, "t");
    for service in 0..cluster.services.len() {
        writer.write_for(Duration::from_millis(400));
        let name = cluster.services[service].name.clone();
        if name == "gateway" {
            continue;
        }
        assert_eq!(cluster.services[service].terminate(), Some(0), "{name}");
        cluster.services[service].start();
        writer.write_for(Duration::from_millis(400));
        wait_for_two_copies(&cluster, None, Duration::from_secs(30));
    }
    let lines = writer.end();
    assert!(lines > 500, "only {lines} lines were written");
    assert!(read(&cluster, "t") == sorted((0..lines).map(|line| format!("line {line}"))), "not what was acknowledged");
}

/// With one zone left nothing can have two copies: that is said at once, and what is there is still read.
#[test]
fn with_one_zone_left_a_produce_is_refused_at_once() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("one-zone");
    let mut cluster = Cluster::with_nodes(scratch.path(), &["az-a", "az-b", "az-c"]);
    create(&cluster, "t", "6");
    // To each, so that each has a leader and something to read.
    (0..6).for_each(|partition| write_to(&cluster, "t", partition, &format!("line {partition}")));
    let lines = || (0..6).flat_map(|partition| (0..80).map(move |number| format!("line {partition} {number}")));
    let url = format!("{}/v1/topics/t/records", cluster.http);
    let produce = |partition: &Value, value: &str| {
        let body = format!("{{\"records\":[{{\"value\":\"{value}\",\"partition\":{partition}}}]}}");
        let began = Instant::now();
        let (code, answer) = curl_json(&["-H", "content-type: application/json", "-d", &body, &url]);
        (code, answer, began.elapsed())
    };
    let shown = succeed(&mut command(&cluster, &["topic", "describe", "t", "--output", "json"]), b"");
    let shown: Value = serde_json::from_slice(&shown).expect("JSON");
    let partitions = shown["partitions"].as_array().expect("partitions");
    let stays = partitions[0]["leader"].as_str().expect("a leader");
    let (led, others): (Vec<&Value>, Vec<&Value>) =
        partitions.iter().partition(|partition| partition["leader"] == stays);
    assert!(!others.is_empty(), "one node leads all: {shown}");
    let gone: Vec<usize> = (1..=3).filter(|node| format!("n{node}") != stays).collect();
    gone.iter().for_each(|node| cluster.services[*node].kill());
    // The first may be with a leader already when its follower is found to be gone; whatever comes later is not.
    std::thread::sleep(Duration::from_secs(8));
    // Where the leader stays it says so; where it is gone nobody can be asked to lead.
    for partition in [led[0], led[0], others[0], others[0]] {
        let (code, answer, took) = produce(&partition["partition"], "refused");
        assert_eq!((code, &answer["code"]), (503, &"az_unavailable".into()), "{answer}");
        assert_eq!((&answer["retryable"], &answer["side_effects"]), (&true.into(), &"none".into()), "{answer}");
        assert!(took < Duration::from_secs(6), "after {took:?}");
        println!("refused after {took:?}");
    }
    for partition in &led {
        let partition = &partition["partition"];
        let url = format!("{}/v1/topics/t/partitions/{partition}/records?offset=earliest", cluster.http);
        let (code, answer) = curl_json(&[&url]);
        assert!(code == 200 && answer["records"].as_array().is_some_and(|records| !records.is_empty()), "{answer}");
    }
    cluster.services[gone[1]].start();
    let began = Instant::now();
    while produce(&led[0]["partition"], "taken").0 != 200 {
        assert!(began.elapsed() < Duration::from_secs(30), "two zones are there again");
    }
    let expected = sorted(lines().chain(["taken".to_owned()]));
    assert!(read(&cluster, "t") == expected, "what was refused is nowhere, what was acknowledged is there");
}

/// Two disks are lost at once, before anything was copied: what was on both is gone, and says so until an operator goes
/// on without it. Everything else is untouched, and no offset is used twice.
#[test]
fn what_is_lost_stays_offline_until_that_is_accepted() {
    if !is_equipped() {
        return;
    }
    const PARTITIONS: usize = 24;
    let scratch = Scratch::new("loss");
    let mut cluster = Cluster::with_nodes(scratch.path(), &["az-a", "az-b", "az-c"]);
    create(&cluster, "t", &PARTITIONS.to_string());
    write_to_each(&cluster, "t", PARTITIONS, "before");
    let before = read_by_partition(&cluster, "t");
    for node in [1, 2] {
        cluster.services[node].kill();
    }
    for node in [1, 2] {
        std::fs::remove_dir_all(scratch.path().join(&cluster.services[node].name)).expect("its data");
        cluster.services[node].start();
    }
    let accept = |partition: usize, more: &[&str]| accept_loss(&cluster, partition, more);
    // Only the copies on both are lost: asking changes nothing, however often.
    let is_lost = |partition: &usize| {
        let (is_fine, answer) = accept(*partition, &[]);
        let lost = answer["lost"].as_array().unwrap_or_else(|| panic!("{partition}: {answer}")).len();
        assert_eq!(is_fine, lost == 0, "{answer}");
        lost > 0
    };
    let lost: Vec<usize> = (0..PARTITIONS).filter(is_lost).collect();
    assert!(!lost.is_empty() && lost.len() < PARTITIONS, "{lost:?}");
    assert_eq!(lost, (0..PARTITIONS).filter(is_lost).collect::<Vec<_>>());
    assert_eq!(status(&cluster)["partitions"]["offline"], lost.len());
    for partition in &lost {
        let (is_fine, answer) = accept(*partition, &["--yes"]);
        assert!(is_fine, "{answer}");
        assert!(answer["next_offset"].as_i64() >= Some(1 << 40), "{answer}");
        assert!(accept(*partition, &["--yes"]).1["lost"].as_array().is_some_and(Vec::is_empty), "lost once");
    }
    wait_for_two_copies(&cluster, None, Duration::from_secs(60));
    // A consumer before a gap goes on when there is something behind it.
    write_to_each(&cluster, "t", PARTITIONS, "after");
    let after = read_by_partition(&cluster, "t");
    for partition in 0..PARTITIONS {
        let kept = after[&partition].iter().filter(|(_, line)| line.starts_with("before")).cloned().collect::<Vec<_>>();
        if lost.contains(&partition) {
            assert_eq!(kept, [], "a lost disk's records");
            assert!(after[&partition].iter().all(|(offset, _)| *offset >= 1 << 40), "an offset is used again");
        } else {
            assert_eq!(kept, before[&partition], "partition {partition}");
        }
    }
    let again = after.values().flatten().filter(|(_, line)| line.starts_with("after")).count();
    assert_eq!(again, 80 * PARTITIONS, "every partition takes records");
}

/// `weir partition accept-loss`: whether it succeeded, and its answer.
fn accept_loss(cluster: &Cluster, partition: usize, more: &[&str]) -> (bool, Value) {
    let partition = partition.to_string();
    let arguments = [&["partition", "accept-loss", "t", &partition, "--output", "json"], more].concat();
    let began = Instant::now();
    loop {
        let output = command(cluster, &arguments).output().expect("weir");
        match serde_json::from_slice::<Value>(&output.stdout) {
            Ok(answer) => break (output.status.success(), answer),
            // A node that has just come may be on its way still.
            Err(_) => {
                let error = String::from_utf8_lossy(&output.stderr);
                assert!(began.elapsed() < Duration::from_secs(20), "{error}");
                println!("{error}");
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
}

/// The loss of what is sealed is accepted at the first word, while the open segment goes on where it is.
#[test]
fn a_sealed_loss_is_accepted_and_nothing_else_changes() {
    if !is_equipped() {
        return;
    }
    const PARTITIONS: usize = 12;
    let scratch = Scratch::new("sealed-loss");
    let mut cluster = Cluster::with_nodes(scratch.path(), &["az-a", "az-b", "az-c"]);
    create(&cluster, "t", &PARTITIONS.to_string());
    write_to_each(&cluster, "t", PARTITIONS, "before");
    for partition in 0..PARTITIONS {
        succeed(&mut command(&cluster, &["partition", "move", "t", &partition.to_string(), "--to", "n3"]), b"");
    }
    for node in [1, 2] {
        cluster.services[node].kill();
    }
    for node in [1, 2] {
        std::fs::remove_dir_all(scratch.path().join(&cluster.services[node].name)).expect("its data");
        cluster.services[node].start();
    }
    write_to_each(&cluster, "t", PARTITIONS, "after");
    let mut lost = Vec::new();
    for partition in 0..PARTITIONS {
        let (_, answer) = accept_loss(&cluster, partition, &[]);
        let Some(range) = answer["lost"].as_array().and_then(|lost| lost.first().cloned()) else { continue };
        assert_eq!((&range["from"], &range["to"]), (&Value::from(0), &Value::from(80)), "{answer}");
        let (is_fine, answer) = accept_loss(&cluster, partition, &["--yes"]);
        assert!(is_fine && answer["next_offset"] == 80, "{answer}");
        lost.push(partition);
    }
    assert!(!lost.is_empty() && lost.len() < PARTITIONS, "{lost:?}");
    let found = read_by_partition(&cluster, "t");
    for partition in 0..PARTITIONS {
        let offsets: Vec<u64> = found[&partition].iter().map(|(offset, _)| *offset).collect();
        let first = if lost.contains(&partition) { 80 } else { 0 };
        assert!(offsets == (first..160).collect::<Vec<_>>(), "partition {partition}: {offsets:?}");
    }
}

/// The release before this one and this one side by side: each process is upgraded in turn under load, and taken back.
#[test]
fn two_releases_work_side_by_side() {
    let Some(previous) = previous_weir().filter(|_| is_equipped()) else {
        return eprintln!("SKIPPED: the release before is not built: a checkout without history");
    };
    let scratch = Scratch::new("skew");
    let mut cluster = Cluster::with_nodes(scratch.path(), &["az-a", "az-b", "az-c"]);
    let (placement, gateway) = (0, cluster.services.len() - 1);
    for service in &mut cluster.services {
        service.kill();
        service.set_binary(&previous);
    }
    cluster.services.iter_mut().for_each(|service| service.start());
    create(&cluster, "t", "6");
    let mut writer = Writer::start(&cluster, "t");
    writer.write_for(Duration::from_millis(500));
    // Nodes first and last, placement in between; then all the way back.
    for (binary, order) in [(weir(), [1, placement, 2, 3]), (previous, [3, 1, placement, 2])] {
        for service in order {
            assert_eq!(cluster.services[service].terminate(), Some(0), "{}", cluster.services[service].name);
            cluster.services[service].set_binary(&binary);
            cluster.services[service].start();
            writer.write_for(Duration::from_millis(500));
            wait_for_two_copies(&cluster, None, Duration::from_secs(30));
        }
        // And without warning, of this mixture.
        cluster.services[2].kill();
        writer.write_for(Duration::from_secs(1));
        cluster.services[2].start();
        wait_for_two_copies(&cluster, None, Duration::from_secs(30));
    }
    let lines = writer.end();
    let expected = sorted((0..lines).map(|line| format!("line {line}")));
    assert!(read(&cluster, "t") == expected, "not what was acknowledged");
    // The only gateway last: kcat ends when no broker is left.
    cluster.services[gateway].kill();
    cluster.services[gateway].set_binary(&weir());
    cluster.services[gateway].start();
    assert!(read(&cluster, "t") == expected, "not what was acknowledged");
}

/// Without placement nothing stops that goes on, and what restarts comes back: nodes as who they were, gateways with the
/// map of before.
#[test]
fn everything_but_failover_goes_on_without_placement() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("static");
    let mut cluster = Cluster::with_nodes(scratch.path(), &["az-a", "az-b", "az-c"]);
    let gateway = cluster.services.len() - 1;
    let data = scratch.path().join("gateway-data");
    cluster.services[gateway].kill();
    cluster.services[gateway].add_arguments(&["--data", data.to_str().expect("a path")]);
    cluster.services[gateway].start();
    create(&cluster, "t", "6");
    write_to_each(&cluster, "t", 6, "before");
    let before = read_by_partition(&cluster, "t");
    let shown = succeed(&mut command(&cluster, &["topic", "describe", "t", "--output", "json"]), b"");
    let shown: Value = serde_json::from_slice(&shown).expect("JSON");
    let leaders = shown["partitions"].as_array().expect("partitions").iter().map(|p| p["leader"].clone());
    let leaders: Vec<Value> = leaders.collect();
    // The map is noted within seconds.
    std::thread::sleep(Duration::from_secs(4));
    cluster.services[0].kill();
    // Open partitions take records.
    write_to_each(&cluster, "t", 6, "open");
    cluster.services[gateway].kill();
    cluster.services[gateway].start();
    write_to_each(&cluster, "t", 6, "gateway");
    // A node comes back: what it follows goes on with it; what it led waits for placement.
    cluster.services[1].kill();
    cluster.services[1].start();
    let others: Vec<usize> = (0..6).filter(|partition| leaders[*partition] != "n1").collect();
    assert!(!others.is_empty(), "{leaders:?}");
    for partition in &others {
        write_to(&cluster, "t", *partition, "node");
    }
    cluster.services[0].start();
    wait_for_two_copies(&cluster, None, Duration::from_secs(60));
    let after = read_by_partition(&cluster, "t");
    for partition in 0..6 {
        let count = if others.contains(&partition) { 4 * 80 } else { 3 * 80 };
        assert!(after[&partition].len() == count && after[&partition].starts_with(&before[&partition]), "{partition}");
    }
    write_to_each(&cluster, "t", 6, "after");
}

/// Placement's store is lost, twice: once there is a backup from before much happened, once there is none. Nothing that was
/// acknowledged is lost, names are known, and the old placement could do no harm.
#[test]
fn lost_metadata_is_made_anew() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("restore");
    let at = |name: &str| scratch.path().join(name).to_str().expect("a path").to_owned();
    let mut cluster = Cluster::start(scratch.path());
    create(&cluster, "t", "6");
    create(&cluster, "gone", "2");
    write(&cluster, "t", (0..2_000).map(|number| format!("early {number}")));
    write(&cluster, "gone", (0..10).map(|number| number.to_string()));
    let url = format!("http://{}", cluster.services[0].option("--listen"));
    let backup = at("backup.json");
    succeed(Command::new(weir()).args(["placement", "backup", &backup, "--placement", &url]), b"");

    // None of this is in the backup.
    let mut writer = Writer::start(&cluster, "t");
    create(&cluster, "late", "3");
    write(&cluster, "late", (0..500).map(|number| format!("late {number}")));
    succeed(&mut command(&cluster, &["topic", "delete", "gone"]), b"");
    for node in [1, 2] {
        writer.write_for(Duration::from_millis(500));
        cluster.services[node].kill();
        cluster.services[node].start();
        writer.write_for(Duration::from_millis(500));
    }
    // Nodes note names within seconds.
    writer.write_for(Duration::from_secs(4));
    cluster.services[0].kill();
    std::fs::rename(at("placement"), at("placement-old")).expect("the store");

    let store = format!("redb:{}", at("placement-2"));
    // Of a backup that rotted nothing is made, and nothing is left behind.
    let text = std::fs::read_to_string(&backup).expect("the backup");
    let rotten = at("rotten.json");
    std::fs::write(&rotten, text.replace("\"name\":\"t\"", "\"name\":\"u\"")).expect("another one");
    let refused =
        Command::new(weir()).args(["placement", "restore", &rotten, "--store", &store]).output().expect("weir");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("checksum"), "{refused:?}");
    assert!(!refused.status.success() && !std::path::Path::new(&at("placement-2")).exists());
    let dry =
        succeed(Command::new(weir()).args(["placement", "restore", &backup, "--store", &store, "--dry-run"]), b"");
    assert!(String::from_utf8_lossy(&dry).contains("GENERATION"), "{dry:?}");
    let mut restore = Command::new(weir());
    restore.args(["placement", "restore", &backup, "--store", &store, "--output", "json"]);
    let restored: Value = serde_json::from_slice(&succeed(&mut restore, b"")).expect("JSON");
    assert_eq!(
        (&restored["generation"], &restored["topics"], &restored["partitions"]),
        (&2.into(), &2.into(), &9.into())
    );
    assert!(!restore.output().expect("weir").status.success(), "a store that is not empty is left alone");
    cluster.services[0].add_arguments(&["--store", &store]);
    cluster.services[0].start();
    writer.write_for(Duration::from_secs(1));
    // The store of before, back by mistake: nobody believes it, nodes say that it is superseded, and it says so itself.
    cluster.services.iter_mut().for_each(|service| service.provoke(&["it is not believed"]));
    cluster.services[0].kill();
    cluster.services[0].add_arguments(&["--store", &format!("redb:{}", at("placement-old"))]);
    cluster.services[0].start();
    let ready = format!("{url}/readyz");
    let began = Instant::now();
    while curl(&[&ready]).0 != 503 {
        assert!(began.elapsed() < Duration::from_secs(10), "the old placement takes itself for ready");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(cluster.services[0].log_text().contains("metadata was restored elsewhere"));
    // What was made there would be lost.
    let refused = tests::run(&mut command(&cluster, &["topic", "create", "nowhere"]), b"", Duration::from_secs(60));
    assert!(!refused.status.success(), "{refused:?}");
    cluster.services[0].forget_log();
    cluster.services[0].add_arguments(&["--store", &store]);
    cluster.services[0].start();
    let lines = writer.end();
    let expected = sorted((0..2_000).map(|n| format!("early {n}")).chain((0..lines).map(|n| format!("line {n}"))));
    let late = sorted((0..500).map(|number| format!("late {number}")));
    assert!(read(&cluster, "t") == expected, "not what was acknowledged");
    assert!(read(&cluster, "late") == late, "not what was acknowledged");
    wait_for_two_copies(&cluster, None, Duration::from_secs(30));

    // From the nodes alone; one of them must be named as gone, or answer.
    cluster.services[0].kill();
    std::fs::remove_dir_all(at("placement-2")).expect("the store");
    let store = format!("redb:{}", at("placement-3"));
    let mut rebuild = Command::new(weir());
    rebuild.args(["placement", "rebuild", "--store", &store, "--output", "json"]);
    for node in 1..=3 {
        rebuild.args(["--node", cluster.services[node].option("--listen")]);
    }
    let rebuilt: Value = serde_json::from_slice(&succeed(&mut rebuild, b"")).expect("JSON");
    assert_eq!((&rebuilt["generation"], &rebuilt["topics"], &rebuilt["unnamed"]), (&3.into(), &2.into(), &0.into()));
    cluster.services[0].add_arguments(&["--store", &store]);
    cluster.services[0].start();
    write(&cluster, "late", std::iter::once("after all".to_owned()));
    assert!(read(&cluster, "t") == expected, "not what was acknowledged");
    let late = sorted(late.into_iter().chain(["after all".to_owned()]));
    assert!(read(&cluster, "late") == late, "not what was acknowledged");
    wait_for_two_copies(&cluster, None, Duration::from_secs(30));
}

/// Operators could not tell one from the other, and `weir node drain` would empty either.
#[test]
fn a_second_node_of_a_name_that_is_up_is_refused() {
    let scratch = Scratch::new("namesake");
    let mut cluster = Cluster::start(scratch.path());
    let name = cluster.services[1].option("--name").to_owned();
    let placement = cluster.services[1].option("--placement").to_owned();
    let began = Instant::now();
    while node(&status(&cluster), &name)["state"] != "up" {
        assert!(began.elapsed() < Duration::from_secs(10), "`{name}` is not up");
        std::thread::sleep(Duration::from_millis(100));
    }
    let data = scratch.path().join("namesake").to_str().expect("a path").to_owned();
    let ports = [tests::free_port(), tests::free_port()].map(|port| format!("127.0.0.1:{port}"));
    let arguments = ["storage-node", "--az", "az-d", "--name", &name, "--data", &data, "--placement", &placement];
    let mut namesake = Command::new(weir());
    namesake.args(arguments).args(["--listen", &ports[0], "--admin", &ports[1]]);
    let refused = tests::run(&mut namesake, b"", Duration::from_secs(10));
    let words = String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
    assert!(!refused.status.success() && words.contains("choose another --name"), "{words}");
    // Once the first one is gone another may take its place.
    cluster.services[1].kill();
    let began = Instant::now();
    while node(&status(&cluster), &name)["state"] == "up" {
        assert!(began.elapsed() < Duration::from_secs(3), "a node whose connection ended is not called up");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Eighty lines to every partition.
fn write_to_each(cluster: &Cluster, topic: &str, partitions: usize, word: &str) {
    (0..partitions).for_each(|partition| write_to(cluster, topic, partition, word));
}

fn write_to(cluster: &Cluster, topic: &str, partition: usize, word: &str) {
    let lines: String = (0..80).map(|number| format!("{word} {number}\n")).collect();
    let mut produce = Command::new("kcat");
    produce.args(["-b", &cluster.kafka, "-P", "-t", topic, "-p", &partition.to_string()]);
    succeed(&mut produce, lines.as_bytes());
}

/// Offset and line, by partition.
fn read_by_partition(cluster: &Cluster, topic: &str) -> BTreeMap<usize, Vec<(u64, String)>> {
    let mut consume = Command::new("kcat");
    consume.args(["-b", &cluster.kafka, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%p %o %s\\n"]);
    let mut found: BTreeMap<usize, Vec<(u64, String)>> = BTreeMap::new();
    for line in String::from_utf8(succeed(&mut consume, b"")).expect("text").lines() {
        let fields: Vec<&str> = line.splitn(3, ' ').collect();
        let number = |at: usize| fields[at].parse::<u64>().expect("a number");
        found.entry(number(0) as usize).or_default().push((number(1), fields[2].to_owned()));
    }
    found
}

/// Three placement processes on three members of etcd: any one may go, also the one that acts, also etcd's leader.
#[test]
fn placement_on_etcd_survives_the_loss_of_any_process() {
    if !is_equipped() || !tool("etcd", has_command("etcd")) {
        return;
    }
    let scratch = Scratch::new("etcd");
    let mut etcd = Etcd::start(scratch.path());
    let store = format!("etcd:{}", etcd.urls.join(","));
    let mut cluster = Cluster::with_store(scratch.path(), &["az-a", "az-b", "az-c"], &store, 3);
    // More partitions than one transaction of etcd holds.
    create(&cluster, "wide", "300");
    create(&cluster, "t", "4");
    let mut writer = Writer::start(&cluster, "t");
    let mut topics = 0;
    let mut write_on = |cluster: &Cluster, writer: &mut Writer| {
        writer.write_for(Duration::from_millis(700));
        // Metadata can be changed, and partitions fail over.
        topics += 1;
        create(cluster, &format!("topic-{topics}"), "3");
    };
    for placement in 0..3 {
        cluster.services[placement].kill();
        write_on(&cluster, &mut writer);
        let to = format!("n{}", placement + 1);
        succeed(&mut command(&cluster, &["partition", "move", "t", "0", "--to", &to]), b"");
        cluster.services[placement].start();
        write_on(&cluster, &mut writer);
    }
    for _ in 0..2 {
        let leader = etcd.leader().expect("a leader");
        etcd.kill(leader);
        writer.write_for(Duration::from_secs(2));
        write_on(&cluster, &mut writer);
        etcd.restart(leader);
        writer.write_for(Duration::from_secs(1));
    }
    // A storage node goes while a placement process is away: its partitions go on elsewhere.
    cluster.services[0].kill();
    cluster.services[3].kill();
    writer.write_for(Duration::from_secs(2));
    cluster.services[3].start();
    cluster.services[0].start();
    let lines = writer.end();
    assert!(read(&cluster, "t") == sorted((0..lines).map(|number| format!("line {number}"))), "not what was written");
    let (_, topics) = curl_json(&[&format!("{}/v1/topics", cluster.http)]);
    assert_eq!(topics["topics"].as_array().map(Vec::len), Some(2 + 8), "{topics}");
    succeed(&mut command(&cluster, &["topic", "delete", "wide"]), b"");
    wait_for_two_copies(&cluster, None, Duration::from_secs(60));
}

/// Copies of partitions that take no memory, on all storage nodes.
fn resting(cluster: &Cluster) -> u64 {
    let nodes = cluster.services.iter().filter(|service| service.name.starts_with('n'));
    let nodes = nodes.map(|service| service.option("--admin"));
    let counts = nodes.map(|admin| {
        let (_, text) = curl(&[&format!("http://{admin}/metrics")]);
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find(|line| line.starts_with("weir_storage_partitions_resting ")).map(str::to_owned);
        line.and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok()).expect("a gauge")
    });
    counts.sum()
}

/// What nobody uses is metadata alone: no leader, nothing to fail over. It is read as ever, and an append opens it.
#[test]
fn an_idle_partition_is_parked_and_opened_by_the_next_append() {
    if !is_equipped() {
        return;
    }
    let scratch = Scratch::new("parked");
    let mut cluster = Cluster::start(scratch.path());
    cluster.services[0].kill();
    cluster.services[0].add_arguments(&["--park-after", "5"]);
    cluster.services[0].start();
    create(&cluster, "t", "20");
    // To each: one that was never written to is as good as parked, and has no copies.
    (0..20).for_each(|partition| write_to(&cluster, "t", partition, &format!("line {partition}")));
    let lines = || (0..20).flat_map(|partition| (0..80).map(move |number| format!("line {partition} {number}")));
    let began = Instant::now();
    let parked = |cluster: &Cluster| status(cluster)["partitions"]["parked"].as_u64().expect("a count");
    while parked(&cluster) < 20 {
        assert!(began.elapsed() < Duration::from_secs(40), "{}", status(&cluster));
        std::thread::sleep(Duration::from_millis(200));
    }
    let shown = succeed(&mut command(&cluster, &["topic", "describe", "t", "--output", "json"]), b"");
    let shown: Value = serde_json::from_slice(&shown).expect("JSON");
    assert_eq!((&shown["partitions"][3]["state"], &shown["partitions"][3]["leader"]), (&"parked".into(), &Value::Null));
    assert!(read(&cluster, "t") == sorted(lines()), "not what was acknowledged");
    // And a storage node needs no memory for it.
    let began = Instant::now();
    while resting(&cluster) < 40 {
        assert!(began.elapsed() < Duration::from_secs(60), "{} copies rest", resting(&cluster));
        std::thread::sleep(Duration::from_millis(500));
    }
    // Nothing leads: a node may go, and nobody need do anything.
    cluster.services[2].kill();
    assert!(read(&cluster, "t") == sorted(lines()), "not what was acknowledged");
    cluster.services[2].start();
    let began = Instant::now();
    write(&cluster, "t", std::iter::once("one more".to_owned()));
    println!("the first append after a rest, by a new client: {:?}", began.elapsed());
    assert!(read(&cluster, "t") == sorted(lines().chain(["one more".to_owned()])), "not what was acknowledged");
}
