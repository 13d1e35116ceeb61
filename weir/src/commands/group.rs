//! `weir group list|describe|lag|reset|delete`.

use hyper::Method;
use serde_json::{Value, json};

use super::{list, text};
use crate::cli::{GroupCommand, Target};
use crate::client::{Client, part};
use crate::output::{Failure, Output, blank, print};

const LAG_HEADING: [&str; 6] = ["TOPIC", "PARTITION", "OFFSET", "END", "LAG", "LAG SECONDS"];

pub async fn run(command: GroupCommand) -> Result<(), Failure> {
    match command {
        GroupCommand::List { target } => {
            let answer = Client::new(&target)?.json(Method::GET, "/v1/groups", None).await?;
            let row = |group: &Value| vec![text(&group["group"]), text(&group["state"]), text(&group["protocol_type"])];
            print(
                target.output,
                &answer,
                &["GROUP", "STATE", "TYPE"],
                list(&answer["groups"]).iter().map(row).collect(),
            );
        }
        GroupCommand::Describe { group, target } => {
            let answer = describe(&target, &group).await?;
            let row = |member: &Value| {
                let topics = list(&member["assignment"]).iter().map(|topic| {
                    let partitions: Vec<String> = list(&topic["partitions"]).iter().map(text).collect();
                    format!("{} {}", text(&topic["topic"]), partitions.join(","))
                });
                vec![
                    text(&member["member"]),
                    text(&member["client_id"]),
                    text(&member["client_host"]),
                    topics.collect::<Vec<_>>().join("; "),
                ]
            };
            if target.output == Output::Table {
                println!("group {}: {}, {}", group, text(&answer["state"]), text(&answer["protocol"]));
                blank(target.output);
            }
            let members: Vec<_> = list(&answer["members"]).iter().map(row).collect();
            print(target.output, &answer, &["MEMBER", "CLIENT", "HOST", "HAS"], members);
            if target.output == Output::Table {
                blank(target.output);
                print(target.output, &answer, &LAG_HEADING, list(&answer["offsets"]).iter().map(lag_row).collect());
            }
        }
        GroupCommand::Lag { group, target } => {
            let answer = describe(&target, &group).await?;
            let shown = json!({
                "group": answer["group"], "offsets": answer["offsets"],
                "lag_records": answer["lag_records"], "lag_ms": answer["lag_ms"],
            });
            print(target.output, &shown, &LAG_HEADING, list(&answer["offsets"]).iter().map(lag_row).collect());
        }
        GroupCommand::Reset { group, topic, partition, to, dry_run, target } => {
            let partitions = (!partition.is_empty()).then_some(partition);
            let body = json!({ "topic": topic, "partitions": partitions, "to": to, "dry_run": dry_run });
            let path = format!("/v1/groups/{}/reset", part(&group));
            let answer = Client::new(&target)?.json(Method::POST, &path, Some(&body)).await?;
            let row =
                |offset: &Value| vec![text(&offset["topic"]), text(&offset["partition"]), text(&offset["offset"])];
            let rows = list(&answer["offsets"]).iter().map(row).collect();
            print(target.output, &answer, &["TOPIC", "PARTITION", "OFFSET"], rows);
            if dry_run {
                eprintln!("nothing was changed: --dry-run");
            }
        }
        GroupCommand::Delete { group, target } => {
            let client = Client::new(&target)?;
            client.json(Method::DELETE, &format!("/v1/groups/{}", part(&group)), None).await?;
            print(target.output, &json!({ "group": group }), &["DELETED"], vec![vec![group]]);
        }
    }
    Ok(())
}

async fn describe(target: &Target, group: &str) -> Result<Value, Failure> {
    Client::new(target)?.json(Method::GET, &format!("/v1/groups/{}", part(group)), None).await
}

fn lag_row(offset: &Value) -> Vec<String> {
    let seconds = match offset["lag_ms"].as_i64() {
        Some(ms) => format!("{}.{}", ms / 1_000, ms % 1_000 / 100),
        None => "-".to_owned(),
    };
    let shown = ["topic", "partition", "offset", "end_offset", "lag_records"].map(|name| text(&offset[name]));
    shown.into_iter().chain([seconds]).collect()
}
