//! Where a log begins: the log start moves up, never down, and what lies wholly below it leaves the record.
//!
//! Nodes drop what no record lists ([`crate::partition`]); nothing is deleted in any other way but with its topic.

use types::{Offset, PartitionRecord, SegmentRecord};

use crate::{Rule, Rules};

/// The record with everything below `before` given up; `None` if that changes nothing.
///
/// Somebody must have been told that `before` is readable, or is the end: offsets above it are not looked at. Of a partition
/// without an open segment nothing is given up that is not there yet.
pub fn trim(record: &PartitionRecord, before: Offset, rules: Rules) -> Option<PartitionRecord> {
    let end = if record.open().is_none() { record.sealed_end() } else { Offset::MAX };
    let start = record.log_start.max(before.min(end));
    // The last sealed one stays, whatever is below: what is opened next goes on from it, with its producers, also if the
    // open one turns out to hold nothing.
    let last = record.chain.iter().rposition(|segment| segment.end.is_some()).unwrap_or(0);
    let is_below = |segment: &&SegmentRecord| match rules.holds(Rule::OnlyWholeSegmentsGo) {
        true => segment.end.is_some_and(|end| end <= start),
        false => segment.base < start,
    };
    let gone = record.chain[..last].iter().take_while(is_below).count();
    if start == record.log_start && gone == 0 {
        return None;
    }
    let mut after = record.clone();
    after.log_start = start;
    after.chain.drain(..gone);
    after.version += 1;
    Some(after)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::{AccountId, ClusterId, Epoch, Generation, Incarnation, NodeId, Nonce, Replica, TopicId};

    use super::*;

    /// Sealed segments that end there, and an open one behind them.
    fn record(ends: &[Offset], is_open: bool) -> PartitionRecord {
        let replica = Replica { node: NodeId(1), incarnation: Incarnation(1) };
        let mut chain = Vec::new();
        let mut base = 0;
        for end in ends.iter().map(|end| Some(*end)).chain(is_open.then_some(None)) {
            let number = chain.len() as u32 + 1;
            chain.push(SegmentRecord {
                generation: Generation(1),
                epoch: Epoch(number as i32),
                nonce: Nonce(number.into()),
                base,
                end,
                replicas: [replica, replica],
                changed_ms: None,
            });
            base = end.unwrap_or(base);
        }
        PartitionRecord {
            account: AccountId(0),
            cluster: ClusterId(0),
            topic: TopicId(1),
            partition: 0,
            generation: Generation(1),
            epoch: Epoch(chain.len() as i32),
            log_start: 0,
            gaps: Vec::new(),
            chain,
            version: 3,
        }
    }

    fn trimmed(record: &PartitionRecord, before: Offset) -> PartitionRecord {
        trim(record, before, Rules::ALL).expect("something changes")
    }

    #[test]
    fn the_log_start_rises_and_segments_below_it_go() {
        let before = record(&[5, 9, 20], true);
        let after = trimmed(&before, 4);
        assert_eq!((after.log_start, after.chain.len(), after.version), (4, 4, 4));
        let after = trimmed(&after, 5);
        assert_eq!((after.log_start, after.chain[0].base, after.version), (5, 5, 5));
        assert_eq!(trim(&after, 3, Rules::ALL), None, "it never falls");
        let after = trimmed(&after, 30);
        assert_eq!((after.log_start, after.chain.len()), (30, 2), "the last sealed one and the open one stay");
    }

    #[test]
    fn nothing_is_given_up_that_is_not_there_yet() {
        let after = trimmed(&record(&[5, 9], false), 100);
        assert_eq!((after.log_start, after.chain.len(), after.sealed_end()), (9, 1, 9));
        assert_eq!(trim(&record(&[], false), 100, Rules::ALL), None);
    }

    proptest! {
        #[test]
        fn what_can_be_read_above_the_start_is_where_it_was(
            lengths in proptest::collection::vec(1_i64..9, 0..6), is_open: bool, before in 0_i64..60, again in 0_i64..60,
        ) {
            let ends: Vec<Offset> =
                lengths.iter().scan(0, |end, length| { *end += length; Some(*end) }).collect();
            let first = record(&ends, is_open);
            let mut last = first.clone();
            for before in [before, again] {
                last = trim(&last, before, Rules::ALL).unwrap_or(last);
            }
            prop_assert!(last.log_start >= first.log_start);
            prop_assert_eq!(last.sealed_end(), first.sealed_end());
            for offset in last.log_start..60 {
                prop_assert_eq!(last.segment_of(offset), first.segment_of(offset));
            }
        }
    }
}
