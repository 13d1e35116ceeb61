//! What a flush keeps of a replica, and the replica that is made of it: each segment up to where it is committed and
//! durable. What lies above is in the journal, which is replayed on top.

use types::Offset;
use wire::DedupeSnapshot;
use wire::journal::OpenMeta;

use crate::producers::ProducerState;
use crate::replica::{Replica, Segment};

/// A segment as of a flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub open: OpenMeta,
    /// Everything below is committed, and is in files once the flush is recorded.
    pub end: Offset,
    /// The chain hash at `end`; 0 if it is not known.
    pub chain: u64,
    pub sealed: Option<Offset>,
    pub is_damaged: bool,
    /// Producer state at `end`.
    pub producers: DedupeSnapshot,
    /// Of a copy that is whole: the version of the record that it was made for.
    pub confirmed_for: u64,
}

impl Replica {
    /// Of every segment whose opening is durable.
    pub fn images(&self) -> impl Iterator<Item = Image> {
        self.segments().filter_map(Segment::image)
    }
}

impl Segment {
    fn image(&self) -> Option<Image> {
        let end = self.sealed.unwrap_or(self.commit).min(self.durable?);
        // Of a segment sealed below what was known to be committed here the state at the seal is not known any more: what
        // lies between is in the next segment.
        let producers = self.producers_at(end.max(self.commit)).unwrap_or_else(|| self.committed.clone());
        Some(Image {
            open: self.open.clone(),
            end,
            chain: self.chain_at(end),
            sealed: self.sealed,
            is_damaged: self.is_damaged,
            producers: producers.snapshot(),
            confirmed_for: self.confirmed_for,
        })
    }

    /// The segment of an image: everything below its end is in a file and durable.
    pub fn of_image(image: Image) -> Self {
        let producers = ProducerState::from_snapshot(&image.producers);
        let mut segment = Self::stored(image.open, image.end, image.chain, image.sealed, producers);
        segment.is_damaged = image.is_damaged;
        segment.copied_for = image.confirmed_for;
        segment.confirmed_for = image.confirmed_for;
        segment
    }
}
