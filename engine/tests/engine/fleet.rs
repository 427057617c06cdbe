//! A fleet's names, whom it asks and in which order, what it does when one fails, and swaps while replies run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use habit_engine::admission::Admission;
use habit_engine::fleet::patience::Patience;
use habit_engine::fleet::{Fleet, Member, MemberOptions};
use habit_engine::scripted::{Failure, Scripted};
use habit_engine::{ChatRequest, Delta, DeltaStream, Engine, EngineError, Health, Message, Role};
use tokio_util::sync::CancellationToken;

fn ask(model: &str) -> ChatRequest {
    ChatRequest {
        model: model.into(),
        messages: vec![Message::new(Role::User, "hi")],
        ..ChatRequest::default()
    }
}

async fn text(stream: DeltaStream) -> String {
    let pieces = stream.map(|item| match item.unwrap() {
        Delta::Text(text) => text,
        _ => String::new(),
    });
    pieces.collect().await
}

fn fleet() -> Fleet {
    Fleet::new(vec![
        Arc::new(Scripted::new("small").reply("from small")),
        Arc::new(Scripted::new("large").reply("from large")),
    ])
}

#[tokio::test]
async fn names_aliases_and_the_default_find_their_engines() {
    let fleet = fleet();
    fleet.alias("fast", "small");
    for (name, said) in [
        ("small", "from small"),
        ("large", "from large"),
        ("", "from small"),
        ("default", "from small"),
        ("fast", "from small"),
    ] {
        assert_eq!(text(fleet.chat(ask(name)).await.unwrap()).await, said, "{name}");
    }
    fleet.set_default("large");
    assert_eq!(text(fleet.chat(ask("default")).await.unwrap()).await, "from large");
    let names: Vec<String> = fleet.models().into_iter().map(|info| info.id).collect();
    assert_eq!(names, ["large", "small", "fast"], "the default comes first");
    assert!(fleet.token_counter("fast").is_some() && fleet.token_counter("").is_some());
}

#[tokio::test]
async fn an_unknown_name_is_answered_with_the_known_ones() {
    match fleet().chat(ask("huge")).await.err() {
        Some(EngineError::UnknownModel { model, available }) => {
            assert_eq!(
                (model.as_str(), available),
                ("huge", vec!["small".to_owned(), "large".to_owned()])
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        Fleet::default().chat(ask("")).await.err(),
        Some(EngineError::UnknownModel { .. })
    ));
    assert!(matches!(Fleet::default().health().await, Health::Unavailable(_)));
}

#[tokio::test]
async fn a_replaced_engine_ends_what_it_began() {
    let fleet = fleet();
    let (old, gate) = Scripted::new("small").reply("the old one").gated();
    let old: Arc<dyn Engine> = Arc::new(old);
    fleet.replace("small", &old);
    let running = fleet.chat(ask("small")).await.unwrap();
    let new: Arc<dyn Engine> = Arc::new(Scripted::new("small").reply("the new one"));
    assert!(fleet.replace("small", &new).is_some());
    assert_eq!(text(fleet.chat(ask("small")).await.unwrap()).await, "the new one");
    gate.open();
    assert_eq!(text(running).await, "the old one");
    assert!(fleet.remove("small").is_some());
    assert!(fleet.chat(ask("small")).await.is_err());
    assert_eq!(fleet.models().len(), 1);
}

#[tokio::test]
async fn health_names_what_is_wrong() {
    let scripted = Scripted::new("small");
    let fleet = Fleet::new(vec![Arc::new(scripted.clone())]);
    assert_eq!(fleet.health().await, Health::Ready);
    scripted.set_unavailable(Some("it is loading"));
    assert_eq!(fleet.health().await, Health::Unavailable("it is loading".into()));
}

/// A remote member over a scripted engine, as a gateway's upstream would be.
fn remote(name: &str, engine: &Scripted, change: impl FnOnce(&mut MemberOptions)) -> Arc<Member> {
    let mut options = MemberOptions {
        name: name.into(),
        check_every: Duration::from_millis(5),
        ..MemberOptions::default()
    };
    change(&mut options);
    Arc::new(Member::remote(Arc::new(engine.clone()), options))
}

async fn looked_at(members: Vec<Arc<Member>>) -> Arc<Fleet> {
    let fleet = Arc::new(Fleet::of(members));
    fleet.first_look(Duration::from_secs(5)).await;
    fleet
}

fn down() -> EngineError {
    EngineError::Unavailable("it is down".into())
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} never came true");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn another_engine_answers_where_one_fails_before_its_first_word() {
    for failure in [
        Failure::BeforeStream(down()),
        Failure::BeforeStream(EngineError::Overloaded {
            running: 1,
            waiting: 1,
            retry_after_s: 1,
        }),
        Failure::AfterDeltas(0, EngineError::Interrupted("it crashed".into())),
    ] {
        let (one, two) = (Scripted::new("m").reply("good"), Scripted::new("m").reply("good"));
        let fleet = looked_at(vec![remote("one", &one, |_| {}), remote("two", &two, |_| {})]).await;
        // Whoever is asked first fails.
        one.fail_next(failure.clone());
        two.fail_next(failure);
        let error = fleet.chat(ask("m")).await;
        let error = match error {
            Ok(stream) => stream.collect::<Vec<_>>().await.pop().unwrap().err(),
            Err(error) => Some(error),
        };
        assert!(error.is_some(), "both failed");
        assert_eq!(one.requests().len() + two.requests().len(), 2, "each was asked once");
        one.fail_next(Failure::BeforeStream(down()));
        for _ in 0..4 {
            assert_eq!(text(fleet.chat(ask("m")).await.unwrap()).await, "good");
        }
    }
}

