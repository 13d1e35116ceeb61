//! Storage nodes and gateways: who is registered, and who was heard of lately.
//!
//! Being alive is a hint for choosing pairs and for what clients are shown. It decides nothing about data.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cores::slowness::{Change, Sample, Slowness};
use service::api::{ApiError, GatewayRegistered, RegisterGateway, RegisterNode, Registered};
use service::clock;
use service::drain::Drain;
use service::trust::{NODE_URI, is_node};
use tokio::sync::watch;
use types::limits::{HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS, REPAIR_AFTER_MS};
use types::{ErrorCode, GatewayRecord, NodeId, NodeRecord, Nonce, Replica, TopicPartition};

use crate::Placement;
use crate::records::{self, GATEWAYS, NODES, json, parse};
use crate::store::{MetadataStore, Outcome, StoreError, Transaction};

/// Damaged copies that are remembered; others are told again.
const DAMAGED_MAX: usize = 1_000;
/// Clocks that are further apart do not agree, in ms.
const CLOCKS_APART_MS_MAX: u64 = 3_600_000;

/// When each member was heard of; moves `version` when someone comes or goes.
#[derive(Debug)]
pub struct Members {
    seen: Mutex<HashMap<String, u64>>,
    version: watch::Sender<u64>,
    nodes: Mutex<HashMap<NodeId, NodeNews>>,
    /// Copies of sealed segments that their nodes say are damaged.
    damaged: Mutex<BTreeSet<(Nonce, Replica)>>,
    /// When each partition was appended to last, as nodes said.
    active: Mutex<HashMap<TopicPartition, u64>>,
    slowness: Mutex<Slowness>,
    /// When this process began to listen.
    began_ms: u64,
}

/// What a node said last.
#[derive(Debug, Default)]
struct NodeNews {
    name: String,
    heard_ms: u64,
    load: Vec<(TopicPartition, u64)>,
    write_us: Option<u64>,
    /// Its wall clock then.
    wall_ms: Option<i64>,
}

/// The earliest and the latest of the clocks that agree, in ms since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    pub earliest_ms: i64,
    pub latest_ms: i64,
}

impl Agreed {
    /// This machine's clock agrees with at least two of the nodes', and with more of them than not.
    fn of(own_ms: i64, theirs: &[i64]) -> Option<Self> {
        let near: Vec<i64> =
            theirs.iter().copied().filter(|theirs| theirs.abs_diff(own_ms) <= CLOCKS_APART_MS_MAX).collect();
        let is_agreed = near.len() >= 2 && 2 * near.len() > theirs.len();
        let all = || near.iter().copied().chain([own_ms]);
        is_agreed.then(|| Self { earliest_ms: all().min().unwrap_or(own_ms), latest_ms: all().max().unwrap_or(own_ms) })
    }
}

impl Default for Members {
    fn default() -> Self {
        Self {
            seen: Mutex::default(),
            version: watch::channel(0).0,
            nodes: Mutex::default(),
            damaged: Mutex::default(),
            active: Mutex::default(),
            slowness: Mutex::default(),
            began_ms: clock::monotonic_ms(),
        }
    }
}

impl Members {
    fn note(&self, key: &str) {
        let mut seen = self.seen.lock().expect("no panic holds this lock");
        if seen.insert(key.to_owned(), clock::monotonic_ms()).is_none() {
            self.version.send_modify(|version| *version += 1);
        }
    }

    /// A gateway is not there any more, until it is heard of again.
    pub fn gateway_left(&self, gateway: i32) {
        let mut seen = self.seen.lock().expect("no panic holds this lock");
        if seen.remove(&format!("{GATEWAYS}{gateway}")).is_some() {
            tracing::info!(gateway, "the connection of a gateway ended; it is not shown to clients until it is back");
            self.version.send_modify(|version| *version += 1);
        }
    }

    pub fn is_alive(&self, key: &str) -> bool {
        let seen = self.seen.lock().expect("no panic holds this lock");
        seen.get(key).is_some_and(|at| clock::monotonic_ms().saturating_sub(*at) < HEARTBEAT_TIMEOUT_MS)
    }

    /// Heard of lately; or not yet, by a process that has just begun to listen.
    pub fn is_node_alive(&self, node: NodeId) -> bool {
        let is_unheard = || !self.nodes.lock().expect("no panic holds this lock").contains_key(&node);
        let is_first = clock::monotonic_ms() - self.began_ms < HEARTBEAT_MS + HEARTBEAT_MS / 2;
        self.is_alive(&format!("{NODES}{node}")) || (is_first && is_unheard())
    }

