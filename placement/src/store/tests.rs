//! The behaviour suite of metadata stores.

use super::*;

fn put(key: &str, value: &str) -> Transaction {
    Transaction { puts: vec![(key.into(), value.into())], ..Transaction::default() }
}

async fn behaves(store: &dyn MetadataStore) {
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

    let changes = store.changes(first).await.expect("changes");
    assert_eq!(changes.keys, Some(vec!["a/2".to_owned(), "b/1".to_owned()]));
    let mut revisions = store.revisions();
    revisions.mark_unchanged();
    let delete = Transaction { deletes: vec!["a/1".into()], ..Transaction::default() };
    store.transact(delete).await.expect("a write");
    revisions.changed().await.expect("a hint");
    assert_eq!(store.get("a/1").await.expect("a read"), None);
    assert_eq!(store.changes(changes.revision).await.expect("changes").keys, Some(vec!["a/1".to_owned()]));

    // Of many that compare one revision exactly one wins.
    let base = store.get("b/1").await.expect("a read").expect("there").revision;
    let mut won = 0;
    for writer in 0..10 {
        let mut transaction = put("b/1", &format!("writer {writer}"));
        transaction.compares = vec![("b/1".into(), base)];
        won += i32::from(matches!(store.transact(transaction).await, Ok(Outcome::Committed { .. })));
    }
    assert_eq!(won, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn redb_behaves_and_keeps_what_it_has() {
    let dir = std::env::temp_dir().join(format!("weir-store-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let store = RedbStore::open(&dir).expect("a store");
    behaves(&store).await;
    let before = store.range("").await.expect("all");
    drop(store);
    let store = RedbStore::open(&dir).expect("the same store");
    assert_eq!(store.range("").await.expect("all"), before);
    assert_eq!(store.changes(1).await.expect("changes").keys, None, "a restart forgets the history");
    std::fs::remove_dir_all(dir).expect("cleaned");
}
