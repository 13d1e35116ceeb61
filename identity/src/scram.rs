//! SCRAM-SHA-512, the server's side, as Kafka speaks it: RFC 5802 and RFC 7677 without channel binding and without SASLprep,
//! which no Kafka client does.
//!
//! A pure exchange: two messages of the client in, two answers out. An unknown user goes the same way as a known one, with a
//! verifier that nobody has the password of.

use std::num::NonZeroU32;

use aws_lc_rs::digest::{SHA512, digest};
use aws_lc_rs::hmac::{HMAC_SHA512, Key, sign};
use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::secret::Secret;

/// Kafka's bounds (`ScramMechanism`); its clients refuse fewer.
pub const ITERATIONS_MIN: u32 = 4_096;
pub const ITERATIONS_MAX: u32 = 16_384;
/// What new passwords get: each client pays it with each connection.
pub const ITERATIONS: u32 = 8_192;
/// A message of a client has at most so many bytes.
const MESSAGE_BYTES_MAX: usize = 4_096;

/// What is kept of a password. Who has it can pass for the server and guess passwords, but not log in.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub salt: Vec<u8>,
    pub iterations: u32,
    pub stored_key: [u8; 64],
    pub server_key: [u8; 64],
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verifier({} iterations)", self.iterations)
    }
}

impl Verifier {
    /// Of a password; `salt` is random, of 16 bytes at least.
    pub fn new(password: &str, salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut salted = [0; 64];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, salt, password.as_bytes(), &mut salted);
        Self {
            salt: salt.to_vec(),
            iterations: iterations.get(),
            stored_key: sha512(&hmac(&salted, b"Client Key")),
            server_key: hmac(&salted, b"Server Key"),
        }
    }

    /// Of a user that does not exist: the same each time, and no password fits.
    pub fn of_nobody(cluster_secret: &[u8], user: &str) -> Self {
        let of = |what: &str| hmac(cluster_secret, format!("{what}\0{user}").as_bytes());
        Self {
            salt: of("salt")[..16].to_vec(),
            iterations: ITERATIONS,
            stored_key: of("stored"),
            server_key: of("server"),
        }
    }
}

/// Why an exchange failed; clients are told one text for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Not what RFC 5802 has at this place; the word names it.
    Malformed(&'static str),
    /// The proof is of another password.
    WrongProof,
}

/// The client's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct First {
    pub user: String,
    gs2: String,
    bare: String,
    nonce: String,
}

impl First {
    pub fn parse(message: &[u8]) -> Result<Self, Failure> {
        let text = text(message)?;
        let malformed = |what| Failure::Malformed(what);
        let (flag, rest) = text.split_once(',').ok_or(malformed("gs2 header"))?;
        let (authzid, bare) = rest.split_once(',').ok_or(malformed("gs2 header"))?;
        // `y`: the client could bind to a channel and thinks that the server cannot. It is right.
        if !matches!(flag, "n" | "y") {
            return Err(malformed("channel binding"));
        }
        let mut attributes = bare.split(',');
        let user = attributes.next().and_then(|one| one.strip_prefix("n=")).ok_or(malformed("user name"))?;
        let nonce = attributes.next().and_then(|one| one.strip_prefix("r=")).ok_or(malformed("nonce"))?;
        // An extension that must be understood comes first, and a delegation token is no password.
        if attributes.any(|extension| extension == "tokenauth=true") {
            return Err(malformed("delegation tokens are not offered"));
        }
        if !is_nonce(nonce) {
            return Err(malformed("nonce"));
        }
        let user = unescape(user).filter(|user| !user.is_empty()).ok_or(malformed("user name"))?;
        let authzid = if authzid.is_empty() {
            None
        } else {
            let name = authzid.strip_prefix("a=").and_then(unescape);
            Some(name.ok_or(malformed("authorization id"))?)
        };
        if authzid.is_some_and(|authzid| authzid != user) {
            return Err(malformed("authorization id of another user"));
        }
        Ok(Self {
            user,
            gs2: text[..text.len() - bare.len()].to_owned(),
            bare: bare.to_owned(),
            nonce: nonce.to_owned(),
        })
    }
}

