//! How gateways share quotas, in the placement API: each tells once a second what was used through it, and is told its part.
//!
//! `POST /placement/v1/quotas`. Nothing of it is stored: every placement process goes by what it heard lately.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::{Flow, Stock};

use crate::api::{ApiError, PlacementClient};

/// How often gateways tell, in ms.
pub const SHARE_EVERY_MS: u64 = 1_000;
/// What was heard is of use for so long, in ms.
pub const SHARE_TIMEOUT_MS: u64 = 5_000;
const CALL: Duration = Duration::from_millis(900);

/// What one gateway tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaUsage {
    pub gateway: i32,
    pub scopes: Vec<ScopeUsage>,
}

/// An account, a cluster, a user or a role that has limits and was active lately.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeUsage {
    /// Its name, the same on all gateways.
    pub scope: String,
    pub flows: Vec<FlowUsage>,
    /// What it holds through this gateway.
    pub stocks: Vec<(Stock, u64)>,
}

/// Rates are in thousandths of a unit per second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowUsage {
    pub flow: Flow,
    pub limit: u64,
    pub used: u64,
    /// Somebody had to wait.
    pub is_short: bool,
}

/// What a gateway is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaShares {
    /// That are alive.
    pub gateways: usize,
    pub scopes: Vec<ScopeShare>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeShare {
    pub scope: String,
    /// What may be used through this gateway, in thousandths of a unit per second.
    pub flows: Vec<(Flow, u64)>,
    /// What is used through all of them, in thousandths of a unit per second.
    pub used: Vec<(Flow, u64)>,
    /// What is held through the others.
    pub elsewhere: Vec<(Stock, u64)>,
}

impl PlacementClient {
    /// # Errors
    /// Placement does not answer.
    pub async fn share_quotas(&self, usage: &QuotaUsage) -> Result<QuotaShares, ApiError> {
        self.0.post_to_all("/placement/v1/quotas", usage, CALL).await
    }
}
