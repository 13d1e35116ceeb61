//! A partition's record made anew from what the storage nodes hold: after placement's store was lost, or restored from a
//! backup that does not know what came since.
//!
//! Every disk that may hold something must have been fenced for the new generation first, so that what it says is what it
//! will always have (DESIGN: `docs/adr/0012-rebuild.md`). The new record ends in the segment that was open, if one was:
//! the next failover seals it as any other.
//!
//! What can be concluded from one segment on one disk:
//! - It is listed in the known record, or sealed on some disk, or has appends of its own: it *is* part of the chain. Only
//!   a record can seal, and nobody appends before a record names the segment (invariant 15).
//! - It was opened, and is whole on both its disks, up to its first free offset: it *may* be part of the chain. Its
//!   compare-and-swap may have won. It is then a good successor either way: its attempt fenced the segment before, and
//!   took everything from it that can have been acknowledged. Of several the longest has what each of them has.
//! - It was opened, and is not whole: it is not part of the chain. Its compare-and-swap was never tried.

use std::collections::{BTreeMap, BTreeSet};

use types::{
    AccountId, ClusterId, Epoch, Generation, Nonce, Offset, PartitionRecord, Replica, SegmentId, SegmentRecord,
    TopicPartition,
};
use wire::inventory::{HeldPartition, HeldSegment};

use crate::replica::NOBODY;
use crate::{Rule, Rules};

/// How much newer the record is than any that was known: copies that were made for a record that is lost are not needed
/// for longer than this.
const VERSION_STEP: u64 = 1 << 32;

/// All that one disk holds of one partition.
#[derive(Debug, Clone)]
pub struct Disk {
    pub replica: Replica,
    pub az: String,
    pub held: HeldPartition,
}

/// Offsets that no disk which answered has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    pub from: Offset,
    pub to: Offset,
}

/// What the disks say a partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    pub record: PartitionRecord,
    /// Left out of the chain: the record must not be used unless an operator accepts their loss.
    pub holes: Vec<Hole>,
    /// In the chain, and no disk that answered has an intact copy: offline until one comes back.
    pub absent: Vec<Hole>,
}

/// Why what the disks say cannot be one partition's history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    #[error("segments {0} and {1} are both part of the chain, and overlap")]
    Overlap(Nonce, Nonce),
    #[error("segments of two accounts")]
    Accounts,
}

/// A segment as all disks together describe it.
#[derive(Debug)]
struct Seen {
    account: AccountId,
    cluster: ClusterId,
    id: SegmentId,
    base: Offset,
    first_free: Offset,
    /// Who it was opened on, or is listed for; `None` if only copies say that it was.
    pair: Option<[Replica; 2]>,
    sealed: Option<Offset>,
    /// The known record lists it.
    is_listed: bool,
    /// A disk heard of its seal.
    is_sealed_on_disk: bool,
    copies: Vec<Copy>,
}

#[derive(Debug)]
struct Copy {
    replica: Replica,
    az: String,
    end: Offset,
    is_damaged: bool,
}

impl Seen {
    fn is_intact_somewhere(&self) -> bool {
        self.copies.iter().any(|copy| !copy.is_damaged)
    }

    /// What intact copies have.
    fn reach(&self) -> Offset {
        let intact = self.copies.iter().filter(|copy| !copy.is_damaged).map(|copy| copy.end);
        intact.max().unwrap_or(self.base).min(self.sealed.unwrap_or(Offset::MAX))
    }

    /// It was listed as open, and a disk let go of it that no other disk contradicts: nothing was ever in it, and a later
    /// record left it out.
    fn is_left_out(&self, disks: &[Disk]) -> bool {
        let answered = |member: &Replica| disks.iter().any(|disk| disk.replica == *member);
        self.sealed.is_none() && self.copies.is_empty() && self.pair.iter().flatten().any(answered)
    }

