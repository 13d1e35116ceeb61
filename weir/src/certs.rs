//! `weir certs dev`: a CA on this machine, to try TLS with.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use service::tls::TlsFiles;
use service::trust::Role;

use crate::output::Failure;

/// The CA's certificate.
pub const CA: &str = "ca.pem";
const CA_KEY: &str = "ca-key.pem";
/// Those that `weir up` makes for itself are made anew when they are so old.
const RENEWED_AFTER: Duration = Duration::from_secs(600 * 24 * 3_600);
/// Of the CA that signs for services alone, and of those.
const INTERNAL_CA: &str = "internal-ca.pem";
const INTERNAL_CA_KEY: &str = "internal-ca-key.pem";
const INTERNAL: [(&str, Role); 4] = [
    ("placement", Role::Placement),
    ("gateway", Role::Gateway),
    ("storage-node", Role::StorageNode),
    ("operator", Role::Operator),
];
const HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

pub fn dev(dir: &Path, hosts: &[String]) -> Result<(), Failure> {
    let all: Vec<String> = HOSTS.iter().map(|host| (*host).to_owned()).chain(hosts.iter().cloned()).collect();
    make(dir, all)?;
    println!("CA           {}", dir.join(CA).display());
    for (name, what) in [("server", "server"), ("client", "client")] {
        let (cert, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}-key.pem")));
        println!("{what:12} {}, key {}", cert.display(), key.display());
    }
    make_internal(dir)?;
    println!("services     CA {}", dir.join(INTERNAL_CA).display());
    for (name, _) in INTERNAL {
        println!("{name:12} {}", dir.join(format!("internal-{name}.pem")).display());
    }
    Ok(())
}

/// Certificates of `weir up`: those that are there, or new ones.
pub fn for_development(dir: &Path) -> Result<TlsFiles, Failure> {
    let files = TlsFiles { cert: dir.join("server.pem"), key: dir.join("server-key.pem"), client_ca: None };
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

/// Certificates of services, by a CA of their own.
fn make_internal(dir: &Path) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("`{}`: {error}", dir.display()));
    let issuer = ca_of(dir, INTERNAL_CA, INTERNAL_CA_KEY, "Weir development CA of services");
    let issuer = issuer.map_err(|error| failed(&error))?;
    for (name, role) in INTERNAL {
        let purposes = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let uri = role.uri().try_into().map(SanType::URI).map_err(|error: rcgen::Error| failed(&error))?;
        leaf(dir, &format!("internal-{name}"), vec![uri], purposes, &issuer).map_err(|error| failed(&error))?;
    }
    Ok(())
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