    /// What was heard of the node of this number was of this name.
    fn is_named(&self, node: NodeId, name: &str) -> bool {
        let nodes = self.nodes.lock().expect("no panic holds this lock");
        nodes.get(&node).is_some_and(|news| news.name == name)
    }

    pub fn was_heard(&self, node: NodeId) -> bool {
        self.nodes.lock().expect("no panic holds this lock").contains_key(&node)
    }

    /// This process may not have heard of everybody yet.
    pub fn is_young(&self) -> bool {
        clock::monotonic_ms() - self.began_ms < HEARTBEAT_TIMEOUT_MS
    }

    /// For how long nothing was heard of a node, in ms; since this process began, if ever.
    pub fn away_ms(&self, node: NodeId) -> u64 {
        let nodes = self.nodes.lock().expect("no panic holds this lock");
        clock::monotonic_ms().saturating_sub(nodes.get(&node).map_or(self.began_ms, |news| news.heard_ms))
    }

    /// Of so many nodes that hold segments fewer than half are heard: it is this process that is cut off, or its store was.
    pub fn is_deaf(&self, nodes: usize) -> bool {
        let heard = self.nodes.lock().expect("no panic holds this lock");
        let now_ms = clock::monotonic_ms();
        let alive = heard.values().filter(|news| now_ms.saturating_sub(news.heard_ms) < HEARTBEAT_TIMEOUT_MS).count();
        alive * 2 < nodes
    }

    /// The wall clocks that agree about what time it is; `None` if there are too few. Only by such a time is anything too old.
    pub fn agreed(&self) -> Option<Agreed> {
        let (now_ms, wall_ms) = (clock::monotonic_ms(), clock::wall_ms());
        let nodes = self.nodes.lock().expect("no panic holds this lock");
        let lately = nodes.values().filter(|news| now_ms.saturating_sub(news.heard_ms) < HEARTBEAT_TIMEOUT_MS);
        let theirs =
            |news: &NodeNews| Some(news.wall_ms?.saturating_add_unsigned(now_ms.saturating_sub(news.heard_ms)));
        Agreed::of(wall_ms, &lately.filter_map(theirs).collect::<Vec<_>>())
    }

    /// What the partitions that a node leads append, in bytes per second, as it said last.
    pub fn load(&self, node: NodeId) -> Vec<(TopicPartition, u64)> {
        let nodes = self.nodes.lock().expect("no panic holds this lock");
        nodes.get(&node).map(|news| news.load.clone()).unwrap_or_default()
    }

    /// Its disk is so much slower than others that open segments leave it.
    pub fn is_slow(&self, node: NodeId) -> bool {
        self.slowness.lock().expect("no panic holds this lock").is_slow(node)
    }

    /// Judges disks by what nodes said last.
    fn look_for_slow_disks<'a>(&self, nodes: &'a [NodeRecord]) -> Vec<Change> {
        let now_ms = clock::monotonic_ms();
        let news = self.nodes.lock().expect("no panic holds this lock");
        let write_us = |node: &NodeRecord| {
            let news = news.get(&node.id).filter(|news| now_ms.saturating_sub(news.heard_ms) < 2 * HEARTBEAT_MS);
            news.and_then(|news| news.write_us)
        };
        let sample = |node: &'a NodeRecord| Sample { node: node.id, az: &node.az, write_us: write_us(node) };
        let samples: Vec<Sample<'_>> = nodes.iter().map(sample).collect();
        self.slowness.lock().expect("no panic holds this lock").look(now_ms, &samples)
    }

    fn heard(&self, replica: Replica, request: &RegisterNode) {
        let (load, damaged) = (request.load.clone(), &request.damaged);
        let now_ms = clock::monotonic_ms();
        let mut active = self.active.lock().expect("no panic holds this lock");
        active.extend(load.iter().map(|(partition, _)| (*partition, now_ms)));
        drop(active);
        let name = request.name.clone();
        let news = NodeNews { name, heard_ms: now_ms, load, write_us: request.write_us, wall_ms: request.wall_ms };
        self.nodes.lock().expect("no panic holds this lock").insert(replica.node, news);
        let mut all = self.damaged.lock().expect("no panic holds this lock");
        // Each heartbeat names all that it knows.
        all.retain(|(_, known)| known.node != replica.node);
        for segment in damaged {
            if all.len() < DAMAGED_MAX {
                all.insert((segment.nonce, replica));
            }
        }
    }

    /// Of these partitions those that nobody has appended to for so long, in ms, as far as this process has listened.
    pub fn idle(&self, all: &[TopicPartition], idle_ms: u64) -> Vec<TopicPartition> {
        let mut active = self.active.lock().expect("no panic holds this lock");
        let now_ms = clock::monotonic_ms();
        active.retain(|_, at| now_ms.saturating_sub(*at) < idle_ms);
        let is_idle = |partition: &&TopicPartition| !active.contains_key(partition);
        let has_listened = now_ms - self.began_ms >= idle_ms;
        all.iter().filter(|_| has_listened).filter(is_idle).copied().collect()
    }

    /// Partitions that were opened just now are not idle yet.
    pub fn opened(&self, partition: TopicPartition) {
        self.active.lock().expect("no panic holds this lock").insert(partition, clock::monotonic_ms());
    }

    pub fn damaged(&self) -> Vec<(Nonce, Replica)> {
        self.damaged.lock().expect("no panic holds this lock").iter().copied().collect()
    }

    /// Keeps what is said of copies that records still list.
    pub fn retain_damaged(&self, is_listed: impl Fn(Nonce, Replica) -> bool) {
        self.damaged.lock().expect("no panic holds this lock").retain(|(nonce, replica)| is_listed(*nonce, *replica));
    }

    /// A copy was made: nothing that was said of this segment on that disk before holds any more.
    pub fn copied(&self, nonce: Nonce, replica: Replica) {
        self.damaged.lock().expect("no panic holds this lock").remove(&(nonce, replica));
    }

    /// Moves when a member comes or goes.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}

