//! `/v1/accounts` and their clusters.

use std::sync::Arc;

use axum::extract::Path;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use policies::vocabulary::{CREATE_ACCOUNT, DESCRIBE_ACCOUNT, MANAGE_ACCOUNT};
use policies::{Document, DocumentKind};
use serde::Deserialize;
use serde_json::{Value, json};
use service::identities::{ChangeIdentity, IdentityChange, IdentityChanged};
use types::{AccountId, AccountRecord, ClusterRecord, ErrorCode, RESERVED_CLUSTER};
use wire::frame::Refusal;

use super::problem::Problem;
use crate::access;
use crate::caller::Caller;
use crate::error::{from_api, refuse};

/// An account by its twelve digits.
///
/// # Errors
/// They are none: `NotFound`, like that of an account that is not there.
pub(super) fn account(text: &str) -> Result<AccountId, Refusal> {
    let id = text.parse().ok().filter(|_| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()));
    id.map(AccountId).ok_or_else(|| refuse(ErrorCode::NotFound, format!("there is no account `{text}`")))
}

/// Makes a change in an account that the caller may manage.
pub(super) async fn change(
    caller: &Caller,
    account: AccountId,
    change: IdentityChange,
) -> Result<IdentityChanged, Refusal> {
    caller.account(MANAGE_ACCOUNT, account)?;
    access::change(&caller.gateway, &ChangeIdentity { account, change }).await.map_err(from_api)
}

/// Reads a policy as it was sent.
///
/// # Errors
/// It is not valid: where, and what was expected.
pub(super) fn document(body: &str, kind: DocumentKind) -> Result<String, Refusal> {
    match Document::parse(body, kind) {
        Ok(_) => Ok(body.to_owned()),
        Err(invalid) => Err(refuse(ErrorCode::InvalidRequest, invalid.to_string())),
    }
}

fn shown(account: &AccountRecord) -> Value {
    json!({ "id": account.id.digits(), "name": account.name })
}

fn shown_cluster(cluster: &ClusterRecord) -> Value {
    json!({
        "account": cluster.account.digits(),
        "name": cluster.name,
        "uuid": cluster.uuid,
        "region": cluster.region,
        "arn": cluster.arn("cluster", ""),
        "policy": cluster.policy,
    })
}

/// Those that the caller may see.
pub async fn list(Extension(caller): Extension<Arc<Caller>>) -> Json<Value> {
    let known = caller.gateway.access.known();
    let may = |account: &&AccountRecord| caller.account(DESCRIBE_ACCOUNT, account.id).is_ok();
    let mut accounts: Vec<&AccountRecord> = known.accounts.iter().filter(may).collect();
    accounts.sort_by_key(|account| account.id);
    Json(json!({ "accounts": accounts.into_iter().map(shown).collect::<Vec<_>>() }))
}

pub async fn show(Extension(caller): Extension<Arc<Caller>>, Path(text): Path<String>) -> Result<Json<Value>, Problem> {
    let id = account(&text)?;
    caller.account(DESCRIBE_ACCOUNT, id)?;
    let known = caller.gateway.access.known();
    let found =
        known.account(id).ok_or_else(|| refuse(ErrorCode::NotFound, format!("there is no account `{text}`")))?;
    Ok(Json(shown(found)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    name: String,
    #[serde(default)]
    id: Option<String>,
}

pub async fn create(
    Extension(caller): Extension<Arc<Caller>>,
    body: Result<Json<NewAccount>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(NewAccount { name, id }) = body.map_err(|error| refuse(ErrorCode::InvalidRequest, error.body_text()))?;
    caller.service(CREATE_ACCOUNT)?;
    let digits = || refuse(ErrorCode::InvalidRequest, "an account's id is twelve digits");
    let id = id.map(|id| account(&id).map_err(|_| digits())).transpose()?;
    let change = IdentityChange::CreateAccount { id, name: name.clone() };
    let request = ChangeIdentity { account: caller.tenant.account, change };
    let changed = access::change(&caller.gateway, &request).await?;
    let id = changed.account.ok_or_else(|| refuse(ErrorCode::Internal, "placement named no account"))?;
    Ok((StatusCode::CREATED, Json(shown(&AccountRecord { id, name, quota: None }))).into_response())
}

pub async fn clusters(
    Extension(caller): Extension<Arc<Caller>>,
    Path(text): Path<String>,
) -> Result<Json<Value>, Problem> {
    let id = account(&text)?;
    caller.account(DESCRIBE_ACCOUNT, id)?;
    let known = caller.gateway.access.known();
    let mut clusters: Vec<&ClusterRecord> = known.clusters_of(id).map(|cluster| &cluster.record).collect();
    clusters.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(json!({ "clusters": clusters.into_iter().map(shown_cluster).collect::<Vec<_>>() })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewCluster {
    name: String,
    #[serde(default)]
    uuid: Option<String>,
    #[serde(default = "region")]
    region: String,
}

/// Whether a name is its account's to give, however it is written: names of hosts know no case.
fn is_free(name: &str) -> Result<(), Refusal> {
    if !name.eq_ignore_ascii_case(RESERVED_CLUSTER) {
        return Ok(());
    }
    let message =
        format!("the cluster `{RESERVED_CLUSTER}` of each account is the service's own: audit events are there");
    Err(refuse(ErrorCode::InvalidRequest, message))
}

fn region() -> String {
    "us-east-1".to_owned()
}

pub async fn create_cluster(
    Extension(caller): Extension<Arc<Caller>>,
    Path(text): Path<String>,
    body: Result<Json<NewCluster>, JsonRejection>,
) -> Result<Response, Problem> {
    let id = account(&text)?;
    let Json(new) = body.map_err(|error| refuse(ErrorCode::InvalidRequest, error.body_text()))?;
    let NewCluster { name, uuid, region } = new;
    caller.account(MANAGE_ACCOUNT, id)?;
    is_free(&name)?;
    change(&caller, id, IdentityChange::CreateCluster { name: name.clone(), uuid, region }).await?;
    let known = caller.gateway.access.known();
    let made = known.cluster(id, &name).ok_or_else(|| refuse(ErrorCode::NotFound, "it was deleted meanwhile"))?;
    Ok((StatusCode::CREATED, Json(shown_cluster(&made.record))).into_response())
}

pub async fn delete_cluster(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, name)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let id = account(&text)?;
    caller.account(MANAGE_ACCOUNT, id)?;
    is_free(&name)?;
    change(&caller, id, IdentityChange::DeleteCluster { name }).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn put_policy(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, name)): Path<(String, String)>,
    body: String,
) -> Result<StatusCode, Problem> {
    let document = Some(document(&body, DocumentKind::Resource)?);
    change(&caller, account(&text)?, IdentityChange::SetClusterPolicy { name, document }).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn delete_policy(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, name)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    change(&caller, account(&text)?, IdentityChange::SetClusterPolicy { name, document: None }).await?;
    Ok(StatusCode::NO_CONTENT)
}
