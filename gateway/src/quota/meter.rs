//! The meter of an account, a cluster, a user or a role: what it used, and what it may use through this gateway.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use quotas::{Bucket, LEAST, least};
use service::quotas::{FlowUsage, ScopeShare, ScopeUsage};
use tokio::sync::Notify;
use types::{Flow, Stock};

use super::{Quota, Scope};

const FLOWS: usize = Flow::ALL.len();
const STOCKS: usize = Stock::ALL.len();
/// Without use for so long, in µs, a meter is forgotten.
const IDLE_US: i64 = 600_000_000;
/// Placement is told of a scope for so long after its last use, in µs.
const ACTIVE_US: i64 = 5_000_000;

/// One flow of a meter.
#[derive(Debug, Default)]
struct Line {
    /// All that was ever used.
    total: AtomicU64,
    /// Of it what `look` has seen.
    looked: AtomicU64,
    /// Per second, in thousandths: what was used between the last two looks; and on all gateways, as placement said.
    used: AtomicU64,
    everywhere: AtomicU64,
    /// When it was used last, in µs.
    used_us: AtomicU64,
    /// Somebody had to wait since the last look.
    is_short: AtomicBool,
    was_short: AtomicBool,
    /// Where there is a limit.
    bucket: Mutex<Option<Bucket>>,
    /// Whether there is one, without its lock.
    is_limited: AtomicBool,
    /// What placement gave this gateway, in thousandths per second; 0: nothing was said.
    share: AtomicU64,
    /// Who used most of it, with what it used.
    top: Mutex<Option<(String, u64)>>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Meter {
    pub scope: Scope,
    quota: ArcSwap<Quota>,
    lines: [Line; FLOWS],
    gateways: AtomicU64,
    held: [AtomicU64; STOCKS],
    /// Partitions that are being made.
    pending: AtomicU64,
    elsewhere: [AtomicU64; STOCKS],
    looked_us: AtomicU64,
    active_us: AtomicU64,
    /// Told when a share is needed that placement has not given yet.
    needs_share: Arc<Notify>,
}

/// What a meter says of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    pub flow: Flow,
    /// Units in the flow's window; `None`: no limit.
    pub limit: Option<u64>,
    /// Units per second, lately, in thousandths: through all gateways.
    pub used: u64,
    /// Who used most of it here, and how much per second, in thousandths.
    pub top: Option<(String, u64)>,
    /// How long it takes until nothing is owed, in µs.
    pub debt_us: u64,
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn set(counter: &AtomicU64, value: u64) {
    counter.store(value, Ordering::Relaxed);
}

/// Of a flow, in thousandths per second.
fn rate_of(flow: Flow, limit: u64) -> u64 {
    limit.saturating_mul(1_000) / flow.window_s()
}

impl Meter {
    pub fn new(scope: Scope, quota: Quota, gateways: usize, now_us: i64, needs_share: Arc<Notify>) -> Self {
        let none = Quota { profile: String::new(), limits: types::Limits::default() };
        let meter = Self {
            scope,
            quota: ArcSwap::from_pointee(none),
            lines: Default::default(),
            gateways: AtomicU64::new(gateways as u64),
            held: Default::default(),
            pending: AtomicU64::new(0),
            elsewhere: Default::default(),
            looked_us: AtomicU64::new(now_us as u64),
            active_us: AtomicU64::new(now_us as u64),
            needs_share,
        };
        meter.set_quota(quota, now_us);
        meter
    }

    fn line(&self, flow: Flow) -> &Line {
        &self.lines[flow as usize]
    }

    pub fn quota(&self) -> Arc<Quota> {
        self.quota.load_full()
    }

    pub fn set_quota(&self, quota: Quota, now_us: i64) {
        if **self.quota.load() != quota {
            self.quota.store(Arc::new(quota));
            self.apply(now_us);
        }
    }

