//! The bounds that users meet, and those on which more than one module depends; `const` assertions say how they relate.
//!
//! A bound that only one module knows has its name there, beside its use.

/// The smallest record batch: its header and no record, in bytes.
pub const BATCH_HEADER_BYTES: usize = 61;
/// `max.message.bytes` when a topic sets none: Kafka's default, in bytes.
pub const BATCH_BYTES_DEFAULT: usize = 1_048_588;
/// The largest record batch that any topic may allow, in bytes.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What one compressed batch may unpack to at the edge, in bytes.
pub const UNPACKED_BYTES_MAX: usize = 16 * BATCH_BYTES_MAX;
/// The largest Kafka request, in bytes, without its length prefix.
pub const KAFKA_FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;
/// The largest HTTP request body, in bytes.
pub const HTTP_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a request's body may take to come, in ms: 16 MiB over a slow line.
pub const HTTP_BODY_MS_MAX: u64 = 300_000;
/// How long a connection may be silent, or a request half there, in ms (Kafka's `connections.max.idle.ms`).
pub const CONNECTION_IDLE_MS: u64 = 600_000;
/// The largest internal frame, in bytes: a carried tail travels batch by batch, so one batch bounds it.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The most that one Fetch answers over all its partitions, in bytes (MSK Serverless allows 55 MB).
pub const FETCH_BYTES_MAX: usize = 55 * 1024 * 1024;

/// Bytes in flight per partition, from a gateway and between a leader and its follower.
pub const PARTITION_IN_FLIGHT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Appends in flight per partition from one gateway.
pub const PARTITION_IN_FLIGHT_APPENDS_MAX: usize = 256;
/// Answered appends of one gateway session that a leader remembers.
pub const SESSION_WINDOW_MAX: usize = 2 * PARTITION_IN_FLIGHT_APPENDS_MAX;
/// Batches remembered per producer id (Kafka's `NUM_BATCHES_TO_RETAIN`).
pub const PRODUCER_BATCHES: usize = 5;
/// Batches with a sequence gap that wait at the leader, per producer.
pub const SEQUENCE_GAP_BATCHES: usize = 5;
/// How long such a batch waits, in ms.
pub const SEQUENCE_GAP_MS: u64 = 1_000;
/// Producers whose first batch was refused that a leader remembers.
pub const REFUSED_PRODUCERS_MAX: usize = 256;
/// How long a session's entry outlives its last append, in ms of log time: nothing is sent again so late.
pub const SESSION_EXPIRY_MS: i64 = 15 * 60 * 1000;
/// Producers, and sessions, that a partition remembers; of more, those that wrote longest ago are forgotten.
pub const PRODUCERS_MAX: usize = 20_000;
/// How long a producer's entry outlives its last append, in ms of log time (Kafka's `producer.id.expiration.ms`).
pub const PRODUCER_EXPIRY_MS: i64 = 24 * 60 * 60 * 1000;

