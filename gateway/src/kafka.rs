//! The Kafka listener: frames in, one handler file per API key, answers out in the order of the requests.

mod alter_configs;
mod api_versions;
pub mod connection;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_topic_partitions;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
pub mod login;
mod metadata;
mod nothing_of_the_kind;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod pace;
mod produce;
mod refused;
mod sync_group;

use std::collections::HashSet;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use policies::vocabulary::{ALTER_CLUSTER, DESCRIBE_CLUSTER, DESCRIBE_CLUSTER_CONFIG, KnownAction};
use types::ErrorCode;
use wire::codec::{DecodeError, Writer};
use wire::kafka::{
    ApiKey, DescribeAclsRequest, DescribeClientQuotasRequest, KafkaError, ListPartitionReassignmentsRequest, Message,
    Offered, RequestHeader, has_flexible_response_header,
};

use crate::caller::Caller;
use crate::error::kafka_code;
use crate::kafka::connection::Connection;
use crate::kafka::login::{Gate, Say, Turn};

/// Things that one request names, where each is a question of its own: more than any cluster has.
const NAMED_MAX: usize = 10_000;

/// An answer that is there, or that will be. `None`: the request wants no answer (`acks=0`).
type Pending = Pin<Box<dyn Future<Output = Option<Vec<Bytes>>> + Send>>;

/// Reads a request and begins it. What must happen in order (placing batches) has begun when this returns.
async fn dispatch(gate: &mut Gate, connection: &Connection, frame: Bytes) -> Result<Say, DecodeError> {
    let (header, body) = RequestHeader::split(frame)?;
    let Some(offered) = Offered::of(header.key) else {
        return Err(DecodeError::Value { what: "api key", value: i64::from(header.key) });
    };
    let id = header.client_id.unwrap_or_default();
    let client = Client { id, host: format!("/{}", connection.peer.ip()), is_tls: connection.is_tls };
    let reply = Reply { correlation: header.correlation, offered, version: header.version };
    if !(offered.accepted..=offered.max).contains(&header.version) {
        let message = format!(
            "{:?} is served in versions {} to {}, not {}",
            offered.key, offered.accepted, offered.max, header.version
        );
        let error = DecodeError::Value { what: "api version", value: i64::from(header.version) };
        return refused::refuse(reply, body, KafkaError::UnsupportedVersion, &message).map(Say::Answer).ok_or(error);
    }
    let caller = match gate.take(reply, &body).await {
        Ok(Turn::Begin(caller)) => caller,
        Ok(Turn::Say(say)) => return Ok(say),
        Err(error) => {
            let message = format!("the request cannot be read: {error}");
            let answer = refused::refuse(reply, body, KafkaError::InvalidRequest, &message);
            return answer.map(Say::AnswerAndClose).ok_or(error);
        }
    };
    let denied = needs(reply.offered.key).and_then(|action| caller.cluster(action).err());
    let begun = match denied {
        Some(denied) => refused::refuse(reply, body, KafkaError::ClusterAuthorizationFailed, &denied.message),
        None => match begin(&caller, reply, client, body.clone()) {
            Ok(pending) => Some(pending),
            Err(error) => {
                let message = format!("the request cannot be read: {error}");
                let answer = refused::refuse(reply, body, KafkaError::InvalidRequest, &message);
                return answer.map(Say::Answer).ok_or(error);
            }
        },
    };
    Ok(begun.map_or(Say::Close("a denied request that has no answer"), Say::Answer))
}

/// What a call needs that is about the cluster as a whole. Others look at what they name.
fn needs(key: ApiKey) -> Option<KnownAction> {
    match key {
        ApiKey::DescribeCluster | ApiKey::DescribeAcls | ApiKey::ListPartitionReassignments => Some(DESCRIBE_CLUSTER),
        ApiKey::CreateAcls | ApiKey::DeleteAcls => Some(ALTER_CLUSTER),
        ApiKey::DescribeClientQuotas => Some(DESCRIBE_CLUSTER_CONFIG),
        _ => None,
    }
}

