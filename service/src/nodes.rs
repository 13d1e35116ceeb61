//! Connections to storage nodes, one per address, opened when needed and shared.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use tokio::sync::Mutex;
use types::limits::FIRST_WORD_MS;

use crate::connection::FrameClient;

const CONNECT: Duration = Duration::from_secs(2);

/// After a connection that could not be made others are told the same for so long: many wait for one node.
const REST: Duration = Duration::from_millis(50);

/// How long a node is tried that has just said by another way that it is there.
const WATCH: Duration = Duration::from_millis(2_000);

#[derive(Debug, Default)]
struct Slot {
    client: Option<FrameClient>,
    /// The node at this address says by itself that it is there.
    has_words: bool,
    failed: Option<(Instant, ErrorKind)>,
}

/// See the module's text.
#[derive(Debug, Default, Clone)]
pub struct NodePool(Arc<DashMap<String, Arc<Mutex<Slot>>>>);

impl NodePool {
    /// There was a connection to `address` and there is none now; nothing is said of addresses that were never asked for.
    pub fn is_lost(&self, address: &str) -> bool {
        let Some(slot) = self.0.get(address).map(|slot| Arc::clone(&slot)) else { return false };
        // Whoever holds the lock is connecting.
        slot.try_lock().map_or(true, |slot| slot.client.as_ref().is_none_or(FrameClient::is_closed))
    }

    /// Connects, unless there is a connection: its end then tells that the node is gone. Tries for a while: a node is
    /// registered a moment before it serves.
    pub fn watch(&self, address: &str) {
        let is_known = self.0.contains_key(address);
        if is_known && !self.is_lost(address) {
            return;
        }
        let (pool, address) = (self.clone(), address.to_owned());
        tokio::spawn(async move { pool.wait_for(&address, WATCH).await });
    }

    /// Whether there is a connection within this time.
    pub async fn wait_for(&self, address: &str, within: Duration) -> bool {
        let began = Instant::now();
        while self.get(address).await.is_err() {
            if began.elapsed() > within {
                return false;
            }
            tokio::time::sleep(2 * REST).await;
        }
        true
    }

    /// The open connection to `address`, or a new one.
    pub async fn get(&self, address: &str) -> io::Result<FrameClient> {
        let slot = match self.0.get(address) {
            Some(slot) => Arc::clone(&slot),
            None => Arc::clone(&self.0.entry(address.to_owned()).or_default()),
        };
        let mut slot = slot.lock().await;
        if let Some(client) = slot.client.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        slot.has_words |= slot.client.take().is_some_and(|client| client.had_word());
        if let Some((_, kind)) = slot.failed.filter(|(at, _)| at.elapsed() < REST) {
            return Err(kind.into());
        }
        let fresh = self.connect(address, slot.has_words).await;
        slot.failed = fresh.as_ref().err().map(|error| (Instant::now(), error.kind()));
        slot.client = fresh.as_ref().ok().cloned();
        fresh
    }

    /// A kernel takes connections for a process that hangs, and so does what stands between: a node that is there says
    /// so at once.
    async fn connect(&self, address: &str, has_words: bool) -> io::Result<FrameClient> {
        if !has_words {
            return FrameClient::connect(address, CONNECT).await;
        }
        let patience = Duration::from_millis(FIRST_WORD_MS);
        let client = FrameClient::connect(address, patience).await?;
        if !client.is_answered(patience).await {
            client.abandon();
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(client)
    }
}
