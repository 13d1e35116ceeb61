//! What goes wrong: crashes, power cuts, cut connections, one lost disk or one rotten bit per seed, failed writes.

use super::*;

impl World {
    pub(super) fn fault(&mut self) {
        if self.now_ms >= FAULTS_END_MS {
            return self.heal();
        }
        self.faults += 1;
        if self.profile.scenario == Scenario::OneAway {
            return self.one_goes();
        }
        if self.profile.scenario == Scenario::Restore && self.rng.chance(30) {
            self.begin_restore();
        }
        if self.profile.scenario == Scenario::Parking && self.rng.chance(60) {
            self.park();
            return self.at(self.fault_every_ms, Event::Fault);
        }
        if self.profile.scenario == Scenario::Rotten && self.rng.chance(50) && self.is_repaired() {
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
        match self.rng.range(0, 100) {
            0..=34 => {
                let down_ms = if self.rng.chance(10) { self.rng.range(500, 3_000) } else { self.rng.range(5, 500) };
                self.crash(node, down_ms);
            }
            35..=44 => {
                // The power of all nodes at once.
                for node in 0..self.nodes.len() {
                    let down_ms = self.rng.range(5, 300);
                    self.crash(node, down_ms);
                }
            }
            45..=54 => {
                // Both members of the open segment, a moment apart.
                if let Some(open) = self.record.open().cloned() {
                    for member in open.replicas {
                        let down_ms = self.rng.range(5, 400);
                        self.crash(member.node.0 as usize - 1, down_ms);
                    }
                }
            }
            55..=74 => {
                let other = (node + 1 + self.rng.range(0, self.nodes.len() as u64 - 1) as usize) % self.nodes.len();
                let cut_ms = self.rng.range(1, 900);
                self.disconnect(node, other, cut_ms);
            }
            75..=84 => {
                // An operator or another placement process fails the partition over for no reason.
                let nonce = self.record.open().map(|open| open.nonce);
                let goal = match self.rng.range(0, 4) {
                    0 => Goal::Park,
                    1 | 2 => Goal::Move(NodeId(node as u32 + 1)),
                    _ => Goal::Open,
                };
                self.at(0, Event::StartFailover { nonce, goal });
            }
            // One loss at a time: another may come once everything has two copies again.
            85..=94 if self.restoring.is_some() => {}
            85..=89 if !self.has_lost_data || self.is_repaired() => {
                self.has_lost_data = true;
                self.lose_disk(node, 250);
            }
            // An opening that rotted looks like one that never came about: of a restore that is asked too much.
            90..=94 if self.profile.scenario == Scenario::Restore => {}
            90..=94 if !self.has_lost_data || self.is_repaired() => {
                self.crash(node, 200);
                if self.nodes[node].disk.rot(&mut self.rng) {
                    self.has_lost_data = true;
                }
            }
            95..=99 => {
                let rules = self.profile.rules;
                if self.nodes[node].is_up && self.nodes[node].disk.fail_next(rules) {
                    // The process stops at once, as it must.
                    self.crash(node, 300);
                }
            }
            _ => {}
        }
        let after = self.fault_every_ms / 2 + self.rng.range(0, self.fault_every_ms);
        self.at(after, Event::Fault);
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
        self.nodes[node].down_since_ms = self.now_ms;
        for other in 0..self.nodes.len() {
            if other != node {
                self.tell_down(other, node);
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
        self.nodes[node].disk = Disk::new(Incarnation(self.rng.wide()));
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
        let mut replicas: BTreeMap<TopicPartition, ReplicaCore> = BTreeMap::new();
        recovery::replay(&recovered, &mut replicas, rules);
        let replica = replicas.remove(&PARTITION).unwrap_or_else(|| ReplicaCore::new(PARTITION, rules));
        for replayed in &recovered.entries {
            self.oracle.found(disk, &replayed.entry);
        }
        for segment in replica.segments() {
            let end = (!segment.is_damaged).then_some(segment.end);
            self.oracle.recovered(disk, segment.open.segment.nonce, end, segment.sealed);
        }
        let me = Replica { node: NodeId(node as u32 + 1), incarnation: disk };
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
