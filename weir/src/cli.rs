//! The command line: names, defaults and help. `--help` of each command has an example.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::output::Output;

mod identity;
mod issuer;
mod operate;
mod policy;
mod quota;
mod services;
mod tls;

pub use identity::{
    AccountCommand, AccountOption, ClusterCommand, Credentials, HolderCommand, HolderOptions, KeyCommand,
    KeyHolderOptions, PolicyTarget,
};
pub use issuer::IssuerCommand;
pub use operate::{NodeCommand, PartitionCommand};
pub use policy::{PolicyCommand, SimulateOptions};
pub use quota::{QuotaCommand, QuotaOfOptions};
pub use services::{GatewayOptions, PlacementCommand, PlacementOptions, RestoreOptions, StorageNodeOptions, UpOptions};
pub use tls::{CertsCommand, KafkaTarget, TlsOptions, TrustOptions};

/// Streaming as a service that anyone can run.
#[derive(Debug, Parser)]
#[command(name = "weir", version, about, long_about = None, args_override_self = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process, on this machine
    #[command(after_help = "Example:\n  weir up --data /var/lib/weir", args_override_self = true)]
    Up(UpOptions),
    /// Run a placement service; back its metadata up, restore it, make it anew
    #[command(
        after_help = "Example:\n  weir placement --store redb:/var/lib/weir/placement",
        args_override_self = true,
        args_conflicts_with_subcommands = true
    )]
    Placement(PlacementOptions),
    /// Run a storage node
    #[command(
        after_help = "Example:\n  weir storage-node --az az-a --data /var/lib/weir/az-a",
        args_override_self = true
    )]
    StorageNode(StorageNodeOptions),
    /// Run a gateway
    #[command(
        after_help = "Example:\n  weir gateway --kafka 127.0.0.1:9092 --http 127.0.0.1:8080",
        args_override_self = true
    )]
    Gateway(GatewayOptions),
    /// Create, list, describe, alter and delete topics
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Consumer groups: list, describe, lag, set their offsets, delete
    #[command(subcommand)]
    Group(GroupCommand),
    /// Write records, one per line of the input
    #[command(after_help = "Example:\n  printf 'k:v\\n' | weir produce orders -K :")]
    Produce(ProduceOptions),
    /// Read records
    #[command(after_help = "Example:\n  weir consume orders -o beginning -e -f '%p %o %k %s\\n'")]
    Consume(ConsumeOptions),
    /// Show nodes, zones, partitions by state, and what placement does and why
    #[command(after_help = "Example:\n  weir status")]
    Status {
        #[command(flatten)]
        target: Target,
    },
    /// List storage nodes, empty one, use it again
    #[command(subcommand)]
    Node(NodeCommand),
    /// Move partitions between storage nodes
    #[command(subcommand)]
    Partition(PartitionCommand),
    /// Policies: attach documents, ask why a call was denied; check documents, decide calls offline
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Accounts: the tenants
    #[command(subcommand)]
    Account(AccountCommand),
    /// Clusters of an account: each is a Kafka of its own
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Users of an account
    #[command(subcommand)]
    User(HolderCommand),
    /// Roles of an account
    #[command(subcommand)]
    Role(HolderCommand),
    /// Access keys of users, temporary credentials of roles
    #[command(subcommand)]
    Key(KeyCommand),
    /// OpenID Connect issuers whose tokens an account takes
    #[command(subcommand)]
    Issuer(IssuerCommand),
    /// What accounts, clusters, users and roles may use, and what they use
    #[command(subcommand)]
    Quota(QuotaCommand),
    /// Show whom a gateway takes you for
    #[command(after_help = "Example:\n  weir whoami --profile orders")]
    Whoami {
        #[command(flatten)]
        target: Target,
    },
    /// Certificates to try TLS with
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Measure a running system
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Check and show configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script
    #[command(after_help = "Example:\n  weir completion bash > /etc/bash_completion.d/weir")]
    Completion { shell: clap_complete::Shell },
}

fn http_url(text: &str) -> Result<String, String> {
    let authority = text.trim_end_matches('/').strip_prefix("http://").filter(|rest| !rest.is_empty());
    match authority {
        Some(rest) if !rest.contains(['/', ' ', '?']) => Ok(text.to_owned()),
        _ => Err("http://HOST:PORT is what it takes".to_owned()),
    }
}

