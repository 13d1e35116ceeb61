//! How many partitions and groups there may be.

use std::collections::HashSet;
use std::sync::Arc;

use dashmap::DashMap;
use service::clock;
use types::{Flow, Stock};
use wire::frame::Refusal;

use super::toll::too_many;
use super::{Meter, Scope};
use crate::Gateway;
use crate::caller::Caller;
use crate::groups::list;
use crate::tenant::Tenant;

/// What is known of a cluster's groups is looked at again after so long, in ms.
const KNOWN_MS: u64 = 2_000;

/// Groups that were there lately, of clusters that have a limit of them.
#[derive(Debug, Default)]
pub struct GroupNames {
    by_tenant: DashMap<Tenant, Names>,
}

#[derive(Debug, Default)]
struct Names {
    read_ms: u64,
    names: HashSet<String>,
}

/// Clusters that a meter counts for this caller.
fn clusters(caller: &Caller, meter: &Meter) -> Vec<Tenant> {
    let known = caller.gateway.access.known();
    match &meter.scope {
        Scope::Account(account) => known.clusters_of(*account).map(|cluster| cluster.tenant()).collect(),
        _ => vec![caller.tenant],
    }
}

impl Gateway {
    /// Partitions of an account or a cluster; of users and roles nobody counts them.
    pub fn partitions_of(&self, scope: &Scope) -> Option<u64> {
        let known = self.access.known();
        let clusters: Vec<Tenant> = match scope {
            Scope::Account(account) => known.clusters_of(*account).map(|cluster| cluster.tenant()).collect(),
            Scope::Cluster(tenant) => vec![*tenant],
            Scope::User(..) | Scope::Role(..) => return None,
        };
        Some(clusters.into_iter().map(|tenant| self.map.partitions_of(tenant)).sum())
    }
}

/// Makes room for so many more partitions.
///
/// # Errors
/// There are as many as there may be, or too many were made and deleted just now.
pub fn check_partitions(caller: &Caller, more: u64) -> Result<(), Refusal> {
    caller.toll.check(Flow::PartitionChanges).map_err(|bite| bite.refusal())?;
    if let Some((max, meter)) = caller.toll.max_of(Stock::Partitions) {
        let all = clusters(caller, meter).into_iter();
        let count: u64 = all.map(|tenant| caller.gateway.map.partitions_of(tenant)).sum();
        if count.saturating_add(more) > max {
            return Err(too_many(meter, Stock::Partitions, max));
        }
    }
    Ok(())
}

/// Makes room for a group, unless it is there already.
///
/// # Errors
/// There are as many as there may be.
pub async fn check_group(caller: &Arc<Caller>, group: &str) -> Result<(), Refusal> {
    let Some((max, meter)) = caller.toll.max_of(Stock::Groups) else { return Ok(()) };
    let groups = &caller.gateway.quotas.groups;
    let is_known = |names: &Names| names.names.contains(group);
    if groups.by_tenant.get(&caller.tenant).is_some_and(|names| is_known(&names)) {
        return Ok(());
    }
    let is_fresh = groups
        .by_tenant
        .get(&caller.tenant)
        .is_some_and(|names| clock::monotonic_ms().saturating_sub(names.read_ms) < KNOWN_MS);
    if !is_fresh {
        let names = list(caller).await?.into_iter().map(|group| group.group).collect();
        groups.by_tenant.insert(caller.tenant, Names { read_ms: clock::monotonic_ms(), names });
    }
    // Of the account's other clusters it is known what was looked at lately.
    let others = clusters(caller, meter).into_iter().filter(|tenant| *tenant != caller.tenant);
    let count = |tenant: Tenant| groups.by_tenant.get(&tenant).map_or(0, |names| names.names.len());
    let elsewhere: usize = others.map(count).sum();
    let mut own = groups.by_tenant.entry(caller.tenant).or_default();
    if is_known(&own) {
        return Ok(());
    }
    if (own.names.len() + elsewhere) as u64 >= max {
        return Err(too_many(meter, Stock::Groups, max));
    }
    own.names.insert(group.to_owned());
    Ok(())
}
