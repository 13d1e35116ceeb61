//! TLS for listeners: certificates from files, read again when they change, and handshakes that cannot hold up the rest.
//!
//! TLS 1.2 and 1.3 as rustls has them; no early data (RFC 8470 would be needed), no renegotiation.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
pub use tokio_rustls::server::TlsStream;

use crate::certificate::{Revocations, Validity};
use crate::drain::Drain;
use crate::places::Places;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A handshake that takes longer is given up.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Handshakes under way of one listener, in all and of one address: more are closed at once.
const HANDSHAKES_MAX: usize = 1_024;
const HANDSHAKES_PER_ADDRESS_MAX: usize = 128;

/// PEM files of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, then those that it is signed by.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Clients must show a certificate that one of these signed.
    pub client_ca: Option<PathBuf>,
    /// Those that are revoked, by lists of the CAs; none but these lists are looked at.
    pub client_crl: Option<PathBuf>,
}

impl TlsFiles {
    /// What the files say; of one that cannot be read what it said `before`, if anything, with why it cannot.
    ///
    /// # Errors
    /// Nothing is known of a file that cannot be read.
    fn texts(&self, before: Option<&Texts>) -> Result<(Texts, Option<String>), String> {
        let mut unreadable = None;
        let mut read = |path: &Path, before: Option<&Vec<u8>>| {
            std::fs::read(path).or_else(|error| {
                let error = format!("`{}`: {error}", path.display());
                let text = before.cloned().ok_or_else(|| error.clone());
                unreadable = Some(error);
                text
            })
        };
        let texts = Texts {
            cert: read(&self.cert, before.map(|before| &before.cert))?,
            key: read(&self.key, before.map(|before| &before.key))?,
            client_ca: match &self.client_ca {
                Some(path) => Some(read(path, before.and_then(|before| before.client_ca.as_ref()))?),
                None => None,
            },
            client_crl: match &self.client_crl {
                Some(path) => Some(read(path, before.and_then(|before| before.client_crl.as_ref()))?),
                None => None,
            },
        };
        Ok((texts, unreadable))
    }
}

#[derive(Clone, PartialEq, Eq)]
struct Texts {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
    client_crl: Option<Vec<u8>>,
}

/// What the files said when they were looked at last, and when the certificates in them were valid last.
struct Seen {
    last: Texts,
    valid: Texts,
}

/// What a listener speaks TLS by; follows its files.
pub struct Tls {
    files: TlsFiles,
    protocols: Vec<Vec<u8>>,
    current: ArcSwap<ServerConfig>,
    seen: Mutex<Seen>,
    /// Moves when new certificates were taken.
    changed: watch::Sender<u64>,
    revoked: watch::Sender<Arc<Revocations>>,
    /// For handshakes under way.
    places: Arc<Places>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files. `protocols` are offered by ALPN, the preferred one first; none: clients do not choose.
    ///
    /// # Errors
    /// A file cannot be read, is not PEM, or key and certificate do not belong together.
    pub fn open(files: TlsFiles, protocols: &[&str]) -> Result<Arc<Self>, String> {
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let (texts, _) = files.texts(None)?;
        let revoked = revocations(&texts, &files)?;
        let current = ArcSwap::from_pointee(config(&texts, &revoked, &protocols)?);
        let seen = Mutex::new(Seen { last: texts.clone(), valid: texts });
        let (changed, revoked) = (watch::channel(0).0, watch::channel(revoked).0);
        let places = Places::new(HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX);
        Ok(Arc::new(Self { files, protocols, current, seen, changed, revoked, places }))
    }

    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// Moves when new certificates were taken.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Which certificates are revoked.
    pub fn revocations(&self) -> watch::Receiver<Arc<Revocations>> {
        self.revoked.subscribe()
    }

