//! The shell of `cores::retention` and `cores::expiry`: moves log starts by compare-and-swap, asks members how old and how
//! large segments are, and has segments sealed that have been open for long enough.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cores::Rules;
use cores::expiry::{Known, Retention, Step, lacks_times, next, stamp};
use cores::repair::{Health, View};
use service::api::ApiError;
use service::clock;
use service::drain::Drain;
use types::limits::INTERNAL_PREFIX;
use types::{Offset, PartitionRecord, SegmentRecord, TopicId, TopicPartition, TopicRecord};
use wire::Batch;
use wire::frame::{FetchReply, FetchRequest, Frame};

use crate::records::{TOPICS, json, parse, partition_key};
use crate::store::{Outcome, StoreError, Transaction};
use crate::{Placement, failover, records, repair};

const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What one look may take, ask and change; the next one goes on where it ended.
const LOOK_MAX: Duration = Duration::from_secs(5);
const QUESTIONS_MAX: usize = 2_000;
const CHANGES_MAX: usize = 500;
/// Questions about one partition in one look.
const PARTITION_QUESTIONS_MAX: usize = 200;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
const ROLL_REST_MS: u64 = 20_000;

/// Makes everything below `before` unreadable; the record as it is then. An offset that is not above the log start changes
/// nothing.
pub(crate) async fn trim(
    placement: &Placement,
    id: TopicPartition,
    before: Offset,
) -> Result<PartitionRecord, ApiError> {
    loop {
        let (record, revision) = records::partition(&*placement.store, id).await?;
        let Some(after) = cores::retention::trim(&record, before, Rules::ALL) else { return Ok(record) };
        // Another change came first: look again.
        if records::swap_partition(&*placement.store, id, Some(revision), &after).await {
            return Ok(after);
        }
    }
}

/// Lets go of what is too old or too much, until the drain begins; of several placement processes one does.
pub(crate) async fn run(placement: Arc<Placement>, mut drain: Drain) {
    let mut seen = Seen::default();
    let mut last = None;
    let mut was_resting = false;
    loop {
        tokio::select! {
            biased;
            () = drain.begun() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        // A process that has just begun has not heard of everybody.
        if !placement.turn.is_mine() || placement.members.is_young() {
            continue;
        }
        let is_resting = placement.members.agreed().is_none();
        if std::mem::replace(&mut was_resting, is_resting) != is_resting {
            let text = match is_resting {
                true => "retention rests: too few storage nodes have about the time that this machine has",
                false => "retention goes on",
            };
            placement.events.note(text.to_owned());
        }
        match look(&placement, &mut seen, last).await {
            Ok(ended) => last = ended,
            Err(error) => tracing::debug!(%error, "retention cannot look around"),
        }
    }
}

/// Goes through the partitions behind `last`; the last one that was looked at, if it did not come to the end.
async fn look(
    placement: &Arc<Placement>,
    seen: &mut Seen,
    last: Option<TopicPartition>,
) -> Result<Option<TopicPartition>, StoreError> {
    let retentions = retentions(placement).await?;
    let (_, partitions) = placement.index.read(&*placement.store).await?;
    let view = repair::view(placement, &partitions).await?;
    let listed: BTreeSet<_> =
        partitions.values().flat_map(|record| &record.chain).map(|segment| segment.nonce).collect();
    let Seen { known, resting } = seen;
    known.retain(&listed);
    resting.retain(|_, until| *until > clock::monotonic_ms());
    let mut look = Look { placement, known, resting, view, began: Instant::now(), questions: 0, changes: 0 };
    for (id, record) in partitions.range((last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)) {
        let Some(retention) = retentions.get(&record.topic) else { continue };
        if let Err(error) = look.partition(record, *retention).await {
            tracing::debug!(%error, partition = %id, "retention did not come about");
        }
        if look.is_over() {
            return Ok(Some(*id));
        }
    }
    Ok(None)
}

fn retention(topic: &TopicRecord) -> Retention {
    if topic.name.starts_with(INTERNAL_PREFIX) { Retention::OWN } else { Retention::of(&topic.configs) }
}

async fn retentions(placement: &Placement) -> Result<HashMap<TopicId, Retention>, StoreError> {
    let (_, rows) = placement.store.range(TOPICS).await?;
    let topics = rows.iter().map(|(_, entry)| parse::<TopicRecord>(entry));
    topics.map(|topic| topic.map(|topic| (topic.id, retention(&topic)))).collect()
}

/// What is known from one look to the next.
#[derive(Debug, Default)]
struct Seen {
    known: Known,
    /// Partitions whose segment could not be sealed rest until then.
    resting: BTreeMap<TopicPartition, u64>,
}

struct Look<'a> {
    placement: &'a Arc<Placement>,
    known: &'a mut Known,
    resting: &'a mut BTreeMap<TopicPartition, u64>,
    view: View,
    began: Instant,
    questions: usize,
    changes: usize,
}

