//! From the log to the groups and back.

use std::collections::BTreeMap;

use wire::groups::{GroupRecord, LoggedGroup};

use super::Coordinator;
use super::group::{Group, Member, State};
use crate::partition::Now;
use crate::{Rule, Rules};

/// Offsets of one record.
pub(super) const OFFSETS_A_RECORD: usize = 500;

/// A log as it is read: give its records in order, then make a coordinator of it.
#[derive(Debug, Default)]
pub struct Log {
    groups: BTreeMap<String, Group>,
    /// What a snapshot under way has told.
    snapshot: Option<BTreeMap<String, Group>>,
    /// What was told since the last whole snapshot, what of that came before the one under way, and what the whole one told.
    unfolded: usize,
    before: usize,
    folded: usize,
}

/// What a whole log comes to.
pub(super) struct Loaded {
    pub groups: BTreeMap<String, Group>,
    /// What records told since the last whole snapshot.
    pub unfolded: usize,
    /// What that told.
    pub folded: usize,
}

/// How much records tell: a commit may name a thousand partitions.
pub(super) fn entries(records: &[GroupRecord]) -> usize {
    let of = |record: &GroupRecord| match record {
        GroupRecord::Group { group } => 1 + group.members.len(),
        GroupRecord::Offsets { offsets, .. } => offsets.len(),
        GroupRecord::Forgotten { partitions, .. } => partitions.len(),
        _ => 1,
    };
    records.iter().map(of).sum()
}

impl Log {
    pub fn apply(&mut self, record: GroupRecord) {
        self.unfolded += entries(std::slice::from_ref(&record));
        match record {
            GroupRecord::SnapshotBegins {} => {
                self.snapshot = Some(BTreeMap::new());
                self.before = self.unfolded;
            }
            GroupRecord::SnapshotEnds {} => {
                // Only a whole one counts: what stood before it is not needed then.
                if let Some(groups) = self.snapshot.take() {
                    self.groups = groups;
                    self.folded = self.unfolded - self.before;
                    self.unfolded = 0;
                }
            }
            // Each coordinator begins with one: what a snapshot that was not ended told is in the records before it.
            GroupRecord::Barrier {} => self.snapshot = None,
            record => {
                let groups = self.snapshot.as_mut().unwrap_or(&mut self.groups);
                apply(groups, record);
            }
        }
    }

    pub(super) fn finish(mut self, now: Now, rules: Rules) -> Loaded {
        self.snapshot = None;
        for group in self.groups.values_mut() {
            if rules.holds(Rule::MembersSurviveFailover) {
                group.members.values_mut().for_each(|member| member.is_heard(now));
            } else {
                group.members.clear();
            }
            group.state = if group.members.is_empty() { State::Empty } else { State::Stable };
        }
        Loaded { groups: self.groups, unfolded: self.unfolded, folded: self.folded }
    }
}

fn apply(groups: &mut BTreeMap<String, Group>, record: GroupRecord) {
    let at_start = Now::default();
    match record {
        GroupRecord::Group { group: logged } => {
            let group = groups.entry(logged.group.clone()).or_insert_with(|| Group::new(&logged.group, at_start));
            group.last_logged = Some(logged.clone());
            replace(group, *logged);
        }
        GroupRecord::Offsets { group: name, offsets } => {
            let group = groups.entry(name.clone()).or_insert_with(|| Group::new(&name, at_start));
            group.is_logged = true;
            group.offsets.extend(offsets.into_iter().map(|offset| (offset.partition, offset)));
        }
        GroupRecord::Forgotten { group, partitions } => {
            if let Some(group) = groups.get_mut(&group) {
                partitions.iter().for_each(|partition| drop(group.offsets.remove(partition)));
            }
        }
        GroupRecord::Deleted { group } => drop(groups.remove(&group)),
        GroupRecord::SnapshotBegins {} | GroupRecord::SnapshotEnds {} | GroupRecord::Barrier {} => {}
    }
}

fn replace(group: &mut Group, logged: LoggedGroup) {
    group.is_logged = true;
    group.protocol_type = logged.protocol_type;
    group.protocol = logged.protocol;
    group.generation = logged.generation;
    group.leader = logged.leader;
    group.empty_since_ms = logged.at_ms;
    let member = |member: wire::groups::LoggedMember| {
        let id = member.name.member;
        let member = Member {
            instance: member.name.instance,
            client_id: member.client_id,
            client_host: member.client_host,
            session_timeout_ms: member.session_timeout_ms,
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            protocols: member.protocols,
            assignment: member.assignment,
            joining: None,
            syncing: None,
            has_synced: true,
            until_ms: 0,
        };
        (id, member)
    };
    group.members = logged.members.into_iter().map(member).collect();
}

impl Coordinator {
    /// All groups as the log is to have them. A group in the middle of a rebalance is told as of its last generation that
    /// was assigned: by the records before, which the snapshot stands for.
    pub(super) fn snapshot(&self) -> Vec<GroupRecord> {
        let mut records = vec![GroupRecord::SnapshotBegins {}];
        for (name, group) in &self.groups {
            if let Some(logged) = &group.last_logged {
                records.push(GroupRecord::Group { group: logged.clone() });
            }
            let offsets: Vec<_> = group.offsets.values().cloned().collect();
            let chunks = offsets.chunks(OFFSETS_A_RECORD);
            records.extend(chunks.map(|chunk| GroupRecord::Offsets { group: name.clone(), offsets: chunk.to_vec() }));
        }
        records.push(GroupRecord::SnapshotEnds {});
        records
    }
}
