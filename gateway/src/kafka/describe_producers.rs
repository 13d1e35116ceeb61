//! DescribeProducers (key 61), version 0 (KIP-664): who writes to a partition, as its leader remembers it.

use std::sync::Arc;

use policies::vocabulary::READ_DATA;
use types::{ErrorCode, TopicPartition};
use wire::dedupe::ProducerEntry;
use wire::frame::Refusal;
use wire::kafka::{
    ActiveProducer, DescribeProducersRequest, DescribeProducersResponse, DescribedProducersPartition,
    DescribedProducersTopic,
};

use super::Named;
use crate::caller::{Caller, Found};
use crate::error::{kafka_code, refuse};
use crate::fetch::producers;

pub async fn handle(caller: Arc<Caller>, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut named = Named::default();
    for topic in request.topics {
        let record = caller.topic(READ_DATA, &topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for index in topic.partitions {
            if !named.is_new(&topic.name, index) {
                continue;
            }
            partitions.push(match describe(&caller, record.as_ref(), index).await {
                Ok(producers) => DescribedProducersPartition {
                    index,
                    producers: producers.iter().map(shown).collect(),
                    ..DescribedProducersPartition::default()
                },
                Err(refusal) => DescribedProducersPartition {
                    index,
                    error: kafka_code(refusal.code),
                    error_message: Some(refusal.message),
                    ..DescribedProducersPartition::default()
                },
            });
        }
        topics.push(DescribedProducersTopic { name: topic.name, partitions });
    }
    DescribeProducersResponse { throttle_ms: 0, topics }
}

async fn describe(caller: &Arc<Caller>, topic: Found<'_>, index: i32) -> Result<Vec<ProducerEntry>, Refusal> {
    let topic = topic.map_err(Clone::clone)?;
    if !(0..topic.partitions).contains(&index) {
        return Err(refuse(ErrorCode::UnknownPartition, "the partition does not exist"));
    }
    producers(caller, TopicPartition { topic: topic.id, partition: index }).await
}

fn shown(entry: &ProducerEntry) -> ActiveProducer {
    ActiveProducer {
        id: entry.id,
        epoch: entry.epoch,
        last_sequence: entry.batches.last().map_or(-1, |batch| batch.last as i32),
        last_timestamp: entry.last_time,
        ..ActiveProducer::default()
    }
}
