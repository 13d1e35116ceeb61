//! Identifiers and the small numbers of the log: offsets, epochs, generations.
//!
//! Widths are fixed by the formats (`docs/formats.md`) and never shrink.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A record's position in its partition, from 0; Kafka's offset.
pub type Offset = i64;

/// A partition's number within its topic, from 0.
pub type PartitionIndex = i32;

/// A text that is no UUID of the form `8-4-4-4-12` (or 32 hex digits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidUuid;

impl fmt::Display for InvalidUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a UUID")
    }
}

impl std::error::Error for InvalidUuid {}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let v = self.0;
                write!(
                    f,
                    "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
                    v >> 96,
                    (v >> 80) & 0xffff,
                    (v >> 64) & 0xffff,
                    (v >> 48) & 0xffff,
                    v & 0xffff_ffff_ffff
                )
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = InvalidUuid;

            fn from_str(text: &str) -> Result<Self, InvalidUuid> {
                let digits: String = text.chars().filter(|c| *c != '-').collect();
                if digits.len() != 32 {
                    return Err(InvalidUuid);
                }
                u128::from_str_radix(&digits, 16).map(Self).map_err(|_| InvalidUuid)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

uuid_id!(
    /// A virtual Kafka cluster of one account.
    ClusterId
);
uuid_id!(
    /// A topic; names resolve to it only at the gateway.
    TopicId
);
uuid_id!(
    /// One attempt to open a segment. Fresh per attempt, so two attempts at one epoch differ.
    Nonce
);
uuid_id!(
    /// One life of a storage node's disk. A wiped disk comes back with another.
    Incarnation
);
uuid_id!(
    /// One process lifetime of a gateway; half of a dedupe key.
    SessionId
);
number_id!(
    /// A tenant: 12 decimal digits, as in AWS.
    AccountId(u64)
);
number_id!(
    /// A storage node's number, given by placement at its first registration; from 1.
    NodeId(u32)
);
number_id!(
    /// A principal, interned by placement; 0 is anonymous.
    PrincipalId(u64)
);
number_id!(
    /// Bumped when metadata is restored from a backup; orders before the epoch.
    Generation(u32)
);
number_id!(
    /// The number of a segment's leadership, from 1; Kafka's leader epoch.
    Epoch(i32)
);

impl AccountId {
    /// The account as its 12 digits.
    pub fn digits(self) -> String {
        format!("{:012}", self.0)
    }
}

impl Epoch {
    /// The epoch after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A partition anywhere in the installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    pub topic: TopicId,
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A segment's whole identity: (topic id, partition, generation, epoch, nonce).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentId {
    pub partition: TopicPartition,
    pub generation: Generation,
    pub epoch: Epoch,
    pub nonce: Nonce,
}

impl SegmentId {
    /// What fences order by: the generation first, then the epoch.
    pub fn leadership(&self) -> (Generation, Epoch) {
        (self.generation, self.epoch)
    }
}

/// The protocol by which a record came in; metered and stored with each append.
// The numbers are on disk and on the wire: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    Internal = 0,
    Kafka = 1,
    Http1 = 2,
    Http2 = 3,
    Http3 = 4,
}

impl Protocol {
    /// The protocol of a stored number; unknown numbers are `Internal`.
    pub fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Kafka,
            2 => Self::Http1,
            3 => Self::Http2,
            4 => Self::Http3,
            _ => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_survives_its_text() {
        let id = TopicId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(id.to_string(), "01234567-89ab-cdef-0011-223344556677");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("nonsense".parse::<TopicId>(), Err(InvalidUuid));
    }

    #[test]
    fn an_account_has_twelve_digits() {
        assert_eq!(AccountId(42).digits(), "000000000042");
    }
}
