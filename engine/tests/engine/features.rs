//! The optional fields of a request with a real model, on both engines of this process: `HABIT_TEST_MODEL` (a path or a
//! name), or else the default chat model, which is fetched once and kept in the target directory.

#![cfg(feature = "embedded")]

use std::{path::Path, sync::Arc};

use futures::{StreamExt, future::join_all};
use habit_engine::{
    ChatRequest, Delta, Engine, EngineError, FinishReason, Message, RawPrompt, Role, Sampling, TokenLogprob, Usage,
    embedded::{Embedded, EmbeddedOptions},
    models::{DEFAULT_CHAT, LocalModel, Silent, Store},
    native::{Native, NativeOptions},
};
use serde_json::{Value, json};

use crate::TURN;

/// A reply, read to its end.
#[derive(Debug, Default)]
struct Reply {
    text: String,
    reasoning: String,
    /// Names and arguments.
    calls: Vec<(String, String)>,
    logprobs: Vec<TokenLogprob>,
    end: Option<(FinishReason, Usage)>,
}

impl Reply {
    fn reason(&self) -> FinishReason {
        self.end.expect("an end").0
    }

    fn usage(&self) -> Usage {
        self.end.expect("an end").1
    }
}

async fn model() -> LocalModel {
    let spec = std::env::var("HABIT_TEST_MODEL").unwrap_or_else(|_| DEFAULT_CHAT.to_owned());
    let store = Store::open(Path::new(env!("CARGO_TARGET_TMPDIR")).join("models")).expect("a store");
    store.resolve(&spec, Arc::new(Silent)).await.expect("a model")
}

fn ask(engine: &dyn Engine, text: &str, extra: Value) -> ChatRequest {
    let Value::Object(extra) = extra else {
        panic!("an object")
    };
    ChatRequest {
        model: engine.models()[0].id.clone(),
        messages: vec![Message::new(Role::User, text)],
        sampling: Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        },
        max_tokens: Some(16),
        extra,
        ..ChatRequest::default()
    }
}

async fn read(engine: &dyn Engine, request: ChatRequest) -> Reply {
    let mut stream = engine.chat(request).await.expect("a stream");
    let mut reply = Reply::default();
    while let Some(delta) = stream.next().await {
        match delta.expect("no error") {
            Delta::Text(text) => reply.text.push_str(&text),
            Delta::Reasoning(text) => reply.reasoning.push_str(&text),
            Delta::Logprobs(tokens) => reply.logprobs.extend(tokens),
            Delta::ToolCall(call) => {
                let index = call["index"].as_u64().expect("an index") as usize;
                if let Some(name) = call["function"]["name"].as_str() {
                    assert_eq!(index, reply.calls.len());
                    reply.calls.push((name.to_owned(), String::new()));
                }
                let arguments = call["function"]["arguments"].as_str().expect("arguments");
                reply.calls[index].1.push_str(arguments);
            }
            Delta::Finish { reason, usage } => reply.end = Some((reason, usage)),
            Delta::StopString(_) | Delta::Written(_) => {}
        }
    }
    reply
}

async fn refusal(engine: &dyn Engine, request: ChatRequest) -> (String, String) {
    match engine.chat(request).await.err() {
        Some(EngineError::Rejected {
            message,
            param: Some(param),
        }) => (param, message),
        other => panic!("{other:?}"),
    }
}

/// The natural logarithm of each token's probability, by the plain definition.
fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
    logits.iter().map(|logit| f64::from(logit - max) - sum.ln()).collect()
}

async fn native() -> Native {
    Native::load(model().await, NativeOptions::default())
        .await
        .expect("an engine")
}

