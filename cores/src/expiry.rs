//! What of a log may go by its age and size, and when a segment has been open for long enough: `retention.ms`,
//! `retention.bytes`, `segment.ms`, `segment.bytes`.
//!
//! As in Kafka whole sealed segments go, oldest first. So that there are some, a segment that takes appends is sealed now
//! and then and the next one opened. Unlike Kafka's, a segment's age counts from the newest of its records' times *and*
//! of its seal: what is written today with the time stamps of last year is kept as long as everything else.
//!
//! [`next`] says what to do or to ask; the shell asks members, notes answers in [`Known`] and calls again.

use std::collections::{BTreeMap, BTreeSet};

use types::{Nonce, Offset, PartitionRecord, SegmentRecord};

/// A segment takes appends for no longer than this share of `retention.ms`, and grows to this share of `retention.bytes`, so
/// that little more than what is asked for is kept.
const SHARE: i64 = 8;
/// And for no less than this share, lest records list thousands of segments.
const SHARE_LEAST: i64 = 64;
/// However small the configs are: a partition is not sealed more often than this, in ms, or for fewer bytes.
const OPEN_MS_MIN: i64 = 10_000;
const OPEN_BYTES_MIN: u64 = 1024 * 1024;
/// A time that is so far ahead, in ms, is of a clock that was wrong.
const AHEAD_MS_MAX: i64 = 2 * 3_600_000;
/// A partition's record lists so many segments at most by this module's doing.
const CHAIN_MAX: usize = 1_000;

/// What a topic's configs ask for. Times in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// `None`: for ever.
    pub age_ms: Option<i64>,
    /// `None`: however much.
    pub bytes: Option<u64>,
    pub segment_ms: i64,
    pub segment_bytes: u64,
}

impl Retention {
    /// Of a topic's configs, defaults as Kafka's. What is only compacted neither ages nor grows too large.
    pub fn of(configs: &BTreeMap<String, String>) -> Self {
        // What is there and cannot be read keeps everything.
        let number = |name: &str, default: i64, unread: i64| {
            configs.get(name).map_or(default, |text| text.parse().unwrap_or(unread))
        };
        let cleanup = configs.get("cleanup.policy").map_or("delete", String::as_str);
        let is_deleting = cleanup.split(',').any(|word| word.trim() == "delete");
        let bound = |number: i64| u64::try_from(number).ok().filter(|_| is_deleting);
        Self {
            age_ms: bound(number("retention.ms", 604_800_000, -1)).map(|age| age as i64),
            bytes: bound(number("retention.bytes", -1, -1)),
            segment_ms: number("segment.ms", 604_800_000, 604_800_000),
            segment_bytes: number("segment.bytes", 1 << 30, 1 << 30).max(0) as u64,
        }
    }

    /// Of what Weir trims by itself: nothing ages.
    pub const OWN: Self = Self { age_ms: None, bytes: None, segment_ms: i64::MAX, segment_bytes: 16 * OPEN_BYTES_MIN };

    /// How long a segment takes appends, in ms. Those that were opened together are not all sealed together.
    fn open_ms(&self, nonce: Nonce) -> Option<i64> {
        let age_ms = self.age_ms?;
        let most_ms = self.segment_ms.min(age_ms / SHARE).max(age_ms / SHARE_LEAST).max(OPEN_MS_MIN);
        Some(most_ms + (nonce.0 % (most_ms as u128 / SHARE as u128)) as i64)
    }

    /// How large one becomes that takes appends.
    fn open_bytes(&self) -> u64 {
        let share = self.bytes.map_or(u64::MAX, |bytes| bytes / SHARE as u64);
        let least = self.bytes.map_or(0, |bytes| bytes / SHARE_LEAST as u64);
        self.segment_bytes.min(share).max(least).max(OPEN_BYTES_MIN)
    }
}

/// What members said of segments; in memory alone.
#[derive(Debug, Default)]
pub struct Known {
    /// Of sealed segments, which do not grow.
    bytes: BTreeMap<Nonce, u64>,
    /// A time that a record of a sealed segment has.
    has: BTreeMap<Nonce, i64>,
    /// A time that all records of a sealed segment are older than.
    older_than: BTreeMap<Nonce, i64>,
    /// What an open segment was like a moment ago.
    open: BTreeMap<Nonce, Open>,
    /// Nobody answered for these in this look.
    silent: BTreeSet<Nonce>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    bytes: u64,
    is_empty: bool,
    at_ms: i64,
}

