//! What a certificate of the other end says, and for how long it is good: until it ends, or a revocation list (RFC 5280 §5) names it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::{CertificateError, Error, RootCertStore};
use tokio::sync::watch;
use webpki::{
    CertRevocationList, EndEntityCert, Error as WebpkiError, KeyUsage, OwnedCertRevocationList,
    RevocationOptionsBuilder,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;

use crate::clock;

/// The URIs among the alternative names of a certificate that was verified; `None`: there is none.
pub fn uris_of(certificate: Option<&CertificateDer<'_>>) -> Vec<String> {
    let parsed = certificate.and_then(|der| EndEntityCert::try_from(der).ok());
    parsed.iter().flat_map(|parsed| parsed.valid_uri_names()).map(str::to_owned).collect()
}

/// Certificates that their CAs took back before they end: as lists that those signed.
#[derive(Debug, Default)]
pub struct Revocations {
    /// As verifiers of clients take them.
    pub lists: Vec<CertificateRevocationListDer<'static>>,
    parsed: Vec<CertRevocationList<'static>>,
}

impl Revocations {
    /// Reads PEM, for those whose CAs (PEM) are trusted. A list that should have been replaced by now is used, with a warning: what it
    /// names stays revoked, and a list that comes late ends no service.
    ///
    /// # Errors
    /// It is not PEM, has a list in it that is not valid, or none of one of the CAs: of that one nobody would be let in.
    pub fn parse(text: &[u8], path: &Path, cas: &[u8]) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("revocation list `{}`: {error}", path.display());
        let mut all = Self::default();
        for list in CertificateRevocationListDer::pem_slice_iter(text) {
            let list = list.map_err(|error| wrong(&error))?;
            let parsed = OwnedCertRevocationList::from_der(&list).map_err(|error| wrong(&error))?;
            warn_of_age(&list, path);
            all.parsed.push(parsed.into());
            all.lists.push(list);
        }
        for ca in CertificateDer::pem_slice_iter(cas).flatten() {
            let Ok((_, ca)) = x509_parser::parse_x509_certificate(&ca) else { continue };
            if !all.lists.iter().any(|list| is_of(list, &ca)) {
                return Err(wrong(&format!("there is none of CA `{}` in it", ca.subject())));
            }
        }
        Ok(all)
    }

    /// How many certificates are named.
    pub fn count(&self) -> usize {
        let count = |list: &CertificateRevocationListDer<'_>| {
            let parsed = x509_parser::parse_x509_crl(list.as_ref());
            parsed.map_or(0, |(_, list)| list.iter_revoked_certificates().count())
        };
        self.lists.iter().map(count).sum()
    }

    /// One of the certificates is on a list of its issuer.
    pub fn name_one_of(&self, chain: &[CertificateDer<'static>]) -> bool {
        let is_named = |certificate: &CertificateDer<'_>| {
            let Ok(certificate) = EndEntityCert::try_from(certificate) else { return true };
            let of_issuer = self.parsed.iter().filter(|list| list.issuer() == certificate.issuer());
            // An entry that cannot be read may be this one's.
            of_issuer.map(|list| list.find_serial(certificate.serial())).any(|found| !matches!(found, Ok(None)))
        };
        !self.parsed.is_empty() && chain.iter().any(is_named)
    }

    /// Asks, for a server's certificate that was verified otherwise, whether it, or one that it is signed by, was revoked. Where there
    /// are lists, there must be one of each issuer.
    ///
    /// # Errors
    /// It was, or nothing is known of it.
    pub fn check_server(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        roots: &RootCertStore,
        now: UnixTime,
        algorithms: &[&dyn rustls::pki_types::SignatureVerificationAlgorithm],
    ) -> Result<(), Error> {
        let all: Vec<&CertRevocationList<'_>> = self.parsed.iter().collect();
        // Without lists nothing is asked.
        let Ok(options) = RevocationOptionsBuilder::new(&all) else { return Ok(()) };
        let refused = |error: WebpkiError| {
            Error::InvalidCertificate(match error {
                WebpkiError::CertRevoked => CertificateError::Revoked,
                _ => CertificateError::UnknownRevocationStatus,
            })
        };
        let certificate = EndEntityCert::try_from(end_entity).map_err(refused)?;
        let usage = KeyUsage::server_auth();
        let checked = certificate.verify_for_usage(
            algorithms,
            &roots.roots,
            intermediates,
            now,
            usage,
            Some(options.build()),
            None,
        );
        checked.map(|_| ()).map_err(refused)
    }
}

/// Whether a list is by this CA's name, and of its key as far as both say which that is.
fn is_of(list: &CertificateRevocationListDer<'_>, ca: &X509Certificate<'_>) -> bool {
    let Ok((_, list)) = x509_parser::parse_x509_crl(list.as_ref()) else { return false };
    let signer = list.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    });
    let own = ca.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    });
    list.issuer().as_raw() == ca.subject().as_raw() && signer.zip(own).is_none_or(|(signer, own)| signer == own)
}

fn warn_of_age(list: &CertificateRevocationListDer<'_>, path: &Path) {
    let Ok((_, parsed)) = x509_parser::parse_x509_crl(list.as_ref()) else { return };
    let next_s = parsed.next_update().map(|next| next.timestamp());
    if next_s.is_some_and(|next_s| next_s < clock::wall_ms() / 1_000) {
        let path = path.display();
        tracing::warn!(%path, "a revocation list should have been replaced by now: what was revoked since is not known");
    }
}

/// How long the certificate that a connection began with is good.
#[derive(Debug)]
pub struct Validity {
    /// In ms since 1970; never where there is none.
    ends_ms: Option<i64>,
    chain: Arc<[CertificateDer<'static>]>,
    lists: watch::Receiver<Arc<Revocations>>,
}

impl Validity {
    /// Of a certificate and those that it is signed by, as they were shown; of none if it is empty.
    pub fn of(shown: &[CertificateDer<'static>], mut lists: watch::Receiver<Arc<Revocations>>) -> Self {
        // A list may have come since they were looked at.
        lists.mark_changed();
        Self { ends_ms: shown.first().and_then(ends_ms), chain: shown.into(), lists }
    }

    pub fn ends_ms(&self) -> Option<i64> {
        self.ends_ms
    }

    /// Returns once a certificate of the chain is revoked. May be given up and asked again.
    pub async fn revoked(&mut self) {
        while self.lists.changed().await.is_ok() {
            if self.lists.borrow_and_update().name_one_of(&self.chain) {
                return;
            }
        }
        std::future::pending().await
    }
}

/// Returns why the certificate that a connection began with is no longer good; while it is, or where there is none, never.
pub async fn over(validity: Option<Validity>) -> &'static str {
    let Some(mut validity) = validity else { return std::future::pending().await };
    let ends_ms = validity.ends_ms;
    tokio::select! {
        biased;
        () = validity.revoked() => "its certificate was revoked",
        () = ended(ends_ms) => "its certificate has ended",
    }
}

fn ends_ms(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate.as_ref()).ok()?;
    parsed.validity().not_after.timestamp().checked_mul(1_000)
}

/// Returns when something ends, in ms since 1970; never if it does not.
pub async fn ended(ends_ms: Option<i64>) {
    match ends_ms {
        // It is looked at again now and then: clocks are set.
        Some(ends_ms) => {
            while let Some(left) = u64::try_from(ends_ms - clock::wall_ms()).ok().filter(|left| *left > 0) {
                tokio::time::sleep(Duration::from_millis(left.min(60_000))).await;
            }
        }
        None => std::future::pending().await,
    }
}
