//! Every byte layout of Weir: Kafka messages and record batches, internal frames, journal and segment files.
//!
//! Encode and decode only. Nothing here does I/O; no decoder panics on any input, and none allocates more
//! than the bytes it was given call for (`codec`).

pub mod batch;
pub mod codec;
pub mod compression;
pub mod dedupe;
pub mod frame;
pub mod groups;
pub mod inventory;
pub mod journal;
pub mod kafka;
pub mod layout;
pub mod murmur2;
pub mod records;
pub mod segment;
pub mod stored;

pub use batch::{Batch, BatchError, BatchHeader};
pub use codec::{DecodeError, Reader, Writer};
pub use dedupe::{DedupeKey, DedupeSnapshot, ProducerEntry, RememberedBatch, SessionEntry};
