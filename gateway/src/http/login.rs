//! Who sends a request: by AWS Signature Version 4, or by a bearer token.

use std::sync::Arc;

use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use bytes::Bytes;
use identity::Refused;
use identity::request::{Authorization, Request};
use identity::sigv4::{hex, seconds, sha256};
use service::http::Peer;
use service::random;
use types::{AccountId, ErrorCode};
use wire::frame::Refusal;

use crate::Gateway;
use crate::access::known::Login;
use crate::access::permit::Permit;
use crate::access::proof::{is_known, of_certificate, of_request};
use crate::access::reason::Reason;
use crate::access::sasl::of_token;
use crate::access::{Origin, now_s, uses};
use crate::caller::Caller;
use crate::error::refuse;
use crate::kafka::login::{admit, admit_to};
use crate::tenant::Tenant;

/// What a client that is not known is told to send.
pub const CHALLENGE: &str = "AWS4-HMAC-SHA256, Bearer";
/// Names the cluster that a request is about, where neither the host name nor the account does.
const CLUSTER: &str = "weir-cluster-name";

/// What a request says of its sender, before its body is there.
pub enum Proof {
    /// Nothing, where nothing is asked.
    None,
    Signed(Box<Authorization>),
    /// A bearer token, or a certificate.
    Token(Box<Login>),
}

/// Reads what is said of the sender; what can be refused without the body is.
///
/// # Errors
/// `LoginRequired`.
pub async fn begin(gateway: &Gateway, parts: &Parts) -> Result<Proof, Refusal> {
    let origin = origin(parts);
    let mut values = parts.headers.get_all(AUTHORIZATION).iter();
    let proof = match (values.next(), values.next()) {
        (None, _) if gateway.access.is_required => {
            // Whom its certificate names needs no more.
            let uris = parts.extensions.get::<Peer>().map(|peer| Arc::clone(&peer.uris));
            if let Some(login) = uris.and_then(|uris| of_certificate(&gateway.access.known(), &uris)) {
                return Ok(Proof::Token(Box::new(login)));
            }
            let message = "this needs credentials: a request signed with AWS Signature Version 4, or a bearer token";
            return Err(refuse(ErrorCode::LoginRequired, message));
        }
        (None, _) => return Ok(Proof::None),
        (Some(_), Some(_)) => Err(Reason::Malformed("authorization")),
        (Some(value), None) => match value.to_str() {
            Ok(value) => read(gateway, value, origin).await,
            Err(_) => Err(Reason::Malformed("authorization")),
        },
    };
    proof.map_err(|reason| unknown(gateway, origin, &reason))
}

async fn read(gateway: &Gateway, value: &str, origin: Origin) -> Result<Proof, Reason> {
    if let Some(signed) = Authorization::parse(value) {
        let signed = signed?;
        // Whoever holds no key of ours is not waited for with a body.
        is_known(&gateway.access.known(), &signed.scope)?;
        return Ok(Proof::Signed(Box::new(signed)));
    }
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Reason::Malformed("authorization"));
    }
    if !origin.is_private() {
        return Err(Reason::NotPrivate);
    }
    of_token(&gateway.access, token.trim(), now_s()).await.map(|login| Proof::Token(Box::new(login)))
}

/// The caller, now that the body is there.
///
/// # Errors
/// `LoginRequired`.
pub async fn finish(gateway: &Arc<Gateway>, parts: &Parts, proof: Proof, body: &Bytes) -> Result<Arc<Caller>, Refusal> {
    let origin = origin(parts);
    let (login, signature) = match proof {
        Proof::None => return Ok(Caller::anonymous(gateway)),
        Proof::Token(login) => (Ok(*login), None),
        Proof::Signed(authorization) => (signed(gateway, parts, &authorization, body), Some(authorization.signature)),
    };
    let whose = login.as_ref().ok().map(|login| (login.account, login.key.clone()));
    let account = whose.as_ref().map_or(AccountId(0), |(account, _)| *account);
    let name = parts.headers.get(CLUSTER).and_then(|value| value.to_str().ok());
    let caller = login.and_then(|login| match name {
        // About accounts and about oneself: no cluster is needed, nor the right to connect to one.
        None if is_of_accounts(parts.uri.path()) => admit_to_account(gateway, login, origin),
        Some(name) => admit_by_name(gateway, login, name, origin),
        None => admit(gateway, login, host(parts).as_deref(), origin),
    });
    let caller = match (caller, signature) {
        // Who may do nothing here uses nothing up.
        (Ok(caller), Some(signature)) => once(gateway, parts, account, &signature).await.map(|()| caller),
        (caller, _) => caller,
    };
    let of_caller = |reason: Reason| match whose {
        Some((account, key)) => reason.of(account, key),
        None => reason,
    };
    caller.map_err(|reason| unknown(gateway, origin, &of_caller(reason)))
}

pub fn origin(parts: &Parts) -> Origin {
    match parts.extensions.get::<Peer>() {
        Some(peer) => Origin::new(peer.source, peer.is_tls),
        None => Origin { address: std::net::Ipv4Addr::UNSPECIFIED.into(), is_tls: false, is_local: false },
    }
}

