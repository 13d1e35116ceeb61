//! The gateway's copy of the map: topics, partitions, nodes, gateways. A cache, never authority: a storage node
//! that disagrees is right, and the record is read again.

pub mod cache;

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use service::api::{GatewayRegistered, MapChanges};
use service::drain::Drain;
use service::newest::Newest;
use tokio::sync::watch;
use types::{GatewayRecord, Generation, NodeId, NodeRecord, PartitionRecord, TopicId, TopicPartition, TopicRecord};
use wire::batch::mix;

use crate::Gateway;
use crate::map::cache::{Cached, MapCache};
use crate::tenant::Tenant;
use crate::topics::is_internal;

#[derive(Debug, Default)]
struct State {
    topics: HashMap<TopicId, Arc<TopicRecord>>,
    names: HashMap<(u64, u128, String), TopicId>,
    partitions: HashMap<TopicPartition, Arc<PartitionRecord>>,
    nodes: HashMap<NodeId, NodeRecord>,
    gateways: Vec<GatewayRecord>,
}

impl State {
    /// Unless a newer one is known: with each change a record's version rises.
    fn learn(&mut self, record: PartitionRecord) {
        let known = self.partitions.get(&record.id());
        if known.is_none_or(|known| (known.generation, known.version) <= (record.generation, record.version)) {
            self.partitions.insert(record.id(), Arc::new(record));
        }
    }

