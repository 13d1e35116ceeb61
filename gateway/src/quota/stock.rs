//! How many partitions and groups there may be.

use std::collections::HashSet;
use std::sync::Arc;

use dashmap::DashMap;
use service::clock;
use types::limits::GROUP_NAME_BYTES_MAX;
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
/// And that a group is there is believed for so long.
const BELIEVED_MS: u64 = 60_000;

/// Groups that were there lately, of clusters that have a limit of them.
#[derive(Debug, Default)]
pub struct GroupNames {
    by_tenant: DashMap<Tenant, Names>,
}

impl GroupNames {
    /// Forgets clusters that are gone.
    pub fn retain(&self, is_there: impl Fn(Tenant) -> bool) {
        self.by_tenant.retain(|tenant, _| is_there(*tenant));
    }
}

#[derive(Debug, Default)]
struct Names {
    read_ms: u64,
    names: HashSet<String>,
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

/// Partitions that are being made: they count until this is dropped.
#[derive(Debug)]
pub struct Pending {
    meters: Vec<(Arc<Meter>, u64)>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.meters.iter().for_each(|(meter, more)| meter.end_partitions(*more));
    }
}

/// Makes room for so many more partitions; they count as made until what is returned is dropped.
///
/// # Errors
/// There are as many as there may be, or too many were made and deleted just now.
pub fn check_partitions(caller: &Caller, more: u64) -> Result<Pending, Refusal> {
    check_changes(caller)?;
    let mut pending = Pending { meters: Vec::new() };
    for (max, meter) in caller.toll.limits_of(Stock::Partitions) {
        let begun = meter.begin_partitions(more);
        pending.meters.push((Arc::clone(meter), more));
        // Those of a topic that the map has by now are counted twice for a moment.
        let there = caller.gateway.partitions_of(&meter.scope).unwrap_or(0);
        if there.saturating_add(begun) > max {
            return Err(too_many(meter, Stock::Partitions, max));
        }
    }
    Ok(pending)
}

/// # Errors
/// Too many partitions were made and deleted just now; clients are told for how long.
pub fn check_changes(caller: &Caller) -> Result<(), Refusal> {
    caller.toll.check(Flow::PartitionChanges).map_err(|bite| {
        caller.toll.tell(&bite);
        bite.refusal()
    })
}

/// Makes room for a group in the caller's cluster, unless it is there already.
///
/// # Errors
/// There are as many as there may be.
pub async fn check_group(caller: &Arc<Caller>, group: &str) -> Result<(), Refusal> {
    let Some((max, meter)) = caller.toll.limits_of(Stock::Groups).min_by_key(|(max, _)| *max) else { return Ok(()) };
    // What is too long for a name is refused by the coordinator.
    if group.len() > GROUP_NAME_BYTES_MAX {
        return Ok(());
    }
    let groups = &caller.gateway.quotas.groups;
    let age_ms = |names: &Names| clock::monotonic_ms().saturating_sub(names.read_ms);
    let known = groups.by_tenant.get(&caller.tenant).map(|names| (names.names.contains(group), age_ms(&names)));
    match known {
        Some((true, age_ms)) if age_ms < BELIEVED_MS => return Ok(()),
        Some((false, age_ms)) if age_ms < KNOWN_MS => {}
        _ => {
            let names = list(caller).await?.into_iter().map(|group| group.group).collect();
            groups.by_tenant.insert(caller.tenant, Names { read_ms: clock::monotonic_ms(), names });
        }
    }
    let mut own = groups.by_tenant.entry(caller.tenant).or_default();
    if !own.names.contains(group) {
        if own.names.len() as u64 >= max {
            return Err(too_many(meter, Stock::Groups, max));
        }
        own.names.insert(group.to_owned());
    }
    Ok(())
}
