//! Runs of routines and leases, over every database.

use std::time::{Duration, Instant};

use habit_memory::routines::{Change, Findings, Run, Status, Target};
use habit_memory::store::sea::{INTENDED, MADE};
use serde_json::json;

use super::*;

#[tokio::test]
async fn runs_come_back_with_what_they_changed() {
    for (journal, _home) in databases().await {
        let runs = journal.runs();
        let mut run = Run {
            id: Uuid::now_v7(),
            routine: "audit".into(),
            target: Target::user(&alice()),
            status: Status::Waiting,
            cause: "asked for".into(),
            cursor: json!(null),
            done: 0,
            total: 7,
            findings: Findings::default(),
            started_at: 5,
            ended_at: None,
        };
        runs.add(&run, 5).await.unwrap();
        run.status = Status::Running;
        run.cursor = json!({"after": "x\u{1F436}"});
        run.done = 3;
        runs.put(&run, 6).await.unwrap();
        assert_eq!(runs.get(Some("red"), run.id).await.unwrap().as_ref(), Some(&run));
        assert_eq!(runs.get(Some("blue"), run.id).await.unwrap(), None);
        assert_eq!(runs.list(None, None, 9).await.unwrap(), [run.clone()]);
        assert_eq!(runs.open().await.unwrap(), [run.clone()]);
        let latest = runs.latest().await.unwrap();
        assert_eq!(latest.get(&("audit".to_owned(), run.target.clone())), Some(&5));
        let changes: Vec<Change> = (0..3).map(|n| Change::new(format!("{n}"), json!({"n": n}))).collect();
        runs.intend(run.id, &changes, 7).await.unwrap();
        runs.mark(run.id, &[changes[1].id], MADE).await.unwrap();
        let intended = runs.changes(run.id, Some(INTENDED), 9).await.unwrap();
        let intended: Vec<Change> = intended.into_iter().map(|made| made.change).collect();
        assert_eq!(intended, [changes[0].clone(), changes[2].clone()]);
        assert_eq!(runs.changes(run.id, None, 9).await.unwrap().len(), 3);
        runs.tidy().await.unwrap();
        journal.erase(&scope("red", "alice"), false).await.unwrap();
        assert_eq!(runs.get(None, run.id).await.unwrap(), None);
        assert!(runs.changes(run.id, None, 9).await.unwrap().is_empty());
        assert!(matches!(runs.put(&run, 8).await, Err(MemoryError::NotFound(_))));
    }
}

/// A minute in milliseconds, and a clock that is an hour ahead of another.
const MINUTE: i64 = 60_000;
const AHEAD: i64 = 60 * MINUTE;

#[tokio::test]
async fn one_holds_a_lease_whatever_the_clocks_of_others_say() {
    let (one, home) = on_postgres().await;
    let Home::Server(server) = &home else { unreachable!() };
    let two = server.open().await;
    assert!(one.runs().lease("work", "one", 0, MINUTE).await.unwrap());
    for clock in [-AHEAD, 0, AHEAD] {
        assert!(
            !two.runs().lease("work", "two", clock, MINUTE).await.unwrap(),
            "{clock}"
        );
        assert!(
            one.runs().lease("work", "one", clock, MINUTE).await.unwrap(),
            "kept at {clock}"
        );
    }
    two.runs().release("work", "two").await.unwrap();
    assert!(
        !two.runs().lease("work", "two", 0, MINUTE).await.unwrap(),
        "not two's to give"
    );
    // A holder that says nothing more loses it.
    assert!(one.runs().lease("work", "one", 0, 50).await.unwrap());
    let begun = Instant::now();
    while !two.runs().lease("work", "two", 0, MINUTE).await.unwrap() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it never ends");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!one.runs().lease("work", "one", 0, MINUTE).await.unwrap());
    two.runs().release("work", "two").await.unwrap();
    assert!(one.runs().lease("work", "one", 0, MINUTE).await.unwrap());
}
