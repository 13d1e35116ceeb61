//! Identities as a gateway holds them: looked up by key and name, with their policies parsed once.

use std::collections::HashMap;
use std::sync::Arc;

use identity::scram::Verifier;
use policies::{Document, DocumentKind, Principal};
use service::identities::{GatewayKey, Identities};
use types::{
    AccountId, AccountRecord, ClusterRecord, DeniedTokens, Grants, IssuerRecord, KeyHolder, Limits, MSK_SERVERLESS,
    RoleRecord, ScramRecord, UserRecord, built_in,
};

use super::reason::Reason;
use crate::tenant::Tenant;

/// What is logged of an issuer that nobody trusts.
const ISSUER_CHARS_MAX: usize = 200;

/// A cluster with its resource policy.
#[derive(Debug)]
pub struct Cluster {
    pub record: ClusterRecord,
    /// `Err`: there is one, and it cannot be read; then nobody may do anything.
    pub policy: Result<Option<Arc<Document>>, Unreadable>,
}

/// A stored policy is not valid for this build: what it denies is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

impl Cluster {
    pub fn tenant(&self) -> Tenant {
        Tenant { account: self.record.account, cluster: self.record.id }
    }
}

/// Who somebody turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub account: AccountId,
    pub who: Who,
    /// The access key that it was proved with.
    pub key: Option<String>,
    /// What was stored of the password that it was proved with.
    pub password: Option<ScramRecord>,
    /// Who said that it is so.
    pub issuer: Option<Arc<IssuerRecord>>,
    /// The token's id, if it was one that has one.
    pub token: Option<String>,
    /// When the credentials end, in ms since 1970.
    pub expires_ms: Option<i64>,
    /// What the client calls itself, where it says so in its proof.
    pub user_agent: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    User(String),
    Session { role: String, session: String, policy: Option<String> },
}

impl Login {
    /// A user, or a session of the same role whatever its name: those change with every renewal.
    pub fn is_same_principal(&self, other: &Self) -> bool {
        let name = |login: &Self| match &login.who {
            Who::User(user) => (false, user.clone()),
            Who::Session { role, .. } => (true, role.clone()),
        };
        self.account == other.account && name(self) == name(other)
    }

    pub fn arn(&self) -> String {
        let account = self.account.digits();
        match &self.who {
            Who::User(user) => format!("arn:aws:iam::{account}:user/{user}"),
            Who::Session { role, session, .. } => format!("arn:aws:sts::{account}:assumed-role/{role}/{session}"),
        }
    }
}

/// What a principal stands on at a moment.
#[derive(Debug)]
pub struct Standing {
    pub principal: Principal,
    pub identity: Vec<Arc<Document>>,
    pub boundary: Option<Arc<Document>>,
    pub session: Option<Arc<Document>>,
    pub tags: Vec<(String, String)>,
}

type Name = (AccountId, String);

/// See the module's text.
#[derive(Debug, Default)]
pub struct Known {
    pub day: String,
    /// Of which salts of users that are not there are made; empty where placement tells none.
    pub salts: String,
    pub accounts: Vec<AccountRecord>,
    pub clusters: Vec<Arc<Cluster>>,
    by_tenant: HashMap<Tenant, Arc<Cluster>>,
    users: HashMap<Name, UserRecord>,
    roles: HashMap<Name, RoleRecord>,
    keys: HashMap<String, GatewayKey>,
    profiles: HashMap<Name, Limits>,
    /// By what their tokens call them.
    issuers: HashMap<String, Vec<Arc<IssuerRecord>>>,
    /// By account and name of the issuer.
    denied: HashMap<Name, DeniedTokens>,
    /// Identity policies, boundaries and session policies by their text.
    documents: HashMap<String, Result<Arc<Document>, Unreadable>>,
}

