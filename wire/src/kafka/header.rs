//! Request headers and ApiVersions (key 18), the one API whose encoding must work before anything is agreed.

use bytes::Bytes;

use super::{Field, Version, message};
use crate::codec::{DecodeError, Reader};

/// The APIs that Weir knows, by key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
pub enum ApiKey {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    JoinGroup = 11,
    Heartbeat = 12,
    LeaveGroup = 13,
    SyncGroup = 14,
    DescribeGroups = 15,
    ListGroups = 16,
    SaslHandshake = 17,
    ApiVersions = 18,
    CreateTopics = 19,
    DeleteTopics = 20,
    DeleteRecords = 21,
    InitProducerId = 22,
    OffsetForLeaderEpoch = 23,
    DescribeAcls = 29,
    CreateAcls = 30,
    DeleteAcls = 31,
    DescribeConfigs = 32,
    AlterConfigs = 33,
    DescribeLogDirs = 35,
    SaslAuthenticate = 36,
    CreatePartitions = 37,
    DeleteGroups = 42,
    IncrementalAlterConfigs = 44,
    ListPartitionReassignments = 46,
    OffsetDelete = 47,
    DescribeClientQuotas = 48,
    DescribeCluster = 60,
    DescribeProducers = 61,
    DescribeTopicPartitions = 75,
}

/// An API with the versions that are offered: advertised from `min`, accepted from `accepted`.
#[derive(Debug, Clone, Copy)]
pub struct Offered {
    pub key: ApiKey,
    pub min: i16,
    pub max: i16,
    /// Lower versions are advertised but refused: old clients look for them to find other features (KAFKA-18659).
    pub accepted: i16,
    /// First version whose request header is flexible.
    pub flexible: i16,
}

/// Everything that is offered; ApiVersions answers this.
pub const OFFERED: &[Offered] = &[
    Offered { key: ApiKey::Produce, min: 0, max: 11, accepted: 3, flexible: 9 },
    Offered { key: ApiKey::Fetch, min: 4, max: 12, accepted: 4, flexible: 12 },
    Offered { key: ApiKey::ListOffsets, min: 1, max: 9, accepted: 1, flexible: 6 },
    Offered { key: ApiKey::Metadata, min: 0, max: 12, accepted: 0, flexible: 9 },
    Offered { key: ApiKey::OffsetCommit, min: 2, max: 9, accepted: 2, flexible: 8 },
    Offered { key: ApiKey::OffsetFetch, min: 1, max: 9, accepted: 1, flexible: 6 },
    Offered { key: ApiKey::FindCoordinator, min: 0, max: 4, accepted: 0, flexible: 3 },
    Offered { key: ApiKey::JoinGroup, min: 0, max: 9, accepted: 0, flexible: 6 },
    Offered { key: ApiKey::Heartbeat, min: 0, max: 4, accepted: 0, flexible: 4 },
    Offered { key: ApiKey::LeaveGroup, min: 0, max: 5, accepted: 0, flexible: 4 },
    Offered { key: ApiKey::SyncGroup, min: 0, max: 5, accepted: 0, flexible: 4 },
    Offered { key: ApiKey::DescribeGroups, min: 0, max: 5, accepted: 0, flexible: 5 },
    Offered { key: ApiKey::ListGroups, min: 0, max: 5, accepted: 0, flexible: 3 },
    // Never above 1: clients up to 2.4 negotiate wrongly then (KAFKA-9577).
    Offered { key: ApiKey::SaslHandshake, min: 0, max: 1, accepted: 0, flexible: 32767 },
    Offered { key: ApiKey::ApiVersions, min: 0, max: 4, accepted: 0, flexible: 3 },
    Offered { key: ApiKey::CreateTopics, min: 2, max: 7, accepted: 2, flexible: 5 },
    Offered { key: ApiKey::DeleteTopics, min: 1, max: 6, accepted: 1, flexible: 4 },
    Offered { key: ApiKey::DeleteRecords, min: 0, max: 2, accepted: 0, flexible: 2 },
    Offered { key: ApiKey::InitProducerId, min: 0, max: 4, accepted: 0, flexible: 2 },
    Offered { key: ApiKey::OffsetForLeaderEpoch, min: 2, max: 4, accepted: 2, flexible: 4 },
    Offered { key: ApiKey::DescribeAcls, min: 1, max: 3, accepted: 1, flexible: 2 },
    Offered { key: ApiKey::CreateAcls, min: 1, max: 3, accepted: 1, flexible: 2 },
    Offered { key: ApiKey::DeleteAcls, min: 1, max: 3, accepted: 1, flexible: 2 },
    Offered { key: ApiKey::DescribeConfigs, min: 1, max: 4, accepted: 1, flexible: 4 },
    Offered { key: ApiKey::AlterConfigs, min: 0, max: 2, accepted: 0, flexible: 2 },
    Offered { key: ApiKey::DescribeLogDirs, min: 1, max: 4, accepted: 1, flexible: 2 },
    Offered { key: ApiKey::SaslAuthenticate, min: 0, max: 2, accepted: 0, flexible: 2 },
    Offered { key: ApiKey::CreatePartitions, min: 0, max: 3, accepted: 0, flexible: 2 },
    Offered { key: ApiKey::IncrementalAlterConfigs, min: 0, max: 1, accepted: 0, flexible: 1 },
    Offered { key: ApiKey::ListPartitionReassignments, min: 0, max: 0, accepted: 0, flexible: 0 },
    Offered { key: ApiKey::DescribeClientQuotas, min: 0, max: 1, accepted: 0, flexible: 1 },
    Offered { key: ApiKey::DescribeCluster, min: 0, max: 2, accepted: 0, flexible: 0 },
    Offered { key: ApiKey::DescribeProducers, min: 0, max: 0, accepted: 0, flexible: 0 },
    Offered { key: ApiKey::DescribeTopicPartitions, min: 0, max: 0, accepted: 0, flexible: 0 },
    Offered { key: ApiKey::DeleteGroups, min: 0, max: 2, accepted: 0, flexible: 2 },
    Offered { key: ApiKey::OffsetDelete, min: 0, max: 0, accepted: 0, flexible: 32767 },
];