    /// Buckets as the limits and shares are now; what is owed stays owed.
    fn apply(&self, now_us: i64) {
        let (quota, gateways) = (self.quota.load(), load(&self.gateways) as usize);
        for flow in Flow::ALL {
            let line = self.line(*flow);
            let mut bucket = line.bucket.lock().expect("no panic holds this lock");
            let Some(limit) = quota.limits.flows.get(flow) else {
                *bucket = None;
                line.is_limited.store(false, Ordering::Relaxed);
                continue;
            };
            let limit = rate_of(*flow, *limit);
            let rate = match load(&line.share) {
                0 => least(limit, gateways),
                share => share.min(limit),
            };
            let burst_us = flow.window_s() * 1_000_000;
            match &mut *bucket {
                Some(bucket) => bucket.set_rate(now_us, rate),
                None => *bucket = Some(Bucket::new(rate, burst_us, now_us)),
            }
            line.is_limited.store(true, Ordering::Relaxed);
        }
    }

    /// What was used; returns how long it takes until it is paid for, in µs.
    pub fn charge(&self, flow: Flow, amount: u64, now_us: i64) -> u64 {
        let line = self.line(flow);
        line.total.fetch_add(amount, Ordering::Relaxed);
        set(&self.active_us, now_us as u64);
        set(&line.used_us, now_us as u64);
        if !line.is_limited.load(Ordering::Relaxed) {
            return 0;
        }
        let mut bucket = line.bucket.lock().expect("no panic holds this lock");
        let debt_us = bucket.as_mut().map_or(0, |bucket| bucket.charge(now_us, amount));
        drop(bucket);
        if debt_us > 0 {
            self.note_short(line);
        }
        self.owes_us(flow, now_us)
    }

    fn note_short(&self, line: &Line) {
        line.is_short.store(true, Ordering::Relaxed);
        if load(&line.share) == 0 && load(&self.gateways) > 1 {
            self.needs_share.notify_one();
        }
    }

    /// How long it takes until nothing is owed, in µs.
    pub fn owes_us(&self, flow: Flow, now_us: i64) -> u64 {
        let line = self.line(flow);
        if !line.is_limited.load(Ordering::Relaxed) {
            return 0;
        }
        let debt_us = line.bucket.lock().expect("no panic holds this lock").map_or(0, |bucket| bucket.debt_us(now_us));
        // A part that is not given yet will be an equal one, or more: nobody is told to wait for the least.
        if load(&line.share) == 0 && load(&self.gateways) > 1 { debt_us / LEAST } else { debt_us }
    }

    /// What may be used here in a second; `None`: no limit.
    pub fn per_s(&self, flow: Flow) -> Option<u64> {
        let bucket = self.line(flow).bucket.lock().expect("no panic holds this lock");
        bucket.as_ref().map(|bucket| bucket.rate() / 1_000)
    }

    /// How long it takes until nothing is owed, in µs. Whoever asks would use more.
    pub fn debt_us(&self, flow: Flow, now_us: i64) -> u64 {
        let debt_us = self.owes_us(flow, now_us);
        if debt_us > 0 {
            self.note_short(self.line(flow));
        }
        debt_us
    }

    /// The limit of a flow, what is left of it here at once, and for how long it counts, in seconds.
    pub fn left(&self, flow: Flow, now_us: i64) -> Option<(u64, u64)> {
        let limit = *self.quota.load().limits.flows.get(&flow)?;
        let bucket = self.line(flow).bucket.lock().expect("no panic holds this lock");
        Some((limit, bucket.as_ref()?.left(now_us)))
    }

    pub fn read(&self, flow: Flow, now_us: i64) -> Reading {
        let line = self.line(flow);
        let debt_us = self.owes_us(flow, now_us);
        Reading {
            flow,
            limit: self.quota.load().limits.flows.get(&flow).copied(),
            used: load(&line.used).max(load(&line.everywhere)),
            top: line.top.lock().expect("no panic holds this lock").clone(),
            debt_us,
        }
    }