/// How long a follower's connection may be gone within one epoch, in ms.
pub const FOLLOWER_RECONNECT_MS: u64 = 300;
/// How often a leader whose follower stays away asks for a failover, in ms.
pub const FAILOVER_ASK_MS: u64 = 1_000;
/// How long a failover waits for the second member's answer to its fence, in ms.
pub const FENCE_GRACE_MS: u64 = 50;
/// After how long a failover that reached neither member asks them again, in ms.
pub const FENCE_RETRY_MS: u64 = 200;
/// How often a storage node says on each connection that it is there, in ms.
pub const ALIVE_MS: u64 = 100;
/// A connection to a storage node on which nothing at all comes for this long, in ms, is given up, and seen to be so
/// within half as long again; a node sends nothing to who has fallen silent for so long.
pub const SILENT_MS: u64 = 500;
/// How long a new connection to a storage node may be without a first keepalive, in ms.
pub const FIRST_WORD_MS: u64 = 300;
/// How long a failover waits for a new pair to open a segment, in ms.
pub const OPEN_TIMEOUT_MS: u64 = 500;
/// How long after an opening its follower looks for others that came to nothing, in ms.
pub const ORPHAN_LOOK_MS: u64 = 3_000;
/// A write of the journal that takes this long, in ms, is one of a disk that hangs: the node says nothing any more, so that
/// others do without it, until the write is done.
pub const DISK_HUNG_MS: u64 = 1_000;
/// How long a storage node is silent before the copies on it are made anew elsewhere, in ms.
pub const REPAIR_AFTER_MS: u64 = 15_000;
/// How often the target of a copy is asked how far it is, in ms.
pub const COPY_ASK_MS: u64 = 200;
/// How long it may be without an answer, in ms.
pub const COPY_STALLED_MS: u64 = 5_000;
/// Bytes that one storage node asks another for at a time when it makes a copy.
pub const COPY_CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// How long a partition that was moved rests, in ms, and how many move by themselves in a minute.
pub const MOVE_REST_MS: u64 = 300_000;
pub const MOVES_PER_MINUTE: usize = 30;
/// The smallest difference between two nodes, in bytes appended per second, that is worth a move.
pub const MOVE_BYTES_PER_S_MIN: u64 = 512 * 1024;
/// A partition without an append for this long is parked, in seconds, unless an operator says otherwise.
pub const PARK_AFTER_S: u64 = 600;
/// Partitions of which a storage node's heartbeat tells the load; placement parks nothing on a node that has more.
pub const LOAD_MAX: usize = 4_096;
/// The first and the longest interval at which a candidate leader asks placement, in ms.
pub const ACTIVATION_ASK_MS: u64 = 20;
pub const ACTIVATION_ASK_MS_MAX: u64 = 500;

/// The unit of the journal's direct writes, in bytes.
pub const JOURNAL_BLOCK_BYTES: usize = 4096;
/// One journal file, in bytes.
pub const JOURNAL_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// The most bytes of one journal write.
pub const JOURNAL_WRITE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes that one journal write takes together at most, if the first entry is not larger by itself: enough for the
/// device's full rate, and small enough that the first batches are acknowledged while the next are written.
pub const JOURNAL_WRITE_BYTES_AIM: usize = 256 * 1024;
/// Silence after which the journal writes an empty record, in ms.
pub const JOURNAL_IDLE_MS: u64 = 10;
/// Un-flushed bytes of one segment that earn it a file of its own.
pub const SEGMENT_FILE_BYTES_MIN: usize = 1024 * 1024;
/// Recent batches kept in memory by one storage node, in bytes.
pub const TAIL_BUDGET_BYTES: usize = 256 * 1024 * 1024;
/// Batches of one storage node that are in the journal and in no file yet, in bytes: above it appends are refused
/// until files have caught up.
pub const UNFLUSHED_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Files a storage node keeps open.
pub const OPEN_FILES_MAX: usize = 1_024;

/// A topic's partitions at creation.
pub const PARTITIONS_PER_TOPIC_MAX: i32 = 10_000;
/// Bytes of a topic name (Kafka's rule).
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Longest wait of a fetch or of an HTTP read, in ms.
pub const FETCH_WAIT_MS_MAX: u64 = 60_000;
/// How long a gateway tries to place an append before it answers that the outcome is unknown, in ms.
pub const APPEND_DEADLINE_MS: u64 = 30_000;
/// Producer ids that a gateway takes from placement at a time.
pub const PRODUCER_ID_BLOCK: i64 = 1_000;
/// A gateway or node whose heartbeat is older is not shown as alive, in ms.
pub const HEARTBEAT_TIMEOUT_MS: u64 = 10_000;
/// How often gateways and nodes say that they are alive, in ms.
pub const HEARTBEAT_MS: u64 = 2_000;
/// A disk is slow whose journal writes take so many times longer than its peers' (their median), and at least so long, in
/// µs, for so long, in ms.
pub const SLOW_FACTOR: u64 = 5;
pub const SLOW_WRITE_US_MIN: u64 = 20_000;
pub const SLOW_AFTER_MS: u64 = 10_000;
/// For how long open segments leave it, in ms, the first time; each further time is twice as long, up to so many times.
pub const SLOW_REST_MS: u64 = 300_000;
pub const SLOW_REST_DOUBLINGS: u32 = 4;

