//! Whether a signed request came before, at this gateway or at another.
//!
//! Each signature has two storage nodes of its own that remember it: the first two of an order that is the signature's. So any
//! gateway asks those that were asked before. Nobody else vouches for it: a node that was not asked then knows of nothing, however
//! long it has been there. And what a node cannot know, since it began later, it does not claim to know.

use std::sync::Mutex;
use std::time::Duration;

use dashmap::DashMap;
use identity::replays::{Use, mark};
use identity::request::SKEW_S;
use service::clock;
use types::{AccountId, NodeId, NodeRecord};
use wire::frame::{Frame, UseRequest, Used, VERSION_OF_USES};

use super::reason::Reason;
use crate::Gateway;

/// How long one node may take, with the way there, and all of them.
const ANSWER_MAX: Duration = Duration::from_millis(500);
const ANSWERS_MAX: Duration = Duration::from_secs(2);
/// A node that has been away for so long, in ms, remembers nothing that still could be sent again.
const FORGOTTEN_MS: u64 = 2 * SKEW_S as u64 * 1_000;

/// How often a node that was given up is tried again, in ms.
const TRY_EVERY_MS: u64 = 5_000;

/// Storage nodes that do not answer.
#[derive(Debug, Default)]
pub struct Away(DashMap<NodeId, Absence>);

#[derive(Debug, Clone, Copy)]
struct Absence {
    since_ms: u64,
    tried_ms: u64,
}

/// What is to be done about a node.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Ask,
    /// Another has its place. Whether it is back is to be tried now.
    Pass {
        is_due: bool,
    },
}

impl Away {
    fn note(&self, node: NodeId, is_away: bool, now_ms: u64) {
        if is_away {
            let absence = Absence { since_ms: now_ms, tried_ms: now_ms };
            self.0.entry(node).and_modify(|absence| absence.tried_ms = now_ms).or_insert(absence);
        } else if self.0.contains_key(&node) {
            self.0.remove(&node);
        }
    }

    /// One that has been away for so long that it remembers nothing that still could be sent again is passed over, until it is
    /// connected again; others are asked.
    fn turn(&self, node: NodeId, is_connected: bool, now_ms: u64) -> Turn {
        let Some(mut absence) = self.0.get_mut(&node) else { return Turn::Ask };
        if is_connected || now_ms.saturating_sub(absence.since_ms) <= FORGOTTEN_MS {
            return Turn::Ask;
        }
        let is_due = now_ms.saturating_sub(absence.tried_ms) >= TRY_EVERY_MS;
        if is_due {
            absence.tried_ms = now_ms;
        }
        Turn::Pass { is_due }
    }
}

/// Takes the signature (64 hexadecimal digits) of a request of this account that was signed at `signed_s` (seconds since 1970).
///
/// # Errors
/// It was used before, or whether it was cannot be told.
pub async fn take(gateway: &Gateway, account: AccountId, signature: &str, signed_s: i64) -> Result<(), Reason> {
    let mark = mark(signature).ok_or(Reason::Malformed("signature"))?;
    match gateway.access.note_use(account, mark) {
        Use::First => {}
        Use::Again => return Err(Reason::Replayed),
        Use::TooMany => return Err(Reason::TooMany),
    }
    let all = gateway.map.nodes();
    let can_remember = |node: &NodeRecord| node.frames >= VERSION_OF_USES;
    if !all.is_empty() && !all.iter().any(can_remember) {
        // Storage nodes of the release before: this gateway's memory is all there is, as it was then.
        return Ok(());
    }
    let mut nodes: Vec<NodeRecord> = all.into_iter().filter(can_remember).collect();
    nodes.retain(|node| {
        let is_connected = gateway.pool.is_connected(&node.address);
        let turn = gateway.access.away.turn(node.id, is_connected, clock::monotonic_ms());
        if turn == (Turn::Pass { is_due: true }) {
            gateway.pool.watch(&node.address);
        }
        turn == Turn::Ask
    });
    nodes.sort_by_cached_key(|node| rank(mark, node.id));
    let others = nodes.split_off(nodes.len().min(2));
    let (own, others) = (nodes, Mutex::new(others.into_iter()));
    let request = UseRequest { account, mark };
    let asked = async |node: Option<&NodeRecord>| match node {
        Some(node) => of_own(gateway, node, &others, request).await,
        None => None,
    };
    let (first, second) = tokio::join!(asked(own.first()), asked(own.get(1)));
    let judged = judge(&[first, second], signed_s);
    if matches!(judged, Err(Reason::Unsure | Reason::TooMany)) {
        // It was not taken: it may come again.
        gateway.access.forget_use(account, mark);
    }
    judged
}

/// Asks a node that remembers the signature; where it does not answer another remembers it beside, so that two do.
async fn of_own(
    gateway: &Gateway,
    node: &NodeRecord,
    others: &Mutex<std::vec::IntoIter<NodeRecord>>,
    request: UseRequest,
) -> Option<Told> {
    if let told @ Some(_) = ask(gateway, node, request).await {
        return told;
    }
    let instead = async {
        loop {
            let other = others.lock().expect("no panic holds this lock").next()?;
            match ask(gateway, &other, request).await {
                // It was not asked before, or it was, in the same need.
                Some(Told::Used(used)) if used.is_first => return Some(Told::Noted),
                None => {}
                told => return told,
            }
        }
    };
    tokio::time::timeout(ANSWERS_MAX - ANSWER_MAX, instead).await.ok().flatten()
}

