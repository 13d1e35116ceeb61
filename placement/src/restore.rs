//! Metadata made anew: from a backup and what the storage nodes hold, or from the nodes alone (`docs/adr/0012-rebuild.md`).
//!
//! Runs while no placement does, into an empty store. Every storage node is fenced for a new generation before it is
//! believed, so that whatever still works for the old store can change nothing more; then `cores::rebuild` concludes what
//! each partition is. What a backup knows and no node holds (names, configs, numbers that were given out) is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cores::Rules;
use cores::rebuild::{Disk, Hole, Rebuilt, rebuild};
use serde::de::DeserializeOwned;
use service::api::{BACKUP_FORMAT, Backup, LogStarts};
use service::clock;
use service::nodes::NodePool;
use service::trust::{Trust, TrustFiles};
use types::limits::HEARTBEAT_MS;
use types::{
    AccountId, ClusterId, Gap, Generation, NodeId, NodeRecord, Offset, PartitionRecord, TopicId, TopicPartition,
    TopicRecord,
};
use wire::frame::Frame;
use wire::inventory::{Inventory, InventoryRequest};

use crate::records::{self, DefaultCluster, GATEWAYS, NODES, PARTITIONS, TOPICS, json, name_key, partition_key};
use crate::store::{MetadataStore, Outcome, RedbStore, Transaction};
use crate::{StoreAt, open};

/// A page of a node with many partitions waits for fences of all of them.
const ANSWER: Duration = Duration::from_secs(30);
/// Two heartbeats, and a little: a placement that was heard of within this may be there.
const HEARD: Duration = Duration::from_millis(2 * HEARTBEAT_MS + HEARTBEAT_MS / 2);
/// Keys of one transaction.
const KEYS: usize = 100;
/// Producer ids of a generation begin here, times the generation: none is given twice, whatever a backup knows.
const PRODUCERS_SHIFT: u32 = 40;
/// Node ids go on so far above the highest known: of nodes that did not answer nobody may know.
const NODES_STEP: i64 = 1_000;

/// What to restore from, and how far to go.
#[derive(Debug)]
pub struct Plan {
    pub store: StoreAt,
    /// `None`: from the nodes alone.
    pub backup: Option<Backup>,
    /// `host:port` of storage nodes, beside those that the backup knows.
    pub nodes: Vec<String>,
    /// Names of storage nodes that are gone for good.
    pub without: Vec<String>,
    /// Go on although offsets are on no node that answered: they become gaps.
    pub accepts_loss: bool,
    /// Only look: no node is fenced, nothing is written.
    pub is_dry_run: bool,
    /// For TLS with storage nodes.
    pub trust: Option<TrustFiles>,
}

