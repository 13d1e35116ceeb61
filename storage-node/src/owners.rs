//! All partitions of a node: those with an owner task, and those that rest.
//!
//! A partition rests once everything of it here is sealed, whole and in the catalogue, and nobody has had mail for it for
//! a while. It is an entry of this map then, without a task and without memory of its own. Whoever has mail for it wakes
//! it from the catalogue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use cores::Rules;
use cores::replica::Replica;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use types::{Epoch, Generation, PartitionRecord, TopicId, TopicPartition};

use crate::catalogue::CatalogueError;
use crate::node::Node;
use crate::owner::{self, Mail, OwnerHandle};

/// The newest record of a partition that its owner has heard of.
pub type Heard = (Generation, u64);

/// An owner that rests takes no mail any more, and has left the map by then: the second attempt meets another.
const ATTEMPTS: usize = 16;

#[derive(Clone)]
enum Place {
    Awake(OwnerHandle),
    /// `nap` is a number of its own for each rest: what was read from the catalogue before is of an earlier one.
    Resting {
        heard: Heard,
        nap: u64,
    },
}

/// See the module's text.
#[derive(Default)]
pub struct Owners {
    places: DashMap<TopicPartition, Place>,
    naps: AtomicU64,
    resting: AtomicUsize,
}

impl std::fmt::Debug for Owners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Owners({})", self.places.len())
    }
}

impl Owners {
    /// Every partition, once each.
    pub fn ids(&self) -> Vec<TopicPartition> {
        self.places.iter().map(|place| *place.key()).collect()
    }

    pub fn of_topic(&self, topic: TopicId) -> Vec<TopicPartition> {
        self.places.iter().map(|place| *place.key()).filter(|id| id.topic == topic).collect()
    }

    /// Partitions, and those of them that rest.
    pub fn count(&self) -> (usize, usize) {
        (self.places.len(), self.resting.load(Ordering::Relaxed))
    }

    pub fn contains(&self, partition: TopicPartition) -> bool {
        self.places.contains_key(&partition)
    }

    pub fn awake(&self, partition: TopicPartition) -> Option<OwnerHandle> {
        match self.places.get(&partition)?.value() {
            Place::Awake(owner) => Some(owner.clone()),
            Place::Resting { .. } => None,
        }
    }

    pub fn for_each_awake(&self, mut f: impl FnMut(TopicPartition, &OwnerHandle)) {
        for place in &self.places {
            if let Place::Awake(owner) = place.value() {
                f(*place.key(), owner);
            }
        }
    }

    /// The owner that is awake, or the one that `start` makes where nothing is; never two. `None` where it rests.
    pub fn awake_or(&self, partition: TopicPartition, start: impl FnOnce() -> OwnerHandle) -> Option<OwnerHandle> {
        match self.places.entry(partition).or_insert_with(|| Place::Awake(start())).value() {
            Place::Awake(owner) => Some(owner.clone()),
            Place::Resting { .. } => None,
        }
    }

    /// An owner lays itself to rest, if `close` finds that no mail came meanwhile.
    pub fn rest(&self, partition: TopicPartition, heard: Heard, close: impl FnOnce() -> bool) -> bool {
        let Entry::Occupied(mut place) = self.places.entry(partition) else { return false };
        let may_rest = close();
        if may_rest {
            place.insert(self.nap(heard));
        }
        may_rest
    }

    /// At start-up: all of this partition is in the catalogue, as it is to be.
    pub fn lay(&self, partition: TopicPartition) {
        self.places.insert(partition, self.nap(Heard::default()));
    }

    fn nap(&self, heard: Heard) -> Place {
        self.resting.fetch_add(1, Ordering::Relaxed);
        Place::Resting { heard, nap: self.naps.fetch_add(1, Ordering::Relaxed) }
    }

