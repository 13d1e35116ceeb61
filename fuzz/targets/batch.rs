//! A producer's batch, with its checksum made right so that what lies behind it is reached.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use wire::Batch;

fuzz_target!(|data: &[u8]| {
    let _ = Batch::parse_one(Bytes::copy_from_slice(data));
    if data.len() < 61 {
        return;
    }
    let mut bytes = data.to_vec();
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    if let Ok(batch) = Batch::parse_one(Bytes::from(bytes.clone())) {
        assert_eq!(batch.to_bytes(), bytes, "nothing of a batch may change");
        let squeezed = batch.clone().squeezed();
        assert_eq!(squeezed.plain().expect("own packing").to_bytes(), bytes);
        let stamped = batch.stamped(9).expect("a plain batch");
        assert!(stamped.verify().is_ok());
    }
});