/// How long the size of an open segment is believed, in ms.
const FRESH_MS: i64 = 2_000;

impl Known {
    /// So many bytes are in a segment, and `visible` is the end of what can be read of it.
    pub fn sized(&mut self, segment: &SegmentRecord, bytes: u64, visible: Offset, now_ms: i64) {
        match segment.end {
            Some(_) => drop(self.bytes.insert(segment.nonce, bytes)),
            None => {
                let open = Open { bytes, is_empty: visible <= segment.base, at_ms: now_ms };
                self.open.insert(segment.nonce, open);
            }
        }
    }

    /// A sealed segment has a record of this time, or (`None`) none as new as `since_ms`.
    pub fn dated(&mut self, segment: &SegmentRecord, since_ms: i64, newer: Option<i64>) {
        match newer {
            Some(at_ms) => drop(self.has.insert(segment.nonce, at_ms.max(since_ms))),
            None => drop(self.older_than.insert(segment.nonce, since_ms)),
        }
    }

    /// Nobody says anything of a segment just now: the rest goes on without it.
    pub fn silent(&mut self, segment: &SegmentRecord) {
        self.silent.insert(segment.nonce);
    }

    /// Forgets who was silent, and what no record lists any more.
    pub fn retain(&mut self, listed: &BTreeSet<Nonce>) {
        self.silent.clear();
        self.bytes.retain(|nonce, _| listed.contains(nonce));
        self.has.retain(|nonce, _| listed.contains(nonce));
        self.older_than.retain(|nonce, _| listed.contains(nonce));
        self.open.retain(|nonce, _| listed.contains(nonce));
    }
}

/// What is to be done for a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Nothing now.
    Rest,
    /// Somebody must be asked whether this sealed segment has a record that is as new as this.
    IsAnyAsNewAs(&'a SegmentRecord, i64),
    /// Somebody must be asked how large this segment is.
    HowLarge(&'a SegmentRecord),
    /// Everything below may go.
    Trim(Offset),
    /// The open segment is to be sealed and another one opened.
    Roll(Nonce),
}

/// What to do or to ask for a partition at `now_ms`, the earliest of the wall clocks that agree.
pub fn next<'a>(record: &'a PartitionRecord, retention: Retention, known: &Known, now_ms: i64) -> Step<'a> {
    let decided = |before: Option<Offset>| before.filter(|before| *before > record.log_start).map(Step::Trim);
    let step = match by_age(record, retention, known, now_ms) {
        Ok(aged) => decided(aged),
        Err(question) => return question,
    };
    let step = step.or_else(|| match by_size(record, retention, known, now_ms) {
        Ok(outgrown) => decided(outgrown),
        Err(question) => Some(question),
    });
    step.unwrap_or_else(|| roll(record, retention, known, now_ms))
}

/// Sealed segments that hold something readable, oldest first.
fn sealed(record: &PartitionRecord) -> impl Iterator<Item = (&SegmentRecord, Offset)> {
    let ended = record.chain.iter().filter_map(|segment| Some((segment, segment.end?)));
    ended.filter(|(_, end)| *end > record.log_start)
}

fn by_age<'a>(
    record: &'a PartitionRecord,
    retention: Retention,
    known: &Known,
    now_ms: i64,
) -> Result<Option<Offset>, Step<'a>> {
    let Some(since_ms) = retention.age_ms.map(|age_ms| now_ms.saturating_sub(age_ms)) else { return Ok(None) };
    let mut before = None;
    for (segment, end) in sealed(record) {
        let is_newer = segment.changed_ms.is_none_or(|sealed_ms| sealed_ms >= since_ms);
        if is_newer || known.has.get(&segment.nonce).is_some_and(|at_ms| *at_ms >= since_ms) {
            break;
        }
        if known.older_than.get(&segment.nonce).is_none_or(|than_ms| *than_ms > since_ms) {
            if known.silent.contains(&segment.nonce) {
                break;
            }
            return Err(Step::IsAnyAsNewAs(segment, since_ms));
        }
        before = Some(end);
    }
    Ok(before)
}

