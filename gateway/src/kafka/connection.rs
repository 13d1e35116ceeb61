//! One Kafka connection: from its first byte, through its requests in turn, to whatever ends it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use service::certificate::{Validity, ended, uris_of};
use service::connection::{ReadError, read_length_prefixed, write_all};
use service::drain::Drain;
use service::newest::Seen;
use service::places::{Place, Places};
use service::proxy::Proxies;
use service::tls::Tls;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use types::limits::{CONNECTION_IDLE_MS, KAFKA_FRAME_BYTES_MAX};
use wire::kafka::ApiKey;

use super::login::{Gate, Say};
use super::pace::{Counted, first_wait, peek_key, rest};
use super::{Pending, dispatch};
use crate::Gateway;
use crate::access::{Origin, sasl};

/// Requests of one connection that may be under way; more are read only as these are answered.
const PIPELINE_MAX: usize = 64;

/// Bytes of a request that brings no records.
const PLAIN_FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Connections of one listener that have not logged in, in all and of one address: more are closed at once.
const GUESTS_MAX: usize = 8_192;
const GUESTS_PER_ADDRESS_MAX: usize = 1_024;

/// How long a client may take to log in.
const LOGIN_MAX: Duration = Duration::from_secs(30);
/// How long a connection stays after a failed login.
const FAILED_LOGIN_WAIT: Duration = Duration::from_millis(100);

/// How it is connected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connection {
    /// At the other end; before a balancer, if there is one.
    pub peer: SocketAddr,
    /// With this gateway: such clients are shown addresses that speak TLS.
    pub is_tls: bool,
}

