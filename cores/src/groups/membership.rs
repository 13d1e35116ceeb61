//! Members come, share the work, and go.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use types::ErrorCode;
use types::limits::{
    GROUP_BYTES_MAX, GROUP_MEMBERS_MAX, GROUP_PROTOCOLS_MAX, GROUP_SESSION_MS_MAX, GROUP_SESSION_MS_MIN,
};
use wire::groups::{GroupReply, JoinGroup, Joined, JoinedMember, Left, MemberName, NamedBytes, SyncGroup, Synced};

use super::group::{Group, Member, State, bytes_of};
use super::{Coordinator, Out, Settings};
use crate::partition::{Now, Token};
use crate::{Rule, Rules};

impl Coordinator {
    pub(super) fn join(&mut self, now: Now, token: Token, fresh: u128, join: JoinGroup, out: &mut Out) {
        if !(GROUP_SESSION_MS_MIN..=GROUP_SESSION_MS_MAX).contains(&join.session_timeout_ms) {
            return out.refuse(token, ErrorCode::InvalidSessionTimeout);
        }
        let is_sane = (1..=GROUP_PROTOCOLS_MAX).contains(&join.protocols.len());
        if join.protocol_type.is_empty() || !is_sane {
            return out.refuse(token, ErrorCode::InconsistentProtocol);
        }
        if !self.groups.contains_key(&join.group) {
            if !join.name.member.is_empty() {
                return out.refuse(token, ErrorCode::UnknownMember);
            }
            self.groups.insert(join.group.clone(), Group::new(&join.group, now));
        }
        let Some(group) = self.groups.get_mut(&join.group) else { return };
        if let Err(code) = group.join(now, token, fresh, join, self.settings, self.rules, out) {
            out.refuse(token, code);
        }
    }
}

impl Group {
    fn join(
        &mut self,
        now: Now,
        token: Token,
        fresh: u128,
        join: JoinGroup,
        settings: Settings,
        rules: Rules,
        out: &mut Out,
    ) -> Result<(), ErrorCode> {
        self.check_protocols(&join)?;
        // The group is one record of its log.
        if self.bytes() + bytes_of(&join.protocols) > GROUP_BYTES_MAX {
            return Err(ErrorCode::GroupFull);
        }
        if join.name.member.is_empty() {
            return self.join_as_new(now, token, fresh, join, settings, rules, out);
        }
        if self.promised.remove(&join.name.member).is_some() {
            let id = join.name.member.clone();
            self.add(now, token, id, join, settings, rules, out);
            return Ok(());
        }
        let id = self.check_member(&join.name)?;
        let is_leader = id == self.leader;
        let Some(member) = self.members.get_mut(&id) else { return Err(ErrorCode::UnknownMember) };
        let is_changed = member.protocols != join.protocols;
        let is_told = match self.state {
            State::Empty => return Err(ErrorCode::UnknownMember),
            State::Preparing { .. } => false,
            // It may have missed the answer.
            State::Completing { .. } => !is_changed,
            // A leader joins again to assign anew, and whoever subscribes to something else wants another share.
            State::Stable => !is_changed && !is_leader,
        };
        if is_told {
            member.is_heard(now);
            let joined = self.joined(&id, false);
            out.answer(token, GroupReply::Joined { joined: Box::new(joined) });
            return Ok(());
        }
        self.rejoin(now, token, &id, join, out);
        self.begin_rebalance(now, settings.initial_delay_ms, out);
        self.end_join_if_all_are_here(now, rules, out);
        Ok(())
    }

    /// Members agree on a protocol type and have a way of assigning in common.
    fn check_protocols(&self, join: &JoinGroup) -> Result<(), ErrorCode> {
        if self.members.is_empty() {
            return Ok(());
        }
        let mut common: BTreeSet<&str> = join.protocols.iter().map(|protocol| protocol.name.as_str()).collect();
        for (_, member) in self.members.iter().filter(|(id, _)| **id != join.name.member) {
            common.retain(|name| member.protocols.iter().any(|known| known.name == *name));
        }
        if self.protocol_type != join.protocol_type || common.is_empty() {
            return Err(ErrorCode::InconsistentProtocol);
        }
        Ok(())
    }

