//! The placement API over HTTP and JSON; its messages are `service::api`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use cores::failover::Goal;
use serde::{Deserialize, Serialize};
use service::api::{
    AcceptLoss, AlterTopic, ApiError, Backup, CreateTopic, DeleteTopic, Done, DrainNode, FailoverRequest, MapChanges,
    MovePartition, ProducerIds, RegisterGateway, RegisterNode, Status, TrimPartition,
};
use service::http::{CLUSTER_HEADER, Peer};
use service::identities::{ChangeIdentity, NewIdentities};
use service::quotas::QuotaUsage;
use service::trust::{Role, Roles};
use types::limits::PRODUCER_ID_BLOCK;
use types::{ErrorCode, PartitionRecord, TopicId, TopicPartition};

use crate::records::{PARTITIONS, TOPICS, parse, partition_key};
use crate::{Placement, backup, balance, failover, identities, loss, members, records, retention, status, turn};

/// Of the usage that a gateway tells: some hundred thousand scopes.
const QUOTA_USAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

type Shared = State<Arc<Placement>>;

struct Failure(ApiError);

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<crate::store::StoreError> for Failure {
    fn from(error: crate::store::StoreError) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self.0.code {
            ErrorCode::UnknownTopic | ErrorCode::UnknownPartition | ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::TopicExists | ErrorCode::AlreadyExists => StatusCode::CONFLICT,
            ErrorCode::ClusterDenied => StatusCode::FORBIDDEN,
            code if code.retry() == types::Retry::Yes => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        (status, Json(self.0)).into_response()
    }
}

type Answer<T> = Result<Json<T>, Failure>;

pub(crate) fn routes(placement: Arc<Placement>) -> Router {
    Router::new()
        .route("/placement/v1/nodes", post(register_node))
        .route("/placement/v1/gateways", post(register_gateway))
        .route("/placement/v1/map", get(map))
        .route("/placement/v1/partitions/{topic}/{partition}", get(partition))
        .route("/placement/v1/partitions/{topic}/{partition}/open", post(open))
        .route("/placement/v1/partitions/{topic}/{partition}/failover", post(fail_over))
        .route("/placement/v1/partitions/{topic}/{partition}/move", post(move_partition))
        .route("/placement/v1/partitions/{topic}/{partition}/accept-loss", post(accept_loss))
        .route("/placement/v1/partitions/{topic}/{partition}/trim", post(trim))
        .route("/placement/v1/nodes/drain", post(drain_node))
        .route("/placement/v1/status", get(status))
        .route("/placement/v1/backup", get(take_backup))
        .route("/placement/v1/topics", post(create_topic))
        .route("/placement/v1/topics/alter", post(alter_topic))
        .route("/placement/v1/topics/delete", post(delete_topic))
        .route("/placement/v1/producer-ids", post(producer_ids))
        .route("/placement/v1/quotas", post(share_quotas).layer(DefaultBodyLimit::max(QUOTA_USAGE_BYTES_MAX)))
        .route("/placement/v1/identities", get(all_identities).post(change_identity))
        .layer(middleware::from_fn_with_state(Arc::clone(&placement), is_meant))
        .layer(middleware::from_fn(is_allowed))
        .with_state(placement)
}

/// Who may make a call: by what its certificate says that it is, where services show certificates.
fn callers(method: &Method, path: &str) -> &'static [Role] {
    let rest = path.strip_prefix("/placement/v1/").unwrap_or_default();
    let (first, last) = (rest.split('/').next().unwrap_or_default(), rest.rsplit('/').next().unwrap_or_default());
    match (first, last) {
        ("nodes", "nodes") => &[Role::StorageNode],
        ("map", _) | ("partitions", "failover" | "trim") => &[Role::Gateway, Role::StorageNode],
        ("partitions", _) if *method == Method::GET => &[Role::Gateway, Role::StorageNode],
        ("backup", _) => &[Role::Operator],
        // What clients and operators ask for comes by gateways, which know who they are.
        _ => &[Role::Gateway],
    }
}

