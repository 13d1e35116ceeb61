//! `weir consume`, with kcat's meanings.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::Value;

use crate::cli::ConsumeOptions;
use crate::client::{Client, failure, part};
use crate::output::{Failure, Output};

const WAIT_MS: u64 = 1_000;
const PAGE_BYTES: usize = 4 * 1024 * 1024;

pub(super) struct Position {
    pub partition: i32,
    pub next: String,
    /// Stop before this offset.
    pub until: Option<i64>,
    pub is_done: bool,
}

pub async fn run(options: ConsumeOptions) -> Result<(), Failure> {
    if let Some(group) = &options.group {
        if options.target.credentials.cluster.is_some() {
            let message =
                "--group speaks Kafka, where the host name says which cluster is meant: give --kafka the cluster's own";
            return Err(Failure::usage(message));
        }
        return super::consume_group::run(&options, group).await;
    }
    let client = Client::new(&options.target)?;
    let topic = client.json(Method::GET, &format!("/v1/topics/{}", part(&options.topic)), None).await?;
    let described = topic["partitions"].as_array().cloned().unwrap_or_default();
    let (until, from): (Vec<&str>, Vec<&str>) =
        options.offset.iter().map(String::as_str).partition(|offset| offset.starts_with("e@"));
    let (from, until) = match (&from[..], &until[..]) {
        ([], [until]) => ("beginning", Some(*until)),
        ([from], []) => (*from, None),
        ([from], [until]) => (*from, Some(*until)),
        _ => return Err(Failure::usage("-o is given once, and once more as e@TIME")),
    };
    let mut positions = Vec::new();
    for partition in &described {
        let number = partition["partition"].as_i64().unwrap_or_default() as i32;
        if options.partition.is_none_or(|wanted| wanted == number) {
            let mut position =
                Position { partition: number, next: start(from, partition)?, until: None, is_done: false };
            if let Some(until) = until {
                position.until = Some(first_since(&client, &options, number, &until[2..]).await?);
            }
            positions.push(position);
        }
    }
    if positions.is_empty() {
        return Err(Failure::not_found(format!("topic `{}` has no such partition", options.topic)));
    }
    let mut left = options.count.unwrap_or(u64::MAX);
    let mut out = std::io::stdout().lock();
    let is_one = positions.len() == 1;
    while left > 0 && positions.iter().any(|position| !position.is_done) {
        for position in positions.iter_mut().filter(|position| !position.is_done) {
            let wait_ms = if options.exit {
                0
            } else if is_one {
                WAIT_MS
            } else {
                100
            };
            let (records, bounds) = page(&client, &options, position, wait_ms).await?;
            for record in &records {
                if left == 0 || position.until.is_some_and(|until| record["offset"].as_i64() >= Some(until)) {
                    break;
                }
                left -= 1;
                match out.write_all(&line(&options, record)) {
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                    result => result?,
                }
            }
            position.next = bounds["next_offset"].to_string();
            let next = bounds["next_offset"].as_i64();
            position.is_done = (options.exit && next >= bounds["high_watermark"].as_i64())
                || position.until.is_some_and(|until| next >= Some(until));
        }
        out.flush()?;
    }
    Ok(())
}

/// Where to begin, in the gateway's words.
fn start(offset: &str, partition: &Value) -> Result<String, Failure> {
    let low = partition["log_start_offset"].as_i64().unwrap_or(0);
    let high = || {
        let number = &partition["partition"];
        let unknown = || {
            Failure::failed(format!("nobody can say just now where partition {number} ends; `weir status` says more"))
        };
        partition["end_offset"].as_i64().ok_or_else(unknown)
    };
    Ok(match offset {
        "beginning" => "earliest".to_owned(),
        "end" => high()?.to_string(),
        text if text.starts_with("s@") => format!("@{}", &text[2..]),
        text => match text.parse::<i64>() {
            Ok(number) if number < 0 => (high()? + number).max(low).to_string(),
            Ok(number) => number.to_string(),
            Err(_) => return Err(Failure::usage(format!("`{text}` is not beginning, end, an offset, -N or s@TIME"))),
        },
    })
}

