//! `POST /v1/topics/{topic}/records`: JSON, NDJSON, or one record as raw bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes as Body;
use axum::extract::{Path, Query, RawQuery};
use axum::http::{HeaderMap, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use policies::vocabulary::{CREATE_TOPIC, WRITE_DATA};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use service::clock;
use types::{ErrorCode, Flow, PrincipalId, Protocol, TopicPartition, TopicRecord};
use wire::compression::Codec;
use wire::frame::{Appended, Refusal};
use wire::murmur2::partition_for_key;
use wire::records::{BatchBuilder, NewRecord as BatchRecord};

use super::problem::{Problem, problem};
use super::record::{self, NewRecord};
use crate::caller::Caller;
use crate::configs::{KEYLESS, bytes_max, check_times, is_compacted, is_log_append_time};
use crate::error::refuse;
use crate::lane::{self, NewAppend};
use crate::topics::ensure;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    #[serde(default)]
    compression: Option<String>,
    /// For raw bytes; read from the query itself, since it need not be text.
    #[serde(default)]
    key: Option<String>,
    /// Of records that name none.
    #[serde(default)]
    partition: Option<i32>,
}

/// Bytes of records that go into one batch at most: below any topic's default limit with room for the header.
const BATCH_TARGET_BYTES: usize = 1_000_000;

pub async fn produce(
    Extension(caller): Extension<Arc<Caller>>,
    Path(topic): Path<String>,
    Query(params): Query<Params>,
    RawQuery(query): RawQuery,
    version: Version,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let key = params.key.is_some().then(|| raw_key(query.as_deref().unwrap_or_default())).flatten();
    match try_produce(&caller, &topic, &params, key, version, &headers, &body).await {
        Ok(response) => response,
        Err(refusal) => Problem(refusal).into_response(),
    }
}

async fn try_produce(
    caller: &Arc<Caller>,
    topic: &str,
    params: &Params,
    key: Option<Bytes>,
    version: Version,
    headers: &HeaderMap,
    body: &Body,
) -> Result<Response, Refusal> {
    let codec = match &params.compression {
        None => Codec::None,
        Some(name) => Codec::from_name(name)
            .ok_or_else(|| refuse(ErrorCode::InvalidRequest, format!("compression `{name}` is not known")))?,
    };
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (mut records, is_ndjson) = parse_body(content_type, key, body)?;
    records.iter_mut().for_each(|record| record.partition = record.partition.or(params.partition));
    caller.may_topic(WRITE_DATA, topic)?;
    let topic = match caller.find(topic) {
        Ok(known) => known,
        Err(unknown) => {
            if !caller.makes_topics_by_itself() {
                return Err(unknown);
            }
            caller.may_topic(CREATE_TOPIC, topic)?;
            ensure(caller, topic).await.map_err(crate::error::from_api)?
        }
    };
    let protocol = if version == Version::HTTP_2 { Protocol::Http2 } else { Protocol::Http1 };
    let results = place(caller, &topic, records, codec, protocol).await;
    Ok(respond(results, is_ndjson))
}

/// The bytes of the query's `key`.
fn raw_key(query: &str) -> Option<Bytes> {
    let text = query.split('&').find_map(|pair| pair.strip_prefix("key="))?;
    let text = text.replace('+', " ");
    Some(percent_encoding::percent_decode_str(&text).collect::<Vec<u8>>().into())
}

fn parse_body(content_type: &str, key: Option<Bytes>, body: &Bytes) -> Result<(Vec<NewRecord>, bool), Refusal> {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let text = || std::str::from_utf8(body).map_err(|_| refuse(ErrorCode::InvalidRequest, "the body is not UTF-8"));
    if key.is_some() && kind != "application/octet-stream" {
        return Err(refuse(
            ErrorCode::InvalidRequest,
            "`key` in the query is for raw bytes: each JSON record has its own",
        ));
    }
    match kind {
        "application/x-ndjson" => {
            let lines = text()?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            let records = lines.map(|(at, line)| record::parse(line).map_err(|error| at_record(at, error)));
            Ok((records.collect::<Result<_, _>>()?, true))
        }
        "application/octet-stream" => {
            let record =
                NewRecord { key, value: Some(body.clone()), headers: Vec::new(), partition: None, timestamp: None };
            Ok((vec![record], false))
        }
        "application/json" | "" | "application/x-www-form-urlencoded" => {
            #[derive(Deserialize)]
            #[serde(deny_unknown_fields)]
            struct Request<'a> {
                #[serde(borrow)]
                records: Vec<&'a RawValue>,
                #[serde(default)]
                acks: Option<String>,
            }
            let request: Request<'_> = serde_json::from_str(text()?).map_err(|error| {
                refuse(ErrorCode::InvalidRequest, format!("the body is not {{\"records\":[…]}}: {error}"))
            })?;
            if request.acks.as_deref().is_some_and(|acks| acks != "all") {
                return Err(refuse(ErrorCode::InvalidRequest, "`acks` is \"all\": there is no weaker one"));
            }
            let records = request.records.iter().enumerate();
            let records = records.map(|(at, raw)| record::parse(raw.get()).map_err(|error| at_record(at, error)));
            Ok((records.collect::<Result<_, _>>()?, false))
        }
        other => Err(refuse(
            ErrorCode::UnsupportedMediaType,
            format!("content type `{other}` is not application/json, application/x-ndjson or application/octet-stream"),
        )),
    }
}

