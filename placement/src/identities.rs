//! Accounts, clusters, users, roles and access keys: how they change, and what gateways are told of them.
//!
//! All of them lie under `identity/`, so that one read of the store has them as they were at one revision.

mod issuers;
mod keys;
mod quotas;

use std::collections::{BTreeMap, BTreeSet};

use identity::sigv4::{Scope, SigningKey};
use serde::Serialize;
use service::api::{ApiError, DeleteTopic};
use service::identities::{
    ChangeIdentity, DerivedKey, GatewayKey, Holder, Identities, IdentityChange, IdentityChanged, derived_name,
};
use service::{clock, random};
use types::limits::INTERNAL_PREFIX;
use types::{
    AccountId, AccountRecord, ClusterId, ClusterRecord, ErrorCode, Grants, RESERVED_CLUSTER, RoleRecord, UserRecord,
    is_valid_cluster_name, is_valid_identity_name,
};

use self::issuers::{DENIED, ISSUERS, add_issuer, allow_token, deny_token, remove_issuer};
use self::keys::{KEYS, SealedKey, create_key, has_expired, keys_of};
use self::quotas::{PROFILES, set_profile, set_quota};
use crate::records::{self, DefaultCluster, json, name_key, parse};
use crate::seal::Seal;
use crate::store::{Entry, MetadataStore, Outcome, StoreError, Transaction};

/// Everything in here.
pub const IDENTITIES: &str = "identity/";
const ACCOUNTS: &str = "identity/account/";
const CLUSTERS: &str = "identity/cluster/";
const USERS: &str = "identity/user/";
const ROLES: &str = "identity/role/";

/// What the cluster that is there from the start is called, and where it is said to be.
const DEFAULT_NAME: &str = "default";
const DEFAULT_REGION: &str = "us-east-1";
/// Documents, and tags, of one user or role.
const POLICIES_MAX: usize = 20;
const TAGS_MAX: usize = 50;
/// Of one account.
const HOLDERS_MAX: usize = 1_000;
const CLUSTERS_MAX: usize = 100;
/// Keys are derived for each.
const REGIONS_MAX: usize = 5;
/// Keys that go in one transaction.
const DELETED_AT_ONCE: usize = 50;
/// IAM has 10,240 characters for all policies of a user, and 20,480 for a resource policy.
const DOCUMENT_BYTES_MAX: usize = 20_480;
/// The service of all keys.
const SERVICE: &str = identity::request::SERVICE;
const DAY_S: i64 = 86_400;

fn cluster_key(account: AccountId, name: &str) -> String {
    format!("{CLUSTERS}{}/{name}", account.digits())
}

fn holder_key(account: AccountId, holder: &Holder) -> String {
    match holder {
        Holder::User(name) => format!("{USERS}{}/{name}", account.digits()),
        Holder::Role(name) => format!("{ROLES}{}/{name}", account.digits()),
    }
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message)
}

fn absent(what: &str, name: &str) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("there is no {what} `{name}`"))
}

fn default_record(default: &DefaultCluster) -> ClusterRecord {
    ClusterRecord {
        account: default.account,
        name: DEFAULT_NAME.to_owned(),
        id: default.cluster,
        uuid: default.cluster.to_string(),
        region: DEFAULT_REGION.to_owned(),
        policy: None,
        quota: None,
    }
}

fn operator_record(account: AccountId) -> AccountRecord {
    AccountRecord { id: account, name: "operator".to_owned(), quota: None }
}

/// Days that keys are derived for: clients' clocks differ, and what was signed yesterday is valid for minutes.
fn days(now_ms: i64) -> [String; 3] {
    let today_s = now_ms / 1_000;
    [today_s - DAY_S, today_s, today_s + DAY_S].map(identity::sigv4::day)
}

/// The first day that keys are derived for now.
pub fn first_day(now_ms: i64) -> String {
    let [first, ..] = days(now_ms);
    first
}

