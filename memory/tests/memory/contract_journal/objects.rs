//! The laws of [`Objects`], checked on every store that there is; then what only a store on disk promises.

use std::sync::atomic::{AtomicI64, Ordering};

use habit_memory::clock::Clock;
use habit_memory::objects::{Object, Objects, Order, Slice};
use habit_memory::store::ram_objects::RamObjects;
use serde_json::json;

use super::*;

/// A clock that stands where it is put.
#[derive(Default)]
struct Hands(AtomicI64);

impl Clock for Hands {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Every store with its clock, and what it lies in.
async fn stores() -> Vec<(Arc<dyn Objects>, Arc<Hands>, Option<Home>)> {
    let hands = Arc::new(Hands::default());
    let ram: Arc<dyn Objects> = Arc::new(RamObjects::new(hands.clone()));
    let mut stores = vec![(ram, hands, None)];
    for (journal, home) in databases().await {
        let hands = Arc::new(Hands::default());
        stores.push((Arc::new(journal.objects(hands.clone())), hands, Some(home)));
    }
    stores
}

fn object(kind: &str, id: &str, parent: Option<&str>) -> Object {
    Object {
        kind: kind.into(),
        id: id.into(),
        parent: parent.map(Into::into),
        created_at: 7,
        expires_at: None,
        body: json!({"text": format!("{kind} {id} \u{1F436}\n"), "deep": [1, null, {"b": 1, "a": 2}]}),
    }
}

fn ids(objects: &[Object]) -> Vec<&str> {
    objects.iter().map(|object| object.id.as_str()).collect()
}

fn slice(order: Order, after: Option<&str>, before: Option<&str>, limit: u64) -> Slice {
    Slice {
        after: after.map(Into::into),
        before: before.map(Into::into),
        limit,
        order,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_come_back_and_are_replaced_in_their_place() {
    for (store, _clock, _home) in stores().await {
        let scope = alice();
        store
            .put(
                &scope,
                vec![object("item", "b", Some("c")), object("item", "a", Some("c"))],
            )
            .await
            .unwrap();
        store.put(&scope, vec![object("item", "c", Some("d"))]).await.unwrap();
        let read = store.get(&scope, "item", "a").await.unwrap().unwrap();
        assert_eq!(read, object("item", "a", Some("c")));
        assert_eq!(
            read.body.to_string(),
            object("item", "a", None).body.to_string(),
            "also in the order of fields"
        );
        assert_eq!(store.get(&scope, "other", "a").await.unwrap(), None);
        let again = Object {
            body: json!("new"),
            ..object("item", "b", Some("c"))
        };
        store.put(&scope, vec![again.clone()]).await.unwrap();
        let all = store.list(&scope, "item", None, &Slice::all()).await.unwrap();
        assert_eq!(ids(&all), ["b", "a", "c"]);
        assert_eq!(all[0], again);
        for broken in [object("", "x", None), object("item", "", None)] {
            let result = store.put(&scope, vec![object("item", "good", None), broken]).await;
            assert!(matches!(result, Err(MemoryError::BadRequest(_))));
        }
        assert_eq!(store.get(&scope, "item", "good").await.unwrap(), None, "all or none");
        store.put(&scope, Vec::new()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listings_go_both_ways_in_slices() {
    for (store, _clock, _home) in stores().await {
        let scope = alice();
        let five = ["e", "d", "c", "b", "a"].map(|id| object("item", id, Some("p")));
        store.put(&scope, five.to_vec()).await.unwrap();
        store
            .put(&scope, vec![object("item", "z", Some("q")), object("list", "e", None)])
            .await
            .unwrap();
        let list = async |slice: Slice| {
            let found = store.list(&scope, "item", Some("p"), &slice).await.unwrap();
            ids(&found).concat()
        };
        assert_eq!(list(Slice::all()).await, "edcba");
        assert_eq!(list(slice(Order::Newest, None, None, 2)).await, "ab");
        assert_eq!(list(slice(Order::Newest, Some("b"), None, 2)).await, "cd");
        assert_eq!(list(slice(Order::Oldest, Some("d"), None, 9)).await, "cba");
        assert_eq!(list(slice(Order::Oldest, Some("e"), Some("b"), 9)).await, "dc");
        assert_eq!(list(slice(Order::Oldest, None, None, 0)).await, "e", "at least one");
        assert_eq!(list(slice(Order::Oldest, Some("a"), Some("e"), 9)).await, "");
        let lost = store
            .list(&scope, "item", Some("p"), &slice(Order::Oldest, Some("gone"), None, 1))
            .await;
        assert!(matches!(lost, Err(MemoryError::BadRequest(_))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_their_users_alone() {
    for (store, clock, _home) in stores().await {
        let mine = Object {
            expires_at: Some(5),
            ..object("item", "x", Some("p"))
        };
        store
            .put(&alice(), vec![mine.clone(), object("item", "y", Some("p"))])
            .await
            .unwrap();
        for stranger in [scope("red", "bob"), scope("blue", "alice")] {
            assert_eq!(store.get(&stranger, "item", "x").await.unwrap(), None);
            assert!(
                store
                    .list(&stranger, "item", Some("p"), &Slice::all())
                    .await
                    .unwrap()
                    .is_empty()
            );
            let after = slice(Order::Oldest, Some("x"), None, 9);
            assert!(store.list(&stranger, "item", None, &after).await.is_err());
            assert!(!store.delete(&stranger, "item", "x").await.unwrap());
            assert_eq!(store.delete_children(&stranger, "item", "p").await.unwrap(), 0);
            assert_eq!(store.erase(&stranger).await.unwrap(), 0);
            // The same id is another object there.
            let theirs = Object {
                body: json!("theirs"),
                ..object("item", "x", None)
            };
            store.put(&stranger, vec![theirs.clone()]).await.unwrap();
            assert_eq!(store.get(&stranger, "item", "x").await.unwrap(), Some(theirs));
            assert_eq!(store.erase(&stranger).await.unwrap(), 1);
        }
        let elsewhere = scope("red", "alice").in_conversation("two");
        assert_eq!(store.get(&elsewhere, "item", "x").await.unwrap(), Some(mine.clone()));
        clock.0.store(5, Ordering::SeqCst);
        let expired = store.expired(9).await.unwrap();
        assert_eq!(expired.len(), 1);
        assert_eq!((expired[0].0.user(), &expired[0].1), ("alice", &mine));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_expired_or_was_deleted_is_gone() {
    for (store, clock, _home) in stores().await {
        let scope = alice();
        let until = |id: &str, end: i64| Object {
            expires_at: Some(end),
            ..object("item", id, Some("p"))
        };
        let all = vec![
            until("b", 20),
            until("a", 10),
            object("item", "c", Some("p")),
            object("item", "d", None),
        ];
        store.put(&scope, all).await.unwrap();
        clock.0.store(9, Ordering::SeqCst);
        assert!(store.get(&scope, "item", "a").await.unwrap().is_some());
        assert!(store.expired(9).await.unwrap().is_empty());
        clock.0.store(30, Ordering::SeqCst);
        assert_eq!(store.get(&scope, "item", "a").await.unwrap(), None);
        assert_eq!(
            ids(&store.list(&scope, "item", None, &Slice::all()).await.unwrap()),
            ["c", "d"]
        );
        let expired: Vec<String> = store
            .expired(9)
            .await
            .unwrap()
            .into_iter()
            .map(|(_, object)| object.id)
            .collect();
        assert_eq!(expired, ["a", "b"], "longest expired first");
        assert!(
            !store.delete(&scope, "item", "a").await.unwrap(),
            "nobody is told of it"
        );
        assert_eq!(store.expired(9).await.unwrap().len(), 1, "but it is removed");
        assert_eq!(
            store.delete_children(&scope, "item", "p").await.unwrap(),
            1,
            "the one that had not expired"
        );
        assert!(store.delete(&scope, "item", "d").await.unwrap());
        assert!(!store.delete(&scope, "item", "d").await.unwrap());
        assert_eq!(store.erase(&scope).await.unwrap(), 0);
        assert!(store.expired(9).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_on_disk_outlive_the_process() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("habit.db");
    let journal = open(&path).await;
    let store = journal.objects(Arc::new(Hands::default()));
    store.put(&alice(), vec![object("item", "x", None)]).await.unwrap();
    journal.close().await;
    assert!(store.put(&alice(), vec![object("item", "y", None)]).await.is_err());
    let store = open(&path).await.objects(Arc::new(Hands::default()));
    assert_eq!(
        store.get(&alice(), "item", "x").await.unwrap(),
        Some(object("item", "x", None))
    );
}
