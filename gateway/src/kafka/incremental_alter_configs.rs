//! IncrementalAlterConfigs (key 44), versions 0 and 1 (KIP-339): set, delete, append, subtract.

use std::sync::Arc;

use policies::vocabulary::ALTER_TOPIC_CONFIG;
use types::ErrorCode;
use wire::frame::Refusal;
use wire::kafka::{
    AlteredResource, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, IncrementalConfig,
    IncrementalResource,
};

use super::describe_configs::TOPIC;
use crate::caller::Caller;
use crate::configs::{self, Change};
use crate::error::{from_api, kafka_code, refuse};
use crate::topics::alter;

pub async fn handle(caller: Arc<Caller>, request: IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let (kind, name) = (resource.resource_type, resource.resource_name.clone());
        let result = change(&caller, resource, request.validate_only).await;
        responses.push(answer(kind, name, result));
    }
    IncrementalAlterConfigsResponse { throttle_ms: 0, responses }
}

pub fn answer(resource_type: i8, resource_name: String, result: Result<(), Refusal>) -> AlteredResource {
    let (error, error_message) = match result {
        Ok(()) => (0, None),
        Err(refusal) => (kafka_code(refusal.code), Some(refusal.message)),
    };
    AlteredResource { error, error_message, resource_type, resource_name }
}

async fn change(caller: &Arc<Caller>, resource: IncrementalResource, is_dry_run: bool) -> Result<(), Refusal> {
    if resource.resource_type != TOPIC {
        return Err(refuse(ErrorCode::InvalidRequest, "only configs of topics can be changed"));
    }
    let topic = caller.topic(ALTER_TOPIC_CONFIG, &resource.resource_name)?;
    let changes = resource.configs.into_iter().map(one).collect::<Result<Vec<_>, Refusal>>()?;
    let after = configs::change(&topic.configs, changes).map_err(from_api)?;
    if !is_dry_run {
        alter(caller, &topic, after, None).await.map_err(from_api)?;
    }
    Ok(())
}

fn one(config: IncrementalConfig) -> Result<(String, Change), Refusal> {
    let IncrementalConfig { name, operation, value } = config;
    let missing = || refuse(ErrorCode::InvalidConfig, format!("`{name}` is given no value"));
    let change = match operation {
        0 => Change::Set(value.ok_or_else(missing)?),
        1 => Change::Delete,
        2 => Change::Append(value.ok_or_else(missing)?),
        3 => Change::Subtract(value.ok_or_else(missing)?),
        other => return Err(refuse(ErrorCode::InvalidRequest, format!("operation {other} of `{name}` is not known"))),
    };
    Ok((name, change))
}
