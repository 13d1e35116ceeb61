//! HTTP: one router for HTTP/1.1 and HTTP/2, `/v1`.

mod accounts;
pub mod bodies;
mod groups;
mod guard;
mod identities;
mod issuers;
mod kafka_metrics;
mod keys;
mod login;
mod operate;
mod problem;
mod produce;
mod quotas;
mod read;
mod record;
mod topics;
mod who;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::{delete, get, post, put};
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
        .route("/metrics", get(operate::metrics))
        .route("/v1/whoami", get(who::whoami))
        .route("/v1/decisions/{id}", get(who::why))
        .route("/v1/accounts", get(accounts::list).post(accounts::create))
        .route("/v1/accounts/{account}", get(accounts::show))
        .route("/v1/accounts/{account}/issuers", get(issuers::list).post(issuers::add))
        .route("/v1/accounts/{account}/issuers/{name}", delete(issuers::remove))
        .route("/v1/accounts/{account}/issuers/{name}/denied", get(issuers::denied).post(issuers::deny))
        .route("/v1/accounts/{account}/issuers/{name}/denied/{token}", delete(issuers::allow))
        .route("/v1/accounts/{account}/quota", get(quotas::show_account).put(quotas::set_account))
        .route("/v1/accounts/{account}/quota-profiles", get(quotas::profiles))
        .route("/v1/accounts/{account}/quota-profiles/{name}", put(quotas::put_profile))
        .route("/v1/accounts/{account}/{kind}/{name}/quota", get(quotas::show).put(quotas::set_of))
        .route("/v1/accounts/{account}/clusters", get(accounts::clusters).post(accounts::create_cluster))
        .route("/v1/accounts/{account}/clusters/{name}", delete(accounts::delete_cluster))
        .route(
            "/v1/accounts/{account}/clusters/{name}/policy",
            put(accounts::put_policy).delete(accounts::delete_policy),
        )
        .route("/v1/accounts/{account}/{kind}", get(identities::list).post(identities::create))
        .route(
            "/v1/accounts/{account}/{kind}/{name}",
            get(identities::show).patch(identities::alter).delete(identities::delete),
        )
        .route(
            "/v1/accounts/{account}/{kind}/{name}/policies/{policy}",
            put(identities::put_policy).delete(identities::delete_policy),
        )
        .route(
            "/v1/accounts/{account}/{kind}/{name}/boundary",
            put(identities::put_boundary).delete(identities::delete_boundary),
        )
        .route("/v1/accounts/{account}/{kind}/{name}/keys", get(keys::list).post(keys::create))
        .route("/v1/accounts/{account}/{kind}/{name}/keys/{id}", delete(keys::revoke))
        .route("/v1/status", get(operate::status))
        .route("/v1/nodes/{node}/drain", post(operate::drain))
        .route("/v1/nodes/{node}/undrain", post(operate::undrain))
        .fallback(|| async { Problem(refuse(ErrorCode::NotFound, "there is nothing at this path")).into_response() })
        .layer(middleware::from_fn_with_state(Arc::clone(&gateway), guard::guard))
        .layer(DefaultBodyLimit::max(HTTP_BODY_BYTES_MAX))
        .with_state(gateway)
}
