//! Admission under load: who runs, who waits, who is told to come back, and what frees a place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use habit_engine::admission::Admission;
use habit_engine::scripted::{Failure, MODEL, Scripted};
use habit_engine::{ChatRequest, Delta, Engine, EngineError, Message, Priority, Role};

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

#[tokio::test]
async fn tenants_have_turns_and_background_waits_for_all() {
    let (scripted, gate) = Scripted::default().gated();
    let admission = Arc::new(Admission::new(Arc::new(scripted.clone()), 1, 10));
    let first = admission.chat(ask()).await.unwrap();
    let mut tasks = Vec::new();
    let waiting = [
        ("a", Priority::Background),
        ("a", Priority::Interactive),
        ("a", Priority::Interactive),
        ("a", Priority::Interactive),
        ("b", Priority::Interactive),
        ("c", Priority::Interactive),
    ];
    for (n, (tenant, priority)) in waiting.into_iter().enumerate() {
        let task = Arc::clone(&admission);
        let request = ChatRequest {
            tenant: tenant.into(),
            priority,
            ..ask()
        };
        tasks.push(tokio::spawn(
            async move { task.chat(request).await.unwrap().count().await },
        ));
        until("it waits", || admission.waiting() == n + 1).await;
    }
    let load = admission.load();
    assert_eq!((load.running, load.waiting, load.waiting_background), (1, 6, 1));
    gate.open();
    drop(first);
    futures::future::join_all(tasks).await;
    let served: Vec<(String, Priority)> = scripted.requests()[1..]
        .iter()
        .map(|request| (request.tenant.clone(), request.priority))
        .collect();
    let order: Vec<&str> = served.iter().map(|(tenant, _)| tenant.as_str()).collect();
    assert_eq!(order, ["a", "b", "c", "a", "a", "a"]);
    assert_eq!(served[5].1, Priority::Background);
}

#[tokio::test]
async fn nobody_can_fill_the_queue_for_others() {
    let (scripted, gate) = Scripted::default().gated();
    let admission = Arc::new(Admission::new(Arc::new(scripted.clone()), 1, 3));
    let of = |tenant: &str| ChatRequest {
        tenant: tenant.into(),
        ..ask()
    };
    let first = admission.chat(of("greedy")).await.unwrap();
    let mut greedy = Vec::new();
    for n in 0..3 {
        let task = Arc::clone(&admission);
        let request = of("greedy");
        greedy.push(tokio::spawn(async move {
            Ok::<_, EngineError>(task.chat(request).await?.count().await)
        }));
        until("it waits", || admission.waiting() == n + 1).await;
    }
    assert!(admission.chat(of("greedy")).await.is_err(), "its own queue is full");
    let modest = tokio::spawn({
        let (task, request) = (Arc::clone(&admission), of("modest"));
        async move { Ok::<_, EngineError>(task.chat(request).await?.count().await) }
    });
    // Its last one gives way, and is told so.
    let last = greedy.pop().unwrap().await.unwrap();
    assert!(matches!(last.err(), Some(EngineError::Overloaded { .. })));
    assert_eq!(admission.waiting(), 3);
    gate.open();
    drop(first);
    assert_eq!(modest.await.unwrap().unwrap(), 4);
    for task in greedy {
        assert_eq!(task.await.unwrap().unwrap(), 4);
    }
    assert_eq!((admission.running(), admission.waiting()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_place_is_lost_when_many_come_and_leave() {
    let admission = Arc::new(Admission::new(Arc::new(Scripted::default()), 3, 50));
    let mut tasks = Vec::new();
    for n in 0..400_usize {
        let admission = Arc::clone(&admission);
        tasks.push(tokio::spawn(async move {
            let request = ChatRequest {
                tenant: (n % 5).to_string(),
                priority: [Priority::Interactive, Priority::Background][n % 2],
                ..ask()
            };
            let asked = admission.chat(request);
            if n % 3 == 0 {
                // Some leave after a moment, waiting or not.
                let _ = tokio::time::timeout(Duration::from_micros((n as u64 * 37) % 900), async {
                    asked.await.map(StreamExt::count)?.await;
                    Ok::<_, EngineError>(())
                })
                .await;
            } else if let Ok(stream) = asked.await {
                assert!(admission.running() <= 3);
                stream.count().await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!((admission.running(), admission.waiting()), (0, 0));
    assert_eq!(admission.chat(ask()).await.unwrap().count().await, 4);
}
