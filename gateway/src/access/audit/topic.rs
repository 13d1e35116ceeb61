//! Audit events as records of the topic `audit` of each account's reserved cluster: read there like any topic, written by gateways alone.
//!
//! Cluster and topic are made at the first event. Who waits for the log is this task; when more comes than it takes, that is dropped and
//! counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use service::api::CreateTopic;
use service::drain::Drain;
use service::identities::{ChangeIdentity, IdentityChange};
use tokio::sync::mpsc;
use types::{AccountId, ErrorCode, PrincipalId, Protocol, RESERVED_CLUSTER, TopicPartition};
use wire::Batch;
use wire::compression::Codec;
use wire::records::{BatchBuilder, NewRecord};

use super::{Event, shown};
use crate::Gateway;
use crate::access::change;
use crate::access::known::Known;
use crate::lane::{self, NewAppend};
use crate::tenant::Tenant;

/// What the topic is called.
const TOPIC: &str = "audit";
/// Events that wait to be written.
pub const QUEUE_MAX: usize = 65_536;
/// Events of one batch: some hundred KiB.
const BATCH_MAX: usize = 256;
/// What comes within this time is written together.
const GATHER: Duration = Duration::from_millis(500);
/// How long an event is kept.
const RETENTION: (&str, &str) = ("retention.ms", "604800000");
/// How long this gateway waits to hear of a topic that another one made.
const HEAR_WAIT: Duration = Duration::from_secs(5);
/// Where a cluster is whose account has no other.
const REGION: &str = "us-east-1";

/// Writes events until the drain begins.
pub async fn publish(gateway: Arc<Gateway>, mut events: mpsc::Receiver<Event>, mut drain: Drain) {
    let mut some = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = drain.begun() => return,
            count = events.recv_many(&mut some, QUEUE_MAX) => if count == 0 { return },
        }
        tokio::time::sleep(GATHER).await;
        while some.len() < QUEUE_MAX
            && let Ok(event) = events.try_recv()
        {
            some.push(event);
        }
        let mut by_account: BTreeMap<AccountId, Vec<Event>> = BTreeMap::new();
        for event in some.drain(..) {
            by_account.entry(event.account.unwrap_or(gateway.tenant.account)).or_default().push(event);
        }
        let mut writing = tokio::task::JoinSet::new();
        for (account, events) in by_account {
            let gateway = Arc::clone(&gateway);
            writing.spawn(async move {
                let count = events.len();
                if let Err(why) = write(&gateway, account, events).await {
                    tracing::warn!(account = account.digits(), count, why, "audit events are missing in their topic");
                    gateway.access.audit.count_dropped(count);
                }
            });
        }
        writing.join_all().await;
    }
}

async fn write(gateway: &Arc<Gateway>, account: AccountId, events: Vec<Event>) -> Result<(), String> {
    let tenant = cluster(gateway, account).await?;
    let topic = topic(gateway, tenant).await?;
    let mut waiting = Vec::new();
    let mut events = events.into_iter().peekable();
    while events.peek().is_some() {
        let batch = batch(events.by_ref().take(BATCH_MAX), gateway.id)?;
        let (principal, protocol) = (PrincipalId(0), Protocol::Kafka);
        let new = NewAppend { tenant, batch, principal, protocol, log_append_time: false };
        waiting.push(lane::append(gateway, topic, new));
    }
    for answer in waiting {
        answer.await.map_err(|error| error.to_string())?.map_err(|refusal| refusal.message)?;
    }
    Ok(())
}

fn batch(events: impl Iterator<Item = Event>, gateway: i32) -> Result<Batch, String> {
    let mut builder = BatchBuilder::new();
    for event in events {
        let at_ms = event.at_ms;
        let text = shown(event, gateway).to_string();
        builder.push(NewRecord { key: None, value: Some(text.as_bytes()), timestamp: at_ms, headers: &[] });
    }
    builder.finish(Codec::None).map_err(|error| error.to_string())
}

/// The reserved cluster of an account; made if there is none.
async fn cluster(gateway: &Arc<Gateway>, account: AccountId) -> Result<Tenant, String> {
    let find = |known: &Known| known.cluster(account, RESERVED_CLUSTER).map(|cluster| cluster.tenant());
    if let Some(tenant) = find(&gateway.access.known()) {
        return Ok(tenant);
    }
    let mut seen = gateway.access.changes();
    let region = gateway.access.known().clusters_of(account).map(|cluster| cluster.record.region.clone()).next();
    let region = region.unwrap_or_else(|| REGION.to_owned());
    let create = IdentityChange::CreateCluster { name: RESERVED_CLUSTER.to_owned(), uuid: None, region };
    let made = change(gateway, &ChangeIdentity { account, change: create }).await;
    // Another gateway may have been the first.
    if let Err(error) = made.as_ref()
        && error.code != ErrorCode::AlreadyExists
    {
        return Err(error.message.clone());
    }
    let heard = seen.wait_for(|_| find(&gateway.access.known()).is_some());
    let _ = tokio::time::timeout(HEAR_WAIT, heard).await;
    find(&gateway.access.known()).ok_or_else(|| "its cluster is not known here".to_owned())
}

async fn topic(gateway: &Arc<Gateway>, tenant: Tenant) -> Result<TopicPartition, String> {
    let find = || gateway.map.topic(tenant, TOPIC).map(|topic| TopicPartition { topic: topic.id, partition: 0 });
    let mut changes = gateway.map.changes();
    if let Some(topic) = find() {
        return Ok(topic);
    }
    let request = CreateTopic {
        account: tenant.account,
        cluster: tenant.cluster,
        name: TOPIC.to_owned(),
        partitions: 1,
        replication_factor: 3,
        configs: BTreeMap::from([(RETENTION.0.to_owned(), RETENTION.1.to_owned())]),
        is_dry_run: false,
    };
    match gateway.placement.create_topic(&request).await {
        Ok(topic) => gateway.map.learn_topic(topic),
        Err(error) if error.code == ErrorCode::TopicExists => {}
        Err(error) => return Err(error.message),
    }
    let heard = async { while find().is_none() && changes.changed().await.is_ok() {} };
    let _ = tokio::time::timeout(HEAR_WAIT, heard).await;
    find().ok_or_else(|| "its topic is not known here".to_owned())
}
