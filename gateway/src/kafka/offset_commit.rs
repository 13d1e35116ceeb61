//! OffsetCommit (key 8), versions 2 to 9. Topics are committed by id: a topic that is made anew under an old name has no
//! offsets.

use std::sync::Arc;

use service::clock;
use types::TopicPartition;
use wire::groups::{CommitOffsets, CommittedOffset, GroupReply, GroupRequest, MemberName};
use wire::kafka::{
    KafkaError, OffsetCommitPartitionResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopicResponse,
};

use crate::Gateway;
use crate::groups::{ask, refused};

pub async fn handle(gateway: Arc<Gateway>, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut offsets = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let record = gateway.map.topic(gateway.tenant, &topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let index = partition.index;
            let known = record.as_ref().filter(|record| (0..record.partitions).contains(&index));
            let error = if known.is_some() { 0 } else { KafkaError::UnknownTopicOrPartition as i16 };
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
    let error = match ask(&gateway, GroupRequest::Commit { commit: Box::new(commit) }).await {
        Ok(GroupReply::Done {}) => 0,
        other => super::group_code(refused(other)),
    };
    if error != 0 {
        let all = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        all.filter(|partition| partition.error == 0).for_each(|partition| partition.error = error);
    }
    OffsetCommitResponse { throttle_ms: 0, topics }
}
