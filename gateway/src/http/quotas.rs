//! Quotas over HTTP: what they are and what was used of them, and what a caller is told that has used one up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Path;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use policies::vocabulary::{DESCRIBE_ACCOUNT, MANAGE_ACCOUNT, MANAGE_QUOTA};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use service::identities::{ChangeIdentity, IdentityChange, QuotaOf};
use types::{AccountId, ErrorCode, Flow, Limits, MSK_SERVERLESS, Stock, UNLIMITED, built_in};
use wire::frame::Refusal;

use super::accounts::account;
use super::problem::{Problem, problem};
use crate::access;
use crate::caller::Caller;
use crate::error::{from_api, refuse};
use crate::quota::toll::Bite;
use crate::quota::{Scope, now_us, quota_of};

/// What a request uses up beside being one; bytes are counted where they are known.
pub fn flow_of(method: &Method, path: &str) -> Option<Flow> {
    let rest = path.strip_prefix("/v1/topics")?;
    // `/TOPIC/records` or `/TOPIC/partitions/N/records`, not the topic called `records`.
    let is_of_records = rest.trim_start_matches('/').contains('/') && rest.ends_with("/records");
    match (method, is_of_records) {
        (&Method::POST, true) => Some(Flow::Ingress),
        (&Method::GET, true) => Some(Flow::Egress),
        (&Method::POST | &Method::PATCH | &Method::DELETE, false) => Some(Flow::TopicChanges),
        _ => None,
    }
}

/// Waits for what is owed, if that is soon.
///
/// # Errors
/// A quota is used up for longer.
pub async fn begin(caller: &Caller, method: &Method, flow: Option<Flow>) -> Result<(), Bite> {
    // Those that are refused are requests, too.
    caller.toll.charge_quietly(Flow::Requests, 1);
    let changes = flow == Some(Flow::TopicChanges) && method != Method::PATCH;
    let counted = [Some(Flow::Requests), flow, changes.then_some(Flow::PartitionChanges)];
    for flow in counted.into_iter().flatten() {
        if let Err(bite) = caller.toll.check(flow) {
            if bite.wait() > WAIT_MAX {
                return Err(bite);
            }
            tokio::time::sleep(bite.wait()).await;
        }
    }
    if flow == Some(Flow::TopicChanges) {
        caller.toll.charge_quietly(Flow::TopicChanges, 1);
    }
    Ok(())
}

/// A request is held back for so long rather than refused.
const WAIT_MAX: Duration = Duration::from_millis(1_000);

fn seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1_000) as u64
}

/// 429, with which quota bit, whose usage it was, and for how long.
pub fn exceeded(bite: &Bite) -> Response {
    let mut body = problem(&bite.refusal());
    let reading = &bite.reading;
    body["quota"] = json!({
        "name": reading.flow.name(),
        "scope": bite.scope.to_string(),
        "profile": bite.profile,
        "limit": reading.limit,
        "unit": reading.flow.unit(),
        "window_s": reading.flow.window_s(),
        "used_per_s": per_s(reading.used),
        "most_used_by": reading.top.as_ref().map(|(who, _)| who),
        "retry_after_ms": bite.wait().as_millis() as u64,
    });
    let headers = [
        (header::CONTENT_TYPE, "application/problem+json".to_owned()),
        (header::RETRY_AFTER, seconds(bite.wait()).max(1).to_string()),
    ];
    (StatusCode::TOO_MANY_REQUESTS, headers, body.to_string()).into_response()
}

