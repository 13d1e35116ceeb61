//! `weir topic create|list|describe|delete`.

use hyper::Method;
use serde_json::{Map, Value, json};

use crate::cli::TopicCommand;
use crate::client::{Client, part};
use crate::output::{Failure, print};

pub async fn run(command: TopicCommand) -> Result<(), Failure> {
    match command {
        TopicCommand::Create { name, partitions, config, if_not_exists, target } => {
            let mut configs = Map::new();
            for pair in config {
                let (key, value) =
                    pair.split_once('=').ok_or_else(|| Failure::usage(format!("`{pair}` is not K=V")))?;
                configs.insert(key.to_owned(), value.into());
            }
            let client = Client::new(&target.server);
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
            let answer = Client::new(&target.server).json(Method::GET, "/v1/topics", None).await?;
            let rows = list(&answer["topics"])
                .iter()
                .map(|topic| vec![text(&topic["name"]), text(&topic["partitions"]), text(&topic["id"])]);
            print(target.output, &answer, &["TOPIC", "PARTITIONS", "ID"], rows.collect());
        }
        TopicCommand::Describe { name, target } => {
            let path = format!("/v1/topics/{}", part(&name));
            let topic = Client::new(&target.server).json(Method::GET, &path, None).await?;
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
                ]
            });
            let heading = ["PARTITION", "STATE", "LEADER", "REPLICAS", "EPOCH", "START", "END"];
            print(target.output, &topic, &heading, rows.collect());
        }
        TopicCommand::Delete { name, if_exists, target } => {
            let path = format!("/v1/topics/{}", part(&name));
            match Client::new(&target.server).json(Method::DELETE, &path, None).await {
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

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
