//! Audit events as records of the topic `audit` of each account's reserved cluster: read there like any topic, written by gateways alone.
//!
//! Cluster and topic are made at the first event. Who waits for the log is a task per account; when more comes than it takes, that is
//! dropped and counted.

use std::collections::{BTreeMap, HashMap};
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

/// Events of one account that wait, and how long whoever writes them waits for more before it ends.
const ACCOUNT_QUEUE_MAX: usize = 4_096;
const IDLE: Duration = Duration::from_secs(60);
/// Once the drain has begun what is there is written within this time.
const LAST_WRITE_MAX: Duration = Duration::from_millis(400);
/// How long a write may take, and how long the next waits after one that failed.
const WRITE_MAX: Duration = Duration::from_secs(60);
const REST: Duration = Duration::from_secs(2);

/// Hands events on to the writers of their accounts, until the drain begins: an account whose topic hangs holds up no other.
pub async fn publish(gateway: Arc<Gateway>, mut events: mpsc::Receiver<Event>, mut drain: Drain) {
    let mut writers: HashMap<AccountId, mpsc::Sender<Event>> = HashMap::new();
    loop {
        let event = tokio::select! {
            biased;
            () = drain.begun() => break,
            event = events.recv() => event,
        };
        let Some(event) = event else { break };
        hand_on(&gateway, &mut writers, event, &drain);
    }
    // What is there is still written: writers see the end of it, and the drain.
    events.close();
    while let Ok(event) = events.try_recv() {
        hand_on(&gateway, &mut writers, event, &drain);
    }
}

fn hand_on(gateway: &Arc<Gateway>, writers: &mut HashMap<AccountId, mpsc::Sender<Event>>, event: Event, drain: &Drain) {
    let own = event.account.unwrap_or(gateway.tenant.account);
    for account in [Some(own), event.owner.filter(|owner| *owner != own)].into_iter().flatten() {
        let is_there = writers.get(&account).is_some_and(|writer| !writer.is_closed());
        if !is_there {
            writers.retain(|_, writer| !writer.is_closed());
            let (writer, events) = mpsc::channel(ACCOUNT_QUEUE_MAX);
            tokio::spawn(write_all(Arc::clone(gateway), account, events, drain.clone()));
            writers.insert(account, writer);
        }
        if writers.get(&account).is_none_or(|writer| writer.try_send(event.clone()).is_err()) {
            gateway.access.audit.count_dropped(1);
        }
    }
}

/// Writes the events of one account. What could not be written is tried again; what there is no room for meanwhile is dropped.
async fn write_all(gateway: Arc<Gateway>, account: AccountId, mut events: mpsc::Receiver<Event>, mut drain: Drain) {
    let mut some = Vec::new();
    loop {
        if some.is_empty() {
            match tokio::time::timeout(IDLE, events.recv_many(&mut some, ACCOUNT_QUEUE_MAX)).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(_) => {
                    events.close();
                    // What came in between is written; then it ends.
                    if events.recv_many(&mut some, ACCOUNT_QUEUE_MAX).await == 0 {
                        return;
                    }
                }
            }
        }
        let _ = tokio::time::timeout(GATHER, drain.begun()).await;
        while some.len() < ACCOUNT_QUEUE_MAX
            && let Ok(event) = events.try_recv()
        {
            some.push(event);
        }
        let is_last = drain.has_begun();
        let within = if is_last { LAST_WRITE_MAX } else { WRITE_MAX };
        let why = match tokio::time::timeout(within, write(&gateway, account, &mut some)).await {
            Ok(Ok(())) => continue,
            Ok(Err(why)) => why,
            Err(_) => "it takes too long".to_owned(),
        };
        tracing::warn!(account = account.digits(), count = some.len(), why, "audit events are not in their topic yet");
        if is_last {
            gateway.access.audit.count_dropped(some.len());
            return;
        }
        let _ = tokio::time::timeout(REST, drain.begun()).await;
    }
}

/// Takes away what was written; an answer that does not come may leave some there twice.
async fn write(gateway: &Arc<Gateway>, account: AccountId, events: &mut Vec<Event>) -> Result<(), String> {
    let tenant = cluster(gateway, account).await?;
    let topic = topic(gateway, tenant).await?;
    while !events.is_empty() {
        let count = events.len().min(BATCH_MAX);
        let batch = batch(events[..count].iter().cloned(), gateway.id)?;
        let (principal, protocol) = (PrincipalId(0), Protocol::Kafka);
        let new = NewAppend { tenant, batch, principal, protocol, log_append_time: false };
        let answer = lane::append(gateway, topic, new).await.map_err(|error| error.to_string())?;
        answer.map_err(|refusal| refusal.message)?;
        events.drain(..count);
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