impl Offered {
    /// The API of a key, if it is offered.
    pub fn of(key: i16) -> Option<&'static Self> {
        OFFERED.iter().find(|offered| offered.key as i16 == key)
    }
}

/// What stands before each request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    pub key: i16,
    pub version: i16,
    pub correlation: i32,
    pub client_id: Option<String>,
}

impl RequestHeader {
    /// Splits a request into its header and body.
    pub fn split(frame: Bytes) -> Result<(Self, Bytes), DecodeError> {
        let mut reader = Reader::new(frame);
        let rigid = Version { number: 0, is_flexible: false };
        let header = Self {
            key: reader.i16("api key")?,
            version: reader.i16("api version")?,
            correlation: reader.i32("correlation id")?,
            client_id: Field::read(&mut reader, rigid)?,
        };
        // The client id keeps its old encoding in flexible headers (KIP-511); only the tags are new.
        // A version that is not known has a body that nobody reads; its tags, if any, are part of that.
        let is_flexible =
            Offered::of(header.key).is_some_and(|offered| (offered.flexible..=offered.max).contains(&header.version));
        super::skip_tags(&mut reader, Version { number: 0, is_flexible })?;
        Ok((header, reader.rest()))
    }
}

message! {
    struct ApiVersionsRequest flexible 3 {
        client_software_name: String [3..],
        client_software_version: String [3..],
    }

    struct ApiVersion {
        key: i16 [0..],
        min: i16 [0..],
        max: i16 [0..],
    }

    struct ApiVersionsResponse flexible 3 {
        error: i16 [0..],
        apis: Vec<ApiVersion> [0..],
        throttle_ms: i32 [1..],
    }
}

impl ApiVersionsResponse {
    /// The offer, with an error for a version that is not known (then in version 0, KIP-511).
    pub fn offer(error: i16) -> Self {
        let apis = OFFERED
            .iter()
            .map(|offered| ApiVersion { key: offered.key as i16, min: offered.min, max: offered.max })
            .collect();
        Self { error, apis, throttle_ms: 0 }
    }
}

/// Whether responses of this API and version have a flexible header. ApiVersions never has (KIP-511).
pub fn has_flexible_response_header(offered: &Offered, version: i16) -> bool {
    offered.key != ApiKey::ApiVersions && version >= offered.flexible
}

const _: () = {
    let mut i = 0;
    while i < OFFERED.len() {
        assert!(OFFERED[i].min <= OFFERED[i].accepted && OFFERED[i].accepted <= OFFERED[i].max);
        i += 1;
    }
};
