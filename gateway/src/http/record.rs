//! Records as JSON, both ways.
//!
//! Written: a JSON string is its UTF-8 bytes, any other JSON value its source text verbatim, null nothing (a
//! tombstone, as value), `*_b64` raw bytes. Read: strings when valid UTF-8, else `key_b64`, `value_b64`,
//! `{"b64":…}`; never parsed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use types::ErrorCode;
use wire::frame::Refusal;
use wire::records::Record;

use crate::error::refuse;

/// Headers in order, repeats and nulls kept.
pub type Headers = Vec<(Bytes, Option<Bytes>)>;

/// A record to be written, its bytes decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Headers,
    pub partition: Option<i32>,
    pub timestamp: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    #[serde(borrow, default)]
    key: Option<&'a RawValue>,
    #[serde(default)]
    key_b64: Option<String>,
    /// Absent and null differ: null is a tombstone.
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    value_b64: Option<&'a RawValue>,
    #[serde(borrow, default)]
    headers: Option<&'a RawValue>,
    #[serde(default)]
    partition: Option<i32>,
    #[serde(default)]
    timestamp: Option<i64>,
}

/// `Some` even for null: the field is there.
fn present<'de: 'a, 'a, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&'a RawValue>::deserialize(deserializer).map(Some)
}

/// The end of the year 9999, in ms since 1970.
const TIMESTAMP_MAX: i64 = 253_402_300_799_999;

fn invalid(message: impl Into<String>) -> Refusal {
    refuse(ErrorCode::InvalidRequest, message)
}

/// Reads one record from its JSON.
pub fn parse(json: &str) -> Result<NewRecord, Refusal> {
    if !json.trim_start().starts_with('{') {
        return Err(invalid("not a record: a record is a JSON object"));
    }
    let written: Written<'_> = serde_json::from_str(json).map_err(|error| invalid(format!("not a record: {error}")))?;
    let key = match (written.key, written.key_b64) {
        (Some(_), Some(_)) => return Err(invalid("`key` and `key_b64` exclude each other")),
        (Some(raw), None) => bytes_of(raw)?,
        (None, Some(text)) => Some(base64(&text)?),
        (None, None) => None,
    };
    let value = match (written.value, written.value_b64) {
        (None, None) => return Err(invalid("a record has `value` or `value_b64`; null makes it a tombstone")),
        (Some(raw), None) => bytes_of(raw)?,
        (Some(raw), Some(b64)) if b64.get() == "null" => bytes_of(raw)?,
        (raw, Some(b64)) if raw.is_none_or(|raw| raw.get() == "null") => base64_or_null(b64)?,
        _ => return Err(invalid("`value` and `value_b64` exclude each other")),
    };
    if let Some(timestamp) = written.timestamp.filter(|timestamp| !(0..=TIMESTAMP_MAX).contains(timestamp)) {
        return Err(invalid(format!("timestamp {timestamp} is no time in ms since 1970")));
    }
    let headers = written.headers.map(parse_headers).transpose()?.unwrap_or_default();
    Ok(NewRecord { key, value, headers, partition: written.partition, timestamp: written.timestamp })
}

/// The bytes of a JSON value: a string's text, null nothing, anything else as it is written.
fn bytes_of(raw: &RawValue) -> Result<Option<Bytes>, Refusal> {
    let text = raw.get();
    if text == "null" {
        return Ok(None);
    }
    if text.starts_with('"') {
        let text: String = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
        return Ok(Some(text.into()));
    }
    Ok(Some(Bytes::copy_from_slice(text.as_bytes())))
}

fn base64(text: &str) -> Result<Bytes, Refusal> {
    STANDARD.decode(text).map(Bytes::from).map_err(|error| invalid(format!("not base64: {error}")))
}

fn base64_or_null(raw: &RawValue) -> Result<Option<Bytes>, Refusal> {
    let text: Option<String> =
        serde_json::from_str(raw.get()).map_err(|_| invalid("`value_b64` is a base64 string or null"))?;
    text.as_deref().map(base64).transpose()
}

/// Headers as an object, or as pairs where names repeat.
fn parse_headers(raw: &RawValue) -> Result<Headers, Refusal> {
    let text = raw.get();
    let wrong = || invalid("`headers` is an object, or a list of [name, value] pairs");
    if text == "null" {
        return Ok(Headers::new());
    }
    if text.starts_with('[') {
        let pairs: Vec<(String, &RawValue)> = serde_json::from_str(text).map_err(|_| wrong())?;
        return pairs.into_iter().map(|(name, value)| Ok((name.into(), header_value(value)?))).collect();
    }
    let object: OrderedObject<'_> = serde_json::from_str(text).map_err(|_| wrong())?;
    object.0.into_iter().map(|(name, value)| Ok((name.into(), header_value(value)?))).collect()
}

/// `{"b64": "…"}` is raw bytes, as it is when read.
fn header_value(raw: &RawValue) -> Result<Option<Bytes>, Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Raw {
        b64: String,
    }
    match serde_json::from_str::<Raw>(raw.get()) {
        Ok(raw) => base64(&raw.b64).map(Some),
        Err(_) => bytes_of(raw),
    }
}

