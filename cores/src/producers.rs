//! Producer state: which appends the log already holds, by producer id or gateway session.
//!
//! A pure function of the log below an offset: every replica computes the same from the same batches, and
//! expiry goes by log time (KIP-360's lesson), never by a local clock.

use std::collections::BTreeMap;

use types::SessionId;
use types::limits::{PRODUCER_BATCHES, PRODUCER_EXPIRY_MS, PRODUCERS_MAX, SESSION_EXPIRY_MS, SESSION_WINDOW_MAX};
use wire::dedupe::sequence_plus;
use wire::{Batch, DedupeKey, DedupeSnapshot, ProducerEntry, RememberedBatch, SessionEntry};

/// What an append is, in the light of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Not seen before and next in order.
    New,
    /// In the log already, there.
    Duplicate(RememberedBatch),
    /// Something before it is missing.
    Gap,
    /// A newer epoch of this producer has written (KIP-98).
    StaleEpoch,
    /// Seen before, but too long ago to say where.
    Forgotten,
}

/// The state at one offset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ProducerState {
    /// Boxed, as the sessions are: a map's node has room for eleven, and most partitions have one or two.
    producers: BTreeMap<i64, Box<ProducerEntry>>,
    sessions: BTreeMap<SessionId, Box<SessionEntry>>,
    log_time: i64,
    /// Log time of the last sweep: not part of the state that is compared or stored.
    swept: i64,
}

impl ProducerState {
    pub fn from_snapshot(snapshot: &DedupeSnapshot) -> Self {
        Self {
            producers: snapshot.producers.iter().map(|entry| (entry.id, Box::new(entry.clone()))).collect(),
            sessions: snapshot.sessions.iter().map(|entry| (entry.session, Box::new(entry.clone()))).collect(),
            log_time: snapshot.log_time,
            swept: snapshot.log_time,
        }
    }

    pub fn snapshot(&self) -> DedupeSnapshot {
        let live = |last: i64, expiry: i64| self.log_time.saturating_sub(last) <= expiry;
        DedupeSnapshot {
            producers: self
                .producers
                .values()
                .filter(|entry| live(entry.last_time, PRODUCER_EXPIRY_MS))
                .map(|entry| (**entry).clone())
                .collect(),
            sessions: self
                .sessions
                .values()
                .filter(|entry| live(entry.last_time, SESSION_EXPIRY_MS))
                .map(|entry| (**entry).clone())
                .collect(),
            log_time: self.log_time,
        }
    }

    /// The highest append time in the log, in ms.
    pub fn log_time(&self) -> i64 {
        self.log_time
    }

    pub fn judge(&self, key: &DedupeKey) -> Verdict {
        match *key {
            DedupeKey::None => Verdict::New,
            DedupeKey::Producer { id, epoch, base_sequence, last_sequence } => {
                self.judge_producer(id, epoch, base_sequence, last_sequence)
            }
            DedupeKey::Session { session, number, floor } => self.judge_session(session, number, floor),
        }
    }

    fn judge_producer(&self, id: i64, epoch: i16, base: i32, last: i32) -> Verdict {
        let Some(entry) = self.producers.get(&id) else {
            // Nothing is known of it: either it is new, or its state expired. A first batch that is not
            // sequence 0 waits a moment for the one before it, then counts as expired.
            return if base == 0 { Verdict::New } else { Verdict::Gap };
        };
        let epoch = i32::from(epoch);
        if epoch < entry.epoch {
            return Verdict::StaleEpoch;
        }
        if epoch > entry.epoch {
            return if base == 0 { Verdict::New } else { Verdict::Gap };
        }
        let found = entry.batches.iter().find(|b| b.first == i64::from(base) && b.last == i64::from(last));
        if let Some(batch) = found {
            return Verdict::Duplicate(*batch);
        }
        let Some(latest) = entry.batches.last() else { return Verdict::New };
        let expected = sequence_plus(latest.last as i32, 1);
        if base == expected {
            Verdict::New
        } else if (base.wrapping_sub(expected)) > 0 {
            Verdict::Gap
        } else {
            Verdict::Forgotten
        }
    }

