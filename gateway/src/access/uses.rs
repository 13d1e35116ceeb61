//! Whether a signed request came before, at this gateway or at another.
//!
//! Each signature has two storage nodes that remember it: the first two of an order that is its own, of those that are there. So
//! any gateway asks one that was asked before, also after one of them is gone. What a node cannot know, since it began later, it
//! does not claim to know.

use std::sync::Mutex;
use std::time::Duration;

use identity::replays::{Use, mark};
use identity::request::SKEW_S;
use types::{AccountId, NodeId, NodeRecord};
use wire::frame::{Frame, UseRequest, Used};

use super::now_s;
use super::proof::Reason;
use crate::Gateway;

/// How long one node may take, and all of them.
const ANSWER_MAX: Duration = Duration::from_millis(500);
const ANSWERS_MAX: Duration = Duration::from_secs(2);

/// Takes the signature (64 hexadecimal digits) of a request of this account that was signed at `signed_s` (seconds since 1970).
///
/// # Errors
/// It was used before, or whether it was cannot be told.
pub async fn take(gateway: &Gateway, account: AccountId, signature: &str, signed_s: i64) -> Result<(), Reason> {
    let mark = mark(signature).ok_or(Reason::Malformed("signature"))?;
    let here = gateway.access.replays.lock().expect("no panic holds this lock").note(account.0, mark, now_s());
    match here {
        Use::First => {}
        Use::Again => return Err(Reason::Replayed),
        Use::TooMany => return Err(Reason::TooMany),
    }
    let mut nodes = gateway.map.nodes();
    // Nodes that just left are asked last: they are waited for.
    nodes.sort_by_cached_key(|node| (gateway.pool.is_lost(&node.address), rank(mark, node.id)));
    let request = UseRequest { account, mark };
    let nodes = Mutex::new(nodes.into_iter());
    let answers = async { tokio::join!(next(gateway, &nodes, request), next(gateway, &nodes, request)) };
    let (first, second) = tokio::time::timeout(ANSWERS_MAX, answers).await.unwrap_or_default();
    judge(&[first, second], signed_s)
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

/// Asks one node after the other until one answers.
async fn next(gateway: &Gateway, nodes: &Mutex<std::vec::IntoIter<NodeRecord>>, request: UseRequest) -> Option<Told> {
    loop {
        let node = nodes.lock().expect("no panic holds this lock").next()?;
        let Ok(client) = gateway.pool.get(&node.address).await else { continue };
        match client.ask(&Frame::Use(request), ANSWER_MAX).await {
            Some(Frame::Used(Ok(used))) => return Some(Told::Used(used)),
            Some(Frame::Used(Err(refusal))) => {
                tracing::warn!(
                    node = node.name,
                    reason = refusal.message,
                    "a storage node remembers no more signatures"
                );
                return Some(Told::Full);
            }
            _ => {}
        }
    }
}

/// What a storage node says.
#[derive(Debug, Clone, Copy)]
enum Told {
    Used(Used),
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
    // All nodes that know of it began lately. If clocks agree, what was signed since came to none that is gone.
    match used().map(|used| used.since_ms).min() {
        Some(since_ms) if since_ms < (signed_s + 1).saturating_mul(1_000) => Ok(()),
        None if told.iter().flatten().next().is_some() => Err(Reason::TooMany),
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
        for other in [used(true, long_ago), used(true, 2_000), used(false, 2_000), Some(Told::Full), None] {
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
        assert_eq!(judge(&[None, Some(Told::Full)], 1_000), Err(Reason::TooMany));
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
