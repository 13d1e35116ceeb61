//! Users and roles of an account (`/v1/accounts/{account}/users`, `…/roles`): their policies, boundaries, tags and passwords.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::Path;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use identity::scram::{ITERATIONS, Verifier};
use identity::sigv4::hex;
use policies::DocumentKind;
use policies::vocabulary::{DESCRIBE_ACCOUNT, MANAGE_ACCOUNT};
use serde::Deserialize;
use serde_json::{Value, json};
use service::identities::{Holder, IdentityChange};
use service::random;
use types::{AccountId, ErrorCode, Grants, ScramRecord};
use wire::frame::Refusal;

use super::accounts::{account, change, document};
use super::problem::Problem;
use crate::caller::Caller;
use crate::error::refuse;

/// A password has so many bytes at least: short ones are guessed from what a client was once answered.
const PASSWORD_BYTES_MIN: usize = 12;
const PASSWORD_BYTES_MAX: usize = 256;

/// Which of both kinds a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Users,
    Roles,
}

impl Kind {
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        match text {
            "users" => Ok(Self::Users),
            "roles" => Ok(Self::Roles),
            _ => Err(refuse(ErrorCode::NotFound, "there is nothing at this path")),
        }
    }

    pub(super) fn holder(self, name: String) -> Holder {
        match self {
            Self::Users => Holder::User(name),
            Self::Roles => Holder::Role(name),
        }
    }

    fn arn(self, account: AccountId, name: &str) -> String {
        let kind = if self == Self::Users { "user" } else { "role" };
        format!("arn:aws:iam::{}:{kind}/{name}", account.digits())
    }
}

fn shown(kind: Kind, account: AccountId, name: &str, grants: &Grants, has_password: Option<bool>) -> Value {
    let policies: BTreeMap<&str, &str> = grants.policies.iter().map(|(name, text)| (&**name, &**text)).collect();
    let mut shown = json!({
        "name": name,
        "arn": kind.arn(account, name),
        "policies": policies,
        "boundary": grants.boundary,
        "tags": grants.tags,
    });
    if let Some(has_password) = has_password {
        shown["has_password"] = has_password.into();
    }
    shown
}

fn all(caller: &Caller, kind: Kind, account: AccountId) -> BTreeMap<String, Value> {
    let known = caller.gateway.access.known();
    match kind {
        Kind::Users => {
            let users = known.users().filter(|user| user.account == account);
            let shown =
                |user: &types::UserRecord| shown(kind, account, &user.name, &user.grants, Some(user.scram.is_some()));
            users.map(|user| (user.name.clone(), shown(user))).collect()
        }
        Kind::Roles => {
            let roles = known.roles().filter(|role| role.account == account);
            roles.map(|role| (role.name.clone(), shown(kind, account, &role.name, &role.grants, None))).collect()
        }
    }
}

pub async fn list(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, kind)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let (id, parsed) = (account(&text)?, Kind::parse(&kind)?);
    caller.account(DESCRIBE_ACCOUNT, id)?;
    let all: Vec<Value> = all(&caller, parsed, id).into_values().collect();
    Ok(Json(json!({ (kind): all })))
}

