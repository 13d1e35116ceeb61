//! The records inside a batch that passed its checksum.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use weir_fuzz::as_batch;
use wire::Batch;
use wire::records::{check_records, read_records};

fuzz_target!(|data: &[u8]| {
    let mut count = 0;
    let bytes = as_batch(data, |bytes| {
        count = (i32::from(bytes[60]) & 0x3f) + 1;
        bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
    });
    let Some(Ok(batch)) = bytes.map(|bytes| Batch::parse_one(Bytes::from(bytes))) else { return };
    if batch.header().compression() == 0 {
        let _ = check_records(&batch);
    }
    if let Ok(records) = read_records(&batch, 1 << 20) {
        assert_eq!(records.len() as i32, count);
    }
});
