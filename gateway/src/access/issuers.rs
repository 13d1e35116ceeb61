//! Issuers of tokens: their public keys, and who a token is of.
//!
//! Keys are fetched when a token needs them, at most once a minute of one issuer, and are taken anew after four. While an issuer does
//! not answer its last keys hold for an hour.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
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
use tokio::sync::{Semaphore, watch};
use types::{IssuerKeys, IssuerRecord, is_valid_identity_name};

use super::known::{Known, Login, Who};
use super::reason::Reason;

/// Keys are fetched again after so long, in ms: what an issuer takes back is refused within five minutes.
const FRESH_MS: u64 = 240_000;
/// And behind those who log in before that.
const SOON_MS: u64 = 180_000;
/// The shortest time between two fetches of one issuer, in ms, whatever tokens ask for.
const BETWEEN_MS: u64 = 60_000;
/// The same after a fetch that failed.
const AFTER_FAILURE_MS: u64 = 5_000;
/// For how long keys hold whose issuer does not answer, in ms.
const STALE_MS: u64 = 3_600_000;
const FETCH_MAX: Duration = Duration::from_secs(5);
const BODY_BYTES_MAX: usize = 256 * 1024;
/// However long its token holds, a session ends after so long.
const SESSION_S_MAX: i64 = 43_200;
const FETCHES_MAX: usize = 16;
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
    sets: Cache<String, Arc<KeySet>>,
    /// Fetches under way at once: those of names that are resolved slowly take a thread each.
    turns: Semaphore,
}

type Http = Client<HttpsConnector<HttpConnector<Resolver>>, Empty<Bytes>>;

/// The keys of one source.
#[derive(Debug, Default)]
struct KeySet {
    state: Mutex<State>,
    /// Moves when a fetch is over.
    over: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    keys: Option<Arc<Keys>>,
    fetched_ms: u64,
    /// When the last fetch was over.
    tried_ms: Option<u64>,
    has_failed: bool,
    is_fetching: bool,
}

/// What a token may be checked with now.
enum Standing {
    /// These.
    Keys(Arc<Keys>),
    /// These; and others are to be fetched behind.
    KeysForNow(Arc<Keys>),
    /// What is fetched.
    Wait,
    Nothing,
}

impl KeySet {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic holds this lock")
    }
}

impl State {
    fn look(&self, key_id: Option<&str>, now_ms: u64) -> Standing {
        let since_ms = |at_ms: u64| now_ms.saturating_sub(at_ms);
        let (age_ms, tried_ms) = (since_ms(self.fetched_ms), self.tried_ms.map(since_ms));
        let known = self.keys.clone().filter(|keys| age_ms < STALE_MS && keys.has(key_id));
        // An issuer that does not answer holds nobody up who can be known without it.
        let is_resting = self.has_failed && tried_ms.is_some_and(|since| since < AFTER_FAILURE_MS);
        match known {
            Some(keys) if age_ms < SOON_MS || (is_resting && !self.is_fetching) => Standing::Keys(keys),
            Some(keys) if age_ms < FRESH_MS => Standing::KeysForNow(keys),
            // It may have been taken back.
            Some(_) => Standing::Wait,
            None if self.is_fetching => Standing::Wait,
            None if is_resting => Standing::Nothing,
            None if !self.has_failed && tried_ms.is_some_and(|since| since < BETWEEN_MS) => Standing::Nothing,
            None => Standing::Wait,
        }
    }
}

impl Issuers {
    pub fn new(settings: IssuerSettings) -> Self {
        Self { settings, client: OnceLock::new(), sets: Cache::new(SETS_MAX), turns: Semaphore::new(FETCHES_MAX) }
    }

    /// Who a token is of.
    ///
    /// # Errors
    /// No account trusts its issuer for its audience, its keys cannot be had, or it is not right.
    pub async fn login(self: &Arc<Self>, known: &Known, text: &str, now_s: i64) -> Result<Login, Reason> {
        let token = Token::parse(text)?;
        let issuer = known.issuer_of(token.issuer().unwrap_or_default(), &token.audiences())?;
        let of_account = |reason: Reason| reason.of(issuer.account, None);
        let keys = self.keys(&issuer, token.key_id.as_deref()).await.map_err(of_account)?;
        let claims = token.check(&keys, now_s).map_err(|refused| of_account(refused.into()))?;
        let role = match &issuer.role_claim {
            Some(claim) => claims.text(claim).unwrap_or_default().to_owned(),
            None => issuer.roles.first().cloned().unwrap_or_default(),
        };
        if !issuer.roles.contains(&role) {
            return Err(of_account(Reason::Role(role)));
        }
        Ok(Login {
            account: issuer.account,
            who: Who::Session { role, session: session(&claims.subject), policy: None },
            key: None,
            password: None,
            issuer: Some(issuer),
            token: claims.id,
            // As temporary credentials do: what says that it holds for ever does not.
            expires_ms: Some(claims.expires_s.min(now_s + SESSION_S_MAX).saturating_mul(1_000)),
            user_agent: None,
        })
    }

