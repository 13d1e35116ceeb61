//! Metadata (key 3), versions 0 to 12.
//!
//! The brokers are the gateways that are alive. A partition's leader as shown is the first of the rendezvous
//! order over them, replicas and ISR are the first min(RF, gateways); any gateway serves any partition all the
//! same. Topics are created here only if the request allows it (KIP-204's flag).

use std::sync::Arc;

use policies::vocabulary::{CREATE_TOPIC, DESCRIBE_TOPIC};
use types::{ErrorCode, TopicId, TopicPartition, TopicRecord};
use wire::kafka::{
    KafkaError, MetadataBroker, MetadataPartition, MetadataRequest, MetadataResponse, MetadataTopic, NullableSince12,
};

use super::{Client, each_once};
use crate::caller::Caller;
use crate::error::kafka_code;
use crate::map::shown_order;
use crate::topics::{REPLICATION_FACTOR, create};

pub async fn handle(caller: Arc<Caller>, version: i16, client: Client, request: MetadataRequest) -> MetadataResponse {
    let mut topics = Vec::new();
    match request.topics {
        // In version 0 an empty list means all of them.
        Some(wanted) if version > 0 || !wanted.is_empty() => {
            for wanted in each_once(wanted, |wanted| (wanted.name.0.clone(), wanted.topic_id)) {
                topics.push(match wanted.name.0 {
                    Some(name) => by_name(&caller, &client, name, request.allow_auto_topic_creation).await,
                    None => by_id(&caller, &client, wanted.topic_id),
                });
            }
        }
        _ => topics.extend(caller.topics(DESCRIBE_TOPIC).iter().map(|topic| show(&caller, &client, topic))),
    }
    let gateways = caller.gateways(client.is_tls);
    let brokers = gateways.iter().map(|known| MetadataBroker {
        node_id: known.id,
        host: known.host.clone(),
        port: i32::from(known.port),
        rack: known.az.clone(),
    });
    MetadataResponse {
        brokers: brokers.collect(),
        cluster_id: Some(caller.tenant.cluster.to_string()),
        controller_id: gateways.first().map_or(caller.gateway.id, |first| first.id),
        topics,
        ..MetadataResponse::default()
    }
}

async fn by_name(caller: &Arc<Caller>, client: &Client, name: String, may_create: bool) -> MetadataTopic {
    let code = match caller.topic(DESCRIBE_TOPIC, &name) {
        Ok(topic) => return show(caller, client, &topic),
        Err(refusal) => refusal.code,
    };
    let may_create = may_create
        && code == ErrorCode::UnknownTopic
        && caller.makes_topics_by_itself()
        && caller.may_topic(CREATE_TOPIC, &name).is_ok();
    let code = if may_create {
        match create(caller, &name, 1, REPLICATION_FACTOR, Default::default(), false).await {
            Ok(topic) => return show(caller, client, &topic),
            Err(error) if error.code == ErrorCode::TopicExists => ErrorCode::LeaderNotAvailable,
            Err(error) => error.code,
        }
    } else {
        code
    };
    MetadataTopic { error: kafka_code(code), name: NullableSince12(Some(name)), ..MetadataTopic::default() }
}

fn by_id(caller: &Caller, client: &Client, id: TopicId) -> MetadataTopic {
    // As at Kafka, an id that one may not describe is one that nobody knows.
    match caller.topic_by_id(DESCRIBE_TOPIC, id) {
        Ok(topic) => show(caller, client, &topic),
        Err(_) => MetadataTopic {
            error: KafkaError::UnknownTopicId as i16,
            name: NullableSince12(Some(String::new())),
            topic_id: id,
            ..MetadataTopic::default()
        },
    }
}

pub fn show(caller: &Caller, client: &Client, topic: &TopicRecord) -> MetadataTopic {
    let gateways = caller.gateways(client.is_tls);
    let shown = usize::try_from(topic.replication_factor).unwrap_or(1).clamp(1, gateways.len().max(1));
    let partitions = (0..topic.partitions).map(|partition| {
        let id = TopicPartition { topic: topic.id, partition };
        let replicas: Vec<i32> = shown_order(&gateways, id).into_iter().take(shown).collect();
        let leader = replicas.first().copied();
        MetadataPartition {
            error: if leader.is_some() { 0 } else { KafkaError::LeaderNotAvailable as i16 },
            partition,
            leader: leader.unwrap_or(-1),
            leader_epoch: caller.gateway.map.partition(id).map_or(0, |record| record.epoch.0),
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
