//! One ordered lane per partition: every append goes through it, in order, and is sent again in that order,
//! before anything newer, whenever the leader changes.
//!
//! A batch carries a dedupe key: its producer's own, or this lane's (session, number). So a resend is recognised
//! and answered with the offset of the first time. What has no answer at its deadline is answered with
//! `request_timed_out`: its outcome is unknown.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use service::connection::{FrameClient, connection_lost};
use service::{clock, random};
use tokio::sync::{mpsc, oneshot};
use types::limits::{APPEND_DEADLINE_MS, PARTITION_IN_FLIGHT_APPENDS_MAX, PARTITION_IN_FLIGHT_BYTES_MAX};
use types::{ErrorCode, PrincipalId, Protocol, Retry, SegmentId, SessionId, TopicPartition};
use wire::frame::{AppendHead, AppendRequest, Appended, Frame, Refusal};
use wire::{Batch, DedupeKey};

use crate::Gateway;
use crate::error::refuse;
use crate::route::find_route;
use crate::tenant::Tenant;

/// A batch to be placed.
#[derive(Debug)]
pub struct NewAppend {
    pub tenant: Tenant,
    pub batch: Batch,
    pub principal: PrincipalId,
    pub protocol: Protocol,
    pub log_append_time: bool,
}

enum Mail {
    Append(NewAppend, oneshot::Sender<Result<Appended, Refusal>>),
    Answered { id: u64, attempt: u64, result: Result<Appended, Refusal> },
    Routed { attempt: u64, route: Result<(SegmentId, FrameClient), Refusal> },
}

/// A handle on a lane; cheap to clone.
#[derive(Debug, Clone)]
pub struct LaneHandle(mpsc::UnboundedSender<Mail>);

struct Item {
    id: u64,
    new: NewAppend,
    /// The lane's own number, where the batch has no key of its own.
    number: Option<u64>,
    answer: Option<oneshot::Sender<Result<Appended, Refusal>>>,
    deadline_ms: u64,
    is_sent: bool,
    /// How often it was sent without an answer that says that it is nowhere.
    unanswered: u32,
}

struct Lane {
    gateway: Arc<Gateway>,
    partition: TopicPartition,
    session: SessionId,
    sender: mpsc::UnboundedSender<Mail>,
    items: VecDeque<Item>,
    next_id: u64,
    next_number: u64,
    route: Option<(SegmentId, FrameClient)>,
    /// Counts routes: refusals of an earlier one do not concern the present one.
    attempt: u64,
    is_routing: bool,
    /// The segment that refused last, and since when.
    refused: Option<(SegmentId, u64)>,
    /// The segment to whose leader the connection ended, if nothing has refused since.
    lost: Option<SegmentId>,
    /// Since when no two zones are there for a segment, in monotonic ms.
    no_pair_since: Option<u64>,
    sent_bytes: usize,
    sent: usize,
}

/// A lane without work for this long ends; the next batch starts another with a new session.
const IDLE: Duration = Duration::from_secs(60);
/// How long two zones may be missing before clients are told, and no longer kept waiting: a failover of a whole zone is
/// over by then.
const NO_PAIR_MS: u64 = 3_000;

/// Places a batch, in its stored form from here on. The answer comes when it is fsynced on both members, or is certain not to be, or at the deadline.
pub fn append(
    gateway: &Arc<Gateway>,
    partition: TopicPartition,
    mut new: NewAppend,
) -> oneshot::Receiver<Result<Appended, Refusal>> {
    if !new.log_append_time {
        new.batch = new.batch.squeezed();
    }
    let (answer, mut receiver) = oneshot::channel();
    let mut answer = answer;
    loop {
        let lane = match gateway.lanes.get(&partition) {
            Some(lane) => lane.clone(),
            None => gateway.lanes.entry(partition).or_insert_with(|| start(gateway, partition)).clone(),
        };
        match lane.0.send(Mail::Append(new, answer)) {
            Ok(()) => return receiver,
            Err(mpsc::error::SendError(Mail::Append(back, _))) => {
                // That lane has just ended: begin another.
                gateway.lanes.remove_if(&partition, |_, known| known.0.is_closed());
                new = back;
                (answer, receiver) = oneshot::channel();
            }
            Err(_) => return receiver,
        }
    }
}

fn start(gateway: &Arc<Gateway>, partition: TopicPartition) -> LaneHandle {
    let (sender, mails) = mpsc::unbounded_channel();
    let lane = Lane {
        gateway: Arc::clone(gateway),
        partition,
        session: SessionId(random::wide()),
        sender: sender.clone(),
        items: VecDeque::new(),
        next_id: 0,
        next_number: 0,
        route: None,
        attempt: 0,
        is_routing: false,
        refused: None,
        lost: None,
        no_pair_since: None,
        sent_bytes: 0,
        sent: 0,
    };
    tokio::spawn(lane.run(mails));
    LaneHandle(sender)
}

