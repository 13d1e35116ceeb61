//! `/v1/topics`: list, create, describe, delete.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use types::{ErrorCode, TopicPartition, TopicRecord};

use super::problem::Problem;
use crate::Gateway;
use crate::error::refuse;
use crate::fetch::latest;
use crate::topics;

pub async fn list(State(gateway): State<Arc<Gateway>>) -> Json<Value> {
    let topics: Vec<Value> = gateway.map.topics(gateway.tenant).iter().map(|topic| summary(topic)).collect();
    Json(json!({ "topics": topics }))
}

fn summary(topic: &TopicRecord) -> Value {
    json!({
        "name": topic.name,
        "id": topic.id,
        "partitions": topic.partitions,
        "replication_factor": topic.replication_factor,
        "configs": topic.configs,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTopic {
    name: String,
    #[serde(default = "one")]
    partitions: i32,
    #[serde(default)]
    configs: BTreeMap<String, String>,
}

fn one() -> i32 {
    1
}

pub async fn create(
    State(gateway): State<Arc<Gateway>>,
    body: Result<Json<NewTopic>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(new) = body.map_err(|error| refuse(ErrorCode::InvalidRequest, error.body_text()))?;
    let topic =
        topics::create(&gateway, &new.name, new.partitions, topics::REPLICATION_FACTOR, new.configs, false).await?;
    Ok((StatusCode::CREATED, Json(summary(&topic))).into_response())
}

fn find(gateway: &Gateway, name: &str) -> Result<Arc<TopicRecord>, Problem> {
    let unknown = || refuse(ErrorCode::UnknownTopic, format!("topic `{name}` does not exist"));
    Ok(gateway.map.topic(gateway.tenant, name).ok_or_else(unknown)?)
}

pub async fn describe(State(gateway): State<Arc<Gateway>>, Path(name): Path<String>) -> Result<Json<Value>, Problem> {
    let topic = find(&gateway, &name)?;
    let mut partitions = Vec::new();
    for partition in 0..topic.partitions {
        partitions.push(describe_partition(&gateway, TopicPartition { topic: topic.id, partition }).await);
    }
    let mut answer = summary(&topic);
    answer["partitions"] = Value::Array(partitions);
    Ok(Json(answer))
}

async fn describe_partition(gateway: &Arc<Gateway>, id: TopicPartition) -> Value {
    let end = latest(gateway, id).await;
    let record = gateway.map.partition(id);
    let open = record.as_deref().and_then(|record| record.open());
    let name_of = |node| gateway.map.node(node).map(|node| node.name);
    let replicas: Vec<Value> = open
        .map(|open| open.replicas.iter().filter_map(|replica| gateway.map.node(replica.node)).collect::<Vec<_>>())
        .unwrap_or_default()
        .into_iter()
        .map(|node| json!({"node": node.name, "az": node.az}))
        .collect();
    let state = match (&end, open) {
        (Err(_), _) => "offline",
        (Ok(_), Some(_)) => "open",
        (Ok(_), None) => "parked",
    };
    json!({
        "partition": id.partition,
        "state": state,
        "leader": open.and_then(|open| name_of(open.leader().node)),
        "replicas": replicas,
        "epoch": record.as_deref().map_or(0, |record| record.epoch.0),
        "log_start_offset": record.as_deref().map_or(0, |record| record.log_start),
        "end_offset": end.ok().map(|end| end.high_watermark),
    })
}

pub async fn delete(State(gateway): State<Arc<Gateway>>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let topic = find(&gateway, &name)?;
    topics::delete(&gateway, &topic).await?;
    Ok(StatusCode::NO_CONTENT)
}
