//! `/v1/status`, `/v1/nodes`, and moves of partitions: for operators. Placement does the work.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use service::api::{AcceptLoss, DrainNode, Losses, MovePartition, Status, TrimPartition};
use types::{ErrorCode, TopicPartition};

use super::problem::Problem;
use super::topics::find;
use crate::error::{from_api, refuse};
use crate::{Gateway, topics};

pub async fn status(State(gateway): State<Arc<Gateway>>) -> Result<Json<Value>, Problem> {
    let status = gateway.placement.status().await.map_err(from_api)?;
    Ok(Json(named(&gateway, &status)))
}

/// The status with the names of topics and nodes instead of their ids.
fn named(gateway: &Gateway, status: &Status) -> Value {
    let topics = gateway.map.all_topics(gateway.tenant);
    let topic = |id: TopicPartition| topics.iter().find(|topic| topic.id == id.topic).map(|topic| topic.name.clone());
    let node = |id| status.nodes.iter().find(|node| node.id == id).map(|node| node.name.clone());
    let repair = |repair: &service::api::RepairStatus| {
        json!({
            "topic": topic(repair.partition),
            "topic_id": repair.partition.topic,
            "partition": repair.partition.partition,
            "base_offset": repair.base,
            "end_offset": repair.end,
            "copied_to": repair.copied_to,
            "target": node(repair.target),
            "for_ms": repair.for_ms,
        })
    };
    let offline = |id: &TopicPartition| json!({ "topic": topic(*id), "topic_id": id.topic, "partition": id.partition });
    let event = |event: &service::api::Event| {
        let mut text = event.text.clone();
        for topic in &topics {
            text = text.replace(&topic.id.to_string(), &topic.name);
        }
        json!({ "at_ms": event.at_ms, "text": text })
    };
    json!({
        "nodes": status.nodes,
        "partitions": status.partitions,
        "offline": status.offline.iter().map(offline).collect::<Vec<_>>(),
        "repairs": status.repairs.iter().map(repair).collect::<Vec<_>>(),
        "events": status.events.iter().map(event).collect::<Vec<_>>(),
    })
}

pub async fn drain(State(gateway): State<Arc<Gateway>>, Path(node): Path<String>) -> Result<Json<Value>, Problem> {
    set_drain(&gateway, node, true).await
}

pub async fn undrain(State(gateway): State<Arc<Gateway>>, Path(node): Path<String>) -> Result<Json<Value>, Problem> {
    set_drain(&gateway, node, false).await
}

async fn set_drain(gateway: &Gateway, node: String, is_draining: bool) -> Result<Json<Value>, Problem> {
    let request = DrainNode { node: node.clone(), is_draining };
    gateway.placement.drain_node(&request).await.map_err(from_api)?;
    Ok(Json(json!({ "node": node, "draining": is_draining })))
}

pub async fn move_partition(
    State(gateway): State<Arc<Gateway>>,
    Path((topic, partition)): Path<(String, i32)>,
    body: Result<Json<MovePartition>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(request) = body.map_err(|error| refuse(ErrorCode::InvalidRequest, error.body_text()))?;
    let id = find_partition(&gateway, &topic, partition)?;
    let record = gateway.placement.move_partition(id, &request).await.map_err(from_api)?;
    let leader = record.open().and_then(|open| gateway.map.node(open.leader().node)).map(|node| node.name);
    let epoch = record.epoch.0;
    gateway.map.learn(record);
    Ok(Json(json!({ "topic": topic, "partition": partition, "leader": leader, "epoch": epoch })))
}

/// Makes everything below an offset unreadable.
pub async fn trim(
    State(gateway): State<Arc<Gateway>>,
    Path((topic, partition)): Path<(String, i32)>,
    body: Result<Json<TrimPartition>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(request) = body.map_err(|error| refuse(ErrorCode::InvalidRequest, error.body_text()))?;
    let id = find_partition(&gateway, &topic, partition)?;
    let found = find(&gateway, &topic)?;
    let start = topics::trim(&gateway, &found, id, Some(request.before)).await?;
    Ok(Json(json!({ "topic": topic, "partition": partition, "log_start_offset": start })))
}

/// Tells what of a partition no copy is left of; with the `version` that was told with it: and goes on without it.
pub async fn accept_loss(
    State(gateway): State<Arc<Gateway>>,
    Path((topic, partition)): Path<(String, i32)>,
    body: Result<Json<AcceptLoss>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(request) = body.map_err(|error| refuse(ErrorCode::InvalidRequest, error.body_text()))?;
    let id = find_partition(&gateway, &topic, partition)?;
    let losses = gateway.placement.accept_loss(id, &request).await.map_err(from_api)?;
    let Losses { lost, version, next_offset } = losses;
    Ok(Json(json!({
        "topic": topic, "partition": partition, "lost": lost, "version": version, "next_offset": next_offset,
    })))
}

fn find_partition(gateway: &Gateway, topic: &str, partition: i32) -> Result<TopicPartition, Problem> {
    let found = find(gateway, topic)?;
    if !(0..found.partitions).contains(&partition) {
        let message = format!("topic `{topic}` has partitions 0 to {}", found.partitions - 1);
        return Err(refuse(ErrorCode::UnknownPartition, message).into());
    }
    Ok(TopicPartition { topic: found.id, partition })
}
