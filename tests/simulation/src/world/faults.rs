//! What goes wrong: crashes, power cuts, cut connections, one lost disk or one rotten bit per seed, failed writes.

use super::*;
use crate::disk::Lie;

/// What may befall a seed. Each seed draws which of these do (its swarm), so that rare ones meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Crash,
    /// The power of all nodes at once.
    PowerCut,
    BothMembers,
    Cut,
    /// A process stands still for a while, with all that it has.
    Pause,
    SlowDisk,
    FullDisk,
    Control,
    LostDisk,
    /// A bit flips.
    Rot,
    /// The disk says that a write is done, and it is not there, or elsewhere.
    LostWrite,
    FailedWrite,
}

/// How often each comes, where all may.
const KINDS: &[(Kind, usize)] = &[
    (Kind::Crash, 30),
    (Kind::PowerCut, 10),
    (Kind::BothMembers, 10),
    (Kind::Cut, 16),
    (Kind::Pause, 8),
    (Kind::SlowDisk, 3),
    (Kind::FullDisk, 3),
    (Kind::Control, 10),
    (Kind::LostDisk, 5),
    (Kind::Rot, 4),
    (Kind::LostWrite, 3),
    (Kind::FailedWrite, 5),
];

/// After this nobody waits for a process that says nothing (ADR 10).
const SILENT_MS: u64 = 600;

/// Draws the faults of a seed: all of them, or some.
pub(super) fn swarm(rng: &mut Rng) -> Vec<Kind> {
    let has_all = rng.chance(40);
    let mut kinds: Vec<Kind> = Vec::new();
    for (kind, weight) in KINDS {
        if has_all || rng.chance(45) {
            kinds.extend(std::iter::repeat_n(*kind, *weight));
        }
    }
    if kinds.is_empty() { vec![Kind::Crash] } else { kinds }
}

impl World {
    pub(super) fn fault(&mut self) {
        if self.now_ms >= FAULTS_END_MS {
            return self.heal();
        }
        self.faults += 1;
        if self.profile.scenario == Scenario::OneAway {
            return self.one_goes();
        }
        if self.profile.scenario == Scenario::Torn {
            // Just as it writes, and again as soon as it is back.
            let node = self.rng.range(0, self.nodes.len() as u64) as usize;
            let down_ms = self.rng.range(2, 30);
            self.crash(node, down_ms);
            let after = self.rng.range(down_ms, down_ms + 60);
            self.at(after, Event::PowerOff { node });
            return self.at(self.fault_every_ms / 3, Event::Fault);
        }
        if self.profile.scenario == Scenario::Restore && self.rng.chance(30) {
            self.begin_restore();
        }
        if self.profile.scenario == Scenario::Parking && self.rng.chance(60) {
            self.park();
            return self.at(self.fault_every_ms, Event::Fault);
        }
        let is_lying = self.nodes.iter().any(|node| node.disk.is_lying());
        if self.profile.scenario == Scenario::Rotten && self.rng.chance(50) && self.is_repaired() && !is_lying {
            let node = self.rng.range(0, self.nodes.len() as u64) as usize;
            self.crash(node, 200);
            self.has_lost_data |= self.nodes[node].disk.rot(&mut self.rng);
            return self.at(self.fault_every_ms, Event::Fault);
        }
        let loses = matches!(self.profile.scenario, Scenario::LostOpening | Scenario::LostDisk);
        if loses && !self.has_lost_data && self.lose_a_copy() {
            return self.at(self.fault_every_ms + 1_000, Event::Fault);
        }
        let node = self.rng.range(0, self.nodes.len() as u64) as usize;
        let kind = self.swarm[self.rng.range(0, self.swarm.len() as u64) as usize];
        self.befall(node, kind);
        let after = self.fault_every_ms / 2 + self.rng.range(0, self.fault_every_ms);
        self.at(after, Event::Fault);
    }

