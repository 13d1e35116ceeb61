//! A small JSON client and the HTTP server loop.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::{Extension, Router};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use types::{ClusterId, ErrorCode};

use crate::api::ApiError;
use crate::certificate::{over, uris_of};
use crate::drain::Drain;
use crate::places::Places;
use crate::proxy::{Proxies, Source};
use crate::tls::Tls;
use crate::trust::{Role, Roles, Trust};

/// Names the cluster whose metadata the asker belongs to; empty while it does not know.
pub const CLUSTER_HEADER: &str = "weir-cluster";

/// Speaks JSON to one of several equal servers; goes on to the next when one does not answer.
#[derive(Debug, Clone)]
pub struct JsonClient {
    urls: Arc<[String]>,
    /// The server that answered last: asked first.
    current: Arc<AtomicUsize>,
    /// Sent with each request once it is known.
    cluster: Arc<OnceLock<String>>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// Trusts nobody: without certificates of our own only `http://` is spoken.
fn plain_config() -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("the versions are those of the provider");
    builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

fn encode<B: Serialize>(body: &B) -> Result<Bytes, ApiError> {
    let body = serde_json::to_vec(body).map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
    Ok(body.into())
}

impl JsonClient {
    /// With `trust` servers are placement processes, by their certificates, and addresses begin with `https://`.
    pub fn new(urls: &[String], trust: Option<&Arc<Trust>>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(2)));
        connector.enforce_http(false);
        let config = match trust {
            Some(trust) => trust.client_config(Role::Placement, None).expect("the versions are those of the provider"),
            None => plain_config(),
        };
        let builder = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1();
        let connector = builder.wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let urls = urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        Self { urls, current: Arc::default(), cluster: Arc::default(), client }
    }

    /// Whose answers are meant: a server that holds the metadata of another cluster refuses.
    pub fn expect_cluster(&self, cluster: ClusterId) {
        let _ = self.cluster.set(cluster.to_string());
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str, timeout: Duration) -> Result<T, ApiError> {
        self.call(Method::GET, path, Bytes::new(), timeout).await
    }

    pub async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        timeout: Duration,
    ) -> Result<T, ApiError> {
        self.call(Method::POST, path, encode(body)?, timeout).await
    }

    /// Posts to every server at once; the first answer that is none of unavailability.
    ///
    /// # Errors
    /// When no server took it.
    pub async fn post_to_all<B: Serialize + Sync, T: DeserializeOwned + Send + 'static>(
        &self,
        path: &str,
        body: &B,
        timeout: Duration,
    ) -> Result<T, ApiError> {
        let body = encode(body)?;
        let mut asked = tokio::task::JoinSet::new();
        for url in &*self.urls {
            let one = Self { urls: Arc::from([url.clone()]), current: Arc::default(), ..self.clone() };
            let (path, body) = (path.to_owned(), body.clone());
            asked.spawn(async move { one.call(Method::POST, &path, body, timeout).await });
        }
        let mut result =
            Err(ApiError::new(ErrorCode::PlacementUnavailable, "no placement address is known".to_owned()));
        while let Some(Ok(answer)) = asked.join_next().await {
            let is_answer = !matches!(&answer, Err(error) if error.code == ErrorCode::PlacementUnavailable);
            if is_answer || result.is_err() {
                result = answer;
            }
        }
        result
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<T, ApiError> {
        let mut last = ApiError::new(ErrorCode::PlacementUnavailable, "no placement address is known".to_owned());
        let first = self.current.load(Ordering::Relaxed);
        for step in 0..self.urls.len() {
            let at = (first + step) % self.urls.len();
            let url = &self.urls[at];
            match tokio::time::timeout(timeout, self.call_one(&method, url, path, body.clone())).await {
                Ok(Ok((status, bytes))) if status.is_success() => {
                    self.current.store(at, Ordering::Relaxed);
                    return serde_json::from_slice(&bytes).map_err(|error| {
                        ApiError::new(ErrorCode::Internal, format!("`{url}{path}` answered what is not known: {error}"))
                    });
                }
                Ok(Ok((status, bytes))) => {
                    return Err(serde_json::from_slice(&bytes).unwrap_or_else(|_| {
                        ApiError::new(ErrorCode::PlacementUnavailable, format!("`{url}{path}` answered {status}"))
                    }));
                }
                Ok(Err(error)) => last = ApiError::new(ErrorCode::PlacementUnavailable, format!("`{url}`: {error}")),
                Err(_) => last = ApiError::new(ErrorCode::PlacementUnavailable, format!("`{url}` did not answer")),
            }
        }
        Err(last)
    }

    async fn call_one(
        &self,
        method: &Method,
        url: &str,
        path: &str,
        body: Bytes,
    ) -> Result<(hyper::StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let request = Request::builder()
            .method(method.clone())
            .uri(format!("{url}{path}"))
            .header("content-type", "application/json")
            .header(CLUSTER_HEADER, self.cluster.get().map_or("", String::as_str))
            .body(Full::new(body))?;
        let response = self.client.request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}

/// How long a request's header may take to come, how long an HTTP/1.1 connection may be silent (longer than pools and
/// load balancers keep theirs), and how long an HTTP/2 connection is silent before it is asked.
const HEADER_WAIT: Duration = Duration::from_secs(600);

/// Connections of one listener, in all and of one address: more are closed at once.
const CONNECTIONS_MAX: usize = 16_384;
const CONNECTIONS_PER_ADDRESS_MAX: usize = 2_048;
/// Bytes of a request's headers: each connection may hold as many in memory.
const HEADERS_BYTES_MAX: usize = 64 * 1024;
/// What one HTTP/2 connection may have under way.
const STREAMS_MAX: u32 = 128;
/// Streams that a client, and this server, reset before they were looked at: more end the connection (CVE-2023-44487, CVE-2025-8671).
const RESETS_PENDING_MAX: usize = 20;
const RESETS_LOCAL_MAX: usize = 512;

/// Who is at the other end of a connection: among the extensions of its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub source: Source,
    /// By TLS with this listener.
    pub is_tls: bool,
    /// What its certificate says that it is, where services speak TLS with each other.
    pub roles: Roles,
    /// The URIs that its certificate names it by.
    pub uris: Arc<[String]>,
}

