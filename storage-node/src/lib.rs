//! The storage node: keeps every record fsynced, here and on a second machine.
//!
//! The shell around `cores`: one `owner` task per partition steps the core and carries out its effects;
//! [`journal`] is the one thread that writes; [`flush`] moves committed batches into files; `peers` are the
//! connections to followers. Nothing here decides what the cores decide.

mod admin;
pub mod catalogue;
mod coordinator_log;
pub mod copy;
mod files;
pub mod flush;
mod following;
mod inventory;
pub mod journal;
mod listener;
mod mailbox;
mod membership;
mod node;
mod owner;
mod owners;
mod peers;
mod tail;
mod topics;
mod uses;

pub use node::{Settings, StartError, StorageNode};
