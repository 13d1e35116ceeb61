//! `GET /v1/topics/{topic}/partitions/{partition}/records`: a page of records, waiting for it if asked to.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use policies::vocabulary::READ_DATA;
use serde::Deserialize;
use serde_json::json;
use types::limits::{FETCH_WAIT_MS_MAX, HTTP_BODY_BYTES_MAX, UNPACKED_BYTES_MAX};
use types::{ErrorCode, Flow, Offset, TopicPartition};
use wire::Batch;
use wire::codec::DecodeError;
use wire::frame::Refusal;
use wire::records::{Record, RecordsError, records};

use super::problem::{Problem, problem};
use super::record;
use crate::caller::Caller;
use crate::error::refuse;
use crate::fetch::{Fetched, earliest, fetch, first_since, latest};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// `earliest`, `latest`, a number, or `@` and a time: the first record that is not older.
    #[serde(default)]
    offset: Option<String>,
    #[serde(default)]
    max_records: Option<usize>,
    #[serde(default)]
    max_bytes: Option<usize>,
    #[serde(default)]
    wait_ms: Option<u64>,
    /// Accepted: without transactions both levels are the same.
    #[serde(default)]
    isolation: Option<String>,
}

/// Bytes of batches that one page reads unless asked otherwise.
const PAGE_BYTES: usize = 1024 * 1024;
/// What the records of one page come to at most, as they are answered, unless one alone is larger: a few bytes may stand for many.
const PAGE_BYTES_MAX: usize = HTTP_BODY_BYTES_MAX;

pub async fn read(
    Extension(caller): Extension<Arc<Caller>>,
    Path((topic, partition)): Path<(String, i32)>,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Response {
    let is_ndjson = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("application/x-ndjson"));
    let form = Form { partition, is_ndjson };
    match try_read(&caller, &topic, form, &params).await {
        Ok(page) => page.respond(form),
        Err(refusal) => Problem(refusal).into_response(),
    }
}

/// How records are written.
#[derive(Debug, Clone, Copy)]
struct Form {
    partition: i32,
    is_ndjson: bool,
}

struct Page {
    /// What is answered, up to the last record.
    records: Vec<u8>,
    next_offset: Offset,
    high_watermark: Offset,
    log_start: Offset,
    /// The offset asked for cannot be read.
    refusal: Option<Refusal>,
}

async fn try_read(caller: &Arc<Caller>, topic: &str, form: Form, params: &Params) -> Result<Page, Refusal> {
    let partition = form.partition;
    let record = caller.topic(READ_DATA, topic)?;
    if !(0..record.partitions).contains(&partition) {
        let message = format!("topic `{topic}` has partitions 0 to {}", record.partitions - 1);
        return Err(refuse(ErrorCode::UnknownPartition, message));
    }
    if params.isolation.as_deref().is_some_and(|level| level != "read_committed" && level != "read_uncommitted") {
        return Err(refuse(ErrorCode::InvalidRequest, "`isolation` is read_committed or read_uncommitted"));
    }
    let wait_ms = params.wait_ms.unwrap_or(0);
    if wait_ms > FETCH_WAIT_MS_MAX {
        return Err(refuse(ErrorCode::InvalidRequest, format!("`wait_ms` is at most {FETCH_WAIT_MS_MAX}")));
    }
    let id = TopicPartition { topic: record.id, partition };
    let offset = match params.offset.as_deref().unwrap_or("latest") {
        "earliest" => earliest(caller, id).await?.0,
        "latest" => latest(caller, id).await?.high_watermark,
        text if text.starts_with('@') => match first_since(caller, id, time(&text[1..])?).await? {
            Some(found) => found.offset,
            None => latest(caller, id).await?.high_watermark,
        },
        text => text.parse().ok().filter(|offset| *offset >= 0).ok_or_else(|| {
            refuse(ErrorCode::InvalidRequest, format!("`offset` is earliest, latest, a number or @TIME, not `{text}`"))
        })?,
    };
    let bytes_max = params.max_bytes.unwrap_or(PAGE_BYTES).clamp(1, HTTP_BODY_BYTES_MAX) as u32;
    let fetched = fetch(caller, id, offset, bytes_max, wait_ms).await;
    // It may have waited for long: what the caller may not read any more it is not given.
    caller.may_topic(READ_DATA, topic)?;
    match fetched {
        Ok(fetched) => {
            let records_max = params.max_records.unwrap_or(usize::MAX);
            let batches = &fetched.batches;
            // What has to be unpacked is so a few at a time, and holds up nobody else.
            if Batch::split_from(&mut batches.clone()).is_ok_and(|first| first.header().compression() != 0) {
                let _turn = caller.gateway.unpacking.acquire().await;
                return tokio::task::block_in_place(|| page(caller, &fetched, offset, records_max, form));
            }
            page(caller, &fetched, offset, records_max, form)
        }
        Err(refusal) if refusal.code == ErrorCode::OffsetOutOfRange => {
            let bounds = latest(caller, id).await?;
            let (high_watermark, log_start) = (bounds.high_watermark, bounds.log_start);
            Ok(Page { records: Vec::new(), next_offset: offset, high_watermark, log_start, refusal: Some(refusal) })
        }
        Err(refusal) => Err(refusal),
    }
}

