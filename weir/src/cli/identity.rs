//! Options of `weir account|cluster|user|role|key`, and of credentials.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Target;

/// Who asks. Without any the request is not signed.
///
/// `WEIR_ACCESS_KEY_ID`, `WEIR_SECRET_ACCESS_KEY`, `WEIR_SESSION_TOKEN` and `WEIR_REGION` go before the profile.
#[derive(Debug, Clone, Args)]
pub struct Credentials {
    /// Section of the credentials file with access_key_id, secret_access_key, session_token and region
    #[arg(long, value_name = "NAME", env = "WEIR_PROFILE")]
    pub profile: Option<String>,
    /// TOML file of credentials; ~/.weir/credentials.toml unless given
    #[arg(long, value_name = "FILE", env = "WEIR_CREDENTIALS")]
    pub credentials: Option<PathBuf>,
    /// The cluster that is meant, where the account has several
    #[arg(long, value_name = "NAME", env = "WEIR_CLUSTER")]
    pub cluster: Option<String>,
}

/// Which account is meant.
#[derive(Debug, Clone, Args)]
pub struct AccountOption {
    /// The account, twelve digits; the caller's own unless given
    #[arg(long, value_name = "ID", env = "WEIR_ACCOUNT")]
    pub account: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Create an account
    #[command(after_help = "Example:\n  weir account create team-orders --id 123456789012")]
    Create {
        /// What it is called
        name: String,
        /// Its twelve digits; the next that are free unless given
        #[arg(long, value_name = "ID")]
        id: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// List accounts that the caller may see
    #[command(after_help = "Example:\n  weir account list")]
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Show an account
    #[command(after_help = "Example:\n  weir account show 123456789012")]
    Show {
        /// Its twelve digits
        id: String,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Create a cluster
    ///
    /// With the UUID and the region of a cluster of Amazon MSK, policies that name it hold here unchanged.
    #[command(after_help = "Example:\n  weir cluster create orders --account 123456789012 --region eu-west-1")]
    Create {
        name: String,
        /// The last part of its ARN; made at random unless given
        #[arg(long)]
        uuid: Option<String>,
        /// Its region, as ARNs and signatures have it
        #[arg(long, default_value = "us-east-1")]
        region: String,
        #[command(flatten)]
        account: AccountOption,
        #[command(flatten)]
        target: Target,
    },
    /// List the clusters of an account
    #[command(after_help = "Example:\n  weir cluster list --account 123456789012")]
    List {
        #[command(flatten)]
        account: AccountOption,
        #[command(flatten)]
        target: Target,
    },
    /// Delete a cluster that has no topics
    #[command(after_help = "Example:\n  weir cluster delete orders --account 123456789012")]
    Delete {
        name: String,
        #[command(flatten)]
        account: AccountOption,
        #[command(flatten)]
        target: Target,
    },
}

/// A user or role, where it is, and how it is reached.
#[derive(Debug, Args)]
pub struct HolderOptions {
    /// Its name
    pub name: String,
    #[command(flatten)]
    pub account: AccountOption,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, Subcommand)]
pub enum HolderCommand {
    /// Create one; it may do nothing until a policy says so
    #[command(after_help = "Example:\n  weir user create alice --account 123456789012")]
    Create(HolderOptions),
    /// List them
    #[command(after_help = "Example:\n  weir user list --account 123456789012")]
    List {
        #[command(flatten)]
        account: AccountOption,
        #[command(flatten)]
        target: Target,
    },
    /// Delete one with its access keys; its connections end within ten seconds
    #[command(after_help = "Example:\n  weir user delete alice --account 123456789012")]
    Delete(HolderOptions),
    /// Set the password of a user for SCRAM-SHA-512, read from the standard input: 12 to 256 bytes
    ///
    /// Kafka clients log in with it as ACCOUNT/NAME, such as 123456789012/alice.
    #[command(after_help = "Example:\n  weir user set-password alice --account 123456789012 < password.txt")]
    SetPassword {
        /// Take it away instead
        #[arg(long)]
        delete: bool,
        #[command(flatten)]
        holder: HolderOptions,
    },
    /// Set its tags, which policies know as aws:PrincipalTag/KEY; those that are not given are taken away
    #[command(after_help = "Example:\n  weir user set-tags alice --tag team=orders")]
    SetTags {
        #[arg(long = "tag", value_name = "KEY=VALUE")]
        tags: Vec<String>,
        #[command(flatten)]
        holder: HolderOptions,
    },
}

/// A user or a role of an account, and how it is reached.
#[derive(Debug, Args)]
pub struct KeyHolderOptions {
    #[arg(long, required_unless_present = "role", conflicts_with = "role")]
    pub user: Option<String>,
    #[arg(long)]
    pub role: Option<String>,
    #[command(flatten)]
    pub account: AccountOption,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Create an access key of a user, or temporary credentials of a role; the secret is shown this once
    #[command(after_help = "Examples:\n  weir key create --user alice --account 123456789012\n  \
          weir key create --role readers --session job-7 --duration 3600")]
    Create {
        /// Names the session of a role
        #[arg(long, conflicts_with = "user")]
        session: Option<String>,
        /// How long temporary credentials last, in seconds, 900 to 43200
        #[arg(long, value_name = "SECONDS", conflicts_with = "user")]
        duration: Option<u32>,
        /// What the session can do at most
        #[arg(long, value_name = "FILE", conflicts_with = "user")]
        session_policy: Option<PathBuf>,
        #[command(flatten)]
        holder: KeyHolderOptions,
    },
    /// List access keys
    #[command(after_help = "Example:\n  weir key list --user alice")]
    List {
        #[command(flatten)]
        holder: KeyHolderOptions,
    },
    /// Revoke an access key; connections that were opened with it end within ten seconds
    #[command(after_help = "Example:\n  weir key revoke AKIAIOSFODNN7EXAMPLE --user alice")]
    Revoke {
        id: String,
        #[command(flatten)]
        holder: KeyHolderOptions,
    },
}

/// Whom a policy is attached to.
#[derive(Debug, Args)]
pub struct PolicyTarget {
    #[arg(long, required_unless_present_any = ["role", "for_cluster"], conflicts_with_all = ["role", "for_cluster"])]
    pub user: Option<String>,
    #[arg(long, conflicts_with = "for_cluster")]
    pub role: Option<String>,
    /// A resource policy: whom a cluster lets in
    #[arg(long, value_name = "NAME")]
    pub for_cluster: Option<String>,
    /// As the permission boundary of the user or role
    #[arg(long, conflicts_with = "for_cluster")]
    pub boundary: bool,
    #[command(flatten)]
    pub account: AccountOption,
}
