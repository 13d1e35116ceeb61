//! The shell of `cores::groups`: where this node leads a coordinator log, its owner runs the coordinator.
//!
//! The first question after the leadership began has the log read, from whoever holds its segments. From then on records
//! of the coordinator are appends of the owner's own, and an answer of the leader is the word that they are written. The
//! end of the leadership is the end of the coordinator.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use cores::Rules;
use cores::groups::{Coordinator, Effect, Input, Log, Settings};
use cores::partition::{Input as PartitionInput, Token};
use service::api::TrimPartition;
use types::limits::{
    BATCH_BYTES_DEFAULT, BATCH_BYTES_MAX, GROUP_QUEUE_RECORDS_MAX, OFFSETS_SNAPSHOT_ENTRIES, UNPACKED_BYTES_MAX,
};
use types::{ErrorCode, Nonce, Offset, PrincipalId, Protocol};
use wire::compression::Codec;
use wire::frame::{AppendHead, AppendRequest, Appended, Frame, Refusal};
use wire::groups::{GroupQuestion, GroupRecord, GroupReply, GroupRequest};
use wire::layout::encode;
use wire::records::{BatchBuilder, NewRecord};
use wire::{Batch, DedupeKey};

use super::{Asker, Mail, Owner, now};
use crate::coordinator_log;

/// Groups of the clusters that are served without accounts of their own start at once.
const SETTINGS: Settings = Settings { initial_delay_ms: 0, snapshot_entries: OFFSETS_SNAPSHOT_ENTRIES };
/// Bytes of one batch of records, about.
const BATCH_BYTES: usize = BATCH_BYTES_DEFAULT / 4;

/// Batches that the log is given at a time.
const BATCHES_UNDER_WAY: usize = 4;
/// Pause after the log had no room, or could not be read, in ms.
const RETRY_MS: u64 = 200;

type Queued = (GroupRecord, Option<u64>);

/// A batch under way: the token of its append, the write that ends with it, and the snapshots that begin in it.
struct UnderWay {
    token: Token,
    write: Option<u64>,
    snapshots: Vec<u64>,
}

/// The coordinator of a log, for one leadership.
pub(super) struct Groups {
    nonce: Nonce,
    /// `None` until the log is read.
    coordinator: Option<Box<Coordinator>>,
    is_loading: bool,
    askers: BTreeMap<Token, Asker>,
    next: Token,
    /// Batches under way.
    writes: VecDeque<UnderWay>,
    /// Snapshots, by their writes, that are in the queue.
    queued_snapshots: VecDeque<u64>,
    /// Where snapshots begin, by their writes, or a little before.
    snapshots: BTreeMap<u64, Offset>,
    /// What is to be appended, each write's last record with its number.
    queue: VecDeque<Queued>,
    /// When the log is tried again that had no room, or could not be read.
    retry_ms: Option<u64>,
    wake_ms: Option<u64>,
}

impl Owner {
    pub(super) fn groups_wake_ms(&self) -> Option<u64> {
        self.groups.as_ref().and_then(|groups| groups.wake_ms.into_iter().chain(groups.retry_ms).min())
    }

    pub(super) fn ask_groups(&mut self, asker: Asker, question: GroupQuestion) {
        let refuse = |code, message: &str| Frame::Told(Err(Refusal { code, message: message.to_owned() }));
        if let Err(refusal) = self.core.check_tenant(question.account, Some(question.cluster)) {
            return asker.0.send(&Frame::Told(Err(refusal)), asker.1);
        }
        let Some(nonce) = self.led() else {
            return asker.0.send(&refuse(ErrorCode::NotLeader, "this node does not lead the log"), asker.1);
        };
        let no_room = self.no_room().is_some();
        // Who asks keeps the log from being parked.
        self.handle.appended.fetch_add(1, Ordering::Relaxed);
        self.load_groups(nonce);
        let Some(groups) = self.groups.as_mut().filter(|groups| groups.coordinator.is_some()) else {
            return asker.0.send(&refuse(ErrorCode::CoordinatorLoading, "the coordinator reads its log"), asker.1);
        };
        // What would have to be written waits where tenants' appends wait: with the client.
        let is_read = matches!(
            question.request,
            GroupRequest::Heartbeat { .. } | GroupRequest::Describe { .. } | GroupRequest::List {}
        );
        if !is_read && (no_room || groups.queue.len() > GROUP_QUEUE_RECORDS_MAX) {
            let reply = GroupReply::Refused { code: ErrorCode::Overloaded };
            return asker.0.send(&Frame::Told(Ok(Box::new(reply))), asker.1);
        }
        let token = groups.next;
        groups.next += 1;
        groups.askers.insert(token, asker);
        let GroupQuestion { fresh, request, .. } = question;
        self.step_groups(Input::Ask { token, fresh, request });
    }

