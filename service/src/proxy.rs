//! Load balancers that say whose connections they pass on: PROXY protocol, version 2
//! (<https://www.haproxy.org/download/3.1/doc/proxy-protocol.txt>).
//!
//! Whoever is listed must begin each connection with a header and is believed; nobody else is asked for one, and a header of theirs is
//! what it would be without this: no Kafka, no HTTP, no TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use ppp::v2::{Addresses, Command, Header, Protocol};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A balancer that has not sent its header by then is given up.
const HEADER_WAIT: Duration = Duration::from_secs(5);
/// Signature, version, family and length.
const PREFIX_BYTES: usize = 16;
/// Bytes that may follow: addresses, and what balancers add to them.
const REST_BYTES_MAX: usize = 4_096;
/// `PP2_TYPE_SSL`, whose first byte has `PP2_CLIENT_SSL` if the client speaks TLS with the balancer.
const TYPE_SSL: u8 = 0x20;
const CLIENT_SSL: u8 = 0x01;

/// Where a connection is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    pub address: SocketAddr,
    /// It does not leave this machine.
    pub is_local: bool,
    /// It came to a balancer by TLS, as that says.
    pub is_tls: bool,
}

impl Source {
    /// Without a balancer.
    pub fn direct(peer: SocketAddr) -> Self {
        // A listener of both families sees IPv4 addresses as `::ffff:1.2.3.4`.
        let address = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Self { address, is_local: address.ip().is_loopback(), is_tls: false }
    }

    pub fn ip(&self) -> IpAddr {
        self.address.ip()
    }
}

/// Balancers that are believed.
#[derive(Debug, Clone, Default)]
pub struct Proxies(Arc<[IpNet]>);

impl Proxies {
    pub fn new(listed: &[IpNet]) -> Self {
        Self(listed.into())
    }

    /// Whose connection it is. Nothing but the header is read.
    ///
    /// # Errors
    /// A listed balancer sent no header, one that cannot be read, or none in time.
    pub async fn source<S: AsyncRead + Unpin>(&self, stream: &mut S, peer: SocketAddr) -> io::Result<Source> {
        let direct = Source::direct(peer);
        if !self.0.iter().any(|net| net.contains(&direct.ip())) {
            return Ok(direct);
        }
        match tokio::time::timeout(HEADER_WAIT, read(stream)).await {
            Ok(header) => told(&header?, direct),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no PROXY header came in time")),
        }
    }
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let mut header = vec![0; PREFIX_BYTES];
    stream.read_exact(&mut header).await?;
    if !header.starts_with(ppp::v2::PROTOCOL_PREFIX) {
        return Err(wrong("a listed balancer sent no PROXY header of version 2"));
    }
    let rest = usize::from(u16::from_be_bytes([header[PREFIX_BYTES - 2], header[PREFIX_BYTES - 1]]));
    if rest > REST_BYTES_MAX {
        return Err(wrong("a PROXY header is too large"));
    }
    header.resize(PREFIX_BYTES + rest, 0);
    stream.read_exact(&mut header[PREFIX_BYTES..]).await?;
    Ok(header)
}

/// What a whole header says of a connection that `balancer` made.
fn told(bytes: &[u8], balancer: Source) -> io::Result<Source> {
    let header = Header::try_from(bytes).map_err(|error| wrong(&error.to_string()))?;
    if header.command == Command::Local {
        // Of the balancer's own: is anybody there?
        return Ok(balancer);
    }
    if header.protocol == Protocol::Datagram {
        return Err(wrong("a PROXY header speaks of datagrams"));
    }
    let address: SocketAddr = match header.addresses {
        Addresses::IPv4(ip) => (ip.source_address, ip.source_port).into(),
        Addresses::IPv6(ip) => (ip.source_address.to_canonical(), ip.source_port).into(),
        // It does not know, or cannot say it.
        Addresses::Unspecified | Addresses::Unix(_) => return Ok(Source { is_local: false, ..balancer }),
    };
    let mut is_tls = false;
    for tlv in header.tlvs() {
        let tlv = tlv.map_err(|error| wrong(&error.to_string()))?;
        is_tls |= tlv.kind == TYPE_SSL && tlv.value.first().is_some_and(|flags| flags & CLIENT_SSL != 0);
    }
    Ok(Source { address, is_local: balancer.is_local && address.ip().is_loopback(), is_tls })
}

