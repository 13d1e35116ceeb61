//! The keys of the store and what lies under them, as JSON.
//!
//! | key | value |
//! |---|---|
//! | `cluster` | account and cluster of the default tenant |
//! | `topic/{id}` | a topic |
//! | `name/{account}/{cluster}/{name}` | the id of the topic of that name |
//! | `partition/{topic}/{p}` | a partition |
//! | `node/{id}`, `gateway/{id}` | a member |
//! | `identity/…` | accounts, clusters, users, roles, access keys: `identities.rs` |
//! | `next/{what}` | the next number to give |
//! | `generation` | how often the metadata was restored, plus one; absent: 1 |

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use service::api::ApiError;
use service::random;
use types::limits::{INTERNAL_PREFIX, PARTITIONS_PER_TOPIC_MAX, PRODUCER_ID_BLOCK};
use types::{
    AccountId, ClusterId, Epoch, ErrorCode, Generation, PartitionRecord, TopicId, TopicPartition, TopicRecord,
    is_valid_topic_name,
};

use crate::store::{Entry, MetadataStore, Outcome, StoreError, Transaction};

pub const TOPICS: &str = "topic/";
pub const PARTITIONS: &str = "partition/";
pub const NODES: &str = "node/";
pub const GATEWAYS: &str = "gateway/";
pub const CLUSTER: &str = "cluster";
pub const GENERATION: &str = "generation";

/// The tenant that exists from the start.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct DefaultCluster {
    pub account: AccountId,
    pub cluster: ClusterId,
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::new(ErrorCode::PlacementUnavailable, error.to_string())
    }
}