    /// Reads the log that this node leads, unless that was done, or is not to be done yet.
    fn load_groups(&mut self, nonce: Nonce) {
        // Appends of a coordinator before this one, in the same leadership, come first.
        let is_settled = self.core.leader().is_none_or(|leader| leader.waiting() == 0);
        let groups = self.groups.get_or_insert_with(|| Box::new(Groups::new(nonce)));
        let may_read = groups.coordinator.is_none() && is_settled && groups.retry_ms.is_none();
        if may_read && !std::mem::replace(&mut groups.is_loading, true) {
            let (node, handle) = (self.node.clone(), self.handle.clone());
            let partition = self.core.replica().partition();
            tokio::spawn(async move {
                // On a task of its own: whatever becomes of it, the owner hears.
                let reading = tokio::spawn(async move { coordinator_log::read(&node, partition, nonce).await });
                let log = reading.await.unwrap_or_else(|error| Err(error.to_string()));
                handle.tell(Mail::GroupsRead(nonce, log.map(Box::new)));
            });
        }
    }

    /// A log is read as soon as this node leads it, as Kafka does: the sessions of members that died go on to their end
    /// whether anybody asks or not.
    fn load_groups_of_new_leadership(&mut self) {
        let led = self.led();
        if led == self.groups_led {
            return;
        }
        self.groups_led = led;
        let topic = self.core.replica().partition().topic;
        if let Some(nonce) = led.filter(|_| self.node.topics.is_internal(topic)) {
            self.load_groups(nonce);
        }
    }

    /// The segment that this node leads and may append to.
    fn led(&self) -> Option<Nonce> {
        self.core.leader().filter(|leader| leader.is_active()).map(|leader| leader.segment().nonce)
    }

    pub(super) fn groups_are_read(&mut self, nonce: Nonce, log: Result<Box<Log>, String>) {
        let partition = self.core.replica().partition();
        let Some(groups) = self.groups.as_mut().filter(|groups| groups.nonce == nonce) else { return };
        groups.is_loading = false;
        match log {
            Ok(log) => {
                let (coordinator, effects) = Coordinator::load(now(), *log, SETTINGS, Rules::ALL);
                groups.coordinator = Some(Box::new(coordinator));
                tracing::info!(%partition, "this node coordinates the groups of a log");
                self.carry_out_groups(effects);
            }
            // After a pause it is tried again.
            Err(reason) => {
                groups.retry_ms = Some(now().monotonic_ms + RETRY_MS);
                tracing::warn!(%partition, reason, "a coordinator log cannot be read yet");
            }
        }
    }

    fn step_groups(&mut self, input: Input) {
        let Some(coordinator) = self.groups.as_mut().and_then(|groups| groups.coordinator.as_mut()) else { return };
        let effects = coordinator.step(now(), input);
        self.carry_out_groups(effects);
    }

