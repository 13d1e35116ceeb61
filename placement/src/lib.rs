//! Placement: who leads what.
//!
//! Holds the records of topics, partitions, nodes and gateways in a [`store::MetadataStore`], and runs the
//! `cores::failover` and `cores::repair` machines against storage nodes. Any number of processes may do so: a record changes only by
//! compare-and-swap on its revision.

mod api;
mod backup;
mod balance;
mod events;
mod failover;
mod identities;
mod index;
mod loss;
mod members;
mod quotas;
mod records;
mod repair;
pub mod restore;
mod retention;
mod seal;
mod status;
pub mod store;
mod turn;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use service::drain::Drain;
use service::health::{self, Health};
use service::http::PROTOCOLS;
use service::proxy::Proxies;
use service::trust::{Trust, TrustFiles};
use tokio::net::TcpListener;
use types::{ClusterId, Generation};

use crate::members::Members;
use crate::seal::Seal;
use crate::store::{EtcdStore, MetadataStore, RedbStore, StoreError};

/// What the tasks of a placement process share.
#[derive(Debug)]
pub(crate) struct Placement {
    pub store: Arc<dyn MetadataStore>,
    pub members: Members,
    pub quotas: quotas::QuotaBoard,
    /// Tells this store from another.
    pub cluster: ClusterId,
    pub generation: Generation,
    /// Of metadata that was restored elsewhere, as far as nodes said; 0: of none.
    pub superseded_by: AtomicU32,
    pub failovers: failover::Failovers,
    pub repairs: repair::Repairs,
    pub index: index::Index,
    pub events: events::Events,
    pub turn: turn::Turn,
    /// A partition without an append for this long is parked.
    pub park_after: Duration,
    /// For secrets; without one there are no access keys.
    pub seal: Option<Seal>,
    pub health: Arc<Health>,
}

impl Placement {
    /// A node is fenced for a newer generation: metadata was restored elsewhere, and this process serves what was before.
    pub fn is_superseded_by(&self, generation: Generation) -> bool {
        if generation <= self.generation {
            return false;
        }
        if self.health.is_ready() {
            let (ours, theirs) = (self.generation.0, generation.0);
            tracing::error!(
                "metadata was restored elsewhere: storage nodes are fenced for generation {theirs}, this process has {ours}; end it"
            );
        }
        self.health.set_ready(false);
        self.superseded_by.fetch_max(generation.0, Ordering::Relaxed);
        true
    }
}

/// What the file of the sealing key is called.
const SEAL_KEY: &str = "seal.key";

/// Where metadata lives.
#[derive(Debug, Clone)]
pub enum StoreAt {
    /// A folder of this machine.
    Redb(PathBuf),
    /// The members of an etcd cluster.
    Etcd(Vec<String>),
}

/// As nodes and gateways wait for placement: services start in any order.
async fn wait_for_etcd(urls: &[String]) -> EtcdStore {
    let mut is_told = false;
    loop {
        match EtcdStore::open(urls).await {
            Ok(store) => return store,
            Err(error) if !std::mem::replace(&mut is_told, true) => tracing::warn!(%error, "waiting for etcd"),
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn open(at: &StoreAt) -> Result<Arc<dyn MetadataStore>, StoreError> {
    Ok(match at {
        StoreAt::Redb(dir) => Arc::new(RedbStore::open(dir)?),
        StoreAt::Etcd(urls) => Arc::new(wait_for_etcd(urls).await),
    })
}

/// Opens the store and serves until the drain begins; returns when ready. Partitions that nobody appends to for
/// `park_after` are parked. `seal_key`: the file of the key that secrets are sealed with; a store that is a folder has its own.
/// `trust`: with it services must show certificates, and may call what is theirs.
pub async fn start(
    at: StoreAt,
    seal_key: Option<PathBuf>,
    trust: Option<TrustFiles>,
    park_after: Duration,
    listener: TcpListener,
    drain: Drain,
) -> Result<(), StoreError> {
    let store = open(&at).await?;
    let seal = match (&seal_key, &at) {
        (Some(file), _) => Some(Seal::open(file, false)),
        (None, StoreAt::Redb(dir)) => Some(Seal::open(&dir.join(SEAL_KEY), true)),
        (None, StoreAt::Etcd(_)) => None,
    };
    let seal = seal.transpose().map_err(StoreError::Unavailable)?;
    let health = Health::new();
    let trust = trust.as_ref().map(|files| Trust::open(files, &PROTOCOLS[1..])).transpose();
    let trust = trust.map_err(|error| StoreError::Unavailable(format!("certificates between services: {error}")))?;
    let failovers = failover::Failovers::new(&health, trust.clone());
    let repairs = repair::Repairs::new(&health);
    records::ensure_default_cluster(&*store).await?;
    let cluster = records::default_cluster(&*store).await?.cluster;
    let generation = records::generation(&*store).await?;
    let placement = Arc::new(Placement {
        store,
        members: Members::default(),
        quotas: quotas::QuotaBoard::default(),
        cluster,
        generation,
        superseded_by: AtomicU32::new(0),
        failovers,
        repairs,
        index: index::Index::default(),
        events: events::Events::default(),
        park_after,
        seal,
        turn: turn::Turn::new(matches!(at, StoreAt::Redb(_))),
        health: Arc::clone(&health),
    });
    tokio::spawn(turn::run(Arc::clone(&placement), drain.clone()));
    tokio::spawn(members::sweep(Arc::clone(&placement), drain.clone()));
    tokio::spawn(repair::run(Arc::clone(&placement), drain.clone()));
    tokio::spawn(balance::run(Arc::clone(&placement), drain.clone()));
    tokio::spawn(retention::run(Arc::clone(&placement), drain.clone()));
    let router = api::routes(placement).merge(health::routes(Arc::clone(&health)));
    let tls = trust.as_ref().map(|trust| Arc::clone(trust.server()));
    if let Some(trust) = trust {
        tokio::spawn(trust.follow(drain.clone()));
    }
    tokio::spawn(service::http::serve(listener, tls, Proxies::default(), router, drain));
    health.set_ready(true);
    Ok(())
}
