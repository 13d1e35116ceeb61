//! The journal's records, as they lie on disk.
//!
//! A *write* is one or more records back to back, padded with zeros to whole blocks of 4,096 bytes and written
//! at once; one write is in flight at a time. Each record has a header of 48 bytes:
//!
//! | at | field | |
//! |---|---|---|
//! | 0 | magic | `WJR1` |
//! | 4 | crc | CRC-32C of every byte after this field |
//! | 8 | version, kind, last | u8, u8, u8 (1 on the last record of its write), one zero byte |
//! | 12 | body length | u32 |
//! | 16 | lap | u64: which use of its file this is; bytes of an earlier lap never parse |
//! | 24 | position | u64: where in the journal this record starts |
//! | 32 | write | u64: number of its write |
//! | 40 | durable through | u64: end of the last write known complete when this one began |
//! | 48 | body | |
//!
//! A body starts with the fields of its kind; an append's ends with the batch in its stored form (`stored`).

use bytes::{BufMut, Bytes, BytesMut};
use types::{
    AccountId, ClusterId, Epoch, Generation, Offset, PrincipalId, Protocol, Replica, SegmentId, TopicPartition,
};

use crate::batch::Batch;
use crate::codec::{DecodeError, Reader};
use crate::dedupe::{DedupeKey, DedupeSnapshot};
use crate::layout::{Layout, layout};

pub const MAGIC: u32 = u32::from_be_bytes(*b"WJR1");
/// The newest version. Each record carries the oldest version that has its kind, so that the release before this one
/// reads a journal until something new is in it. Version 1, of no release, had batches without their form: it is
/// refused, not read.
pub const VERSION: u8 = 3;
const OLDEST: u8 = 2;
/// Bytes before the body.
pub const HEADER_BYTES: usize = 48;

/// All that is stored beside a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AppendMeta {
    pub account: AccountId,
    pub cluster: ClusterId,
    pub segment: SegmentId,
    pub principal: PrincipalId,
    pub protocol: Protocol,
    pub dedupe: DedupeKey,
    /// 0 = not encrypted.
    pub encryption_key: u32,
    /// Log time in ms: the leader's clock, never falling in a partition.
    pub append_time: i64,
    /// The commit watermark as the leader knew it.
    pub commit: Offset,
}

/// The start of a segment on one replica.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OpenMeta {
    pub account: AccountId,
    pub cluster: ClusterId,
    pub segment: SegmentId,
    pub base: Offset,
    /// The first offset that clients may append at: the carried tail lies below.
    pub first_free: Offset,
    /// Leader, then follower.
    pub leader: Replica,
    pub follower: Replica,
    pub encryption_key: u32,
    /// Producer state at `base`.
    pub snapshot: DedupeSnapshot,
}

/// What the journal is told to keep.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum JournalEntry {
    Append {
        meta: AppendMeta,
        batch: Batch,
    },
    Open(OpenMeta),
    /// Appends of a lower (generation, epoch) fail from here on.
    Fence {
        partition: TopicPartition,
        generation: Generation,
        epoch: Epoch,
    },
    /// The segment ends at `end`; bytes above it are not part of the log.
    Seal {
        segment: SegmentId,
        end: Offset,
    },
    /// The partition's topic is deleted: its replicas are gone. Its epoch floor stays until a flush takes the
    /// partition out of the catalogue (`docs/invariants.md`, 12).
    Delete {
        partition: TopicPartition,
    },
    /// Nothing: carries `durable_through` after a silence.
    Idle,
    /// A copy of a sealed segment, made by repair, is whole. Also says again, for a newer record, that it is.
    Copied(CopiedMeta),
    /// This replica of the segment is gone: the record does not list it (any more).
    Drop {
        segment: SegmentId,
    },
}

/// The end of a copy of a sealed segment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CopiedMeta {
    pub segment: SegmentId,
    pub end: Offset,
    /// The version of the partition's record that the copy was made for: only a newer one can say that it is not needed.
    pub record_version: u64,
    /// Producer state at `end`.
    pub producers: DedupeSnapshot,
}

/// Where a record stands in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPlace {
    pub lap: u64,
    pub position: u64,
    pub write: u64,
    pub durable_through: u64,
    /// The last record of its write: after it, the rest of the block is padding.
    pub is_last: bool,
}

struct FenceBody {
    partition: TopicPartition,
    generation: Generation,
    epoch: Epoch,
}

struct SealBody {
    segment: SegmentId,
    end: Offset,
}

layout!(struct AppendMeta {
    account, cluster, segment, principal, protocol, dedupe, encryption_key, append_time, commit,
});
layout!(struct OpenMeta {
    account, cluster, segment, base, first_free, leader, follower, encryption_key, snapshot,
});
layout!(struct FenceBody { partition, generation, epoch });
layout!(struct SealBody { segment, end });
layout!(struct CopiedMeta { segment, end, record_version, producers });

