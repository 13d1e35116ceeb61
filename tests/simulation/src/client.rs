//! A gateway as the cores see one: an ordered window of appends per partition, replayed in order until answered.

use std::collections::VecDeque;

use types::{AccountId, ClusterId, PrincipalId, Protocol, SegmentId, SessionId};
use wire::compression::Codec;
use wire::frame::{AppendHead, AppendRequest, Appended};
use wire::records::{BatchBuilder, NewRecord};
use wire::{Batch, DedupeKey};

/// One batch on its way.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub number: u64,
    pub batch: Batch,
    pub records: i32,
    /// Offset at which it was acknowledged.
    pub acked: Option<Appended>,
    /// How many batches of this client were acknowledged in order when this one was first sent.
    pub acked_before: Option<u64>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Client {
    pub id: u64,
    session: SessionId,
    /// Idempotent producers carry their own sequence; others use the gateway's.
    is_idempotent: bool,
    sequence: i32,
    producer_epoch: i16,
    next_number: u64,
    pub window: VecDeque<Outgoing>,
    pub window_max: usize,
    /// Where the window was last sent, and which of it.
    pub sent_to: Option<SegmentId>,
    pub sent: usize,
    pub sent_at_ms: u64,
    pub answered_at_ms: u64,
    pub acked: u64,
    pub target: u64,
    /// The last batch of the epoch before, as its producer would send it again.
    stale: Option<Batch>,
    last: Option<Batch>,
}

impl Client {
    pub fn new(id: u64, is_idempotent: bool, target: u64, window_max: usize) -> Self {
        Self {
            id,
            session: SessionId(u128::from(id) + 1),
            is_idempotent,
            sequence: 0,
            producer_epoch: 0,
            next_number: 0,
            window: VecDeque::new(),
            window_max,
            sent_to: None,
            sent: 0,
            sent_at_ms: 0,
            answered_at_ms: 0,
            acked: 0,
            target,
            stale: None,
            last: None,
        }
    }

    pub fn is_done(&self) -> bool {
        self.acked == self.target
    }

    /// Fills the window with new batches.
    pub fn fill(&mut self, records: i32, padding: usize) {
        if self.window.len() >= self.window_max || self.next_number >= self.target {
            return;
        }
        let mut builder = BatchBuilder::new();
        if self.is_idempotent {
            // As real clients do when nothing is in flight: a new epoch, whose sequences begin again.
            if self.window.is_empty() && self.sequence > 0 {
                (self.producer_epoch, self.sequence) = (self.producer_epoch + 1, 0);
                self.stale = self.last.take();
            }
            builder = builder.producer(self.id as i64 + 100, self.producer_epoch, self.sequence);
        }
        for record in 0..records {
            let value =
                format!("client {} batch {} record {record} {}", self.id, self.next_number, "x".repeat(padding));
            builder.push(NewRecord { key: None, value: Some(value.as_bytes()), timestamp: 1, headers: &[] });
        }
        let batch = builder.finish(Codec::None).expect("a small batch");
        // Gateways squeeze what is large enough: both forms travel, are journaled, carried and recovered.
        let batch = if self.next_number.is_multiple_of(2) { batch.squeezed() } else { batch };
        self.last = self.is_idempotent.then(|| batch.clone());
        self.sequence += records;
        let number = self.next_number;
        self.window.push_back(Outgoing { number, batch, records, acked: None, acked_before: None });
        self.next_number += 1;
    }

    /// The request of the batch at `index` of the window.
    pub fn request(&mut self, index: usize, segment: SegmentId) -> AppendRequest {
        let floor = self.window.front().map_or(self.next_number, |first| first.number);
        let acked = self.acked;
        let outgoing = &mut self.window[index];
        outgoing.acked_before.get_or_insert(acked);
        let (batch, number) = (outgoing.batch.clone(), outgoing.number);
        self.request_of(batch, DedupeKey::Session { session: self.session, number, floor }, segment)
    }

    /// The last batch of the producer's epoch before, if it had one and a newer one has written.
    pub fn stale(&self, segment: SegmentId) -> Option<AppendRequest> {
        let batch = self.stale.clone().filter(|_| self.acked > 0)?;
        Some(self.request_of(batch, DedupeKey::None, segment))
    }

    fn request_of(&self, batch: Batch, dedupe: DedupeKey, segment: SegmentId) -> AppendRequest {
        let head = AppendHead {
            account: AccountId(1),
            cluster: ClusterId(1),
            segment,
            principal: PrincipalId(0),
            protocol: Protocol::Kafka,
            dedupe,
            encryption_key: 0,
            log_append_time: false,
        };
        AppendRequest { head, batch }
    }

    /// Takes an acknowledgement; the batches that are answered in order leave the window.
    pub fn acknowledge(&mut self, number: u64, appended: Appended) -> Option<Batch> {
        let outgoing = self.window.iter_mut().find(|outgoing| outgoing.number == number)?;
        if outgoing.acked.is_some() {
            return None;
        }
        outgoing.acked = Some(appended);
        let batch = outgoing.batch.clone();
        while self.window.front().is_some_and(|first| first.acked.is_some()) {
            self.window.pop_front();
            self.acked += 1;
            self.sent = self.sent.saturating_sub(1);
        }
        Some(batch)
    }
}
