//! Repair in the world: placement looks for what wants a copy, nodes copy from each other.

use cores::partition::Progress;
use cores::repair::{Health, NodeView, View, needs};
use types::{Offset, SegmentRecord};
use wire::frame::{CopyReply, CopyRequest, DescribeRequest};

use super::*;

/// Time runs faster here: a node that is away for this long counts as away for [`types::limits::REPAIR_AFTER_MS`].
const AWAY_FACTOR: u64 = 10;
const LOOK_MS: u64 = 150;
const REPAIRS_MAX: usize = 3;
const BATCHES_A_STEP: usize = 3;

/// One step of a copy: the target takes some batches from a source.
#[derive(Debug)]
pub(super) struct CopyStep {
    node: usize,
    life: u64,
    source: usize,
    request: CopyRequest,
    from: Offset,
}

impl World {
    fn view(&self) -> View {
        let listed = |replica: &Replica| {
            self.record.chain.iter().filter(|segment| segment.replicas.contains(replica)).count() as u64
        };
        let view = |(index, node): (usize, &Node)| {
            let replica = Replica { node: NodeId(index as u32 + 1), incarnation: node.disk.incarnation };
            let away_ms = if node.is_up { 0 } else { (self.now_ms - node.down_since_ms) * AWAY_FACTOR };
            let node = NodeView {
                replica,
                az: format!("az-{}", index % 3),
                address: index.to_string(),
                // Placement hears of a death late.
                is_alive: away_ms < 1_000,
                away_ms,
                is_draining: false,
                segments: listed(&replica),
            };
            (replica.node, node)
        };
        View { nodes: self.nodes.iter().enumerate().map(view).collect(), damaged: self.damaged.clone() }
    }

    /// No node that is up keeps a segment that the record does not list it for.
    fn has_orphans(&self) -> bool {
        self.nodes.iter().enumerate().filter(|(_, node)| node.is_up).any(|(index, node)| {
            let me = Replica { node: NodeId(index as u32 + 1), incarnation: node.disk.incarnation };
            node.core.replica().segments().any(|segment| {
                let nonce = segment.open.segment.nonce;
                // A copy for the present record may still be listed by the next.
                // So may an opening of a later epoch: its attempt may be asleep. The next failover ends it.
                let published = (self.record.generation, self.record.epoch);
                // What an earlier generation made is never dropped: restored metadata may not know what it was for.
                let is_over = segment.copied_for < self.record.version
                    && segment.open.segment.generation == self.record.generation
                    && segment.open.segment.leadership() <= published;
                is_over
                    && !self.record.chain.iter().any(|listed| listed.nonce == nonce && listed.replicas.contains(&me))
            })
        })
    }

    /// 40 REPAIR-LIVE: every segment has two intact copies, and nothing else is kept.
    pub(super) fn is_healed(&self) -> bool {
        self.is_repaired() && !self.has_orphans()
    }

    /// Every segment has two intact copies.
    pub(super) fn is_repaired(&self) -> bool {
        let view = self.view();
        self.record.chain.iter().all(|segment| {
            segment.replicas.iter().all(|replica| {
                let Some(node) = (replica.node.0 as usize).checked_sub(1).map(|index| &self.nodes[index]) else {
                    return false;
                };
                let copy = node.core.replica().segment(segment.nonce);
                let is_there = node.is_up && copy.is_some_and(|copy| !copy.is_damaged);
                view.health(segment.nonce, *replica) < Health::Lost && is_there
            })
        })
    }

    pub(super) fn look_for_repairs(&mut self) {
        let record = &self.record;
        let is_listed = |nonce: Nonce, replica: Replica| {
            record.chain.iter().any(|segment| segment.nonce == nonce && segment.replicas.contains(&replica))
        };
        self.damaged.retain(|(nonce, replica)| is_listed(*nonce, *replica));
        let view = self.view();
        // Nobody may be left who appends, and would find out. That a follower is lost its leader says.
        let is_lost = |open: &&SegmentRecord| view.health(Nonce(0), open.leader()) >= Health::Lost;
        if let Some(open) = self.record.open().filter(is_lost) {
            let nonce = Some(open.nonce);
            self.at(1, Event::StartFailover { nonce, goal: Goal::Open });
        }
        let wanted = needs(&self.record, &view, self.profile.rules);
        // Two placement processes may look at once, and a third that was thought dead.
        let times = if self.rng.chance(15) { 2 } else { 1 };
        for need in wanted.into_iter().flat_map(|need| std::iter::repeat_n(need, times)) {
            if self.repairs.len() >= REPAIRS_MAX {
                break;
            }
            let record = self.record.clone();
            let begun = Repair::begin(self.now_ms, record, self.revision, need, &view, self.profile.rules);
            if let Ok((repair, effects)) = begun {
                let actor = self.next_actor;
                self.next_actor += 1;
                self.repairs.insert(actor, repair);
                self.act_repair(actor, effects);
            }
        }
        self.at(LOOK_MS, Event::LookForRepairs);
    }

    pub(super) fn step_repair(&mut self, actor: u64, input: repair::Input) {
        let now_ms = self.now_ms;
        if let Some(repair) = self.repairs.get_mut(&actor) {
            let effects = repair.step(now_ms, input);
            self.act_repair(actor, effects);
        }
    }

