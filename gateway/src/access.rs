//! Who a caller is, and what it may do.
//!
//! Identities come from placement and lie in memory ([`known`]); proofs are checked against them ([`proof`]), and each call is
//! decided by policies as they are at that moment ([`permit`]). What was denied is remembered for a while ([`decisions`]).

pub mod decisions;
pub mod known;
pub mod permit;
pub mod proof;
pub mod sasl;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use identity::request::SKEW_S;
use service::api::ApiError;
use service::drain::Drain;
use service::identities::{ChangeIdentity, IdentityChanged, NewIdentities};
use service::newest::{Newest, Seen};
use service::{clock, random};
use tokio::sync::watch;
use types::{ErrorCode, Generation};

use crate::Gateway;
use crate::access::decisions::Decisions;
use crate::access::known::Known;

/// How long a change of identities is waited for after it was made here.
const CHANGE_WAIT: Duration = Duration::from_secs(5);
/// Requests whose signatures are remembered; beyond that mutating requests are refused until some have expired.
const REPLAYS_MAX: usize = 200_000;

/// See the module's text.
#[derive(Debug)]
pub struct Access {
    /// Whether callers must say who they are.
    pub is_required: bool,
    known: ArcSwap<Known>,
    /// What the identities are as of.
    seen: watch::Sender<Seen>,
    pub decisions: Decisions,
    /// Salts of users that do not exist, and verifiers that no password fits.
    pub nobody: [u8; 16],
    /// Signatures of mutating HTTP requests, and until when they could be sent again, in seconds since 1970.
    replays: Mutex<HashMap<String, i64>>,
}

/// How a caller is connected.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    pub address: IpAddr,
    pub is_tls: bool,
}

impl Origin {
    /// Whether what is sent can be read on its way.
    pub fn is_private(self) -> bool {
        self.is_tls || self.address.is_loopback()
    }
}

impl Access {
    pub fn new(is_required: bool) -> Self {
        Self {
            is_required,
            known: ArcSwap::from_pointee(Known::default()),
            seen: watch::channel((Generation(0), 0)).0,
            decisions: Decisions::default(),
            nobody: random::wide().to_be_bytes(),
            replays: Mutex::default(),
        }
    }

    /// Identities as this gateway knows them now.
    pub fn known(&self) -> Arc<Known> {
        self.known.load_full()
    }

    /// Moves whenever identities changed.
    pub fn changes(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }

    fn take(&self, new: NewIdentities) {
        if let Some(identities) = new.identities {
            self.known.store(Arc::new(Known::new(identities, &self.known.load())));
        }
        self.seen.send_replace((new.generation, new.revision));
    }

    /// Whether this is the first time that a signature is used; it is remembered.
    pub fn is_first_use(&self, signature: &str, now_s: i64) -> bool {
        let mut replays = self.replays.lock().expect("no panic holds this lock");
        if replays.len() >= REPLAYS_MAX {
            replays.retain(|_, until_s| *until_s >= now_s);
        }
        // What is signed with a clock that is ahead is valid for that much longer.
        replays.len() < REPLAYS_MAX && replays.insert(signature.to_owned(), now_s + 2 * SKEW_S).is_none()
    }
}

/// Makes a change; this gateway knows it on return.
pub async fn change(gateway: &Arc<Gateway>, change: &ChangeIdentity) -> Result<IdentityChanged, ApiError> {
    let mut seen = gateway.access.changes();
    let changed = gateway.placement.change_identity(change).await?;
    let is_there = seen.wait_for(|(_, revision)| *revision >= changed.revision);
    match tokio::time::timeout(CHANGE_WAIT, is_there).await {
        Ok(Ok(_)) => Ok(changed),
        _ => {
            let message = "the change was made, but this gateway has not heard of it yet";
            Err(ApiError::new(ErrorCode::PlacementUnavailable, message))
        }
    }
}

/// Reads identities, waiting for placement as long as it takes.
pub async fn read_once(gateway: &Gateway) {
    loop {
        match gateway.placement.identities(None, Duration::ZERO).await {
            Ok(new) => return gateway.access.take(new),
            Err(error) => tracing::info!(%error, "waiting for identities"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Keeps identities up to date until the drain begins. Without placement they stay as they are.
pub async fn follow(gateway: Arc<Gateway>, mut drain: Drain) {
    let access = &gateway.access;
    let mut newest = Newest::new(None);
    loop {
        let (generation, revision) = *access.seen.borrow();
        let day = access.known().day.clone();
        let after = (revision > 0).then_some((generation, revision, day.as_str()));
        let new = tokio::select! {
            biased;
            () = drain.begun() => return,
            new = gateway.placement.identities(after, Duration::from_secs(20)) => new,
        };
        match new {
            Ok(new) if newest.may_believe((new.generation, new.revision), Generation(0)) => access.take(new),
            Ok(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            Err(error) => {
                tracing::debug!(%error, "identities could not be read; going on with the last ones");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Seconds since 1970.
pub fn now_s() -> i64 {
    clock::wall_ms() / 1_000
}
