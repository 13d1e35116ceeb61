//! Segment and pack files: appended by the flusher, read at random.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use types::Nonce;
use wire::Batch;
use wire::segment::{FILE_HEADER_BYTES, FileHeader, SegmentFileHeader};

use crate::catalogue::Extent;

/// Descriptors kept open for readers; well below [`types::limits::OPEN_FILES_MAX`].
const READ_FILES_MAX: usize = 256;
/// Segment files kept open for appending.
const WRITE_FILES_MAX: usize = 64;
/// Bytes of one extent: what a cold read fetches at most to find its batch.
const EXTENT_BYTES: u64 = 1024 * 1024;
/// A segment file that is longer is closed and another begun.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// See the module's text.
#[derive(Debug)]
pub struct Files {
    dir: PathBuf,
    reading: Mutex<HashMap<u64, Arc<File>>>,
}

impl Files {
    pub fn new(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned(), reading: Mutex::default() })
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

struct Open {
    id: u64,
    file: File,
    length: u64,
}

/// The flusher's side.
pub struct FileWriter {
    files: Arc<Files>,
    next: u64,
    segments: HashMap<Nonce, Open>,
    dirty: Vec<File>,
}

impl FileWriter {
    pub fn new(files: Arc<Files>, next: u64) -> Self {
        Self { files, next, segments: HashMap::new(), dirty: Vec::new() }
    }

    /// The number of the next file.
    pub fn next_file(&self) -> u64 {
        self.next
    }

    fn create(&mut self, header: &FileHeader) -> io::Result<Open> {
        let id = self.next;
        self.next += 1;
        // A crash may have left a file that no extent names.
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(self.files.path(id))?;
        file.write_all(&header.encode())?;
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
        let extents = write_batches(open, batches)?;
        let dirty = open.file.try_clone()?;
        self.dirty.push(dirty);
        Ok(extents)
    }

    /// Writes small pieces of many segments into one new file.
    pub fn write_pack(&mut self, pieces: &[(Nonce, &[Batch])]) -> io::Result<Vec<(Nonce, Extent)>> {
        let mut open = self.create(&FileHeader::Pack)?;
        let mut extents = Vec::new();
        for (nonce, batches) in pieces {
            extents.extend(write_batches(&mut open, batches)?.into_iter().map(|extent| (*nonce, extent)));
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

fn write_batches(open: &mut Open, batches: &[Batch]) -> io::Result<Vec<Extent>> {
    let mut extents: Vec<Extent> = Vec::new();
    for batch in batches {
        let length = batch.len() as u64;
        match extents.last_mut() {
            Some(last) if last.length + length <= EXTENT_BYTES => {
                last.end = batch.end_offset();
                last.length += length;
            }
            _ => extents.push(Extent {
                base: batch.base_offset,
                end: batch.end_offset(),
                file: open.id,
                at: open.length,
                length,
            }),
        }
        open.length += length;
    }
    let prefixes: Vec<_> = batches.iter().map(Batch::prefix).collect();
    let mut slices: Vec<IoSlice<'_>> = prefixes
        .iter()
        .zip(batches)
        .flat_map(|(prefix, batch)| [IoSlice::new(prefix), IoSlice::new(batch.body())])
        .collect();
    let mut left = &mut slices[..];
    while !left.is_empty() {
        let count = left.len().min(1024);
        let written = open.file.write_vectored(&left[..count])?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut left, written);
    }
    Ok(extents)
}
