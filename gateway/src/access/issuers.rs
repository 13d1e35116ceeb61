//! Issuers of tokens: their public keys, and who a token is of.
//!
//! Keys are fetched when a token needs them, at most once a minute of one issuer, and are taken anew after four. While an issuer does
//! not answer its last keys hold for an hour.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use identity::jwt::{Keys, Token};
use identity::sigv4::{hex, sha256};
use moka::sync::Cache;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use service::clock;
use tokio::sync::Mutex;
use types::{IssuerKeys, IssuerRecord, is_valid_identity_name};

use super::known::{Known, Login, Who};
use super::proof::Reason;

/// Keys are fetched again after so long, in ms: what an issuer takes back is refused within five minutes.
const FRESH_MS: u64 = 240_000;
/// The shortest time between two fetches of one issuer, in ms, whatever tokens ask for.
const BETWEEN_MS: u64 = 60_000;
/// The same after a fetch that failed.
const AFTER_FAILURE_MS: u64 = 5_000;
/// For how long keys hold whose issuer does not answer, in ms.
const STALE_MS: u64 = 3_600_000;
const FETCH_MAX: Duration = Duration::from_secs(5);
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Sets of keys that are held.
const SETS_MAX: u64 = 10_000;

/// What an operator says of issuers.
#[derive(Debug, Clone, Default)]
pub struct IssuerSettings {
    /// Certificates that those of issuers are signed by; the machine's unless given.
    pub ca: Option<PathBuf>,
    /// Whether keys are also fetched from private and loopback addresses, from those without TLS.
    pub may_be_private: bool,
}

/// See the module's text.
#[derive(Debug)]
pub struct Issuers {
    settings: IssuerSettings,
    client: OnceLock<Result<Http, String>>,
    /// By where they are from.
    sets: Cache<String, Arc<Mutex<KeySet>>>,
}

type Http = Client<HttpsConnector<HttpConnector<Resolver>>, Empty<Bytes>>;

#[derive(Debug, Default)]
struct KeySet {
    keys: Option<Arc<Keys>>,
    fetched_ms: u64,
    tried_ms: Option<u64>,
    has_failed: bool,
}

impl KeySet {
    fn is_due(&self, key_id: Option<&str>, now_ms: u64) -> bool {
        let Some(tried_ms) = self.tried_ms else { return true };
        let since_ms = now_ms.saturating_sub(tried_ms);
        if self.has_failed {
            return since_ms >= AFTER_FAILURE_MS;
        }
        let has = self.keys.as_ref().is_some_and(|keys| keys.has(key_id));
        since_ms >= if has { FRESH_MS } else { BETWEEN_MS }
    }
}

impl Issuers {
    pub fn new(settings: IssuerSettings) -> Self {
        Self { settings, client: OnceLock::new(), sets: Cache::new(SETS_MAX) }
    }

    /// Who a token is of.
    ///
    /// # Errors
    /// No account trusts its issuer for its audience, its keys cannot be had, or it is not right.
    pub async fn login(&self, known: &Known, text: &str, now_s: i64) -> Result<Login, Reason> {
        let token = Token::parse(text)?;
        let issuer = known.issuer_of(token.issuer().unwrap_or_default(), &token.audiences())?;
        let keys = self.keys(&issuer, token.key_id.as_deref()).await?;
        let claims = token.check(&keys, now_s)?;
        let role = match &issuer.role_claim {
            Some(claim) => claims.text(claim).unwrap_or_default().to_owned(),
            None => issuer.roles.first().cloned().unwrap_or_default(),
        };
        if !issuer.roles.contains(&role) {
            return Err(Reason::Role(role));
        }
        Ok(Login {
            account: issuer.account,
            who: Who::Session { role, session: session(&claims.subject), policy: None },
            key: None,
            password: None,
            issuer: Some(issuer),
            expires_ms: Some(claims.expires_s.saturating_mul(1_000)),
            user_agent: None,
        })
    }

