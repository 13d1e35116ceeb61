//! Answers to requests of which the header alone could be read: each API's own error, no topic named.
//!
//! Apache Kafka closes the connection instead. An answer says what was wrong, and the requests that follow on the
//! connection are served.

use std::future::ready;

use wire::kafka::{
    ApiKey, ApiVersionsResponse, Coordinator, CreateTopicsResponse, CreatedTopic, DeleteTopicsResponse, DeletedTopic,
    FetchResponse, FindCoordinatorResponse, InitProducerIdResponse, KafkaError, ListOffsetsPartitionResponse,
    ListOffsetsResponse, ListOffsetsTopicResponse, MetadataResponse, MetadataTopic, ProducePartitionResponse,
    ProduceResponse, ProduceTopicResponse,
};

use super::{Pending, Reply, answer};

/// The error in the version of the request, or in the nearest one that is known: a client that asks in a version
/// that was not offered has to guess anyway.
pub fn refuse(reply: Reply, error: KafkaError, message: &str) -> Pending {
    let offered = reply.offered;
    let reply = Reply { version: reply.version.clamp(offered.accepted, offered.max), ..reply };
    let error = error as i16;
    let error_message = Some(message.to_owned());
    match offered.key {
        ApiKey::Produce => {
            let partition = ProducePartitionResponse { error, error_message, ..Default::default() };
            let topics = vec![ProduceTopicResponse { name: String::new(), partitions: vec![partition] }];
            answer(reply, ready(ProduceResponse { topics, throttle_ms: 0 }))
        }
        ApiKey::Fetch => answer(reply, ready(FetchResponse { error, ..Default::default() })),
        ApiKey::ListOffsets => {
            let partitions = vec![ListOffsetsPartitionResponse { error, ..Default::default() }];
            let topics = vec![ListOffsetsTopicResponse { name: String::new(), partitions }];
            answer(reply, ready(ListOffsetsResponse { throttle_ms: 0, topics }))
        }
        ApiKey::Metadata => {
            let topics = vec![MetadataTopic { error, name: "".into(), ..Default::default() }];
            answer(reply, ready(MetadataResponse { topics, ..Default::default() }))
        }
        ApiKey::FindCoordinator => {
            let coordinators = vec![Coordinator { error, error_message: error_message.clone(), ..Default::default() }];
            answer(reply, ready(FindCoordinatorResponse { error, error_message, coordinators, ..Default::default() }))
        }
        // KIP-511: version 0 with the error, so that the client may choose again.
        ApiKey::ApiVersions => answer(Reply { version: 0, ..reply }, ready(ApiVersionsResponse::offer(error))),
        ApiKey::CreateTopics => {
            let topics = vec![CreatedTopic { error, error_message, ..Default::default() }];
            answer(reply, ready(CreateTopicsResponse { topics, ..Default::default() }))
        }
        ApiKey::DeleteTopics => {
            let responses = vec![DeletedTopic { error, error_message, ..Default::default() }];
            answer(reply, ready(DeleteTopicsResponse { responses, ..Default::default() }))
        }
        ApiKey::InitProducerId => answer(reply, ready(InitProducerIdResponse { error, ..Default::default() })),
    }
}