fn begin(caller: &Arc<Caller>, reply: Reply, client: Client, body: Bytes) -> Result<Pending, DecodeError> {
    let version = reply.version;
    Ok(match reply.offered.key {
        ApiKey::Produce => produce::begin(Arc::clone(caller), reply, Message::decode(body, version)?),
        ApiKey::Fetch => answer(caller, reply, fetch::handle(Arc::clone(caller), Message::decode(body, version)?)),
        ApiKey::ListOffsets => {
            answer(caller, reply, list_offsets::handle(Arc::clone(caller), Message::decode(body, version)?))
        }
        ApiKey::Metadata => answer(
            caller,
            reply,
            metadata::handle(Arc::clone(caller), version, client, Message::decode(body, version)?),
        ),
        ApiKey::OffsetCommit => {
            answer(caller, reply, offset_commit::handle(Arc::clone(caller), Message::decode(body, version)?))
        }
        ApiKey::OffsetFetch => {
            answer(caller, reply, offset_fetch::handle(Arc::clone(caller), version, Message::decode(body, version)?))
        }
        ApiKey::FindCoordinator => answer(
            caller,
            reply,
            find_coordinator::handle(Arc::clone(caller), version, client, Message::decode(body, version)?),
        ),
        ApiKey::JoinGroup => answer(
            caller,
            reply,
            join_group::handle(Arc::clone(caller), version, client, Message::decode(body, version)?),
        ),
        ApiKey::Heartbeat => {
            answer(caller, reply, heartbeat::handle(Arc::clone(caller), Message::decode(body, version)?))
        }
        ApiKey::LeaveGroup => {
            answer(caller, reply, leave_group::handle(Arc::clone(caller), version, Message::decode(body, version)?))
        }
        ApiKey::SyncGroup => {
            answer(caller, reply, sync_group::handle(Arc::clone(caller), Message::decode(body, version)?))
        }
        ApiKey::DescribeGroups => {
            answer(caller, reply, describe_groups::handle(Arc::clone(caller), Message::decode(body, version)?))
        }
        ApiKey::ListGroups => {
            answer(caller, reply, list_groups::handle(Arc::clone(caller), client, Message::decode(body, version)?))
        }
        ApiKey::ApiVersions => answer(caller, reply, api_versions::handle(Message::decode(body, version)?)),
        ApiKey::CreateTopics => {
            answer(caller, reply, create_topics::handle(Arc::clone(caller), Message::decode(body, version)?))
        }
        ApiKey::DeleteTopics => {
            answer(caller, reply, delete_topics::handle(Arc::clone(caller), Message::decode(body, version)?))
        }
        ApiKey::DeleteRecords => {
            answer(caller, reply, delete_records::handle(Arc::clone(caller), Message::decode(body, version)?))
        }
        ApiKey::InitProducerId => {
            answer(caller, reply, init_producer_id::handle(Arc::clone(caller), Message::decode(body, version)?))
        }
        ApiKey::DeleteGroups => {
            answer(caller, reply, delete_groups::handle(Arc::clone(caller), Message::decode(body, version)?))
        }
        ApiKey::OffsetForLeaderEpoch => {
            answer(caller, reply, offset_for_leader_epoch::handle(Arc::clone(caller), Message::decode(body, version)?))
        }
        ApiKey::DescribeAcls => {
            let _: DescribeAclsRequest = Message::decode(body, version)?;
            answer(caller, reply, nothing_of_the_kind::acls())
        }
        ApiKey::CreateAcls => answer(caller, reply, nothing_of_the_kind::create_acls(Message::decode(body, version)?)),
        ApiKey::DeleteAcls => answer(caller, reply, nothing_of_the_kind::delete_acls(Message::decode(body, version)?)),
        ApiKey::DescribeConfigs => {
            answer(caller, reply, describe_configs::handle(Arc::clone(caller), Message::decode(body, version)?))
        }
        ApiKey::AlterConfigs => {
            answer(caller, reply, alter_configs::handle(Arc::clone(caller), Message::decode(body, version)?))
        }
        ApiKey::DescribeLogDirs => answer(
            caller,
            reply,
            describe_log_dirs::handle(Arc::clone(caller), client, Message::decode(body, version)?),
        ),
        ApiKey::CreatePartitions => {
            answer(caller, reply, create_partitions::handle(Arc::clone(caller), Message::decode(body, version)?))
        }
        ApiKey::IncrementalAlterConfigs => answer(
            caller,
            reply,
            incremental_alter_configs::handle(Arc::clone(caller), Message::decode(body, version)?),
        ),
        ApiKey::ListPartitionReassignments => {
            let _: ListPartitionReassignmentsRequest = Message::decode(body, version)?;
            answer(caller, reply, nothing_of_the_kind::reassignments())
        }
        ApiKey::DescribeClientQuotas => {
            let _: DescribeClientQuotasRequest = Message::decode(body, version)?;
            answer(caller, reply, nothing_of_the_kind::client_quotas())
        }
        ApiKey::DescribeCluster => {
            answer(caller, reply, describe_cluster::handle(Arc::clone(caller), client, Message::decode(body, version)?))
        }
        ApiKey::DescribeProducers => {
            answer(caller, reply, describe_producers::handle(Arc::clone(caller), Message::decode(body, version)?))
        }
        ApiKey::DescribeTopicPartitions => answer(
            caller,
            reply,
            describe_topic_partitions::handle(Arc::clone(caller), client, Message::decode(body, version)?),
        ),
        // The gate has answered these.
        ApiKey::SaslHandshake | ApiKey::SaslAuthenticate => {
            return Err(DecodeError::Value { what: "api key", value: i64::from(reply.offered.key as i16) });
        }
        ApiKey::OffsetDelete => {
            answer(caller, reply, offset_delete::handle(Arc::clone(caller), Message::decode(body, version)?))
        }
    })
}