    fn judge_session(&self, session: SessionId, number: u64, floor: u64) -> Verdict {
        let next = self.sessions.get(&session).map_or(0, |entry| entry.next).max(floor);
        if number == next {
            return Verdict::New;
        }
        if number > next {
            return Verdict::Gap;
        }
        let entry = self.sessions.get(&session);
        let found = entry.and_then(|entry| entry.batches.iter().find(|b| b.first == number as i64));
        found.map_or(Verdict::Forgotten, |batch| Verdict::Duplicate(*batch))
    }

    /// True when nothing at all is known of this key's producer. Of one that is known a newer epoch begins with sequence 0,
    /// as in Kafka.
    pub fn is_unknown(&self, key: &DedupeKey) -> bool {
        matches!(key, DedupeKey::Producer { id, .. } if !self.producers.contains_key(id))
    }

    /// Notes that the log holds this append.
    pub fn record(&mut self, key: &DedupeKey, batch: &Batch, append_time: i64) {
        self.log_time = self.log_time.max(append_time);
        let remembered = |first: i64, last: i64| RememberedBatch {
            first,
            last,
            base_offset: batch.base_offset,
            end_offset: batch.end_offset(),
            append_time,
        };
        match *key {
            DedupeKey::None => {}
            DedupeKey::Producer { id, epoch, base_sequence, last_sequence } => {
                let epoch = i32::from(epoch);
                let entry = self.producers.entry(id).or_insert_with(|| {
                    Box::new(ProducerEntry { id, epoch, last_time: append_time, batches: Vec::new() })
                });
                if entry.epoch != epoch {
                    entry.epoch = epoch;
                    entry.batches.clear();
                }
                entry.last_time = append_time;
                if entry.batches.len() >= PRODUCER_BATCHES {
                    entry.batches.remove(0);
                }
                entry.batches.push(remembered(i64::from(base_sequence), i64::from(last_sequence)));
            }
            DedupeKey::Session { session, number, floor } => {
                let entry = self.sessions.entry(session).or_insert_with(|| {
                    Box::new(SessionEntry { session, next: 0, last_time: append_time, batches: Vec::new() })
                });
                entry.next = number + 1;
                entry.last_time = append_time;
                entry.batches.retain(|b| b.first >= floor as i64);
                if entry.batches.len() >= SESSION_WINDOW_MAX {
                    entry.batches.remove(0);
                }
                entry.batches.push(remembered(number as i64, number as i64));
            }
        }
        self.sweep();
    }

    /// Drops what expired, once per minute of log time or when there are too many. What is forgotten is the same on
    /// every replica: it depends on entries that have not expired alone.
    fn sweep(&mut self) {
        let is_over = self.producers.len().max(self.sessions.len()) > PRODUCERS_MAX;
        if self.log_time - self.swept < 60_000 && !is_over {
            return;
        }
        let now = self.log_time;
        self.swept = now;
        self.producers.retain(|_, entry| entry.last_time >= now - PRODUCER_EXPIRY_MS);
        self.sessions.retain(|_, entry| entry.last_time >= now - SESSION_EXPIRY_MS);
        if is_over {
            forget_oldest(&mut self.producers, |entry| entry.last_time);
            forget_oldest(&mut self.sessions, |entry| entry.last_time);
        }
    }
}

