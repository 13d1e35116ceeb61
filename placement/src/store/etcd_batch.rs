//! Calls to etcd that wait for a slot go out together, each as an operation of one etcd transaction: a node that dies
//! with thousands of partitions asks for as many compare-and-swaps at once, and each call of its own has its price.
//!
//! A nested transaction has its own compares and its own outcome. All of them are compared before the first one writes,
//! so no two of one batch may name the same key.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::StoreError;

/// Operations of one batch: `--max-txn-ops` is 128 unless an operator says otherwise, and counts what is nested.
const OPERATIONS_MAX: usize = 64;
/// About so many bytes of JSON: `--max-request-bytes` is 1.5 MiB unless an operator says otherwise.
const BYTES_MAX: usize = 512 << 10;
/// Batches under way at once.
const SLOTS: usize = 8;

/// What etcd answered to one operation, and the revision at that moment.
#[derive(Debug)]
pub(super) struct Reply {
    pub revision: u64,
    pub value: Value,
}

type Answer = Result<Arc<Reply>, StoreError>;

#[derive(Debug)]
struct Operation {
    request: Value,
    /// What it compares and writes; nothing for a read.
    keys: Vec<String>,
    bytes: usize,
    answers: Vec<oneshot::Sender<Answer>>,
}

/// Operations that wait for a slot.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Vec<Operation>>,
    slots: Arc<Semaphore>,
}

impl Default for Queue {
    fn default() -> Self {
        Self { waiting: Mutex::default(), slots: Arc::new(Semaphore::new(SLOTS)) }
    }
}

/// Operations that go out together.
#[derive(Debug)]
pub(super) struct Batch(Vec<Operation>);

/// Where the answer to an operation comes.
pub(super) type Answered = oneshot::Receiver<Answer>;

impl Queue {
    /// Puts an operation (a `RequestOp` of etcd) at the end. Whoever does so must take a slot next, and then send what
    /// waits until nothing does.
    pub fn push(&self, request: Value, keys: Vec<String>, bytes: usize) -> Answered {
        let (answer, answered) = oneshot::channel();
        let mut waiting = self.waiting.lock().expect("no panic holds this lock");
        // One read answers all who ask the same before it begins.
        match waiting.iter_mut().find(|other| keys.is_empty() && other.request == request) {
            Some(same) => same.answers.push(answer),
            None => waiting.push(Operation { request, keys, bytes, answers: vec![answer] }),
        }
        answered
    }

    pub async fn slot(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        slot.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// What goes out next; `None` if nothing waits.
    pub fn take(&self) -> Option<Batch> {
        let mut waiting = self.waiting.lock().expect("no panic holds this lock");
        // Who went away before its turn gets nothing written.
        waiting.retain(|operation| operation.answers.iter().any(|answer| !answer.is_closed()));
        let (mut taken, mut bytes) = (Vec::new(), 0);
        let mut keys: HashSet<String> = HashSet::new();
        let mut left = Vec::new();
        for operation in waiting.drain(..) {
            let fits = taken.is_empty() || (taken.len() < OPERATIONS_MAX && bytes + operation.bytes <= BYTES_MAX);
            if fits && operation.keys.iter().all(|key| !keys.contains(key)) {
                bytes += operation.bytes;
                keys.extend(operation.keys.iter().cloned());
                taken.push(operation);
            } else {
                left.push(operation);
            }
        }
        *waiting = left;
        (!taken.is_empty()).then_some(Batch(taken))
    }
}

impl Batch {
    /// The body of the transaction that holds all of it.
    pub fn body(&self) -> Value {
        let operations: Vec<&Value> = self.0.iter().map(|operation| &operation.request).collect();
        json!({ "compare": [], "success": operations, "failure": [] })
    }

    /// Tells each who asked what etcd answered; to all of them the same if it did not.
    pub fn answer(self, result: Result<(u64, Vec<Value>), StoreError>) {
        let failed = match result {
            Ok((revision, responses)) if responses.len() == self.0.len() => {
                for (operation, value) in self.0.into_iter().zip(responses) {
                    let response = Arc::new(Reply { revision, value });
                    for answer in operation.answers {
                        let _ = answer.send(Ok(Arc::clone(&response)));
                    }
                }
                return;
            }
            Ok(_) => "etcd: not as many answers as operations".to_owned(),
            Err(error) => error.to_string(),
        };
        for answer in self.0.into_iter().flat_map(|operation| operation.answers) {
            let _ = answer.send(Err(StoreError::Unavailable(failed.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_transactions_of_a_batch_name_the_same_key_and_one_read_answers_all_who_ask() {
        let queue = Queue::default();
        let _first = queue.push(json!({"n": 1}), vec!["a".into()], 10);
        let _same = queue.push(json!({"n": 2}), vec!["b".into(), "a".into()], 10);
        let _other = queue.push(json!({"n": 3}), vec!["c".into()], 10);
        let gone = queue.push(json!({"n": 4}), vec!["d".into()], 10);
        drop(gone);
        let reads = [queue.push(json!({"read": 1}), vec![], 1), queue.push(json!({"read": 1}), vec![], 1)];
        let batch = queue.take().expect("something waits");
        assert_eq!(batch.body()["success"], json!([{"n": 1}, {"n": 3}, {"read": 1}]));
        batch.answer(Ok((7, vec![json!(1), json!(3), json!("r")])));
        for mut read in reads {
            let response = read.try_recv().expect("answered").expect("well");
            assert_eq!((response.revision, &response.value), (7, &json!("r")));
        }
        assert_eq!(queue.take().expect("the same key").body()["success"], json!([{"n": 2}]));
        assert!(queue.take().is_none());
    }

    #[test]
    fn a_batch_is_bounded_in_operations_and_bytes_and_a_large_one_goes_alone() {
        let queue = Queue::default();
        let mut answers: Vec<Answered> =
            (0..100).map(|n| queue.push(json!({ "n": n }), vec![n.to_string()], 1)).collect();
        assert_eq!(queue.take().expect("a batch").0.len(), OPERATIONS_MAX);
        assert_eq!(queue.take().expect("the rest").0.len(), 100 - OPERATIONS_MAX);
        answers.push(queue.push(json!({ "n": 1 }), vec!["x".into()], BYTES_MAX + 1));
        answers.push(queue.push(json!({ "n": 2 }), vec!["y".into()], 1));
        assert_eq!(queue.take().expect("the large one").0.len(), 1);
        assert_eq!(queue.take().expect("the small one").0.len(), 1);
    }
}
