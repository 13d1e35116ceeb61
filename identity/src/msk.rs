//! How clients of Amazon MSK prove who they are: the payload of `AWS_MSK_IAM` and the token of the `aws-msk-iam-sasl-signer`s. Both
//! are presigned requests of `kafka-cluster:Connect`.
//!
//! Pure: who looks up keys and knows the time gives both. What a client is told does not depend on what was wrong; the log has
//! [`Refused`].

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::Refused;
use crate::sigv4::{ALGORITHM, Scope, SigningKey, canonical_get, decode, seconds, time};

const ACTION: &str = "kafka-cluster:Connect";
const SERVICE: &str = "kafka-cluster";
const VERSION: &str = "2020_10_22";
/// A payload has at most so many bytes; session tokens are some 2 KB.
const PAYLOAD_BYTES_MAX: usize = 16 * 1024;
/// Whatever a client asks for: signatures are valid for no longer, in seconds.
const EXPIRES_MAX_S: i64 = 900;
/// How far a client's clock may be ahead, in seconds.
const SKEW_S: i64 = 300;

/// A proof whose form is right; its signature is still to be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    pub scope: Scope,
    /// The session token, for temporary credentials.
    pub token: Option<String>,
    /// What the client calls itself; not signed.
    pub user_agent: Option<String>,
    time: String,
    host: String,
    expires: String,
}

/// The JSON of `AWS_MSK_IAM`. Unknown keys are ignored, a key that is there twice is refused.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Payload {
    version: String,
    host: String,
    action: String,
    x_amz_algorithm: String,
    x_amz_credential: String,
    x_amz_date: String,
    x_amz_signedheaders: String,
    x_amz_expires: String,
    x_amz_signature: String,
    #[serde(default)]
    x_amz_security_token: Option<String>,
    #[serde(default)]
    user_agent: Option<String>,
}

/// A proof and the signature that is said to be its own.
pub type Signed = (Proof, String);

/// The payload of a client that has this key; `scope` is of the day of `now_s`.
pub fn sign(secret: &str, scope: &Scope, token: Option<&str>, host: &str, user_agent: &str, now_s: i64) -> String {
    let (credential, at, expires) = (scope.credential(), time(now_s), EXPIRES_MAX_S.to_string());
    let mut parameters = vec![
        ("Action", ACTION),
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", &credential),
        ("X-Amz-Date", &at),
        ("X-Amz-Expires", &expires),
        ("X-Amz-SignedHeaders", "host"),
    ];
    parameters.extend(token.map(|token| ("X-Amz-Security-Token", token)));
    let signature = SigningKey::derive(secret, scope).sign(scope, &at, &canonical_get(host, &parameters));
    let mut payload = serde_json::json!({
        "version": VERSION, "host": host, "user-agent": user_agent, "action": ACTION, "x-amz-algorithm": ALGORITHM,
        "x-amz-credential": credential, "x-amz-date": at, "x-amz-signedheaders": "host", "x-amz-expires": expires,
        "x-amz-signature": signature,
    });
    if let Some(token) = token {
        payload["x-amz-security-token"] = token.into();
    }
    payload.to_string()
}

/// Reads the payload of `AWS_MSK_IAM`; `is_ours` says of a host name whether clients reach this gateway by it.
pub fn payload(bytes: &[u8], is_ours: impl Fn(&str) -> bool) -> Result<Signed, Refused> {
    if bytes.len() > PAYLOAD_BYTES_MAX {
        return Err(Refused::Malformed("too long"));
    }
    let payload: Payload = serde_json::from_slice(bytes).map_err(|_| Refused::Malformed("JSON"))?;
    if payload.version != VERSION {
        return Err(Refused::Malformed("version"));
    }
    if !is_ours(payload.host.trim_end_matches('.')) {
        return Err(Refused::Elsewhere(payload.host));
    }
    let proof = Proof::new(Fields {
        action: &payload.action,
        algorithm: &payload.x_amz_algorithm,
        credential: &payload.x_amz_credential,
        date: &payload.x_amz_date,
        signed_headers: &payload.x_amz_signedheaders,
        expires: &payload.x_amz_expires,
        host: &payload.host,
        token: payload.x_amz_security_token,
        user_agent: payload.user_agent,
    })?;
    Ok((proof, payload.x_amz_signature))
}

