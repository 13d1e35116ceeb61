//! The map on disk, so that a gateway starts without placement. A cache, never authority: whatever has changed since, a
//! storage node that disagrees is right.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use service::api::{GatewayRegistered, MapChanges};

/// How often it is written, at most; and no more than a twentieth of the time is spent on that.
const WRITE_EVERY: Duration = Duration::from_secs(2);
const SHARE: u32 = 20;

/// What a gateway needs to know to serve.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cached {
    pub registered: GatewayRegistered,
    /// All of it.
    pub map: MapChanges,
}

/// See the module's text.
#[derive(Debug)]
pub struct MapCache {
    path: PathBuf,
    next: Instant,
}

impl MapCache {
    /// In `dir`, which is made if need be.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Self { path: dir.join("map.json"), next: Instant::now() })
    }

    /// What was written last; nothing if it cannot be read.
    pub fn read(&self) -> Option<Cached> {
        let text = std::fs::read(&self.path).ok()?;
        serde_json::from_slice(&text)
            .inspect_err(|error| tracing::warn!(%error, "the cached map cannot be read: waiting for placement"))
            .ok()
    }

    /// Whether it is time to write again.
    pub fn is_due(&self) -> bool {
        self.next <= Instant::now()
    }

    /// Writes it: whole, or not at all.
    pub fn write(&mut self, cached: &Cached) {
        let began = Instant::now();
        let new = self.path.with_extension("new");
        let text = serde_json::to_vec(cached).expect("records are plain data");
        let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &self.path));
        if let Err(error) = written {
            tracing::warn!(%error, "the map could not be cached");
        }
        self.next = Instant::now() + WRITE_EVERY.max(began.elapsed() * SHARE);
    }
}
