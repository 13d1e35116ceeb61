//! HTTP: one router for HTTP/1.1 and HTTP/2, `/v1`.

mod groups;
mod guard;
mod kafka_metrics;
mod operate;
mod problem;
mod produce;
mod read;
mod record;
mod topics;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use types::ErrorCode;
use types::limits::HTTP_BODY_BYTES_MAX;

use crate::Gateway;
use crate::error::refuse;
use crate::http::problem::Problem;

pub fn routes(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/v1/topics", get(topics::list).post(topics::create))
        .route("/v1/topics/{topic}", get(topics::describe).patch(topics::alter).delete(topics::delete))
        .route("/v1/topics/{topic}/records", post(produce::produce))
        .route("/v1/topics/{topic}/partitions/{partition}/records", get(read::read))
        .route("/v1/topics/{topic}/partitions/{partition}/trim", post(operate::trim))
        .route("/v1/topics/{topic}/partitions/{partition}/move", post(operate::move_partition))
        .route("/v1/topics/{topic}/partitions/{partition}/accept-loss", post(operate::accept_loss))
        .route("/v1/groups", get(groups::list))
        .route("/v1/groups/{group}", get(groups::describe).delete(groups::delete))
        .route("/v1/groups/{group}/reset", post(groups::reset))
        .route("/metrics/kafka", get(kafka_metrics::metrics))
        .route("/v1/status", get(operate::status))
        .route("/v1/nodes/{node}/drain", post(operate::drain))
        .route("/v1/nodes/{node}/undrain", post(operate::undrain))
        .fallback(|| async { Problem(refuse(ErrorCode::NotFound, "there is nothing at this path")).into_response() })
        .layer(middleware::from_fn_with_state(Arc::clone(&gateway), guard::guard))
        .layer(DefaultBodyLimit::max(HTTP_BODY_BYTES_MAX))
        .with_state(gateway)
}
