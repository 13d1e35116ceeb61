//! One SASL login: what a client sends, what it is answered, and who it turns out to be. Without a socket.
//!
//! KIP-152 has the framing, KIP-368 the renewal; mechanisms are those of MSK, and SCRAM-SHA-512.

use identity::jwt::is_jwt;
use identity::msk;
use identity::scram::{Exchange, First};
use serde_json::json;
use service::random;
use types::AccountId;

use super::known::Login;
use super::proof::{of_msk, scram_verifier};
use super::reason::Reason;
use super::{Access, Origin};

/// A message before or during a login has at most so many bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    ScramSha512,
    AwsMskIam,
    OAuthBearer,
}

impl Mechanism {
    pub const ALL: [Self; 3] = [Self::ScramSha512, Self::AwsMskIam, Self::OAuthBearer];

    pub fn name(self) -> &'static str {
        match self {
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::AwsMskIam => "AWS_MSK_IAM",
            Self::OAuthBearer => "OAUTHBEARER",
        }
    }

    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }
}

/// A login under way.
#[derive(Debug)]
pub enum Progress {
    Chosen(Mechanism),
    /// `None`: of a user that does not exist.
    Scram(Box<(Exchange, Option<Login>)>),
}

/// What comes of a message.
#[derive(Debug)]
pub enum Step {
    /// The client is answered, and sends another.
    Next(Vec<u8>, Progress),
    Done(Vec<u8>, Box<Login>),
}

/// What is known of the client beside its message.
pub struct Place<'a> {
    pub origin: Origin,
    /// The account that users without one are of.
    pub account: AccountId,
    /// Host names that clients reach this gateway by.
    pub is_ours: &'a (dyn Fn(&str) -> bool + Sync),
    pub now_s: i64,
}

/// Takes the client's next message.
///
/// # Errors
/// The login failed; why is for the log alone.
pub async fn step(access: &Access, progress: Progress, message: &[u8], place: &Place<'_>) -> Result<Step, Reason> {
    let known = access.known();
    match progress {
        Progress::Chosen(Mechanism::ScramSha512) => {
            let first = First::parse(message).map_err(Reason::Scram)?;
            let (verifier, login) = scram_verifier(&known, &first, place.account, access.salts_of_nobody(&known));
            let nonce = format!("{:032x}", random::wide());
            let exchange = Exchange::new(first, verifier, &nonce);
            let answer = exchange.server_first().as_bytes().to_vec();
            Ok(Step::Next(answer, Progress::Scram(Box::new((exchange, login)))))
        }
        Progress::Scram(scram) => {
            let (exchange, login) = *scram;
            let answer = exchange.finish(message).map_err(|failure| match &login {
                Some(login) => Reason::Scram(failure).of_login(login),
                None => Reason::Scram(failure),
            })?;
            let login = login.ok_or(Reason::UnknownUser(String::new()))?;
            Ok(Step::Done(answer.into_bytes(), Box::new(login)))
        }
        // Who reads one of these on its way can log in by it, until it runs out.
        Progress::Chosen(Mechanism::AwsMskIam | Mechanism::OAuthBearer) if !place.origin.is_private() => {
            Err(Reason::NotPrivate)
        }
        Progress::Chosen(Mechanism::AwsMskIam) => {
            let signed = msk::payload(message, place.is_ours)?;
            let login = of_msk(&known, signed, place.now_s)?;
            // Java's client knows these two keys and refuses any other.
            let answer = json!({ "version": "2020_10_22", "request-id": format!("{:032x}", random::wide()) });
            Ok(Step::Done(answer.to_string().into_bytes(), Box::new(login)))
        }
        Progress::Chosen(Mechanism::OAuthBearer) => {
            let token = bearer(message)?;
            let login = of_token(access, token, place.now_s).await?;
            Ok(Step::Done(Vec::new(), Box::new(login)))
        }
    }
}

/// Who a bearer token is of: one of an issuer, or of a signer of MSK.
pub async fn of_token(access: &Access, token: &str, now_s: i64) -> Result<Login, Reason> {
    if is_jwt(token) {
        return access.issuers.login(&access.known(), token, now_s).await;
    }
    let signed = msk::token(token).ok_or(Reason::Malformed("token"))??;
    of_msk(&access.known(), signed, now_s)
}

/// The token of a client's message (RFC 7628): `n,[a=NAME],` and pairs between bytes 0x01.
fn bearer(message: &[u8]) -> Result<&str, Reason> {
    let malformed = Reason::Malformed("OAUTHBEARER message");
    let text = std::str::from_utf8(message).map_err(|_| malformed.clone())?;
    let mut parts = text.split('\u{1}');
    let header = parts.next().unwrap_or_default();
    let is_header =
        header == "n,," || (header.starts_with("n,a=") && header.ends_with(',') && header.matches(',').count() == 2);
    if !is_header || !text.ends_with("\u{1}\u{1}") {
        return Err(malformed);
    }
    let mut token = None;
    for pair in parts.filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| malformed.clone())?;
        // Extensions are what a client says of itself, unsigned: nothing is decided by them.
        if key == "auth" && token.replace(value).is_some() {
            return Err(malformed);
        }
    }
    let (scheme, token) = token.and_then(|value| value.split_once(' ')).ok_or_else(|| malformed.clone())?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim_start_matches(' ')) } else { Err(malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_stands_where_rfc_7628_has_it() {
        for right in [
            "n,,\u{1}auth=Bearer abc\u{1}\u{1}",
            "n,a=me,\u{1}auth=bearer  abc\u{1}\u{1}",
            "n,,\u{1}auth=Bearer abc\u{1}logicalCluster=x\u{1}\u{1}",
        ] {
            assert_eq!(bearer(right.as_bytes()), Ok("abc"), "{right:?}");
        }
        for wrong in [
            "",
            "n,,",
            "\u{1}",
            "n,,auth=Bearer abc,k=v",
            "y,,\u{1}auth=Bearer abc\u{1}\u{1}",
            "n,\"a=x,\u{1}auth=Bearer abc\u{1}\u{1}",
            "n,,\u{1}auth=Basic abc\u{1}\u{1}",
            "n,,\u{1}auth=Bearer a\u{1}auth=Bearer b\u{1}\u{1}",
            "n,,\u{1}auth=Bearer abc\u{1}",
            "n,,\u{1}key=value\u{1}\u{1}",
        ] {
            assert!(bearer(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }
}