    /// A disk says that it is part of the chain.
    fn is_proven(&self, rules: Rules) -> bool {
        let has_own = self.copies.iter().any(|copy| copy.end > self.first_free);
        self.is_sealed_on_disk || (has_own && rules.holds(Rule::OwnAppendsAreProof))
    }

    /// It is part of the chain. That it was listed as open says so only where no disk can say more: the known record may
    /// be of a store that was given up later.
    fn is_certain(&self, rules: Rules) -> bool {
        let is_listed = self.is_listed && (self.sealed.is_some() || !self.is_intact_somewhere());
        is_listed || self.is_proven(rules)
    }

    /// Both disks of its opening have it whole, as far as they answered.
    fn is_whole(&self, disks: &[Disk], rules: Rules) -> bool {
        let Some(pair) = self.pair else { return false };
        let has = |member: &Replica| self.copies.iter().find(|copy| copy.replica == *member);
        let is_whole = |copy: &Copy| copy.is_damaged || copy.end >= self.first_free;
        let may_have = |member: &Replica| match has(member) {
            Some(copy) => is_whole(copy) || !rules.holds(Rule::OpeningIsWhole),
            None => !disks.iter().any(|disk| disk.replica == *member) || !rules.holds(Rule::OpeningIsWhole),
        };
        let is_somewhere = self.copies.iter().any(|copy| !copy.is_damaged && is_whole(copy));
        pair.iter().all(may_have) && is_somewhere
    }

    /// It can follow `before`.
    fn follows(&self, before: &Self) -> bool {
        let starts_right = match before.sealed {
            Some(end) => self.base == end,
            None => self.base <= before.reach(),
        };
        before.id.leadership() < self.id.leadership() && self.base >= before.base && starts_right
    }

    /// Two disks for the record, those that have all of it first.
    fn replicas(&self, end: Option<Offset>, disks: &[Disk]) -> [Replica; 2] {
        let pair = self.pair.unwrap_or([NOBODY; 2]);
        let Some(end) = end else { return pair };
        let is_full = |copy: &&Copy| !copy.is_damaged && copy.end >= end;
        let mut full: Vec<&Copy> = self.copies.iter().filter(is_full).collect();
        full.sort_by_key(|copy| !pair.contains(&copy.replica));
        let Some(first) = full.first() else { return pair };
        let elsewhere = full.iter().find(|copy| copy.az != first.az).map(|copy| copy.replica);
        // Else the other of its pair, if that is away: it may come back with all of it. Or nobody, until repair finds
        // someone.
        let is_away = |member: &Replica| !disks.iter().any(|disk| disk.replica == *member);
        let is_partner = |member: &Replica| *member != first.replica && pair.contains(&first.replica);
        let partner = pair.into_iter().find(|member| is_partner(member) && is_away(member));
        let other = elsewhere.or(partner);
        let both = [first.replica, other.unwrap_or(NOBODY)];
        // In their old order: who led is shown first.
        if both.contains(&pair[0]) && both[0] != pair[0] { [both[1], both[0]] } else { both }
    }

    fn record(&self, end: Option<Offset>, disks: &[Disk], known: Option<&PartitionRecord>) -> SegmentRecord {
        let mut chain = known.into_iter().flat_map(|known| &known.chain);
        let was = chain.find(|segment| segment.nonce == self.id.nonce && segment.end == end);
        SegmentRecord {
            generation: self.id.generation,
            epoch: self.id.epoch,
            nonce: self.id.nonce,
            base: self.base,
            end,
            replicas: self.replicas(end, disks),
            changed_ms: was.and_then(|was| was.changed_ms),
        }
    }
}