/// A gateway's URL, with TLS or without.
fn gateway_url(text: &str) -> Result<String, String> {
    let plain = text.strip_prefix("https://").map_or_else(|| text.to_owned(), |rest| format!("http://{rest}"));
    match http_url(&plain) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("http://HOST:PORT or https://HOST:PORT is what it takes".to_owned()),
    }
}

fn plain_name(text: &str) -> Result<String, String> {
    let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if is_plain { Ok(text.to_owned()) } else { Err("a name is made of a-z, A-Z, 0-9, `-`, `_` and `.`".to_owned()) }
}

/// Which gateway a command speaks to, and how it prints.
#[derive(Debug, Args)]
pub struct Target {
    /// A gateway's HTTP address
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = gateway_url, env = "WEIR_SERVER")]
    pub server: String,
    /// Trust what these certificates (PEM) signed, instead of what this machine trusts; for https
    #[arg(long, value_name = "FILE", env = "WEIR_CA")]
    pub ca: Option<PathBuf>,
    #[command(flatten)]
    pub credentials: Credentials,
    /// How results are printed
    #[arg(long, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List groups
    #[command(after_help = "Example:\n  weir group list")]
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Show a group's members, what each reads, and how far behind it is
    #[command(after_help = "Example:\n  weir group describe billing")]
    Describe {
        group: String,
        #[command(flatten)]
        target: Target,
    },
    /// Show how far behind a group is: in records, and by the age of the first record that it has not read
    #[command(after_help = "Example:\n  weir group lag billing")]
    Lag {
        group: String,
        #[command(flatten)]
        target: Target,
    },
    /// Set where a group goes on; it must have no members
    #[command(
        after_help = "Examples:\n  weir group reset billing --topic orders --to earliest\n  weir group reset billing --topic orders -p 3 --to 1200 --dry-run\n  weir group reset billing --topic orders --to @1764150000000"
    )]
    Reset {
        group: String,
        #[arg(long)]
        topic: String,
        /// Only this partition, more than once; all unless given
        #[arg(short = 'p', long, value_name = "PARTITION")]
        partition: Vec<i32>,
        /// earliest, latest, an offset, or @ and ms since 1970
        #[arg(long, value_name = "PLACE")]
        to: String,
        /// Only tell
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Delete a group and its offsets; it must have no members
    #[command(after_help = "Example:\n  weir group delete billing")]
    Delete {
        group: String,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Create a topic
    #[command(after_help = "Example:\n  weir topic create orders --partitions 6 --config max.message.bytes=2000000")]
    Create {
        name: String,
        #[arg(long, default_value_t = 1)]
        partitions: i32,
        /// K=V, more than once
        #[arg(long, value_name = "K=V")]
        config: Vec<String>,
        /// Succeed if it exists already
        #[arg(long)]
        if_not_exists: bool,
        #[command(flatten)]
        target: Target,
    },
    /// List topics
    #[command(after_help = "Example:\n  weir topic list --output json")]
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Show a topic's partitions: leader, replicas, offsets
    #[command(after_help = "Example:\n  weir topic describe orders")]
    Describe {
        name: String,
        #[command(flatten)]
        target: Target,
    },
    /// Change a topic's configs, or add partitions
    #[command(after_help = "Example:\n  weir topic alter orders --config max.message.bytes=2000000 --partitions 12")]
    Alter {
        name: String,
        /// The new count, never fewer than now
        #[arg(long)]
        partitions: Option<i32>,
        /// K=V, more than once
        #[arg(long, value_name = "K=V")]
        config: Vec<String>,
        /// Take a config away, so that its default holds again; more than once
        #[arg(long, value_name = "K")]
        remove_config: Vec<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Delete a topic and its records
    #[command(after_help = "Example:\n  weir topic delete orders")]
    Delete {
        name: String,
        /// Succeed if it does not exist
        #[arg(long)]
        if_exists: bool,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Args)]
pub struct ProduceOptions {
    pub topic: String,
    /// Files to read; standard input without any
    pub files: Vec<PathBuf>,
    /// Splits the key off each line
    #[arg(short = 'K', value_name = "SEP")]
    pub key_separator: Option<String>,
    /// A header for each record, more than once
    #[arg(short = 'H', value_name = "K=V")]
    pub header: Vec<String>,
    #[arg(short = 'p', value_name = "PARTITION")]
    pub partition: Option<i32>,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(short = 'z', value_name = "CODEC")]
    pub compression: Option<String>,
    /// Lines are records as JSON, as `weir consume --json` prints them (`offset` is left out; -p beats `partition`)
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, Args)]
pub struct ConsumeOptions {
    pub topic: String,
    /// beginning, end, an offset, -N for the last N, or s@TIME (ms since 1970, or as in 2026-11-22T00:00:00Z);
    /// given once more as e@TIME: where to stop
    #[arg(short = 'o', value_name = "OFFSET", default_value = "end", allow_hyphen_values = true)]
    pub offset: Vec<String>,
    /// Stop after so many records
    #[arg(short = 'c', value_name = "COUNT")]
    pub count: Option<u64>,
    /// Stop at the end instead of waiting
    #[arg(short = 'e')]
    pub exit: bool,
    #[arg(short = 'p', value_name = "PARTITION")]
    pub partition: Option<i32>,
    /// Read as a member of this consumer group: partitions are shared with its other members, offsets are committed once
    /// records are printed; -o beginning or end says where to begin without one
    #[arg(short = 'G', value_name = "GROUP", conflicts_with = "partition")]
    pub group: Option<String>,
    /// For -G
    #[command(flatten)]
    pub gateway: KafkaTarget,
    /// %t topic, %p partition, %o offset, %k key, %s value, %h headers, %T timestamp, %S size, %K key size
    #[arg(short = 'f', value_name = "FORMAT")]
    pub format: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Write as fast as the window allows, or at --rate
    #[command(
        after_help = "Example:\n  weir bench produce --producers 1 --in-flight 5 --record-size 1024 --seconds 10"
    )]
    Produce(BenchOptions),
    /// Read what was written
    #[command(after_help = "Example:\n  weir bench consume --name bench --partitions 1 --seconds 10")]
    Consume(BenchOptions),
    /// One record in flight per producer, or an open loop at --rate: how long an acknowledgement takes
    #[command(after_help = "Example:\n  weir bench latency --rate 1000 --seconds 10")]
    Latency(BenchOptions),
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "a whole number from 1 on".to_owned())
}

