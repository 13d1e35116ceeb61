//! Quotas, pure: a token bucket that may be in debt ([`Bucket`]), and how gateways share one limit ([`shares`]).
//!
//! Rates are in thousandths of a unit per second, so that two a second can be shared by three.

mod bucket;
mod share;

pub use bucket::Bucket;
pub use share::{Demand, LEAST, least, shares};
