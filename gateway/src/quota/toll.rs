//! What one caller pays: at the meters of its account, of its cluster, and of its user or role.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use types::{AccountId, ErrorCode, Flow, Stock};
use wire::frame::Refusal;

use super::meter::{Meter, Reading};
use super::{Scope, now_us};
use crate::Gateway;
use crate::access::known::{Login, Who};
use crate::error::refuse;
use crate::tenant::Tenant;

/// One use of a flow may be so many bytes, however small the limit is.
const ONE_USE_MIN: u64 = 1024 * 1024;

/// See the module's text.
#[derive(Debug)]
pub struct Toll {
    meters: Vec<Arc<Meter>>,
    account: AccountId,
    rest: Arc<Rest>,
}

/// The rest of one connection, whoever is its caller: what an earlier one began is paid for by the next.
#[derive(Debug, Default)]
struct Rest {
    until_us: AtomicI64,
    /// What clients are told to wait beyond that.
    told_until_us: AtomicI64,
    /// Flows that it has paid for, as bits: from then on it waits for what it used itself.
    paid: AtomicU32,
}

/// A quota that is used up.
#[derive(Debug, Clone)]
pub struct Bite {
    pub scope: Scope,
    pub profile: String,
    pub reading: Reading,
}

impl Bite {
    /// Until nothing is owed.
    pub fn wait(&self) -> Duration {
        Duration::from_micros(self.reading.debt_us)
    }

    /// Which quota, whose usage, for how long.
    pub fn refusal(&self) -> Refusal {
        let Reading { flow, limit, top, .. } = &self.reading;
        let (name, unit, limit) = (flow.name(), flow.unit(), limit.unwrap_or_default());
        let window = if flow.window_s() == 1 { "a second".to_owned() } else { format!("in {} s", flow.window_s()) };
        let top = top
            .as_ref()
            .map(|(who, used)| format!("; `{who}` used most of it just now, {:.1} a second", *used as f64 / 1_000.0));
        let seconds = self.wait().as_secs_f64();
        let message = format!(
            "`{name}` of {} is used up: {limit} {unit} {window} (quota profile `{}`){}; try again in {seconds:.1} s",
            self.scope,
            self.profile,
            top.unwrap_or_default()
        );
        refuse(ErrorCode::QuotaExceeded, message)
    }
}

impl Toll {
    pub fn new(gateway: &Gateway, tenant: Tenant, login: Option<&Login>) -> Self {
        // Whoever reads another account's cluster uses that account's quota: it is the one that is billed.
        let mut scopes = vec![Scope::Account(tenant.account)];
        if tenant.has_cluster() {
            scopes.push(Scope::Cluster(tenant));
        }
        scopes.extend(login.map(|login| match &login.who {
            Who::User(name) => Scope::User(login.account, name.clone()),
            Who::Session { role, .. } => Scope::Role(login.account, role.clone()),
        }));
        let meters = scopes.into_iter().map(|scope| gateway.quotas.meter(gateway, scope)).collect();
        let account = login.map_or(tenant.account, |login| login.account);
        Self { meters, account, rest: Arc::default() }
    }

    /// A caller that takes another's place on a connection goes on where that one is.
    pub fn go_on_from(&mut self, before: &Self) {
        self.rest = Arc::clone(&before.rest);
    }

    /// What was used is paid for, and the connection rests until it is.
    pub fn charge(&self, flow: Flow, amount: u64) {
        let now_us = now_us();
        let debt_us = self.meters.iter().map(|meter| meter.charge(flow, amount, now_us)).max().unwrap_or(0);
        self.rest.paid.fetch_or(1 << flow as u32, Ordering::Relaxed);
        if debt_us > 0 {
            let until_us = now_us.saturating_add(i64::try_from(debt_us).unwrap_or(i64::MAX));
            self.rest.until_us.fetch_max(until_us, Ordering::Relaxed);
        }
    }

    /// How long the connection rests from now on: no longer than something is owed at all.
    pub fn rest(&self) -> Duration {
        let now_us = now_us();
        let left_us = self.rest.until_us.load(Ordering::Relaxed).saturating_sub(now_us);
        let Ok(left_us) = u64::try_from(left_us) else { return Duration::ZERO };
        let paid = self.rest.paid.load(Ordering::Relaxed);
        let flows = Flow::ALL.iter().filter(|flow| paid & (1 << **flow as u32) != 0);
        let owed = flows.flat_map(|flow| self.meters.iter().map(|meter| meter.owes_us(*flow, now_us)));
        Duration::from_micros(left_us.min(owed.max().unwrap_or(0)))
    }

    /// What a client is told to wait, in ms.
    pub fn throttle_ms(&self) -> i32 {
        let told_us = self.rest.told_until_us.load(Ordering::Relaxed).saturating_sub(now_us());
        let told = Duration::from_micros(u64::try_from(told_us).unwrap_or(0));
        i32::try_from(self.rest().max(told).as_micros().div_ceil(1_000)).unwrap_or(i32::MAX)
    }

