//! AWS Signature Version 4, as a verifier: canonical requests and signatures, without I/O and without a clock.
//!
//! "Create a signed AWS API request", IAM user guide. Only what a gateway needs: it holds signing keys that were derived for one
//! day, region and service, never a secret that lasts.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};

use crate::secret::Secret;

/// `X-Amz-Algorithm`.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The hash of no body.
pub const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What a signing key is of: `{key id}/{date}/{region}/{service}/aws4_request`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub key_id: String,
    /// `yyyyMMdd`.
    pub date: String,
    pub region: String,
    pub service: String,
}

impl Scope {
    /// `None` unless it has these five parts.
    pub fn parse(credential: &str) -> Option<Self> {
        let parts: Vec<&str> = credential.split('/').collect();
        let [key_id, date, region, service, "aws4_request"] = parts[..] else { return None };
        let is_date = date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
        let is_whole = is_date && ![key_id, region, service].contains(&"");
        is_whole.then(|| Self {
            key_id: key_id.to_owned(),
            date: date.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
        })
    }

    /// As it was parsed.
    pub fn credential(&self) -> String {
        format!("{}/{}", self.key_id, self.text())
    }

    fn text(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.date, self.region, self.service)
    }
}

/// A key that signs for one day, region and service.
#[derive(Clone)]
pub struct SigningKey([u8; 32]);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl SigningKey {
    /// From a secret access key.
    pub fn derive(secret: &str, scope: &Scope) -> Self {
        let mut key = format!("AWS4{secret}").into_bytes();
        for part in [&*scope.date, &*scope.region, &*scope.service, "aws4_request"] {
            key = hmac(&key, part.as_bytes()).to_vec();
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(&key);
        Self(bytes)
    }

    pub fn from_hex(text: &str) -> Option<Self> {
        unhex(text).map(Self)
    }

    /// For who keeps it where nobody else reads it.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// The signature of a canonical request, in hexadecimal.
    pub fn sign(&self, scope: &Scope, time: &str, canonical: &str) -> String {
        hex(&self.signature(scope, time, canonical))
    }

    fn signature(&self, scope: &Scope, time: &str, canonical: &str) -> [u8; 32] {
        let text = format!("{ALGORITHM}\n{time}\n{}\n{}", scope.text(), hex(&sha256(canonical.as_bytes())));
        hmac(&self.0, text.as_bytes())
    }

    /// Whether `signature` (64 hexadecimal digits) is of this canonical request at this time (`yyyyMMddTHHmmssZ`). As long for
    /// a wrong one as for a right one.
    pub fn verify(&self, scope: &Scope, time: &str, canonical: &str, signature: &str) -> bool {
        let expected = Secret::new(self.signature(scope, time, canonical));
        let given = unhex(signature);
        expected.is(&given.unwrap_or([0; 32])) && given.is_some()
    }
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let tag = sign(&Key::new(HMAC_SHA256, key), text);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether it is 64 digits of lower-case hexadecimal.
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if !is_digest(text) {
        return None;
    }
    let mut out = [0; 32];
    for (byte, at) in out.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(out)
}

/// As a canonical request has it: all but `A-Z a-z 0-9 - . _ ~` in upper-case hexadecimal.
pub fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The canonical request of a presigned GET of `/`: parameters are encoded and sorted here, `host` is the only signed header,
/// and there is no body.
pub fn canonical_get(host: &str, parameters: &[(&str, &str)]) -> String {
    let mut pairs: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.sort_unstable();
    format!("GET\n/\n{}\nhost:{host}\n\nhost\n{EMPTY_SHA256}", pairs.join("&"))
}

/// `yyyyMMddTHHmmssZ` as seconds since 1970.
pub fn seconds(text: &str) -> Option<i64> {
    if text.len() != 16 || !text.is_ascii() || &text[8..9] != "T" || &text[15..] != "Z" {
        return None;
    }
    let iso =
        format!("{}-{}-{}T{}:{}:{}Z", &text[..4], &text[4..6], &text[6..8], &text[9..11], &text[11..13], &text[13..15]);
    iso.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

/// The day, as `yyyyMMdd`, of a time in seconds since 1970; empty beyond the years that have four digits.
pub fn day(at_s: i64) -> String {
    time(at_s).get(..8).unwrap_or_default().to_owned()
}

/// A time in seconds since 1970 as `yyyyMMddTHHmmssZ`.
pub fn time(at_s: i64) -> String {
    let iso = jiff::Timestamp::from_second(at_s).map(|at| at.to_string()).unwrap_or_default();
    iso.replace(['-', ':'], "")
}

/// Percent-decoded; `None` for what is not encoded rightly, or no UTF-8.
pub fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const TIME: &str = "20150830T123600Z";

    fn scope() -> Scope {
        Scope::parse("AKIDEXAMPLE/20150830/us-east-1/kafka-cluster/aws4_request").expect("a scope")
    }

    fn parameters<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let all = [
            ("X-Amz-SignedHeaders", "host"),
            ("Action", "kafka-cluster:Connect"),
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", "AKIDEXAMPLE/20150830/us-east-1/kafka-cluster/aws4_request"),
            ("X-Amz-Date", TIME),
            ("X-Amz-Expires", "900"),
        ];
        [&all, more].concat()
    }