    /// How long a certificate is good that a client showed, with those that it is signed by; none, if it is empty.
    pub fn validity(&self, shown: &[CertificateDer<'static>]) -> Validity {
        Validity::of(shown, self.revoked.subscribe())
    }

    /// Takes new certificates and revocation lists as files change, until the drain begins. Connections that are open stay, but those
    /// of certificates that are revoked; files that are not valid change nothing.
    pub async fn follow(self: Arc<Self>, mut drain: Drain) {
        let mut unreadable = None;
        loop {
            tokio::select! {
                biased;
                () = drain.begun() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let before = self.seen.lock().expect("no panic holds this lock").last.clone();
            let Ok((texts, error)) = tokio::task::block_in_place(|| self.files.texts(Some(&before))) else { continue };
            if let Some(error) = error.as_ref().filter(|error| unreadable.as_ref() != Some(*error)) {
                // Said once, until it is another reason.
                tracing::warn!(error, "a file of certificates cannot be read: what it said before stays");
            }
            unreadable = error;
            self.take(texts);
        }
    }

    /// Takes what is valid of new files: a revocation list although there is no key to the new certificate, say.
    fn take(&self, texts: Texts) {
        let mut seen = self.seen.lock().expect("no panic holds this lock");
        if seen.last == texts {
            return;
        }
        let before = Arc::clone(&self.revoked.borrow());
        let revoked = revocations(&texts, &self.files).unwrap_or_else(|error| {
            tracing::warn!(error, "a new revocation list is not valid: the old one stays");
            before
        });
        let is_list_new = seen.last.client_crl != texts.client_crl;
        let are_others_new = Texts { client_crl: seen.last.client_crl.clone(), ..texts.clone() } != seen.last;
        let config_of = |texts: &Texts| config(texts, &revoked, &self.protocols);
        match config_of(&texts) {
            Ok(config) => {
                self.current.store(Arc::new(config));
                seen.valid = texts.clone();
                if are_others_new {
                    self.changed.send_modify(|changed| *changed += 1);
                    tracing::info!(cert = %self.files.cert.display(), "new certificates are used from now on");
                }
            }
            Err(error) => {
                // Perhaps one of the files is still to come: they are looked at again when they change again.
                tracing::warn!(error, cert = %self.files.cert.display(), "new certificates are not valid: the old ones stay");
                if let Ok(config) = config_of(&seen.valid) {
                    self.current.store(Arc::new(config));
                }
            }
        }
        if is_list_new {
            tracing::info!(revoked = revoked.count(), "a revocation list was read");
        }
        self.revoked.send_replace(revoked);
        seen.last = texts;
    }

    /// Shakes hands, within bounds of time and number.
    ///
    /// # Errors
    /// The client gave up, speaks no TLS, has not the certificate that is asked for, or there are too many like it.
    pub async fn accept(&self, stream: TcpStream, address: IpAddr) -> io::Result<TlsStream<TcpStream>> {
        let _place = self.places.take(address).ok_or_else(|| io::Error::other("too many handshakes are under way"))?;
        let acceptor = TlsAcceptor::from(self.current.load_full());
        match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
            Ok(accepted) => accepted,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long")),
        }
    }
}

/// A certificate, those that it is signed by, and its key.
type Chain = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn chain(cert: &[u8], key: &[u8]) -> Result<Chain, String> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(cert).collect::<Result<_, _>>().map_err(|error| format!("cert: {error}"))?;
    if chain.is_empty() {
        return Err("cert: there is no certificate in it".to_owned());
    }
    Ok((chain, PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("key: {error}"))?))
}

/// A certificate with its key, from PEM.
///
/// # Errors
/// They are not PEM, or do not belong together.
pub fn certified_key(cert: &[u8], key: &[u8]) -> Result<CertifiedKey, String> {
    let (chain, key) = chain(cert, key)?;
    CertifiedKey::from_der(chain, key, &rustls::crypto::aws_lc_rs::default_provider())
        .map_err(|error| error.to_string())
}

fn revocations(texts: &Texts, files: &TlsFiles) -> Result<Arc<Revocations>, String> {
    match (&texts.client_crl, &files.client_crl) {
        (Some(text), Some(path)) => {
            Ok(Arc::new(Revocations::parse(text, path, texts.client_ca.as_deref().unwrap_or_default())?))
        }
        _ => Ok(Arc::default()),
    }
}

fn config(texts: &Texts, revoked: &Revocations, protocols: &[Vec<u8>]) -> Result<ServerConfig, String> {
    let (chain, key) = chain(&texts.cert, &texts.key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match &texts.client_ca {
        None => builder.with_no_client_auth(),
        Some(text) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(text)?), provider);
            let verifier = verifier.with_crls(revoked.lists.iter().cloned());
            builder.with_client_cert_verifier(verifier.build().map_err(|error| format!("client CA: {error}"))?)
        }
    };
    // It refuses a key that is of another certificate.
    let mut config = builder.with_single_cert(chain, key).map_err(|error| error.to_string())?;
    config.alpn_protocols = protocols.to_vec();
    if texts.client_ca.is_some() {
        // Who is known by a certificate shows it each time: a session that is gone on with would not look at it.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

/// Certificates that are trusted, from PEM.
///
/// # Errors
/// It is not PEM, or has no certificate in it.
pub fn roots(text: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text) {
        let certificate = certificate.map_err(|error| format!("CA: {error}"))?;
        roots.add(certificate).map_err(|error| format!("CA: {error}"))?;
    }
    if roots.is_empty() { Err("CA: there is no certificate in it".to_owned()) } else { Ok(roots) }
}
