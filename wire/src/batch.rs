//! The record batch v2, validated once and never encoded again.
//!
//! Layout (KIP-98, big-endian): base offset i64, length i32 of what follows it, leader epoch i32, magic i8,
//! crc u32 (CRC-32C of all bytes after it), attributes i16, last offset delta i32, base timestamp i64,
//! max timestamp i64, producer id i64, producer epoch i16, base sequence i32, record count i32, records.
//!
//! The first 16 bytes lie outside the checksum and are the leader's to give. A [`Batch`] therefore keeps
//! them apart from the body: offsets are assigned without touching, or copying, the producer's bytes.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use types::Offset;
use types::limits::BATCH_HEADER_BYTES;

use crate::stored::Form;

/// Bytes before the body: base offset, length, leader epoch.
pub const PREFIX_BYTES: usize = 16;

const MAGIC: u8 = 2;
const COMPRESSION_MASK: i16 = 0x07;
const TIMESTAMP_TYPE_BIT: i16 = 0x08;
const TRANSACTIONAL_BIT: i16 = 0x10;
const CONTROL_BIT: i16 = 0x20;

/// Why bytes are no record batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BatchError {
    #[error("batch ends early: {left} bytes of {needed}")]
    Truncated { needed: usize, left: usize },
    #[error("batch length {0} is impossible")]
    Length(i32),
    #[error("magic {0} is not 2")]
    Magic(u8),
    #[error("batch checksum is {computed:08x}, its header says {stored:08x}")]
    Checksum { stored: u32, computed: u32 },
    #[error("record count {count} does not agree with last offset delta {delta}")]
    Count { count: i32, delta: i32 },
    #[error("stored form {0} is unknown")]
    Form(u8),
    #[error("squeezed records are damaged")]
    Squeezed,
}

/// What a batch's header says; read once at the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BatchHeader {
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    pub fn compression(&self) -> i16 {
        self.attributes & COMPRESSION_MASK
    }

    pub fn is_log_append_time(&self) -> bool {
        self.attributes & TIMESTAMP_TYPE_BIT != 0
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }
}

/// A record batch: the leader's prefix and the producer's body, shared and never copied.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Batch {
    pub base_offset: Offset,
    pub leader_epoch: i32,
    /// From the magic byte on, in its form.
    body: Bytes,
    form: Form,
    /// Bytes of the plain batch, prefix included.
    plain_len: usize,
    header: BatchHeader,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch[{}..{} epoch {} {} bytes]", self.base_offset, self.end_offset(), self.leader_epoch, self.len())
    }
}

impl Batch {
    /// Splits the first batch off `bytes`. Checks everything but the checksum.
    pub fn split_from(bytes: &mut Bytes) -> Result<Self, BatchError> {
        let left = bytes.len();
        if left < BATCH_HEADER_BYTES {
            return Err(BatchError::Truncated { needed: BATCH_HEADER_BYTES, left });
        }
        let length = i32_at(bytes, 8);
        let total = usize::try_from(length).ok().and_then(|n| n.checked_add(12)).ok_or(BatchError::Length(length))?;
        if total < BATCH_HEADER_BYTES {
            return Err(BatchError::Length(length));
        }
        if left < total {
            return Err(BatchError::Truncated { needed: total, left });
        }
        Self::from_parts(bytes.split_to(total), Form::Plain)
    }

    /// Prefix and body, at least a header long. The length in the prefix is taken as it is.
    pub(crate) fn from_parts(mut bytes: Bytes, form: Form) -> Result<Self, BatchError> {
        let length = i32_at(&bytes, 8);
        let plain_len =
            usize::try_from(length).ok().and_then(|n| n.checked_add(12)).ok_or(BatchError::Length(length))?;
        if plain_len < BATCH_HEADER_BYTES {
            return Err(BatchError::Length(length));
        }
        let bytes = &mut bytes;
        let magic = bytes[16];
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        let header = BatchHeader {
            crc: i32_at(bytes, 17) as u32,
            attributes: i16_at(bytes, 21),
            last_offset_delta: i32_at(bytes, 23),
            base_timestamp: i64_at(bytes, 27),
            max_timestamp: i64_at(bytes, 35),
            producer_id: i64_at(bytes, 43),
            producer_epoch: i16_at(bytes, 51),
            base_sequence: i32_at(bytes, 53),
            record_count: i32_at(bytes, 57),
        };
        let (count, delta) = (header.record_count, header.last_offset_delta);
        if count < 1 || delta != count - 1 {
            return Err(BatchError::Count { count, delta });
        }
        let (base_offset, leader_epoch) = (i64_at(bytes, 0), i32_at(bytes, 12));
        let body = bytes.split_off(PREFIX_BYTES);
        Ok(Self { base_offset, leader_epoch, body, form, plain_len, header })
    }

    /// Exactly one batch, checksum verified: what a producer may send per partition (Produce v3 and later).
    pub fn parse_one(mut bytes: Bytes) -> Result<Self, BatchError> {
        let batch = Self::split_from(&mut bytes)?;
        if !bytes.is_empty() {
            return Err(BatchError::Length(bytes.len() as i32));
        }
        batch.verify()?;
        Ok(batch)
    }

    pub fn form(&self) -> Form {
        self.form
    }

    /// The same batch with its body in another form.
    pub(crate) fn with_body(self, body: Bytes, form: Form) -> Self {
        Self { body, form, ..self }
    }

