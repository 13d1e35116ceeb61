//! Metadata is restored: an operator fences every disk for a new generation, hears what each has, and makes the record
//! anew from that and from some earlier record, or none. The placement that was there goes on until then.

use cores::Rule;
use cores::rebuild::{Disk, rebuild};
use wire::frame::FenceRequest;

use super::*;

/// Asks for fences; no attempt has this number.
pub(super) const OPERATOR: u64 = u64::MAX;
const ASK_MS: u64 = 120;

/// A restore under way.
#[derive(Debug)]
pub(super) struct Restoring {
    generation: Generation,
    known: Option<PartitionRecord>,
    disks: BTreeMap<usize, Disk>,
}

impl World {
    pub(super) fn begin_restore(&mut self) {
        if self.restoring.is_some() || self.history.is_empty() {
            return;
        }
        let at = self.rng.range(0, self.history.len() as u64) as usize;
        let known = if self.rng.chance(40) { None } else { Some(self.history[at].clone()) };
        let generation = Generation(self.record.generation.0 + 1);
        self.restoring = Some(Restoring { generation, known, disks: BTreeMap::new() });
        self.at(1, Event::AskInventories);
        if self.rng.chance(60) {
            // One node is away for so long that the old placement has its segments copied, and is heard last.
            let node = self.rng.range(0, self.nodes.len() as u64) as usize;
            self.crash(node, 1_600);
        }
    }

    /// Asks whoever has not answered, until all have: nobody is left out.
    pub(super) fn ask_inventories(&mut self) {
        let Some(restoring) = &self.restoring else { return };
        let generation = restoring.generation;
        let silent: Vec<usize> = (0..self.nodes.len()).filter(|node| !restoring.disks.contains_key(node)).collect();
        // One after the other: much can happen in between.
        for node in silent.into_iter().filter(|node| self.nodes[*node].is_up).take(1).collect::<Vec<_>>() {
            if !self.profile.rules.holds(Rule::InventoryFences) {
                self.take_inventory(node, generation);
                continue;
            }
            let token = self.next_token;
            self.next_token += 1;
            let request = FenceRequest { partition: PARTITION, generation, epoch: Epoch(0), nonce: None };
            self.nodes[node].fences.insert(token, (OPERATOR, request));
            let (life, after) = (self.nodes[node].life, self.rng.range(0, 2 * self.net_ms));
            self.at(after, Event::ToNode { node, life, input: Input::Fence { token, request } });
        }
        self.at(ASK_MS, Event::AskInventories);
        self.restore();
    }

    pub(super) fn take_inventory(&mut self, node: usize, generation: Generation) {
        let Some(restoring) = self.restoring.as_mut().filter(|restoring| restoring.generation == generation) else {
            return;
        };
        let replica = Replica { node: NodeId(node as u32 + 1), incarnation: self.nodes[node].disk.incarnation };
        let held = self.nodes[node].core.inventory();
        restoring.disks.entry(node).or_insert(Disk { replica, az: format!("az-{}", node % 3), held });
    }

    /// Once all have answered.
    fn restore(&mut self) {
        let Some(restoring) = self.restoring.take_if(|restoring| restoring.disks.len() == self.nodes.len()) else {
            return;
        };
        let disks: Vec<Disk> = restoring.disks.into_values().collect();
        let known = restoring.known.as_ref();
        let rules = self.profile.rules;
        let rebuilt = match rebuild(PARTITION, known, &disks, restoring.generation, rules) {
            // The backup is of a store that was given up since: it says nothing.
            Err(_) if known.is_some() => rebuild(PARTITION, None, &disks, restoring.generation, rules),
            rebuilt => rebuilt,
        };
        let record = match rebuilt {
            Ok(Some(rebuilt)) if rebuilt.holes.is_empty() => rebuilt.record,
            Ok(None) => return,
            other => return self.oracle.fail(format!("RESTORE: {other:?}")),
        };
        if self.profile.is_verbose {
            for disk in &disks {
                println!("restore: node {}", disk.replica.node);
                disk.held.segments.iter().for_each(|held| println!("  {held:?}"));
            }
            println!("known: {:?}\nrestored: {:?}", known.map(|known| &known.chain), record.chain);
        }
        // Whoever still works for the old store works in vain.
        self.revision += 1_000;
        self.actors.clear();
        self.repairs.clear();
        self.damaged.clear();
        self.oracle.restored(&record);
        self.history.push(record.clone());
        self.record = record;
        for node in 0..self.nodes.len() {
            let (life, after) = (self.nodes[node].life, self.rng.range(0, 3 * self.net_ms));
            self.at(after, Event::RecordRead { node, life });
        }
        if let Some(nonce) = self.record.open().map(|open| open.nonce) {
            self.at(20, Event::StartFailover { nonce: Some(nonce), goal: Goal::Open });
        }
    }
}
