//! Readers: one connection per partition, from the beginning, until the end or the time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use wire::Batch;
use wire::kafka::{ApiKey, FetchPartition, FetchRequest, FetchResponse, FetchTopic};

use super::cost::Cost;
use super::{Measured, report, topic_names};
use crate::cli::BenchOptions;
use crate::kafka_client::connect;
use crate::output::Failure;

const VERSION: i16 = 11;
const PAGE_BYTES: i32 = 8 * 1024 * 1024;

pub async fn run(options: BenchOptions) -> Result<(), Failure> {
    let before = Cost::now();
    let began = Instant::now();
    let deadline = began + Duration::from_secs(options.seconds);
    let mut readers = Vec::new();
    for name in topic_names(&options) {
        for partition in 0..options.partitions {
            readers.push(tokio::spawn(read(options.clone(), name.clone(), partition, deadline)));
        }
    }
    let mut measured = Measured { records: 0, bytes: 0, requests: 0, seconds: 0.0, errors: 0, latency: None };
    for reader in readers {
        let (records, bytes, requests) = reader.await.map_err(|error| Failure::failed(error.to_string()))??;
        measured.records += records;
        measured.bytes += bytes;
        measured.requests += requests;
    }
    measured.seconds = began.elapsed().as_secs_f64();
    report(&options, &measured, &Cost::now().since(before));
    Ok(())
}

async fn read(
    options: BenchOptions,
    topic: String,
    partition: i32,
    deadline: Instant,
) -> Result<(u64, u64, u64), Failure> {
    let bytes_max = options.bytes;
    let (mut writer, mut reader) = connect(&options.gateway, &options.credentials).await?;
    let (mut records, mut bytes, mut requests, mut offset) = (0, 0, 0, 0);
    while Instant::now() < deadline && bytes_max.is_none_or(|max| bytes < max) {
        let wanted =
            FetchPartition { index: partition, fetch_offset: offset, max_bytes: PAGE_BYTES, ..Default::default() };
        let request = FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: PAGE_BYTES,
            topics: vec![FetchTopic { name: topic.clone(), partitions: vec![wanted] }],
            ..FetchRequest::default()
        };
        writer.send(ApiKey::Fetch, VERSION, &request).await?;
        let response: FetchResponse = reader.receive(ApiKey::Fetch, VERSION).await?;
        requests += 1;
        let Some(answer) = response.topics.into_iter().next().and_then(|topic| topic.partitions.into_iter().next())
        else {
            return Err(Failure::failed("the answer names no partition"));
        };
        if answer.error != 0 {
            return Err(Failure::failed(format!("`{topic}` {partition}: error {}", answer.error)));
        }
        let mut batches: Bytes = answer.records.unwrap_or_default();
        if batches.is_empty() && offset >= answer.high_watermark {
            break;
        }
        bytes += batches.len() as u64;
        while !batches.is_empty() {
            let batch = Batch::split_from(&mut batches).map_err(|error| Failure::failed(error.to_string()))?;
            batch.verify().map_err(|error| Failure::failed(error.to_string()))?;
            records += batch.header().record_count as u64;
            offset = batch.end_offset();
        }
    }
    Ok((records, bytes, requests))
}
