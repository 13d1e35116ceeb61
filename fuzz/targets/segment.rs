//! The first block of a segment or pack file, with its checksum made right.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use wire::segment::{FILE_HEADER_BYTES, FileHeader};

fuzz_target!(|data: &[u8]| {
    let _ = FileHeader::decode(&Bytes::copy_from_slice(data));
    let mut block = vec![0; FILE_HEADER_BYTES];
    let length = data.len().min(FILE_HEADER_BYTES - 4);
    block[..length].copy_from_slice(&data[..length]);
    let crc = crc32c::crc32c(&block[..FILE_HEADER_BYTES - 4]);
    block[FILE_HEADER_BYTES - 4..].copy_from_slice(&crc.to_be_bytes());
    if let Ok(header) = FileHeader::decode(&Bytes::from(block)) {
        assert_eq!(FileHeader::decode(&header.encode()).expect("own bytes"), header);
    }
});
