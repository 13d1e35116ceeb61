//! AlterConfigs (key 33), versions 0 to 2: all of a topic's configs at once; what is not named is taken away.

use std::collections::BTreeMap;
use std::sync::Arc;

use policies::vocabulary::ALTER_TOPIC_CONFIG;
use types::ErrorCode;
use wire::frame::Refusal;
use wire::kafka::{AlterConfigsRequest, AlterConfigsResource, AlterConfigsResponse};

use super::describe_configs::TOPIC;
use super::incremental_alter_configs::answer;
use crate::caller::Caller;
use crate::configs;
use crate::error::{from_api, refuse};
use crate::topics::alter;

pub async fn handle(caller: Arc<Caller>, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let (kind, name) = (resource.resource_type, resource.resource_name.clone());
        let result = change(&caller, resource, request.validate_only).await;
        responses.push(answer(kind, name, result));
    }
    AlterConfigsResponse { throttle_ms: 0, responses }
}

async fn change(caller: &Arc<Caller>, resource: AlterConfigsResource, is_dry_run: bool) -> Result<(), Refusal> {
    if resource.resource_type != TOPIC {
        return Err(refuse(ErrorCode::InvalidRequest, "only configs of topics can be changed"));
    }
    let topic = caller.topic(ALTER_TOPIC_CONFIG, &resource.resource_name)?;
    let mut after: BTreeMap<String, Option<String>> = topic.configs.keys().map(|name| (name.clone(), None)).collect();
    for config in resource.configs {
        if let Some(value) = &config.value {
            configs::check(&config.name, value).map_err(from_api)?;
        }
        after.insert(config.name, config.value);
    }
    if !is_dry_run {
        alter(caller, &topic, after, None).await.map_err(from_api)?;
    }
    Ok(())
}
