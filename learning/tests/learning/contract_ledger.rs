//! The laws of [`Ledger`], over every implementation.

use std::sync::{Arc, Mutex};

use habit_learning::feedback::ram::RamLedger;
use habit_learning::feedback::sea::SeaLedger;
use habit_learning::feedback::{DAY_MS, Feedback, Given, Implicit, Ledger, Thumb, Use};
use habit_memory::Scope;
use habit_memory::journal::{Journal, Page};
use habit_memory::store::sea::SeaJournal;
use habit_memory::testing::Postgres;
use tempfile::TempDir;
use uuid::Uuid;

fn scope(team: &str, user: &str) -> Scope {
    Scope::new(team, user).unwrap()
}

fn page(limit: u64, before: Option<Uuid>) -> Page {
    Page { limit, before }
}

fn feedback(user: &str, turn: Uuid, at: i64) -> Feedback {
    Feedback {
        id: Uuid::now_v7(),
        user: user.to_owned(),
        turn,
        given: Given {
            thumb: Some(Thumb::Down),
            score: Some(0.25),
            comment: Some("too long".to_owned()),
            correction: Some("shorter".to_owned()),
            implicit: Some(Implicit::Meant),
        },
        at,
    }
}

fn uses(run: &str, one: &Feedback) -> Use {
    Use {
        run: run.to_owned(),
        feedback: one.id,
        user: one.user.clone(),
        example: one.turn,
        forgotten: false,
        at: 1,
    }
}

async fn reads_what_was_written(ledger: &dyn Ledger) {
    let (ann, turn) = (scope("acme", "ann"), Uuid::now_v7());
    let mut given = Vec::new();
    for _ in 0..3 {
        let one = feedback("ann", turn, 5);
        assert!(ledger.add(&ann, one.clone(), 10).await.unwrap());
        given.insert(0, one);
    }
    let other = feedback("ann", Uuid::now_v7(), 5);
    ledger.add(&ann, other.clone(), 10).await.unwrap();
    assert_eq!(ledger.get(&ann, given[0].id).await.unwrap().as_ref(), Some(&given[0]));
    assert_eq!(ledger.list(&ann, &[turn], page(10, None)).await.unwrap(), given);
    let first = ledger.list(&ann, &[], page(2, None)).await.unwrap();
    assert_eq!(first, [other, given[0].clone()]);
    assert_eq!(
        ledger.list(&ann, &[], page(9, Some(given[0].id))).await.unwrap(),
        given[1..]
    );
    assert_eq!(ledger.of_team("acme", page(10, None)).await.unwrap().len(), 4);
    let users: Vec<String> = ledger.users("acme").await.unwrap().into_iter().collect();
    assert_eq!(users, ["ann"]);
    assert!(ledger.users("other").await.unwrap().is_empty());
    // The mark tells what was given and what has gone.
    let whole = ledger.mark(&ann).await.unwrap();
    assert_eq!(whole.0, 4);
    assert_eq!(ledger.mark(&scope("acme", "bob")).await.unwrap(), (0, None));
    ledger.delete(&ann, &[given[2].id]).await.unwrap();
    assert_eq!(ledger.mark(&ann).await.unwrap(), (3, whole.1));
}

async fn others_are_not_reached(ledger: &dyn Ledger) {
    let (ann, turn) = (scope("acme", "ann"), Uuid::now_v7());
    let one = feedback("ann", turn, 5);
    ledger.add(&ann, one.clone(), 10).await.unwrap();
    ledger.note_uses("acme", vec![uses("run", &one)]).await.unwrap();
    for stranger in [scope("other", "ann"), scope("acme", "bob")] {
        assert_eq!(ledger.get(&stranger, one.id).await.unwrap(), None);
        assert!(
            ledger
                .list(&stranger, &[turn], page(10, None))
                .await
                .unwrap()
                .is_empty()
        );
        assert_eq!(ledger.delete(&stranger, &[one.id]).await.unwrap(), 0);
        assert_eq!(ledger.delete_of_turns(&stranger, &[turn]).await.unwrap(), 0);
        assert_eq!(ledger.erase(&stranger).await.unwrap(), 0);
        assert!(ledger.uses_of(&stranger, one.id).await.unwrap().is_empty());
        assert!(ledger.add(&stranger, one.clone(), 10).await.is_err() || stranger.user() == "ann");
    }
    assert!(ledger.tainted("acme").await.unwrap().is_empty());
    assert_eq!(ledger.uses_of(&ann, one.id).await.unwrap(), [uses("run", &one)]);
    assert!(ledger.get(&ann, one.id).await.unwrap().is_some());
}

async fn a_day_holds_so_many(ledger: &dyn Ledger) {
    let ann = scope("acme", "ann");
    let add = |user: &'static str, at| async move {
        let one = feedback(user, Uuid::now_v7(), at);
        ledger.add(&scope("acme", user), one, 2).await.unwrap()
    };
    assert!(add("ann", DAY_MS).await);
    assert!(add("ann", DAY_MS + 10).await);
    assert!(!add("ann", DAY_MS + 20).await);
    assert!(add("bob", DAY_MS + 20).await, "each has a day of their own");
    assert!(add("ann", 2 * DAY_MS).await, "the first is a day old");
    assert_eq!(ledger.list(&ann, &[], page(10, None)).await.unwrap().len(), 3);
}

