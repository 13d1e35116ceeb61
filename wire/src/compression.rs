//! The five codecs of Kafka's record batches, with bounded output.
//!
//! Only HTTP and our own clients open batches; the Kafka path passes them through.
//! Snappy comes in two framings: bare, and that of `snappy-java` (magic, then length-prefixed blocks).

use std::io::Read;

use bytes::Bytes;
use thiserror::Error;

const SNAPPY_JAVA_MAGIC: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Magic, then the writer's version and the oldest compatible one.
const SNAPPY_JAVA_HEADER_BYTES: usize = 16;

/// Why records cannot be packed or unpacked.
#[derive(Debug, Error)]
pub enum CompressionError {
    #[error("compression codec {0} is unknown")]
    Unknown(i16),
    #[error("compressed records are damaged: {0}")]
    Damaged(String),
    #[error("records unpack to more than {0} bytes")]
    TooLarge(usize),
    #[error("no batch: {0}")]
    Empty(String),
}

/// A codec, numbered as in a batch's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
pub enum Codec {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Codec {
    pub const ALL: &[Self] = &[Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec of the low three attribute bits.
    pub fn from_number(number: i16) -> Result<Self, CompressionError> {
        Self::ALL.iter().copied().find(|c| *c as i16 == number).ok_or(CompressionError::Unknown(number))
    }

    /// The codec of a name as in `compression.type`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "none" | "uncompressed" => Self::None,
            "gzip" => Self::Gzip,
            "snappy" => Self::Snappy,
            "lz4" => Self::Lz4,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }

    pub fn compress(self, raw: &[u8]) -> Result<Bytes, CompressionError> {
        let damaged = |e: &dyn std::fmt::Display| CompressionError::Damaged(e.to_string());
        Ok(match self {
            Self::None => Bytes::copy_from_slice(raw),
            Self::Gzip => {
                let mut out = Vec::new();
                flate2::read::GzEncoder::new(raw, flate2::Compression::default())
                    .read_to_end(&mut out)
                    .map_err(|e| damaged(&e))?;
                out.into()
            }
            Self::Snappy => snap::raw::Encoder::new().compress_vec(raw).map_err(|e| damaged(&e))?.into(),
            Self::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                std::io::Write::write_all(&mut encoder, raw).map_err(|e| damaged(&e))?;
                encoder.finish().map_err(|e| damaged(&e))?.into()
            }
            Self::Zstd => zstd::bulk::compress(raw, 1).map_err(|e| damaged(&e))?.into(),
        })
    }

    /// Unpacks `packed`; fails once the output would pass `bytes_max`.
    pub fn decompress(self, packed: Bytes, bytes_max: usize) -> Result<Bytes, CompressionError> {
        match self {
            Self::None => Ok(packed),
            Self::Gzip => read_bounded(flate2::read::MultiGzDecoder::new(&packed[..]), bytes_max),
            Self::Snappy => snappy(&packed, bytes_max),
            Self::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(&packed[..]), bytes_max),
            Self::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(&packed[..])
                    .map_err(|e| CompressionError::Damaged(e.to_string()))?;
                read_bounded(decoder, bytes_max)
            }
        }
    }
}

fn read_bounded(reader: impl Read, bytes_max: usize) -> Result<Bytes, CompressionError> {
    let mut out = Vec::new();
    reader.take(bytes_max as u64 + 1).read_to_end(&mut out).map_err(|e| CompressionError::Damaged(e.to_string()))?;
    if out.len() > bytes_max { Err(CompressionError::TooLarge(bytes_max)) } else { Ok(out.into()) }
}

fn snappy(packed: &[u8], bytes_max: usize) -> Result<Bytes, CompressionError> {
    let Some(mut left) = packed.strip_prefix(SNAPPY_JAVA_MAGIC).and_then(|_| packed.get(SNAPPY_JAVA_HEADER_BYTES..))
    else {
        return snappy_block(packed, bytes_max).map(Bytes::from);
    };
    let mut out = Vec::new();
    while !left.is_empty() {
        let Some((length, rest)) = left.split_first_chunk::<4>() else {
            return Err(CompressionError::Damaged("snappy block ends early".into()));
        };
        let length = u32::from_be_bytes(*length) as usize;
        let block = rest.get(..length).ok_or_else(|| CompressionError::Damaged("snappy block ends early".into()))?;
        out.extend_from_slice(&snappy_block(block, bytes_max.saturating_sub(out.len()))?);
        left = rest.get(length..).unwrap_or_default();
    }
    Ok(out.into())
}

fn snappy_block(block: &[u8], bytes_max: usize) -> Result<Vec<u8>, CompressionError> {
    let length = snap::raw::decompress_len(block).map_err(|e| CompressionError::Damaged(e.to_string()))?;
    if length > bytes_max {
        return Err(CompressionError::TooLarge(bytes_max));
    }
    snap::raw::Decoder::new().decompress_vec(block).map_err(|e| CompressionError::Damaged(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snappy_java_framing_is_read() {
        let mut packed = SNAPPY_JAVA_MAGIC.to_vec();
        packed.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
        for part in [&b"hello "[..], &b"world"[..]] {
            let block = Codec::Snappy.compress(part).expect("a block");
            packed.extend_from_slice(&(block.len() as u32).to_be_bytes());
            packed.extend_from_slice(&block);
        }
        assert_eq!(Codec::Snappy.decompress(packed.into(), 100).expect("two blocks"), &b"hello world"[..]);
    }

    #[test]
    fn a_bomb_is_refused() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let packed = codec.compress(&vec![0; 1 << 20]).expect("zeros");
            assert!(matches!(codec.decompress(packed, 1000), Err(CompressionError::TooLarge(1000))), "{codec:?}");
        }
    }
}