async fn ask(gateway: &Gateway, node: &NodeRecord, request: UseRequest) -> Option<Told> {
    let asking = async {
        let client = gateway.pool.get(&node.address).await.ok()?;
        client.ask(&Frame::Use(request), ANSWER_MAX).await
    };
    let told = match tokio::time::timeout(ANSWER_MAX, asking).await.ok().flatten() {
        Some(Frame::Used(Ok(used))) => Some(Told::Used(used)),
        Some(Frame::Used(Err(refusal))) => {
            tracing::warn!(node = node.name, reason = refusal.message, "a storage node remembers no more signatures");
            Some(Told::Full)
        }
        _ => None,
    };
    gateway.access.away.note(node.id, told.is_none(), clock::monotonic_ms());
    told
}

/// A node's place in the order of a mark, by rendezvous: each mark has an order of its own, which a node that comes or goes
/// leaves as it is for the others.
fn rank(mark: u64, node: NodeId) -> u64 {
    // The finalizer of splitmix64.
    let mut x = mark ^ u64::from(node.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// What a storage node says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// One of the signature's own.
    Used(Used),
    /// Another, which remembers it from now on.
    Noted,
    Full,
}

fn judge(told: &[Option<Told>], signed_s: i64) -> Result<(), Reason> {
    let used = || told.iter().flatten().filter_map(|told| if let Told::Used(used) = told { Some(used) } else { None });
    if used().any(|used| !used.is_first) {
        return Err(Reason::Replayed);
    }
    // Signed by a clock that was ahead it can have come before the second that it names.
    if used().any(|used| used.since_ms <= (signed_s - SKEW_S).saturating_mul(1_000)) {
        return Ok(());
    }
    // All of its own that are there began lately. If clocks agree, what was signed since came to none that is gone.
    match used().map(|used| used.since_ms).min() {
        Some(since_ms) if since_ms < (signed_s + 1).saturating_mul(1_000) => Ok(()),
        None if told.contains(&Some(Told::Full)) => Err(Reason::TooMany),
        _ => Err(Reason::Unsure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(is_first: bool, since_s: i64) -> Option<Told> {
        Some(Told::Used(Used { is_first, since_ms: since_s * 1_000 }))
    }

    #[test]
    fn whoever_was_there_is_believed() {
        let long_ago = 1_000 - SKEW_S;
        assert_eq!(judge(&[used(true, long_ago), used(true, long_ago)], 1_000), Ok(()));
        assert_eq!(judge(&[used(true, long_ago), None], 1_000), Ok(()));
        assert_eq!(judge(&[used(true, long_ago), Some(Told::Full)], 1_000), Ok(()));
        for other in [used(true, long_ago), used(true, 2_000), Some(Told::Noted), Some(Told::Full), None] {
            assert_eq!(judge(&[used(false, long_ago), other], 1_000), Err(Reason::Replayed));
            assert_eq!(judge(&[other, used(false, 1_001)], 1_000), Err(Reason::Replayed));
        }
    }

    #[test]
    fn nobody_claims_to_know_what_was_before_it() {
        // It began in the second in which it was signed, or before, and none has been there for longer.
        assert_eq!(judge(&[used(true, 1_000), used(true, 1_050)], 1_000), Ok(()));
        assert_eq!(judge(&[used(true, 1_001), used(true, 1_050)], 1_000), Err(Reason::Unsure));
        assert_eq!(judge(&[None, None], 1_000), Err(Reason::Unsure));
        // Nor does one that was not asked when it came first, however long it has been there.
        assert_eq!(judge(&[Some(Told::Noted), Some(Told::Noted)], 1_000), Err(Reason::Unsure));
        assert_eq!(judge(&[Some(Told::Noted), used(true, 1_001)], 1_000), Err(Reason::Unsure));
        assert_eq!(judge(&[None, Some(Told::Full)], 1_000), Err(Reason::TooMany));
    }

    #[test]
    fn a_node_that_was_away_for_long_is_passed_over_until_it_is_back() {
        let (away, node) = (Away::default(), NodeId(1));
        away.note(node, true, 1_000);
        // Nobody asks for a while: since when it is away is not forgotten, and being back is noticed.
        assert_eq!(away.turn(node, false, 1_000 + FORGOTTEN_MS), Turn::Ask);
        let later_ms = 1_001 + FORGOTTEN_MS;
        assert_eq!(away.turn(node, false, later_ms), Turn::Pass { is_due: true });
        assert_eq!(away.turn(node, false, later_ms + 1), Turn::Pass { is_due: false });
        assert_eq!(away.turn(node, false, later_ms + TRY_EVERY_MS), Turn::Pass { is_due: true });
        assert_eq!(away.turn(node, true, later_ms), Turn::Ask);
        away.note(node, false, later_ms);
        assert_eq!(away.turn(node, false, u64::MAX), Turn::Ask);
        assert_eq!(away.turn(NodeId(2), false, u64::MAX), Turn::Ask);
    }

    #[test]
    fn each_mark_has_an_order_that_a_node_more_leaves_as_it_is() {
        let order = |mark: u64, nodes: u32| {
            let mut nodes: Vec<u32> = (1..=nodes).collect();
            nodes.sort_by_key(|node| rank(mark, NodeId(*node)));
            nodes
        };
        let mut firsts = [0; 6];
        for mark in (0..6_000).map(|n: u64| n.wrapping_mul(0x0123_4567_89ab_cdef)) {
            let (few, more) = (order(mark, 5), order(mark, 6));
            assert_eq!(few, more.iter().copied().filter(|node| *node != 6).collect::<Vec<_>>());
            firsts[more[0] as usize - 1] += 1;
        }
        assert!(firsts.iter().all(|count| (800..1_200).contains(count)), "{firsts:?}");
    }
}
