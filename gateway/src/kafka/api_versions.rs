//! ApiVersions (key 18), versions 0 to 4.
//!
//! Answers `wire::kafka::OFFERED`. Produce is advertised from 0 though 0 to 2 are refused: librdkafka before
//! 2.11.1 takes their absence as the absence of compression (KAFKA-18659).

use wire::kafka::{ApiVersionsRequest, ApiVersionsResponse};

pub async fn handle(_: ApiVersionsRequest) -> ApiVersionsResponse {
    ApiVersionsResponse::offer(0)
}
