//! The admin listener: health and metrics.

use std::sync::Arc;

use service::health::{Health, Metric};

/// What a storage node counts.
#[derive(Debug)]
pub struct Metrics {
    pub bytes_read: Arc<Metric>,
    pub bytes_flushed: Arc<Metric>,
    pub journal_writes: Arc<Metric>,
    pub journal_bytes: Arc<Metric>,
    pub tail_bytes: Arc<Metric>,
    pub partitions: Arc<Metric>,
    pub resting: Arc<Metric>,
    pub damaged: Arc<Metric>,
}

impl Metrics {
    pub fn new(health: &Health) -> Self {
        let counter = |name, help| health.register(Metric::counter(name, help));
        let gauge = |name, help| health.register(Metric::gauge(name, help));
        Self {
            bytes_read: counter("weir_storage_read_bytes_total", "Bytes of batches given to readers."),
            bytes_flushed: counter("weir_storage_flushed_bytes_total", "Bytes written to segment and pack files."),
            journal_writes: counter("weir_journal_writes_total", "Durable writes of the journal."),
            journal_bytes: counter(
                "weir_journal_written_bytes_total",
                "Bytes written to the journal, padding included.",
            ),
            tail_bytes: gauge("weir_storage_tail_bytes", "Bytes of recent batches in memory."),
            partitions: gauge("weir_storage_partitions", "Partitions with a copy on this node."),
            resting: gauge(
                "weir_storage_partitions_resting",
                "Of them those that take no memory: sealed, in files, unused.",
            ),
            damaged: gauge(
                "weir_storage_damaged_segments",
                "Segments that are quarantined because part of them cannot be read.",
            ),
        }
    }
}
