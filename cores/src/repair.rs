//! Repair: every sealed segment back to two intact copies in two availability zones, and off nodes that are emptied.
//!
//! [`needs`] says what a record needs, in the light of what placement knows of nodes. One [`Repair`] is one attempt to
//! meet one need: a target makes a copy, then a compare-and-swap lists it instead of the replica that is lost. A copy
//! counts only from then on. Any number of attempts, in any number of processes, may run at once.

use std::collections::BTreeMap;

use types::limits::{COPY_ASK_MS, COPY_STALLED_MS, REPAIR_AFTER_MS};
use types::{ErrorCode, NodeId, Nonce, Offset, PartitionRecord, Replica, SegmentRecord};
use wire::frame::{CopyReply, CopyRequest, Refusal};

use crate::{Rule, Rules};

/// A storage node as placement knows it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// The disk that is registered.
    pub replica: Replica,
    pub az: String,
    pub address: String,
    pub is_alive: bool,
    /// For how long nothing was heard of it, in ms; 0 while it is alive.
    pub away_ms: u64,
    pub is_draining: bool,
    /// Segments that are listed with it: the node with fewest is the target.
    pub segments: u64,
}

/// All nodes, and the copies that their nodes say are damaged.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub nodes: BTreeMap<NodeId, NodeView>,
    pub damaged: Vec<(Nonce, Replica)>,
}

/// What is known of one listed replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    Intact,
    /// Intact, on a node that is being emptied.
    Leaving,
    /// Its node is silent, not long enough to give it up.
    Away,
    /// Given up: silent for long, another disk, or damaged.
    Lost,
}

impl View {
    pub fn health(&self, nonce: Nonce, replica: Replica) -> Health {
        match self.nodes.get(&replica.node) {
            Some(node) if node.replica == replica => match node {
                _ if self.damaged.contains(&(nonce, replica)) => Health::Lost,
                NodeView { is_alive: true, is_draining, .. } => {
                    if *is_draining {
                        Health::Leaving
                    } else {
                        Health::Intact
                    }
                }
                NodeView { away_ms, .. } if *away_ms < REPAIR_AFTER_MS => Health::Away,
                _ => Health::Lost,
            },
            _ => Health::Lost,
        }
    }
}

/// A sealed segment that wants another copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    pub nonce: Nonce,
    /// The replica to be replaced.
    pub lost: Replica,
    /// Intact copies now: those with one come first.
    pub copies: u8,
}

/// What a record's sealed segments need, most urgent first.
pub fn needs(record: &PartitionRecord, view: &View, rules: Rules) -> Vec<Need> {
    if !rules.holds(Rule::OneCopyIsRepaired) {
        return Vec::new();
    }
    let sealed = record.chain.iter().filter(|segment| segment.end.is_some());
    let mut needs: Vec<Need> = sealed.filter_map(|segment| need(segment, view)).collect();
    needs.sort_by_key(|need| need.copies);
    needs
}

fn need(segment: &SegmentRecord, view: &View) -> Option<Need> {
    let health = segment.replicas.map(|replica| view.health(segment.nonce, replica));
    let at = if health[1] >= health[0] { 1 } else { 0 };
    let is_wanted = matches!(health[at], Health::Lost | Health::Leaving);
    // Without an intact source there is nothing to copy; a node that comes back brings it.
    let has_source = matches!(health[1 - at], Health::Intact | Health::Leaving) || health[at] == Health::Leaving;
    let copies = health.iter().filter(|health| **health < Health::Away).count() as u8;
    (is_wanted && has_source).then(|| Need { nonce: segment.nonce, lost: segment.replicas[at], copies })
}

/// How a partition is, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Every segment has two copies, and one is open.
    Open,
    /// Every segment has two copies, and none is open.
    Parked,
    /// A segment has one intact copy that can be reached.
    OneCopy,
    /// A segment has none.
    Offline,
}

pub fn condition(record: &PartitionRecord, view: &View) -> Condition {
    let copies = record.chain.iter().map(|segment| {
        let health = segment.replicas.map(|replica| view.health(segment.nonce, replica));
        health.iter().filter(|health| **health < Health::Away).count()
    });
    match (copies.min(), record.open()) {
        (Some(0), _) => Condition::Offline,
        (Some(1), _) => Condition::OneCopy,
        (_, Some(_)) => Condition::Open,
        (_, None) => Condition::Parked,
    }
}

/// What happens to an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    Copied(Result<CopyReply, Refusal>),
    Swapped { won: bool },
    Tick,
}

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Copy { node: NodeId, request: Box<CopyRequest> },
    Swap { revision: u64, record: Box<PartitionRecord> },
    Wake { after_ms: u64 },
    Done(Result<(), Refusal>),
}

/// See the module's text.
#[derive(Debug)]
pub struct Repair {
    record: PartitionRecord,
    revision: u64,
    need: Need,
    target: Replica,
    request: CopyRequest,
    copied_to: Offset,
    progress_ms: u64,
    is_swapping: bool,
    is_over: bool,
    rules: Rules,
}

fn refusal(code: ErrorCode, message: &str) -> Refusal {
    Refusal { code, message: message.to_owned() }
}

