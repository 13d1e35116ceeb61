//! `weir certs`: a CA on this machine, to try TLS with.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use service::tls::TlsFiles;
use service::trust::{NODE_URI, Role};
use x509_parser::extensions::ParsedExtension;
use x509_parser::pem::parse_x509_pem;
use x509_parser::{parse_x509_certificate, parse_x509_crl};

use crate::output::Failure;

/// The CA's certificate.
pub const CA: &str = "ca.pem";
const CA_KEY: &str = "ca-key.pem";
/// Those that `weir up` makes for itself are made anew when they are so old.
const RENEWED_AFTER: Duration = Duration::from_secs(600 * 24 * 3_600);
/// Of the CA that signs for services alone, and of those.
const INTERNAL_CA: &str = "internal-ca.pem";
const INTERNAL_CA_KEY: &str = "internal-ca-key.pem";
const INTERNAL: [(&str, Role); 3] =
    [("placement", Role::Placement), ("gateway", Role::Gateway), ("operator", Role::Operator)];
const CRL: &str = "crl.pem";
const INTERNAL_CRL: &str = "internal-crl.pem";
/// Each CA with its key and its list.
const CAS: [(&str, &str, &str); 2] = [(CA, CA_KEY, CRL), (INTERNAL_CA, INTERNAL_CA_KEY, INTERNAL_CRL)];
/// A list is warned of that was not written anew in this time.
const LIST_LIFE: Duration = Duration::from_secs(700 * 24 * 3_600);
const HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

pub fn dev(dir: &Path, hosts: &[String], nodes: &[String]) -> Result<(), Failure> {
    let all: Vec<String> = HOSTS.iter().map(|host| (*host).to_owned()).chain(hosts.iter().cloned()).collect();
    let is_there = |name: &str| dir.join(name).exists();
    let new = CAS.map(|(ca, ..)| !is_there(ca));
    make(dir, all)?;
    println!("CA           {}", dir.join(CA).display());
    for (name, what) in [("server", "server"), ("client", "client")] {
        let (cert, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}-key.pem")));
        println!("{what:12} {}, key {}", cert.display(), key.display());
    }
    let services = make_internal(dir, nodes)?;
    println!("services     CA {}", dir.join(INTERNAL_CA).display());
    for name in services {
        println!(
            "{:12} {}",
            name.trim_start_matches("storage-node-"),
            dir.join(format!("internal-{name}.pem")).display()
        );
    }
    for ((ca, key, list), is_new) in CAS.into_iter().zip(new) {
        // A list is of one CA: a new one begins anew.
        if is_new || !is_there(list) {
            write_list(dir, ca, key, list, Vec::new()).map_err(|error| failed(dir, &*error))?;
        }
        println!("revoked      {}", dir.join(list).display());
    }
    Ok(())
}

/// Puts a certificate on the list of the CA that signed it.
pub fn revoke(dir: &Path, cert: &Path) -> Result<(), Failure> {
    // As it stands, or in that folder.
    let path = if cert.exists() { cert.to_owned() } else { dir.join(cert) };
    let certificate = read_certificate(&path).map_err(|error| failed(&path, &*error))?;
    for (ca, key, list) in CAS {
        let at = dir.join(ca);
        if !at.exists() || !read_certificate(&at).map_err(|error| failed(&at, &*error))?.has_signed(&certificate) {
            continue;
        }
        let at = dir.join(list);
        let mut revoked = read_list(&at).map_err(|error| failed(&at, &*error))?;
        if revoked.iter().all(|known| known.serial_number.as_ref() != certificate.serial) {
            revoked.push(revoked_now(certificate.serial));
        }
        let count = revoked.len();
        write_list(dir, ca, key, list, revoked).map_err(|error| failed(dir, &*error))?;
        println!("`{}` is revoked: {}, {count} in all", path.display(), at.display());
        return Ok(());
    }
    Err(failed(&path, &format!("no CA in `{}` signed it", dir.display())))
}

fn failed(path: &Path, error: &(impl std::fmt::Display + ?Sized)) -> Failure {
    Failure::failed(format!("`{}`: {error}", path.display()))
}