/// An exchange after its first message.
#[derive(Debug, Clone)]
pub struct Exchange {
    first: First,
    verifier: Verifier,
    nonce: String,
    server_first: String,
}

impl Exchange {
    /// `nonce` is random, of printable characters without a comma.
    pub fn new(first: First, verifier: Verifier, nonce: &str) -> Self {
        let nonce = format!("{}{nonce}", first.nonce);
        let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(&verifier.salt), verifier.iterations);
        Self { first, verifier, nonce, server_first }
    }

    /// What the client is answered first.
    pub fn server_first(&self) -> &str {
        &self.server_first
    }

    /// What the client is answered in the end.
    ///
    /// # Errors
    /// It does not know the password, or its message is of another exchange.
    pub fn finish(&self, message: &[u8]) -> Result<String, Failure> {
        let text = text(message)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Failure::Malformed("proof"))?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|one| one.strip_prefix("c=")).ok_or(Failure::Malformed("binding"))?;
        let nonce = attributes.next().and_then(|one| one.strip_prefix("r=")).ok_or(Failure::Malformed("nonce"))?;
        if binding != STANDARD.encode(&self.first.gs2) {
            return Err(Failure::Malformed("binding"));
        }
        // All of it: Kafka compared the end alone until CVE-2024-56128. librdkafka before 2.6.1 puts its own half before the whole,
        // which Kafka took till then, and which is as bound to this exchange.
        let is_doubled = nonce.strip_prefix(&self.first.nonce) == Some(&self.nonce);
        if nonce != self.nonce && !is_doubled {
            return Err(Failure::Malformed("nonce"));
        }
        let proof: [u8; 64] =
            STANDARD.decode(proof).ok().and_then(|proof| proof.try_into().ok()).ok_or(Failure::Malformed("proof"))?;
        let message = format!("{},{},{without_proof}", self.first.bare, self.server_first);
        let signature = hmac(&self.verifier.stored_key, message.as_bytes());
        let mut client_key = proof;
        client_key.iter_mut().zip(signature).for_each(|(byte, other)| *byte ^= other);
        if !Secret::new(self.verifier.stored_key).is(&sha512(&client_key)) {
            return Err(Failure::WrongProof);
        }
        Ok(format!("v={}", STANDARD.encode(hmac(&self.verifier.server_key, message.as_bytes()))))
    }
}

fn text(message: &[u8]) -> Result<&str, Failure> {
    let text = std::str::from_utf8(message).ok().filter(|text| text.len() <= MESSAGE_BYTES_MAX && !text.contains('\0'));
    text.ok_or(Failure::Malformed("text"))
}

