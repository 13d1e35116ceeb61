//! Bodies of requests and answers in memory: so many bytes in all, and of one address, since a body is there before it is clear
//! whose it is, and an answer until its client has read it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use service::places::neighbourhood;
use types::ErrorCode;
use wire::frame::Refusal;

use crate::error::refuse;

const ALL_BYTES_MAX: usize = 1024 * 1024 * 1024;
const ADDRESS_BYTES_MAX: usize = 256 * 1024 * 1024;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Bodies(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// What one request holds of it; given back when it is dropped.
#[derive(Debug)]
pub struct Body {
    bodies: Arc<Bodies>,
    address: IpAddr,
    bytes: usize,
}

impl Bodies {
    /// Of a request that comes from this address.
    pub fn begin(self: &Arc<Self>, address: IpAddr) -> Body {
        Body { bodies: Arc::clone(self), address: neighbourhood(address), bytes: 0 }
    }
}

impl Body {
    /// Takes room for more bytes.
    ///
    /// # Errors
    /// `Overloaded`: there is none.
    pub fn add(&mut self, bytes: usize) -> Result<(), Refusal> {
        let mut held = self.bodies.0.lock().expect("no panic holds this lock");
        let own = held.by_address.get(&self.address).copied().unwrap_or_default() + bytes;
        if own > ADDRESS_BYTES_MAX || held.all + bytes > ALL_BYTES_MAX {
            return Err(refuse(
                ErrorCode::Overloaded,
                "too many requests and answers of this address, or of all, are under way at once",
            ));
        }
        held.all += bytes;
        held.by_address.insert(self.address, own);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let mut held = self.bodies.0.lock().expect("no panic holds this lock");
        held.all -= self.bytes;
        let own = held.by_address.get(&self.address).copied().unwrap_or_default();
        match own.saturating_sub(self.bytes) {
            0 => drop(held.by_address.remove(&self.address)),
            left => drop(held.by_address.insert(self.address, left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_gives_it_back() {
        let bodies = Arc::<Bodies>::default();
        let begin = |last: u8| bodies.begin(IpAddr::from([10, 0, 0, last]));
        let mut first = begin(1);
        assert!(first.add(ADDRESS_BYTES_MAX).is_ok() && first.add(1).is_err() && begin(1).add(1).is_err());
        let more: Vec<Body> = (2..5).map(begin).collect();
        let more: Vec<Body> =
            more.into_iter().map(|mut body| body.add(ADDRESS_BYTES_MAX).map(|()| body).expect("room")).collect();
        assert_eq!(begin(9).add(1).map_err(|refusal| refusal.code), Err(ErrorCode::Overloaded), "in all");
        drop((first, more));
        assert!(begin(1).add(ADDRESS_BYTES_MAX).is_ok());
        assert!(bodies.0.lock().expect("unharmed").by_address.is_empty());
    }
}