    fn act_repair(&mut self, actor: u64, effects: Vec<repair::Effect>) {
        for effect in effects {
            match effect {
                repair::Effect::Copy { node, request } => {
                    let node = node.0 as usize - 1;
                    if !self.nodes[node].is_up {
                        continue;
                    }
                    let token = self.next_token;
                    self.next_token += 1;
                    let asked = (actor, request.segment.nonce, request.record_version);
                    self.nodes[node].copies.insert(token, asked);
                    let (life, after) = (self.nodes[node].life, self.rng.range(0, 2 * self.net_ms));
                    self.at(after, Event::ToNode { node, life, input: Input::Copy { token, request } });
                }
                repair::Effect::Swap { revision, record } => {
                    // Now and then an actor sleeps between the answer and the swap.
                    let sleep_ms = if self.rng.chance(20) { 1_500 } else { 0 };
                    let after = sleep_ms + self.rng.range(0, 3 * self.net_ms);
                    self.at(after, Event::SwapRepaired { actor, revision, record });
                }
                repair::Effect::Wake { after_ms } => {
                    self.at(after_ms, Event::ToRepair { actor, input: repair::Input::Tick });
                }
                repair::Effect::Done(_) => {
                    self.repairs.remove(&actor);
                }
            }
        }
    }

    pub(super) fn swap_repaired(&mut self, actor: u64, revision: u64, record: PartitionRecord) {
        let won = revision == self.revision;
        if won {
            self.changed(record);
            for node in 0..self.nodes.len() {
                let (life, after) = (self.nodes[node].life, self.rng.range(0, 3 * self.net_ms));
                self.at(after, Event::RecordRead { node, life });
            }
        }
        if self.rng.chance(10) {
            self.repairs.remove(&actor);
        } else {
            self.at(1, Event::ToRepair { actor, input: repair::Input::Swapped { won } });
        }
    }

    pub(super) fn copy_answered(&mut self, node: usize, token: u64, result: Result<CopyReply, Refusal>) {
        if let Some((actor, nonce, version)) = self.nodes[node].copies.remove(&token) {
            if result.as_ref().is_ok_and(|reply| reply.is_done) {
                let disk = self.nodes[node].disk.incarnation;
                self.oracle.copy_confirmed(disk, nonce, version);
            }
            let after = self.rng.range(0, self.net_ms);
            self.at(after, Event::ToRepair { actor, input: repair::Input::Copied(result) });
        }
    }

    pub(super) fn begin_copy(&mut self, node: usize, request: CopyRequest, from: Offset) {
        let source = request.sources.iter().filter_map(|address| address.parse().ok()).find(|source: &usize| {
            self.nodes[*source].is_up && !self.cuts.get(&Self::link(node, *source)).copied().unwrap_or(false)
        });
        let life = self.nodes[node].life;
        let nonce = request.segment.nonce;
        let ask = DescribeRequest { account: request.account, segment: request.segment, end: request.end };
        let described = source.and_then(|source| self.nodes[source].core.describe(&ask).ok());
        let after = self.rng.range(0, 2 * self.net_ms);
        let (Some(source), Some(description)) = (source, described) else {
            let input = Input::Copied(Progress::Failed { nonce });
            return self.at(after, Event::ToNode { node, life, input });
        };
        let input = Input::Copied(Progress::Begun(Box::new(description.open)));
        self.at(after, Event::ToNode { node, life, input });
        self.at(after + 1, Event::CopyStep(CopyStep { node, life, source, request, from }));
    }

    pub(super) fn copy_step(&mut self, step: CopyStep) {
        let CopyStep { node, life, source, request, from } = step;
        if !self.is_alive(node, life) {
            return;
        }
        let nonce = request.segment.nonce;
        let is_cut = self.cuts.get(&Self::link(node, source)).copied().unwrap_or(false);
        let ask = DescribeRequest { account: request.account, segment: request.segment, end: request.end };
        let description = self.nodes[source].core.describe(&ask).ok().filter(|_| self.nodes[source].is_up && !is_cut);
        let Some(description) = description else {
            return self.step(node, Input::Copied(Progress::Failed { nonce }));
        };
        let mut batches = self.nodes[source].disk.batches(nonce, from, request.end, BATCHES_A_STEP);
        if description.chain != 0 && batches.len() > 1 && self.rng.range(0, 200) == 0 {
            // A source that errs: it sends another batch of as many records, with a checksum that fits.
            let (first, last) = (batches[0].clone(), batches[batches.len() - 1].clone());
            if first.end_offset() - first.base_offset == last.end_offset() - last.base_offset {
                batches[0] = last.placed_at(first.base_offset, request.segment.epoch.0);
            }
        }
        let end = batches.last().map(|batch| batch.end_offset());
        match end {
            Some(end) => {
                self.step(node, Input::Copied(Progress::Batches { nonce, batches }));
                if self.has_asides && self.asides.chance(80) {
                    // In the middle of a copy, while its last batches are on their way to the disk.
                    let state = &mut self.nodes[node];
                    state.disk.flush(state.core.replica());
                }
                let after = 1 + self.rng.range(0, self.net_ms + self.disk_ms);
                self.at(after, Event::CopyStep(CopyStep { node, life, source, request, from: end }));
            }
            None => {
                let whole = Progress::Whole {
                    segment: request.segment,
                    end: request.end,
                    record_version: request.record_version,
                    description: Box::new(description),
                };
                self.step(node, Input::Copied(whole));
                let may_fail = self.profile.scenario == Scenario::Rotten && self.now_ms < FAULTS_END_MS;
                if may_fail && self.rng.chance(30) {
                    let after = self.rng.range(20, 200);
                    self.at(after, Event::PowerOff { node });
                }
            }
        }
    }
}
