//! Bodies of requests in memory: so many bytes in all, and of one account, since a body is there before its signature can be checked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use types::{AccountId, ErrorCode};
use wire::frame::Refusal;

use crate::error::refuse;

const ALL_BYTES_MAX: usize = 1024 * 1024 * 1024;
const ACCOUNT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Bodies(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by_account: HashMap<AccountId, usize>,
}

/// What one request holds of it; given back when it is dropped.
#[derive(Debug)]
pub struct Body {
    bodies: Arc<Bodies>,
    account: AccountId,
    bytes: usize,
}

impl Bodies {
    /// Of a request that says it is of this account.
    pub fn begin(self: &Arc<Self>, account: AccountId) -> Body {
        Body { bodies: Arc::clone(self), account, bytes: 0 }
    }
}

impl Body {
    /// Takes room for more bytes.
    ///
    /// # Errors
    /// `Overloaded`: there is none.
    pub fn add(&mut self, bytes: usize) -> Result<(), Refusal> {
        let mut held = self.bodies.0.lock().expect("no panic holds this lock");
        let own = held.by_account.get(&self.account).copied().unwrap_or_default() + bytes;
        if own > ACCOUNT_BYTES_MAX || held.all + bytes > ALL_BYTES_MAX {
            return Err(refuse(ErrorCode::Overloaded, "too many request bodies are under way at once"));
        }
        held.all += bytes;
        held.by_account.insert(self.account, own);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let mut held = self.bodies.0.lock().expect("no panic holds this lock");
        held.all -= self.bytes;
        let own = held.by_account.get(&self.account).copied().unwrap_or_default();
        match own.saturating_sub(self.bytes) {
            0 => drop(held.by_account.remove(&self.account)),
            left => drop(held.by_account.insert(self.account, left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_its_share_and_gives_it_back() {
        let bodies = Arc::<Bodies>::default();
        let begin = |account| bodies.begin(AccountId(account));
        let mut first = begin(1);
        assert!(first.add(ACCOUNT_BYTES_MAX).is_ok() && first.add(1).is_err() && begin(1).add(1).is_err());
        let more: Vec<Body> = (2..5).map(begin).collect();
        let more: Vec<Body> =
            more.into_iter().map(|mut body| body.add(ACCOUNT_BYTES_MAX).map(|()| body).expect("room")).collect();
        assert_eq!(begin(9).add(1).map_err(|refusal| refusal.code), Err(ErrorCode::Overloaded), "in all");
        drop((first, more));
        assert!(begin(1).add(ACCOUNT_BYTES_MAX).is_ok());
        assert!(bodies.0.lock().expect("unharmed").by_account.is_empty());
    }
}
