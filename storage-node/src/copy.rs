//! Makes a copy of a sealed segment: the shell of `cores::partition`'s copies.
//!
//! Batches come from a member that has the segment, a few MiB at a time; the next are asked for once the last are
//! fsynced here. So a copy takes no more memory than that, and waits wherever tenants' appends wait.

use std::time::Duration;

use cores::partition::Progress;
use tokio::sync::oneshot;
use types::limits::{COPY_CHUNK_BYTES, COPY_STALLED_MS};
use types::{Nonce, Offset};
use wire::Batch;
use wire::frame::{CopyRequest, DescribeRequest, Description, FetchRequest, Frame};

use crate::node::Node;
use crate::owner::{Mail, OwnerHandle};

/// Copies that one node makes at once.
pub const COPIES_MAX: usize = 8;
const ASK_TIMEOUT: Duration = Duration::from_millis(COPY_STALLED_MS);
/// Pause while tenants' appends are refused for want of room.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(100);

/// Runs until the copy is whole, or no source goes on.
pub async fn run(node: &Node, owner: &OwnerHandle, request: &CopyRequest, mut from: Offset) {
    let Ok(_permit) = node.copies.acquire().await else { return };
    for source in &request.sources {
        match from_source(node, owner, request, &mut from, source).await {
            Ok(description) => {
                let (segment, end, record_version) = (request.segment, request.end, request.record_version);
                let description = Box::new(description);
                return owner.tell(Mail::Copied(Progress::Whole { segment, end, record_version, description }));
            }
            Err(reason) => {
                let partition = request.segment.partition;
                tracing::warn!(%partition, source, reason, "a copy does not go on from this source");
            }
        }
    }
    owner.tell(Mail::Copied(Progress::Failed { nonce: request.segment.nonce }));
}

async fn from_source(
    node: &Node,
    owner: &OwnerHandle,
    request: &CopyRequest,
    from: &mut Offset,
    source: &str,
) -> Result<Description, String> {
    let client = node.pool.get(source).await.map_err(|error| error.to_string())?;
    let CopyRequest { account, segment, end, .. } = *request;
    let ask = Frame::Describe(DescribeRequest { account, segment, end });
    let description = match client.ask(&ask, ASK_TIMEOUT).await {
        Some(Frame::Described(Ok(description))) => *description,
        Some(Frame::Described(Err(refusal))) => return Err(refusal.message),
        _ => return Err("no answer".to_owned()),
    };
    owner.tell(Mail::Copied(Progress::Begun(Box::new(description.open.clone()))));
    while *from < end {
        while node.why_no_room().is_some() {
            tokio::time::sleep(NO_ROOM_PAUSE).await;
        }
        let fetch = Frame::Fetch(FetchRequest {
            account,
            segment,
            sealed_end: Some(end),
            offset: *from,
            since_ms: None,
            bytes_max: COPY_CHUNK_BYTES as u32,
            wait_ms: 0,
        });
        let mut run = match client.ask(&fetch, ASK_TIMEOUT).await {
            Some(Frame::Fetched(Ok(reply))) => reply.batches,
            Some(Frame::Fetched(Err(refusal))) => return Err(refusal.message),
            _ => return Err("no answer".to_owned()),
        };
        let mut batches = Vec::new();
        while !run.is_empty() {
            let batch = Batch::take_from_run(&mut run).map_err(|error| error.to_string())?;
            if batch.base_offset >= *from && batch.end_offset() <= end {
                batches.push(batch);
            }
        }
        let reached = batches.last().ok_or("the source has no batch there")?.end_offset();
        let (done, durable) = oneshot::channel();
        let wait = CopiedBatches { nonce: segment.nonce, end: reached, done };
        owner.tell(Mail::CopiedBatches(batches, wait));
        durable.await.map_err(|_| "the copy was given up here".to_owned())?;
        *from = reached;
    }
    Ok(description)
}

/// Who waits until a copy is fsynced up to `end`.
#[derive(Debug)]
pub struct CopiedBatches {
    pub nonce: Nonce,
    pub end: Offset,
    pub done: oneshot::Sender<()>,
}