    fn join_as_new(
        &mut self,
        now: Now,
        token: Token,
        fresh: u128,
        join: JoinGroup,
        settings: Settings,
        rules: Rules,
        out: &mut Out,
    ) -> Result<(), ErrorCode> {
        let prefix = join.name.instance.as_ref().unwrap_or(&join.client_id);
        let id = format!("{prefix}-{}", uuid(fresh));
        let before = join.name.instance.as_ref().and_then(|instance| self.member_of_instance(instance)).cloned();
        if let Some(before) = before {
            self.replace(now, token, &before, id, join, settings, rules, out);
            return Ok(());
        }
        if self.members.len() + self.promised.len() >= GROUP_MEMBERS_MAX {
            return Err(ErrorCode::GroupFull);
        }
        if join.needs_known_id && join.name.instance.is_none() {
            self.promised.insert(id.clone(), now.monotonic_ms + join.session_timeout_ms as u64);
            out.answer(token, GroupReply::MemberId { member: id });
            return Ok(());
        }
        self.add(now, token, id, join, settings, rules, out);
        Ok(())
    }

    fn add(
        &mut self,
        now: Now,
        token: Token,
        id: String,
        join: JoinGroup,
        settings: Settings,
        rules: Rules,
        out: &mut Out,
    ) {
        if self.members.is_empty() {
            self.protocol_type = join.protocol_type.clone();
        }
        let mut member = Member {
            instance: join.name.instance,
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms.max(0),
            protocols: join.protocols,
            assignment: Bytes::new(),
            joining: Some(token),
            syncing: None,
            has_synced: false,
            until_ms: 0,
        };
        member.is_heard(now);
        self.members.insert(id, member);
        self.begin_rebalance(now, settings.initial_delay_ms, out);
        // More members may be on their way to a new group: each puts the end off.
        if let State::Preparing { until_ms, last_ms } = &mut self.state
            && self.generation == 0
            && settings.initial_delay_ms > 0
        {
            *until_ms = (now.monotonic_ms + settings.initial_delay_ms).min(*last_ms);
        }
        self.end_join_if_all_are_here(now, rules, out);
    }

    /// A static member is started anew and takes its earlier self's place, with its share, without a rebalance if nothing
    /// else changed (KIP-345, KIP-814).
    fn replace(
        &mut self,
        now: Now,
        token: Token,
        before: &str,
        id: String,
        join: JoinGroup,
        settings: Settings,
        rules: Rules,
        out: &mut Out,
    ) {
        let Some(mut member) = self.members.remove(before) else { return };
        let old = member.joining.take().into_iter().chain(member.syncing.take());
        old.for_each(|token| out.refuse(token, ErrorCode::FencedInstance));
        // What it subscribes to may say more than before (its generation, what it held): what counts is how the group assigns.
        member.protocols.clone_from(&join.protocols);
        (member.client_id, member.client_host) = (join.client_id.clone(), join.client_host.clone());
        member.session_timeout_ms = join.session_timeout_ms;
        member.rebalance_timeout_ms = join.rebalance_timeout_ms.max(0);
        member.is_heard(now);
        let was_leader = self.leader == before;
        if was_leader {
            self.leader.clone_from(&id);
        }
        self.members.insert(id.clone(), member);
        if self.state == State::Stable && self.choose_protocol() == self.protocol {
            // The new id is part of what a failover must not forget.
            self.log(now, out);
            let mut joined = self.joined(&id, join.may_skip_assignment);
            if was_leader && !join.may_skip_assignment {
                // It must not assign anew what others hold: as a follower it only takes its share.
                joined.leader = before.to_owned();
                joined.members.clear();
            }
            out.answer(token, GroupReply::Joined { joined: Box::new(joined) });
            return;
        }
        self.rejoin(now, token, &id, join, out);
        self.begin_rebalance(now, settings.initial_delay_ms, out);
        self.end_join_if_all_are_here(now, rules, out);
    }

