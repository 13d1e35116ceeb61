//! What clients were told, and whether the log agrees. The checker reads ledgers and the log, nothing else.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// A writer and its number of a record in a partition.
pub type Value = (u32, u64);

/// An acknowledged record.
#[derive(Debug, Clone, Copy)]
pub struct Acked {
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
                    ledger.acked.push(Acked { at_ms, partition: partition as u32, offset, value: (writer, of) });
                }
                _ => ledger.errors.push(line.to_owned()),
            }
        }
        ledger
    }
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
        Ledger { acked: vec![Acked { at_ms: 0, partition: 0, offset, value: (1, number) }], errors: Vec::new() }
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
