//! `weir bench`: measures a running system, with what the numbers cost beside them.

mod consume;
mod cost;
mod produce;

use hdrhistogram::Histogram;
use serde_json::json;

use crate::cli::{BenchCommand, BenchOptions};
use crate::output::{Failure, Output, print};

pub async fn run(command: BenchCommand) -> Result<(), Failure> {
    match command {
        BenchCommand::Produce(options) => produce::run(options).await,
        BenchCommand::Latency(mut options) => {
            options.in_flight = if options.rate.is_some() { 64 } else { 1 };
            options.batch_size = 0;
            produce::run(options).await
        }
        BenchCommand::Consume(options) => consume::run(options).await,
    }
}

/// Names of the topics of a run.
fn topic_names(options: &BenchOptions) -> Vec<String> {
    match options.topics {
        1 => vec![options.name.clone()],
        count => (0..count).map(|number| format!("{}-{number}", options.name)).collect(),
    }
}

/// What a run gave.
struct Measured {
    records: u64,
    bytes: u64,
    requests: u64,
    seconds: f64,
    errors: u64,
    /// µs from the intended send time to the answer.
    latency: Option<Histogram<u64>>,
}

fn report(options: &BenchOptions, result: &Measured, cost: &cost::Cost) {
    let per_s = |count: u64| count as f64 / result.seconds;
    let quantile = |q: f64| result.latency.as_ref().map(|h| h.value_at_quantile(q) as f64 / 1000.0);
    let max = result.latency.as_ref().map(|h| h.max() as f64 / 1000.0);
    let gb = result.bytes as f64 / 1e9;
    let round = |value: Option<f64>| value.map(|v| (v * 1000.0).round() / 1000.0);
    let per = |value: Option<f64>, by: f64| round(value.filter(|_| by > 0.0).map(|v| v / by));
    let fields = [
        ("records_per_s", round(Some(per_s(result.records)))),
        ("mb_per_s", round(Some(per_s(result.bytes) / 1e6))),
        ("requests_per_s", round(Some(per_s(result.requests)))),
        ("p50_ms", round(quantile(0.5))),
        ("p99_ms", round(quantile(0.99))),
        ("p999_ms", round(quantile(0.999))),
        ("max_ms", round(max)),
        ("errors", Some(result.errors as f64)),
        ("flushes_per_ack", per(cost.device_flushes, result.requests as f64)),
        ("writes_per_ack", per(cost.device_writes, result.requests as f64)),
        ("bytes_written_per_byte", per(cost.device_bytes, result.bytes as f64)),
        ("server_core_s_per_gb", per(cost.server_core_s, gb)),
        ("server_rss_mib", round(cost.server_rss_mib)),
        ("seconds", round(Some(result.seconds))),
    ];
    let json: serde_json::Map<String, serde_json::Value> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let rows = fields.iter().filter_map(|(name, value)| Some(vec![(*name).to_owned(), (*value)?.to_string()]));
    print(options.output, &json.into(), &["FIGURE", "VALUE"], rows.collect());
}

/// A bar on a terminal, nothing elsewhere or when JSON is printed.
fn progress(options: &BenchOptions) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new(options.seconds);
    use std::io::IsTerminal as _;
    if options.output == Output::Json || !std::io::stderr().is_terminal() {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    bar
}