/// Above the bound: keeps nine tenths of it, so that this is not done for every new one.
fn forget_oldest<K: Copy + Ord, V>(entries: &mut BTreeMap<K, Box<V>>, last_time: impl Fn(&V) -> i64) {
    if entries.len() <= PRODUCERS_MAX {
        return;
    }
    let mut by_time: Vec<(i64, K)> = entries.iter().map(|(key, entry)| (last_time(entry), *key)).collect();
    by_time.sort_unstable();
    for (_, key) in &by_time[..entries.len() - PRODUCERS_MAX / 10 * 9] {
        entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use wire::compression::Codec;
    use wire::records::{BatchBuilder, NewRecord};

    use super::*;

    fn batch(offset: i64) -> Batch {
        let mut builder = BatchBuilder::new();
        builder.push(NewRecord { key: None, value: Some(b"x"), timestamp: 0, headers: &[] });
        builder.finish(Codec::None).expect("a batch").placed_at(offset, 1)
    }

    fn producer(epoch: i16, sequence: i32) -> DedupeKey {
        DedupeKey::Producer { id: 7, epoch, base_sequence: sequence, last_sequence: sequence }
    }

    fn session(number: u64, floor: u64) -> DedupeKey {
        DedupeKey::Session { session: SessionId(1), number, floor }
    }

    #[test]
    fn the_last_five_batches_of_a_producer_are_remembered() {
        let mut state = ProducerState::default();
        for sequence in 0..7 {
            assert_eq!(state.judge(&producer(0, sequence)), Verdict::New);
            state.record(&producer(0, sequence), &batch(i64::from(sequence)), 1);
        }
        assert_eq!(state.judge(&producer(0, 1)), Verdict::Forgotten);
        assert!(matches!(state.judge(&producer(0, 2)), Verdict::Duplicate(b) if b.base_offset == 2));
        assert_eq!(state.judge(&producer(0, 8)), Verdict::Gap);
        assert_eq!(state.judge(&producer(1, 0)), Verdict::New);
        state.record(&producer(1, 0), &batch(9), 1);
        assert_eq!(state.judge(&producer(0, 7)), Verdict::StaleEpoch);
    }

    #[test]
    fn a_new_epoch_forgets_the_batches_of_the_old() {
        let mut state = ProducerState::default();
        state.record(&producer(0, 0), &batch(0), 1);
        state.record(&producer(0, 1), &batch(1), 1);
        state.record(&producer(1, 0), &batch(2), 1);
        assert!(matches!(state.judge(&producer(1, 0)), Verdict::Duplicate(b) if b.base_offset == 2));
        assert_eq!(state.judge(&producer(1, 1)), Verdict::New);
    }

    #[test]
    fn sequences_begin_again_after_their_maximum() {
        let mut state = ProducerState::default();
        state.record(&producer(0, i32::MAX), &batch(0), 1);
        assert_eq!(state.judge(&producer(0, 0)), Verdict::New);
    }

    #[test]
    fn sessions_go_by_number_and_forget_below_the_floor() {
        let mut state = ProducerState::default();
        assert_eq!(state.judge(&session(3, 0)), Verdict::Gap, "0, 1 and 2 must come first");
        for number in 0..4 {
            state.record(&session(number, 0), &batch(number as i64), 1);
        }
        assert!(matches!(state.judge(&session(2, 0)), Verdict::Duplicate(b) if b.base_offset == 2));
        state.record(&session(4, 4), &batch(4), 1);
        assert_eq!(state.judge(&session(2, 0)), Verdict::Forgotten);
        assert_eq!(state.judge(&session(9, 9)), Verdict::New, "the gateway gave up on 5 to 8");
    }

    #[test]
    fn of_too_many_producers_the_oldest_are_forgotten_and_every_replica_forgets_the_same() {
        let mut state = ProducerState::default();
        let one = batch(0);
        let mut other = None;
        for id in 0..PRODUCERS_MAX as i64 + 10 {
            let key = DedupeKey::Producer { id, epoch: 0, base_sequence: 0, last_sequence: 0 };
            state.record(&key, &one, id);
            if id == 15_000 {
                // A replica that begins from a snapshot, as the next segment's do.
                other = Some(ProducerState::from_snapshot(&state.snapshot()));
            } else if let Some(other) = &mut other {
                other.record(&key, &one, id);
            }
        }
        let snapshot = state.snapshot();
        assert!(snapshot.producers.len() <= PRODUCERS_MAX);
        assert_eq!(snapshot.producers.last().map(|entry| entry.id), Some(PRODUCERS_MAX as i64 + 9));
        assert_eq!(other.map(|other| other.snapshot()), Some(snapshot));
    }

    #[test]
    fn entries_expire_by_log_time() {
        let mut state = ProducerState::default();
        state.record(&producer(0, 0), &batch(0), 0);
        state.record(&session(0, 0), &batch(1), 0);
        state.record(&DedupeKey::None, &batch(2), SESSION_EXPIRY_MS + 1);
        assert!(state.snapshot().sessions.is_empty());
        assert_eq!(state.snapshot().producers.len(), 1, "a producer may rest for a day");
        state.record(&DedupeKey::None, &batch(3), PRODUCER_EXPIRY_MS + 1);
        assert!(state.snapshot().producers.is_empty());
        assert_eq!(state.judge(&producer(0, 5)), Verdict::Gap);
        assert!(state.is_unknown(&producer(0, 5)));
    }
}
