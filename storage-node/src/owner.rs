//! The owner task of one partition: steps the core, carries out its effects, serves its readers.

pub mod groups;
mod image;
mod letting_go;
mod reading;
pub mod resting;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cores::Rules;
use cores::groups::Log;
use cores::partition::{Effect, Input, Now, Partition, Progress, Token};
use cores::replica::Replica;
use service::connection::FrameSender;
use service::{clock, random};
use tokio::sync::{mpsc, oneshot};
use types::{Epoch, ErrorCode, Generation, NodeId, Nonce, Offset, PartitionRecord};
use wire::frame::{
    AppendRequest, CopyRequest, DescribeRequest, FenceReply, FenceRequest, FetchRequest, Frame, OpenRequest,
    PeerMessage, PeerReply, Refusal,
};
use wire::groups::GroupQuestion;
use wire::inventory::HeldPartition;
use wire::journal::JournalEntry;
use wire::{Batch, DedupeSnapshot};

use crate::catalogue::Extent;
use crate::copy::{self, CopiedBatches};
use crate::flush::FlushAnswer;
use crate::journal::Request;
use crate::mailbox::{Mailbox, Mails, mailbox};
use crate::node::Node;
use crate::owner::groups::Groups;
use crate::owner::letting_go::Deletion;
use crate::owner::resting::Calm;
use crate::owners::Heard;
use crate::tail::Tail;

pub use image::restored;

/// Who asked, and under which correlation id.
pub type Asker = (FrameSender, u64);

/// What an owner is told.
pub enum Mail {
    Append(Asker, Box<AppendRequest>),
    Peer(NodeId, Box<PeerMessage>),
    PeerReply(NodeId, PeerReply),
    PeerUp(NodeId),
    PeerDown(NodeId),
    PeerGone(NodeId),
    Fence(Asker, Box<FenceRequest>),
    Open(Asker, Box<OpenRequest>, Option<Box<DedupeSnapshot>>),
    Describe(Asker, DescribeRequest),
    /// Tells what is here; behind a fence of this generation, if one is given.
    Inventory(Option<Generation>, oneshot::Sender<Result<HeldPartition, Refusal>>),
    Copy(Asker, Box<CopyRequest>),
    /// A question for the coordinator of this log, its log as it was read, and the word that a write of its is durable.
    Ask(Asker, Box<GroupQuestion>),
    GroupsRead(Nonce, Result<Box<Log>, String>),
    GroupsWritten(Nonce, Option<u64>),
    /// How a copy that is made here goes on.
    Copied(Progress),
    CopiedBatches(Vec<Batch>, CopiedBatches),
    Record(Box<PartitionRecord>),
    /// A failover was asked for and there is nowhere to go.
    NoPair,
    Deleted,
    Durable(u64),
    Fetch(Asker, Box<FetchRequest>),
    /// Hand over what can leave the journal.
    Flush(mpsc::UnboundedSender<FlushAnswer>),
    /// A flush is over: its extents, and whether it was the one that takes the partition out of the catalogue.
    Flushed {
        extents: Vec<(Nonce, Extent)>,
        is_deletion: bool,
    },
    /// Nothing came for a while: give back memory that only work needs.
    Shed,
}

/// A handle on an owner; cheap to clone.
#[derive(Clone)]
pub struct OwnerHandle {
    mailbox: Mailbox<Mail>,
    /// Bytes that clients appended here, ever.
    appended: Arc<AtomicU64>,
}

impl OwnerHandle {
    pub fn tell(&self, mail: Mail) {
        self.mailbox.send(mail);
    }

    /// Gives the mail back if the owner has ended, or rests.
    pub fn offer(&self, mail: Mail) -> Result<(), Mail> {
        self.mailbox.offer(mail)
    }

    /// Called now and then: an owner without work gives memory back.
    pub fn shed_if_quiet(&self) {
        self.mailbox.send_if_quiet(Mail::Shed);
    }

    pub fn appended(&self) -> u64 {
        self.appended.load(Ordering::Relaxed)
    }
}

/// What the journal owes this owner, in order.
enum Owed {
    Batch { nonce: Nonce, base: Offset },
    Other,
}

struct Parked {
    asker: Asker,
    request: Box<FetchRequest>,
    until_ms: u64,
}