/// Reads a token of the signers: base64 of a URL. Its host names a region, not a broker. `None` if it is no such token.
pub fn token(text: &str) -> Option<Result<Signed, Refused>> {
    let decoded = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
    let url = String::from_utf8(decoded).ok().filter(|url| url.starts_with("https://"))?;
    Some(if text.len() > PAYLOAD_BYTES_MAX { Err(Refused::Malformed("too long")) } else { from_url(&url) })
}

fn from_url(url: &str) -> Result<Signed, Refused> {
    let malformed = Refused::Malformed;
    if url.contains(['\r', '\n', '#', '@']) {
        return Err(malformed("URL"));
    }
    let rest = url.trim_start_matches("https://");
    let (place, query) = rest.split_once('?').ok_or(malformed("query"))?;
    // Java's handler leaves the slash out.
    let host = place.strip_suffix('/').unwrap_or(place);
    let mut known: std::collections::BTreeMap<&str, String> = std::collections::BTreeMap::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').ok_or(malformed("query"))?;
        // Go writes a space of this one as a plus.
        let value = if name == "User-Agent" { value.replace('+', " ") } else { value.to_owned() };
        if known.insert(name, decode(&value).ok_or(malformed("query"))?).is_some() {
            return Err(malformed("a parameter twice"));
        }
    }
    let mut take = |name: &'static str| known.remove(name);
    let signature = take("X-Amz-Signature").ok_or(malformed("signature"))?;
    let user_agent = take("User-Agent");
    let token = take("X-Amz-Security-Token");
    let mut need = |name: &'static str| take(name).ok_or(Refused::Malformed(name));
    let (action, algorithm, credential) = (need("Action")?, need("X-Amz-Algorithm")?, need("X-Amz-Credential")?);
    let (date, headers, expires) = (need("X-Amz-Date")?, need("X-Amz-SignedHeaders")?, need("X-Amz-Expires")?);
    // It would be signed, and could mean something.
    if !known.is_empty() {
        return Err(malformed("another parameter"));
    }
    let proof = Proof::new(Fields {
        action: &action,
        algorithm: &algorithm,
        credential: &credential,
        date: &date,
        signed_headers: &headers,
        expires: &expires,
        host,
        token,
        user_agent,
    })?;
    let region = &proof.scope.region;
    let hosts = [format!("kafka.{region}.amazonaws.com"), format!("kafka-serverless.{region}.amazonaws.com")];
    if !hosts.iter().any(|known| known == host) {
        return Err(Refused::Elsewhere(host.to_owned()));
    }
    Ok((proof, signature))
}

struct Fields<'a> {
    action: &'a str,
    algorithm: &'a str,
    credential: &'a str,
    date: &'a str,
    signed_headers: &'a str,
    expires: &'a str,
    host: &'a str,
    token: Option<String>,
    user_agent: Option<String>,
}

impl Proof {
    fn new(fields: Fields<'_>) -> Result<Self, Refused> {
        let malformed = Refused::Malformed;
        let scope = Scope::parse(fields.credential).ok_or(malformed("credential"))?;
        if fields.action != ACTION {
            return Err(malformed("action"));
        }
        if fields.algorithm != ALGORITHM || fields.signed_headers != "host" {
            return Err(malformed("algorithm"));
        }
        if scope.service != SERVICE {
            return Err(Refused::Elsewhere(scope.service));
        }
        if seconds(fields.date).is_none() || fields.date.get(..8) != Some(&scope.date) {
            return Err(malformed("date"));
        }
        expires_s(fields.expires).ok_or(malformed("expires"))?;
        Ok(Self {
            scope,
            token: fields.token,
            user_agent: fields.user_agent,
            time: fields.date.to_owned(),
            host: fields.host.to_owned(),
            expires: fields.expires.to_owned(),
        })
    }

