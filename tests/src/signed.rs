//! HTTP requests that are signed, one after the other on one connection: what no client would send can be sent by it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use identity::request::{Authorization, Request};
use identity::sigv4::{Scope, SigningKey, day, hex, sha256, time};

use crate::guarded::{Key, REGION};

/// See the module's text.
pub struct Signed {
    address: String,
    key: Key,
    connection: Option<BufReader<TcpStream>>,
    count: u64,
    ahead_s: i64,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names and values, in the order that they came in; names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Signed {
    /// `server`: `http://ADDRESS`.
    pub fn of(server: &str, key: &Key) -> Self {
        let address = server.trim_start_matches("http://").to_owned();
        Self { address, key: key.clone(), connection: None, count: 0, ahead_s: 0 }
    }

    /// By a clock that is ahead by so much.
    pub fn ahead(mut self, ahead_s: i64) -> Self {
        self.ahead_s = ahead_s;
        self
    }

    /// Asks for `path`, with its query; `body` is JSON, or nothing. `more` are headers beside.
    pub fn ask(&mut self, method: &str, path: &str, body: &str, more: &[(&str, &str)]) -> Answer {
        let text = self.request(&self.address.clone(), method, path, body, more);
        self.say(&text)
    }

    /// Sends a request that was signed.
    pub fn say(&mut self, text: &str) -> Answer {
        let mut connection = self.connection.take().unwrap_or_else(|| connect(&self.address));
        let answer = say(&mut connection, text);
        if !answer.headers.contains(&("connection".to_owned(), "close".to_owned())) {
            self.connection = Some(connection);
        }
        answer
    }

    /// A request for a server of this name, signed now, to be sent by [`send`], or twice.
    pub fn request(&mut self, host: &str, method: &str, path: &str, body: &str, more: &[(&str, &str)]) -> String {
        let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
        let now_s = elapsed.as_secs() as i64 + self.ahead_s;
        let (at, nonce) = (time(now_s), format!("{}-{}", elapsed.as_nanos(), self.count));
        self.count += 1;
        let service = "kafka-cluster".to_owned();
        let scope = Scope { key_id: self.key.id.clone(), date: day(now_s), region: REGION.to_owned(), service };
        let mut headers = vec![("host", host), ("weir-nonce", &*nonce), ("x-amz-date", &*at)];
        headers.extend(self.key.token.as_deref().map(|token| ("x-amz-security-token", token)));
        headers.extend(more);
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        let body_sha256 = hex(&sha256(body.as_bytes()));
        let (plain, query) = path.split_once('?').unwrap_or((path, ""));
        let request = Request { method, path: plain, query, headers: &headers, body_sha256: &body_sha256 };
        let key = SigningKey::derive(&self.key.secret, &scope);
        let signature = Authorization::sign(&request, &key, &scope, &at).expect("a plain query");
        let mut text = format!("{method} {path} HTTP/1.1\r\n");
        for (name, value) in headers.iter().chain(&[("authorization", &*signature)]) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        text
    }
}

/// Sends a request on a connection of its own. `server`: `http://ADDRESS`.
pub fn send(server: &str, text: &str) -> Answer {
    say(&mut connect(server.trim_start_matches("http://")), text)
}

fn connect(address: &str) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).expect("the gateway listens");
    stream.set_nodelay(true).expect("an option");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    BufReader::new(stream)
}

fn say(connection: &mut BufReader<TcpStream>, text: &str) -> Answer {
    connection.get_mut().write_all(text.as_bytes()).expect("sent");
    read(connection)
}

fn read(connection: &mut BufReader<TcpStream>) -> Answer {
    let mut line = || {
        let mut line = String::new();
        connection.read_line(&mut line).expect("an answer");
        line.trim_end().to_owned()
    };
    let first = line();
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("`{first}`"));
    let mut headers = Vec::new();
    loop {
        let line = line();
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse().expect("a length"));
    assert!(!headers.iter().any(|(name, _)| name == "transfer-encoding"), "answers are of a known length");
    let mut body = vec![0; length];
    connection.read_exact(&mut body).expect("the body");
    Answer { status, headers, body: String::from_utf8(body).expect("text") }
}