    async fn keys(self: &Arc<Self>, issuer: &Arc<IssuerRecord>, key_id: Option<&str>) -> Result<Arc<Keys>, Reason> {
        let unavailable = || Reason::Issuer(format!("{}: its keys cannot be had", issuer.issuer));
        let source = match &issuer.keys {
            IssuerKeys::Url { url } => format!("url {url}"),
            IssuerKeys::Set { jwks } => format!("set {}", hex(&sha256(jwks.as_bytes()))),
        };
        let set = self.sets.get_with(source, Arc::default);
        let deadline = tokio::time::Instant::now() + 2 * FETCH_MAX;
        for _ in 0..2 {
            let mut over = set.over.subscribe();
            let standing = set.state().look(key_id, clock::monotonic_ms());
            match standing {
                Standing::Keys(keys) => return Ok(keys),
                Standing::KeysForNow(keys) => {
                    self.refresh(&set, issuer);
                    return Ok(keys);
                }
                Standing::Nothing => return Err(unavailable()),
                Standing::Wait => {
                    self.refresh(&set, issuer);
                    // The fetch goes on by itself if whoever waits for it goes.
                    let _ = tokio::time::timeout_at(deadline, over.changed()).await;
                }
            }
        }
        // The issuer did not answer, or knows no such key either: what is known holds for a while.
        let state = set.state();
        let is_stale = clock::monotonic_ms().saturating_sub(state.fetched_ms) >= STALE_MS;
        state.keys.clone().filter(|keys| !is_stale && keys.has(key_id)).ok_or_else(unavailable)
    }