    /// The partition's topic is gone, and so is all that was here.
    pub fn forget(&self, partition: TopicPartition) {
        if let Some((_, Place::Resting { .. })) = self.places.remove(&partition) {
            self.resting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn place(&self, partition: TopicPartition) -> Option<Place> {
        self.places.get(&partition).map(|place| place.value().clone())
    }
}

impl Node {
    /// The owner of a partition, woken if it rests; `None` if nothing of the partition is here.
    ///
    /// # Errors
    /// If the catalogue cannot be read: that is no absence.
    pub fn owner(self: &Arc<Self>, partition: TopicPartition) -> Result<Option<OwnerHandle>, CatalogueError> {
        loop {
            let nap = match self.owners.place(partition) {
                None => return Ok(None),
                Some(Place::Awake(owner)) => return Ok(Some(owner)),
                Some(Place::Resting { nap, .. }) => nap,
            };
            // Not under the map's lock: it may have to be read from disk.
            let loaded = tokio::task::block_in_place(|| self.catalogue.load_one(partition))?;
            let Some((image, extents)) = loaded else {
                // Woken meanwhile and then deleted; or the catalogue has lost a row, which is no absence either.
                let is_same =
                    matches!(self.owners.place(partition), Some(Place::Resting { nap: known, .. }) if known == nap);
                if is_same {
                    return Err(CatalogueError::Lost(partition));
                }
                continue;
            };
            let (_, mut replica) = owner::restored(image);
            replica.restore((self.generation(), Epoch(0)), []);
            let Entry::Occupied(mut place) = self.owners.places.entry(partition) else { continue };
            if let Place::Resting { heard, nap: known } = *place.get()
                && known == nap
            {
                let owner = owner::wake(self, replica, extents, heard);
                place.insert(Place::Awake(owner.clone()));
                self.owners.resting.fetch_sub(1, Ordering::Relaxed);
                return Ok(Some(owner));
            }
        }
    }

    /// Gives mail to the owner of a partition.
    ///
    /// # Errors
    /// The mail comes back if nothing of the partition is here.
    pub fn deliver(self: &Arc<Self>, partition: TopicPartition, mut mail: Mail) -> Result<(), Box<Mail>> {
        for _ in 0..ATTEMPTS {
            match self.owner(partition) {
                Ok(Some(owner)) => match owner.offer(mail) {
                    Ok(()) => return Ok(()),
                    Err(back) => mail = back,
                },
                Ok(None) => return Err(Box::new(mail)),
                Err(error) => {
                    // Whoever asks hears nothing, and goes on as if this node were away.
                    tracing::error!(%error, %partition, "a partition cannot be read from the catalogue");
                    return Ok(());
                }
            }
        }
        tracing::error!(%partition, "the owner of a partition takes no mail");
        Ok(())
    }

    /// Gives mail to the owner of a partition, and starts one if nothing of the partition is here.
    pub fn deliver_or_begin(self: &Arc<Self>, partition: TopicPartition, mut mail: Mail) {
        while let Err(back) = self.deliver(partition, mail) {
            mail = *back;
            self.owners.awake_or(partition, || {
                let mut replica = Replica::new(partition, Rules::ALL);
                replica.restore((self.generation(), Epoch(0)), []);
                owner::start(self, replica, Vec::new(), Vec::new(), Vec::new())
            });
        }
    }

    /// Only if its owner is awake: who rests leads and follows nobody.
    pub fn tell(&self, partition: TopicPartition, mail: Mail) {
        if let Some(owner) = self.owners.awake(partition) {
            owner.tell(mail);
        }
    }

    /// All that are awake.
    pub fn tell_all(&self, mail: impl Fn() -> Mail) {
        self.owners.for_each_awake(|_, owner| owner.tell(mail()));
    }

    /// A partition's record as placement has it now.
    pub fn hear_record(self: &Arc<Self>, record: PartitionRecord) {
        let heard_now = (record.generation, record.version);
        match self.owners.place(record.id()) {
            None => self.report_absent(&record),
            // That was heard before it fell asleep.
            Some(Place::Resting { heard, .. }) if heard >= heard_now => {}
            Some(_) => drop(self.deliver(record.id(), Mail::Record(Box::new(record)))),
        }
    }
}