/// All identities, and the revision at which they were so.
pub async fn all(store: &dyn MetadataStore, seal: Option<&Seal>, now_ms: i64) -> Result<(u64, Identities), StoreError> {
    let default = records::default_cluster(store).await?;
    let (revision, rows) = store.range(IDENTITIES).await?;
    let salts = seal.map(|seal| seal.salts.clone()).unwrap_or_default();
    let mut all = Identities { day: first_day(now_ms), salts, ..Identities::default() };
    let mut keys: Vec<SealedKey> = Vec::new();
    for (key, entry) in &rows {
        match key.as_str() {
            key if key.starts_with(ACCOUNTS) => all.accounts.push(parse(entry)?),
            key if key.starts_with(CLUSTERS) => all.clusters.push(parse(entry)?),
            key if key.starts_with(USERS) => all.users.push(parse(entry)?),
            key if key.starts_with(ISSUERS) => all.issuers.push(parse(entry)?),
            key if key.starts_with(DENIED) => all.denied.push(parse(entry)?),
            key if key.starts_with(PROFILES) => all.profiles.push(parse(entry)?),
            key if key.starts_with(ROLES) => all.roles.push(parse(entry)?),
            key if key.starts_with(KEYS) => keys.push(parse(entry)?),
            _ => {}
        }
    }
    if !all.clusters.iter().any(|cluster| cluster.id == default.cluster) {
        all.clusters.push(default_record(&default));
    }
    if !all.accounts.iter().any(|account| account.id == default.account) {
        all.accounts.push(operator_record(default.account));
    }
    let mut regions: BTreeMap<AccountId, BTreeSet<&str>> = BTreeMap::new();
    for cluster in &all.clusters {
        regions.entry(cluster.account).or_default().insert(&cluster.region);
    }
    // Whoever operates all accounts may sign for any of their regions.
    let everywhere: BTreeSet<&str> = regions.values().flatten().copied().collect();
    let days = days(now_ms);
    let mut unsealable = 0;
    let mut derive = |key: SealedKey| {
        let SealedKey { record, sealed } = key;
        // It stays known: connections that it opened are not ended, and it can be revoked.
        let Some(secret) = seal.and_then(|seal| seal.open_sealed(&record.id, &sealed)) else {
            unsealable += 1;
            return GatewayKey { record, derived: BTreeMap::new() };
        };
        // Also of an account that has no cluster yet: its first one is to be made by somebody.
        let none = BTreeSet::from([DEFAULT_REGION]);
        let of_account = regions.get(&record.account).unwrap_or(&none);
        let regions = if record.account == default.account { &everywhere } else { of_account };
        let places = days.iter().flat_map(|day| regions.iter().map(move |region| (day, *region)));
        let derived = places.map(|(day, region)| {
            let scope = Scope {
                key_id: record.id.clone(),
                date: day.clone(),
                region: region.to_owned(),
                service: SERVICE.to_owned(),
            };
            (derived_name(day, region), DerivedKey(SigningKey::derive(&secret, &scope).to_hex()))
        });
        GatewayKey { derived: derived.collect(), record }
    };
    all.keys = keys.into_iter().filter(|key| !has_expired(&key.record, now_ms)).map(&mut derive).collect();
    if unsealable > 0 {
        tracing::error!(unsealable, "secrets of access keys cannot be unsealed: is this the right sealing key?");
    }
    Ok((revision, all))
}

/// Makes one change.
///
/// # Errors
/// What cannot be changed, and why.
pub async fn change(
    store: &dyn MetadataStore,
    seal: Option<&Seal>,
    request: &ChangeIdentity,
    now_ms: i64,
) -> Result<IdentityChanged, ApiError> {
    loop {
        let (transaction, changed) = plan(store, seal, request, now_ms).await?;
        // Another change came first: look again.
        if let Outcome::Committed { revision } = store.transact(transaction).await? {
            if let IdentityChange::DeleteCluster { .. } = request.change {
                delete_internal_topics(store, request.account, changed.cluster).await?;
            }
            return Ok(IdentityChanged { revision, ..changed });
        }
    }
}

type Plan = (Transaction, IdentityChanged);

