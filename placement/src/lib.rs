//! Placement: who leads what.
//!
//! Holds the records of topics, partitions, nodes and gateways in a [`store::MetadataStore`], and runs the
//! `cores::failover` and `cores::repair` machines against storage nodes. Any number of processes may do so: a record changes only by
//! compare-and-swap on its revision.

mod api;
mod balance;
mod events;
mod failover;
mod index;
mod members;
mod records;
mod repair;
mod status;
pub mod store;

use std::path::PathBuf;
use std::sync::Arc;

use service::drain::Drain;
use service::health::{self, Health};
use tokio::net::TcpListener;
use types::ClusterId;

use crate::members::Members;
use crate::store::{MetadataStore, RedbStore, StoreError};

/// What the tasks of a placement process share.
#[derive(Debug)]
pub(crate) struct Placement {
    pub store: Arc<dyn MetadataStore>,
    pub members: Members,
    /// Tells this store from another.
    pub cluster: ClusterId,
    pub failovers: failover::Failovers,
    pub repairs: repair::Repairs,
    pub index: index::Index,
    pub events: events::Events,
}

/// Opens the store in `dir` and serves until the drain begins; returns when ready.
pub async fn start(dir: PathBuf, listener: TcpListener, drain: Drain) -> Result<(), StoreError> {
    let store: Arc<dyn MetadataStore> = Arc::new(RedbStore::open(&dir)?);
    let health = Health::new();
    let failovers = failover::Failovers::new(&health);
    let repairs = repair::Repairs::new(&health);
    records::ensure_default_cluster(&*store).await?;
    let cluster = records::default_cluster(&*store).await?.cluster;
    let placement = Arc::new(Placement {
        store,
        members: Members::default(),
        cluster,
        failovers,
        repairs,
        index: index::Index::default(),
        events: events::Events::default(),
    });
    tokio::spawn(members::sweep(Arc::clone(&placement), drain.clone()));
    tokio::spawn(repair::run(Arc::clone(&placement), drain.clone()));
    tokio::spawn(balance::run(Arc::clone(&placement), drain.clone()));
    let router = api::routes(placement).merge(health::routes(Arc::clone(&health)));
    tokio::spawn(service::http::serve(listener, router, drain));
    health.set_ready(true);
    Ok(())
}