pub fn parse<T: DeserializeOwned>(entry: &Entry) -> Result<T, StoreError> {
    serde_json::from_slice(&entry.value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

pub fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("records are plain data")
}

pub fn partition_key(id: TopicPartition) -> String {
    format!("{PARTITIONS}{id}")
}

/// The partition of a key.
pub fn partition_of(key: &str) -> Option<TopicPartition> {
    let (topic, partition) = key.strip_prefix(PARTITIONS)?.split_once('/')?;
    Some(TopicPartition { topic: topic.parse().ok()?, partition: partition.parse().ok()? })
}

pub fn name_key(account: AccountId, cluster: ClusterId, name: &str) -> String {
    format!("name/{}/{cluster}/{name}", account.digits())
}

pub async fn ensure_default_cluster(store: &dyn MetadataStore) -> Result<(), StoreError> {
    let cluster = DefaultCluster { account: AccountId(0), cluster: ClusterId(random::wide()) };
    let transaction = Transaction {
        compares: vec![(CLUSTER.into(), 0)],
        puts: vec![(CLUSTER.into(), json(&cluster))],
        ..Transaction::default()
    };
    // A conflict means that it is there already.
    store.transact(transaction).await.map(|_| ())
}

/// The generation of this metadata: it changes only while no placement runs.
pub async fn generation(store: &dyn MetadataStore) -> Result<Generation, StoreError> {
    let entry = store.get(GENERATION).await?;
    entry.as_ref().map_or(Ok(Generation(1)), parse)
}

pub async fn default_cluster(store: &dyn MetadataStore) -> Result<DefaultCluster, StoreError> {
    match store.get(CLUSTER).await? {
        Some(entry) => parse(&entry),
        None => Err(StoreError::Corrupt("no default cluster".into())),
    }
}

/// Whether a topic is one of Weir's own; one that is not there is none.
pub async fn is_internal(store: &dyn MetadataStore, id: TopicId) -> Result<bool, ApiError> {
    let Some(entry) = store.get(&format!("{TOPICS}{id}")).await? else { return Ok(false) };
    Ok(parse::<TopicRecord>(&entry)?.name.starts_with(INTERNAL_PREFIX))
}

/// A partition's record and its revision.
pub async fn partition(store: &dyn MetadataStore, id: TopicPartition) -> Result<(PartitionRecord, u64), ApiError> {
    match store.get(&partition_key(id)).await? {
        Some(entry) => Ok((parse(&entry)?, entry.revision)),
        None => Err(ApiError::new(ErrorCode::UnknownPartition, format!("partition {id} does not exist"))),
    }
}

/// Replaces a partition's record if it still is at `revision`; whether that came about. Without an answer it may have: the
/// next attempt reads the record again.
pub async fn swap_partition(
    store: &dyn MetadataStore,
    id: TopicPartition,
    revision: Option<u64>,
    record: &PartitionRecord,
) -> bool {
    let key = partition_key(id);
    let compares = revision.map(|revision| (key.clone(), revision)).into_iter().collect();
    let transaction = Transaction { compares, puts: vec![(key, json(record))], ..Transaction::default() };
    let outcome = store.transact(transaction).await;
    if let Err(error) = &outcome {
        tracing::error!(%error, "a compare-and-swap has no answer; its outcome is read by the next attempt");
    }
    matches!(outcome, Ok(Outcome::Committed { .. }))
}

/// The next `count` numbers of a kind, by compare-and-swap.
pub async fn take_numbers(store: &dyn MetadataStore, what: &str, count: i64) -> Result<i64, ApiError> {
    let key = format!("next/{what}");
    loop {
        let entry = store.get(&key).await?;
        let first: i64 = entry.as_ref().map(parse).transpose()?.unwrap_or(1);
        let transaction = Transaction {
            compares: vec![(key.clone(), entry.map_or(0, |entry| entry.revision))],
            puts: vec![(key.clone(), json(&(first + count)))],
            ..Transaction::default()
        };
        if let Outcome::Committed { .. } = store.transact(transaction).await? {
            return Ok(first);
        }
    }
}

pub async fn take_producer_ids(store: &dyn MetadataStore) -> Result<i64, ApiError> {
    take_numbers(store, "producer", PRODUCER_ID_BLOCK).await
}

/// Checks and creates a topic with its partitions, none of them open.
pub async fn create_topic(
    store: &dyn MetadataStore,
    request: service::api::CreateTopic,
) -> Result<TopicRecord, ApiError> {
    let refuse = |code, message: String| Err(ApiError::new(code, message));
    if !is_valid_topic_name(&request.name) {
        let message = format!("`{}` is no topic name: 1 to 249 of a-z, A-Z, 0-9, `.`, `_`, `-`", request.name);
        return refuse(ErrorCode::InvalidTopicName, message);
    }
    if !(1..=PARTITIONS_PER_TOPIC_MAX).contains(&request.partitions) {
        let message = format!("a topic has 1 to {PARTITIONS_PER_TOPIC_MAX} partitions, not {}", request.partitions);
        return refuse(ErrorCode::InvalidPartitions, message);
    }
    if !(1..=3).contains(&request.replication_factor) {
        let message = format!("replication factor {} is not 1 to 3", request.replication_factor);
        return refuse(ErrorCode::InvalidReplicationFactor, message);
    }
    let name = name_key(request.account, request.cluster, &request.name);
    if store.get(&name).await?.is_some() {
        return refuse(ErrorCode::TopicExists, format!("topic `{}` exists already", request.name));
    }
    let topic = TopicRecord {
        account: request.account,
        cluster: request.cluster,
        name: request.name,
        id: TopicId(random::wide()),
        partitions: request.partitions,
        replication_factor: request.replication_factor,
        configs: request.configs,
        version: 1,
    };
    if request.is_dry_run {
        return Ok(topic);
    }
    let mut puts = vec![(format!("{TOPICS}{}", topic.id), json(&topic)), (name.clone(), json(&topic.id))];
    puts.extend(new_partitions(&topic, 0, generation(store).await?));
    let transaction = Transaction { compares: vec![(name, 0)], puts, ..Transaction::default() };
    match store.transact(transaction).await? {
        Outcome::Committed { .. } => Ok(topic),
        Outcome::Conflict => refuse(ErrorCode::TopicExists, format!("topic `{}` exists already", topic.name)),
    }
}

/// Records of the partitions from `first` on, none of them open.
pub fn new_partitions(
    topic: &TopicRecord,
    first: i32,
    generation: Generation,
) -> impl Iterator<Item = (String, Vec<u8>)> {
    (first..topic.partitions).map(move |partition| {
        let record = PartitionRecord {
            account: topic.account,
            cluster: topic.cluster,
            topic: topic.id,
            partition,
            generation,
            epoch: Epoch(0),
            version: 1,
            log_start: 0,
            gaps: Vec::new(),
            chain: Vec::new(),
        };
        (partition_key(record.id()), json(&record))
    })
}

/// Changes configs, and adds partitions: keys of new records spread anew, as in Kafka.
pub async fn alter_topic(
    store: &dyn MetadataStore,
    request: service::api::AlterTopic,
) -> Result<TopicRecord, ApiError> {
    let key = format!("{TOPICS}{}", request.topic);
    let unknown = || ApiError::new(ErrorCode::UnknownTopic, format!("topic {} does not exist", request.topic));
    loop {
        let entry = store.get(&key).await?.ok_or_else(unknown)?;
        let mut topic: TopicRecord = parse(&entry)?;
        if (topic.account, topic.cluster) != (request.account, request.cluster) {
            return Err(unknown());
        }
        let before = topic.partitions;
        if let Some(partitions) = request.partitions {
            if !(before..=PARTITIONS_PER_TOPIC_MAX).contains(&partitions) {
                let message = format!(
                    "topic `{}` has {before} partitions: it may have up to {PARTITIONS_PER_TOPIC_MAX}, and never fewer than now, not {partitions}",
                    topic.name
                );
                return Err(ApiError::new(ErrorCode::InvalidPartitions, message));
            }
            topic.partitions = partitions;
        }
        for (name, value) in &request.configs {
            match value {
                Some(value) => topic.configs.insert(name.clone(), value.clone()),
                None => topic.configs.remove(name),
            };
        }
        topic.version += 1;
        let mut puts = vec![(key.clone(), json(&topic))];
        puts.extend(new_partitions(&topic, before, generation(store).await?));
        let transaction = Transaction { compares: vec![(key.clone(), entry.revision)], puts, ..Transaction::default() };
        // Another change came first: look again.
        if let Outcome::Committed { .. } = store.transact(transaction).await? {
            return Ok(topic);
        }
    }
}

pub async fn delete_topic(store: &dyn MetadataStore, request: service::api::DeleteTopic) -> Result<(), ApiError> {
    let key = format!("{TOPICS}{}", request.topic);
    let unknown = || ApiError::new(ErrorCode::UnknownTopic, format!("topic {} does not exist", request.topic));
    loop {
        let entry = store.get(&key).await?.ok_or_else(unknown)?;
        let topic: TopicRecord = parse(&entry)?;
        if (topic.account, topic.cluster) != (request.account, request.cluster) {
            return Err(unknown());
        }
        let mut deletes = vec![key.clone(), name_key(topic.account, topic.cluster, &topic.name)];
        deletes.extend(
            (0..topic.partitions).map(|partition| partition_key(TopicPartition { topic: topic.id, partition })),
        );
        let compares = vec![(key.clone(), entry.revision)];
        let transaction = Transaction { compares, deletes, ..Transaction::default() };
        // A change came first: look again.
        if let Outcome::Committed { .. } = store.transact(transaction).await? {
            return Ok(());
        }
    }
}