async fn plan(
    store: &dyn MetadataStore,
    seal: Option<&Seal>,
    request: &ChangeIdentity,
    now_ms: i64,
) -> Result<Plan, ApiError> {
    let account = request.account;
    if !matches!(request.change, IdentityChange::CreateAccount { .. }) {
        check_account(store, account).await?;
    }
    match &request.change {
        IdentityChange::CreateAccount { id, name } => create_account(store, *id, name).await,
        IdentityChange::CreateCluster { name, uuid, region } => {
            create_cluster(store, account, name, uuid.as_deref(), region).await
        }
        IdentityChange::DeleteCluster { name } => delete_cluster(store, account, name).await,
        IdentityChange::SetClusterPolicy { name, document } => {
            let (mut cluster, entry) = find_cluster(store, account, name).await?;
            check_document(document.as_deref())?;
            cluster.policy.clone_from(document);
            Ok(put(cluster_key(account, name), entry.map_or(0, |entry| entry.revision), &cluster))
        }
        IdentityChange::CreateUser { name } => {
            check_room(store, format!("{USERS}{}/", account.digits()), HOLDERS_MAX, "users").await?;
            let user = UserRecord { account, name: name.clone(), grants: Grants::default(), scram: None };
            create(holder_key(account, &Holder::User(name.clone())), "user", name, store, &user).await
        }
        IdentityChange::CreateRole { name } => {
            check_room(store, format!("{ROLES}{}/", account.digits()), HOLDERS_MAX, "roles").await?;
            let role = RoleRecord { account, name: name.clone(), grants: Grants::default() };
            create(holder_key(account, &Holder::Role(name.clone())), "role", name, store, &role).await
        }
        IdentityChange::DeleteUser { name } => delete_holder(store, account, Holder::User(name.clone())).await,
        IdentityChange::DeleteRole { name } => delete_holder(store, account, Holder::Role(name.clone())).await,
        IdentityChange::SetPassword { name, scram } => {
            let key = holder_key(account, &Holder::User(name.clone()));
            let entry = store.get(&key).await?.ok_or_else(|| absent("user", name))?;
            let mut user: UserRecord = parse(&entry)?;
            user.scram.clone_from(scram);
            Ok(put(key, entry.revision, &user))
        }
        IdentityChange::SetTags { holder, tags } => {
            set_grants(store, account, holder, |grants| {
                grants.tags.clone_from(tags);
                check_tags(tags)
            })
            .await
        }
        IdentityChange::SetPolicy { holder, policy, document } => {
            check_name(policy, "policy")?;
            check_document(document.as_deref())?;
            set_grants(store, account, holder, |grants| {
                match document {
                    Some(document) => drop(grants.policies.insert(policy.clone(), document.clone())),
                    None => drop(grants.policies.remove(policy).ok_or_else(|| absent("policy", policy))?),
                }
                let is_full = grants.policies.len() > POLICIES_MAX;
                if is_full {
                    Err(invalid(format!("a user or role has {POLICIES_MAX} policies at most")))
                } else {
                    Ok(())
                }
            })
            .await
        }
        IdentityChange::SetBoundary { holder, document } => {
            check_document(document.as_deref())?;
            set_grants(store, account, holder, |grants| {
                grants.boundary.clone_from(document);
                Ok(())
            })
            .await
        }
        IdentityChange::AddIssuer { issuer } => add_issuer(store, account, issuer).await,
        IdentityChange::RemoveIssuer { name } => remove_issuer(store, account, name).await,
        IdentityChange::DenyToken { issuer, id, until_s } => {
            deny_token(store, account, issuer, id, *until_s, now_ms / 1_000).await
        }
        IdentityChange::AllowToken { issuer, id } => allow_token(store, account, issuer, id).await,
        IdentityChange::SetProfile { name, limits } => set_profile(store, account, name, limits).await,
        IdentityChange::SetQuota { of, profile } => set_quota(store, account, of, profile.as_deref()).await,
        IdentityChange::CreateKey { key } => create_key(store, seal, account, key, now_ms).await,
        IdentityChange::RevokeKey { id } => {
            let key = format!("{KEYS}{id}");
            let entry = store.get(&key).await?.ok_or_else(|| absent("access key", id))?;
            let found: SealedKey = parse(&entry)?;
            if found.record.account != account {
                return Err(absent("access key", id));
            }
            Ok(delete(key, entry.revision))
        }
    }
}

fn put<T: Serialize>(key: String, revision: u64, value: &T) -> Plan {
    let compares = vec![(key.clone(), revision)];
    let transaction = Transaction { compares, puts: vec![(key, json(value))], ..Transaction::default() };
    (transaction, IdentityChanged::default())
}

fn delete(key: String, revision: u64) -> Plan {
    let transaction =
        Transaction { compares: vec![(key.clone(), revision)], deletes: vec![key], ..Transaction::default() };
    (transaction, IdentityChanged::default())
}

fn check_name(name: &str, what: &str) -> Result<(), ApiError> {
    let rule = "1 to 64 of A-Z a-z 0-9 + = , . @ _ -";
    if is_valid_identity_name(name) { Ok(()) } else { Err(invalid(format!("`{name}` is no name of a {what}: {rule}"))) }
}

fn check_document(document: Option<&str>) -> Result<(), ApiError> {
    let is_long = document.is_some_and(|document| document.len() > DOCUMENT_BYTES_MAX);
    if is_long { Err(invalid(format!("a policy has {DOCUMENT_BYTES_MAX} bytes at most"))) } else { Ok(()) }
}

