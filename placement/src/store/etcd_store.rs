//! The store for clusters: etcd, over its JSON gateway (`/v3`). Safety comes from its compare-and-swap alone; a watch is
//! a hint that something changed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::watch;

use super::etcd_batch::{Queue, Reply};
use super::{Answer, Changes, Entry, MetadataStore, Outcome, StoreError, Transaction};

/// All keys of Weir in etcd begin with this.
const PREFIX: &str = "weir/";
/// Writes of one etcd transaction: `--max-txn-ops` is 128 unless an operator says otherwise, compares included.
const WRITES_MAX: usize = 100;
/// Keys that are compared and written in one of them.
const CHUNK: usize = WRITES_MAX / 2;
/// Compares and writes of a transaction that shares one of etcd's with others.
const SMALL: usize = 8;
/// Rows of one answer: far below what etcd sends at once.
const PAGE: usize = 1_000;
const CONNECT: Duration = Duration::from_secs(1);
const CALL: Duration = Duration::from_secs(3);
/// A watch that says nothing for this long is begun anew: etcd reports progress every ten minutes at most, but the
/// connection itself may be dead.
const WATCH_SILENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(200);
/// Changes remembered for watchers.
const HISTORY_MAX: usize = 65_536;

/// See the module's text.
#[derive(Debug)]
pub struct EtcdStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    urls: Vec<String>,
    /// The member that answered last.
    current: AtomicUsize,
    client: Client<HttpConnector, Full<Bytes>>,
    reads: Queue,
    writes: Queue,
    history: Mutex<History>,
    revisions: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct History {
    /// Changes at or below this revision are not remembered.
    floor: u64,
    /// Everything up to here was heard of.
    heard: u64,
    changes: VecDeque<(u64, String)>,
}

fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("etcd: {error}"))
}

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(format!("etcd answered without {what}"))
}

fn encoded(key: &str) -> String {
    BASE64.encode(format!("{PREFIX}{key}"))
}

/// The end of the range of all keys with a prefix: the prefix with its last byte raised.
fn prefix_end(prefix: &str) -> String {
    let mut end = format!("{PREFIX}{prefix}").into_bytes();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    BASE64.encode(end)
}

/// etcd writes 64-bit numbers as texts, and leaves zeros out.
fn number(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).or_else(|| value.as_u64()).unwrap_or(0)
}

fn key_of(kv: &Value) -> Result<String, StoreError> {
    let key = BASE64.decode(kv["key"].as_str().unwrap_or_default()).map_err(|_| corrupt("a key"))?;
    let key = String::from_utf8(key).map_err(|_| corrupt("a key of text"))?;
    key.strip_prefix(PREFIX).map(str::to_owned).ok_or_else(|| corrupt("a key of ours"))
}

fn entry_of(kv: &Value) -> Result<Entry, StoreError> {
    let value = BASE64.decode(kv["value"].as_str().unwrap_or_default()).map_err(|_| corrupt("a value"))?;
    Ok(Entry { value, revision: number(&kv["mod_revision"]) })
}

/// The body of one transaction of etcd.
fn transaction(compares: &[(String, u64)], puts: &[(String, Vec<u8>)], deletes: &[String]) -> Value {
    let compares: Vec<Value> = compares
        .iter()
        .map(|(key, revision)| {
            json!({ "key": encoded(key), "target": "MOD", "result": "EQUAL", "mod_revision": revision.to_string() })
        })
        .collect();
    let puts = puts
        .iter()
        .map(|(key, value)| json!({ "request_put": { "key": encoded(key), "value": BASE64.encode(value) } }));
    let deletes = deletes.iter().map(|key| json!({ "request_delete_range": { "key": encoded(key) } }));
    let success: Vec<Value> = puts.chain(deletes).collect();
    json!({ "compare": compares, "success": success, "failure": [] })
}

fn given(answered: Result<Result<Arc<Reply>, StoreError>, RecvError>) -> Result<Arc<Reply>, StoreError> {
    answered.map_err(|_| unavailable("it was given up"))?
}

fn outcome(reply: &Reply) -> Outcome {
    match reply.value["succeeded"].as_bool() {
        Some(true) => Outcome::Committed { revision: reply.revision },
        _ => Outcome::Conflict,
    }
}