    fn befall(&mut self, node: usize, kind: Kind) {
        // One loss at a time: another may come once everything has two copies again.
        let is_lying = self.nodes.iter().any(|node| node.disk.is_lying());
        let may_lose = self.restoring.is_none() && !is_lying && (!self.has_lost_data || self.is_repaired());
        match kind {
            Kind::Crash => {
                let down_ms = if self.rng.chance(10) { self.rng.range(500, 3_000) } else { self.rng.range(5, 500) };
                self.crash(node, down_ms);
            }
            Kind::PowerCut => {
                for node in 0..self.nodes.len() {
                    let down_ms = self.rng.range(5, 300);
                    self.crash(node, down_ms);
                }
            }
            Kind::BothMembers => {
                // Of the open segment, a moment apart.
                if let Some(open) = self.record.open().cloned() {
                    for member in open.replicas {
                        let down_ms = self.rng.range(5, 400);
                        self.crash(member.node.0 as usize - 1, down_ms);
                    }
                }
            }
            Kind::Cut => {
                let other = (node + 1 + self.rng.range(0, self.nodes.len() as u64 - 1) as usize) % self.nodes.len();
                let cut_ms = self.rng.range(1, 900);
                self.disconnect(node, other, cut_ms);
            }
            Kind::Pause => {
                let pause_ms = self.rng.range(20, 2_500);
                self.pause(node, pause_ms);
            }
            Kind::SlowDisk => {
                let slow_ms = self.rng.range(100, 1_500);
                self.nodes[node].slow_until_ms = self.now_ms + slow_ms;
            }
            Kind::FullDisk => {
                let full_ms = self.rng.range(100, 1_000);
                self.nodes[node].full_until_ms = self.now_ms + full_ms;
            }
            Kind::Control => {
                // An operator or another placement process fails the partition over for no reason.
                let nonce = self.record.open().map(|open| open.nonce);
                let goal = match self.rng.range(0, 4) {
                    0 => Goal::Park,
                    1 | 2 => Goal::Move(NodeId(node as u32 + 1)),
                    _ => Goal::Open,
                };
                self.at(0, Event::StartFailover { nonce, goal });
            }
            Kind::LostDisk if may_lose => {
                self.has_lost_data = true;
                self.lose_disk(node, 250);
            }
            // An opening that rotted looks like one that never came about: of a restore that is asked too much.
            Kind::Rot | Kind::LostWrite if self.profile.scenario == Scenario::Restore => {}
            Kind::Rot if may_lose => {
                self.crash(node, 200);
                if self.nodes[node].disk.rot(&mut self.rng) {
                    self.has_lost_data = true;
                }
            }
            Kind::LostWrite if may_lose && self.nodes[node].is_up => {
                let how = if self.rng.chance(50) { Lie::Lost } else { Lie::Misdirected };
                self.nodes[node].disk.lie_next(how);
                self.has_lost_data = true;
            }
            Kind::FailedWrite => {
                let rules = self.profile.rules;
                if self.nodes[node].is_up && self.nodes[node].disk.fail_next(rules) {
                    // The process stops at once, as it must.
                    self.crash(node, 300);
                }
            }
            Kind::LostDisk | Kind::Rot | Kind::LostWrite => {}
        }
    }

    /// The process stops, and goes on where it was: what came meanwhile it does late. Others take it for gone.
    fn pause(&mut self, node: usize, pause_ms: u64) {
        if !self.nodes[node].is_up || self.nodes[node].paused_until_ms > self.now_ms {
            return;
        }
        self.nodes[node].paused_until_ms = self.now_ms + pause_ms;
        if pause_ms > SILENT_MS {
            self.at(SILENT_MS, Event::FellSilent { node, life: self.nodes[node].life });
        }
    }

    pub(super) fn fell_silent(&mut self, node: usize) {
        let back_ms = self.nodes[node].paused_until_ms.saturating_sub(self.now_ms);
        for other in (0..self.nodes.len()).filter(|other| *other != node).collect::<Vec<_>>() {
            // Each connection is given up, and made anew once the process goes on.
            self.disconnect(node, other, back_ms + 5);
        }
    }