#[tokio::test(flavor = "multi_thread")]
async fn natively_fields_are_honoured() {
    let _turn = TURN.lock().await;
    let native = native().await;
    all(&native, &native, 1e-3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_fields_are_honoured() {
    let _turn = TURN.lock().await;
    let options = EmbeddedOptions::default();
    let embedded = Embedded::load(model().await, options).await.expect("an engine");
    // mistral.rs computes with other kernels, so its figures differ: by half a unit where a token is unlikely.
    all(&embedded, &native().await, 0.6).await;
}

/// One after the other, so that a model is loaded once.
async fn all(engine: &dyn Engine, reference: &Native, within: f64) {
    probabilities_are_those_of_the_logits(engine, reference, within).await;
    echoes_have_probabilities(engine, reference, within).await;
    tokens_are_forced_banned_and_ends_obeyed(engine).await;
    tools_are_called(engine).await;
    schemas_are_kept(engine).await;
    prompts_are_made_as_asked(engine).await;
    seeds_repeat(engine).await;
}

async fn probabilities_are_those_of_the_logits(engine: &dyn Engine, reference: &Native, within: f64) {
    // Bias and penalties change what is chosen, not what is told.
    let mut request = ask(
        engine,
        "Say: crab 🦀",
        json!({"logprobs": true, "top_logprobs": 3, "logit_bias": {"28": 1}}),
    );
    request.sampling.frequency_penalty = Some(0.5);
    let counter = engine.token_counter(&request.model).expect("a counter");
    let reply = read(engine, request.clone()).await;
    let bytes: Vec<u8> = reply.logprobs.iter().flat_map(|token| token.bytes.clone()).collect();
    assert_eq!(String::from_utf8_lossy(&bytes), reply.text);

    let prompt = counter.render(&request).expect("a prompt").expect("text");
    let prompt = counter.encode(&prompt).expect("tokens");
    let said = counter.encode(&reply.text).expect("tokens");
    let logits = reference
        .prompt_logits([prompt.clone(), said.clone()].concat())
        .await
        .expect("logits");
    for (at, (token, id)) in reply.logprobs.iter().zip(&said).enumerate() {
        let want = log_softmax(&logits[prompt.len() - 1 + at]);
        let difference = token.logprob - want[*id as usize];
        assert!(difference.abs() < within, "{token:?} is off by {difference}");
        let mut sorted = want.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        assert_eq!(token.top.len(), 3);
        for (top, want) in token.top.iter().zip(sorted) {
            assert!((top.logprob - want).abs() < within, "{top:?} is not {want}");
        }
    }
    assert!(reply.logprobs.len() >= 3, "{reply:?}");

    // Tokens of a stop string are not told.
    let stop: String = reply.text.chars().skip(2).take(2).collect();
    let stopped = read(
        engine,
        ChatRequest {
            stop: vec![stop],
            ..request
        },
    )
    .await;
    let told: Vec<u8> = stopped.logprobs.iter().flat_map(|token| token.bytes.clone()).collect();
    assert!(String::from_utf8_lossy(&told).starts_with(&stopped.text), "{stopped:?}");
    assert!(stopped.logprobs.len() < reply.logprobs.len());
}

async fn echoes_have_probabilities(engine: &dyn Engine, reference: &Native, within: f64) {
    let text = "The capital of France is Paris.";
    let request = ChatRequest {
        raw: Some(RawPrompt::Text {
            prompt: text.to_owned(),
            suffix: None,
        }),
        messages: Vec::new(),
        max_tokens: Some(0),
        ..ask(engine, "", json!({"echo": true, "logprobs": true, "top_logprobs": 1}))
    };
    let reply = read(engine, request.clone()).await;
    let tokens = engine
        .token_counter(&request.model)
        .expect("a counter")
        .encode(text)
        .expect("tokens");
    assert_eq!(reply.text, "");
    assert_eq!(
        (reply.usage().prompt_tokens, reply.usage().completion_tokens),
        (tokens.len(), 0)
    );
    assert_eq!(reply.logprobs.len(), tokens.len());
    assert!(reply.logprobs[0].logprob.is_nan());
    let logits = reference.prompt_logits(tokens.clone()).await.expect("logits");
    for (at, token) in reply.logprobs.iter().enumerate().skip(1) {
        let want = log_softmax(&logits[at - 1])[tokens[at] as usize];
        assert!((token.logprob - want).abs() < within * 2.0, "{token:?} is not {want}");
    }
    let more = read(
        engine,
        ChatRequest {
            max_tokens: Some(2),
            ..request.clone()
        },
    )
    .await;
    assert_eq!(
        (more.logprobs.len(), more.usage().completion_tokens),
        (tokens.len() + 2, 2)
    );
    let plain = ChatRequest {
        max_tokens: Some(2),
        extra: serde_json::Map::new(),
        ..request
    };
    assert_eq!(read(engine, plain.clone()).await.text, more.text);
    let gap = ChatRequest {
        raw: Some(RawPrompt::Text {
            prompt: "a".to_owned(),
            suffix: Some("b".to_owned()),
        }),
        ..plain
    };
    assert_eq!(refusal(engine, gap).await.0, "suffix");
}

async fn tokens_are_forced_banned_and_ends_obeyed(engine: &dyn Engine) {
    let hello = || {
        ask(
            engine,
            "What is the capital of France? Answer in one short sentence.",
            json!({}),
        )
    };
    let with = |extra: Value| ChatRequest {
        extra: extra.as_object().expect("an object").clone(),
        ..hello()
    };
    let counter = engine.token_counter(&hello().model).expect("a counter");
    let token = counter.encode(" crab").expect("tokens")[0];
    let forced = read(
        engine,
        ChatRequest {
            max_tokens: Some(3),
            ..with(json!({"logit_bias": {token.to_string(): 100}}))
        },
    )
    .await;
    assert_eq!(forced.text, counter.decode(&[token]).expect("text").repeat(3));
    let usual = read(engine, hello()).await;
    let first = counter.encode(&usual.text).expect("tokens")[0];
    let banned = read(engine, with(json!({"logit_bias": {first.to_string(): -100}}))).await;
    assert!(
        !banned.text.starts_with(&counter.decode(&[first]).expect("text")),
        "{banned:?}"
    );
    let stopped = read(engine, with(json!({"stop_token_ids": [first]}))).await;
    assert_eq!((stopped.text.as_str(), stopped.reason()), ("", FinishReason::Stop));
    assert_eq!(usual.reason(), FinishReason::Stop, "{usual:?}");
    let endless = read(engine, with(json!({"ignore_eos": true}))).await;
    assert_eq!(
        (endless.usage().completion_tokens, endless.reason()),
        (16, FinishReason::Length)
    );
    let least = usual.usage().completion_tokens + 2;
    let longer = read(engine, with(json!({"min_tokens": least}))).await;
    assert!(longer.usage().completion_tokens > least.min(15), "{longer:?}");
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "get_weather", "description": "The weather in a city.", "parameters":
        {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"enum": ["c", "f"]}},
        "required": ["city", "unit"]}}},
        {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties":
        {"a": {"type": "integer", "maximum": 99, "minimum": 0}}, "required": ["a"]}}}])
}