/// Ms since 1970, or a time as RFC 3339 has it.
fn time(text: &str) -> Result<i64, Refusal> {
    if let Ok(ms) = text.parse::<i64>()
        && ms >= 0
    {
        return Ok(ms);
    }
    let parsed = text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond);
    parsed.map_err(|_| {
        let message = format!("`{text}` is no time: RFC 3339, as in 2026-11-22T00:00:00Z, or ms since 1970");
        refuse(ErrorCode::InvalidRequest, message)
    })
}

/// Bytes of keys, values and headers.
fn plain_bytes(record: &Record) -> usize {
    let bytes = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter().map(|(name, value)| name.len() + bytes(value));
    bytes(&record.key) + bytes(&record.value) + headers.sum::<usize>()
}

/// Records of a page, as they are written.
struct Shown {
    form: Form,
    out: Vec<u8>,
    count: usize,
    records_max: usize,
    /// Bytes of their keys, values and headers.
    plain: usize,
    /// Where the next one would be.
    next: Option<Offset>,
}

impl Shown {
    /// Takes what a batch holds from `offset` on; whether that is all of it.
    fn add(&mut self, batch: &Batch, offset: Offset) -> Result<bool, RecordsError> {
        for record in records(batch, UNPACKED_BYTES_MAX)? {
            let record = record?;
            if record.offset < offset {
                continue;
            }
            if plain_bytes(&record) > HTTP_BODY_BYTES_MAX {
                // As JSON it may take six times as much.
                return Err(RecordsError::Decode(DecodeError::Value {
                    what: "bytes of a record that HTTP answers",
                    value: plain_bytes(&record) as i64,
                }));
            }
            if self.count >= self.records_max {
                return Ok(false);
            }
            let before = self.out.len();
            if self.count > 0 && !self.form.is_ndjson {
                self.out.push(b',');
            }
            record::write(&mut self.out, self.form.partition, &record);
            if self.form.is_ndjson {
                self.out.push(b'\n');
            }
            if self.out.len() > PAGE_BYTES_MAX && self.count > 0 {
                self.out.truncate(before);
                return Ok(false);
            }
            self.count += 1;
            self.plain += plain_bytes(&record);
            self.next = Some(record.offset + 1);
        }
        Ok(true)
    }
}

fn page(caller: &Caller, fetched: &Fetched, offset: Offset, records_max: usize, form: Form) -> Result<Page, Refusal> {
    caller.gateway.metrics.fetched_bytes.add(fetched.batches.len() as u64);
    let damaged = |error: String| refuse(ErrorCode::Damaged, format!("a stored batch cannot be read: {error}"));
    let mut bytes: Bytes = fetched.batches.clone();
    let out = if form.is_ndjson { Vec::new() } else { b"{\"records\":[".to_vec() };
    let mut shown = Shown { form, out, count: 0, records_max, plain: 0, next: None };
    let mut next_offset = offset;
    while !bytes.is_empty() && shown.count < records_max {
        let batch = Batch::split_from(&mut bytes).map_err(|error| damaged(error.to_string()))?;
        let end = batch.end_offset();
        let before = shown.count;
        match if batch.header().is_control() { Ok(true) } else { shown.add(&batch, offset) } {
            Ok(true) => next_offset = end,
            Ok(false) => {
                next_offset = shown.next.unwrap_or(offset);
                break;
            }
            // A batch whose records its producer made badly: whoever asks for it is told; what stands before can be read.
            Err(_) if shown.count > before => {
                next_offset = shown.next.unwrap_or(offset);
                break;
            }
            Err(_) if next_offset > offset => break,
            Err(error) => {
                let last = end - 1;
                let message =
                    format!("the records at offsets {next_offset} to {last} cannot be read: {error}; go on at {end}");
                return Err(refuse(ErrorCode::Damaged, message));
            }
        }
    }
    let Shown { out: records, plain, .. } = shown;
    // What was unpacked for it is what it gets.
    caller.toll.charge_quietly(Flow::Egress, plain.max(fetched.batches.len()) as u64);
    let (high_watermark, log_start) = (fetched.high_watermark, fetched.log_start);
    Ok(Page { records, next_offset, high_watermark, log_start, refusal: None })
}

impl Page {
    fn respond(self, form: Form) -> Response {
        let bounds = json!({
            "next_offset": self.next_offset,
            "high_watermark": self.high_watermark,
            "log_start_offset": self.log_start,
        });
        if let Some(refusal) = self.refusal {
            let mut body = problem(&refusal);
            if let (Some(body), Some(bounds)) = (body.as_object_mut(), bounds.as_object()) {
                body.extend(
                    bounds.iter().filter(|(key, _)| *key != "next_offset").map(|(k, v)| (k.clone(), v.clone())),
                );
            }
            let headers = [(header::CONTENT_TYPE, "application/problem+json")];
            return (StatusCode::RANGE_NOT_SATISFIABLE, headers, body.to_string()).into_response();
        }
        let bounds = bounds.to_string();
        let mut out = self.records;
        if form.is_ndjson {
            out.extend_from_slice(bounds.as_bytes());
            out.push(b'\n');
            return ([(header::CONTENT_TYPE, "application/x-ndjson")], out).into_response();
        }
        out.extend_from_slice(b"],");
        out.extend_from_slice(&bounds.as_bytes()[1..]);
        ([(header::CONTENT_TYPE, "application/json")], out).into_response()
    }
}
