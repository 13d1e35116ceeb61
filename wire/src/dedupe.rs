//! What makes a retried append recognisable, and the snapshot of it that each segment begins with.

use types::SessionId;

use crate::batch::Batch;
use crate::layout::layout;

/// Names one append across retries, failovers and restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DedupeKey {
    /// None: the caller gave none. Only carried or internal batches.
    None,
    /// The batch is an idempotent producer's: its own id, epoch and sequence count.
    Producer { id: i64, epoch: i16, base_sequence: i32, last_sequence: i32 },
    /// The gateway's: its session and a number that counts up per partition from 0.
    /// `floor` is the lowest number that the gateway may still send again; below it the leader forgets.
    Session { session: SessionId, number: u64, floor: u64 },
}

impl DedupeKey {
    /// The key that an idempotent producer's batch carries itself (KIP-98); `None` where it has none.
    pub fn of_producer(batch: &Batch) -> Option<Self> {
        let header = batch.header();
        (header.producer_id >= 0 && header.base_sequence >= 0).then(|| Self::Producer {
            id: header.producer_id,
            epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            last_sequence: sequence_plus(header.base_sequence, header.last_offset_delta),
        })
    }
}

/// Sequences count from 0 to `i32::MAX` and begin again (KIP-98).
pub fn sequence_plus(sequence: i32, by: i32) -> i32 {
    ((i64::from(sequence) + i64::from(by)) % (i64::from(i32::MAX) + 1)) as i32
}

/// An append that is in the log, as its retry must be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RememberedBatch {
    /// First sequence, or the session's number.
    pub first: i64,
    /// Last sequence, or the same number.
    pub last: i64,
    pub base_offset: i64,
    pub end_offset: i64,
    pub append_time: i64,
}

/// A producer's last batches, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProducerEntry {
    pub id: i64,
    pub epoch: i32,
    /// Log time of its last append, in ms.
    pub last_time: i64,
    pub batches: Vec<RememberedBatch>,
}

/// A gateway session's appends at or above its floor, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionEntry {
    pub session: SessionId,
    /// The number that comes next.
    pub next: u64,
    pub last_time: i64,
    pub batches: Vec<RememberedBatch>,
}

/// Producer state at an offset: a pure function of the log below it. Sorted by id, so equal states have
/// equal bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct DedupeSnapshot {
    pub producers: Vec<ProducerEntry>,
    pub sessions: Vec<SessionEntry>,
    /// The highest append time in the log, in ms.
    pub log_time: i64,
}

layout!(enum DedupeKey {
    0 = None,
    1 = Producer { id, epoch, base_sequence, last_sequence },
    2 = Session { session, number, floor },
});
layout!(struct RememberedBatch { first, last, base_offset, end_offset, append_time });
layout!(struct ProducerEntry { id, epoch, last_time, batches });
layout!(struct SessionEntry { session, next, last_time, batches });
layout!(struct DedupeSnapshot { producers, sessions, log_time });
