//! A small client of `/v1`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::RETRY_AFTER;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

use crate::cli::Target;
use crate::credentials::Credentials;
use crate::output::Failure;

/// How long a call waits for a quota that is used up.
const QUOTA_PATIENCE: Duration = Duration::from_secs(120);

/// Speaks to one gateway.
pub struct Client {
    server: String,
    credentials: Option<Credentials>,
    in_cluster: Option<String>,
    client: Hyper<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// A text as one part of a path.
pub fn part(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

impl Client {
    /// # Errors
    /// The certificates that are to be trusted cannot be read.
    pub fn new(target: &Target) -> Result<Self, Failure> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        connector.enforce_http(false);
        let builder = HttpsConnectorBuilder::new();
        let builder = match &target.ca {
            Some(file) => builder.with_tls_config(tls_config(file)?),
            // Certificates of the machine are read only where they are needed.
            None if target.server.starts_with("https") => {
                builder.with_provider_and_native_roots(aws_lc_rs::default_provider()).map_err(|error| {
                    Failure::failed(format!("what this machine trusts cannot be read: {error}; --ca FILE"))
                })?
            }
            None => builder.with_tls_config(client_config(RootCertStore::empty())?),
        };
        let connector = builder.https_or_http().enable_http1().wrap_connector(connector);
        let client = Hyper::builder(TokioExecutor::new()).build(connector);
        let server = target.server.trim_end_matches('/').to_owned();
        let credentials = Credentials::find(&target.credentials)?;
        Ok(Self { server, credentials, in_cluster: target.credentials.cluster.clone(), client })
    }

    /// One call. While a quota is used up it is made again, as late as the answer says.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let (until, mut is_told) = (tokio::time::Instant::now() + QUOTA_PATIENCE, false);
        loop {
            let (status, answered, wait) = self.call_once(method.clone(), path, headers, body.clone()).await?;
            match wait.filter(|_| status == StatusCode::TOO_MANY_REQUESTS) {
                Some(wait) if tokio::time::Instant::now() + wait < until => {
                    if !std::mem::replace(&mut is_told, true) {
                        let problem: Value = serde_json::from_slice(&answered).unwrap_or(Value::Null);
                        eprintln!("waiting: {}", problem["detail"].as_str().unwrap_or("a quota is used up"));
                    }
                    tokio::time::sleep(wait).await;
                }
                _ => return Ok((status, answered)),
            }
        }
    }

    /// With how long it says to wait.
    async fn call_once(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<(StatusCode, Bytes, Option<Duration>), Failure> {
        let uri: Uri = format!("{}{path}", self.server).parse().map_err(|error| Failure::usage(format!("{error}")))?;
        let mut headers = headers.to_vec();
        headers.extend(self.in_cluster.as_deref().map(|name| ("weir-cluster-name", name)));
        let signed = match &self.credentials {
            Some(credentials) => credentials.sign(method.as_str(), &uri, &headers, &body)?,
            None => Vec::new(),
        };
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for (name, value) in signed {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).map_err(|error| Failure::usage(error.to_string()))?;
        let unreachable =
            |error: &dyn std::fmt::Display| Failure::unreachable(format!("`{}` does not answer: {error}", self.server));
        let response = self.client.request(request).await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = response.into_body().collect().await.map_err(|error| unreachable(&error))?.to_bytes();
        Ok((status, body, wait.map(Duration::from_secs)))
    }

    /// A call that answers JSON, or nothing.
    pub async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let bytes = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let (status, body) = self.call(method, path, &[("content-type", "application/json")], bytes).await?;
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if status.is_success() { Ok(json) } else { Err(failure(status, &json)) }
    }
}

/// Trusts what the certificates in a PEM file signed.
///
/// # Errors
/// It cannot be read, or is no PEM of certificates.
pub fn tls_config(file: &Path) -> Result<ClientConfig, Failure> {
    let failed = |error: String| Failure::failed(format!("`{}`: {error}", file.display()));
    let text = std::fs::read(file).map_err(|error| failed(error.to_string()))?;
    client_config(service::tls::roots(&text).map_err(failed)?)
}

fn client_config(roots: RootCertStore) -> Result<ClientConfig, Failure> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| Failure::failed(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// What a problem means to the caller.
pub fn failure(status: StatusCode, problem: &Value) -> Failure {
    let message = problem["detail"]
        .as_str()
        .map_or_else(|| format!("what answers there ({status}) is no gateway's HTTP address"), str::to_owned);
    match status {
        StatusCode::NOT_FOUND => Failure::not_found(message),
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Failure { code: 4, message },
        StatusCode::BAD_REQUEST => Failure::usage(message),
        _ => Failure::failed(message),
    }
}
