//! The configs that topics may have, and those that a cluster shows: names, types and defaults are Kafka's
//! (`TopicConfig.java`, 4.x). docs/compatibility.md says which have an effect.

use std::collections::BTreeMap;

use service::api::ApiError;
use types::limits::{BATCH_BYTES_DEFAULT, BATCH_BYTES_MAX, BATCH_HEADER_BYTES};
use types::{ErrorCode, TopicRecord};

/// `ConfigType` in DescribeConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum Type {
    Boolean = 1,
    Text = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

/// A topic config.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    pub name: &'static str,
    pub default: &'static str,
    pub kind: Type,
    /// The broker config that would be its default; none for newer ones.
    pub synonym: Option<&'static str>,
    /// The values of one that is chosen from a few.
    choices: &'static [&'static str],
}

/// Why a compacted topic does not take a record.
pub const KEYLESS: &str = "a record without a key cannot be in a topic with cleanup.policy=compact";

const MAX: &str = "9223372036854775807";

const fn known(name: &'static str, kind: Type, default: &'static str, synonym: Option<&'static str>) -> Known {
    Known { name, default, kind, synonym, choices: &[] }
}

const fn chosen(
    name: &'static str,
    kind: Type,
    choices: &'static [&'static str],
    default: &'static str,
    synonym: Option<&'static str>,
) -> Known {
    Known { name, default, kind, synonym, choices }
}

/// All of them, by name.
pub const TOPIC_CONFIGS: &[Known] = &[
    chosen("cleanup.policy", Type::List, &["delete", "compact"], "delete", Some("log.cleanup.policy")),
    known("compression.gzip.level", Type::Int, "-1", Some("compression.gzip.level")),
    known("compression.lz4.level", Type::Int, "9", Some("compression.lz4.level")),
    chosen(
        "compression.type",
        Type::Text,
        &["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"],
        "producer",
        Some("compression.type"),
    ),
    known("compression.zstd.level", Type::Int, "3", Some("compression.zstd.level")),
    known("delete.retention.ms", Type::Long, "86400000", Some("log.cleaner.delete.retention.ms")),
    known("file.delete.delay.ms", Type::Long, "60000", Some("log.segment.delete.delay.ms")),
    known("flush.messages", Type::Long, MAX, Some("log.flush.interval.messages")),
    known("flush.ms", Type::Long, MAX, Some("log.flush.interval.ms")),
    known("follower.replication.throttled.replicas", Type::List, "", None),
    known("index.interval.bytes", Type::Int, "4096", Some("log.index.interval.bytes")),
    known("leader.replication.throttled.replicas", Type::List, "", None),
    known("local.retention.bytes", Type::Long, "-2", Some("log.local.retention.bytes")),
    known("local.retention.ms", Type::Long, "-2", Some("log.local.retention.ms")),
    known("max.compaction.lag.ms", Type::Long, MAX, Some("log.cleaner.max.compaction.lag.ms")),
    known("max.message.bytes", Type::Int, "1048588", Some("message.max.bytes")),
    known("message.timestamp.after.max.ms", Type::Long, "3600000", Some("log.message.timestamp.after.max.ms")),
    known("message.timestamp.before.max.ms", Type::Long, MAX, Some("log.message.timestamp.before.max.ms")),
    known("message.timestamp.difference.max.ms", Type::Long, MAX, None),
    chosen(
        "message.timestamp.type",
        Type::Text,
        &["CreateTime", "LogAppendTime"],
        "CreateTime",
        Some("log.message.timestamp.type"),
    ),
    known("min.cleanable.dirty.ratio", Type::Double, "0.5", Some("log.cleaner.min.cleanable.ratio")),
    known("min.compaction.lag.ms", Type::Long, "0", Some("log.cleaner.min.compaction.lag.ms")),
    known("min.insync.replicas", Type::Int, "1", Some("min.insync.replicas")),
    known("preallocate", Type::Boolean, "false", Some("log.preallocate")),
    known("remote.storage.enable", Type::Boolean, "false", None),
    known("retention.bytes", Type::Long, "-1", Some("log.retention.bytes")),
    known("retention.ms", Type::Long, "604800000", Some("log.retention.ms")),
    known("segment.bytes", Type::Int, "1073741824", Some("log.segment.bytes")),
    known("segment.index.bytes", Type::Int, "10485760", Some("log.index.size.max.bytes")),
    known("segment.jitter.ms", Type::Long, "0", Some("log.roll.jitter.ms")),
    known("segment.ms", Type::Long, "604800000", Some("log.roll.ms")),
    known("unclean.leader.election.enable", Type::Boolean, "false", Some("unclean.leader.election.enable")),
];