/// An object's members in the order in which they are written.
struct OrderedObject<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for OrderedObject<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<'a>(std::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> serde::de::Visitor<'de> for Visitor<'a> {
            type Value = OrderedObject<'a>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(OrderedObject(members))
            }
        }
        deserializer.deserialize_map(Visitor(std::marker::PhantomData))
    }
}

/// Writes one record as a JSON object.
pub fn write(out: &mut Vec<u8>, partition: i32, record: &Record) {
    out.extend_from_slice(b"{\"partition\":");
    out.extend_from_slice(partition.to_string().as_bytes());
    out.extend_from_slice(b",\"offset\":");
    out.extend_from_slice(record.offset.to_string().as_bytes());
    out.extend_from_slice(b",\"timestamp\":");
    out.extend_from_slice(record.timestamp.to_string().as_bytes());
    write_field(out, "key", record.key.as_deref());
    write_field(out, "value", record.value.as_deref());
    out.extend_from_slice(b",\"headers\":[");
    for (i, (name, value)) in record.headers.iter().enumerate() {
        out.extend_from_slice(if i == 0 { b"[" } else { b",[" });
        write_text(out, &String::from_utf8_lossy(name));
        out.push(b',');
        match value.as_deref().map(|bytes| (bytes, std::str::from_utf8(bytes))) {
            None => out.extend_from_slice(b"null"),
            Some((_, Ok(text))) => write_text(out, text),
            Some((bytes, Err(_))) => {
                out.extend_from_slice(b"{\"b64\":");
                write_text(out, &STANDARD.encode(bytes));
                out.push(b'}');
            }
        }
        out.push(b']');
    }
    out.extend_from_slice(b"]}");
}

fn write_field(out: &mut Vec<u8>, name: &str, bytes: Option<&[u8]>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => out.extend_from_slice(b"\":null"),
        Some((_, Ok(text))) => {
            out.extend_from_slice(b"\":");
            write_text(out, text);
        }
        Some((bytes, Err(_))) => {
            out.extend_from_slice(b"_b64\":");
            write_text(out, &STANDARD.encode(bytes));
        }
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is JSON, and memory takes it");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Option<Bytes> {
        parse(json).expect("a record").value
    }

    #[test]
    fn bytes_follow_the_rules() {
        assert_eq!(value(r#"{"value":"h\u00e9"}"#), Some("hé".into()));
        assert_eq!(value(r#"{"value":{"b": 1.0, "a":[ ]}}"#), Some(r#"{"b": 1.0, "a":[ ]}"#.into()), "verbatim");
        assert_eq!(value(r#"{"value":12345678901234567890.10}"#), Some("12345678901234567890.10".into()));
        assert_eq!(value(r#"{"value":null}"#), None, "a tombstone");
        assert_eq!(value(r#"{"value_b64":"AP8="}"#), Some(Bytes::from_static(&[0, 255])));
        assert_eq!(value(r#"{"value":null,"value_b64":"AP8="}"#), Some(Bytes::from_static(&[0, 255])));
        assert_eq!(value(r#"{"value":1,"value_b64":null}"#), Some("1".into()));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for json in [
            "{}",
            r#"{"key":"k"}"#,
            r#"{"value":1,"value_b64":"AA=="}"#,
            r#"{"value_b64":"%"}"#,
            "[]",
            "nope",
            r#"{"value":1,"valu":2}"#,
            r#"{"value":1,"headers":3}"#,
            r#"{"value":1,"key":"a","key_b64":"AA=="}"#,
        ] {
            assert_eq!(parse(json).expect_err(json).code, ErrorCode::InvalidRequest, "{json}");
        }
    }

    #[test]
    fn headers_keep_order_repeats_and_nulls() {
        let expected: Headers =
            vec![("b".into(), Some("1".into())), ("a".into(), None), ("b".into(), Some(Bytes::from_static(&[255])))];
        for json in [
            r#"{"value":1,"headers":[["b","1"],["a",null],["b",{"b64":"/w=="}]]}"#,
            r#"{"value":1,"headers":{"b":"1","a":null,"b":{"b64":"/w=="}}}"#,
        ] {
            assert_eq!(parse(json).expect("a record").headers, expected, "{json}");
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = Record {
            offset: 7,
            timestamp: 5,
            key: Some(Bytes::from_static(&[255])),
            value: Some("v\"\n".into()),
            headers: vec![("h".into(), None), ("h".into(), Some(Bytes::from_static(&[254])))],
        };
        let mut out = Vec::new();
        write(&mut out, 3, &record);
        assert_eq!(
            String::from_utf8(out).expect("JSON"),
            r#"{"partition":3,"offset":7,"timestamp":5,"key_b64":"/w==","value":"v\"\n","headers":[["h",null],["h",{"b64":"/g=="}]]}"#
        );
    }
}