impl Known {
    /// `before`: what is parsed already.
    pub fn new(identities: Identities, before: &Self) -> Self {
        let Identities { day, accounts, clusters, users, roles, keys, profiles, issuers, denied, salts } = identities;
        let mut by_issuer: HashMap<String, Vec<Arc<IssuerRecord>>> = HashMap::new();
        for issuer in issuers {
            by_issuer.entry(issuer.issuer.clone()).or_default().push(Arc::new(issuer));
        }
        let mut documents = HashMap::new();
        let grants = users.iter().map(|user| &user.grants).chain(roles.iter().map(|role| &role.grants));
        let texts = grants.flat_map(|grants| grants.policies.values().chain(&grants.boundary));
        let sessions = keys.iter().filter_map(|key| match &key.record.holder {
            KeyHolder::Session { policy, .. } => policy.as_ref(),
            KeyHolder::User { .. } => None,
        });
        for text in texts.chain(sessions) {
            if !documents.contains_key(text) {
                let parsed = before.documents.get(text).cloned();
                documents.insert(text.clone(), parsed.unwrap_or_else(|| parse(text, DocumentKind::Identity)));
            }
        }
        let cluster = |record: ClusterRecord| {
            let tenant = Tenant { account: record.account, cluster: record.id };
            let known = before.by_tenant.get(&tenant).filter(|known| known.record == record);
            let parse = |text: &String| parse(text, DocumentKind::Resource);
            known.cloned().unwrap_or_else(|| {
                let policy = record.policy.as_ref().map(parse).transpose();
                Arc::new(Cluster { record, policy })
            })
        };
        let clusters: Vec<Arc<Cluster>> = clusters.into_iter().map(cluster).collect();
        Self {
            day,
            salts,
            accounts,
            by_tenant: clusters.iter().map(|cluster| (cluster.tenant(), Arc::clone(cluster))).collect(),
            clusters,
            users: users.into_iter().map(|user| ((user.account, user.name.clone()), user)).collect(),
            roles: roles.into_iter().map(|role| ((role.account, role.name.clone()), role)).collect(),
            keys: keys.into_iter().map(|key| (key.record.id.clone(), key)).collect(),
            profiles: profiles.into_iter().map(|known| ((known.account, known.name), known.limits)).collect(),
            issuers: by_issuer,
            denied: denied.into_iter().map(|denied| ((denied.account, denied.issuer.clone()), denied)).collect(),
            documents,
        }
    }

    pub fn account(&self, id: AccountId) -> Option<&AccountRecord> {
        self.accounts.iter().find(|account| account.id == id)
    }

    pub fn cluster(&self, account: AccountId, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.iter().find(|cluster| cluster.record.account == account && cluster.record.name == name)
    }

    pub fn clusters_of(&self, account: AccountId) -> impl Iterator<Item = &Arc<Cluster>> {
        self.clusters.iter().filter(move |cluster| cluster.record.account == account)
    }

    pub fn cluster_of(&self, tenant: Tenant) -> Option<&Arc<Cluster>> {
        self.by_tenant.get(&tenant)
    }

    pub fn key(&self, id: &str) -> Option<&GatewayKey> {
        self.keys.get(id)
    }

    pub fn keys(&self) -> impl Iterator<Item = &GatewayKey> {
        self.keys.values()
    }

    pub fn user(&self, account: AccountId, name: &str) -> Option<&UserRecord> {
        self.users.get(&(account, name.to_owned()))
    }

    pub fn users(&self) -> impl Iterator<Item = &UserRecord> {
        self.users.values()
    }

    pub fn role(&self, account: AccountId, name: &str) -> Option<&RoleRecord> {
        self.roles.get(&(account, name.to_owned()))
    }

    pub fn roles(&self) -> impl Iterator<Item = &RoleRecord> {
        self.roles.values()
    }

    pub fn issuers(&self) -> impl Iterator<Item = &Arc<IssuerRecord>> {
        self.issuers.values().flatten()
    }

    /// The account's issuer that a token is of, by what it says of itself: `iss`, to the letter, and `aud`.
    ///
    /// # Errors
    /// Nobody trusts it, or more than one account does for what it is for.
    pub fn issuer_of(&self, name: &str, audiences: &[&str]) -> Result<Arc<IssuerRecord>, Reason> {
        let is_for =
            |issuer: &&Arc<IssuerRecord>| issuer.audiences.iter().any(|known| audiences.contains(&known.as_str()));
        let mut all = self.issuers.get(name).into_iter().flatten().filter(is_for);
        match (all.next(), all.next()) {
            (Some(only), None) => Ok(Arc::clone(only)),
            _ => Err(Reason::UnknownIssuer(name.chars().take(ISSUER_CHARS_MAX).collect())),
        }
    }

    /// The tokens of an issuer that are denied.
    pub fn denied(&self, account: AccountId, issuer: &str) -> Option<&DeniedTokens> {
        self.denied.get(&(account, issuer.to_owned()))
    }

