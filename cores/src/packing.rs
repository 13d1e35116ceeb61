//! How entries become one journal write: the counterpart of `recovery`.

use types::limits::{JOURNAL_BLOCK_BYTES, JOURNAL_WRITE_BYTES_AIM, JOURNAL_WRITE_BYTES_MAX};
use wire::journal::{EncodedEntry, RecordPlace};

/// Where the journal stands. One write is in flight at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Bytes of one journal file.
    pub file_bytes: u64,
    /// Where the next write begins: a block boundary.
    pub end: u64,
    /// The number of the next write.
    pub write: u64,
    /// End of the last write that is complete.
    pub durable_through: u64,
}

impl Cursor {
    /// How many of `entries` go into the next write, and its bytes, padded to blocks. A write never crosses
    /// files: if not even the first entry fits in this one, the cursor moves to the next file.
    pub fn plan<'a>(&mut self, entries: impl Iterator<Item = &'a EncodedEntry> + Clone) -> (usize, usize) {
        loop {
            let left = (self.file_bytes - self.end % self.file_bytes) as usize;
            let bound = left.min(JOURNAL_WRITE_BYTES_MAX);
            let (mut count, mut bytes) = (0, 0);
            for entry in entries.clone() {
                if bytes + entry.len() > bound || (count > 0 && bytes + entry.len() > JOURNAL_WRITE_BYTES_AIM) {
                    break;
                }
                count += 1;
                bytes += entry.len();
            }
            if count > 0 {
                return (count, bytes.next_multiple_of(JOURNAL_BLOCK_BYTES));
            }
            assert!(left < self.file_bytes as usize, "INVARIANT: any entry fits in an empty file");
            self.end = (self.end / self.file_bytes + 1) * self.file_bytes;
        }
    }

    /// Writes these entries, as planned, into `out`; gives each one's position and moves the cursor.
    /// `durable_through` stays: the caller moves it when the write is complete.
    pub fn pack(&mut self, entries: &[EncodedEntry], out: &mut [u8]) -> Vec<u64> {
        let lap = self.end / self.file_bytes;
        let mut at = 0;
        let mut positions = Vec::with_capacity(entries.len());
        for (i, entry) in entries.iter().enumerate() {
            let position = self.end + at as u64;
            let place = RecordPlace {
                lap,
                position,
                write: self.write,
                durable_through: self.durable_through,
                is_last: i + 1 == entries.len(),
            };
            entry.write_to(place, &mut out[at..at + entry.len()]);
            positions.push(position);
            at += entry.len();
        }
        out[at..].fill(0);
        self.end += out.len() as u64;
        self.write += 1;
        positions
    }
}
