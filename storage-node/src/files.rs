//! Segment and pack files: appended by the flusher, read at random.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use types::Nonce;
use types::limits::JOURNAL_BLOCK_BYTES;
use wire::Batch;
use wire::segment::{FILE_HEADER_BYTES, FileHeader, SegmentFileHeader};

use crate::catalogue::Extent;
use crate::journal::{AlignedBuffer, open_for_writing};

/// Descriptors kept open for readers; well below [`types::limits::OPEN_FILES_MAX`].
const READ_FILES_MAX: usize = 256;
/// Segment files kept open for appending.
const WRITE_FILES_MAX: usize = 64;
/// Bytes of one extent's batches as clients know them: what a cold read fetches at most to find its batch.
const EXTENT_BYTES: usize = 1024 * 1024;
/// A segment file that is longer is closed and another begun.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Bytes collected before they are written.
const BUFFER_BYTES: usize = 1024 * 1024;
/// Bytes of one write: small, so that the journal's own writes need not wait long behind it.
const WRITE_BYTES: usize = 256 * 1024;
/// Longest pause between two writes.
const PAUSE_MAX: Duration = Duration::from_millis(5);

/// See the module's text.
#[derive(Debug)]
pub struct Files {
    dir: PathBuf,
    is_direct: bool,
    reading: Mutex<HashMap<u64, Arc<File>>>,
}

impl Files {
    /// Uses `dir`, which is created. `is_direct`: its file system takes direct writes.
    pub fn new(dir: &Path, is_direct: bool) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned(), is_direct, reading: Mutex::default() })
    }

    fn path(&self, id: u64) -> PathBuf {
        self.dir.join(format!("{id:016x}.segment"))
    }

    /// An extent's bytes.
    pub fn read(&self, extent: &Extent) -> io::Result<Bytes> {
        let file = self.open(extent.file)?;
        let mut bytes = vec![0; extent.length as usize];
        file.read_exact_at(&mut bytes, extent.at)?;
        Ok(bytes.into())
    }

    fn open(&self, id: u64) -> io::Result<Arc<File>> {
        let mut reading = self.reading.lock().expect("no panic holds this lock");
        if let Some(file) = reading.get(&id) {
            return Ok(Arc::clone(file));
        }
        if reading.len() >= READ_FILES_MAX {
            reading.clear();
        }
        let file = Arc::new(File::open(self.path(id))?);
        reading.insert(id, Arc::clone(&file));
        Ok(file)
    }
}

impl Files {
    /// Removes a file; a reader that has it open goes on reading.
    fn remove(&self, id: u64) -> io::Result<()> {
        self.reading.lock().expect("no panic holds this lock").remove(&id);
        fs::remove_file(self.path(id))
    }

    /// The files that exist.
    pub fn ids(&self) -> io::Result<Vec<u64>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".segment"));
            ids.extend(id.and_then(|id| u64::from_str_radix(id, 16).ok()));
        }
        Ok(ids)
    }
}

struct Open {
    id: u64,
    file: File,
    length: u64,
}

/// Whether to write without pauses.
pub type IsUrgent = Box<dyn Fn() -> bool + Send>;

/// The flusher's side.
pub struct FileWriter {
    files: Arc<Files>,
    next: u64,
    segments: HashMap<Nonce, Open>,
    dirty: Vec<File>,
    /// Extents in use of each file.
    live: HashMap<u64, usize>,
    /// Files that no catalogue names yet.
    created: Vec<u64>,
    buffer: AlignedBuffer,
    /// Looked at before each pause.
    is_urgent: IsUrgent,
}

