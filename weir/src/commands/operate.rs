//! `weir status`, `weir node list|drain|undrain`, `weir partition move|trim|accept-loss`.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::{list, text};
use crate::cli::{NodeCommand, PartitionCommand, Target};
use crate::client::{Client, part};
use crate::output::{Failure, Output, blank, print};

const NODE_HEADING: [&str; 8] = ["NODE", "AZ", "STATE", "ADDRESS", "LEADS", "FOLLOWS", "SEALED", "KB/S"];

fn node_row(node: &Value) -> Vec<String> {
    let state = match node["away_ms"].as_u64() {
        Some(away) if away > 0 => format!("{} for {} s", text(&node["state"]), away / 1_000),
        _ => text(&node["state"]),
    };
    let kb = node["bytes_per_s"].as_u64().unwrap_or(0) / 1_000;
    let counts = [&node["leads"], &node["follows"], &node["sealed"]].map(text);
    let [leads, follows, sealed] = counts;
    vec![text(&node["name"]), text(&node["az"]), state, text(&node["address"]), leads, follows, sealed, kb.to_string()]
}

pub async fn status(target: Target) -> Result<(), Failure> {
    let status = Client::new(&target)?.json(Method::GET, "/v1/status", None).await?;
    if target.output == Output::Json {
        print(target.output, &status, &[], Vec::new());
        return Ok(());
    }
    let rows = list(&status["nodes"]).iter().map(node_row).collect();
    print(target.output, &status, &NODE_HEADING, rows);
    let is_there = |node: &&Value| !matches!(node["state"].as_str(), Some("down" | "silent"));
    let zones: BTreeSet<String> =
        list(&status["nodes"]).iter().filter(is_there).map(|node| text(&node["az"])).collect();
    if zones.len() < 2 {
        blank(target.output);
        println!("Nothing can be appended: a record needs storage nodes in two availability zones.");
    }
    let partitions = &status["partitions"];
    let states = ["total", "open", "parked", "one_copy", "repairing", "offline"];
    blank(target.output);
    print(
        target.output,
        &status,
        &["PARTITIONS", "OPEN", "PARKED", "ONE COPY", "REPAIRING", "OFFLINE"],
        vec![states.iter().map(|state| text(&partitions[*state])).collect()],
    );
    let name_of = |of: &Value| {
        let name = if of["topic"].is_null() { &of["topic_id"] } else { &of["topic"] };
        format!("{} {}", text(name), text(&of["partition"]))
    };
    let offline = list(&status["offline"]);
    if !offline.is_empty() {
        blank(target.output);
        let rows = offline.iter().take(20).map(|of| vec![name_of(of)]).collect();
        print(target.output, &status, &["OFFLINE"], rows);
        if offline.len() > 20 {
            println!("and more: `weir status -o json` names a hundred");
        }
    }
    let repairs = list(&status["repairs"]);
    if !repairs.is_empty() {
        blank(target.output);
        let row = |repair: &Value| {
            vec![
                name_of(repair),
                format!("{} to {}", text(&repair["base_offset"]), text(&repair["end_offset"])),
                text(&repair["copied_to"]),
                text(&repair["target"]),
            ]
        };
        let rows = repairs.iter().map(row).collect();
        print(target.output, &status, &["REPAIRING", "OFFSETS", "COPIED TO", "ON"], rows);
    }
    let events = list(&status["events"]);
    if !events.is_empty() {
        blank(target.output);
        let row = |event: &Value| vec![ago(&event["at_ms"]), text(&event["text"])];
        print(target.output, &status, &["AGO", "WHAT PLACEMENT DID"], events.iter().take(10).map(row).collect());
    }
    Ok(())
}