/// The record of a partition in `generation`, from what `disks` hold and what is `known` of it from before; `None` if
/// there is no trace of it.
///
/// # Errors
/// If what is held contradicts itself: nobody should guess then.
pub fn rebuild(
    partition: TopicPartition,
    known: Option<&PartitionRecord>,
    disks: &[Disk],
    generation: Generation,
    rules: Rules,
) -> Result<Option<Rebuilt>, Contradiction> {
    let seen = gather(known, disks);
    let account = known.map(|known| (known.account, known.cluster));
    let Some((account, cluster)) = account.or_else(|| seen.values().map(|seen| (seen.account, seen.cluster)).next())
    else {
        return Ok(None);
    };
    if seen.values().any(|seen| (seen.account, seen.cluster) != (account, cluster)) {
        return Err(Contradiction::Accounts);
    }
    let gaps = known.map(|known| known.gaps.clone()).unwrap_or_default();
    let is_lost = |seen: &Seen| gaps.iter().any(|gap| gap.from <= seen.base && seen.base < gap.to);
    // What was sealed where it began holds nothing, and records leave it out.
    let is_empty = |seen: &Seen| seen.sealed == Some(seen.base);
    let is_over = |seen: &Seen| is_lost(seen) || is_empty(seen) || seen.is_left_out(disks);
    let mut all: Vec<Seen> = seen.into_values().filter(|seen| !is_over(seen)).collect();
    all.sort_by_key(|seen| (seen.id.leadership(), seen.id.nonce));
    let proven: BTreeSet<_> =
        all.iter().filter(|seen| seen.is_proven(rules)).map(|seen| seen.id.leadership()).collect();
    all.retain(|seen| seen.is_proven(rules) || !proven.contains(&seen.id.leadership()));
    let (certain, possible): (Vec<Seen>, Vec<Seen>) = all.into_iter().partition(|seen| seen.is_certain(rules));
    let (possible, partial): (Vec<Seen>, Vec<Seen>) =
        possible.into_iter().partition(|seen| seen.is_whole(disks, rules));

    let log_start = known.map_or(0, |known| known.log_start);
    let mut chain: Vec<(&Seen, Option<Offset>)> = Vec::new();
    let mut holes = Vec::new();
    if let Some(first) = certain.first().filter(|first| first.base > log_start)
        && !gaps.iter().any(|gap| gap.from <= log_start && gap.to == first.base)
    {
        holes.push(Hole { from: log_start, to: first.base });
    }
    for next in &certain {
        while let Some((last, end)) = chain.last_mut() {
            let limit = last.sealed.unwrap_or(last.reach());
            let is_gap = gaps.iter().any(|gap| gap.from <= limit && next.base == gap.to);
            if last.base > next.base || last.sealed.is_some_and(|sealed| sealed > next.base) {
                return Err(Contradiction::Overlap(last.id.nonce, next.id.nonce));
            }
            if limit >= next.base || is_gap {
                *end = Some(limit.min(next.base));
                break;
            }
            // Something stood between that nobody appended to and no record reached a disk about.
            let between = possible.iter().filter(|seen| seen.id.leadership() < next.id.leadership());
            match best(between, last) {
                Some(link) => {
                    *end = Some(link.base);
                    chain.push((link, None));
                }
                // All its copies are damaged, or away: where it ended follows from what came after it.
                None if !last.is_intact_somewhere() && last.sealed.is_none() => {
                    *end = Some(next.base);
                    break;
                }
                None => {
                    *end = Some(limit);
                    holes.push(Hole { from: limit, to: next.base });
                    break;
                }
            }
        }
        chain.push((next, None));
    }
    if rules.holds(Rule::OpeningMayBeListed) {
        follow(&mut chain, &possible);
        if chain.is_empty() {
            // Nothing is certain: the first opening of all, of which nothing was heard since; or what is left of it.
            let is_first = |seen: &&Seen| seen.base == log_start;
            let longest = possible.iter().filter(is_first).max_by_key(|seen| seen.reach());
            let left = || partial.iter().filter(is_first).max_by_key(|seen| seen.reach());
            chain.extend(longest.or_else(left).map(|first| (first, None)));
            follow(&mut chain, &possible);
        }
    }
    if let Some((last, end)) = chain.last_mut() {
        *end = last.sealed;
    }
    let is_absent = |(seen, end): &(&Seen, Option<Offset>)| match end {
        Some(end) => seen.reach() < *end,
        None => !seen.is_intact_somewhere(),
    };
    let hole = |(seen, end): &(&Seen, Option<Offset>)| Hole { from: seen.base, to: end.unwrap_or(seen.base) };
    let absent = chain.iter().filter(|link| is_absent(link)).map(hole).collect();
    let floors = disks.iter().map(|disk| (disk.held.generation, disk.held.epoch));
    let leaderships = chain.iter().map(|(seen, _)| seen.id.leadership()).chain(floors);
    let epoch = leaderships.map(|(_, epoch)| epoch).chain(known.map(|known| known.epoch)).max().unwrap_or(Epoch(0));
    let copied_for = disks.iter().flat_map(|disk| &disk.held.segments).map(|held| held.copied_for);
    let version = copied_for.chain(known.map(|known| known.version)).max().unwrap_or(0) + VERSION_STEP;
    let record = PartitionRecord {
        account,
        cluster,
        topic: partition.topic,
        partition: partition.partition,
        generation,
        epoch,
        log_start,
        chain: chain.into_iter().map(|(seen, end)| seen.record(end, disks, known)).collect(),
        version,
        gaps,
    };
    Ok(Some(Rebuilt { record, holes, absent }))
}