/// What was restored.
#[derive(Debug, Default, serde::Serialize)]
pub struct Restored {
    pub generation: Generation,
    pub nodes: usize,
    pub topics: usize,
    pub partitions: usize,
    pub segments: usize,
    /// Topics whose names nobody knows: they are called by their ids.
    pub unnamed: usize,
    /// Partitions that differ from the backup.
    pub changed: usize,
    /// `topic/partition: from`, of segments of which no storage node that answered has an intact copy: they are offline.
    pub absent: Vec<String>,
    /// `topic/partition: from to`, of offsets that are on no node that answered.
    pub holes: Vec<String>,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

fn refuse<T>(message: impl Into<String>) -> Result<T, RestoreError> {
    Err(RestoreError::Refused(message.into()))
}

/// Everything that one node said.
struct Stock {
    address: String,
    name: String,
    az: String,
    cluster: ClusterId,
    disk: types::Replica,
    pages: Vec<Inventory>,
}

/// What is known from a backup, taken apart.
#[derive(Default)]
struct Known {
    topics: BTreeMap<TopicId, TopicRecord>,
    partitions: BTreeMap<TopicPartition, PartitionRecord>,
    nodes: Vec<NodeRecord>,
    numbers: BTreeMap<String, i64>,
    cluster: Option<DefaultCluster>,
    /// As they are.
    others: Vec<(String, Vec<u8>)>,
}

impl Known {
    fn of(backup: &Backup) -> Result<Self, RestoreError> {
        if backup.format > BACKUP_FORMAT {
            return refuse(format!("the backup has format {}, which a newer release reads", backup.format));
        }
        if !backup.is_intact() {
            return refuse("the backup is damaged: its checksum is not that of its entries");
        }
        let mut known = Self::default();
        for (key, value) in &backup.entries {
            fn parse<T: DeserializeOwned>(key: &str, value: &serde_json::Value) -> Result<T, RestoreError> {
                T::deserialize(value).or_else(|error| refuse(format!("`{key}` in the backup: {error}")))
            }
            if key.starts_with(TOPICS) {
                let topic: TopicRecord = parse(key, value)?;
                known.topics.insert(topic.id, topic);
            } else if key.starts_with(PARTITIONS) {
                let partition: PartitionRecord = parse(key, value)?;
                known.partitions.insert(partition.id(), partition);
            } else if key.starts_with(NODES) {
                known.nodes.push(parse(key, value)?);
            } else if let Some(what) = key.strip_prefix("next/") {
                known.numbers.insert(what.to_owned(), parse(key, value)?);
            } else if key == records::CLUSTER {
                known.cluster = Some(parse(key, value)?);
            } else if key.starts_with(GATEWAYS) || key.starts_with("gateway-at/") {
                known.others.push((key.clone(), json(value)));
            }
            // Names follow from topics, the generation is a new one.
        }
        Ok(known)
    }
}

/// Restores; `progress` is told what happens.
///
/// # Errors
/// If a node that may hold something does not answer, what they hold contradicts itself or is not all there, or the
/// store is not empty. Nothing is written then, though nodes may be fenced: a second attempt takes a higher generation.
pub async fn run(plan: Plan, progress: impl Fn(&str)) -> Result<Restored, RestoreError> {
    let known = plan.backup.as_ref().map_or_else(|| Ok(Known::default()), Known::of)?;
    // A file of its own is made once there is something to write to it: a refusal leaves nothing behind.
    let mut store = match &plan.store {
        _ if plan.is_dry_run => None,
        StoreAt::Redb(dir) if !RedbStore::is_in(dir) => None,
        at => Some(open_empty(at).await?),
    };
    let trust = plan.trust.as_ref().map(|files| Trust::open(files, &[])).transpose().map_err(RestoreError::Refused)?;
    let pool = NodePool::new(trust);
    let addresses = addresses(&plan, &known);
    if addresses.is_empty() {
        return refuse("no storage node is known: name them with --node HOST:PORT");
    }
    progress("asking storage nodes what they hold");
    let mut looked = take_all(&pool, &addresses, None, &plan.without, &known).await?;
    let began = Instant::now();
    while let Some(stock) = looked.iter().find(|stock| hears_placement(stock)).filter(|_| !plan.is_dry_run) {
        if began.elapsed() > 2 * HEARD {
            return refuse(format!(
                "storage node `{}` hears a placement: end all placement processes first, or what they do is lost",
                stock.name
            ));
        }
        progress("waiting until no storage node hears a placement");
        tokio::time::sleep(Duration::from_secs(1)).await;
        looked = take_all(&pool, &addresses, None, &plan.without, &known).await?;
    }
    // Whatever speaks against it is found before anybody is fenced.
    let cluster = cluster_of(&known, &looked)?;
    let pages = || looked.iter().flat_map(|stock| &stock.pages);
    let floors = pages().flat_map(|page| &page.partitions).map(|held| held.generation);
    let noted = pages().map(|page| page.generation);
    let highest = floors.chain(noted).chain(plan.backup.as_ref().map(|backup| backup.generation)).max();
    let generation = Generation(highest.unwrap_or(Generation(1)).0.max(1) + 1);
    rebuild_all(&known, &looked, generation, &plan, &mut Restored::default())?;
    warn_of_others(&known, &looked, &plan, &progress);
    let stocks = match plan.is_dry_run {
        true => looked,
        false => {
            progress(&format!("fencing them for generation {}", generation.0));
            take_all(&pool, &addresses, Some(generation), &plan.without, &known).await?
        }
    };
    let mut restored = Restored { generation, nodes: stocks.len(), ..Restored::default() };
    let mut partitions = rebuild_all(&known, &stocks, generation, &plan, &mut restored)?;
    let topics = topics_of(&known, &stocks, &partitions, &plan, &progress, &mut restored);
    partitions.retain(|id, _| topics.contains_key(&id.topic));
    restored.partitions = topics.values().map(|topic| topic.partitions as usize).sum();
    restored.segments = partitions.values().map(|record| record.chain.len()).sum();
    let puts = keys(&known, &stocks, cluster, generation, &topics, partitions);
    restored.topics = topics.len();
    if !plan.is_dry_run {
        progress("writing the new metadata");
        let store = match store.take() {
            Some(store) => store,
            None => open_empty(&plan.store).await?,
        };
        write(&*store, puts).await?;
    }
    Ok(restored)
}

/// Segments name the nodes that they were opened on: of those that nobody asked it cannot be known what they have.
fn warn_of_others(known: &Known, stocks: &[Stock], plan: &Plan, progress: &impl Fn(&str)) {
    let segments = stocks.iter().flat_map(|stock| &stock.pages).flat_map(|page| &page.partitions);
    let named = segments.flat_map(|held| &held.segments).flat_map(|held| [held.leader.node, held.follower.node]);
    let is_asked = |id: &NodeId| stocks.iter().any(|stock| stock.disk.node == *id);
    let is_given_up = |id: &NodeId| known.nodes.iter().any(|node| node.id == *id && plan.without.contains(&node.name));
    let others: BTreeSet<NodeId> = named.filter(|id| id.0 > 0 && !is_asked(id) && !is_given_up(id)).collect();
    if !others.is_empty() {
        let ids: Vec<String> = others.iter().map(|id| id.to_string()).collect();
        progress(&format!(
            "segments name storage nodes {} too, which were not asked: name them with --node unless they are gone for good",
            ids.join(", ")
        ));
    }
}

async fn open_empty(at: &StoreAt) -> Result<Arc<dyn MetadataStore>, RestoreError> {
    let store = open(at).await?;
    let (_, rows) = store.range("").await?;
    match rows.first() {
        Some((key, _)) => refuse(format!("the store is not empty (it has `{key}`): name one that is")),
        None => Ok(store),
    }
}

/// Lately: it may be there still.
fn hears_placement(stock: &Stock) -> bool {
    stock.pages.iter().any(|page| page.placement_heard_ms < HEARD.as_millis() as u64)
}

fn addresses(plan: &Plan, known: &Known) -> Vec<String> {
    let is_meant = |node: &&NodeRecord| !plan.without.contains(&node.name);
    let listed = known.nodes.iter().filter(is_meant).map(|node| node.address.clone());
    let all: BTreeSet<String> = listed.chain(plan.nodes.iter().cloned()).collect();
    all.into_iter().collect()
}

async fn take_all(
    pool: &NodePool,
    addresses: &[String],
    fence: Option<Generation>,
    without: &[String],
    known: &Known,
) -> Result<Vec<Stock>, RestoreError> {
    let mut stocks = Vec::new();
    for address in addresses {
        let stock = take(pool, address, fence).await?;
        if !without.contains(&stock.name) {
            stocks.push(stock);
        }
    }
    // Of a node that is not asked nobody knows what it has: that must be said by name.
    let is_here = |node: &&NodeRecord| {
        stocks
            .iter()
            .any(|stock| stock.disk.node == node.id || (stock.name == node.name && stock.address == node.address))
    };
    let missing: Vec<&str> = known.nodes.iter().filter(|node| !is_here(node)).map(|node| node.name.as_str()).collect();
    let missing: Vec<&str> = missing.into_iter().filter(|name| !without.iter().any(|other| other == name)).collect();
    match missing.is_empty() {
        true => Ok(stocks),
        false => {
            refuse(format!("the backup knows of `{}` too: --node HOST:PORT, or --without NAME", missing.join("`, `")))
        }
    }
}

async fn take(pool: &NodePool, address: &str, fence: Option<Generation>) -> Result<Stock, RestoreError> {
    let no_answer = || RestoreError::Refused(format!("the storage node at `{address}` does not answer"));
    let client = pool.get(address).await.map_err(|_| no_answer())?;
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let ask = Frame::Inventory(InventoryRequest { fence, after });
        let page = match client.ask(&ask, ANSWER).await {
            Some(Frame::Inventoried(Ok(page))) => *page,
            Some(Frame::Inventoried(Err(why))) => return refuse(format!("`{address}`: {}", why.message)),
            _ => return Err(no_answer()),
        };
        after = page.partitions.last().map(|held| held.partition).or(after);
        let has_more = page.has_more;
        pages.push(page);
        if !has_more {
            break;
        }
    }
    let Some(first) = pages.first() else { return Err(no_answer()) };
    let (name, az, cluster, disk) = (first.name.clone(), first.az.clone(), first.cluster, first.me);
    Ok(Stock { address: address.to_owned(), name, az, cluster, disk, pages })
}