/// As at IAM: they are part of every decision.
fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), ApiError> {
    let is_short =
        |(key, value): (&String, &String)| (1..=128).contains(&key.chars().count()) && value.chars().count() <= 256;
    if tags.len() <= TAGS_MAX && tags.iter().all(is_short) {
        return Ok(());
    }
    Err(invalid(format!("a user or role has {TAGS_MAX} tags at most, of 128 characters in a key and 256 in a value")))
}

/// One more of a kind in an account is not too many: gateways hold all of them.
async fn check_room(store: &dyn MetadataStore, prefix: String, max: usize, what: &str) -> Result<(), ApiError> {
    let count = store.range(&prefix).await?.1.len();
    if count < max { Ok(()) } else { Err(invalid(format!("the account has {max} {what} already"))) }
}

async fn check_account(store: &dyn MetadataStore, account: AccountId) -> Result<(), ApiError> {
    let is_default = records::default_cluster(store).await?.account == account;
    let is_there = is_default || store.get(&format!("{ACCOUNTS}{}", account.digits())).await?.is_some();
    if is_there { Ok(()) } else { Err(absent("account", &account.digits())) }
}

async fn create<T: Serialize>(
    key: String,
    what: &str,
    name: &str,
    store: &dyn MetadataStore,
    value: &T,
) -> Result<Plan, ApiError> {
    check_name(name, what)?;
    if store.get(&key).await?.is_some() {
        return Err(ApiError::new(ErrorCode::AlreadyExists, format!("{what} `{name}` is there already")));
    }
    Ok(put(key, 0, value))
}

async fn create_account(store: &dyn MetadataStore, id: Option<AccountId>, name: &str) -> Result<Plan, ApiError> {
    check_name(name, "account")?;
    let taken: BTreeSet<AccountId> = accounts(store).await?;
    let id = match id {
        Some(id) if id.0 >= 1_000_000_000_000 => return Err(invalid("an account has twelve digits")),
        Some(id) if taken.contains(&id) => {
            return Err(ApiError::new(ErrorCode::AlreadyExists, format!("account {} is there already", id.digits())));
        }
        Some(id) => id,
        None => AccountId(taken.last().map_or(1, |last| last.0 + 1)),
    };
    let (transaction, changed) =
        put(format!("{ACCOUNTS}{}", id.digits()), 0, &AccountRecord { id, name: name.to_owned(), quota: None });
    Ok((transaction, IdentityChanged { account: Some(id), ..changed }))
}

async fn accounts(store: &dyn MetadataStore) -> Result<BTreeSet<AccountId>, ApiError> {
    let mut taken = BTreeSet::from([records::default_cluster(store).await?.account]);
    for (_, entry) in store.range(ACCOUNTS).await?.1 {
        taken.insert(parse::<AccountRecord>(&entry)?.id);
    }
    Ok(taken)
}

async fn find_cluster(
    store: &dyn MetadataStore,
    account: AccountId,
    name: &str,
) -> Result<(ClusterRecord, Option<Entry>), ApiError> {
    if let Some(entry) = store.get(&cluster_key(account, name)).await? {
        return Ok((parse(&entry)?, Some(entry)));
    }
    let default = records::default_cluster(store).await?;
    let is_default = default.account == account && name == DEFAULT_NAME;
    if is_default { Ok((default_record(&default), None)) } else { Err(absent("cluster", name)) }
}

