//! Mutual TLS between services: each shows a certificate that says what it is, and is taken for nothing else.
//!
//! A certificate's role is a URI among its alternative names, to the letter; who signed it is one CA, which signs for nobody else.
//! Addresses are not looked at: nodes move. Without files everything is plain TCP, and everybody may do everything: for one
//! machine, or a network that is trusted whole.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use crate::certificate::{Revocations, Validity, over, uris_of};
use crate::drain::Drain;
use crate::tls::{Tls, TlsFiles, certified_key, roots};

/// A service that cannot shake hands in this time hangs.
const HANDSHAKE_MAX: Duration = Duration::from_millis(2_000);

/// What a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Placement,
    Gateway,
    StorageNode,
    /// A person's command.
    Operator,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Placement, Self::Gateway, Self::StorageNode, Self::Operator];

    /// As certificates name it.
    pub fn uri(self) -> &'static str {
        match self {
            Self::Placement => "urn:weir:placement",
            Self::Gateway => "urn:weir:gateway",
            Self::StorageNode => "urn:weir:storage-node",
            Self::Operator => "urn:weir:operator",
        }
    }
}

/// What somebody at the other end of a connection is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Roles(u8);

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(Role::ALL.into_iter().filter(|role| self.has(*role))).finish()
    }
}

impl Roles {
    pub const NONE: Self = Self(0);
    /// Of everybody where there is no TLS between services.
    pub const ALL: Self = Self(u8::MAX);

    pub fn of(roles: &[Role]) -> Self {
        Self(roles.iter().fold(0, |bits, role| bits | 1 << *role as u8))
    }

    /// What a certificate says; `None`: there is none.
    pub fn of_certificate(certificate: Option<&CertificateDer<'_>>) -> Self {
        let names = uris_of(certificate);
        let is_named = |role: &Role| names.iter().any(|name| name == role.uri());
        Self::of(&Role::ALL.into_iter().filter(is_named).collect::<Vec<_>>())
    }

    pub fn has(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    pub fn has_one_of(self, roles: &[Role]) -> bool {
        roles.iter().any(|role| self.has(*role))
    }
}

/// PEM files of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustFiles {
    /// Who signs the certificates of all services, and of nobody else.
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Certificates of services that are revoked, by lists of that CA.
    pub crl: Option<PathBuf>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Trust {
    server: Arc<Tls>,
    client: Arc<ClientState>,
}

/// What is needed to connect to others.
struct ClientState {
    own: ArcSwap<CertifiedKey>,
    roots: ArcSwap<RootCertStore>,
    revoked: watch::Receiver<Arc<Revocations>>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for ClientState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientState")
    }
}

impl ResolvesClientCert for ClientState {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.own.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Takes a server for what its certificate says that it is, wherever it is.
#[derive(Debug)]
struct IsA {
    role: Role,
    /// The storage node that it must be, by name; `None`: any.
    name: Option<String>,
    state: Arc<ClientState>,
}

impl ServerCertVerifier for IsA {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.state.provider.signature_verification_algorithms.all;
        let (roots, revoked) = (self.state.roots.load(), Arc::clone(&self.state.revoked.borrow()));
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, now, algorithms)?;
        revoked.check_server(end_entity, intermediates, &roots, now, algorithms)?;
        let is_named = |name: &String| is_node(&uris_of(Some(end_entity)), name);
        if Roles::of_certificate(Some(end_entity)).has(self.role) && self.name.as_ref().is_none_or(is_named) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::NotValidForName))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.state.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.state.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.state.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl Trust {
    /// Reads the files. `protocols`: as of [`Tls::open`], for a listener that speaks HTTP.
    ///
    /// # Errors
    /// A file cannot be read, is not PEM, or key and certificate do not belong together.
    pub fn open(files: &TrustFiles, protocols: &[&str]) -> Result<Arc<Self>, String> {
        let TrustFiles { ca, cert, key, crl } = files.clone();
        let server = Tls::open(TlsFiles { cert, key, client_ca: Some(ca), client_crl: crl }, protocols)?;
        let (own, roots) = read(server.files())?;
        let (own, roots) = (ArcSwap::from_pointee(own), ArcSwap::from_pointee(roots));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let client = ClientState { own, roots, revoked: server.revocations(), provider };
        Ok(Arc::new(Self { server, client: Arc::new(client) }))
    }

    /// What listeners speak TLS by.
    pub fn server(&self) -> &Arc<Tls> {
        &self.server
    }

    /// Takes new certificates and revocation lists as files change, until the drain begins. Connections that are open stay, but those of
    /// certificates that are revoked.
    pub async fn follow(self: Arc<Self>, drain: Drain) {
        let (mut changes, mut lists) = (self.server.changes(), self.server.revocations());
        tokio::spawn(Arc::clone(&self.server).follow(drain.clone()));
        loop {
            self.look_at_own();
            let mut drain = drain.clone();
            tokio::select! {
                biased;
                () = drain.begun() => return,
                // Both end with the server alone, which is held here.
                _ = lists.changed() => continue,
                _ = changes.changed() => {}
            }
            match tokio::task::block_in_place(|| read(self.server.files())) {
                Ok((own, roots)) => {
                    self.client.own.store(Arc::new(own));
                    self.client.roots.store(Arc::new(roots));
                }
                Err(error) => {
                    tracing::warn!(error, "new certificates between services are not valid: the old ones stay")
                }
            }
        }
    }

    /// Whoever is refused everywhere learns why: others see no more than a handshake that fails.
    fn look_at_own(&self) {
        if self.client.revoked.borrow().name_one_of(&self.client.own.load().cert) {
            let cert = self.server.files().cert.display().to_string();
            tracing::error!(
                cert,
                "this service's own certificate is on the revocation list: no other service speaks to it"
            );
        }
    }

    /// What connects to a service of this role, and to no other; to the storage node of this name alone, if one is given.
    ///
    /// # Errors
    /// The provider has no protocol version in common with it; a bug.
    pub fn client_config(&self, role: Role, name: Option<String>) -> Result<ClientConfig, Error> {
        let verifier = IsA { role, name, state: Arc::clone(&self.client) };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.client.provider));
        let builder = builder.with_safe_default_protocol_versions()?.dangerous();
        let builder = builder.with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = builder.with_client_cert_resolver(Arc::clone(&self.client) as Arc<dyn ResolvesClientCert>);
        // Each connection looks at the other's certificate, by the CA as it is now.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

