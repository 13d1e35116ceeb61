//! The state machines that must be right.
//!
//! Each is pure: inputs and the time come in, effects go out; no I/O, clock, randomness or async runtime. The
//! shells of `storage-node` and `placement` and the simulator drive these very types.
//!
//! - [`producers`]: who has appended what, so that a retry is recognised.
//! - [`replica`]: one node's copy of one partition: fences, durable ends, watermarks.
//! - [`partition`]: the owner of a partition on a node: its replica, and its leader while it has one.
//! - [`failover`]: fence, decide, carry, open, compare-and-swap.
//! - [`repair`]: sealed segments back to two copies.
//! - [`retention`]: where a log begins.
//! - [`expiry`]: what of a log may go by its age and size, and when a segment has been open for long enough.
//! - [`scheduler`]: who is paired with whom, and what moves.
//! - [`packing`]: how entries become one journal write.
//! - [`rebuild`]: a partition's record made anew from what storage nodes hold.
//! - [`recovery`]: which of a journal's bytes are records, torn or damaged.

pub mod expiry;
pub mod failover;
pub mod groups;
pub mod image;
pub mod loss;
pub mod packing;
pub mod partition;
pub mod producers;
pub mod rebuild;
pub mod recovery;
pub mod repair;
pub mod replica;
pub mod retention;
mod rules;
pub mod scheduler;
pub mod slowness;

pub use rules::{Rule, Rules};
