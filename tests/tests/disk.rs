//! Disks that fill up and disks that rot, from outside: separate processes on real files.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tests::small_disk::SmallDisk;
use tests::{Cluster, Scratch, curl_json, has_command, tool};

fn create(cluster: &Cluster, topic: &str, partitions: u32) {
    let body = json!({"name": topic, "partitions": partitions}).to_string();
    let url = format!("{}/v1/topics", cluster.http);
    let (status, problem) = curl_json(&["-XPOST", &url, "-Hcontent-type: application/json", "-d", &body]);
    assert_eq!(status, 201, "{problem}");
}

/// Bytes that do not compress, different for each number.
fn noise(number: u64, bytes: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// Posts one record to one partition as a raw body; the status, and the answer.
fn post(cluster: &Cluster, scratch: &Path, topic: &str, partition: u32, value: &[u8]) -> (u16, serde_json::Value) {
    let file = scratch.join("body");
    std::fs::write(&file, value).expect("a body");
    let url = format!("{}/v1/topics/{topic}/records?partition={partition}", cluster.http);
    let at = format!("@{}", file.display());
    curl_json(&["-XPOST", &url, "-Hcontent-type: application/octet-stream", "--data-binary", &at])
}

/// The record at an offset: its value's bytes.
fn read(cluster: &Cluster, topic: &str, partition: u32, offset: i64) -> Option<Vec<u8>> {
    use base64::Engine as _;
    let query = format!("offset={offset}&max_records=1");
    let url = format!("{}/v1/topics/{topic}/partitions/{partition}/records?{query}", cluster.http);
    let (status, page) = curl_json(&[&url]);
    if status != 200 {
        return None;
    }
    let record = &page["records"][0];
    match record["value_b64"].as_str() {
        Some(text) => base64::engine::general_purpose::STANDARD.decode(text).ok(),
        None => record["value"].as_str().map(|text| text.as_bytes().to_vec()),
    }
}

/// A disk that is slow, and not gone: its kernel holds every write back for a moment. Others do without it while it is.
#[test]
fn open_segments_leave_a_slow_disk() {
    let tools = tool("fsfreeze", has_command("fsfreeze")) && tool("mkfs.ext4", has_command("mkfs.ext4"));
    let scratch = Scratch::new("slow-disk");
    let at = scratch.path().join("n2");
    let Some(disk) = tools.then(|| SmallDisk::mount(&scratch.path().join("disk"), &at, 320)).flatten() else {
        return eprintln!("SKIPPED: no file system can be mounted here, so a slow disk is not tested");
    };
    let cluster = Cluster::with_nodes(scratch.path(), &["az-a", "az-b", "az-c"]);
    create(&cluster, "t", 6);
    let is_over = AtomicBool::new(false);
    let n2 = || {
        let (_, status) = curl_json(&[&format!("{}/v1/status", cluster.http)]);
        let nodes = status["nodes"].as_array().expect("nodes").clone();
        nodes.into_iter().find(|node| node["name"] == "n2").expect("n2")
    };
    let open = |node: &serde_json::Value| node["leads"].as_u64().unwrap_or(9) + node["follows"].as_u64().unwrap_or(9);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !is_over.load(Ordering::Relaxed) {
                number += 1;
                let (status, answer) = post(&cluster, scratch.path(), "t", number % 6, b"value");
                assert_eq!(status, 200, "{answer}");
            }
        });
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(3));
            while !is_over.load(Ordering::Relaxed) {
                disk.hang(true);
                std::thread::sleep(Duration::from_millis(150));
                disk.hang(false);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        std::thread::sleep(Duration::from_secs(2));
        let before = n2();
        let began = Instant::now();
        let mut node = n2();
        while node["state"] != "slow" || open(&node) > 0 {
            if began.elapsed() > Duration::from_secs(60) {
                is_over.store(true, Ordering::Relaxed);
                panic!("it was not left: {node}");
            }
            std::thread::sleep(Duration::from_millis(500));
            node = n2();
        }
        is_over.store(true, Ordering::Relaxed);
        println!("{} open segments left the slow disk within {:?}", open(&before), began.elapsed());
        assert!(open(&before) > 0, "{before}");
    });
}

