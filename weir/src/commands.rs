//! The commands for people; they speak `/v1`.

pub mod consume;
mod consume_group;
pub mod group;
pub mod identity;
pub mod issuer;
pub mod metadata;
pub mod operate;
pub mod policy;
pub mod produce;
pub mod quota;
pub mod topic;

use serde_json::Value;

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