async fn tools_are_called(engine: &dyn Engine) {
    let with = |extra: Value| ChatRequest {
        max_tokens: Some(60),
        ..ask(engine, "What is the weather in Paris?", extra)
    };
    let named = json!({"tools": tools(), "tool_choice": {"type": "function", "function": {"name": "add"}},
        "response_format": {"type": "json_object"}});
    let named = read(engine, with(named)).await;
    assert_eq!(
        (named.calls.len(), named.reason(), named.text.as_str()),
        (1, FinishReason::ToolCalls, ""),
        "{named:?}"
    );
    assert_eq!(named.calls[0].0, "add");
    let arguments: Value = serde_json::from_str(&named.calls[0].1).expect("JSON");
    assert!(arguments["a"].is_u64(), "{arguments}");

    let required = json!({"tools": tools(), "tool_choice": "required"});
    let required = read(engine, with(required)).await;
    assert_eq!(
        (required.calls.len(), required.reason()),
        (1, FinishReason::ToolCalls),
        "{required:?}"
    );
    let several = read(
        engine,
        with(json!({"tools": tools(), "tool_choice": "required", "parallel_tool_calls": true})),
    )
    .await;
    assert!(!several.calls.is_empty() && several.text.is_empty(), "{several:?}");
    // The last may be cut.
    for (name, arguments) in several.calls.iter().take(1) {
        let arguments: Value = serde_json::from_str(arguments).expect("JSON");
        assert!(name == "add" || arguments["city"].is_string() && arguments["unit"].is_string());
    }

    // A call that the model begins by itself is kept to its form: here it begins with what the prompt ends with.
    let mut begun = with(json!({"tools": tools(), "logprobs": true}));
    begun
        .messages
        .insert(0, Message::new(Role::System, "You always answer with <tool_call>."));
    let auto = read(engine, begun).await;
    for (_, arguments) in &auto.calls {
        let arguments = serde_json::from_str::<Value>(arguments);
        assert!(arguments.is_ok() || auto.reason() == FinishReason::Length, "{auto:?}");
    }
    let none = read(engine, with(json!({"tools": tools(), "tool_choice": "none"}))).await;
    assert!(none.calls.is_empty() && !none.text.is_empty());

    let unknown = json!({"tools": tools(), "tool_choice": {"type": "function", "function": {"name": "fly"}}});
    let (param, message) = refusal(engine, with(unknown)).await;
    assert!(param == "tool_choice" && message.contains("`fly`"), "{message}");
    let broken = json!([{"type": "function", "function": {"name": "bad", "parameters": {"type": "nothing"}}}]);
    let (param, message) = refusal(engine, with(json!({"tools": broken}))).await;
    assert!(param == "tools" && message.contains("`bad`"), "{message}");
}