#[test]
fn a_full_disk_refuses_appends_reads_on_and_resumes() {
    let tools = tool("curl", has_command("curl")) && tool("mkfs.ext4", has_command("mkfs.ext4"));
    let scratch = Scratch::new("full-disk");
    let at = scratch.path().join("n2");
    let disk = tools.then(|| SmallDisk::mount(&scratch.path().join("disk"), &at, 320)).flatten();
    if disk.is_none() {
        return eprintln!("SKIPPED: no file system can be mounted here, so a full disk is not tested");
    }
    let mut cluster = Cluster::start(scratch.path());
    create(&cluster, "t", 3);
    const RECORD: usize = 900_000;
    let mut kept: Vec<(u32, i64, u64)> = Vec::new();
    let place = |cluster: &Cluster, number: u64, kept: &mut Vec<(u32, i64, u64)>| {
        let partition = (number % 3) as u32;
        let (status, answer) = post(cluster, scratch.path(), "t", partition, &noise(number, RECORD));
        if status == 200 {
            kept.push((partition, answer["results"][0]["offset"].as_i64().expect("an offset"), number));
        }
        (status, answer)
    };
    for number in 0..9 {
        let (status, answer) = place(&cluster, number, &mut kept);
        assert_eq!(status, 200, "{answer}");
    }
    // Somebody else fills the disk.
    let ballast = at.join("ballast");
    let mut file = std::fs::File::create(&ballast).expect("a file");
    let chunk = vec![7_u8; 1 << 20];
    while file.write_all(&chunk).is_ok() {}
    drop(file);
    let began = Instant::now();
    let mut number = 9;
    let refused = loop {
        let (status, answer) = place(&cluster, number, &mut kept);
        number += 1;
        if status != 200 {
            break (status, answer);
        }
        assert!(began.elapsed() < Duration::from_secs(120), "never refused after {number} records");
    };
    assert_eq!((refused.0, refused.1["code"].as_str()), (507, Some("storage_full")), "{}", refused.1);
    assert!(refused.1["detail"].as_str().is_some_and(|text| text.contains("full")), "{}", refused.1);
    // Reads go on, and partitions elsewhere take appends.
    for (partition, offset, number) in &kept {
        assert!(read(&cluster, "t", *partition, *offset) == Some(noise(*number, RECORD)), "{partition} at {offset}");
    }
    // Freed space resumes, on every partition.
    std::fs::remove_file(&ballast).expect("freed");
    let began = Instant::now();
    for _ in 0..3 {
        while place(&cluster, number, &mut kept).0 != 200 {
            assert!(began.elapsed() < Duration::from_secs(30), "no append after space was freed");
            std::thread::sleep(Duration::from_millis(100));
        }
        number += 1;
    }
    // Nothing of it was lost: not in memory, not after a kill of the node on the small disk.
    cluster.services[2].kill();
    cluster.services[2].start();
    for (partition, offset, number) in &kept {
        assert!(read(&cluster, "t", *partition, *offset) == Some(noise(*number, RECORD)), "{partition} at {offset}");
    }
    drop(cluster);
}

#[test]
fn a_damaged_journal_record_is_named_and_the_other_copy_serves() {
    if !tool("curl", has_command("curl")) {
        return;
    }
    let scratch = Scratch::new("damage");
    let mut cluster = Cluster::start(scratch.path());
    create(&cluster, "t", 1);
    for number in 0..20 {
        let (status, answer) = post(&cluster, scratch.path(), "t", 0, &noise(number, 5_000));
        assert_eq!(status, 200, "{answer}");
    }
    std::thread::sleep(Duration::from_millis(100));
    // One of the two nodes with a copy: flip a bit in the middle of what its journal acknowledged.
    let needle = noise(7, 5_000)[..64].to_vec();
    let nodes = ["n1", "n2", "n3"];
    let holders: Vec<usize> = (0..3).filter(|n| find(&journal(scratch.path(), nodes[*n]), &needle).is_some()).collect();
    assert_eq!(holders.len(), 2, "every record is on two nodes");
    let damaged = holders[0];
    cluster.services[1 + damaged].kill();
    let path = journal(scratch.path(), nodes[damaged]);
    let at = find(&path, &needle).expect("still there");
    let mut file = std::fs::File::options().read(true).write(true).open(&path).expect("the journal");
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut byte)).expect("a byte");
    byte[0] ^= 0x10;
    file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(&byte)).expect("damaged");
    file.sync_all().expect("on disk");
    cluster.services[1 + damaged].start();
    // Everything acknowledged is read, from the intact copy.
    read_all(&cluster);
    // What is damaged is copied again: then the intact copy may go.
    wait_for_two_copies(&cluster);
    cluster.services[1 + holders[1]].kill();
    read_all(&cluster);
    let log = cluster.services[1 + damaged].log_text();
    assert!(log.contains("the journal is damaged") && log.contains("quarantined"), "not named: {log}");
    // The damage is reported as an error, which is right here: look away from it.
    cluster.services[1 + damaged].forget_log();
}

fn wait_for_two_copies(cluster: &Cluster) {
    let began = Instant::now();
    loop {
        let (_, status) = curl_json(&[&format!("{}/v1/status", cluster.http)]);
        let partitions = &status["partitions"];
        // The node says what is damaged with its next heartbeat.
        if began.elapsed() > Duration::from_secs(5) && partitions["total"] == partitions["open"] {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "not copied again: {status}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn read_all(cluster: &Cluster) {
    let began = Instant::now();
    for number in 0..20 {
        loop {
            match read(cluster, "t", 0, number as i64) {
                Some(value) => {
                    assert!(value == noise(number, 5_000), "offset {number} changed");
                    break;
                }
                None => assert!(began.elapsed() < Duration::from_secs(20), "offset {number} cannot be read"),
            }
        }
    }
}

/// The first journal file of a node.
fn journal(scratch: &Path, node: &str) -> PathBuf {
    scratch.join(node).join("journal").join(format!("{:016x}.journal", 0))
}

fn find(path: &Path, needle: &[u8]) -> Option<u64> {
    let bytes = std::fs::read(path).ok()?;
    bytes.windows(needle.len()).position(|window| window == needle).map(|at| at as u64 + 20)
}