    async fn keys(&self, issuer: &IssuerRecord, key_id: Option<&str>) -> Result<Arc<Keys>, Reason> {
        let unavailable = |why: &str| Reason::Issuer(format!("{}: {why}", issuer.issuer));
        let source = match &issuer.keys {
            IssuerKeys::Url { url } => url,
            IssuerKeys::Set { jwks } => jwks,
        };
        let set = self.sets.get_with_by_ref(source, Arc::default);
        // Whoever comes while they are fetched waits for them.
        let mut set = set.lock().await;
        let now_ms = clock::monotonic_ms();
        if set.is_due(key_id, now_ms) {
            set.tried_ms = Some(now_ms);
            let fetched = match &issuer.keys {
                IssuerKeys::Url { url } => {
                    self.fetch(url).await.and_then(|body| Keys::parse(&body).map_err(str::to_owned))
                }
                IssuerKeys::Set { jwks } => Keys::parse(jwks.as_bytes()).map_err(str::to_owned),
            };
            set.has_failed = fetched.is_err();
            match fetched {
                Ok(keys) => {
                    set.keys = Some(Arc::new(keys));
                    set.fetched_ms = now_ms;
                }
                Err(why) => {
                    tracing::warn!(issuer = issuer.issuer, why, "the keys of an issuer cannot be had");
                    if now_ms.saturating_sub(set.fetched_ms) > STALE_MS {
                        set.keys = None;
                    }
                }
            }
        }
        set.keys.clone().ok_or_else(|| unavailable("its keys cannot be had"))
    }

    /// A document of an issuer.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn fetch(&self, url: &str) -> Result<Bytes, String> {
        let uri: Uri = url.parse().map_err(|error| format!("`{url}` is no URL: {error}"))?;
        let host = uri.host().ok_or_else(|| format!("`{url}` names no host"))?.trim_matches(['[', ']']);
        let literal = host.parse::<IpAddr>().ok();
        let is_local =
            self.settings.may_be_private && (host == "localhost" || literal.is_some_and(|ip| ip.is_loopback()));
        if uri.scheme_str() != Some("https") && !(is_local && uri.scheme_str() == Some("http")) {
            return Err(format!("`{url}` does not begin with https://"));
        }
        // Names are looked at when they are resolved.
        if literal.is_some_and(|ip| !self.settings.may_be_private && !is_public(ip)) {
            return Err(format!("`{host}` is no public address"));
        }
        let client = self.client.get_or_init(|| self.make_client()).as_ref().map_err(Clone::clone)?;
        let fetching = async {
            let request = Request::get(uri).body(Empty::new()).map_err(|error| error.to_string())?;
            let response = client.request(request).await.map_err(|error| told(&error))?;
            // It is not followed anywhere else.
            if response.status() != StatusCode::OK {
                return Err(format!("`{url}` answers {}", response.status()));
            }
            let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
            body.map(|body| body.to_bytes()).map_err(|error| format!("`{url}`: {error}"))
        };
        tokio::time::timeout(FETCH_MAX, fetching).await.map_err(|_| format!("`{url}` does not answer"))?
    }

    fn make_client(&self) -> Result<Http, String> {
        let mut connector = HttpConnector::new_with_resolver(Resolver { may_be_private: self.settings.may_be_private });
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(FETCH_MAX));
        let builder = HttpsConnectorBuilder::new();
        let builder = match &self.settings.ca {
            Some(file) => {
                let text = std::fs::read(file).map_err(|error| format!("`{}`: {error}", file.display()))?;
                builder.with_tls_config(trusting(service::tls::roots(&text)?)?)
            }
            None => builder
                .with_provider_and_native_roots(aws_lc_rs::default_provider())
                .map_err(|error| format!("what this machine trusts cannot be read: {error}"))?,
        };
        let connector = builder.https_or_http().enable_http1().wrap_connector(connector);
        Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(connector))
    }
}

