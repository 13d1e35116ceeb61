//! The stored form of a batch: how it travels and rests inside Weir.
//!
//! Between gateway, storage nodes and disks, a batch that its producer left uncompressed has its records squeezed
//! as one LZ4 block, where that makes it smaller: the devices, not the processors, bound two fsynced copies. At
//! the edges it is what the producer sent, byte for byte; the producer's checksum is verified after unpacking.
//!
//! | at | field | |
//! |---|---|---|
//! | 0 | form | u8: 0 plain, 1 LZ4 |
//! | 1 | prefix | 16 bytes: base offset, length *of the plain batch*, leader epoch |
//! | 17 | header | 45 bytes, from the magic byte to the record count |
//! | 62 | records | as they came, or one LZ4 block of them |
//!
//! The length of the whole comes from what holds it. A *run* is several of them, each after its length as u32;
//! in files also after the CRC-32C of its stored bytes, so that a disk read is checked without unpacking.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use types::limits::{BATCH_BYTES_MAX, BATCH_HEADER_BYTES};

use crate::batch::{Batch, BatchError, PREFIX_BYTES};

/// Bytes of a batch's header after its prefix: never squeezed.
const HEAD_BYTES: usize = BATCH_HEADER_BYTES - PREFIX_BYTES;
/// Records below this size stay as they are: a journal block would not shrink.
const SQUEEZE_BYTES_MIN: usize = 2048;
/// Bytes before the batch in a run: its length; and in a file: its length and checksum.
const RUN_ITEM_BYTES: usize = 4;
const FILE_ITEM_BYTES: usize = 8;

/// How a batch's records lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Form {
    Plain = 0,
    Lz4 = 1,
}

impl Batch {
    /// The same batch, squeezed if its producer left it uncompressed and at least an eighth is gained.
    #[must_use]
    pub fn squeezed(self) -> Self {
        let records = self.body().len() - HEAD_BYTES;
        if self.form() != Form::Plain || self.header().compression() != 0 || records < SQUEEZE_BYTES_MIN {
            return self;
        }
        let mut body = vec![0; HEAD_BYTES + lz4_flex::block::get_maximum_output_size(records)];
        let (head, room) = body.split_at_mut(HEAD_BYTES);
        head.copy_from_slice(&self.body()[..HEAD_BYTES]);
        match lz4_flex::block::compress_into(&self.body()[HEAD_BYTES..], room) {
            Ok(squeezed) if squeezed <= records - records / 8 => {
                body.truncate(HEAD_BYTES + squeezed);
                // The rest of the buffer would stay in memory as long as the batch does.
                body.shrink_to_fit();
                self.with_body(body.into(), Form::Lz4)
            }
            _ => self,
        }
    }

    /// The same batch as its producer sent it, checksum verified if it was squeezed.
    ///
    /// # Errors
    /// When the squeezed records do not unpack, or not to what was sent.
    pub fn plain(self) -> Result<Self, BatchError> {
        if self.form() == Form::Plain {
            return Ok(self);
        }
        let mut whole = BytesMut::with_capacity(self.len());
        self.write_plain(&mut whole)?;
        let body = whole.freeze().split_off(PREFIX_BYTES);
        Ok(self.with_body(body, Form::Plain))
    }

    /// Appends the batch to `out` as a Kafka client knows it, the producer's checksum verified.
    ///
    /// # Errors
    /// When it is damaged; `out` may then hold part of it.
    pub fn write_plain(&self, out: &mut BytesMut) -> Result<(), BatchError> {
        out.put_slice(&self.prefix());
        if self.form() == Form::Plain {
            self.verify()?;
            out.put_slice(self.body());
            return Ok(());
        }
        let start = out.len();
        let (head, squeezed) = self.body().split_at(HEAD_BYTES);
        out.put_slice(head);
        out.resize(start + self.len() - PREFIX_BYTES, 0);
        let room = &mut out[start + HEAD_BYTES..];
        let unpacked = lz4_flex::block::decompress_into(squeezed, room).map_err(|_| BatchError::Squeezed)?;
        if unpacked != room.len() {
            return Err(BatchError::Squeezed);
        }
        let (stored, computed) = (self.header().crc, crc32c::crc32c(&out[start + 5..]));
        if stored == computed { Ok(()) } else { Err(BatchError::Checksum { stored, computed }) }
    }

    /// Bytes of the stored form.
    pub fn stored_len(&self) -> usize {
        1 + PREFIX_BYTES + self.body().len()
    }

