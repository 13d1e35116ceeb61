//! Who a caller is, and what it may do.
//!
//! Identities come from placement and lie in memory ([`known`]); proofs are checked against them ([`proof`]), and each call is
//! decided by policies as they are at that moment ([`permit`]). What was denied is remembered for a while ([`decisions`]).

pub mod audit;
pub mod decisions;
pub mod issuers;
pub mod known;
pub mod permit;
pub mod proof;
pub mod reason;
pub mod sasl;
pub mod uses;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use identity::replays::{Replays, Use};
use policies::vocabulary::CONNECT;
use service::api::ApiError;
use service::drain::Drain;
use service::forget::forget;
use service::identities::{ChangeIdentity, IdentityChanged, NewIdentities};
use service::newest::{Newest, Seen};
use service::proxy::Source;
use service::{clock, random};
use tokio::sync::watch;
use types::{AccountId, ErrorCode, Generation};

use crate::Gateway;
use crate::access::audit::{Audit, Event, Outcome};
use crate::access::decisions::Decisions;
use crate::access::issuers::{IssuerSettings, Issuers};
use crate::access::known::Known;
use crate::access::reason::Reason;
use crate::access::uses::Away;

/// Of why a login failed so much is audited.
const DETAIL_CHARS_MAX: usize = 300;
/// How long a change of identities is waited for after it was made here.
const CHANGE_WAIT: Duration = Duration::from_secs(5);

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
    nobody: [u8; 16],
    /// Signatures of HTTP requests that change something, and that came here.
    replays: Mutex<Replays>,
    away: Away,
    pub issuers: Arc<Issuers>,
    pub audit: Audit,
}

/// How a caller is connected.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    pub address: IpAddr,
    /// By TLS, with this gateway or with the balancer before it.
    pub is_tls: bool,
    /// What it sends does not leave this machine.
    pub is_local: bool,
}

impl Origin {
    /// `is_tls`: it speaks TLS with this gateway.
    pub fn new(source: Source, is_tls: bool) -> Self {
        Self { address: source.ip(), is_tls: is_tls || source.is_tls, is_local: source.is_local }
    }

    /// Whether what is sent can be read on its way.
    pub fn is_private(self) -> bool {
        self.is_tls || self.is_local
    }
}

impl Access {
    pub fn new(is_required: bool, issuers: IssuerSettings, audit: Audit) -> Self {
        Self {
            is_required,
            known: ArcSwap::from_pointee(Known::default()),
            seen: watch::channel((Generation(0), 0)).0,
            decisions: Decisions::default(),
            nobody: random::wide().to_be_bytes(),
            replays: Mutex::default(),
            away: Away::default(),
            issuers: Arc::new(Issuers::new(issuers)),
            audit,
        }
    }

    /// Of which salts of users that are not there are made: the same at each gateway, if placement says so.
    pub fn salts_of_nobody<'a>(&'a self, known: &'a Known) -> &'a [u8] {
        if known.salts.is_empty() { &self.nobody } else { known.salts.as_bytes() }
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

    /// Notes that a signature is used here.
    fn note_use(&self, account: AccountId, mark: u64) -> Use {
        // Spans are told by a clock that nobody sets.
        let now_s = (clock::monotonic_ms() / 1_000) as i64;
        let (used, forgotten) = self.replays.lock().expect("no panic holds this lock").note(account.0, mark, now_s);
        forget(forgotten);
        used
    }

    fn forget_use(&self, account: AccountId, mark: u64) {
        self.replays.lock().expect("no panic holds this lock").forget(account.0, mark);
    }

    /// Notes a login that did not come about, under the id that the client was told.
    pub fn note_refused(&self, origin: Origin, id: &str, reason: &Reason) {
        if self.audit.is_on() {
            let ((word, detail), (account, key)) = (reason.told(), reason.whose());
            let detail = detail.map(|detail| detail.chars().take(DETAIL_CHARS_MAX).collect());
            let access_key = key.map(str::to_owned);
            self.audit.note(Event {
                at_ms: clock::wall_ms(),
                source: origin.address,
                account,
                owner: None,
                is_of_audit: false,
                principal: None,
                access_key,
                action: CONNECT.name,
                resource: None,
                outcome: Outcome::Refused { id: id.to_owned(), reason: word, detail },
            });
        }
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
    let mut has_waited = false;
    loop {
        match gateway.placement.identities(None, Duration::ZERO).await {
            Ok(new) => return gateway.access.take(new),
            Err(error) if !std::mem::replace(&mut has_waited, true) => tracing::info!(%error, "waiting for identities"),
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Keeps identities up to date until the drain begins. Without placement they stay as they are.
pub async fn follow(gateway: Arc<Gateway>, mut drain: Drain) {
    let access = &gateway.access;
    let seen = *access.seen.borrow();
    let mut newest = Newest::new((seen.1 > 0).then_some(seen));
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
            Ok(new) if newest.may_believe((new.generation, new.revision), Generation(0)) => {
                access.take(new);
                gateway.quotas.refresh(&access.known(), gateway.tenant.account);
            }
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
