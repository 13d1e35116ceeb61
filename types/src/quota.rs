//! Quotas: what an account, a cluster, a user or a role may use at most, by named profiles.
//!
//! A *flow* is used up and comes back with time (bytes, requests); who uses more is slowed down. A *stock* is held (connections,
//! groups, partitions); who has as many as it may gets no more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::AccountId;

macro_rules! named {
    ($(#[$doc:meta])* $kind:ident { $($(#[$vdoc:meta])* $variant:ident = $name:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $kind { $($(#[$vdoc])* $variant),* }

        impl $kind {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// As it is called in profiles and answers.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

named! {
    /// What is used up.
    Flow {
        /// Bytes of record batches written, as they were sent, per second.
        Ingress = "ingress",
        /// Bytes of record batches read, per second.
        Egress = "egress",
        /// Requests of any kind, per second.
        Requests = "requests",
        /// Requests that make, change or delete topics, per second.
        TopicChanges = "topic_changes",
        /// Partitions made and deleted, in five minutes.
        PartitionChanges = "partition_changes",
        /// Kafka connections that log in, per second.
        Connects = "connects",
        /// Producers that begin, per second: each gets an id that partitions remember for a day.
        ProducerIds = "producer_ids",
    }
}

impl Flow {
    /// The time that a limit counts for, in seconds.
    pub fn window_s(self) -> u64 {
        if self == Self::PartitionChanges { 300 } else { 1 }
    }

    /// What it is counted in.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Ingress | Self::Egress => "bytes",
            Self::Requests | Self::TopicChanges => "requests",
            Self::PartitionChanges => "partitions",
            Self::Connects => "connections",
            Self::ProducerIds => "producers",
        }
    }
}

named! {
    /// What is held.
    Stock {
        /// Open Kafka connections.
        Connections = "connections",
        /// Consumer groups.
        Groups = "groups",
        Partitions = "partitions",
    }
}

/// What a profile limits; what it does not name has no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    #[serde(default)]
    pub flows: BTreeMap<Flow, u64>,
    #[serde(default)]
    pub stocks: BTreeMap<Stock, u64>,
}

/// A named profile of one account; those of the operator's are everybody's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaProfile {
    pub account: AccountId,
    pub name: String,
    pub limits: Limits,
}

/// The profile without a limit.
pub const UNLIMITED: &str = "unlimited";
/// What Amazon MSK Serverless allows a cluster ("MSK Serverless quotas", as of 2026): what created accounts begin with.
pub const MSK_SERVERLESS: &str = "msk-serverless";

/// Profiles that are there from the start.
pub fn built_in(name: &str) -> Option<Limits> {
    match name {
        UNLIMITED => Some(Limits::default()),
        MSK_SERVERLESS => Some(Limits {
            flows: BTreeMap::from([
                (Flow::Ingress, 200_000_000),
                (Flow::Egress, 400_000_000),
                (Flow::Requests, 15_000),
                (Flow::TopicChanges, 2),
                (Flow::PartitionChanges, 250),
                (Flow::Connects, 100),
                // Amazon names none.
                (Flow::ProducerIds, 100),
            ]),
            stocks: BTreeMap::from([(Stock::Connections, 3_000), (Stock::Groups, 500), (Stock::Partitions, 2_400)]),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read_as_they_are_written() {
        let limits = built_in(MSK_SERVERLESS).expect("built in");
        assert!(Flow::ALL.iter().all(|flow| limits.flows.contains_key(flow)));
        assert!(Stock::ALL.iter().all(|stock| limits.stocks.contains_key(stock)));
        let text = serde_json::to_string(&limits).expect("JSON");
        for name in Flow::ALL.iter().map(|flow| flow.name()).chain(Stock::ALL.iter().map(|stock| stock.name())) {
            assert!(text.contains(&format!("\"{name}\":")), "{name}: {text}");
        }
        assert_eq!(serde_json::from_str::<Limits>(&text).expect("the same"), limits);
    }
}