async fn schemas_are_kept(engine: &dyn Engine) {
    let with = |schema: Value, extra: Value| {
        let mut request = ask(engine, "Describe a cat as JSON.", extra);
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        request.extra.insert("response_format".to_owned(), format);
        request.max_tokens = Some(60);
        request
    };
    let draft7 = json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
        "definitions": {"colour": {"enum": ["black", "white"]}}, "properties": {"colour": {"$ref": "#/definitions/colour"},
        "age": {"anyOf": [{"type": "integer", "maximum": 30, "minimum": 0}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 2, "uniqueItems": true}},
        "required": ["colour", "age", "tags"]});
    for (extra, stop) in [
        (json!({}), vec![]),
        (json!({"logprobs": true}), vec!["\n".to_owned(), "black".to_owned()]),
        (json!({"tools": tools()}), vec![]),
    ] {
        let request = ChatRequest {
            stop: stop.clone(),
            ..with(draft7.clone(), extra)
        };
        let reply = read(engine, request).await;
        if reply.calls.is_empty() {
            let cat: Value = serde_json::from_str(&reply.text).unwrap_or_else(|error| panic!("{error}: {reply:?}"));
            assert!(
                ["black", "white"].contains(&cat["colour"].as_str().expect("a colour")),
                "{cat}"
            );
            assert!(cat["tags"].as_array().expect("a list").len() <= 2, "{cat}");
            assert!(stop.iter().all(|stop| !reply.text.contains(stop)), "{reply:?}");
        }
    }
    let object = ChatRequest {
        max_tokens: Some(20),
        ..ask(
            engine,
            "Give me JSON.",
            json!({"response_format": {"type": "json_object"}}),
        )
    };
    let reply = read(engine, object).await;
    assert!(reply.text.starts_with('{'), "{reply:?}");
    assert!(
        reply.reason() == FinishReason::Length || serde_json::from_str::<Value>(&reply.text).is_ok(),
        "{reply:?}"
    );
    let (param, _) = refusal(engine, with(json!({"type": "nothing"}), json!({}))).await;
    assert_eq!(param, "response_format");
}

async fn prompts_are_made_as_asked(engine: &dyn Engine) {
    let thinking = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
        <|im_start|>assistant\n{% if enable_thinking is not defined or enable_thinking %}<think>\n{% endif %}";
    let thoughts = read(
        engine,
        ask(engine, "Hello", json!({"chat_template": thinking, "ignore_eos": true})),
    )
    .await;
    assert!(
        thoughts.text.is_empty() && !thoughts.reasoning.is_empty(),
        "{thoughts:?}"
    );
    assert_eq!(thoughts.usage().reasoning_tokens, 16);
    let plain = json!({"chat_template": thinking, "reasoning_effort": "none"});
    let plain = read(engine, ask(engine, "Hello", plain)).await;
    assert!(
        plain.reasoning.is_empty() && !plain.text.is_empty() && plain.usage().reasoning_tokens == 0,
        "{plain:?}"
    );

    let mut begun = ask(
        engine,
        "What is the capital of France?",
        json!({"continue_final_message": true}),
    );
    begun
        .messages
        .push(Message::new(Role::Assistant, "The capital of France is the city of"));
    let rest = read(engine, begun).await;
    assert!(rest.text.starts_with(" Paris"), "{rest:?}");
}

async fn seeds_repeat(engine: &dyn Engine) {
    let with = |seed: u64| {
        let mut request = ask(engine, "Tell me a story about a fox.", json!({}));
        request.sampling = Sampling {
            temperature: Some(1.0),
            seed: Some(seed),
            ..Sampling::default()
        };
        request
            .messages
            .insert(0, Message::new(Role::User, format!("I am number {}.", seed % 3)));
        request
            .messages
            .insert(1, Message::new(Role::Assistant, "Hello, how can I help you today?"));
        request
    };
    let mut alone = Vec::new();
    for seed in 0..4 {
        alone.push(read(engine, with(seed)).await.text);
    }
    assert_ne!(alone[0], alone[3], "seeds differ");
    let together = join_all((0..16).map(|place| read(engine, with(place % 4)))).await;
    for (place, reply) in together.iter().enumerate() {
        assert_eq!(reply.text, alone[place % 4], "reply {place}");
    }
}
