//! Whether the follower is there, and what its leader does while it is not.

use types::NodeId;
use types::limits::{FAILOVER_ASK_MS, FOLLOWER_RECONNECT_MS};
use wire::frame::PeerMessage;

use super::{Leader, Phase};
use crate::Rule;
use crate::partition::{Effect, Now};

impl Leader {
    /// The follower's connection ended, or cannot be made; true when the segment is over: what is only being opened is
    /// better opened elsewhere.
    pub(in crate::partition) fn peer_down(&mut self, now: Now, node: NodeId, out: &mut Vec<Effect>) -> bool {
        if node != self.follower().node {
            return false;
        }
        if matches!(self.phase, Phase::Opening { .. }) {
            return true;
        }
        self.is_follower_back = false;
        if self.follower_down_ms.is_none() {
            self.follower_down_ms = Some(now.monotonic_ms);
            self.next_call_ms = now.monotonic_ms + FOLLOWER_RECONNECT_MS;
            out.push(Effect::Wake { at_ms: self.next_call_ms });
        }
        false
    }

    /// Its process has ended, and whatever begins in its place is failed over. Who waits for an acknowledgement does not wait
    /// for that; others give way.
    pub(in crate::partition) fn peer_gone(&mut self, now: Now, node: NodeId, out: &mut Vec<Effect>) {
        let Some(since) = self.follower_down_ms.filter(|_| node == self.follower().node) else { return };
        if self.next_call_ms != since + FOLLOWER_RECONNECT_MS {
            // It was complained of already, and will be again.
            return;
        }
        if self.waiters.is_empty() {
            self.is_follower_gone = true;
        } else {
            self.next_call_ms = now.monotonic_ms;
            self.replace_follower(now, out);
        }
    }

    /// Something is to be sent to a follower that is not there.
    pub(super) fn miss_follower(&mut self, out: &mut Vec<Effect>) {
        if std::mem::take(&mut self.is_follower_gone) {
            self.next_call_ms = 0;
            out.push(Effect::Wake { at_ms: 0 });
        }
    }

    /// A follower that stays away is replaced: nothing is acknowledged without a second copy. Asked for again and
    /// again, since a pair in two zones may only be there later.
    pub(super) fn replace_follower(&mut self, now: Now, out: &mut Vec<Effect>) {
        let is_away = self.follower_down_ms.is_some() && self.rules.holds(Rule::AwayFollowerIsReplaced);
        if is_away && now.monotonic_ms >= self.next_call_ms {
            out.push(Effect::RequestFailover { segment: self.segment() });
            self.is_follower_gone = false;
            self.next_call_ms = now.monotonic_ms + FAILOVER_ASK_MS;
            out.push(Effect::Wake { at_ms: self.next_call_ms });
        }
    }

    /// There is no other follower to be had. What is new is refused rather than left waiting, until this one answers.
    pub(in crate::partition) fn no_pair(&mut self) {
        self.has_no_pair = self.follower_down_ms.is_some();
    }

    /// The follower answers: it is there. What it lacks it says next, and is sent again.
    pub(super) fn follower_answers(&mut self, now: Now, out: &mut Vec<Effect>) {
        if !std::mem::take(&mut self.is_follower_back) {
            return;
        }
        let Some(since) = self.follower_down_ms.take() else { return };
        (self.has_no_pair, self.is_follower_gone) = (false, false);
        let is_late = now.monotonic_ms.saturating_sub(since) > FOLLOWER_RECONNECT_MS;
        if is_late {
            out.push(Effect::RequestFailover { segment: self.segment() });
        }
    }

    pub(in crate::partition) fn peer_up(&mut self, node: NodeId, out: &mut Vec<Effect>) {
        if node != self.follower().node {
            return;
        }
        self.is_follower_back = true;
        // The leader may be younger than the cut: it asks where the follower stands in any case.
        if matches!(self.phase, Phase::Opening { .. }) {
            out.push(Effect::Send { to: node, message: PeerMessage::Open(self.open.clone()) });
        }
        out.push(Effect::Send { to: node, message: PeerMessage::Resume { segment: self.segment() } });
    }
}
