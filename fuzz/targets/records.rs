//! The records inside a batch that passed its checksum.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use wire::Batch;
use wire::records::read_records;

fuzz_target!(|data: &[u8]| {
    if data.len() < 61 {
        return;
    }
    let mut bytes = data.to_vec();
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    let count = (i32::from(bytes[60]) & 0x3f) + 1;
    bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    if let Ok(batch) = Batch::parse_one(Bytes::from(bytes))
        && let Ok(records) = read_records(&batch, 1 << 20)
    {
        assert_eq!(records.len() as i32, count);
    }
});