/// Goes on behind the last certain segment: whatever was opened after it and is whole.
fn follow<'a>(chain: &mut Vec<(&'a Seen, Option<Offset>)>, possible: &'a [Seen]) {
    let mut is_first = true;
    while let Some((last, end)) = chain.last_mut() {
        let Some(next) = best(possible.iter(), last) else { return };
        // The first opening after it ended it, however long it is. Of later ones only a longer one tells more.
        if !is_first && next.reach() <= last.reach() {
            return;
        }
        *end = Some(next.base);
        chain.push((next, None));
        is_first = false;
    }
}

/// The longest that can follow; of equals the one with more copies, then the newest.
fn best<'a>(possible: impl Iterator<Item = &'a Seen>, last: &Seen) -> Option<&'a Seen> {
    let copies =
        |seen: &Seen| seen.copies.iter().filter(|copy| !copy.is_damaged && copy.end >= seen.first_free).count();
    let possible = possible.filter(|seen| seen.follows(last));
    possible.max_by_key(|seen| (seen.reach(), copies(seen), seen.id.leadership()))
}

fn gather(known: Option<&PartitionRecord>, disks: &[Disk]) -> BTreeMap<Nonce, Seen> {
    let mut all: BTreeMap<Nonce, Seen> = BTreeMap::new();
    for record in known.into_iter().filter(|known| !known.chain.is_empty()) {
        for listed in &record.chain {
            let seen = Seen {
                account: record.account,
                cluster: record.cluster,
                id: listed.id(record.id()),
                base: listed.base,
                first_free: listed.base,
                pair: Some(listed.replicas),
                sealed: listed.end,
                is_listed: true,
                is_sealed_on_disk: false,
                copies: Vec::new(),
            };
            all.insert(listed.nonce, seen);
        }
    }
    for disk in disks {
        for held in &disk.held.segments {
            let HeldSegment { account, cluster, segment, base, first_free, leader, follower, .. } = *held;
            let seen = all.entry(segment.nonce).or_insert(Seen {
                account,
                cluster,
                id: segment,
                base,
                first_free,
                pair: None,
                sealed: None,
                is_listed: false,
                is_sealed_on_disk: false,
                copies: Vec::new(),
            });
            seen.first_free = seen.first_free.max(first_free);
            if leader != NOBODY {
                seen.pair.get_or_insert([leader, follower]);
            }
            seen.sealed = seen.sealed.or(held.sealed);
            seen.is_sealed_on_disk |= held.sealed.is_some();
            let copy = Copy { replica: disk.replica, az: disk.az.clone(), end: held.end, is_damaged: held.is_damaged };
            seen.copies.push(copy);
        }
    }
    all
}

#[cfg(test)]
mod tests;
