//! The shell of `cores::retention`: moves log starts by compare-and-swap.

use cores::Rules;
use service::api::ApiError;
use types::{Offset, PartitionRecord, TopicPartition};

use crate::{Placement, records};

/// Makes everything below `before` unreadable; the record as it is then. An offset that is not above the log start changes
/// nothing.
pub(crate) async fn trim(
    placement: &Placement,
    id: TopicPartition,
    before: Offset,
) -> Result<PartitionRecord, ApiError> {
    loop {
        let (record, revision) = records::partition(&*placement.store, id).await?;
        let Some(after) = cores::retention::trim(&record, before, Rules::ALL) else { return Ok(record) };
        // Another change came first: look again.
        if records::swap_partition(&*placement.store, id, Some(revision), &after).await {
            return Ok(after);
        }
    }
}
