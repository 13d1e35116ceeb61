//! Framed connections on the data path.
//!
//! One task writes: it lets those that are ready add their frames, then hands all that is queued to the socket in
//! one vectored write. One task reads: each frame gets a buffer of its own, which travels to journal, peer and cache uncopied.

use std::collections::HashMap;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf};
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use types::limits::FRAME_BYTES_MAX;
use wire::frame::{Frame, Refusal};

use crate::alive::NodeReader;
use crate::trust::{Role, Stream, Trust, connect};

/// How often a writer lets others run before it writes, as long as each time brings it frames.
const YIELDS_MAX: usize = 4;
/// Most chunks of one vectored write.
const CHUNKS_MAX: usize = 64;
/// Frames up to this size are read through a shared buffer, larger ones straight into their own.
const READ_BUFFER_BYTES: usize = 64 * 1024;

type Chunks = (Bytes, Option<Bytes>);

/// The sending side of a connection; cheap to clone. Sending to a closed connection does nothing: whoever
/// waits for an answer learns it from the connection's end.
#[derive(Debug, Clone)]
pub struct FrameSender {
    queue: mpsc::UnboundedSender<Chunks>,
    writing: AbortHandle,
}

impl FrameSender {
    pub fn send(&self, frame: &Frame, correlation: u64) {
        let _ = self.queue.send(frame.encode(correlation));
    }

    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Ends the connection with what is queued: whoever it was for does not take it, and should not later.
    pub fn abandon(&self) {
        self.writing.abort();
    }
}

/// Splits a socket: a sender with its writing task, and the reading side.
pub fn start(stream: impl Into<Stream>) -> (FrameSender, FrameReader) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let (half, writing) = match stream.into() {
        Stream::Plain(stream) => {
            let _ = stream.set_nodelay(true);
            let (read, write) = stream.into_split();
            (Half::Plain(read), tokio::spawn(write_frames(write, receiver)))
        }
        stream @ Stream::Tls(_) => {
            let (read, write) = tokio::io::split(stream);
            (Half::Tls(read), tokio::spawn(write_frames(write, receiver)))
        }
    };
    let (read, writing) = (Counted { half, reads: Arc::default() }, writing.abort_handle());
    (FrameSender { queue: sender, writing }, FrameReader { read, buffer: BytesMut::with_capacity(READ_BUFFER_BYTES) })
}

async fn write_frames<W: AsyncWrite + Unpin>(mut socket: W, mut queue: mpsc::UnboundedReceiver<Chunks>) {
    let mut frames = Vec::with_capacity(CHUNKS_MAX);
    let mut chunks: Vec<Bytes> = Vec::with_capacity(2 * CHUNKS_MAX);
    while queue.recv_many(&mut frames, CHUNKS_MAX).await > 0 {
        // Whoever is ready now may have something for this connection too: one system call for all of it.
        for _ in 0..YIELDS_MAX {
            let before = frames.len();
            tokio::task::yield_now().await;
            while frames.len() < CHUNKS_MAX
                && let Ok(frame) = queue.try_recv()
            {
                frames.push(frame);
            }
            if frames.len() == before || frames.len() == CHUNKS_MAX {
                break;
            }
        }
        for (head, tail) in frames.drain(..) {
            chunks.push(head);
            chunks.extend(tail);
        }
        if write_all(&mut socket, &mut chunks).await.is_err() {
            return;
        }
    }
    let _ = socket.shutdown().await;
}

/// Writes all chunks with as few system calls as the socket allows, and flushes: TLS keeps what the socket did not take.
/// Leaves `chunks` empty.
pub async fn write_all<W: AsyncWrite + Unpin>(socket: &mut W, chunks: &mut Vec<Bytes>) -> std::io::Result<()> {
    // Small neighbours are joined: a system call costs more than copying a few hundred bytes.
    let mut at = 0;
    while at < chunks.len() {
        let slices: Vec<IoSlice<'_>> = chunks[at..].iter().take(CHUNKS_MAX).map(|c| IoSlice::new(c)).collect();
        let mut written = socket.write_vectored(&slices).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        while at < chunks.len() && written >= chunks[at].len() {
            written -= chunks[at].len();
            at += 1;
        }
        if written > 0 {
            chunks[at].advance(written);
        }
    }
    chunks.clear();
    socket.flush().await
}

/// The receiving side.
#[derive(Debug)]
pub struct FrameReader {
    read: Counted,
    buffer: BytesMut,
}

/// The reading half of a socket; counts what arrives, so that others see whether anything does.
#[derive(Debug)]
struct Counted {
    half: Half,
    reads: Arc<AtomicU64>,
}

enum Half {
    Plain(OwnedReadHalf),
    Tls(ReadHalf<Stream>),
}