impl Lane {
    async fn run(mut self, mut mails: mpsc::UnboundedReceiver<Mail>) {
        let mut taken = Vec::new();
        loop {
            let wait = match self.items.front() {
                Some(first) => Duration::from_millis(first.deadline_ms.saturating_sub(clock::monotonic_ms()).max(1)),
                None => IDLE,
            };
            let is_idle = tokio::select! {
                biased;
                count = mails.recv_many(&mut taken, 256) => count == 0,
                () = tokio::time::sleep(wait) => self.items.is_empty(),
            };
            if is_idle {
                mails.close();
                // What came in between goes on as if the lane had not ended.
                while let Ok(mail) = mails.try_recv() {
                    taken.push(mail);
                }
                if taken.is_empty() {
                    self.gateway.lanes.remove_if(&self.partition, |_, known| known.0.is_closed());
                    return;
                }
                for mail in taken.drain(..) {
                    if let Mail::Append(_, answer) = mail {
                        let _ = answer.send(Err(refuse(ErrorCode::LeaderNotAvailable, "try again")));
                    }
                }
                return;
            }
            for mail in taken.drain(..) {
                self.handle(mail);
            }
            self.expire();
            self.send();
        }
    }

    fn handle(&mut self, mail: Mail) {
        match mail {
            Mail::Append(new, answer) => {
                let number = DedupeKey::of_producer(&new.batch).is_none().then(|| {
                    self.next_number += 1;
                    self.next_number - 1
                });
                let deadline_ms = clock::monotonic_ms() + APPEND_DEADLINE_MS;
                let id = self.next_id;
                self.next_id += 1;
                self.items.push_back(Item {
                    id,
                    new,
                    number,
                    answer: Some(answer),
                    deadline_ms,
                    is_sent: false,
                    unanswered: 0,
                });
            }
            Mail::Answered { id, attempt, result } => self.answered(id, attempt, result),
            Mail::Routed { attempt, route } => {
                if attempt == self.attempt {
                    self.is_routing = false;
                    match route {
                        Ok(route) => {
                            self.no_pair_since = None;
                            self.route = Some(route);
                        }
                        Err(refusal) => self.cannot_route(refusal),
                    }
                }
            }
        }
    }

    fn answered(&mut self, id: u64, attempt: u64, result: Result<Appended, Refusal>) {
        match result {
            Err(refusal) if refusal.code.retry() == Retry::Yes && !is_final(refusal.code) => {
                // A leader that has no second zone says so instead of taking the batch. What others refuse they may have
                // taken before.
                if refusal.code == ErrorCode::AzUnavailable
                    && let Ok(at) = self.items.binary_search_by_key(&id, |item| item.id)
                {
                    self.items[at].unanswered = self.items[at].unanswered.saturating_sub(1);
                }
                if attempt == self.attempt {
                    self.lose_route(&refusal);
                }
            }
            result => {
                let Ok(at) = self.items.binary_search_by_key(&id, |item| item.id) else { return };
                let item = &mut self.items[at];
                self.refused = None;
                if std::mem::take(&mut item.is_sent) {
                    self.sent -= 1;
                    self.sent_bytes -= item.new.batch.len();
                }
                if let Some(answer) = item.answer.take() {
                    if result.is_ok() {
                        self.gateway.metrics.produced_bytes.add(item.new.batch.len() as u64);
                    }
                    let _ = answer.send(result);
                }
                self.drop_answered();
            }
        }
    }

    fn drop_answered(&mut self) {
        while self.items.front().is_some_and(|first| first.answer.is_none()) {
            self.items.pop_front();
        }
    }

    /// The leader refused or is gone: everything without an answer is sent again, in order, to the next one.
    fn lose_route(&mut self, refusal: &Refusal) {
        let Some((segment, _)) = self.route.take() else { return };
        self.lost = (*refusal == connection_lost()).then_some(segment);
        tracing::debug!(partition = %self.partition, reason = refusal.message, "looking for the leader");
        self.attempt += 1;
        let since = match self.refused {
            Some((known, since)) if known == segment => since,
            _ => clock::monotonic_ms(),
        };
        self.refused = Some((segment, since));
        for item in self.items.iter_mut().filter(|item| item.is_sent) {
            item.is_sent = false;
            self.gateway.metrics.appends_replayed.add(1);
        }
        (self.sent, self.sent_bytes) = (0, 0);
    }

