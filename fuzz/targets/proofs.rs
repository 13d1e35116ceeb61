//! Any bytes as each kind of proof of who calls: refused or checked, never a panic; and nobody is let in by a key that he has not.
#![no_main]

use std::num::NonZeroU32;

use identity::jwt::{Keys, Token, is_jwt};
use identity::msk;
use identity::request::{Authorization, Request};
use identity::scram::{Exchange, First, Verifier};
use identity::sigv4::SigningKey;
use libfuzzer_sys::fuzz_target;

const NOW_S: i64 = 1_440_938_160;

fuzz_target!(|data: &[u8]| {
    if let Ok((proof, signature)) = msk::payload(data, |_| true) {
        let key = SigningKey::derive("a secret that no input has", &proof.scope);
        assert!(proof.check(&signature, &key, NOW_S).is_err());
    }
    if let Ok(first) = First::parse(data) {
        let verifier = Verifier::new("a password that no input has", b"salt", NonZeroU32::MIN);
        let exchange = Exchange::new(first, verifier, "nonce");
        let _ = exchange.server_first();
        assert!(exchange.finish(data).is_err());
    }
    let _ = Keys::parse(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(Ok((proof, signature))) = msk::token(text) {
        let key = SigningKey::derive("a secret that no input has", &proof.scope);
        assert!(proof.check(&signature, &key, NOW_S).is_err());
    }
    let set = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let keys = Keys::parse(set.as_bytes()).expect("a set of keys");
    if is_jwt(text)
        && let Ok(token) = Token::parse(text)
    {
        let _ = (token.issuer(), token.audiences());
        assert!(token.check(&keys, NOW_S).is_err());
    }
    // A request: its lines, of which the first is what it is signed by.
    let mut lines = text.lines();
    let (first, path) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let (query, rest) = (lines.next().unwrap_or_default(), lines);
    let headers: Vec<(&str, &str)> = rest.filter_map(|line| line.split_once(':')).collect();
    let request = Request { method: "POST", path, query, headers: &headers, body_sha256: "00" };
    if let Some(Ok(signed)) = Authorization::parse(first) {
        let key = SigningKey::derive("a secret that no input has", &signed.scope);
        assert!(signed.check(&request, &key, NOW_S).is_err());
    }
});