#[tokio::test]
async fn a_reply_that_has_begun_is_never_begun_anew() {
    let (one, two) = (Scripted::new("m").reply("a b c"), Scripted::new("m").reply("a b c"));
    let fleet = looked_at(vec![remote("one", &one, |_| {}), remote("two", &two, |_| {})]).await;
    for engine in [&one, &two] {
        engine.fail_next(Failure::AfterDeltas(1, EngineError::Interrupted("it crashed".into())));
    }
    let items: Vec<_> = fleet.chat(ask("m")).await.unwrap().collect().await;
    assert!(matches!(items[0], Ok(Delta::Text(_))) && items[1].is_err() && items.len() == 2);
    assert_eq!(one.requests().len() + two.requests().len(), 1);
}

#[tokio::test]
async fn a_wrong_request_is_not_tried_elsewhere() {
    let (one, two) = (Scripted::new("m").window(4), Scripted::new("m").window(4));
    let fleet = looked_at(vec![remote("one", &one, |_| {}), remote("two", &two, |_| {})]).await;
    for _ in 0..10 {
        let error = fleet.chat(ask("m")).await.err();
        assert!(matches!(error, Some(EngineError::ContextLengthExceeded { .. })));
    }
    assert_eq!(
        one.requests().len() + two.requests().len(),
        10,
        "nor held against the engine"
    );
}

