//! Power cuts and damage on small journals: every subset of the blocks of the last write.

use bytes::BytesMut;
use types::{AccountId, ClusterId, Epoch, Generation, Incarnation, NodeId, Nonce, SegmentId, TopicId, TopicPartition};
use wire::DedupeSnapshot;
use wire::journal::{OpenMeta, RecordPlace};

use super::*;
use crate::producers::ProducerState;

const FILE: u64 = 64 * 1024;

/// A journal in memory that writes as the real one does.
struct Journal {
    bytes: Vec<u8>,
    end: u64,
    write: u64,
    durable: u64,
}

fn fence(number: i32) -> JournalEntry {
    JournalEntry::Fence {
        partition: TopicPartition { topic: TopicId(number as u128), partition: 0 },
        generation: Generation(1),
        epoch: Epoch(number),
    }
}

impl Journal {
    fn new() -> Self {
        Self { bytes: vec![0; 2 * FILE as usize], end: 0, write: 1, durable: 0 }
    }

    fn resume(bytes: Vec<u8>, recovered: &Recovered) -> Self {
        let mut bytes = bytes;
        if let Some(torn) = &recovered.torn {
            bytes[torn.start as usize..torn.end as usize].fill(0);
        }
        Self { bytes, end: recovered.end, write: recovered.next_write, durable: recovered.end }
    }

    /// The blocks of one write of these entries.
    fn encode(&self, entries: &[JournalEntry]) -> BytesMut {
        let mut out = BytesMut::new();
        for (i, entry) in entries.iter().enumerate() {
            let encoded = entry.encode();
            let at = out.len();
            out.resize(at + encoded.len(), 0);
            let place = RecordPlace {
                lap: self.end / FILE,
                position: self.end + at as u64,
                write: self.write,
                durable_through: self.durable,
                is_last: i + 1 == entries.len(),
            };
            encoded.write_to(place, &mut out[at..]);
        }
        out.resize(out.len().next_multiple_of(BLOCK as usize), 0);
        out
    }

    /// Writes; only the blocks in `mask` reach the disk. Completes when all do.
    fn write(&mut self, entries: &[JournalEntry], mask: u32) {
        let blocks = self.encode(entries);
        for (i, block) in blocks.chunks(BLOCK as usize).enumerate() {
            if mask & (1 << i) != 0 {
                let at = self.end as usize + i * BLOCK as usize;
                self.bytes[at..at + block.len()].copy_from_slice(block);
            }
        }
        self.end += blocks.len() as u64;
        self.write += 1;
        self.durable = self.end;
    }

    fn recover(&self) -> Recovered {
        let files = self.bytes.chunks(FILE as usize).enumerate();
        let file = |(lap, bytes)| JournalFile { lap: lap as u64, bytes: Bytes::copy_from_slice(bytes) };
        recover(&files.map(file).collect::<Vec<_>>(), FILE, 0, Rules::ALL)
    }
}

fn numbers(recovered: &Recovered) -> Vec<i32> {
    recovered
        .entries
        .iter()
        .map(|replayed| match replayed.entry {
            JournalEntry::Fence { epoch, .. } => epoch.0,
            _ => 0,
        })
        .collect()
}

fn many(from: i32, count: i32) -> Vec<JournalEntry> {
    (from..from + count).map(fence).collect()
}

#[test]
fn whole_writes_come_back() {
    let mut journal = Journal::new();
    journal.write(&many(1, 3), u32::MAX);
    journal.write(&many(4, 200), u32::MAX);
    let recovered = journal.recover();
    assert_eq!(numbers(&recovered), (1..204).collect::<Vec<_>>());
    assert!(recovered.damage.is_empty());
    assert_eq!((recovered.end, recovered.next_write), (journal.end, 3));
}

#[test]
fn any_subset_of_the_last_writes_blocks_is_torn_and_never_damage() {
    // 200 fences of 76 bytes: four blocks.
    for mask in 0..16 {
        let mut journal = Journal::new();
        journal.write(&many(1, 5), u32::MAX);
        journal.write(&many(6, 200), mask);
        let recovered = journal.recover();
        assert!(recovered.damage.is_empty(), "mask {mask:b}: {:?}", recovered.damage);
        let expected = if mask == 15 { 205 } else { 5 };
        assert_eq!(numbers(&recovered).len(), expected, "mask {mask:b}");
        // And the journal goes on from there, through a second power cut.
        for second in 0..16 {
            let mut again = Journal::resume(journal.bytes.clone(), &recovered);
            again.write(&many(300, 4), u32::MAX);
            again.write(&many(400, 200), second);
            let twice = again.recover();
            assert!(twice.damage.is_empty(), "masks {mask:b} {second:b}: {:?}", twice.damage);
            assert_eq!(numbers(&twice).len(), expected + 4 + if second == 15 { 200 } else { 0 });
        }
    }
}

#[test]
fn damage_below_a_completed_write_is_named_and_nothing_after_it_is_lost() {
    let mut journal = Journal::new();
    journal.write(&many(1, 3), u32::MAX);
    journal.write(&many(4, 3), u32::MAX);
    journal.write(&[JournalEntry::Idle], u32::MAX);
    for at in [60, 100, 4096 + 10, 4096 + 200] {
        let mut damaged = Journal { bytes: journal.bytes.clone(), ..journal };
        damaged.bytes[at] ^= 0x10;
        let recovered = damaged.recover();
        assert!(recovered.damage.iter().any(|d| d.start <= at as u64 && (at as u64) < d.end), "byte {at}");
        assert!(numbers(&recovered).len() < 7);
        assert_eq!(recovered.end, journal.end);
    }
}

