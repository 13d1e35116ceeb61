//! Requests of every offered API and version.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use wire::kafka::*;

fuzz_target!(|data: &[u8]| {
    let Ok((header, body)) = RequestHeader::split(Bytes::copy_from_slice(data)) else { return };
    let Some(offered) = Offered::of(header.key) else { return };
    let version = header.version.rem_euclid(offered.max + 1).max(offered.accepted);
    match offered.key {
        ApiKey::Produce => drop(ProduceRequest::decode(body, version)),
        ApiKey::Fetch => drop(FetchRequest::decode(body, version)),
        ApiKey::ListOffsets => drop(ListOffsetsRequest::decode(body, version)),
        ApiKey::Metadata => drop(MetadataRequest::decode(body, version)),
        ApiKey::FindCoordinator => drop(FindCoordinatorRequest::decode(body, version)),
        ApiKey::ApiVersions => drop(ApiVersionsRequest::decode(body, version)),
        ApiKey::CreateTopics => drop(CreateTopicsRequest::decode(body, version)),
        ApiKey::DeleteTopics => drop(DeleteTopicsRequest::decode(body, version)),
        ApiKey::InitProducerId => drop(InitProducerIdRequest::decode(body, version)),
    }
});
