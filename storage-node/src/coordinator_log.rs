//! Reads a coordinator log: from the newest segment back to the last snapshot, from whoever holds each.

use std::sync::Arc;
use std::time::Duration;

use cores::groups::Log;
use types::{Nonce, PartitionRecord, SegmentRecord, TopicPartition};
use wire::Batch;
use wire::frame::{FetchRequest, Frame};
use wire::groups::GroupRecord;

use crate::node::Node;
use crate::owner::groups::records_of;

const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of one answer, about.
const CHUNK_BYTES: u32 = 4 * 1024 * 1024;

/// All that the log holds, as the leader of `nonce` sees it.
///
/// # Errors
/// With a sentence for people: nothing is known of groups then, and the log is to be read again.
pub async fn read(node: &Arc<Node>, partition: TopicPartition, nonce: Nonce) -> Result<Log, String> {
    let record = node.placement.partition(partition).await.map_err(|error| error.to_string())?;
    if record.open().map(|open| open.nonce) != Some(nonce) {
        return Err("another segment is open".to_owned());
    }
    let mut newest_first = Vec::new();
    for segment in record.chain.iter().rev() {
        let records = read_segment(node, &record, segment).await?;
        let is_enough = holds_snapshot(&records);
        newest_first.push(records);
        if is_enough {
            break;
        }
    }
    let mut log = Log::default();
    // A snapshot may begin in one segment and end in the next: its end was carried.
    newest_first.into_iter().rev().flatten().for_each(|record| log.apply(record));
    Ok(log)
}

fn holds_snapshot(records: &[GroupRecord]) -> bool {
    let begins = records.iter().position(|record| *record == GroupRecord::SnapshotBegins {});
    begins.is_some_and(|at| records[at..].contains(&GroupRecord::SnapshotEnds {}))
}

/// What stands before a whole snapshot is not needed: of a segment of any length so much is kept as one snapshot spans.
fn drop_before_snapshot(records: &mut Vec<GroupRecord>) {
    if let Some(at) = records.iter().rposition(|record| *record == GroupRecord::SnapshotBegins {}) {
        records.drain(..at);
    }
}

async fn read_segment(
    node: &Node,
    record: &PartitionRecord,
    segment: &SegmentRecord,
) -> Result<Vec<GroupRecord>, String> {
    let mut last = "it has no replica".to_owned();
    for replica in segment.replicas {
        let Some(address) = node.peers.address(replica.node) else { continue };
        match from_source(node, record, segment, &address).await {
            Ok(records) => return Ok(records),
            Err(reason) => last = format!("storage node {}: {reason}", replica.node),
        }
    }
    Err(last)
}

async fn from_source(
    node: &Node,
    record: &PartitionRecord,
    segment: &SegmentRecord,
    address: &str,
) -> Result<Vec<GroupRecord>, String> {
    let client = node.pool.get(address).await.map_err(|error| error.to_string())?;
    let mut records = Vec::new();
    // The log start is where a whole snapshot begins: nothing before is needed.
    let mut from = segment.base.max(record.log_start.min(segment.end.unwrap_or(record.log_start)));
    loop {
        if segment.end.is_some_and(|end| from >= end) {
            return Ok(records);
        }
        let fetch = Frame::Fetch(FetchRequest {
            account: record.account,
            segment: segment.id(record.id()),
            sealed_end: segment.end,
            offset: from,
            since_ms: None,
            bytes_max: CHUNK_BYTES,
            wait_ms: 0,
        });
        let (visible, mut run) = match client.ask(&fetch, ASK_TIMEOUT).await {
            Some(Frame::Fetched(Ok(reply))) => (reply.visible, reply.batches),
            Some(Frame::Fetched(Err(refusal))) => return Err(refusal.message),
            _ => return Err("no answer".to_owned()),
        };
        let before = from;
        while !run.is_empty() {
            let batch = Batch::take_from_run(&mut run).map_err(|error| error.to_string())?;
            if batch.base_offset < from {
                continue;
            }
            from = batch.end_offset();
            for record in records_of(&batch)? {
                let is_end = record == GroupRecord::SnapshotEnds {};
                records.push(record);
                if is_end {
                    drop_before_snapshot(&mut records);
                }
            }
        }
        // The leader of an open segment has nothing more in sight; nothing is appended while its log is read.
        if segment.end.is_none() && from >= visible {
            return Ok(records);
        }
        if from == before {
            return Err(format!("it has nothing at {from}"));
        }
    }
}