    /// Bytes that the batch takes in a run between processes.
    pub fn run_len(&self) -> usize {
        RUN_ITEM_BYTES + self.stored_len()
    }

    /// Bytes that the batch takes in a file's run.
    pub fn file_len(&self) -> usize {
        FILE_ITEM_BYTES + self.stored_len()
    }

    /// Writes the first part of the stored form; what follows it is returned, uncopied.
    pub fn put_stored<B: BufMut>(&self, out: &mut B) -> Bytes {
        out.put_u8(self.form() as u8);
        out.put_slice(&self.prefix());
        self.body().clone()
    }

    /// Reads a stored form that fills `bytes`. No checksum is checked.
    ///
    /// # Errors
    /// When the bytes are no batch, or claim to unpack to more than any batch may hold.
    pub fn take_stored(mut bytes: Bytes) -> Result<Self, BatchError> {
        let needed = 1 + BATCH_HEADER_BYTES;
        if bytes.len() < needed {
            return Err(BatchError::Truncated { needed, left: bytes.len() });
        }
        let form = match bytes.get_u8() {
            0 => Form::Plain,
            1 => Form::Lz4,
            other => return Err(BatchError::Form(other)),
        };
        let batch = Self::from_parts(bytes, form)?;
        let (stored, plain) = (PREFIX_BYTES + batch.body().len(), batch.len());
        let fits = plain <= BATCH_BYTES_MAX
            && match form {
                Form::Plain => stored == plain,
                Form::Lz4 => stored < plain,
            };
        if fits { Ok(batch) } else { Err(BatchError::Truncated { needed: plain, left: stored }) }
    }

    /// Appends the batch to a run.
    pub fn put_in_run(&self, out: &mut BytesMut) {
        out.put_u32(self.stored_len() as u32);
        let body = self.put_stored(out);
        out.put_slice(&body);
    }

    /// Splits the first batch off a run.
    ///
    /// # Errors
    /// When the run ends early or holds no batch.
    pub fn take_from_run(run: &mut Bytes) -> Result<Self, BatchError> {
        Self::take_stored(take_item(run, RUN_ITEM_BYTES)?)
    }

    /// Writes the batch into a file's run; `out` has room for exactly [`Batch::file_len`].
    pub fn write_in_file(&self, out: &mut [u8]) {
        let mut stored = &mut out[FILE_ITEM_BYTES..];
        let body = self.put_stored(&mut stored);
        stored.put_slice(&body);
        let crc = crc32c::crc32c(&out[FILE_ITEM_BYTES..]);
        let mut item = &mut out[..FILE_ITEM_BYTES];
        item.put_u32(self.stored_len() as u32);
        item.put_u32(crc);
    }

    /// Splits the first batch off a file's run and checks its stored bytes.
    ///
    /// # Errors
    /// When the run ends early, a checksum is wrong, or it holds no batch.
    pub fn take_from_file(run: &mut Bytes) -> Result<Self, BatchError> {
        let stored = run.get(4..FILE_ITEM_BYTES).map(|crc| u32::from_be_bytes([crc[0], crc[1], crc[2], crc[3]]));
        let bytes = take_item(run, FILE_ITEM_BYTES)?;
        let (stored, computed) = (stored.unwrap_or_default(), crc32c::crc32c(&bytes));
        if stored != computed {
            return Err(BatchError::Checksum { stored, computed });
        }
        Self::take_stored(bytes)
    }
}

