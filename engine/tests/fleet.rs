//! A fleet's names, and swaps while replies run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;

use futures::StreamExt;
use habit_engine::fleet::Fleet;
use habit_engine::scripted::Scripted;
use habit_engine::{ChatRequest, Delta, DeltaStream, Engine, EngineError, Health, Message, Role};

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