/// The revision, and what was answered to each operation of a batch.
fn responses(mut answer: Value, kind: &str) -> (u64, Vec<Value>) {
    let revision = number(&answer["header"]["revision"]);
    let responses = answer["responses"].as_array_mut().map(std::mem::take).unwrap_or_default();
    (revision, responses.into_iter().map(|mut response| response[kind].take()).collect())
}

impl EtcdStore {
    /// Connects to one of the members; begins to watch.
    ///
    /// # Errors
    /// When none answers.
    pub async fn open(urls: &[String]) -> Result<Self, StoreError> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let inner = Arc::new(Inner {
            urls: urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect(),
            current: AtomicUsize::new(0),
            client: Client::builder(TokioExecutor::new()).build(connector),
            reads: Queue::default(),
            writes: Queue::default(),
            history: Mutex::default(),
            revisions: watch::channel(0).0,
        });
        let revision = inner.revision().await?;
        {
            let mut history = inner.history.lock().expect("no panic holds this lock");
            (history.floor, history.heard) = (revision, revision);
        }
        inner.revisions.send_replace(revision);
        tokio::spawn(follow(Arc::downgrade(&inner)));
        Ok(Self(inner))
    }
}

impl Inner {
    async fn send(&self, url: &str, path: &str, body: &Value) -> Result<Response<Incoming>, StoreError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{url}{path}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(unavailable)?;
        let response = tokio::time::timeout(CALL, self.client.request(request)).await;
        response.map_err(|_| unavailable(format!("`{url}` did not answer")))?.map_err(unavailable)
    }

    async fn call_one(&self, url: &str, path: &str, body: &Value) -> Result<Value, StoreError> {
        let response = self.send(url, path, body).await?;
        let status = response.status();
        let collected = tokio::time::timeout(CALL, response.into_body().collect()).await;
        let bytes = collected.map_err(|_| unavailable("half an answer"))?.map_err(unavailable)?.to_bytes();
        let value: Value = serde_json::from_slice(&bytes).map_err(unavailable)?;
        if status.is_success() { Ok(value) } else { Err(unavailable(&value["message"])) }
    }

    /// Asks the member that answered last, then the others: for what may be asked twice.
    async fn read(&self, path: &str, body: &Value) -> Result<Value, StoreError> {
        let first = self.current.load(Ordering::Relaxed);
        let mut last = unavailable("no member is known");
        for step in 0..self.urls.len() {
            let at = (first + step) % self.urls.len();
            match self.call_one(&self.urls[at], path, body).await {
                Ok(answer) => {
                    self.current.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn revision(&self) -> Result<u64, StoreError> {
        let answer = self.read("/v3/kv/range", &json!({ "key": encoded("") , "count_only": true })).await?;
        Ok(number(&answer["header"]["revision"]))
    }

    /// One read, sent together with whatever else is to be read just now.
    async fn read_together(self: &Arc<Self>, request: Value) -> Result<Arc<Reply>, StoreError> {
        let mut answered = self.reads.push(json!({ "request_range": request }), Vec::new(), 0);
        let slot = tokio::select! {
            biased;
            // Somebody who came before has sent it.
            answered = &mut answered => return given(answered),
            slot = self.reads.slot() => slot?,
        };
        let inner = Arc::clone(self);
        // On a task of its own: an asker that goes away must not take the answers of others with it.
        tokio::spawn(async move {
            while let Some(batch) = inner.reads.take() {
                let answer = inner.read("/v3/kv/txn", &batch.body()).await;
                batch.answer(answer.map(|answer| responses(answer, "response_range")));
            }
            drop(slot);
        });
        given(answered.await)
    }

    /// One small transaction, sent together with whatever else is to be written just now.
    async fn transact_together(self: &Arc<Self>, wanted: &Transaction) -> Result<Outcome, StoreError> {
        let Transaction { compares, puts, deletes } = wanted;
        let keys = compares.iter().map(|(key, _)| key).chain(puts.iter().map(|(key, _)| key)).chain(deletes);
        let keys: Vec<String> = keys.cloned().collect();
        // In base64 and JSON.
        let bytes = puts.iter().map(|(_, value)| value.len() * 4 / 3).sum::<usize>() + 256 * keys.len();
        let mut answered =
            self.writes.push(json!({ "request_txn": transaction(compares, puts, deletes) }), keys, bytes);
        let slot = tokio::select! {
            biased;
            answered = &mut answered => return Ok(outcome(&*given(answered)?)),
            slot = self.writes.slot() => slot?,
        };
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            while let Some(batch) = inner.writes.take() {
                let answer = inner.write(&batch.body()).await;
                batch.answer(answer.map(|answer| responses(answer, "response_txn")));
            }
            drop(slot);
        });
        Ok(outcome(&*given(answered.await)?))
    }

    /// A member that does not answer may have done it: nothing is tried again.
    async fn write(&self, body: &Value) -> Result<Value, StoreError> {
        // A member that is known to be there: a dead one is met by the reads that come before every write.
        let at = self.current.load(Ordering::Relaxed);
        let answer = self.call_one(&self.urls[at], "/v3/kv/txn", body).await;
        if answer.is_err() {
            self.current.store((at + 1) % self.urls.len(), Ordering::Relaxed);
        }
        answer
    }

    /// One transaction of etcd.
    async fn transact_once(
        &self,
        compares: &[(String, u64)],
        puts: &[(String, Vec<u8>)],
        deletes: &[String],
    ) -> Result<Outcome, StoreError> {
        let answer = self.write(&transaction(compares, puts, deletes)).await?;
        let revision = number(&answer["header"]["revision"]);
        let is_done = answer["succeeded"].as_bool().unwrap_or(false);
        Ok(if is_done { Outcome::Committed { revision } } else { Outcome::Conflict })
    }

    async fn transact_all(self: &Arc<Self>, wanted: Transaction) -> Result<Outcome, StoreError> {
        if wanted.compares.len() + wanted.puts.len() + wanted.deletes.len() <= SMALL {
            return self.transact_together(&wanted).await;
        }
        let Transaction { compares, mut puts, mut deletes } = wanted;
        // What one transaction cannot hold: keys that nothing names until the rest is there go first, and what nothing
        // names any more goes last.
        let room = WRITES_MAX.saturating_sub(compares.len());
        let early = puts.split_off(puts.len().min(room));
        let late = deletes.split_off(deletes.len().min(room - puts.len()));
        // Each of them must be new: whoever came first with the same keys has them named already.
        let mut made = Vec::new();
        let mut is_first = true;
        for chunk in early.chunks(CHUNK) {
            let absent: Vec<(String, u64)> = chunk.iter().map(|(key, _)| (key.clone(), 0)).collect();
            match self.transact_once(&absent, chunk, &[]).await? {
                Outcome::Committed { revision } => made.extend(chunk.iter().map(|(key, _)| (key.clone(), revision))),
                Outcome::Conflict => {
                    is_first = false;
                    break;
                }
            }
        }
        let outcome = if is_first { self.transact_once(&compares, &puts, &deletes).await? } else { Outcome::Conflict };
        if outcome == Outcome::Conflict {
            // What was made for nothing goes, unless somebody has changed it since.
            for chunk in made.chunks(CHUNK) {
                let keys: Vec<String> = chunk.iter().map(|(key, _)| key.clone()).collect();
                self.transact_once(chunk, &[], &keys).await?;
            }
            return Ok(outcome);
        }
        for chunk in late.chunks(WRITES_MAX) {
            self.transact_once(&[], &[], chunk).await?;
        }
        Ok(outcome)
    }

    async fn range_all(self: &Arc<Self>, prefix: &str) -> Result<(u64, Vec<(String, Entry)>), StoreError> {
        let (mut from, end) = (encoded(prefix), prefix_end(prefix));
        let (mut revision, mut rows) = (0, Vec::new());
        loop {
            // All pages are of one revision.
            let body =
                json!({ "key": from, "range_end": end, "limit": PAGE.to_string(), "revision": revision.to_string() });
            let answer = self.read_together(body).await?;
            if revision == 0 {
                revision = answer.revision;
            }
            let answer = &answer.value;
            for kv in answer["kvs"].as_array().into_iter().flatten() {
                rows.push((key_of(kv)?, entry_of(kv)?));
            }
            match (answer["more"].as_bool().unwrap_or(false), rows.last()) {
                (true, Some((last, _))) => from = BASE64.encode(format!("{PREFIX}{last}\0")),
                _ => return Ok((revision, rows)),
            }
        }
    }

    fn heard(&self, revision: u64, keys: Vec<(u64, String)>) {
        let mut history = self.history.lock().expect("no panic holds this lock");
        history.changes.extend(keys);
        history.heard = history.heard.max(revision);
        while history.changes.len() > HISTORY_MAX {
            if let Some((dropped, _)) = history.changes.pop_front() {
                history.floor = dropped;
            }
        }
        drop(history);
        self.revisions.send_if_modified(|current| {
            let is_news = *current < revision;
            *current = (*current).max(revision);
            is_news
        });
    }

    /// Watches from where the last watch ended until this one ends.
    async fn watch(&self) -> Result<(), StoreError> {
        let heard = self.history.lock().expect("no panic holds this lock").heard;
        let body = json!({ "create_request": {
            "key": encoded(""), "range_end": prefix_end(""), "start_revision": (heard + 1).to_string(), "progress_notify": true,
        }});
        let at = self.current.load(Ordering::Relaxed);
        let response = self.send(&self.urls[at], "/v3/watch", &body).await;
        if response.is_err() {
            self.current.store((at + 1) % self.urls.len(), Ordering::Relaxed);
        }
        let mut stream = response?.into_body();
        let mut buffer = BytesMut::new();
        loop {
            let frame =
                tokio::time::timeout(WATCH_SILENCE, stream.frame()).await.map_err(|_| unavailable("silence"))?;
            let Some(frame) = frame else { return Ok(()) };
            if let Some(data) = frame.map_err(unavailable)?.data_ref() {
                buffer.extend_from_slice(data);
            }
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(end + 1);
                let message: Value = serde_json::from_slice(&line).map_err(unavailable)?;
                self.take(&message["result"])?;
            }
        }
    }

    fn take(&self, result: &Value) -> Result<(), StoreError> {
        let compacted = number(&result["compact_revision"]);
        if compacted > 0 {
            // What happened meanwhile is not told: whoever asks reads everything.
            let mut history = self.history.lock().expect("no panic holds this lock");
            *history = History { floor: compacted, heard: compacted, changes: VecDeque::new() };
            return Err(unavailable("the watch was compacted away"));
        }
        let mut keys = Vec::new();
        for event in result["events"].as_array().into_iter().flatten() {
            keys.push((number(&event["kv"]["mod_revision"]), key_of(&event["kv"])?));
        }
        // With events the header names the store's revision, which may be ahead of what this answer tells.
        let heard = match keys.last() {
            Some((revision, _)) => *revision,
            None if result["created"].as_bool().unwrap_or(false) => return Ok(()),
            None => number(&result["header"]["revision"]),
        };
        self.heard(heard, keys);
        Ok(())
    }
}