    fn rejoin(&mut self, now: Now, token: Token, id: &str, join: JoinGroup, out: &mut Out) {
        let Some(member) = self.members.get_mut(id) else { return };
        if let Some(older) = member.joining.replace(token) {
            // It asks again, over another connection: nobody reads the older answer.
            out.refuse(older, ErrorCode::RebalanceInProgress);
        }
        member.protocols = join.protocols;
        (member.client_id, member.client_host) = (join.client_id, join.client_host);
        member.session_timeout_ms = join.session_timeout_ms;
        member.rebalance_timeout_ms = join.rebalance_timeout_ms.max(0);
        member.is_heard(now);
    }

    /// Everybody is to join again.
    fn begin_rebalance(&mut self, now: Now, initial_delay_ms: u64, out: &mut Out) {
        if matches!(self.state, State::Preparing { .. }) {
            return;
        }
        if let State::Completing { .. } = self.state {
            for member in self.members.values_mut() {
                if let Some(token) = member.syncing.take() {
                    member.is_heard(now);
                    out.refuse(token, ErrorCode::RebalanceInProgress);
                }
            }
        }
        let last_ms = now.monotonic_ms + self.rebalance_timeout_ms();
        let is_new = self.state == State::Empty && initial_delay_ms > 0;
        let until_ms = if is_new { (now.monotonic_ms + initial_delay_ms).min(last_ms) } else { last_ms };
        self.state = State::Preparing { until_ms, last_ms };
    }

    fn rebalance_timeout_ms(&self) -> u64 {
        self.members.values().map(|member| member.rebalance_timeout_ms.max(0) as u64).max().unwrap_or(0)
    }

    /// A new group's first assignment waits for its delay; any other begins once nobody is missing.
    fn end_join_if_all_are_here(&mut self, now: Now, rules: Rules, out: &mut Out) {
        let State::Preparing { until_ms, last_ms } = self.state else { return };
        let waits = until_ms < last_ms && until_ms > now.monotonic_ms;
        if !waits && self.promised.is_empty() && self.members.values().all(|member| member.joining.is_some()) {
            self.end_join(now, rules, out);
        }
    }