    /// Everything that is broken and may heal does.
    fn heal(&mut self) {
        let cut: Vec<_> = self.cuts.iter().filter(|(_, is_cut)| **is_cut).map(|(link, _)| *link).collect();
        for (a, b) in cut {
            let epoch = self.connections.get(&(a, b)).copied().unwrap_or(0);
            self.at(1, Event::Reconnect { a, b, epoch });
        }
        // A process that a planted bug let live on a failed disk is ended.
        for node in 0..self.nodes.len() {
            if self.nodes[node].disk.has_failed {
                self.crash(node, 100);
            }
        }
    }

    pub(super) fn crash(&mut self, node: usize, down_ms: u64) {
        if !self.nodes[node].is_up {
            return;
        }
        self.nodes[node].is_up = false;
        self.nodes[node].disk.cut_power(&mut self.rng);
        self.nodes[node].fences.clear();
        self.nodes[node].opens.clear();
        self.nodes[node].appends.clear();
        self.nodes[node].copies.clear();
        self.nodes[node].asked.clear();
        self.nodes[node].paused_until_ms = 0;
        self.nodes[node].down_since_ms = self.now_ms;
        for other in 0..self.nodes.len() {
            if other != node {
                self.tell_down(other, node);
                if self.nodes[other].is_up && self.has_asides && self.asides.chance(50) {
                    self.step(other, Input::PeerGone { node: NodeId(node as u32 + 1) });
                }
            }
        }
        self.at(down_ms, Event::Restart { node });
    }

    fn tell_down(&mut self, at: usize, gone: usize) {
        if self.nodes[at].is_up {
            self.step(at, Input::PeerDown { node: NodeId(gone as u32 + 1) });
        }
    }

    /// Waits for an open segment, then stops one of its members for good.
    fn one_goes(&mut self) {
        match self.record.open().cloned() {
            Some(open) if self.oracle.has_acknowledged_from(open.base) => {
                let member = open.replicas[self.rng.range(0, 2) as usize];
                self.crash(member.node.0 as usize - 1, END_MS);
            }
            _ => self.at(self.fault_every_ms, Event::Fault),
        }
    }

    fn park(&mut self) {
        let Some(open) = self.record.open().cloned() else { return };
        let member = open.replicas[self.rng.range(0, 2) as usize];
        if self.rng.chance(50) {
            self.crash(member.node.0 as usize - 1, 200);
        }
        self.at(0, Event::StartFailover { nonce: Some(open.nonce), goal: Goal::Park });
    }

    /// The scenario's fault; false where it has to wait for an acknowledged batch in an open segment.
    fn lose_a_copy(&mut self) -> bool {
        let Some(open) = self.record.open().cloned() else { return false };
        let members = open.replicas.map(|member| member.node.0 as usize - 1);
        if !self.oracle.has_acknowledged_from(open.base) || members.iter().any(|node| !self.nodes[*node].is_up) {
            return false;
        }
        let [lost, other] = if self.rng.chance(50) { members } else { [members[1], members[0]] };
        match self.profile.scenario {
            Scenario::LostOpening => {
                if !self.nodes[lost].disk.rot_opening(open.nonce) {
                    return false;
                }
                self.crash(lost, 5);
            }
            _ => self.lose_disk(lost, 5),
        }
        self.crash(other, 400);
        self.has_lost_data = true;
        true
    }

    fn lose_disk(&mut self, node: usize, down_ms: u64) {
        self.crash(node, down_ms);
        self.oracle.disk_lost(self.nodes[node].disk.incarnation);
        self.nodes[node].disk = Disk::new(Incarnation(self.rng.wide()), self.file_bytes);
    }

