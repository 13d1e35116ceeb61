//! OffsetCommit (key 8), versions 2 to 9. Topics are committed by id: a topic that is made anew under an old name has no
//! offsets.

use std::sync::Arc;

use policies::vocabulary::{ALTER_GROUP, READ_DATA};
use service::clock;
use types::{ErrorCode, TopicPartition};
use wire::groups::{CommitOffsets, CommittedOffset, GroupReply, GroupRequest, MemberName};
use wire::kafka::{
    OffsetCommitPartitionResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopicResponse,
};

use crate::caller::Caller;
use crate::error::kafka_code;
use crate::groups::{ask, refused};
use crate::quota::stock::check_group;

pub async fn handle(caller: Arc<Caller>, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut offsets = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let record = caller.topic(READ_DATA, &topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let index = partition.index;
            let known = record.as_ref().ok().filter(|record| (0..record.partitions).contains(&index));
            let unknown = || record.as_ref().err().map_or(ErrorCode::UnknownPartition, |refusal| refusal.code);
            let error = if known.is_some() { 0 } else { kafka_code(unknown()) };
            partitions.push(OffsetCommitPartitionResponse { index, error });
            offsets.extend(known.map(|record| CommittedOffset {
                partition: TopicPartition { topic: record.id, partition: index },
                offset: partition.offset,
                leader_epoch: partition.leader_epoch,
                metadata: partition.metadata.unwrap_or_default(),
                at_ms: clock::wall_ms(),
            }));
        }
        topics.push(OffsetCommitTopicResponse { name: topic.name, partitions });
    }
    let name = MemberName { member: request.member_id, instance: request.group_instance_id };
    let commit = CommitOffsets { group: request.group_id, name, generation: request.generation_id, offsets };
    let may = caller.group(ALTER_GROUP, &commit.group);
    let error = match may.map_err(|refusal| refusal.code) {
        Err(code) => kafka_code(code),
        Ok(()) => commit_all(&caller, commit).await,
    };
    if error != 0 {
        let all = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        all.filter(|partition| partition.error == 0).for_each(|partition| partition.error = error);
    }
    OffsetCommitResponse { throttle_ms: 0, topics }
}

async fn commit_all(caller: &Arc<Caller>, commit: CommitOffsets) -> i16 {
    if let Err(refusal) = check_group(caller, &commit.group).await {
        tracing::info!(commit.group, why = refusal.message, "a group was not made");
        return super::group_code(refusal.code);
    }
    match ask(caller, GroupRequest::Commit { commit: Box::new(commit) }).await {
        Ok(GroupReply::Done {}) => 0,
        other => super::group_code(refused(other)),
    }
}
