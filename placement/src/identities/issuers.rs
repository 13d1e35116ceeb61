//! Issuers of tokens that accounts trust.

use identity::jwt::TOKEN_ID_BYTES_MAX;
use identity::sigv4::{hex, sha256};
use service::api::ApiError;
use types::{AccountId, DeniedTokens, ErrorCode, IssuerKeys, IssuerRecord, is_valid_identity_name};

use super::{Plan, absent, check_name, delete, invalid, put};
use crate::records::{json, parse};
use crate::store::MetadataStore;

pub const ISSUERS: &str = "identity/issuer/";
pub const DENIED: &str = "identity/denied/";
const CLAIMS: &str = "identity/issuer-claim/";
/// Of one account.
const ISSUERS_MAX: usize = 20;
const AUDIENCES_MAX: usize = 10;
const ROLES_MAX: usize = 50;
/// Tokens of one issuer that are denied.
const DENIED_MAX: usize = 1_000;
const UNTIL_S_MAX: i64 = 253_402_300_799;
/// Issuers of one account whose denied tokens are kept, with those that are gone.
const DENIED_ISSUERS_MAX: usize = 100;
const TEXT_BYTES_MAX: usize = 512;
const KEYS_BYTES_MAX: usize = 64 * 1024;

fn issuer_key(account: AccountId, name: &str) -> String {
    format!("{ISSUERS}{}/{name}", account.digits())
}

pub async fn add_issuer(
    store: &dyn MetadataStore,
    account: AccountId,
    issuer: &IssuerRecord,
) -> Result<Plan, ApiError> {
    let issuer = IssuerRecord { account, ..issuer.clone() };
    check(&issuer)?;
    let key = issuer_key(account, &issuer.name);
    let of_account = store.range(&format!("{ISSUERS}{}/", account.digits())).await?.1.len();
    if of_account >= ISSUERS_MAX {
        return Err(invalid(format!("the account has {ISSUERS_MAX} issuers already")));
    }
    if store.get(&key).await?.is_some() {
        return Err(ApiError::new(ErrorCode::AlreadyExists, format!("issuer `{}` is there already", issuer.name)));
    }
    // A token must not be of two accounts, or of two issuers of one.
    let claims = claims(&issuer);
    for claim in &claims {
        if store.get(claim).await?.is_some() {
            let message = "this issuer is trusted for this audience already";
            return Err(ApiError::new(ErrorCode::AlreadyExists, message));
        }
    }
    let (mut transaction, changed) = put(key, 0, &issuer);
    transaction.compares.extend(claims.iter().map(|claim| (claim.clone(), 0)));
    transaction.puts.extend(claims.into_iter().map(|claim| (claim, json(&account))));
    Ok((transaction, changed))
}

/// What says that an issuer and an audience are taken.
fn claims(issuer: &IssuerRecord) -> Vec<String> {
    let mut audiences = issuer.audiences.clone();
    audiences.sort_unstable();
    audiences.dedup();
    let claim = |audience: &String| hex(&sha256(format!("{}\n{audience}", issuer.issuer).as_bytes()));
    audiences.iter().map(|audience| format!("{CLAIMS}{}", claim(audience))).collect()
}

pub async fn remove_issuer(store: &dyn MetadataStore, account: AccountId, name: &str) -> Result<Plan, ApiError> {
    let key = issuer_key(account, name);
    let entry = store.get(&key).await?.ok_or_else(|| absent("issuer", name))?;
    let issuer: IssuerRecord = parse(&entry)?;
    let (mut transaction, changed) = delete(key, entry.revision);
    transaction.deletes.extend(claims(&issuer));
    // What was denied stays so if the issuer is made anew, as it is to change it; of a hundred names.
    if store.range(&denied_key(account, "")).await?.1.len() > DENIED_ISSUERS_MAX {
        transaction.deletes.push(denied_key(account, name));
    }
    Ok((transaction, changed))
}

fn denied_key(account: AccountId, issuer: &str) -> String {
    format!("{DENIED}{}/{issuer}", account.digits())
}

