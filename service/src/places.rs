//! Places for what nobody has paid for yet: so many in all, and so many of one address, so that one client cannot take them all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

/// See the module's text.
#[derive(Debug)]
pub struct Places {
    all_max: usize,
    address_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One of them; free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    pub fn new(all_max: usize, address_max: usize) -> Arc<Self> {
        Arc::new(Self { all_max, address_max, taken: Mutex::default() })
    }

    /// `None`: there are none left, or none for this address.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = neighbourhood(address);
        let mut taken = self.taken.lock().expect("no panic holds this lock");
        let own = taken.by_address.get(&address).copied().unwrap_or_default();
        if taken.all >= self.all_max || own >= self.address_max {
            return None;
        }
        taken.by_address.insert(address, own + 1);
        taken.all += 1;
        Some(Place { places: Arc::clone(self), address })
    }
}

/// Who has an IPv6 address has 2^64 of them as a rule: they are one.
pub fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::from(std::net::Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().expect("no panic holds this lock");
        taken.all -= 1;
        match taken.by_address.get(&self.address).copied().unwrap_or_default() {
            0 | 1 => drop(taken.by_address.remove(&self.address)),
            own => drop(taken.by_address.insert(self.address, own - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_them_all_and_they_come_back() {
        let places = Places::new(3, 2);
        let [one, other, third] = [1, 2, 3].map(|last| IpAddr::from([10, 0, 0, last]));
        let held = [places.take(one), places.take(one)];
        assert!(held.iter().all(Option::is_some) && places.take(one).is_none(), "of one address");
        let more = places.take(other).expect("another has its own");
        let v6 = ["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"]
            .map(|ip| neighbourhood(ip.parse().expect("an address")));
        assert!(
            v6[0] == v6[1] && v6[1] != v6[2] && neighbourhood("::ffff:10.0.0.1".parse().expect("an address")) == one
        );
        assert!(places.take(third).is_none(), "in all");
        drop(more);
        let again = places.take(third);
        assert!(again.is_some());
        drop((held, again));
        assert!(places.taken.lock().expect("unharmed").by_address.is_empty());
    }
}
