//! A token bucket that may be in debt.
//!
//! What is used is charged after the fact, however much it is, and paid off with time: Kafka does so as well (KIP-13), since how much a
//! fetch returns is known when it has been read. Who is in debt waits. The state is one number: until when what was used is
//! paid for.

/// In µs.
const SECOND: i64 = 1_000_000;

/// See the module's text. Times are in µs of any clock that does not go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    rate: u64,
    /// What was not used is kept for so long, in µs.
    burst_us: i64,
    paid_until_us: i64,
}

impl Bucket {
    /// A full one. `rate`: in thousandths per second; `burst_us`: how much time of it can be used at once.
    pub fn new(rate: u64, burst_us: u64, now_us: i64) -> Self {
        let burst_us = i64::try_from(burst_us).unwrap_or(i64::MAX / 4);
        Self { rate: rate.max(1), burst_us, paid_until_us: now_us.saturating_sub(burst_us) }
    }

    /// How long it takes to pay for so many units, in µs.
    fn time_of(&self, cost: u64) -> i64 {
        let us = u128::from(cost) * 1_000 * SECOND as u128 / u128::from(self.rate);
        i64::try_from(us).unwrap_or(i64::MAX / 4)
    }

    /// Uses so many units; returns how long it takes until they are paid for, in µs.
    pub fn charge(&mut self, now_us: i64, cost: u64) -> u64 {
        let from_us = self.paid_until_us.max(now_us.saturating_sub(self.burst_us));
        self.paid_until_us = from_us.saturating_add(self.time_of(cost));
        self.debt_us(now_us)
    }

    /// How long it takes until nothing is owed, in µs.
    pub fn debt_us(&self, now_us: i64) -> u64 {
        u64::try_from(self.paid_until_us.saturating_sub(now_us)).unwrap_or(0)
    }

    /// Units that can be used before anything is owed.
    pub fn left(&self, now_us: i64) -> u64 {
        let us = now_us.saturating_sub(self.paid_until_us).clamp(0, self.burst_us);
        (u128::from(self.rate) * us as u128 / (1_000 * SECOND as u128)) as u64
    }

    /// Units per second, in thousandths.
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// From now on at another rate; what is owed stays as many units.
    pub fn set_rate(&mut self, now_us: i64, rate: u64) {
        let rate = rate.max(1);
        let debt_us = u128::from(self.debt_us(now_us)) * u128::from(self.rate) / u128::from(rate);
        if debt_us > 0 {
            self.paid_until_us = now_us.saturating_add(i64::try_from(debt_us).unwrap_or(i64::MAX / 4));
        }
        self.rate = rate;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND_US: u64 = 1_000_000;

    #[test]
    fn what_is_used_is_paid_off_with_time() {
        let mut bucket = Bucket::new(2_000_000, SECOND_US, 0);
        assert_eq!(bucket.left(0), 2_000);
        assert_eq!(bucket.charge(0, 2_000), 0);
        assert_eq!(bucket.left(0), 0);
        assert_eq!(bucket.charge(0, 1_000), 500_000);
        assert_eq!((bucket.debt_us(500_000), bucket.left(1_000_000)), (0, 1_000));
        // What was not used for long is not kept for ever.
        assert_eq!(bucket.left(9_000_000), 2_000);
    }

    #[test]
    fn another_rate_changes_no_debt() {
        let mut bucket = Bucket::new(1_000_000, SECOND_US, 0);
        bucket.charge(0, 3_000);
        bucket.set_rate(0, 500_000);
        assert_eq!(bucket.debt_us(0), 4_000_000);
        bucket.set_rate(0, 4_000_000);
        assert_eq!(bucket.debt_us(0), 500_000);
    }

    #[test]
    fn nothing_overflows() {
        let mut bucket = Bucket::new(0, u64::MAX, i64::MIN);
        for cost in [u64::MAX, 1, u64::MAX] {
            bucket.charge(0, cost);
            bucket.set_rate(i64::MAX, u64::MAX);
            bucket.set_rate(0, 1);
        }
        assert!(bucket.debt_us(i64::MIN) > 0 && bucket.left(0) == 0);
    }

    proptest! {
        /// Whoever waits while it is in debt uses in no span of time more than the rate allows, what was saved up, and its
        /// last use, which is charged after the fact.
        #[test]
        fn no_more_is_used_than_was_allowed(
            steps in prop::collection::vec((0_u64..2_000_000, 0_u64..5_000), 1..200),
            rate in 1_u64..5_000_000,
        ) {
            let mut bucket = Bucket::new(rate, SECOND_US, 0);
            let mut uses: Vec<(i64, u64)> = Vec::new();
            let mut now_us = 0;
            for (pause_us, cost) in steps {
                now_us += pause_us as i64;
                if bucket.debt_us(now_us) == 0 {
                    bucket.charge(now_us, cost);
                    uses.push((now_us, cost));
                }
            }
            for (i, (from, _)) in uses.iter().enumerate() {
                for (j, (to, last)) in uses.iter().enumerate().skip(i) {
                    let used: u64 = uses[i..=j].iter().map(|(_, cost)| cost).sum();
                    let allowed = rate as f64 / 1_000.0 * ((to - from) as f64 / 1e6 + 1.0);
                    prop_assert!((used - last) as f64 <= allowed + 2.0, "{used} of {allowed}");
                }
            }
        }
    }
}
