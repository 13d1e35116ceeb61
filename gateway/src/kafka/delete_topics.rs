//! DeleteTopics (key 20), versions 1 to 6: by name, or by id from version 6 on.

use std::sync::Arc;

use types::TopicRecord;
use wire::kafka::{DeleteTopicsRequest, DeleteTopicsResponse, DeletedName, DeletedTopic, KafkaError};

use crate::Gateway;
use crate::error::kafka_code;
use crate::topics::delete;

pub async fn handle(gateway: Arc<Gateway>, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let mut responses = Vec::new();
    for name in request.names {
        let topic = gateway.map.topic(gateway.tenant, &name);
        responses.push(
            answer(
                &gateway,
                topic.as_deref(),
                DeletedTopic {
                    name: DeletedName(Some(name)),
                    error: KafkaError::UnknownTopicOrPartition as i16,
                    ..DeletedTopic::default()
                },
            )
            .await,
        );
    }
    for state in request.topics {
        let (topic, error) = match &state.name {
            Some(name) => (gateway.map.topic(gateway.tenant, name), KafkaError::UnknownTopicOrPartition),
            None => (gateway.map.topic_by_id(gateway.tenant, state.topic_id), KafkaError::UnknownTopicId),
        };
        let name = DeletedName(state.name);
        let unknown = DeletedTopic { name, topic_id: state.topic_id, error: error as i16, error_message: None };
        responses.push(answer(&gateway, topic.as_deref(), unknown).await);
    }
    DeleteTopicsResponse { throttle_ms: 0, responses }
}

async fn answer(gateway: &Arc<Gateway>, topic: Option<&TopicRecord>, unknown: DeletedTopic) -> DeletedTopic {
    let Some(topic) = topic else { return unknown };
    let (error, error_message) = match delete(gateway, topic).await {
        Ok(()) => (0, None),
        Err(error) => (kafka_code(error.code), Some(error.message)),
    };
    DeletedTopic { name: DeletedName(Some(topic.name.clone())), topic_id: topic.id, error, error_message }
}
