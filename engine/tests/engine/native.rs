//! The native engine with a real model: `HABIT_TEST_MODEL` (a path or a name), or else the default chat model, which is
//! fetched once and kept in the target directory.

mod layouts;
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use candle_core::{Device, Tensor, quantized::gguf_file};
use candle_transformers::models::quantized_llama::ModelWeights;
use futures::{StreamExt, future::join_all};
use habit_engine::{
    ChatRequest, Delta, DeltaStream, Engine, EngineError, FinishReason, Health, Message, Role, Sampling, Usage,
    models::{DEFAULT_CHAT, LocalModel, Silent, Store, Weights},
    native::{Native, NativeOptions},
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

async fn engine(options: NativeOptions) -> Native {
    Native::load(model().await, options).await.expect("an engine")
}

fn ask(engine: &Native, text: &str) -> ChatRequest {
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

async fn reply(engine: &Native, request: ChatRequest) -> Reply {
    read(engine.chat(request).await.expect("a stream"))
        .await
        .expect("a reply")
}

/// A `response_format` that no window is long enough for.
fn endless() -> Value {
    let list = json!({"type": "array", "items": {"type": "integer"}, "minItems": 5000});
    json!({"type": "json_schema", "json_schema": {"name": "list", "schema": list}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_is_right_and_counted() {
    let _turn = TURN.lock().await;
    let engine = engine(NativeOptions::default()).await;
    assert_eq!(engine.health().await, Health::Ready);
    let request = ask(&engine, "What is the capital of France? Answer in one short sentence.");
    let counter = engine.token_counter(&request.model).expect("a counter");
    let first = reply(&engine, request.clone()).await;
    assert!(first.text.contains("Paris"), "{first:?}");
    assert_eq!(
        (first.usage.prompt_tokens, first.usage.cached_tokens),
        (counter.count_chat(&request.messages).expect("a count"), 0)
    );

    // The next turn reads only what is new, and says so.
    let mut next = request;
    next.messages.push(Message::new(Role::Assistant, first.text));
    next.messages
        .push(Message::new(Role::User, "And what river runs through it?"));
    let strangers = ChatRequest {
        tenant: "another".to_owned(),
        ..next.clone()
    };
    let second = reply(&engine, next).await;
    assert!(second.text.contains("Seine"), "{second:?}");
    let before = first.usage.prompt_tokens + first.usage.completion_tokens;
    assert!(
        (before - 2..=before).contains(&second.usage.cached_tokens),
        "{second:?} after {before}"
    );
    // Nobody gets anything from what another's conversation left behind.
    let alone = reply(&engine, strangers).await;
    assert_eq!((alone.text, alone.usage.cached_tokens), (second.text, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_laws() {
    let _turn = TURN.lock().await;
    let options = NativeOptions {
        context_window: Some(512),
        ..NativeOptions::default()
    };
    let engine = engine(options).await;
    let model = engine.models()[0].id.clone();
    laws::engine(Arc::new(engine), &model, laws::Says::Anything).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_ends_its_replies_and_nothing_else() {
    let _turn = TURN.lock().await;
    let engine = engine(NativeOptions::default()).await;
    let question = ask(&engine, "Write a long story about the sea.");
    let before = reply(&engine, question.clone()).await;
    let endless_one = ChatRequest {
        max_tokens: Some(2000),
        extra: [("ignore_eos".to_owned(), json!(true))].into_iter().collect(),
        ..question.clone()
    };
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = engine.chat(endless_one.clone()).await.expect("a stream");
        stream.next().await.expect("a delta").expect("text");
        streams.push(stream);
    }
    engine.crash_for_test();
    for mut stream in streams {
        let error = loop {
            match stream.next().await.expect("an error before the end") {
                Ok(Delta::Text(_)) => {}
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, EngineError::Interrupted(_)), "{error:?}");
        assert!(stream.next().await.is_none());
    }
    // It runs on at once, with an empty cache.
    assert_eq!(engine.health().await, Health::Ready);
    let after = reply(&engine, question).await;
    assert_eq!((after.text, after.usage.cached_tokens), (before.text, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seeds_text_is_the_same_alone_among_others_and_from_a_warm_cache() {
    let _turn = TURN.lock().await;
    let cold = NativeOptions {
        prefix_cache_bytes: 0,
        ..NativeOptions::default()
    };
    let (cold, warm) = (engine(cold).await, engine(NativeOptions::default()).await);
    let with = |seed: u64| {
        let mut request = ask(&cold, &format!("Tell me a short story about fox number {}.", seed % 5));
        request.sampling = Sampling {
            temperature: Some(1.0),
            top_p: Some(0.95),
            seed: Some(seed),
            ..Sampling::default()
        };
        // Prompts of different lengths, so that prompts and replies are computed side by side.
        request.messages[0] = Message::new(
            Role::User,
            format!(
                "{}{}",
                "Once upon a time. ".repeat(seed as usize % 7 * 3),
                request.messages[0].text()
            ),
        );
        request
    };
    let mut alone = Vec::new();
    for seed in 0..17 {
        alone.push(reply(&cold, with(seed)).await);
    }
    assert_ne!(alone[0].text, alone[5].text);
    let together = join_all((0..17).map(|seed| reply(&cold, with(seed)))).await;
    assert_eq!(together, alone);
    for _ in 0..2 {
        let cached = join_all((0..17).map(|seed| reply(&warm, with(seed)))).await;
        for (cached, alone) in cached.iter().zip(&alone) {
            assert_eq!(cached.text, alone.text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logits_are_those_of_the_reference_and_the_same_in_any_chunk() {
    let _turn = TURN.lock().await;
    let model = model().await;
    let Weights::Gguf(path) = model.weights.clone() else {
        panic!("a GGUF file")
    };
    let engine = Native::load(model, NativeOptions::default()).await.expect("an engine");
    let question = ask(&engine, "Why is the sky blue? Explain in two sentences.");
    let answer = reply(
        &engine,
        ChatRequest {
            max_tokens: Some(40),
            ..question.clone()
        },
    )
    .await;
    let prompt: Vec<u32> = (0..40).map(|n| 500 + n * 7).collect();
    assert!(answer.usage.completion_tokens >= 30, "{answer:?}");

    let mut file = std::fs::File::open(path).expect("a file");
    let content = gguf_file::Content::read(&mut file).expect("GGUF");
    let mut reference = ModelWeights::from_gguf(content, &mut file, &Device::Cpu).expect("the reference");
    let mut tokens = prompt.clone();
    let mut worst = 0f32;
    for step in 0..32 {
        let (from, new) = if step == 0 {
            (0, &tokens[..])
        } else {
            (tokens.len() - 1, &tokens[tokens.len() - 1..])
        };
        let input = Tensor::new(new, &Device::Cpu)
            .and_then(|t| t.unsqueeze(0))
            .expect("tokens");
        let logits = reference
            .forward(&input, from)
            .and_then(|t| t.flatten_all())
            .expect("logits");
        let want: Vec<f32> = logits.to_vec1().expect("floats");
        let rows = engine.prompt_logits(tokens.clone()).await.expect("logits");
        let got = rows.last().expect("a row");
        let difference = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        worst = worst.max(difference);
        let best = |row: &[f32]| (0u32..).zip(row).max_by(|a, b| a.1.total_cmp(b.1)).expect("a token").0;
        assert_eq!(best(got), best(&want), "step {step}");
        tokens.push(best(got));
    }
    println!("worst difference of a logit: {worst}");
    // The reference rounds what it multiplies to 8 bits, this engine does not.
    assert!(worst < 2.0, "{worst}");

    // All rows at once, or each prefix on its own: the same bits.
    let all = engine.prompt_logits(tokens.clone()).await.expect("logits");
    for length in [1, 2, 5, tokens.len() - 1] {
        let some = engine.prompt_logits(tokens[..length].to_vec()).await.expect("logits");
        assert_eq!(some[..], all[..length]);
    }
    let long: Vec<u32> = tokens.iter().copied().cycle().take(200).collect();
    let chunked = engine.prompt_logits(long).await.expect("logits");
    assert_eq!(chunked[..tokens.len()], all[..]);
    let error = engine.prompt_logits(vec![u32::MAX]).await.err();
    assert!(matches!(error, Some(EngineError::Rejected { .. })), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_end_where_they_must() {
    let _turn = TURN.lock().await;
    let engine = engine(NativeOptions {
        context_window: Some(300),
        ..NativeOptions::default()
    })
    .await;
    assert_eq!(engine.models()[0].context_window, Some(300));
    let count = ask(&engine, "Count from one to twenty in words, separated by commas.");
    let short = ChatRequest {
        max_tokens: Some(5),
        ..count.clone()
    };
    let short = reply(&engine, short).await;
    assert_eq!((short.reason, short.usage.completion_tokens), (FinishReason::Length, 5));

    let whole = reply(&engine, count.clone()).await;
    let stop: String = whole.text.chars().skip(4).take(6).collect();
    let stopped = ChatRequest {
        stop: vec![stop.clone()],
        ..count.clone()
    };
    let stopped = reply(&engine, stopped).await;
    assert_eq!(stopped.reason, FinishReason::Stop);
    assert!(whole.text.starts_with(&stopped.text) && !stopped.text.contains(&stop));

    let long = "word ".repeat(400);
    let error = engine.chat(ask(&engine, &long)).await.err();
    assert!(
        matches!(error, Some(EngineError::ContextLengthExceeded { limit: 300, .. })),
        "{error:?}"
    );
    let unknown = ChatRequest {
        model: "nobody".to_owned(),
        ..count.clone()
    };
    assert!(matches!(
        engine.chat(unknown).await.err(),
        Some(EngineError::UnknownModel { .. })
    ));

    // A reply that only the window ends.
    let mut endless_one = ChatRequest {
        max_tokens: None,
        ..count
    };
    endless_one.extra.insert("response_format".to_owned(), endless());
    let end = reply(&engine, endless_one).await;
    assert_eq!(end.usage.prompt_tokens + end.usage.completion_tokens, 300, "{end:?}");
    assert_eq!(end.reason, FinishReason::Length);
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_are_kept() {
    let _turn = TURN.lock().await;
    let engine = engine(NativeOptions::default()).await;
    let schema = json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 20},
        "big": {"type": "boolean"}}, "required": ["city", "big"], "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"name": "city", "strict": true, "schema": schema}});
    let mut request = ask(&engine, "Name a city.");
    request.max_tokens = Some(64);
    request.extra.insert("response_format".to_owned(), format);
    let answer = reply(&engine, request).await;
    let value: Value = serde_json::from_str(&answer.text).expect("JSON");
    assert!(value["city"].is_string() && value["big"].is_boolean(), "{answer:?}");
    assert_eq!(answer.reason, FinishReason::Stop);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stream_frees_its_place() {
    let _turn = TURN.lock().await;
    let engine = engine(NativeOptions {
        parallel: 2,
        ..NativeOptions::default()
    })
    .await;
    // Replies that can't end by themselves and take minutes: two run, and one waits.
    let mut long = ChatRequest {
        max_tokens: None,
        ..ask(&engine, "Count.")
    };
    long.extra.insert("response_format".to_owned(), endless());
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = engine.chat(long.clone()).await.expect("a stream");
        stream.next().await.expect("a delta").expect("text");
        streams.push(stream);
    }
    let mut waiting = engine.chat(long).await.expect("a stream");
    assert!(futures::poll!(waiting.next()).is_pending());
    drop(waiting);
    drop(streams);
    let begun = Instant::now();
    let short = ChatRequest {
        max_tokens: Some(5),
        ..ask(&engine, "Hello")
    };
    reply(&engine, short).await;
    assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_says_so() {
    let _turn = TURN.lock().await;
    let dir = tempfile::tempdir().expect("a directory");
    let real = model().await;
    let Weights::Gguf(path) = &real.weights else {
        panic!("a GGUF file")
    };
    let whole = std::fs::read(path).expect("a file");
    let short = dir.path().join("short.gguf");
    let cases: [(&str, &[u8]); 3] = [
        ("cut short", &whole[..whole.len() / 2]),
        ("GGUF", &whole[..1000]),
        ("GGUF", b"GGUF\x03\0\0\0 and nothing that makes sense"),
    ];
    for (reason, bytes) in cases {
        std::fs::write(&short, bytes).expect("a file");
        let broken = LocalModel {
            weights: Weights::Gguf(short.clone()),
            ..real.clone()
        };
        let error = Native::load(broken, NativeOptions::default()).await.err();
        assert!(
            matches!(&error, Some(EngineError::Unavailable(text)) if text.contains(reason) && text.contains("short.gguf")),
            "{error:?}"
        );
    }
    let other = LocalModel {
        weights: Weights::Safetensors(dir.path().to_owned()),
        ..real
    };
    let error = Native::load(other, NativeOptions::default()).await.err();
    assert!(
        matches!(&error, Some(EngineError::Unavailable(text)) if text.contains("GGUF")),
        "{error:?}"
    );
}
