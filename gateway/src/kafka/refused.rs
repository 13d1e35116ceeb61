//! Answers to requests of which the header alone could be read: each API's own error, no topic named.
//!
//! Apache Kafka closes the connection instead. An answer says what was wrong, and the requests that follow on the
//! connection are served.

use std::future::ready;

use bytes::Bytes;
use wire::codec::Reader;
use wire::kafka::{
    ApiKey, ApiVersionsResponse, Coordinator, CreateTopicsResponse, CreatedTopic, DeleteTopicsResponse, DeletedTopic,
    FetchResponse, FindCoordinatorResponse, InitProducerIdResponse, KafkaError, ListOffsetsPartitionResponse,
    ListOffsetsResponse, ListOffsetsTopicResponse, MetadataResponse, MetadataTopic, ProducePartitionResponse,
    ProduceResponse, ProduceTopicResponse,
};

use super::{Pending, Reply, answer};

/// The error in the version of the request, or in the nearest one that is known: a client that asks in a version
/// that was not offered has to guess anyway.
///
/// `None` where no answer can say it: a Fetch below version 7 has no place for an error without a topic, and would
/// look like an empty success; a Produce whose `acks` are 0, or cannot be read, may not expect an answer.
pub fn refuse(reply: Reply, body: Bytes, error: KafkaError, message: &str) -> Option<Pending> {
    let offered = reply.offered;
    match offered.key {
        ApiKey::Fetch if reply.version < 7 => return None,
        ApiKey::Produce if !wants_answer(body, reply.version) => return None,
        _ => {}
    }
    let reply = Reply { version: reply.version.clamp(offered.accepted, offered.max), ..reply };
    let error = error as i16;
    let error_message = Some(message.to_owned());
    Some(match offered.key {
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
    })
}

/// Reads a Produce as far as its `acks`.
fn wants_answer(body: Bytes, version: i16) -> bool {
    let mut reader = Reader::new(body);
    let mut acks = || {
        if version >= 9 {
            let length = reader.unsigned_varint("transactional id")?.saturating_sub(1);
            reader.bytes("transactional id", length as usize)?;
        } else if version >= 3 {
            let length = reader.i16("transactional id")?.max(0);
            reader.bytes("transactional id", length as usize)?;
        }
        reader.i16("acks")
    };
    acks().is_ok_and(|acks| acks != 0)
}
