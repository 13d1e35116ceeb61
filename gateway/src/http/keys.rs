//! Access keys of a user, and temporary credentials of a role (`…/users/{name}/keys`, `…/roles/{name}/keys`).

use std::sync::Arc;

use axum::extract::Path;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use policies::DocumentKind;
use policies::vocabulary::DESCRIBE_ACCOUNT;
use serde::Deserialize;
use serde_json::{Value, json};
use service::identities::{IdentityChange, NewKey};
use types::{AccessKeyRecord, AccountId, ErrorCode, KeyHolder};

use super::accounts::{account, change, document};
use super::identities::Kind;
use super::problem::Problem;
use crate::caller::Caller;
use crate::error::refuse;

fn is_of(record: &AccessKeyRecord, account: AccountId, kind: Kind, name: &str) -> bool {
    record.account == account
        && match &record.holder {
            KeyHolder::User { user } => kind == Kind::Users && user == name,
            KeyHolder::Session { role, .. } => kind == Kind::Roles && role == name,
        }
}

fn shown(record: &AccessKeyRecord) -> Value {
    let mut shown = json!({ "id": record.id, "created_ms": record.created_ms });
    if let KeyHolder::Session { session, expires_ms, .. } = &record.holder {
        shown["session"] = session.as_str().into();
        shown["expires_ms"] = (*expires_ms).into();
    }
    shown
}

pub async fn list(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, kind, name)): Path<(String, String, String)>,
) -> Result<Json<Value>, Problem> {
    let (id, parsed) = (account(&text)?, Kind::parse(&kind)?);
    caller.account(DESCRIBE_ACCOUNT, id)?;
    let known = caller.gateway.access.known();
    let is_there = match parsed {
        Kind::Users => known.user(id, &name).is_some(),
        Kind::Roles => known.role(id, &name).is_some(),
    };
    if !is_there {
        return Err(refuse(ErrorCode::NotFound, format!("`{name}` is not among the {kind} of the account")).into());
    }
    let mut keys: Vec<&AccessKeyRecord> =
        known.keys().map(|key| &key.record).filter(|record| is_of(record, id, parsed, &name)).collect();
    keys.sort_by(|a, b| (a.created_ms, &a.id).cmp(&(b.created_ms, &b.id)));
    Ok(Json(json!({ "keys": keys.into_iter().map(shown).collect::<Vec<_>>() })))
}

/// Of a role: whose session, for how long, and what it can do at most.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    #[serde(default)]
    session: Option<String>,
    #[serde(default)]
    duration_s: Option<u32>,
    #[serde(default)]
    policy: Option<String>,
}

const DURATION_S: u32 = 3_600;

pub async fn create(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, kind, name)): Path<(String, String, String)>,
    body: Result<Json<NewSession>, JsonRejection>,
) -> Result<Response, Problem> {
    let (id, kind) = (account(&text)?, Kind::parse(&kind)?);
    let new = match body {
        Ok(Json(new)) => new,
        Err(JsonRejection::MissingJsonContentType(_)) => NewSession::default(),
        Err(error) => return Err(refuse(ErrorCode::InvalidRequest, error.body_text()).into()),
    };
    let key = match kind {
        Kind::Users if new.session.is_some() || new.duration_s.is_some() || new.policy.is_some() => {
            let message = "an access key of a user lasts until it is revoked: sessions are of roles";
            return Err(refuse(ErrorCode::InvalidRequest, message).into());
        }
        Kind::Users => NewKey::User { user: name },
        Kind::Roles => {
            let policy = new.policy.map(|policy| document(&policy, DocumentKind::Identity)).transpose()?;
            let session = new.session.unwrap_or_else(|| "weir".to_owned());
            NewKey::Session { role: name, session, duration_s: new.duration_s.unwrap_or(DURATION_S), policy }
        }
    };
    let changed = change(&caller, id, IdentityChange::CreateKey { key }).await?;
    let key = changed.key.ok_or_else(|| refuse(ErrorCode::Internal, "placement made no key"))?;
    let shown = json!({
        "id": key.id,
        "secret": key.secret,
        "session_token": key.session_token,
        "expires_ms": key.expires_ms,
    });
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

pub async fn revoke(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, kind, name, key)): Path<(String, String, String, String)>,
) -> Result<StatusCode, Problem> {
    let (id, kind) = (account(&text)?, Kind::parse(&kind)?);
    caller.account(policies::vocabulary::MANAGE_ACCOUNT, id)?;
    let known = caller.gateway.access.known();
    if !known.key(&key).is_some_and(|known| is_of(&known.record, id, kind, &name)) {
        return Err(refuse(ErrorCode::NotFound, format!("`{name}` has no access key `{key}`")).into());
    }
    change(&caller, id, IdentityChange::RevokeKey { id: key }).await?;
    Ok(StatusCode::NO_CONTENT)
}