fn ago(at_ms: &Value) -> String {
    let seconds = (service::clock::wall_ms() - at_ms.as_i64().unwrap_or(0)).max(0) / 1_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

pub async fn node(command: NodeCommand) -> Result<(), Failure> {
    match command {
        NodeCommand::List { target } => {
            let status = Client::new(&target)?.json(Method::GET, "/v1/status", None).await?;
            let rows = list(&status["nodes"]).iter().map(node_row).collect();
            print(target.output, &json!({"nodes": status["nodes"]}), &NODE_HEADING, rows);
        }
        NodeCommand::Drain { node, no_wait, target } => {
            let client = Client::new(&target)?;
            client.json(Method::POST, &format!("/v1/nodes/{}/drain", part(&node)), None).await?;
            let last = if no_wait { find(&client, &node).await? } else { until_drained(&client, &node).await? };
            print(target.output, &last, &NODE_HEADING, vec![node_row(&last)]);
        }
        NodeCommand::Undrain { node, target } => {
            let client = Client::new(&target)?;
            client.json(Method::POST, &format!("/v1/nodes/{}/undrain", part(&node)), None).await?;
            let node = find(&client, &node).await?;
            print(target.output, &node, &NODE_HEADING, vec![node_row(&node)]);
        }
    }
    Ok(())
}

async fn find(client: &Client, name: &str) -> Result<Value, Failure> {
    let status = client.json(Method::GET, "/v1/status", None).await?;
    let mut nodes = list(&status["nodes"]).iter();
    let node = nodes.find(|node| node["name"] == name || text(&node["id"]) == name);
    node.cloned().ok_or_else(|| Failure::not_found(format!("there is no storage node `{name}`")))
}

/// How long nothing leaves a node before that is said.
const STUCK: Duration = Duration::from_secs(5);

/// Waits until nothing is left on the node. Whoever ends this command does not end the draining.
async fn until_drained(client: &Client, name: &str) -> Result<Value, Failure> {
    let is_shown = std::io::stderr().is_terminal();
    let (mut misses, mut fewest, mut since) = (0, u64::MAX, std::time::Instant::now());
    loop {
        // Placement may be handing over just now: the draining goes on all the same.
        let node = match find(client, name).await {
            Ok(node) => node,
            Err(failure) if failure.code == 5 || misses >= 60 => return Err(failure),
            Err(_) => {
                misses += 1;
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
        };
        misses = 0;
        let left: u64 = ["leads", "follows", "sealed"].iter().filter_map(|what| node[*what].as_u64()).sum();
        if left < fewest {
            (fewest, since) = (left, std::time::Instant::now());
        } else if since.elapsed() > STUCK {
            eprintln!(
                "{left} segments are still on `{name}`, and none has left it for {} s: other nodes in two zones must have room \
                 for them; `weir status` says more",
                STUCK.as_secs()
            );
            since = std::time::Instant::now();
        }
        if is_shown {
            eprint!("\r{left} segments left on `{name}`   ");
        }
        if node["state"] == "drained" || left == 0 {
            if is_shown {
                eprintln!();
            }
            return Ok(node);
        }
        if node["state"] == "up" {
            return Err(Failure::failed(format!("`{name}` is used again: somebody ended its draining")));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

pub async fn partition(command: PartitionCommand) -> Result<(), Failure> {
    match command {
        PartitionCommand::Move { topic, partition, to, target } => {
            let path = format!("/v1/topics/{}/partitions/{partition}/move", part(&topic));
            let moved = Client::new(&target)?.json(Method::POST, &path, Some(&json!({ "to": to }))).await?;
            let row = vec![topic, partition.to_string(), text(&moved["leader"]), text(&moved["epoch"])];
            print(target.output, &moved, &["TOPIC", "PARTITION", "LEADER", "EPOCH"], vec![row]);
            Ok(())
        }
        PartitionCommand::Trim { topic, partition, before, target } => {
            let path = format!("/v1/topics/{}/partitions/{partition}/trim", part(&topic));
            let body = json!({ "before": before });
            let trimmed = Client::new(&target)?.json(Method::POST, &path, Some(&body)).await?;
            let row = vec![topic, partition.to_string(), text(&trimmed["log_start_offset"])];
            print(target.output, &trimmed, &["TOPIC", "PARTITION", "LOG START"], vec![row]);
            Ok(())
        }
        PartitionCommand::AcceptLoss { topic, partition, yes, target } => {
            accept_loss(&topic, partition, yes, &target).await
        }
    }
}

async fn accept_loss(topic: &str, partition: i32, is_confirmed: bool, target: &Target) -> Result<(), Failure> {
    let path = format!("/v1/topics/{}/partitions/{partition}/accept-loss", part(topic));
    let client = Client::new(target)?;
    let mut answer = client.json(Method::POST, &path, Some(&json!({}))).await?;
    if is_confirmed && !list(&answer["lost"]).is_empty() {
        // What is accepted is what was told, or nothing.
        let body = json!({ "version": answer["version"] });
        answer = client.json(Method::POST, &path, Some(&body)).await?;
    }
    let lost = list(&answer["lost"]);
    let row = |range: &Value| {
        let nodes: Vec<String> = list(&range["nodes"]).iter().map(text).collect();
        let to = if range["to"].is_null() { "not known".to_owned() } else { text(&range["to"]) };
        vec![topic.to_owned(), partition.to_string(), text(&range["from"]), to, nodes.join(", ")]
    };
    let heading = ["TOPIC", "PARTITION", "LOST FROM", "TO", "WAS ON"];
    print(target.output, &answer, &heading, lost.iter().map(row).collect());
    match (lost.is_empty(), is_confirmed) {
        (true, _) => eprintln!("nothing is lost: every segment has a copy, or one that may come back"),
        (false, true) if answer["next_offset"].is_null() => eprintln!("accepted; new records go on where they were"),
        (false, true) => eprintln!("accepted; the partition goes on at offset {}", text(&answer["next_offset"])),
        (false, false) => {
            return Err(Failure::failed("nothing was accepted; with --yes the partition goes on without this"));
        }
    }
    Ok(())
}
