//! `/v1/groups`: list, describe with lag, set offsets, delete.

use std::sync::Arc;

use axum::extract::Path;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use policies::vocabulary::{ALTER_GROUP, DELETE_GROUP, DESCRIBE_CLUSTER, DESCRIBE_GROUP, DESCRIBE_TOPIC, READ_DATA};
use serde::Deserialize;
use serde_json::{Value, json};
use service::clock;
use types::{ErrorCode, TopicPartition};
use wire::groups::{
    CommitOffsets, CommittedOffset, DescribedMember, GroupReply, GroupRequest, MemberName, assigned_partitions,
};

use super::problem::Problem;
use crate::caller::Caller;
use crate::error::refuse;
use crate::fetch::{first_since, latest};
use crate::groups::{self, ask, unexpected};
use crate::lag::{self, Lag};
use crate::quota::stock::check_group;

pub async fn list(Extension(caller): Extension<Arc<Caller>>) -> Result<Json<Value>, Problem> {
    let mut groups = groups::list(&caller).await?;
    let sees_all = caller.sees(DESCRIBE_CLUSTER, "");
    groups.retain(|listed| sees_all || caller.sees(DESCRIBE_GROUP, &listed.group));
    let group = |listed: &wire::groups::Listed| json!({ "group": listed.group, "state": listed.state, "protocol_type": listed.protocol_type });
    Ok(Json(json!({ "groups": groups.iter().map(group).collect::<Vec<_>>() })))
}

pub async fn describe(
    Extension(caller): Extension<Arc<Caller>>,
    Path(group): Path<String>,
) -> Result<Json<Value>, Problem> {
    caller.group(DESCRIBE_GROUP, &group)?;
    let described = match ask(&caller, GroupRequest::Describe { group: group.clone() }).await? {
        GroupReply::Described { described } => described,
        GroupReply::Refused { code: ErrorCode::GroupNotFound } => {
            return Err(refuse(ErrorCode::GroupNotFound, format!("there is no group `{group}`")).into());
        }
        other => return Err(unexpected(&other).into()),
    };
    let mut lags = lag::of_group(&caller, &group).await?;
    lags.retain(|lag| caller.sees(DESCRIBE_TOPIC, &lag.topic.name));
    Ok(Json(json!({
        "group": group,
        "state": described.state,
        "protocol_type": described.protocol_type,
        "protocol": described.protocol,
        "members": described.members.iter().map(member).collect::<Vec<_>>(),
        "offsets": lags.iter().map(offset).collect::<Vec<_>>(),
        "lag_records": lags.iter().filter_map(|lag| lag.records).fold(0_i64, i64::saturating_add),
        // Unknown if that of any partition is.
        "lag_ms": lags.iter().map(|lag| lag.ms).try_fold(0, |most, ms| Some(ms?.max(most))),
    })))
}

fn member(member: &DescribedMember) -> Value {
    let assigned = assigned_partitions(&member.assignment).unwrap_or_default();
    let topic = |(topic, partitions): &(String, Vec<i32>)| json!({ "topic": topic, "partitions": partitions });
    json!({
        "member": member.name.member,
        "instance": member.name.instance,
        "client_id": member.client_id,
        "client_host": member.client_host,
        "assignment": assigned.iter().map(topic).collect::<Vec<_>>(),
    })
}

fn offset(lag: &Lag) -> Value {
    json!({
        "topic": lag.topic.name,
        "partition": lag.committed.partition.partition,
        "offset": lag.committed.offset,
        "end_offset": lag.end,
        "lag_records": lag.records,
        "lag_ms": lag.ms,
        "metadata": lag.committed.metadata,
        "committed_ms": lag.committed.at_ms,
    })
}

