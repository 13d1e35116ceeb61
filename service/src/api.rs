//! The placement API: its JSON messages and a typed client.
//!
//! | call | does |
//! |---|---|
//! | `POST /placement/v1/nodes` | registers a storage node for one process lifetime |
//! | `POST /placement/v1/gateways` | registers a gateway, or says that it is alive |
//! | `GET /placement/v1/map?after=N&generation=G&wait_ms=M` | what changed after revision N of generation G, or all of it |
//! | `GET /placement/v1/partitions/{topic}/{p}` | one record, linearizable |
//! | `POST /placement/v1/partitions/{topic}/{p}/open` | opens the partition if no segment is open |
//! | `POST /placement/v1/partitions/{topic}/{p}/failover` | fails it over if `nonce` is still the open segment |
//! | `POST /placement/v1/partitions/{topic}/{p}/move` | moves its open segment to a node |
//! | `POST /placement/v1/partitions/{topic}/{p}/accept-loss` | tells what no copy is left of, or goes on without it |
//! | `POST /placement/v1/nodes/drain` | empties a node, or lets it be used again |
//! | `GET /placement/v1/status` | what placement sees and does |
//! | `GET /placement/v1/backup` | all metadata, to be restored by `weir placement restore` |
//! | `POST /placement/v1/topics`, `/topics/alter`, `/topics/delete` | creates, alters, deletes |
//! | `POST /placement/v1/producer-ids` | a block of producer ids |

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::{
    AccountId, ClusterId, Endpoint, ErrorCode, GatewayRecord, Generation, Incarnation, NodeId, NodeRecord, Nonce,
    Offset, PartitionRecord, SegmentId, TopicId, TopicPartition, TopicRecord,
};

use crate::http::JsonClient;
use crate::trust::Trust;

/// A refusal, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    pub code: ErrorCode,
    pub message: String,
}

impl ApiError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code.name())
    }
}

impl std::error::Error for ApiError {}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RegisterNode {
    pub name: String,
    pub az: String,
    pub address: String,
    pub incarnation: Incarnation,
    /// The id of an earlier registration, kept in the data directory.
    pub id: Option<NodeId>,
    /// True at the start of a process, false when it only says that it is alive.
    pub is_start: bool,
    /// Sealed segments whose copies on this node are damaged.
    #[serde(default)]
    pub damaged: Vec<SegmentId>,
    /// What the partitions that it leads append, the busiest first, in bytes per second.
    #[serde(default)]
    pub load: Vec<(TopicPartition, u64)>,
    /// Mean time of its journal's writes since the last heartbeat, in µs; `None` if there were none.
    #[serde(default)]
    pub write_us: Option<u64>,
    /// The generation that was fenced on this node last: a placement of an older one is superseded.
    #[serde(default)]
    pub generation: Generation,
    /// Its wall clock, in ms since 1970; `None` of a node that does not tell it.
    #[serde(default)]
    pub wall_ms: Option<i64>,
    /// The newest version of frames that it understands; 0 of a node that does not tell it.
    #[serde(default)]
    pub frames: u8,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Registered {
    pub id: NodeId,
    /// The first cluster of this metadata: tells one store from another.
    pub cluster: ClusterId,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RegisterGateway {
    pub host: String,
    pub port: u16,
    pub az: Option<String>,
    #[serde(default)]
    pub tls: Option<Endpoint>,
    #[serde(default)]
    pub is_login_required: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GatewayRegistered {
    pub id: i32,
    pub account: AccountId,
    pub cluster: ClusterId,
}

/// What changed after a revision. Deleted topics are `None`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct MapChanges {
    pub revision: u64,
    /// Counts how often the metadata was restored; orders before the revision.
    #[serde(default = "first_generation")]
    pub generation: Generation,
    /// The receiver must forget what it had: this is all there is.
    pub is_whole: bool,
    pub topics: Vec<(TopicId, Option<TopicRecord>)>,
    pub partitions: Vec<PartitionRecord>,
    pub nodes: Vec<NodeRecord>,
    pub gateways: Vec<GatewayRecord>,
}

/// Where logs begin whose beginning was given up, as a storage node notes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStarts {
    pub log_starts: Vec<(TopicPartition, Offset)>,
}

fn first_generation() -> Generation {
    Generation(1)
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreateTopic {
    pub account: AccountId,
    pub cluster: ClusterId,
    pub name: String,
    pub partitions: i32,
    pub replication_factor: i16,
    pub configs: BTreeMap<String, String>,
    /// Check only.
    pub is_dry_run: bool,
}

/// Changes a topic: what is not named stays.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AlterTopic {
    pub account: AccountId,
    pub cluster: ClusterId,
    pub topic: TopicId,
    /// `None` takes a config away: its default holds again.
    pub configs: BTreeMap<String, Option<String>>,
    /// The new count; never fewer than before.
    pub partitions: Option<i32>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeleteTopic {
    pub account: AccountId,
    pub cluster: ClusterId,
    pub topic: TopicId,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FailoverRequest {
    /// The open segment that cannot go on.
    pub nonce: Nonce,
}

/// Empties a node, or lets it be used again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DrainNode {
    pub node: String,
    pub is_draining: bool,
}

/// Moves the open segment of a partition, by sealing here and opening there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MovePartition {
    pub to: String,
}

/// Says that copies of a partition will not come back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptLoss {
    /// The version that was told with what is lost, to go on without that. `None`: only tell.
    pub version: Option<u64>,
}

