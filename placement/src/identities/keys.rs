//! Access keys of users, temporary credentials of roles.

use identity::sigv4::{hex, sha256};
use serde::{Deserialize, Serialize};
use service::api::ApiError;
use service::identities::{CreatedKey, Holder, IdentityChanged, NewKey};
use service::random;
use types::{AccessKeyRecord, AccountId, ErrorCode, KeyHolder};

use super::{Plan, absent, check_document, check_name, holder_key, invalid};
use crate::records::{json, parse};
use crate::seal::Seal;
use crate::store::{MetadataStore, Transaction};

pub const KEYS: &str = "identity/key/";
const KEYS_PER_USER_MAX: usize = 10;
/// Of one account, sessions among them: gateways hold them, and three days' keys of each.
const KEYS_MAX: usize = 2_000;
/// Of one role, at a time.
const SESSIONS_MAX: usize = 1_000;
/// How long temporary credentials last, in seconds; as at AWS STS.
const DURATION_S: std::ops::RangeInclusive<u32> = 900..=43_200;

/// An access key with its secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SealedKey {
    pub record: AccessKeyRecord,
    pub sealed: String,
}

/// Temporary credentials that have ended.
pub fn has_expired(record: &AccessKeyRecord, now_ms: i64) -> bool {
    matches!(record.holder, KeyHolder::Session { expires_ms, .. } if expires_ms <= now_ms)
}

/// Access keys of a user, or sessions of a role.
pub async fn keys_of(
    store: &dyn MetadataStore,
    account: AccountId,
    holder: &Holder,
) -> Result<Vec<(String, AccessKeyRecord)>, ApiError> {
    let mut found = Vec::new();
    for (key, entry) in store.range(KEYS).await?.1 {
        let SealedKey { record, .. } = parse(&entry)?;
        let is_of = match (&record.holder, holder) {
            (KeyHolder::User { user }, Holder::User(name)) => user == name,
            (KeyHolder::Session { role, .. }, Holder::Role(name)) => role == name,
            _ => false,
        };
        if is_of && record.account == account {
            found.push((key, record));
        }
    }
    Ok(found)
}

async fn count_keys(store: &dyn MetadataStore, account: AccountId) -> Result<usize, ApiError> {
    let rows = store.range(KEYS).await?.1;
    let of = rows.iter().map(|(_, entry)| parse::<SealedKey>(entry).map(|key| key.record.account));
    Ok(of.collect::<Result<Vec<_>, _>>()?.into_iter().filter(|known| *known == account).count())
}

/// So many letters and digits, at random.
fn random_text(alphabet: &[u8], length: usize) -> String {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        // What is over the last whole round of the alphabet would favour its first letters.
        let fair = u8::MAX - u8::MAX % alphabet.len() as u8;
        let bytes = random::wide().to_be_bytes();
        let more = bytes
            .into_iter()
            .filter(|byte| *byte < fair)
            .map(|byte| char::from(alphabet[usize::from(byte) % alphabet.len()]));
        text.extend(more.take(length - text.len()));
    }
    text
}

const BASE32: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BASE62: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

pub async fn create_key(
    store: &dyn MetadataStore,
    seal: Option<&Seal>,
    account: AccountId,
    new: &NewKey,
    now_ms: i64,
) -> Result<Plan, ApiError> {
    let seal = seal.ok_or_else(|| {
        invalid("placement has no key to seal secrets with: start it with --seal-key FILE, the same for each of its processes")
    })?;
    let holder = match new {
        NewKey::User { user } => Holder::User(user.clone()),
        NewKey::Session { role, .. } => Holder::Role(role.clone()),
    };
    let holder_key = holder_key(account, &holder);
    let what = if matches!(holder, Holder::User(_)) { "user" } else { "role" };
    let (Holder::User(name) | Holder::Role(name)) = &holder;
    let entry = store.get(&holder_key).await?.ok_or_else(|| absent(what, name))?;
    let (known, in_account) = (keys_of(store, account, &holder).await?, count_keys(store, account).await?);
    if in_account >= KEYS_MAX {
        return Err(invalid(format!("the account has {KEYS_MAX} access keys and sessions already")));
    }
    let (prefix, token, kind) = match new {
        NewKey::User { user } => {
            if known.len() >= KEYS_PER_USER_MAX {
                return Err(invalid(format!(
                    "user `{user}` has {KEYS_PER_USER_MAX} access keys already: revoke one first"
                )));
            }
            ("AKIA", None, KeyHolder::User { user: user.clone() })
        }
        NewKey::Session { role, session, duration_s, policy } => {
            check_name(session, "session")?;
            let open = known.iter().filter(|(.., record)| !has_expired(record, now_ms)).count();
            if open >= SESSIONS_MAX {
                return Err(invalid(format!(
                    "role `{role}` has {SESSIONS_MAX} sessions already: they end by themselves"
                )));
            }
            check_document(policy.as_deref())?;
            if !DURATION_S.contains(duration_s) {
                let (least, most) = (DURATION_S.start(), DURATION_S.end());
                return Err(invalid(format!("temporary credentials last {least} to {most} seconds, not {duration_s}")));
            }
            let token = random_text(BASE62, 64);
            let token_sha256 = hex(&sha256(token.as_bytes()));
            let expires_ms = now_ms + i64::from(*duration_s) * 1_000;
            let (role, session, policy) = (role.clone(), session.clone(), policy.clone());
            ("ASIA", Some(token), KeyHolder::Session { role, session, expires_ms, policy, token_sha256 })
        }
    };
    let (id, secret) = (format!("{prefix}{}", random_text(BASE32, 16)), random_text(BASE62, 40));
    let sealed = seal.seal(&id, &secret).ok_or_else(|| ApiError::new(ErrorCode::Internal, "sealing failed"))?;
    let expires_ms = match &kind {
        KeyHolder::Session { expires_ms, .. } => Some(*expires_ms),
        KeyHolder::User { .. } => None,
    };
    let record = AccessKeyRecord { id: id.clone(), account, holder: kind, created_ms: now_ms };
    let key = format!("{KEYS}{id}");
    // Whose sessions have run out, or who is deleted meanwhile: the holder is written again, so that one of both looks again.
    let transaction = Transaction {
        compares: vec![(holder_key.clone(), entry.revision), (key.clone(), 0)],
        puts: vec![(holder_key, entry.value), (key, json(&SealedKey { record, sealed }))],
        deletes: known.into_iter().filter(|(.., record)| has_expired(record, now_ms)).map(|(key, ..)| key).collect(),
    };
    let created = CreatedKey { id, secret, session_token: token, expires_ms };
    Ok((transaction, IdentityChanged { key: Some(created), ..IdentityChanged::default() }))
}