fn by_size<'a>(
    record: &'a PartitionRecord,
    retention: Retention,
    known: &Known,
    now_ms: i64,
) -> Result<Option<Offset>, Step<'a>> {
    let Some(most) = retention.bytes else { return Ok(None) };
    let mut sizes = Vec::new();
    let ended = sealed(record).map(|(segment, end)| (segment, Some(end)));
    for (segment, end) in ended.chain(record.open().map(|open| (open, None))) {
        match size(segment, known, now_ms) {
            Some(bytes) => sizes.push((bytes, end)),
            // Without it nobody knows how much there is.
            None if known.silent.contains(&segment.nonce) => return Ok(None),
            None => return Err(Step::HowLarge(segment)),
        }
    }
    let mut left: u64 = sizes.iter().map(|(bytes, _)| bytes).sum();
    let mut before = None;
    for (bytes, end) in sizes {
        // What stays is as much as was asked for, or more.
        if left - bytes < most || end.is_none() {
            break;
        }
        left -= bytes;
        before = end;
    }
    Ok(before)
}

fn size(segment: &SegmentRecord, known: &Known, now_ms: i64) -> Option<u64> {
    match segment.end {
        Some(_) => known.bytes.get(&segment.nonce).copied(),
        None => open(segment, known, now_ms).map(|open| open.bytes),
    }
}

fn open(segment: &SegmentRecord, known: &Known, now_ms: i64) -> Option<Open> {
    known.open.get(&segment.nonce).copied().filter(|open| (0..FRESH_MS).contains(&(now_ms - open.at_ms)))
}

/// Nothing of an open segment goes before it is sealed.
fn roll<'a>(record: &'a PartitionRecord, retention: Retention, known: &Known, now_ms: i64) -> Step<'a> {
    let Some(segment) = record.open().filter(|_| record.chain.len() < CHAIN_MAX) else { return Step::Rest };
    let Some(opened_ms) = segment.changed_ms else { return Step::Rest };
    let open_ms = now_ms.saturating_sub(opened_ms);
    let is_old = retention.open_ms(segment.nonce).is_some_and(|most| open_ms >= most);
    // Something of it could go now or soon: all that was given up by hand, or by size.
    let is_size_asked = retention.bytes.is_some() || record.log_start > segment.base;
    if open_ms < OPEN_MS_MIN || !(is_old || is_size_asked) {
        return Step::Rest;
    }
    match open(segment, known, now_ms) {
        None if known.silent.contains(&segment.nonce) => Step::Rest,
        None => Step::HowLarge(segment),
        Some(open) if open.is_empty => Step::Rest,
        Some(open) if is_old || open.bytes >= retention.open_bytes() => Step::Roll(segment.nonce),
        Some(_) => Step::Rest,
    }
}

/// Somebody must note when a segment was opened or sealed: nobody did, or by a clock that was wrong.
pub fn lacks_times(record: &PartitionRecord, now_ms: i64) -> bool {
    record.chain.iter().any(|segment| !is_plausible(segment.changed_ms, now_ms))
}

fn is_plausible(changed_ms: Option<i64>, now_ms: i64) -> bool {
    changed_ms.is_some_and(|changed_ms| changed_ms <= now_ms.saturating_add(AHEAD_MS_MAX))
}

