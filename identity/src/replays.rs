//! Which signatures were used: a request that changes something is taken once.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use crate::request::SKEW_S;

/// Marks that are remembered of one span: some 13 bytes each.
const MARKS_MAX: usize = 6_000_000;
/// And of one account: nobody uses up what is there for all.
const MARKS_PER_ACCOUNT_MAX: usize = 2_000_000;

/// Whether a signature was used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    First,
    Again,
    /// As many as can be remembered were used just now.
    TooMany,
}

/// What tells a signature (64 hexadecimal digits) from others: a quarter of it. `None`: it is none.
pub fn mark(signature: &str) -> Option<u64> {
    let digits = signature.get(..16).filter(|_| signature.len() == 64)?;
    // A sign is none of them.
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, 16).ok())?
}

/// Signatures of the present span of time, and of the one before. A span is as long as a request can be sent again: it was
/// signed by a clock that is ahead.
#[derive(Debug, Default)]
pub struct Replays {
    now: BTreeMap<u64, BTreeSet<u64>>,
    before: BTreeMap<u64, BTreeSet<u64>>,
    held: usize,
    since_s: i64,
}

impl Replays {
    const SPAN_S: i64 = 2 * SKEW_S;

    /// Notes that an account's signature is used, at `now_s` (seconds since 1970).
    pub fn note(&mut self, account: u64, mark: u64, now_s: i64) -> Use {
        if now_s >= self.since_s + Self::SPAN_S {
            let is_long_ago = now_s >= self.since_s + 2 * Self::SPAN_S;
            self.before = mem::take(&mut self.now);
            if is_long_ago {
                self.before.clear();
            }
            (self.since_s, self.held) = (now_s, 0);
        }
        if self.before.get(&account).is_some_and(|marks| marks.contains(&mark)) {
            return Use::Again;
        }
        let marks = self.now.entry(account).or_default();
        if marks.contains(&mark) {
            return Use::Again;
        }
        if self.held >= MARKS_MAX || marks.len() >= MARKS_PER_ACCOUNT_MAX {
            return Use::TooMany;
        }
        marks.insert(mark);
        self.held += 1;
        Use::First
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_remembered_as_long_as_it_is_valid() {
        let mut replays = Replays::default();
        assert_eq!(replays.note(1, 7, 1_000), Use::First);
        for now_s in [1_000, 1_000 + SKEW_S, 1_000 + 2 * SKEW_S] {
            assert_eq!(replays.note(1, 7, now_s), Use::Again, "{now_s}");
            assert_eq!(replays.note(1, now_s as u64, now_s), Use::First);
        }
        // Long after it is forgotten: its time has run out.
        assert_eq!(replays.note(1, 7, 1_000 + 5 * SKEW_S), Use::First);
        // Another account's are others.
        assert_eq!(replays.note(2, 7, 1_000 + 5 * SKEW_S), Use::First);
    }

    #[test]
    fn one_account_leaves_room_for_others() {
        let mut replays = Replays::default();
        let marks = MARKS_PER_ACCOUNT_MAX as u64;
        assert!((0..marks).all(|mark| replays.note(1, mark, 1_000) == Use::First));
        assert_eq!(replays.note(1, marks, 1_000), Use::TooMany);
        assert_eq!(replays.note(1, 0, 1_000), Use::Again);
        assert_eq!(replays.note(2, marks, 1_000), Use::First);
        // The next span has room anew, and what was used is known all the same.
        assert_eq!(replays.note(1, marks, 1_000 + 2 * SKEW_S), Use::First);
        assert_eq!(replays.note(1, 0, 1_000 + 2 * SKEW_S), Use::Again);
    }

    #[test]
    fn marks_are_of_signatures() {
        assert_eq!(mark(&format!("{:016x}{:048x}", 9, 0)), Some(9));
        assert_eq!([mark("nonsense"), mark(&"g".repeat(64)), mark(&format!("+{}", "1".repeat(63)))], [None; 3]);
    }
}