impl Look<'_> {
    fn is_over(&self) -> bool {
        let is_enough = self.questions >= QUESTIONS_MAX || self.changes >= CHANGES_MAX;
        is_enough || self.began.elapsed() >= LOOK_MAX || !self.placement.turn.is_mine()
    }

    async fn partition(&mut self, record: &PartitionRecord, retention: Retention) -> Result<(), ApiError> {
        let placement = self.placement;
        let Some(agreed) = placement.members.agreed() else { return Ok(()) };
        // A failover that has fenced its members must not lose its swap.
        if placement.failovers.is_running(record.id()) {
            return Ok(());
        }
        // A copy is made for the record as it is. It is not asked for anew for a time or a new segment; but what may go goes:
        // a repair may be waiting for that room, and one segment follows the other.
        let is_repaired = placement.repairs.is_running(record.id()).0;
        if !is_repaired && lacks_times(record, agreed.latest_ms) {
            self.changes += 1;
            return self.stamp(record.id(), agreed.latest_ms).await;
        }
        for _ in 0..PARTITION_QUESTIONS_MAX {
            if self.is_over() {
                return Ok(());
            }
            match next(record, retention, self.known, agreed.earliest_ms) {
                Step::Rest => return Ok(()),
                Step::IsAnyAsNewAs(segment, since_ms) => match self.ask(record, segment, Some(since_ms)).await {
                    Some(reply) => self.known.dated(segment, since_ms, newest(reply)),
                    None => self.known.silent(segment),
                },
                Step::HowLarge(segment) => match self.ask(record, segment, None).await {
                    Some(reply) => {
                        self.known.sized(segment, reply.stored_bytes, reply.visible, agreed.earliest_ms);
                    }
                    None => self.known.silent(segment),
                },
                Step::Trim(_) => {
                    self.changes += 1;
                    return self.expire(record.id()).await;
                }
                Step::Roll(_) if is_repaired => return Ok(()),
                Step::Roll(nonce) => {
                    let is_well = |segment: &SegmentRecord| {
                        segment.replicas.iter().all(|replica| self.view.health(nonce, *replica) == Health::Intact)
                    };
                    let is_resting = self.resting.contains_key(&record.id());
                    if !is_resting && record.open().is_some_and(is_well) && self.are_reached(record) {
                        self.changes += 1;
                        if let Err(error) = failover::roll(placement, record.id(), nonce).await {
                            self.resting.insert(record.id(), clock::monotonic_ms() + ROLL_REST_MS);
                            return Err(error);
                        }
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// There is a connection to both members of the open segment: sealing it takes both their answers at once.
    fn are_reached(&self, record: &PartitionRecord) -> bool {
        let pool = self.placement.failovers.pool();
        let is_reached =
            |node: types::NodeId| self.view.nodes.get(&node).is_some_and(|n| pool.is_connected(&n.address));
        record.open().is_some_and(|open| open.replicas.iter().all(|replica| is_reached(replica.node)))
    }

    /// What may go by what the records say now: those that were looked at may be older than somebody's change of a config.
    /// Nothing goes if either changes meanwhile.
    async fn expire(&self, id: TopicPartition) -> Result<(), ApiError> {
        let store = &*self.placement.store;
        let topic_key = format!("{TOPICS}{}", id.topic);
        let Some(entry) = store.get(&topic_key).await? else { return Ok(()) };
        let retention = retention(&parse::<TopicRecord>(&entry)?);
        let (record, revision) = records::partition(store, id).await?;
        let Some(agreed) = self.placement.members.agreed() else { return Ok(()) };
        let Step::Trim(before) = next(&record, retention, self.known, agreed.earliest_ms) else { return Ok(()) };
        let Some(after) = cores::retention::trim(&record, before, Rules::ALL) else { return Ok(()) };
        let transaction = Transaction {
            compares: vec![(topic_key, entry.revision), (partition_key(id), revision)],
            puts: vec![(partition_key(id), json(&after))],
            ..Transaction::default()
        };
        if let Outcome::Committed { .. } = store.transact(transaction).await? {
            tracing::info!(partition = %id, log_start = after.log_start, "what was too old or too much is gone");
        }
        Ok(())
    }

    /// Notes times where none are known: in records of before there were any, or of a time when none was agreed upon.
    async fn stamp(&self, id: TopicPartition, now_ms: i64) -> Result<(), ApiError> {
        let (mut record, revision) = records::partition(&*self.placement.store, id).await?;
        stamp(&mut record, now_ms);
        record.version += 1;
        records::swap_partition(&*self.placement.store, id, Some(revision), &record).await;
        Ok(())
    }

    /// The size of a segment, or its first batch that is no older than `since_ms`; `None` if no member answers.
    async fn ask(
        &mut self,
        record: &PartitionRecord,
        segment: &SegmentRecord,
        since_ms: Option<i64>,
    ) -> Option<FetchReply> {
        let request = FetchRequest {
            account: record.account,
            segment: segment.id(record.id()),
            sealed_end: segment.end,
            offset: segment.base,
            since_ms,
            bytes_max: u32::from(since_ms.is_some()),
            wait_ms: 0,
        };
        let members = if segment.end.is_some() { &segment.replicas[..] } else { &segment.replicas[..1] };
        let pool = self.placement.failovers.pool();
        for member in members {
            let address = self.view.nodes.get(&member.node).map(|node| node.address.clone());
            let Some(address) = address.filter(|address| !pool.is_lost(address)) else { continue };
            self.questions += 1;
            let answer = failover::ask(pool, Some(address), &Frame::Fetch(request), ANSWER_TIMEOUT).await;
            // One that has not heard of the seal yet may not show all that is below it, or cannot say how large that is.
            let knows = |reply: &FetchReply| {
                let is_sized = since_ms.is_some() || reply.stored_bytes > 0;
                segment.end.is_none_or(|end| reply.visible >= end && (is_sized || end == segment.base))
            };
            if let Some(Frame::Fetched(Ok(reply))) = answer
                && knows(&reply)
            {
                return Some(reply);
            }
        }
        None
    }
}

/// The time of a batch that is new enough, if there is one. What cannot be understood is kept.
fn newest(reply: FetchReply) -> Option<i64> {
    let mut batches = reply.batches;
    let is_any = !batches.is_empty();
    is_any.then(|| Batch::take_from_run(&mut batches).map_or(i64::MAX, |batch| batch.header().max_timestamp))
}
