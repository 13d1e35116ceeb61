//! `/v1/whoami`, and why a call was denied (`/v1/decisions/{id}`).

use std::sync::Arc;

use axum::extract::Path;
use axum::{Extension, Json};
use policies::vocabulary::DESCRIBE_ACCOUNT;
use policies::{Fit, Layer};
use serde_json::{Value, json};
use types::{AccountId, ErrorCode};

use super::problem::Problem;
use crate::access::decisions::Denied;
use crate::caller::Caller;
use crate::error::refuse;

pub async fn whoami(Extension(caller): Extension<Arc<Caller>>) -> Json<Value> {
    let login = caller.permit().map(|permit| &permit.login);
    let known = caller.gateway.access.known();
    let cluster = known.cluster_of(caller.tenant).map(|cluster| cluster.record.arn("cluster", ""));
    Json(json!({
        "principal": login.map(|login| login.arn()),
        "account": login.map_or(caller.tenant.account, |login| login.account).digits(),
        "cluster": cluster,
        "access_key": login.and_then(|login| login.key.as_deref()),
        "expires_ms": login.and_then(|login| login.expires_ms),
    }))
}

/// A decision, for its caller and for whoever may see the caller's account.
pub async fn why(Extension(caller): Extension<Arc<Caller>>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let found = caller.gateway.access.decisions.get(&id).filter(|denied| may_see(&caller, denied));
    let denied = found.ok_or_else(|| refuse(ErrorCode::NotFound, elsewhere(&caller, &id)))?;
    let mut told = denied.explain();
    // Of whose cluster it is, the resource policy is not the caller's to read.
    let owner = denied.resource.split(':').nth(4).and_then(|digits| digits.parse().ok()).map(AccountId);
    let account = denied.standing.principal.account().parse().ok().map(AccountId);
    let is_own = owner == account || owner.is_some_and(|owner| caller.account(DESCRIBE_ACCOUNT, owner).is_ok());
    let mut why = told.summary();
    if !is_own {
        let is_by_resource = told.decision.by.is_some_and(|by| by.layer == Layer::Resource)
            || told.decision.lacking == Some(Layer::Resource);
        if is_by_resource {
            why = "the resource policy of the cluster does not allow it".to_owned();
        }
        told.reports.retain(|report| report.place.layer != Layer::Resource);
        told.missing.retain(|missing| missing.layer != Layer::Resource);
        told.absent_keys.clear();
    }
    let report = |report: &policies::StatementReport| {
        let (element, detail) = match &report.fit {
            Fit::Applies => (None, None),
            Fit::Not { element, detail } => (Some(*element), Some(detail.as_str())),
        };
        json!({
            "layer": report.place.layer.name(),
            "statement": report.name(),
            "effect": format!("{:?}", report.effect),
            "applies": report.fit == Fit::Applies,
            "element": element,
            "detail": detail,
        })
    };
    let proposal = |missing: &policies::Missing| {
        let policy: Value = serde_json::from_str(&missing.document).unwrap_or(Value::Null);
        json!({ "layer": missing.layer.name(), "policy": policy })
    };
    Ok(Json(json!({
        "id": denied.id,
        "at_ms": denied.at_ms,
        "principal": denied.standing.principal.arn(),
        "action": denied.action,
        "resource": denied.resource,
        "decision": told.decision.outcome.name(),
        "why": why,
        "statements": told.reports.iter().map(report).collect::<Vec<_>>(),
        "absent_keys": told.absent_keys,
        "would_allow": told.missing.iter().map(proposal).collect::<Vec<_>>(),
    })))
}

fn may_see(caller: &Caller, denied: &Denied) -> bool {
    let principal = &denied.standing.principal;
    let is_own = caller.permit().is_some_and(|permit| permit.login.arn() == principal.arn());
    let account = principal.account().parse().ok().map(AccountId);
    is_own || account.is_some_and(|account| caller.account(DESCRIBE_ACCOUNT, account).is_ok())
}

/// Decisions lie where they were made, and their ids say where that was.
fn elsewhere(caller: &Caller, id: &str) -> String {
    let by = id.split_once('-').and_then(|(gateway, _)| gateway.parse::<i32>().ok());
    let gateways = caller.gateways(false);
    let known = gateways.iter().find(|gateway| Some(gateway.id) == by && gateway.id != caller.gateway.id);
    match known {
        Some(other) => format!("decision `{id}` was made by gateway {} (`{}`): ask there", other.id, other.host),
        None => format!("there is no decision `{id}`: each gateway keeps its last ten thousand until it ends"),
    }
}