async fn create_cluster(
    store: &dyn MetadataStore,
    account: AccountId,
    name: &str,
    uuid: Option<&str>,
    region: &str,
) -> Result<Plan, ApiError> {
    if !is_valid_cluster_name(name) {
        return Err(invalid(format!("`{name}` is no name of a cluster: 1 to 64 letters, digits and hyphens")));
    }
    if name != RESERVED_CLUSTER {
        check_room(store, format!("{CLUSTERS}{}/", account.digits()), CLUSTERS_MAX, "clusters").await?;
    }
    let is_part = |text: &str| {
        (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if !is_part(region) || uuid.is_some_and(|uuid| !is_part(uuid)) {
        return Err(invalid(
            "a region and the UUID of a cluster are letters, digits and hyphens: they are parts of its ARN",
        ));
    }
    if find_cluster(store, account, name).await.is_ok() {
        return Err(ApiError::new(ErrorCode::AlreadyExists, format!("cluster `{name}` is there already")));
    }
    let mut regions = BTreeSet::from([region.to_owned()]);
    for (_, entry) in store.range(&format!("{CLUSTERS}{}/", account.digits())).await?.1 {
        let other: ClusterRecord = parse(&entry)?;
        // They would have one host name.
        if other.name.eq_ignore_ascii_case(name) && other.region.eq_ignore_ascii_case(region) {
            return Err(ApiError::new(ErrorCode::AlreadyExists, format!("cluster `{}` is there already", other.name)));
        }
        regions.insert(other.region);
    }
    if regions.len() > REGIONS_MAX {
        return Err(invalid(format!("the clusters of an account are in {REGIONS_MAX} regions at most")));
    }
    let id = ClusterId(random::wide());
    let cluster = ClusterRecord {
        account,
        name: name.to_owned(),
        id,
        uuid: uuid.map_or_else(|| id.to_string(), str::to_owned),
        region: region.to_owned(),
        policy: None,
        quota: None,
    };
    let (transaction, changed) = put(cluster_key(account, name), 0, &cluster);
    Ok((transaction, IdentityChanged { cluster: Some(id), ..changed }))
}

async fn delete_cluster(store: &dyn MetadataStore, account: AccountId, name: &str) -> Result<Plan, ApiError> {
    let (cluster, entry) = find_cluster(store, account, name).await?;
    let default = records::default_cluster(store).await?.cluster;
    let entry = entry.filter(|_| cluster.id != default);
    let entry = entry.ok_or_else(|| invalid("the cluster that is there from the start cannot be deleted"))?;
    let prefix = name_key(account, cluster.id, "");
    let names = store.range(&prefix).await?.1;
    let own = names.iter().filter(|(key, _)| !key[prefix.len()..].starts_with(INTERNAL_PREFIX)).count();
    if own > 0 {
        return Err(invalid(format!("cluster `{name}` has {own} topics: delete them first")));
    }
    let (transaction, changed) = delete(cluster_key(account, name), entry.revision);
    Ok((transaction, IdentityChanged { cluster: Some(cluster.id), ..changed }))
}

/// What the groups of a cluster had committed goes with it.
async fn delete_internal_topics(
    store: &dyn MetadataStore,
    account: AccountId,
    cluster: Option<ClusterId>,
) -> Result<(), ApiError> {
    let Some(cluster) = cluster else { return Ok(()) };
    for (_, entry) in store.range(&name_key(account, cluster, INTERNAL_PREFIX)).await?.1 {
        let request = DeleteTopic { account, cluster, topic: parse(&entry)? };
        records::delete_topic(store, request).await?;
    }
    Ok(())
}

async fn delete_holder(store: &dyn MetadataStore, account: AccountId, holder: Holder) -> Result<Plan, ApiError> {
    let key = holder_key(account, &holder);
    let (what, name) = match &holder {
        Holder::User(name) => ("user", name),
        Holder::Role(name) => ("role", name),
    };
    let entry = store.get(&key).await?.ok_or_else(|| absent(what, name))?;
    // First the keys, a few at a time: whoever makes another meanwhile writes the holder again, and it is looked again. A holder
    // without its keys is safe, keys without their holder would be those of the next one of its name.
    let keys: Vec<String> = keys_of(store, account, &holder).await?.into_iter().map(|(key, ..)| key).collect();
    for some in keys.chunks(DELETED_AT_ONCE) {
        store.transact(Transaction { deletes: some.to_vec(), ..Transaction::default() }).await?;
    }
    Ok(delete(key, entry.revision))
}

async fn set_grants(
    store: &dyn MetadataStore,
    account: AccountId,
    holder: &Holder,
    change: impl FnOnce(&mut Grants) -> Result<(), ApiError>,
) -> Result<Plan, ApiError> {
    let key = holder_key(account, holder);
    let entry = store.get(&key).await?;
    match holder {
        Holder::User(name) => {
            let entry = entry.ok_or_else(|| absent("user", name))?;
            let mut user: UserRecord = parse(&entry)?;
            change(&mut user.grants)?;
            Ok(put(key, entry.revision, &user))
        }
        Holder::Role(name) => {
            let entry = entry.ok_or_else(|| absent("role", name))?;
            let mut role: RoleRecord = parse(&entry)?;
            change(&mut role.grants)?;
            Ok(put(key, entry.revision, &role))
        }
    }
}

/// Whether a key of the store is one of identities.
pub fn is_identity(key: &str) -> bool {
    key.starts_with(IDENTITIES)
}

/// As of now, for the API.
pub(crate) async fn snapshot(placement: &crate::Placement) -> Result<(u64, Identities), StoreError> {
    all(&*placement.store, placement.seal.as_ref(), clock::wall_ms()).await
}
