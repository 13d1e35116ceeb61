//! Weir's vocabulary: ids, limits, error codes and metadata records.
//!
//! Everything here is plain data. This crate knows no I/O, clock, randomness or async runtime.

mod error;
mod identity;
mod ids;
pub mod limits;
mod metadata;
mod quota;

pub use error::{ErrorCode, Retry, SideEffects};
pub use identity::{
    AccessKeyRecord, AccountRecord, ClusterRecord, DeniedTokens, Grants, IssuerKeys, IssuerRecord, KeyHolder,
    RESERVED_CLUSTER, RoleRecord, ScramRecord, UserRecord, is_valid_cluster_name, is_valid_identity_name,
};
pub use ids::{
    AccountId, ClusterId, Epoch, Generation, Incarnation, InvalidUuid, NodeId, Nonce, Offset, PartitionIndex,
    PrincipalId, Protocol, SegmentId, SessionId, TopicId, TopicPartition,
};
pub use metadata::{
    Endpoint, Gap, GatewayRecord, NodeRecord, PartitionRecord, Replica, SegmentRecord, TopicRecord, is_valid_topic_name,
};
pub use quota::{Flow, Limits, MSK_SERVERLESS, QuotaProfile, Stock, UNLIMITED, built_in};
