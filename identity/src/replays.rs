//! Which signatures were used: a request that changes something is taken once.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use crate::request::SKEW_S;
use crate::sigv4::sha256;

/// Marks that are remembered of one span: some 13 bytes each.
const MARKS_MAX: usize = 8_000_000;
/// And of one account: the others' have room beside it.
const MARKS_PER_ACCOUNT_MAX: usize = 2_000_000;
/// Of what is kept for the next process.
const FORMAT: u8 = 1;
/// What is left is for the operators, who stop those who use up all of it.
const OPERATORS: u64 = 0;
const MARKS_OF_OTHERS_MAX: usize = MARKS_MAX - 100_000;

/// Marks by account.
type Marks = BTreeMap<u64, BTreeSet<u64>>;

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
    now: Marks,
    before: Marks,
    held: usize,
    since_s: i64,
}

impl Replays {
    const SPAN_S: i64 = 2 * SKEW_S;

    /// Notes that an account's signature is used, at `now_s` (seconds of a clock that is not set). Also what is remembered no more, which
    /// takes a while to give back.
    pub fn note(&mut self, account: u64, mark: u64, now_s: i64) -> (Use, Option<[Marks; 2]>) {
        let forgotten = self.turn(now_s);
        (self.note_now(account, mark), forgotten)
    }

    /// Takes that back: it was not used.
    pub fn forget(&mut self, account: u64, mark: u64) {
        let marks = self.now.get_mut(&account);
        self.held -= usize::from(marks.is_some_and(|marks| marks.remove(&mark)));
    }

    /// What is remembered, for the process that comes after this one.
    pub fn to_bytes(&self, now_s: i64) -> Vec<u8> {
        let mut out = vec![FORMAT];
        out.extend((now_s - self.since_s).to_be_bytes());
        for marks in [&self.now, &self.before] {
            out.extend((marks.len() as u64).to_be_bytes());
            for (account, marks) in marks {
                out.extend(account.to_be_bytes());
                out.extend((marks.len() as u64).to_be_bytes());
                marks.iter().for_each(|mark| out.extend(mark.to_be_bytes()));
            }
        }
        out.extend(sha256(&out));
        out
    }

    /// What another process remembered `away_s` ago; `None` if these bytes are not whole, or of another format.
    pub fn from_bytes(bytes: &[u8], now_s: i64, away_s: i64) -> Option<Self> {
        let (body, digest) = bytes.split_last_chunk::<32>()?;
        let (format, mut rest) = body.split_first()?;
        if *format != FORMAT || sha256(body) != *digest {
            return None;
        }
        let age_s = i64::from_be_bytes(rest.split_off(..8)?.try_into().ok()?);
        let mut next = || Some(u64::from_be_bytes(rest.split_off(..8)?.try_into().ok()?));
        let mut all = [Marks::new(), Marks::new()];
        for marks in &mut all {
            for _ in 0..next()? {
                let account = next()?;
                let count = next()?;
                marks.insert(account, (0..count).map(|_| next()).collect::<Option<_>>()?);
            }
        }
        let [now, before] = all;
        let held = now.values().map(BTreeSet::len).sum();
        Some(Self { now, before, held, since_s: now_s.checked_sub(age_s.checked_add(away_s)?)? })
    }

    fn turn(&mut self, now_s: i64) -> Option<[Marks; 2]> {
        if now_s < self.since_s + Self::SPAN_S {
            return None;
        }
        let is_long_ago = now_s >= self.since_s + 2 * Self::SPAN_S;
        let mut forgotten = [mem::replace(&mut self.before, mem::take(&mut self.now)), Marks::new()];
        if is_long_ago {
            forgotten[1] = mem::take(&mut self.before);
        }
        (self.since_s, self.held) = (now_s, 0);
        Some(forgotten)
    }

