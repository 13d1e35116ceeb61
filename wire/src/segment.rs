//! Segment and pack files: where batches go when they leave the journal.
//!
//! A *segment file* belongs to one segment; a *pack file* holds extents of many. Both start with one block of
//! 4,096 bytes: magic `WSG1` or `WPK1`, version u8, then (segment files) the segment's identity, account,
//! cluster, encryption key id and producer snapshot length, zero-padded, with a CRC-32C of the block's first
//! 4,092 bytes at its end. After it come extents, each at a block boundary and padded with zeros:
//! a run of stored batches, each after its length and checksum (`stored`).
//! The extent index lies in the node's catalogue; a file alone can be read by walking its runs.

use bytes::{BufMut, Bytes, BytesMut};
use types::{AccountId, ClusterId, SegmentId};

use crate::codec::{DecodeError, Reader};
use crate::layout::{Layout, layout};

/// Bytes before the first extent.
pub const FILE_HEADER_BYTES: usize = 4096;
/// The version that is written.
pub const VERSION: u8 = 2;

const CRC_AT: usize = FILE_HEADER_BYTES - 4;
const SEGMENT_MAGIC: u32 = u32::from_be_bytes(*b"WSG1");
const PACK_MAGIC: u32 = u32::from_be_bytes(*b"WPK1");

/// What a segment file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFileHeader {
    pub account: AccountId,
    pub cluster: ClusterId,
    pub segment: SegmentId,
    pub base: i64,
    /// 0 = not encrypted.
    pub encryption_key: u32,
}

layout!(struct SegmentFileHeader { account, cluster, segment, base, encryption_key });

/// The first block of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileHeader {
    Segment(SegmentFileHeader),
    Pack,
}

impl FileHeader {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(FILE_HEADER_BYTES);
        match self {
            Self::Segment(header) => {
                out.put_u32(SEGMENT_MAGIC);
                out.put_u8(VERSION);
                header.put(&mut out);
            }
            Self::Pack => {
                out.put_u32(PACK_MAGIC);
                out.put_u8(VERSION);
            }
        }
        out.resize(CRC_AT, 0);
        let crc = crc32c::crc32c(&out);
        out.put_u32(crc);
        out.freeze()
    }

    pub fn decode(block: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(block.clone());
        let body = reader.bytes("file header", CRC_AT)?;
        if reader.u32("file header checksum")? != crc32c::crc32c(&body) {
            return Err(DecodeError::Value { what: "file header checksum", value: 0 });
        }
        let mut reader = Reader::new(body);
        let magic = reader.u32("file magic")?;
        let version = reader.u8("file version")?;
        if version > VERSION {
            return Err(DecodeError::Value { what: "file version", value: i64::from(version) });
        }
        match magic {
            SEGMENT_MAGIC => Ok(Self::Segment(SegmentFileHeader::take(&mut reader)?)),
            PACK_MAGIC => Ok(Self::Pack),
            other => Err(DecodeError::Value { what: "file magic", value: i64::from(other) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use types::{Epoch, Generation, Nonce, TopicId, TopicPartition};

    use super::*;

    #[test]
    fn headers_round_trip_and_notice_damage() {
        let segment = SegmentId {
            partition: TopicPartition { topic: TopicId(1), partition: 0 },
            generation: Generation(1),
            epoch: Epoch(1),
            nonce: Nonce(5),
        };
        let header =
            SegmentFileHeader { account: AccountId(0), cluster: ClusterId(2), segment, base: 7, encryption_key: 0 };
        for header in [FileHeader::Segment(header), FileHeader::Pack] {
            let block = header.encode();
            assert_eq!(FileHeader::decode(&block), Ok(header));
            let mut damaged = block.to_vec();
            damaged[20] ^= 1;
            assert!(FileHeader::decode(&damaged.into()).is_err());
        }
    }
}