/// What a request names, each once, however often it names it: a repeated name is a few bytes, and its answer may be many.
/// What is named beyond ten thousand is not answered.
fn each_once<T, K: Hash + Eq>(mut named: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut seen = HashSet::new();
    named.retain(|one| seen.len() < NAMED_MAX && seen.insert(key(one)));
    named
}

/// Partitions that a request has named so far: its topics may be named twice with other partitions.
#[derive(Default)]
struct Named(HashSet<(String, i32)>);

impl Named {
    /// Whether this one was not among them.
    fn is_new(&mut self, topic: &str, partition: i32) -> bool {
        self.0.insert((topic.to_owned(), partition))
    }
}

/// Who asks.
#[derive(Debug, Clone)]
struct Client {
    id: String,
    /// As Kafka shows it to operators.
    host: String,
    is_tls: bool,
}

/// Codes of group APIs. A client that is to ask again is told that the coordinator loads: it waits and asks the same
/// gateway. After `NOT_COORDINATOR` it would look for another, and be sent to the one it left; librdkafka then connects
/// anew for ever.
fn group_code(code: ErrorCode) -> i16 {
    match code {
        ErrorCode::RequestTimedOut
        | ErrorCode::NotCoordinator
        | ErrorCode::NotLeader
        | ErrorCode::Fenced
        | ErrorCode::LeaderNotAvailable
        | ErrorCode::PlacementUnavailable
        | ErrorCode::AzUnavailable
        | ErrorCode::PartitionOffline
        | ErrorCode::Overloaded
        | ErrorCode::ShuttingDown
        | ErrorCode::TopicExists
        | ErrorCode::StorageFull => KafkaError::CoordinatorLoadInProgress as i16,
        code => kafka_code(code),
    }
}

/// Where an answer goes.
#[derive(Debug, Clone, Copy)]
struct Reply {
    correlation: i32,
    offered: &'static Offered,
    version: i16,
}

impl Reply {
    fn encode<M: Message>(self, message: &M) -> Vec<Bytes> {
        let mut writer = Writer::with_capacity(256);
        writer.buffer.put_i32(self.correlation);
        if has_flexible_response_header(self.offered, self.version) {
            writer.unsigned_varint(0);
        }
        message.encode(&mut writer, self.version);
        let mut chunks = writer.into_chunks();
        let length: usize = chunks.iter().map(Bytes::len).sum();
        chunks.insert(0, Bytes::copy_from_slice(&(length as u32).to_be_bytes()));
        chunks
    }
}

/// The answer of a handler; it tells for how long the connection rests then.
fn answer<M: Message + Send>(
    caller: &Arc<Caller>,
    reply: Reply,
    message: impl Future<Output = M> + Send + 'static,
) -> Pending {
    let caller = Arc::clone(caller);
    Box::pin(async move {
        let mut message = message.await;
        message.set_throttle_ms(caller.toll.throttle_ms());
        Some(reply.encode(&message))
    })
}

/// An answer that is there already.
fn said<M: Message + Send + 'static>(reply: Reply, message: M) -> Pending {
    Box::pin(async move { Some(reply.encode(&message)) })
}