#[tokio::test]
async fn an_engine_that_fails_again_and_again_is_left_alone_until_it_is_back() {
    let broken = Scripted::new("m").reply("good");
    let fleet = looked_at(vec![remote("one", &broken, |options| {
        options.breaker.wait = Duration::from_millis(50);
        options.check_every = Duration::from_hours(1);
    })])
    .await;
    for _ in 0..3 {
        broken.fail_next(Failure::BeforeStream(down()));
        assert!(fleet.chat(ask("m")).await.is_err());
    }
    match fleet.chat(ask("m")).await.err() {
        Some(EngineError::Unavailable(why)) => assert_eq!(why, "it is down", "what it said last"),
        other => panic!("{other:?}"),
    }
    assert_eq!(broken.requests().len(), 3, "it is not asked any more");
    assert!(matches!(fleet.health().await, Health::Unavailable(_)));
    let deadline = Instant::now() + Duration::from_secs(10);
    while fleet.chat(ask("m")).await.is_err() {
        assert!(Instant::now() < deadline, "it never comes back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(fleet.health().await, Health::Ready);
}

#[tokio::test]
async fn the_engine_with_the_least_to_do_for_its_weight_is_asked() {
    let (one, _gate) = Scripted::new("m").gated();
    let (two, _gate_of_two) = Scripted::new("m").gated();
    let counted = |engine: &Scripted| -> Arc<dyn Engine> { Arc::new(Admission::new(Arc::new(engine.clone()), 64, 0)) };
    let member = |name: &str, engine: &Scripted, weight| {
        let options = MemberOptions {
            name: name.into(),
            weight,
            ..MemberOptions::default()
        };
        Arc::new(Member::remote(counted(engine), options))
    };
    let fleet = looked_at(vec![member("one", &one, 1), member("two", &two, 3)]).await;
    let mut running = Vec::new();
    for _ in 0..20 {
        running.push(fleet.chat(ask("m")).await.unwrap());
    }
    assert_eq!((one.requests().len(), two.requests().len()), (5, 15));
    assert_eq!(fleet.load().running, 20);
}

#[tokio::test]
async fn an_engine_that_is_down_at_first_comes_back_by_itself() {
    let late = Scripted::new("m").reply("here I am");
    late.set_unavailable(Some("it is loading"));
    let fleet = looked_at(vec![remote("late", &late, |_| {})]).await;
    assert_eq!(fleet.health().await, Health::Unavailable("it is loading".into()));
    let stop = CancellationToken::new();
    let watch = tokio::spawn(Arc::clone(&fleet).watch(stop.clone()));
    late.set_unavailable(None);
    let member = Arc::clone(&fleet.members()[0]);
    let deadline = Instant::now() + Duration::from_secs(10);
    while member.health().await != Health::Ready {
        assert!(Instant::now() < deadline, "it is never seen again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(text(fleet.chat(ask("m")).await.unwrap()).await, "here I am");
    stop.cancel();
    watch.await.unwrap();
}

#[tokio::test]
async fn memory_goes_only_where_it_may() {
    let (home, away) = (Scripted::new("m").reply("home"), Scripted::new("m").reply("away"));
    let fleet = looked_at(vec![
        remote("away", &away, |_| {}),
        remote("home", &home, |options| options.sees_memory = true),
    ])
    .await;
    assert!(fleet.may_see_memory("m"));
    let with_memory = || ChatRequest {
        holds_memory: true,
        ..ask("m")
    };
    for _ in 0..6 {
        assert_eq!(text(fleet.chat(with_memory()).await.unwrap()).await, "home");
    }
    // Also when the one at home fails: nothing is sent away.
    for _ in 0..5 {
        home.fail_next(Failure::BeforeStream(down()));
        assert!(fleet.chat(with_memory()).await.is_err());
    }
    assert!(away.requests().is_empty());
    assert!(!fleet.may_see_memory("m"), "nobody is there now who may see it");
    assert_eq!(text(fleet.chat(ask("m")).await.unwrap()).await, "away");
}

#[tokio::test]
async fn a_member_serves_what_it_is_said_to_serve_under_the_names_given() {
    let engine = Scripted::new("vendor/llama:8b").reply("hello");
    let named = remote("gpu", &engine, |options| {
        options.models = vec![("llama".into(), "vendor/llama:8b".into())];
    });
    let fleet = looked_at(vec![named]).await;
    let names: Vec<String> = fleet.models().into_iter().map(|info| info.id).collect();
    assert_eq!(names, ["llama"]);
    assert_eq!(fleet.models()[0].context_window, Some(4096));
    assert_eq!(text(fleet.chat(ask("llama")).await.unwrap()).await, "hello");
    assert_eq!(text(fleet.chat(ask("")).await.unwrap()).await, "hello");
    assert!(fleet.token_counter("llama").is_some());
    assert!(matches!(
        fleet.chat(ask("vendor/llama:8b")).await.err(),
        Some(EngineError::UnknownModel { .. })
    ));
}

#[tokio::test]
async fn the_list_is_replaced_while_replies_run() {
    let (old, gate) = Scripted::new("m").reply("the old one").gated();
    let new = Scripted::new("m").reply("the new one");
    let own: Arc<dyn Engine> = Arc::new(Scripted::new("own").reply("mine"));
    let fleet = Arc::new(Fleet::new(vec![own]));
    fleet.set_remote(&[remote("old", &old, |_| {})], &[]);
    let running = fleet.chat(ask("m")).await.unwrap();
    fleet.alias("mine", "own");
    fleet.set_remote(&[remote("new", &new, |_| {})], &[("fast".into(), "m".into())]);
    assert_eq!(
        text(fleet.chat(ask("mine")).await.unwrap()).await,
        "mine",
        "named at run time"
    );
    assert_eq!(text(fleet.chat(ask("fast")).await.unwrap()).await, "the new one");
    assert_eq!(text(fleet.chat(ask("")).await.unwrap()).await, "mine");
    gate.open();
    assert_eq!(text(running).await, "the old one");
    until("the old engine is let go", || old.active() == 0).await;
}

#[tokio::test]
async fn a_silent_engine_has_failed() {
    let silent = Scripted::new("m").reply("a b c");
    let patient = |first, between| {
        let engine: Arc<dyn Engine> = Arc::new(silent.clone());
        Patience::new(
            engine,
            "gpu",
            Duration::from_millis(first),
            Duration::from_millis(between),
        )
    };
    silent.fail_next(Failure::HangsAfter(0));
    let items: Vec<_> = patient(20, 5000).chat(ask("m")).await.unwrap().collect().await;
    assert!(
        matches!(&items[..], [Err(EngineError::Unavailable(why))] if why.contains("gpu")),
        "{items:?}"
    );
    silent.fail_next(Failure::HangsAfter(2));
    let items: Vec<_> = patient(5000, 20).chat(ask("m")).await.unwrap().collect().await;
    assert!(matches!(&items[2..], [Err(EngineError::Interrupted(_))]), "{items:?}");
    assert_eq!(silent.active(), 0, "it is not left running");
    assert_eq!(patient(5000, 20).chat(ask("m")).await.unwrap().count().await, 4);
}
