//! One group: its members, its generation, its committed offsets.

use std::collections::BTreeMap;

use bytes::Bytes;
use types::{ErrorCode, TopicPartition};
use wire::groups::{
    CommittedOffset, Described, DescribedMember, GroupRecord, GroupReply, GroupRequest, Listed, LoggedGroup,
    LoggedMember, MemberName, NamedBytes,
};

use super::{Coordinator, Out, Settings};
use crate::Rules;
use crate::partition::{Now, Token};

/// `ClassicGroupState` without `Dead`: a group that is gone is not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Empty,
    /// Members are to join until `until_ms`; no later than `last_ms`, however many come.
    Preparing {
        until_ms: u64,
        last_ms: u64,
    },
    /// The new generation's leader assigns; whoever has not asked for its share by then is out.
    Completing {
        until_ms: u64,
    },
    Stable,
}

#[derive(Debug, Clone)]
pub(super) struct Member {
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub protocols: Vec<NamedBytes>,
    pub assignment: Bytes,
    /// It waits for the new generation, or for its share of it.
    pub joining: Option<Token>,
    pub syncing: Option<Token>,
    /// It has asked for its share of this generation.
    pub has_synced: bool,
    /// Without a sign of life it is out then.
    pub until_ms: u64,
}

impl Member {
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|known| known.name == protocol).map(|known| known.bytes.clone()).unwrap_or_default()
    }

    fn bytes(&self) -> usize {
        let named = self.client_id.len() + self.client_host.len() + self.instance.as_ref().map_or(0, String::len);
        named + 64 + bytes_of(&self.protocols) + self.assignment.len()
    }

    pub fn is_heard(&mut self, now: Now) {
        self.until_ms = now.monotonic_ms + self.session_timeout_ms.max(0) as u64;
    }

    /// Who waits for an answer of ours sends no heartbeats.
    pub fn is_waiting(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }
}

pub(super) fn bytes_of(named: &[NamedBytes]) -> usize {
    named.iter().map(|named| named.name.len() + named.bytes.len() + 8).sum()
}

#[derive(Debug)]
pub(super) struct Group {
    pub name: String,
    pub state: State,
    /// Empty while nobody has ever joined: offsets alone make a group, too.
    pub protocol_type: String,
    pub protocol: String,
    pub generation: i32,
    pub leader: String,
    pub members: BTreeMap<String, Member>,
    /// Ids that were given out and not used yet, with their ends (KIP-394).
    pub promised: BTreeMap<String, u64>,
    pub offsets: BTreeMap<TopicPartition, CommittedOffset>,
    /// Since when it has no members, in ms since 1970.
    pub empty_since_ms: i64,
    /// The log tells of it.
    pub is_logged: bool,
    /// Its newest record in the log.
    pub last_logged: Option<Box<LoggedGroup>>,
    pub timer_ms: Option<u64>,
}

impl Group {
    pub fn new(name: &str, now: Now) -> Self {
        Self {
            name: name.to_owned(),
            state: State::Empty,
            protocol_type: String::new(),
            protocol: String::new(),
            generation: 0,
            leader: String::new(),
            members: BTreeMap::new(),
            promised: BTreeMap::new(),
            offsets: BTreeMap::new(),
            empty_since_ms: now.wall_ms,
            is_logged: false,
            last_logged: None,
            timer_ms: None,
        }
    }

    /// Bytes of its record in the log, about.
    pub fn bytes(&self) -> usize {
        self.members.iter().map(|(id, member)| id.len() + member.bytes()).sum()
    }

    pub fn has_members(&self) -> bool {
        !self.members.is_empty() || !self.promised.is_empty()
    }

    /// Nothing is left that anyone could ask for. A group that had members is shown as empty until the next cleaning.
    pub fn is_forgettable(&self, is_cleaning: bool) -> bool {
        let is_idle = self.state == State::Empty && !self.has_members() && self.offsets.is_empty();
        is_idle && (is_cleaning || !self.is_logged)
    }

    pub fn committed(&self) -> Vec<CommittedOffset> {
        self.offsets.values().cloned().collect()
    }

    pub fn member_of_instance(&self, instance: &str) -> Option<&String> {
        self.members.iter().find(|(_, member)| member.instance.as_deref() == Some(instance)).map(|(id, _)| id)
    }

