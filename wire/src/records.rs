//! Single records inside a batch: read for HTTP, written by HTTP and by our own clients.
//!
//! Record layout (KIP-98): length varint, attributes i8, timestamp delta varlong, offset delta varint,
//! key (varint length, -1 = null), value (the same), header count varint, headers.

use bytes::{BufMut, Bytes, BytesMut};

use crate::batch::{Batch, BatchError};
use crate::codec::{DecodeError, Reader, Writer};
use crate::compression::{Codec, CompressionError};

/// A record as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// A record to be written.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// ms since the epoch.
    pub timestamp: i64,
    pub headers: &'a [(Bytes, Option<Bytes>)],
}

/// Why a batch's records cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Compression(#[from] CompressionError),
}

/// Headers that a record is read with: more would be a record's weight a hundred times over in memory.
const HEADERS_MAX: usize = 65_536;

/// The records of a batch, one at a time, so that a few bytes that stand for many records never lie in memory as these.
#[derive(Debug)]
pub struct Records {
    reader: Reader,
    left: usize,
    base_offset: i64,
    base_timestamp: i64,
    /// Of all of them, where the leader stamped the batch.
    append_time: Option<i64>,
}

/// Reads records of a batch, decompressing at most `bytes_max` bytes. After an error there are no more.
///
/// # Errors
/// It cannot be decompressed, or holds fewer bytes than so many records have.
pub fn records(batch: &Batch, bytes_max: usize) -> Result<Records, RecordsError> {
    let header = batch.header();
    let raw = Codec::from_number(header.compression())?.decompress(batch.records(), bytes_max)?;
    let reader = Reader::new(raw);
    let left = reader.check_count("record count", i64::from(header.record_count), 7)?;
    Ok(Records {
        reader,
        left,
        base_offset: batch.base_offset,
        base_timestamp: header.base_timestamp,
        append_time: header.is_log_append_time().then_some(header.max_timestamp),
    })
}

impl Records {
    fn read(&mut self) -> Result<Record, DecodeError> {
        let length = self.reader.varint("record length")?;
        let length = self.reader.check_count("record length", i64::from(length), 1)?;
        let mut one = Reader::new(self.reader.bytes("record", length)?);
        one.i8("record attributes")?;
        let timestamp_delta = one.varlong("timestamp delta")?;
        let offset_delta = one.varint("offset delta")?;
        let key = read_nullable(&mut one, "key")?;
        let value = read_nullable(&mut one, "value")?;
        let count = one.varint("header count")?;
        let count = one.check_count("header count", i64::from(count), 2)?;
        if count > HEADERS_MAX {
            return Err(DecodeError::Value { what: "header count", value: count as i64 });
        }
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            let name = read_nullable(&mut one, "header name")?.unwrap_or_default();
            headers.push((name, read_nullable(&mut one, "header value")?));
        }
        one.finish()?;
        if self.left == 0 {
            std::mem::replace(&mut self.reader, Reader::new(Bytes::new())).finish()?;
        }
        let timestamp = self.append_time.unwrap_or_else(|| self.base_timestamp.saturating_add(timestamp_delta));
        let offset = self.base_offset.saturating_add(i64::from(offset_delta));
        Ok(Record { offset, timestamp, key, value, headers })
    }
}

impl Iterator for Records {
    type Item = Result<Record, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let record = self.read();
        if record.is_err() {
            self.left = 0;
        }
        Some(record.map_err(RecordsError::from))
    }
}

/// Reads all records of a batch that is known to be small, decompressing at most `bytes_max` bytes.
///
/// # Errors
/// As those of [`records`], and of each record.
pub fn read_records(batch: &Batch, bytes_max: usize) -> Result<Vec<Record>, RecordsError> {
    records(batch, bytes_max)?.collect()
}

/// Checks that an uncompressed batch holds exactly the records that its header counts, with dense offsets, as Kafka's
/// brokers do. Looks at each record's first bytes only.
pub fn check_records(batch: &Batch) -> Result<(), DecodeError> {
    let mut reader = Reader::new(batch.records());
    let count = reader.check_count("record count", i64::from(batch.header().record_count), 7)?;
    for at in 0..count {
        let length = reader.varint("record length")?;
        let length = reader.check_count("record length", i64::from(length), 1)?;
        let mut one = Reader::new(reader.bytes("record", length)?);
        one.i8("record attributes")?;
        one.varlong("timestamp delta")?;
        let delta = one.varint("offset delta")?;
        if usize::try_from(delta) != Ok(at) {
            return Err(DecodeError::Value { what: "offset delta", value: i64::from(delta) });
        }
    }
    reader.finish()
}

fn read_nullable(reader: &mut Reader, what: &'static str) -> Result<Option<Bytes>, DecodeError> {
    let length = reader.varint(what)?;
    if length == -1 {
        return Ok(None);
    }
    let length = reader.check_count(what, i64::from(length), 1)?;
    reader.bytes(what, length).map(Some)
}

