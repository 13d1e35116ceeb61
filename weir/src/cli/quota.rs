//! Options of `weir quota`.

use clap::{Args, Subcommand};

use super::{AccountOption, Target};

/// Whose quota it is; the account's unless one of its clusters, users or roles is named.
#[derive(Debug, Args)]
pub struct QuotaOfOptions {
    #[arg(long, conflicts_with_all = ["role", "for_cluster"])]
    pub user: Option<String>,
    #[arg(long, conflicts_with = "for_cluster")]
    pub role: Option<String>,
    /// A cluster of the account
    #[arg(long, value_name = "NAME")]
    pub for_cluster: Option<String>,
    #[command(flatten)]
    pub account: AccountOption,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, Subcommand)]
pub enum QuotaCommand {
    /// Show what may be used, what was used lately, and by whom
    #[command(after_help = "Examples:\n  weir quota show --account 123456789012\n  weir quota show --user app")]
    Show {
        #[command(flatten)]
        of: QuotaOfOptions,
    },
    /// Say which profile holds; for accounts and clusters that is up to operators
    ///
    /// What is used counts for the account, for the cluster and for the user or role at once; who has used up one of them waits.
    #[command(after_help = "Examples:\n  weir quota set small --account 123456789012\n  \
          weir quota set unlimited --for-cluster orders --account 123456789012\n  weir quota set --default --user app")]
    Set {
        /// `unlimited`, `msk-serverless`, or one that was defined
        #[arg(value_name = "PROFILE", required_unless_present = "default", conflicts_with = "default")]
        quota_profile: Option<String>,
        /// What holds where nothing is said: `msk-serverless` for accounts, no limit for the rest
        #[arg(long)]
        default: bool,
        #[command(flatten)]
        of: QuotaOfOptions,
    },
    /// Make a profile, or set all its limits anew; whoever has it is limited by it within seconds
    ///
    /// Operators' profiles, those of account 000000000000, are for all accounts; those of another account for its users and roles.
    /// ingress and egress are bytes a second, requests, topic_changes, connects and producer_ids are a second's, partition_changes
    /// five minutes'; connections, groups and partitions are as many as may be at a time.
    #[command(
        after_help = "Example:\n  weir quota define small --limit ingress=2M --limit egress=4M --limit connections=50"
    )]
    Define {
        name: String,
        /// k, M and G stand for a thousand, a million, a thousand million; what is not named has no limit
        #[arg(long = "limit", value_name = "NAME=VALUE", required = true)]
        limits: Vec<String>,
        #[command(flatten)]
        account: AccountOption,
        #[command(flatten)]
        target: Target,
    },
    /// List the profiles that there are for an account
    #[command(after_help = "Example:\n  weir quota profiles")]
    Profiles {
        #[command(flatten)]
        account: AccountOption,
        #[command(flatten)]
        target: Target,
    },
}
