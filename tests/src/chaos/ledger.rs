//! What clients were told, and whether the log agrees. The checker reads ledgers and the log, nothing else.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// A writer and its number of a record in a partition.
pub type Value = (u32, u64);

/// An acknowledged record.
#[derive(Debug, Clone, Copy)]
pub struct Acked {
    /// When the client began to send it; 0 where it does not say.
    pub sent_ms: u64,
    pub at_ms: u64,
    pub partition: u32,
    pub offset: u64,
    pub value: Value,
}

/// All that one client was told.
#[derive(Debug, Default)]
pub struct Ledger {
    pub acked: Vec<Acked>,
    pub errors: Vec<String>,
}

impl Ledger {
    /// The ledger that `ledger.py` kept for a writer.
    pub fn read(path: &Path, writer: u32) -> Self {
        let mut ledger = Self::default();
        for line in std::fs::read_to_string(path).unwrap_or_default().lines() {
            let fields: Vec<&str> = line.splitn(5, ' ').collect();
            let number = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok());
            match (number(0), number(1), number(2), number(3)) {
                (Some(at_ms), Some(partition), Some(offset), Some(of)) => {
                    ledger.acked.push(Acked {
                        sent_ms: 0,
                        at_ms,
                        partition: partition as u32,
                        offset,
                        value: (writer, of),
                    });
                }
                _ => ledger.errors.push(line.to_owned()),
            }
        }
        ledger
    }
}

/// One read at the tail.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    pub sent_ms: u64,
    pub at_ms: u64,
    pub partition: u32,
    /// Where it ended: everything below was there.
    pub next: u64,
    /// It took as much as it may at once: there may have been more.
    pub is_full: bool,
}

/// Whether appends and reads at the tail took effect in one order that agrees with time. Offsets say which order that is,
/// so it is enough to look at each two that did not overlap: who began later must have, or see, the higher offset.
/// Times are of one machine, in ms: what is closer than two of them overlaps.
pub fn check_linear(ledgers: &[Ledger], reads: &[Read]) -> Vec<String> {
    let mut by_partition: BTreeMap<u32, (Vec<Acked>, Vec<Read>)> = BTreeMap::new();
    for acked in ledgers.iter().flat_map(|ledger| &ledger.acked) {
        by_partition.entry(acked.partition).or_default().0.push(*acked);
    }
    reads.iter().for_each(|read| by_partition.entry(read.partition).or_default().1.push(*read));
    let mut wrong = Vec::new();
    for (appends, reads) in by_partition.into_values() {
        // What must be below whatever begins after this time: the end of what was seen or acknowledged before.
        let mut ends: Vec<(u64, u64)> = appends.iter().map(|acked| (acked.at_ms, acked.offset + 1)).collect();
        ends.extend(reads.iter().map(|read| (read.at_ms, read.next)));
        ends.sort_unstable();
        let mut highest = 0;
        for (_, end) in &mut ends {
            highest = highest.max(*end);
            *end = highest;
        }
        let end_before = |ms: u64| {
            let at = ends.partition_point(|(at_ms, _)| at_ms + 2 < ms);
            at.checked_sub(1).map_or(0, |at| ends[at].1)
        };
        let late = appends.iter().filter(|acked| acked.sent_ms > 0 && acked.offset < end_before(acked.sent_ms));
        wrong.extend(late.map(|acked| format!("STALE APPEND: {acked:?} is below what was there before it was sent")));
        let late = reads.iter().filter(|read| !read.is_full && read.next < end_before(read.sent_ms));
        wrong.extend(late.map(|read| format!("STALE READ: {read:?}, {} was there before", end_before(read.sent_ms))));
    }
    wrong.truncate(20);
    wrong
}