    fn carry_out_groups(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Write { write, records } => self.write_groups(write, records),
                Effect::Answer { token, reply } => {
                    if let Some((sender, correlation)) =
                        self.groups.as_mut().and_then(|groups| groups.askers.remove(&token))
                    {
                        sender.send(&Frame::Told(Ok(Box::new(reply))), correlation);
                    }
                }
                Effect::Forget { before } => self.forget_groups(before),
                Effect::Wake { at_ms } => {
                    if let Some(groups) = &mut self.groups {
                        groups.wake_ms = Some(at_ms);
                    }
                }
            }
        }
    }

    /// Moves the log start up to where a snapshot begins. If that does not come about the next one will.
    fn forget_groups(&mut self, before: u64) {
        let Some(groups) = &mut self.groups else { return };
        groups.snapshots = groups.snapshots.split_off(&before);
        let Some(before) = groups.snapshots.get(&before).copied() else { return };
        let (node, partition) = (self.node.clone(), self.core.replica().partition());
        tokio::spawn(async move {
            if let Err(error) = node.placement.trim(partition, &TrimPartition { before }).await {
                tracing::debug!(%partition, %error, "the beginning of a coordinator log was not given up");
            }
        });
    }

    /// Takes records for the log that this node leads, behind those that are on their way.
    fn write_groups(&mut self, write: u64, records: Vec<GroupRecord>) {
        let Some(groups) = &mut self.groups else { return };
        groups.queued_snapshots.extend(is_snapshot(&records).then_some(write));
        let last = records.len();
        let numbered = records.into_iter().enumerate();
        groups.queue.extend(numbered.map(|(number, record)| (record, (number + 1 == last).then_some(write))));
        self.append_groups();
    }

    /// Appends what is queued, a few batches at a time: what comes while they are under way goes out together.
    fn append_groups(&mut self) {
        loop {
            let no_room = self.no_room().is_some();
            let head = self.groups_head();
            let Some(groups) = &mut self.groups else { return };
            if groups.queue.is_empty() || groups.writes.len() >= BATCHES_UNDER_WAY {
                return;
            }
            if no_room {
                // Nothing is refused for it: it waits.
                let at_ms = now().monotonic_ms + RETRY_MS;
                groups.retry_ms = Some(at_ms);
                return;
            }
            let Some(head) = head else { return self.end_groups(ErrorCode::NotCoordinator) };
            let (batch, write, begins) = match next_batch(&mut groups.queue, now().wall_ms) {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(error, "records of a coordinator cannot be written");
                    return self.end_groups(ErrorCode::Internal);
                }
            };
            let token = self.next_token;
            self.next_token += 1;
            let snapshots = groups.queued_snapshots.drain(..begins).collect();
            groups.writes.push_back(UnderWay { token, write, snapshots });
            let request = Box::new(AppendRequest { head, batch });
            self.step(PartitionInput::Append { token, request, no_room: None });
        }
    }

    fn groups_head(&self) -> Option<AppendHead> {
        let segment = self.core.leader()?.segment();
        let open = &self.core.replica().segment(segment.nonce)?.open;
        Some(AppendHead {
            account: open.account,
            cluster: open.cluster,
            segment,
            principal: PrincipalId(0),
            protocol: Protocol::Internal,
            dedupe: DedupeKey::None,
            encryption_key: 0,
            log_append_time: false,
        })
    }

    /// True if the answer was to an append of the coordinator's.
    pub(super) fn groups_are_written(&mut self, token: Token, result: &Result<Appended, Refusal>) -> bool {
        let Some(groups) = &mut self.groups else { return false };
        let Some(at) = groups.writes.iter().position(|under_way| under_way.token == token) else { return false };
        match result {
            Ok(appended) => {
                assert_eq!(at, 0, "INVARIANT: appends of one leader are acknowledged in order");
                // After what this answer came with: the log is stepped from there again.
                let Some(UnderWay { write, snapshots, .. }) = groups.writes.pop_front() else { return true };
                groups.snapshots.extend(snapshots.into_iter().map(|snapshot| (snapshot, appended.base_offset)));
                self.handle.tell(Mail::GroupsWritten(groups.nonce, write));
            }
            Err(_) => self.end_groups(ErrorCode::NotCoordinator),
        }
        true
    }

    pub(super) fn groups_written(&mut self, nonce: Nonce, write: Option<u64>) {
        if self.groups.as_ref().is_some_and(|groups| groups.nonce == nonce) {
            if let Some(write) = write {
                self.step_groups(Input::Written { write });
            }
            self.append_groups();
        }
    }

    /// The leadership that the coordinator is of may be over, or its next moment has come.
    pub(super) fn look_after_groups(&mut self, now_ms: u64) {
        self.load_groups_of_new_leadership();
        let Some(groups) = &mut self.groups else { return };
        let nonce = groups.nonce;
        if groups.retry_ms.take_if(|at_ms| *at_ms <= now_ms).is_some() {
            match groups.coordinator {
                Some(_) => self.append_groups(),
                None => self.load_groups(nonce),
            }
        }
        let Some(groups) = &mut self.groups else { return };
        if groups.wake_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            groups.wake_ms = None;
            self.step_groups(Input::Tick);
        }
        if self.groups.is_some() && self.led() != Some(nonce) {
            self.end_groups(ErrorCode::NotCoordinator);
        }
    }

    /// Whoever waits is told that it may have come about or not.
    fn end_groups(&mut self, code: ErrorCode) {
        let Some(groups) = self.groups.take() else { return };
        for (sender, correlation) in groups.askers.into_values() {
            sender.send(&Frame::Told(Ok(Box::new(GroupReply::Refused { code }))), correlation);
        }
    }
}