/// Watches for as long as the store is used.
async fn follow(store: std::sync::Weak<Inner>) {
    while let Some(store) = store.upgrade() {
        if let Err(error) = store.watch().await {
            tracing::debug!(%error, "a watch ended; watching again");
        }
        tokio::time::sleep(RETRY).await;
    }
}

impl MetadataStore for EtcdStore {
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Entry>> {
        Box::pin(async move {
            let answer = self.0.read_together(json!({ "key": encoded(key) })).await?;
            answer.value["kvs"].get(0).map(entry_of).transpose()
        })
    }

    fn range<'a>(&'a self, prefix: &'a str) -> Answer<'a, (u64, Vec<(String, Entry)>)> {
        Box::pin(self.0.range_all(prefix))
    }

    fn transact(&self, transaction: Transaction) -> Answer<'_, Outcome> {
        Box::pin(self.0.transact_all(transaction))
    }

    fn changes(&self, after: u64) -> Answer<'_, Changes> {
        let history = self.0.history.lock().expect("no panic holds this lock");
        let revision = history.heard.max(after);
        let keys = (after >= history.floor).then(|| {
            let at = history.changes.partition_point(|(revision, _)| *revision <= after);
            history.changes.iter().skip(at).map(|(_, key)| key.clone()).collect()
        });
        Box::pin(async move { Ok(Changes { revision, keys }) })
    }

    fn revisions(&self) -> watch::Receiver<u64> {
        self.0.revisions.subscribe()
    }
}