/// What is lost of a partition.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Losses {
    pub lost: Vec<LostRange>,
    /// Of the record that this is about.
    #[serde(default)]
    pub version: u64,
    /// Where the partition goes on, once that was accepted and it is open.
    pub next_offset: Option<Offset>,
}

/// Offsets of one segment; `to` is not known of the open one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LostRange {
    pub from: Offset,
    pub to: Option<Offset>,
    /// Storage nodes that had it, as listings call them.
    pub nodes: Vec<String>,
}

/// What placement sees and does.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Status {
    pub nodes: Vec<NodeStatus>,
    pub partitions: PartitionCounts,
    /// The first hundred that are offline.
    #[serde(default)]
    pub offline: Vec<TopicPartition>,
    pub repairs: Vec<RepairStatus>,
    /// The last things that placement did, and why, the newest first.
    pub events: Vec<Event>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeStatus {
    pub name: String,
    pub id: NodeId,
    pub az: String,
    pub address: String,
    /// `up`, `slow` (open segments leave it), `draining`, `drained`, `silent` (its connection ended just now), `down`.
    pub state: String,
    /// For how long nothing was heard of it, in ms.
    pub away_ms: u64,
    /// Open segments that it leads, and follows.
    pub leads: u64,
    pub follows: u64,
    /// Sealed segments of which it has a copy.
    pub sealed: u64,
    pub bytes_per_s: u64,
}

/// Partitions by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionCounts {
    pub total: u64,
    pub open: u64,
    pub parked: u64,
    /// A segment has one copy that can be reached, and nobody copies it yet.
    pub one_copy: u64,
    /// The same, and it is being copied.
    pub repairing: u64,
    /// A segment has none that can be reached.
    pub offline: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RepairStatus {
    pub partition: TopicPartition,
    pub base: i64,
    pub end: i64,
    pub copied_to: i64,
    pub target: NodeId,
    pub for_ms: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// Ms since 1970.
    pub at_ms: i64,
    pub text: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProducerIds {
    pub first: i64,
    pub count: i64,
}

/// The format of backups that this release writes, and the newest that it reads.
pub const BACKUP_FORMAT: u32 = 2;

/// All metadata at one revision.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Backup {
    pub format: u32,
    /// Ms since 1970.
    pub taken_ms: i64,
    pub cluster: ClusterId,
    pub generation: Generation,
    pub revision: u64,
    /// Key and value, in order.
    pub entries: Vec<(String, serde_json::Value)>,
    /// CRC-32C of the entries; none in format 1.
    #[serde(default)]
    pub checksum: Option<u32>,
}

impl Backup {
    /// The checksum that its entries should have.
    pub fn checksum_of(entries: &[(String, serde_json::Value)]) -> u32 {
        crc32c::crc32c(&serde_json::to_vec(entries).expect("entries are plain data"))
    }

    /// Whether its entries are as they were written.
    pub fn is_intact(&self) -> bool {
        match self.checksum {
            Some(checksum) => checksum == Self::checksum_of(&self.entries),
            None => self.format == 1,
        }
    }
}

/// Makes all offsets of a partition below this one unreadable: its log start moves up, never down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrimPartition {
    pub before: Offset,
}

/// An answer without content.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Done {}

/// Talks to placement.
#[derive(Debug, Clone)]
pub struct PlacementClient(pub(crate) JsonClient);

const CALL: Duration = Duration::from_secs(5);
const HEARTBEAT: Duration = Duration::from_millis(1_500);
const OPEN: Duration = Duration::from_secs(15);