fn cluster_of(known: &Known, stocks: &[Stock]) -> Result<DefaultCluster, RestoreError> {
    let cluster = known.cluster.map(|known| known.cluster).or_else(|| stocks.first().map(|stock| stock.cluster));
    let Some(cluster) = cluster else { return refuse("no storage node answered") };
    match stocks.iter().find(|stock| stock.cluster != cluster) {
        Some(other) => refuse(format!("`{}` belongs to another cluster, {}", other.name, other.cluster)),
        None => Ok(known.cluster.unwrap_or(DefaultCluster { account: AccountId(0), cluster })),
    }
}

fn rebuild_all(
    known: &Known,
    stocks: &[Stock],
    generation: Generation,
    plan: &Plan,
    restored: &mut Restored,
) -> Result<BTreeMap<TopicPartition, PartitionRecord>, RestoreError> {
    let mut disks: BTreeMap<TopicPartition, Vec<Disk>> = BTreeMap::new();
    let mut ids: BTreeSet<TopicPartition> = known.partitions.keys().copied().collect();
    for stock in stocks {
        for held in stock.pages.iter().flat_map(|page| &page.partitions) {
            ids.insert(held.partition);
        }
    }
    for stock in stocks {
        let mut held: BTreeMap<TopicPartition, _> = BTreeMap::new();
        held.extend(stock.pages.iter().flat_map(|page| &page.partitions).map(|held| (held.partition, held.clone())));
        for id in &ids {
            // That a node has nothing of a partition is an answer, too.
            let nothing = || wire::inventory::HeldPartition {
                partition: *id,
                generation,
                epoch: types::Epoch(0),
                segments: Vec::new(),
            };
            let held = held.remove(id).unwrap_or_else(nothing);
            disks.entry(*id).or_default().push(Disk { replica: stock.disk, az: stock.az.clone(), held });
        }
    }
    let starts = log_starts(stocks);
    let mut partitions = BTreeMap::new();
    for (id, disks) in disks {
        let before = known.partitions.get(&id);
        let rebuilt = match rebuild(id, before, &disks, generation, Rules::ALL) {
            // The backup is of a store that was given up since, and says nothing.
            Err(_) if before.is_some() => rebuild(id, None, &disks, generation, Rules::ALL),
            rebuilt => rebuilt,
        };
        match rebuilt {
            Ok(None) => {}
            Ok(Some(mut rebuilt)) => {
                if let Some(start) = starts.get(&id) {
                    begin_at(&mut rebuilt, *start);
                }
                let Rebuilt { mut record, holes, absent } = rebuilt;
                restored.absent.extend(absent.iter().map(|hole| format!("{id}: from {}", hole.from)));
                restored.holes.extend(holes.iter().map(|hole| format!("{id}: {} to {}", hole.from, hole.to)));
                record.gaps.extend(holes.into_iter().map(|Hole { from, to }| Gap {
                    from,
                    to,
                    accepted_ms: clock::wall_ms(),
                }));
                record.gaps.sort_by_key(|gap| gap.from);
                restored.changed += usize::from(before.is_some_and(|before| before.chain != record.chain));
                partitions.insert(id, record);
            }
            Err(why) => return refuse(format!("partition {id}: {why}")),
        }
    }
    if !restored.holes.is_empty() && !plan.accepts_loss && !plan.is_dry_run {
        let holes = restored.holes.join("; ");
        return refuse(format!("on no storage node that answered: {holes} (--accept-loss goes on without them)"));
    }
    if !restored.absent.is_empty() && !plan.accepts_loss && !plan.is_dry_run {
        let absent = restored.absent.join("; ");
        return refuse(format!(
            "no storage node that answered has an intact copy of: {absent} (--accept-loss restores them as offline)"
        ));
    }
    Ok(partitions)
}

