//! Options of the services.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use service::proxy::Proxies;

use super::{TlsOptions, TrustOptions, gateway_url, plain_name};
use crate::output::Output;

/// `10.0.0.0/8`, or one address.
fn network(text: &str) -> Result<IpNet, String> {
    let one = text.parse::<IpAddr>().map(IpNet::from);
    one.or_else(|_| text.parse()).map_err(|_| "an address, or a network such as 10.0.0.0/8".to_owned())
}

/// Who may come in.
#[derive(Debug, Args)]
pub struct LoginOptions {
    /// Clients must log in: Kafka's by SASL, HTTP's by signed requests or bearer tokens. Without it everyone is an admin, on
    /// loopback: that is how the first users are made
    #[arg(long, env = "WEIR_REQUIRE_LOGIN")]
    pub require_login: bool,
    /// Address of health and metrics for whoever reaches it, such as a scraper. /metrics of the HTTP address is for operators who
    /// may `cluster:DescribeService`
    #[arg(long, value_name = "ADDR", env = "WEIR_GATEWAY_ADMIN", requires = "require_login")]
    pub admin: Option<SocketAddr>,
    /// A name that clients reach this gateway by beside the advertised ones, such as a load balancer's; again for several
    #[arg(long, value_name = "NAME", env = "WEIR_HOST_NAME", value_delimiter = ',')]
    pub host_name: Vec<String>,
    /// A load balancer before this gateway, or a network of them (CIDR), that begins connections with a PROXY header (version 2) and is
    /// believed; again for several. The others are taken as they come
    #[arg(long, value_name = "NET", env = "WEIR_PROXY_FROM", value_delimiter = ',', value_parser = network,
          requires = "require_login")]
    pub proxy_from: Vec<IpNet>,
    /// Write who did what, from where, and what was decided, to this file, a JSON object a line; at 256 MiB it becomes FILE.1, up to
    /// FILE.8, and a new one begins
    #[arg(long, value_name = "FILE", env = "WEIR_AUDIT_LOG", requires = "require_login")]
    pub audit_log: Option<PathBuf>,
    /// Write the same to the topic `audit` of each account's cluster `weir`, which its principals may read: what it tells of an
    /// account, and no more. It keeps a week
    #[arg(long, env = "WEIR_AUDIT_TOPICS", requires = "require_login")]
    pub audit_topics: bool,
    /// Certificates (PEM) that those of issuers of tokens are signed by; what this machine trusts unless given
    #[arg(long, value_name = "FILE", env = "WEIR_ISSUER_CA")]
    pub issuer_ca: Option<PathBuf>,
    /// Fetch keys of issuers of tokens from private and loopback addresses too, from those without TLS: managers of accounts
    /// can then have this gateway ask whatever it reaches
    #[arg(long, env = "WEIR_PRIVATE_ISSUERS")]
    pub private_issuers: bool,
}

impl LoginOptions {
    pub fn proxies(&self) -> Proxies {
        Proxies::new(&self.proxy_from)
    }

    pub fn issuers(&self) -> gateway::IssuerSettings {
        gateway::IssuerSettings { ca: self.issuer_ca.clone(), may_be_private: self.private_issuers }
    }
}

#[derive(Debug, Args)]
pub struct UpOptions {
    /// TOML file with these options as keys
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where everything is kept
    #[arg(long, value_name = "DIR", default_value = "./weir-data", env = "WEIR_UP_DATA")]
    pub data: PathBuf,
    /// Address for Kafka clients
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9092", env = "WEIR_UP_KAFKA")]
    pub kafka: SocketAddr,
    /// Address for HTTP clients
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", env = "WEIR_UP_HTTP")]
    pub http: SocketAddr,
    /// Storage nodes, spread over the availability zones az-a, az-b and az-c
    #[arg(long, value_name = "N", default_value_t = 3, env = "WEIR_UP_STORAGE_NODES",
          value_parser = clap::value_parser!(u16).range(2..=26))]
    pub storage_nodes: u16,
    #[command(flatten)]
    pub tls: TlsOptions,
    #[command(flatten)]
    pub login: LoginOptions,
    /// Allow addresses beyond loopback although nobody is authenticated
    #[arg(long, env = "WEIR_UP_INSECURE_BIND")]
    pub insecure_bind: bool,
    /// Threads for its tasks; half of the cores unless given
    #[arg(long, value_name = "N", env = "WEIR_UP_THREADS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