impl FileWriter {
    /// `extents`: those that the catalogue names. Files without any are leftovers of a crash, and are removed.
    pub fn new<'a>(
        files: Arc<Files>,
        next: u64,
        extents: impl Iterator<Item = &'a Extent>,
        is_urgent: IsUrgent,
    ) -> io::Result<Self> {
        let mut live = HashMap::new();
        extents.for_each(|extent| *live.entry(extent.file).or_default() += 1);
        // A number is never used twice, whatever the catalogue says.
        let next = live.keys().map(|id| id + 1).max().unwrap_or(0).max(next);
        for id in files.ids()? {
            if !live.contains_key(&id) {
                tracing::info!(file = id, "a file that nothing names is removed");
                files.remove(id)?;
            }
        }
        Ok(Self {
            files,
            next,
            live,
            created: Vec::new(),
            segments: HashMap::new(),
            dirty: Vec::new(),
            buffer: AlignedBuffer::new(BUFFER_BYTES),
            is_urgent,
        })
    }

    /// These extents are in no catalogue any more: files without any other are removed.
    pub fn release<'a>(&mut self, extents: impl Iterator<Item = &'a Extent>) {
        for extent in extents {
            let Some(count) = self.live.get_mut(&extent.file) else { continue };
            *count -= 1;
            if *count == 0 {
                self.live.remove(&extent.file);
                self.segments.retain(|_, open| open.id != extent.file);
                if let Err(error) = self.files.remove(extent.file) {
                    tracing::warn!(%error, file = extent.file, "a file could not be removed");
                }
            }
        }
    }

    /// The catalogue names these extents now.
    pub fn named<'a>(&mut self, extents: impl Iterator<Item = &'a Extent>) {
        self.created.clear();
        extents.for_each(|extent| *self.live.entry(extent.file).or_default() += 1);
    }

    /// What was written since the catalogue named anything is given up: new files go.
    pub fn abandon(&mut self) {
        self.dirty.clear();
        for id in self.created.drain(..) {
            self.segments.retain(|_, open| open.id != id);
            let _ = self.files.remove(id);
        }
    }

    /// The number of the next file.
    pub fn next_file(&self) -> u64 {
        self.next
    }

    fn create(&mut self, header: &FileHeader) -> io::Result<Open> {
        let id = self.next;
        self.next += 1;
        self.created.push(id);
        // A crash may have left a file that no extent names.
        let file = open_for_writing(&self.files.path(id), self.files.is_direct)?;
        self.buffer.bytes_mut(FILE_HEADER_BYTES).copy_from_slice(&header.encode());
        file.write_all_at(self.buffer.bytes_mut(FILE_HEADER_BYTES), 0)?;
        Ok(Open { id, file, length: FILE_HEADER_BYTES as u64 })
    }

    /// Appends to the segment's own file.
    pub fn write_segment(&mut self, header: &SegmentFileHeader, batches: &[Batch]) -> io::Result<Vec<Extent>> {
        let nonce = header.segment.nonce;
        if self.segments.get(&nonce).is_some_and(|open| open.length > FILE_BYTES_MAX) {
            self.segments.remove(&nonce);
        }
        if !self.segments.contains_key(&nonce) {
            if self.segments.len() >= WRITE_FILES_MAX {
                self.segments.clear();
            }
            let open = self.create(&FileHeader::Segment(header.clone()))?;
            self.segments.insert(nonce, open);
        }
        let Some(open) = self.segments.get_mut(&nonce) else { unreachable!("inserted above") };
        let extents = write_batches(open, batches, &mut self.buffer, &self.is_urgent)?;
        let dirty = open.file.try_clone()?;
        self.dirty.push(dirty);
        Ok(extents)
    }

    /// Writes small pieces of many segments into one new file.
    pub fn write_pack(&mut self, pieces: &[(Nonce, &[Batch])]) -> io::Result<Vec<(Nonce, Extent)>> {
        let mut open = self.create(&FileHeader::Pack)?;
        let mut extents = Vec::new();
        for (nonce, batches) in pieces {
            let written = write_batches(&mut open, batches, &mut self.buffer, &self.is_urgent)?;
            extents.extend(written.into_iter().map(|extent| (*nonce, extent)));
        }
        self.dirty.push(open.file);
        Ok(extents)
    }

    /// Everything written so far is durable on return.
    pub fn sync(&mut self) -> io::Result<()> {
        for file in self.dirty.drain(..) {
            file.sync_data()?;
        }
        File::open(&self.files.dir)?.sync_all()
    }
}

/// Copies batches into the buffer, extent by extent, and writes whole blocks. Each extent begins at a block, so
/// that writing goes past the page cache: copying into fresh cache pages costs more than everything else here.
fn write_batches(
    open: &mut Open,
    batches: &[Batch],
    buffer: &mut AlignedBuffer,
    is_urgent: &IsUrgent,
) -> io::Result<Vec<Extent>> {
    let mut extents: Vec<Extent> = Vec::new();
    // Bytes of the buffer that are filled, and the position in the file of its start.
    let (mut filled, start) = (0_usize, open.length);
    let mut written = start;
    // Bytes of the last extent's batches as clients know them.
    let mut plain = 0;
    for batch in batches {
        let length = batch.file_len();
        let fits = !extents.is_empty() && plain + batch.len() <= EXTENT_BYTES;
        plain = if fits { plain } else { 0 } + batch.len();
        if !fits {
            filled = pad(buffer, filled);
            if filled >= BUFFER_BYTES {
                write_paced(&open.file, buffer.bytes_mut(filled), written, is_urgent)?;
                written += filled as u64;
                filled = 0;
            }
            let at = written + filled as u64;
            let (base, end) = (batch.base_offset, batch.base_offset);
            extents.push(Extent { base, end, file: open.id, at, length: 0, max_timestamp: i64::MIN });
        }
        batch.write_in_file(&mut buffer.bytes_mut(filled + length)[filled..]);
        filled += length;
        if let Some(last) = extents.last_mut() {
            last.end = batch.end_offset();
            last.length += length as u64;
            last.max_timestamp = last.max_timestamp.max(batch.header().max_timestamp);
        }
    }
    filled = pad(buffer, filled);
    write_paced(&open.file, buffer.bytes_mut(filled), written, is_urgent)?;
    open.length = written + filled as u64;
    Ok(extents)
}

