//! Connections to storage nodes, one per address, opened when needed and shared.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use types::limits::FIRST_WORD_MS;

use crate::connection::FrameClient;
use crate::trust::Trust;

/// After a connection that could not be made others are told the same for so long: many wait for one node.
const REST: Duration = Duration::from_millis(50);

/// How long a node is tried that has just said by another way that it is there.
const WATCH: Duration = Duration::from_millis(2_000);

#[derive(Debug, Default)]
struct Slot {
    client: Mutex<Option<FrameClient>>,
    /// Held by whoever connects: how the last attempt failed.
    connecting: tokio::sync::Mutex<Option<(Instant, ErrorKind)>>,
}

impl Slot {
    fn client(&self) -> Option<FrameClient> {
        self.client.lock().expect("no panic holds this lock").clone().filter(|client| !client.is_closed())
    }
}

/// See the module's text.
#[derive(Debug, Default, Clone)]
pub struct NodePool {
    slots: Arc<DashMap<String, Arc<Slot>>>,
    trust: Option<Arc<Trust>>,
}

impl NodePool {
    pub fn new(trust: Option<Arc<Trust>>) -> Self {
        Self { slots: Arc::default(), trust }
    }

    /// There was a connection to `address` and there is none now; nothing is said of addresses that were never asked for.
    pub fn is_lost(&self, address: &str) -> bool {
        self.slots.get(address).is_some_and(|slot| slot.client().is_none())
    }

    pub fn is_connected(&self, address: &str) -> bool {
        self.slots.get(address).is_some_and(|slot| slot.client().is_some())
    }

    /// Connects, unless there is a connection: its end then tells that the node is gone. Tries for a while: a node is
    /// registered a moment before it serves.
    pub fn watch(&self, address: &str) {
        let is_known = self.slots.contains_key(address);
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
        let slot = match self.slots.get(address) {
            Some(slot) => Arc::clone(&slot),
            None => Arc::clone(&self.slots.entry(address.to_owned()).or_default()),
        };
        if let Some(client) = slot.client() {
            return Ok(client);
        }
        let mut failed = slot.connecting.lock().await;
        if let Some(client) = slot.client() {
            return Ok(client);
        }
        if let Some((_, kind)) = failed.filter(|(at, _)| at.elapsed() < REST) {
            return Err(kind.into());
        }
        let was_there = slot.client.lock().expect("no panic holds this lock").take().is_some() || failed.is_some();
        let fresh = connect(self.trust.as_ref(), address, was_there).await;
        *failed = fresh.as_ref().err().map(|error| (Instant::now(), error.kind()));
        *slot.client.lock().expect("no panic holds this lock") = fresh.as_ref().ok().cloned();
        fresh
    }
}

/// A kernel takes connections for a process that hangs, and so does what stands between: a node that is there says so at
/// once. To one whose connection ended, or could not be made, it must also get through.
async fn connect(trust: Option<&Arc<Trust>>, address: &str, is_doubtful: bool) -> io::Result<FrameClient> {
    let patience = Duration::from_millis(FIRST_WORD_MS);
    // Ends also if whoever asks goes away meanwhile: nobody else knows of this connection.
    let unused = Unused(Some(FrameClient::connect(trust, address, patience).await?));
    match unused.is_answered(patience, is_doubtful).await {
        true => Ok(unused.take()),
        false => Err(ErrorKind::TimedOut.into()),
    }
}

/// A connection that is in nobody's hands yet: it ends with this.
struct Unused(Option<FrameClient>);

impl Unused {
    async fn is_answered(&self, within: Duration, is_doubtful: bool) -> bool {
        match &self.0 {
            Some(client) => client.is_answered(within, if is_doubtful { 2 } else { 1 }).await,
            None => false,
        }
    }

    fn take(mut self) -> FrameClient {
        self.0.take().expect("taken once")
    }
}

impl Drop for Unused {
    fn drop(&mut self) {
        if let Some(client) = &self.0 {
            client.abandon();
        }
    }
}
