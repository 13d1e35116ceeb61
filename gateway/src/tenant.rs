//! Whose data a request is about.

use types::{AccountId, ClusterId};

/// An account and one of its clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenant {
    pub account: AccountId,
    pub cluster: ClusterId,
}
