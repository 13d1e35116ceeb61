//! Stored batches and runs of them: hostile bytes are errors, never panics or large allocations.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use wire::Batch;

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(batch) = Batch::take_stored(bytes.clone()) {
        let _ = batch.plain();
    }
    let mut run = bytes.clone();
    while let Ok(batch) = Batch::take_from_run(&mut run) {
        let _ = batch.plain();
    }
    if data.len() > 8 {
        let mut item = data.to_vec();
        let length = (item.len() - 8) as u32;
        item[..4].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&item[8..]);
        item[4..8].copy_from_slice(&crc.to_be_bytes());
        if let Ok(batch) = Batch::take_from_file(&mut Bytes::from(item)) {
            let _ = batch.plain();
        }
    }
});
