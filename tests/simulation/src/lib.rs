//! A deterministic simulator of Weir's cores.
//!
//! One seed draws everything: the network's delays and cuts, crashes, power cuts, torn writes, a lost disk, bit
//! rot, competing failovers, and the clients. The cores that run here are the ones that run in production. After
//! each step the [`oracle`] checks the numbered invariants of `docs/invariants.md`.

pub mod client;
pub mod disk;
pub mod groups;
pub mod model;
pub mod oracle;
pub mod rng;
pub mod world;

pub use world::{Outcome, Profile, Scenario, run};
