//! A backup of all metadata: every key as it was at one revision.

use service::api::{ApiError, BACKUP_FORMAT, Backup};
use service::clock;
use types::ErrorCode;

use crate::{Placement, turn};

/// Everything but whose turn it is.
pub(crate) async fn take(placement: &Placement) -> Result<Backup, ApiError> {
    let (revision, rows) = placement.store.range("").await?;
    let mut entries = Vec::with_capacity(rows.len());
    for (key, entry) in rows.into_iter().filter(|(key, _)| key != turn::KEY) {
        let value = serde_json::from_slice(&entry.value)
            .map_err(|error| ApiError::new(ErrorCode::Internal, format!("`{key}` holds no JSON: {error}")))?;
        entries.push((key, value));
    }
    Ok(Backup {
        format: BACKUP_FORMAT,
        taken_ms: clock::wall_ms(),
        cluster: placement.cluster,
        generation: placement.generation,
        revision,
        checksum: Some(Backup::checksum_of(&entries)),
        entries,
    })
}