pub async fn show(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, kind, name)): Path<(String, String, String)>,
) -> Result<Json<Value>, Problem> {
    let (id, parsed) = (account(&text)?, Kind::parse(&kind)?);
    caller.account(DESCRIBE_ACCOUNT, id)?;
    let found = all(&caller, parsed, id).remove(&name);
    let absent = || refuse(ErrorCode::NotFound, format!("`{name}` is not among the {kind} of the account"));
    Ok(Json(found.ok_or_else(absent)?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewHolder {
    name: String,
}

pub async fn create(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, kind)): Path<(String, String)>,
    body: Result<Json<NewHolder>, JsonRejection>,
) -> Result<Response, Problem> {
    let (id, kind) = (account(&text)?, Kind::parse(&kind)?);
    let Json(NewHolder { name }) = body.map_err(|error| refuse(ErrorCode::InvalidRequest, error.body_text()))?;
    let new = match kind {
        Kind::Users => IdentityChange::CreateUser { name: name.clone() },
        Kind::Roles => IdentityChange::CreateRole { name: name.clone() },
    };
    change(&caller, id, new).await?;
    let has_password = (kind == Kind::Users).then_some(false);
    let shown = shown(kind, id, &name, &Grants::default(), has_password);
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

pub async fn delete(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, kind, name)): Path<(String, String, String)>,
) -> Result<StatusCode, Problem> {
    let (id, kind) = (account(&text)?, Kind::parse(&kind)?);
    let gone = match kind {
        Kind::Users => IdentityChange::DeleteUser { name },
        Kind::Roles => IdentityChange::DeleteRole { name },
    };
    change(&caller, id, gone).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// Of a user; `null` takes it away.
    #[serde(default, deserialize_with = "given")]
    password: Option<Option<String>>,
    #[serde(default)]
    tags: Option<BTreeMap<String, String>>,
}

/// Tells `null` from what is not there.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(deserializer).map(Some)
}

pub async fn alter(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, kind, name)): Path<(String, String, String)>,
    body: Result<Json<Changes>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let (id, kind) = (account(&text)?, Kind::parse(&kind)?);
    let Json(changes) = body.map_err(|error| refuse(ErrorCode::InvalidRequest, error.body_text()))?;
    if let Some(tags) = changes.tags {
        change(&caller, id, IdentityChange::SetTags { holder: kind.holder(name.clone()), tags }).await?;
    }
    if let Some(password) = changes.password {
        if kind == Kind::Roles {
            return Err(refuse(ErrorCode::InvalidRequest, "roles have no password").into());
        }
        // The work of it is for those alone who may.
        caller.account(MANAGE_ACCOUNT, id)?;
        let scram = password.as_deref().map(scram).transpose()?;
        change(&caller, id, IdentityChange::SetPassword { name, scram }).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

fn scram(password: &str) -> Result<ScramRecord, Refusal> {
    if !(PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len()) {
        let message = format!("a password has {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes");
        return Err(refuse(ErrorCode::InvalidRequest, message));
    }
    let salt = random::wide().to_be_bytes();
    let iterations = NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN);
    let Verifier { salt, iterations, stored_key, server_key } = Verifier::new(password, &salt, iterations);
    Ok(ScramRecord { salt: hex(&salt), iterations, stored_key: hex(&stored_key), server_key: hex(&server_key) })
}

pub async fn put_policy(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, kind, name, policy)): Path<(String, String, String, String)>,
    body: String,
) -> Result<StatusCode, Problem> {
    let (id, kind) = (account(&text)?, Kind::parse(&kind)?);
    let document = Some(document(&body, DocumentKind::Identity)?);
    change(&caller, id, IdentityChange::SetPolicy { holder: kind.holder(name), policy, document }).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn delete_policy(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, kind, name, policy)): Path<(String, String, String, String)>,
) -> Result<StatusCode, Problem> {
    let (id, kind) = (account(&text)?, Kind::parse(&kind)?);
    change(&caller, id, IdentityChange::SetPolicy { holder: kind.holder(name), policy, document: None }).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn put_boundary(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, kind, name)): Path<(String, String, String)>,
    body: String,
) -> Result<StatusCode, Problem> {
    let (id, kind) = (account(&text)?, Kind::parse(&kind)?);
    let document = Some(document(&body, DocumentKind::Identity)?);
    change(&caller, id, IdentityChange::SetBoundary { holder: kind.holder(name), document }).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn delete_boundary(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, kind, name)): Path<(String, String, String)>,
) -> Result<StatusCode, Problem> {
    let (id, kind) = (account(&text)?, Kind::parse(&kind)?);
    change(&caller, id, IdentityChange::SetBoundary { holder: kind.holder(name), document: None }).await?;
    Ok(StatusCode::NO_CONTENT)
}