fn at_record(at: usize, error: Refusal) -> Refusal {
    Refusal { message: format!("record {at}: {}", error.message), ..error }
}

type Placed = Result<(i32, i64, i64), Refusal>;

/// Builds batches by partition, places them, and gives each record's outcome in the order of the records.
async fn place(
    caller: &Arc<Caller>,
    topic: &TopicRecord,
    records: Vec<NewRecord>,
    codec: Codec,
    protocol: Protocol,
) -> Vec<Placed> {
    let now = clock::wall_ms();
    let sticky = (caller.gateway.next_sticky() % i64::from(topic.partitions)) as i32;
    let bytes_max = bytes_max(topic);
    let mut results: Vec<Option<Placed>> = (0..records.len()).map(|_| None).collect();
    let mut by_partition: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
    for (at, record) in records.iter().enumerate() {
        let partition = match (record.partition, &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_for_key(key, topic.partitions),
            (None, None) => sticky,
        };
        if !(0..topic.partitions).contains(&partition) {
            let message = format!("topic `{}` has partitions 0 to {}", topic.name, topic.partitions - 1);
            results[at] = Some(Err(refuse(ErrorCode::UnknownPartition, message)));
            continue;
        }
        if record.key.is_none() && is_compacted(topic) {
            results[at] = Some(Err(refuse(ErrorCode::InvalidRecord, KEYLESS)));
            continue;
        }
        if let Some(given) = record.timestamp
            && let Err(message) = check_times(topic, (given, given), now)
        {
            results[at] = Some(Err(refuse(ErrorCode::InvalidTimestamp, message)));
            continue;
        }
        by_partition.entry(partition).or_default().push(at);
    }
    let mut waiting = Vec::new();
    for (partition, ats) in by_partition {
        let mut ats = ats.into_iter().peekable();
        while ats.peek().is_some() {
            let mut builder = BatchBuilder::new();
            let mut members = Vec::new();
            while let Some(at) = ats.peek().copied() {
                let size = size_of(&records[at]);
                if builder.count() > 0 && builder.bytes() + size > BATCH_TARGET_BYTES.min(bytes_max) {
                    break;
                }
                let record = &records[at];
                builder.push(BatchRecord {
                    key: record.key.as_deref(),
                    value: record.value.as_deref(),
                    timestamp: record.timestamp.unwrap_or(now),
                    headers: &record.headers,
                });
                members.push((at, record.timestamp.unwrap_or(now)));
                ats.next();
            }
            let outcome = match builder.finish(codec) {
                Ok(batch) if batch.len() > bytes_max => {
                    let message = format!("a batch of {} bytes is over max.message.bytes = {bytes_max}", batch.len());
                    Err(refuse(ErrorCode::BatchTooLarge, message))
                }
                Ok(batch) => {
                    caller.toll.charge_quietly(Flow::Ingress, batch.len() as u64);
                    let id = TopicPartition { topic: topic.id, partition };
                    let log_append_time = is_log_append_time(topic);
                    let new = NewAppend {
                        tenant: caller.tenant,
                        batch,
                        principal: PrincipalId(0),
                        protocol,
                        log_append_time,
                    };
                    Ok(lane::append(&caller.gateway, id, new))
                }
                Err(error) => Err(refuse(ErrorCode::InvalidRecord, error.to_string())),
            };
            waiting.push((partition, members, outcome));
        }
    }
    for (partition, members, outcome) in waiting {
        let outcome: Result<Appended, Refusal> = match outcome {
            Ok(answer) => answer.await.unwrap_or_else(|_| Err(refuse(ErrorCode::LeaderNotAvailable, "try again"))),
            Err(refusal) => Err(refusal),
        };
        for (i, (at, timestamp)) in members.into_iter().enumerate() {
            results[at] = Some(match &outcome {
                Ok(appended) => {
                    let timestamp = if is_log_append_time(topic) { appended.append_time } else { timestamp };
                    Ok((partition, appended.base_offset + i as i64, timestamp))
                }
                Err(refusal) => Err(refusal.clone()),
            });
        }
    }
    results.into_iter().flatten().collect()
}

fn size_of(record: &NewRecord) -> usize {
    let headers: usize =
        record.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Bytes::len) + 10).sum();
    record.key.as_ref().map_or(0, Bytes::len) + record.value.as_ref().map_or(0, Bytes::len) + headers + 30
}

fn respond(results: Vec<Placed>, is_ndjson: bool) -> Response {
    let failed = results.iter().filter(|result| result.is_err()).count();
    let count = results.len();
    if failed == count
        && let Some(Err(refusal)) = results.first()
    {
        return Problem(refusal.clone()).into_response();
    }
    let status = if failed > 0 { StatusCode::MULTI_STATUS } else { StatusCode::OK };
    let results: Vec<Value> = results
        .iter()
        .map(|result| match result {
            Ok((partition, offset, timestamp)) => {
                json!({"partition": partition, "offset": offset, "timestamp": timestamp})
            }
            Err(refusal) => json!({"error": problem(refusal)}),
        })
        .collect();
    if is_ndjson {
        let lines: String = results.iter().map(|result| format!("{result}\n")).collect();
        return (status, [(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response();
    }
    (status, axum::Json(json!({"results": results}))).into_response()
}