    pub(super) fn restart(&mut self, node: usize) {
        if self.nodes[node].is_up {
            return;
        }
        let rules = self.profile.rules;
        let recovered = self.nodes[node].disk.recover(rules);
        let disk = self.nodes[node].disk.incarnation;
        if !recovered.damage.is_empty() && !self.nodes[node].disk.is_rotten {
            self.oracle.fail(format!("27: what a power cut tore is taken for damage: {:?}", recovered.damage));
        }
        let flushed = self.nodes[node].disk.flushed(PARTITION, rules);
        let mut replicas: BTreeMap<TopicPartition, ReplicaCore> = BTreeMap::from([(PARTITION, flushed)]);
        recovery::replay(&recovered, &mut replicas, rules);
        let replica = replicas.remove(&PARTITION).unwrap_or_else(|| ReplicaCore::new(PARTITION, rules));
        for replayed in &recovered.entries {
            self.oracle.found(disk, &replayed.entry);
        }
        for segment in replica.segments() {
            let nonce = segment.open.segment.nonce;
            for batch in self.nodes[node].disk.batches(nonce, segment.open.base, segment.end, usize::MAX) {
                self.oracle.in_file(disk, nonce, &batch);
            }
        }
        for segment in replica.segments() {
            let end = (!segment.is_damaged).then_some(segment.end);
            let nonce = segment.open.segment.nonce;
            self.oracle.recovered(disk, nonce, end, segment.sealed, self.nodes[node].disk.has_lied);
        }
        let me = Replica { node: NodeId(node as u32 + 1), incarnation: disk };
        // Of a copy whose very opening rotted nobody says anything before it has seen a record: it may be asked for it anew first.
        let listed = self.record.chain.iter().filter(|segment| segment.replicas.contains(&me));
        for segment in listed.filter(|segment| replica.segment(segment.nonce).is_none()) {
            if self.nodes[node].disk.is_rotten {
                self.oracle.damaged(disk, segment.nonce, true);
            }
        }
        let state = &mut self.nodes[node];
        state.core = Partition::recovered(replica, me, rules);
        state.life += 1;
        state.is_up = true;
        let life = state.life;
        let after = self.rng.range(0, 40);
        self.at(after, Event::Register { node, life });
        for other in 0..self.nodes.len() {
            if other != node && !self.cuts.get(&Self::link(node, other)).copied().unwrap_or(false) {
                self.tell_up(other, node);
            }
        }
    }

    fn tell_up(&mut self, at: usize, back: usize) {
        if self.nodes[at].is_up {
            let (life, after) = (self.nodes[at].life, 1 + self.rng.range(0, self.net_ms));
            let input = Input::PeerUp { node: NodeId(back as u32 + 1) };
            self.at(after, Event::ToNode { node: at, life, input });
        }
    }

    fn disconnect(&mut self, a: usize, b: usize, cut_ms: u64) {
        let link = Self::link(a, b);
        if self.cuts.insert(link, true) == Some(true) {
            return;
        }
        let epoch = self.connections.entry(link).or_insert(0);
        *epoch += 1;
        let epoch = *epoch;
        // What was under way is lost.
        let (ida, idb) = (NodeId(a as u32 + 1), NodeId(b as u32 + 1));
        let kept: Vec<Queued> = std::mem::take(&mut self.queue)
            .into_vec()
            .into_iter()
            .filter(|queued| match &queued.event {
                Event::ToNode { node, input: Input::Peer { from, .. } | Input::PeerReply { from, .. }, .. } => {
                    !((*node == a && *from == idb) || (*node == b && *from == ida))
                }
                _ => true,
            })
            .collect();
        self.queue = kept.into();
        self.tell_down(a, b);
        self.tell_down(b, a);
        self.at(cut_ms, Event::Reconnect { a, b, epoch });
    }

    pub(super) fn reconnect(&mut self, a: usize, b: usize, epoch: u64) {
        let link = Self::link(a, b);
        if self.connections.get(&link).copied().unwrap_or(0) != epoch {
            return;
        }
        self.cuts.insert(link, false);
        if self.nodes[a].is_up && self.nodes[b].is_up {
            self.tell_up(a, b);
            self.tell_up(b, a);
        }
    }
}
