//! DeleteTopics (key 20), versions 1 to 6: by name, or by id from version 6 on.

use std::sync::Arc;

use policies::vocabulary::DELETE_TOPIC;
use types::{ErrorCode, TopicId};
use wire::kafka::{DeleteTopicsRequest, DeleteTopicsResponse, DeletedName, DeletedTopic, KafkaError};

use super::each_once;
use crate::caller::Caller;
use crate::error::kafka_code;
use crate::topics::delete;

pub async fn handle(caller: Arc<Caller>, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let mut responses = Vec::new();
    for name in each_once(request.names, Clone::clone) {
        responses.push(delete_one(&caller, Some(name), TopicId::default()).await);
    }
    for state in each_once(request.topics, |state| (state.name.clone(), state.topic_id)) {
        responses.push(delete_one(&caller, state.name, state.topic_id).await);
    }
    DeleteTopicsResponse { throttle_ms: 0, responses }
}

/// By name if there is one, else by id.
async fn delete_one(caller: &Arc<Caller>, name: Option<String>, id: TopicId) -> DeletedTopic {
    let found = match &name {
        Some(name) => caller.topic(DELETE_TOPIC, name),
        None => caller.topic_by_id(DELETE_TOPIC, id),
    };
    let is_by_id = name.is_none();
    let topic = match found {
        Ok(topic) => topic,
        Err(refusal) => {
            let error = match refusal.code {
                ErrorCode::UnknownTopic if is_by_id => KafkaError::UnknownTopicId as i16,
                code => kafka_code(code),
            };
            return DeletedTopic { name: DeletedName(name), topic_id: id, error, error_message: Some(refusal.message) };
        }
    };
    let (error, error_message) = match delete(caller, &topic).await {
        Ok(()) => (0, None),
        Err(error) => (kafka_code(error.code), Some(error.message)),
    };
    DeletedTopic { name: DeletedName(Some(topic.name.clone())), topic_id: topic.id, error, error_message }
}
