//! Committed offsets.

use std::collections::BTreeSet;

use types::limits::{OFFSET_METADATA_BYTES_MAX, OFFSETS_RETENTION_MS};
use types::{ErrorCode, TopicPartition};
use wire::groups::{CommitOffsets, ForgottenOffset, GroupRecord, GroupReply, subscribed_topics};

use super::group::{Group, State};
use super::log::OFFSETS_A_RECORD;
use super::{Coordinator, Out};
use crate::Rule;
use crate::partition::{Now, Token};

/// The protocol type whose metadata names topics.
const CONSUMER: &str = "consumer";

impl Coordinator {
    pub(super) fn commit(&mut self, now: Now, token: Token, commit: CommitOffsets, out: &mut Out) {
        if commit.offsets.iter().any(|offset| offset.metadata.len() > OFFSET_METADATA_BYTES_MAX) {
            return out.refuse(token, ErrorCode::OffsetMetadataTooLarge);
        }
        if !self.groups.contains_key(&commit.group) {
            if commit.generation >= 0 {
                return out.refuse(token, ErrorCode::IllegalGeneration);
            }
            self.groups.insert(commit.group.clone(), Group::new(&commit.group, now));
        }
        let is_checked = self.rules.holds(Rule::CommitsNameTheirGeneration);
        let Some(group) = self.groups.get_mut(&commit.group) else { return };
        // Without a generation it is somebody who manages partitions by itself, or an operator: not while members do.
        let is_foreign = commit.generation < 0 && group.state == State::Empty;
        let checked = if is_foreign { Ok(()) } else { group.check_commit(now, &commit) };
        if let Err(code) = checked
            && is_checked
        {
            return out.refuse(token, code);
        }
        if !commit.offsets.is_empty() {
            group.is_logged = true;
            group.offsets.extend(commit.offsets.iter().map(|offset| (offset.partition, offset.clone())));
            for offsets in commit.offsets.chunks(OFFSETS_A_RECORD) {
                out.records.push(GroupRecord::Offsets { group: commit.group.clone(), offsets: offsets.to_vec() });
            }
        }
        out.answer(token, GroupReply::Done {});
    }
}

impl Group {
    fn check_commit(&mut self, now: Now, commit: &CommitOffsets) -> Result<(), ErrorCode> {
        let id = self.check_member(&commit.name)?;
        if commit.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.is_heard(now);
        }
        match self.state {
            // Its share of the new generation is not known yet: what it commits is of the one before.
            State::Completing { .. } => Err(ErrorCode::RebalanceInProgress),
            State::Empty => Err(ErrorCode::UnknownMember),
            State::Preparing { .. } | State::Stable => Ok(()),
        }
    }

    pub(super) fn forget(&mut self, token: Token, offsets: &[ForgottenOffset], out: &mut Out) {
        if self.state != State::Empty && self.protocol_type != CONSUMER {
            return out.refuse(token, ErrorCode::GroupNotEmpty);
        }
        let mut gone: Vec<TopicPartition> = Vec::new();
        let mut errors = Vec::with_capacity(offsets.len());
        let subscribed = self.subscribed();
        for forgotten in offsets {
            let is_subscribed = subscribed.as_ref().is_none_or(|topics| topics.contains(&forgotten.topic));
            errors.push(is_subscribed.then_some(ErrorCode::GroupSubscribed));
            if !is_subscribed && self.offsets.remove(&forgotten.partition).is_some() {
                gone.push(forgotten.partition);
            }
        }
        self.log_forgotten(gone, out);
        out.answer(token, GroupReply::Forgotten { errors });
    }

    fn log_forgotten(&self, partitions: Vec<TopicPartition>, out: &mut Out) {
        if !partitions.is_empty() {
            out.records.push(GroupRecord::Forgotten { group: self.name.clone(), partitions });
        }
    }

    /// Topics that members subscribe to. A member whose subscription cannot be read may subscribe to anything: `None`.
    fn subscribed(&self) -> Option<BTreeSet<String>> {
        let metadata = self.members.values().flat_map(|member| &member.protocols);
        let mut all = BTreeSet::new();
        for topics in metadata.map(|protocol| subscribed_topics(&protocol.bytes)) {
            all.extend(topics?);
        }
        Some(all)
    }

    /// Lets go of what nobody came for: all offsets of a group that was left so long ago, and single ones where no group
    /// was ever joined.
    pub(super) fn expire_offsets(&mut self, now: Now, out: &mut Out) {
        if self.state != State::Empty || self.has_members() {
            return;
        }
        let was_joined = !self.protocol_type.is_empty();
        let (empty_since_ms, wall_ms) = (self.empty_since_ms, now.wall_ms);
        let is_old = |at_ms: i64| wall_ms.saturating_sub(at_ms) > OFFSETS_RETENTION_MS;
        let old =
            self.offsets.values().filter(|offset| is_old(offset.at_ms) && (!was_joined || is_old(empty_since_ms)));
        let old: Vec<TopicPartition> = old.map(|offset| offset.partition).collect();
        old.iter().for_each(|partition| drop(self.offsets.remove(partition)));
        self.log_forgotten(old, out);
    }
}
