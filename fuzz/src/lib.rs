//! What several targets need: bytes whose frame is made right, so that what lies behind it is reached.

use wire::batch::PREFIX_BYTES;

/// Bytes of the smallest batch.
const BATCH_BYTES_MIN: usize = 61;

/// `data` as one batch: length, magic and checksum right, the rest as it came and as `change` leaves it.
pub fn as_batch(data: &[u8], change: impl FnOnce(&mut [u8])) -> Option<Vec<u8>> {
    if data.len() < BATCH_BYTES_MIN {
        return None;
    }
    let mut bytes = data.to_vec();
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[PREFIX_BYTES] = 2;
    change(&mut bytes);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Some(bytes)
}
