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
use types::limits::{BATCH_BYTES_DEFAULT, OFFSETS_SNAPSHOT_RECORDS, UNPACKED_BYTES_MAX};
use types::{ErrorCode, Nonce, PrincipalId, Protocol};
use wire::compression::Codec;
use wire::frame::{AppendHead, AppendRequest, Appended, Frame, Refusal};
use wire::groups::{GroupQuestion, GroupRecord, GroupReply};
use wire::layout::encode;
use wire::records::{BatchBuilder, NewRecord};
use wire::{Batch, DedupeKey};

use super::{Asker, Mail, Owner, now};
use crate::coordinator_log;

/// Groups of the clusters that are served without accounts of their own start at once.
const SETTINGS: Settings = Settings { initial_delay_ms: 0, snapshot_records: OFFSETS_SNAPSHOT_RECORDS };
/// Bytes of one batch of records, about.
const BATCH_BYTES: usize = BATCH_BYTES_DEFAULT / 4;

/// The coordinator of a log, for one leadership.
pub(super) struct Groups {
    nonce: Nonce,
    /// `None` until the log is read.
    coordinator: Option<Box<Coordinator>>,
    is_loading: bool,
    askers: BTreeMap<Token, Asker>,
    next: Token,
    /// Batches under way: the token of each append, and the write that ends with it.
    writes: VecDeque<(Token, Option<u64>)>,
    wake_ms: Option<u64>,
}

impl Owner {
    pub(super) fn groups_wake_ms(&self) -> Option<u64> {
        self.groups.as_ref().and_then(|groups| groups.wake_ms)
    }

    pub(super) fn ask_groups(&mut self, asker: Asker, question: GroupQuestion) {
        let refuse = |code, message: &str| Frame::Told(Err(Refusal { code, message: message.to_owned() }));
        if self.core.account().is_some_and(|account| account != question.account) {
            return asker.0.send(&refuse(ErrorCode::TenantMismatch, "the log belongs to another account"), asker.1);
        }
        let Some(nonce) = self.led() else {
            return asker.0.send(&refuse(ErrorCode::NotLeader, "this node does not lead the log"), asker.1);
        };
        // Who asks keeps the log from being parked.
        self.handle.appended.fetch_add(1, Ordering::Relaxed);
        let groups = self.groups.get_or_insert_with(|| Box::new(Groups::new(nonce)));
        if groups.coordinator.is_none() {
            if !std::mem::replace(&mut groups.is_loading, true) {
                let (node, handle) = (self.node.clone(), self.handle.clone());
                let partition = self.core.replica().partition();
                tokio::spawn(async move {
                    let log = coordinator_log::read(&node, partition, nonce).await;
                    handle.tell(Mail::GroupsRead(nonce, log.map(Box::new)));
                });
            }
            return asker.0.send(&refuse(ErrorCode::CoordinatorLoading, "the coordinator reads its log"), asker.1);
        }
        let token = groups.next;
        groups.next += 1;
        groups.askers.insert(token, asker);
        let GroupQuestion { fresh, request, .. } = question;
        self.step_groups(Input::Ask { token, fresh, request });
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
            // The next question tries again.
            Err(reason) => tracing::warn!(%partition, reason, "a coordinator log cannot be read yet"),
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
                Effect::Write { write, records } => self.write_groups(write, &records),
                Effect::Answer { token, reply } => {
                    if let Some((sender, correlation)) =
                        self.groups.as_mut().and_then(|groups| groups.askers.remove(&token))
                    {
                        sender.send(&Frame::Told(Ok(Box::new(reply))), correlation);
                    }
                }
                Effect::Wake { at_ms } => {
                    if let Some(groups) = &mut self.groups {
                        groups.wake_ms = Some(at_ms);
                    }
                }
            }
        }
    }

    /// Appends records to the log that this node leads.
    fn write_groups(&mut self, write: u64, records: &[GroupRecord]) {
        let batches = match batches(records, now().wall_ms) {
            Ok(batches) => batches,
            Err(error) => {
                tracing::error!(error, "records of a coordinator cannot be written");
                return self.end_groups(ErrorCode::Internal);
            }
        };
        let last = batches.len();
        for (number, batch) in batches.into_iter().enumerate() {
            let Some((head, no_room)) = self.groups_head().map(|head| (head, self.no_room().map(Box::new))) else {
                return self.end_groups(ErrorCode::NotCoordinator);
            };
            let token = self.next_token;
            self.next_token += 1;
            let Some(groups) = &mut self.groups else { return };
            groups.writes.push_back((token, (number + 1 == last).then_some(write)));
            let request = Box::new(AppendRequest { head, batch });
            self.step(PartitionInput::Append { token, request, no_room });
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
        let Some(at) = groups.writes.iter().position(|(known, _)| *known == token) else { return false };
        match result {
            Ok(_) => {
                assert_eq!(at, 0, "INVARIANT: appends of one leader are acknowledged in order");
                if let Some((_, Some(write))) = groups.writes.pop_front() {
                    // After what this answer came with: the log is stepped from here again.
                    self.handle.tell(Mail::GroupsWritten(groups.nonce, write));
                }
            }
            Err(refusal) => {
                let code = refusal.code;
                self.end_groups(if code == ErrorCode::StorageFull { code } else { ErrorCode::NotCoordinator });
            }
        }
        true
    }

    pub(super) fn groups_written(&mut self, nonce: Nonce, write: u64) {
        if self.groups.as_ref().is_some_and(|groups| groups.nonce == nonce) {
            self.step_groups(Input::Written { write });
        }
    }

    /// The leadership that the coordinator is of may be over, or its next moment has come.
    pub(super) fn look_after_groups(&mut self, now_ms: u64) {
        let Some(groups) = &mut self.groups else { return };
        let nonce = groups.nonce;
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
            wake_ms: None,
        }
    }
}

fn batches(records: &[GroupRecord], timestamp: i64) -> Result<Vec<Batch>, String> {
    let mut batches = Vec::new();
    let (mut builder, mut bytes) = (BatchBuilder::new(), 0);
    let mut finish = |builder: BatchBuilder| {
        let batch = builder.finish(Codec::None).map_err(|error| error.to_string())?;
        batches.push(batch.squeezed());
        Ok::<_, String>(())
    };
    for record in records {
        let value: Bytes = encode(record);
        if bytes > 0 && bytes + value.len() > BATCH_BYTES {
            finish(std::mem::take(&mut builder))?;
            bytes = 0;
        }
        bytes += value.len();
        builder.push(NewRecord { key: None, value: Some(&value), timestamp, headers: &[] });
    }
    finish(builder)?;
    Ok(batches)
}

/// What a coordinator wrote, from one of its log's batches.
///
/// # Errors
/// If it is none of its records.
pub fn records_of(batch: &Batch) -> Result<Vec<GroupRecord>, String> {
    let records = wire::records::read_records(batch, UNPACKED_BYTES_MAX).map_err(|error| error.to_string())?;
    let decode = |record: wire::records::Record| {
        let value = record.value.ok_or("a record without a value")?;
        wire::layout::decode(value).map_err(|error| error.to_string())
    };
    records.into_iter().map(decode).collect()
}