/// A record whose place is not known yet: the head of its body, and the batch that follows by reference.
#[derive(Debug, Clone)]
pub struct EncodedEntry {
    kind: u8,
    head: Bytes,
    batch: Option<Bytes>,
}

impl EncodedEntry {
    /// Bytes of the whole record.
    pub fn len(&self) -> usize {
        HEADER_BYTES + self.head.len() + self.batch.as_ref().map_or(0, Bytes::len)
    }

    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes the record at its place into `out`. The only copy of a batch on its way to the disk.
    pub fn write_to(&self, place: RecordPlace, out: &mut [u8]) {
        let (header, body) = out.split_at_mut(HEADER_BYTES);
        let (head, batch) = body.split_at_mut(self.head.len());
        head.copy_from_slice(&self.head);
        if let Some(bytes) = &self.batch {
            batch.copy_from_slice(bytes);
        }
        let mut fields = &mut header[8..];
        fields.put_u8(if self.kind <= 6 { OLDEST } else { VERSION });
        fields.put_u8(self.kind);
        fields.put_u8(u8::from(place.is_last));
        fields.put_u8(0);
        fields.put_u32((self.len() - HEADER_BYTES) as u32);
        fields.put_u64(place.lap);
        fields.put_u64(place.position);
        fields.put_u64(place.write);
        fields.put_u64(place.durable_through);
        header[..4].copy_from_slice(&MAGIC.to_be_bytes());
        let crc = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_be_bytes());
    }
}

impl JournalEntry {
    /// Whose it is; nobody's after a silence.
    pub fn partition(&self) -> Option<TopicPartition> {
        Some(match self {
            Self::Append { meta, .. } => meta.segment.partition,
            Self::Open(open) => open.segment.partition,
            Self::Fence { partition, .. } | Self::Delete { partition } => *partition,
            Self::Seal { segment, .. } | Self::Drop { segment } => segment.partition,
            Self::Copied(copied) => copied.segment.partition,
            Self::Idle => return None,
        })
    }

    pub fn encode(&self) -> EncodedEntry {
        let mut head = BytesMut::with_capacity(192);
        let mut tail = None;
        let kind = match self {
            Self::Append { meta, batch } => {
                meta.put(&mut head);
                tail = Some(batch.put_stored(&mut head));
                1
            }
            Self::Open(meta) => {
                meta.put(&mut head);
                2
            }
            Self::Fence { partition, generation, epoch } => {
                FenceBody { partition: *partition, generation: *generation, epoch: *epoch }.put(&mut head);
                3
            }
            Self::Seal { segment, end } => {
                SealBody { segment: *segment, end: *end }.put(&mut head);
                4
            }
            Self::Delete { partition } => {
                partition.put(&mut head);
                5
            }
            Self::Idle => 6,
            Self::Copied(meta) => {
                meta.put(&mut head);
                7
            }
            Self::Drop { segment } => {
                segment.put(&mut head);
                8
            }
        };
        EncodedEntry { kind, head: head.freeze(), batch: tail }
    }

    fn decode(kind: u8, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let entry = match kind {
            1 => {
                let meta = AppendMeta::take(&mut reader)?;
                let batch = Batch::take_stored(reader.take_rest())
                    .map_err(|_| DecodeError::Value { what: "journal batch", value: 0 })?;
                Self::Append { meta, batch }
            }
            2 => Self::Open(OpenMeta::take(&mut reader)?),
            3 => {
                let body = FenceBody::take(&mut reader)?;
                Self::Fence { partition: body.partition, generation: body.generation, epoch: body.epoch }
            }
            4 => {
                let body = SealBody::take(&mut reader)?;
                Self::Seal { segment: body.segment, end: body.end }
            }
            5 => Self::Delete { partition: TopicPartition::take(&mut reader)? },
            6 => Self::Idle,
            7 => Self::Copied(CopiedMeta::take(&mut reader)?),
            8 => Self::Drop { segment: SegmentId::take(&mut reader)? },
            other => return Err(DecodeError::Value { what: "journal kind", value: i64::from(other) }),
        };
        reader.finish()?;
        Ok(entry)
    }
}

/// A record found by [`parse_record`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRecord {
    pub place: RecordPlace,
    /// Bytes of the whole record.
    pub length: usize,
    pub entry: JournalEntry,
}

/// Why there is no record at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRecord {
    /// Zeros, another lap, another position or a wrong checksum.
    Bad,
    /// Of another version: this release must not touch it.
    Newer(u8),
}