/// What a broker is said to be set to; none of it can be changed. Tools read the version of a cluster from the last.
pub const BROKER_CONFIGS: &[(&str, Type, &str)] = &[
    ("auto.create.topics.enable", Type::Boolean, "true"),
    ("default.replication.factor", Type::Int, "2"),
    ("delete.topic.enable", Type::Boolean, "true"),
    ("group.initial.rebalance.delay.ms", Type::Int, "0"),
    ("group.max.session.timeout.ms", Type::Int, "1800000"),
    ("group.min.session.timeout.ms", Type::Int, "6000"),
    ("inter.broker.protocol.version", Type::Text, "4.2-IV1"),
    ("log.cleaner.enable", Type::Boolean, "false"),
    ("log.message.timestamp.type", Type::Text, "CreateTime"),
    ("message.max.bytes", Type::Int, "1048588"),
    ("min.insync.replicas", Type::Int, "1"),
    ("num.partitions", Type::Int, "1"),
    ("offset.metadata.max.bytes", Type::Int, "4096"),
    ("offsets.retention.minutes", Type::Int, "10080"),
];

fn invalid<T>(message: String) -> Result<T, ApiError> {
    Err(ApiError::new(ErrorCode::InvalidConfig, message))
}

/// A topic config by its name.
pub fn find(name: &str) -> Result<&'static Known, ApiError> {
    match TOPIC_CONFIGS.iter().find(|known| known.name == name) {
        Some(known) => Ok(known),
        None => invalid(format!("topic config `{name}` is not known")),
    }
}

/// Whether a topic may have this value.
pub fn check(name: &str, value: &str) -> Result<(), ApiError> {
    let known = find(name)?;
    if name == "max.message.bytes" {
        return match value.parse::<usize>() {
            Ok(bytes) if (BATCH_HEADER_BYTES..=BATCH_BYTES_MAX).contains(&bytes) => Ok(()),
            _ => invalid(format!("max.message.bytes = `{value}` is not {BATCH_HEADER_BYTES} to {BATCH_BYTES_MAX}")),
        };
    }
    let is_right = match known.kind {
        Type::Boolean => matches!(value, "true" | "false"),
        Type::Int | Type::Long
            if least(name).is_some_and(|least| value.parse().is_ok_and(|number: i64| number < least)) =>
        {
            return invalid(format!("{name} = `{value}` is less than {}", least(name).unwrap_or_default()));
        }
        Type::Int => value.parse::<i32>().is_ok(),
        Type::Long => value.parse::<i64>().is_ok(),
        Type::Double => value.parse::<f64>().is_ok_and(|ratio| (0.0..=1.0).contains(&ratio)),
        Type::List if !known.choices.is_empty() => items(value).all(|item| known.choices.contains(&item)),
        Type::Text if !known.choices.is_empty() => known.choices.contains(&value),
        Type::List | Type::Text => true,
    };
    match (is_right, known.choices) {
        (true, _) => Ok(()),
        (false, []) => invalid(format!("{name} = `{value}` is no {}", kind_name(known.kind))),
        (false, choices) => invalid(format!("{name} = `{value}` is not {}", choices.join(" or "))),
    }
}

