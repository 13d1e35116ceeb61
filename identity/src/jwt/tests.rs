//! Tokens that are right, and each way to be wrong.

use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use jsonwebtoken::EncodingKey;
use serde_json::json;

use super::*;

const NOW_S: i64 = 1_800_000_000;

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key of an issuer, with its public half.
struct Signer {
    algorithm: Algorithm,
    key: EncodingKey,
    public: Value,
}

impl Signer {
    fn ed25519(seed: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed");
        let public =
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig", "x": base64(pair.public_key()) });
        let der = pair.to_pkcs8v1().expect("a key");
        Self { algorithm: Algorithm::EdDSA, key: EncodingKey::from_ed_der(der.as_ref()), public }
    }

    fn p256() -> Self {
        let kind = &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let der = EcdsaKeyPair::generate_pkcs8(kind, &aws_lc_rs::rand::SystemRandom::new()).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(kind, der.as_ref()).expect("a key");
        let point = pair.public_key().as_ref();
        let public = json!({
            "kty": "EC", "crv": "P-256", "kid": "ec", "alg": "ES256", "x": base64(&point[1..33]), "y": base64(&point[33..]),
        });
        Self { algorithm: Algorithm::ES256, key: EncodingKey::from_ec_der(der.as_ref()), public }
    }

    fn header(&self) -> Value {
        json!({ "alg": format!("{:?}", self.algorithm), "kid": self.public["kid"], "typ": "JWT" })
    }

    /// Signs these two texts, whatever they are.
    fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", base64(header), base64(claims));
        let signature = crypto::sign(signed.as_bytes(), &self.key, self.algorithm).expect("a signature");
        format!("{signed}.{signature}")
    }
}

fn claims() -> Value {
    json!({ "iss": "https://sso.example", "aud": ["weir", "other"], "sub": "alice", "exp": NOW_S + 600, "iat": NOW_S, "role": "app" })
}

fn keys(signers: &[&Signer]) -> Keys {
    let keys: Vec<&Value> = signers.iter().map(|signer| &signer.public).collect();
    Keys::parse(json!({ "keys": keys }).to_string().as_bytes()).expect("keys")
}

fn check(token: &str, keys: &Keys) -> Result<Claims, Refused> {
    Token::parse(token)?.check(keys, NOW_S)
}

#[test]
fn a_token_is_taken_as_its_issuer_signed_it() {
    let (ed, ec) = (Signer::ed25519(1), Signer::p256());
    let keys = keys(&[&ed, &ec]);
    for signer in [&ed, &ec] {
        let text = signer.sign(&signer.header().to_string(), &claims().to_string());
        let token = Token::parse(&text).expect("its form is right");
        assert_eq!((token.issuer(), token.audiences()), (Some("https://sso.example"), vec!["weir", "other"]));
        let claims = token.check(&keys, NOW_S).expect("it is right");
        assert_eq!(
            (claims.subject.as_str(), claims.expires_s, claims.text("role")),
            ("alice", NOW_S + 600, Some("app"))
        );
        // A character of any part.
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).expect("text");
            assert!(other == text || check(&other, &keys).is_err(), "{at}");
        }
    }
}

