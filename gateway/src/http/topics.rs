//! `/v1/topics`: list, create, describe, alter, delete.

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
use crate::fetch::{latest, local_bytes};
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

/// Partitions that a description asks after at a time.
const DESCRIBED_AT_ONCE: usize = 32;

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

pub(super) fn find(gateway: &Gateway, name: &str) -> Result<Arc<TopicRecord>, Problem> {
    let unknown = || refuse(ErrorCode::UnknownTopic, format!("topic `{name}` does not exist"));
    Ok(gateway.map.topic(gateway.tenant, name).ok_or_else(unknown)?)
}

pub async fn describe(State(gateway): State<Arc<Gateway>>, Path(name): Path<String>) -> Result<Json<Value>, Problem> {
    let topic = find(&gateway, &name)?;
    let mut partitions = Vec::new();
    // Many at a time: each asks the leader, and a topic may have thousands.
    let mut asked = tokio::task::JoinSet::new();
    for partition in 0..topic.partitions {
        if asked.len() >= DESCRIBED_AT_ONCE
            && let Some(Ok(described)) = asked.join_next().await
        {
            partitions.push(described);
        }
        let gateway = Arc::clone(&gateway);
        let id = TopicPartition { topic: topic.id, partition };
        asked.spawn(async move { (partition, describe_partition(&gateway, id).await) });
    }
    while let Some(Ok(described)) = asked.join_next().await {
        partitions.push(described);
    }
    partitions.sort_by_key(|(partition, _)| *partition);
    let partitions = partitions.into_iter().map(|(_, described)| described).collect();
    let mut answer = summary(&topic);
    answer["partitions"] = Value::Array(partitions);
    Ok(Json(answer))
}

async fn describe_partition(gateway: &Arc<Gateway>, id: TopicPartition) -> Value {
    let end = latest(gateway, id).await;
    let local_bytes = local_bytes(gateway, id).await.ok();
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
        // Of one of the two copies.
        "local_bytes": local_bytes,
        // Nothing is moved to object storage yet.
        "remote_bytes": 0,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// `null` takes a config away.
    #[serde(default)]
    configs: BTreeMap<String, Option<String>>,
    #[serde(default)]
    partitions: Option<i32>,
}

pub async fn alter(
    State(gateway): State<Arc<Gateway>>,
    Path(name): Path<String>,
    body: Result<Json<Changes>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(changes) = body.map_err(|error| refuse(ErrorCode::InvalidRequest, error.body_text()))?;
    let topic = find(&gateway, &name)?;
    let topic = topics::alter(&gateway, &topic, changes.configs, changes.partitions).await?;
    Ok(Json(summary(&topic)))
}

pub async fn delete(State(gateway): State<Arc<Gateway>>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let topic = find(&gateway, &name)?;
    topics::delete(&gateway, &topic).await?;
    Ok(StatusCode::NO_CONTENT)
}
