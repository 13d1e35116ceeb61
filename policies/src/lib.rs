//! The policy language of AWS IAM: documents are parsed once, and every call of every client is decided by them.
//!
//! Pure: no I/O, no clock, no randomness; the same request and the same documents give the same decision. Rules are those of
//! the IAM user guide ("Policy evaluation logic", "IAM JSON policy elements", "Condition operators", "Variables and tags");
//! where it leaves something open the stricter reading holds, and `docs/policies.md` says which.
//!
//! [`Document::parse`] refuses what is not valid with line and column; [`decide`] answers without allocating;
//! [`explain`] says of every statement why it applied or did not, and what would allow the call; [`lint`] warns of what is
//! valid and yet hardly meant.

mod arn;
mod condition;
mod context;
mod decision;
mod document;
mod explanation;
mod linter;
mod pattern;
mod principal;
mod reader;
#[cfg(test)]
mod tests;
pub mod vocabulary;

pub use arn::Arn;
pub use context::Context;
pub use decision::{Decision, Layer, Outcome, Place, Policies, Request, decide};
pub use document::{Document, DocumentKind, Effect, Invalid, Statement};
pub use explanation::{Explanation, Fit, Missing, StatementReport, explain};
pub use linter::{Warning, lint};
pub use principal::Principal;

/// A document is no longer than this, in bytes: IAM's bound of resource policies, beyond that of managed ones (6,144).
pub const DOCUMENT_BYTES_MAX: usize = 20_480;