#[test]
fn a_key_is_for_what_it_is_for() {
    let (ed, ec, other) = (Signer::ed25519(1), Signer::p256(), Signer::ed25519(2));
    let both = keys(&[&ed, &ec]);
    let signed = |signer: &Signer, header: &Value| signer.sign(&header.to_string(), &claims().to_string());
    // Another issuer's key under the same id; a key of another kind; a key that is not there; several and none named.
    assert_eq!(check(&signed(&other, &other.header()), &both), Err(Refused::WrongSignature));
    assert_eq!(check(&signed(&ed, &json!({ "alg": "EdDSA", "kid": "ec" })), &both), Err(Refused::WrongSignature));
    assert_eq!(check(&signed(&ed, &json!({ "alg": "EdDSA", "kid": "no" })), &both), Err(Refused::WrongSignature));
    assert_eq!(check(&signed(&ed, &json!({ "alg": "EdDSA" })), &both), Err(Refused::WrongSignature));
    assert!(check(&signed(&ed, &json!({ "alg": "EdDSA" })), &keys(&[&ed])).is_ok(), "the only one");
    // Of two kinds of keys under one id it is the one of the token's kind.
    let mut twin = ec.public.clone();
    twin["kid"] = "ed".into();
    twin.as_object_mut().expect("an object").remove("alg");
    let set = Keys::parse(json!({ "keys": [twin, ed.public] }).to_string().as_bytes()).expect("keys");
    assert!(check(&signed(&ed, &ed.header()), &set).is_ok());
    // A key is of one kind, and for one algorithm if it names one, whatever the token says.
    let mut named = ec.public.clone();
    named["alg"] = "ES384".into();
    let set = Keys::parse(json!({ "keys": [named] }).to_string().as_bytes()).expect("keys");
    assert_eq!(check(&signed(&ec, &ec.header()), &set), Err(Refused::WrongSignature));
    let rsa = json!({ "kty": "RSA", "kid": "ec", "use": "sig", "e": "AQAB", "n": base64([0xc1; 256]) });
    let set = Keys::parse(json!({ "keys": [rsa] }).to_string().as_bytes()).expect("keys");
    for algorithm in ["ES256", "EdDSA", "RS256", "PS512"] {
        let header = json!({ "alg": algorithm, "kid": "ec" });
        assert_eq!(check(&signed(&ec, &header), &set), Err(Refused::WrongSignature), "{algorithm}");
    }
    let ec_alone = keys(&[&ec]);
    for algorithm in ["RS256", "PS256", "ES384", "EdDSA"] {
        let header = json!({ "alg": algorithm, "kid": "ec" });
        assert_eq!(check(&signed(&ec, &header), &ec_alone), Err(Refused::WrongSignature), "{algorithm}");
    }
    // What it says itself of its keys is nothing.
    let own = json!({ "alg": "EdDSA", "kid": "ed", "jwk": other.public, "jku": "https://evil.example", "x5u": "https://evil" });
    assert_eq!(check(&signed(&other, &own), &both), Err(Refused::WrongSignature));
    // Keys that are not for signatures, and secrets, are left out.
    let mut encrypts = ed.public.clone();
    encrypts["use"] = "enc".into();
    for set in [
        json!({ "keys": [encrypts] }),
        json!({ "keys": [{ "kty": "oct", "k": "c2VjcmV0" }] }),
        json!({ "keys": [] }),
        json!([]),
    ] {
        assert!(Keys::parse(set.to_string().as_bytes()).is_err(), "{set}");
    }
}

#[test]
fn without_a_signature_of_a_public_key_it_is_nobodys() {
    let ed = Signer::ed25519(1);
    let keys = keys(&[&ed]);
    let unsigned = |header: Value| format!("{}.{}.", base64(header.to_string()), base64(claims().to_string()));
    for algorithm in
        [json!("none"), json!("None"), json!("NONE"), json!("HS256"), json!("HS512"), json!(""), json!(null), json!(7)]
    {
        let header = json!({ "alg": algorithm, "kid": "ed" });
        assert!(check(&unsigned(header.clone()), &keys).is_err(), "{header}");
        // With the public key as the secret.
        let mac =
            aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, ed.public["x"].as_str().expect("x").as_bytes());
        let signed = format!("{}.{}", base64(header.to_string()), base64(claims().to_string()));
        let token = format!("{signed}.{}", base64(aws_lc_rs::hmac::sign(&mac, signed.as_bytes())));
        assert!(check(&token, &keys).is_err(), "{header}");
    }
    assert!(check(&unsigned(json!({ "kid": "ed" })), &keys).is_err());
}

