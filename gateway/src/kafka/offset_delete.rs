//! OffsetDelete (key 47), version 0 (KIP-496): of topics that no member subscribes to.

use std::sync::Arc;

use policies::vocabulary::{DELETE_GROUP, READ_DATA};
use types::TopicPartition;
use wire::groups::{ForgottenOffset, GroupReply, GroupRequest};
use wire::kafka::{
    OffsetDeletePartitionResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteTopicResponse,
};

use crate::caller::Caller;
use crate::error::kafka_code;
use crate::groups::{ask, refused};

pub async fn handle(caller: Arc<Caller>, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    if let Err(refusal) = caller.group(DELETE_GROUP, &request.group_id) {
        return OffsetDeleteResponse { error: kafka_code(refusal.code), ..OffsetDeleteResponse::default() };
    }
    let mut offsets = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let record = caller.topic(READ_DATA, &topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let index = partition.index;
            let error = record.as_ref().err().map_or(0, |refusal| kafka_code(refusal.code));
            partitions.push(OffsetDeletePartitionResponse { index, error });
            offsets.extend(record.as_ref().ok().map(|record| ForgottenOffset {
                topic: record.name.clone(),
                partition: TopicPartition { topic: record.id, partition: index },
            }));
        }
        topics.push(OffsetDeleteTopicResponse { name: topic.name, partitions });
    }
    let code = match ask(&caller, GroupRequest::Forget { group: request.group_id, offsets }).await {
        Ok(GroupReply::Forgotten { errors }) => {
            let known = topics.iter_mut().flat_map(|topic| &mut topic.partitions).filter(|known| known.error == 0);
            for (partition, error) in known.zip(errors) {
                partition.error = error.map_or(0, super::group_code);
            }
            return OffsetDeleteResponse { topics, ..OffsetDeleteResponse::default() };
        }
        other => refused(other),
    };
    OffsetDeleteResponse { error: super::group_code(code), ..OffsetDeleteResponse::default() }
}