#[derive(Debug, Args)]
pub struct PlacementOptions {
    #[command(subcommand)]
    pub command: Option<PlacementCommand>,
    /// TOML file with these options as keys
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the placement API
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7000", env = "WEIR_PLACEMENT_LISTEN")]
    pub listen: SocketAddr,
    /// Where metadata lives: redb:DIR, or etcd:URL,URL for several placement processes
    #[arg(long, value_name = "STORE", default_value = "redb:./weir-placement", env = "WEIR_PLACEMENT_STORE")]
    pub store: String,
    /// File of the key that secrets of access keys are sealed with: 64 hexadecimal digits, the same for each placement process.
    /// A store that is a folder has its own, seal.key, unless one is given
    #[arg(long, value_name = "FILE", env = "WEIR_PLACEMENT_SEAL_KEY")]
    pub seal_key: Option<PathBuf>,
    /// A partition that nobody appends to for so many seconds is parked: sealed, without a leader, until the next append
    #[arg(long, value_name = "SECONDS", default_value_t = types::limits::PARK_AFTER_S, env = "WEIR_PLACEMENT_PARK_AFTER",
          value_parser = clap::value_parser!(u64).range(5..))]
    pub park_after: u64,
    #[command(flatten)]
    pub trust: TrustOptions,
    /// Allow addresses beyond loopback although nobody is authenticated
    #[arg(long, env = "WEIR_PLACEMENT_INSECURE_BIND")]
    pub insecure_bind: bool,
    /// Threads for its tasks; half of the cores unless given
    #[arg(long, value_name = "N", env = "WEIR_PLACEMENT_THREADS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

#[derive(Debug, Subcommand)]
pub enum PlacementCommand {
    /// Write all metadata to a file, while placement runs
    #[command(after_help = "Example:\n  weir placement backup weir.json")]
    Backup {
        /// Where to; a file that is there is replaced
        file: PathBuf,
        /// Placement's addresses
        #[arg(
            long,
            value_name = "URL",
            default_value = "http://127.0.0.1:7000",
            value_delimiter = ',',
            value_parser = gateway_url
        )]
        placement: Vec<String>,
        #[command(flatten)]
        trust: TrustOptions,
    },
    /// Make metadata anew from a backup and from what the storage nodes hold, while no placement runs
    #[command(after_help = "Example:\n  weir placement restore weir.json --store redb:/var/lib/weir/placement-new")]
    Restore {
        /// What `weir placement backup` wrote
        file: PathBuf,
        #[command(flatten)]
        options: RestoreOptions,
    },
    /// Make metadata anew from what the storage nodes hold, without a backup
    #[command(
        after_help = "Example:\n  weir placement rebuild --store redb:./placement-new --node 10.0.0.1:7100 --node 10.0.0.2:7100"
    )]
    Rebuild {
        #[command(flatten)]
        options: RestoreOptions,
    },
}