impl Groups {
    fn new(nonce: Nonce) -> Self {
        Self {
            nonce,
            coordinator: None,
            is_loading: false,
            askers: BTreeMap::new(),
            next: 1,
            writes: VecDeque::new(),
            queued_snapshots: VecDeque::new(),
            snapshots: BTreeMap::new(),
            queue: VecDeque::new(),
            retry_ms: None,
            wake_ms: None,
        }
    }
}

fn is_snapshot(records: &[GroupRecord]) -> bool {
    records.first() == Some(&GroupRecord::SnapshotBegins {})
}

/// The next records of the queue as one batch, the last write that ends with it, and how many snapshots begin in it.
fn next_batch(queue: &mut VecDeque<Queued>, timestamp: i64) -> Result<(Batch, Option<u64>, usize), String> {
    let (mut builder, mut bytes, mut write, mut begins) = (BatchBuilder::new(), 0, None, 0);
    while let Some((record, ends)) = queue.front() {
        let value: Bytes = encode(record);
        if bytes > 0 && bytes + value.len() > BATCH_BYTES {
            break;
        }
        bytes += value.len();
        write = ends.or(write);
        begins += usize::from(*record == GroupRecord::SnapshotBegins {});
        builder.push(NewRecord { key: None, value: Some(&value), timestamp, headers: &[] });
        queue.pop_front();
    }
    let batch = builder.finish(Codec::None).map_err(|error| error.to_string())?;
    if batch.len() > BATCH_BYTES_MAX {
        return Err(format!("a record of {} bytes", batch.len()));
    }
    Ok((batch.squeezed(), write, begins))
}

/// What a coordinator wrote, from one of its log's batches.
///
/// # Errors
/// If it is none of its records.
pub fn records_of(batch: &Batch) -> Result<Vec<GroupRecord>, String> {
    let plain = batch.clone().plain().map_err(|error| error.to_string())?;
    let records = wire::records::read_records(&plain, UNPACKED_BYTES_MAX).map_err(|error| error.to_string())?;
    let decode = |record: wire::records::Record| {
        let value = record.value.ok_or("a record without a value")?;
        wire::layout::decode(value).map_err(|error| error.to_string())
    };
    records.into_iter().map(decode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_queued_is_read_back_whatever_its_size() {
        let record = |number: usize| GroupRecord::Deleted { group: format!("{number}-{}", "x".repeat(number % 500)) };
        let written: Vec<GroupRecord> = (0..3_000).map(record).collect();
        let mut queue: VecDeque<Queued> = written
            .iter()
            .cloned()
            .enumerate()
            .map(|(n, record)| (record, (n % 100 == 99).then_some(n as u64)))
            .collect();
        let (mut read, mut last) = (Vec::new(), 0);
        while !queue.is_empty() {
            let (batch, write, begins) = next_batch(&mut queue, 1).expect("a batch");
            assert_eq!(begins, 0);
            assert!(batch.len() < 2 * BATCH_BYTES);
            read.extend(records_of(&batch).expect("its records"));
            let ends = read.len() as u64 / 100 * 100;
            assert_eq!(write.map_or(last, |write| write + 1), ends, "what has ended is on its way");
            last = ends;
        }
        assert!(read == written);
    }
}