/// The least value of a config that has one (Kafka's `LogConfig`, KIP-1030).
fn least(name: &str) -> Option<i64> {
    match name {
        "retention.ms" | "retention.bytes" => Some(-1),
        "message.timestamp.after.max.ms"
        | "message.timestamp.before.max.ms"
        | "message.timestamp.difference.max.ms" => Some(0),
        "delete.retention.ms"
        | "file.delete.delay.ms"
        | "flush.ms"
        | "index.interval.bytes"
        | "min.compaction.lag.ms" => Some(0),
        "flush.messages" | "max.compaction.lag.ms" | "min.insync.replicas" => Some(1),
        "segment.bytes" => Some(1024 * 1024),
        "segment.ms" => Some(1),
        _ => None,
    }
}

fn kind_name(kind: Type) -> &'static str {
    match kind {
        Type::Boolean => "`true` or `false`",
        Type::Int => "number of 32 bits",
        Type::Long => "number of 64 bits",
        Type::Double => "ratio between 0 and 1",
        Type::List => "list",
        Type::Text => "text",
    }
}

/// The items of a list config.
pub fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// One change of IncrementalAlterConfigs (KIP-339).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Set(String),
    Delete,
    Append(String),
    Subtract(String),
}

/// What a topic's configs become; `None` takes one away.
pub fn change(
    now: &BTreeMap<String, String>,
    changes: impl IntoIterator<Item = (String, Change)>,
) -> Result<BTreeMap<String, Option<String>>, ApiError> {
    let mut after: BTreeMap<String, Option<String>> = BTreeMap::new();
    for (name, change) in changes {
        let known = find(&name)?;
        let is_list_change = matches!(change, Change::Append(_) | Change::Subtract(_));
        if is_list_change && known.kind != Type::List {
            return invalid(format!("`{name}` is no list: nothing can be appended to it or subtracted from it"));
        }
        let before = after.get(&name).cloned().unwrap_or_else(|| now.get(&name).cloned());
        let mut list: Vec<String> = items(before.as_deref().unwrap_or(known.default)).map(str::to_owned).collect();
        let value = match change {
            Change::Delete => None,
            Change::Set(value) => Some(value),
            Change::Append(value) => {
                let new: Vec<String> =
                    items(&value).filter(|item| !list.iter().any(|l| l == item)).map(str::to_owned).collect();
                list.extend(new);
                Some(list.join(","))
            }
            Change::Subtract(value) => {
                list.retain(|item| !items(&value).any(|gone| gone == item));
                Some(list.join(","))
            }
        };
        if let Some(value) = &value {
            check(&name, value)?;
        }
        after.insert(name, value);
    }
    Ok(after)
}

/// A topic's `max.message.bytes`.
pub fn bytes_max(topic: &TopicRecord) -> usize {
    topic.configs.get("max.message.bytes").and_then(|v| v.parse().ok()).unwrap_or(BATCH_BYTES_DEFAULT)
}

/// Whether a topic keeps the last record of each key, some day: then each record must have one.
pub fn is_compacted(topic: &TopicRecord) -> bool {
    topic.configs.get("cleanup.policy").is_some_and(|policy| items(policy).any(|item| item == "compact"))
}

/// Whether the beginning of a topic may be given up: not if it is only compacted.
pub fn is_deleting(topic: &TopicRecord) -> bool {
    topic.configs.get("cleanup.policy").is_none_or(|policy| items(policy).any(|item| item == "delete"))
}

/// Whether records whose times reach from the one to the other, in ms since 1970, may be in a topic at `now_ms`: of
/// `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms` (KIP-937). A record without a time always may.
///
/// # Errors
/// In words for whoever sent them.
pub fn check_times(topic: &TopicRecord, (oldest, newest): (i64, i64), now_ms: i64) -> Result<(), String> {
    if is_log_append_time(topic) {
        return Ok(());
    }
    let most = |name: &str, default: i64| topic.configs.get(name).and_then(|v| v.parse().ok()).unwrap_or(default);
    let after = most("message.timestamp.after.max.ms", 3_600_000);
    if newest.saturating_sub(now_ms) > after {
        return Err(format!(
            "timestamp {newest} is more than message.timestamp.after.max.ms = {after} ahead of {now_ms}"
        ));
    }
    let before = most("message.timestamp.before.max.ms", i64::MAX);
    if oldest >= 0 && now_ms.saturating_sub(oldest) > before {
        return Err(format!(
            "timestamp {oldest} is more than message.timestamp.before.max.ms = {before} behind {now_ms}"
        ));
    }
    Ok(())
}