    fn cannot_route(&mut self, refusal: Refusal) {
        // A lane that never had a route to this leader counts its patience from here on.
        let open =
            self.gateway.map.partition(self.partition).and_then(|record| Some(record.open()?.id(self.partition)));
        if let Some(open) = open
            && self.refused.is_none_or(|(known, _)| known != open)
        {
            self.refused = Some((open, clock::monotonic_ms()));
        }
        if refusal.code.retry() == Retry::No
            || matches!(refusal.code, ErrorCode::UnknownTopic | ErrorCode::UnknownPartition)
        {
            for mut item in self.items.drain(..) {
                if let Some(answer) = item.answer.take() {
                    let _ = answer.send(Err(refusal.clone()));
                }
            }
        }
        match refusal.code {
            ErrorCode::AzUnavailable => self.refuse_without_pair(&refusal),
            _ => self.no_pair_since = None,
        }
    }

    /// Nothing is acknowledged without a second zone. What is certain to be nowhere is refused; what a leader may have
    /// waits for its deadline.
    fn refuse_without_pair(&mut self, refusal: &Refusal) {
        let now = clock::monotonic_ms();
        if now - *self.no_pair_since.get_or_insert(now) < NO_PAIR_MS {
            return;
        }
        for item in self.items.iter_mut().filter(|item| item.unanswered == 0) {
            if let Some(answer) = item.answer.take() {
                let _ = answer.send(Err(refusal.clone()));
            }
        }
        self.drop_answered();
    }

    /// Answers what waited too long.
    fn expire(&mut self) {
        let now = clock::monotonic_ms();
        for item in self.items.iter_mut().take_while(|item| item.deadline_ms <= now) {
            if let Some(answer) = item.answer.take() {
                let message = "no leader acknowledged the batch in time; whether it is in the log is not known";
                let _ = answer.send(Err(refuse(ErrorCode::RequestTimedOut, message)));
            }
            if std::mem::take(&mut item.is_sent) {
                self.sent -= 1;
                self.sent_bytes -= item.new.batch.len();
            }
        }
        self.drop_answered();
    }

    /// Sends what is not under way, as far as the window allows.
    fn send(&mut self) {
        if self.items.iter().all(|item| item.is_sent) {
            return;
        }
        if self.route.as_ref().is_some_and(|(_, client)| client.is_closed()) {
            // Nothing more can reach that leader: what is not sent yet is certain to be nowhere.
            self.lose_route(&connection_lost());
        }
        let Some((segment, client)) = self.route.clone() else { return self.find_route() };
        let floor = self.items.iter().find_map(|item| item.number).unwrap_or(self.next_number);
        let mut before: Option<u64> = None;
        for item in &mut self.items {
            if item.answer.is_none() {
                continue;
            }
            let number = item.number;
            if number.is_some_and(|number| before.is_some_and(|before| number > before + 1)) {
                // What stood between was refused: a leader would wait for it, until all before it is answered.
                return;
            }
            before = number.or(before);
            if item.is_sent {
                continue;
            }
            let bytes = item.new.batch.len();
            let is_full = self.sent >= PARTITION_IN_FLIGHT_APPENDS_MAX
                || (self.sent > 0 && self.sent_bytes + bytes > PARTITION_IN_FLIGHT_BYTES_MAX);
            if is_full {
                return;
            }
            item.is_sent = true;
            item.unanswered += 1;
            self.sent += 1;
            self.sent_bytes += bytes;
            let dedupe = match item.number {
                Some(number) => DedupeKey::Session { session: self.session, number, floor },
                None => DedupeKey::of_producer(&item.new.batch).unwrap_or(DedupeKey::None),
            };
            let head = AppendHead {
                account: item.new.tenant.account,
                cluster: item.new.tenant.cluster,
                segment,
                principal: item.new.principal,
                protocol: item.new.protocol,
                dedupe,
                encryption_key: 0,
                log_append_time: item.new.log_append_time,
            };
            let request = AppendRequest { head, batch: item.new.batch.clone() };
            let (sender, id, attempt) = (self.sender.clone(), item.id, self.attempt);
            client.ask_with(&Frame::Append(Box::new(request)), move |frame| {
                let result = match frame {
                    Some(Frame::Appended(result)) => result,
                    _ => Err(connection_lost()),
                };
                let _ = sender.send(Mail::Answered { id, attempt, result });
            });
        }
    }

    fn find_route(&mut self) {
        if std::mem::replace(&mut self.is_routing, true) {
            return;
        }
        let (gateway, partition, sender) = (Arc::clone(&self.gateway), self.partition, self.sender.clone());
        let (attempt, refused, lost) = (self.attempt, self.refused, self.lost);
        tokio::spawn(async move {
            let route = find_route(&gateway, partition, refused, lost).await;
            if route.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let _ = sender.send(Mail::Routed { attempt, route });
        });
    }
}

/// Refusals that may be tried again, but by the client: the lane does not hold them back.
fn is_final(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::StorageFull | ErrorCode::Overloaded)
}

#[cfg(test)]
mod tests;
