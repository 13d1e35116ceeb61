//! Writers: a closed window, or an open loop at a rate measured from the intended send times.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::{Semaphore, mpsc};
use wire::Batch;
use wire::compression::Codec;
use wire::kafka::{ApiKey, ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic};
use wire::records::{BatchBuilder, NewRecord};

use super::cost::Cost;
use super::{Measured, progress, report, topic_names};
use crate::cli::{BenchOptions, Credentials, KafkaTarget};
use crate::kafka_client::{KafkaReader, connect, create_topics};
use crate::output::Failure;

const VERSION: i16 = 9;
/// Batches built before the run and sent in turn.
const POOL: usize = 8;

#[derive(Debug, Default)]
struct Counters {
    is_measuring: AtomicBool,
    has_ended: AtomicBool,
    records: AtomicU64,
    bytes: AtomicU64,
    requests: AtomicU64,
    errors: AtomicU64,
}

/// Where one producer writes: topic and partition, in turn.
type Places = Vec<(String, i32)>;

pub async fn run(options: BenchOptions) -> Result<(), Failure> {
    let acks = match options.acks.as_str() {
        "all" | "-1" => -1,
        "1" => 1,
        other => return Err(Failure::usage(format!("--acks {other}: all and 1 are answered"))),
    };
    let codec = Codec::from_name(&options.compression)
        .ok_or_else(|| Failure::usage(format!("compression `{}` is not known", options.compression)))?;
    let names = topic_names(&options);
    create_topics(&options.gateway, &options.credentials, &names, options.partitions).await?;
    let all: Places = names.iter().flat_map(|name| (0..options.partitions).map(move |p| (name.clone(), p))).collect();
    let pool = Arc::new(build_pool(&options, codec)?);
    let counters = Arc::new(Counters::default());
    let mut producers = Vec::new();
    for number in 0..options.producers {
        let own: Places = all.iter().skip(number % all.len()).step_by(options.producers).cloned().collect();
        let rate = options.rate.map(|rate| rate / options.producers as f64);
        let producer = Producer {
            places: if own.is_empty() { all.clone() } else { own },
            in_flight: options.in_flight,
            acks,
            pool: Arc::clone(&pool),
            counters: Arc::clone(&counters),
            batches_per_s: rate.map(|rate| rate / pool[0].1 as f64),
        };
        producers.push(tokio::spawn(producer.run(options.gateway.clone(), options.credentials.clone())));
    }
    let warm_up = Duration::from_millis((options.seconds * 100).max(500));
    tokio::time::sleep(warm_up).await;
    let before = Cost::now();
    counters.is_measuring.store(true, Ordering::Relaxed);
    let began = Instant::now();
    let bar = progress(&options);
    for _ in 0..options.seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        bar.inc(1);
    }
    counters.is_measuring.store(false, Ordering::Relaxed);
    let seconds = began.elapsed().as_secs_f64();
    let cost = Cost::now().since(before);
    counters.has_ended.store(true, Ordering::Relaxed);
    bar.finish_and_clear();
    let mut latency = new_histogram();
    for producer in producers {
        let own = producer.await.map_err(|error| Failure::failed(error.to_string()))??;
        latency.add(own).map_err(|error| Failure::failed(error.to_string()))?;
    }
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let measured = Measured {
        records: load(&counters.records),
        bytes: load(&counters.bytes),
        requests: load(&counters.requests),
        seconds,
        errors: load(&counters.errors),
        latency: Some(latency),
    };
    report(&options, &measured, &cost);
    if measured.errors > 0 { Err(Failure::failed(format!("{} errors", measured.errors))) } else { Ok(()) }
}

fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 120_000_000, 3).expect("the bounds are constants")
}

/// Text like a JSON document, about 3.5 times smaller under lz4, different in each record.
fn value(size: usize, seed: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(size + 64);
    let mut state = seed;
    while out.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let line = format!(
            "{{\"id\":{},\"level\":\"info\",\"message\":\"request served\",\"ms\":{}}},",
            state >> 24,
            state >> 54
        );
        out.extend_from_slice(line.as_bytes());
    }
    out.truncate(size);
    out
}