/// The offset of the first record that is not older; the end if there is none.
async fn first_since(client: &Client, options: &ConsumeOptions, partition: i32, time: &str) -> Result<i64, Failure> {
    let position = Position { partition, next: format!("@{time}"), until: None, is_done: false };
    let (records, bounds) = page(client, options, &position, 0).await?;
    let first = records.first().map_or(&bounds["next_offset"], |first| &first["offset"]);
    Ok(first.as_i64().unwrap_or(i64::MAX))
}

pub(super) async fn page(
    client: &Client,
    options: &ConsumeOptions,
    position: &Position,
    wait_ms: u64,
) -> Result<(Vec<Value>, Value), Failure> {
    let path = format!(
        "/v1/topics/{}/partitions/{}/records?offset={}&max_bytes={PAGE_BYTES}&wait_ms={wait_ms}",
        part(&options.topic),
        position.partition,
        part(&position.next)
    );
    let (status, body) = client.call(Method::GET, &path, &[("accept", "application/json")], Bytes::new()).await?;
    let mut answer: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    if status != StatusCode::OK {
        return Err(failure(status, &answer));
    }
    let records = answer["records"].take().as_array().cloned().unwrap_or_default();
    Ok((records, answer))
}

/// A field's bytes: text, or base64 where it is no UTF-8.
fn bytes_of(record: &Value, name: &str) -> Option<Vec<u8>> {
    match record[name].as_str() {
        Some(text) => Some(text.as_bytes().to_vec()),
        None => STANDARD.decode(record[format!("{name}_b64").as_str()].as_str()?).ok(),
    }
}

/// A record as it is printed.
pub(super) fn line(options: &ConsumeOptions, record: &Value) -> Vec<u8> {
    if options.json || options.target.output == Output::Json {
        return format!("{record}\n").into_bytes();
    }
    format(options, record)
}

fn format(options: &ConsumeOptions, record: &Value) -> Vec<u8> {
    let (key, value) = (bytes_of(record, "key"), bytes_of(record, "value"));
    let Some(format) = &options.format else {
        let mut line = value.unwrap_or_default();
        line.push(b'\n');
        return line;
    };
    let mut out = Vec::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        match (letter, if matches!(letter, '%' | '\\') { letters.next() } else { None }) {
            ('%', Some('t')) => out.extend_from_slice(options.topic.as_bytes()),
            ('%', Some('p')) => out.extend_from_slice(record["partition"].to_string().as_bytes()),
            ('%', Some('o')) => out.extend_from_slice(record["offset"].to_string().as_bytes()),
            ('%', Some('T')) => out.extend_from_slice(record["timestamp"].to_string().as_bytes()),
            ('%', Some('k')) => out.extend_from_slice(key.as_deref().unwrap_or_default()),
            ('%', Some('s')) => out.extend_from_slice(value.as_deref().unwrap_or_default()),
            ('%', Some('K')) => out.extend_from_slice(size(key.as_deref()).as_bytes()),
            ('%', Some('S')) => out.extend_from_slice(size(value.as_deref()).as_bytes()),
            ('%', Some('h')) => out.extend_from_slice(&headers(record)),
            ('%', Some('%')) => out.push(b'%'),
            ('\\', Some('n')) => out.push(b'\n'),
            ('\\', Some('t')) => out.push(b'\t'),
            (first, second) => {
                let mut buffer = [0; 4];
                out.extend_from_slice(first.encode_utf8(&mut buffer).as_bytes());
                out.extend(second.into_iter().flat_map(|c| c.to_string().into_bytes()));
            }
        }
    }
    out
}

/// kcat prints -1 for null.
fn size(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "-1".to_owned(), |bytes| bytes.len().to_string())
}

fn headers(record: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, pair) in record["headers"].as_array().into_iter().flatten().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        out.extend_from_slice(pair[0].as_str().unwrap_or_default().as_bytes());
        out.push(b'=');
        let bytes = pair[1]["b64"].as_str().and_then(|text| STANDARD.decode(text).ok());
        match (pair[1].as_str(), bytes) {
            (Some(text), _) => out.extend_from_slice(text.as_bytes()),
            (None, Some(bytes)) => out.extend_from_slice(&bytes),
            (None, None) => out.extend_from_slice(b"NULL"),
        }
    }
    out
}
