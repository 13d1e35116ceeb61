//! `/v1/topics`: list, create, describe, alter, delete.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::Path;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use policies::vocabulary::{
    ALTER_TOPIC, ALTER_TOPIC_CONFIG, CREATE_TOPIC, DELETE_TOPIC, DESCRIBE_TOPIC, DESCRIBE_TOPIC_CONFIG,
};
use serde::Deserialize;
use serde_json::{Value, json};
use types::{ErrorCode, TopicPartition, TopicRecord};

use super::problem::Problem;
use crate::caller::Caller;
use crate::error::refuse;
use crate::fetch::{latest, local_bytes};
use crate::topics;

pub async fn list(Extension(caller): Extension<Arc<Caller>>) -> Json<Value> {
    let topics: Vec<Value> = caller.topics(DESCRIBE_TOPIC).iter().map(|topic| seen(&caller, topic)).collect();
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

/// The same, without the configs where the caller may not see them.
fn seen(caller: &Caller, topic: &TopicRecord) -> Value {
    let mut summary = summary(topic);
    if !caller.sees(DESCRIBE_TOPIC_CONFIG, &topic.name) {
        summary["configs"] = Value::Null;
    }
    summary
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
    Extension(caller): Extension<Arc<Caller>>,
    body: Result<Json<NewTopic>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(new) = body.map_err(|error| refuse(ErrorCode::InvalidRequest, error.body_text()))?;
    caller.may_topic(CREATE_TOPIC, &new.name)?;
    let topic =
        topics::create(&caller, &new.name, new.partitions, topics::REPLICATION_FACTOR, new.configs, false).await?;
    Ok((StatusCode::CREATED, Json(summary(&topic))).into_response())
}

pub async fn describe(
    Extension(caller): Extension<Arc<Caller>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    let topic = caller.topic(DESCRIBE_TOPIC, &name)?;
    let mut partitions = Vec::new();
    // Many at a time: each asks the leader, and a topic may have thousands.
    let mut asked = tokio::task::JoinSet::new();
    for partition in 0..topic.partitions {
        if asked.len() >= DESCRIBED_AT_ONCE
            && let Some(Ok(described)) = asked.join_next().await
        {
            partitions.push(described);
        }
        let caller = Arc::clone(&caller);
        let id = TopicPartition { topic: topic.id, partition };
        asked.spawn(async move { (partition, describe_partition(&caller, id).await) });
    }
    while let Some(Ok(described)) = asked.join_next().await {
        partitions.push(described);
    }
    partitions.sort_by_key(|(partition, _)| *partition);
    let partitions = partitions.into_iter().map(|(_, described)| described).collect();
    let mut answer = seen(&caller, &topic);
    answer["partitions"] = Value::Array(partitions);
    Ok(Json(answer))
}

async fn describe_partition(caller: &Arc<Caller>, id: TopicPartition) -> Value {
    let end = latest(caller, id).await;
    let local_bytes = local_bytes(caller, id).await.ok();
    let record = caller.gateway.map.partition(id);
    let open = record.as_deref().and_then(|record| record.open());
    let name_of = |node| caller.gateway.map.node(node).map(|node| node.name);
    let replicas: Vec<Value> = open
        .map(|open| {
            open.replicas.iter().filter_map(|replica| caller.gateway.map.node(replica.node)).collect::<Vec<_>>()
        })
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
    Extension(caller): Extension<Arc<Caller>>,
    Path(name): Path<String>,
    body: Result<Json<Changes>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(changes) = body.map_err(|error| refuse(ErrorCode::InvalidRequest, error.body_text()))?;
    if !changes.configs.is_empty() {
        caller.may_topic(ALTER_TOPIC_CONFIG, &name)?;
    }
    if changes.partitions.is_some() || changes.configs.is_empty() {
        caller.may_topic(ALTER_TOPIC, &name)?;
    }
    let topic = caller.find(&name)?;
    let topic = topics::alter(&caller, &topic, changes.configs, changes.partitions).await?;
    Ok(Json(seen(&caller, &topic)))
}

pub async fn delete(
    Extension(caller): Extension<Arc<Caller>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    let topic = caller.topic(DELETE_TOPIC, &name)?;
    topics::delete(&caller, &topic).await?;
    Ok(StatusCode::NO_CONTENT)
}