/// Accepts connections until the drain begins.
pub async fn serve(
    gateway: Arc<Gateway>,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    proxies: Proxies,
    mut drain: Drain,
) {
    let places = Places::new(GUESTS_MAX, GUESTS_PER_ADDRESS_MAX);
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.begun() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let gateway = Arc::clone(&gateway);
                let (drain, tls, proxies, places) = (drain.clone(), tls.clone(), proxies.clone(), Arc::clone(&places));
                tokio::spawn(async move {
                    gateway.metrics.kafka_connections.add(1);
                    let _ = stream.set_nodelay(true);
                    if let Err(error) = begin_connection(&gateway, stream, peer, tls, &proxies, &places, drain).await {
                        tracing::debug!(%peer, %error, "no connection came about with a Kafka client");
                    }
                    gateway.metrics.kafka_connections.sub(1);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a Kafka connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn begin_connection(
    gateway: &Arc<Gateway>,
    mut stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<Tls>>,
    proxies: &Proxies,
    places: &Arc<Places>,
    drain: Drain,
) -> std::io::Result<()> {
    let source = proxies.source(&mut stream, peer).await?;
    let guest = places.take(source.ip()).ok_or_else(|| std::io::Error::other("too many that have not logged in"))?;
    let Some(tls) = tls else {
        let (read, write) = stream.into_split();
        let connection = Connection { peer: source.address, is_tls: false };
        let gate = Gate::new(gateway, Origin::new(source, false), None);
        serve_connection(gateway, connection, (gate, None), guest, read, write, drain).await;
        return Ok(());
    };
    let stream = tls.accept(stream, source.ip()).await?;
    let server_name = stream.get_ref().1.server_name().map(str::to_owned);
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let (uris, validity) = (uris_of(chain.first()), tls.validity(chain));
    let connection = Connection { peer: source.address, is_tls: true };
    let mut gate = Gate::new(gateway, Origin::new(source, true), server_name);
    gate.enter_by_certificate(&uris, validity.ends_ms());
    let (read, write) = tokio::io::split(stream);
    serve_connection(gateway, connection, (gate, Some(validity)), guest, read, write, drain).await;
    Ok(())
}

async fn serve_connection<R, W>(
    gateway: &Arc<Gateway>,
    connection: Connection,
    // With what its client's certificate is good for, where there is TLS.
    (mut gate, mut validity): (Gate, Option<Validity>),
    guest: Place,
    read: R,
    write: W,
    mut drain: Drain,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let peer = connection.peer;
    let mut guest = Some(guest);
    let (pipeline, answers) = mpsc::channel(PIPELINE_MAX);
    let writer = tokio::spawn(write_answers(write, answers));
    let mut identities = gateway.access.changes();
    let deadline = tokio::time::Instant::now() + LOGIN_MAX;
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    let mut read = Counted { inner: read, reads: Arc::default() };
    let reads = Arc::clone(&read.reads);
    let mut looks = tokio::time::interval(Duration::from_millis(CONNECTION_IDLE_MS / 2));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks.tick().await;
    loop {
        // Three looks in a row at which not a byte more had come: the whole time has passed since the last.
        let (mut known, mut silences) = (reads.load(Ordering::Relaxed), 0);
        // Whoever may send large requests has said who it is.
        if !gate.is_closed() {
            drop(guest.take());
        }
        let guest_max = gate.is_closed().then_some(sasl::MESSAGE_BYTES_MAX);
        let caller = gate.caller();
        let reading = async {
            if let Some(caller) = &caller {
                // Who has used up a quota is not heard for a while; what it sends waits where it is (KIP-219).
                rest(caller).await;
            }
            let key = peek_key(&mut read, &mut buffer).await?;
            if let (Some(caller), Some(key)) = (&caller, key) {
                tokio::time::sleep(first_wait(caller, key)).await;
            }
            let bytes_max = guest_max.unwrap_or_else(|| bytes_max(key));
            let frame = read_length_prefixed(&mut read, &mut buffer, bytes_max).await;
            if let Some(caller) = &caller {
                // Of what was answered meanwhile, too.
                rest(caller).await;
            }
            frame
        };
        tokio::pin!(reading);
        let frame = loop {
            tokio::select! {
                biased;
                () = drain.begun() => break None,
                // Whoever writes the answers is gone: so is the connection, whichever half is left of it.
                () = pipeline.closed() => break None,
                why = over(&gate, deadline, &mut identities, &mut validity) => {
                    end(&writer, peer, why);
                    break None;
                }
                frame = &mut reading => break Some(frame),
                _ = looks.tick() => {
                    let now = reads.load(Ordering::Relaxed);
                    let rests = caller.as_ref().is_some_and(|caller| !caller.toll.rest().is_zero());
                    silences = if now == known && !rests { silences + 1 } else { 0 };
                    known = now;
                    if silences >= 3 {
                        tracing::debug!(%peer, "a Kafka connection was silent for too long; closing");
                        break None;
                    }
                }
            }
        };
        let Some(frame) = frame else { break };
        let frame = match frame {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(ReadError::TooLarge(bytes)) => {
                // No header to answer to: what follows the length cannot be told apart from data.
                tracing::warn!(%peer, bytes, "a Kafka request is larger than it may be; closing");
                break;
            }
            Err(ReadError::Io(error)) => {
                tracing::debug!(%peer, %error, "a Kafka connection ended");
                break;
            }
        };
        gateway.metrics.kafka_requests.add(1);
        // A login may have to wait for an issuer.
        let until = if gate.is_closed() { deadline } else { tokio::time::Instant::now() + LOGIN_MAX };
        let said = tokio::select! {
            biased;
            () = drain.begun() => break,
            said = tokio::time::timeout_at(until, dispatch(&mut gate, &connection, frame)) => said,
        };
        let Ok(said) = said else {
            tracing::info!(%peer, "a login took too long; closing a Kafka connection");
            break;
        };
        let (pending, is_last) = match said {
            Ok(Say::Answer(pending)) => (pending, false),
            Ok(Say::AnswerAndClose(pending)) => (pending, true),
            Ok(Say::Close(why)) => {
                if gate.is_gone() {
                    end(&writer, peer, why);
                } else {
                    tracing::info!(%peer, why, "closing a Kafka connection");
                }
                break;
            }
            Err(error) => {
                tracing::warn!(%peer, %error, "a Kafka request cannot be read; closing");
                break;
            }
        };
        // As a rule there is room; while there is none the client is looked after all the same.
        let sent = match pipeline.try_send(pending) {
            Err(TrySendError::Full(pending)) => tokio::select! {
                biased;
                why = over(&gate, deadline, &mut identities, &mut validity) => {
                    end(&writer, peer, why);
                    break;
                }
                sent = pipeline.send(pending) => sent.is_ok(),
            },
            sent => sent.is_ok(),
        };
        if is_last {
            // Guessing has its price.
            tokio::time::sleep(FAILED_LOGIN_WAIT).await;
        }
        if is_last || !sent {
            break;
        }
    }
    drop(pipeline);
    if !gate.is_closed() {
        let _ = writer.await;
        return;
    }
    // Who has not logged in and does not read what it asked for is not waited for.
    let stop = writer.abort_handle();
    if tokio::time::timeout(FAILED_LOGIN_WAIT, writer).await.is_err() {
        stop.abort();
    }
}

/// Of a request by its API key.
fn bytes_max(key: Option<i16>) -> usize {
    if key == Some(ApiKey::Produce as i16) { KAFKA_FRAME_BYTES_MAX } else { PLAIN_FRAME_BYTES_MAX }
}

/// What waits for its answer is given up: nobody is there any more who may have it.
fn end(writer: &JoinHandle<()>, peer: SocketAddr, why: &str) {
    tracing::info!(%peer, why, "closing a Kafka connection");
    writer.abort();
}

/// Returns why a connection must end, whatever its client does; as long as it need not, never.
async fn over(
    gate: &Gate,
    deadline: tokio::time::Instant,
    identities: &mut watch::Receiver<Seen>,
    validity: &mut Option<Validity>,
) -> &'static str {
    let revoked = async {
        match validity {
            Some(validity) => validity.revoked().await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(revoked);
    loop {
        tokio::select! {
            biased;
            changed = identities.changed() => {
                if changed.is_err() || gate.is_gone() {
                    return "its credentials were revoked";
                }
            }
            () = &mut revoked => return "its certificate was revoked",
            () = ended(gate.expires_ms()) => return "its credentials have ended",
            () = tokio::time::sleep_until(deadline), if gate.is_closed() => return "it did not log in in time",
        }
    }
}

/// Writes answers in order; what is ready at one wake-up goes out together.
async fn write_answers<W: AsyncWrite + Unpin>(mut socket: W, mut answers: mpsc::Receiver<Pending>) {
    let mut chunks = Vec::new();
    while let Some(pending) = answers.recv().await {
        chunks.extend(pending.await.into_iter().flatten());
        while chunks.len() < 64
            && let Ok(mut pending) = answers.try_recv()
        {
            match futures_ready(&mut pending) {
                Some(answer) => chunks.extend(answer.into_iter().flatten()),
                None => {
                    if write_all(&mut socket, &mut chunks).await.is_err() {
                        return;
                    }
                    chunks.extend(pending.await.into_iter().flatten());
                }
            }
        }
        if write_all(&mut socket, &mut chunks).await.is_err() {
            return;
        }
    }
    let _ = socket.shutdown().await;
}

/// The answer if it is there already.
fn futures_ready(pending: &mut Pending) -> Option<Option<Vec<Bytes>>> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match pending.as_mut().poll(&mut context) {
        std::task::Poll::Ready(answer) => Some(answer),
        std::task::Poll::Pending => None,
    }
}
