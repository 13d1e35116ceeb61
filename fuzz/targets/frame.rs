//! Frames between services: what decodes is encoded to the same bytes and decodes to the same frame.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use wire::frame::Frame;

fuzz_target!(|data: &[u8]| {
    if let Ok((correlation, frame)) = Frame::decode(Bytes::copy_from_slice(data)) {
        let (head, tail) = frame.encode(correlation);
        let mut again = BytesMut::from(&head[4..]);
        again.extend_from_slice(&tail.unwrap_or_default());
        assert_eq!(Frame::decode(again.freeze()).expect("own bytes"), (correlation, frame));
    }
});
