//! What every request meets before its handler, and every answer after it.
//!
//! The body is taken whole, within its limit and its time, so that handlers see bytes; what the framework itself
//! refuses (a path, a query, a method) becomes a problem document like every other error.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use types::ErrorCode;
use types::limits::{HTTP_BODY_BYTES_MAX, HTTP_BODY_MS_MAX};
use wire::frame::Refusal;

use super::problem::Problem;
use crate::Gateway;
use crate::error::refuse;

/// Most bytes of the framework's own error texts.
const TEXT_BYTES_MAX: usize = 4096;

pub async fn guard(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    gateway.metrics.http_requests.add(1);
    let (parts, body) = request.into_parts();
    let body = match take_body(&parts.headers, body).await {
        Ok(body) => body,
        Err(refusal) => {
            let mut response = Problem(refusal).into_response();
            // What is left of the body is not read.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
                response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
            return response;
        }
    };
    as_problem(next.run(Request::from_parts(parts, body)).await).await
}

async fn take_body(headers: &HeaderMap, body: Body) -> Result<Body, Refusal> {
    let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?"));
    if let Some(encoding) = encoding.filter(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        let message = format!("content encoding `{encoding}` is not understood: send the body as it is");
        return Err(refuse(ErrorCode::UnsupportedMediaType, message));
    }
    let too_large =
        || refuse(ErrorCode::BodyTooLarge, format!("a request body has at most {HTTP_BODY_BYTES_MAX} bytes"));
    // Before a byte of it is asked for.
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > HTTP_BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let reading = to_bytes(body, HTTP_BODY_BYTES_MAX);
    match tokio::time::timeout(Duration::from_millis(HTTP_BODY_MS_MAX), reading).await {
        Ok(Ok(bytes)) => Ok(Body::from(bytes)),
        Ok(Err(error)) => {
            let is_length =
                std::error::Error::source(&error).is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>());
            Err(if is_length {
                too_large()
            } else {
                refuse(ErrorCode::InvalidRequest, format!("the body cannot be read: {error}"))
            })
        }
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