/// `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10) of what a request used.
pub fn tell(caller: &Caller, flow: Option<Flow>, headers: &mut HeaderMap) {
    let flow = flow.unwrap_or(Flow::Requests);
    let Some((limit, left, wait)) = caller.toll.tightest(flow) else { return };
    let name = flow.name().replace('_', "-");
    let unit = if flow.unit() == "bytes" { ";qu=\"content-bytes\"" } else { "" };
    let policy = format!("\"{name}\";q={limit};w={}{unit}", flow.window_s());
    let state = format!("\"{name}\";r={left};t={}", seconds(wait));
    for (name, value) in [("ratelimit-policy", policy), ("ratelimit", state)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

/// Whole units, of thousandths.
fn per_s(thousandths: u64) -> f64 {
    thousandths as f64 / 1_000.0
}

fn shown_limits(limits: &Limits) -> Value {
    let flows = limits.flows.iter().map(|(flow, limit)| (flow.name(), *limit));
    let stocks = limits.stocks.iter().map(|(stock, limit)| (stock.name(), *limit));
    flows.chain(stocks).map(|(name, limit)| (name.to_owned(), Value::from(limit))).collect::<Map<_, _>>().into()
}

/// # Errors
/// A limit that is not known; those that are.
fn limits_of(given: &BTreeMap<String, u64>) -> Result<Limits, Refusal> {
    let mut limits = Limits::default();
    for (name, limit) in given {
        let flow = Flow::ALL.iter().find(|flow| flow.name() == name);
        let stock = Stock::ALL.iter().find(|stock| stock.name() == name);
        match (flow, stock) {
            // Who has none of something cannot even say so.
            _ if *limit == 0 => return Err(refuse(ErrorCode::InvalidRequest, format!("`{name}` is 1 or more"))),
            (Some(flow), _) => drop(limits.flows.insert(*flow, *limit)),
            (_, Some(stock)) => drop(limits.stocks.insert(*stock, *limit)),
            (None, None) => {
                let flows = Flow::ALL.iter().map(|flow| flow.name());
                let all: Vec<&str> = flows.chain(Stock::ALL.iter().map(|stock| stock.name())).collect();
                let message = format!("`{name}` is nothing that can be limited: {} are", all.join(", "));
                return Err(refuse(ErrorCode::InvalidRequest, message));
            }
        }
    }
    Ok(limits)
}

/// Quota profiles that an account can use: those that are built in, the operator's, and its own.
pub async fn profiles(
    Extension(caller): Extension<Arc<Caller>>,
    Path(text): Path<String>,
) -> Result<Json<Value>, Problem> {
    let id = account(&text)?;
    caller.account(DESCRIBE_ACCOUNT, id)?;
    let known = caller.gateway.access.known();
    let built_in = [UNLIMITED, MSK_SERVERLESS].map(
        |name| json!({ "name": name, "account": null, "limits": shown_limits(&built_in(name).unwrap_or_default()) }),
    );
    let own = known.profiles(&[id, caller.gateway.tenant.account]);
    let own = own.into_iter().map(
        |(owner, name, limits)| json!({ "name": name, "account": owner.digits(), "limits": shown_limits(limits) }),
    );
    Ok(Json(json!({ "profiles": built_in.into_iter().chain(own).collect::<Vec<_>>() })))
}

pub async fn put_profile(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, name)): Path<(String, String)>,
    body: Result<Json<BTreeMap<String, u64>>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let id = account(&text)?;
    let Json(given) = body.map_err(|error| refuse(ErrorCode::InvalidRequest, error.body_text()))?;
    // Those of the operator hold for accounts.
    caller.account(if id == caller.gateway.tenant.account { MANAGE_QUOTA } else { MANAGE_ACCOUNT }, id)?;
    let limits = limits_of(&given)?;
    let change = ChangeIdentity { account: id, change: IdentityChange::SetProfile { name, limits } };
    access::change(&caller.gateway, &change).await.map_err(from_api)?;
    Ok(StatusCode::NO_CONTENT)
}

fn of(kind: Option<&str>, name: String) -> Result<QuotaOf, Refusal> {
    match kind {
        None => Ok(QuotaOf::Account),
        Some("clusters") => Ok(QuotaOf::Cluster(name)),
        Some("users") => Ok(QuotaOf::User(name)),
        Some("roles") => Ok(QuotaOf::Role(name)),
        Some(kind) => Err(refuse(ErrorCode::NotFound, format!("there is no quota of `{kind}`"))),
    }
}

fn scope(caller: &Caller, id: AccountId, of: &QuotaOf) -> Result<Scope, Refusal> {
    let known = caller.gateway.access.known();
    let absent = |name: &str| refuse(ErrorCode::NotFound, format!("there is no `{name}` in account `{}`", id.digits()));
    match of {
        QuotaOf::Account if known.account(id).is_none() => {
            Err(refuse(ErrorCode::NotFound, format!("there is no account `{}`", id.digits())))
        }
        QuotaOf::Account => Ok(Scope::Account(id)),
        QuotaOf::Cluster(name) => {
            known.cluster(id, name).map(|cluster| Scope::Cluster(cluster.tenant())).ok_or_else(|| absent(name))
        }
        QuotaOf::User(name) => known.user(id, name).map(|_| Scope::User(id, name.clone())).ok_or_else(|| absent(name)),
        QuotaOf::Role(name) => known.role(id, name).map(|_| Scope::Role(id, name.clone())).ok_or_else(|| absent(name)),
    }
}

