//! Quotas: what an account, a cluster, a user or a role may use, and what it has used.
//!
//! Each has a [`Meter`]; a caller pays at all that are its own ([`toll::Toll`]). A limit is shared among gateways: once a second each
//! tells placement what was used through it, and is told its part.

mod meter;
pub mod stock;
pub mod toll;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use service::clock;
use service::drain::Drain;
use service::quotas::{QuotaShares, QuotaUsage, SHARE_EVERY_MS};
use tokio::sync::Notify;
use types::{AccountId, Limits, MSK_SERVERLESS, UNLIMITED};

use crate::Gateway;
use crate::access::known::Known;
use crate::tenant::Tenant;

pub use meter::Meter;

/// Whoever waits for a first share waits a little for others.
const SHARE_SOON: Duration = Duration::from_millis(100);
/// A share that nobody renewed holds for so long, in ms.
const SHARE_HOLDS_MS: u64 = 10 * SHARE_EVERY_MS;

/// Whose usage is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All its clusters together.
    Account(AccountId),
    Cluster(Tenant),
    User(AccountId, String),
    /// All its sessions together.
    Role(AccountId, String),
}

impl Scope {
    pub fn account(&self) -> AccountId {
        match self {
            Self::Account(account) | Self::User(account, _) | Self::Role(account, _) => *account,
            Self::Cluster(tenant) => tenant.account,
        }
    }
}

/// The same on all gateways.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let account = self.account().digits();
        match self {
            Self::Account(_) => write!(f, "account/{account}"),
            Self::Cluster(tenant) => write!(f, "cluster/{account}/{}", tenant.cluster),
            Self::User(_, name) => write!(f, "user/{account}/{name}"),
            Self::Role(_, name) => write!(f, "role/{account}/{name}"),
        }
    }
}

/// A profile and what it limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    pub profile: String,
    pub limits: Limits,
}

