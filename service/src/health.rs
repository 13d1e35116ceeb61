//! `/livez`, `/readyz` and `/metrics`, the same for each service.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

/// A number that only grows, or one that goes up and down.
#[derive(Debug)]
pub struct Metric {
    name: &'static str,
    help: &'static str,
    is_counter: bool,
    value: AtomicU64,
}

impl Metric {
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, is_counter: true, value: AtomicU64::new(0) }
    }

    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, is_counter: false, value: AtomicU64::new(0) }
    }

    pub fn add(&self, by: u64) {
        self.value.fetch_add(by, Ordering::Relaxed);
    }

    pub fn sub(&self, by: u64) {
        self.value.fetch_sub(by, Ordering::Relaxed);
    }

    pub fn set(&self, to: u64) {
        self.value.store(to, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// A service's health and its metrics.
#[derive(Debug, Default)]
pub struct Health {
    is_ready: AtomicBool,
    metrics: std::sync::Mutex<Vec<Arc<Metric>>>,
}

impl Health {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Ordering::Release);
    }

    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    /// Adds a metric; names are in base units and end in `_total`, `_bytes` or `_seconds` as Prometheus asks.
    pub fn register(&self, metric: Metric) -> Arc<Metric> {
        let metric = Arc::new(metric);
        self.metrics.lock().expect("no panic holds this lock").push(Arc::clone(&metric));
        metric
    }

    /// The metrics as Prometheus text (version 0.0.4).
    pub fn render(&self) -> String {
        let mut text = String::new();
        for metric in self.metrics.lock().expect("no panic holds this lock").iter() {
            let kind = if metric.is_counter { "counter" } else { "gauge" };
            let (name, help) = (metric.name, metric.help);
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {}", metric.value());
        }
        text
    }
}

/// The three routes.
pub fn routes(health: Arc<Health>) -> Router {
    let metrics = Router::new().route("/metrics", get(metrics)).with_state(Arc::clone(&health));
    probes(health).merge(metrics)
}

/// Those that anybody may ask.
pub fn probes(health: Arc<Health>) -> Router {
    Router::new().route("/livez", get(|| async { "ok\n" })).route("/readyz", get(ready)).with_state(health)
}

async fn ready(State(health): State<Arc<Health>>) -> impl IntoResponse {
    if health.is_ready() { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}

async fn metrics(State(health): State<Arc<Health>>) -> impl IntoResponse {
    page(&health)
}

/// The answer of `/metrics`.
pub fn page(health: &Health) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], health.render())
}
