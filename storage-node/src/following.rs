//! Follows placement's map: hints for owners, addresses of other nodes, deletions.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use service::drain::Drain;
use service::newest::{Newest, Seen};
use types::{Generation, NodeRecord, TopicId, TopicPartition};

use crate::node::{Node, write_durably};
use crate::owner::Mail;

/// How often the map's revision is noted on disk, at most: an older copy of placement's store that is put back within this
/// time of a change, and of this node's restart, is not known to be one.
const NOTE_EVERY: Duration = Duration::from_secs(1);

fn noted(path: &Path) -> Seen {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [revision] => (Generation(1), revision),
        [generation, revision] => (Generation(generation as u32), revision),
        _ => (Generation(0), 0),
    }
}

/// Hears of changed partition records; only a hint, each owner decides by what the record says.
pub async fn follow_map(node: Arc<Node>, known_at: PathBuf, mut drain: Drain) {
    let mut after = None;
    // As seen in earlier lives, or a little less.
    let mut on_disk = noted(&known_at);
    let mut newest = Newest::new(Some(on_disk));
    let mut noted_at = Instant::now();
    loop {
        // What is not noted yet does not wait for the next change.
        let wait = if newest.known() == Some(on_disk) { Duration::from_secs(20) } else { NOTE_EVERY };
        let changes = tokio::select! {
            biased;
            () = drain.begun() => return,
            changes = node.placement.map(after, wait) => changes,
        };
        match changes {
            Ok(changes) => {
                let seen = (changes.generation, changes.revision);
                let may_believe = newest.may_believe(seen, node.generation());
                node.is_placement_older.store(!may_believe, Ordering::Relaxed);
                if !may_believe {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
                after = Some(seen);
                if on_disk != seen && (on_disk.0 != seen.0 || noted_at.elapsed() >= NOTE_EVERY) {
                    let text = format!("{} {}", seen.0.0, seen.1);
                    match tokio::task::block_in_place(|| write_durably(&known_at, &text)) {
                        Ok(()) => (on_disk, noted_at) = (seen, Instant::now()),
                        Err(error) => tracing::warn!(%error, "the revision of the map could not be noted"),
                    }
                }
                node.topics.learn(&changes);
                for other in &changes.nodes {
                    // An address that was given to another node: the older one is gone.
                    let is_reused = |newer: &NodeRecord| newer.address == other.address && newer.id > other.id;
                    if !changes.nodes.iter().any(is_reused) {
                        node.learn(other.id, &other.name, &other.address);
                    }
                }
                if changes.is_whole {
                    // Deletions that this node did not hear of are not in it: it asks for each.
                    let topics: HashSet<TopicId> = changes.topics.iter().map(|(topic, _)| *topic).collect();
                    let all = node.owners.ids().into_iter();
                    let missing = all.filter(|partition| !topics.contains(&partition.topic)).collect();
                    tokio::spawn(ask_for_all(Arc::clone(&node), missing));
                }
                for record in changes.partitions {
                    node.forget_unlisted(&record);
                    node.hear_record(record);
                }
                for (topic, record) in changes.topics {
                    if record.is_none() {
                        for ours in node.owners.of_topic(topic) {
                            let _ = node.deliver(ours, Mail::Deleted);
                        }
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the map could not be read");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// One after the other, until placement has answered for each: there may be thousands.
async fn ask_for_all(node: Arc<Node>, partitions: Vec<TopicPartition>) {
    for partition in partitions {
        while let Err(error) = node.hear_of(partition).await {
            tracing::debug!(%error, %partition, "placement did not answer for a partition; asking again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}