    /// Whether it was signed by this key and is still valid at `now_s` (seconds since 1970).
    pub fn check(&self, signature: &str, key: &SigningKey, now_s: i64) -> Result<(), Refused> {
        let credential = format!(
            "{}/{}/{}/{}/aws4_request",
            self.scope.key_id, self.scope.date, self.scope.region, self.scope.service
        );
        let mut parameters = vec![
            ("Action", ACTION),
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", &*credential),
            ("X-Amz-Date", &*self.time),
            ("X-Amz-Expires", &*self.expires),
            ("X-Amz-SignedHeaders", "host"),
        ];
        parameters.extend(self.token.as_deref().map(|token| ("X-Amz-Security-Token", token)));
        let canonical = canonical_get(&self.host, &parameters);
        if !key.verify(&self.scope, &self.time, &canonical, signature) {
            return Err(Refused::WrongSignature);
        }
        let signed_s = seconds(&self.time).ok_or(Refused::Malformed("date"))?;
        let expires_s = expires_s(&self.expires).ok_or(Refused::Malformed("expires"))?;
        let is_valid = (signed_s - SKEW_S..=signed_s + expires_s.min(EXPIRES_MAX_S)).contains(&now_s);
        if is_valid { Ok(()) } else { Err(Refused::Expired) }
    }
}