fn trusting(roots: RootCertStore) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// With what is behind it.
fn told(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", told(source)),
        None => error.to_string(),
    }
}

/// What a session of this subject is called: in an ARN not all of its characters can stand.
fn session(subject: &str) -> String {
    if is_valid_identity_name(subject) {
        return subject.to_owned();
    }
    let plain = |c: char| if is_valid_identity_name(c.encode_utf8(&mut [0; 4])) { c } else { '-' };
    let readable: String = subject.chars().map(plain).take(47).collect();
    // Subjects that look alike then stay apart.
    let mark: String = hex(&sha256(subject.as_bytes())).chars().take(16).collect();
    format!("{readable}-{mark}")
}

/// Whether an address is one of the internet: not of this machine, of a private network, or of a cloud's metadata.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            let is_reserved = a == 0 || a >= 240 || (a == 198 && (b == 18 || b == 19)) || (a == 192 && b == 0);
            let is_special = ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_multicast();
            !(is_special || ip.is_documentation() || is_shared || is_reserved)
        }
        // Of what is given out today; addresses that wrap one of IPv4 are not among it.
        IpAddr::V6(ip) => {
            let [first, second, ..] = ip.segments();
            (0x2000..0x4000).contains(&first)
                && first != 0x2002
                && !(first == 0x2001 && (second < 0x200 || second == 0xdb8))
        }
    }
}

/// Resolves names to addresses that may be connected to.
#[derive(Debug, Clone)]
struct Resolver {
    may_be_private: bool,
}

impl tower::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let may_be_private = self.may_be_private;
        Box::pin(async move {
            let mut all: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            all.retain(|address| may_be_private || is_public(address.ip()));
            if all.is_empty() {
                return Err(std::io::Error::other(format!("`{name}` has no public address")));
            }
            Ok(all.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_fetched_from_within() {
        for inside in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "2002:0a00:0001::",
            "64:ff9b::10.0.0.1",
            "2001:db8::1",
        ] {
            assert!(!is_public(inside.parse().expect("an address")), "{inside}");
        }
        for outside in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(is_public(outside.parse().expect("an address")), "{outside}");
        }
    }

    #[tokio::test]
    async fn private_addresses_and_plain_http_are_refused() {
        let issuers = Issuers::new(IssuerSettings::default());
        for url in
            ["https://127.0.0.1/keys", "https://[::1]/keys", "https://169.254.169.254/", "https://localhost/keys"]
        {
            let why = issuers.fetch(url).await.expect_err(url);
            assert!(why.contains("no public address"), "{url}: {why}");
        }
        for url in ["http://1.1.1.1/keys", "file:///etc/passwd", "//keys", "keys"] {
            assert!(issuers.fetch(url).await.is_err(), "{url}");
        }
    }

    #[test]
    fn sessions_have_names_that_stand_in_an_arn() {
        assert_eq!(session("alice@example.com"), "alice@example.com");
        let odd = session("auth0|123/../x");
        assert!(is_valid_identity_name(&odd) && odd.starts_with("auth0-123----x-"), "{odd}");
        assert_ne!(session("a|b"), session("a/b"));
        assert!(is_valid_identity_name(&session(&"é".repeat(500))));
    }

    #[test]
    fn an_unknown_key_is_looked_for_once_a_minute() {
        let keys =
            r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        let mut set = KeySet::default();
        assert!(set.is_due(Some("a"), 0));
        set.keys = Keys::parse(keys.as_bytes()).ok().map(Arc::new);
        set.tried_ms = Some(0);
        assert!(!set.is_due(Some("a"), FRESH_MS - 1) && set.is_due(Some("a"), FRESH_MS));
        assert!(!set.is_due(Some("b"), BETWEEN_MS - 1) && set.is_due(Some("b"), BETWEEN_MS));
        set.has_failed = true;
        assert!(set.is_due(Some("a"), AFTER_FAILURE_MS));
    }
}