/// Batches, each with its number of records.
fn build_pool(options: &BenchOptions, codec: Codec) -> Result<Vec<(Batch, u64)>, Failure> {
    // At a rate a batch holds what comes in a tenth of a second, as a client's linger would have it.
    let at_once = options.rate.map_or(usize::MAX, |rate| ((rate / options.producers as f64 / 10.0) as usize).max(1));
    let mut pool = Vec::new();
    for number in 0..POOL {
        let mut builder = BatchBuilder::new();
        loop {
            let seed = (number * 10_007) as u64 + builder.count() as u64;
            let value = value(options.record_size, seed);
            builder.push(NewRecord { key: None, value: Some(&value), timestamp: 1_700_000_000_000, headers: &[] });
            let is_full = builder.bytes() + options.record_size + 100 > options.batch_size;
            if is_full || builder.count() as usize >= at_once {
                break;
            }
        }
        let records = builder.count() as u64;
        let batch = builder.finish(codec).map_err(|error| Failure::failed(error.to_string()))?;
        pool.push((batch, records));
    }
    Ok(pool)
}

struct Producer {
    places: Places,
    in_flight: usize,
    acks: i16,
    pool: Arc<Vec<(Batch, u64)>>,
    counters: Arc<Counters>,
    batches_per_s: Option<f64>,
}

/// A request under way.
struct Sent {
    /// When it was sent, or, in an open loop, when it should have been.
    at: Instant,
    records: u64,
    bytes: u64,
}

impl Producer {
    async fn run(self, target: KafkaTarget, by: Credentials) -> Result<Histogram<u64>, Failure> {
        let (mut writer, reader) = connect(&target, &by).await?;
        let window = Arc::new(Semaphore::new(self.in_flight));
        let (sent, receiving) = mpsc::unbounded_channel::<Sent>();
        let receiver = tokio::spawn(receive(reader, receiving, Arc::clone(&window), Arc::clone(&self.counters)));
        let began = Instant::now();
        let bodies: Vec<_> = self.pool.iter().map(|(batch, records)| (batch.to_bytes(), *records)).collect();
        let mut number = 0_usize;
        while !self.counters.has_ended.load(Ordering::Relaxed) {
            let mut at = Instant::now();
            if let Some(per_s) = self.batches_per_s {
                at = began + Duration::from_secs_f64(number as f64 / per_s);
                tokio::time::sleep_until(at.into()).await;
            }
            let Ok(permit) = Arc::clone(&window).acquire_owned().await else { break };
            permit.forget();
            if self.batches_per_s.is_none() {
                at = Instant::now();
            }
            let (body, records) = &bodies[number % bodies.len()];
            let (topic, partition) = &self.places[number % self.places.len()];
            number += 1;
            let partitions = vec![ProducePartition { index: *partition, records: Some(body.clone()) }];
            let request = ProduceRequest {
                transactional_id: None,
                acks: self.acks,
                timeout_ms: 30_000,
                topics: vec![ProduceTopic { name: topic.clone(), partitions }],
            };
            if sent.send(Sent { at, records: *records, bytes: body.len() as u64 }).is_err() {
                break;
            }
            writer.send(ApiKey::Produce, VERSION, &request).await?;
        }
        drop(sent);
        receiver.await.map_err(|error| Failure::failed(error.to_string()))?
    }
}

async fn receive(
    mut reader: KafkaReader,
    mut sent: mpsc::UnboundedReceiver<Sent>,
    window: Arc<Semaphore>,
    counters: Arc<Counters>,
) -> Result<Histogram<u64>, Failure> {
    let mut latency = new_histogram();
    let mut waiting = VecDeque::new();
    while let Some(one) = sent.recv().await {
        waiting.push_back(one);
        let response: ProduceResponse = reader.receive(ApiKey::Produce, VERSION).await?;
        let Some(one) = waiting.pop_front() else { break };
        window.add_permits(1);
        if !counters.is_measuring.load(Ordering::Relaxed) {
            continue;
        }
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        if let Some(bad) = partitions.into_iter().find(|partition| partition.error != 0) {
            if counters.errors.fetch_add(1, Ordering::Relaxed) == 0 {
                let message = bad.error_message.as_deref().unwrap_or("no message");
                eprintln!("first error: {message} (Kafka error {})", bad.error);
            }
            continue;
        }
        let _ = latency.record(one.at.elapsed().as_micros() as u64);
        counters.records.fetch_add(one.records, Ordering::Relaxed);
        counters.bytes.fetch_add(one.bytes, Ordering::Relaxed);
        counters.requests.fetch_add(1, Ordering::Relaxed);
    }
    Ok(latency)
}
