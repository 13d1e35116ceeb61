//! The behaviour suite of metadata stores.

use std::sync::Arc;

use super::*;

fn put(key: &str, value: &str) -> Transaction {
    Transaction { puts: vec![(key.into(), value.into())], ..Transaction::default() }
}

/// The keys that changed after a revision: a store may hear of them a moment later.
async fn heard(store: &dyn MetadataStore, after: u64, count: usize) -> Vec<String> {
    for _ in 0..100 {
        let keys = store.changes(after).await.expect("changes").keys.expect("not long ago");
        if keys.len() >= count {
            return keys;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("nothing was heard");
}

async fn behaves(store: &Arc<dyn MetadataStore>) {
    assert_eq!(store.get("a/1").await.expect("a read"), None);
    let Outcome::Committed { revision: first } = store.transact(put("a/1", "x")).await.expect("a write") else {
        panic!("nothing was compared");
    };
    let entry = store.get("a/1").await.expect("a read").expect("it is there");
    assert_eq!((&entry.value[..], entry.revision), (&b"x"[..], first));

    // A compare that does not hold writes nothing, not even in part.
    let mut transaction = put("a/2", "y");
    transaction.compares = vec![("a/1".into(), first), ("a/3".into(), 7)];
    assert_eq!(store.transact(transaction).await.expect("an answer"), Outcome::Conflict);
    assert_eq!(store.get("a/2").await.expect("a read"), None);

    // 0 means absent.
    let mut transaction = put("a/2", "y");
    transaction.compares = vec![("a/1".into(), first), ("a/2".into(), 0)];
    let Outcome::Committed { revision: second } = store.transact(transaction).await.expect("a write") else {
        panic!("both compares hold");
    };
    assert!(second > first);
    store.transact(put("b/1", "z")).await.expect("a write");
    let (revision, rows) = store.range("a/").await.expect("a range");
    assert_eq!(rows.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["a/1", "a/2"]);
    assert!(revision >= second);

    assert_eq!(heard(&**store, first, 2).await, ["a/2", "b/1"]);
    let changes = store.changes(first).await.expect("changes");
    let mut revisions = store.revisions();
    revisions.mark_unchanged();
    let delete = Transaction { deletes: vec!["a/1".into()], ..Transaction::default() };
    store.transact(delete).await.expect("a write");
    revisions.changed().await.expect("a hint");
    assert_eq!(store.get("a/1").await.expect("a read"), None);
    assert_eq!(heard(&**store, changes.revision, 1).await, ["a/1"]);

    // Of many that compare one revision at once exactly one wins; those that come with them are all written, and
    // each is told its revision.
    let base = store.get("b/1").await.expect("a read").expect("there").revision;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..40 {
        let store = Arc::clone(store);
        writers.spawn(async move {
            let mut transaction = put("b/1", &format!("writer {writer}"));
            transaction.compares = vec![("b/1".into(), base)];
            let alone = store.transact(put(&format!("d/{writer:02}"), "alone")).await.expect("an answer");
            (store.transact(transaction).await.expect("an answer"), alone)
        });
    }
    let outcomes = writers.join_all().await;
    let won = outcomes.iter().filter(|(contested, _)| *contested != Outcome::Conflict).count();
    assert_eq!(won, 1);
    let revision = |outcome: &Outcome| match outcome {
        Outcome::Committed { revision } => *revision,
        Outcome::Conflict => panic!("nothing was compared"),
    };
    let (_, rows) = store.range("d/").await.expect("a range");
    let mut written: Vec<u64> = rows.iter().map(|(_, entry)| entry.revision).collect();
    let mut told: Vec<u64> = outcomes.iter().map(|(_, alone)| revision(alone)).collect();
    written.sort_unstable();
    told.sort_unstable();
    assert_eq!(written, told);
}

#[tokio::test(flavor = "multi_thread")]
async fn redb_behaves_and_keeps_what_it_has() {
    let dir = std::env::temp_dir().join(format!("weir-store-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let store: Arc<dyn MetadataStore> = Arc::new(RedbStore::open(&dir).expect("a store"));
    behaves(&store).await;
    let before = store.range("").await.expect("all");
    drop(store);
    let store = RedbStore::open(&dir).expect("the same store");
    assert_eq!(store.range("").await.expect("all"), before);
    assert_eq!(store.changes(1).await.expect("changes").keys, None, "a restart forgets the history");
    std::fs::remove_dir_all(dir).expect("cleaned");
}

/// A real etcd, of one member.
struct Etcd {
    child: std::process::Child,
    dir: std::path::PathBuf,
    url: String,
}

impl Etcd {
    fn start(port: u16) -> Option<Self> {
        let dir = std::env::temp_dir().join(format!("weir-etcd-{}-{port}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let (url, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", port + 1));
        let mut command = std::process::Command::new("etcd");
        command.args(["--data-dir", dir.to_str()?, "--log-level", "error", "--name", "one"]);
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("one={peer}")]);
        let child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn();
        match child {
            Ok(child) => Some(Self { child, dir, url }),
            Err(error) => {
                assert!(std::env::var_os("WEIR_CI").is_none(), "etcd: {error}; ./test installs it");
                eprintln!("SKIPPED: etcd is not installed; ./test installs it");
                None
            }
        }
    }

    async fn store(&self) -> EtcdStore {
        for _ in 0..200 {
            if let Ok(store) = EtcdStore::open(&["http://127.0.0.1:1".to_owned(), self.url.clone()]).await {
                return store;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("etcd does not answer");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_behaves_and_another_process_sees_the_same() {
    let Some(etcd) = Etcd::start(18_379) else { return };
    let store: Arc<dyn MetadataStore> = Arc::new(etcd.store().await);
    behaves(&store).await;
    // Another process's store sees what this one wrote, and hears of what comes.
    let other = etcd.store().await;
    assert_eq!(other.range("").await.expect("all"), store.range("").await.expect("all"));
    let (revision, _) = other.range("").await.expect("all");
    let mut revisions = other.revisions();
    revisions.mark_unchanged();
    store.transact(put("c/1", "news")).await.expect("a write");
    revisions.changed().await.expect("a hint");
    assert_eq!(other.changes(revision).await.expect("changes").keys, Some(vec!["c/1".to_owned()]));

    // More than one transaction holds: the compare decides over all of it.
    let many: Vec<(String, Vec<u8>)> = (0..2_500).map(|n| (format!("many/{n:05}"), b"v".to_vec())).collect();
    let compares = vec![("c/1".to_owned(), 1)];
    let refused = Transaction { compares, puts: many.clone(), ..Transaction::default() };
    assert_eq!(store.transact(refused).await.expect("an answer"), Outcome::Conflict);
    assert_eq!(store.range("many/").await.expect("a range").1.len(), 0, "nothing is left of it");
    let done = Transaction { puts: many.clone(), ..Transaction::default() };
    assert!(matches!(store.transact(done).await, Ok(Outcome::Committed { .. })));
    assert_eq!(store.range("many/").await.expect("a range").1.len(), 2_500);
    let deletes = many.into_iter().map(|(key, _)| key).collect();
    store.transact(Transaction { deletes, ..Transaction::default() }).await.expect("a write");
    assert_eq!(store.range("many/").await.expect("a range").1.len(), 0);
}