    /// Clients of this connection are told to wait for what they were refused.
    pub fn tell(&self, bite: &Bite) {
        let until_us = now_us().saturating_add(i64::try_from(bite.reading.debt_us).unwrap_or(i64::MAX));
        self.rest.told_until_us.fetch_max(until_us, Ordering::Relaxed);
    }

    /// The most that one use of a flow may be: a second's worth, and enough to be of use.
    pub fn most(&self, flow: Flow) -> u64 {
        let all = self.meters.iter().filter_map(|meter| meter.per_s(flow));
        all.min().map_or(u64::MAX, |per_s| per_s.max(ONE_USE_MIN))
    }

    /// How long a caller waits before its first use of a flow: for what others of its account owe. Else whoever has to wait
    /// would connect anew instead.
    pub fn first_wait(&self, flow: Flow) -> Duration {
        if self.rest.paid.load(Ordering::Relaxed) & (1 << flow as u32) != 0 {
            return Duration::ZERO;
        }
        let now_us = now_us();
        let debt_us = self.meters.iter().map(|meter| meter.debt_us(flow, now_us)).max().unwrap_or(0);
        Duration::from_micros(debt_us)
    }

    /// # Errors
    /// The quota that is used up, the one of the longest wait.
    pub fn check(&self, flow: Flow) -> Result<(), Bite> {
        let now_us = now_us();
        let worst = self.meters.iter().max_by_key(|meter| meter.debt_us(flow, now_us));
        match worst.filter(|meter| meter.debt_us(flow, now_us) > 0) {
            Some(meter) => Err(self.bite(meter, flow, now_us)),
            None => Ok(()),
        }
    }

    fn bite(&self, meter: &Meter, flow: Flow, now_us: i64) -> Bite {
        let mut reading = meter.read(flow, now_us);
        let is_of_several = matches!(meter.scope, Scope::Account(_) | Scope::Cluster(_));
        // Whose users they are is not told to others.
        if meter.scope.account() != self.account {
            reading.top = None;
        } else if reading.top.is_none() && is_of_several {
            // Of all principals together: noted with the account.
            let of_account = self.meters.iter().find(|meter| matches!(meter.scope, Scope::Account(_)));
            reading.top = of_account.and_then(|meter| meter.read(flow, now_us).top);
        }
        Bite { scope: meter.scope.clone(), profile: meter.quota().profile.clone(), reading }
    }

    /// The limit of a flow of which least is left, with what is left; `None` without any.
    pub fn tightest(&self, flow: Flow) -> Option<(u64, u64, Duration)> {
        let now_us = now_us();
        let all = self.meters.iter().filter_map(|meter| {
            let (limit, left) = meter.left(flow, now_us)?;
            Some((limit, left, Duration::from_micros(meter.owes_us(flow, now_us))))
        });
        all.min_by_key(|(_, left, debt)| (*left, std::cmp::Reverse(*debt)))
    }

    /// A connection of this caller is open as long as this is held.
    ///
    /// # Errors
    /// It has as many as it may, or opens them too fast.
    pub fn connect(&self) -> Result<Connected, Refusal> {
        self.check(Flow::Connects).map_err(|bite| bite.refusal())?;
        self.charge_quietly(Flow::Connects, 1);
        let mut connected = Connected { meters: Vec::with_capacity(self.meters.len()) };
        for meter in &self.meters {
            meter.hold(Stock::Connections).map_err(|max| too_many(meter, Stock::Connections, max))?;
            connected.meters.push(Arc::clone(meter));
        }
        Ok(connected)
    }

    /// Without a rest: what is owed is asked before the next one.
    pub fn charge_quietly(&self, flow: Flow, amount: u64) {
        let now_us = now_us();
        for meter in &self.meters {
            meter.charge(flow, amount, now_us);
        }
    }

    /// The meters of the account and the cluster that limit a stock, and how many there may be.
    pub fn limits_of(&self, stock: Stock) -> impl Iterator<Item = (u64, &Arc<Meter>)> {
        let counts = |meter: &&Arc<Meter>| matches!(meter.scope, Scope::Account(_) | Scope::Cluster(_));
        let all = self.meters.iter().filter(counts);
        all.filter_map(move |meter| Some((*meter.quota().limits.stocks.get(&stock)?, meter)))
    }
}

/// What a client is told that has as many as it may.
pub fn too_many(meter: &Meter, stock: Stock, max: u64) -> Refusal {
    let (scope, profile) = (&meter.scope, &meter.quota().profile);
    let message = format!("{scope} has {max} {} at most (quota profile `{profile}`)", stock.name());
    refuse(ErrorCode::LimitReached, message)
}

/// Counts an open connection, until it is dropped.
#[derive(Debug)]
pub struct Connected {
    meters: Vec<Arc<Meter>>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        for meter in &self.meters {
            meter.release(Stock::Connections);
        }
    }
}