impl std::fmt::Debug for Half {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Plain(_)) { "Plain" } else { "Tls" })
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let result = match &mut self.half {
            Half::Plain(half) => Pin::new(half).poll_read(cx, buf),
            Half::Tls(half) => Pin::new(half).poll_read(cx, buf),
        };
        if result.is_ready() {
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}

impl FrameReader {
    /// How often something arrived; moves while a frame is only half there, too.
    pub(crate) fn reads(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.read.reads)
    }

    /// The next frame; `None` at the end of the connection or at bytes that are no frame.
    pub async fn next(&mut self) -> Option<(u64, Frame)> {
        let bytes = read_length_prefixed(&mut self.read, &mut self.buffer, FRAME_BYTES_MAX).await.ok().flatten()?;
        match Frame::decode(bytes) {
            Ok(frame) => Some(frame),
            Err(error) => {
                tracing::warn!(%error, "a peer sent what is no frame");
                None
            }
        }
    }
}

/// Why a length-prefixed message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("a message of {0} bytes is over the limit")]
    TooLarge(u64),
}

/// Reads a u32 length and that many bytes; `None` at a clean end. Memory grows with the bytes that arrive, not
/// with the length that was claimed.
pub async fn read_length_prefixed<R: AsyncReadExt + Unpin>(
    read: &mut R,
    buffer: &mut BytesMut,
    bytes_max: usize,
) -> Result<Option<Bytes>, ReadError> {
    while buffer.len() < 4 {
        if read_some(read, buffer, READ_BUFFER_BYTES).await? == 0 {
            return if buffer.is_empty() {
                Ok(None)
            } else {
                Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into())
            };
        }
    }
    let length = u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]) as usize;
    if length > bytes_max {
        return Err(ReadError::TooLarge(length as u64));
    }
    if buffer.len() >= 4 + length {
        buffer.advance(4);
        return Ok(Some(buffer.split_to(length).freeze()));
    }
    if length <= READ_BUFFER_BYTES / 2 {
        while buffer.len() < 4 + length {
            if read_some(read, buffer, READ_BUFFER_BYTES).await? == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
        }
        buffer.advance(4);
        return Ok(Some(buffer.split_to(length).freeze()));
    }
    // A large message gets a buffer of exactly its size, grown in steps of at most 1 MiB.
    buffer.advance(4);
    let mut whole = BytesMut::with_capacity(length.min(1 << 20));
    whole.extend_from_slice(buffer);
    buffer.clear();
    while whole.len() < length {
        let left = length - whole.len();
        if whole.capacity() == whole.len() {
            whole.reserve(left.min(whole.len().max(1 << 20)));
        }
        let n = (&mut *read).take(left as u64).read_buf(&mut whole).await?;
        if n == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
    }
    Ok(Some(whole.freeze()))
}

/// The first bytes of what comes next, as soon as so many are there; they stay in the buffer. `None`: it ended before.
pub async fn peek<'a, R: AsyncReadExt + Unpin>(
    read: &mut R,
    buffer: &'a mut BytesMut,
    bytes: usize,
) -> Result<Option<&'a [u8]>, ReadError> {
    while buffer.len() < bytes {
        if read_some(read, buffer, READ_BUFFER_BYTES).await? == 0 {
            return Ok(None);
        }
    }
    Ok(buffer.get(..bytes))
}

async fn read_some<R: AsyncReadExt + Unpin>(
    read: &mut R,
    buffer: &mut BytesMut,
    bytes: usize,
) -> std::io::Result<usize> {
    if buffer.capacity() - buffer.len() < bytes / 4 {
        buffer.reserve(bytes);
    }
    read.read_buf(buffer).await
}

/// What a node said by itself on a connection.
#[derive(Debug, Default)]
struct Keepalives {
    count: u64,
    is_over: bool,
}

type OnAnswer = Box<dyn FnOnce(Option<Frame>) + Send>;

/// A connection on which we ask: each question's answer goes to its own callback, `None` if the connection ends.
#[derive(Clone)]
pub struct FrameClient {
    sender: FrameSender,
    shared: Arc<ClientShared>,
}

struct ClientShared {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, OnAnswer>>,
    is_closed: AtomicBool,
    keepalives: watch::Sender<Keepalives>,
    reading: OnceLock<AbortHandle>,
}