impl Repair {
    /// Begins an attempt on `record` as read at `revision`.
    ///
    /// # Errors
    /// If no node can take the copy: it must be alive, and in another zone than the copy that stays.
    pub fn begin(
        now_ms: u64,
        record: PartitionRecord,
        revision: u64,
        need: Need,
        view: &View,
        rules: Rules,
    ) -> Result<(Self, Vec<Effect>), Refusal> {
        let gone = || refusal(ErrorCode::NotFound, "the segment is not in the chain any more");
        let segment = record.chain.iter().find(|segment| segment.nonce == need.nonce).ok_or_else(gone)?;
        let end = segment.end.ok_or_else(gone)?;
        let stays = segment.replicas.into_iter().find(|replica| *replica != need.lost).ok_or_else(gone)?;
        let stays_az = view.nodes.get(&stays.node).map(|node| node.az.as_str());
        let is_elsewhere = |node: &&NodeView| {
            node.is_alive
                && node.replica.node != stays.node
                && !view.damaged.contains(&(need.nonce, node.replica))
                && (stays_az != Some(node.az.as_str()) || !rules.holds(Rule::CopyIsElsewhere))
        };
        // A node of the lost copy's own zone before others, so that zones stay balanced; then the emptiest.
        let lost_az = view.nodes.get(&need.lost.node).map(|node| node.az.as_str());
        let rank =
            |node: &&NodeView| (node.is_draining, lost_az != Some(node.az.as_str()), node.segments, node.replica.node);
        let target = view.nodes.values().filter(is_elsewhere).filter(|node| node.replica != need.lost).min_by_key(rank);
        // Never where the damaged copy is, even if there is nowhere else: what can still be read of it may be what
        // the other copy turns out to lack.
        let target = target.map(|node| node.replica);
        let target = target
            .ok_or_else(|| refusal(ErrorCode::AzUnavailable, "no storage node in another zone can take a copy"))?;
        let sources = [stays, need.lost]
            .into_iter()
            .filter(|replica| matches!(view.health(need.nonce, *replica), Health::Intact | Health::Leaving));
        let sources = sources.filter_map(|replica| view.nodes.get(&replica.node)).map(|node| node.address.clone());
        let request = CopyRequest {
            account: record.account,
            segment: segment.id(record.id()),
            base: segment.base,
            end,
            generation: record.generation,
            record_version: record.version,
            target,
            sources: sources.collect(),
        };
        let repair = Self {
            record,
            revision,
            need,
            target,
            request,
            copied_to: 0,
            progress_ms: now_ms,
            is_swapping: false,
            is_over: false,
            rules,
        };
        let effects = repair.ask();
        Ok((repair, effects))
    }

    pub fn target(&self) -> Replica {
        self.target
    }

    /// The offsets that are copied.
    pub fn range(&self) -> (Offset, Offset) {
        (self.request.base, self.request.end)
    }

    pub fn nonce(&self) -> Nonce {
        self.need.nonce
    }

    fn ask(&self) -> Vec<Effect> {
        vec![
            Effect::Copy { node: self.target.node, request: Box::new(self.request.clone()) },
            Effect::Wake { after_ms: COPY_ASK_MS },
        ]
    }

    pub fn step(&mut self, now_ms: u64, input: Input) -> Vec<Effect> {
        match input {
            _ if self.is_over => Vec::new(),
            Input::Copied(_) if self.is_swapping => Vec::new(),
            Input::Copied(Ok(reply)) => {
                // An answer alone is no progress: the sources may be gone.
                if reply.copied_to > self.copied_to {
                    (self.copied_to, self.progress_ms) = (reply.copied_to, now_ms);
                }
                if !reply.is_done && self.rules.holds(Rule::CopyIsWhole) {
                    return Vec::new();
                }
                self.is_swapping = true;
                vec![Effect::Swap { revision: self.revision, record: Box::new(self.next_record()) }]
            }
            Input::Copied(Err(why)) => self.finish(Err(why)),
            Input::Swapped { won: true } => self.finish(Ok(())),
            // The copy is made; only its listing came too late. The next attempt finds it there, and asks again, for the
            // newer record: this one could be dropped by it.
            Input::Swapped { won: false } => {
                self.finish(Err(refusal(ErrorCode::NotLeader, "the record changed meanwhile")))
            }
            Input::Tick if self.is_swapping => Vec::new(),
            Input::Tick if now_ms.saturating_sub(self.progress_ms) > COPY_STALLED_MS => {
                self.finish(Err(refusal(ErrorCode::LeaderNotAvailable, "a copy does not go on")))
            }
            Input::Tick => self.ask(),
        }
    }

    fn next_record(&self) -> PartitionRecord {
        let mut record = self.record.clone();
        record.version += 1;
        let segment = record.chain.iter_mut().find(|segment| segment.nonce == self.need.nonce);
        for replica in segment.into_iter().flat_map(|segment| &mut segment.replicas) {
            if *replica == self.need.lost {
                *replica = self.target;
            }
        }
        record
    }

    fn finish(&mut self, result: Result<(), Refusal>) -> Vec<Effect> {
        self.is_over = true;
        vec![Effect::Done(result)]
    }
}
