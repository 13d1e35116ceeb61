//! When a client is heard: not while it owes what it used, and its first use of a kind behind those of others.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use service::connection::{ReadError, peek};
use tokio::io::{AsyncRead, ReadBuf};
use types::limits::KAFKA_FRAME_BYTES_MAX;
use wire::kafka::Offered;

use super::login::flow_of;
use crate::caller::Caller;

/// The API key of the next request, as soon as it is there; `None` if no request of that length is.
pub async fn peek_key<R: AsyncRead + Unpin>(read: &mut R, buffer: &mut BytesMut) -> Result<Option<i16>, ReadError> {
    let length = peek(read, buffer, 4).await?.and_then(|first| Some(u32::from_be_bytes(first.try_into().ok()?)));
    if !length.is_some_and(|length| (2..=KAFKA_FRAME_BYTES_MAX as u32).contains(&length)) {
        return Ok(None);
    }
    // After the length.
    let first = peek(read, buffer, 6).await?;
    Ok(first.and_then(|first| first.get(4..6)).and_then(|key| Some(i16::from_be_bytes(key.try_into().ok()?))))
}

/// Until what a caller used is paid for; looks again each second, since limits change.
pub async fn rest(caller: &Caller) {
    while let Some(left) = Some(caller.toll.rest()).filter(|left| !left.is_zero()) {
        tokio::time::sleep(left.min(Duration::from_secs(1))).await;
    }
}

/// How long a request waits before it is read: a connection's first of a kind, behind those of others.
pub fn first_wait(caller: &Caller, key: i16) -> Duration {
    let flow = Offered::of(key).and_then(|offered| flow_of(offered.key));
    flow.map_or(Duration::ZERO, |flow| caller.toll.first_wait(flow))
}

/// A socket that counts its reads: whether a slow request still moves.
pub struct Counted<R> {
    pub inner: R,
    pub reads: Arc<AtomicU64>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Counted<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_read(context, buffer);
        if result.is_ready() {
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}