/// The runs that were made with what was forgotten, and how many examples of it.
async fn tainted(ledger: &dyn Ledger) -> Vec<(String, usize)> {
    let tainted = ledger.tainted("acme").await.unwrap();
    tainted.into_iter().map(|one| (one.run, one.examples.len())).collect()
}

async fn what_is_forgotten_marks_its_runs(ledger: &dyn Ledger) {
    let ann = scope("acme", "ann");
    let all: Vec<Feedback> = (0..4).map(|_| feedback("ann", Uuid::now_v7(), 5)).collect();
    for one in &all {
        ledger.add(&ann, one.clone(), 10).await.unwrap();
    }
    ledger
        .note_uses("acme", vec![uses("a", &all[0]), uses("a", &all[1])])
        .await
        .unwrap();
    ledger
        .note_uses("acme", vec![uses("b", &all[2]), uses("b", &all[3])])
        .await
        .unwrap();
    assert_eq!(ledger.delete(&ann, &[all[0].id]).await.unwrap(), 1);
    assert_eq!(tainted(ledger).await, [("a".to_owned(), 1)]);
    assert_eq!(ledger.delete_of_turns(&ann, &[all[2].turn]).await.unwrap(), 1);
    assert_eq!(tainted(ledger).await, [("a".to_owned(), 1), ("b".to_owned(), 1)]);
    // A run that goes on notes the same again, which takes no mark away; a new one that still has it is marked at once.
    ledger
        .note_uses("acme", vec![uses("a", &all[0]), uses("c", &all[0])])
        .await
        .unwrap();
    let marked = [("a".to_owned(), 1), ("b".to_owned(), 1), ("c".to_owned(), 1)];
    assert_eq!(tainted(ledger).await, marked);
    assert_eq!(ledger.erase(&ann).await.unwrap(), 2);
    assert!(ledger.list(&ann, &[], page(10, None)).await.unwrap().is_empty());
    assert_eq!(tainted(ledger).await[0], ("a".to_owned(), 2));
    assert!(
        ledger.uses_of(&ann, all[1].id).await.unwrap().is_empty(),
        "nobody is named any more"
    );
}

async fn nonsense_is_refused(ledger: &dyn Ledger) {
    let ann = scope("acme", "ann");
    for given in [
        Given::default(),
        Given {
            score: Some(1.5),
            ..Given::default()
        },
        Given {
            score: Some(f32::NAN),
            ..Given::default()
        },
        Given {
            correction: Some("  ".into()),
            ..Given::default()
        },
        Given {
            comment: Some("x".repeat(40_000)),
            ..Given::default()
        },
    ] {
        let one = Feedback {
            given,
            ..feedback("ann", Uuid::now_v7(), 5)
        };
        assert!(ledger.add(&ann, one.clone(), 10).await.is_err(), "{one:?}");
    }
}

async fn laws(new: impl AsyncFn() -> Arc<dyn Ledger>) {
    reads_what_was_written(&*new().await).await;
    others_are_not_reached(&*new().await).await;
    a_day_holds_so_many(&*new().await).await;
    what_is_forgotten_marks_its_runs(&*new().await).await;
    nonsense_is_refused(&*new().await).await;
}

#[tokio::test]
async fn in_the_process() {
    laws(async || Arc::new(RamLedger::default()) as Arc<dyn Ledger>).await;
}

#[tokio::test]
async fn in_sqlite() {
    let folder = TempDir::new().unwrap();
    laws(async || {
        let journal = SeaJournal::open(&folder.path().join(format!("{}.db", Uuid::now_v7())))
            .await
            .unwrap();
        Arc::new(SeaLedger::new(journal.guest())) as Arc<dyn Ledger>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_postgres() {
    let servers = Mutex::new(Vec::new());
    laws(async || {
        let server = Postgres::start().await;
        let ledger = SeaLedger::new(server.open().await.guest());
        servers.lock().unwrap().push(server);
        Arc::new(ledger) as Arc<dyn Ledger>
    })
    .await;
}

/// What counts against the cap is counted before it is written: by two gateways at once it is still not passed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cap_holds_for_two_gateways() {
    let server = Postgres::start().await;
    let (one, two) = (server.open().await, server.open().await);
    let ledgers = [SeaLedger::new(one.guest()), SeaLedger::new(two.guest())];
    let ann = scope("acme", "ann");
    let adds = ledgers.iter().cycle().take(24);
    let adds = adds.map(|ledger| ledger.add(&ann, feedback("ann", Uuid::now_v7(), 5), 10));
    let added = futures::future::join_all(adds).await;
    assert_eq!(added.into_iter().filter(|added| *added.as_ref().unwrap()).count(), 10);
}

#[tokio::test]
async fn nothing_of_what_was_erased_is_left_in_the_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("habit.db");
    let journal = SeaJournal::open(&path).await.unwrap();
    let ledger = SeaLedger::new(journal.guest());
    let ann = scope("acme", "ann");
    let mut one = feedback("ann", Uuid::now_v7(), 5);
    one.given.correction = Some("The vault opens with Heron.".to_owned());
    ledger.add(&ann, one, 10).await.unwrap();
    ledger.erase(&ann).await.unwrap();
    journal.purge().await.unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(5).any(|five| five == b"Heron"));
    }
}