/// Whether a topic has `message.timestamp.type=LogAppendTime`.
pub fn is_log_append_time(topic: &TopicRecord) -> bool {
    topic.configs.get("message.timestamp.type").is_some_and(|v| v == "LogAppendTime")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_may_be_set() {
        for known in TOPIC_CONFIGS {
            assert!(check(known.name, known.default).is_ok(), "{}", known.name);
        }
        assert!(TOPIC_CONFIGS.is_sorted_by_key(|known| known.name));
        let bytes = find("max.message.bytes").expect("known").default;
        assert_eq!(bytes.parse(), Ok(BATCH_BYTES_DEFAULT));
    }

    #[test]
    fn times_are_bounded_both_ways_unless_the_log_gives_them() {
        let mut topic = TopicRecord {
            account: types::AccountId(0),
            cluster: types::ClusterId(0),
            name: "t".into(),
            id: types::TopicId(1),
            partitions: 1,
            replication_factor: 2,
            configs: BTreeMap::new(),
            version: 1,
        };
        let now_ms = 1_700_000_000_000;
        let hour = 3_600_000;
        assert!(check_times(&topic, (0, now_ms + hour), now_ms).is_ok());
        assert!(check_times(&topic, (0, now_ms + hour + 1), now_ms).is_err());
        topic.configs.insert("message.timestamp.before.max.ms".into(), "1000".into());
        assert!(check_times(&topic, (now_ms - 1_000, now_ms), now_ms).is_ok());
        assert!(check_times(&topic, (now_ms - 1_001, now_ms), now_ms).is_err());
        assert!(check_times(&topic, (-1, -1), now_ms).is_ok(), "no time");
        topic.configs.insert("message.timestamp.type".into(), "LogAppendTime".into());
        assert!(check_times(&topic, (1, i64::MAX), now_ms).is_ok());
    }

    #[test]
    fn wrong_values_are_refused_with_what_would_be_right() {
        for (name, value, part) in [
            ("retention.ms", "a week", "64 bits"),
            ("cleanup.policy", "shred", "delete or compact"),
            ("retention.ms", "-2", "less than -1"),
            ("segment.bytes", "14", "less than 1048576"),
            ("preallocate", "1", "true"),
            ("nobody.knows", "1", "not known"),
            ("max.message.bytes", "99999999", "61 to"),
        ] {
            let error = check(name, value).expect_err(name);
            assert!(error.message.contains(part), "{}", error.message);
        }
        assert!(check("cleanup.policy", "compact, delete").is_ok());
        assert!(check("retention.ms", "9223372036854775807").is_ok());
    }

    #[test]
    fn lists_grow_and_shrink() {
        let now = BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
        let policy = |change| ("cleanup.policy".to_owned(), change);
        let changed = change(&now, [policy(Change::Append("compact,delete".into()))]).expect("a list");
        assert_eq!(changed["cleanup.policy"].as_deref(), Some("delete,compact"));
        let changed =
            change(&now, [policy(Change::Subtract("delete".into())), policy(Change::Append("compact".into()))]);
        assert_eq!(changed.expect("a list")["cleanup.policy"].as_deref(), Some("compact"));
        assert!(change(&now, [("retention.ms".to_owned(), Change::Append("5".into()))]).is_err());
        assert_eq!(change(&now, [("retention.ms".to_owned(), Change::Delete)]).expect("gone")["retention.ms"], None);
    }
}