    /// The id of the member of this name.
    pub fn check_member(&self, name: &MemberName) -> Result<String, ErrorCode> {
        if let Some(instance) = &name.instance {
            match self.member_of_instance(instance) {
                None => return Err(ErrorCode::UnknownMember),
                Some(id) if *id != name.member => return Err(ErrorCode::FencedInstance),
                Some(_) => {}
            }
        }
        if self.members.contains_key(&name.member) { Ok(name.member.clone()) } else { Err(ErrorCode::UnknownMember) }
    }

    pub fn handle(
        &mut self,
        now: Now,
        token: Token,
        request: GroupRequest,
        settings: Settings,
        rules: Rules,
        out: &mut Out,
    ) {
        match request {
            GroupRequest::Sync { sync } => self.sync(now, token, *sync, rules, out),
            GroupRequest::Heartbeat { name, generation, .. } => match self.heartbeat(now, &name, generation) {
                Ok(()) => out.answer(token, GroupReply::Done {}),
                Err(code) => out.refuse(token, code),
            },
            GroupRequest::Leave { names, .. } => self.leave(now, token, names, rules, out),
            GroupRequest::Forget { offsets, .. } => self.forget(token, &offsets, out),
            GroupRequest::Describe { .. } => {
                out.answer(token, GroupReply::Described { described: Box::new(self.describe()) });
            }
            GroupRequest::Delete { .. } if self.state != State::Empty || self.has_members() => {
                out.refuse(token, ErrorCode::GroupNotEmpty);
            }
            GroupRequest::Delete { .. } => {
                self.offsets.clear();
                out.answer(token, GroupReply::Done {});
            }
            GroupRequest::Join { .. }
            | GroupRequest::Commit { .. }
            | GroupRequest::Offsets { .. }
            | GroupRequest::List {} => unreachable!("INVARIANT: the coordinator takes these itself ({settings:?})"),
        }
    }

    /// When it next does something by itself.
    pub fn next_ms(&self) -> Option<u64> {
        let state_ms = match self.state {
            State::Preparing { until_ms, .. } | State::Completing { until_ms } => Some(until_ms),
            State::Empty | State::Stable => None,
        };
        let silent = self.members.values().filter(|member| !member.is_waiting()).map(|member| member.until_ms);
        state_ms.into_iter().chain(silent).chain(self.promised.values().copied()).min()
    }

    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Empty => "Empty",
            State::Preparing { .. } => "PreparingRebalance",
            State::Completing { .. } => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }

    fn describe(&self) -> Described {
        let is_stable = self.state == State::Stable;
        let member = |(id, member): (&String, &Member)| DescribedMember {
            name: MemberName { member: id.clone(), instance: member.instance.clone() },
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if is_stable { member.metadata(&self.protocol) } else { Bytes::new() },
            assignment: if is_stable { member.assignment.clone() } else { Bytes::new() },
        };
        Described {
            state: self.state_name().to_owned(),
            protocol_type: self.protocol_type.clone(),
            protocol: if is_stable { self.protocol.clone() } else { String::new() },
            members: self.members.iter().map(member).collect(),
        }
    }

    /// As the log is to have it now.
    fn logged(&self, now: Now) -> LoggedGroup {
        let member = |(id, member): (&String, &Member)| LoggedMember {
            name: MemberName { member: id.clone(), instance: member.instance.clone() },
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            session_timeout_ms: member.session_timeout_ms,
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            protocols: member.protocols.clone(),
            assignment: member.assignment.clone(),
        };
        LoggedGroup {
            group: self.name.clone(),
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            generation: self.generation,
            leader: self.leader.clone(),
            members: self.members.iter().map(member).collect(),
            at_ms: now.wall_ms,
        }
    }

    pub fn log(&mut self, now: Now, out: &mut Out) {
        self.is_logged = true;
        let logged = Box::new(self.logged(now));
        self.last_logged = Some(logged.clone());
        out.records.push(GroupRecord::Group { group: logged });
    }
}

impl Coordinator {
    pub(super) fn list(&self) -> Vec<Listed> {
        let listed = |group: &Group| Listed {
            group: group.name.clone(),
            protocol_type: group.protocol_type.clone(),
            state: group.state_name().to_owned(),
        };
        self.groups.values().map(listed).collect()
    }
}
