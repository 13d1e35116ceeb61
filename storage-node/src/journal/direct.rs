//! Journal files on a real file system: written past the page cache, whole blocks, durable on return.
//!
//! `O_DIRECT | O_DSYNC` where the file system takes it; elsewhere ordinary writes and fdatasync. A file is filled
//! with zeros once, because writing into merely allocated extents would commit metadata each time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use types::limits::{JOURNAL_BLOCK_BYTES, JOURNAL_FILE_BYTES};

use super::{JournalFile, JournalFiles};

/// Retired files that are kept for the next laps; more are deleted.
const SPARES_MAX: usize = 8;
/// Bytes of one write while a file is filled: small, so that the journal's own writes need not wait long.
const FILL_BYTES: usize = 256 * 1024;

/// Longest pause between two of them.
const FILL_PAUSE_MAX: Duration = Duration::from_millis(5);

#[repr(C, align(4096))]
#[derive(Clone)]
struct Block([u8; JOURNAL_BLOCK_BYTES]);

/// Memory as direct I/O wants it; grows and is used again.
pub struct AlignedBuffer(Vec<Block>);

impl AlignedBuffer {
    pub fn new(bytes: usize) -> Self {
        Self(vec![Block([0; JOURNAL_BLOCK_BYTES]); bytes.div_ceil(JOURNAL_BLOCK_BYTES)])
    }

    /// The first `bytes` of it.
    pub fn bytes_mut(&mut self, bytes: usize) -> &mut [u8] {
        let blocks = bytes.div_ceil(JOURNAL_BLOCK_BYTES);
        if blocks > self.0.len() {
            self.0.resize(blocks, Block([0; JOURNAL_BLOCK_BYTES]));
        }
        // SAFETY: a `Block` is exactly its bytes (repr(C), no padding: its size is a multiple of its alignment),
        // and the slice covers only blocks that exist.
        let all =
            unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast::<u8>(), blocks * JOURNAL_BLOCK_BYTES) };
        &mut all[..bytes]
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct DirectFiles {
    dir: PathBuf,
    is_direct: bool,
}

struct DirectFile {
    file: File,
    is_direct: bool,
}

impl JournalFile for DirectFile {
    fn write_at(&mut self, at: u64, blocks: &[u8]) -> io::Result<()> {
        self.file.write_all_at(blocks, at)?;
        if self.is_direct { Ok(()) } else { self.file.sync_data() }
    }
}

impl DirectFiles {
    /// Uses `dir`, which is created; finds out what the file system takes.
    pub fn new(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let probe = dir.join("probe");
        let is_direct = (|| -> io::Result<()> {
            let mut file = direct_options().create(true).truncate(true).open(&probe)?;
            file.write_all(AlignedBuffer::new(JOURNAL_BLOCK_BYTES).bytes_mut(JOURNAL_BLOCK_BYTES))
        })()
        .is_ok();
        let _ = fs::remove_file(&probe);
        Ok(Self { dir: dir.to_owned(), is_direct })
    }

    /// Whether writes go past the page cache.
    pub fn is_direct(&self) -> bool {
        self.is_direct
    }

    /// Median time of a few one-block writes, in µs: what an acknowledgement costs at least.
    pub fn measure_us(&self) -> io::Result<u64> {
        let path = self.dir.join("probe");
        let mut file = self.open(&path)?;
        let mut block = AlignedBuffer::new(JOURNAL_BLOCK_BYTES);
        let mut times = Vec::new();
        for _ in 0..9 {
            let began = Instant::now();
            file.write_at(0, block.bytes_mut(JOURNAL_BLOCK_BYTES))?;
            times.push(began.elapsed().as_micros() as u64);
        }
        drop(file);
        fs::remove_file(&path)?;
        times.sort_unstable();
        Ok(times[times.len() / 2])
    }

    fn path(&self, lap: u64) -> PathBuf {
        self.dir.join(format!("{lap:016x}.journal"))
    }

    fn open(&self, path: &Path) -> io::Result<DirectFile> {
        let file = if self.is_direct {
            direct_options().create(true).truncate(false).open(path)?
        } else {
            OpenOptions::new().write(true).create(true).truncate(false).open(path)?
        };
        Ok(DirectFile { file, is_direct: self.is_direct })
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn spares(&self) -> io::Result<Vec<PathBuf>> {
        let mut spares = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "spare") {
                spares.push(path);
            }
        }
        Ok(spares)
    }

    /// A file of full size that was written once.
    fn fill(&self, path: &Path, is_urgent: &AtomicBool) -> io::Result<()> {
        let file = open_for_writing(path, self.is_direct)?;
        let mut zeros = AlignedBuffer::new(FILL_BYTES);
        let mut steps = (0..JOURNAL_FILE_BYTES).step_by(FILL_BYTES);
        let filled = steps.try_for_each(|at| {
            let began = Instant::now();
            file.write_all_at(zeros.bytes_mut(FILL_BYTES), at)?;
            if !is_urgent.load(Ordering::Relaxed) {
                std::thread::sleep(began.elapsed().min(FILL_PAUSE_MAX));
            }
            Ok(())
        });
        filled.and_then(|()| file.sync_all()).inspect_err(|_| {
            let _ = fs::remove_file(path);
        })
    }
}

/// A new, empty file for whole-block writes; not durable until synced.
pub fn open_for_writing(path: &Path, is_direct: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    if is_direct {
        options.custom_flags(libc::O_DIRECT);
    }
    options.open(path)
}

fn direct_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC);
    options
}

impl JournalFiles for DirectFiles {
    fn prepare(&self, lap: u64, is_urgent: &AtomicBool) -> io::Result<Box<dyn JournalFile>> {
        let path = self.path(lap);
        if !path.exists() {
            match self.spares()?.pop() {
                Some(spare) => fs::rename(spare, &path)?,
                None => {
                    let filling = self.dir.join("filling");
                    self.fill(&filling, is_urgent)?;
                    fs::rename(filling, &path)?;
                }
            }
            self.sync_dir()?;
        }
        Ok(Box::new(self.open(&path)?))
    }

    fn laps(&self) -> io::Result<Vec<u64>> {
        let mut laps = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let lap = name.to_str().and_then(|name| name.strip_suffix(".journal"));
            laps.extend(lap.and_then(|lap| u64::from_str_radix(lap, 16).ok()));
        }
        laps.sort_unstable();
        Ok(laps)
    }

    fn read(&self, lap: u64) -> io::Result<Vec<u8>> {
        let file = File::open(self.path(lap))?;
        // Ask the kernel to forget what it cached, so that the disk is read.
        // SAFETY: the descriptor is open; the call takes no memory.
        unsafe {
            libc::posix_fadvise(std::os::fd::AsRawFd::as_raw_fd(&file), 0, 0, libc::POSIX_FADV_DONTNEED);
        }
        let mut bytes = Vec::with_capacity(JOURNAL_FILE_BYTES as usize);
        (&file).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn erase(&self, lap: u64, from: u64, to: u64) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(self.path(lap))?;
        file.seek(SeekFrom::Start(from))?;
        file.write_all(&vec![0; (to - from) as usize])?;
        file.sync_all()
    }

    fn retire(&self, lap: u64) -> io::Result<()> {
        let path = self.path(lap);
        if self.spares()?.len() >= SPARES_MAX {
            fs::remove_file(path)
        } else {
            fs::rename(path, self.dir.join(format!("{lap:016x}.spare")))
        }
    }

    fn read_at(&self, lap: u64, at: u64, into: &mut [u8]) -> io::Result<()> {
        File::open(self.path(lap))?.read_exact_at(into, at)
    }
}