fn take_item(run: &mut Bytes, before: usize) -> Result<Bytes, BatchError> {
    if run.len() < before {
        return Err(BatchError::Truncated { needed: before, left: run.len() });
    }
    let length = u32::from_be_bytes([run[0], run[1], run[2], run[3]]) as usize;
    let left = run.len() - before;
    if left < length {
        return Err(BatchError::Truncated { needed: length, left });
    }
    run.advance(before);
    Ok(run.split_to(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compression::Codec;
    use crate::records::{BatchBuilder, NewRecord};

    fn batch_of(value: &[u8], codec: Codec) -> Batch {
        let mut builder = BatchBuilder::new();
        builder.push(NewRecord { key: Some(b"k"), value: Some(value), timestamp: 7, headers: &[] });
        builder.finish(codec).expect("a batch").placed_at(42, 3)
    }

    fn text(bytes: usize) -> Vec<u8> {
        (0_u32..).flat_map(|n| format!("{{\"id\":{n},\"level\":\"info\"}},").into_bytes()).take(bytes).collect()
    }

    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..bytes).map(|_| next()).collect()
    }

    fn stored(batch: &Batch) -> Bytes {
        let mut out = BytesMut::new();
        let body = batch.put_stored(&mut out);
        out.put_slice(&body);
        out.freeze()
    }

    #[test]
    fn text_shrinks_and_comes_back_byte_for_byte() {
        let plain = batch_of(&text(100_000), Codec::None);
        let squeezed = plain.clone().squeezed();
        assert_eq!(squeezed.form(), Form::Lz4);
        assert!(squeezed.stored_len() < plain.stored_len() / 2);
        assert_eq!(
            (squeezed.len(), squeezed.prefix(), squeezed.header()),
            (plain.len(), plain.prefix(), plain.header())
        );
        assert_eq!(squeezed.chain_after(1), plain.chain_after(1), "the chain does not see the form");
        let again = Batch::take_stored(stored(&squeezed)).expect("own bytes");
        assert_eq!(again, squeezed);
        assert_eq!(again.plain().expect("unpacks").to_bytes(), plain.to_bytes());
    }

    #[test]
    fn what_would_not_shrink_stays_plain() {
        for batch in [
            batch_of(&noise(50_000), Codec::None),
            batch_of(&text(50_000), Codec::Zstd),
            batch_of(&text(1_000), Codec::None),
        ] {
            let squeezed = batch.clone().squeezed();
            assert_eq!(squeezed, batch);
            assert_eq!(Batch::take_stored(stored(&squeezed)).expect("own bytes"), batch);
        }
    }

    #[test]
    fn runs_give_back_their_batches() {
        let batches = [batch_of(&text(9_000), Codec::None).squeezed(), batch_of(b"v", Codec::None)];
        let (mut run, mut file) = (BytesMut::new(), BytesMut::new());
        for batch in &batches {
            batch.put_in_run(&mut run);
            let at = file.len();
            file.resize(at + batch.file_len(), 0);
            batch.write_in_file(&mut file[at..]);
        }
        assert_eq!(run.len(), batches.iter().map(Batch::run_len).sum::<usize>());
        let (mut run, mut file) = (run.freeze(), file.freeze());
        for batch in &batches {
            assert_eq!(&Batch::take_from_run(&mut run).expect("in the run"), batch);
            assert_eq!(&Batch::take_from_file(&mut file).expect("in the file"), batch);
        }
        assert!(run.is_empty() && file.is_empty());
    }

    #[test]
    fn a_flipped_bit_on_disk_is_noticed_without_unpacking() {
        let batch = batch_of(&text(3_000), Codec::None).squeezed();
        let mut bytes = vec![0; batch.file_len()];
        batch.write_in_file(&mut bytes);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(Batch::take_from_file(&mut Bytes::from(damaged)).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_lie_about_the_unpacked_length_allocates_nothing() {
        let mut bytes = stored(&batch_of(&text(9_000), Codec::None).squeezed()).to_vec();
        bytes[9..13].copy_from_slice(&i32::MAX.to_be_bytes());
        assert!(Batch::take_stored(bytes.into()).is_err());
    }

    #[test]
    fn no_form_holds_more_than_a_batch_may() {
        let bytes = stored(&batch_of(&noise(BATCH_BYTES_MAX), Codec::None));
        assert!(Batch::take_stored(bytes).is_err());
    }

    #[test]
    fn golden_bytes_of_a_plain_one() {
        let bytes = stored(&batch_of(b"v", Codec::None));
        let hex: String = bytes[..20].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "00000000000000002a0000003a000000030205aa");
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_errors(form in 0_u8..3, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut whole = vec![form];
            whole.extend(bytes);
            if let Ok(batch) = Batch::take_stored(whole.clone().into()) {
                let _ = batch.plain();
            }
            let _ = Batch::take_from_run(&mut whole.clone().into());
            let _ = Batch::take_from_file(&mut whole.into());
        }

        #[test]
        fn damaged_squeezed_records_are_errors(at in 61_usize..400, bit in 0_u8..8) {
            let squeezed = batch_of(&text(9_000), Codec::None).squeezed();
            let mut bytes = stored(&squeezed).to_vec();
            prop_assume!(at < bytes.len());
            bytes[at] ^= 1 << bit;
            let outcome = Batch::take_stored(bytes.into()).and_then(Batch::plain);
            prop_assert!(outcome.is_err());
        }
    }
}