/// The tokens of an issuer that are denied, and what the store has of them.
async fn denied(store: &dyn MetadataStore, account: AccountId, issuer: &str) -> Result<(DeniedTokens, u64), ApiError> {
    if store.get(&issuer_key(account, issuer)).await?.is_none() {
        return Err(absent("issuer", issuer));
    }
    let none = || DeniedTokens { account, issuer: issuer.to_owned(), ..DeniedTokens::default() };
    let entry = store.get(&denied_key(account, issuer)).await?;
    let revision = entry.as_ref().map_or(0, |entry| entry.revision);
    Ok((entry.as_ref().map(parse).transpose()?.unwrap_or_else(none), revision))
}

pub async fn deny_token(
    store: &dyn MetadataStore,
    account: AccountId,
    issuer: &str,
    id: &str,
    until_s: Option<i64>,
    now_s: i64,
) -> Result<Plan, ApiError> {
    if !(1..=TOKEN_ID_BYTES_MAX).contains(&id.len()) {
        return Err(invalid(format!("the id of a token (`jti`) has 1 to {TOKEN_ID_BYTES_MAX} bytes")));
    }
    if until_s.is_some_and(|until_s| until_s <= now_s || until_s > UNTIL_S_MAX) {
        return Err(invalid("a token is denied until a time to come, in seconds since 1970, before the year 10000"));
    }
    let (mut denied, revision) = denied(store, account, issuer).await?;
    denied.tokens.retain(|_, until_s| until_s.is_none_or(|until_s| until_s > now_s));
    let longest = |before: Option<i64>| before.zip(until_s).map(|(before, until_s)| before.max(until_s));
    let until_s = denied.tokens.get(id).map_or(until_s, |before| longest(*before));
    denied.tokens.insert(id.to_owned(), until_s);
    if denied.tokens.len() > DENIED_MAX {
        let message = format!(
            "{DENIED_MAX} tokens of issuer `{issuer}` are denied already: allow those again that have ended, or say until when"
        );
        return Err(invalid(message));
    }
    Ok(put(denied_key(account, issuer), revision, &denied))
}

pub async fn allow_token(
    store: &dyn MetadataStore,
    account: AccountId,
    issuer: &str,
    id: &str,
) -> Result<Plan, ApiError> {
    let (mut denied, revision) = denied(store, account, issuer).await?;
    denied.tokens.remove(id).ok_or_else(|| absent("denied token", id))?;
    Ok(put(denied_key(account, issuer), revision, &denied))
}

fn check(issuer: &IssuerRecord) -> Result<(), ApiError> {
    check_name(&issuer.name, "issuer")?;
    let is_text =
        |text: &str| (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.bytes().any(|b| b.is_ascii_control());
    if !is_text(&issuer.issuer) {
        return Err(invalid(format!("an issuer is a text of 1 to {TEXT_BYTES_MAX} bytes, as tokens have it in `iss`")));
    }
    let has_audiences = (1..=AUDIENCES_MAX).contains(&issuer.audiences.len());
    if !has_audiences || !issuer.audiences.iter().all(|audience| is_text(audience)) {
        return Err(invalid(format!("an issuer has 1 to {AUDIENCES_MAX} audiences, as tokens have them in `aud`")));
    }
    let has_roles = (1..=ROLES_MAX).contains(&issuer.roles.len());
    if !has_roles || !issuer.roles.iter().all(|role| is_valid_identity_name(role)) {
        return Err(invalid(format!("an issuer has 1 to {ROLES_MAX} roles that its tokens may take on")));
    }
    if issuer.role_claim.is_none() && issuer.roles.len() > 1 {
        return Err(invalid("with several roles a claim says which one is meant"));
    }
    if !issuer.role_claim.as_deref().is_none_or(is_text) {
        return Err(invalid("a claim has a name"));
    }
    match &issuer.keys {
        IssuerKeys::Url { url } if !is_text(url) => Err(invalid("the URL of the keys is missing")),
        IssuerKeys::Set { jwks } if jwks.len() > KEYS_BYTES_MAX => {
            Err(invalid(format!("a set of keys has {KEYS_BYTES_MAX} bytes at most")))
        }
        IssuerKeys::Url { .. } | IssuerKeys::Set { .. } => Ok(()),
    }
}
