//! Proofs of who calls: AWS Signature Version 4, what clients of Amazon MSK send, SCRAM-SHA-512, JSON Web Tokens.
//!
//! Pure: no I/O, no clock; random bytes, keys and the time are given. What was wrong with a proof is for the log; clients are
//! told one text for everything.

pub mod jwt;
pub mod msk;
pub mod replays;
pub mod request;
pub mod scram;
pub mod secret;
pub mod sigv4;

/// Why a proof was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Not of the form; what was wrong.
    Malformed(&'static str),
    /// Signed for another host, region or service.
    Elsewhere(String),
    /// Signed too long ago, or in the future.
    Expired,
    /// A header that means something and was not signed.
    Unsigned(String),
    /// Not with this key.
    WrongSignature,
}