impl PlacementClient {
    pub fn new(urls: &[String], trust: Option<&Arc<Trust>>) -> Self {
        Self(JsonClient::new(urls, trust))
    }

    /// From now on an answer of another cluster's placement is an error: a node whose data belongs to `cluster` must
    /// not take another store's silence for a deletion.
    pub fn expect_cluster(&self, cluster: ClusterId) {
        self.0.expect_cluster(cluster);
    }

    pub async fn register_node(&self, node: &RegisterNode) -> Result<Registered, ApiError> {
        if node.is_start {
            return self.0.post("/placement/v1/nodes", node, CALL).await;
        }
        // Each placement process goes by what it hears itself.
        self.0.post_to_all("/placement/v1/nodes", node, HEARTBEAT).await
    }

    pub async fn register_gateway(&self, gateway: &RegisterGateway) -> Result<GatewayRegistered, ApiError> {
        self.0.post_to_all("/placement/v1/gateways", gateway, HEARTBEAT).await
    }

    /// Waits up to `wait` for a change after `revision`.
    /// What changed after the revision that an earlier answer named, or all of it for `None`.
    pub async fn map(&self, after: Option<(Generation, u64)>, wait: Duration) -> Result<MapChanges, ApiError> {
        self.map_for(0, after, wait).await
    }

    /// The same for a gateway: placement takes the end of its connection, while it waits, for the end of the gateway.
    pub async fn map_for(
        &self,
        gateway: i32,
        after: Option<(Generation, u64)>,
        wait: Duration,
    ) -> Result<MapChanges, ApiError> {
        let (generation, after) = after.unwrap_or_default();
        let wait_ms = wait.as_millis();
        let asks = format!("after={after}&generation={}&wait_ms={wait_ms}&gateway={gateway}", generation.0);
        self.0.get(&format!("/placement/v1/map?{asks}"), wait + CALL).await
    }

    pub async fn partition(&self, id: TopicPartition) -> Result<PartitionRecord, ApiError> {
        self.0.get(&format!("/placement/v1/partitions/{id}"), CALL).await
    }

    pub async fn open(&self, id: TopicPartition) -> Result<PartitionRecord, ApiError> {
        self.0.post(&format!("/placement/v1/partitions/{id}/open"), &Done {}, OPEN).await
    }

    pub async fn failover(&self, id: TopicPartition, nonce: Nonce) -> Result<PartitionRecord, ApiError> {
        let path = format!("/placement/v1/partitions/{id}/failover");
        self.0.post(&path, &FailoverRequest { nonce }, OPEN).await
    }

    pub async fn create_topic(&self, topic: &CreateTopic) -> Result<TopicRecord, ApiError> {
        self.0.post("/placement/v1/topics", topic, OPEN).await
    }

    pub async fn alter_topic(&self, topic: &AlterTopic) -> Result<TopicRecord, ApiError> {
        self.0.post("/placement/v1/topics/alter", topic, OPEN).await
    }

    pub async fn delete_topic(&self, topic: &DeleteTopic) -> Result<Done, ApiError> {
        self.0.post("/placement/v1/topics/delete", topic, OPEN).await
    }

    pub async fn status(&self) -> Result<Status, ApiError> {
        self.0.get("/placement/v1/status", OPEN).await
    }

    pub async fn backup(&self) -> Result<Backup, ApiError> {
        self.0.get("/placement/v1/backup", OPEN).await
    }

    pub async fn drain_node(&self, request: &DrainNode) -> Result<Done, ApiError> {
        self.0.post("/placement/v1/nodes/drain", request, CALL).await
    }

    pub async fn move_partition(&self, id: TopicPartition, to: &MovePartition) -> Result<PartitionRecord, ApiError> {
        self.0.post(&format!("/placement/v1/partitions/{id}/move"), to, OPEN).await
    }

    pub async fn accept_loss(&self, id: TopicPartition, request: &AcceptLoss) -> Result<Losses, ApiError> {
        self.0.post(&format!("/placement/v1/partitions/{id}/accept-loss"), request, OPEN).await
    }

    pub async fn trim(&self, id: TopicPartition, request: &TrimPartition) -> Result<PartitionRecord, ApiError> {
        self.0.post(&format!("/placement/v1/partitions/{id}/trim"), request, OPEN).await
    }

    pub async fn producer_ids(&self) -> Result<ProducerIds, ApiError> {
        self.0.post("/placement/v1/producer-ids", &Done {}, CALL).await
    }
}