/// Collects records into one batch.
#[derive(Debug)]
pub struct BatchBuilder {
    records: Writer,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    producer: (i64, i16, i32),
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    pub fn new() -> Self {
        Self { records: Writer::new(), count: 0, base_timestamp: 0, max_timestamp: i64::MIN, producer: (-1, -1, -1) }
    }

    /// Marks the batch as an idempotent producer's.
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.producer = (id, epoch, base_sequence);
        self
    }

    pub fn push(&mut self, record: NewRecord<'_>) {
        if self.count == 0 {
            self.base_timestamp = record.timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        let mut one = Writer::with_capacity(32);
        one.buffer.put_i8(0);
        one.varlong(record.timestamp.wrapping_sub(self.base_timestamp));
        one.varint(self.count);
        write_nullable(&mut one, record.key);
        write_nullable(&mut one, record.value);
        one.varint(record.headers.len() as i32);
        for (name, value) in record.headers {
            write_nullable(&mut one, Some(name));
            write_nullable(&mut one, value.as_deref());
        }
        self.records.varint(one.buffer.len() as i32);
        self.records.buffer.put_slice(&one.buffer);
        self.count += 1;
    }

    pub fn count(&self) -> i32 {
        self.count
    }

    /// Bytes collected so far, before compression.
    pub fn bytes(&self) -> usize {
        self.records.buffer.len()
    }

    /// The finished batch, at offset 0 until a leader places it.
    ///
    /// # Errors
    /// When no record was pushed, or the codec fails.
    pub fn finish(self, codec: Codec) -> Result<Batch, CompressionError> {
        let records = codec.compress(&self.records.buffer)?;
        let mut body = BytesMut::with_capacity(45 + records.len());
        body.put_u8(2);
        body.put_u32(0);
        body.put_i16(codec as i16);
        body.put_i32(self.count - 1);
        body.put_i64(self.base_timestamp);
        body.put_i64(self.max_timestamp);
        body.put_i64(self.producer.0);
        body.put_i16(self.producer.1);
        body.put_i32(self.producer.2);
        body.put_i32(self.count);
        body.put_slice(&records);
        let crc = crc32c::crc32c(&body[5..]);
        body[1..5].copy_from_slice(&crc.to_be_bytes());
        let mut whole = BytesMut::with_capacity(16 + body.len());
        whole.put_i64(0);
        whole.put_i32(body.len() as i32 + 4);
        whole.put_i32(-1);
        whole.put_slice(&body);
        Batch::parse_one(whole.freeze()).map_err(|error: BatchError| CompressionError::Empty(error.to_string()))
    }
}

fn write_nullable(writer: &mut Writer, value: Option<&[u8]>) {
    match value {
        None => writer.varint(-1),
        Some(bytes) => {
            writer.varint(bytes.len() as i32);
            writer.buffer.put_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    #[test]
    fn a_header_that_counts_other_records_is_refused() {
        let mut builder = BatchBuilder::new();
        for _ in 0..3 {
            builder.push(NewRecord { key: None, value: Some(b"value"), timestamp: 1, headers: &[] });
        }
        let whole = builder.finish(Codec::None).expect("a batch").to_bytes();
        for (count, is_right) in [(2, false), (3, true), (4, false), (i32::MAX, false)] {
            let mut bytes = whole.to_vec();
            bytes[23..27].copy_from_slice(&(count - 1_i32).to_be_bytes());
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            let crc = crc32c::crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
            let batch = Batch::parse_one(bytes.into()).expect("a batch by its header");
            assert_eq!(check_records(&batch).is_ok(), is_right, "{count}");
        }
    }

    use super::*;

    type Plain = (Option<Vec<u8>>, Option<Vec<u8>>, i64);

    proptest! {
        #[test]
        fn records_round_trip_through_every_codec(
            plain in proptest::collection::vec(
                (
                    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
                    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
                    0_i64..2_000_000_000_000,
                ),
                1..20,
            ),
        ) {
            let plain: Vec<Plain> = plain;
            for codec in Codec::ALL {
                let headers = [(Bytes::from_static(b"h"), None), (Bytes::from_static(b"h"), Some(Bytes::from_static(b"x")))];
                let mut builder = BatchBuilder::new();
                for (key, value, timestamp) in &plain {
                    builder.push(NewRecord {
                        key: key.as_deref(), value: value.as_deref(), timestamp: *timestamp, headers: &headers,
                    });
                }
                let batch = builder.finish(*codec).expect("a batch").placed_at(100, 1);
                let read = read_records(&batch, 1 << 20).expect("own records");
                prop_assert_eq!(read.len(), plain.len());
                for (i, (record, (key, value, timestamp))) in read.iter().zip(&plain).enumerate() {
                    prop_assert_eq!(record.offset, 100 + i as i64);
                    prop_assert_eq!(record.key.as_deref(), key.as_deref());
                    prop_assert_eq!(record.value.as_deref(), value.as_deref());
                    prop_assert_eq!(record.timestamp, *timestamp);
                    prop_assert_eq!(&record.headers[..], &headers[..]);
                }
            }
        }
    }
}