#[derive(Debug, Args)]
pub struct RestoreOptions {
    /// Where the new metadata goes: redb:DIR, or etcd:URL,URL; it must be empty
    #[arg(long, value_name = "STORE")]
    pub store: String,
    /// A storage node's data path, more than once; `restore` asks those in the backup in any case
    #[arg(long, value_name = "HOST:PORT")]
    pub node: Vec<String>,
    /// A storage node that is gone for good, more than once: what only it had is lost
    #[arg(long, value_name = "NAME")]
    pub without: Vec<String>,
    /// Go on although offsets are on no storage node that answered: they become gaps
    #[arg(long)]
    pub accept_loss: bool,
    /// Only tell what would be restored: no storage node is fenced, nothing is written
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub trust: TrustOptions,
    /// How results are printed
    #[arg(long, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct StorageNodeOptions {
    /// TOML file with these options as keys
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Availability zone of this node
    #[arg(long, value_name = "NAME", value_parser = plain_name, env = "WEIR_STORAGE_NODE_AZ")]
    pub az: String,
    /// What listings call this node; the zone and the port unless given
    #[arg(long, value_name = "NAME", value_parser = plain_name, env = "WEIR_STORAGE_NODE_NAME")]
    pub name: Option<String>,
    /// Where its journal and segments are
    #[arg(long, value_name = "DIR", default_value = "./weir-storage-node", env = "WEIR_STORAGE_NODE_DATA")]
    pub data: PathBuf,
    /// Address of the data path
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7100", env = "WEIR_STORAGE_NODE_LISTEN")]
    pub listen: SocketAddr,
    /// Address of health and metrics
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7101", env = "WEIR_STORAGE_NODE_ADMIN")]
    pub admin: SocketAddr,
    /// Where others reach the data path; the listen address unless given
    #[arg(long, value_name = "HOST:PORT", env = "WEIR_STORAGE_NODE_ADVERTISE")]
    pub advertise: Option<String>,
    /// Placement's addresses
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:7000",
        value_delimiter = ',',
        value_parser = gateway_url,
        env = "WEIR_STORAGE_NODE_PLACEMENT"
    )]
    pub placement: Vec<String>,
    #[command(flatten)]
    pub trust: TrustOptions,
    /// Allow addresses beyond loopback although nobody is authenticated
    #[arg(long, env = "WEIR_STORAGE_NODE_INSECURE_BIND")]
    pub insecure_bind: bool,
    /// Threads for its tasks; half of the cores unless given
    #[arg(long, value_name = "N", env = "WEIR_STORAGE_NODE_THREADS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

#[derive(Debug, Args)]
pub struct GatewayOptions {
    /// TOML file with these options as keys
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Availability zone of this gateway; shown to clients as its rack
    #[arg(long, value_name = "NAME", env = "WEIR_GATEWAY_AZ")]
    pub az: Option<String>,
    /// Where its map is cached, so that it starts without placement; nothing is unless given
    #[arg(long, value_name = "DIR", env = "WEIR_GATEWAY_DATA")]
    pub data: Option<PathBuf>,
    /// Address for Kafka clients
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9092", env = "WEIR_GATEWAY_KAFKA")]
    pub kafka: SocketAddr,
    /// Where Kafka clients are told to connect; the Kafka address unless given
    #[arg(long, value_name = "HOST:PORT", env = "WEIR_GATEWAY_ADVERTISE_KAFKA")]
    pub advertise_kafka: Option<String>,
    /// Address for HTTP clients
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", env = "WEIR_GATEWAY_HTTP")]
    pub http: SocketAddr,
    /// Placement's addresses
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:7000",
        value_delimiter = ',',
        value_parser = gateway_url,
        env = "WEIR_GATEWAY_PLACEMENT"
    )]
    pub placement: Vec<String>,
    #[command(flatten)]
    pub tls: TlsOptions,
    #[command(flatten)]
    pub login: LoginOptions,
    #[command(flatten)]
    pub trust: TrustOptions,
    /// Allow addresses beyond loopback although nobody is authenticated
    #[arg(long, env = "WEIR_GATEWAY_INSECURE_BIND")]
    pub insecure_bind: bool,
    /// Threads for its tasks; half of the cores unless given
    #[arg(long, value_name = "N", env = "WEIR_GATEWAY_THREADS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}