    #[test]
    fn known_signatures_are_verified_and_others_are_not() {
        let key = SigningKey::derive(SECRET, &scope());
        assert_eq!(hex(&key.0), "ac9152053a551c2cd58cc5dc0ff36fd380ef2961980c92252807285bebe503f2");
        for (host, more, canonical_hash, signature) in [
            (
                "gw-1.us-east-1.example",
                &[] as &[(&str, &str)],
                "b33d52798196e93924a112e50fddd7ae52b1e6dbe6985b1ceff6276f2733424e",
                "ed89180b695288576101b626d3d902dbc8b3203d305ac29590e59adfc65ca9d9",
            ),
            (
                "gw-1.us-east-1.example",
                &[("X-Amz-Security-Token", "AQoD/+==")],
                "002e4b2b716a63487bd181d17bdb75e7ba1366d81111155ce2099d4cc2804772",
                "47f34744850499149b586fad225d9aa079d1fbfb02001c468cc820cc82ec5747",
            ),
            (
                "kafka.us-east-1.amazonaws.com",
                &[],
                "7635d1bdd51efe97d121d76cb9ef7c6bd4ccffa35279b33485e89ca4e8df187a",
                "c413a83bc64a339e31a5e5e9ed99d778ff843206b427540cafa5122c01e3e993",
            ),
        ] {
            let canonical = canonical_get(host, &parameters(more));
            assert_eq!(hex(&sha256(canonical.as_bytes())), canonical_hash);
            assert!(key.verify(&scope(), TIME, &canonical, signature));
            assert!(!key.verify(&scope(), "20150830T123601Z", &canonical, signature));
            assert!(!key.verify(&scope(), TIME, &canonical, &signature.to_uppercase()));
            assert!(!key.verify(&scope(), TIME, &canonical, &signature[..62]));
            let other = SigningKey::derive("another", &scope());
            assert!(!other.verify(&scope(), TIME, &canonical, signature));
        }
    }

    #[test]
    fn times_are_written_as_they_are_read() {
        assert_eq!((time(1_440_938_160), day(1_440_938_160)), (TIME.to_owned(), "20150830".to_owned()));
        assert_eq!(seconds(TIME), Some(1_440_938_160));
        for wrong in ["", "20150830T123600", "20151330T123600Z", "2015083 T123600Z", "20150830 123600Z"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_scope_has_five_parts() {
        for wrong in [
            "",
            "a/b/c/d/aws4_request",
            "a/20150830/r/s/aws4",
            "/20150830/r/s/aws4_request",
            "a/b/20150830/r/s/aws4_request",
        ] {
            assert_eq!(Scope::parse(wrong), None, "{wrong}");
        }
    }
}