async fn is_allowed(request: Request, next: Next) -> Response {
    let roles = request.extensions().get::<Peer>().map_or(Roles::NONE, |peer| peer.roles);
    let (method, path) = (request.method(), request.uri().path());
    if roles.has_one_of(callers(method, path)) {
        return next.run(request).await;
    }
    tracing::warn!(?roles, %method, path, "a service asked for what it may not");
    let message = format!("this certificate may not {method} {path}");
    Failure(ApiError::new(ErrorCode::ClusterDenied, message)).into_response()
}

/// Refuses askers that belong to another store: its absences are not theirs; and everybody where newer metadata was restored
/// elsewhere: what would be changed here is lost.
async fn is_meant(State(placement): Shared, request: Request, next: Next) -> Response {
    let meant = request.headers().get(CLUSTER_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let own = placement.cluster.to_string();
    let superseded_by = placement.superseded_by.load(Ordering::Relaxed);
    if superseded_by > 0 {
        let message = format!(
            "this placement has metadata of generation {}; {superseded_by} was restored elsewhere: end this process, and \
             start placement with the store that was restored",
            placement.generation.0
        );
        return Failure(ApiError::new(ErrorCode::PlacementUnavailable, message)).into_response();
    }
    if meant.is_empty() || meant == own {
        return next.run(request).await;
    }
    let message = format!("this placement holds the metadata of cluster {own}; the asker belongs to {meant}");
    // To the asker its own placement is not there: it waits, and believes nothing.
    Failure(ApiError::new(ErrorCode::PlacementUnavailable, message)).into_response()
}

async fn register_node(
    State(placement): Shared,
    Extension(peer): Extension<Peer>,
    Json(request): Json<RegisterNode>,
) -> Answer<impl Serialize> {
    let uris = peer.is_tls.then_some(&*peer.uris);
    Ok(Json(members::register_node(&placement, request, uris).await?))
}

async fn register_gateway(State(placement): Shared, Json(request): Json<RegisterGateway>) -> Answer<impl Serialize> {
    Ok(Json(members::register_gateway(&placement, request).await?))
}

async fn share_quotas(State(placement): Shared, Json(usage): Json<QuotaUsage>) -> Answer<impl Serialize> {
    let alive = members::gateways(&placement).await?;
    // Clients use gateways of one kind: those where one must log in, or the others.
    let kind = alive.iter().find(|gateway| gateway.id == usage.gateway).map(|gateway| gateway.is_login_required);
    let alike = alive.iter().filter(|gateway| kind.is_none_or(|kind| kind == gateway.is_login_required)).count();
    Ok(Json(placement.quotas.take(usage, alike)))
}

#[derive(Deserialize)]
struct MapQuery {
    after: u64,
    /// Of that revision; 0: not said.
    #[serde(default)]
    generation: u32,
    #[serde(default)]
    wait_ms: u64,
    /// The gateway that asks, if it is one.
    #[serde(default)]
    gateway: i32,
}

/// Dropped before its time, with the answer that nobody waits for any more: the gateway is gone, or cut off.
struct Waits {
    placement: Arc<Placement>,
    gateway: i32,
}

impl Drop for Waits {
    fn drop(&mut self) {
        if self.gateway > 0 {
            self.placement.members.gateway_left(self.gateway);
        }
    }
}

/// What changed after a revision; waits for a change of records or of who is alive.
async fn map(State(placement): Shared, Query(query): Query<MapQuery>) -> Answer<MapChanges> {
    let store = &*placement.store;
    // A revision of other metadata says nothing here.
    let is_same = query.generation == 0 || query.generation == placement.generation.0;
    let after = if is_same { query.after } else { 0 };
    let mut revisions = store.revisions();
    let mut versions = placement.members.versions();
    versions.mark_unchanged();
    let deadline = tokio::time::sleep(Duration::from_millis(query.wait_ms.min(60_000)));
    tokio::pin!(deadline);
    let mut waits = Waits { placement: Arc::clone(&placement), gateway: query.gateway };
    let changes_now = async || {
        let mut changes = store.changes(after).await?;
        // Whose turn it is among placement processes is nobody else's business.
        changes.keys.iter_mut().for_each(|keys| keys.retain(|key| key != turn::KEY));
        Ok::<_, crate::store::StoreError>(changes)
    };
    let waiting = async {
        let mut changes = changes_now().await?;
        while is_same && changes.keys.as_ref().is_some_and(Vec::is_empty) {
            tokio::select! {
                biased;
                () = &mut deadline => break,
                _ = revisions.changed() => {}
                _ = versions.changed() => break,
            }
            // Let a burst of commits come together.
            tokio::time::sleep(Duration::from_millis(1)).await;
            changes = changes_now().await?;
        }
        Ok::<_, crate::store::StoreError>(changes)
    };
    let waited = waiting.await;
    // It still waits: what it is told may be an error.
    waits.gateway = 0;
    let changes = waited?;
    let mut answer = MapChanges {
        revision: changes.revision,
        generation: placement.generation,
        nodes: members::nodes(store).await?,
        gateways: members::gateways(&placement).await?,
        ..MapChanges::default()
    };
    match changes.keys.filter(|_| after > 0) {
        Some(keys) => {
            for key in keys.into_iter().collect::<BTreeSet<_>>() {
                let entry = store.get(&key).await?;
                if let Some(id) = key.strip_prefix(TOPICS).and_then(|id| id.parse::<TopicId>().ok()) {
                    answer.topics.push((id, entry.as_ref().map(parse).transpose()?));
                } else if let (true, Some(entry)) = (key.starts_with(PARTITIONS), &entry) {
                    answer.partitions.push(parse(entry)?);
                }
            }
        }
        None => {
            answer.is_whole = true;
            let (revision, topics) = store.range(TOPICS).await?;
            answer.revision = revision;
            for (_, entry) in &topics {
                let topic: types::TopicRecord = parse(entry)?;
                answer.topics.push((topic.id, Some(topic)));
            }
            for (_, entry) in &store.range(PARTITIONS).await?.1 {
                answer.partitions.push(parse(entry)?);
            }
        }
    }
    Ok(Json(answer))
}

fn id((topic, partition): (String, i32)) -> Result<TopicPartition, Failure> {
    let topic = topic.parse().map_err(|_| ApiError::new(ErrorCode::InvalidRequest, "the topic is no UUID"))?;
    Ok(TopicPartition { topic, partition })
}

async fn partition(State(placement): Shared, Path(path): Path<(String, i32)>) -> Answer<PartitionRecord> {
    let id = id(path)?;
    match placement.store.get(&partition_key(id)).await? {
        Some(entry) => Ok(Json(parse(&entry)?)),
        None => Err(ApiError::new(ErrorCode::UnknownPartition, format!("partition {id} does not exist")).into()),
    }
}

async fn open(State(placement): Shared, Path(path): Path<(String, i32)>) -> Answer<PartitionRecord> {
    Ok(Json(failover::run(&placement, id(path)?, None, Goal::Open).await?))
}

async fn fail_over(
    State(placement): Shared,
    Path(path): Path<(String, i32)>,
    Json(request): Json<FailoverRequest>,
) -> Answer<PartitionRecord> {
    Ok(Json(failover::run(&placement, id(path)?, Some(request.nonce), Goal::Open).await?))
}

async fn move_partition(
    State(placement): Shared,
    Path(path): Path<(String, i32)>,
    Json(request): Json<MovePartition>,
) -> Answer<PartitionRecord> {
    Ok(Json(balance::move_partition(&placement, id(path)?, &request.to).await?))
}

async fn accept_loss(
    State(placement): Shared,
    Path(path): Path<(String, i32)>,
    Json(request): Json<AcceptLoss>,
) -> Answer<impl Serialize> {
    Ok(Json(loss::accept(&placement, id(path)?, request).await?))
}

async fn trim(
    State(placement): Shared,
    Extension(peer): Extension<Peer>,
    Path(path): Path<(String, i32)>,
    Json(request): Json<TrimPartition>,
) -> Answer<PartitionRecord> {
    let id = id(path)?;
    // Storage nodes trim the logs that they keep for groups, and nothing of a tenant's.
    if !peer.roles.has(Role::Gateway) && !records::is_internal(&*placement.store, id.topic).await? {
        return Err(ApiError::new(ErrorCode::ClusterDenied, "a storage node may not trim what is a tenant's").into());
    }
    Ok(Json(retention::trim(&placement, id, request.before).await?))
}

async fn drain_node(State(placement): Shared, Json(request): Json<DrainNode>) -> Answer<Done> {
    balance::drain_node(&placement, request).await?;
    Ok(Json(Done {}))
}

async fn status(State(placement): Shared) -> Answer<Status> {
    Ok(Json(status::status(&placement).await?))
}

async fn take_backup(State(placement): Shared) -> Answer<Backup> {
    Ok(Json(backup::take(&placement).await?))
}

async fn create_topic(State(placement): Shared, Json(request): Json<CreateTopic>) -> Answer<impl Serialize> {
    Ok(Json(records::create_topic(&*placement.store, request).await?))
}

async fn alter_topic(State(placement): Shared, Json(request): Json<AlterTopic>) -> Answer<impl Serialize> {
    Ok(Json(records::alter_topic(&*placement.store, request).await?))
}

async fn delete_topic(State(placement): Shared, Json(request): Json<DeleteTopic>) -> Answer<Done> {
    records::delete_topic(&*placement.store, request).await?;
    Ok(Json(Done {}))
}

#[derive(Deserialize)]
struct IdentitiesQuery {
    generation: u32,
    after: u64,
    day: String,
    #[serde(default)]
    wait_ms: u64,
}

/// Waits for another revision in which identities changed, or for another day.
async fn all_identities(State(placement): Shared, Query(query): Query<IdentitiesQuery>) -> Answer<NewIdentities> {
    let store = &*placement.store;
    let generation = placement.generation;
    let mut revisions = store.revisions();
    let deadline = tokio::time::sleep(Duration::from_millis(query.wait_ms.min(60_000)));
    tokio::pin!(deadline);
    let mut after = if query.generation == generation.0 { query.after } else { 0 };
    while after > 0 && query.day == identities::first_day(service::clock::wall_ms()) {
        revisions.mark_unchanged();
        let changes = store.changes(after).await?;
        if changes.keys.is_none_or(|keys| keys.iter().any(|key| identities::is_identity(key))) {
            break;
        }
        after = changes.revision;
        tokio::select! {
            biased;
            () = &mut deadline => return Ok(Json(NewIdentities { revision: after, generation, identities: None })),
            _ = revisions.changed() => {}
        }
    }
    let (revision, all) = identities::snapshot(&placement).await?;
    Ok(Json(NewIdentities { revision, generation, identities: Some(all) }))
}

async fn change_identity(State(placement): Shared, Json(request): Json<ChangeIdentity>) -> Answer<impl Serialize> {
    let (store, seal) = (&*placement.store, placement.seal.as_ref());
    Ok(Json(identities::change(store, seal, &request, service::clock::wall_ms()).await?))
}

async fn producer_ids(State(placement): Shared) -> Answer<ProducerIds> {
    let first = records::take_producer_ids(&*placement.store).await?;
    Ok(Json(ProducerIds { first, count: PRODUCER_ID_BLOCK }))
}
