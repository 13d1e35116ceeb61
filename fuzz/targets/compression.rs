//! Every codec on hostile bytes: an error or at most the bytes that were allowed.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use wire::compression::Codec;

const BYTES_MAX: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((codec, packed)) = data.split_first() else { return };
    let codec = Codec::ALL[usize::from(*codec) % Codec::ALL.len()];
    if let Ok(raw) = codec.decompress(Bytes::copy_from_slice(packed), BYTES_MAX) {
        assert!(raw.len() <= BYTES_MAX);
    }
});
