//! The laws of [`Engine`], as a suite that runs over any engine whose model repeats the last message.

use std::sync::Arc;

use futures::StreamExt;
use habit_engine::{ChatRequest, Delta, DeltaStream, Engine, EngineError, FinishReason, Health, Message, Role, Usage};

/// Checks every law that can be seen from outside.
pub async fn engine(engine: Arc<dyn Engine>, model: &str) {
    lists_its_model(&*engine, model).await;
    ends_with_one_finish(&*engine, model).await;
    refuses_unknown_models(&*engine).await;
    refuses_what_does_not_fit(&*engine, model).await;
    keeps_stop_strings_back(&*engine, model).await;
    keeps_to_max_tokens(&*engine, model).await;
    survives_dropped_streams(&engine, model).await;
    answers_several_at_once(&engine, model).await;
}

fn ask(model: &str, text: &str) -> ChatRequest {
    let messages = vec![Message::new(Role::System, "Repeat."), Message::new(Role::User, text)];
    ChatRequest {
        model: model.into(),
        messages,
        ..ChatRequest::default()
    }
}

/// The whole reply; panics where the stream breaks its laws.
async fn whole(mut stream: DeltaStream) -> (String, FinishReason, Usage) {
    let mut text = String::new();
    let mut stopped = false;
    loop {
        match stream
            .next()
            .await
            .expect("a stream ends with a finish")
            .expect("this reply does not fail")
        {
            Delta::Text(piece) => {
                assert!(!piece.is_empty(), "deltas are never empty");
                assert!(!stopped, "nothing but the finish follows the stop string");
                text.push_str(&piece);
            }
            Delta::StopString(_) => stopped = true,
            Delta::Finish { reason, usage } => {
                assert!(stream.next().await.is_none(), "nothing follows the finish");
                return (text, reason, usage);
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}

async fn lists_its_model(engine: &dyn Engine, model: &str) {
    assert_eq!(engine.health().await, Health::Ready);
    let info = engine
        .models()
        .into_iter()
        .find(|info| info.id == model)
        .expect("its model is listed");
    let counter = engine.token_counter(model).expect("its model can be counted");
    assert_eq!(
        info.context_window.unwrap_or(counter.context_window()),
        counter.context_window()
    );
    assert!(engine.token_counter("no-such-model").is_none());

    let (one, two) = (
        vec![Message::new(Role::User, "one")],
        vec![Message::new(Role::User, "one"); 2],
    );
    assert!(counter.count_chat(&one).unwrap() >= counter.count("one"));
    assert!(counter.count_chat(&two).unwrap() > counter.count_chat(&one).unwrap());
}

async fn ends_with_one_finish(engine: &dyn Engine, model: &str) {
    let said = "Grüße 🐕‍🦺 from the harbour, \"quoted\"\nand broken.";
    let (text, reason, usage) = whole(engine.chat(ask(model, said)).await.unwrap()).await;
    assert_eq!((text.as_str(), reason), (said, FinishReason::Stop));
    assert!(usage.prompt_tokens > 0 && usage.completion_tokens > 0, "{usage:?}");
}

async fn refuses_unknown_models(engine: &dyn Engine) {
    match engine.chat(ask("no-such-model", "hi")).await.err() {
        Some(EngineError::UnknownModel { model, available }) => {
            assert_eq!(model, "no-such-model");
            assert!(!available.is_empty());
        }
        other => panic!("an unknown model gives {other:?}"),
    }
}

async fn refuses_what_does_not_fit(engine: &dyn Engine, model: &str) {
    let window = engine.token_counter(model).unwrap().context_window();
    let error = engine.chat(ask(model, &"word ".repeat(window))).await.err();
    assert!(
        matches!(error, Some(EngineError::ContextLengthExceeded { limit, .. }) if limit == window),
        "{error:?}"
    );
    let (text, ..) = whole(engine.chat(ask(model, "still here")).await.unwrap()).await;
    assert_eq!(text, "still here");
}

async fn keeps_stop_strings_back(engine: &dyn Engine, model: &str) {
    let mut request = ask(model, "before END after");
    request.stop = vec!["END".into(), "never".into()];
    let (text, reason, _) = whole(engine.chat(request).await.unwrap()).await;
    assert_eq!((text.as_str(), reason), ("before ", FinishReason::Stop));
}

async fn keeps_to_max_tokens(engine: &dyn Engine, model: &str) {
    let mut request = ask(model, &"many words ".repeat(50));
    request.max_tokens = Some(3);
    let (_, reason, usage) = whole(engine.chat(request).await.unwrap()).await;
    assert_eq!(reason, FinishReason::Length);
    assert!(usage.completion_tokens <= 3, "{usage:?}");
}

async fn survives_dropped_streams(engine: &Arc<dyn Engine>, model: &str) {
    for _ in 0..10 {
        let mut stream = engine.chat(ask(model, "one two three")).await.unwrap();
        stream.next().await;
        drop(stream);
    }
    let (text, ..) = whole(engine.chat(ask(model, "whole")).await.unwrap()).await;
    assert_eq!(text, "whole");
}

async fn answers_several_at_once(engine: &Arc<dyn Engine>, model: &str) {
    let replies = (0..6).map(|n| {
        let (engine, request) = (Arc::clone(engine), ask(model, &format!("number {n}")));
        tokio::spawn(async move { whole(engine.chat(request).await.unwrap()).await.0 })
    });
    for (n, reply) in futures::future::join_all(replies).await.into_iter().enumerate() {
        assert_eq!(reply.unwrap(), format!("number {n}"));
    }
}
