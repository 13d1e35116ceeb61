//! HTTP requests signed with AWS Signature Version 4 in their `Authorization` header: verified by gateways, signed by tools.
//!
//! Paths are signed as most services of AWS have it (encoded once more); what SDKs do not agree on, `//`, `.` and `..` in a
//! path, is refused before anything is verified.

use crate::Refused;
use crate::sigv4::{ALGORITHM, Scope, SigningKey, encode, is_digest, seconds};

/// The service that requests to Weir's HTTP API are signed for.
pub const SERVICE: &str = "kafka-cluster";
/// How far a client's clock may be off, and how long a request can be replayed, in seconds.
pub const SKEW_S: i64 = 300;

/// A request as it came; names of headers in lower case, in the order of the request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    /// Still encoded.
    pub path: &'a str,
    /// Still encoded; empty if there is none.
    pub query: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    /// SHA-256 of the body, in hexadecimal.
    pub body_sha256: &'a str,
}

/// What an `Authorization` header of SigV4 says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    pub scope: Scope,
    signed_headers: Vec<String>,
    pub signature: String,
}

impl Authorization {
    /// `None` if it is of another kind; the parts may stand in any order.
    pub fn parse(value: &str) -> Option<Result<Self, Refused>> {
        let rest = value.strip_prefix(ALGORITHM)?;
        Some(Self::of_parts(rest.strip_prefix(' ').unwrap_or(rest)))
    }

    fn of_parts(text: &str) -> Result<Self, Refused> {
        let (mut credential, mut headers, mut signature) = (None, None, None);
        for part in text.split(',') {
            let (name, value) = part.trim().split_once('=').ok_or(Refused::Malformed("authorization"))?;
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut headers,
                "Signature" => &mut signature,
                _ => return Err(Refused::Malformed("authorization")),
            };
            if place.replace(value).is_some() {
                return Err(Refused::Malformed("authorization"));
            }
        }
        let scope = credential.and_then(Scope::parse).ok_or(Refused::Malformed("credential"))?;
        let headers = headers.ok_or(Refused::Malformed("signed headers"))?;
        let signature = signature.filter(|signature| is_digest(signature)).ok_or(Refused::Malformed("signature"))?;
        Ok(Self {
            scope,
            signed_headers: headers.split(';').map(str::to_owned).collect(),
            signature: signature.to_owned(),
        })
    }

    /// Whether the request was signed by this key, close to `now_s` (seconds since 1970), and everything that means something
    /// was signed with it.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn check(&self, request: &Request<'_>, key: &SigningKey, now_s: i64) -> Result<(), Refused> {
        if self.scope.service != SERVICE {
            return Err(Refused::Elsewhere(self.scope.service.clone()));
        }
        if !is_plain_path(request.path) {
            return Err(Refused::Malformed("path"));
        }
        // A plus to some, a space to others.
        if request.query.contains('+') {
            return Err(Refused::Malformed("query"));
        }
        let is_signed = |name: &str| self.signed_headers.iter().any(|signed| signed == name);
        let needs = |name: &str| {
            ["host", "content-type"].contains(&name) || name.starts_with("x-amz-") || name.starts_with("weir-")
        };
        if let Some((name, _)) = request.headers.iter().find(|(name, _)| needs(name) && !is_signed(name)) {
            return Err(Refused::Unsigned((*name).to_owned()));
        }
        let is_sorted = self.signed_headers.windows(2).all(|pair| pair[0] < pair[1]);
        if !is_sorted || !is_signed("host") || !is_signed("x-amz-date") {
            return Err(Refused::Malformed("signed headers"));
        }
        let date = single(request, "x-amz-date").ok_or(Refused::Malformed("date"))?;
        single(request, "host").ok_or(Refused::Malformed("host"))?;
        let signed_s = seconds(date).filter(|_| date.get(..8) == Some(&self.scope.date));
        let signed_s = signed_s.ok_or(Refused::Malformed("date"))?;
        if request.headers.iter().any(|(name, _)| *name == "x-amz-content-sha256")
            && single(request, "x-amz-content-sha256") != Some(request.body_sha256)
        {
            return Err(Refused::Malformed("hash of the body"));
        }
        let canonical = canonical(request, &self.signed_headers)?;
        if !key.verify(&self.scope, date, &canonical, &self.signature) {
            return Err(Refused::WrongSignature);
        }
        if (signed_s - SKEW_S..=signed_s + SKEW_S).contains(&now_s) { Ok(()) } else { Err(Refused::Expired) }
    }

    /// The value of the header for a request that carries `host` and `x-amz-date` among its headers; all of its headers are
    /// signed.
    ///
    /// # Errors
    /// The request cannot be signed: its query is not encoded.
    pub fn sign(request: &Request<'_>, key: &SigningKey, scope: &Scope, time: &str) -> Result<String, Refused> {
        let mut names: Vec<String> = request.headers.iter().map(|(name, _)| (*name).to_owned()).collect();
        names.sort_unstable();
        names.dedup();
        let signature = key.sign(scope, time, &canonical(request, &names)?);
        let (credential, names) = (scope.credential(), names.join(";"));
        Ok(format!("{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"))
    }
}

