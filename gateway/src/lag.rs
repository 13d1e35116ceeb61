//! How far behind a group is: in records, and in time.

use std::sync::Arc;

use service::clock;
use tokio::sync::Semaphore;
use types::limits::UNPACKED_BYTES_MAX;
use types::{Offset, TopicPartition, TopicRecord};
use wire::Batch;
use wire::frame::Refusal;
use wire::groups::{CommittedOffset, GroupReply, GroupRequest};
use wire::records::records;

use crate::caller::Caller;
use crate::fetch::{earliest, fetch, latest};
use crate::groups::{ask, unexpected};

/// Partitions that are asked after at a time.
const AT_ONCE: usize = 32;

/// One partition that a group has committed.
#[derive(Debug, Clone)]
pub struct Lag {
    pub topic: Arc<TopicRecord>,
    pub committed: CommittedOffset,
    /// `None` where its leader did not answer.
    pub end: Option<Offset>,
    pub records: Option<Offset>,
    /// How old the first record is that the group has not read, in ms; 0 where it has read all. Where nothing of what it has
    /// not read is there any more: since its commit.
    pub ms: Option<i64>,
}

/// What a group has committed, and how far behind that is, by topic and partition.
pub async fn of_group(caller: &Arc<Caller>, group: &str) -> Result<Vec<Lag>, Refusal> {
    let offsets = match ask(caller, GroupRequest::Offsets { group: group.to_owned() }).await? {
        GroupReply::Offsets { offsets } => offsets,
        other => return Err(unexpected(&other)),
    };
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut asking = tokio::task::JoinSet::new();
    for committed in offsets {
        // Of topics that are gone there is nothing to read.
        let Some(topic) = caller.gateway.map.topic_by_id(caller.tenant, committed.partition.topic) else { continue };
        let (caller, permits) = (Arc::clone(caller), Arc::clone(&permits));
        asking.spawn(async move {
            let _permit = permits.acquire().await;
            of_partition(&caller, topic, committed).await
        });
    }
    let mut lags = asking.join_all().await;
    lags.sort_by(|a, b| {
        (&a.topic.name, a.committed.partition.partition).cmp(&(&b.topic.name, b.committed.partition.partition))
    });
    Ok(lags)
}

async fn of_partition(caller: &Arc<Caller>, topic: Arc<TopicRecord>, committed: CommittedOffset) -> Lag {
    let id = committed.partition;
    let end = latest(caller, id).await.ok().map(|latest| latest.high_watermark);
    let records = end.map(|end| end.saturating_sub(committed.offset).max(0));
    // What is gone by retention counts: whoever lost it is behind.
    let ms = match records {
        Some(0) => Some(0),
        Some(_) => {
            let time = match earliest(caller, id).await.ok().map(|(earliest, _)| earliest.max(committed.offset)) {
                Some(from) if end.is_some_and(|end| from >= end) => Some(committed.at_ms),
                Some(from) => first_time(caller, id, from).await,
                None => None,
            };
            time.map(|time| clock::wall_ms().saturating_sub(time).max(0))
        }
        None => None,
    };
    Lag { topic, committed, end, records, ms }
}

/// The time of the first record at or above an offset.
async fn first_time(caller: &Arc<Caller>, id: TopicPartition, offset: Offset) -> Option<i64> {
    let mut batches = fetch(caller, id, offset, 1, 0).await.ok()?.batches;
    let batch = Batch::split_from(&mut batches).ok()?;
    let mut records = records(&batch, UNPACKED_BYTES_MAX).into_iter().flatten().map_while(Result::ok);
    let found = records.find(|record| record.offset >= offset).map(|record| record.timestamp);
    Some(found.unwrap_or(batch.header().max_timestamp))
}