/// Where logs begin by what any node noted.
fn log_starts(stocks: &[Stock]) -> BTreeMap<TopicPartition, Offset> {
    let mut all = BTreeMap::new();
    for text in stocks.iter().flat_map(|stock| &stock.pages).flat_map(|page| &page.topics) {
        let noted: LogStarts = serde_json::from_str(text).unwrap_or_default();
        for (id, start) in noted.log_starts {
            all.entry(id).and_modify(|known: &mut Offset| *known = start.max(*known)).or_insert(start);
        }
    }
    all
}

/// What was given up is no loss.
fn begin_at(rebuilt: &mut Rebuilt, start: Offset) {
    if let Some(after) = cores::retention::trim(&rebuilt.record, start, Rules::ALL) {
        rebuilt.record = after;
    }
    let (start, chain) = (rebuilt.record.log_start, &rebuilt.record.chain);
    for holes in [&mut rebuilt.holes, &mut rebuilt.absent] {
        // What is still in the record is on its disks, or lost.
        holes.retain(|hole| hole.to > start || chain.iter().any(|segment| segment.base == hole.from));
        holes.iter_mut().filter(|hole| hole.to > start).for_each(|hole| hole.from = hole.from.max(start));
    }
}

/// The topics of all partitions, by the newest record of each.
fn topics_of(
    known: &Known,
    stocks: &[Stock],
    partitions: &BTreeMap<TopicPartition, PartitionRecord>,
    plan: &Plan,
    progress: &impl Fn(&str),
    restored: &mut Restored,
) -> BTreeMap<TopicId, TopicRecord> {
    let mut topics = known.topics.clone();
    for text in stocks.iter().flat_map(|stock| &stock.pages).flat_map(|page| &page.topics) {
        let Ok(topic) = serde_json::from_str::<TopicRecord>(text) else { continue };
        let is_newer = topics.get(&topic.id).is_none_or(|known| known.version < topic.version);
        if is_newer {
            topics.insert(topic.id, topic);
        }
    }
    for record in partitions.values() {
        topics.entry(record.topic).or_insert_with(|| {
            restored.unnamed += 1;
            progress(&format!(
                "nobody knows the name of topic {0}: it is called `recovered-{0}`, with retention.ms=-1",
                record.topic
            ));
            TopicRecord {
                account: record.account,
                cluster: record.cluster,
                name: format!("recovered-{}", record.topic),
                id: record.topic,
                partitions: 0,
                replication_factor: 2,
                // Its configs are lost: nothing is let go of by a default.
                configs: BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]),
                version: 1,
            }
        });
    }
    let held: BTreeSet<TopicId> = stocks
        .iter()
        .flat_map(|stock| &stock.pages)
        .flat_map(|page| &page.partitions)
        .map(|held| held.partition.topic)
        .collect();
    topics.retain(|id, topic| {
        let has_records = known.partitions.values().any(|record| record.topic == *id && !record.chain.is_empty());
        // All nodes answered, and none has anything of what the backup lists.
        let is_deleted = has_records && !held.contains(id) && plan.without.is_empty();
        if is_deleted {
            progress(&format!(
                "topic `{}` was deleted since the backup: no storage node has anything of it",
                topic.name
            ));
        }
        !is_deleted
    });
    for topic in topics.values_mut() {
        let ids = partitions.keys().filter(|partition| partition.topic == topic.id);
        topic.partitions = ids.map(|id| id.partition + 1).max().unwrap_or(0).max(topic.partitions);
    }
    topics
}

