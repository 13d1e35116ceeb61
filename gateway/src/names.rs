//! Host names: which cluster one means, and what a cluster's clients are told.
//!
//! Where gateways advertise a template such as `{cluster}.{region}.example`, each cluster has a name of its own.

use std::collections::BTreeSet;

use service::api::RegisterGateway;
use types::{AccountId, ClusterRecord, GatewayRecord};

use crate::Gateway;
use crate::access::Origin;
use crate::access::known::{Known, Login};
use crate::access::reason::Reason;
use crate::tenant::Tenant;

/// The name of a cluster by a template; a name without braces is everybody's.
pub fn of_cluster(template: &str, cluster: &ClusterRecord) -> String {
    if !template.contains('{') {
        return template.to_owned();
    }
    template
        .replace("{cluster}", &cluster.name)
        .replace("{region}", &cluster.region)
        .replace("{account}", &cluster.account.digits())
        .replace("{uuid}", &cluster.uuid)
        .to_lowercase()
}

/// The names that clients reach a gateway by, in lower case.
pub fn all(more: Vec<String>, advertised: &RegisterGateway) -> Vec<String> {
    let tls = advertised.tls.iter().map(|tls| tls.host.clone());
    more.into_iter().chain([advertised.host.clone()]).chain(tls).map(|name| name.to_lowercase()).collect()
}

/// Gateways as one cluster's clients are told of them.
pub fn of_gateways(gateways: &mut [GatewayRecord], cluster: Option<&ClusterRecord>) {
    for gateway in gateways {
        if let Some(cluster) = cluster {
            gateway.host = of_cluster(&gateway.host, cluster);
        }
    }
}

/// Whether a host name is one that a template may give, to whatever cluster: whether there is such a cluster it does not say.
fn fits(template: &str, host: &str) -> bool {
    let Some((first, rest)) = template.split_once('{') else { return false };
    let Some(mut left) = host.strip_prefix(first) else { return false };
    // What follows each field; a field is at least a character.
    let mut after = rest.split('{').map(|part| part.split_once('}').map_or("", |(_, literal)| literal)).peekable();
    while let Some(literal) = after.next() {
        let Some(field) = left.chars().next().map(char::len_utf8) else { return false };
        let found = match after.peek() {
            None => left.len().checked_sub(literal.len()).filter(|at| *at >= field && left.ends_with(literal)),
            Some(_) => left[field..].find(literal).map(|at| at + field),
        };
        let Some(at) = found else { return false };
        left = &left[at + literal.len()..];
    }
    true
}

fn plain(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_lowercase()
}

impl Gateway {
    /// Clusters whose own name this is, of whatever account.
    fn named_by(&self, known: &Known, host: &str) -> Vec<Tenant> {
        let host = plain(host);
        let templates: Vec<&String> = self.host_names.iter().filter(|name| name.contains('{')).collect();
        let is_it = |cluster: &ClusterRecord| templates.iter().any(|template| of_cluster(template, cluster) == host);
        known.clusters.iter().filter(|cluster| is_it(&cluster.record)).map(|cluster| cluster.tenant()).collect()
    }

    /// Whether a cluster is meant by this name, whether or not there is one.
    fn is_of_cluster(&self, host: &str) -> bool {
        let host = plain(host);
        !self.host_names.contains(&host) && self.host_names.iter().any(|name| fits(name, &host))
    }

    /// Whether clients reach this gateway by this name. By its loopback they do if they are on this machine.
    pub fn is_own_name(&self, host: &str, origin: Origin) -> bool {
        let host = plain(host);
        let is_loopback = ["localhost", "127.0.0.1", "::1"].contains(&host.as_str()) && origin.is_local;
        is_loopback || self.host_names.iter().any(|name| *name == host || fits(name, &host))
    }