/// A value as it is stored: `WRITER:NUMBER:padding`.
pub fn parse(text: &str) -> Option<Value> {
    let mut parts = text.split(':');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The log of each partition: value by offset.
pub type Log = BTreeMap<u32, BTreeMap<u64, Value>>;

/// What is wrong; empty if nothing is.
pub fn check(log: &Log, ledgers: &[Ledger], reads: &[(u32, u64, Value)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut note = |text: String| {
        if wrong.len() < 20 {
            wrong.push(text);
        }
    };
    let at = |partition: u32, offset: u64| log.get(&partition).and_then(|log| log.get(&offset));
    for acked in ledgers.iter().flat_map(|ledger| &ledger.acked) {
        match at(acked.partition, acked.offset) {
            Some(value) if *value == acked.value => {}
            Some(value) => note(format!("LOST or MOVED: {acked:?}; there is {value:?}")),
            None => note(format!("LOST: {acked:?}; there is nothing")),
        }
    }
    for (partition, offset, value) in reads {
        if at(*partition, *offset) != Some(value) {
            note(format!(
                "VANISHED: {value:?} was read at {partition}/{offset}; there is {:?}",
                at(*partition, *offset)
            ));
        }
    }
    let acknowledged: HashSet<(u32, Value)> =
        ledgers.iter().flat_map(|ledger| &ledger.acked).map(|acked| (acked.partition, acked.value)).collect();
    for (partition, log) in log {
        let mut last: BTreeMap<u32, u64> = BTreeMap::new();
        let mut seen: std::collections::BTreeSet<Value> = std::collections::BTreeSet::new();
        let mut expected = 0;
        for (offset, value) in log {
            if *offset != expected {
                note(format!("GAP: {partition}/{expected} to {offset}"));
            }
            expected = offset + 1;
            if !seen.insert(*value) {
                note(format!("DUPLICATE: {value:?} again at {partition}/{offset}"));
            }
            // What was not acknowledged may come late: it was under way when its gateway died.
            if !acknowledged.contains(&(*partition, *value)) {
                continue;
            }
            if let Some(before) = last.insert(value.0, value.1).filter(|before| *before > value.1) {
                note(format!("ORDER: {value:?} at {partition}/{offset} comes after {before}"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acked(offset: u64, number: u64) -> Ledger {
        Ledger { acked: vec![append(0, 0, offset, number)], errors: Vec::new() }
    }

    fn append(sent_ms: u64, at_ms: u64, offset: u64, number: u64) -> Acked {
        Acked { sent_ms, at_ms, partition: 0, offset, value: (1, number) }
    }

    #[test]
    fn what_began_later_is_not_before() {
        let ledger =
            |second| Ledger { acked: vec![append(10, 20, 4, 0), append(30, 40, second, 1)], errors: Vec::new() };
        let read = |sent_ms, next| Read { sent_ms, at_ms: sent_ms + 5, partition: 0, next, is_full: false };
        let finds = |second, reads: &[Read]| check_linear(&[ledger(second)], reads).len();
        assert_eq!(finds(5, &[read(21, 4), read(45, 6)]), 0, "the first read began as the append was answered");
        assert_eq!(finds(3, &[]), 1, "an append below an earlier one");
        assert_eq!(finds(5, &[read(25, 4)]), 1, "a read that does not see what was acknowledged");
        assert_eq!(finds(5, &[read(15, 6), read(25, 5)]), 2, "a read that sees less than one before, and the append");
    }

    /// The checker itself is able to see each kind of failure.
    #[test]
    fn each_kind_of_failure_is_seen() {
        let log = |values: &[(u64, u64)]| -> Log {
            BTreeMap::from([(0, values.iter().map(|(offset, number)| (*offset, (1, *number))).collect())])
        };
        let good = log(&[(0, 0), (1, 1), (2, 2)]);
        assert_eq!(check(&good, &[acked(1, 1)], &[(0, 2, (1, 2))]), Vec::<String>::new());
        let finds = |log: &Log, ledger: Ledger, reads: &[(u32, u64, Value)], what: &str| {
            let wrong = check(log, &[ledger], reads);
            assert!(wrong.iter().any(|text| text.starts_with(what)), "{what}: {wrong:?}");
        };
        finds(&good, acked(3, 3), &[], "LOST");
        finds(&good, acked(1, 2), &[], "LOST or MOVED");
        finds(&good, acked(1, 1), &[(0, 1, (1, 7))], "VANISHED");
        finds(&log(&[(0, 0), (2, 1)]), acked(0, 0), &[], "GAP");
        finds(&log(&[(0, 0), (1, 0)]), acked(0, 0), &[], "DUPLICATE");
        let mut both = acked(0, 1);
        both.acked.extend(acked(1, 0).acked);
        finds(&log(&[(0, 1), (1, 0)]), both, &[], "ORDER");
    }
}