/// What holds for it, and what was used of it lately.
fn shown(caller: &Caller, id: AccountId, of: &QuotaOf) -> Result<Value, Refusal> {
    let scope = scope(caller, id, of)?;
    let gateway = &caller.gateway;
    let quota = quota_of(&gateway.access.known(), gateway.tenant.account, &scope);
    let meter = gateway.quotas.find(&scope);
    let now_us = now_us();
    let flows = Flow::ALL.iter().map(|flow| {
        let reading = meter.as_ref().map(|meter| meter.read(*flow, now_us));
        json!({
            "name": flow.name(),
            "limit": quota.limits.flows.get(flow),
            "unit": flow.unit(),
            "window_s": flow.window_s(),
            "used_per_s": reading.as_ref().map_or(0.0, |reading| per_s(reading.used)),
            "most_used_by": reading.as_ref().and_then(|reading| reading.top.as_ref().map(|(who, _)| who)),
            "wait_ms": reading.as_ref().map_or(0, |reading| reading.debt_us.div_ceil(1_000)),
        })
    });
    let held = |stock: Stock| match stock {
        Stock::Partitions => caller.gateway.partitions_of(&scope),
        Stock::Connections => meter.as_ref().map(|meter| meter.held(stock)),
        // Coordinators count them.
        Stock::Groups => None,
    };
    let stocks = Stock::ALL
        .iter()
        .map(|stock| json!({ "name": stock.name(), "limit": quota.limits.stocks.get(stock), "held": held(*stock) }));
    Ok(json!({
        "scope": scope.to_string(),
        "profile": quota.profile,
        "flows": flows.collect::<Vec<_>>(),
        "stocks": stocks.collect::<Vec<_>>(),
    }))
}

pub async fn show_account(
    Extension(caller): Extension<Arc<Caller>>,
    Path(text): Path<String>,
) -> Result<Json<Value>, Problem> {
    let id = account(&text)?;
    caller.account(DESCRIBE_ACCOUNT, id)?;
    Ok(Json(shown(&caller, id, &QuotaOf::Account)?))
}

pub async fn show(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, kind, name)): Path<(String, String, String)>,
) -> Result<Json<Value>, Problem> {
    let id = account(&text)?;
    caller.account(DESCRIBE_ACCOUNT, id)?;
    Ok(Json(shown(&caller, id, &of(Some(&kind), name)?)?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// `null`: what holds where nothing is said.
    profile: Option<String>,
}

async fn set(caller: &Caller, id: AccountId, of: QuotaOf, profile: Option<String>) -> Result<StatusCode, Refusal> {
    match of {
        // Nobody loosens what was set for him.
        QuotaOf::Account | QuotaOf::Cluster(_) => caller.as_operator(MANAGE_QUOTA, id)?,
        QuotaOf::User(_) | QuotaOf::Role(_) => caller.account(MANAGE_ACCOUNT, id)?,
    }
    let change = ChangeIdentity { account: id, change: IdentityChange::SetQuota { of, profile } };
    access::change(&caller.gateway, &change).await.map_err(from_api)?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn set_account(
    Extension(caller): Extension<Arc<Caller>>,
    Path(text): Path<String>,
    body: Result<Json<Chosen>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let id = account(&text)?;
    let Json(chosen) = body.map_err(|error| refuse(ErrorCode::InvalidRequest, error.body_text()))?;
    Ok(set(&caller, id, QuotaOf::Account, chosen.profile).await?)
}

pub async fn set_of(
    Extension(caller): Extension<Arc<Caller>>,
    Path((text, kind, name)): Path<(String, String, String)>,
    body: Result<Json<Chosen>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let id = account(&text)?;
    let Json(chosen) = body.map_err(|error| refuse(ErrorCode::InvalidRequest, error.body_text()))?;
    Ok(set(&caller, id, of(Some(&kind), name)?, chosen.profile).await?)
}
