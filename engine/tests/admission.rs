//! Admission under load: who runs, who waits, who is told to come back, and what frees a place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use habit_engine::admission::Admission;
use habit_engine::scripted::{Failure, MODEL, Scripted};
use habit_engine::{ChatRequest, Delta, Engine, EngineError, Message, Role};

fn ask() -> ChatRequest {
    ChatRequest {
        model: MODEL.into(),
        messages: vec![Message::new(Role::User, "a b c")],
        ..ChatRequest::default()
    }
}

/// Waits for what other tasks bring about.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} never came true");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn so_many_run_so_many_wait_and_the_next_is_refused() {
    let (scripted, gate) = Scripted::default().gated();
    let admission = Arc::new(Admission::new(Arc::new(scripted.clone()), 1, 1));
    let first = admission.chat(ask()).await.unwrap();
    let waiting = tokio::spawn({
        let admission = Arc::clone(&admission);
        async move { admission.chat(ask()).await.map(StreamExt::count) }
    });
    until("one waits", || admission.waiting() == 1).await;

    match admission.chat(ask()).await.err() {
        Some(EngineError::Overloaded {
            running: 1,
            waiting: 1,
            retry_after_s,
        }) => assert!(retry_after_s >= 1),
        other => panic!("a third request gets {other:?}"),
    }
    assert_eq!(scripted.requests().len(), 1, "who waits has not reached the engine");

    gate.open();
    assert_eq!(first.count().await, 4);
    assert_eq!(waiting.await.unwrap().unwrap().await, 4);
    assert_eq!((admission.running(), admission.waiting(), scripted.active()), (0, 0, 0));
}

#[tokio::test]
async fn a_dropped_stream_and_a_dropped_wait_free_their_places() {
    let (scripted, gate) = Scripted::default().gated();
    let admission = Arc::new(Admission::new(Arc::new(scripted.clone()), 1, 1));
    let running = admission.chat(ask()).await.unwrap();
    let waits = tokio::spawn({
        let admission = Arc::clone(&admission);
        async move { admission.chat(ask()).await.map(drop) }
    });
    until("one waits", || admission.waiting() == 1).await;
    waits.abort();
    until("nobody waits", || admission.waiting() == 0).await;

    drop(running);
    assert_eq!((admission.running(), scripted.active()), (0, 0));
    gate.open();
    assert_eq!(admission.chat(ask()).await.unwrap().count().await, 4);
}

#[tokio::test]
async fn the_place_is_free_at_the_finish_and_after_every_failure() {
    let scripted = Scripted::default();
    let admission = Admission::new(Arc::new(scripted.clone()), 1, 0);
    let mut held = admission.chat(ask()).await.unwrap();
    while !matches!(held.next().await, Some(Ok(Delta::Finish { .. }))) {}
    assert_eq!(admission.running(), 0, "what comes after the finish needs no place");
    assert!(held.next().await.is_none());

    for failure in [
        Failure::BeforeStream(EngineError::Unavailable("down".into())),
        Failure::AfterDeltas(1, EngineError::Interrupted("crash".into())),
    ] {
        scripted.fail_next(failure);
        if let Ok(stream) = admission.chat(ask()).await {
            assert!(stream.collect::<Vec<_>>().await.last().unwrap().is_err());
        }
        assert_eq!(admission.running(), 0);
    }
}

#[tokio::test]
async fn who_came_first_is_served_first() {
    let (scripted, gate) = Scripted::default().gated();
    let admission = Arc::new(Admission::new(Arc::new(scripted.clone()), 1, 10));
    let first = admission.chat(ask()).await.unwrap();
    let mut tasks = Vec::new();
    for n in 0..5 {
        let (admission, mut request) = (Arc::clone(&admission), ask());
        request.messages = vec![Message::new(Role::User, n.to_string())];
        let task = admission.clone();
        tasks.push(tokio::spawn(
            async move { task.chat(request).await.unwrap().count().await },
        ));
        until("it waits", || admission.waiting() == n + 1).await;
    }
    gate.open();
    drop(first);
    futures::future::join_all(tasks).await;
    let served: Vec<String> = scripted.requests()[1..]
        .iter()
        .map(|request| request.messages[0].text())
        .collect();
    assert_eq!(served, ["0", "1", "2", "3", "4"]);
}