#[test]
fn what_is_odd_about_a_header_is_refused() {
    let ed = Signer::ed25519(1);
    let keys = keys(&[&ed]);
    let refused = |header: &str, claims: &str| check(&ed.sign(header, claims), &keys).is_err();
    let right = claims().to_string();
    for odd in [
        r#"{"alg":"EdDSA","kid":"ed","crit":["exp"]}"#,
        r#"{"alg":"EdDSA","kid":"ed","crit":[]}"#,
        r#"{"alg":"EdDSA","kid":"ed","zip":"DEF"}"#,
        r#"{"alg":"EdDSA","kid":"ed","b64":false}"#,
        r#"{"alg":"EdDSA","kid":"ed","enc":"A256GCM"}"#,
        r#"{"alg":"EdDSA","kid":"ed","cty":"JWT"}"#,
        r#"{"alg":"EdDSA","kid":"ed","typ":"JWE"}"#,
        r#"{"alg":"EdDSA","kid":"ed","typ":7}"#,
        r#"{"alg":"EdDSA","alg":"EdDSA","kid":"ed"}"#,
        r#"{"alg":"EdDSA","kid":["ed"]}"#,
        r#"{"alg":"EdDSA","kid":7}"#,
        "[]",
        "7",
        "",
    ] {
        assert!(refused(odd, &right), "{odd}");
    }
    for id in ["../../etc/passwd", "ed' OR '1'='1", "https://evil.example/keys", "ed\0", &"e".repeat(1_000_000)] {
        assert!(refused(&json!({ "alg": "EdDSA", "kid": id }).to_string(), &right), "{:.40}", id);
    }
    let header = ed.header().to_string();
    assert!(!refused(&header, &right));
    assert!(refused(&header, &right.replace('{', r#"{"sub":"bob","#)), "twice");
    assert!(refused(&header, &format!(r#"{{"a":"{}"}}"#, "x".repeat(1_000_000))), "too long");
    for (parts, odd) in [(1, "abc"), (2, "a.b"), (4, "a.b.c.d"), (5, "a.b.c.d.e")] {
        assert!(check(odd, &keys).is_err() && is_jwt(odd) == (parts == 3), "{odd}");
    }
    let whole = ed.sign(&header, &right);
    for odd in [format!("{whole}="), format!("{whole} "), whole.replace('.', " ."), format!(" {whole}")] {
        assert!(check(&odd, &keys).is_err(), "{odd}");
    }
}

#[test]
fn times_are_whole_numbers_and_now_is_within_them() {
    let ed = Signer::ed25519(1);
    let keys = keys(&[&ed]);
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        check(&ed.sign(&ed.header().to_string(), &claims.to_string()), &keys)
    };
    for name in ["exp", "nbf", "iat"] {
        for odd in [
            json!("1800000600"),
            json!(1_800_000_600.5),
            json!(-1),
            json!(9_223_372_036_854_775_808_u64),
            json!(null),
            json!([1]),
            json!(true),
        ] {
            assert!(with(name, odd.clone()).is_err(), "{name} {odd}");
        }
    }
    assert_eq!(with("exp", json!(NOW_S)), Err(Refused::Expired));
    assert!(with("exp", json!(NOW_S + 1)).is_ok());
    for name in ["nbf", "iat"] {
        assert!(with(name, json!(NOW_S + SKEW_S)).is_ok(), "{name}");
        assert_eq!(with(name, json!(NOW_S + SKEW_S + 1)), Err(Refused::Expired), "{name}");
    }
    let without = |name: &str| {
        let mut claims = claims();
        claims.as_object_mut().expect("an object").remove(name);
        check(&ed.sign(&ed.header().to_string(), &claims.to_string()), &keys)
    };
    assert!(without("exp").is_err() && without("sub").is_err() && without("iat").is_ok());
    assert!(with("sub", json!("")).is_err() && with("sub", json!(7)).is_err());
}
