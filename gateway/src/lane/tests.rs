//! A lane before a leader and a placement that do what a test tells them; the sockets are real.

use axum::routing::get;
use axum::{Json, Router};
use dashmap::DashMap;
use service::alive::Keepalives;
use service::api::{MapChanges, PlacementClient};
use service::connection::{self, FrameSender};
use service::drain;
use service::health::Health;
use service::nodes::NodePool;
use service::proxy::Proxies;
use std::sync::atomic::AtomicI64;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use types::{
    AccountId, ClusterId, Epoch, Generation, Incarnation, NodeId, NodeRecord, Nonce, PartitionRecord, Replica,
    SegmentRecord, TopicId,
};
use wire::compression::Codec;
use wire::records::{BatchBuilder, NewRecord};

use super::*;
use crate::access::Access;
use crate::map::Map;
use crate::tenant::Tenant;
use crate::{Gateway, Metrics};

const PARTITION: TopicPartition = TopicPartition { topic: TopicId(3), partition: 0 };

fn record(epoch: i32) -> PartitionRecord {
    led_by(epoch, 1)
}

fn led_by(epoch: i32, leader: u32) -> PartitionRecord {
    let replica = |node| Replica { node: NodeId(node), incarnation: Incarnation(1) };
    PartitionRecord {
        account: AccountId(1),
        cluster: ClusterId(1),
        topic: PARTITION.topic,
        partition: PARTITION.partition,
        generation: Generation(1),
        epoch: Epoch(epoch),
        version: 1,
        log_start: 0,
        gaps: Vec::new(),
        chain: vec![SegmentRecord {
            generation: Generation(1),
            epoch: Epoch(epoch),
            nonce: Nonce(epoch as u128),
            base: 0,
            end: None,
            replicas: [replica(leader), replica(2)],
            changed_ms: None,
        }],
    }
}

/// The leader's end of the one connection.
struct FakeLeader {
    sender: FrameSender,
    frames: mpsc::UnboundedReceiver<(u64, Frame)>,
}

impl FakeLeader {
    /// Says all the while that it is there, as a storage node does.
    fn on(stream: TcpStream) -> Self {
        let (sender, mut reader) = connection::start(stream);
        let (told, frames) = mpsc::unbounded_channel();
        let keepalive_sender = sender.clone();
        tokio::spawn(async move {
            let mut keepalives = Keepalives::new(&reader);
            let keepalive = || {
                keepalive_sender.send(&Frame::Room { refused: None }, 0);
                true
            };
            while let Some((correlation, frame)) = keepalives.next(&mut reader, keepalive).await {
                if !matches!(frame, Frame::Room { .. }) && told.send((correlation, frame)).is_err() {
                    return;
                }
            }
        });
        Self { sender, frames }
    }

    /// The next append: what asks, its epoch, its value and its dedupe key.
    async fn next(&mut self) -> (u64, i32, Vec<u8>, DedupeKey) {
        let next = tokio::time::timeout(Duration::from_secs(5), self.frames.recv());
        let Some((correlation, Frame::Append(request))) = next.await.expect("an append comes") else {
            panic!("only appends come here");
        };
        let records = wire::records::read_records(&request.batch, 1 << 20).expect("records");
        let value = records[0].value.clone().expect("a value").to_vec();
        (correlation, request.head.segment.epoch.0, value, request.head.dedupe)
    }

    fn answer(&self, correlation: u64, result: Result<i64, ErrorCode>) {
        let result = result
            .map(|base_offset| Appended { base_offset, append_time: 1 })
            .map_err(|code| refuse(code, "says the test"));
        self.sender.send(&Frame::Appended(result), correlation);
    }

    async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(200), self.frames.recv()).await.is_err()
    }
}

/// A gateway whose map names the leader in epoch 1, and a placement that names the same node in epoch 2.
async fn start() -> (Arc<Gateway>, TcpListener) {
    let leader = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let placement = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", placement.local_addr().expect("an address"));
    let router = Router::new().route("/placement/v1/partitions/{topic}/{partition}", get(|| async { Json(record(2)) }));
    let (never, drain) = drain::channel();
    std::mem::forget(never);
    tokio::spawn(service::http::serve(placement, None, Proxies::default(), router, drain));
    let gateway = Arc::new(Gateway {
        id: 1,
        advertise_tls: None,
        host_names: Vec::new(),
        access: Access::new(
            false,
            crate::IssuerSettings::default(),
            crate::access::audit::Audit::open(None, None, 1, &Health::new()).expect("no file"),
        ),
        quotas: crate::quota::Quotas::default(),
        tenant: Tenant { account: AccountId(1), cluster: ClusterId(1) },
        map: Map::default(),
        placement: PlacementClient::new(&[url], None),
        pool: NodePool::default(),
        lanes: DashMap::new(),
        watermarks: DashMap::new(),
        producer_ids: tokio::sync::Mutex::new(0..0),
        sticky: AtomicI64::new(0),
        bodies: Arc::default(),
        unpacking: tokio::sync::Semaphore::new(1),
        metrics: Metrics::new(&Health::new()),
        health: Health::new(),
    });
    let node = NodeRecord {
        id: NodeId(1),
        name: "az-a".into(),
        az: "az-a".into(),
        address: leader.local_addr().expect("an address").to_string(),
        incarnation: Incarnation(1),
        registration: 1,
        is_draining: false,
        frames: 0,
    };
    gateway.map.apply(MapChanges { nodes: vec![node], partitions: vec![record(1)], ..MapChanges::default() });
    (gateway, leader)
}