fn read(files: &TlsFiles) -> Result<(CertifiedKey, RootCertStore), String> {
    let text = |path: &PathBuf| std::fs::read(path).map_err(|error| format!("`{}`: {error}", path.display()));
    let ca = files.client_ca.as_ref().ok_or("a CA is needed")?;
    Ok((certified_key(&text(&files.cert)?, &text(&files.key)?)?, roots(&text(ca)?)?))
}

/// A connection between services.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<Encrypted>),
}

/// One by TLS, which cannot be read from once the other's certificate is no longer good.
pub struct Encrypted {
    stream: tokio_rustls::TlsStream<TcpStream>,
    /// Tells why; `None`: it has.
    over: Option<Pin<Box<dyn Future<Output = &'static str> + Send>>>,
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Plain(stream)
    }
}

/// Connects to a service of this role, to the storage node of this name, if one is given.
///
/// # Errors
/// Nobody is there, or somebody who is not that.
pub async fn connect(
    trust: Option<&Arc<Trust>>,
    role: Role,
    name: Option<String>,
    address: &str,
) -> io::Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    let Some(trust) = trust else { return Ok(Stream::Plain(stream)) };
    let _ = stream.set_nodelay(true);
    let config = trust.client_config(role, name).map_err(io::Error::other)?;
    // Certificates say what somebody is, not where.
    let name = ServerName::try_from("weir.internal").map_err(io::Error::other)?;
    let shaking = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = tokio::time::timeout(HANDSHAKE_MAX, shaking).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let validity = Validity::of(chain, trust.client.revoked.clone());
    Ok(Stream::Tls(Box::new(Encrypted { over: Some(Box::pin(over(Some(validity)))), stream: stream.into() })))
}

/// Takes a connection; what is at its other end.
///
/// # Errors
/// It speaks no TLS, or shows no certificate of ours.
pub async fn accept(trust: Option<&Arc<Trust>>, stream: TcpStream, from: IpAddr) -> io::Result<Accepted> {
    let Some(trust) = trust else {
        return Ok(Accepted { stream: Stream::Plain(stream), roles: Roles::ALL, uris: None, validity: None });
    };
    let _ = stream.set_nodelay(true);
    let stream = trust.server.accept(stream, from).await?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let (roles, uris) = (Roles::of_certificate(chain.first()), Some(uris_of(chain.first())));
    let validity = Some(trust.server.validity(chain));
    // Whoever accepts looks after it.
    let encrypted = Encrypted { stream: stream.into(), over: Some(Box::pin(std::future::pending())) };
    Ok(Accepted { stream: Stream::Tls(Box::new(encrypted)), roles, uris, validity })
}

/// A connection of another service.
pub struct Accepted {
    pub stream: Stream,
    pub roles: Roles,
    /// What its certificate names it by; `None`: services show none here.
    pub uris: Option<Vec<String>>,
    /// How long that is good; `None`: likewise.
    pub validity: Option<Validity>,
}

/// Whether a certificate with these URIs is that of the storage node of this name, to the letter.
pub fn is_node(uris: &[String], name: &str) -> bool {
    uris.iter().any(|uri| uri.strip_prefix(NODE_URI) == Some(name))
}

/// What the URI begins with that names a storage node in its certificate; its name follows.
pub const NODE_URI: &str = "urn:weir:node:";

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(encrypted) => {
                let Some(over) = encrypted.over.as_mut() else {
                    return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
                };
                if let Poll::Ready(why) = over.as_mut().poll(cx) {
                    tracing::info!(why, "closing a connection to a service");
                    encrypted.over = None;
                    return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                }
                Pin::new(&mut encrypted.stream).poll_read(cx, buf)
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(encrypted) => Pin::new(&mut encrypted.stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(encrypted) => Pin::new(&mut encrypted.stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(encrypted) => Pin::new(&mut encrypted.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(encrypted) => Pin::new(&mut encrypted.stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_told_apart() {
        let gateway = Roles::of(&[Role::Gateway]);
        assert!(gateway.has(Role::Gateway) && !gateway.has(Role::Placement));
        assert!(gateway.has_one_of(&[Role::Placement, Role::Gateway]) && !gateway.has_one_of(&[Role::StorageNode]));
        assert!(Role::ALL.into_iter().all(|role| Roles::ALL.has(role) && !Roles::NONE.has(role)));
        assert_eq!(Roles::of_certificate(None), Roles::NONE);
        assert_eq!(Roles::of_certificate(Some(&CertificateDer::from_slice(b"nonsense"))), Roles::NONE);
    }

    #[test]
    fn nodes_are_named_to_the_letter() {
        let uris = ["urn:weir:storage-node", "urn:weir:node:n1", "urn:weir:node:*"].map(str::to_owned);
        assert!(is_node(&uris, "n1"));
        assert!(["n", "n2", "N1", "n11", "", "urn:weir:node:n1"].iter().all(|other| !is_node(&uris, other)));
    }
}
