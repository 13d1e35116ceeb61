//! JSON Web Tokens (RFC 7519) of OpenID Connect issuers, as bearer tokens: their form, their signature, what they claim.
//!
//! Pure: keys and the time are given. Signatures are checked by the `jsonwebtoken` crate; what a header or a claim may be is
//! checked here, strictly (RFC 8725): algorithms with public keys alone, no key that the token itself brings, nothing twice.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, crypto};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::Refused;

/// A token has at most so many bytes.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// The id of a key has at most so many.
const KEY_ID_BYTES_MAX: usize = 256;
/// And that of a token.
pub const TOKEN_ID_BYTES_MAX: usize = 512;
/// How far the issuer's clock may be from ours, in seconds.
const SKEW_S: i64 = 60;
/// Keys that are read of a set; issuers have a handful.
const KEYS_MAX: usize = 100;

/// Whether a bearer token looks like a JWT: three parts between dots. What the signers of MSK make has none.
pub fn is_jwt(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// A token whose form is right; its signature is still to be checked.
pub struct Token {
    algorithm: Algorithm,
    /// Which key of its issuer signed it.
    pub key_id: Option<String>,
    claims: BTreeMap<String, Value>,
    signed: String,
    signature: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:?})", self.algorithm)
    }
}

/// JSON's objects without a key that is there twice: of those, readers differ in which they take.
struct Strict(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = Strict;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Strict, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((key, value)) = access.next_entry::<String, Value>()? {
                    if map.insert(key, value).is_some() {
                        return Err(de::Error::custom("a key is there twice"));
                    }
                }
                Ok(Strict(map))
            }
        }

        deserializer.deserialize_map(Keys)
    }
}

fn object(part: &str) -> Option<BTreeMap<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice::<Strict>(&bytes).ok().map(|strict| strict.0)
}

fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "RS256" => Some(Algorithm::RS256),
        "RS384" => Some(Algorithm::RS384),
        "RS512" => Some(Algorithm::RS512),
        "PS256" => Some(Algorithm::PS256),
        "PS384" => Some(Algorithm::PS384),
        "PS512" => Some(Algorithm::PS512),
        "ES256" => Some(Algorithm::ES256),
        "ES384" => Some(Algorithm::ES384),
        "EdDSA" => Some(Algorithm::EdDSA),
        // No secret is shared with an issuer, and a token without a signature is nobody's.
        _ => None,
    }
}

impl Token {
    /// Reads a token.
    ///
    /// # Errors
    /// It is not of the form; what was wrong.
    pub fn parse(token: &str) -> Result<Self, Refused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refused::Malformed("too long"));
        }
        let parts: Vec<&str> = token.split('.').collect();
        let [header, claims, signature] = parts[..] else { return Err(Refused::Malformed("token")) };
        let header = object(header).ok_or(Refused::Malformed("header"))?;
        let text = |key: &str| header.get(key).and_then(Value::as_str);
        // An extension that must be understood, a compressed payload, a token within a token: none of it is.
        if ["crit", "zip", "b64", "enc"].iter().any(|key| header.contains_key(*key)) {
            return Err(Refused::Malformed("header"));
        }
        let is_plain = |name: &str| ["jwt", "at+jwt"].iter().any(|known| name.eq_ignore_ascii_case(known));
        if header.contains_key("cty") || (header.contains_key("typ") && !text("typ").is_some_and(is_plain)) {
            return Err(Refused::Malformed("type"));
        }
        let algorithm = text("alg").and_then(algorithm).ok_or(Refused::Malformed("algorithm"))?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) if id.len() <= KEY_ID_BYTES_MAX => Some(id.clone()),
            Some(_) => return Err(Refused::Malformed("key id")),
        };
        let claims = object(claims).ok_or(Refused::Malformed("claims"))?;
        let signed = token.len() - signature.len() - 1;
        Ok(Self { algorithm, key_id, claims, signed: token[..signed].to_owned(), signature: signature.to_owned() })
    }

    fn claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name).and_then(Value::as_str)
    }

    /// Whose it says that it is; not checked.
    pub fn issuer(&self) -> Option<&str> {
        self.claim("iss")
    }

    /// For whom it says that it is; not checked.
    pub fn audiences(&self) -> Vec<&str> {
        match self.claims.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Checks the signature with the issuer's keys, and the times.
    ///
    /// # Errors
    /// There is no such key, it did not sign this, or the token is not valid now.
    pub fn check(self, keys: &Keys, now_s: i64) -> Result<Claims, Refused> {
        let key = keys.find(self.key_id.as_deref(), self.algorithm).ok_or(Refused::WrongSignature)?;
        let is_right = crypto::verify(&self.signature, self.signed.as_bytes(), key, self.algorithm);
        if !is_right.unwrap_or(false) {
            return Err(Refused::WrongSignature);
        }
        // Whole numbers alone: a text, a fraction or nothing at all is no time.
        let time = |name: &str| match self.claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_i64().filter(|time| *time >= 0).map(Some).ok_or(Refused::Malformed("time")),
        };
        let expires_s = time("exp")?.ok_or(Refused::Malformed("no expiry"))?;
        let not_before_s = time("nbf")?.unwrap_or(0).max(time("iat")?.unwrap_or(0));
        if expires_s <= now_s || not_before_s > now_s + SKEW_S {
            return Err(Refused::Expired);
        }
        // By its id a token is denied before it ends: one that cannot be named is none.
        let id = match self.claims.get("jti") {
            None => None,
            Some(Value::String(id)) if (1..=TOKEN_ID_BYTES_MAX).contains(&id.len()) => Some(id.clone()),
            Some(_) => return Err(Refused::Malformed("token id")),
        };
        let subject = self.claim("sub").filter(|subject| !subject.is_empty());
        let subject = subject.ok_or(Refused::Malformed("no subject"))?.to_owned();
        Ok(Claims { subject, id, expires_s, claims: self.claims })
    }
}

