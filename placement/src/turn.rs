//! Whose turn it is to repair and to balance, where several placement processes share a store. A hint: two that both
//! think so waste work, and break nothing.
//!
//! The process whose turn it is writes a key now and then. The others go by their own clocks: when it does not change
//! for a while, one of them takes it over, by compare-and-swap.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use service::drain::Drain;
use service::{clock, random};

use crate::Placement;
use crate::records::json;
use crate::store::{Outcome, StoreError, Transaction};

pub(crate) const KEY: &str = "turn";
const EVERY: Duration = Duration::from_secs(1);
/// Silence after which the turn is taken over, in ms, and what is added by chance.
const SILENCE_MS: u64 = 3_000;
const JITTER_MS: u64 = 1_000;

/// See the module's text.
#[derive(Debug)]
pub struct Turn {
    /// Of a store that only one process can have open it always is.
    is_alone: bool,
    is_mine: AtomicBool,
}

impl Turn {
    pub fn new(is_alone: bool) -> Self {
        Self { is_alone, is_mine: AtomicBool::new(is_alone) }
    }

    pub fn is_mine(&self) -> bool {
        self.is_mine.load(Ordering::Relaxed)
    }
}

/// Writes the key, or looks at it, until the drain begins.
pub(crate) async fn run(placement: Arc<Placement>, mut drain: Drain) {
    if placement.turn.is_alone {
        return;
    }
    let me = random::wide();
    // The revision seen last, and since when it is that.
    let mut seen = (0, clock::monotonic_ms());
    loop {
        tokio::select! {
            biased;
            () = drain.begun() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let is_mine = match look(&placement, me, &mut seen).await {
            Ok(is_mine) => is_mine,
            Err(error) => {
                tracing::debug!(%error, "whose turn it is cannot be seen");
                false
            }
        };
        if placement.turn.is_mine.swap(is_mine, Ordering::Relaxed) != is_mine {
            let what =
                if is_mine { "this process repairs and balances now" } else { "another process repairs and balances" };
            placement.events.note(what.to_owned());
        }
    }
}

async fn look(placement: &Placement, me: u128, seen: &mut (u64, u64)) -> Result<bool, StoreError> {
    let entry = placement.store.get(KEY).await?;
    let revision = entry.as_ref().map_or(0, |entry| entry.revision);
    let was_mine = placement.turn.is_mine() && revision == seen.0;
    if revision != seen.0 {
        *seen = (revision, clock::monotonic_ms());
    }
    let silent_ms = clock::monotonic_ms() - seen.1;
    let patience_ms = SILENCE_MS + (random::wide() % u128::from(JITTER_MS)) as u64;
    if !was_mine && revision > 0 && silent_ms < patience_ms {
        return Ok(false);
    }
    let transaction = Transaction {
        compares: vec![(KEY.into(), revision)],
        puts: vec![(KEY.into(), json(&me.to_string()))],
        ..Transaction::default()
    };
    match placement.store.transact(transaction).await? {
        Outcome::Committed { revision } => {
            *seen = (revision, clock::monotonic_ms());
            Ok(true)
        }
        Outcome::Conflict => Ok(false),
    }
}
