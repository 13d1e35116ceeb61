//! What every request meets before its handler, and every answer after it.
//!
//! The body is taken whole, within its limit and its time, so that handlers see bytes; what the framework itself
//! refuses (a path, a query, a method) becomes a problem document like every other error.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use types::ErrorCode;
use types::limits::{HTTP_BODY_BYTES_MAX, HTTP_BODY_MS_MAX};
use wire::frame::Refusal;

use super::bodies;
use super::login;
use super::problem::Problem;
use super::quotas;
use crate::Gateway;
use crate::error::refuse;

/// Answers that are no larger are not counted.
const SMALL_ANSWER_BYTES: u64 = 64 * 1024;
/// How long a login that failed is answered after.
const FAILED_LOGIN_WAIT: Duration = Duration::from_millis(100);
/// Most bytes of the framework's own error texts.
const TEXT_BYTES_MAX: usize = 4096;

pub async fn guard(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    gateway.metrics.http_requests.add(1);
    let (mut parts, body) = request.into_parts();
    let taken = async {
        check_host(&parts.headers, parts.version)?;
        let proof = login::begin(&gateway, &parts).await?;
        let mut held = gateway.bodies.begin(login::origin(&parts).address);
        let body = take_body(&parts.headers, parts.version, body, &mut held).await?;
        let caller = login::finish(&gateway, &parts, proof, &body).await?;
        Ok::<_, Refusal>((body, caller, held))
    };
    let (body, caller, _held) = match taken.await {
        Ok(taken) => taken,
        Err(refusal) => {
            if refusal.code == ErrorCode::LoginRequired && parts.headers.contains_key(header::AUTHORIZATION) {
                // Guessing has its price.
                tokio::time::sleep(FAILED_LOGIN_WAIT).await;
            }
            let mut response = Problem(refusal).into_response();
            // What is left of the body is not read.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            if response.status() == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(login::CHALLENGE));
            }
            if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
                response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
            return response;
        }
    };
    let flow = quotas::flow_of(&parts.method, parts.uri.path());
    // Whoever has used up a quota can still see to it.
    if !login::is_of_accounts(parts.uri.path())
        && let Err(bite) = quotas::begin(&caller, &parts.method, flow).await
    {
        let mut response = quotas::exceeded(&bite);
        quotas::tell(&caller, Some(bite.reading.flow), response.headers_mut());
        return response;
    }
    parts.extensions.insert(Arc::clone(&caller));
    let address = login::origin(&parts).address;
    let mut response = as_problem(next.run(Request::from_parts(parts, Body::from(body))).await).await;
    quotas::tell(&caller, flow, response.headers_mut());
    hold(&gateway, address, response)
}

/// An answer is in memory until its client has read it: that counts as well.
fn hold(gateway: &Gateway, address: IpAddr, response: Response) -> Response {
    let Some(bytes) = response.body().size_hint().exact().filter(|bytes| *bytes > SMALL_ANSWER_BYTES) else {
        return response;
    };
    let mut held = gateway.bodies.begin(address);
    match held.add(usize::try_from(bytes).unwrap_or(usize::MAX)) {
        Ok(()) => response.map(|body| Body::new(HeldBody { body, held: Arc::new(held) })),
        Err(refusal) => Problem(refusal).into_response(),
    }
}

/// A body whose bytes have their room until they are sent or given up.
struct HeldBody {
    body: Body,
    held: Arc<bodies::Body>,
}

