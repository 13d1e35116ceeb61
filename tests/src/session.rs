//! One Kafka connection that has logged in, call by call: what no client would send can be sent by it.

use std::fmt::Debug;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut as _, Bytes};
use identity::sigv4::{Scope, SigningKey, canonical_get, day, encode, time};
use wire::codec::Writer;
use wire::kafka::{
    ApiKey, Message, Offered, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
    SaslHandshakeResponse, has_flexible_response_header,
};

use crate::guarded::{Key, REGION};

/// See the module's text.
pub struct Session {
    stream: TcpStream,
}

impl Session {
    /// Connected, and nobody yet.
    pub fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the gateway listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        Self { stream }
    }

    /// Logged in by `AWS_MSK_IAM`.
    pub fn of(address: &str, key: &Key) -> Self {
        let mut session = Self::connect(address);
        session.log_in(key).unwrap_or_else(|message| panic!("{message}"));
        session
    }

    /// Logs in, perhaps again; the error is the gateway's.
    pub fn log_in(&mut self, key: &Key) -> Result<(), String> {
        let mechanism = SaslHandshakeRequest { mechanism: "AWS_MSK_IAM".to_owned() };
        let answer: SaslHandshakeResponse = self.call(ApiKey::SaslHandshake, 1, &mechanism).ok_or("closed")?;
        if answer.error != 0 {
            return Err(format!("handshake: {}", answer.error));
        }
        let auth_bytes = payload(key).into();
        let request = SaslAuthenticateRequest { auth_bytes };
        let answer: SaslAuthenticateResponse = self.call(ApiKey::SaslAuthenticate, 2, &request).ok_or("closed")?;
        if answer.error == 0 { Ok(()) } else { Err(answer.error_message.unwrap_or_default()) }
    }

    /// Logs in by OAUTHBEARER with a token; the error is the gateway's.
    pub fn log_in_by_token(&mut self, token: &str) -> Result<i64, String> {
        let mechanism = SaslHandshakeRequest { mechanism: "OAUTHBEARER".to_owned() };
        let answer: SaslHandshakeResponse = self.call(ApiKey::SaslHandshake, 1, &mechanism).ok_or("closed")?;
        if answer.error != 0 {
            return Err(format!("handshake: {}", answer.error));
        }
        let auth_bytes = format!("n,,\u{1}auth=Bearer {token}\u{1}\u{1}").into_bytes().into();
        let request = SaslAuthenticateRequest { auth_bytes };
        let answer: SaslAuthenticateResponse = self.call(ApiKey::SaslAuthenticate, 2, &request).ok_or("closed")?;
        if answer.error == 0 { Ok(answer.session_lifetime_ms) } else { Err(answer.error_message.unwrap_or_default()) }
    }

    /// One call; `None` if the connection was closed instead.
    pub fn call<Q: Message, A: Message>(&mut self, key: ApiKey, version: i16, request: &Q) -> Option<A> {
        let offered = Offered::of(key as i16).expect("an offered API");
        let mut writer = Writer::with_capacity(256);
        writer.buffer.put_i16(key as i16);
        writer.buffer.put_i16(version);
        writer.buffer.put_i32(7);
        writer.buffer.put_i16(-1);
        if version >= offered.flexible {
            writer.unsigned_varint(0);
        }
        request.encode(&mut writer, version);
        let frame: Vec<u8> = writer.into_chunks().concat();
        // In one piece: the second would wait for the first one's acknowledgement.
        self.stream.write_all(&[&(frame.len() as u32).to_be_bytes(), &*frame].concat()).ok()?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut answer).ok()?;
        let header = if has_flexible_response_header(offered, version) { 5 } else { 4 };
        let body = Bytes::from(answer).slice(header..);
        Some(A::decode(body, version).unwrap_or_else(|error| panic!("{key:?} {version}: {error}")))
    }

    /// The same, as text.
    pub fn tell<Q: Message, A: Message + Debug>(&mut self, key: ApiKey, version: i16, request: &Q) -> String {
        let answer: Option<A> = self.call(key, version, request);
        answer.map_or_else(|| "closed".to_owned(), |answer| format!("{answer:?}"))
    }
}

/// A token as MSK's signers make them: a signed URL, in base64.
pub fn token(key: &Key) -> String {
    let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs() as i64;
    let service = "kafka-cluster".to_owned();
    let scope = Scope { key_id: key.id.clone(), date: day(now_s), region: REGION.to_owned(), service };
    let (host, at, credential) = (format!("kafka.{REGION}.amazonaws.com"), time(now_s), scope.credential());
    let parameters = [
        ("Action", "kafka-cluster:Connect"),
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Credential", &*credential),
        ("X-Amz-Date", &*at),
        ("X-Amz-Expires", "900"),
        ("X-Amz-SignedHeaders", "host"),
    ];
    let canonical = canonical_get(&host, &parameters);
    let signature = SigningKey::derive(&key.secret, &scope).sign(&scope, &at, &canonical);
    let query: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    URL_SAFE_NO_PAD.encode(format!("https://{host}/?{}&X-Amz-Signature={signature}", query.join("&")))
}

fn payload(key: &Key) -> String {
    let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs() as i64;
    let service = "kafka-cluster".to_owned();
    let scope = Scope { key_id: key.id.clone(), date: day(now_s), region: REGION.to_owned(), service };
    identity::msk::sign(&key.secret, &scope, key.token.as_deref(), "localhost", "test", now_s)
}