fn is_nonce(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// `=2C` is a comma, `=3D` an equals sign; no other one may be there.
fn unescape(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let (escaped, rest) = (part.get(..2)?, &part[2..]);
        out.push(match escaped {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        out.push_str(rest);
    }
    Some(out)
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes.copy_from_slice(sign(&Key::new(HMAC_SHA512, key), text).as_ref());
    bytes
}

fn sha512(bytes: &[u8]) -> [u8; 64] {
    let mut out = [0; 64];
    out.copy_from_slice(digest(&SHA512, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "n,,n=us=3Der=2C1,r=fyko+d2lbbFgONRv9qkxdawL";
    const FINAL: &str = "c=biws,r=fyko+d2lbbFgONRv9qkxdawLsrvnonce0123456789,p=1w89N2eRnonskgaub5F9/6dCm1a+owoeECsSIHHiiSFts3gah1UGVJSxz8YnXFmaBk4v1r6JQi0I3FppkSr6Lg==";

    fn verifier(password: &str) -> Verifier {
        Verifier::new(password, b"0123456789abcdef0123", NonZeroU32::new(4_096).expect("some"))
    }

    fn exchange(password: &str) -> Exchange {
        let first = First::parse(FIRST.as_bytes()).expect("a first message");
        assert_eq!(first.user, "us=er,1");
        Exchange::new(first, verifier(password), "srvnonce0123456789")
    }

    #[test]
    fn a_known_exchange_goes_as_it_did() {
        let exchange = exchange("pencil");
        let server_first = "r=fyko+d2lbbFgONRv9qkxdawLsrvnonce0123456789,s=MDEyMzQ1Njc4OWFiY2RlZjAxMjM=,i=4096";
        assert_eq!(exchange.server_first(), server_first);
        let last = "v=EfhrHLQZm6uT2GJi+k0Eu6HmFk1AzdZFyOULF6Ax0xiZGotVQM8VIBGgU+noVBdAieJRIupI+SZbBhjxDTmjwg==";
        assert_eq!(exchange.finish(FINAL.as_bytes()).as_deref(), Ok(last));
    }

    #[test]
    fn what_is_not_of_the_exchange_fails() {
        let malformed = |text: String| {
            assert!(matches!(exchange("pencil").finish(text.as_bytes()), Err(Failure::Malformed(_))), "{text}")
        };
        malformed(FINAL.replace("c=biws", "c=eSws"));
        malformed(FINAL.replace("r=fyko+d2lbbFgONRv9qkxdawL", "r=X"));
        malformed(FINAL.replace("srvnonce0123456789", "srvnonce0123456788"));
        malformed(FINAL.replace("r=fyko", "r=fyko+fyko"));
        malformed(FINAL.replace(",p=1w89", ",p=1w8"));
        malformed("c=biws".to_owned());
        assert_eq!(exchange("pencil").finish(FINAL.replace("1w89", "2w89").as_bytes()), Err(Failure::WrongProof));
        assert_eq!(exchange("crayon").finish(FINAL.as_bytes()), Err(Failure::WrongProof));
        let nobody = Verifier::of_nobody(b"secret", "us=er,1");
        assert_eq!(nobody, Verifier::of_nobody(b"secret", "us=er,1"), "the salt does not tell that there is nobody");
        let first = First::parse(FIRST.as_bytes()).expect("a first message");
        let exchange = Exchange::new(first, nobody, "srvnonce0123456789");
        assert_eq!(exchange.finish(FINAL.as_bytes()), Err(Failure::WrongProof));
    }

    #[test]
    fn librdkafkas_doubled_nonce_is_taken_if_it_is_proved() {
        let half = "fyko+d2lbbFgONRv9qkxdawL";
        let doubled = FINAL.replace(&format!("r={half}"), &format!("r={half}{half}"));
        // The known proof is of the other message.
        assert_eq!(exchange("pencil").finish(doubled.as_bytes()), Err(Failure::WrongProof));
    }

    #[test]
    fn first_messages_that_are_none() {
        for wrong in [
            "",
            "n,,",
            "n,,n=a",
            "n,,n=,r=x",
            "n,,r=x,n=a",
            "p=tls-unique,,n=a,r=x",
            "n,,n=a=2,r=x",
            "n,,n=a=41,r=x",
            "n,a=b,n=a,r=x",
            "n,,m=x,n=a,r=y",
            "n,,n=a,r=",
            "n,,n=a,r=x y",
            "n,,n=a,r=x,tokenauth=true",
            "n,,n=a\0,r=x",
        ] {
            assert!(First::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        for right in ["n,,n=a,r=x", "y,,n=a,r=x", "n,a=a,n=a,r=x", "n,,n=ü,r==x=-~", "n,,n=a,r=x,other=1"] {
            assert!(First::parse(right.as_bytes()).is_ok(), "{right}");
        }
    }
}
