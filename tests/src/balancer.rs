//! A load balancer as far as a gateway can tell: it passes connections on, from an address of its own, and says whose they are.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use socket2::{Domain, Socket, Type};

/// Passes connections on until the test ends.
pub struct Balancer {
    /// Where it listens.
    pub address: String,
}

impl Balancer {
    /// To `target`, from the address `own`; each connection begins with `header`.
    pub fn start(target: &str, own: &str, header: &[u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let target: SocketAddr = target.replace("localhost", "127.0.0.1").parse().expect("an address");
        let own: SocketAddr = format!("{own}:0").parse().expect("an address");
        let header = header.to_vec();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
                socket.bind(&own.into()).expect("the whole of 127.0.0.0/8 is this machine's");
                socket.connect(&target.into()).expect("the gateway listens");
                let mut gateway = TcpStream::from(socket);
                let _ = gateway.set_nodelay(true);
                if gateway.write_all(&header).is_ok() {
                    pass(&client, &gateway);
                    pass(&gateway, &client);
                }
            }
        });
        Self { address }
    }
}

fn pass(from: &TcpStream, to: &TcpStream) {
    let mut from = from.try_clone().expect("a handle");
    let mut to = to.try_clone().expect("a handle");
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// What a connection of 203.0.113.7 begins with (PROXY protocol, version 2); `has_tls`: it came to the balancer by TLS.
pub fn proxy_header(has_tls: bool) -> Vec<u8> {
    let mut rest = vec![203, 0, 113, 7, 127, 0, 0, 1, 0x30, 0x39, 0x23, 0x84];
    if has_tls {
        // PP2_TYPE_SSL: PP2_CLIENT_SSL, and that nothing of a certificate was verified.
        rest.extend([0x20, 0, 5, 0x01, 0, 0, 0, 1]);
    }
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0", &[rest.len() as u8][..], &rest].concat()
}
