//! A whole journal of hostile bytes: recovery ends, and what it cuts or damages lies within the journal.
#![no_main]

use bytes::Bytes;
use cores::Rules;
use cores::recovery::{JournalFile, recover};
use libfuzzer_sys::fuzz_target;
use wire::journal::{HEADER_BYTES, MAGIC};

const FILE_BYTES: u64 = 16 * 4096;

fuzz_target!(|data: &[u8]| {
    // Each chunk of input becomes a record with a right checksum somewhere in two files.
    let mut files = vec![vec![0_u8; FILE_BYTES as usize]; 2];
    for chunk in data.chunks(96) {
        let place = usize::from(chunk[0]) % 32;
        let (lap, block) = (place / 16, place % 16);
        let mut record = vec![0; HEADER_BYTES];
        record.extend_from_slice(&chunk[1..]);
        let position = lap as u64 * FILE_BYTES + block as u64 * 4096;
        let body = (record.len() - HEADER_BYTES) as u32;
        record[..4].copy_from_slice(&MAGIC.to_be_bytes());
        record[8] = 1;
        record[9] = chunk[0] >> 5;
        record[10] = chunk.get(1).copied().unwrap_or(1) & 1;
        record[12..16].copy_from_slice(&body.to_be_bytes());
        record[16..24].copy_from_slice(&(lap as u64).to_be_bytes());
        record[24..32].copy_from_slice(&position.to_be_bytes());
        record[39] = chunk.get(2).copied().unwrap_or(0);
        record[45..47].copy_from_slice(&[chunk.get(3).copied().unwrap_or(0) & 1, chunk.get(4).copied().unwrap_or(0)]);
        let crc = crc32c::crc32c(&record[8..]);
        record[4..8].copy_from_slice(&crc.to_be_bytes());
        let at = block * 4096;
        files[lap][at..at + record.len()].copy_from_slice(&record);
    }
    let files: Vec<JournalFile> =
        (0_u64..).zip(files).map(|(lap, bytes)| JournalFile { lap, bytes: Bytes::from(bytes) }).collect();
    let recovered = recover(&files, FILE_BYTES, 0, Rules::ALL);
    assert!(recovered.end <= 2 * FILE_BYTES);
    assert!(recovered.entries.windows(2).all(|pair| pair[0].position < pair[1].position));
    assert!(
        recovered
            .entries
            .iter()
            .all(|entry| recovered.torn.as_ref().is_none_or(|torn| !torn.contains(&entry.position)))
    );
});
