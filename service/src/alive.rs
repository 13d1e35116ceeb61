//! Whether the other end of a connection is there: a machine that lost its power, or its network, closes nothing.
//!
//! A storage node begins each connection with a keepalive ([`Frame::Room`]). Whoever gets it, and asks there, sends
//! keepalives every `ALIVE_MS` from then on; the node sends its next ones for as long as it hears something. So
//! silence means that one direction fails, or the process does. A node that does not begin with a keepalive (an older
//! one) is never taken for silent, and is sent none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};
use types::limits::{ALIVE_MS, SILENT_MS};
use wire::frame::Frame;

use crate::connection::{FrameReader, FrameSender};

/// For how long nothing has come on a connection.
#[derive(Debug)]
struct Silence {
    ticks: Interval,
    reads: Arc<AtomicU64>,
    reads_before: u64,
    /// Ticks since something arrived.
    count: u64,
}

impl Silence {
    fn of(reader: &FrameReader, count: u64) -> Self {
        let mut ticks = tokio::time::interval(Duration::from_millis(ALIVE_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, reads: reader.reads(), reads_before: 0, count }
    }

    /// Waits for the next tick; whether nothing has come for `SILENT_MS` then.
    async fn tick(&mut self) -> bool {
        self.ticks.tick().await;
        let reads = self.reads.load(Ordering::Relaxed);
        let has_come = std::mem::replace(&mut self.reads_before, reads) != reads;
        self.count = if has_come { 0 } else { self.count + 1 };
        self.count > SILENT_MS / ALIVE_MS
    }
}

/// Reads what a storage node sends, until its connection ends or it falls silent.
#[derive(Debug)]
pub struct NodeReader {
    reader: FrameReader,
    sender: FrameSender,
    silence: Silence,
    /// Keepalives that the node may still send without sending them by itself: an older one answers a greeting with one.
    unsure: u32,
}

impl NodeReader {
    /// `greetings`: keepalives that even an older node would send on this connection.
    pub fn new(reader: FrameReader, sender: FrameSender, greetings: u32) -> Self {
        let silence = Silence::of(&reader, 0);
        Self { reader, sender, silence, unsure: greetings + 1 }
    }

    /// The next frame; `None` at the connection's end.
    pub async fn next(&mut self) -> Option<(u64, Frame)> {
        let next = {
            let mut next = std::pin::pin!(self.reader.next());
            loop {
                let is_silent = tokio::select! {
                    biased;
                    next = &mut next => break next,
                    is_silent = self.silence.tick() => is_silent,
                };
                if self.unsure == 0 {
                    if is_silent {
                        tracing::warn!("a storage node fell silent; its connection is given up");
                        self.sender.abandon();
                        return None;
                    }
                    self.sender.send(&Frame::Room { refused: None }, 0);
                }
            }
        };
        self.unsure = self.unsure.saturating_sub(u32::from(matches!(next, Some((_, Frame::Room { .. })))));
        next
    }
}

/// The other side: a storage node sends keepalives on a connection for as long as it hears somebody there.
#[derive(Debug)]
pub struct Keepalives(Silence);

impl Keepalives {
    pub fn new(reader: &FrameReader) -> Self {
        // As if it had been silent for long: one is sent unasked.
        Self(Silence::of(reader, SILENT_MS / ALIVE_MS - 1))
    }

    /// The next frame; meanwhile `send` is called again and again, until it says that nothing is to be sent: the
    /// connection ends then.
    pub async fn next(&mut self, reader: &mut FrameReader, send: impl Fn() -> bool) -> Option<(u64, Frame)> {
        let mut next = std::pin::pin!(reader.next());
        loop {
            let is_silent = tokio::select! {
                biased;
                next = &mut next => return next,
                is_silent = self.0.tick() => is_silent,
            };
            if !is_silent && !send() {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::connection;

    /// A node that sends keepalives for as long as `speaks`, then hangs, its connection open; and who reads from it.
    async fn pair(speaks: Option<Duration>) -> NodeReader {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        tokio::spawn(async move {
            let (sender, mut reader) = connection::start(listener.accept().await.expect("a connection").0);
            let mut keepalives = Keepalives::new(&reader);
            let send = || {
                sender.send(&Frame::Room { refused: None }, 0);
                true
            };
            if let Some(speaks) = speaks {
                let speaking = async { while keepalives.next(&mut reader, send).await.is_some() {} };
                let _ = tokio::time::timeout(speaks, speaking).await;
            }
            std::future::pending::<()>().await;
        });
        let (sender, reader) = connection::start(TcpStream::connect(address).await.expect("a connection"));
        NodeReader::new(reader, sender, 0)
    }

    async fn ends_within(reader: &mut NodeReader, ms: u64) -> bool {
        let ending = async { while reader.next().await.is_some() {} };
        tokio::time::timeout(Duration::from_millis(ms), ending).await.is_ok()
    }

    #[tokio::test]
    async fn a_node_that_hangs_is_given_up_and_one_that_speaks_is_not() {
        let mut reader = pair(Some(Duration::from_millis(1_500))).await;
        assert!(!ends_within(&mut reader, 1_200).await, "it speaks");
        assert!(ends_within(&mut reader, 10_000).await, "it hangs");
    }

    #[tokio::test]
    async fn a_node_that_sends_no_keepalives_is_never_taken_for_silent() {
        assert!(!ends_within(&mut pair(None).await, 1_500).await);
    }
}