    /// Counts what was used since the last look.
    pub fn look(&self, now_us: i64) {
        let since_us = (now_us as u64).saturating_sub(load(&self.looked_us)).max(1);
        set(&self.looked_us, now_us as u64);
        for line in &self.lines {
            let total = load(&line.total);
            let used = total - load(&line.looked);
            set(&line.looked, total);
            let per_s = u128::from(used) * 1_000_000_000 / u128::from(since_us);
            set(&line.used, u64::try_from(per_s).unwrap_or(u64::MAX));
            line.was_short.store(line.is_short.swap(false, Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Who of these used most of each flow since the last look.
    pub fn note_top(&self, users: &[Arc<Self>]) {
        for flow in Flow::ALL {
            let most = users.iter().max_by_key(|user| load(&user.line(*flow).used));
            let most = most.map(|user| (user.scope.to_string(), load(&user.line(*flow).used)));
            *self.line(*flow).top.lock().expect("no panic holds this lock") = most.filter(|(_, used)| *used > 0);
        }
    }

    pub fn is_idle(&self, now_us: i64) -> bool {
        let is_long_ago = now_us.saturating_sub(load(&self.active_us) as i64) > IDLE_US;
        let owes = || Flow::ALL.iter().any(|flow| self.read(*flow, now_us).debt_us > 0);
        is_long_ago && self.held.iter().all(|held| load(held) == 0) && !owes()
    }

    /// What placement is told; `None` where nothing is limited, or used.
    pub fn usage(&self, now_us: i64) -> Option<ScopeUsage> {
        let quota = self.quota.load();
        let is_active = now_us.saturating_sub(load(&self.active_us) as i64) < ACTIVE_US;
        let stocks: Vec<(Stock, u64)> = quota
            .limits
            .stocks
            .keys()
            .map(|stock| (*stock, load(&self.held[*stock as usize])))
            .filter(|(_, held)| *held > 0)
            .collect();
        let owes = || Flow::ALL.iter().any(|flow| self.owes_us(*flow, now_us) > 0);
        if !is_active && stocks.is_empty() && !owes() {
            return None;
        }
        let told = quota.limits.flows.iter().filter_map(|(flow, limit)| {
            let line = self.line(*flow);
            // What is owed is paid off as fast as it may be, whether or not its user is still there.
            let owes = self.owes_us(*flow, now_us) > 0;
            let (used, is_short) = (load(&line.used), owes || line.was_short.load(Ordering::Relaxed));
            // Who comes back soon keeps its share.
            let since_us = now_us.saturating_sub(load(&line.used_us) as i64);
            let is_used = used > 0 || is_short || (since_us < ACTIVE_US && load(&line.total) > 0);
            is_used.then(|| FlowUsage { flow: *flow, limit: rate_of(*flow, *limit), used, is_short })
        });
        let flows: Vec<FlowUsage> = told.collect();
        let is_worth_telling = !flows.is_empty() || !stocks.is_empty();
        is_worth_telling.then(|| ScopeUsage { scope: self.scope.to_string(), flows, stocks })
    }

    /// What placement gives; of a scope that it was not told of it gives nothing.
    pub fn take_share(&self, share: Option<ScopeShare>, gateways: usize, now_us: i64) {
        let share = share.unwrap_or_default();
        set(&self.gateways, gateways as u64);
        let of =
            |told: &[(Flow, u64)], flow| told.iter().find(|(known, _)| *known == flow).map_or(0, |(_, value)| *value);
        for flow in Flow::ALL {
            set(&self.line(*flow).share, of(&share.flows, *flow));
            set(&self.line(*flow).everywhere, of(&share.used, *flow));
        }
        for stock in Stock::ALL {
            let elsewhere = share.elsewhere.iter().find(|(known, _)| known == stock).map_or(0, |(_, held)| *held);
            set(&self.elsewhere[*stock as usize], elsewhere);
        }
        self.apply(now_us);
    }

    /// What is held of a stock, here and elsewhere.
    pub fn held(&self, stock: Stock) -> u64 {
        load(&self.held[stock as usize]) + load(&self.elsewhere[stock as usize])
    }

    /// One more of a stock, where one more may be; else how many may.
    pub fn hold(&self, stock: Stock) -> Result<(), u64> {
        let max = self.quota.load().limits.stocks.get(&stock).copied().unwrap_or(u64::MAX);
        let elsewhere = load(&self.elsewhere[stock as usize]);
        let more = |held: u64| (held + elsewhere < max).then_some(held + 1);
        self.held[stock as usize].fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map(drop).map_err(|_| max)
    }

    /// So many more partitions are being made; returns how many are in all.
    pub fn begin_partitions(&self, more: u64) -> u64 {
        self.pending.fetch_add(more, Ordering::Relaxed) + more
    }

    pub fn end_partitions(&self, more: u64) {
        self.pending.fetch_sub(more, Ordering::Relaxed);
    }

    pub fn release(&self, stock: Stock) {
        self.held[stock as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use types::{AccountId, Limits};

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn quota(ingress: u64) -> Quota {
        let flows = BTreeMap::from([(Flow::Ingress, ingress)]);
        let stocks = BTreeMap::from([(Stock::Connections, 2)]);
        Quota { profile: "test".into(), limits: Limits { flows, stocks } }
    }

    fn meter(gateways: usize) -> Meter {
        Meter::new(Scope::Account(AccountId(1)), quota(1_000), gateways, 0, Arc::default())
    }

    #[test]
    fn one_gateway_has_the_whole_limit_and_several_what_placement_gives() {
        let alone = meter(1);
        assert_eq!(alone.charge(Flow::Ingress, 3_000, 0), 2 * SECOND as u64);
        assert_eq!(alone.charge(Flow::Egress, u64::MAX, 0), 0, "no limit");
        let among = meter(2);
        assert_eq!(among.charge(Flow::Ingress, 125, 0), 0);
        // A second of the least part: a fourth of an equal one.
        assert_eq!(among.charge(Flow::Ingress, 125, 0), SECOND as u64 / 4);
        let share = ScopeShare { flows: vec![(Flow::Ingress, 500_000)], ..ScopeShare::default() };
        among.take_share(Some(share), 2, 0);
        assert_eq!(among.debt_us(Flow::Ingress, 0), 250_000, "as much is owed, and paid off faster");
    }

    #[test]
    fn what_was_used_is_told_while_it_is_of_interest() {
        let meter = meter(1);
        meter.charge(Flow::Ingress, 3_000, 0);
        meter.look(2 * SECOND);
        let usage = meter.usage(2 * SECOND).expect("told");
        let told = FlowUsage { flow: Flow::Ingress, limit: 1_000_000, used: 1_500_000, is_short: true };
        assert_eq!(usage.flows, [told]);
        meter.look(9 * SECOND);
        meter.look(9 * SECOND);
        assert_eq!(meter.usage(9 * SECOND), None);
        assert!(!meter.is_idle(9 * SECOND) && meter.is_idle(10 * IDLE_US));
    }

    #[test]
    fn no_more_is_held_than_may_be_here_and_elsewhere() {
        let meter = meter(1);
        assert_eq!((meter.hold(Stock::Connections), meter.hold(Stock::Connections)), (Ok(()), Ok(())));
        assert_eq!(meter.hold(Stock::Connections), Err(2));
        meter.release(Stock::Connections);
        let share = ScopeShare { elsewhere: vec![(Stock::Connections, 1)], ..ScopeShare::default() };
        meter.take_share(Some(share), 2, 0);
        assert_eq!((meter.hold(Stock::Connections), meter.held(Stock::Connections)), (Err(2), 2));
    }
}