/// What HTTP clients may choose by ALPN.
pub const PROTOCOLS: [&str; 2] = ["h2", "http/1.1"];

/// Serves `router` over HTTP/1.1 and HTTP/2 until the drain begins; HTTP/2 by prior knowledge, or with TLS by ALPN. Connections of
/// `proxies` are of whom those say.
pub async fn serve(listener: TcpListener, tls: Option<Arc<Tls>>, proxies: Proxies, router: Router, mut drain: Drain) {
    let graceful = GracefulShutdown::new();
    let places = Places::new(CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX);
    loop {
        let (mut stream, peer) = tokio::select! {
            biased;
            () = drain.begun() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let _ = stream.set_nodelay(true);
        let (tls, watcher) = (tls.clone(), graceful.watcher());
        let (router, proxies, places) = (router.clone(), proxies.clone(), Arc::clone(&places));
        tokio::spawn(async move {
            let source = match proxies.source(&mut stream, peer).await {
                Ok(source) => source,
                Err(error) => {
                    tracing::warn!(%peer, %error, "an HTTP connection of a balancer is closed");
                    return;
                }
            };
            let Some(_place) = places.take(source.ip()) else {
                tracing::debug!(%peer, "an HTTP client, or all of them, have too many connections; closing one");
                return;
            };
            let is_tls = tls.is_some();
            let of = move |roles, uris: Vec<String>| {
                router.layer(Extension(Peer { source, is_tls, roles, uris: uris.into() }))
            };
            match tls {
                None => {
                    let router = of(Roles::ALL, Vec::new());
                    serve_connection(auto::Builder::new(TokioExecutor::new()), stream, router, watcher).await;
                }
                Some(tls) => match tls.accept(stream, source.ip()).await {
                    Ok(stream) => {
                        // What was agreed upon: nobody waits for a first byte to find out.
                        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
                        let router = of(Roles::of_certificate(chain.first()), uris_of(chain.first()));
                        let validity = tls.validity(chain);
                        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(PROTOCOLS[0].as_bytes());
                        let builder = auto::Builder::new(TokioExecutor::new());
                        let builder = if is_h2 { builder.http2_only() } else { builder.http1_only() };
                        tokio::select! {
                            biased;
                            why = over(Some(validity)) => tracing::info!(%peer, why, "closing an HTTP connection"),
                            () = serve_connection(builder, stream, router, watcher) => {}
                        }
                    }
                    Err(error) => tracing::debug!(%peer, %error, "no TLS came about with an HTTP client"),
                },
            }
        });
    }
    let _ = tokio::time::timeout(Duration::from_secs(5), graceful.shutdown()).await;
}

async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    mut builder: auto::Builder<TokioExecutor>,
    stream: S,
    router: Router,
    watcher: Watcher,
) {
    builder.http2().initial_stream_window_size(8 * 1024 * 1024).initial_connection_window_size(16 * 1024 * 1024);
    // A connection that sends half a header, or nothing, does not stay for ever.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_WAIT).max_buf_size(HEADERS_BYTES_MAX);
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(Some(HEADER_WAIT));
    http2.max_concurrent_streams(STREAMS_MAX).max_header_list_size(HEADERS_BYTES_MAX as u32);
    http2.max_pending_accept_reset_streams(RESETS_PENDING_MAX).max_local_error_reset_streams(RESETS_LOCAL_MAX);
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        tracing::debug!(error, "an HTTP connection ended");
    }
}
