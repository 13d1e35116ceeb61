//! Topics, the same for both fronts: what may be configured, creation, change, deletion.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use service::api::{AlterTopic, ApiError, CreateTopic, DeleteTopic};
use types::limits::{BATCH_BYTES_DEFAULT, BATCH_BYTES_MAX, BATCH_HEADER_BYTES};
use types::{ErrorCode, TopicRecord};

use crate::Gateway;

/// Replication factor of topics that ask for none.
pub const REPLICATION_FACTOR: i16 = 2;

/// How long a topic that somebody else created may take to be in this gateway's map.
const MAP_WAIT: Duration = Duration::from_secs(5);

/// Topic configs that are known; those without effect yet are stored and shown.
const KNOWN_CONFIGS: &[&str] = &[
    "cleanup.policy",
    "compression.type",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "index.interval.bytes",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.difference.max.ms",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "min.insync.replicas",
    "preallocate",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
];

/// Checks configs and creates a topic; this gateway knows it on return.
pub async fn create(
    gateway: &Arc<Gateway>,
    name: &str,
    partitions: i32,
    replication_factor: i16,
    configs: BTreeMap<String, String>,
    is_dry_run: bool,
) -> Result<TopicRecord, ApiError> {
    configs.iter().try_for_each(|(name, value)| check_config(name, value))?;
    let request = CreateTopic {
        account: gateway.tenant.account,
        cluster: gateway.tenant.cluster,
        name: name.to_owned(),
        partitions,
        replication_factor,
        configs,
        is_dry_run,
    };
    let topic = gateway.placement.create_topic(&request).await?;
    if !is_dry_run {
        gateway.map.learn_topic(topic.clone());
    }
    Ok(topic)
}

fn invalid(message: String) -> Result<(), ApiError> {
    Err(ApiError::new(ErrorCode::InvalidConfig, message))
}

fn check_name(name: &str) -> Result<(), ApiError> {
    if KNOWN_CONFIGS.contains(&name) { Ok(()) } else { invalid(format!("topic config `{name}` is not known")) }
}

fn check_config(name: &str, value: &str) -> Result<(), ApiError> {
    check_name(name)?;
    match name {
        "max.message.bytes" => match value.parse::<usize>() {
            Ok(bytes) if (BATCH_HEADER_BYTES..=BATCH_BYTES_MAX).contains(&bytes) => Ok(()),
            _ => invalid(format!("max.message.bytes = `{value}` is not {BATCH_HEADER_BYTES} to {BATCH_BYTES_MAX}")),
        },
        "message.timestamp.type" if !matches!(value, "CreateTime" | "LogAppendTime") => {
            invalid(format!("message.timestamp.type = `{value}` is not CreateTime or LogAppendTime"))
        }
        _ => Ok(()),
    }
}

/// The topic of a name; created with one partition if there is none. Somebody else may create it meanwhile.
pub async fn ensure(gateway: &Arc<Gateway>, name: &str) -> Result<Arc<TopicRecord>, ApiError> {
    let mut changes = gateway.map.changes();
    let deadline = tokio::time::Instant::now() + MAP_WAIT;
    loop {
        changes.mark_unchanged();
        if let Some(topic) = gateway.map.topic(gateway.tenant, name) {
            return Ok(topic);
        }
        match create(gateway, name, 1, REPLICATION_FACTOR, BTreeMap::new(), false).await {
            // The map will say so in a moment.
            Err(error) if error.code == ErrorCode::TopicExists => {
                tokio::time::timeout_at(deadline, changes.changed()).await.map_err(|_| error)?.ok();
            }
            created => return created.map(Arc::new),
        }
    }
}

/// Checks and makes changes; this gateway knows them on return. `None` takes a config away.
pub async fn alter(
    gateway: &Arc<Gateway>,
    topic: &TopicRecord,
    configs: BTreeMap<String, Option<String>>,
    partitions: Option<i32>,
) -> Result<TopicRecord, ApiError> {
    for (name, value) in &configs {
        match value {
            Some(value) => check_config(name, value)?,
            None => check_name(name)?,
        }
    }
    let request = AlterTopic {
        account: gateway.tenant.account,
        cluster: gateway.tenant.cluster,
        topic: topic.id,
        configs,
        partitions,
    };
    let topic = gateway.placement.alter_topic(&request).await?;
    gateway.map.learn_topic(topic.clone());
    Ok(topic)
}

/// Deletes a topic; this gateway has forgotten it on return.
pub async fn delete(gateway: &Arc<Gateway>, topic: &TopicRecord) -> Result<(), ApiError> {
    let request = DeleteTopic { account: gateway.tenant.account, cluster: gateway.tenant.cluster, topic: topic.id };
    match gateway.placement.delete_topic(&request).await {
        Ok(_) => {
            gateway.map.forget_topic(topic.id);
            Ok(())
        }
        Err(error) => {
            if error.code == ErrorCode::UnknownTopic {
                gateway.map.forget_topic(topic.id);
            }
            Err(error)
        }
    }
}

/// A topic's `max.message.bytes`.
pub fn bytes_max(topic: &TopicRecord) -> usize {
    topic.configs.get("max.message.bytes").and_then(|v| v.parse().ok()).unwrap_or(BATCH_BYTES_DEFAULT)
}

/// Whether a topic has `message.timestamp.type=LogAppendTime`.
pub fn is_log_append_time(topic: &TopicRecord) -> bool {
    topic.configs.get("message.timestamp.type").is_some_and(|v| v == "LogAppendTime")
}
