//! The embedded engine with a real model: `HABIT_TEST_MODEL` (a path or a name), or else the default chat model, which
//! is fetched once and kept in the target directory.

#![cfg(feature = "embedded")]

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use habit_engine::{
    ChatRequest, Delta, DeltaStream, Engine, EngineError, FinishReason, Health, Message, Role, Sampling, Usage,
    embedded::{Embedded, EmbeddedOptions},
    models::{DEFAULT_CHAT, LocalModel, Silent, Store},
};
use serde_json::{Value, json};

use crate::{TURN, laws};

/// A reply, read to its end.
#[derive(Debug, PartialEq)]
struct Reply {
    text: String,
    reason: FinishReason,
    usage: Usage,
}

async fn model() -> LocalModel {
    let spec = std::env::var("HABIT_TEST_MODEL").unwrap_or_else(|_| DEFAULT_CHAT.to_owned());
    let store = Store::open(Path::new(env!("CARGO_TARGET_TMPDIR")).join("models")).expect("a store");
    store.resolve(&spec, Arc::new(Silent)).await.expect("a model")
}

async fn engine(options: EmbeddedOptions) -> Embedded {
    Embedded::load(model().await, options).await.expect("an engine")
}

fn ask(engine: &Embedded, text: &str) -> ChatRequest {
    ChatRequest {
        model: engine.models()[0].id.clone(),
        messages: vec![Message::new(Role::User, text)],
        sampling: Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        },
        max_tokens: Some(24),
        ..ChatRequest::default()
    }
}

async fn read(mut stream: DeltaStream) -> Result<Reply, EngineError> {
    let mut text = String::new();
    while let Some(delta) = stream.next().await {
        match delta? {
            Delta::Text(piece) => {
                assert!(!piece.is_empty());
                text.push_str(&piece);
            }
            Delta::Finish { reason, usage } => {
                assert!(stream.next().await.is_none(), "nothing follows the end");
                return Ok(Reply { text, reason, usage });
            }
            Delta::StopString(_) => {}
            other => panic!("{other:?}"),
        }
    }
    panic!("the stream ended without a finish");
}

async fn reply(engine: &Embedded, request: ChatRequest) -> Reply {
    let mut reply = read(engine.chat(request).await.expect("a stream"))
        .await
        .expect("a reply");
    // Replies are compared; what an engine had kept of the prompt is not part of one.
    reply.usage.cached_tokens = 0;
    reply
}

/// A `response_format` that no window is long enough for.
fn endless() -> Value {
    let list = json!({"type": "array", "items": {"type": "integer"}, "minItems": 5000});
    json!({"type": "json_schema", "json_schema": {"name": "list", "schema": list}})
}