fn revoked_now(serial: Vec<u8>) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: SystemTime::now().into(),
        reason_code: None,
        invalidity_date: None,
    }
}

/// What says who signed a certificate.
struct Read {
    subject: Vec<u8>,
    issuer: Vec<u8>,
    serial: Vec<u8>,
    /// Of its key, and of the one that signed it.
    key: Option<Vec<u8>>,
    signer: Option<Vec<u8>>,
}

impl Read {
    fn has_signed(&self, other: &Self) -> bool {
        // Itself it has signed as well, and its key is no leaf's.
        let is_same_key = self.key.is_some() && self.key == other.signer && self.key != other.key;
        self.subject == other.issuer && is_same_key
    }
}

fn read_certificate(path: &Path) -> Made<Read> {
    let text = fs::read(path)?;
    let (_, pem) = parse_x509_pem(&text).map_err(|_| "it is not PEM")?;
    let (_, certificate) = parse_x509_certificate(&pem.contents).map_err(|_| "it is no certificate")?;
    let mut read = Read {
        subject: certificate.subject().as_raw().to_vec(),
        issuer: certificate.issuer().as_raw().to_vec(),
        serial: certificate.raw_serial().to_vec(),
        key: None,
        signer: None,
    };
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => read.key = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                read.signer = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            _ => {}
        }
    }
    Ok(read)
}

/// Whom a list names. One that is gone is not begun anew: what was on it would be good again.
fn read_list(path: &Path) -> Made<Vec<RevokedCertParams>> {
    let text = fs::read(path)?;
    let (_, pem) = parse_x509_pem(&text).map_err(|_| "it is not PEM")?;
    let (_, list) = parse_x509_crl(&pem.contents).map_err(|_| "it is no revocation list")?;
    let revoked = list.iter_revoked_certificates().map(|known| RevokedCertParams {
        revocation_time: known.revocation_date.to_datetime(),
        ..revoked_now(known.raw_serial().to_vec())
    });
    Ok(revoked.collect())
}

fn write_list(dir: &Path, ca: &str, key: &str, list: &str, revoked_certs: Vec<RevokedCertParams>) -> Made<()> {
    let at = [dir.join(ca), dir.join(key)];
    if let Some(missing) = at.iter().find(|path| !path.exists()) {
        return Err(format!("`{}` is needed to sign a list", missing.display()).into());
    }
    let issuer = ca_of(dir, ca, key, "")?;
    let now = SystemTime::now();
    let params = CertificateRevocationListParams {
        this_update: now.into(),
        next_update: (now + LIST_LIFE).into(),
        crl_number: now.duration_since(SystemTime::UNIX_EPOCH)?.as_secs().into(),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(write(&dir.join(list), &params.signed_by(&issuer)?.pem()?, 0o644)?)
}

/// Certificates of `weir up`: those that are there, or new ones.
pub fn for_development(dir: &Path) -> Result<TlsFiles, Failure> {
    let (cert, key) = (dir.join("server.pem"), dir.join("server-key.pem"));
    let files = TlsFiles { cert, key, client_ca: None, client_crl: None };
    let is_old = |path: &Path| {
        let age = fs::metadata(path).and_then(|file| file.modified()).ok().and_then(|at| at.elapsed().ok());
        age.is_none_or(|age| age > RENEWED_AFTER)
    };
    if is_old(&files.cert) || !files.key.exists() {
        make(dir, HOSTS.iter().map(|host| (*host).to_owned()).collect())?;
    }
    Ok(files)
}

fn make(dir: &Path, hosts: Vec<String>) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("`{}`: {error}", dir.display()));
    fs::create_dir_all(dir).map_err(|error| failed(&error))?;
    let is_there = |name: &str| dir.join(name).exists();
    if !is_there(CA_KEY) && [CA, "server.pem", "server-key.pem", "client-key.pem"].iter().any(|name| is_there(name)) {
        let reason =
            format!("there are certificates that this command did not make (no {CA_KEY}): take another folder");
        return Err(failed(&reason));
    }
    let issuer = ca_of(dir, CA, CA_KEY, "Weir development CA").map_err(|error| failed(&error))?;
    let names = params(hosts, "").map_err(|error| failed(&error))?.subject_alt_names;
    let server = leaf(dir, "server", names, vec![ExtendedKeyUsagePurpose::ServerAuth], &issuer);
    server.map_err(|error| failed(&error))?;
    let client = leaf(dir, "client", Vec::new(), vec![ExtendedKeyUsagePurpose::ClientAuth], &issuer);
    client.map_err(|error| failed(&error))
}

