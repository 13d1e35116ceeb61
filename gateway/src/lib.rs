//! The gateway: speaks Kafka and HTTP to clients, routes to storage nodes, keeps nothing that matters.
//!
//! Life of a batch: `kafka/produce.rs` or `http/produce.rs` validates it once; `lane.rs` keeps the order of its
//! partition and places it with the leader, again and again if it must, never twice in the log.

mod access;
mod caller;
mod configs;
mod error;
mod fetch;
mod groups;
mod http;
mod kafka;
mod lag;
mod lane;
mod map;
mod names;
mod quota;
mod route;
mod tenant;
mod topics;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use service::api::{ApiError, GatewayRegistered, PlacementClient, RegisterGateway};
use service::drain::Drain;
use service::health::{self, Health, Metric};
use service::http::PROTOCOLS;
use service::nodes::NodePool;
use service::proxy::Proxies;
use service::tls::{Tls, TlsFiles};
use service::trust::{Trust, TrustFiles};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use types::limits::HEARTBEAT_MS;
use types::{Endpoint, ErrorCode, GatewayRecord, Offset, TopicPartition};

use crate::access::Access;
use crate::access::audit::{Audit, topic};
pub use crate::access::issuers::IssuerSettings;
use crate::http::bodies::Bodies;
use crate::lane::LaneHandle;
use crate::map::Map;
use crate::map::cache::MapCache;
use crate::quota::Quotas;
use crate::tenant::Tenant;

/// What a user may set.
#[derive(Debug, Clone)]
pub struct Settings {
    pub az: Option<String>,
    /// Where Kafka clients are told to connect.
    pub advertise: Endpoint,
    /// Where those are told to connect that speak TLS.
    pub advertise_tls: Option<Endpoint>,
    pub placement: Vec<String>,
    /// Whether clients must log in.
    pub is_login_required: bool,
    /// Names that clients reach this gateway by beside those that are advertised: of load balancers, say.
    pub host_names: Vec<String>,
    /// For TLS with other services; `None`: plain TCP.
    pub trust: Option<TrustFiles>,
    /// How keys of issuers of tokens are fetched.
    pub issuers: IssuerSettings,
    /// Where decisions are written to.
    pub audit_log: Option<PathBuf>,
    /// Whether decisions are written to a topic of each account.
    pub has_audit_topics: bool,
    /// Where its map is cached, to start without placement.
    pub data: Option<PathBuf>,
}

/// Where clients come in.
#[derive(Debug)]
pub struct Listeners {
    pub kafka: TcpListener,
    pub http: TcpListener,
    /// With TLS.
    pub kafka_tls: Option<TcpListener>,
    pub https: Option<TcpListener>,
    /// Health and metrics for whoever reaches it.
    pub admin: Option<TcpListener>,
    /// The certificates of both; needed if there is one of them.
    pub tls: Option<TlsFiles>,
    /// Balancers before them that say whose connections they pass on.
    pub proxies: Proxies,
}

/// Pages over HTTP that are unpacked at once: each may come to 128 MiB.
const UNPACKING_MAX: usize = 4;
/// How long a gateway with a cached map waits for placement.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a gateway counts.
#[derive(Debug)]
struct Metrics {
    produced_bytes: Arc<Metric>,
    fetched_bytes: Arc<Metric>,
    kafka_requests: Arc<Metric>,
    kafka_connections: Arc<Metric>,
    http_requests: Arc<Metric>,
    appends_replayed: Arc<Metric>,
}

impl Metrics {
    fn new(health: &Health) -> Self {
        let counter = |name, help| health.register(Metric::counter(name, help));
        Self {
            produced_bytes: counter("weir_gateway_produced_bytes_total", "Bytes of batches acknowledged to clients."),
            fetched_bytes: counter("weir_gateway_fetched_bytes_total", "Bytes of batches given to clients."),
            kafka_requests: counter("weir_gateway_kafka_requests_total", "Kafka requests."),
            kafka_connections: health
                .register(Metric::gauge("weir_gateway_kafka_connections", "Open Kafka connections.")),
            http_requests: counter("weir_gateway_http_requests_total", "HTTP requests to /v1."),
            appends_replayed: counter(
                "weir_gateway_appends_replayed_total",
                "Appends sent again after a change of leader.",
            ),
        }
    }
}

