//! A storage node's place among others: its registration with placement, and its heartbeats.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use service::api::{PlacementClient, RegisterNode};
use service::clock;
use service::drain::Drain;
use types::limits::{HEARTBEAT_MS, LOAD_MAX};
use types::{ClusterId, ErrorCode, Generation, Incarnation, NodeId, SegmentId, TopicPartition};
use wire::frame::VERSION;

use crate::inventory::noted;
use crate::journal::WriteTimes;
use crate::node::{Node, Settings, StartError, write_durably};

/// What a heartbeat brings.
#[derive(Debug, Default)]
pub struct News {
    damaged: Vec<SegmentId>,
    load: Vec<(TopicPartition, u64)>,
    write_us: Option<u64>,
    generation: Generation,
}

/// How long a restarted node waits for placement before it goes on as who it was.
const PATIENCE: Duration = Duration::from_secs(2);

/// Registers a process at its start. Without placement a node that was registered before goes on as who it was: what it
/// has can be read and followed; its heartbeats register it later (false then).
pub async fn register_start(
    placement: &PlacementClient,
    settings: &Settings,
    data: &Path,
    incarnation: Incarnation,
) -> Result<(NodeId, ClusterId, bool), StartError> {
    let known = (number(&data.join("node-id")), cluster(data));
    let registering = register(placement, settings, data, incarnation, None);
    let (Some(id), Some(cluster)) = known else {
        let (id, cluster) = registering.await?;
        return Ok((id, cluster, true));
    };
    match tokio::time::timeout(PATIENCE, registering).await {
        Ok(registered) => registered.map(|(id, cluster)| (id, cluster, true)),
        Err(_) => {
            tracing::warn!(node = %id, "placement does not answer: going on as who this node was");
            Ok((id, cluster, false))
        }
    }
}

fn number(path: &Path) -> Option<NodeId> {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).map(NodeId)
}

fn cluster(data: &Path) -> Option<ClusterId> {
    fs::read_to_string(data.join("cluster")).ok().and_then(|text| text.trim().parse().ok())
}

async fn register(
    placement: &PlacementClient,
    settings: &Settings,
    data: &Path,
    incarnation: Incarnation,
    // `None` at the start of a process.
    news: Option<News>,
) -> Result<(NodeId, ClusterId), StartError> {
    let is_start = news.is_none();
    let news = match news {
        Some(news) => news,
        None => {
            let generation = noted(data).map_err(|source| StartError::Data { dir: data.to_owned(), source })?;
            News { generation, ..News::default() }
        }
    };
    let path = data.join("node-id");
    let id = number(&path);
    let mut request = RegisterNode {
        name: settings.name.clone(),
        az: settings.az.clone(),
        address: settings.advertise.clone(),
        incarnation,
        id,
        is_start,
        damaged: news.damaged,
        load: news.load,
        write_us: news.write_us,
        generation: news.generation,
        wall_ms: None,
        frames: VERSION,
    };
    // Data belongs to one cluster's metadata: another store's absences are no deletions.
    if let Some(cluster) = cluster(data) {
        placement.expect_cluster(cluster);
    }
    let mut waited = false;
    loop {
        request.wall_ms = Some(clock::wall_ms());
        match placement.register_node(&request).await {
            Ok(registered) => {
                let write = |path: &Path, text: &str| {
                    write_durably(path, text).map_err(|source| StartError::Data { dir: data.to_owned(), source })
                };
                if is_start {
                    write(&path, &registered.id.to_string())?;
                    write(&data.join("cluster"), &registered.cluster.to_string())?;
                    placement.expect_cluster(registered.cluster);
                }
                return Ok((registered.id, registered.cluster));
            }
            Err(error) if error.code == ErrorCode::PlacementUnavailable => {
                if !std::mem::replace(&mut waited, true) {
                    tracing::info!(%error, "waiting for placement");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(StartError::Placement(error.to_string())),
        }
    }
}

/// Bytes per second that were appended to each partition since the last look, the busiest first.
fn load(node: &Node, before: &mut HashMap<TopicPartition, u64>, elapsed: Duration) -> Vec<(TopicPartition, u64)> {
    let mut load = Vec::new();
    let mut now = HashMap::new();
    node.owners.for_each_awake(|partition, owner| {
        let appended = owner.appended();
        if appended == 0 {
            return;
        }
        now.insert(partition, appended);
        let last = before.get(&partition).copied().unwrap_or(0);
        let per_s = appended.saturating_sub(last) * 1_000 / (elapsed.as_millis() as u64).max(1);
        if per_s > 0 {
            load.push((partition, per_s));
        }
    });
    // Those that rest by now are forgotten.
    *before = now;
    load.sort_by_key(|(_, per_s)| std::cmp::Reverse(*per_s));
    load.truncate(LOAD_MAX);
    load
}

pub async fn heartbeat(node: Arc<Node>, settings: Settings, data: PathBuf, is_registered: bool, mut drain: Drain) {
    if !is_registered {
        // What this process does not lead any more is failed over then.
        let registered = tokio::select! {
            biased;
            () = drain.begun() => return,
            registered = register(&node.placement, &settings, &data, node.me().incarnation, None) => registered,
        };
        if let Err(error) = registered {
            tracing::error!(%error, "placement refuses this node");
        }
    }
    let (mut appended, mut looked) = (HashMap::new(), Instant::now());
    let mut writes = WriteTimes::of(node.journal.stats());
    loop {
        let load = load(&node, &mut appended, looked.elapsed());
        looked = Instant::now();
        let news = News { damaged: node.damaged(), load, write_us: writes.mean_us(), generation: node.generation() };
        if node.is_hung() {
            tracing::error!(data = %data.display(), "the disk hangs: this node is silent until its write is done");
        } else {
            let beat = register(&node.placement, &settings, &data, node.me().incarnation, Some(news));
            match beat.await {
                Ok(_) => node.heard_ms.store(clock::monotonic_ms(), Ordering::Relaxed),
                Err(error) => tracing::warn!(%error, "placement refuses this node"),
            }
        }
        tokio::select! {
            biased;
            () = drain.begun() => return,
            () = tokio::time::sleep(Duration::from_millis(HEARTBEAT_MS)) => {}
        }
    }
}
