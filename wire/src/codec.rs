//! Bounded reading and writing of big-endian primitives and Kafka's variable-length integers.
//!
//! INVARIANT: a length read from the wire is checked against the bytes that are left before anything is
//! allocated for it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

/// Why bytes could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    #[error("ends early: `{what}` needs {needed} bytes, {left} are left")]
    Truncated { what: &'static str, needed: usize, left: usize },
    #[error("`{what}` has the impossible length {length}")]
    Length { what: &'static str, length: i64 },
    #[error("`{what}` is not UTF-8")]
    Utf8 { what: &'static str },
    #[error("`{what}` has the unknown value {value}")]
    Value { what: &'static str, value: i64 },
    #[error("{left} bytes are left over")]
    Trailing { left: usize },
}

/// Reads from one frame; slices share its buffer.
#[derive(Debug, Clone)]
pub struct Reader {
    bytes: Bytes,
}

macro_rules! read_number {
    ($($name:ident -> $type:ty, $size:literal, $get:ident;)*) => {
        $(pub fn $name(&mut self, what: &'static str) -> Result<$type, DecodeError> {
            self.need(what, $size)?;
            Ok(self.bytes.$get())
        })*
    };
}

impl Reader {
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    /// Everything that is left.
    pub fn rest(self) -> Bytes {
        self.bytes
    }

    /// All that is left, leaving the reader empty.
    pub fn take_rest(&mut self) -> Bytes {
        std::mem::take(&mut self.bytes)
    }

    /// Fails when bytes are left over.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Trailing { left: self.bytes.len() }) }
    }

    fn need(&self, what: &'static str, needed: usize) -> Result<(), DecodeError> {
        let left = self.bytes.len();
        if left < needed { Err(DecodeError::Truncated { what, needed, left }) } else { Ok(()) }
    }

    read_number! {
        u8 -> u8, 1, get_u8;
        i8 -> i8, 1, get_i8;
        i16 -> i16, 2, get_i16;
        u16 -> u16, 2, get_u16;
        i32 -> i32, 4, get_i32;
        u32 -> u32, 4, get_u32;
        i64 -> i64, 8, get_i64;
        u64 -> u64, 8, get_u64;
        u128 -> u128, 16, get_u128;
    }

    /// The next `length` bytes, without a copy.
    pub fn bytes(&mut self, what: &'static str, length: usize) -> Result<Bytes, DecodeError> {
        self.need(what, length)?;
        Ok(self.bytes.split_to(length))
    }

    /// The next `length` bytes as text.
    pub fn text(&mut self, what: &'static str, length: usize) -> Result<String, DecodeError> {
        let bytes = self.bytes(what, length)?;
        std::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| DecodeError::Utf8 { what })
    }

    /// Kafka's UNSIGNED_VARINT: at most 5 bytes.
    pub fn unsigned_varint(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        let mut value = 0_u32;
        for shift in (0..35).step_by(7) {
            let byte = self.u8(what)?;
            let part = u32::from(byte & 0x7f);
            if shift == 28 && part > 0x0f {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Length { what, length: -1 })
    }

    /// Kafka's VARLONG (zigzag): at most 10 bytes.
    pub fn varlong(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8(what)?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(((value >> 1) as i64) ^ -((value & 1) as i64));
            }
        }
        Err(DecodeError::Length { what, length: -1 })
    }

    /// Kafka's VARINT (zigzag).
    pub fn varint(&mut self, what: &'static str) -> Result<i32, DecodeError> {
        let value = self.varlong(what)?;
        i32::try_from(value).map_err(|_| DecodeError::Length { what, length: value })
    }

    /// Checks a count read from the wire: `count` items of at least `min_bytes` must fit in what is left.
    pub fn check_count(&self, what: &'static str, count: i64, min_bytes: usize) -> Result<usize, DecodeError> {
        let count = usize::try_from(count).map_err(|_| DecodeError::Length { what, length: count })?;
        if count.saturating_mul(min_bytes.max(1)) > self.left() {
            return Err(DecodeError::Length { what, length: count as i64 });
        }
        Ok(count)
    }
}

/// Slices at least this long are passed on instead of copied.
const SPLICE_BYTES: usize = 4096;

/// Writes a frame. A thin cover over `BytesMut` with Kafka's encodings; large slices are shared, not copied.
#[derive(Debug, Default)]
pub struct Writer {
    pub buffer: BytesMut,
    chunks: Vec<Bytes>,
}

impl Writer {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with_capacity(bytes: usize) -> Self {
        Self { buffer: BytesMut::with_capacity(bytes), chunks: Vec::new() }
    }

    /// Adds `bytes`, by reference when that is cheaper.
    pub fn splice(&mut self, bytes: &Bytes) {
        if bytes.len() < SPLICE_BYTES {
            self.buffer.put_slice(bytes);
        } else {
            self.chunks.push(self.buffer.split().freeze());
            self.chunks.push(bytes.clone());
        }
    }

    /// What was written, in order.
    pub fn into_chunks(mut self) -> Vec<Bytes> {
        if !self.buffer.is_empty() {
            self.chunks.push(self.buffer.freeze());
        }
        self.chunks
    }

    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.put_u8((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    pub fn varlong(&mut self, value: i64) {
        let mut value = ((value << 1) ^ (value >> 63)) as u64;
        while value >= 0x80 {
            self.buffer.put_u8((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    pub fn varint(&mut self, value: i32) {
        self.varlong(i64::from(value));
    }

    /// What was written, in one piece.
    pub fn freeze(self) -> Bytes {
        if self.chunks.is_empty() {
            return self.buffer.freeze();
        }
        let mut whole = BytesMut::new();
        self.into_chunks().iter().for_each(|chunk| whole.put_slice(chunk));
        whole.freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_round_trip(u in any::<u32>(), l in any::<i64>(), i in any::<i32>()) {
            let mut writer = Writer::new();
            writer.unsigned_varint(u);
            writer.varlong(l);
            writer.varint(i);
            let mut reader = Reader::new(writer.freeze());
            prop_assert_eq!(reader.unsigned_varint("u"), Ok(u));
            prop_assert_eq!(reader.varlong("l"), Ok(l));
            prop_assert_eq!(reader.varint("i"), Ok(i));
            prop_assert!(reader.finish().is_ok());
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..32)) {
            let mut reader = Reader::new(Bytes::from(bytes));
            while reader.left() > 0 {
                if reader.varlong("x").is_err() || reader.unsigned_varint("y").is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn an_overlong_varint_is_refused() {
        let mut reader = Reader::new(Bytes::from_static(&[0xff; 6]));
        assert!(reader.unsigned_varint("x").is_err());
    }

    #[test]
    fn a_hostile_count_is_refused_before_allocation() {
        let reader = Reader::new(Bytes::from_static(&[0; 8]));
        assert!(reader.check_count("x", i64::from(i32::MAX), 1).is_err());
        assert!(reader.check_count("x", -2, 1).is_err());
        assert_eq!(reader.check_count("x", 8, 1), Ok(8));
    }
}
