//! How a partition of which everything is sealed falls asleep: its image goes to the catalogue, then its owner ends.

use service::clock;

use super::{Mail, Owner};
use crate::mailbox::Mails;

/// How long nothing must have come before such a partition falls asleep, in ms.
pub const REST_AFTER_MS: u64 = 10_000;
/// The same for one that was woken for a record alone: after a restart that may be all of them.
const REST_AGAIN_MS: u64 = 100;

/// How much came since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Calm {
    /// Somebody wanted something.
    Busy,
    /// A record, and nothing else.
    Record,
    Quiet,
}

impl Calm {
    pub(super) fn of(mails: &[Mail]) -> Self {
        match mails {
            [Mail::Record(_)] => Self::Record,
            // What all owners are told, whoever they are, is no reason to stay awake.
            mails if mails.iter().all(is_for_all) => Self::Quiet,
            _ => Self::Busy,
        }
    }
}

fn is_for_all(mail: &Mail) -> bool {
    matches!(mail, Mail::Shed | Mail::Flush(_) | Mail::PeerUp(_) | Mail::PeerDown(_) | Mail::PeerGone(_))
}

impl Owner {
    /// True if the owner is to end: its partition rests.
    pub(super) fn rests(&mut self, calm: Calm, mails: &mut Mails<Mail>) -> bool {
        if calm == Calm::Busy || !self.is_at_rest() {
            self.rest_ms = None;
            return false;
        }
        let now_ms = clock::monotonic_ms();
        let after_ms = if calm == Calm::Record && !self.is_dirty { REST_AGAIN_MS } else { self.node.rest_after_ms };
        if now_ms < *self.rest_ms.get_or_insert(now_ms + after_ms) {
            return false;
        }
        self.rest_ms = None;
        if self.is_dirty {
            // The word that it is flushed is mail: the wait begins anew.
            let job = self.flush_job();
            self.node.flusher.submit(job);
            return false;
        }
        self.node.owners.rest(self.core.replica().partition(), self.heard, || mails.close_if_empty())
    }

    /// Nothing of it here can change by itself, and nobody waits for anything.
    fn is_at_rest(&self) -> bool {
        let is_owed = !self.owed.is_empty() || !self.journal.is_empty() || self.is_flushing;
        let is_awaited = !self.askers.is_empty() || !self.inventories.is_empty() || !self.parked.is_empty();
        let is_busy = is_owed || is_awaited || !self.copies.is_empty() || !self.wakes.is_empty();
        !is_busy && self.core.replica().is_at_rest() && self.core.leader().is_none() && !self.core.is_copying()
    }
}