/// Polls until the engine is as it should be, for at most a minute.
async fn until(engine: &Embedded, wanted: impl Fn(&Health) -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !wanted(&engine.health().await) {
        assert!(Instant::now() < deadline, "the engine did not get there in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_is_right_counted_and_the_same_every_time() {
    let _turn = TURN.lock().await;
    let engine = engine(EmbeddedOptions::default()).await;
    let request = ask(&engine, "What is the capital of France? Answer in one short sentence.");
    let counter = engine.token_counter(&request.model).expect("a counter");
    let first = reply(&engine, request.clone()).await;
    assert!(first.text.contains("Paris"), "{first:?}");
    assert_eq!(
        first.usage.prompt_tokens,
        counter.count_chat(&request.messages).expect("a count")
    );
    let words = counter.count(&first.text);
    assert!(
        [words, words + 1].contains(&first.usage.completion_tokens),
        "{first:?} has {words} tokens"
    );
    assert_eq!(reply(&engine, request.clone()).await, first);

    // Another conversation that begins alike: what the engine kept of the first must not change a word.
    let other = ask(&engine, "What is the capital of Italy? Answer in one short sentence.");
    let after_another = reply(&engine, other.clone()).await;
    let cold = EmbeddedOptions {
        prefix_cache_bytes: 0,
        ..EmbeddedOptions::default()
    };
    let cold = Embedded::load(model().await, cold).await.expect("an engine");
    assert_eq!(reply(&cold, request.clone()).await, first);
    assert_eq!(reply(&cold, other).await, after_another);

    // This conversation's next turn goes on from keys and values that were computed one token at a time, which round
    // otherwise: the same answer, but perhaps not to the letter.
    let mut next = request;
    next.messages.push(Message::new(Role::Assistant, first.text));
    next.messages
        .push(Message::new(Role::User, "And what river runs through it?"));
    for engine in [&engine, &cold] {
        let answer = reply(engine, next.clone()).await;
        assert!(answer.text.contains("Seine"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_laws() {
    let _turn = TURN.lock().await;
    let options = EmbeddedOptions {
        context_window: Some(512),
        ..EmbeddedOptions::default()
    };
    let engine = engine(options).await;
    let model = engine.models()[0].id.clone();
    laws::engine(Arc::new(engine), &model, laws::Says::Anything).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_end_where_they_must() {
    let _turn = TURN.lock().await;
    let engine = engine(EmbeddedOptions {
        context_window: Some(512),
        ..EmbeddedOptions::default()
    })
    .await;
    assert_eq!(engine.models()[0].context_window, Some(512));
    let count = ask(&engine, "Count from one to twenty in words, separated by commas.");

    let short = reply(
        &engine,
        ChatRequest {
            max_tokens: Some(5),
            ..count.clone()
        },
    )
    .await;
    assert_eq!((short.reason, short.usage.completion_tokens), (FinishReason::Length, 5));

    let whole = reply(&engine, count.clone()).await;
    let stop: String = whole.text.chars().skip(4).take(6).collect();
    let stopped = reply(
        &engine,
        ChatRequest {
            stop: vec![stop.clone()],
            ..count.clone()
        },
    )
    .await;
    assert_eq!(stopped.reason, FinishReason::Stop);
    assert!(
        whole.text.starts_with(&stopped.text) && !stopped.text.contains(&stop),
        "{stopped:?} at {stop:?}"
    );

    let long = "word ".repeat(600);
    let error = engine.chat(ask(&engine, &long)).await.err().expect("an error");
    assert!(
        matches!(
            error,
            EngineError::ContextLengthExceeded {
                limit: 512,
                prompt: 600..,
                ..
            }
        ),
        "{error:?}"
    );

    // A prompt that leaves ten tokens, and a reply that must be longer: the window ends it.
    let counter = engine.token_counter(&count.model).expect("a counter");
    let mut nearly = count.clone();
    nearly.max_tokens = None;
    nearly.extra.insert("response_format".to_owned(), endless());
    nearly.messages.insert(0, Message::new(Role::User, ""));
    for words in 0..512 {
        nearly.messages[0] = Message::new(Role::User, "word ".repeat(words));
        if counter.count_chat(&nearly.messages).expect("a count") >= 502 {
            break;
        }
    }
    let end = reply(&engine, nearly).await;
    assert_eq!(end.usage.prompt_tokens + end.usage.completion_tokens, 512, "{end:?}");
    assert_eq!(end.reason, FinishReason::Length);
}

#[tokio::test(flavor = "multi_thread")]
async fn seeds_repeat_and_differ() {
    let _turn = TURN.lock().await;
    let engine = engine(EmbeddedOptions::default()).await;
    let with = |seed| ChatRequest {
        sampling: Sampling {
            temperature: Some(1.0),
            top_p: Some(0.95),
            seed: Some(seed),
            ..Sampling::default()
        },
        ..ask(&engine, "Tell me a very short story about a fox.")
    };
    let first = reply(&engine, with(1)).await;
    assert_eq!(reply(&engine, with(1)).await, first);
    assert_ne!(reply(&engine, with(2)).await.text, first.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_are_kept_and_what_cannot_be_is_refused() {
    let _turn = TURN.lock().await;
    let engine = engine(EmbeddedOptions::default()).await;
    let schema = json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 20},
        "big": {"type": "boolean"}}, "required": ["city", "big"], "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"name": "city", "strict": true, "schema": schema}});
    let mut request = ask(&engine, "Name a city.");
    request.max_tokens = Some(64);
    request.extra.insert("response_format".to_owned(), format);
    let answer = reply(&engine, request.clone()).await;
    let value: Value = serde_json::from_str(&answer.text).expect("JSON");
    assert!(value["city"].is_string() && value["big"].is_boolean(), "{answer:?}");
    assert_eq!(answer.reason, FinishReason::Stop);

    for (key, value) in [("tools", json!([{"type": "function"}])), ("n", json!(2))] {
        let mut refused = ask(&engine, "Hello");
        refused.extra.insert(key.to_owned(), value);
        let error = engine.chat(refused).await.err().expect("an error");
        assert!(
            matches!(&error, EngineError::Rejected { param: Some(param), .. } if param == key),
            "{error:?}"
        );
    }
    let unknown = ChatRequest {
        model: "nobody".to_owned(),
        ..request
    };
    assert!(matches!(
        engine.chat(unknown).await,
        Err(EngineError::UnknownModel { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stream_frees_the_engine() {
    let _turn = TURN.lock().await;
    let engine = engine(EmbeddedOptions::default()).await;
    // A reply that can't end by itself and takes minutes.
    let mut long = ChatRequest {
        max_tokens: None,
        ..ask(&engine, "Count.")
    };
    long.extra.insert("response_format".to_owned(), endless());
    let mut stream = engine.chat(long.clone()).await.expect("a stream");
    stream.next().await.expect("a delta").expect("text");
    // One that waits for its place may leave as well.
    let mut waiting = engine.chat(long).await.expect("a stream");
    assert!(futures::poll!(waiting.next()).is_pending());
    drop(waiting);
    drop(stream);
    let begun = Instant::now();
    reply(
        &engine,
        ChatRequest {
            max_tokens: Some(5),
            ..ask(&engine, "Hello")
        },
    )
    .await;
    assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_prefix_cache_is_emptied() {
    let _turn = TURN.lock().await;
    // Less than one sequence: the engine's thread is replaced before every reply.
    let engine = engine(EmbeddedOptions {
        prefix_cache_bytes: 1,
        ..EmbeddedOptions::default()
    })
    .await;
    let request = ChatRequest {
        max_tokens: Some(4),
        ..ask(&engine, "Hello")
    };
    let first = reply(&engine, request.clone()).await;
    for _ in 0..3 {
        assert_eq!(reply(&engine, request.clone()).await, first);
        assert_eq!(engine.health().await, Health::Ready);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_engine_is_replaced() {
    let _turn = TURN.lock().await;
    let engine = engine(EmbeddedOptions::default()).await;
    let request = ask(&engine, "Write a long story about the sea.");
    let before = reply(&engine, request.clone()).await;
    let mut stream = engine
        .chat(ChatRequest {
            max_tokens: Some(500),
            ..request.clone()
        })
        .await
        .expect("a stream");
    stream.next().await.expect("a delta").expect("text");
    engine.crash_for_test().await;
    let error = loop {
        match stream.next().await.expect("an error before the end") {
            Ok(Delta::Text(_)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, EngineError::Interrupted(_)), "{error:?}");
    assert!(stream.next().await.is_none());
    until(&engine, |health| matches!(health, Health::Unavailable(_))).await;
    assert!(matches!(
        engine.chat(request.clone()).await,
        Err(EngineError::Unavailable(_))
    ));
    until(&engine, |health| *health == Health::Ready).await;
    assert_eq!(reply(&engine, request).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_loaded_says_so() {
    let _turn = TURN.lock().await;
    let dir = tempfile::tempdir().expect("a directory");
    let real = model().await;
    let path = dir.path().join("broken.gguf");
    std::fs::write(&path, b"GGUF\x03\0\0\0 and nothing that makes sense").expect("a file");
    let broken = LocalModel {
        weights: habit_engine::models::Weights::Gguf(path),
        ..real
    };
    let error = Embedded::load(broken, EmbeddedOptions::default())
        .await
        .err()
        .expect("an error");
    assert!(
        matches!(&error, EngineError::Unavailable(reason) if reason.contains("broken.gguf")),
        "{error:?}"
    );
}
