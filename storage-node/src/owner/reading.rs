//! Readers of one partition: answered from memory and files, or parked until there is something to see.

use std::io::ErrorKind;

use service::clock;
use types::{ErrorCode, Nonce};
use wire::frame::{FetchReply, FetchRequest, Frame, Refusal};

use super::{Asker, Owner, Parked};

impl Owner {
    pub(super) fn wake_readers(&mut self, nonce: Nonce) {
        let (due, left) =
            std::mem::take(&mut self.parked).into_iter().partition(|p: &Parked| p.request.segment.nonce == nonce);
        self.parked = left;
        let due: Vec<Parked> = due;
        due.into_iter().for_each(|parked| self.retry_fetch(parked));
    }

    fn retry_fetch(&mut self, parked: Parked) {
        let is_over = parked.until_ms <= clock::monotonic_ms();
        let visible = self.core.visible(parked.request.segment.nonce);
        if !is_over && visible.is_some_and(|visible| visible <= parked.request.offset) {
            self.parked.push(parked);
        } else {
            self.answer_fetch(parked.asker, &parked.request, true);
        }
    }

    /// Answers, or parks the reader until there is something to see.
    pub(super) fn answer_fetch(&mut self, asker: Asker, request: &FetchRequest, is_last: bool) {
        let result = self.fetch(request);
        if self.is_unreadable.take() {
            // Another copy serves it, and repair makes this one anew.
            let effects = self.core.mark_damaged(request.segment.nonce);
            self.carry_out(effects);
        }
        let is_empty = matches!(&result, Ok(reply) if reply.batches.is_empty());
        let is_sealed = self.core.replica().segment(request.segment.nonce).is_some_and(|s| s.sealed.is_some());
        if is_empty && !is_last && !is_sealed && request.wait_ms > 0 && request.bytes_max > 0 {
            let until_ms = clock::monotonic_ms() + u64::from(request.wait_ms);
            self.parked.push(Parked { asker, request: Box::new(*request), until_ms });
            return;
        }
        asker.0.send(&Frame::Fetched(result), asker.1);
    }

    fn fetch(&self, request: &FetchRequest) -> Result<FetchReply, Refusal> {
        let refuse = |code, message: String| Err(Refusal { code, message });
        let nonce = request.segment.nonce;
        self.core.check_tenant(request.account, None)?;
        let Some(segment) = self.core.replica().segment(nonce) else {
            return refuse(ErrorCode::NotLeader, format!("storage node `{}` has no such segment", self.node.name));
        };
        if segment.is_damaged {
            let message =
                format!("the copy of {} on storage node `{}` is damaged", request.segment.partition, self.node.name);
            return refuse(ErrorCode::Damaged, message);
        }
        // A reader that knows the seal may read a sealed copy before this node has heard of it.
        let sealed = request.sealed_end.filter(|end| segment.durable.is_some_and(|durable| durable >= *end));
        let Some(visible) = self.core.visible(nonce).or(sealed) else {
            return refuse(
                ErrorCode::NotLeader,
                format!("storage node `{}` does not lead the segment", self.node.name),
            );
        };
        if request.bytes_max == 0 {
            // Only the watermark and the size were asked for. Above a seal that is not known here there may be more, which
            // is not of the segment: how large that is nobody can say yet.
            let is_final = request.sealed_end.is_none() || segment.sealed.is_some();
            let stored_bytes = if is_final { self.tail.stored_bytes(nonce) } else { 0 };
            return Ok(FetchReply { visible, stored_bytes, batches: bytes::Bytes::new() });
        }
        if segment.sealed.is_none() && request.offset > segment.end {
            // Above everything that was ever given an offset here. Between the watermark and that end the answer
            // is empty, never out of range (invariant 10).
            let message = format!("the segment ends at {}", segment.end);
            return refuse(ErrorCode::OffsetOutOfRange, message);
        }
        let bytes_max = (request.bytes_max as usize).min(types::limits::FETCH_BYTES_MAX);
        match self.tail.read(nonce, request.offset, request.since_ms, visible, bytes_max) {
            Ok(batches) => {
                self.node.metrics.bytes_read.add(batches.len() as u64);
                Ok(FetchReply { visible, stored_bytes: 0, batches })
            }
            Err(error) => {
                tracing::error!(%error, partition = %request.segment.partition, "stored batches cannot be read");
                // Too few descriptors, for instance, are no damage.
                let is_damage = matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof);
                self.is_unreadable.set(is_damage);
                refuse(ErrorCode::Damaged, format!("stored batches cannot be read: {error}"))
            }
        }
    }
}