    /// Fetches, unless that is under way.
    fn refresh(self: &Arc<Self>, set: &Arc<KeySet>, issuer: &Arc<IssuerRecord>) {
        if std::mem::replace(&mut set.state().is_fetching, true) {
            return;
        }
        let (issuers, set, issuer) = (Arc::clone(self), Arc::clone(set), Arc::clone(issuer));
        tokio::spawn(async move {
            let fetched = match &issuer.keys {
                IssuerKeys::Url { url } => {
                    issuers.fetch(url).await.and_then(|body| Keys::parse(&body).map_err(str::to_owned))
                }
                IssuerKeys::Set { jwks } => Keys::parse(jwks.as_bytes()).map_err(str::to_owned),
            };
            if let Err(why) = &fetched {
                tracing::warn!(issuer = issuer.issuer, why, "the keys of an issuer cannot be had");
            }
            let now_ms = clock::monotonic_ms();
            let mut state = set.state();
            state.is_fetching = false;
            state.tried_ms = Some(now_ms);
            state.has_failed = fetched.is_err();
            if let Ok(keys) = fetched {
                state.keys = Some(Arc::new(keys));
                state.fetched_ms = now_ms;
            }
            drop(state);
            set.over.send_modify(|over| *over += 1);
        });
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
            let _turn = self.turns.acquire().await.map_err(|error| error.to_string())?;
            let request = Request::get(uri).body(Empty::new()).map_err(|error| error.to_string())?;
            let response = client.request(request).await.map_err(|error| self.told(url, &error))?;
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

impl Issuers {
    /// What is within the operator's network is not told to who asks for it: why not is in the log.
    fn told(&self, url: &str, error: &dyn std::error::Error) -> String {
        let why = told(error);
        tracing::info!(url, why, "a document of an issuer cannot be had");
        if self.settings.may_be_private {
            why
        } else {
            format!("`{url}` cannot be had: is it public, and served with TLS?")
        }
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
    // Others that could be taken for one that is made here are made here, too.
    let is_made = subject
        .rsplit_once('-')
        .is_some_and(|(_, mark)| mark.len() == 16 && mark.bytes().all(|b| b.is_ascii_hexdigit()));
    if is_valid_identity_name(subject) && !is_made {
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
        for url in ["https://127.0.0.1/keys", "https://[::1]/keys", "https://169.254.169.254/"] {
            let why = issuers.fetch(url).await.expect_err(url);
            assert!(why.contains("no public address"), "{url}: {why}");
        }
        // What a name stands for is not told, and not asked.
        let why = issuers.fetch("https://localhost/keys").await.expect_err("a loopback");
        assert!(!why.contains("127.0.0.1") && why.contains("cannot be had"), "{why}");
        for (may_be_private, is_resolved) in [(false, false), (true, true)] {
            let name = "localhost".parse().expect("a name");
            let resolved = tower::Service::call(&mut Resolver { may_be_private }, name).await;
            assert_eq!(resolved.is_ok(), is_resolved, "{resolved:?}");
        }
        for url in ["http://1.1.1.1/keys", "file:///etc/passwd", "//keys", "keys"] {
            assert!(issuers.fetch(url).await.is_err(), "{url}");
        }
        // Nobody is asked behind a name that stands for this machine.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        assert!(issuers.fetch(&format!("https://localhost:{port}/keys")).await.is_err());
        assert!(tokio::time::timeout(Duration::from_millis(200), listener.accept()).await.is_err(), "it was asked");
    }

    /// Whoever is trusted to tell keys is not trusted to say where else to ask.
    #[tokio::test]
    async fn nobody_is_sent_elsewhere() {
        let listen = || tokio::net::TcpListener::bind("127.0.0.1:0");
        let (first, other) = (listen().await.expect("a port"), listen().await.expect("a port"));
        let at = |listener: &tokio::net::TcpListener| format!("http://{}/keys", listener.local_addr().expect("bound"));
        let (url, elsewhere) = (at(&first), at(&other));
        let issuers = Issuers::new(IssuerSettings { may_be_private: true, ..IssuerSettings::default() });
        let answering = tokio::spawn(async move {
            let (mut stream, _) = first.accept().await.expect("asked");
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                tokio::io::AsyncReadExt::read_buf(&mut stream, &mut asked).await.expect("a request");
            }
            let text = format!("HTTP/1.1 302 Found\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n");
            tokio::io::AsyncWriteExt::write_all(&mut stream, text.as_bytes()).await.expect("written");
            stream
        });
        let why = issuers.fetch(&url).await.expect_err("a redirect");
        assert!(why.contains("302"), "{why}");
        assert!(tokio::time::timeout(Duration::from_millis(200), other.accept()).await.is_err(), "it went there");
        drop(answering.await);
    }

    #[test]
    fn sessions_have_names_that_stand_in_an_arn() {
        assert_eq!(session("alice@example.com"), "alice@example.com");
        let odd = session("auth0|123/../x");
        assert!(is_valid_identity_name(&odd) && odd.starts_with("auth0-123-..-x-"), "{odd}");
        assert_ne!(session("a|b"), session("a/b"));
        assert!(is_valid_identity_name(&session(&"é".repeat(500))));
    }

    #[test]
    fn an_unknown_key_is_looked_for_once_a_minute() {
        let keys =
            r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        let mut state = State::default();
        let looks = |state: &State, id, now_ms| match state.look(Some(id), now_ms) {
            Standing::Keys(_) => "keys",
            Standing::KeysForNow(_) => "for now",
            Standing::Wait => "wait",
            Standing::Nothing => "nothing",
        };
        assert_eq!(looks(&state, "a", 0), "wait");
        state.keys = Keys::parse(keys.as_bytes()).ok().map(Arc::new);
        state.tried_ms = Some(0);
        assert_eq!([0, SOON_MS, FRESH_MS].map(|now_ms| looks(&state, "a", now_ms)), ["keys", "for now", "wait"]);
        assert_eq!(
            [0, BETWEEN_MS - 1, BETWEEN_MS].map(|now_ms| looks(&state, "b", now_ms)),
            ["nothing", "nothing", "wait"]
        );
        // While the issuer does not answer what is known holds, for an hour; nobody waits for it again and again.
        (state.has_failed, state.tried_ms) = (true, Some(FRESH_MS));
        assert_eq!(looks(&state, "a", FRESH_MS + 1), "keys");
        assert_eq!(looks(&state, "b", FRESH_MS + 1), "nothing");
        assert_eq!(looks(&state, "a", FRESH_MS + AFTER_FAILURE_MS), "wait");
        state.tried_ms = Some(STALE_MS);
        assert_eq!(looks(&state, "a", STALE_MS + 1), "nothing");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_fetch_goes_on_when_whoever_waited_for_it_is_gone_and_nobody_waits_long() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
        let issuers = Arc::new(Issuers::new(IssuerSettings { may_be_private: true, ..IssuerSettings::default() }));
        let keys = IssuerKeys::Url { url };
        let issuer = Arc::new(IssuerRecord {
            account: types::AccountId(1),
            name: "test".into(),
            issuer: "https://sso.example".into(),
            audiences: vec!["weir".into()],
            keys,
            roles: vec!["app".into()],
            role_claim: None,
        });
        // Clients that go at once, over and over.
        for _ in 0..20 {
            let asking = issuers.keys(&issuer, Some("a"));
            assert!(tokio::time::timeout(Duration::from_millis(5), asking).await.is_err());
        }
        let (mut stream, _) = listener.accept().await.expect("one fetch");
        let body =
            r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.expect("written");
        assert!(issuers.keys(&issuer, Some("a")).await.is_ok());
        // It was one fetch for all of them, and a key that is not there asks for none.
        assert!(issuers.keys(&issuer, Some("b")).await.is_err());
        assert!(tokio::time::timeout(Duration::from_millis(100), listener.accept()).await.is_err());
    }
}
