//! DescribeConfigs (key 32), versions 1 to 4: every config with its value and where that is from, so that what is returned
//! can be given back.

use std::sync::Arc;

use policies::vocabulary::{DESCRIBE_CLUSTER_CONFIG, DESCRIBE_TOPIC_CONFIG};
use types::TopicRecord;
use wire::kafka::{
    ConfigSynonym, DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse, DescribeConfigsResult,
    DescribedConfig, KafkaError,
};

use super::each_once;
use crate::caller::Caller;
use crate::configs::{BROKER_CONFIGS, Known, TOPIC_CONFIGS};
use crate::error::kafka_code;

pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;
/// `ConfigSource`: set on the topic, fixed in the broker, and nothing was set.
const OF_TOPIC: i8 = 1;
const OF_BROKER: i8 = 4;
const DEFAULT: i8 = 5;

pub async fn handle(caller: Arc<Caller>, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let with_synonyms = request.include_synonyms;
    let results = each_once(request.resources, |named| (named.resource_type, named.resource_name.clone()));
    let results = results.into_iter().map(|resource| describe(&caller, resource, with_synonyms));
    DescribeConfigsResponse { throttle_ms: 0, results: results.collect() }
}

fn describe(caller: &Caller, resource: DescribeConfigsResource, with_synonyms: bool) -> DescribeConfigsResult {
    let DescribeConfigsResource { resource_type, resource_name, keys } = resource;
    let is_wanted = |name: &str| keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key == name));
    let result = |error: i16, error_message: Option<&str>, configs: Vec<DescribedConfig>| DescribeConfigsResult {
        error,
        error_message: error_message.map(str::to_owned),
        resource_type,
        resource_name: resource_name.clone(),
        configs,
    };
    match resource_type {
        TOPIC => match caller.topic(DESCRIBE_TOPIC_CONFIG, &resource_name) {
            Ok(topic) => {
                let configs = TOPIC_CONFIGS.iter().filter(|known| is_wanted(known.name));
                result(0, None, configs.map(|known| of_topic(&topic, known, with_synonyms)).collect())
            }
            Err(refusal) => result(kafka_code(refusal.code), Some(&refusal.message), Vec::new()),
        },
        BROKER => {
            if let Err(refusal) = caller.cluster(DESCRIBE_CLUSTER_CONFIG) {
                return result(kafka_code(refusal.code), Some(&refusal.message), Vec::new());
            }
            let configs = BROKER_CONFIGS.iter().filter(|(name, ..)| is_wanted(name));
            let shown = configs.map(|(name, kind, value)| DescribedConfig {
                name: (*name).to_owned(),
                value: Some((*value).to_owned()),
                read_only: true,
                source: OF_BROKER,
                config_type: *kind as i8,
                ..DescribedConfig::default()
            });
            result(0, None, shown.collect())
        }
        _ => result(KafkaError::InvalidRequest as i16, Some("configs are of topics (2) and brokers (4)"), Vec::new()),
    }
}

fn of_topic(topic: &TopicRecord, known: &Known, with_synonyms: bool) -> DescribedConfig {
    let own = topic.configs.get(known.name);
    let mut synonyms = Vec::new();
    if with_synonyms {
        synonyms.extend(own.map(|value| synonym(known.name, value, OF_TOPIC)));
        synonyms.extend(known.synonym.map(|name| synonym(name, known.default, DEFAULT)));
    }
    DescribedConfig {
        name: known.name.to_owned(),
        value: Some(own.map_or(known.default, String::as_str).to_owned()),
        source: if own.is_some() { OF_TOPIC } else { DEFAULT },
        synonyms,
        config_type: known.kind as i8,
        ..DescribedConfig::default()
    }
}

fn synonym(name: &str, value: &str, source: i8) -> ConfigSynonym {
    ConfigSynonym { name: name.to_owned(), value: Some(value.to_owned()), source }
}