struct Owner {
    node: Arc<Node>,
    handle: OwnerHandle,
    core: Partition,
    tail: Tail,
    askers: HashMap<Token, Asker>,
    /// Who waits for an inventory, behind which fence.
    inventories: Vec<(Token, oneshot::Sender<Result<HeldPartition, Refusal>>)>,
    next_token: Token,
    owed: VecDeque<Owed>,
    journal: Vec<Request<OwnerHandle>>,
    parked: Vec<Parked>,
    copies: Vec<CopiedBatches>,
    /// The last read met what cannot be read.
    is_unreadable: Cell<bool>,
    wakes: BTreeSet<u64>,
    /// Something changed since the last image went to the catalogue.
    is_dirty: bool,
    /// A flush is under way: extents are on their way back.
    is_flushing: bool,
    /// How far the deletion of the topic is.
    deletion: Deletion,
    /// Where this node leads a coordinator log and was asked something.
    groups: Option<Box<Groups>>,
    /// The leadership that was looked at for whether it is of a coordinator's log.
    groups_led: Option<Nonce>,
    /// The newest record that came here.
    heard: Heard,
    /// When to fall asleep, in monotonic ms, if nothing comes.
    rest_ms: Option<u64>,
}

/// Mails after which what they brought goes to the journal, however many more there are.
const MAILS_A_WRITE: usize = 256;
/// Committed bytes that an owner sends to the flusher without being asked.
const FLUSH_BYTES: usize = 32 * 1024 * 1024;

/// Starts the owner of a partition as the catalogue has it; everything of it is sealed and in files.
pub fn wake(node: &Arc<Node>, replica: Replica, extents: Vec<(Nonce, Extent)>, heard: Heard) -> OwnerHandle {
    let (mut owner, mails) = new(node, replica, Vec::new(), extents, Vec::new());
    owner.heard = heard;
    owner.is_dirty = !owner.deletion.dropped.is_empty();
    spawn(owner, mails)
}

/// Starts the owner of a partition that recovery, or an opening, brought here.
pub fn start(
    node: &Arc<Node>,
    replica: Replica,
    batches: Vec<(Nonce, Batch, u64)>,
    extents: Vec<(Nonce, Extent)>,
    dropped: Vec<(Nonce, Extent)>,
) -> OwnerHandle {
    let (owner, mails) = new(node, replica, batches, extents, dropped);
    spawn(owner, mails)
}

fn spawn(owner: Box<Owner>, mails: Mails<Mail>) -> OwnerHandle {
    let handle = owner.handle.clone();
    tokio::spawn(owner.run(mails));
    handle
}

fn new(
    node: &Arc<Node>,
    replica: Replica,
    batches: Vec<(Nonce, Batch, u64)>,
    extents: Vec<(Nonce, Extent)>,
    mut dropped: Vec<(Nonce, Extent)>,
) -> (Box<Owner>, Mails<Mail>) {
    let (sender, mails) = mailbox();
    let handle = OwnerHandle { mailbox: sender, appended: Arc::default() };
    let mut tail = Tail::new(Arc::clone(&node.budget), Arc::clone(&node.files));
    for (nonce, extent) in extents {
        match replica.segment(nonce) {
            Some(_) => tail.restore(nonce, extent),
            None => dropped.push((nonce, extent)),
        }
    }
    for (nonce, batch, position) in batches {
        // Of a segment that is not here any more nothing holds the journal back.
        if replica.segment(nonce).is_some() {
            tail.push(nonce, batch, Some(position));
        }
    }
    // What lies above a seal is not part of the log, and must not hold the journal back.
    for segment in replica.segments() {
        segment.sealed.into_iter().for_each(|end| tail.truncate(segment.open.segment.nonce, end));
    }
    let owner = Box::new(Owner {
        core: Partition::recovered(replica, node.me(), Rules::ALL),
        node: Arc::clone(node),
        handle,
        tail,
        askers: HashMap::new(),
        inventories: Vec::new(),
        next_token: 1,
        owed: VecDeque::new(),
        journal: Vec::new(),
        parked: Vec::new(),
        copies: Vec::new(),
        is_unreadable: Cell::new(false),
        wakes: BTreeSet::new(),
        is_dirty: true,
        is_flushing: false,
        deletion: Deletion { dropped, ..Deletion::default() },
        groups: None,
        groups_led: None,
        heard: Heard::default(),
        rest_ms: None,
    });
    (owner, mails)
}

