//! The one table from what went wrong to what a client is told.

use axum::http::StatusCode;
use service::api::ApiError;
use types::ErrorCode;
use wire::frame::Refusal;
use wire::kafka::KafkaError;

/// The HTTP status and the Kafka code of an error.
pub fn answer_of(code: ErrorCode) -> (StatusCode, KafkaError) {
    use ErrorCode as E;
    use KafkaError as K;
    use StatusCode as S;
    match code {
        E::Internal => (S::INTERNAL_SERVER_ERROR, K::UnknownServerError),
        E::RequestTimedOut => (S::GATEWAY_TIMEOUT, K::RequestTimedOut),
        E::CorruptBatch => (S::BAD_REQUEST, K::CorruptMessage),
        E::BatchTooLarge => (S::PAYLOAD_TOO_LARGE, K::MessageTooLarge),
        E::InvalidRecord => (S::BAD_REQUEST, K::InvalidRecord),
        E::UnknownTopic | E::UnknownPartition => (S::NOT_FOUND, K::UnknownTopicOrPartition),
        E::TopicExists => (S::CONFLICT, K::TopicAlreadyExists),
        E::InvalidTopicName => (S::BAD_REQUEST, K::InvalidTopic),
        E::InvalidPartitions => (S::BAD_REQUEST, K::InvalidPartitions),
        E::InvalidReplicationFactor => (S::BAD_REQUEST, K::InvalidReplicationFactor),
        E::InvalidConfig => (S::BAD_REQUEST, K::InvalidConfig),
        E::InvalidRequest => (S::BAD_REQUEST, K::InvalidRequest),
        E::OffsetOutOfRange => (S::RANGE_NOT_SATISFIABLE, K::OffsetOutOfRange),
        E::NotLeader | E::Fenced => (S::SERVICE_UNAVAILABLE, K::NotLeaderOrFollower),
        E::LeaderNotAvailable | E::PlacementUnavailable => (S::SERVICE_UNAVAILABLE, K::LeaderNotAvailable),
        E::AzUnavailable => (S::SERVICE_UNAVAILABLE, K::NotEnoughReplicas),
        E::PartitionOffline => (S::SERVICE_UNAVAILABLE, K::LeaderNotAvailable),
        E::OutOfOrderSequence => (S::CONFLICT, K::OutOfOrderSequenceNumber),
        E::ProducerFenced => (S::CONFLICT, K::InvalidProducerEpoch),
        // Every client tries again after this code; not all do after THROTTLING_QUOTA_EXCEEDED.
        E::Overloaded => (S::SERVICE_UNAVAILABLE, K::NotEnoughReplicas),
        E::StorageFull => (S::INSUFFICIENT_STORAGE, K::KafkaStorageError),
        E::UnsupportedVersion => (S::BAD_REQUEST, K::UnsupportedVersion),
        E::Unsupported => (S::NOT_IMPLEMENTED, K::UnsupportedVersion),
        E::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, K::MessageTooLarge),
        E::NotFound => (S::NOT_FOUND, K::UnknownTopicOrPartition),
        E::TenantMismatch => (S::NOT_FOUND, K::UnknownTopicOrPartition),
        E::Damaged => (S::INTERNAL_SERVER_ERROR, K::KafkaStorageError),
        E::UnsupportedMediaType => (S::UNSUPPORTED_MEDIA_TYPE, K::InvalidRequest),
        E::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, K::InvalidRequest),
        E::BodyTimedOut => (S::REQUEST_TIMEOUT, K::InvalidRequest),
        E::NotCoordinator => (S::SERVICE_UNAVAILABLE, K::NotCoordinator),
        E::CoordinatorLoading => (S::SERVICE_UNAVAILABLE, K::CoordinatorLoadInProgress),
        E::InvalidGroup => (S::BAD_REQUEST, K::InvalidGroupId),
        E::GroupNotFound => (S::NOT_FOUND, K::GroupIdNotFound),
        E::GroupNotEmpty => (S::CONFLICT, K::NonEmptyGroup),
        E::GroupSubscribed => (S::CONFLICT, K::GroupSubscribedToTopic),
        E::GroupFull => (S::CONFLICT, K::GroupMaxSizeReached),
        E::UnknownMember => (S::CONFLICT, K::UnknownMemberId),
        E::FencedInstance => (S::CONFLICT, K::FencedInstanceId),
        E::IllegalGeneration => (S::CONFLICT, K::IllegalGeneration),
        E::RebalanceInProgress => (S::CONFLICT, K::RebalanceInProgress),
        E::InconsistentProtocol => (S::CONFLICT, K::InconsistentGroupProtocol),
        E::InvalidSessionTimeout => (S::BAD_REQUEST, K::InvalidSessionTimeout),
        E::OffsetMetadataTooLarge => (S::PAYLOAD_TOO_LARGE, K::OffsetMetadataTooLarge),
        E::InvalidTimestamp => (S::BAD_REQUEST, K::InvalidTimestamp),
        E::TopicDenied => (S::FORBIDDEN, K::TopicAuthorizationFailed),
        E::GroupDenied => (S::FORBIDDEN, K::GroupAuthorizationFailed),
        E::ClusterDenied => (S::FORBIDDEN, K::ClusterAuthorizationFailed),
        E::LoginRequired => (S::UNAUTHORIZED, K::SaslAuthenticationFailed),
        E::AlreadyExists => (S::CONFLICT, K::InvalidRequest),
        E::QuotaExceeded => (S::TOO_MANY_REQUESTS, K::ThrottlingQuotaExceeded),
        E::LimitReached => (S::CONFLICT, K::PolicyViolation),
        E::ShuttingDown => (S::SERVICE_UNAVAILABLE, K::NotLeaderOrFollower),
    }
}

/// The Kafka code alone.
pub fn kafka_code(code: ErrorCode) -> i16 {
    answer_of(code).1 as i16
}

/// A refusal by this gateway.
pub fn refuse(code: ErrorCode, message: impl Into<String>) -> Refusal {
    Refusal { code, message: message.into() }
}

/// What this gateway refuses, as what placement would.
pub fn to_api(refusal: Refusal) -> ApiError {
    ApiError { code: refusal.code, message: refusal.message }
}

/// What placement refused, as what we refuse.
pub fn from_api(error: ApiError) -> Refusal {
    Refusal { code: error.code, message: error.message }
}