    fn remove_topic(&mut self, id: TopicId) {
        self.partitions.retain(|partition, _| partition.topic != id);
        let Some(topic) = self.topics.remove(&id) else { return };
        // The name may be another topic's by now.
        let name = name_of(&topic);
        if self.names.get(&name) == Some(&id) {
            self.names.remove(&name);
        }
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Map {
    state: RwLock<State>,
    revision: watch::Sender<u64>,
}

impl Default for Map {
    fn default() -> Self {
        Self { state: RwLock::default(), revision: watch::channel(0).0 }
    }
}

fn name_of(topic: &TopicRecord) -> (u64, u128, String) {
    (topic.account.0, topic.cluster.0, topic.name.clone())
}

impl Map {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().expect("no panic holds this lock")
    }

    /// The topic of a tenant's name; none of Weir's own.
    pub fn topic(&self, tenant: Tenant, name: &str) -> Option<Arc<TopicRecord>> {
        self.internal_topic(tenant, name).filter(|topic| !is_internal(&topic.name))
    }

    /// The same, Weir's own among them.
    pub fn internal_topic(&self, tenant: Tenant, name: &str) -> Option<Arc<TopicRecord>> {
        let state = self.read();
        let id = state.names.get(&(tenant.account.0, tenant.cluster.0, name.to_owned()))?;
        state.topics.get(id).cloned()
    }

    /// The topic of an id, if it is this tenant's.
    pub fn topic_by_id(&self, tenant: Tenant, id: TopicId) -> Option<Arc<TopicRecord>> {
        let topic = self.read().topics.get(&id).cloned()?;
        let is_own = topic.account == tenant.account && topic.cluster == tenant.cluster;
        (is_own && !is_internal(&topic.name)).then_some(topic)
    }

    /// A tenant's topics by name; none of Weir's own.
    pub fn topics(&self, tenant: Tenant) -> Vec<Arc<TopicRecord>> {
        let mut topics = self.all_topics(tenant);
        topics.retain(|topic| !is_internal(&topic.name));
        topics
    }

    /// The same, Weir's own among them.
    pub fn all_topics(&self, tenant: Tenant) -> Vec<Arc<TopicRecord>> {
        let state = self.read();
        let own = state.topics.values().filter(|t| t.account == tenant.account && t.cluster == tenant.cluster);
        let mut topics: Vec<_> = own.cloned().collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
    }

    /// Partitions of a tenant's topics; none of Weir's own.
    pub fn partitions_of(&self, tenant: Tenant) -> u64 {
        let state = self.read();
        let own = state.topics.values().filter(|t| t.account == tenant.account && t.cluster == tenant.cluster);
        own.filter(|topic| !is_internal(&topic.name)).map(|topic| u64::from(topic.partitions.unsigned_abs())).sum()
    }

    pub fn partition(&self, id: TopicPartition) -> Option<Arc<PartitionRecord>> {
        self.read().partitions.get(&id).cloned()
    }

    pub fn node(&self, id: NodeId) -> Option<NodeRecord> {
        self.read().nodes.get(&id).cloned()
    }

    pub fn nodes(&self) -> Vec<NodeRecord> {
        self.read().nodes.values().cloned().collect()
    }

    /// Gateways that are alive, by id.
    pub fn gateways(&self) -> Vec<GatewayRecord> {
        self.read().gateways.clone()
    }

    /// Takes a record read from placement, unless a newer one is known.
    pub fn learn(&self, record: PartitionRecord) {
        let mut state = self.state.write().expect("no panic holds this lock");
        state.learn(record);
        drop(state);
        self.revision.send_modify(|revision| *revision += 1);
    }

    /// Takes a topic that was just created or altered here, unless what is known is newer: an altered topic that is
    /// not known any more was deleted meanwhile.
    pub fn learn_topic(&self, topic: TopicRecord) {
        let mut state = self.state.write().expect("no panic holds this lock");
        let is_news = match state.topics.get(&topic.id) {
            Some(known) => known.version < topic.version,
            // Unless the name is another's by now.
            None => topic.version == 1 && !state.names.contains_key(&name_of(&topic)),
        };
        if is_news {
            state.names.insert(name_of(&topic), topic.id);
            state.topics.insert(topic.id, Arc::new(topic));
        }
    }

    pub fn forget_topic(&self, id: TopicId) {
        self.state.write().expect("no panic holds this lock").remove_topic(id);
    }

    /// Moves whenever something changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// All of it, to be kept.
    pub(crate) fn whole(&self, (generation, revision): (Generation, u64)) -> MapChanges {
        let state = self.read();
        MapChanges {
            revision,
            generation,
            is_whole: true,
            topics: state.topics.iter().map(|(id, topic)| (*id, Some(TopicRecord::clone(topic)))).collect(),
            partitions: state.partitions.values().map(|record| PartitionRecord::clone(record)).collect(),
            nodes: state.nodes.values().cloned().collect(),
            gateways: state.gateways.clone(),
        }
    }

    pub(crate) fn apply(&self, changes: MapChanges) {
        let mut state = self.state.write().expect("no panic holds this lock");
        if changes.is_whole {
            *state = State::default();
        }
        for (id, topic) in changes.topics {
            match topic {
                Some(topic) if state.topics.get(&id).is_some_and(|known| known.version > topic.version) => {}
                Some(topic) => {
                    state.names.insert(name_of(&topic), id);
                    state.topics.insert(id, Arc::new(topic));
                }
                None => state.remove_topic(id),
            }
        }
        changes.partitions.into_iter().for_each(|record| state.learn(record));
        state.nodes = changes.nodes.into_iter().map(|node| (node.id, node)).collect();
        state.gateways = changes.gateways;
        state.gateways.sort_by_key(|gateway| gateway.id);
        drop(state);
        self.revision.send_modify(|revision| *revision += 1);
    }
}

/// Gateways in the order in which they are shown for a partition: the first as its leader (rendezvous hash, the
/// same on every gateway).
pub fn shown_order(gateways: &[GatewayRecord], partition: TopicPartition) -> Vec<i32> {
    rendezvous(gateways, mix(partition.topic.0 as u64, partition.partition as u64))
}

/// The gateway that is shown as the coordinator of a group: any serves it all the same.
pub fn shown_coordinator(gateways: &[GatewayRecord], group: &str) -> Option<i32> {
    let seed = group.bytes().fold(group.len() as u64, |seed, byte| mix(seed, u64::from(byte)));
    rendezvous(gateways, seed).first().copied()
}

fn rendezvous(gateways: &[GatewayRecord], seed: u64) -> Vec<i32> {
    let mut ids: Vec<i32> = gateways.iter().map(|gateway| gateway.id).collect();
    ids.sort_by_key(|id| mix(seed, *id as u64));
    ids
}

/// Reads the whole map, waiting for placement as long as it takes.
pub async fn read_once(gateway: &Arc<Gateway>) {
    while let Err(error) = gateway.placement.map(None, Duration::ZERO).await.map(|changes| gateway.map.apply(changes)) {
        tracing::info!(%error, "waiting for the map");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Keeps the map up to date until the drain begins, and notes it in the cache.
pub async fn follow(
    gateway: Arc<Gateway>,
    registered: GatewayRegistered,
    mut cache: Option<MapCache>,
    mut drain: Drain,
) {
    let (mut revision, mut is_noted) = (None, true);
    let mut newest = Newest::new(None);
    loop {
        // What is not noted yet does not wait for the next change.
        let wait = if is_noted { Duration::from_secs(20) } else { Duration::from_secs(1) };
        let changes = tokio::select! {
            biased;
            () = drain.begun() => return,
            changes = gateway.placement.map_for(gateway.id, revision, wait) => changes,
        };
        match changes {
            Ok(changes) => {
                let seen = (changes.generation, changes.revision);
                if !newest.may_believe(seen, Generation(0)) {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
                is_noted &= revision == Some(seen) || cache.is_none();
                revision = Some(seen);
                gateway.map.apply(changes);
                if let Some(cache) = cache.as_mut().filter(|cache| !is_noted && cache.is_due()) {
                    let cached = Cached { registered: registered.clone(), map: gateway.map.whole(seen) };
                    tokio::task::block_in_place(|| cache.write(&cached));
                    is_noted = true;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the map could not be read; going on with the last one");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use types::{AccountId, ClusterId};

    use super::*;

    /// Two clusters of one account are two tenants, as two accounts are.
    #[test]
    fn a_tenant_is_an_account_and_a_cluster() {
        let map = Map::default();
        let tenant = |account, cluster| Tenant { account: AccountId(account), cluster: ClusterId(cluster) };
        let tenants = [tenant(1, 1), tenant(1, 2), tenant(2, 1)];
        for (of, id) in tenants.into_iter().zip(1..) {
            map.learn_topic(TopicRecord {
                account: of.account,
                cluster: of.cluster,
                name: "t".into(),
                id: TopicId(id),
                partitions: 3,
                replication_factor: 3,
                configs: Default::default(),
                version: 1,
            });
        }
        for (of, own) in tenants.into_iter().zip(1..) {
            for id in 1..=3 {
                assert_eq!(map.topic_by_id(of, TopicId(id)).is_some(), id == own, "{of:?} {id}");
            }
            assert_eq!(map.topic(of, "t").map(|topic| topic.id), Some(TopicId(own)));
            assert_eq!(map.topics(of).len(), 1);
            assert_eq!(map.partitions_of(of), 3);
        }
    }
}
