//! Topics, the same for both fronts: what may be configured, creation, change, deletion.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use service::api::{AlterTopic, ApiError, CreateTopic, DeleteTopic, TrimPartition};
use types::limits::{COORDINATOR_LOGS, INTERNAL_PREFIX};
use types::{ErrorCode, Flow, Offset, TopicPartition, TopicRecord};
use wire::frame::Refusal;

use crate::caller::Caller;
use crate::configs as known;
use crate::error::{from_api, refuse, to_api};
use crate::fetch::latest;
use crate::quota::stock::{check_changes, check_partitions};

/// Replication factor of topics that ask for none.
pub const REPLICATION_FACTOR: i16 = 2;

/// The topic of the coordinator logs of a cluster.
pub const COORDINATOR_TOPIC: &str = "__weir_coordinator";

/// How long a topic that somebody else created may take to be in this gateway's map.
const MAP_WAIT: Duration = Duration::from_secs(5);

/// Checks configs and creates a topic; this gateway knows it on return.
pub async fn create(
    caller: &Arc<Caller>,
    name: &str,
    partitions: i32,
    replication_factor: i16,
    configs: BTreeMap<String, String>,
    is_dry_run: bool,
) -> Result<TopicRecord, ApiError> {
    if is_internal(name) {
        let message = format!("names that begin with `{INTERNAL_PREFIX}` are Weir's own");
        return Err(ApiError::new(ErrorCode::InvalidTopicName, message));
    }
    configs.iter().try_for_each(|(name, value)| known::check(name, value))?;
    let more = u64::try_from(partitions).unwrap_or(0);
    let _pending = check_partitions(caller, more).map_err(to_api)?;
    if !is_dry_run {
        caller.toll.charge_quietly(Flow::PartitionChanges, more);
    }
    make(caller, name, partitions, replication_factor, configs, is_dry_run).await
}

/// Whether a topic is one of Weir's own.
pub fn is_internal(name: &str) -> bool {
    name.starts_with(INTERNAL_PREFIX)
}

async fn make(
    caller: &Arc<Caller>,
    name: &str,
    partitions: i32,
    replication_factor: i16,
    configs: BTreeMap<String, String>,
    is_dry_run: bool,
) -> Result<TopicRecord, ApiError> {
    let request = CreateTopic {
        account: caller.tenant.account,
        cluster: caller.tenant.cluster,
        name: name.to_owned(),
        partitions,
        replication_factor,
        configs,
        is_dry_run,
    };
    let topic = caller.gateway.placement.create_topic(&request).await?;
    if !is_dry_run {
        caller.gateway.map.learn_topic(topic.clone());
    }
    Ok(topic)
}

/// The topic of a name; created with one partition if there is none. Somebody else may create it meanwhile.
pub async fn ensure(caller: &Arc<Caller>, name: &str) -> Result<Arc<TopicRecord>, ApiError> {
    let mut changes = caller.gateway.map.changes();
    let deadline = tokio::time::Instant::now() + MAP_WAIT;
    loop {
        changes.mark_unchanged();
        if let Some(topic) = caller.gateway.map.topic(caller.tenant, name) {
            return Ok(topic);
        }
        match create(caller, name, 1, REPLICATION_FACTOR, BTreeMap::new(), false).await {
            // The map will say so in a moment.
            Err(error) if error.code == ErrorCode::TopicExists => {
                tokio::time::timeout_at(deadline, changes.changed()).await.map_err(|_| error)?.ok();
            }
            created => return created.map(Arc::new),
        }
    }
}

/// The topic of the coordinator logs; made at its first use. Any gateway may be the first.
pub async fn coordinator_topic(caller: &Arc<Caller>) -> Result<Arc<TopicRecord>, ApiError> {
    let mut changes = caller.gateway.map.changes();
    let deadline = tokio::time::Instant::now() + MAP_WAIT;
    loop {
        changes.mark_unchanged();
        if let Some(topic) = caller.gateway.map.internal_topic(caller.tenant, COORDINATOR_TOPIC) {
            return Ok(topic);
        }
        let made = make(caller, COORDINATOR_TOPIC, COORDINATOR_LOGS, REPLICATION_FACTOR, BTreeMap::new(), false);
        match made.await {
            Err(error) if error.code == ErrorCode::TopicExists => {
                tokio::time::timeout_at(deadline, changes.changed()).await.map_err(|_| error)?.ok();
            }
            made => return made.map(Arc::new),
        }
    }
}

/// Checks and makes changes; this gateway knows them on return. `None` takes a config away.
pub async fn alter(
    caller: &Arc<Caller>,
    topic: &TopicRecord,
    configs: BTreeMap<String, Option<String>>,
    partitions: Option<i32>,
) -> Result<TopicRecord, ApiError> {
    for (name, value) in &configs {
        match value {
            Some(value) => known::check(name, value)?,
            None => drop(known::find(name)?),
        }
    }
    let more = partitions.map_or(0, |partitions| u64::try_from(partitions - topic.partitions).unwrap_or(0));
    let _pending = if more > 0 { Some(check_partitions(caller, more).map_err(to_api)?) } else { None };
    caller.toll.charge_quietly(Flow::PartitionChanges, more);
    let request = AlterTopic {
        account: caller.tenant.account,
        cluster: caller.tenant.cluster,
        topic: topic.id,
        configs,
        partitions,
    };
    let topic = caller.gateway.placement.alter_topic(&request).await?;
    caller.gateway.map.learn_topic(topic.clone());
    Ok(topic)
}

/// Deletes a topic; this gateway has forgotten it on return.
pub async fn delete(caller: &Arc<Caller>, topic: &TopicRecord) -> Result<(), ApiError> {
    check_changes(caller).map_err(to_api)?;
    caller.toll.charge_quietly(Flow::PartitionChanges, u64::from(topic.partitions.unsigned_abs()));
    let request = DeleteTopic { account: caller.tenant.account, cluster: caller.tenant.cluster, topic: topic.id };
    match caller.gateway.placement.delete_topic(&request).await {
        Ok(_) => {
            caller.gateway.map.forget_topic(topic.id);
            Ok(())
        }
        Err(error) => {
            if error.code == ErrorCode::UnknownTopic {
                caller.gateway.map.forget_topic(topic.id);
            }
            Err(error)
        }
    }
}

/// Makes all offsets of a partition below `before` unreadable, or all that can be read now; returns where it begins then.
/// This gateway knows it on return, the others within moments.
///
/// # Errors
/// `OffsetOutOfRange` where nothing is readable up to `before` yet.
pub async fn trim(
    caller: &Arc<Caller>,
    topic: &TopicRecord,
    id: TopicPartition,
    before: Option<Offset>,
) -> Result<Offset, Refusal> {
    if !(0..topic.partitions).contains(&id.partition) {
        return Err(refuse(ErrorCode::UnknownPartition, "the partition does not exist"));
    }
    let end = latest(caller, id).await?.high_watermark;
    let before = before.unwrap_or(end);
    if !(0..=end).contains(&before) {
        return Err(refuse(ErrorCode::OffsetOutOfRange, format!("offset {before} is not 0 to {end}")));
    }
    let record = caller.gateway.placement.trim(id, &TrimPartition { before }).await.map_err(from_api)?;
    let start = record.log_start;
    caller.gateway.map.learn(record);
    Ok(start)
}
