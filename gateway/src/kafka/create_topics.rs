//! CreateTopics (key 19), versions 2 to 7.
//!
//! Replication factors 1 to 3 are accepted, stored and shown; every record has two copies all the same. Explicit
//! assignments are refused: gateways are no brokers that one could assign to.

use std::sync::Arc;

use policies::vocabulary::CREATE_TOPIC;
use service::api::ApiError;
use types::{ErrorCode, TopicRecord};
use wire::kafka::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse, CreatedConfig, CreatedTopic};

use crate::caller::Caller;
use crate::error::kafka_code;
use crate::topics::{REPLICATION_FACTOR, create};

/// KIP-525: where a shown value comes from.
const SOURCE_TOPIC: i8 = 1;

pub async fn handle(caller: Arc<Caller>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let name = topic.name.clone();
        topics.push(match create_one(&caller, topic, request.validate_only).await {
            Ok(record) => CreatedTopic {
                name,
                topic_id: record.id,
                num_partitions: record.partitions,
                replication_factor: record.replication_factor,
                configs: Some(record.configs.iter().map(shown).collect()),
                ..CreatedTopic::default()
            },
            Err(error) => CreatedTopic {
                name,
                error: kafka_code(error.code),
                error_message: Some(error.message),
                ..CreatedTopic::default()
            },
        });
    }
    CreateTopicsResponse { throttle_ms: 0, topics }
}

fn shown((name, value): (&String, &String)) -> CreatedConfig {
    CreatedConfig { name: name.clone(), value: Some(value.clone()), source: SOURCE_TOPIC, ..CreatedConfig::default() }
}

async fn create_one(caller: &Arc<Caller>, topic: CreatableTopic, is_dry_run: bool) -> Result<TopicRecord, ApiError> {
    caller.may_topic(CREATE_TOPIC, &topic.name).map_err(|refusal| ApiError::new(refusal.code, refusal.message))?;
    if !topic.assignments.is_empty() {
        let message = "partitions are placed by Weir; give a number of partitions instead of assignments";
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    let partitions = if topic.num_partitions == -1 { 1 } else { topic.num_partitions };
    let factor = if topic.replication_factor == -1 { REPLICATION_FACTOR } else { topic.replication_factor };
    let configs = topic.configs.into_iter().filter_map(|config| Some((config.name, config.value?))).collect();
    create(caller, &topic.name, partitions, factor, configs, is_dry_run).await
}