/// Certificates of services, by a CA of their own; what they are called.
fn make_internal(dir: &Path, nodes: &[String]) -> Result<Vec<String>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("`{}`: {error}", dir.display()));
    if dir.join(INTERNAL_CA).exists() && !dir.join(INTERNAL_CA_KEY).exists() {
        let reason =
            format!("{INTERNAL_CA} is there without its key, {INTERNAL_CA_KEY}: put that back, or take another folder");
        return Err(failed(&reason));
    }
    let issuer = ca_of(dir, INTERNAL_CA, INTERNAL_CA_KEY, "Weir development CA of services");
    let issuer = issuer.map_err(|error| failed(&error))?;
    let mut all: Vec<(String, Vec<String>)> =
        INTERNAL.iter().map(|(name, role)| ((*name).to_owned(), vec![role.uri().to_owned()])).collect();
    let uris = |node: &String| vec![Role::StorageNode.uri().to_owned(), format!("{NODE_URI}{node}")];
    all.extend(nodes.iter().map(|node| (format!("storage-node-{node}"), uris(node))));
    for (name, uris) in &all {
        let purposes = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let uris: Result<Vec<SanType>, rcgen::Error> =
            uris.iter().map(|uri| uri.as_str().try_into().map(SanType::URI)).collect();
        let names = uris.map_err(|error| failed(&error))?;
        leaf(dir, &format!("internal-{name}"), names, purposes, &issuer).map_err(|error| failed(&error))?;
    }
    Ok(all.into_iter().map(|(name, _)| name).collect())
}

type Made<T> = Result<T, Box<dyn std::error::Error>>;

/// The CA that is there, or a new one.
fn ca_of(dir: &Path, cert: &str, key: &str, name: &str) -> Made<Issuer<'static, KeyPair>> {
    let (cert, key) = (dir.join(cert), dir.join(key));
    if cert.exists() && key.exists() {
        let key = KeyPair::from_pem(&fs::read_to_string(&key)?)?;
        return Ok(Issuer::from_ca_cert_pem(&fs::read_to_string(&cert)?, key)?);
    }
    let mut params = params(Vec::new(), name)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let pair = KeyPair::generate()?;
    write(&cert, &params.self_signed(&pair)?.pem(), 0o644)?;
    write(&key, &pair.serialize_pem(), 0o600)?;
    Ok(Issuer::new(params, pair))
}

fn leaf(
    dir: &Path,
    name: &str,
    names: Vec<SanType>,
    purposes: Vec<ExtendedKeyUsagePurpose>,
    issuer: &Issuer<'static, KeyPair>,
) -> Made<()> {
    let mut params = params(Vec::new(), &format!("Weir development {name}"))?;
    params.subject_alt_names = names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = purposes;
    params.use_authority_key_identifier_extension = true;
    let pair = KeyPair::generate()?;
    let certificate = params.signed_by(&pair, issuer)?;
    // The key first: whoever follows the files looks again until both belong together.
    write(&dir.join(format!("{name}-key.pem")), &pair.serialize_pem(), 0o600)?;
    write(&dir.join(format!("{name}.pem")), &certificate.pem(), 0o644)?;
    Ok(())
}

fn params(hosts: Vec<String>, name: &str) -> Made<CertificateParams> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, name);
    // Some clients refuse what is valid for more than 825 days.
    let (now, day) = (SystemTime::now(), Duration::from_secs(24 * 3_600));
    params.not_before = (now - day).into();
    params.not_after = (now + 700 * day).into();
    Ok(params)
}

/// Written whole or not at all; keys are for their owner alone.
fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    use std::io::Write as _;
    let new = path.with_extension("new");
    // Nobody else's file, or link, is written to.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}
