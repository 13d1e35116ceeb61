//! Errors as problem details (RFC 9457), with `code`, `retryable` and `side_effects`.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use service::api::ApiError;
use types::{Retry, SideEffects};
use wire::frame::Refusal;

use crate::error::{answer_of, from_api};

/// A refusal on its way to an HTTP client.
#[derive(Debug)]
pub struct Problem(pub Refusal);

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        Self(from_api(error))
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

/// The problem as JSON.
pub fn problem(refusal: &Refusal) -> Value {
    let (status, _) = answer_of(refusal.code);
    json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("error"),
        "status": status.as_u16(),
        "detail": refusal.message,
        "code": refusal.code.name(),
        // What is not there may come: Kafka's clients look again. Over HTTP a 404 is an answer.
        "retryable": refusal.code.retry() == Retry::Yes && status != StatusCode::NOT_FOUND,
        "side_effects": match refusal.code.side_effects() {
            SideEffects::None => "none",
            SideEffects::Unknown => "unknown",
        },
    })
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, _) = answer_of(self.0.code);
        let body = problem(&self.0).to_string();
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}
