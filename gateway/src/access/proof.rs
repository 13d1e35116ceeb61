//! From a proof to who gave it: keys and verifiers are looked up here, signatures are checked in the `identity` crate.

use identity::msk;
use identity::request::{Authorization, Request};
use identity::scram::{First, Verifier};
use identity::sigv4::{Scope, SigningKey, hex, sha256};
use service::identities::{GatewayKey, derived_name};
use types::{AccountId, KeyHolder};

use super::known::{Known, Login, Who, verifier};
use super::reason::Reason;

/// A key for those that are not known: wrong as soon as it is asked, as long as it takes with another.
fn nobodys_key(scope: &Scope) -> SigningKey {
    SigningKey::derive("nobody", scope)
}

/// The key of a proof's scope, or why there is none.
fn signing_key<'a>(known: &'a Known, scope: &Scope) -> (SigningKey, Result<&'a GatewayKey, Reason>) {
    let Some(key) = known.key(&scope.key_id) else {
        return (nobodys_key(scope), Err(Reason::UnknownKey(scope.key_id.clone())));
    };
    let name = derived_name(&scope.date, &scope.region);
    match key.derived.get(&name).and_then(|derived| SigningKey::from_hex(&derived.0)) {
        Some(signing) => (signing, Ok(key)),
        None => (nobodys_key(scope), Err(Reason::NotDerived(name))),
    }
}

/// Whether a signature of this scope can be checked at all.
///
/// # Errors
/// There is no such key, or it is not derived for that day and region.
pub fn is_known(known: &Known, scope: &Scope) -> Result<(), Reason> {
    signing_key(known, scope).1.map(|_| ())
}

fn login(key: &GatewayKey, token: Option<&str>, user_agent: Option<String>, now_s: i64) -> Result<Login, Reason> {
    let (who, expires_ms) = match &key.record.holder {
        KeyHolder::User { user } if token.is_none() => (Who::User(user.clone()), None),
        KeyHolder::User { .. } => return Err(Reason::SessionToken),
        KeyHolder::Session { role, session, expires_ms, policy, token_sha256 } => {
            let given = token.map(|token| hex(&sha256(token.as_bytes())));
            if given.as_ref() != Some(token_sha256) {
                return Err(Reason::SessionToken);
            }
            if *expires_ms <= now_s * 1_000 {
                return Err(Reason::Expired);
            }
            let (role, session, policy) = (role.clone(), session.clone(), policy.clone());
            (Who::Session { role, session, policy }, Some(*expires_ms))
        }
    };
    Ok(Login {
        account: key.record.account,
        who,
        key: Some(key.record.id.clone()),
        password: None,
        issuer: None,
        token: None,
        expires_ms,
        user_agent,
    })
}

/// Whom a client's certificate names: a user by the ARN among its URIs, to the letter. Its CA is trusted to say so.
pub fn of_certificate(known: &Known, uris: &[String]) -> Option<Login> {
    let user = |uri: &String| {
        let (account, name) = uri.strip_prefix("arn:aws:iam::")?.split_once(":user/")?;
        let account = Some(account).filter(|digits| digits.len() == 12)?.parse().ok().map(AccountId)?;
        known.user(account, name).map(|_| (account, name.to_owned()))
    };
    let mut users = uris.iter().filter_map(user);
    let (account, name) = match (users.next(), users.next()) {
        (Some(only), None) => only,
        _ => return None,
    };
    let who = Who::User(name);
    Some(Login {
        account,
        who,
        key: None,
        password: None,
        issuer: None,
        token: None,
        expires_ms: None,
        user_agent: None,
    })
}

/// Who signed the payload of `AWS_MSK_IAM`, or the token of a signer.
pub fn of_msk(known: &Known, signed: msk::Signed, now_s: i64) -> Result<Login, Reason> {
    let (proof, signature) = signed;
    let (signing, key) = signing_key(known, &proof.scope);
    let checked = proof.check(&signature, &signing, now_s);
    let key = key?;
    let login =
        checked.map_err(Reason::from).and_then(|()| login(key, proof.token.as_deref(), proof.user_agent, now_s));
    login.map_err(|reason| reason.of_key(&key.record))
}

/// Who signed an HTTP request.
pub fn of_request(
    known: &Known,
    authorization: &Authorization,
    request: &Request<'_>,
    now_s: i64,
) -> Result<Login, Reason> {
    let (signing, key) = signing_key(known, &authorization.scope);
    let checked = authorization.check(request, &signing, now_s);
    let key = key?;
    let header = |wanted: &str| request.headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    let (token, user_agent) = (header("x-amz-security-token"), header("user-agent").map(str::to_owned));
    let login = checked.map_err(Reason::from).and_then(|()| login(key, token, user_agent, now_s));
    login.map_err(|reason| reason.of_key(&key.record))
}

/// The user of a SCRAM name, `ACCOUNT/NAME`, or a user of the account whose cluster the client connects to.
pub fn scram_user(name: &str, account: AccountId) -> (AccountId, &str) {
    let split = name.split_once('/').filter(|(digits, _)| digits.len() == 12);
    let explicit = split.and_then(|(digits, user)| Some((AccountId(digits.parse().ok()?), user)));
    explicit.unwrap_or((account, name))
}

/// What a SCRAM exchange goes on with; also for users that do not exist, who fail at its end.
pub fn scram_verifier(known: &Known, first: &First, account: AccountId, nobody: &[u8]) -> (Verifier, Option<Login>) {
    let (account, user) = scram_user(&first.user, account);
    let stored = known.user(account, user).and_then(|user| user.scram.clone());
    match stored.as_ref().and_then(verifier) {
        Some(verifier) => {
            let who = Who::User(user.to_owned());
            let login = Login {
                account,
                who,
                key: None,
                password: stored,
                issuer: None,
                token: None,
                expires_ms: None,
                user_agent: None,
            };
            (verifier, Some(login))
        }
        None => (Verifier::of_nobody(nobody, &format!("{}/{user}", account.digits())), None),
    }
}
