//! CreatePartitions (key 37), versions 0 to 3: more partitions for a topic. Where they go is not the client's to say.

use std::collections::BTreeMap;
use std::sync::Arc;

use policies::vocabulary::ALTER_TOPIC;
use types::ErrorCode;
use wire::frame::Refusal;
use wire::kafka::{CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsResult, CreatePartitionsTopic};

use super::each_once;
use crate::caller::Caller;
use crate::error::{from_api, kafka_code, refuse};
use crate::topics::alter;

pub async fn handle(caller: Arc<Caller>, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in each_once(request.topics, |topic| topic.name.clone()) {
        let (error, error_message) = match grow(&caller, &topic, request.validate_only).await {
            Ok(()) => (0, None),
            Err(refusal) => (kafka_code(refusal.code), Some(refusal.message)),
        };
        results.push(CreatePartitionsResult { name: topic.name, error, error_message });
    }
    CreatePartitionsResponse { throttle_ms: 0, results }
}

async fn grow(caller: &Arc<Caller>, wanted: &CreatePartitionsTopic, is_dry_run: bool) -> Result<(), Refusal> {
    let topic = caller.topic(ALTER_TOPIC, &wanted.name)?;
    if wanted.count <= topic.partitions {
        let message = format!("the topic has {} partitions already; there can only be more", topic.partitions);
        return Err(refuse(ErrorCode::InvalidPartitions, message));
    }
    if !is_dry_run {
        alter(caller, &topic, BTreeMap::new(), Some(wanted.count)).await.map_err(from_api)?;
    }
    Ok(())
}