/// What a token claims whose signature was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    pub subject: String,
    /// Its `jti`, if it has one.
    pub id: Option<String>,
    /// In seconds since 1970.
    pub expires_s: i64,
    claims: BTreeMap<String, Value>,
}

impl Claims {
    /// A claim that is one text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.claims.get(name).and_then(Value::as_str)
    }
}

/// The public keys of an issuer (RFC 7517).
pub struct Keys(Vec<(Option<String>, Option<String>, AlgorithmFamily, DecodingKey)>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Keys {
    /// Reads a set; keys of a kind that is not known here are left out, as RFC 7517 asks.
    ///
    /// # Errors
    /// It is no set of keys, or there is none in it that signatures can be checked with.
    pub fn parse(text: &[u8]) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(text).map_err(|_| "it is no JSON Web Key Set")?;
        let usable = set.keys.into_iter().take(KEYS_MAX).filter_map(|value| {
            let key: Jwk = serde_json::from_value(value).ok()?;
            let is_for_signatures = matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature));
            let family = match &key.algorithm {
                AlgorithmParameters::RSA(_) => AlgorithmFamily::Rsa,
                AlgorithmParameters::EllipticCurve(_) => AlgorithmFamily::Ec,
                AlgorithmParameters::OctetKeyPair(_) => AlgorithmFamily::Ed,
                // A secret in a public set is no secret.
                _ => return None,
            };
            let decoding = DecodingKey::from_jwk(&key).ok()?;
            let named = key.common.key_algorithm.map(|algorithm| algorithm.to_string());
            is_for_signatures.then_some((key.common.key_id, named, family, decoding))
        });
        let keys: Vec<_> = usable.collect();
        if keys.is_empty() {
            Err("there is no public key in it that signatures can be checked with")
        } else {
            Ok(Self(keys))
        }
    }

    /// Whether there is a key of this id; of a token without one, whether there is only one key.
    pub fn has(&self, id: Option<&str>) -> bool {
        match id {
            Some(id) => self.0.iter().any(|(known, ..)| known.as_deref() == Some(id)),
            None => self.0.len() == 1,
        }
    }

    /// A key is for the algorithms of its kind, or for the one that it names.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&DecodingKey> {
        let name = format!("{algorithm:?}");
        let is_it = |known: &Option<String>| match id {
            Some(id) => known.as_deref() == Some(id),
            None => self.0.len() == 1,
        };
        let found = self.0.iter().find(|(known, named, family, _)| {
            is_it(known) && *family == algorithm.family() && named.as_ref().is_none_or(|named| *named == name)
        });
        found.map(|(.., key)| key)
    }
}

#[cfg(test)]
mod tests;