/// What the tasks of a gateway share.
#[derive(Debug)]
struct Gateway {
    id: i32,
    advertise_tls: Option<Endpoint>,
    /// Names that clients reach it by, in lower case.
    host_names: Vec<String>,
    /// The operator's account and its `default` cluster: that of everyone where nobody has to log in.
    tenant: Tenant,
    access: Access,
    quotas: Quotas,
    map: Map,
    placement: PlacementClient,
    pool: NodePool,
    lanes: DashMap<TopicPartition, LaneHandle>,
    /// The highest watermark seen of each partition: what a client is told never falls.
    watermarks: DashMap<TopicPartition, Offset>,
    producer_ids: tokio::sync::Mutex<std::ops::Range<i64>>,
    sticky: AtomicI64,
    /// Of requests of HTTP.
    bodies: Arc<Bodies>,
    /// Turns at unpacking what may be large.
    unpacking: Semaphore,
    metrics: Metrics,
    health: Arc<Health>,
}

impl Gateway {
    /// The highest watermark that was seen of a partition, now that `visible` was.
    fn watermark(&self, partition: TopicPartition, visible: Offset) -> Offset {
        let mut known = self.watermarks.entry(partition).or_insert(visible);
        *known = (*known).max(visible);
        *known
    }

    /// Gateways that a client reaches which is connected with TLS or without, each by the address that is meant for it. Of its
    /// own a gateway knows better than a map of before.
    fn gateways_for(&self, is_tls: bool) -> Vec<GatewayRecord> {
        let mut gateways = self.map.gateways();
        // An operator's gateway on a loopback is no broker of anybody who logs in.
        gateways.retain(|gateway| gateway.is_login_required == self.access.is_required || gateway.id == self.id);
        if !is_tls {
            return gateways;
        }
        if let Some(own) = gateways.iter_mut().find(|gateway| gateway.id == self.id) {
            own.tls.clone_from(&self.advertise_tls);
        }
        let by_tls = |gateway: GatewayRecord| {
            let Endpoint { host, port } = gateway.tls.clone()?;
            Some(GatewayRecord { host, port, ..gateway })
        };
        gateways.into_iter().filter_map(by_tls).collect()
    }

    /// A producer id that nobody had before.
    async fn producer_id(&self) -> Result<i64, ApiError> {
        let mut ids = self.producer_ids.lock().await;
        if ids.is_empty() {
            let block = self.placement.producer_ids().await?;
            *ids = block.first..block.first + block.count;
        }
        ids.next().ok_or_else(|| ApiError::new(ErrorCode::Internal, "placement gave an empty block of producer ids"))
    }

    /// A number that moves on with each request, for records without a key.
    fn next_sticky(&self) -> i64 {
        self.sticky.fetch_add(1, Ordering::Relaxed)
    }
}