/// Whoever sends keeps these, not the body that they came from.
struct HeldBytes {
    bytes: Bytes,
    _held: Arc<bodies::Body>,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let held = Arc::clone(&self.held);
        let hold = |bytes| Bytes::from_owner(HeldBytes { bytes, _held: held });
        Pin::new(&mut self.body).poll_frame(context).map_ok(|frame| frame.map_data(hold))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whose request it is must be clear to whoever passes it on, too (RFC 9112, 3.2).
fn check_host(headers: &HeaderMap, version: Version) -> Result<(), Refusal> {
    match headers.get_all(header::HOST).iter().count() {
        1 => Ok(()),
        // HTTP/2 has it elsewhere, and HTTP/1.0 knows none.
        0 if version != Version::HTTP_11 => Ok(()),
        _ => Err(refuse(ErrorCode::InvalidRequest, "a request has one `host`")),
    }
}

async fn take_body(
    headers: &HeaderMap,
    version: Version,
    mut body: Body,
    held: &mut bodies::Body,
) -> Result<Bytes, Refusal> {
    let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?"));
    if let Some(encoding) = encoding.filter(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        let message = format!("content encoding `{encoding}` is not understood: send the body as it is");
        return Err(refuse(ErrorCode::UnsupportedMediaType, message));
    }
    let too_large =
        || refuse(ErrorCode::BodyTooLarge, format!("a request body has at most {HTTP_BODY_BYTES_MAX} bytes"));
    // Before a byte of it is asked for. Over HTTP/2 an answer that comes before the end of the body is taken for a
    // broken stream by some clients: what is not absurdly long is read to its end.
    let bytes_max = if version == Version::HTTP_2 { 4 * HTTP_BODY_BYTES_MAX } else { HTTP_BODY_BYTES_MAX };
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > bytes_max as u64) {
        return Err(too_large());
    }
    let reading = async {
        // One chunk is passed on as it came; more are put together.
        let (mut whole, mut chunks, mut size) = (BytesMut::new(), 0, 0);
        let mut first = Bytes::new();
        while let Some(frame) = body.frame().await {
            let frame = frame
                .map_err(|error| refuse(ErrorCode::InvalidRequest, format!("the body cannot be read: {error}")))?;
            let Ok(chunk) = frame.into_data() else { continue };
            // What is read to its end alone is dropped at once.
            if size + chunk.len() <= HTTP_BODY_BYTES_MAX {
                held.add(chunk.len())?;
            }
            size += chunk.len();
            chunks += 1;
            if size > bytes_max {
                return Err(too_large());
            }
            match chunks {
                _ if size > HTTP_BODY_BYTES_MAX => whole = BytesMut::new(),
                1 => first = chunk,
                2 => {
                    whole.extend_from_slice(&first);
                    whole.extend_from_slice(&chunk);
                }
                _ => whole.extend_from_slice(&chunk),
            }
        }
        if size > HTTP_BODY_BYTES_MAX {
            return Err(too_large());
        }
        Ok(if chunks > 1 { whole.freeze() } else { first })
    };
    match tokio::time::timeout(Duration::from_millis(HTTP_BODY_MS_MAX), reading).await {
        Ok(bytes) => bytes,
        Err(_) => Err(refuse(ErrorCode::BodyTimedOut, format!("the body did not come within {HTTP_BODY_MS_MAX} ms"))),
    }
}

/// Turns the framework's own plain refusals into problem documents.
async fn as_problem(response: Response) -> Response {
    let is_plain =
        response.headers().get(header::CONTENT_TYPE).is_none_or(|value| value.as_bytes().starts_with(b"text/plain"));
    let code = match response.status() {
        StatusCode::METHOD_NOT_ALLOWED => ErrorCode::MethodNotAllowed,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ErrorCode::UnsupportedMediaType,
        status if status.is_client_error() => ErrorCode::InvalidRequest,
        _ => return response,
    };
    if !is_plain {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = to_bytes(body, TEXT_BYTES_MAX).await.unwrap_or_default();
    let mut message = String::from_utf8_lossy(&text).into_owned();
    if message.is_empty() {
        message = parts.status.canonical_reason().unwrap_or("refused").to_owned();
    }
    let mut problem = Problem(refuse(code, message)).into_response();
    if let Some(allow) = parts.headers.get(header::ALLOW) {
        problem.headers_mut().insert(header::ALLOW, allow.clone());
    }
    problem
}