fn keys(
    known: &Known,
    stocks: &[Stock],
    cluster: DefaultCluster,
    generation: Generation,
    topics: &BTreeMap<TopicId, TopicRecord>,
    mut partitions: BTreeMap<TopicPartition, PartitionRecord>,
) -> Vec<(String, Vec<u8>)> {
    let mut puts = known.others.clone();
    for topic in topics.values() {
        puts.push((format!("{TOPICS}{}", topic.id), json(topic)));
        puts.push((name_key(topic.account, topic.cluster, &topic.name), json(&topic.id)));
        for (key, empty) in records::new_partitions(topic, 0, generation) {
            let id = records::partition_of(&key).unwrap_or(TopicPartition { topic: topic.id, partition: 0 });
            puts.push((partition_key(id), partitions.remove(&id).map_or(empty, |record| json(&record))));
        }
    }
    for stock in stocks {
        let before = known.nodes.iter().find(|node| node.id == stock.disk.node);
        let record = NodeRecord {
            id: stock.disk.node,
            name: stock.name.clone(),
            az: stock.az.clone(),
            address: stock.address.clone(),
            incarnation: stock.disk.incarnation,
            registration: before.map_or(1, |node| node.registration),
            is_draining: before.is_some_and(|node| node.is_draining),
            frames: before.map_or(0, |node| node.frames),
        };
        puts.push((format!("{NODES}{}", record.id), json(&record)));
    }
    let nodes = stocks.iter().map(|stock| stock.disk.node).chain(known.nodes.iter().map(|node| node.id));
    let mut numbers = known.numbers.clone();
    let mut raise = |what: &str, to: i64| {
        let number = numbers.entry(what.to_owned()).or_insert(1);
        *number = (*number).max(to);
    };
    raise("node", i64::from(nodes.map(|node| node.0).max().unwrap_or(0)) + NODES_STEP);
    raise("producer", i64::from(generation.0) << PRODUCERS_SHIFT);
    puts.extend(numbers.into_iter().map(|(what, number)| (format!("next/{what}"), json(&number))));
    puts.push((records::GENERATION.to_owned(), json(&generation)));
    // Last: a store without it is not whole.
    puts.push((records::CLUSTER.to_owned(), json(&cluster)));
    puts
}