pub async fn delete(
    Extension(caller): Extension<Arc<Caller>>,
    Path(group): Path<String>,
) -> Result<StatusCode, Problem> {
    caller.group(DELETE_GROUP, &group)?;
    match ask(&caller, GroupRequest::Delete { group: group.clone() }).await? {
        GroupReply::Done {} => Ok(StatusCode::NO_CONTENT),
        GroupReply::Refused { code } => Err(refuse(code, why(code, &group)).into()),
        other => Err(unexpected(&other).into()),
    }
}

fn why(code: ErrorCode, group: &str) -> String {
    match code {
        ErrorCode::GroupNotFound => format!("there is no group `{group}`"),
        ErrorCode::GroupNotEmpty | ErrorCode::UnknownMember => {
            format!("group `{group}` has members: end them first, or they would be at odds with it")
        }
        _ => format!("the coordinator of group `{group}` refuses it"),
    }
}

/// Where a group is to go on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    topic: String,
    /// All partitions unless given.
    #[serde(default)]
    partitions: Option<Vec<i32>>,
    /// `earliest`, `latest`, an offset, or `@` and ms since 1970.
    to: String,
    /// Only tell.
    #[serde(default)]
    dry_run: bool,
}

pub async fn reset(
    Extension(caller): Extension<Arc<Caller>>,
    Path(group): Path<String>,
    body: Result<Json<Reset>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(reset) = body.map_err(|error| refuse(ErrorCode::InvalidRequest, error.body_text()))?;
    caller.group(ALTER_GROUP, &group)?;
    let topic = caller.topic(READ_DATA, &reset.topic)?;
    let partitions = reset.partitions.unwrap_or_else(|| (0..topic.partitions).collect());
    let mut offsets = Vec::with_capacity(partitions.len());
    for partition in partitions {
        if !(0..topic.partitions).contains(&partition) {
            let message = format!("topic `{}` has partitions 0 to {}", topic.name, topic.partitions - 1);
            return Err(refuse(ErrorCode::UnknownPartition, message).into());
        }
        let id = TopicPartition { topic: topic.id, partition };
        offsets.push(CommittedOffset {
            partition: id,
            offset: place(&caller, id, &reset.to).await?,
            leader_epoch: -1,
            metadata: String::new(),
            at_ms: clock::wall_ms(),
        });
    }
    let shown: Vec<Value> = offsets
        .iter()
        .map(|offset| json!({ "topic": topic.name, "partition": offset.partition.partition, "offset": offset.offset }))
        .collect();
    if !reset.dry_run {
        check_group(&caller, &group).await?;
        let name = MemberName::default();
        let commit = CommitOffsets { group: group.clone(), name, generation: -1, offsets };
        match ask(&caller, GroupRequest::Commit { commit: Box::new(commit) }).await? {
            GroupReply::Done {} => {}
            GroupReply::Refused { code: code @ ErrorCode::UnknownMember } => {
                return Err(refuse(ErrorCode::GroupNotEmpty, why(code, &group)).into());
            }
            other => return Err(unexpected(&other).into()),
        }
    }
    Ok(Json(json!({ "group": group, "offsets": shown })))
}

/// An offset between the log's ends.
async fn place(caller: &Arc<Caller>, id: TopicPartition, to: &str) -> Result<i64, Problem> {
    let ends = latest(caller, id).await?;
    let since = to.strip_prefix('@').map(str::parse::<i64>);
    let offset = match (to, since) {
        ("earliest", _) => ends.log_start,
        ("latest", _) => ends.high_watermark,
        (_, Some(Ok(since_ms))) => first_since(caller, id, since_ms).await?.map_or(ends.high_watermark, |f| f.offset),
        _ => match to.parse::<i64>() {
            Ok(offset) => offset.clamp(ends.log_start, ends.high_watermark),
            Err(_) => {
                let message = format!("`{to}` is not earliest, latest, an offset, or @ and ms since 1970");
                return Err(refuse(ErrorCode::InvalidRequest, message).into());
            }
        },
    };
    Ok(offset)
}
