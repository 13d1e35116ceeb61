//! The one place where shells read clocks. Cores are given the time.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

static START: OnceLock<Instant> = OnceLock::new();

/// Ms since the process first asked; never falls.
pub fn monotonic_ms() -> u64 {
    START.get_or_init(Instant::now).elapsed().as_millis() as u64
}

/// The same in µs.
pub fn monotonic_us() -> u64 {
    START.get_or_init(Instant::now).elapsed().as_micros() as u64
}

/// Ms since 1970 by the wall clock.
pub fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
