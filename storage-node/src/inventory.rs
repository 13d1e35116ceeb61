//! What this node holds, for an operator who makes placement's records anew (`docs/adr/0012-rebuild.md`).
//!
//! With a fence the answer is final: first the node notes the new generation on disk, so that no partition can begin here
//! in an older one; then each owner fences its partition, behind whatever was queued.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;
use types::{ErrorCode, Generation, TopicPartition};
use wire::frame::Refusal;
use wire::inventory::{Inventory, InventoryRequest};

use crate::node::{Node, write_durably};
use crate::owner::Mail;

/// Partitions of one page.
const PAGE: usize = 256;

/// Takes stock of one page of partitions.
pub async fn take(node: &Arc<Node>, request: InventoryRequest) -> Result<Inventory, Refusal> {
    if let Some(generation) = request.fence {
        fence(node, generation)?;
    }
    let mut ids: Vec<TopicPartition> = node.owners.ids();
    ids.retain(|id| request.after.is_none_or(|after| *id > after));
    ids.sort_unstable();
    let has_more = ids.len() > PAGE;
    ids.truncate(PAGE);
    let ask = |id: TopicPartition| {
        let (to, answer) = oneshot::channel();
        let _ = node.deliver(id, Mail::Inventory(request.fence, to));
        (id, answer)
    };
    // All of them at once: their fences share writes of the journal.
    let answers: Vec<_> = ids.into_iter().map(ask).collect();
    let mut partitions = Vec::with_capacity(answers.len());
    for (id, answer) in answers {
        match answer.await {
            Ok(held) => partitions.push(held?),
            // An owner whose topic is gone has ended.
            Err(_) if !node.owners.contains(id) => {}
            Err(_) => {
                let message = format!("what this node has of {id} cannot be read");
                return Err(Refusal { code: ErrorCode::Internal, message });
            }
        }
    }
    // All that are known, once: also those that have nothing here. Where logs begin stands among them, so that who does not know
    // of that passes over it.
    let mut topics = Vec::new();
    if request.after.is_none() {
        topics.extend(node.topics.all().iter().filter_map(|topic| serde_json::to_string(topic).ok()));
        topics.extend(serde_json::to_string(&node.topics.log_starts()).ok());
    }
    let (name, az, cluster) = (node.name.clone(), node.az.clone(), node.cluster());
    let generation = node.generation();
    let placement_heard_ms = node.placement_heard_ms();
    Ok(Inventory { me: node.me(), name, az, cluster, generation, placement_heard_ms, partitions, topics, has_more })
}

fn fence(node: &Node, generation: Generation) -> Result<(), Refusal> {
    let refuse = |code, message| Err(Refusal { code, message });
    // One at a time: what is on disk must not fall.
    let mut known = node.fenced.lock().expect("no panic holds this lock");
    if generation < *known {
        return refuse(ErrorCode::Fenced, format!("this node is in generation {} already", known.0));
    }
    if generation > *known {
        if let Err(error) =
            tokio::task::block_in_place(|| write_durably(&node.data.join(FILE), generation.0.to_string()))
        {
            return refuse(ErrorCode::Internal, format!("the generation could not be noted: {error}"));
        }
        *known = generation;
        node.generation.store(generation.0, Ordering::Release);
    }
    Ok(())
}

/// Where the generation is noted.
const FILE: &str = "generation";

/// The generation that was fenced here last.
///
/// # Errors
/// If it cannot be read: it must not be taken for none.
pub fn noted(data: &Path) -> io::Result<Generation> {
    match std::fs::read_to_string(data.join(FILE)) {
        Ok(text) => text.trim().parse().map(Generation).map_err(|_| io::Error::other("`generation` holds no number")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Generation(0)),
        Err(error) => Err(error),
    }
}