    /// The next generation begins with those who are here.
    fn end_join(&mut self, now: Now, rules: Rules, out: &mut Out) {
        // A static member keeps its place for its session's time.
        self.members.retain(|_, member| member.joining.is_some() || member.instance.is_some());
        let first = self.members.iter().find(|(_, member)| member.joining.is_some()).map(|(id, _)| id.clone());
        if first.is_none() && !self.members.is_empty() {
            // Only static members that are away are left: they have their sessions' time.
            let until_ms = now.monotonic_ms + self.rebalance_timeout_ms().max(1_000);
            self.state = State::Preparing { until_ms, last_ms: until_ms };
            return;
        }
        if rules.holds(Rule::GenerationRises) {
            self.generation += 1;
        }
        let Some(first) = first else { return self.become_empty(now, out) };
        if self.members.get(&self.leader).is_none_or(|leader| leader.joining.is_none()) {
            self.leader = first;
        }
        self.protocol = self.choose_protocol();
        self.state = State::Completing { until_ms: now.monotonic_ms + self.rebalance_timeout_ms() };
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id, false);
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.has_synced = false;
            if rules.holds(Rule::SharesEndWithTheirGeneration) {
                member.assignment = Bytes::new();
            }
            if let Some(token) = member.joining.take() {
                member.is_heard(now);
                out.answer(token, GroupReply::Joined { joined: Box::new(joined) });
            }
        }
    }

    fn become_empty(&mut self, now: Now, out: &mut Out) {
        self.state = State::Empty;
        self.leader.clear();
        self.protocol.clear();
        self.empty_since_ms = now.wall_ms;
        self.log(now, out);
    }

    /// What a member is told of the present generation.
    fn joined(&self, id: &str, skip_assignment: bool) -> Joined {
        let is_leader = id == self.leader;
        let member = |(id, member): (&String, &Member)| JoinedMember {
            name: MemberName { member: id.clone(), instance: member.instance.clone() },
            metadata: member.metadata(&self.protocol),
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            skip_assignment: skip_assignment && is_leader,
            member: id.to_owned(),
            members: if is_leader { self.members.iter().map(member).collect() } else { Vec::new() },
        }
    }

    /// Of what all support each member votes for what it names first; the most votes win.
    fn choose_protocol(&self) -> String {
        let mut common: Option<BTreeSet<&str>> = None;
        for member in self.members.values() {
            let own: BTreeSet<&str> = member.protocols.iter().map(|protocol| protocol.name.as_str()).collect();
            common = Some(common.map_or(own.clone(), |common| common.intersection(&own).copied().collect()));
        }
        let common = common.unwrap_or_default();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(choice) = member.protocols.iter().find(|protocol| common.contains(protocol.name.as_str())) {
                *votes.entry(&choice.name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max().unwrap_or(0);
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.to_owned()).unwrap_or_default()
    }

    pub(super) fn sync(&mut self, now: Now, token: Token, sync: SyncGroup, rules: Rules, out: &mut Out) {
        if let Err(code) = self.try_sync(now, token, sync, rules, out) {
            out.refuse(token, code);
        }
    }

    fn try_sync(
        &mut self,
        now: Now,
        token: Token,
        sync: SyncGroup,
        rules: Rules,
        out: &mut Out,
    ) -> Result<(), ErrorCode> {
        let id = self.check_member(&sync.name)?;
        if sync.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |said: &Option<String>, own: &String| said.as_ref().is_some_and(|said| said != own);
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(ErrorCode::InconsistentProtocol);
        }
        let is_leader = id == self.leader;
        if is_leader && self.bytes() + bytes_of(&sync.assignments) > GROUP_BYTES_MAX {
            return Err(ErrorCode::InvalidRequest);
        }
        let Some(member) = self.members.get_mut(&id) else { return Err(ErrorCode::UnknownMember) };
        member.is_heard(now);
        match self.state {
            State::Empty => Err(ErrorCode::UnknownMember),
            State::Preparing { .. } => Err(ErrorCode::RebalanceInProgress),
            State::Stable => {
                member.has_synced = true;
                let synced = self.synced(&id);
                out.answer(token, GroupReply::Synced { synced: Box::new(synced) });
                Ok(())
            }
            State::Completing { .. } => {
                member.has_synced = true;
                if let Some(older) = member.syncing.replace(token) {
                    out.refuse(older, ErrorCode::RebalanceInProgress);
                }
                if is_leader {
                    self.assign(now, sync.assignments, rules, out);
                }
                Ok(())
            }
        }
    }

    /// The leader has said who gets what.
    fn assign(&mut self, now: Now, assignments: Vec<NamedBytes>, rules: Rules, out: &mut Out) {
        for NamedBytes { name, bytes } in assignments {
            if let Some(member) = self.members.get_mut(&name) {
                member.assignment = bytes;
            }
        }
        self.state = State::Stable;
        if rules.holds(Rule::SharesAreLogged) {
            self.log(now, out);
        }
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let synced = self.synced(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            if let Some(token) = member.syncing.take() {
                member.is_heard(now);
                out.answer(token, GroupReply::Synced { synced: Box::new(synced) });
            }
        }
    }

    fn synced(&self, id: &str) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default(),
        }
    }

    pub(super) fn heartbeat(&mut self, now: Now, name: &MemberName, generation: i32) -> Result<(), ErrorCode> {
        let id = self.check_member(name)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.is_heard(now);
        }
        match self.state {
            State::Empty => Err(ErrorCode::UnknownMember),
            State::Preparing { .. } => Err(ErrorCode::RebalanceInProgress),
            State::Completing { .. } | State::Stable => Ok(()),
        }
    }

    pub(super) fn leave(&mut self, now: Now, token: Token, names: Vec<MemberName>, rules: Rules, out: &mut Out) {
        let mut members = Vec::with_capacity(names.len());
        let (mut is_left, mut is_member_gone) = (false, false);
        for name in names {
            let error = match self.leaving(&name) {
                Ok(promised) => {
                    is_member_gone |= promised.is_some();
                    promised.iter().for_each(|id| self.remove(id, out));
                    // Whoever was only awaited is not any more.
                    is_left = true;
                    None
                }
                Err(code) => Some(code),
            };
            members.push(Left { name, error });
        }
        if is_left {
            self.after_departure(now, is_member_gone, rules, out);
        }
        out.answer(token, GroupReply::Left { members });
    }

    /// The member that leaves; none if it was only promised an id.
    fn leaving(&mut self, name: &MemberName) -> Result<Option<String>, ErrorCode> {
        if self.promised.remove(&name.member).is_some() {
            return Ok(None);
        }
        if let (true, Some(instance)) = (name.member.is_empty(), &name.instance) {
            // Operators name an instance alone.
            let id = self.member_of_instance(instance).cloned();
            return id.map(Some).ok_or(ErrorCode::UnknownMember);
        }
        self.check_member(name).map(Some)
    }

    fn remove(&mut self, id: &str, out: &mut Out) {
        let Some(member) = self.members.remove(id) else { return };
        let waiting = member.joining.into_iter().chain(member.syncing);
        waiting.for_each(|token| out.refuse(token, ErrorCode::UnknownMember));
    }

    fn after_departure(&mut self, now: Now, is_member_gone: bool, rules: Rules, out: &mut Out) {
        // What is left of a group is no new group: nobody waits for more.
        if matches!(self.state, State::Completing { .. } | State::Stable) && is_member_gone {
            self.begin_rebalance(now, 0, out);
        }
        self.end_join_if_all_are_here(now, rules, out);
    }

    /// A time has come: whoever is silent is out, and a rebalance goes on without those that are missing.
    pub(super) fn tick(&mut self, now: Now, rules: Rules, out: &mut Out) {
        let now_ms = now.monotonic_ms;
        self.promised.retain(|_, until_ms| *until_ms > now_ms);
        let is_late = |member: &Member| member.until_ms <= now_ms && !member.is_waiting();
        let mut gone: Vec<String> =
            self.members.iter().filter(|(_, member)| is_late(member)).map(|(id, _)| id.clone()).collect();
        if let State::Completing { until_ms } = self.state
            && until_ms <= now_ms
        {
            // Whoever did not ask for its share, the leader perhaps, is not there.
            gone.extend(self.members.iter().filter(|(_, member)| !member.has_synced).map(|(id, _)| id.clone()));
        }
        let is_any_gone = !gone.is_empty();
        gone.iter().for_each(|id| self.remove(id, out));
        if is_any_gone {
            self.after_departure(now, true, rules, out);
        }
        if let State::Preparing { until_ms, .. } = self.state
            && until_ms <= now_ms
        {
            self.end_join(now, rules, out);
        } else {
            self.end_join_if_all_are_here(now, rules, out);
        }
        if let State::Completing { until_ms } = self.state
            && until_ms <= now_ms
        {
            // Everybody asked, and the leader's answer is what is missing: it is given the same time again.
            self.state = State::Completing { until_ms: now_ms + self.rebalance_timeout_ms().max(1_000) };
        }
    }
}

/// Random bits as a version 4 UUID.
fn uuid(bits: u128) -> String {
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
