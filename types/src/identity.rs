//! Records of who may call: accounts, their clusters, users, roles and access keys.
//!
//! Names are those of AWS IAM and of MSK's ARNs, so that policies move over unchanged. Policies are kept as the text that was
//! given; the `policies` crate reads them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AccountId, ClusterId};

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRecord {
    pub id: AccountId,
    pub name: String,
    /// The quota profile of all its clusters together; `None`: [`crate::MSK_SERVERLESS`], or no limit for the operator's.
    #[serde(default)]
    pub quota: Option<String>,
}

/// A virtual Kafka cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    pub account: AccountId,
    pub name: String,
    pub id: ClusterId,
    /// The last part of its ARN; that of an MSK cluster can be taken over.
    pub uuid: String,
    pub region: String,
    /// Its resource policy.
    #[serde(default)]
    pub policy: Option<String>,
    /// Its quota profile, beside the account's.
    #[serde(default)]
    pub quota: Option<String>,
}

/// The cluster of each account that the service keeps: its tenants read there, and write nothing.
pub const RESERVED_CLUSTER: &str = "weir";

impl ClusterRecord {
    /// Whether it is the one that the service keeps.
    pub fn is_reserved(&self) -> bool {
        self.name == RESERVED_CLUSTER
    }

    /// `arn:aws:kafka:REGION:ACCOUNT:{kind}/NAME/UUID{rest}`.
    pub fn arn(&self, kind: &str, rest: &str) -> String {
        let slash = if rest.is_empty() { "" } else { "/" };
        let Self { account, name, uuid, region, .. } = self;
        format!("arn:aws:kafka:{region}:{}:{kind}/{name}/{uuid}{slash}{rest}", account.digits())
    }
}

/// What a user or role may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// Identity policies by name.
    #[serde(default)]
    pub policies: BTreeMap<String, String>,
    /// The permission boundary.
    #[serde(default)]
    pub boundary: Option<String>,
    /// `aws:PrincipalTag/…`.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The quota profile, beside those of the account and of the cluster.
    #[serde(default)]
    pub quota: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    pub account: AccountId,
    pub name: String,
    #[serde(default)]
    pub grants: Grants,
    /// Of its password, if it has one.
    #[serde(default)]
    pub scram: Option<ScramRecord>,
}

/// What is kept of a password for SCRAM-SHA-512 (RFC 5802); in hexadecimal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScramRecord {
    pub salt: String,
    pub iterations: u32,
    pub stored_key: String,
    pub server_key: String,
}

impl std::fmt::Debug for ScramRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ScramRecord({} iterations)", self.iterations)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleRecord {
    pub account: AccountId,
    pub name: String,
    #[serde(default)]
    pub grants: Grants,
}

/// Whose access key it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum KeyHolder {
    /// It lasts until it is revoked.
    User { user: String },
    /// Temporary credentials of a role; they go with a session token.
    Session {
        role: String,
        session: String,
        /// In ms since 1970.
        expires_ms: i64,
        /// What the session can do at most.
        policy: Option<String>,
        /// SHA-256 of the session token, in hexadecimal.
        token_sha256: String,
    },
}

/// An access key without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKeyRecord {
    pub id: String,
    pub account: AccountId,
    pub holder: KeyHolder,
    /// In ms since 1970.
    pub created_ms: i64,
}

/// An OpenID Connect issuer that an account trusts: whom it says somebody is takes on one of these roles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerRecord {
    pub account: AccountId,
    pub name: String,
    /// The `iss` of its tokens, to the letter.
    pub issuer: String,
    /// Tokens are for one of these (`aud`).
    pub audiences: Vec<String>,
    pub keys: IssuerKeys,
    /// What may be taken on.
    pub roles: Vec<String>,
    /// The claim that names the role; `None`: there is only one.
    #[serde(default)]
    pub role_claim: Option<String>,
}

/// Tokens of an issuer that are refused although they have not ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeniedTokens {
    pub account: AccountId,
    /// The issuer's name.
    pub issuer: String,
    /// By `jti`: until when, in seconds since 1970; `None`: for good.
    pub tokens: BTreeMap<String, Option<i64>>,
}

/// Where the public keys of an issuer are (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum IssuerKeys {
    /// Fetched from there, again and again.
    Url { url: String },
    /// As they were given.
    Set { jwks: String },
}

/// Whether a name may be that of a cluster, user, role, session or policy: 1 to 64 of `A-Z a-z 0-9 + = , . @ _ -`, as in IAM.
pub fn is_valid_identity_name(name: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(is_known)
}

/// Whether a name may be that of a cluster: 1 to 64 letters, digits and hyphens, as in MSK; it is part of host names.
pub fn is_valid_cluster_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('-')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_are_those_of_msk() {
        let cluster = ClusterRecord {
            account: AccountId(42),
            name: "orders".into(),
            id: ClusterId(1),
            uuid: "abcd-1".into(),
            region: "eu-west-1".into(),
            policy: None,
            quota: None,
        };
        assert_eq!(cluster.arn("cluster", ""), "arn:aws:kafka:eu-west-1:000000000042:cluster/orders/abcd-1");
        assert_eq!(cluster.arn("topic", "t"), "arn:aws:kafka:eu-west-1:000000000042:topic/orders/abcd-1/t");
    }

    #[test]
    fn names_cannot_leave_their_place() {
        for wrong in ["", "a/b", "a b", "ä", "a\n", "a*", "a:b", &"a".repeat(65)] {
            assert!(!is_valid_identity_name(wrong) && !is_valid_cluster_name(wrong), "{wrong}");
        }
        assert!(is_valid_identity_name("app@team.example") && !is_valid_cluster_name("app@team.example"));
        assert!(is_valid_cluster_name("orders-1") && !is_valid_cluster_name("-orders"));
    }
}
