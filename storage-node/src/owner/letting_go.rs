//! What leaves a node: single segments that it need not keep, and partitions whose topic is gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use types::Nonce;

use super::Owner;
use crate::catalogue::Extent;
use crate::tail::Tail;

/// The end of a partition on this node. Its segments go first, from memory and by an entry in the journal; once that
/// is durable a flush takes the partition and its extents out of the catalogue; then its files go, and the owner ends.
#[derive(Debug, Default)]
pub(super) struct Deletion {
    /// Extents that the catalogue still names: of the whole partition, or of single segments.
    pub dropped: Vec<(Nonce, Extent)>,
    /// The flush under way takes the partition out of the catalogue.
    pub is_flushing: bool,
    /// It did.
    pub is_flushed: bool,
    /// Segments that were dropped while a flush was under way: its extents are of their earlier life.
    pub ghosts: BTreeSet<Nonce>,
}

impl Owner {
    /// The topic is gone: readers are told, and what is in files is to be removed.
    pub(super) fn let_go(&mut self) {
        if !self.core.replica().is_deleted() {
            return;
        }
        self.deletion.dropped.extend(self.tail.extents());
        self.tail = Tail::new(Arc::clone(&self.node.budget), Arc::clone(&self.node.files));
        let parked = std::mem::take(&mut self.parked);
        parked.into_iter().for_each(|parked| self.answer_fetch(parked.asker, &parked.request, true));
        self.flush_deletion();
    }

    /// A segment is gone from here: readers are told, and what is in files is removed with the next flush.
    pub(super) fn let_go_of(&mut self, nonce: Nonce) {
        self.deletion.dropped.extend(self.tail.remove(nonce).into_iter().map(|extent| (nonce, extent)));
        if self.is_flushing {
            self.deletion.ghosts.insert(nonce);
        }
        self.node.forget_damage(nonce);
        self.is_dirty = true;
        self.wake_readers(nonce);
        self.wake_copies();
    }

    /// The topic is gone, and that is in the journal.
    pub(super) fn is_deleted(&self) -> bool {
        self.core.replica().is_deleted() && self.owed.is_empty() && self.journal.is_empty()
    }

    /// Takes a deleted partition out of the catalogue, once its deletion is in the journal.
    pub(super) fn flush_deletion(&mut self) {
        // A flush of its records that is under way is no reason to wait: it may wait for the very space of these files.
        if self.is_deleted() && !self.deletion.is_flushing && !self.deletion.is_flushed {
            let job = self.flush_job();
            self.node.flusher.submit(job);
        }
    }
}
