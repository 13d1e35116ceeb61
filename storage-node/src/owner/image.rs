//! A partition as the catalogue has it: its image for a flush, and the replica that is made of one.

use std::collections::BTreeMap;

use cores::Rules;
use cores::image::Image;
use cores::replica::{Replica, Segment};
use types::TopicPartition;

use super::Owner;
use crate::catalogue::{CopyMark, PartitionImage, SegmentImage};
use crate::flush::FlushJob;

impl Owner {
    /// Everything committed that is in no file yet, and the state that goes with it.
    pub(super) fn flush_job(&mut self) -> FlushJob {
        self.is_dirty = false;
        self.is_flushing |= !self.is_deleted();
        let replica = self.core.replica();
        let (generation, epoch) = replica.floor();
        let mut ends = BTreeMap::new();
        let mut pieces = Vec::new();
        let mut segments = Vec::new();
        let mut copies = Vec::new();
        for image in replica.images() {
            let nonce = image.open.segment.nonce;
            ends.insert(nonce, image.end);
            let batches = self.tail.unflushed(nonce, image.end);
            if !batches.is_empty() {
                pieces.push((image.open.clone(), batches));
            }
            if image.confirmed_for > 0 {
                copies.push(CopyMark { nonce, record_version: image.confirmed_for });
            }
            let Image { open, end, chain, sealed, is_damaged, producers, .. } = image;
            segments.push(SegmentImage { open, end, chain, sealed, is_damaged, producers });
        }
        let needed = self.tail.journal_needed(&ends);
        // What the journal still owes is in no image; so is what it holds above the ends.
        self.is_dirty |= needed.is_some() || !self.owed.is_empty();
        self.deletion.is_flushing = self.is_deleted();
        let dropped = std::mem::take(&mut self.deletion.dropped);
        FlushJob {
            owner: self.handle.clone(),
            image: PartitionImage { partition: replica.partition(), generation, epoch, segments, copies },
            pieces,
            dropped,
            is_deleted: self.deletion.is_flushing,
            needed,
        }
    }
}

/// The replica and extents of one partition as the catalogue had them.
pub fn restored(image: PartitionImage) -> (TopicPartition, Replica) {
    let mut replica = Replica::new(image.partition, Rules::ALL);
    let copies = image.copies;
    let segments = image.segments.into_iter().map(|stored| {
        let SegmentImage { open, end, chain, sealed, is_damaged, producers } = stored;
        let mark = copies.iter().find(|mark| mark.nonce == open.segment.nonce);
        let confirmed_for = mark.map_or(0, |mark| mark.record_version);
        Segment::of_image(Image { open, end, chain, sealed, is_damaged, producers, confirmed_for })
    });
    let segments: Vec<_> = segments.collect();
    replica.restore((image.generation, image.epoch), segments);
    (image.partition, replica)
}
