//! `/v1/status`, `/v1/nodes`, and moves of partitions: for operators. Placement does the work.

use std::sync::Arc;

use axum::extract::Path;
use axum::extract::rejection::JsonRejection;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use policies::vocabulary::{DELETE_TOPIC, DESCRIBE_SERVICE, OPERATE_SERVICE};
use serde_json::{Value, json};
use service::api::{AcceptLoss, DrainNode, Losses, MovePartition, Status, TrimPartition};
use service::health;
use types::{ErrorCode, TopicPartition, TopicRecord};

use super::problem::Problem;
use crate::caller::Caller;
use crate::error::{from_api, refuse};
use crate::topics;

pub async fn status(Extension(caller): Extension<Arc<Caller>>) -> Result<Json<Value>, Problem> {
    caller.service(DESCRIBE_SERVICE)?;
    let status = caller.gateway.placement.status().await.map_err(from_api)?;
    Ok(Json(named(&caller, &status)))
}

/// Counts all tenants together.
pub async fn metrics(Extension(caller): Extension<Arc<Caller>>) -> Result<impl IntoResponse, Problem> {
    caller.service(DESCRIBE_SERVICE)?;
    Ok(health::page(&caller.gateway.health))
}

/// The status with the names of topics and nodes instead of their ids.
fn named(caller: &Caller, status: &Status) -> Value {
    let topics = caller.gateway.map.all_topics(caller.tenant);
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

pub async fn drain(
    Extension(caller): Extension<Arc<Caller>>,
    Path(node): Path<String>,
) -> Result<Json<Value>, Problem> {
    set_drain(&caller, node, true).await
}

pub async fn undrain(
    Extension(caller): Extension<Arc<Caller>>,
    Path(node): Path<String>,
) -> Result<Json<Value>, Problem> {
    set_drain(&caller, node, false).await
}

async fn set_drain(caller: &Caller, node: String, is_draining: bool) -> Result<Json<Value>, Problem> {
    caller.service(OPERATE_SERVICE)?;
    let request = DrainNode { node: node.clone(), is_draining };
    caller.gateway.placement.drain_node(&request).await.map_err(from_api)?;
    Ok(Json(json!({ "node": node, "draining": is_draining })))
}

pub async fn move_partition(
    Extension(caller): Extension<Arc<Caller>>,
    Path((topic, partition)): Path<(String, i32)>,
    body: Result<Json<MovePartition>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(request) = body.map_err(|error| refuse(ErrorCode::InvalidRequest, error.body_text()))?;
    caller.service(OPERATE_SERVICE)?;
    let id = find_partition(&*caller.find(&topic)?, partition)?;
    let record = caller.gateway.placement.move_partition(id, &request).await.map_err(from_api)?;
    let leader = record.open().and_then(|open| caller.gateway.map.node(open.leader().node)).map(|node| node.name);
    let epoch = record.epoch.0;
    caller.gateway.map.learn(record);
    Ok(Json(json!({ "topic": topic, "partition": partition, "leader": leader, "epoch": epoch })))
}

/// Makes everything below an offset unreadable.
pub async fn trim(
    Extension(caller): Extension<Arc<Caller>>,
    Path((topic, partition)): Path<(String, i32)>,
    body: Result<Json<TrimPartition>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(request) = body.map_err(|error| refuse(ErrorCode::InvalidRequest, error.body_text()))?;
    let found = caller.topic(DELETE_TOPIC, &topic)?;
    let id = find_partition(&found, partition)?;
    let start = topics::trim(&caller, &found, id, Some(request.before)).await?;
    Ok(Json(json!({ "topic": topic, "partition": partition, "log_start_offset": start })))
}

/// Tells what of a partition no copy is left of; with the `version` that was told with it: and goes on without it.
pub async fn accept_loss(
    Extension(caller): Extension<Arc<Caller>>,
    Path((topic, partition)): Path<(String, i32)>,
    body: Result<Json<AcceptLoss>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(request) = body.map_err(|error| refuse(ErrorCode::InvalidRequest, error.body_text()))?;
    caller.service(OPERATE_SERVICE)?;
    let id = find_partition(&*caller.find(&topic)?, partition)?;
    let losses = caller.gateway.placement.accept_loss(id, &request).await.map_err(from_api)?;
    let Losses { lost, version, next_offset } = losses;
    Ok(Json(json!({
        "topic": topic, "partition": partition, "lost": lost, "version": version, "next_offset": next_offset,
    })))
}

fn find_partition(topic: &TopicRecord, partition: i32) -> Result<TopicPartition, Problem> {
    if !(0..topic.partitions).contains(&partition) {
        let message = format!("topic `{}` has partitions 0 to {}", topic.name, topic.partitions - 1);
        return Err(refuse(ErrorCode::UnknownPartition, message).into());
    }
    Ok(TopicPartition { topic: topic.id, partition })
}