    fn note_now(&mut self, account: u64, mark: u64) -> Use {
        if self.before.get(&account).is_some_and(|marks| marks.contains(&mark)) {
            return Use::Again;
        }
        let marks = self.now.entry(account).or_default();
        if marks.contains(&mark) {
            return Use::Again;
        }
        let room = if account == OPERATORS { MARKS_MAX } else { MARKS_OF_OTHERS_MAX };
        if self.held >= room || marks.len() >= MARKS_PER_ACCOUNT_MAX {
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
        let mut note = |account, mark, now_s| replays.note(account, mark, now_s).0;
        assert_eq!(note(1, 7, 1_000), Use::First);
        for now_s in [1_000, 1_000 + SKEW_S, 1_000 + 2 * SKEW_S] {
            assert_eq!(note(1, 7, now_s), Use::Again, "{now_s}");
            assert_eq!(note(1, now_s as u64, now_s), Use::First);
        }
        // Long after it is forgotten: its time has run out.
        assert_eq!(note(1, 7, 1_000 + 5 * SKEW_S), Use::First);
        // Another account's are others.
        assert_eq!(note(2, 7, 1_000 + 5 * SKEW_S), Use::First);
    }

    #[test]
    fn one_account_leaves_room_for_others_and_all_for_the_operators() {
        let mut replays = Replays::default();
        let mut note = |account, mark, now_s| replays.note(account, mark, now_s).0;
        let marks = MARKS_PER_ACCOUNT_MAX as u64;
        for account in 1..4 {
            assert!((0..marks).all(|mark| note(account, mark, 1_000) == Use::First));
            assert_eq!(note(account, marks, 1_000), Use::TooMany);
            assert_eq!(note(account, 0, 1_000), Use::Again);
        }
        let left = (MARKS_OF_OTHERS_MAX - 3 * MARKS_PER_ACCOUNT_MAX) as u64;
        assert!((0..left).all(|mark| note(4, mark, 1_000) == Use::First));
        assert_eq!(
            [note(4, left, 1_000), note(5, 0, 1_000), note(OPERATORS, 0, 1_000)],
            [Use::TooMany, Use::TooMany, Use::First]
        );
        // The next span has room anew, and what was used is known all the same.
        assert_eq!(note(1, marks, 1_000 + 2 * SKEW_S), Use::First);
        assert_eq!(note(1, 0, 1_000 + 2 * SKEW_S), Use::Again);
    }

    #[test]
    fn what_was_not_used_after_all_may_come_again() {
        let mut replays = Replays::default();
        assert_eq!(replays.note(1, 7, 1_000).0, Use::First);
        replays.forget(1, 7);
        replays.forget(1, 8);
        assert_eq!(replays.note(1, 7, 1_000).0, Use::First);
        assert_eq!(replays.note(1, 7, 1_000).0, Use::Again);
    }

    #[test]
    fn the_next_process_knows_what_this_one_knew() {
        let mut replays = Replays::default();
        assert_eq!(replays.note(1, 7, 1_000).0, Use::First);
        assert_eq!(replays.note(1, 8, 1_000 + 2 * SKEW_S).0, Use::First);
        let bytes = replays.to_bytes(1_010 + 2 * SKEW_S);
        // Its clock begins anew, a minute later.
        let next = |now_s| Replays::from_bytes(&bytes, now_s, 60).expect("whole");
        assert_eq!([7, 8].map(|mark| next(5).note(1, mark, 5).0), [Use::Again; 2]);
        // For as long as it would have been.
        let last_s = 5 + 2 * SKEW_S - 70 - 1;
        assert_eq!([7, 8].map(|mark| next(5).note(1, mark, last_s).0), [Use::Again; 2]);
        assert_eq!([7, 8].map(|mark| next(5).note(1, mark, last_s + 1).0), [Use::First, Use::Again]);
        assert_eq!(next(5).note(2, 7, 5).0, Use::First);
        for cut in 0..bytes.len() {
            assert!(Replays::from_bytes(&bytes[..cut], 5, 60).is_none(), "{cut}");
            let mut other = bytes.clone();
            other[cut] ^= 1;
            assert!(Replays::from_bytes(&other, 5, 60).is_none(), "{cut}");
        }
    }

    #[test]
    fn marks_are_of_signatures() {
        assert_eq!(mark(&format!("{:016x}{:048x}", 9, 0)), Some(9));
        assert_eq!([mark("nonsense"), mark(&"g".repeat(64)), mark(&format!("+{}", "1".repeat(63)))], [None; 3]);
    }
}
