//! `/v1/accounts/{account}/issuers`: whose tokens an account takes.

use std::sync::Arc;

use axum::extract::Path;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use identity::jwt::Keys;
use policies::vocabulary::{DESCRIBE_ACCOUNT, MANAGE_ACCOUNT};
use serde::Deserialize;
use serde_json::{Value, json};
use service::identities::IdentityChange;
use types::{ErrorCode, Flow, IssuerKeys, IssuerRecord};
use wire::frame::Refusal;

use super::accounts::{account, change};
use super::problem::Problem;
use crate::caller::Caller;
use crate::error::refuse;

fn shown(issuer: &IssuerRecord) -> Value {
    let url = match &issuer.keys {
        IssuerKeys::Url { url } => Some(url),
        IssuerKeys::Set { .. } => None,
    };
    json!({
        "account": issuer.account.digits(),
        "name": issuer.name,
        "issuer": issuer.issuer,
        "audiences": issuer.audiences,
        "jwks_url": url,
        "roles": issuer.roles,
        "role_claim": issuer.role_claim,
    })
}

pub async fn list(Extension(caller): Extension<Arc<Caller>>, Path(text): Path<String>) -> Result<Json<Value>, Problem> {
    let id = account(&text)?;
    caller.account(DESCRIBE_ACCOUNT, id)?;
    let known = caller.gateway.access.known();
    let mut issuers: Vec<_> = known.issuers().filter(|issuer| issuer.account == id).collect();
    issuers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(json!({ "issuers": issuers.into_iter().map(|issuer| shown(issuer)).collect::<Vec<_>>() })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewIssuer {
    name: String,
    issuer: String,
    audiences: Vec<String>,
    roles: Vec<String>,
    #[serde(default)]
    role_claim: Option<String>,
    /// Where its keys are; asked of the issuer unless this or the keys are given.
    #[serde(default)]
    jwks_url: Option<String>,
    #[serde(default)]
    jwks: Option<Value>,
}

pub async fn add(
    Extension(caller): Extension<Arc<Caller>>,
    Path(text): Path<String>,
    body: Result<Json<NewIssuer>, JsonRejection>,
) -> Result<Response, Problem> {
    let id = account(&text)?;
    let Json(new) = body.map_err(|error| refuse(ErrorCode::InvalidRequest, error.body_text()))?;
    // What is fetched is fetched for those alone who may.
    caller.account(MANAGE_ACCOUNT, id)?;
    let NewIssuer { name, issuer, audiences, roles, role_claim, jwks_url, jwks } = new;
    // Nobody takes for himself what is another's: an audience that an account chooses has its number in it.
    let digits = id.digits();
    let is_operator = caller.permit().is_none_or(|permit| permit.login.account == caller.gateway.tenant.account);
    if !is_operator && !audiences.iter().all(|audience| audience.contains(&digits)) {
        let message =
            format!("an audience has the account's number in it, as `weir-{digits}`; operators may choose others");
        return Err(refuse(ErrorCode::InvalidRequest, message).into());
    }
    if let Some(role) = roles.iter().find(|role| caller.gateway.access.known().role(id, role).is_none()) {
        return Err(
            refuse(ErrorCode::InvalidRequest, format!("there is no role `{role}` in account `{digits}`")).into()
        );
    }
    // Each is a request of this gateway to somebody else.
    if let Err(bite) = caller.toll.check(Flow::TopicChanges) {
        return Err(bite.refusal().into());
    }
    caller.toll.charge_quietly(Flow::TopicChanges, 1);
    let keys = keys(&caller, &issuer, jwks_url, jwks).await?;
    let issuer = IssuerRecord { account: id, name, issuer, audiences, keys, roles, role_claim };
    change(&caller, id, IdentityChange::AddIssuer { issuer: issuer.clone() }).await?;
    Ok((StatusCode::CREATED, Json(shown(&issuer))).into_response())
}

/// Keys that can be used now: what cannot is told to whom it can help.
async fn keys(caller: &Caller, issuer: &str, url: Option<String>, set: Option<Value>) -> Result<IssuerKeys, Refusal> {
    let wrong = |why: String| refuse(ErrorCode::InvalidRequest, why);
    let url = match (url, set) {
        (Some(_), Some(_)) => return Err(wrong("`jwks_url` or `jwks`, not both".to_owned())),
        (None, Some(set)) => {
            let jwks = set.to_string();
            Keys::parse(jwks.as_bytes()).map_err(|why| wrong(why.to_owned()))?;
            return Ok(IssuerKeys::Set { jwks });
        }
        (Some(url), None) => url,
        (None, None) => discover(caller, issuer).await.map_err(wrong)?,
    };
    let body = caller.gateway.access.issuers.fetch(&url).await.map_err(wrong)?;
    Keys::parse(&body).map_err(|why| wrong(format!("`{url}`: {why}")))?;
    Ok(IssuerKeys::Url { url })
}

/// Where an issuer says that its keys are (OpenID Connect Discovery 1.0). What it said stays, whatever it says later.
async fn discover(caller: &Caller, issuer: &str) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Document {
        issuer: String,
        jwks_uri: String,
    }
    let at = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let body = caller.gateway.access.issuers.fetch(&at).await?;
    let document: Document = serde_json::from_slice(&body).map_err(|error| format!("`{at}`: {error}"))?;
    if document.issuer == issuer {
        Ok(document.jwks_uri)
    } else {
        Err(format!("`{at}` is of issuer `{}`: names of issuers agree to the letter", document.issuer))
    }
}

pub async fn remove(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, name)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    change(&caller, account(&text)?, IdentityChange::RemoveIssuer { name }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The tokens of an issuer that are denied.
pub async fn denied(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, name)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let id = account(&text)?;
    caller.account(DESCRIBE_ACCOUNT, id)?;
    let known = caller.gateway.access.known();
    if !known.issuers().any(|issuer| issuer.account == id && issuer.name == name) {
        return Err(refuse(ErrorCode::NotFound, format!("there is no issuer `{name}`")).into());
    }
    let tokens = known.denied(id, &name).into_iter().flat_map(|denied| &denied.tokens);
    let time = |until_s: i64| jiff::Timestamp::from_second(until_s).map(|at| at.to_string()).ok();
    let shown = |(token, until_s): (&String, &Option<i64>)| json!({ "jti": token, "until_s": until_s, "until": until_s.and_then(time) });
    Ok(Json(json!({ "denied": tokens.map(shown).collect::<Vec<_>>() })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deny {
    jti: String,
    /// In seconds since 1970; for good unless given.
    #[serde(default)]
    until_s: Option<i64>,
}

/// Refuses one token from now on, at all gateways; what it opened ends.
pub async fn deny(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, issuer)): Path<(String, String)>,
    body: Result<Json<Deny>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let id = account(&text)?;
    let Json(Deny { jti, until_s }) = body.map_err(|error| refuse(ErrorCode::InvalidRequest, error.body_text()))?;
    change(&caller, id, IdentityChange::DenyToken { issuer, id: jti, until_s }).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn allow(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, issuer, token)): Path<(String, String, String)>,
) -> Result<StatusCode, Problem> {
    change(&caller, account(&text)?, IdentityChange::AllowToken { issuer, id: token }).await?;
    Ok(StatusCode::NO_CONTENT)
}
