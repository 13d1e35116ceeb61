//! `weir consume -G`: a member of a consumer group. Membership and commits go over Kafka's protocol, the classic one with the
//! range assignor, so that it shares a group with any client; records come over HTTP as ever.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use hyper::Method;
use serde_json::Value;
use wire::groups::{assigned_partitions, subscribed_topics};
use wire::kafka::{
    ApiKey, HeartbeatRequest, HeartbeatResponse, JoinGroupMember, JoinGroupProtocol, JoinGroupRequest,
    JoinGroupResponse, KafkaError, LeaveGroupRequest, LeaveGroupResponse, LeavingMember, Message,
    OffsetCommitPartition, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopic, OffsetFetchRequest,
    OffsetFetchResponse, OffsetFetchTopic, SyncGroupAssignment, SyncGroupRequest, SyncGroupResponse,
};

use super::consume::{Position, line, page};
use crate::cli::ConsumeOptions;
use crate::client::{Client, part};
use crate::kafka_client::{KafkaReader, KafkaWriter, connect};
use crate::output::Failure;

const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 60_000;
const JOIN: Duration = Duration::from_millis(REBALANCE_MS as u64 + 10_000);
const ANSWER: Duration = Duration::from_secs(10);
const BEAT: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(200);
/// How long a coordinator that is not there is asked again.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the coordinator says of a member.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Member,
    /// It has to join again.
    Out,
}

struct Member<'a> {
    options: &'a ConsumeOptions,
    group: &'a str,
    connection: Option<(KafkaWriter, KafkaReader)>,
    id: String,
    generation: i32,
    beaten: Instant,
}

pub async fn run(options: &ConsumeOptions, group: &str) -> Result<(), Failure> {
    let from = match options.offset.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["beginning"] => "earliest",
        ["end"] | [] => "latest",
        _ => return Err(Failure::usage("with -G, -o is beginning or end: where to begin without a committed offset")),
    };
    let (connection, id, beaten) = (None, String::new(), Instant::now());
    let mut member = Member { options, group, connection, id, generation: -1, beaten };
    let result = read(&mut member, from).await;
    member.leave().await;
    result
}