/// Looks for disks that are much slower than others.
async fn judge_disks(placement: &Placement) -> Result<(), StoreError> {
    let nodes = nodes(&*placement.store).await?;
    let name = |id| nodes.iter().find(|node| node.id == id).map_or("?", |node| node.name.as_str());
    for change in placement.members.look_for_slow_disks(&nodes) {
        placement.events.note(match change {
            Change::Slow { node, write_us, peers_us } => format!(
                "open segments leave `{}`: its disk is slow, {} ms a write where others take {}",
                name(node),
                write_us / 1_000,
                peers_us as f64 / 1_000.0
            ),
            Change::Again { node } => format!("`{}`, whose disk was slow, is used again", name(node)),
        });
    }
    Ok(())
}

/// Forgets members that fell silent; judges the disks of the others.
pub(crate) async fn sweep(placement: Arc<Placement>, mut drain: Drain) {
    loop {
        tokio::select! {
            biased;
            () = drain.begun() => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        if let Err(error) = judge_disks(&placement).await {
            tracing::debug!(%error, "disks cannot be judged");
        }
        let mut seen = placement.members.seen.lock().expect("no panic holds this lock");
        let (before, now) = (seen.len(), clock::monotonic_ms());
        seen.retain(|_, at| now.saturating_sub(*at) < HEARTBEAT_TIMEOUT_MS);
        if seen.len() != before {
            placement.members.version.send_modify(|version| *version += 1);
        }
    }
}

pub async fn nodes(store: &dyn MetadataStore) -> Result<Vec<NodeRecord>, StoreError> {
    let (_, rows) = store.range(NODES).await?;
    rows.iter().map(|(_, entry)| parse(entry)).collect()
}

/// What listings call a node.
pub async fn name(store: &dyn MetadataStore, node: NodeId) -> Result<String, StoreError> {
    let entry = store.get(&format!("{NODES}{node}")).await?;
    let record: Option<NodeRecord> = entry.as_ref().map(parse).transpose()?;
    Ok(record.map_or_else(|| node.to_string(), |record| record.name))
}

pub async fn gateways(placement: &Placement) -> Result<Vec<GatewayRecord>, StoreError> {
    let (_, rows) = placement.store.range(GATEWAYS).await?;
    let alive = rows.iter().filter(|(key, _)| placement.members.is_alive(key));
    alive.map(|(_, entry)| parse(entry)).collect()
}

/// Registers a storage node: a new one gets a number; a known one keeps it. The asker's certificate, by its `uris`, must be of the
/// node of this name, and of the name that the number is registered by; `None`: services show no certificates.
pub(crate) async fn register_node(
    placement: &Arc<Placement>,
    request: RegisterNode,
    uris: Option<&[String]>,
) -> Result<Registered, ApiError> {
    let check_name = |name: &str| {
        if uris.is_none_or(|uris| is_node(uris, name)) {
            return Ok(());
        }
        tracing::warn!(node = name, address = request.address, "a storage node's certificate is not of this node");
        let message = format!("the certificate is not of storage node `{name}`: the URI {NODE_URI}{name} is not in it");
        Err(ApiError::new(ErrorCode::ClusterDenied, message))
    };
    check_name(&request.name)?;
    if placement.is_superseded_by(request.generation) {
        let message = format!("this placement is superseded by generation {}", request.generation.0);
        return Err(ApiError::new(ErrorCode::PlacementUnavailable, message));
    }
    if request.id.is_none() && !request.is_start {
        return Err(ApiError::new(ErrorCode::InvalidRequest, "a heartbeat is of a node that has a number"));
    }
    let store = &*placement.store;
    let id = match request.id {
        Some(id) => id,
        None => NodeId(records::take_numbers(store, "node", 1).await? as u32),
    };
    let key = format!("{NODES}{id}");
    if !request.is_start && (uris.is_none() || placement.members.is_named(id, &request.name)) {
        // Before the store is asked: its silence is not the node's.
        let replica = Replica { node: id, incarnation: request.incarnation };
        placement.members.heard(replica, &request);
        placement.members.note(&key);
        placement.failovers.pool().watch(&request.address);
    }
    let entry = store.get(&key).await?;
    let known: Option<NodeRecord> = entry.as_ref().map(parse).transpose()?;
    if let Some(known) = &known {
        check_name(&known.name)?;
    }
    if let Some(known) = known.as_ref().filter(|known| known.incarnation != request.incarnation && !request.is_start) {
        let message = format!("node {id} is registered with disk {}, not {}", known.incarnation, request.incarnation);
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    if request.is_start {
        refuse_namesake(placement, id, &request).await?;
    }
    let is_moved = known.as_ref().is_none_or(|known| known.address != request.address);
    if let Some(uris) = uris.filter(|_| is_moved) {
        refuse_squatter(placement, id, &request.address, uris).await?;
    }
    let record = NodeRecord {
        id,
        name: request.name.clone(),
        az: request.az.clone(),
        address: request.address.clone(),
        incarnation: request.incarnation,
        registration: known.as_ref().map_or(0, |known| known.registration) + u64::from(request.is_start),
        is_draining: known.as_ref().is_some_and(|known| known.is_draining),
        frames: request.frames,
    };
    if known.as_ref() != Some(&record) {
        // A disk under the name of a node that is gone, or that listened where only one process can: it is replaced. An
        // old disk may come back in the place of the new one, too.
        let replaced = if request.is_start { replaced_by(placement, &record).await? } else { Vec::new() };
        let mut compares = vec![(key.clone(), entry.map_or(0, |entry| entry.revision))];
        compares.extend(replaced.iter().map(|(old, _)| old.clone()));
        let transaction = Transaction {
            compares,
            puts: vec![(key.clone(), json(&record))],
            deletes: replaced.iter().map(|((key, _), _)| key.clone()).collect(),
        };
        if store.transact(transaction).await? == Outcome::Conflict {
            return Err(ApiError::new(ErrorCode::PlacementUnavailable, format!("node {id} registers twice at once")));
        }
        for (_, node) in replaced {
            let (old, name) = (node.id, node.name);
            placement
                .events
                .note(format!("storage node `{name}` has another disk: it is node {id} now, and {old} is gone"));
        }
    }
    placement.members.note(&key);
    placement.failovers.pool().watch(&record.address);
    let replica = Replica { node: id, incarnation: request.incarnation };
    placement.members.heard(replica, &request);
    if request.is_start && known.is_some() {
        // A restarted process leads nothing, and whatever it followed must be sealed: see `failover`.
        tokio::spawn(crate::failover::after_restart(Arc::clone(placement), id));
    }
    Ok(Registered { id, cluster: placement.cluster })
}

/// Another node of the same name is up: operators could not tell one from the other.
async fn refuse_namesake(placement: &Placement, id: NodeId, new: &RegisterNode) -> Result<(), ApiError> {
    let pool = placement.failovers.pool();
    let is_up = |node: &NodeRecord| placement.members.was_heard(node.id) && pool.is_connected(&node.address);
    let all = nodes(&*placement.store).await?;
    match all.iter().find(|node| node.id != id && node.name == new.name && node.address != new.address && is_up(node)) {
        Some(other) => {
            let message = format!("storage node `{}` is up at {}: choose another --name", other.name, other.address);
            Err(ApiError::new(ErrorCode::InvalidRequest, message))
        }
        None => Ok(()),
    }
}

/// Where another node is that is alive nobody else is: who is taken to be there is cut off.
async fn refuse_squatter(placement: &Placement, id: NodeId, address: &str, uris: &[String]) -> Result<(), ApiError> {
    let is_anothers = |node: &NodeRecord| {
        node.id != id
            && node.address == address
            && !is_node(uris, &node.name)
            && placement.members.is_node_alive(node.id)
    };
    match nodes(&*placement.store).await?.iter().find(|node| is_anothers(node)) {
        Some(other) => {
            let message = format!("storage node `{}` is at {address}, and the certificate is not its", other.name);
            Err(ApiError::new(ErrorCode::ClusterDenied, message))
        }
        None => Ok(()),
    }
}

/// Nodes whose place a new one takes, with the keys and revisions of their records: of the same name, and at the same
/// address or silent for long.
async fn replaced_by(placement: &Placement, new: &NodeRecord) -> Result<Vec<((String, u64), NodeRecord)>, StoreError> {
    let (_, rows) = placement.store.range(NODES).await?;
    let mut replaced = Vec::new();
    for (key, entry) in rows {
        let node: NodeRecord = parse(&entry)?;
        let is_silent = !placement.members.is_alive(&key) && placement.members.away_ms(node.id) > REPAIR_AFTER_MS;
        if node.id != new.id && node.name == new.name && (node.address == new.address || is_silent) {
            replaced.push(((key, entry.revision), node));
        }
    }
    Ok(replaced)
}

/// Registers a gateway: its broker id belongs to its advertised address.
pub(crate) async fn register_gateway(
    placement: &Placement,
    request: RegisterGateway,
) -> Result<GatewayRegistered, ApiError> {
    let store = &*placement.store;
    let (_, rows) = store.range(GATEWAYS).await?;
    let mut known = None;
    for (_, entry) in &rows {
        let gateway: GatewayRecord = parse(entry)?;
        if (&gateway.host, gateway.port) == (&request.host, request.port) {
            known = Some((gateway, entry.revision));
        }
    }
    let gateway = match known {
        Some((known, _))
            if (&known.az, &known.tls, known.is_login_required)
                == (&request.az, &request.tls, request.is_login_required) =>
        {
            known
        }
        // It was started otherwise than before. What comes of it matters to clients alone: the last one wins.
        Some((known, revision)) => {
            let gateway = GatewayRecord {
                az: request.az.clone(),
                tls: request.tls.clone(),
                is_login_required: request.is_login_required,
                ..known
            };
            let key = format!("{GATEWAYS}{}", gateway.id);
            let transaction = Transaction {
                compares: vec![(key.clone(), revision)],
                puts: vec![(key, json(&gateway))],
                ..Transaction::default()
            };
            store.transact(transaction).await?;
            gateway
        }
        None => {
            let id = records::take_numbers(store, "gateway", 1).await? as i32;
            let RegisterGateway { host, port, az, tls, is_login_required } = request.clone();
            let gateway = GatewayRecord { id, host, port, az, tls, is_login_required };
            // A gateway speaks to several placement processes at once: one of them makes its record.
            let address = (format!("gateway-at/{}:{}", request.host, request.port), 0);
            let puts = vec![(format!("{GATEWAYS}{id}"), json(&gateway)), (address.0.clone(), json(&id))];
            let transaction = Transaction { compares: vec![address], puts, ..Transaction::default() };
            if store.transact(transaction).await? == Outcome::Conflict {
                let message = "another placement process registers this gateway just now".to_owned();
                return Err(ApiError::new(ErrorCode::PlacementUnavailable, message));
            }
            gateway
        }
    };
    placement.members.note(&format!("{GATEWAYS}{}", gateway.id));
    let cluster = records::default_cluster(store).await?;
    Ok(GatewayRegistered { id: gateway.id, account: cluster.account, cluster: cluster.cluster })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_agreed_upon_by_more_clocks_than_not() {
        let hour = CLOCKS_APART_MS_MAX as i64;
        let now = 1_000 * hour;
        let agreed = |theirs: &[i64]| Agreed::of(now, theirs).map(|a| (a.earliest_ms - now, a.latest_ms - now));
        assert_eq!(agreed(&[now - 5]), None, "one is no witness");
        assert_eq!(agreed(&[now - 5, now + 7]), Some((-5, 7)));
        assert_eq!(agreed(&[now + 5, now + 7]), Some((0, 7)));
        assert_eq!(agreed(&[now, now, now + 2 * hour]), Some((0, 0)));
        assert_eq!(agreed(&[now, now, now + 2 * hour, i64::MAX]), None, "it is this clock that is wrong, perhaps");
    }
}
