//! Ending on purpose: one signal that every task can wait for.

use tokio::sync::watch;

/// Tells tasks to end; cheap to clone.
#[derive(Debug, Clone)]
pub struct Drain(watch::Receiver<bool>);

/// Begins the drain when told, or when dropped.
#[derive(Debug)]
pub struct DrainHandle(watch::Sender<bool>);

/// A fresh pair.
pub fn channel() -> (DrainHandle, Drain) {
    let (sender, receiver) = watch::channel(false);
    (DrainHandle(sender), Drain(receiver))
}

impl DrainHandle {
    pub fn begin(&self) {
        self.0.send_replace(true);
    }
}

impl Drain {
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once the drain has begun.
    pub async fn begun(&mut self) {
        // An error means that the handle is gone, which is a drain as well.
        let _ = self.0.wait_for(|begun| *begun).await;
    }
}