/// Registers, waiting for placement as long as it takes.
async fn register(placement: &PlacementClient, register: &RegisterGateway) -> Result<GatewayRegistered, ApiError> {
    let mut has_waited = false;
    loop {
        match placement.register_gateway(register).await {
            Err(error) if error.code == ErrorCode::PlacementUnavailable => {
                if !std::mem::replace(&mut has_waited, true) {
                    tracing::info!(%error, "waiting for placement");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            registered => return registered,
        }
    }
}

/// Registers, reads the map and serves; returns when ready. Without placement it begins with its cached map.
pub async fn start(settings: Settings, listeners: Listeners, drain: Drain) -> Result<(), ApiError> {
    let health = Health::new();
    let tls = |protocols| match &listeners.tls {
        Some(files) => Tls::open(files.clone(), protocols),
        None => Err("certificates are needed".to_owned()),
    };
    let wrong = |error: String| ApiError::new(ErrorCode::Internal, format!("TLS: {error}"));
    let kafka_tls =
        listeners.kafka_tls.map(|listener| tls(&[]).map(|tls| (listener, tls))).transpose().map_err(wrong)?;
    let https =
        listeners.https.map(|listener| tls(&PROTOCOLS).map(|tls| (listener, tls))).transpose().map_err(wrong)?;
    let trust = settings.trust.as_ref().map(|files| Trust::open(files, &[])).transpose().map_err(wrong)?;
    if let Some(trust) = &trust {
        // What is wrong with them may be mended while placement is waited for.
        tokio::spawn(Arc::clone(trust).follow(drain.clone()));
    }
    let placement = PlacementClient::new(&settings.placement, trust.as_ref());
    let Endpoint { host, port } = settings.advertise;
    let wanted = RegisterGateway {
        host,
        port,
        az: settings.az,
        tls: settings.advertise_tls,
        is_login_required: settings.is_login_required,
    };
    let cache = settings.data.as_deref().map(MapCache::open).transpose();
    let cache = cache.map_err(|error| ApiError::new(ErrorCode::Internal, format!("the map's cache: {error}")))?;
    let registering = register(&placement, &wanted);
    let (registered, cached) = match cache.as_ref().and_then(MapCache::read) {
        None => (registering.await?, None),
        Some(known) => match tokio::time::timeout(PATIENCE, registering).await {
            Ok(registered) => (registered?, None),
            Err(_) => {
                tracing::warn!("placement does not answer: beginning with the map of before");
                (known.registered, Some(known.map))
            }
        },
    };
    // Its map, once read, is of this cluster: another store's must not take its place.
    placement.expect_cluster(registered.cluster);
    let (to_topics, events) = tokio::sync::mpsc::channel(topic::QUEUE_MAX);
    let to_topics = settings.has_audit_topics.then_some(to_topics);
    let audit = Audit::open(settings.audit_log.as_deref(), to_topics, registered.id, &health);
    let audit = audit.map_err(|error| ApiError::new(ErrorCode::Internal, format!("the audit log: {error}")))?;
    let gateway = Arc::new(Gateway {
        id: registered.id,
        advertise_tls: wanted.tls.clone(),
        host_names: names::all(settings.host_names, &wanted),
        tenant: Tenant { account: registered.account, cluster: registered.cluster },
        access: Access::new(settings.is_login_required, settings.issuers, audit),
        quotas: Quotas::default(),
        map: Map::default(),
        placement,
        pool: NodePool::new(trust.clone()),
        lanes: DashMap::new(),
        watermarks: DashMap::new(),
        producer_ids: tokio::sync::Mutex::new(0..0),
        sticky: AtomicI64::new(0),
        bodies: Arc::default(),
        unpacking: Semaphore::new(UNPACKING_MAX),
        metrics: Metrics::new(&health),
        health: Arc::clone(&health),
    });
    match cached {
        Some(map) => gateway.map.apply(map),
        None => map::read_once(&gateway).await,
    }
    if gateway.access.is_required {
        // A client that is refused because nobody is known yet does not come back.
        access::read_once(&gateway).await;
    }
    tokio::spawn(access::follow(Arc::clone(&gateway), drain.clone()));
    tokio::spawn(quota::share(Arc::clone(&gateway), drain.clone()));
    tokio::spawn(map::follow(Arc::clone(&gateway), registered, cache, drain.clone()));
    if settings.has_audit_topics {
        tokio::spawn(topic::publish(Arc::clone(&gateway), events, drain.clone()));
    }
    tokio::spawn(heartbeat(Arc::clone(&gateway), wanted, drain.clone()));
    let proxies = listeners.proxies;
    tokio::spawn(kafka::connection::serve(Arc::clone(&gateway), listeners.kafka, None, proxies.clone(), drain.clone()));
    if let Some((listener, tls)) = kafka_tls {
        tokio::spawn(Arc::clone(&tls).follow(drain.clone()));
        tokio::spawn(kafka::connection::serve(
            Arc::clone(&gateway),
            listener,
            Some(tls),
            proxies.clone(),
            drain.clone(),
        ));
    }
    let router = http::routes(Arc::clone(&gateway)).merge(health::probes(Arc::clone(&health)));
    if let Some((listener, tls)) = https {
        tokio::spawn(Arc::clone(&tls).follow(drain.clone()));
        tokio::spawn(service::http::serve(listener, Some(tls), proxies.clone(), router.clone(), drain.clone()));
    }
    if let Some(listener) = listeners.admin {
        let router = health::routes(Arc::clone(&health));
        tokio::spawn(service::http::serve(listener, None, Proxies::default(), router, drain.clone()));
    }
    tokio::spawn(service::http::serve(listeners.http, None, proxies, router, drain));
    health.set_ready(true);
    Ok(())
}

async fn heartbeat(gateway: Arc<Gateway>, register: RegisterGateway, mut drain: Drain) {
    loop {
        tokio::select! {
            biased;
            () = drain.begun() => return,
            () = tokio::time::sleep(Duration::from_millis(HEARTBEAT_MS)) => {}
        }
        if let Err(error) = gateway.placement.register_gateway(&register).await {
            tracing::debug!(%error, "placement did not hear that this gateway is alive");
        }
    }
}