/// Notes when what changed in a record did, by the latest of the wall clocks that agree: segments that were opened or sealed
/// with this swap have no time yet. A time that is noted now is not before those that stand before it.
pub fn stamp(record: &mut PartitionRecord, now_ms: i64) {
    let mut newest = i64::MIN;
    for segment in &mut record.chain {
        if !is_plausible(segment.changed_ms, now_ms) {
            segment.changed_ms = Some(now_ms.max(newest));
        }
        newest = newest.max(segment.changed_ms.unwrap_or(i64::MIN));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::{AccountId, ClusterId, Epoch, Generation, Incarnation, NodeId, Replica, TopicId};

    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    /// Segments that were sealed at these times, and an open one if it was opened then; ten records each.
    fn record(sealed_ms: &[Option<i64>], opened_ms: Option<i64>) -> PartitionRecord {
        let replica = Replica { node: NodeId(1), incarnation: Incarnation(1) };
        let all = sealed_ms.iter().map(|at| (*at, false)).chain(opened_ms.map(|at| (Some(at), true)));
        let segment = |(number, (changed_ms, is_open)): (usize, (Option<i64>, bool))| SegmentRecord {
            generation: Generation(1),
            epoch: Epoch(number as i32 + 1),
            nonce: Nonce(number as u128),
            base: 10 * number as Offset,
            end: (!is_open).then_some(10 * (number as Offset + 1)),
            replicas: [replica, replica],
            changed_ms,
        };
        PartitionRecord {
            account: AccountId(0),
            cluster: ClusterId(0),
            topic: TopicId(1),
            partition: 0,
            generation: Generation(1),
            epoch: Epoch(9),
            log_start: 0,
            gaps: Vec::new(),
            chain: all.enumerate().map(segment).collect(),
            version: 3,
        }
    }

    fn retention(configs: &[(&str, &str)]) -> Retention {
        Retention::of(&configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// Answers all questions: every record of a segment has the time of this table, every segment its size.
    fn done(
        record: &PartitionRecord,
        retention: Retention,
        times: &[i64],
        bytes: &[u64],
        now_ms: i64,
    ) -> Step<'static> {
        let mut known = Known::default();
        for _ in 0..100 {
            match next(record, retention, &known, now_ms) {
                Step::IsAnyAsNewAs(segment, since_ms) => {
                    let at_ms = times[segment.nonce.0 as usize];
                    known.dated(segment, since_ms, Some(at_ms).filter(|at| *at >= since_ms));
                }
                Step::HowLarge(segment) => {
                    let visible = segment.end.unwrap_or(segment.base + 10);
                    known.sized(segment, bytes[segment.nonce.0 as usize], visible, now_ms);
                }
                Step::Trim(before) => return Step::Trim(before),
                Step::Roll(nonce) => return Step::Roll(nonce),
                Step::Rest => return Step::Rest,
            }
        }
        panic!("it asks for ever")
    }

    #[test]
    fn what_configs_ask_for() {
        let week =
            Retention { age_ms: Some(604_800_000), bytes: None, segment_ms: 604_800_000, segment_bytes: 1 << 30 };
        assert_eq!(retention(&[]), week);
        assert_eq!(retention(&[("retention.ms", "-1")]).age_ms, None);
        assert_eq!(retention(&[("retention.bytes", "0")]).bytes, Some(0));
        let compacted = retention(&[("cleanup.policy", "compact"), ("retention.ms", "1"), ("retention.bytes", "1")]);
        assert_eq!((compacted.age_ms, compacted.bytes), (None, None), "nothing of it goes");
        assert_eq!(retention(&[("cleanup.policy", "compact, delete"), ("retention.ms", "1")]).age_ms, Some(1));
        assert_eq!(retention(&[("retention.ms", "9223372036854775807")]).age_ms, Some(i64::MAX));
        assert_eq!(retention(&[("retention.ms", "a week")]).age_ms, None, "what cannot be read keeps everything");
    }

    #[test]
    fn a_segment_goes_when_its_seal_and_all_its_records_are_old() {
        let retention = retention(&[("retention.ms", "3600000"), ("segment.ms", "9999999999")]);
        let now_ms = 100 * HOUR_MS;
        let ago = |hours: i64| Some(now_ms - hours * HOUR_MS);
        let old = record(&[ago(3), ago(2), ago(0)], Some(now_ms));
        let of = |times: [i64; 4]| done(&old, retention, &times, &[], now_ms);
        assert_eq!(of([1, 1, 1, 1]), Step::Trim(20), "the third was sealed just now");
        assert_eq!(of([1, now_ms, 1, 1]), Step::Trim(10), "the second has a newer record");
        assert_eq!(of([now_ms, 1, 1, 1]), Step::Rest, "oldest first");
        assert_eq!(of([-1, -1, 1, 1]), Step::Trim(20), "without times of their own the seal counts");
        let unknown = record(&[None, ago(2)], Some(now_ms));
        assert_eq!(done(&unknown, retention, &[1, 1, 1], &[], now_ms), Step::Rest, "nobody knows when");
    }

    #[test]
    fn by_size_at_least_as_much_stays_as_was_asked_for() {
        let retention = retention(&[("retention.ms", "-1"), ("retention.bytes", "100")]);
        let there = record(&[Some(1); 3], Some(1));
        let of = |bytes: [u64; 4]| done(&there, retention, &[], &bytes, 2);
        assert_eq!(of([40, 40, 40, 40]), Step::Trim(10));
        assert_eq!(of([60, 60, 40, 0]), Step::Trim(10));
        assert_eq!(of([61, 60, 40, 0]), Step::Trim(10));
        assert_eq!(of([61, 60, 39, 0]), Step::Rest);
        assert_eq!(of([61, 60, 39, 1_000_000]), Step::Trim(30));
    }

    /// What was asked for a shorter retention says nothing of a longer one.
    #[test]
    fn a_retention_that_was_raised_is_asked_for_anew() {
        let now_ms = 1_000 * HOUR_MS;
        let there = record(&[Some(now_ms - 50 * HOUR_MS)], Some(now_ms));
        let mut known = Known::default();
        known.dated(&there.chain[0], now_ms - HOUR_MS, None);
        let hours = |count: i64| retention(&[("retention.ms", &(count * HOUR_MS).to_string())]);
        assert_eq!(next(&there, hours(1), &known, now_ms), Step::Trim(10));
        let anew = Step::IsAnyAsNewAs(&there.chain[0], now_ms - 30 * HOUR_MS);
        assert_eq!(next(&there, hours(30), &known, now_ms), anew);
    }

    #[test]
    fn no_segment_is_sealed_for_its_age_within_a_64th_of_retention() {
        let now_ms = 10_000 * HOUR_MS;
        let configs = [("retention.ms", (64 * 24 * HOUR_MS).to_string()), ("segment.ms", HOUR_MS.to_string())];
        let days = retention(&configs.each_ref().map(|(name, value)| (*name, value.as_str())));
        let step = |open_hours: i64| {
            let there = record(&[], Some(now_ms - open_hours * HOUR_MS));
            let mut known = Known::default();
            known.sized(&there.chain[0], 100, 5, now_ms);
            matches!(next(&there, days, &known, now_ms), Step::Roll(_))
        };
        assert_eq!((step(2), step(23), step(28)), (false, false, true), "a day, and up to an eighth of it more");
    }

    #[test]
    fn an_open_segment_is_sealed_when_old_or_large() {
        let now_ms = 100 * HOUR_MS;
        let open = |minutes: i64| record(&[], Some(now_ms - minutes * 60_000));
        let hour = retention(&[("retention.ms", "3600000")]);
        assert_eq!(done(&open(8), hour, &[], &[1], now_ms), Step::Roll(Nonce(0)));
        assert_eq!(done(&open(7), hour, &[], &[1], now_ms), Step::Rest);
        let quick = retention(&[("retention.ms", "3600000"), ("segment.ms", "1")]);
        assert_eq!(done(&open(1), quick, &[], &[1], now_ms), Step::Roll(Nonce(0)));
        assert_eq!(done(&open(0), quick, &[], &[1], now_ms), Step::Rest, "not that often");
        let sized =
            retention(&[("retention.ms", "-1"), ("retention.bytes", "80000000"), ("segment.bytes", "20000000")]);
        assert_eq!(done(&open(1), sized, &[], &[10_000_000], now_ms), Step::Roll(Nonce(0)));
        assert_eq!(done(&open(1), sized, &[], &[9_999_999], now_ms), Step::Rest);
        let mut trimmed = open(1);
        let kept = retention(&[("retention.ms", "-1"), ("segment.bytes", "20000000")]);
        assert_eq!(next(&trimmed, kept, &Known::default(), now_ms), Step::Rest, "nothing is asked for");
        trimmed.log_start = 5;
        assert_eq!(done(&trimmed, kept, &[], &[20_000_000], now_ms), Step::Roll(Nonce(0)));
        let mut known = Known::default();
        known.sized(&trimmed.chain[0], 20_000_000, 0, now_ms);
        assert_eq!(next(&trimmed, kept, &known, now_ms), Step::Rest, "an empty one stays open");
        let long = record(&[Some(now_ms); CHAIN_MAX], Some(now_ms - HOUR_MS));
        assert_eq!(done(&long, hour, &[1; CHAIN_MAX], &[], now_ms), Step::Rest);
    }

    #[test]
    fn what_nobody_says_anything_of_does_not_hold_back_the_rest() {
        let retention = retention(&[("retention.ms", "3600000"), ("retention.bytes", "1")]);
        let now_ms = 100 * HOUR_MS;
        let there = record(&[Some(1), Some(1), Some(1)], Some(1));
        let mut known = Known::default();
        known.dated(&there.chain[0], now_ms - HOUR_MS, None);
        known.silent(&there.chain[1]);
        assert_eq!(next(&there, retention, &known, now_ms), Step::Trim(10), "whatever the sizes are");
        let mut trimmed = there.clone();
        trimmed.log_start = 10;
        known.sized(&there.chain[2], 5, 30, now_ms);
        known.sized(&there.chain[3], 5, 35, now_ms);
        assert_eq!(next(&trimmed, retention, &known, now_ms), Step::Roll(Nonce(3)), "nobody knows how much there is");
        known.retain(&there.chain.iter().map(|segment| segment.nonce).collect());
        assert_eq!(next(&trimmed, retention, &known, now_ms), Step::IsAnyAsNewAs(&trimmed.chain[1], now_ms - HOUR_MS));
    }

    #[test]
    fn a_time_of_a_clock_that_was_wrong_is_noted_anew() {
        let now_ms = 100 * HOUR_MS;
        let mut there = record(&[Some(now_ms - 5), Some(now_ms + 50 * HOUR_MS), Some(now_ms - 3)], None);
        assert!(lacks_times(&there, now_ms));
        stamp(&mut there, now_ms);
        let times: Vec<Option<i64>> = there.chain.iter().map(|segment| segment.changed_ms).collect();
        assert_eq!(times, [Some(now_ms - 5), Some(now_ms), Some(now_ms - 3)]);
        assert!(!lacks_times(&there, now_ms));
    }

    #[test]
    fn times_never_fall_along_a_chain() {
        let mut there = record(&[Some(50), None, Some(70), None], None);
        stamp(&mut there, 60);
        let times: Vec<Option<i64>> = there.chain.iter().map(|segment| segment.changed_ms).collect();
        assert_eq!(times, [Some(50), Some(60), Some(70), Some(70)]);
    }

    proptest! {
        #[test]
        fn nothing_young_and_nothing_of_the_last_bytes_goes(
            segments in proptest::collection::vec((0_i64..100, 0_i64..100, 0_u64..50), 0..6),
            age_ms in proptest::option::of(0_i64..100), most in proptest::option::of(0_u64..200),
            open in 0_u64..50, log_start in 0_i64..60,
        ) {
            let sealed: Vec<Option<i64>> = segments.iter().map(|(at, _, _)| Some(*at)).collect();
            let mut there = record(&sealed, Some(99));
            there.log_start = log_start.min(10 * segments.len() as i64);
            let times: Vec<i64> = segments.iter().map(|(_, at, _)| *at).collect();
            let bytes: Vec<u64> = segments.iter().map(|(_, _, bytes)| *bytes).chain([open]).collect();
            let retention = Retention { age_ms, bytes: most, segment_ms: 1, segment_bytes: 1 };
            if let Step::Trim(before) = done(&there, retention, &times, &bytes, 100) {
                prop_assert!(before > there.log_start);
                let is_old = |at: usize| age_ms.is_some_and(|age_ms| segments[at].0.max(segments[at].1) < 100 - age_ms);
                let gone = (before / 10) as usize;
                prop_assert_eq!(before % 10, 0, "whole segments");
                let left: u64 = bytes[gone..].iter().sum();
                let first = (there.log_start / 10) as usize;
                let is_aged = (first..gone).all(is_old);
                prop_assert!(is_aged || most.is_some_and(|most| left >= most), "{} {:?}", before, there);
            }
        }
    }
}