fn now() -> Now {
    Now { monotonic_ms: clock::monotonic_ms(), wall_ms: clock::wall_ms() }
}

impl Owner {
    async fn run(mut self: Box<Self>, mut mails: Mails<Mail>) {
        // A crash may have come between the deletion and the removal of its files.
        self.let_go();
        let mut taken = Vec::new();
        loop {
            let timers = self.wakes.first().copied().into_iter().chain(self.rest_ms).chain(self.groups_wake_ms());
            let due = timers.chain(self.parked.iter().map(|p| p.until_ms)).min();
            let wait = due.map(|due| Duration::from_millis(due.saturating_sub(clock::monotonic_ms())));
            tokio::select! {
                biased;
                () = mails.take(&mut taken) => {}
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
            let is_idle = matches!(taken[..], [Mail::Shed]);
            let calm = Calm::of(&taken);
            for (number, mail) in taken.drain(..).enumerate() {
                self.handle_mail(mail);
                if number % MAILS_A_WRITE == MAILS_A_WRITE - 1 {
                    self.node.journal.queue(&mut self.journal);
                }
            }
            self.on_time();
            self.node.journal.queue(&mut self.journal);
            if is_idle {
                taken.shrink_to_fit();
                mails.shed();
                self.shed();
            }
            if self.tail.unflushed_bytes() > FLUSH_BYTES && !self.is_flushing {
                let job = self.flush_job();
                self.node.flusher.submit(job);
            }
            self.tail.evict();
            if self.deletion.is_flushed && self.is_deleted() {
                return self.node.owners.forget(self.core.replica().partition());
            }
            if self.rests(calm, &mut mails) {
                return;
            }
        }
    }

    fn shed(&mut self) {
        self.core.shed();
        self.tail.shed();
        self.askers.shrink_to_fit();
        self.owed.shrink_to_fit();
        self.journal.shrink_to_fit();
        self.parked.shrink_to_fit();
    }

    fn on_time(&mut self) {
        let now_ms = clock::monotonic_ms();
        self.look_after_groups(now_ms);
        if self.wakes.first().is_some_and(|due| *due <= now_ms) {
            self.wakes = self.wakes.split_off(&(now_ms + 1));
            self.step(Input::Tick);
        }
        let (due, left) = std::mem::take(&mut self.parked).into_iter().partition(|p: &Parked| p.until_ms <= now_ms);
        self.parked = left;
        let due: Vec<Parked> = due;
        due.into_iter().for_each(|parked| self.answer_fetch(parked.asker, &parked.request, true));
    }

    fn token(&mut self, asker: Asker) -> Token {
        let token = self.next_token;
        self.next_token += 1;
        self.askers.insert(token, asker);
        token
    }

    fn handle_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Append(asker, request) => {
                self.handle.appended.fetch_add(request.batch.len() as u64, Ordering::Relaxed);
                let no_room = self.no_room().map(Box::new);
                let token = self.token(asker);
                self.step(Input::Append { token, request, no_room });
            }
            Mail::Peer(from, message) => self.step(Input::Peer { from, message }),
            Mail::PeerReply(from, reply) => self.step(Input::PeerReply { from, reply }),
            Mail::PeerUp(node) => self.step(Input::PeerUp { node }),
            Mail::PeerDown(node) => self.step(Input::PeerDown { node }),
            Mail::PeerGone(node) => self.step(Input::PeerGone { node }),
            Mail::Fence(asker, request) => {
                let token = self.token(asker);
                self.step(Input::Fence { token, request: *request });
            }
            Mail::Open(asker, request, producers) => {
                let token = self.token(asker);
                self.step(Input::Open { token, request, producers });
            }
            Mail::Describe(asker, request) => {
                let result = self.core.describe(&request).map(Box::new);
                asker.0.send(&Frame::Described(result), asker.1);
            }
            Mail::Inventory(None, to) => drop(to.send(Ok(self.core.inventory()))),
            Mail::Inventory(Some(generation), to) => {
                let token = self.next_token;
                self.next_token += 1;
                self.inventories.push((token, to));
                let partition = self.core.replica().partition();
                let request = FenceRequest { partition, generation, epoch: Epoch(0), nonce: None };
                self.step(Input::Fence { token, request });
            }
            Mail::Copy(asker, request) => {
                let token = self.token(asker);
                self.step(Input::Copy { token, request });
            }
            Mail::Ask(asker, question) => self.ask_groups(asker, *question),
            Mail::GroupsRead(nonce, log) => self.groups_are_read(nonce, log),
            Mail::GroupsWritten(nonce, write) => self.groups_written(nonce, write),
            Mail::Copied(Progress::Whole { segment, end, record_version, description }) => {
                self.step(Input::Copied(Progress::Whole { segment, end, record_version, description }));
                if self.core.replica().segment(segment.nonce).is_none() {
                    let partition = segment.partition;
                    tracing::error!(%partition, end, "what was copied is not what its source says it has; it is copied anew");
                }
            }
            Mail::Copied(progress) => self.step(Input::Copied(progress)),
            Mail::CopiedBatches(batches, wait) => {
                self.step(Input::Copied(Progress::Batches { nonce: wait.nonce, batches }));
                self.copies.push(wait);
                self.wake_copies();
            }
            Mail::Record(record) => {
                // What concerns a segment that is being copied is not heeded yet.
                if !self.core.is_copying() {
                    self.heard = self.heard.max((record.generation, record.version));
                }
                self.step(Input::Record(record));
            }
            Mail::NoPair => self.step(Input::NoPair),
            Mail::Deleted => {
                if !self.core.replica().is_deleted() {
                    self.step(Input::Deleted);
                    self.let_go();
                }
            }
            Mail::Durable(position) => {
                if let Some(Owed::Batch { nonce, base }) = self.owed.pop_front() {
                    self.tail.durable(nonce, base, position);
                }
                self.step(Input::JournalDurable);
                self.wake_copies();
                self.flush_deletion();
            }
            Mail::Fetch(asker, request) => self.answer_fetch(asker, &request, false),
            Mail::Flush(to) => {
                let answer = match (self.is_dirty, self.is_flushing) {
                    (false, _) => FlushAnswer::Clean,
                    (true, true) => FlushAnswer::Busy,
                    (true, false) => FlushAnswer::Job(Box::new(self.flush_job())),
                };
                let _ = to.send(answer);
            }
            Mail::Flushed { extents, is_deletion } => {
                self.is_flushing &= is_deletion;
                if self.core.replica().is_deleted() {
                    // A flush that began before the deletion: the catalogue names these now.
                    self.deletion.dropped.extend(extents);
                    if is_deletion {
                        self.deletion.is_flushing = false;
                        self.deletion.is_flushed = self.deletion.dropped.is_empty();
                    }
                    return self.flush_deletion();
                }
                if self.deletion.is_flushing || self.deletion.is_flushed {
                    // Opened anew by somebody who had not heard of the deletion.
                    self.deletion = Deletion::default();
                    self.node.ask_placement(self.core.replica().partition());
                }
                let mut by_segment: BTreeMap<Nonce, Vec<Extent>> = BTreeMap::new();
                let ghosts = std::mem::take(&mut self.deletion.ghosts);
                for (nonce, extent) in extents {
                    if ghosts.contains(&nonce) || self.core.replica().segment(nonce).is_none() {
                        // Dropped while this flush was under way, and perhaps copied anew since.
                        self.deletion.dropped.push((nonce, extent));
                        self.is_dirty = true;
                        continue;
                    }
                    by_segment.entry(nonce).or_default().push(extent);
                }
                by_segment.iter().for_each(|(nonce, extents)| self.tail.flushed(*nonce, extents));
            }
            Mail::Shed => {}
        }
    }

    /// Whoever waits for a copy's batches goes on once they are fsynced, or the copy is gone.
    fn wake_copies(&mut self) {
        let replica = self.core.replica();
        for wait in std::mem::take(&mut self.copies) {
            match replica.segment(wait.nonce) {
                Some(segment) if segment.durable.is_some_and(|durable| durable >= wait.end) => drop(wait.done.send(())),
                Some(segment) if segment.end >= wait.end => self.copies.push(wait),
                _ => {}
            }
        }
    }

    /// Why another append cannot be taken, if so: here, or at the second copy.
    fn no_room(&self) -> Option<Refusal> {
        let name = &self.node.name;
        let refuse = |code, message| Some(Refusal { code, message });
        match self.node.why_no_room() {
            Some(ErrorCode::Overloaded) => {
                let message = format!("storage node `{name}` writes its files more slowly than records come");
                return refuse(ErrorCode::Overloaded, message);
            }
            Some(code) => return refuse(code, format!("the disk of storage node `{name}` is full")),
            None => {}
        }
        let is_led = |segment: &&cores::replica::Segment| segment.sealed.is_none() && !segment.is_copy();
        let open = self.core.replica().segments().find(is_led)?;
        let follower = open.open.follower.node;
        let code = self.node.peers.why_no_room(follower)?;
        let message = if code == ErrorCode::StorageFull {
            format!("the disk of storage node {follower}, which has the second copy, is full")
        } else {
            format!(
                "storage node {follower}, which has the second copy, writes its files more slowly than records come"
            )
        };
        refuse(code, message)
    }

    fn step(&mut self, input: Input) {
        let effects = self.core.step(now(), input);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Journal(entry) => self.write(entry),
                Effect::Send { to, message } => {
                    let is_opening = matches!(message, PeerMessage::Open(_));
                    if !self.node.send_to_follower(to, message) && is_opening {
                        self.handle.tell(Mail::PeerDown(to));
                    }
                }
                Effect::Reply { to, reply } => self.node.reply_to_leader(to, reply),
                Effect::Answer { token, result } => {
                    if !self.groups_are_written(token, &result) {
                        self.answer(token, &Frame::Appended(result));
                    }
                }
                Effect::AnswerFence { token, result } => self.answer_fence(token, result),
                Effect::AnswerOpen { token, result } => self.answer(token, &Frame::Opened(result)),
                Effect::AskPlacement => self.node.ask_placement(self.core.replica().partition()),
                Effect::RequestFailover { segment } => self.request_failover(segment.nonce),
                Effect::Visible { nonce, offset } => {
                    if self.core.replica().segment(nonce).is_some_and(|s| s.sealed.is_some()) {
                        self.tail.truncate(nonce, offset);
                    }
                    self.wake_readers(nonce);
                }
                Effect::AnswerCopy { token, result } => self.answer(token, &Frame::Copied(result)),
                Effect::Copy { request, from } => {
                    self.node.forget_damage(request.segment.nonce);
                    let (node, handle) = (Arc::clone(&self.node), self.handle.clone());
                    tokio::spawn(async move { copy::run(&node, &handle, &request, from).await });
                }
                Effect::Dropped { nonce } => self.let_go_of(nonce),
                Effect::ReportDamage { segment } => self.node.report_damage(segment),
                Effect::Wake { at_ms } => {
                    self.wakes.insert(at_ms);
                }
            }
        }
    }

    fn write(&mut self, entry: JournalEntry) {
        self.is_dirty = true;
        self.owed.push_back(match &entry {
            JournalEntry::Append { meta, batch } => {
                self.tail.push(meta.segment.nonce, batch.clone(), None);
                Owed::Batch { nonce: meta.segment.nonce, base: batch.base_offset }
            }
            _ => Owed::Other,
        });
        self.journal.push(Request { encoded: entry.encode(), owner: self.handle.clone() });
    }

    fn answer(&mut self, token: Token, frame: &Frame) {
        if let Some((sender, correlation)) = self.askers.remove(&token) {
            sender.send(frame, correlation);
        }
    }

    fn answer_fence(&mut self, token: Token, result: Result<FenceReply, Refusal>) {
        let waits = |(known, _): &(Token, _)| *known == token;
        let Some(at) = self.inventories.iter().position(waits) else {
            return self.answer(token, &Frame::Fenced(result));
        };
        let (_, to) = self.inventories.swap_remove(at);
        // Refused is not empty: another restore has been here.
        let _ = to.send(result.map(|_| self.core.inventory()));
    }

    fn request_failover(&self, nonce: Nonce) {
        let (placement, handle) = (self.node.placement.clone(), self.handle.clone());
        let partition = self.core.replica().partition();
        tokio::spawn(async move {
            // Spread the askers a little: many partitions lose one follower at once.
            tokio::time::sleep(Duration::from_millis((random::wide() % 20) as u64)).await;
            match placement.failover(partition, nonce).await {
                Ok(record) => handle.tell(Mail::Record(Box::new(record))),
                Err(error) => {
                    tracing::warn!(%error, %partition, "a failover was asked for and did not happen");
                    if error.code == ErrorCode::AzUnavailable {
                        handle.tell(Mail::NoPair);
                    }
                }
            }
        });
    }
}
