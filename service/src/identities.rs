//! Identities in the placement API: what gateways are told, and how they are changed.
//!
//! | call | does |
//! |---|---|
//! | `GET /placement/v1/identities?after=N&wait_ms=M` | all of them, once they differ from revision N |
//! | `POST /placement/v1/identities` | one [`IdentityChange`] |

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::{
    AccessKeyRecord, AccountId, AccountRecord, ClusterId, ClusterRecord, DeniedTokens, Generation, IssuerRecord,
    Limits, QuotaProfile, RoleRecord, ScramRecord, UserRecord,
};

use crate::api::{ApiError, PlacementClient};

/// All identities: gateways hold them in memory. No secret that lasts is among them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identities {
    /// The first day that keys were derived for, as `yyyyMMdd`.
    pub day: String,
    pub accounts: Vec<AccountRecord>,
    pub clusters: Vec<ClusterRecord>,
    pub users: Vec<UserRecord>,
    pub roles: Vec<RoleRecord>,
    pub keys: Vec<GatewayKey>,
    /// Quota profiles; those that are built in are not among them.
    #[serde(default)]
    pub profiles: Vec<QuotaProfile>,
    #[serde(default)]
    pub issuers: Vec<IssuerRecord>,
    #[serde(default)]
    pub denied: Vec<DeniedTokens>,
    /// Of which salts of users that are not there are made; empty from placement of before.
    #[serde(default)]
    pub salts: String,
}

/// An answer to a gateway that asked for what is newer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewIdentities {
    pub revision: u64,
    pub generation: Generation,
    /// `None`: at this revision they are as they were.
    pub identities: Option<Identities>,
}

/// An access key as gateways get it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayKey {
    pub record: AccessKeyRecord,
    /// By day (`yyyyMMdd`) and region.
    pub derived: BTreeMap<String, DerivedKey>,
}

/// A key that signs for one day, region and service, in hexadecimal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DerivedKey(pub String);

impl fmt::Debug for DerivedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DerivedKey(…)")
    }
}

/// Where derived keys are found.
pub fn derived_name(day: &str, region: &str) -> String {
    format!("{day}/{region}")
}

/// A user or a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "snake_case")]
pub enum Holder {
    User(String),
    Role(String),
}

/// Whose quota it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "snake_case")]
pub enum QuotaOf {
    /// All clusters of the account together.
    Account,
    Cluster(String),
    User(String),
    Role(String),
}

/// Whose access key is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NewKey {
    User {
        user: String,
    },
    /// Temporary credentials.
    Session {
        role: String,
        session: String,
        duration_s: u32,
        policy: Option<String>,
    },
}

/// What is changed, in one account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum IdentityChange {
    /// With this id, or the next that is free.
    CreateAccount {
        id: Option<AccountId>,
        name: String,
    },
    CreateCluster {
        name: String,
        uuid: Option<String>,
        region: String,
    },
    /// One without topics.
    DeleteCluster {
        name: String,
    },
    SetClusterPolicy {
        name: String,
        document: Option<String>,
    },
    CreateUser {
        name: String,
    },
    /// With its access keys.
    DeleteUser {
        name: String,
    },
    /// What is kept of its password; `None`: it has none any more.
    SetPassword {
        name: String,
        scram: Option<ScramRecord>,
    },
    CreateRole {
        name: String,
    },
    /// With its sessions.
    DeleteRole {
        name: String,
    },
    SetTags {
        holder: Holder,
        tags: BTreeMap<String, String>,
    },
    /// `None` takes the policy away.
    SetPolicy {
        holder: Holder,
        policy: String,
        document: Option<String>,
    },
    SetBoundary {
        holder: Holder,
        document: Option<String>,
    },
    CreateKey {
        key: NewKey,
    },
    RevokeKey {
        id: String,
    },
    /// Of this account.
    AddIssuer {
        issuer: IssuerRecord,
    },
    /// Sessions of its tokens end.
    RemoveIssuer {
        name: String,
    },
    /// Refuses one token of an issuer until then, in seconds since 1970, or for good; what it opened ends.
    DenyToken {
        issuer: String,
        id: String,
        until_s: Option<i64>,
    },
    /// Takes that back.
    AllowToken {
        issuer: String,
        id: String,
    },
    /// Makes a quota profile, or sets what it limits.
    SetProfile {
        name: String,
        limits: Limits,
    },
    /// Says which profile holds; `None`: the one that holds where nothing is said.
    SetQuota {
        of: QuotaOf,
        profile: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeIdentity {
    /// Without meaning for [`IdentityChange::CreateAccount`].
    pub account: AccountId,
    #[serde(flatten)]
    pub change: IdentityChange,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityChanged {
    /// Gateways that are told of this revision know it.
    pub revision: u64,
    #[serde(default)]
    pub account: Option<AccountId>,
    #[serde(default)]
    pub cluster: Option<ClusterId>,
    #[serde(default)]
    pub key: Option<CreatedKey>,
}

/// Told once: the secret is not readable afterwards.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedKey {
    pub id: String,
    pub secret: String,
    pub session_token: Option<String>,
    /// In ms since 1970.
    pub expires_ms: Option<i64>,
}

impl fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CreatedKey({})", self.id)
    }
}

impl PlacementClient {
    /// All identities as soon as they are others than at this revision, of keys that begin with this day.
    ///
    /// # Errors
    /// Placement does not answer.
    pub async fn identities(
        &self,
        after: Option<(Generation, u64, &str)>,
        wait: Duration,
    ) -> Result<NewIdentities, ApiError> {
        let (generation, after, day) = after.unwrap_or_default();
        let query = format!("generation={}&after={after}&day={day}&wait_ms={}", generation.0, wait.as_millis());
        self.0.get(&format!("/placement/v1/identities?{query}"), wait + Duration::from_secs(5)).await
    }

    /// # Errors
    /// What cannot be changed, and why.
    pub async fn change_identity(&self, change: &ChangeIdentity) -> Result<IdentityChanged, ApiError> {
        self.0.post("/placement/v1/identities", change, Duration::from_secs(10)).await
    }
}
