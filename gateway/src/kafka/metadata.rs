//! Metadata (key 3), versions 0 to 12.
//!
//! The brokers are the gateways that are alive. A partition's leader as shown is the first of the rendezvous
//! order over them, replicas and ISR are the first min(RF, gateways); any gateway serves any partition all the
//! same. Topics are created here only if the request allows it (KIP-204's flag).

use std::sync::Arc;

use types::{ErrorCode, TopicId, TopicPartition, TopicRecord};
use wire::kafka::{
    KafkaError, MetadataBroker, MetadataPartition, MetadataRequest, MetadataResponse, MetadataTopic, NullableSince12,
};

use super::Client;
use crate::Gateway;
use crate::error::kafka_code;
use crate::map::shown_order;
use crate::topics::{REPLICATION_FACTOR, create};

pub async fn handle(gateway: Arc<Gateway>, version: i16, client: Client, request: MetadataRequest) -> MetadataResponse {
    let mut topics = Vec::new();
    match request.topics {
        // In version 0 an empty list means all of them.
        Some(wanted) if version > 0 || !wanted.is_empty() => {
            for wanted in wanted {
                topics.push(match wanted.name.0 {
                    Some(name) => by_name(&gateway, &client, name, request.allow_auto_topic_creation).await,
                    None => by_id(&gateway, &client, wanted.topic_id),
                });
            }
        }
        _ => topics.extend(gateway.map.topics(gateway.tenant).iter().map(|topic| show(&gateway, &client, topic))),
    }
    let gateways = gateway.gateways_for(client.is_tls);
    let brokers = gateways.iter().map(|known| MetadataBroker {
        node_id: known.id,
        host: known.host.clone(),
        port: i32::from(known.port),
        rack: known.az.clone(),
    });
    MetadataResponse {
        brokers: brokers.collect(),
        cluster_id: Some(gateway.tenant.cluster.to_string()),
        controller_id: gateways.first().map_or(gateway.id, |first| first.id),
        topics,
        ..MetadataResponse::default()
    }
}

async fn by_name(gateway: &Arc<Gateway>, client: &Client, name: String, may_create: bool) -> MetadataTopic {
    if let Some(topic) = gateway.map.topic(gateway.tenant, &name) {
        return show(gateway, client, &topic);
    }
    let code = if may_create {
        match create(gateway, &name, 1, REPLICATION_FACTOR, Default::default(), false).await {
            Ok(topic) => return show(gateway, client, &topic),
            Err(error) if error.code == ErrorCode::TopicExists => ErrorCode::LeaderNotAvailable,
            Err(error) => error.code,
        }
    } else {
        ErrorCode::UnknownTopic
    };
    MetadataTopic { error: kafka_code(code), name: NullableSince12(Some(name)), ..MetadataTopic::default() }
}

fn by_id(gateway: &Gateway, client: &Client, id: TopicId) -> MetadataTopic {
    match gateway.map.topic_by_id(gateway.tenant, id) {
        Some(topic) => show(gateway, client, &topic),
        None => MetadataTopic {
            error: KafkaError::UnknownTopicId as i16,
            name: NullableSince12(Some(String::new())),
            topic_id: id,
            ..MetadataTopic::default()
        },
    }
}

pub fn show(gateway: &Gateway, client: &Client, topic: &TopicRecord) -> MetadataTopic {
    let gateways = gateway.gateways_for(client.is_tls);
    let shown = usize::try_from(topic.replication_factor).unwrap_or(1).clamp(1, gateways.len().max(1));
    let partitions = (0..topic.partitions).map(|partition| {
        let id = TopicPartition { topic: topic.id, partition };
        let replicas: Vec<i32> = shown_order(&gateways, id).into_iter().take(shown).collect();
        let leader = replicas.first().copied();
        MetadataPartition {
            error: if leader.is_some() { 0 } else { KafkaError::LeaderNotAvailable as i16 },
            partition,
            leader: leader.unwrap_or(-1),
            leader_epoch: gateway.map.partition(id).map_or(0, |record| record.epoch.0),
            isr: replicas.clone(),
            replicas,
            offline_replicas: Vec::new(),
        }
    });
    MetadataTopic {
        name: NullableSince12(Some(topic.name.clone())),
        topic_id: topic.id,
        partitions: partitions.collect(),
        ..MetadataTopic::default()
    }
}