fn wrong(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BALANCER: &str = "10.0.0.9:4000";

    /// As the protocol's text has it, byte for byte.
    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        header.extend([0x20 | command, family]);
        header.extend((rest.len() as u16).to_be_bytes());
        header.extend(rest);
        header
    }

    const V4: [u8; 12] = [203, 0, 113, 7, 10, 0, 0, 1, 0x30, 0x39, 0x23, 0x84];

    async fn meet(peer: &str, mut bytes: &[u8]) -> (io::Result<Source>, usize) {
        let proxies = Proxies::new(&["10.0.0.0/24".parse().expect("a network"), "::1/128".parse().expect("a network")]);
        let source = proxies.source(&mut bytes, peer.parse().expect("an address")).await;
        (source, bytes.len())
    }

    fn source(address: &str, is_local: bool, is_tls: bool) -> Source {
        Source { address: address.parse().expect("an address"), is_local, is_tls }
    }

    #[tokio::test]
    async fn a_listed_balancer_says_whose_connection_it_is() {
        let mut bytes = header(1, 0x11, &V4);
        bytes.extend(b"what follows");
        let (told, left) = meet(BALANCER, &bytes).await;
        assert_eq!((told.expect("told"), left), (source("203.0.113.7:12345", false, false), 12), "no more is read");
        let told = meet("[::ffff:10.0.0.9]:1", &bytes).await.0.expect("told");
        assert_eq!(told.address.to_string(), "203.0.113.7:12345", "in either family's words");

        let mut v6 = [0_u8; 36];
        v6[..16].copy_from_slice(&"2001:db8::7".parse::<std::net::Ipv6Addr>().expect("an address").octets());
        v6[32..34].copy_from_slice(&12_345_u16.to_be_bytes());
        let told = meet(BALANCER, &header(1, 0x21, &v6)).await.0.expect("told");
        assert_eq!(told, source("[2001:db8::7]:12345", false, false));
    }

    #[tokio::test]
    async fn tls_up_to_the_balancer_is_told_and_loopback_only_believed_of_a_loopback() {
        let ssl = |flags: u8| header(1, 0x11, &[&V4[..], &[TYPE_SSL, 0, 5, flags, 0, 0, 0, 0]].concat());
        assert!(meet(BALANCER, &ssl(0x01)).await.0.expect("told").is_tls);
        assert!(!meet(BALANCER, &ssl(0x06)).await.0.expect("told").is_tls, "a certificate without TLS");
        let loopback = header(1, 0x11, &[&[127, 0, 0, 1], &V4[4..]].concat());
        assert!(!meet(BALANCER, &loopback).await.0.expect("told").is_local, "the balancer's loopback is not ours");
        assert!(meet("[::1]:7", &loopback).await.0.expect("told").is_local);
        assert!(!meet("[::1]:7", &header(1, 0x11, &V4)).await.0.expect("told").is_local);
    }

    #[tokio::test]
    async fn what_it_does_not_say_is_its_own() {
        for own in [header(0, 0x00, &[]), header(0, 0x11, &V4), header(1, 0x00, &[]), header(1, 0x31, &[0; 216])] {
            assert_eq!(meet(BALANCER, &own).await.0.expect("told"), source(BALANCER, false, false), "{own:?}");
        }
    }

    #[tokio::test]
    async fn nobody_else_is_asked_or_believed() {
        let bytes = header(1, 0x11, &V4);
        let (told, left) = meet("10.0.1.9:4000", &bytes).await;
        assert_eq!((told.expect("told"), left), (source("10.0.1.9:4000", false, false), bytes.len()));
    }

    #[tokio::test]
    async fn a_listed_balancer_sends_a_header_or_is_closed() {
        let mut wrong = vec![
            b"GET /v1/topics HTTP/1.1\r\n\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.7 10.0.0.1 12345 9092\r\n".to_vec(),
            Vec::new(),
            header(1, 0x11, &V4)[..20].to_vec(),
            header(2, 0x11, &V4),
            header(1, 0x12, &V4),
            header(1, 0x41, &V4),
            header(1, 0x11, &V4[..11]),
            header(1, 0x11, &vec![0; REST_BYTES_MAX + 1]),
            header(1, 0x11, &[&V4[..], &[TYPE_SSL, 0, 9, 1]].concat()),
        ];
        let mut version = header(1, 0x11, &V4);
        version[12] = 0x31;
        wrong.push(version);
        for bytes in wrong {
            let told = meet(BALANCER, &bytes).await.0;
            assert!(told.is_err(), "{bytes:?}: {told:?}");
        }
    }

    #[tokio::test]
    async fn a_silent_balancer_is_given_up() {
        let (_silent, mut stream) = tokio::io::duplex(64);
        let proxies = Proxies::new(&["10.0.0.9/32".parse().expect("a network")]);
        let told = proxies.source(&mut stream, BALANCER.parse().expect("an address")).await;
        assert_eq!(told.expect_err("no header").kind(), io::ErrorKind::TimedOut);
    }
}