/// Until there is nothing more to do, or somebody ends this command: then what was printed is committed first.
async fn read(member: &mut Member<'_>, from: &str) -> Result<(), Failure> {
    let ended = tokio::signal::ctrl_c();
    tokio::pin!(ended);
    let client = Client::new(&member.options.target)?;
    let mut left = member.options.count.unwrap_or(u64::MAX);
    loop {
        let partitions = tokio::select! {
            partitions = member.join(&client) => partitions?,
            _ = &mut ended => return Ok(()),
        };
        let mut positions = member.positions(&client, &partitions, from).await?;
        let names: Vec<String> = partitions.iter().map(i32::to_string).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        eprintln!("group `{}`: partitions {names}", member.group);
        loop {
            let round = member.round(&client, &mut positions, &mut left, &mut ended).await?;
            let standing = match round.committed.is_empty() {
                false => member.commit(&round.committed).await?,
                true => member.beat().await?,
            };
            let is_at_end = member.options.exit && positions.iter().all(|position| position.is_done);
            if round.is_last || left == 0 || (is_at_end && standing == Standing::Member) {
                return Ok(());
            }
            if standing == Standing::Out || round.standing == Standing::Out {
                break;
            }
            if round.committed.is_empty() && positions.len() != 1 {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// One look at every partition.
struct Round {
    /// Where each partition goes on of which something was printed.
    committed: BTreeMap<i32, i64>,
    standing: Standing,
    /// Nobody reads what is printed any more, or this command was ended.
    is_last: bool,
}

fn print(text: &[u8]) -> std::io::Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        printed => printed.map(|()| true),
    }
}

/// To be asked again: the coordinator moves, or reads its log.
fn is_passing(error: i16) -> bool {
    let passing = [
        KafkaError::CoordinatorLoadInProgress,
        KafkaError::CoordinatorNotAvailable,
        KafkaError::NotCoordinator,
        KafkaError::RequestTimedOut,
    ];
    passing.iter().any(|known| *known as i16 == error)
}

/// Another generation has begun, or the member is not known any more.
fn is_out(error: i16) -> bool {
    let out = [KafkaError::RebalanceInProgress, KafkaError::IllegalGeneration, KafkaError::UnknownMemberId];
    out.iter().any(|known| *known as i16 == error)
}

impl Member<'_> {
    async fn round(
        &mut self,
        client: &Client,
        positions: &mut [Position],
        left: &mut u64,
        ended: &mut (impl Future<Output = std::io::Result<()>> + Unpin),
    ) -> Result<Round, Failure> {
        let mut round = Round { committed: BTreeMap::new(), standing: Standing::Member, is_last: false };
        let wait_ms = if positions.len() == 1 { 500 } else { 0 };
        for position in positions {
            let (records, bounds) = tokio::select! {
                page = self.page(client, position, wait_ms) => page?,
                _ = &mut *ended => {
                    round.is_last = true;
                    return Ok(round);
                }
            };
            let taken = records.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
            let text: Vec<u8> = records[..taken].iter().flat_map(|record| line(self.options, record)).collect();
            // Whoever reads may take its time: this member stays one meanwhile.
            let mut printing = tokio::task::spawn_blocking(move || print(&text));
            let printed = loop {
                tokio::select! {
                    printed = &mut printing => break printed.map_err(std::io::Error::other)??,
                    () = tokio::time::sleep(BEAT) => self.beat_into(&mut round).await?,
                }
            };
            if !printed {
                round.is_last = true;
                return Ok(round);
            }
            *left -= taken as u64;
            let next = match records.get(taken) {
                Some(first_left) => &first_left["offset"],
                None => &bounds["next_offset"],
            };
            let next_text = next.to_string();
            if next_text != position.next {
                position.next = next_text;
                round.committed.extend(next.as_i64().map(|next| (position.partition, next)));
            }
            position.is_done = self.options.exit && next.as_i64() >= bounds["high_watermark"].as_i64();
            self.beat_into(&mut round).await?;
            if *left == 0 || round.standing == Standing::Out {
                break;
            }
        }
        Ok(round)
    }

    async fn beat_into(&mut self, round: &mut Round) -> Result<(), Failure> {
        if self.beat().await? == Standing::Out {
            round.standing = Standing::Out;
        }
        Ok(())
    }

    /// What comes next of a partition; tried again for a while, since gateways come and go.
    async fn page(
        &self,
        client: &Client,
        position: &mut Position,
        wait_ms: u64,
    ) -> Result<(Vec<Value>, Value), Failure> {
        let began = Instant::now();
        loop {
            let failure = match page(client, self.options, position, wait_ms).await {
                Ok(page) => return Ok(page),
                Err(failure) if failure.code == 5 || began.elapsed() > PATIENCE => return Err(failure),
                Err(failure) => failure,
            };
            // The log may have been trimmed above it.
            let bounds = bounds_of(client, &self.options.topic, position.partition).await.unwrap_or_default();
            let (next, start) = (position.next.parse::<i64>(), bounds["log_start_offset"].as_i64());
            if let (Ok(next), Some(start)) = (next, start)
                && next < start
            {
                eprintln!("partition {} begins at {start} by now: {}", position.partition, failure.message);
                position.next = start.to_string();
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn refused(&self, what: &str, error: i16) -> Failure {
        Failure::failed(format!("group `{}`: {what} is refused with Kafka's error {error}", self.group))
    }

    /// Asks until there is an answer that does not pass; `error` reads its code.
    async fn ask<Q: Message, A: Message>(
        &mut self,
        key: ApiKey,
        version: i16,
        question: &Q,
        error: impl Fn(&A) -> i16,
    ) -> Result<A, Failure> {
        let began = Instant::now();
        loop {
            let answer = self.ask_once::<Q, A>(key, version, question).await;
            match answer {
                Ok(answer) if !is_passing(error(&answer)) => return Ok(answer),
                Ok(answer) if began.elapsed() > PATIENCE => return Ok(answer),
                Err(failure) if began.elapsed() > PATIENCE => return Err(failure),
                Ok(_) => {}
                Err(_) => self.connection = None,
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn ask_once<Q: Message, A: Message>(
        &mut self,
        key: ApiKey,
        version: i16,
        question: &Q,
    ) -> Result<A, Failure> {
        if self.connection.is_none() {
            self.connection = Some(connect(&self.options.gateway, &self.options.target.credentials).await?);
        }
        let Some((writer, reader)) = &mut self.connection else { return Err(Failure::unreachable("no connection")) };
        let asking = async {
            writer.send(key, version, question).await?;
            reader.receive(key, version).await
        };
        // A join waits for the other members.
        let limit = if matches!(key, ApiKey::JoinGroup | ApiKey::SyncGroup) { JOIN } else { ANSWER };
        let answer = tokio::time::timeout(limit, asking).await;
        Ok(answer.map_err(|_| Failure::unreachable(format!("`{}` does not answer", self.options.gateway.kafka)))??)
    }

    /// Joins, or joins again; the partitions that this member is given.
    async fn join(&mut self, client: &Client) -> Result<Vec<i32>, Failure> {
        loop {
            let metadata = subscription(&self.options.topic);
            let request = JoinGroupRequest {
                group_id: self.group.to_owned(),
                session_timeout_ms: SESSION_MS,
                rebalance_timeout_ms: REBALANCE_MS,
                member_id: self.id.clone(),
                protocol_type: "consumer".into(),
                protocols: vec![JoinGroupProtocol { name: "range".into(), metadata }],
                ..JoinGroupRequest::default()
            };
            let joined: JoinGroupResponse =
                self.ask(ApiKey::JoinGroup, 5, &request, |answer: &JoinGroupResponse| answer.error).await?;
            match joined.error {
                0 => (self.id, self.generation) = (joined.member_id, joined.generation_id),
                error if error == KafkaError::MemberIdRequired as i16 => {
                    self.id = joined.member_id;
                    continue;
                }
                error if is_out(error) => {
                    self.id.clear();
                    continue;
                }
                error => return Err(self.refused("joining", error)),
            }
            let assignments = match joined.leader == self.id {
                true => assign(client, &joined.members).await?,
                false => Vec::new(),
            };
            let request = SyncGroupRequest {
                group_id: self.group.to_owned(),
                generation_id: self.generation,
                member_id: self.id.clone(),
                assignments,
                ..SyncGroupRequest::default()
            };
            let synced: SyncGroupResponse =
                self.ask(ApiKey::SyncGroup, 3, &request, |answer: &SyncGroupResponse| answer.error).await?;
            self.beaten = Instant::now();
            match synced.error {
                0 => {
                    let given = assigned_partitions(&synced.assignment).unwrap_or_default();
                    let mine = given.into_iter().filter(|(topic, _)| *topic == self.options.topic);
                    return Ok(mine.flat_map(|(_, partitions)| partitions).collect());
                }
                error if is_out(error) => {
                    if error == KafkaError::UnknownMemberId as i16 {
                        self.id.clear();
                    }
                }
                error => return Err(self.refused("sharing", error)),
            }
        }
    }

    /// Where each partition goes on.
    async fn positions(&mut self, client: &Client, partitions: &[i32], from: &str) -> Result<Vec<Position>, Failure> {
        let topic = self.options.topic.clone();
        let topics = vec![OffsetFetchTopic { name: topic.clone(), partitions: partitions.to_vec() }];
        let request = OffsetFetchRequest {
            group_id: self.group.to_owned(),
            topics: Some(topics),
            ..OffsetFetchRequest::default()
        };
        let worst = |answer: &OffsetFetchResponse| {
            let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let errors = partitions.map(|partition| partition.error).chain([answer.error]);
            errors.into_iter().find(|error| *error != 0).unwrap_or(0)
        };
        let fetched = self.ask(ApiKey::OffsetFetch, 5, &request, worst).await?;
        if worst(&fetched) != 0 {
            return Err(self.refused("reading offsets", worst(&fetched)));
        }
        let (mut positions, mut begun) = (Vec::new(), BTreeMap::new());
        for known in fetched.topics.into_iter().flat_map(|topic| topic.partitions) {
            let next = match known.offset {
                committed if committed >= 0 => committed,
                _ => {
                    let bounds = bounds_of(client, &topic, known.index).await?;
                    let bound = if from == "latest" { "end_offset" } else { "log_start_offset" };
                    let next = bounds[bound].as_i64().unwrap_or(0);
                    begun.insert(known.index, next);
                    next
                }
            };
            let next = next.to_string();
            positions.push(Position { partition: known.index, next, until: None, is_done: false });
        }
        // Whoever has the partition next begins there too, also if nothing of it was read until then. A member that is out by
        // now joins again, and sees.
        if !begun.is_empty() {
            self.commit(&begun).await?;
        }
        Ok(positions)
    }

    async fn commit(&mut self, offsets: &BTreeMap<i32, i64>) -> Result<Standing, Failure> {
        let one = |(index, offset): (&i32, &i64)| OffsetCommitPartition {
            index: *index,
            offset: *offset,
            ..OffsetCommitPartition::default()
        };
        let partitions = offsets.iter().map(one).collect();
        let request = OffsetCommitRequest {
            group_id: self.group.to_owned(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            topics: vec![OffsetCommitTopic { name: self.options.topic.clone(), partitions }],
            ..OffsetCommitRequest::default()
        };
        let worst = |answer: &OffsetCommitResponse| {
            let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.map(|partition| partition.error).find(|error| *error != 0).unwrap_or(0)
        };
        let answer = self.ask(ApiKey::OffsetCommit, 7, &request, worst).await?;
        self.beat_if_due(worst(&answer), "committing").await
    }

    async fn beat(&mut self) -> Result<Standing, Failure> {
        self.beat_if_due(0, "staying").await
    }

    /// Says that this member is there, if it has not for a while.
    async fn beat_if_due(&mut self, error: i16, what: &str) -> Result<Standing, Failure> {
        let mut error = error;
        if error == 0 && self.beaten.elapsed() >= BEAT {
            let request = HeartbeatRequest {
                group_id: self.group.to_owned(),
                generation_id: self.generation,
                member_id: self.id.clone(),
                ..HeartbeatRequest::default()
            };
            let answer: HeartbeatResponse =
                self.ask(ApiKey::Heartbeat, 3, &request, |answer: &HeartbeatResponse| answer.error).await?;
            (self.beaten, error) = (Instant::now(), answer.error);
        }
        match error {
            0 => Ok(Standing::Member),
            error if is_out(error) => {
                if error == KafkaError::UnknownMemberId as i16 {
                    self.id.clear();
                }
                Ok(Standing::Out)
            }
            error => Err(self.refused(what, error)),
        }
    }

    /// So that the others need not wait for the end of its session. Whether they hear of it is no matter of this command's.
    async fn leave(&mut self) {
        if self.id.is_empty() {
            return;
        }
        // An answer may be on its way on the one that is there.
        self.connection = None;
        let members = vec![LeavingMember { member_id: self.id.clone(), ..LeavingMember::default() }];
        let request = LeaveGroupRequest { group_id: self.group.to_owned(), members, ..LeaveGroupRequest::default() };
        let leaving = self.ask_once::<_, LeaveGroupResponse>(ApiKey::LeaveGroup, 3, &request);
        let _ = tokio::time::timeout(Duration::from_secs(2), leaving).await;
    }
}

/// `ConsumerProtocolSubscription`, version 0.
fn subscription(topic: &str) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(1);
    put_text(topic, &mut out);
    out.put_i32(-1);
    out.freeze()
}

/// `ConsumerProtocolAssignment`, version 0.
fn assignment(topics: &BTreeMap<String, Vec<i32>>) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(topics.len() as i32);
    for (topic, partitions) in topics {
        put_text(topic, &mut out);
        out.put_i32(partitions.len() as i32);
        partitions.iter().for_each(|partition| out.put_i32(*partition));
    }
    out.put_i32(-1);
    out.freeze()
}

fn put_text(text: &str, out: &mut BytesMut) {
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

/// What a topic's description says of a partition.
async fn bounds_of(client: &Client, topic: &str, partition: i32) -> Result<Value, Failure> {
    let described = client.json(Method::GET, &format!("/v1/topics/{}", part(topic)), None).await?;
    let mut all = described["partitions"].as_array().into_iter().flatten();
    let found = all.find(|one| one["partition"].as_i64() == Some(partition.into()) && one["end_offset"].is_i64());
    found
        .cloned()
        .ok_or_else(|| Failure::failed(format!("partition {partition} of `{topic}` cannot be described just now")))
}

/// As its leader: shares the topics of all members among those that subscribe to them.
async fn assign(client: &Client, members: &[JoinGroupMember]) -> Result<Vec<SyncGroupAssignment>, Failure> {
    let mut subscribers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for member in members {
        for topic in subscribed_topics(&member.metadata).unwrap_or_default() {
            subscribers.entry(topic).or_default().push(member.member_id.clone());
        }
    }
    let mut given: BTreeMap<String, BTreeMap<String, Vec<i32>>> = BTreeMap::new();
    for (topic, members) in subscribers {
        let began = Instant::now();
        let partitions = loop {
            match client.json(Method::GET, &format!("/v1/topics/{}", part(&topic)), None).await {
                Ok(topic) => break topic["partitions"].as_array().map_or(0, Vec::len),
                // Not there, and so nobody's.
                Err(failure) if failure.code == 5 => break 0,
                Err(failure) if began.elapsed() > ANSWER => return Err(failure),
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        };
        for (member, partitions) in range(members, partitions as i32) {
            given.entry(member).or_default().insert(topic.clone(), partitions);
        }
    }
    let one = |member: &JoinGroupMember| SyncGroupAssignment {
        member_id: member.member_id.clone(),
        assignment: assignment(&given.remove(&member.member_id).unwrap_or_default()),
    };
    Ok(members.iter().map(one).collect())
}

/// Kafka's range assignor: runs of partitions, by the order of member ids, the first ones one longer.
fn range(mut members: Vec<String>, partitions: i32) -> Vec<(String, Vec<i32>)> {
    members.sort();
    let count = members.len() as i32;
    let (each, longer) = (partitions / count.max(1), partitions % count.max(1));
    let runs = members.into_iter().zip(0..);
    runs.map(|(member, at)| {
        let first = at * each + at.min(longer);
        (member, (first..first + each + i32::from(at < longer)).collect())
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_one_owner() {
        let members = vec!["b".to_owned(), "a".to_owned(), "c".to_owned()];
        let shared = range(members, 7);
        let expected = [("a", vec![0, 1, 2]), ("b", vec![3, 4]), ("c", vec![5, 6])];
        assert_eq!(shared, expected.map(|(member, partitions)| (member.to_owned(), partitions)));
        assert_eq!(range(vec!["a".into(), "b".into()], 1)[1].1, Vec::<i32>::new());
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(subscribed_topics(&subscription("t")), Some(vec!["t".to_owned()]));
        let topics = BTreeMap::from([("a".to_owned(), vec![0, 7]), ("b".to_owned(), vec![])]);
        let read = assigned_partitions(&assignment(&topics));
        assert_eq!(read, Some(vec![("a".to_owned(), vec![0, 7]), ("b".to_owned(), vec![])]));
    }
}
