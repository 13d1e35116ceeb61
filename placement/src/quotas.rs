//! Shares of quotas: what gateways told lately, and what each of them may use.

use std::collections::HashMap;
use std::sync::Mutex;

use ::quotas::{Demand, shares};
use service::clock;
use service::quotas::{FlowUsage, QuotaShares, QuotaUsage, SHARE_TIMEOUT_MS, ScopeShare, ScopeUsage};
use types::{Flow, Stock};

/// What each gateway told last, and when, by scope.
#[derive(Debug, Default)]
pub struct QuotaBoard {
    told: Mutex<HashMap<i32, (u64, HashMap<String, ScopeUsage>)>>,
}

impl QuotaBoard {
    /// Notes what a gateway tells; answers with its shares. `alive`: how many gateways there are.
    pub fn take(&self, usage: QuotaUsage, alive: usize) -> QuotaShares {
        self.take_at(usage, alive, clock::monotonic_ms())
    }

    fn take_at(&self, usage: QuotaUsage, alive: usize, now_ms: u64) -> QuotaShares {
        let mut told = self.told.lock().expect("no panic holds this lock");
        told.retain(|_, (at_ms, _)| now_ms.saturating_sub(*at_ms) < SHARE_TIMEOUT_MS);
        let names: Vec<String> = usage.scopes.iter().map(|scope| scope.scope.clone()).collect();
        let scopes = usage.scopes.into_iter().map(|scope| (scope.scope.clone(), scope)).collect();
        told.insert(usage.gateway, (now_ms, scopes));
        let gateways = alive.max(1);
        let of_scope = |name: String| {
            let all = told.iter().filter_map(|(gateway, (_, scopes))| Some((*gateway, scopes.get(&name)?)));
            share(name.clone(), usage.gateway, &all.collect::<Vec<_>>(), gateways)
        };
        QuotaShares { gateways, scopes: names.into_iter().map(of_scope).collect() }
    }
}

fn share(scope: String, asker: i32, all: &[(i32, &ScopeUsage)], gateways: usize) -> ScopeShare {
    let mut share = ScopeShare { scope, ..ScopeShare::default() };
    for flow in Flow::ALL {
        let of = |usage: &ScopeUsage| usage.flows.iter().find(|known| known.flow == *flow).cloned();
        let told: Vec<(i32, FlowUsage)> =
            all.iter().filter_map(|(gateway, usage)| Some((*gateway, of(usage)?))).collect();
        // While a change of the limit is under way the lower one holds.
        let Some(limit) = told.iter().map(|(_, usage)| usage.limit).min() else { continue };
        share.used.push((*flow, told.iter().map(|(_, usage)| usage.used).sum()));
        let demands: Vec<Demand> =
            told.iter().map(|(_, usage)| Demand { used: usage.used, is_short: usage.is_short }).collect();
        let given = shares(limit, &demands, gateways);
        let own = told.iter().zip(given).find(|((gateway, _), _)| *gateway == asker);
        share.flows.extend(own.map(|(_, given)| (*flow, given)));
    }
    for stock in Stock::ALL {
        let held =
            |usage: &ScopeUsage| usage.stocks.iter().find(|(known, _)| known == stock).map_or(0, |(_, held)| *held);
        let elsewhere = all.iter().filter(|(gateway, _)| *gateway != asker).map(|(_, usage)| held(usage)).sum();
        if elsewhere > 0 {
            share.elsewhere.push((*stock, elsewhere));
        }
    }
    share
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(gateway: i32, used: u64, is_short: bool) -> QuotaUsage {
        let flows = vec![FlowUsage { flow: Flow::Ingress, limit: 1_000, used, is_short }];
        let scope = ScopeUsage { scope: "account/1".into(), flows, stocks: vec![(Stock::Connections, 3)] };
        QuotaUsage { gateway, scopes: vec![scope] }
    }

    fn ingress(shares: &QuotaShares) -> u64 {
        shares.scopes[0].flows[0].1
    }

    #[test]
    fn a_limit_is_shared_by_those_who_were_heard_lately() {
        let board = QuotaBoard::default();
        assert_eq!(ingress(&board.take_at(usage(1, 500, true), 1, 0)), 1_000);
        let second = board.take_at(usage(2, 500, true), 2, 10);
        let first = board.take_at(usage(1, 500, true), 2, 20);
        assert_eq!((ingress(&first), ingress(&second)), (500, 500));
        assert_eq!(first.scopes[0].elsewhere, [(Stock::Connections, 3)]);
        assert_eq!(first.scopes[0].used, [(Flow::Ingress, 1_000)]);
        // One that fell silent leaves its share to the other, once nobody counts it as alive.
        let later = board.take_at(usage(1, 500, true), 1, 20 + SHARE_TIMEOUT_MS);
        assert_eq!(ingress(&later), 1_000);
        assert!(later.scopes[0].elsewhere.is_empty());
    }

    #[test]
    fn who_says_nothing_keeps_a_little() {
        let board = QuotaBoard::default();
        assert_eq!(ingress(&board.take_at(usage(1, 900, true), 2, 0)), 875);
    }
}