    /// Whether a token was taken back before it ends.
    fn is_denied(&self, issuer: &IssuerRecord, token: &str, now_ms: i64) -> bool {
        let until_s = self.denied(issuer.account, &issuer.name).and_then(|denied| denied.tokens.get(token));
        until_s.is_some_and(|until_s| until_s.is_none_or(|until_s| now_ms < until_s.saturating_mul(1_000)))
    }

    /// What a quota profile limits: one that is built in, or of the first of these accounts that has one of that name.
    pub fn limits(&self, mut owners: impl Iterator<Item = AccountId>, name: &str) -> Limits {
        let own = || owners.find_map(|owner| self.profiles.get(&(owner, name.to_owned())).cloned());
        let found = built_in(name).or_else(own);
        // One that is not there any more does not mean that there is no limit.
        found.or_else(|| built_in(MSK_SERVERLESS)).unwrap_or_default()
    }

    /// Quota profiles of these accounts.
    pub fn profiles(&self, owners: &[AccountId]) -> Vec<(AccountId, &str, &Limits)> {
        let all = self.profiles.iter().filter(|((owner, _), _)| owners.contains(owner));
        let mut all: Vec<_> = all.map(|((owner, name), limits)| (*owner, name.as_str(), limits)).collect();
        all.sort_by_key(|(owner, name, _)| (*owner, *name));
        all
    }

    /// What a principal may be decided by now; `None` if it may do nothing any more: the user or role is gone, the key was
    /// revoked, the credentials have ended, or what is stored of it cannot be read.
    pub fn standing(&self, login: &Login, now_ms: i64) -> Option<Standing> {
        if login.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms) {
            return None;
        }
        if login.key.as_deref().is_some_and(|key| self.key(key).is_none_or(|key| key.record.account != login.account)) {
            return None;
        }
        // Taken away, or not as it was any more.
        if login
            .issuer
            .as_ref()
            .is_some_and(|issuer| self.issuers.get(&issuer.issuer).is_none_or(|all| !all.contains(issuer)))
        {
            return None;
        }
        if let (Some(issuer), Some(token)) = (&login.issuer, &login.token)
            && self.is_denied(issuer, token, now_ms)
        {
            return None;
        }
        let (grants, session): (&Grants, _) = match &login.who {
            Who::User(name) => {
                let user = self.user(login.account, name)?;
                // A password that was changed since is a key that was revoked.
                if login.password.is_some() && login.password != user.scram {
                    return None;
                }
                (&user.grants, None)
            }
            Who::Session { role, policy, .. } => (&self.role(login.account, role)?.grants, policy.as_ref()),
        };
        let document = |text: &String| self.documents.get(text).cloned().unwrap_or(Err(Unreadable));
        let standing = Standing {
            principal: Principal::parse(&login.arn()).ok()?,
            identity: grants.policies.values().map(document).collect::<Result<_, _>>().ok()?,
            boundary: grants.boundary.as_ref().map(document).transpose().ok()?,
            session: session.map(document).transpose().ok()?,
            tags: grants.tags.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        };
        Some(standing)
    }
}

fn parse(text: &str, kind: DocumentKind) -> Result<Arc<Document>, Unreadable> {
    Document::parse(text, kind).map(Arc::new).map_err(|error| {
        tracing::error!(%error, "a stored policy cannot be read: whom it belongs to may do nothing");
        Unreadable
    })
}