async fn write(store: &dyn MetadataStore, puts: Vec<(String, Vec<u8>)>) -> Result<(), RestoreError> {
    let mut left = puts.into_iter().peekable();
    while left.peek().is_some() {
        let puts: Vec<(String, Vec<u8>)> = left.by_ref().take(KEYS).collect();
        let compares = puts.iter().map(|(key, _)| (key.clone(), 0)).collect();
        let transaction = Transaction { compares, puts, ..Transaction::default() };
        if store.transact(transaction).await? == Outcome::Conflict {
            return refuse("the store changed meanwhile: no placement may run on it");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use types::{Epoch, Incarnation, Nonce, Replica, SegmentRecord};

    use super::*;

    /// Segments of ten offsets from `first` on, the last one open.
    fn rebuilt(first: u32, count: u32) -> Rebuilt {
        let replica = Replica { node: NodeId(1), incarnation: Incarnation(1) };
        let segment = |number: u32| SegmentRecord {
            generation: Generation(1),
            epoch: Epoch(number as i32 + 1),
            nonce: Nonce(number.into()),
            base: 10 * Offset::from(number),
            end: (number + 1 < first + count).then_some(10 * Offset::from(number + 1)),
            replicas: [replica, replica],
            changed_ms: None,
        };
        let record = PartitionRecord {
            account: AccountId(0),
            cluster: ClusterId(0),
            topic: TopicId(1),
            partition: 0,
            generation: Generation(2),
            epoch: Epoch(9),
            version: 3,
            log_start: 0,
            gaps: Vec::new(),
            chain: (first..first + count).map(segment).collect(),
        };
        Rebuilt { record, holes: Vec::new(), absent: Vec::new() }
    }

    #[test]
    fn what_was_given_up_is_no_loss_and_all_else_is() {
        let hole = |from, to| Hole { from, to };
        // A backup of before: the nodes have let go of the first two.
        let mut there = Rebuilt { absent: vec![hole(0, 10), hole(10, 20), hole(20, 30)], ..rebuilt(0, 5) };
        begin_at(&mut there, 25);
        assert_eq!((there.record.log_start, there.record.chain[0].base), (25, 20));
        assert_eq!(there.absent, [hole(25, 30)], "the third has something that was not given up");
        // From the nodes alone.
        let mut alone = Rebuilt { holes: vec![hole(0, 30), hole(50, 60)], ..rebuilt(3, 2) };
        begin_at(&mut alone, 30);
        assert_eq!((alone.record.log_start, alone.holes), (30, vec![hole(50, 60)]));
        // The open one is named where it begins, and is lost if it is nowhere.
        let mut open = Rebuilt { absent: vec![hole(0, 10), hole(10, 10)], ..rebuilt(0, 2) };
        begin_at(&mut open, 15);
        assert_eq!(open.record.log_start, 15);
        assert_eq!(open.absent, [hole(0, 10), hole(10, 10)], "and so is the last sealed one, which stays on disk");
    }
}
