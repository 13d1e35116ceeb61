//! A journal record, with magic and checksum made right.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use wire::journal::{HEADER_BYTES, MAGIC, parse_record};

fuzz_target!(|data: &[u8]| {
    let _ = parse_record(&Bytes::copy_from_slice(data), 0, 0);
    if data.len() < HEADER_BYTES {
        return;
    }
    let mut bytes = data.to_vec();
    let body = (bytes.len() - HEADER_BYTES) as u32;
    bytes[..4].copy_from_slice(&MAGIC.to_be_bytes());
    bytes[12..16].copy_from_slice(&body.to_be_bytes());
    bytes[16..32].fill(0);
    let crc = crc32c::crc32c(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_be_bytes());
    if let Ok(found) = parse_record(&Bytes::from(bytes), 0, 0) {
        let encoded = found.entry.encode();
        let mut again = vec![0; encoded.len()];
        encoded.write_to(found.place, &mut again);
        assert_eq!(parse_record(&Bytes::from(again), 0, 0).expect("own bytes").entry, found.entry);
    }
});