fn above_zero(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    number.ok_or_else(|| "a number above 0".to_owned())
}

fn record_size(text: &str) -> Result<usize, String> {
    let max = types::limits::BATCH_BYTES_DEFAULT - 200;
    let size = text.parse().ok().filter(|size| (1..=max).contains(size));
    size.ok_or_else(|| format!("1 to {max}: a topic's default `max.message.bytes` is the limit"))
}

#[derive(Debug, Clone, Args)]
pub struct BenchOptions {
    #[command(flatten)]
    pub gateway: KafkaTarget,
    #[command(flatten)]
    pub credentials: Credentials,
    /// Topics are called NAME-0, NAME-1 and so on; with one topic, NAME
    #[arg(long, default_value = "bench")]
    pub name: String,
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    pub topics: usize,
    /// Partitions of each topic
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: i32,
    /// Connections; each writes to partitions of its own
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    pub producers: usize,
    /// Requests in flight per connection
    #[arg(long, default_value_t = 5, value_parser = at_least_one)]
    pub in_flight: usize,
    /// Bytes of one record's value
    #[arg(long, default_value_t = 1024, value_parser = record_size)]
    pub record_size: usize,
    /// Bytes of one batch at most; one record per batch when smaller than a record
    #[arg(long, default_value_t = 1_000_000)]
    pub batch_size: usize,
    /// Records per second over all producers; without it as many as go
    #[arg(long, value_parser = above_zero)]
    pub rate: Option<f64>,
    /// How long to measure, after a warm-up of a tenth of it
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// Stop after so many bytes of records (consume)
    #[arg(long)]
    pub bytes: Option<u64>,
    #[arg(long, default_value = "all")]
    pub acks: String,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, default_value = "none")]
    pub compression: String,
    /// How results are printed
    #[arg(long, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a configuration file
    #[command(after_help = "Example:\n  weir config check gateway --config gateway.toml")]
    Check(ConfigTarget),
    /// Show each option's value and where it comes from
    #[command(after_help = "Example:\n  weir config show gateway --config gateway.toml")]
    Show(ConfigTarget),
}

#[derive(Debug, Args)]
pub struct ConfigTarget {
    /// up, placement, storage-node or gateway; `check` also takes the file alone
    pub service: String,
    #[arg(long = "config", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Prints the completion script of a shell.
pub fn completion(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "weir", &mut std::io::stdout());
}
