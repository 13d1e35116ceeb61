//! Whose data a request is about.

use types::{AccountId, ClusterId};

/// An account and one of its clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tenant {
    pub account: AccountId,
    pub cluster: ClusterId,
}

impl Tenant {
    /// Of who speaks to no cluster, but about an account: nothing is in it.
    pub fn without_cluster(account: AccountId) -> Self {
        Self { account, cluster: ClusterId(0) }
    }

    pub fn has_cluster(self) -> bool {
        self.cluster != ClusterId(0)
    }
}