/// Whole seconds, rounded down; JavaScript's signer writes fractions. None for what is not above 0.
fn expires_s(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: i64 = whole.parse().ok().filter(|_| digits(whole) && digits(fraction))?;
    (seconds > 0).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const SIGNED_S: i64 = 1_440_938_160;
    const SIGNATURE: &str = "ed89180b695288576101b626d3d902dbc8b3203d305ac29590e59adfc65ca9d9";

    fn json(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
        let mut payload = serde_json::json!({
            "version": "2020_10_22", "host": "gw-1.us-east-1.example", "user-agent": "test", "action": ACTION,
            "x-amz-algorithm": ALGORITHM, "x-amz-expires": "900", "x-amz-signedheaders": "host",
            "x-amz-credential": "AKIDEXAMPLE/20150830/us-east-1/kafka-cluster/aws4_request",
            "x-amz-date": "20150830T123600Z", "x-amz-signature": SIGNATURE, "more": "ignored",
        });
        change(&mut payload);
        payload.to_string().into_bytes()
    }

    fn take(bytes: &[u8], now_s: i64) -> Result<(), Refused> {
        let (proof, signature) = payload(bytes, |host| host.eq_ignore_ascii_case("gw-1.us-east-1.example"))?;
        proof.check(&signature, &SigningKey::derive(SECRET, &proof.scope), now_s)
    }

    #[test]
    fn a_known_payload_is_taken_while_it_is_valid() {
        for now_s in [SIGNED_S - SKEW_S, SIGNED_S, SIGNED_S + 900] {
            assert_eq!(take(&json(|_| {}), now_s), Ok(()));
        }
        for now_s in [SIGNED_S - SKEW_S - 1, SIGNED_S + 901] {
            assert_eq!(take(&json(|_| {}), now_s), Err(Refused::Expired));
        }
    }

    /// Who holds the secret can sign for as long as it likes, and is not believed for longer than MSK does.
    #[test]
    fn what_is_signed_for_longer_ends_all_the_same() {
        for (expires, ends) in [("604800", 900), ("901", 900), ("60", 60)] {
            let scope = Scope::parse("AKIDEXAMPLE/20150830/us-east-1/kafka-cluster/aws4_request").expect("a scope");
            let unsigned = json(|payload| payload["x-amz-expires"] = expires.into());
            let (proof, _) = payload(&unsigned, |_| true).expect("a payload");
            let key = SigningKey::derive(SECRET, &scope);
            let canonical = canonical_get(
                "gw-1.us-east-1.example",
                &[
                    ("Action", ACTION),
                    ("X-Amz-Algorithm", ALGORITHM),
                    ("X-Amz-Credential", &scope.credential()),
                    ("X-Amz-Date", "20150830T123600Z"),
                    ("X-Amz-Expires", expires),
                    ("X-Amz-SignedHeaders", "host"),
                ],
            );
            let signature = key.sign(&scope, "20150830T123600Z", &canonical);
            let taken = |now_s| proof.check(&signature, &key, now_s);
            assert_eq!([taken(SIGNED_S), taken(SIGNED_S + ends)], [Ok(()), Ok(())], "{expires}");
            assert_eq!(taken(SIGNED_S + ends + 1), Err(Refused::Expired), "{expires}");
        }
    }

    #[test]
    fn a_payload_that_differs_is_not() {
        for (key, value) in [
            ("version", "2020_10_23"),
            ("action", "kafka-cluster:ReadData"),
            ("x-amz-algorithm", "none"),
            ("x-amz-signedheaders", ""),
            ("x-amz-credential", "AKIDEXAMPLE/20150830/us-east-1/kafka/aws4_request"),
            ("x-amz-credential", "AKIDEXAMPLE/20150831/us-east-1/kafka-cluster/aws4_request"),
            ("x-amz-date", "20150830T123601Z"),
            ("x-amz-expires", "901"),
            ("x-amz-expires", "0"),
            ("x-amz-expires", "-1"),
            ("x-amz-signature", &SIGNATURE.replace('e', "f")),
            ("x-amz-security-token", "token"),
            ("host", "gw-2.us-east-1.example"),
            // The name is compared without regard to case, but it is what was signed.
            ("host", "GW-1.us-east-1.example"),
        ] {
            assert!(take(&json(|payload| payload[key] = value.into()), SIGNED_S).is_err(), "{key}: {value}");
        }
        let twice = String::from_utf8(json(|_| {})).expect("text").replacen('{', "{\"host\":\"x\",", 1);
        assert_eq!(take(twice.as_bytes(), SIGNED_S), Err(Refused::Malformed("JSON")));
    }

    #[test]
    fn a_payload_that_is_signed_for_another_host_is_not_ours() {
        let elsewhere = payload(&json(|_| {}), |host| host == "gw-2.us-east-1.example");
        assert_eq!(elsewhere.map(|_| ()), Err(Refused::Elsewhere("gw-1.us-east-1.example".to_owned())));
    }

    fn url(change: impl FnOnce(String) -> String) -> String {
        let signature = "c413a83bc64a339e31a5e5e9ed99d778ff843206b427540cafa5122c01e3e993";
        let url = format!(
            "https://kafka.us-east-1.amazonaws.com/?Action=kafka-cluster%3AConnect&X-Amz-Algorithm={ALGORITHM}\
             &X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Fkafka-cluster%2Faws4_request\
             &X-Amz-Date=20150830T123600Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature={signature}\
             &User-Agent=a+b%2Fc"
        );
        URL_SAFE_NO_PAD.encode(change(url))
    }

    fn take_token(text: &str, now_s: i64) -> Result<(), Refused> {
        let (proof, signature) = token(text).expect("of this kind")?;
        proof.check(&signature, &SigningKey::derive(SECRET, &proof.scope), now_s)
    }

    #[test]
    fn tokens_of_the_signers_are_taken_in_whatever_order() {
        assert_eq!(take_token(&url(|url| url), SIGNED_S + 900), Ok(()));
        assert_eq!(take_token(&url(|url| url), SIGNED_S + 901), Err(Refused::Expired));
        assert_eq!(
            take_token(&url(|url| url.replace(".com/?", ".com?")), SIGNED_S),
            Ok(()),
            "Java leaves the slash out"
        );
        let moved = url(|url| url.replace("Action=kafka-cluster%3AConnect&", "") + "&Action=kafka-cluster%3AConnect");
        assert_eq!(take_token(&moved, SIGNED_S), Ok(()));
        for (from, to) in [
            ("kafka.us-east-1.amazonaws.com", "kafka.eu-west-1.amazonaws.com"),
            ("kafka.us-east-1.amazonaws.com", "example.com"),
            ("Expires=900", "Expires=604800"),
            ("Action=kafka-cluster%3AConnect", "Action=kafka-cluster%3AReadData"),
            ("&X-Amz-SignedHeaders=host", ""),
            ("X-Amz-Date=", "X-Amz-Date=20150830T123600Z&X-Amz-Date="),
            ("&User-Agent", "&Other=1&User-Agent"),
            ("%3A", "%3"),
            ("&User-Agent", "#&User-Agent"),
        ] {
            assert!(take_token(&url(|url| url.replace(from, to)), SIGNED_S).is_err(), "{from} for {to}");
        }
        assert!(token("eyJhbGciOiJub25lIn0.e30.").is_none() && token("").is_none());
    }

    #[test]
    fn lifetimes_have_fractions_in_javascript() {
        assert_eq!(
            [expires_s("431.237"), expires_s("900"), expires_s("0.5"), expires_s("-5")],
            [Some(431), Some(900), None, None]
        );
        assert_eq!([expires_s(""), expires_s("1e3"), expires_s("9.x"), expires_s("+9")], [None; 4]);
    }
}
