//! Asks the coordinator of a group: the storage node that leads the group's coordinator log.
//!
//! Nothing of groups is kept here. A gateway that goes takes no member with it: its clients ask through another.

use std::sync::Arc;
use std::time::Duration;

use service::{clock, random};
use types::limits::{COORDINATOR_LOGS, GROUP_QUESTION_BYTES_MAX};
use types::{ErrorCode, SegmentId, TopicPartition};
use wire::frame::{Frame, Refusal};
use wire::groups::{GroupQuestion, GroupReply, GroupRequest, Listed};
use wire::layout::encode;
use wire::murmur2::partition_for_key;

use crate::caller::Caller;
use crate::error::{from_api, refuse};
use crate::route::find_route;
use crate::topics::coordinator_topic;

/// How long a coordinator that fails over, or reads its log, is waited for.
const PATIENCE_MS: u64 = 10_000;
const RETRY: Duration = Duration::from_millis(20);
/// How long an answer may take that waits for nobody but the log's disks.
const ANSWER_MS: u64 = 10_000;

/// Asks the coordinator of the request's group.
///
/// # Errors
/// With [`ErrorCode::NotCoordinator`] where the request may have come about: the client decides whether it asks again.
pub async fn ask(caller: &Arc<Caller>, request: GroupRequest) -> Result<GroupReply, Refusal> {
    let log = partition_for_key(request.group().as_bytes(), COORDINATOR_LOGS);
    ask_log(caller, log, request).await
}

/// All groups; each coordinator log is asked for its own.
pub async fn list(caller: &Arc<Caller>) -> Result<Vec<Listed>, Refusal> {
    let mut asking = tokio::task::JoinSet::new();
    for log in 0..COORDINATOR_LOGS {
        let caller = Arc::clone(caller);
        asking.spawn(async move { ask_log(&caller, log, GroupRequest::List {}).await });
    }
    let mut groups = Vec::new();
    while let Some(listed) = asking.join_next().await {
        match listed.map_err(|error| refuse(ErrorCode::Internal, error.to_string()))?? {
            GroupReply::Listed { groups: more } => groups.extend(more),
            other => return Err(unexpected(&other)),
        }
    }
    groups.sort_by(|a, b| a.group.cmp(&b.group));
    Ok(groups)
}

/// What a coordinator does not answer to this request.
pub fn unexpected(reply: &GroupReply) -> Refusal {
    match reply {
        GroupReply::Refused { code } => refuse(*code, "the coordinator refuses it"),
        other => refuse(ErrorCode::Internal, format!("an answer to another question: {other:?}")),
    }
}

/// Why an answer is none of those that its request has.
pub fn refused(answer: Result<GroupReply, Refusal>) -> ErrorCode {
    answer.map_or_else(|refusal| refusal.code, |other| unexpected(&other).code)
}

async fn ask_log(caller: &Arc<Caller>, log: i32, request: GroupRequest) -> Result<GroupReply, Refusal> {
    let topic = coordinator_topic(caller).await.map_err(from_api)?;
    let log = TopicPartition { topic: topic.id, partition: log };
    let timeout = Duration::from_millis(patience_ms(&request));
    let may_repeat = may_repeat(&request);
    let (account, cluster) = (caller.tenant.account, caller.tenant.cluster);
    let question = GroupQuestion { account, cluster, log, fresh: random::wide(), request };
    // One frame of a connection that everything else shares.
    if encode(&question).len() > GROUP_QUESTION_BYTES_MAX {
        return Err(refuse(
            ErrorCode::InvalidRequest,
            format!("a group's request has {GROUP_QUESTION_BYTES_MAX} bytes at most"),
        ));
    }
    let frame = Frame::Ask(Box::new(question));
    let deadline_ms = clock::monotonic_ms() + PATIENCE_MS;
    // The segment whose leader refused last, and since when; the one whose leader did not answer.
    let mut refused: Option<(SegmentId, u64)> = None;
    let mut lost = None;
    loop {
        let why = match find_route(&caller.gateway, log, refused, lost).await {
            Ok((segment, client)) => {
                let why = match client.ask(&frame, timeout).await {
                    Some(Frame::Told(Ok(reply))) => return Ok(*reply),
                    // Nothing came about: another leads the log, or this one is not ready.
                    Some(Frame::Told(Err(why))) => {
                        lost = None;
                        why
                    }
                    _ => {
                        lost = Some(segment);
                        let why = refuse(ErrorCode::NotCoordinator, "the coordinator did not answer");
                        if !may_repeat {
                            return Err(why);
                        }
                        why
                    }
                };
                if why.code == ErrorCode::CoordinatorLoading {
                    refused = None;
                } else if refused.is_none_or(|(known, _)| known != segment) {
                    refused = Some((segment, clock::monotonic_ms()));
                }
                why
            }
            Err(why) => {
                let open = caller.gateway.map.partition(log).and_then(|record| Some(record.open()?.id(log)));
                if let Some(open) = open
                    && refused.is_none_or(|(known, _)| known != open)
                {
                    refused = Some((open, clock::monotonic_ms()));
                }
                why
            }
        };
        if clock::monotonic_ms() >= deadline_ms || why.code == ErrorCode::TenantMismatch {
            return Err(why);
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// A member that joins waits for all others.
fn patience_ms(request: &GroupRequest) -> u64 {
    match request {
        GroupRequest::Join { join } => join.rebalance_timeout_ms.max(join.session_timeout_ms).max(0) as u64 + ANSWER_MS,
        GroupRequest::Sync { .. } => 300_000 + ANSWER_MS,
        _ => ANSWER_MS,
    }
}

/// Asked twice it is the same as asked once, whatever others ask in between.
fn may_repeat(request: &GroupRequest) -> bool {
    match request {
        GroupRequest::Join { join } => !join.name.member.is_empty(),
        // A later commit may have come in between.
        GroupRequest::Commit { .. } | GroupRequest::Leave { .. } | GroupRequest::Forget { .. } => false,
        GroupRequest::Sync { .. }
        | GroupRequest::Heartbeat { .. }
        | GroupRequest::Offsets { .. }
        | GroupRequest::Describe { .. }
        | GroupRequest::List {}
        | GroupRequest::Delete { .. } => true,
    }
}
