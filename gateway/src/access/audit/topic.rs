//! Audit events as records of the topic `audit` of each account's reserved cluster: read there like any topic, written by gateways alone.
//!
//! Cluster and topic are made at the first event. Who waits for the log is this task; when more comes than it takes, that is dropped and
//! counted.

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
/// After a failure what comes within this time is not tried: it is dropped.
const REST: Duration = Duration::from_secs(5);

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

/// Writes the events of one account.
async fn write_all(gateway: Arc<Gateway>, account: AccountId, mut events: mpsc::Receiver<Event>, mut drain: Drain) {
    let mut some = Vec::new();
    let mut rests_until = None;
    loop {
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
        let _ = tokio::time::timeout(GATHER, drain.begun()).await;
        while some.len() < ACCOUNT_QUEUE_MAX
            && let Ok(event) = events.try_recv()
        {
            some.push(event);
        }
        if rests_until.is_some_and(|until| tokio::time::Instant::now() < until) {
            gateway.access.audit.count_dropped(some.len());
            some.clear();
            continue;
        }
        let count = some.len();
        let writing = write(&gateway, account, std::mem::take(&mut some));
        let written = match drain.has_begun() {
            true => tokio::time::timeout(LAST_WRITE_MAX, writing).await.unwrap_or(Err((count, "it ends".to_owned()))),
            false => writing.await,
        };
        rests_until = written.as_ref().is_err().then(|| tokio::time::Instant::now() + REST);
        if let Err((count, why)) = written {
            tracing::warn!(account = account.digits(), count, why, "audit events are missing in their topic");
            gateway.access.audit.count_dropped(count);
        }
    }
}

/// How many were not written, and why.
type Missing = (usize, String);

async fn write(gateway: &Arc<Gateway>, account: AccountId, events: Vec<Event>) -> Result<(), Missing> {
    let all = events.len();
    let tenant = cluster(gateway, account).await.map_err(|why| (all, why))?;
    let topic = topic(gateway, tenant).await.map_err(|why| (all, why))?;
    let mut waiting = Vec::new();
    for events in events.chunks(BATCH_MAX) {
        let batch = batch(events.iter().cloned(), gateway.id).map_err(|why| (all, why))?;
        let (principal, protocol) = (PrincipalId(0), Protocol::Kafka);
        let new = NewAppend { tenant, batch, principal, protocol, log_append_time: false };
        waiting.push((events.len(), lane::append(gateway, topic, new)));
    }
    let mut missing = Ok(());
    for (count, answer) in waiting {
        let answer = answer.await.map_err(|error| error.to_string()).and_then(|answer| answer.map_err(|r| r.message));
        if let Err(why) = answer {
            let before = missing.err().map_or(0, |(before, _)| before);
            missing = Err((before + count, why));
        }
    }
    missing
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
