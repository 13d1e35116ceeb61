//! Credentials of commands, and requests signed with them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use hyper::Uri;
use identity::request::{Authorization, Request, SERVICE};
use identity::sigv4::{Scope, SigningKey, day, hex, sha256, time};
use serde::Deserialize;
use service::{clock, random};

use crate::cli::Credentials as Options;
use crate::output::Failure;

/// The region of signatures, where none is named.
const REGION: &str = "us-east-1";

/// An access key with its secret.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    access_key_id: String,
    secret_access_key: String,
    #[serde(default)]
    session_token: Option<String>,
    #[serde(default)]
    region: Option<String>,
}

impl Credentials {
    /// From the environment, else from the profile; `None` where neither is there.
    ///
    /// # Errors
    /// The profile that was asked for cannot be read.
    pub fn find(options: &Options) -> Result<Option<Self>, Failure> {
        let of = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let (Some(access_key_id), Some(secret_access_key)) = (of("WEIR_ACCESS_KEY_ID"), of("WEIR_SECRET_ACCESS_KEY"))
            && options.profile.is_none()
        {
            let (session_token, region) = (of("WEIR_SESSION_TOKEN"), of("WEIR_REGION"));
            return Ok(Some(Self { access_key_id, secret_access_key, session_token, region }));
        }
        let Some(profile) = &options.profile else { return Ok(None) };
        let file =
            options.credentials.clone().or_else(default_file).ok_or_else(|| Failure::usage("HOME is not set"))?;
        let place = file.display();
        let text = std::fs::read_to_string(&file).map_err(|error| Failure::usage(format!("`{place}`: {error}")))?;
        let mut profiles: BTreeMap<String, Self> =
            toml::from_str(&text).map_err(|error| Failure::usage(format!("`{place}`: {}", error.message())))?;
        let absent = || Failure::usage(format!("`{place}` has no profile `{profile}`"));
        profiles.remove(profile).map(Some).ok_or_else(absent)
    }

    fn scope(&self, now_s: i64) -> Scope {
        Scope {
            key_id: self.access_key_id.clone(),
            date: day(now_s),
            region: self.region.clone().unwrap_or_else(|| REGION.to_owned()),
            service: SERVICE.to_owned(),
        }
    }

    /// What logs in to Kafka at this host, by `AWS_MSK_IAM`.
    pub fn msk_payload(&self, host: &str) -> String {
        let now_s = clock::wall_ms() / 1_000;
        let (scope, token) = (self.scope(now_s), self.session_token.as_deref());
        identity::msk::sign(&self.secret_access_key, &scope, token, host, "weir", now_s)
    }

    /// The headers that make a request this caller's.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn sign(
        &self,
        method: &str,
        uri: &Uri,
        headers: &[(&str, &str)],
        body: &Bytes,
    ) -> Result<Vec<(&'static str, String)>, Failure> {
        let now_s = clock::wall_ms() / 1_000;
        let (at, host) = (time(now_s), host(uri));
        // Two equal requests of one second would have one signature, and be taken for one that was sent twice.
        let nonce = format!("{:032x}", random::wide());
        let scope = self.scope(now_s);
        let mut signed: Vec<(&str, &str)> = headers.to_vec();
        signed.extend([("host", host.as_str()), ("weir-nonce", nonce.as_str()), ("x-amz-date", at.as_str())]);
        signed.extend(self.session_token.as_deref().map(|token| ("x-amz-security-token", token)));
        let body_sha256 = hex(&sha256(body));
        let (path, query) = (uri.path(), uri.query().unwrap_or_default());
        let request = Request { method, path, query, headers: &signed, body_sha256: &body_sha256 };
        let key = SigningKey::derive(&self.secret_access_key, &scope);
        let value = Authorization::sign(&request, &key, &scope, &at)
            .map_err(|refused| Failure::usage(format!("the request cannot be signed: {refused:?}")))?;
        let mut added = vec![("x-amz-date", at.clone()), ("authorization", value), ("weir-nonce", nonce.clone())];
        added.extend(self.session_token.clone().map(|token| ("x-amz-security-token", token)));
        Ok(added)
    }
}

/// As the request will name it: without the port that goes without saying.
fn host(uri: &Uri) -> String {
    let port = match (uri.scheme_str(), uri.port_u16()) {
        (Some("http"), Some(80)) | (Some("https"), Some(443)) | (_, None) => String::new(),
        (_, Some(port)) => format!(":{port}"),
    };
    format!("{}{port}", uri.host().unwrap_or_default())
}

fn default_file() -> Option<PathBuf> {
    Some(PathBuf::from(std::env::var_os("HOME")?).join(".weir/credentials.toml"))
}
