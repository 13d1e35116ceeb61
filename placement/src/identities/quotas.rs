//! Quota profiles, and which of them hold for whom.

use service::api::ApiError;
use service::identities::{Holder, QuotaOf};
use types::{AccountId, AccountRecord, Limits, QuotaProfile, built_in};

use super::{ACCOUNTS, Plan, absent, check_name, cluster_key, find_cluster, invalid, put, set_grants};
use crate::records::{self, parse};
use crate::store::{Entry, MetadataStore};

pub const PROFILES: &str = "identity/profile/";
/// Of one account.
const PROFILES_MAX: usize = 100;

fn profile_key(account: AccountId, name: &str) -> String {
    format!("{PROFILES}{}/{name}", account.digits())
}

pub async fn set_profile(
    store: &dyn MetadataStore,
    account: AccountId,
    name: &str,
    limits: &Limits,
) -> Result<Plan, ApiError> {
    check_name(name, "quota profile")?;
    if built_in(name).is_some() {
        return Err(invalid(format!("quota profile `{name}` is built in: choose another name")));
    }
    let key = profile_key(account, name);
    let entry = store.get(&key).await?;
    let count = store.range(&format!("{PROFILES}{}/", account.digits())).await?.1.len();
    if entry.is_none() && count >= PROFILES_MAX {
        return Err(invalid(format!("the account has {PROFILES_MAX} quota profiles already")));
    }
    let profile = QuotaProfile { account, name: name.to_owned(), limits: limits.clone() };
    Ok(put(key, entry.map_or(0, |entry| entry.revision), &profile))
}

/// Of accounts and clusters the operator's profiles hold, so that nobody loosens a limit that was set for him.
pub async fn set_quota(
    store: &dyn MetadataStore,
    account: AccountId,
    of: &QuotaOf,
    profile: Option<&str>,
) -> Result<Plan, ApiError> {
    let operator = records::default_cluster(store).await?.account;
    if let Some(name) = profile {
        let is_holder = matches!(of, QuotaOf::User(_) | QuotaOf::Role(_));
        let owners = [is_holder.then_some(account), Some(operator)];
        let mut is_there = built_in(name).is_some();
        for owner in owners.into_iter().flatten() {
            is_there |= store.get(&profile_key(owner, name)).await?.is_some();
        }
        if !is_there {
            return Err(absent("quota profile", name));
        }
    }
    let profile = profile.map(str::to_owned);
    match of {
        QuotaOf::Account => {
            let (record, entry) = find_account(store, account).await?;
            let revision = entry.map_or(0, |entry| entry.revision);
            Ok(put(account_key(account), revision, &AccountRecord { quota: profile, ..record }))
        }
        QuotaOf::Cluster(name) => {
            let (mut cluster, entry) = find_cluster(store, account, name).await?;
            cluster.quota = profile;
            Ok(put(cluster_key(account, name), entry.map_or(0, |entry| entry.revision), &cluster))
        }
        QuotaOf::User(name) => set_of(store, account, Holder::User(name.clone()), profile).await,
        QuotaOf::Role(name) => set_of(store, account, Holder::Role(name.clone()), profile).await,
    }
}

async fn set_of(
    store: &dyn MetadataStore,
    account: AccountId,
    holder: Holder,
    profile: Option<String>,
) -> Result<Plan, ApiError> {
    set_grants(store, account, &holder, |grants| {
        grants.quota = profile;
        Ok(())
    })
    .await
}

fn account_key(account: AccountId) -> String {
    format!("{ACCOUNTS}{}", account.digits())
}

/// The account that is there from the start has no record until something of it is set.
async fn find_account(
    store: &dyn MetadataStore,
    account: AccountId,
) -> Result<(AccountRecord, Option<Entry>), ApiError> {
    match store.get(&account_key(account)).await? {
        Some(entry) => Ok((parse(&entry)?, Some(entry))),
        None => Ok((super::operator_record(account), None)),
    }
}