/// The value of a header that is there once.
fn single<'a>(request: &Request<'a>, wanted: &str) -> Option<&'a str> {
    let mut values = request.headers.iter().filter(|(name, _)| *name == wanted);
    let (first, more) = (values.next(), values.next());
    first.filter(|_| more.is_none()).map(|(_, value)| *value)
}

fn is_plain_path(path: &str) -> bool {
    let lower = path.to_ascii_lowercase().replace("%2e", ".");
    path.starts_with('/') && !lower.contains("//") && !lower.split('/').any(|part| part == "." || part == "..")
}

fn canonical(request: &Request<'_>, signed: &[String]) -> Result<String, Refused> {
    let path: Vec<String> = request.path.split('/').map(encode).collect();
    let mut pairs = Vec::new();
    for pair in request.query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = |text| crate::sigv4::decode(text).ok_or(Refused::Malformed("query"));
        pairs.push((encode(&decoded(name)?), encode(&decoded(value)?)));
    }
    pairs.sort_unstable();
    let query: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut headers = String::new();
    for name in signed {
        let values = request.headers.iter().filter(|(known, _)| known == name);
        let values: Vec<String> =
            values.map(|(_, value)| value.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        if values.is_empty() {
            return Err(Refused::Malformed("signed headers"));
        }
        headers.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    let (method, path, query) = (request.method, path.join("/"), query.join("&"));
    Ok(format!("{method}\n{path}\n{query}\n{headers}\n{}\n{}", signed.join(";"), request.body_sha256))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sigv4::{EMPTY_SHA256, hex, sha256};

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const TIME: &str = "20150830T123600Z";
    const NOW_S: i64 = 1_440_938_160;

    /// The suite of AWS ("aws-sig-v4-test-suite") signs for a service called `service`.
    fn suite_key(scope: &Scope) -> SigningKey {
        SigningKey::derive(SECRET, scope)
    }

    #[test]
    fn requests_of_awss_own_suite_have_its_signatures() {
        let scope = Scope::parse("AKIDEXAMPLE/20150830/us-east-1/service/aws4_request").expect("a scope");
        let headers = [("host", "example.amazonaws.com"), ("x-amz-date", TIME)];
        for (name, method, path, query, signature) in [
            ("get-vanilla", "GET", "/", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            (
                "get-vanilla-query-order-key-case",
                "GET",
                "/",
                "Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            ("post-vanilla", "POST", "/", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ] {
            let request = Request { method, path, query, headers: &headers, body_sha256: EMPTY_SHA256 };
            let value = Authorization::sign(&request, &suite_key(&scope), &scope, TIME).expect("signed");
            assert!(value.ends_with(&format!("Signature={signature}")), "{name}: {value}");
        }
    }

    /// As botocore signs them, which shares nothing with this code.
    #[test]
    fn paths_queries_and_headers_are_written_as_other_signers_write_them() {
        let plain = [("host", "example.amazonaws.com"), ("x-amz-date", TIME)];
        let more = [
            ("content-type", "application/json"),
            ("host", "example.amazonaws.com"),
            ("weir-nonce", "  a   b  c "),
            ("x-amz-date", TIME),
        ];
        let query = "offset=%40x&b=&a=2&a=1&A=%C3%A9&c";
        for (path, query, body, headers, signature) in [
            (
                "/v1/topics/a%20b",
                "",
                "",
                &plain[..],
                "65448528bcb55b1c90aa7100ea4872aa95fe4d39634b156d54ac736abffe6d0d",
            ),
            (
                "/v1/topics/%E1%88%B4",
                "",
                "",
                &plain,
                "a538e1b43fd422077f6e76ce4ee6cbdd57bf81cdc5a4fa1ae979c3c2d85d2326",
            ),
            ("/-._~0189azAZ", "", "", &plain, "658f939a2e4c566b313128d6e6f061cef52b50e665bca38fa284a91946943558"),
            (
                "/v1/topics/a%2Fb/records",
                query,
                "",
                &plain,
                "e516ad1c9101bcdc6dbe805f829c4b4f861ed01320f09fdefab112308642187d",
            ),
            (
                "/v1/topics",
                "",
                r#"{"name":"t"}"#,
                &more,
                "22a337ebccfda67bede7225b377528ecba3a7745d73daf22ccfede4cb7c2727a",
            ),
        ] {
            let method = if body.is_empty() { "GET" } else { "POST" };
            let body_sha256 = hex(&sha256(body.as_bytes()));
            let request = Request { method, path, query, headers, body_sha256: &body_sha256 };
            let key = SigningKey::derive(SECRET, &scope());
            let value = Authorization::sign(&request, &key, &scope(), TIME).expect("signed");
            assert!(value.ends_with(&format!("Signature={signature}")), "{path}: {value}");
            let authorization = Authorization::parse(&value).expect("of this kind").expect("whole");
            assert_eq!(authorization.check(&request, &key, NOW_S), Ok(()));
        }
    }

    /// What is signed well, and is not what must be signed.
    #[test]
    fn what_must_be_signed_is_and_for_this_service_and_day() {
        let key = |scope: &Scope| SigningKey::derive(SECRET, scope);
        // With a signature over what it names, whatever that is.
        let sign = |case: &Case, scope: &Scope, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let canonical = case.with(|request| canonical(request, &names)).expect("canonical");
            let signature = key(scope).sign(scope, TIME, &canonical);
            let (credential, names) = (scope.credential(), names.join(";"));
            let value = format!("{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}");
            Authorization::parse(&value).expect("of this kind")
        };
        let check = |authorization: Authorization, case: &Case| {
            let key = key(&authorization.scope);
            case.with(|request| authorization.check(request, &key, NOW_S))
        };
        let all = ["content-type", "host", "x-amz-date"];
        assert_eq!(check(sign(&Case::new(), &scope(), &all).expect("whole"), &Case::new()), Ok(()));
        for missing in all {
            let names: Vec<&str> = all.into_iter().filter(|name| *name != missing).collect();
            let refused = sign(&Case::new(), &scope(), &names).and_then(|signed| check(signed, &Case::new()));
            assert!(refused.is_err(), "without {missing}");
        }
        for names in [["host", "content-type", "x-amz-date"], ["content-type", "host", "host"]] {
            let refused = sign(&Case::new(), &scope(), &names).and_then(|signed| check(signed, &Case::new()));
            assert!(refused.is_err(), "{names:?}");
        }
        let twice = ["content-type", "host", "host", "x-amz-date"];
        assert!(sign(&Case::new(), &scope(), &twice).and_then(|signed| check(signed, &Case::new())).is_err());
        for other in [
            "AKIDEXAMPLE/20150830/us-east-1/s3/aws4_request",
            "AKIDEXAMPLE/20150831/us-east-1/kafka-cluster/aws4_request",
        ] {
            let other = Scope::parse(other).expect("a scope");
            let refused = sign(&Case::new(), &other, &all).and_then(|signed| check(signed, &Case::new()));
            assert!(refused.is_err(), "{other:?}");
        }
    }

    struct Case {
        headers: Vec<(&'static str, &'static str)>,
        path: &'static str,
        query: &'static str,
        body: &'static str,
    }

    impl Case {
        fn new() -> Self {
            let headers = vec![("content-type", "application/json"), ("host", "gw:8080"), ("x-amz-date", TIME)];
            Self { headers, path: "/v1/topics/a%20b", query: "b=2&a=%2F1", body: "{}" }
        }

        fn with<T>(&self, then: impl FnOnce(&Request<'_>) -> T) -> T {
            let body_sha256 = hex(&sha256(self.body.as_bytes()));
            let (headers, path, query) = (&*self.headers, self.path, self.query);
            then(&Request { method: "POST", path, query, headers, body_sha256: &body_sha256 })
        }
    }

    fn scope() -> Scope {
        Scope::parse("AKIDEXAMPLE/20150830/us-east-1/kafka-cluster/aws4_request").expect("a scope")
    }

    fn signed(case: &Case) -> Authorization {
        let key = SigningKey::derive(SECRET, &scope());
        let value = case.with(|request| Authorization::sign(request, &key, &scope(), TIME)).expect("signed");
        Authorization::parse(&value).expect("of this kind").expect("whole")
    }

    fn check(authorization: &Authorization, case: &Case, now_s: i64) -> Result<(), Refused> {
        case.with(|request| authorization.check(request, &SigningKey::derive(SECRET, &scope()), now_s))
    }

    #[test]
    fn what_was_signed_is_taken_and_nothing_else() {
        let authorization = signed(&Case::new());
        assert_eq!(check(&authorization, &Case::new(), NOW_S), Ok(()));
        for now_s in [NOW_S - SKEW_S - 1, NOW_S + SKEW_S + 1] {
            assert_eq!(check(&authorization, &Case::new(), now_s), Err(Refused::Expired));
        }
        for case in [
            Case { body: "{ }", ..Case::new() },
            Case { path: "/v1/topics/ab", ..Case::new() },
            Case { query: "b=2&a=%2F2", ..Case::new() },
            Case { query: "b=2", ..Case::new() },
            Case { headers: vec![("content-type", "x"), ("host", "gw:8080"), ("x-amz-date", TIME)], ..Case::new() },
            Case {
                headers: vec![("content-type", "application/json"), ("host", "gw"), ("x-amz-date", TIME)],
                ..Case::new()
            },
        ] {
            assert_eq!(check(&authorization, &case, NOW_S), Err(Refused::WrongSignature));
        }
        // Sorted otherwise it is the same request.
        assert_eq!(check(&authorization, &Case { query: "a=%2f1&b=2", ..Case::new() }, NOW_S), Ok(()));
    }

    #[test]
    fn what_means_something_is_signed_and_there_once() {
        let authorization = signed(&Case::new());
        let with = |more: &[(&'static str, &'static str)]| Case {
            headers: [&*Case::new().headers, more].concat(),
            ..Case::new()
        };
        for name in ["x-amz-security-token", "weir-cluster-name"] {
            let unsigned = check(&authorization, &with(&[(name, "t")]), NOW_S);
            assert_eq!(unsigned, Err(Refused::Unsigned(name.to_owned())));
        }
        for more in [("host", "other"), ("x-amz-date", TIME)] {
            assert!(matches!(check(&authorization, &with(&[more]), NOW_S), Err(Refused::Malformed(_))), "{more:?}");
        }
        // One more of what was signed once: it is not what was signed.
        let named = with(&[("weir-cluster-name", "a")]);
        let twice = with(&[("weir-cluster-name", "a"), ("weir-cluster-name", "b")]);
        assert_eq!(check(&signed(&named), &named, NOW_S), Ok(()));
        assert_eq!(check(&signed(&named), &twice, NOW_S), Err(Refused::WrongSignature));
        let lies = with(&[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")]);
        assert_eq!(check(&signed(&lies), &lies, NOW_S), Err(Refused::Malformed("hash of the body")));
        for path in ["//v1", "/v1/../x", "/v1/%2e%2E/x", "/v1/./x", "v1"] {
            let case = Case { path, ..Case::new() };
            assert_eq!(check(&signed(&case), &case, NOW_S), Err(Refused::Malformed("path")), "{path}");
        }
        let plus = Case { query: "a=b+c", ..Case::new() };
        assert_eq!(check(&signed(&plus), &plus, NOW_S), Err(Refused::Malformed("query")));
        for wrong in ["", " Credential=a", " Credential=A/20150830/r/s/aws4_request, SignedHeaders=host, Signature=ABC"]
        {
            assert!(Authorization::parse(&format!("{ALGORITHM}{wrong}")).expect("of this kind").is_err(), "{wrong}");
        }
        assert!(Authorization::parse("Bearer x").is_none());
    }
}