#[test]
fn bytes_of_an_earlier_write_behind_the_end_do_not_count() {
    let mut journal = Journal::new();
    journal.write(&many(1, 3), u32::MAX);
    let before = Journal { bytes: journal.bytes.clone(), ..journal };
    journal.write(&many(4, 200), u32::MAX);
    // The process crashed with write 2 on disk but had been told of an earlier end: it writes number 3 over it.
    let mut again = Journal { bytes: journal.bytes, end: before.end, write: 3, durable: before.end };
    again.write(&many(500, 2), u32::MAX);
    let numbers = numbers(&again.recover());
    assert_eq!(numbers, [1, 2, 3, 500, 501]);
}

/// A segment that the catalogue has, and of whose later entries none can be read: its end there is no length.
#[test]
fn a_stored_segment_whose_entries_all_rotted_is_quarantined() {
    let partition = TopicPartition { topic: TopicId(9), partition: 0 };
    let segment = SegmentId { partition, generation: Generation(1), epoch: Epoch(1), nonce: Nonce(5) };
    let disk = |node| types::Replica { node: NodeId(node), incarnation: Incarnation(u128::from(node)) };
    let open = OpenMeta {
        account: AccountId(1),
        cluster: ClusterId(1),
        segment,
        base: 0,
        first_free: 0,
        leader: disk(1),
        follower: disk(2),
        encryption_key: 0,
        snapshot: DedupeSnapshot::default(),
    };
    for (damage, is_hit) in [(None, false), (Some(0..BLOCK), true), (Some(BLOCK..2 * BLOCK), true)] {
        let mut replica = Replica::new(partition, Rules::ALL);
        replica.restore(
            (Generation(1), Epoch(1)),
            [crate::replica::Segment::stored(open.clone(), 5, 77, None, ProducerState::default())],
        );
        let mut replicas = BTreeMap::from([(partition, replica)]);
        let recovered = Recovered { damage: damage.into_iter().collect(), ..Recovered::default() };
        let quarantined = replay(&recovered, &mut replicas, Rules::ALL);
        assert_eq!(!quarantined.is_empty(), is_hit);
        let state = replicas[&partition].member_state(segment.nonce);
        assert_eq!(matches!(state, wire::frame::MemberState::Damaged), is_hit, "{state:?}");
    }
}

/// An entry of exactly one block.
fn block_entry(number: i64) -> JournalEntry {
    let partition = TopicPartition { topic: TopicId(9), partition: 0 };
    let segment = SegmentId { partition, generation: Generation(1), epoch: Epoch(1), nonce: Nonce(5) };
    (3_000..4_096)
        .map(|bytes| {
            let mut builder = wire::records::BatchBuilder::new();
            let value = vec![number as u8; bytes];
            let record = wire::records::NewRecord { key: None, value: Some(&value), timestamp: 1, headers: &[] };
            builder.push(record);
            let batch = builder.finish(wire::compression::Codec::None).expect("a batch").placed_at(number, 1);
            let meta = AppendMeta {
                account: AccountId(1),
                cluster: ClusterId(1),
                segment,
                principal: types::PrincipalId(0),
                protocol: types::Protocol::Kafka,
                dedupe: wire::DedupeKey::None,
                encryption_key: 0,
                append_time: 1,
                commit: 0,
            };
            JournalEntry::Append { meta, batch }
        })
        .find(|entry| entry.encode().len() == BLOCK as usize)
        .expect("some length fits")
}

/// Where entries fill blocks exactly, the front of a torn write can be missing and its rest look like a write of its
/// own. What is left of it must not be taken for damage by a later start.
#[test]
fn a_torn_write_without_its_front_leaves_no_hole() {
    for mask in 0..8 {
        let mut journal = Journal::new();
        journal.write(&many(1, 5), u32::MAX);
        journal.write(&[block_entry(0), block_entry(1), fence(9)], mask);
        let recovered = journal.recover();
        assert!(recovered.damage.is_empty(), "mask {mask:b}: {:?}", recovered.damage);
        assert_eq!(recovered.entries.len(), if mask == 7 { 8 } else { 5 }, "mask {mask:b}");
        let mut again = Journal::resume(journal.bytes.clone(), &recovered);
        again.write(&many(300, 4), u32::MAX);
        let twice = again.recover();
        assert!(twice.damage.is_empty(), "mask {mask:b}: {:?}", twice.damage);
        assert_eq!(twice.entries.len(), recovered.entries.len() + 4);
    }
}

/// A write did not fit in its file, began the next one and was torn there. The unused end of the file before is no
/// damage, whatever is written after.
#[test]
fn the_unused_end_of_a_file_is_no_damage() {
    for mask in 0..8 {
        let mut journal = Journal::new();
        while journal.end < FILE - 2 * BLOCK {
            journal.write(&[fence(1)], 1);
        }
        journal.end = FILE;
        let whole = journal.encode(&many(100, 150)).len() / BLOCK as usize;
        assert_eq!(whole, 3, "a write of three blocks does not fit where two are left");
        journal.write(&many(100, 150), mask);
        let first = journal.recover();
        assert!(first.damage.is_empty(), "{mask}: {:?}", first.damage);
        let mut journal = Journal::resume(journal.bytes, &first);
        // As long a write again: it does not fit either.
        if FILE - journal.end % FILE < 3 * BLOCK {
            journal.end = FILE;
        }
        journal.write(&many(300, 150), 7);
        let second = journal.recover();
        assert!(second.damage.is_empty(), "{mask}: {:?}", second.damage);
        assert!(numbers(&second).ends_with(&[449]), "{mask}");
    }
}
