//! The data-path listener: hands each frame to the owner of its partition.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use service::alive::Keepalives;
use service::certificate::over;
use service::connection::{self, FrameReader, FrameSender};
use service::drain::Drain;
use service::trust::{Accepted, Role, Roles, accept};
use tokio::net::TcpListener;
use types::{ErrorCode, NodeId, TopicPartition};
use wire::frame::{FenceReply, Frame, MemberState, PeerMessage, PeerReply, Refusal};

use crate::inventory;
use crate::node::Node;
use crate::owner::Mail;

/// Accepts connections until the drain begins.
pub async fn serve(node: Arc<Node>, listener: TcpListener, mut drain: Drain) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.begun() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            // What could be answered from memory would only hide that nothing is written any more.
            Ok(_) if node.is_hung() => tokio::time::sleep(Duration::from_millis(10)).await,
            Ok((stream, from)) => {
                let node = Arc::clone(&node);
                tokio::spawn(async move {
                    match accept(node.trust.as_ref(), stream, from.ip()).await {
                        Ok(Accepted { stream, roles, uris, validity }) if roles != Roles::NONE => {
                            let (sender, reader) = connection::start(stream);
                            tokio::select! {
                                biased;
                                why = over(validity) => {
                                    tracing::info!(%from, why, "closing a service's connection");
                                    sender.abandon();
                                }
                                () = serve_connection(node, (sender.clone(), reader), roles, uris.as_deref(), from) => {}
                            }
                        }
                        Ok(_) => tracing::warn!(%from, "a certificate that names no service"),
                        Err(error) => tracing::debug!(%from, %error, "no TLS came about with a service"),
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Who may send a frame.
fn senders(frame: &Frame) -> &'static [Role] {
    match frame {
        Frame::Hello { .. } | Frame::Peer(_) => &[Role::StorageNode],
        Frame::Append(_) | Frame::Ask(_) | Frame::Use(_) => &[Role::Gateway],
        Frame::Fetch(_) | Frame::Describe(_) => &[Role::Gateway, Role::StorageNode, Role::Placement],
        // What changes who leads what.
        Frame::Fence(_) | Frame::Open { .. } | Frame::Copy(_) | Frame::Hint { .. } => &[Role::Placement],
        // It may fence as well, when metadata is made anew.
        Frame::Inventory(_) => &[Role::Placement, Role::Operator],
        _ => &Role::ALL,
    }
}

async fn serve_connection(
    node: Arc<Node>,
    (sender, mut reader): (FrameSender, FrameReader),
    roles: Roles,
    uris: Option<&[String]>,
    from: SocketAddr,
) {
    let mut peer: Option<NodeId> = None;
    let mut keepalives = Keepalives::new(&reader);
    loop {
        let keepalive = || {
            sender.send(&Frame::Room { refused: node.why_no_room() }, 0);
            !node.is_hung()
        };
        let Some((correlation, frame)) = keepalives.next(&mut reader, keepalive).await else { return };
        let asker = || (sender.clone(), correlation);
        if !roles.has_one_of(senders(&frame)) {
            tracing::warn!(%from, ?roles, frame = ?std::mem::discriminant(&frame), "a service sent what it may not; closing");
            return;
        }
        match frame {
            Frame::Hello { node: id, .. } => {
                if uris.is_some_and(|uris| !node.peers.may_be(id, uris)) {
                    tracing::warn!(%from, node = %id, "the certificate is another storage node's; closing");
                    return;
                }
                peer = Some(id);
                sender.send(&Frame::Room { refused: node.why_no_room() }, 0);
                node.peers.leader_connected(id, sender.clone());
            }
            Frame::Append(request) => {
                let partition = request.head.segment.partition;
                if node.deliver(partition, Mail::Append(asker(), request)).is_err() {
                    sender.send(&Frame::Appended(Err(not_here(partition))), correlation);
                }
            }
            Frame::Fetch(request) => {
                let partition = request.segment.partition;
                if node.deliver(partition, Mail::Fetch(asker(), Box::new(request))).is_err() {
                    sender.send(&Frame::Fetched(Err(not_here(partition))), correlation);
                }
            }
            Frame::Peer(message) => {
                let Some(from) = peer else { return };
                let segment = message.segment();
                if matches!(*message, PeerMessage::Open(_) | PeerMessage::Resume { .. }) {
                    // Its name may have been unknown when it said who it is.
                    if uris.is_some_and(|uris| !node.peers.may_be(from, uris)) {
                        tracing::warn!(node = %from, "the certificate is another storage node's; closing");
                        return;
                    }
                    node.peers.leader_connected(from, sender.clone());
                }
                if matches!(*message, PeerMessage::Open(_)) {
                    node.deliver_or_begin(segment.partition, Mail::Peer(from, message));
                } else if node.deliver(segment.partition, Mail::Peer(from, message)).is_err() {
                    sender.send(&Frame::PeerReply(PeerReply::Unknown { segment }), 0);
                }
            }
            Frame::Fence(request) => {
                if node.deliver(request.partition, Mail::Fence(asker(), Box::new(request))).is_err() {
                    // Nothing of this partition was ever here: absence is an answer of its own, never a length.
                    let reply = FenceReply { incarnation: node.me().incarnation, state: MemberState::Unknown };
                    sender.send(&Frame::Fenced(Ok(reply)), correlation);
                }
            }
            Frame::Open { request, producers } => {
                node.peers.hear_of(request.follower.node, &request.follower_address);
                let partition = request.segment.partition;
                node.deliver_or_begin(partition, Mail::Open(asker(), request, producers));
            }
            Frame::Describe(request) => {
                let partition = request.segment.partition;
                if node.deliver(partition, Mail::Describe(asker(), request)).is_err() {
                    sender.send(&Frame::Described(Err(not_here(partition))), correlation);
                }
            }
            Frame::Copy(request) => {
                let partition = request.segment.partition;
                node.deliver_or_begin(partition, Mail::Copy(asker(), request));
            }
            Frame::Ask(question) => {
                let log = question.log;
                if node.deliver(log, Mail::Ask(asker(), question)).is_err() {
                    sender.send(&Frame::Told(Err(not_here(log))), correlation);
                }
            }
            Frame::Inventory(request) => {
                let (node, (sender, correlation)) = (Arc::clone(&node), asker());
                tokio::spawn(async move {
                    let result = inventory::take(&node, request).await.map(Box::new);
                    sender.send(&Frame::Inventoried(result), correlation);
                });
            }
            Frame::Use(request) => sender.send(&Frame::Used(node.uses.take(request)), correlation),
            // Whoever asks is there.
            Frame::Room { .. } => {}
            Frame::Hint { partition } => node.ask_placement(partition),
            other => {
                tracing::warn!(frame = ?std::mem::discriminant(&other), "an answer came where only questions do");
                return;
            }
        }
    }
}

fn not_here(partition: TopicPartition) -> Refusal {
    Refusal { code: ErrorCode::NotLeader, message: format!("{partition} is not on this storage node") }
}