impl std::fmt::Debug for FrameClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameClient").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl FrameClient {
    /// Connects to a storage node.
    pub async fn connect(trust: Option<&Arc<Trust>>, address: &str, timeout: Duration) -> std::io::Result<Self> {
        let connecting = tokio::time::timeout(timeout, connect(trust, Role::StorageNode, None, address));
        let stream = connecting.await.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        let (sender, reader) = start(stream);
        let mut reader = NodeReader::new(reader, sender.clone(), 0);
        let shared = Arc::new(ClientShared {
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
            is_closed: AtomicBool::new(false),
            keepalives: watch::channel(Keepalives::default()).0,
            reading: OnceLock::new(),
        });
        let client = Self { sender, shared: Arc::clone(&shared) };
        let reading = tokio::spawn(async move {
            while let Some((correlation, frame)) = reader.next().await {
                let waiting = shared.waiting.lock().expect("no panic holds this lock").remove(&correlation);
                match waiting {
                    Some(answer) => answer(Some(frame)),
                    None => shared.keepalives.send_modify(|keepalives| keepalives.count += 1),
                }
            }
            let left = {
                let mut waiting = shared.waiting.lock().expect("no panic holds this lock");
                shared.is_closed.store(true, Ordering::Release);
                std::mem::take(&mut *waiting)
            };
            left.into_values().for_each(|answer| answer(None));
            shared.keepalives.send_modify(|keepalives| keepalives.is_over = true);
        });
        let _ = client.shared.reading.set(reading.abort_handle());
        Ok(client)
    }

    /// Ends a connection that nobody uses yet.
    pub fn abandon(&self) {
        if let Some(reading) = self.shared.reading.get() {
            reading.abort();
        }
    }

    /// Asks for a keepalive; whether the node has sent so many within this time. One begins each connection.
    pub async fn is_answered(&self, within: Duration, count: u64) -> bool {
        self.tell(&Frame::Room { refused: None });
        let mut keepalives = self.shared.keepalives.subscribe();
        let heard = tokio::time::timeout(
            within,
            keepalives.wait_for(|keepalives| keepalives.count >= count || keepalives.is_over),
        )
        .await;
        heard.is_ok_and(|keepalives| keepalives.is_ok_and(|keepalives| !keepalives.is_over))
    }

    pub fn is_closed(&self) -> bool {
        self.shared.is_closed.load(Ordering::Acquire) || self.sender.is_closed()
    }

    /// Sends without asking.
    pub fn tell(&self, frame: &Frame) {
        self.sender.send(frame, 0);
    }

    /// Asks; `answer` is called exactly once, on the connection's reading task.
    pub fn ask_with(&self, frame: &Frame, answer: impl FnOnce(Option<Frame>) + Send + 'static) {
        let correlation = self.shared.next.fetch_add(1, Ordering::Relaxed);
        {
            let mut waiting = self.shared.waiting.lock().expect("no panic holds this lock");
            if !self.is_closed() {
                waiting.insert(correlation, Box::new(answer));
                drop(waiting);
                return self.sender.send(frame, correlation);
            }
        }
        answer(None);
    }

    /// Asks and waits; `None` when the connection ends or `timeout` passes.
    pub async fn ask(&self, frame: &Frame, timeout: Duration) -> Option<Frame> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.ask_with(frame, move |answer| {
            let _ = sender.send(answer);
        });
        tokio::time::timeout(timeout, receiver).await.ok()?.ok()?
    }
}

/// The refusal for a connection that ended before it answered.
pub fn connection_lost() -> Refusal {
    Refusal {
        code: types::ErrorCode::NotLeader,
        message: "the connection to the storage node ended before it answered".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_claimed_length_allocates_nothing() {
        let mut input: &[u8] = &[0x03, 0xff, 0xff, 0xff, 1, 2, 3];
        let mut buffer = BytesMut::new();
        let result = read_length_prefixed(&mut input, &mut buffer, FRAME_BYTES_MAX).await;
        assert!(result.is_err());
        let mut input: &[u8] = &[0x7f, 0xff, 0xff, 0xff];
        let result = read_length_prefixed(&mut input, &mut BytesMut::new(), FRAME_BYTES_MAX).await;
        assert!(matches!(result, Err(ReadError::TooLarge(_))));
    }

    #[tokio::test]
    async fn messages_of_all_sizes_come_in_order() {
        let sizes = [0_usize, 1, 100, 40_000, 70_000, 3_000_000, 5];
        let mut input = Vec::new();
        for (i, size) in sizes.iter().enumerate() {
            input.extend_from_slice(&(*size as u32).to_be_bytes());
            input.extend(std::iter::repeat_n(i as u8, *size));
        }
        let mut input = &input[..];
        let mut buffer = BytesMut::new();
        for (i, size) in sizes.iter().enumerate() {
            let message = read_length_prefixed(&mut input, &mut buffer, FRAME_BYTES_MAX).await.expect("whole");
            let message = message.expect("a message");
            assert_eq!(message.len(), *size);
            assert!(message.iter().all(|byte| *byte == i as u8));
        }
        assert!(read_length_prefixed(&mut input, &mut buffer, 10).await.expect("a clean end").is_none());
    }
}
