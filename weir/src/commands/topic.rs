//! `weir topic create|list|describe|alter|delete`.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::{list, text};
use crate::cli::TopicCommand;
use crate::client::{Client, part};
use crate::output::{Failure, print};

pub async fn run(command: TopicCommand) -> Result<(), Failure> {
    match command {
        TopicCommand::Create { name, partitions, config, if_not_exists, target } => {
            let configs = pairs(config)?;
            let client = Client::new(&target)?;
            if if_not_exists
                && let Ok(topic) = client.json(Method::GET, &format!("/v1/topics/{}", part(&name)), None).await
            {
                print(target.output, &topic, &["TOPIC"], vec![vec![name]]);
                return Ok(());
            }
            let body = json!({"name": name, "partitions": partitions, "configs": configs});
            let topic = client.json(Method::POST, "/v1/topics", Some(&body)).await?;
            let row = vec![name, partitions.to_string(), text(&topic["id"])];
            print(target.output, &topic, &["TOPIC", "PARTITIONS", "ID"], vec![row]);
        }
        TopicCommand::List { target } => {
            let answer = Client::new(&target)?.json(Method::GET, "/v1/topics", None).await?;
            let rows = list(&answer["topics"])
                .iter()
                .map(|topic| vec![text(&topic["name"]), text(&topic["partitions"]), text(&topic["id"])]);
            print(target.output, &answer, &["TOPIC", "PARTITIONS", "ID"], rows.collect());
        }
        TopicCommand::Describe { name, target } => {
            let path = format!("/v1/topics/{}", part(&name));
            let topic = Client::new(&target)?.json(Method::GET, &path, None).await?;
            let rows = list(&topic["partitions"]).iter().map(|partition| {
                let replicas = list(&partition["replicas"]);
                let replicas: Vec<String> =
                    replicas.iter().map(|r| format!("{} ({})", text(&r["node"]), text(&r["az"]))).collect();
                vec![
                    text(&partition["partition"]),
                    text(&partition["state"]),
                    text(&partition["leader"]),
                    replicas.join(", "),
                    text(&partition["epoch"]),
                    text(&partition["log_start_offset"]),
                    text(&partition["end_offset"]),
                    text(&partition["local_bytes"]),
                    text(&partition["remote_bytes"]),
                ]
            });
            let heading =
                ["PARTITION", "STATE", "LEADER", "REPLICAS", "EPOCH", "START", "END", "LOCAL BYTES", "REMOTE BYTES"];
            print(target.output, &topic, &heading, rows.collect());
        }
        TopicCommand::Alter { name, partitions, config, remove_config, target } => {
            let mut configs = pairs(config)?;
            configs.extend(remove_config.into_iter().map(|name| (name, Value::Null)));
            if configs.is_empty() && partitions.is_none() {
                return Err(Failure::usage("nothing to change: --partitions, --config or --remove-config"));
            }
            let path = format!("/v1/topics/{}", part(&name));
            let body = json!({"configs": configs, "partitions": partitions});
            let topic = Client::new(&target)?.json(Method::PATCH, &path, Some(&body)).await?;
            let row = vec![name, text(&topic["partitions"]), topic["configs"].to_string()];
            print(target.output, &topic, &["TOPIC", "PARTITIONS", "CONFIGS"], vec![row]);
        }
        TopicCommand::Delete { name, if_exists, target } => {
            let path = format!("/v1/topics/{}", part(&name));
            match Client::new(&target)?.json(Method::DELETE, &path, None).await {
                Err(failure) if failure.code == 5 && if_exists => {}
                result => {
                    result?;
                }
            }
            print(target.output, &json!({"deleted": name}), &["DELETED"], vec![vec![name]]);
        }
    }
    Ok(())
}

fn pairs(config: Vec<String>) -> Result<Map<String, Value>, Failure> {
    let pair = |text: String| match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.into())),
        None => Err(Failure::usage(format!("`{text}` is not K=V"))),
    };
    config.into_iter().map(pair).collect()
}