/// The verifier of a stored password; `None` if what is stored is none.
pub fn verifier(record: &ScramRecord) -> Option<Verifier> {
    Some(Verifier {
        salt: unhex(&record.salt)?,
        iterations: record.iterations,
        stored_key: unhex(&record.stored_key)?.try_into().ok()?,
        server_key: unhex(&record.server_key)?.try_into().ok()?,
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = |at: usize| text.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
    (0..text.len()).step_by(2).map(digits).collect()
}

#[cfg(test)]
mod tests {
    use types::IssuerKeys;

    use super::*;

    const ALLOWS: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
    /// A policy of a release to come, say.
    const UNREADABLE: &str =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Perhaps","Action":"*","Resource":"*"}]}"#;

    fn login(session: Option<&str>) -> Login {
        let who = match session {
            None => Who::User("app".into()),
            Some(policy) => Who::Session { role: "r".into(), session: "s".into(), policy: Some(policy.into()) },
        };
        let (account, key, password, issuer) = (AccountId(1), None, None, None);
        Login { account, who, key, password, issuer, token: None, expires_ms: None, user_agent: None }
    }

    fn known(policies: &[&str], boundary: Option<&str>) -> Known {
        let grants = Grants {
            policies: policies.iter().enumerate().map(|(at, text)| (at.to_string(), (*text).to_owned())).collect(),
            boundary: boundary.map(str::to_owned),
            ..Grants::default()
        };
        let user = UserRecord { account: AccountId(1), name: "app".into(), grants: grants.clone(), scram: None };
        let role = RoleRecord { account: AccountId(1), name: "r".into(), grants };
        let identities = Identities { users: vec![user], roles: vec![role], ..Identities::default() };
        Known::new(identities, &Known::default())
    }

    /// What cannot be read might deny: nothing is decided without it.
    #[test]
    fn whoever_has_a_policy_that_cannot_be_read_may_do_nothing() {
        assert!(known(&[ALLOWS], Some(ALLOWS)).standing(&login(None), 0).is_some());
        assert!(known(&[ALLOWS, UNREADABLE], None).standing(&login(None), 0).is_none());
        assert!(known(&[ALLOWS], Some(UNREADABLE)).standing(&login(None), 0).is_none());
        // Of a session the policy is its key's, which is not among these: it is not known, and so not readable.
        assert!(known(&[ALLOWS], None).standing(&login(Some(UNREADABLE)), 0).is_none());
        assert!(known(&[ALLOWS], None).standing(&login(Some(ALLOWS)), 0).is_some(), "the same text as the role's");
    }

    #[test]
    fn a_token_is_denied_by_its_issuers_account_until_then() {
        let issuer = |account: u64, name: &str| {
            let (keys, roles) = (IssuerKeys::Set { jwks: String::new() }, vec!["r".to_owned()]);
            let (issuer, audiences) = (format!("https://{name}"), Vec::new());
            IssuerRecord {
                account: AccountId(account),
                name: name.into(),
                issuer,
                audiences,
                keys,
                roles,
                role_claim: None,
            }
        };
        let (ours, other) = (issuer(1, "sso"), issuer(1, "other"));
        let role = RoleRecord { account: AccountId(1), name: "r".into(), grants: Grants::default() };
        let deny = |account: u64, issuer: &str, tokens: &[(&str, Option<i64>)]| DeniedTokens {
            account: AccountId(account),
            issuer: issuer.into(),
            tokens: tokens.iter().map(|(id, until_s)| ((*id).to_owned(), *until_s)).collect(),
        };
        let denied = vec![deny(1, "sso", &[("a", None), ("b", Some(10))]), deny(2, "sso", &[("c", None)])];
        let issuers = vec![ours.clone(), other.clone()];
        let identities = Identities { roles: vec![role], issuers, denied, ..Identities::default() };
        let known = Known::new(identities, &Known::default());
        let who = Who::Session { role: "r".into(), session: "s".into(), policy: None };
        let stands = |issuer: &IssuerRecord, token: Option<&str>, now_ms| {
            let (issuer, token) = (Some(Arc::new(issuer.clone())), token.map(str::to_owned));
            known.standing(&Login { who: who.clone(), issuer, token, ..login(None) }, now_ms).is_some()
        };
        assert!(!stands(&ours, Some("a"), 0) && stands(&other, Some("a"), 0));
        assert!(!stands(&ours, Some("b"), 9_999) && stands(&ours, Some("b"), 10_000));
        // Of another account's issuer of that name; and tokens that have no id cannot be denied.
        assert!(stands(&ours, Some("c"), 0) && stands(&ours, None, 0));
    }

    #[test]
    fn who_is_not_there_or_has_ended_stands_on_nothing() {
        let known = known(&[ALLOWS], None);
        assert!(known.standing(&Login { account: AccountId(2), ..login(None) }, 0).is_none(), "another account's");
        assert!(known.standing(&Login { who: Who::User("APP".into()), ..login(None) }, 0).is_none());
        assert!(known.standing(&Login { key: Some("AKIA".into()), ..login(None) }, 0).is_none(), "revoked");
        let ends = Login { expires_ms: Some(1_000), ..login(None) };
        assert!(known.standing(&ends, 999).is_some() && known.standing(&ends, 1_000).is_none());
    }
}
