//! A producer's batch: nothing of it changes, however it is kept.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use weir_fuzz::as_batch;
use wire::Batch;

fuzz_target!(|data: &[u8]| {
    let _ = Batch::parse_one(Bytes::copy_from_slice(data));
    let Some(bytes) = as_batch(data, |_| {}) else { return };
    if let Ok(batch) = Batch::parse_one(Bytes::from(bytes.clone())) {
        assert_eq!(batch.to_bytes(), bytes, "nothing of a batch may change");
        let squeezed = batch.clone().squeezed();
        assert_eq!(squeezed.plain().expect("own squeezing").to_bytes(), bytes);
        let stamped = batch.stamped(9).expect("a plain batch");
        assert!(stamped.verify().is_ok());
    }
});
