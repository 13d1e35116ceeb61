//! A TCP proxy that can hold what goes through it, one way or both, and delay it: what a network does when it fails.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What the network does now.
#[derive(Debug, Default)]
pub struct Weather {
    /// Nothing arrives at the server, or nothing comes back.
    pub is_cut_in: AtomicBool,
    pub is_cut_out: AtomicBool,
    /// Each piece waits so long, in ms.
    pub delay_ms: AtomicU64,
}

impl Weather {
    pub fn heal(&self) {
        self.is_cut_in.store(false, Ordering::Relaxed);
        self.is_cut_out.store(false, Ordering::Relaxed);
        self.delay_ms.store(0, Ordering::Relaxed);
    }
}

/// Forwards `listen` to `server` for as long as the process lives.
pub fn start(listen: &str, server: String) -> Arc<Weather> {
    let weather = Arc::new(Weather::default());
    let listener = TcpListener::bind(listen).expect("a free port");
    let shared = Arc::clone(&weather);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (weather, server) = (Arc::clone(&shared), server.clone());
            std::thread::spawn(move || {
                let Ok(server) = TcpStream::connect(server) else { return };
                let (Ok(client2), Ok(server2)) = (client.try_clone(), server.try_clone()) else { return };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let back = Arc::clone(&weather);
                std::thread::spawn(move || forward(server2, client2, &back, |weather| &weather.is_cut_out));
                forward(client, server, &weather, |weather| &weather.is_cut_in);
            });
        }
    });
    weather
}

fn forward(mut from: TcpStream, mut to: TcpStream, weather: &Weather, cut: fn(&Weather) -> &AtomicBool) {
    let mut buffer = vec![0; 256 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let delay = weather.delay_ms.load(Ordering::Relaxed);
        if delay > 0 {
            std::thread::sleep(Duration::from_millis(delay));
        }
        // Packets of a cut network are sent again: they arrive when it heals.
        while cut(weather).load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