    /// The account whose cluster is meant by a host name; the operator's if none is, or several are.
    pub fn account_of_host(&self, host: Option<&str>) -> AccountId {
        let known = self.access.known();
        let named = host.map(|host| self.named_by(&known, host)).unwrap_or_default();
        let accounts: BTreeSet<AccountId> = named.iter().map(|tenant| tenant.account).collect();
        match accounts.first() {
            Some(only) if accounts.len() == 1 => *only,
            _ => self.tenant.account,
        }
    }

    /// The cluster that a login speaks to: the one that the host name, or the name of a cluster, means; else the only one of
    /// its account. Another account's cluster is meant by its name if `may_connect` says so: else it is not told from none.
    ///
    /// # Errors
    /// There is none, or several.
    pub fn tenant_of(
        &self,
        login: &Login,
        name: Option<&str>,
        may_connect: impl Fn(&Tenant) -> bool,
    ) -> Result<Tenant, Reason> {
        let known = self.access.known();
        if let Some(name) = name {
            let (own, others): (Vec<Tenant>, Vec<Tenant>) =
                self.named_by(&known, name).into_iter().partition(|tenant| tenant.account == login.account);
            // Nobody is told of those that are not meant.
            let others: Vec<Tenant> = match own.is_empty() {
                true => others.into_iter().filter(may_connect).collect(),
                false => Vec::new(),
            };
            match (&own[..], &others[..]) {
                ([only], _) | ([], [only]) => return Ok(*only),
                // A cluster was meant: another in its place would be worse than none.
                ([], []) if self.is_of_cluster(name) => {
                    return Err(Reason::Cluster(format!("`{name}` is none that this caller may connect to")));
                }
                ([], []) => {}
                _ => return Err(Reason::Cluster(format!("`{name}` is the name of several"))),
            }
        }
        let mut of_account = known.clusters_of(login.account).filter(|cluster| !cluster.record.is_reserved());
        match (of_account.next(), of_account.next()) {
            (Some(only), None) => Ok(only.tenant()),
            (None, _) => Err(Reason::Cluster("the account has none".to_owned())),
            (Some(_), Some(_)) => {
                Err(Reason::Cluster("the account has several: connect by the cluster's own host name".to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use types::ClusterId;

    use super::*;

    #[test]
    fn each_cluster_has_its_name_by_a_template() {
        let cluster = ClusterRecord {
            account: AccountId(7),
            name: "Orders".into(),
            id: ClusterId(1),
            uuid: "u-1".into(),
            region: "eu-west-1".into(),
            policy: None,
            quota: None,
        };
        assert_eq!(of_cluster("{cluster}.{region}.example", &cluster), "orders.eu-west-1.example");
        assert_eq!(of_cluster("gw-{uuid}-{account}.example", &cluster), "gw-u-1-000000000007.example");
        assert_eq!(of_cluster("GW.example", &cluster), "GW.example");
    }

    #[test]
    fn names_fit_a_template_whether_or_not_there_is_such_a_cluster() {
        for (template, host) in [
            ("{cluster}.{region}.example", "orders.eu-west-1.example"),
            ("{cluster}.{region}.example", "a.b.c.example"),
            ("gw-{uuid}-{account}.example", "gw-u-1-000000000007.example"),
            ("kafka.{cluster}", "kafka.x"),
        ] {
            assert!(fits(template, host), "{template} {host}");
        }
        for (template, host) in [
            ("{cluster}.{region}.example", "orders.example"),
            ("{cluster}.{region}.example", ".eu-west-1.example"),
            ("{cluster}.{region}.example", "orders..example"),
            ("{cluster}.{region}.example", "orders.eu-west-1.example.com"),
            ("gw-{uuid}.example", "xgw-1.example"),
            ("gw-{uuid}.example", "gw-.example"),
            ("kafka.{cluster}", "kafka."),
            ("gw.example", "gw.example"),
            ("{cluster}.example", "evil"),
        ] {
            assert!(!fits(template, host), "{template} {host}");
        }
    }
}
