//! The commands for people; they speak `/v1`.

pub mod consume;
pub mod produce;
pub mod topic;