fn place(gateway: &Arc<Gateway>, value: &str) -> oneshot::Receiver<Result<Appended, Refusal>> {
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord { key: None, value: Some(value.as_bytes()), timestamp: 1, headers: &[] });
    let batch = builder.finish(Codec::None).expect("a batch");
    let new = NewAppend {
        tenant: gateway.tenant,
        batch,
        principal: PrincipalId(0),
        protocol: Protocol::Kafka,
        log_append_time: false,
    };
    append(gateway, PARTITION, new)
}

fn numbered(key: DedupeKey) -> (u64, u64) {
    match key {
        DedupeKey::Session { number, floor, .. } => (number, floor),
        other => panic!("a lane numbers what has no key of its own: {other:?}"),
    }
}

/// A refused batch was answered: its client sends it again itself. Sent by the lane too, it would be there twice.
#[tokio::test]
async fn a_batch_that_was_refused_is_never_sent_again() {
    let (gateway, listener) = start().await;
    let (first, second) = (place(&gateway, "first"), place(&gateway, "second"));
    let (stream, _) = listener.accept().await.expect("the gateway connects");
    let mut leader = FakeLeader::on(stream);
    let (held, ..) = leader.next().await;
    let (refused, _, value, _) = leader.next().await;
    assert_eq!(value, b"second");
    leader.answer(refused, Err(ErrorCode::Overloaded));
    assert_eq!(second.await.expect("an answer").map_err(|refusal| refusal.code), Err(ErrorCode::Overloaded));
    // The first is still under way when its leader steps down: the next one gets it, and it alone.
    leader.answer(held, Err(ErrorCode::NotLeader));
    let (again, epoch, value, _) = leader.next().await;
    assert_eq!((epoch, &value[..]), (2, &b"first"[..]));
    assert!(leader.is_silent().await, "the refused one comes again");
    let third = place(&gateway, "third");
    assert!(leader.is_silent().await, "a leader would wait for the refused one between them");
    leader.answer(again, Ok(0));
    assert_eq!(first.await.expect("an answer").map(|appended| appended.base_offset), Ok(0));
    let (after, _, value, key) = leader.next().await;
    assert_eq!((&value[..], numbered(key)), (&b"third"[..], (2, 2)));
    leader.answer(after, Ok(1));
    assert_eq!(third.await.expect("an answer").map(|appended| appended.base_offset), Ok(1));
}

#[tokio::test]
async fn what_has_no_answer_goes_to_the_next_leader_in_order_before_anything_newer() {
    let (gateway, listener) = start().await;
    let mut outcomes: Vec<_> = ["a", "b", "c"].iter().map(|value| place(&gateway, value)).collect();
    let (stream, _) = listener.accept().await.expect("the gateway connects");
    let mut old = FakeLeader::on(stream);
    let (done, ..) = old.next().await;
    let (lost, ..) = old.next().await;
    old.next().await;
    old.answer(done, Ok(0));
    assert!(outcomes.remove(0).await.expect("an answer").is_ok());
    outcomes.push(place(&gateway, "d"));
    old.next().await;
    // One refusal is word of all: the leadership is over.
    old.answer(lost, Err(ErrorCode::Fenced));
    for (number, expected) in (1..).zip(["b", "c", "d"]) {
        let (correlation, epoch, value, key) = old.next().await;
        assert_eq!((epoch, &value[..]), (2, expected.as_bytes()));
        assert_eq!(numbered(key), (number, 1), "the answered one is below the floor");
        old.answer(correlation, Ok(number as i64));
    }
    for (number, outcome) in (1..).zip(outcomes) {
        assert_eq!(outcome.await.expect("an answer").map(|appended| appended.base_offset), Ok(number));
    }
}

/// The first record of a lane whose leader has been dead since before the lane began.
#[tokio::test]
async fn a_lane_that_never_reached_its_leader_asks_for_another() {
    let (gateway, listener) = start().await;
    let dead = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let node = |id, address: String| NodeRecord {
        id: NodeId(id),
        name: format!("node-{id}"),
        az: "az-b".into(),
        address,
        incarnation: Incarnation(1),
        registration: 1,
        is_draining: false,
        frames: 0,
    };
    let alive = listener.local_addr().expect("an address").to_string();
    let nodes = vec![node(1, alive), node(9, dead.local_addr().expect("an address").to_string())];
    drop(dead);
    gateway.map.apply(MapChanges { nodes, partitions: vec![led_by(1, 9)], ..MapChanges::default() });
    let outcome = place(&gateway, "first");
    let accepted = tokio::time::timeout(Duration::from_secs(5), listener.accept()).await;
    let (stream, _) = accepted.expect("the gateway turns to the next leader").expect("connected");
    let mut leader = FakeLeader::on(stream);
    let (correlation, epoch, value, _) = leader.next().await;
    assert_eq!((epoch, &value[..]), (2, &b"first"[..]));
    leader.answer(correlation, Ok(0));
    assert!(outcome.await.expect("an answer").is_ok());
}