/// Reads the record that starts at the front of `bytes`, if it is whole, of `lap` and of `position`.
pub fn parse_record(bytes: &Bytes, lap: u64, position: u64) -> Result<FoundRecord, NoRecord> {
    let mut reader = Reader::new(bytes.slice(..bytes.len().min(HEADER_BYTES)));
    let mut header = || -> Result<_, DecodeError> {
        let magic = reader.u32("magic")?;
        let crc = reader.u32("crc")?;
        let version = reader.u8("version")?;
        let kind = reader.u8("kind")?;
        let is_last = reader.u8("last")? != 0;
        reader.u8("reserved")?;
        let body_length = reader.u32("length")? as usize;
        let place = RecordPlace {
            lap: reader.u64("lap")?,
            position: reader.u64("position")?,
            write: reader.u64("write")?,
            durable_through: reader.u64("durable through")?,
            is_last,
        };
        Ok((magic, crc, version, kind, body_length, place))
    };
    let (magic, crc, version, kind, body_length, place) = header().map_err(|_| NoRecord::Bad)?;
    let length = HEADER_BYTES + body_length;
    if magic != MAGIC || place.lap != lap || place.position != position || bytes.len() < length {
        return Err(NoRecord::Bad);
    }
    if crc32c::crc32c(&bytes[8..length]) != crc {
        return Err(NoRecord::Bad);
    }
    if !(OLDEST..=VERSION).contains(&version) {
        return Err(NoRecord::Newer(version));
    }
    let entry = JournalEntry::decode(kind, bytes.slice(HEADER_BYTES..length)).map_err(|_| NoRecord::Bad)?;
    Ok(FoundRecord { place, length, entry })
}

#[cfg(test)]
mod tests {
    use types::{Incarnation, NodeId, Nonce, SessionId, TopicId};

    use super::*;
    use crate::compression::Codec;
    use crate::records::{BatchBuilder, NewRecord};

    fn segment() -> SegmentId {
        SegmentId {
            partition: TopicPartition { topic: TopicId(7), partition: 3 },
            generation: Generation(1),
            epoch: Epoch(2),
            nonce: Nonce(9),
        }
    }

    fn append() -> JournalEntry {
        let mut builder = BatchBuilder::new();
        builder.push(NewRecord { key: None, value: Some(b"value"), timestamp: 5, headers: &[] });
        JournalEntry::Append {
            meta: AppendMeta {
                account: AccountId(0),
                cluster: ClusterId(1),
                segment: segment(),
                principal: PrincipalId(0),
                protocol: Protocol::Kafka,
                dedupe: DedupeKey::Session { session: SessionId(4), number: 8, floor: 6 },
                encryption_key: 0,
                append_time: 1000,
                commit: 10,
            },
            batch: builder.finish(Codec::None).expect("a batch").placed_at(11, 2),
        }
    }

    fn entries() -> Vec<JournalEntry> {
        let replica = |node| Replica { node: NodeId(node), incarnation: Incarnation(u128::from(node)) };
        vec![
            append(),
            JournalEntry::Open(OpenMeta {
                account: AccountId(0),
                cluster: ClusterId(1),
                segment: segment(),
                base: 10,
                first_free: 12,
                leader: replica(1),
                follower: replica(2),
                encryption_key: 0,
                snapshot: DedupeSnapshot::default(),
            }),
            JournalEntry::Fence { partition: segment().partition, generation: Generation(1), epoch: Epoch(3) },
            JournalEntry::Seal { segment: segment(), end: 12 },
            JournalEntry::Delete { partition: segment().partition },
            JournalEntry::Idle,
            JournalEntry::Copied(CopiedMeta {
                segment: segment(),
                end: 12,
                record_version: 5,
                producers: DedupeSnapshot::default(),
            }),
            JournalEntry::Drop { segment: segment() },
        ]
    }

    const PLACE: RecordPlace = RecordPlace { lap: 3, position: 8192, write: 5, durable_through: 8192, is_last: true };

    fn written(entry: &JournalEntry) -> Vec<u8> {
        let encoded = entry.encode();
        let mut out = vec![0; encoded.len()];
        encoded.write_to(PLACE, &mut out);
        out
    }

    #[test]
    fn every_kind_round_trips() {
        for entry in entries() {
            let bytes = Bytes::from(written(&entry));
            let found = parse_record(&bytes, 3, 8192).expect("own record");
            assert_eq!((found.entry, found.place, found.length), (entry, PLACE, bytes.len()));
            assert_eq!(parse_record(&bytes, 4, 8192), Err(NoRecord::Bad), "another lap");
            assert_eq!(parse_record(&bytes, 3, 4096), Err(NoRecord::Bad), "another position");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = written(&append());
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(parse_record(&damaged.into(), 3, 8192).is_err(), "byte {at}");
        }
    }

    #[test]
    fn golden_bytes_of_a_fence() {
        let bytes = written(&JournalEntry::Fence {
            partition: segment().partition,
            generation: Generation(1),
            epoch: Epoch(3),
        });
        let hex: String = bytes[8..].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "020301000000001c0000000000000003000000000000200000000000000000050000000000002000\
             00000000000000000000000000000007000000030000000100000003"
        );
    }
}
