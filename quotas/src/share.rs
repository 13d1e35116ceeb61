//! How gateways share a limit: by what each of them needs, as it was lately.
//!
//! Together they never get more than the limit. A gateway that needs little gets what it needs and some more; what is left is shared
//! equally among those that could use it (max-min fairness). Who has not said that it needs anything keeps a little, so that it
//! can begin.

/// Every gateway has a part of an equal share, whatever it needs: one of so many.
pub const LEAST: u64 = 4;

/// What one gateway needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// What it used, in thousandths of a unit per second.
    pub used: u64,
    /// Whether somebody had to wait: it could use more.
    pub is_short: bool,
}

/// What a gateway has that did not say what it needs.
pub fn least(limit: u64, gateways: usize) -> u64 {
    match gateways {
        0 | 1 => limit,
        gateways => limit / (LEAST * gateways as u64),
    }
}

/// The share of each of those who say what they need, of `gateways` that there are, in thousandths of a unit per second.
pub fn shares(limit: u64, demands: &[Demand], gateways: usize) -> Vec<u64> {
    let gateways = gateways.max(demands.len());
    let least = least(limit, gateways);
    let mut left = limit.saturating_sub(least.saturating_mul((gateways - demands.len()) as u64));
    let wanted = |demand: &Demand| {
        let more = if demand.is_short { demand.used } else { demand.used / 4 };
        demand.used.saturating_add(more).max(least)
    };
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by_key(|i| wanted(&demands[*i]));
    let mut shares = vec![0; demands.len()];
    // Who wants least first: nobody gets more than an equal part of what is left while another wants more.
    for (taken, i) in order.iter().enumerate() {
        let equal = left / (demands.len() - taken) as u64;
        shares[*i] = wanted(&demands[*i]).min(equal);
        left -= shares[*i];
    }
    let spare = left / demands.len().max(1) as u64;
    shares.iter_mut().for_each(|share| *share += spare);
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn demand(used: u64, is_short: bool) -> Demand {
        Demand { used, is_short }
    }

    #[test]
    fn one_gateway_has_all_of_it() {
        assert_eq!(shares(1_000, &[demand(10, false)], 1), [1_000]);
        assert_eq!(least(1_000, 1), 1_000);
    }

    #[test]
    fn who_needs_little_leaves_the_rest_to_others() {
        let shares = shares(1_000, &[demand(100, false), demand(600, true)], 2);
        assert!(shares[0] >= 125 && shares[1] >= 800, "{shares:?}");
    }

    #[test]
    fn those_who_are_short_come_to_equal_parts_whoever_was_first() {
        let mut used = [900_000, 10_000];
        for _ in 0..12 {
            let now = shares(1_000_000, &[demand(used[0], true), demand(used[1], true)], 2);
            used = [now[0], now[1]];
        }
        assert!(used[0].abs_diff(used[1]) < 10_000, "{used:?}");
    }

    proptest! {
        #[test]
        fn together_they_get_no_more_than_the_limit_and_none_gets_nothing(
            limit in 100_u64..u64::MAX / 2,
            demands in prop::collection::vec((any::<u64>(), any::<bool>()), 0..9),
            silent in 0_usize..5,
        ) {
            let demands: Vec<Demand> = demands.into_iter().map(|(used, is_short)| demand(used, is_short)).collect();
            let gateways = demands.len() + silent;
            let shares = shares(limit, &demands, gateways);
            let of_silent = if gateways > 0 { least(limit, gateways) as u128 * silent as u128 } else { 0 };
            let total: u128 = shares.iter().map(|share| u128::from(*share)).sum();
            prop_assert!(total + of_silent <= u128::from(limit), "{shares:?} of {limit}");
            prop_assert!(shares.iter().all(|share| *share >= least(limit, gateways) || gateways > 25), "{shares:?}");
        }
    }
}