    /// Checks the producer's CRC-32C over a plain body. Done at the edge; a squeezed batch is checked as it unpacks.
    pub fn verify(&self) -> Result<(), BatchError> {
        assert!(self.form == Form::Plain, "INVARIANT: only a plain body has the producer's checksum");
        let computed = crc32c::crc32c(&self.body[5..]);
        let stored = self.header.crc;
        if computed == stored { Ok(()) } else { Err(BatchError::Checksum { stored, computed }) }
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The same batch at the place that the leader gives it.
    pub fn placed_at(mut self, base_offset: Offset, leader_epoch: i32) -> Self {
        self.base_offset = base_offset;
        self.leader_epoch = leader_epoch;
        self
    }

    /// The batch with log-append time: sets the attribute bit and the maximum, and the checksum anew. The one
    /// place where a batch's body changes (`message.timestamp.type=LogAppendTime`); copies it, and leaves it plain.
    ///
    /// # Errors
    /// When a squeezed batch does not unpack.
    pub fn stamped(self, append_time: i64) -> Result<Self, BatchError> {
        let plain = self.plain()?;
        let mut body = BytesMut::from(&plain.body[..]);
        let attributes = plain.header.attributes | TIMESTAMP_TYPE_BIT;
        body[5..7].copy_from_slice(&attributes.to_be_bytes());
        body[19..27].copy_from_slice(&append_time.to_be_bytes());
        let crc = crc32c::crc32c(&body[5..]);
        body[1..5].copy_from_slice(&crc.to_be_bytes());
        let header = BatchHeader { crc, attributes, max_timestamp: append_time, ..plain.header };
        Ok(Self { body: body.freeze(), header, ..plain })
    }

    /// The offset after its last record.
    pub fn end_offset(&self) -> Offset {
        self.base_offset + i64::from(self.header.last_offset_delta) + 1
    }

    /// Its whole size in bytes, prefix included, as its producer sent it.
    #[expect(clippy::len_without_is_empty, reason = "a batch always has a header")]
    pub fn len(&self) -> usize {
        self.plain_len
    }

    /// The leader's 16 bytes.
    pub fn prefix(&self) -> [u8; PREFIX_BYTES] {
        let mut prefix = [0; PREFIX_BYTES];
        prefix[..8].copy_from_slice(&self.base_offset.to_be_bytes());
        prefix[8..12].copy_from_slice(&((self.plain_len - 12) as i32).to_be_bytes());
        prefix[12..].copy_from_slice(&self.leader_epoch.to_be_bytes());
        prefix
    }

    /// Everything from the magic byte on, in its form.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The records of a plain batch, as compressed as they came.
    pub fn records(&self) -> Bytes {
        assert!(self.form == Form::Plain, "INVARIANT: squeezed records are not a client's");
        self.body.slice(BATCH_HEADER_BYTES - PREFIX_BYTES..)
    }

    /// A plain batch in one piece. Copies: not for the data path.
    pub fn to_bytes(&self) -> Bytes {
        assert!(self.form == Form::Plain, "INVARIANT: squeezed bytes are not a client's");
        let mut buffer = BytesMut::with_capacity(self.len());
        buffer.put_slice(&self.prefix());
        buffer.put_slice(&self.body);
        buffer.freeze()
    }

    /// What the chain hash mixes in: the checksum covers the body, the rest is named beside it.
    fn digest(&self) -> u64 {
        mix(u64::from(self.header.crc) << 32 | (self.plain_len - PREFIX_BYTES) as u64, self.base_offset as u64)
    }

    /// The chain hash after this batch, given the one before it.
    pub fn chain_after(&self, before: u64) -> u64 {
        mix(before, self.digest())
    }
}

/// A 64-bit mix with good avalanche (the finaliser of MurmurHash3 over a multiply-add).
pub fn mix(a: u64, b: u64) -> u64 {
    let mut x = a.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(b ^ 0xd6e8_feb8_6659_fd93);
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(array_at(bytes, at))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(array_at(bytes, at))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(array_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::records::{BatchBuilder, NewRecord};

    fn sample() -> Batch {
        let mut builder = BatchBuilder::new();
        builder.push(NewRecord { key: Some(b"k"), value: Some(b"v"), timestamp: 7, headers: &[] });
        builder.finish(crate::compression::Codec::None).expect("a small batch")
    }

    #[test]
    fn a_batch_survives_its_bytes_at_another_place() {
        let batch = sample().placed_at(42, 3);
        let again = Batch::parse_one(batch.to_bytes()).expect("own bytes");
        assert_eq!(again, batch);
        assert_eq!((again.base_offset, again.leader_epoch, again.end_offset()), (42, 3, 43));
    }

    #[test]
    fn a_stamped_batch_is_valid_and_says_when() {
        let stamped = sample().stamped(99).expect("a plain batch");
        let again = Batch::parse_one(stamped.to_bytes()).expect("own bytes");
        assert!(again.header().is_log_append_time());
        assert_eq!((again.header().max_timestamp, again), (99, stamped));
    }

    #[test]
    fn every_flipped_bit_of_the_body_is_noticed() {
        let bytes = sample().to_bytes();
        for at in PREFIX_BYTES..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= 1 << bit;
                assert!(Batch::parse_one(Bytes::from(damaged)).is_err(), "byte {at} bit {bit}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = Batch::parse_one(Bytes::from(bytes));
        }

        #[test]
        fn a_truncated_batch_is_an_error(cut in 0_usize..60) {
            let bytes = sample().to_bytes();
            prop_assert!(Batch::parse_one(bytes.slice(..cut)).is_err());
        }
    }
}