/// The quota of a scope, as identities say it.
pub fn quota_of(known: &Known, operator: AccountId, scope: &Scope) -> Quota {
    let account = scope.account();
    let (chosen, unsaid) = match scope {
        Scope::Account(id) => {
            let chosen = known.account(*id).and_then(|account| account.quota.clone());
            (chosen, if *id == operator { UNLIMITED } else { MSK_SERVERLESS })
        }
        Scope::Cluster(tenant) => {
            (known.cluster_of(*tenant).and_then(|cluster| cluster.record.quota.clone()), UNLIMITED)
        }
        Scope::User(id, name) => (known.user(*id, name).and_then(|user| user.grants.quota.clone()), UNLIMITED),
        Scope::Role(id, name) => (known.role(*id, name).and_then(|role| role.grants.quota.clone()), UNLIMITED),
    };
    let profile = chosen.unwrap_or_else(|| unsaid.to_owned());
    // Its own profiles are for its users and roles alone.
    let own = matches!(scope, Scope::User(..) | Scope::Role(..)).then_some(account);
    let limits = known.limits(own.into_iter().chain([operator]), &profile);
    Quota { profile, limits }
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Quotas {
    meters: DashMap<Scope, Arc<Meter>>,
    /// That are alive, as placement said last; 0: nobody said so yet.
    gateways: AtomicUsize,
    pub groups: stock::GroupNames,
    needs_share: Arc<Notify>,
}

/// Now, in µs of the clock of buckets.
pub fn now_us() -> i64 {
    clock::monotonic_us() as i64
}

impl Quotas {
    /// The meter of a scope; made when it is first used.
    pub fn meter(&self, gateway: &Gateway, scope: Scope) -> Arc<Meter> {
        if let Some(known) = self.meters.get(&scope) {
            return Arc::clone(&known);
        }
        let gateways = self.gateways(gateway);
        // Read while the entry is held: a change of identities comes before it, or finds it.
        let made = || {
            let quota = quota_of(&gateway.access.known(), gateway.tenant.account, &scope);
            Arc::new(Meter::new(scope.clone(), quota, gateways, now_us(), Arc::clone(&self.needs_share)))
        };
        Arc::clone(&self.meters.entry(scope.clone()).or_insert_with(made))
    }

    /// The meter of a scope, if there was any use of it lately.
    pub fn find(&self, scope: &Scope) -> Option<Arc<Meter>> {
        self.meters.get(scope).map(|known| Arc::clone(&known))
    }

    fn gateways(&self, gateway: &Gateway) -> usize {
        match self.gateways.load(Ordering::Relaxed) {
            // Those that clients of this one may use as well.
            0 => gateway.gateways_for(false).len().max(1),
            told => told,
        }
    }

    /// Sets limits as identities say them now.
    pub fn refresh(&self, known: &Known, operator: AccountId) {
        let now_us = now_us();
        for meter in &self.meters {
            meter.set_quota(quota_of(known, operator, &meter.scope), now_us);
        }
        self.groups.retain(|tenant| known.cluster_of(tenant).is_some());
    }

    /// Counts what was used since the last time, and who used most of it; forgets who has not been there for long.
    fn look(&self) {
        let now_us = now_us();
        self.meters.retain(|_, meter| {
            meter.look(now_us);
            Arc::strong_count(meter) > 1 || !meter.is_idle(now_us)
        });
        let mut users: HashMap<AccountId, Vec<Arc<Meter>>> = HashMap::new();
        for meter in self.meters.iter().filter(|meter| matches!(meter.scope, Scope::User(..) | Scope::Role(..))) {
            users.entry(meter.scope.account()).or_default().push(Arc::clone(&meter));
        }
        for meter in self.meters.iter().filter(|meter| matches!(meter.scope, Scope::Account(_))) {
            meter.note_top(users.get(&meter.scope.account()).map_or(&[], Vec::as_slice));
        }
    }

    fn usage(&self, gateway: i32) -> QuotaUsage {
        let now_us = now_us();
        let scopes = self.meters.iter().filter_map(|meter| meter.usage(now_us)).collect();
        QuotaUsage { gateway, scopes }
    }

    fn take(&self, shares: QuotaShares) {
        self.gateways.store(shares.gateways, Ordering::Relaxed);
        let now_us = now_us();
        let mut told: HashMap<String, _> =
            shares.scopes.into_iter().map(|share| (share.scope.clone(), share)).collect();
        for meter in &self.meters {
            meter.take_share(told.remove(&meter.scope.to_string()), shares.gateways, now_us);
        }
    }

    /// Placement has been silent for long: others may have been given what was ours.
    fn take_nothing(&self, gateways: usize) {
        let now_us = now_us();
        for meter in &self.meters {
            meter.take_share(None, gateways, now_us);
        }
    }
}

/// Tells placement what was used, and takes shares, until the drain begins.
pub async fn share(gateway: Arc<Gateway>, mut drain: Drain) {
    let quotas = &gateway.quotas;
    let (mut told_ms, mut is_alone) = (clock::monotonic_ms(), false);
    loop {
        tokio::select! {
            biased;
            () = drain.begun() => return,
            () = tokio::time::sleep(Duration::from_millis(SHARE_EVERY_MS)) => {}
            () = quotas.needs_share.notified() => tokio::time::sleep(SHARE_SOON).await,
        }
        quotas.look();
        match gateway.placement.share_quotas(&quotas.usage(gateway.id)).await {
            Ok(shares) => {
                quotas.take(shares);
                told_ms = clock::monotonic_ms();
                is_alone = false;
            }
            Err(error) => {
                tracing::debug!(%error, "quotas cannot be shared; going on with the last shares");
                if clock::monotonic_ms().saturating_sub(told_ms) > SHARE_HOLDS_MS {
                    if !std::mem::replace(&mut is_alone, true) {
                        tracing::warn!(%error, "quotas were not shared for long: each gateway goes on with the least part of limits");
                    }
                    quotas.take_nothing(quotas.gateways(&gateway));
                }
            }
        }
    }
}