/// Members of a group, ids that were only promised included.
pub const GROUP_MEMBERS_MAX: usize = 10_000;
pub const GROUP_NAME_BYTES_MAX: usize = 1_024;
/// Bytes that all members of a group may have in metadata and shares: they are one record of the log.
pub const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Ways of assigning that a member may name.
pub const GROUP_PROTOCOLS_MAX: usize = 64;
/// Bytes of a question to a coordinator.
pub const GROUP_QUESTION_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Records that a coordinator may have given to its log and that are not in it yet.
pub const GROUP_QUEUE_RECORDS_MAX: usize = 100_000;
/// Session timeouts that members may ask for, in ms (`group.min.session.timeout.ms`, `group.max.session.timeout.ms`).
pub const GROUP_SESSION_MS_MIN: i32 = 6_000;
pub const GROUP_SESSION_MS_MAX: i32 = 1_800_000;
/// `offset.metadata.max.bytes`.
pub const OFFSET_METADATA_BYTES_MAX: usize = 4_096;
/// How long the offsets of a group without members are kept, in ms (`offsets.retention.minutes`).
pub const OFFSETS_RETENTION_MS: i64 = 7 * 24 * 3_600_000;
/// How often that is looked for, in ms.
pub const OFFSETS_EXPIRE_EVERY_MS: u64 = 60_000;
/// Offsets and members that a coordinator log's records name, after which a snapshot of all groups stands for what came
/// before; as many as the last snapshot named if that was more.
pub const OFFSETS_SNAPSHOT_ENTRIES: usize = 50_000;
/// Names of topics that begin so are Weir's own: clients neither see nor make such topics.
pub const INTERNAL_PREFIX: &str = "__weir_";
/// Coordinator logs of a cluster.
pub const COORDINATOR_LOGS: i32 = 8;
const _: () = assert!(BATCH_BYTES_DEFAULT <= BATCH_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX < FRAME_BYTES_MAX, "a frame holds any batch");
const _: () = assert!(BATCH_BYTES_MAX < JOURNAL_WRITE_BYTES_MAX, "a write holds any batch");
const _: () = assert!(BATCH_BYTES_MAX <= PARTITION_IN_FLIGHT_BYTES_MAX, "a window holds any batch");
const _: () = assert!((JOURNAL_WRITE_BYTES_MAX as u64) < JOURNAL_FILE_BYTES, "a file holds any write");
const _: () = assert!(JOURNAL_WRITE_BYTES_AIM <= JOURNAL_WRITE_BYTES_MAX);
const _: () = assert!(JOURNAL_WRITE_BYTES_AIM.is_multiple_of(JOURNAL_BLOCK_BYTES));
const _: () = assert!(JOURNAL_FILE_BYTES.is_multiple_of(JOURNAL_BLOCK_BYTES as u64));
const _: () = assert!(FETCH_BYTES_MAX + BATCH_BYTES_MAX <= FRAME_BYTES_MAX, "a frame holds any fetch answer");
const _: () = assert!(APPEND_DEADLINE_MS as i64 * 2 < SESSION_EXPIRY_MS, "a lane gives up first");
const _: () = assert!(TAIL_BUDGET_BYTES < UNFLUSHED_BYTES_MAX, "files are written in haste long before");
const _: () = assert!(ALIVE_MS * 3 < SILENT_MS, "three keepalives may be late");
const _: () = assert!(HEARTBEAT_MS * 3 < HEARTBEAT_TIMEOUT_MS);