/// One text for whatever was wrong; the log has why.
fn unknown(gateway: &Gateway, origin: Origin, reason: &Reason) -> Refusal {
    let id = format!("{:032x}", random::wide());
    tracing::warn!(id, address = %origin.address, ?reason, "an HTTP client was not let in");
    gateway.access.note_refused(origin, &id, reason);
    let reason = reason.what();
    if *reason == Reason::TooMany {
        return refuse(ErrorCode::Overloaded, "too many signed requests for their replays to be told");
    }
    if *reason == Reason::Unsure {
        let message = "whether this request came before cannot be told: the storage nodes that would know do not answer, or began \
                       after the time that it was signed for (is your clock behind?); sign it anew, and send that";
        return refuse(ErrorCode::Overloaded, message);
    }
    // What the log says is told to whom the rest of it was right.
    let message = match reason {
        Reason::Connect(why) => return refuse(ErrorCode::ClusterDenied, why.clone()),
        Reason::Cluster(why) => format!("[{id}]: which cluster is meant is not clear: {why}; `{CLUSTER}` names one"),
        Reason::Replayed => {
            format!(
                "[{id}]: Access denied: this signature was used before; sign anew, in another second or with a `weir-nonce`"
            )
        }
        Reason::Proof(Refused::Elsewhere(_)) => {
            format!("[{id}]: Access denied: signed for a name that is none of this gateway's")
        }
        _ => format!("[{id}]: Access denied"),
    };
    refuse(ErrorCode::LoginRequired, message)
}

/// The name alone, without the port.
fn host(parts: &Parts) -> Option<String> {
    let authority = authority(parts)?;
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => &authority,
    };
    Some(name.to_owned())
}

fn authority(parts: &Parts) -> Option<String> {
    let header = parts.headers.get(HOST).and_then(|value| value.to_str().ok()).map(str::to_owned);
    header.or_else(|| parts.uri.authority().map(ToString::to_string))
}

fn signed(gateway: &Gateway, parts: &Parts, authorization: &Authorization, body: &Bytes) -> Result<Login, Reason> {
    let mut headers = text_headers(&parts.headers);
    // HTTP/2 has the name of the host elsewhere; clients sign it as `host`.
    let by_authority = parts.uri.authority().map(ToString::to_string);
    if let Some(authority) = &by_authority {
        match headers.iter().find(|(name, _)| *name == "host") {
            Some((_, host)) if host != authority => return Err(Reason::Malformed("host")),
            Some(_) => {}
            None => headers.push(("host", authority)),
        }
    }
    let named = host(parts).unwrap_or_default();
    if !gateway.is_own_name(&named, origin(parts)) {
        return Err(Reason::Proof(Refused::Elsewhere(named)));
    }
    let body_sha256 = hex(&sha256(body));
    let request = Request {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers: &headers,
        body_sha256: &body_sha256,
    };
    of_request(&gateway.access.known(), authorization, &request, now_s())
}

/// Takes the signature of a request that changes something. Reading twice is harmless, and two reads of the same second are signed
/// alike.
async fn once(gateway: &Gateway, parts: &Parts, account: AccountId, signature: &str) -> Result<(), Reason> {
    if matches!(parts.method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    // It was checked to be one.
    let signed_s = parts.headers.get("x-amz-date").and_then(|date| seconds(date.to_str().ok()?));
    uses::take(gateway, account, signature, signed_s.ok_or(Reason::Malformed("date"))?).await
}

/// Headers that are text; of the others none is signed by any client.
fn text_headers(headers: &HeaderMap) -> Vec<(&str, &str)> {
    headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect()
}

/// About accounts, or the whole service, not about what is in a cluster.
pub fn is_of_accounts(path: &str) -> bool {
    path == "/metrics" || ["/v1/accounts", "/v1/whoami", "/v1/decisions/"].iter().any(|prefix| path.starts_with(prefix))
}

/// In the caller's cluster where it has one and may connect, so that it is shown which; else in none.
fn admit_to_account(gateway: &Arc<Gateway>, login: Login, origin: Origin) -> Result<Arc<Caller>, Reason> {
    if let Ok(caller) = admit(gateway, login.clone(), None, origin) {
        return Ok(caller);
    }
    let tenant = Tenant::without_cluster(login.account);
    let permit = Permit::new(&gateway.access, gateway.id, login, tenant, origin).ok_or(Reason::Expired)?;
    Ok(Caller::of(gateway, tenant, permit))
}

/// A cluster of the caller's own account, by its name.
fn admit_by_name(gateway: &Arc<Gateway>, login: Login, name: &str, origin: Origin) -> Result<Arc<Caller>, Reason> {
    let known = gateway.access.known();
    let cluster = known.cluster(login.account, name);
    let tenant = cluster.ok_or_else(|| Reason::Cluster(format!("the account has no cluster `{name}`")))?.tenant();
    admit_to(gateway, login, tenant, origin)
}
