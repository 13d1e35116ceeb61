//! Connections to storage nodes, one per address, opened when needed and shared.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::Mutex;

use crate::connection::FrameClient;

const CONNECT: Duration = Duration::from_secs(2);

type Slot = Arc<Mutex<Option<FrameClient>>>;

/// See the module's text.
#[derive(Debug, Default, Clone)]
pub struct NodePool(Arc<DashMap<String, Slot>>);

impl NodePool {
    /// The open connection to `address`, or a new one.
    pub async fn get(&self, address: &str) -> io::Result<FrameClient> {
        let slot = match self.0.get(address) {
            Some(slot) => Arc::clone(&slot),
            None => Arc::clone(&self.0.entry(address.to_owned()).or_default()),
        };
        let mut client = slot.lock().await;
        if let Some(client) = client.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        let fresh = FrameClient::connect(address, CONNECT, |_| {}).await?;
        *client = Some(fresh.clone());
        Ok(fresh)
    }
}
