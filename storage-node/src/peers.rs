//! Connections to followers: one per node, opened when first needed and kept open.
//!
//! A leader's messages to a follower that is not connected are dropped: the leader learns of the connection's
//! end and of the next one, and then asks where the follower stands.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use service::alive::NodeReader;
use service::connection::{self, FrameSender};
use service::trust::{Role, connect, is_node};
use tokio::task::AbortHandle;
use types::{ErrorCode, NodeId, TopicPartition};
use wire::frame::{Frame, PeerMessage, PeerReply};

use crate::node::Node;
use crate::owner::Mail;

/// A machine without power refuses nothing. Shorter than the time that an opening has.
const CONNECT: Duration = Duration::from_millis(300);
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_LAST: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct Link {
    address: String,
    sender: Option<FrameSender>,
    /// Keeps it connected, once there was something to say.
    task: Option<AbortHandle>,
    /// It could not be reached when that was tried last.
    is_unreachable: bool,
    /// Partitions that had something to say while it was being connected to.
    unheard: HashSet<TopicPartition>,
    /// Why it had no room when it spoke of that last.
    refused: Option<ErrorCode>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Peers {
    followers: DashMap<NodeId, Link>,
    /// How many of them have no room: looked at before each append.
    refusing: AtomicUsize,
    leaders: DashMap<NodeId, FrameSender>,
    /// As placement has nodes registered: whom a certificate must name. Also of those that are gone.
    names: DashMap<NodeId, String>,
}

impl Peers {
    /// Notes a node's name and where it listens, as placement has it registered. Who listened there before is gone, and is returned: one
    /// process would answer for both, and its answers would come over the connection of either.
    pub fn learn(&self, node: NodeId, name: &str, address: &str) -> Vec<NodeId> {
        let mut gone = Vec::new();
        let mut left = 0;
        self.followers.retain(|other, link| {
            let is_gone = *other != node && link.address == address;
            if is_gone {
                gone.push(*other);
                left += usize::from(link.refused.is_some());
                link.task.take().iter().for_each(AbortHandle::abort);
            }
            !is_gone
        });
        self.refusing.fetch_sub(left, Ordering::Relaxed);
        self.insert(node, address);
        self.names.insert(node, name.to_owned());
        gone
    }

    /// Whether who shows a certificate with these URIs may be this node. One whose name is not known yet is believed: placement
    /// looked at the certificate when it registered.
    pub fn may_be(&self, node: NodeId, uris: &[String]) -> bool {
        self.names.get(&node).is_none_or(|name| is_node(uris, &name))
    }

    /// Where a node listens, as far as is known.
    pub fn address(&self, node: NodeId) -> Option<String> {
        self.followers.get(&node).map(|link| link.address.clone())
    }

    /// Notes where a node listens that an opening names, unless another is known to listen there.
    pub fn hear_of(&self, node: NodeId, address: &str) {
        if !self.followers.iter().any(|link| *link.key() != node && link.address == address) {
            self.insert(node, address);
        }
    }

    fn insert(&self, node: NodeId, address: &str) {
        let mut link = self.followers.entry(node).or_insert_with(|| Link {
            address: address.to_owned(),
            sender: None,
            task: None,
            is_unreachable: false,
            unheard: HashSet::new(),
            refused: None,
        });
        if link.address != address {
            link.address = address.to_owned();
        }
    }

    /// A leader begins to use a connection: replies to it go there.
    pub fn leader_connected(&self, node: NodeId, sender: FrameSender) {
        self.leaders.insert(node, sender);
    }

    /// Why a follower has no room for appends, as far as it said.
    pub fn why_no_room(&self, node: NodeId) -> Option<ErrorCode> {
        if self.refusing.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.followers.get(&node).and_then(|link| link.refused)
    }

    fn set_room(&self, node: NodeId, refused: Option<ErrorCode>) {
        if let Some(mut link) = self.followers.get_mut(&node) {
            match (std::mem::replace(&mut link.refused, refused).is_some(), refused.is_some()) {
                (false, true) => self.refusing.fetch_add(1, Ordering::Relaxed),
                (true, false) => self.refusing.fetch_sub(1, Ordering::Relaxed),
                _ => 0,
            };
        }
    }

    /// Tells all leaders why this node has no room, or that it has.
    pub fn tell_room(&self, refused: Option<ErrorCode>) {
        self.leaders.iter().for_each(|leader| leader.send(&Frame::Room { refused }, 0));
    }

    pub fn reply(&self, to: NodeId, reply: PeerReply) {
        if let Some(sender) = self.leaders.get(&to) {
            sender.send(&Frame::PeerReply(reply), 0);
        }
    }
}

/// Sends to a follower, or begins to connect to it. False if it is known not to be there.
pub fn send(node: &Arc<Node>, to: NodeId, message: PeerMessage) -> bool {
    let Some(mut link) = node.peers.followers.get_mut(&to) else { return false };
    if let Some(sender) = link.sender.as_ref().filter(|sender| !sender.is_closed()) {
        sender.send(&Frame::Peer(Box::new(message)), 0);
        return true;
    }
    if link.task.is_none() {
        link.task = Some(tokio::spawn(keep_connected(Arc::clone(node), to)).abort_handle());
    }
    if !link.is_unreachable {
        link.unheard.insert(message.segment().partition);
    }
    !link.is_unreachable
}

async fn keep_connected(node: Arc<Node>, to: NodeId) {
    let mut wait = RETRY_FIRST;
    let mut was_there = false;
    loop {
        let Some(address) = node.peers.followers.get(&to).map(|link| link.address.clone()) else { return };
        let name = node.peers.names.get(&to).map(|name| name.clone());
        let greeted = tokio::time::timeout(CONNECT, greet(&node, name, &address)).await;
        let Ok(Ok((sender, mut reader))) = greeted else {
            let is_refused = matches!(greeted, Ok(Err(ErrorKind::ConnectionRefused)));
            if is_refused && std::mem::take(&mut was_there) {
                node.tell_all(|| Mail::PeerGone(to));
            }
            if let Some(mut link) = node.peers.followers.get_mut(&to) {
                link.is_unreachable = true;
                let unheard = std::mem::take(&mut link.unheard);
                drop(link);
                unheard.into_iter().for_each(|partition| node.tell(partition, Mail::PeerDown(to)));
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_LAST);
            continue;
        };
        wait = RETRY_FIRST;
        if let Some(mut link) = node.peers.followers.get_mut(&to) {
            link.sender = Some(sender.clone());
            link.is_unreachable = false;
            link.unheard.clear();
        }
        node.tell_all(|| Mail::PeerUp(to));
        was_there = true;
        while let Some((_, frame)) = reader.next().await {
            match frame {
                Frame::PeerReply(reply) => {
                    node.tell(reply.segment().partition, Mail::PeerReply(to, reply));
                }
                Frame::Room { refused } => node.peers.set_room(to, refused),
                _ => {}
            }
        }
        node.peers.set_room(to, None);
        if let Some(mut link) = node.peers.followers.get_mut(&to) {
            link.sender = None;
        }
        tracing::info!(follower = %to, "the connection to a follower ended; connecting again");
        node.tell_all(|| Mail::PeerDown(to));
    }
}

/// Connects and says who asks. A connection counts once the node has answered the greeting: what stands between may take
/// connections for a process that is gone.
async fn greet(node: &Node, name: Option<String>, address: &str) -> Result<(FrameSender, NodeReader), ErrorKind> {
    let stream = connect(node.trust.as_ref(), Role::StorageNode, name, address).await.map_err(|error| error.kind())?;
    let (sender, reader) = connection::start(stream);
    let mut reader = NodeReader::new(reader, sender.clone(), 1);
    let me = node.me();
    sender.send(&Frame::Hello { node: me.node, incarnation: me.incarnation }, 0);
    match reader.next().await {
        Some((_, Frame::Room { .. })) => Ok((sender, reader)),
        _ => Err(ErrorKind::UnexpectedEof),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two links to one process would share its answers: each would take those that are meant for the other.
    #[test]
    fn a_disk_that_takes_anothers_place_takes_its_link() {
        let peers = Peers::default();
        assert_eq!(peers.learn(NodeId(19), "n", "a"), []);
        assert_eq!(peers.learn(NodeId(18), "m", "b"), []);
        assert_eq!(peers.learn(NodeId(20), "n", "a"), [NodeId(19)]);
        // Said again by somebody who has not heard of it.
        peers.hear_of(NodeId(19), "a");
        let mut known: Vec<NodeId> = peers.followers.iter().map(|link| *link.key()).collect();
        known.sort_unstable();
        assert_eq!(known, [NodeId(18), NodeId(20)]);
        // The old disk is there again: placement has it registered at its address.
        assert_eq!(peers.learn(NodeId(19), "n", "a"), [NodeId(20)]);
    }

    #[test]
    fn a_node_is_known_by_the_name_that_placement_has() {
        let peers = Peers::default();
        peers.learn(NodeId(1), "n1", "a");
        peers.hear_of(NodeId(2), "b");
        let uris = |name: &str| [format!("urn:weir:node:{name}")];
        assert!(peers.may_be(NodeId(1), &uris("n1")) && !peers.may_be(NodeId(1), &uris("n2")));
        assert!(!peers.may_be(NodeId(1), &[]));
        // Not heard of by name.
        assert!(peers.may_be(NodeId(2), &uris("n3")) && peers.may_be(NodeId(3), &uris("n3")));
        peers.learn(NodeId(2), "n2", "b");
        assert!(!peers.may_be(NodeId(2), &uris("n3")));
        // Whoever says that it listens where another does is not taken for it.
        peers.learn(NodeId(4), "n3", "a");
        assert!(!peers.may_be(NodeId(1), &uris("n3")));
    }
}
