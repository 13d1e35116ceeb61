//! `weir policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{PolicyTarget, Target};
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Check policy documents: what is not valid, and what is valid and hardly meant
    ///
    /// Exits with 1 if a document is not valid, or has a warning and --strict is given.
    #[command(
        after_help = "Examples:\n  weir policy lint readers.json\n  weir policy lint --resource-policy cluster.json"
    )]
    Lint {
        /// Documents of users and roles; `-` reads the standard input
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Documents of clusters, which name principals
        #[arg(long, value_name = "FILE")]
        resource_policy: Vec<PathBuf>,
        /// A warning is a failure
        #[arg(long)]
        strict: bool,
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Attach a policy to a user, a role or a cluster
    ///
    /// Whoever is attached to it decides by it within ten seconds, also on connections that are open.
    #[command(after_help = "Examples:\n  weir policy put readers readers.json --user alice\n  \
          weir policy put readers --delete --user alice\n  weir policy put cluster.json --for-cluster orders")]
    Put {
        /// Its name, of a user's or role's policy; then, unless it is taken away, the document, `-` for the standard input
        #[arg(value_name = "NAME|FILE", num_args = 0..=2)]
        name_and_file: Vec<String>,
        /// Take it away instead
        #[arg(long)]
        delete: bool,
        #[command(flatten)]
        to: PolicyTarget,
        #[command(flatten)]
        target: Target,
    },
    /// Show the policies of a user, a role or a cluster
    #[command(after_help = "Example:\n  weir policy list --user alice")]
    List {
        #[command(flatten)]
        to: PolicyTarget,
        #[command(flatten)]
        target: Target,
    },
    /// Say why a call was denied, and what would allow it
    #[command(after_help = "Example:\n  weir policy why 1-5f3c9a0b7d2e4c61")]
    Why {
        /// The id that the denial came with
        decision: String,
        #[command(flatten)]
        target: Target,
    },
    /// Decide calls by policy documents, without a running system
    ///
    /// Each --action is decided on each --resource, with the condition keys of --principal and --context. Decisions have the names that AWS gives them: allowed, explicitDeny,
    /// implicitDeny. With --cases many are decided, one case a line:
    /// {"id", "identity": [policy, …], "resource_policy", "boundary", "session", "principal", "action", "resource",
    /// "context": {key: value or [value, …]}}, with the condition keys of the context alone; one answer a line comes out, in
    /// the same order.
    #[command(after_help = "Examples:\n  \
          weir policy simulate --policy readers.json --principal arn:aws:iam::123456789012:user/alice \\\n    \
          --action kafka-cluster:ReadData --resource arn:aws:kafka:eu-west-1:123456789012:topic/c/UUID/orders\n  \
          weir policy simulate --cases cases.jsonl > answers.jsonl")]
    Simulate(Box<SimulateOptions>),
}

#[derive(Debug, Args)]
pub struct SimulateOptions {
    /// A document of the user or role; again for several
    #[arg(long, value_name = "FILE")]
    pub policy: Vec<PathBuf>,
    /// The document of the cluster
    #[arg(long, value_name = "FILE")]
    pub resource_policy: Option<PathBuf>,
    /// What the user or role can have at most
    #[arg(long, value_name = "FILE")]
    pub boundary: Option<PathBuf>,
    /// What the session can have at most
    #[arg(long, value_name = "FILE")]
    pub session: Option<PathBuf>,
    /// Who calls; gives aws:PrincipalArn, aws:PrincipalAccount, aws:PrincipalType and aws:username too
    #[arg(long, value_name = "ARN")]
    pub principal: Option<String>,
    /// What is asked, such as kafka-cluster:ReadData; again for several
    #[arg(long, value_name = "ACTION", required_unless_present = "cases")]
    pub action: Vec<String>,
    /// Of what; again for several
    #[arg(long, value_name = "ARN", required_unless_present = "cases")]
    pub resource: Vec<String>,
    /// A condition key with its value; again for several keys, or several values of one
    #[arg(long, value_name = "KEY=VALUE")]
    pub context: Vec<String>,
    /// Cases, one a line; `-` reads the standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["policy", "resource_policy", "boundary", "session", "principal",
          "action", "resource", "context"])]
    pub cases: Option<PathBuf>,
    /// Say of each statement why it applied or did not
    #[arg(long, conflicts_with = "cases")]
    pub explain: bool,
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
}