/// Writes in pieces, each followed by a pause of half its time unless it is urgent: an acknowledgement waits for
/// the journal, never for this, so the device is the journal's for a good part of the time.
fn write_paced(file: &File, bytes: &[u8], at: u64, is_urgent: &IsUrgent) -> io::Result<()> {
    let mut at = at;
    for piece in bytes.chunks(WRITE_BYTES) {
        let began = Instant::now();
        file.write_all_at(piece, at)?;
        at += piece.len() as u64;
        if !is_urgent() {
            std::thread::sleep((began.elapsed() / 2).min(PAUSE_MAX));
        }
    }
    Ok(())
}

/// Zeros up to the next block; the new length.
fn pad(buffer: &mut AlignedBuffer, filled: usize) -> usize {
    let padded = filled.next_multiple_of(JOURNAL_BLOCK_BYTES);
    buffer.bytes_mut(padded)[filled..].fill(0);
    padded
}

#[cfg(test)]
mod tests {
    use wire::compression::Codec;
    use wire::records::{BatchBuilder, NewRecord};

    use super::*;

    #[test]
    fn packs_give_back_what_was_written() {
        let dir = std::env::temp_dir().join(format!("weir-files-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let files = Arc::new(Files::new(&dir, true).expect("files"));
        let mut writer = FileWriter::new(Arc::clone(&files), 1, [].iter(), Box::new(|| true)).expect("a writer");
        let mut offset = 0;
        let batches: Vec<Batch> = (0..40)
            .map(|number| {
                let mut builder = BatchBuilder::new();
                let value = vec![number as u8; 1 + number * 9_000];
                builder.push(NewRecord { key: None, value: Some(&value), timestamp: 1, headers: &[] });
                let batch = builder.finish(Codec::None).expect("a batch").placed_at(offset, 1);
                let batch = if number % 2 == 0 { batch } else { batch.squeezed() };
                offset = batch.end_offset();
                batch
            })
            .collect();
        let pieces = [(Nonce(1), &batches[..7]), (Nonce(2), &batches[7..])];
        let extents = writer.write_pack(&pieces).expect("written");
        writer.sync().expect("durable");
        let mut read = Vec::new();
        for (_, extent) in &extents {
            let mut bytes = files.read(extent).expect("an extent");
            while !bytes.is_empty() {
                read.push(Batch::take_from_file(&mut bytes).expect("an intact batch"));
            }
        }
        assert_eq!(read, batches);
        assert!(extents.len() > 3, "large pieces have several extents");
        fs::remove_dir_all(dir).expect("cleaned");
    }
    #[test]
    fn a_file_goes_with_its_last_extent_and_numbers_are_never_used_again() {
        let dir = std::env::temp_dir().join(format!("weir-files-live-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let files = Arc::new(Files::new(&dir, true).expect("files"));
        let writer = |next, extents: &[Extent]| {
            FileWriter::new(Arc::clone(&files), next, extents.iter(), Box::new(|| true)).expect("a writer")
        };
        let mut builder = BatchBuilder::new();
        builder.push(NewRecord { key: None, value: Some(b"v"), timestamp: 1, headers: &[] });
        let batches = [builder.finish(Codec::None).expect("a batch").placed_at(0, 1)];
        let mut first = writer(1, &[]);
        let pack = first.write_pack(&[(Nonce(1), &batches[..]), (Nonce(2), &batches[..])]).expect("written");
        let extents: Vec<Extent> = pack.iter().map(|(_, extent)| *extent).collect();
        first.named(extents.iter());
        // A flush that fails leaves nothing behind, and takes nothing with it.
        first.write_pack(&[(Nonce(3), &batches[..])]).expect("written");
        assert_eq!(files.ids().expect("a folder").len(), 2);
        first.abandon();
        assert_eq!(files.ids().expect("a folder"), [extents[0].file]);
        first.release(extents[..1].iter());
        assert!(files.read(&extents[1]).is_ok(), "another segment's extent is in it");
        // A restart whose catalogue names an older number: the file that is there is not written over.
        let mut second = writer(1, &extents[1..]);
        assert!(second.next_file() > extents[1].file);
        second.release(extents[1..].iter());
        assert!(files.ids().expect("a folder").is_empty());
        fs::write(dir.join("00000000000000aa.segment"), b"left by a crash").expect("a file");
        drop(writer(9, &[]));
        assert!(files.ids().expect("a folder").is_empty(), "a leftover of a crash is removed");
        fs::remove_dir_all(dir).expect("cleaned");
    }
}
