//! Responses, as our own command-line client reads them.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use wire::kafka::*;

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first() else { return };
    let (body, version) = (Bytes::copy_from_slice(body), i16::from(choice >> 4).min(9));
    match choice & 0x07 {
        0 => drop(ProduceResponse::decode(body, version)),
        1 => drop(FetchResponse::decode(body, version.max(4))),
        2 => drop(ListOffsetsResponse::decode(body, version.max(1))),
        3 => drop(MetadataResponse::decode(body, version)),
        4 => drop(CreateTopicsResponse::decode(body, version.clamp(2, 7))),
        5 => drop(DeleteTopicsResponse::decode(body, version.clamp(1, 6))),
        6 => drop(InitProducerIdResponse::decode(body, version.min(4))),
        _ => drop(ApiVersionsResponse::decode(body, version.min(4))),
    }
});
