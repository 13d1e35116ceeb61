//! `weir node` and `weir partition`.

use clap::Subcommand;

use super::Target;

#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List storage nodes
    #[command(after_help = "Example:\n  weir node list")]
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Empty a node: open segments move at once, sealed ones are copied; returns when nothing is left on it
    #[command(after_help = "Example:\n  weir node drain az-a-7100")]
    Drain {
        node: String,
        /// Return at once; `weir node list` shows how far it is
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Use a node again
    #[command(after_help = "Example:\n  weir node undrain az-a-7100")]
    Undrain {
        node: String,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Subcommand)]
pub enum PartitionCommand {
    /// Move a partition's open segment to a node: sealed where it is, opened there; no data is copied
    #[command(after_help = "Example:\n  weir partition move orders 0 --to az-b-7100")]
    Move {
        topic: String,
        partition: i32,
        /// The storage node that shall lead it
        #[arg(long, value_name = "NODE")]
        to: String,
        #[command(flatten)]
        target: Target,
    },
    /// Show what of a partition no copy is left of, and with --yes go on without it
    ///
    /// A partition without an intact copy is offline until one comes back. If none will, this takes what is lost out of
    /// it: readers go on behind the gap, offsets in it are never used again, and a copy that comes back after all is
    /// deleted. Exits with 1 if something is lost and nothing was accepted.
    #[command(
        after_help = "Example:\n  weir partition accept-loss orders 0          shows what is lost\n  weir partition accept-loss orders 0 --yes    goes on without it"
    )]
    AcceptLoss {
        topic: String,
        partition: i32,
        /// The copies will not come back
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Make everything below an offset unreadable, for good; what lies wholly below it is deleted
    #[command(
        after_help = "Example:\n  weir partition trim orders 0 --before 1000    offset 1000 is the first one then"
    )]
    Trim {
        topic: String,
        partition: i32,
        /// The first offset that stays
        #[arg(long, value_name = "OFFSET")]
        before: u64,
        #[command(flatten)]
        target: Target,
    },
}
