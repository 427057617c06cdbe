//! `POST /v1/chat/completions`, whole replies: what clients send, what they get, and every way to be refused.

use std::sync::Arc;

use axum::body::Body;
use habit_engine::EngineError;
use habit_engine::scripted::{Failure, Scripted};
use habit_gateway::testing::{TestApp, request};
use http::{Method, StatusCode};
use serde_json::{Value, json};

const URL: &str = "/v1/chat/completions";

fn ask(text: &str) -> Value {
    json!({"messages": [{"role": "user", "content": text}]})
}

async fn over(engine: Scripted) -> (TestApp, String) {
    let test = TestApp::builder().engine(Arc::new(engine)).build().await;
    let key = test.key("team", "me").await;
    (test, key)
}

#[tokio::test]
async fn answers_in_openais_shape() {
    let (test, key) = over(Scripted::default().reply("Wüff 🐕!")).await;
    let mut body = ask("hi");
    body["model"] = json!("scripted");
    let reply = test.post(URL, &key, &body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.headers["content-type"], "application/json");
    let answer = reply.json();
    let turn = reply.headers["x-habit-turn"].to_str().unwrap();
    assert_eq!(answer["id"], format!("chatcmpl-{}", turn.replace('-', "")));
    assert!(answer["created"].as_i64().unwrap() > 1_700_000_000);
    let expected = json!({
        "id": answer["id"],
        "object": "chat.completion",
        "created": answer["created"],
        "model": "scripted",
        "system_fingerprint": "fp_habit_0.1.0",
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": "Wüff 🐕!", "refusal": null},
            "logprobs": null,
            "finish_reason": "stop",
        }],
        // The double counts a token for every four bytes, and four for a message.
        "usage": {
            "prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0},
        },
    });
    assert_eq!(answer, expected);
    assert!(!reply.headers["x-habit-conversation"].is_empty());
    assert!(!reply.headers["x-request-id"].is_empty());
}

#[tokio::test]
async fn any_way_to_name_the_default_model_will_do() {
    let (test, key) = over(Scripted::new("only")).await;
    for model in [Value::Null, json!(""), json!("default"), json!("only")] {
        let mut body = ask("hi");
        body["model"] = model;
        assert_eq!(test.post(URL, &key, &body).await.json()["model"], "only");
    }
    assert_eq!(
        test.post("/chat/completions", &key, &ask("hi")).await.json()["model"],
        "only"
    );
    assert_eq!(
        test.post("//v1/chat/completions/", &key, &ask("hi")).await.json()["model"],
        "only"
    );
}

#[tokio::test]
async fn limits_and_stops_reach_the_engine() {
    let (test, key) = over(Scripted::default().reply("one two three")).await;
    let choice = async |fields: Value| {
        let mut body = ask("hi");
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let answer = test.post(URL, &key, &body).await.json();
        let choice = &answer["choices"][0];
        (
            choice["message"]["content"].as_str().unwrap().to_owned(),
            choice["finish_reason"].clone(),
        )
    };
    assert_eq!(
        choice(json!({"stop": " three"})).await,
        ("one two".into(), json!("stop"))
    );
    assert_eq!(
        choice(json!({"stop": ["x", "two"]})).await,
        ("one ".into(), json!("stop"))
    );
    assert_eq!(choice(json!({"max_tokens": 1})).await, ("one ".into(), json!("length")));
    assert_eq!(
        choice(json!({"max_completion_tokens": 1, "max_tokens": 99})).await.1,
        json!("length")
    );
}

#[tokio::test]
async fn the_engine_gets_what_the_client_said() {
    let engine = Scripted::default();
    let (test, key) = over(engine.clone()).await;
    let body = json!({
        "messages": [
            {"role": "developer", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        ],
        "temperature": 0.5, "seed": 7, "response_format": {"type": "text"}, "nothing": null, "stream": null,
        "metadata": {"conversation_id": "c1"}, "store": true,
    });
    assert_eq!(test.post(URL, &key, &body).await.status, StatusCode::OK);
    let requests = engine.requests();
    let request = &requests[0];
    assert_eq!(request.messages[0].role.as_str(), "system");
    assert_eq!(request.messages[1].text(), "hi");
    assert_eq!(
        (request.sampling.temperature, request.sampling.seed),
        (Some(0.5), Some(7))
    );
    assert_eq!(
        Value::Object(request.extra.clone()),
        json!({"response_format": {"type": "text"}})
    );
}

/// Asserts OpenAI's error shape; gives the message.
fn refused(reply: &habit_gateway::testing::Reply, status: u16, code: &str, param: Option<&str>) -> String {
    assert_eq!(reply.status.as_u16(), status, "{}", reply.text());
    let body = reply.json();
    let error = &body["error"];
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    assert_eq!(
        (error["code"].as_str(), error["param"].as_str()),
        (Some(code), param),
        "{body}"
    );
    assert!(error["type"].is_string(), "{body}");
    assert!(!reply.headers["x-request-id"].is_empty());
    error["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let test = TestApp::start().await;
    let key = test.key("team", "me").await;
    for (field, value) in [
        ("temperature", json!(3)),
        ("top_p", json!(-1)),
        ("max_tokens", json!(0)),
        ("n", json!(0)),
        ("messages", json!([])),
        ("messages", Value::Null),
    ] {
        let mut body = ask("hi");
        body[field] = value;
        let message = refused(&test.post(URL, &key, &body).await, 400, "invalid_value", Some(field));
        assert!(message.contains(field), "{message}");
    }
    let body = json!({"messages": [{"role": "user", "content": "a"}, {"role": "king", "content": "b"}]});
    let message = refused(
        &test.post(URL, &key, &body).await,
        400,
        "invalid_type",
        Some("messages[1].role"),
    );
    assert!(message.contains("king") && message.contains("assistant"), "{message}");
    let body = json!({"messages": [{"role": "user", "content": "a"}], "metadata": {"conversation_id": "a b"}});
    refused(
        &test.post(URL, &key, &body).await,
        400,
        "invalid_value",
        Some("metadata.conversation_id"),
    );
}

#[tokio::test]
async fn bodies_that_are_not_json_are_refused() {
    let test = TestApp::start().await;
    let key = test.key("team", "me").await;
    let send = async |kind: &str, body: &'static str| {
        let request = request(Method::POST, URL, &key).header("content-type", kind);
        test.call(request.body(Body::from(body)).unwrap()).await
    };
    for body in ["", "{", "hello", "{\"messages\": [}"] {
        refused(&send("application/json", body).await, 400, "invalid_json", None);
    }
    refused(&send("text/plain", "{}").await, 415, "unsupported_media_type", None);
}

#[tokio::test]
async fn too_large_a_body_is_refused() {
    let test = TestApp::builder()
        .config(|config| config.server.body_limit = 1000)
        .build()
        .await;
    let key = test.key("team", "me").await;
    refused(
        &test.post(URL, &key, &ask(&"x".repeat(2000))).await,
        413,
        "request_too_large",
        None,
    );
    assert_eq!(test.post(URL, &key, &ask("hi")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn engine_errors_are_the_clients_to_read() {
    let engine = Scripted::default().window(40);
    let (test, key) = over(engine.clone()).await;
    let mut unknown = ask("hi");
    unknown["model"] = json!("gpt-5");
    let message = refused(
        &test.post(URL, &key, &unknown).await,
        404,
        "model_not_found",
        Some("model"),
    );
    assert!(message.contains("gpt-5") && message.contains("scripted"), "{message}");

    let long = ask(&"x".repeat(400));
    let message = refused(
        &test.post(URL, &key, &long).await,
        400,
        "context_length_exceeded",
        Some("messages"),
    );
    assert!(
        message.contains("40 tokens") && message.contains("104 tokens"),
        "{message}"
    );

    engine.fail_next(Failure::BeforeStream(EngineError::Overloaded {
        running: 1,
        waiting: 8,
        retry_after_s: 3,
    }));
    let reply = test.post(URL, &key, &ask("hi")).await;
    refused(&reply, 429, "overloaded", None);
    assert_eq!(
        (&reply.headers["retry-after"], &reply.headers["retry-after-ms"]),
        (&"3".parse().unwrap(), &"3000".parse().unwrap())
    );

    engine.fail_next(Failure::BeforeStream(EngineError::Unavailable(
        "the engine is starting".into(),
    )));
    let reply = test.post(URL, &key, &ask("hi")).await;
    assert_eq!(
        refused(&reply, 503, "engine_unavailable", None),
        "the engine is starting"
    );
    assert!(reply.headers.contains_key("retry-after"));

    engine.fail_next(Failure::AfterDeltas(
        1,
        EngineError::Interrupted("the engine died".into()),
    ));
    let message = refused(
        &test.post(URL, &key, &ask("one two")).await,
        503,
        "reply_interrupted",
        None,
    );
    assert!(message.contains("the engine died"), "{message}");
    // None of it disturbs the next request.
    assert_eq!(test.post(URL, &key, &ask("hi")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn keys_methods_and_headers_are_checked() {
    let test = TestApp::start().await;
    let key = test.key("team", "me").await;
    let message = refused(&test.post(URL, "", &ask("hi")).await, 401, "invalid_api_key", None);
    assert!(message.contains("Incorrect API key provided"), "{message}");
    refused(&test.get(URL, &key).await, 405, "method_not_allowed", None);
    refused(&test.get("/v1/chat", &key).await, 404, "unknown_url", None);
    let odd = request(Method::POST, URL, &key).header("content-type", "application/json");
    let odd = odd
        .header("x-habit-memory", "maybe")
        .body(Body::from(ask("hi").to_string()))
        .unwrap();
    let message = refused(&test.call(odd).await, 400, "invalid_value", Some("X-Habit-Memory"));
    assert!(message.contains("off, read, write or on"), "{message}");
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place() {
    let (engine, gate) = Scripted::default().reply("one two").gated();
    let (test, key) = over(engine.clone()).await;
    let body = ask("hi");
    let mut call = Box::pin(test.post(URL, &key, &body));
    let mut polls = 0;
    while engine.active() == 0 {
        assert!(futures::poll!(&mut call).is_pending());
        tokio::task::yield_now().await;
        polls += 1;
        assert!(polls < 1_000_000, "the engine was not asked");
    }
    gate.release(1);
    assert!(futures::poll!(&mut call).is_pending());
    drop(call);
    assert_eq!(engine.active(), 0);
}

#[tokio::test]
async fn several_replies_are_asked_for_one_by_one_and_one_is_remembered() {
    let engine = Scripted::default().replies(["first", "second", "third"]);
    let (test, key) = over(engine.clone()).await;
    let mut body = ask("hi");
    body["n"] = json!(3);
    body["seed"] = json!(10);
    let reply = test.post(URL, &key, &body).await;
    let answer = reply.json();
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 3, "{answer}");
    for (place, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], place);
        assert_eq!(choice["finish_reason"], "stop");
    }
    assert_eq!(choices[0]["message"]["content"], "first");
    // Two tokens each, and the prompt once.
    assert_eq!(answer["usage"]["prompt_tokens"], 5);
    assert_eq!(answer["usage"]["completion_tokens"], 6);
    let mut seeds: Vec<_> = engine.requests().iter().map(|request| request.sampling.seed).collect();
    seeds.sort_unstable();
    assert_eq!(seeds, [Some(10), Some(11), Some(12)]);
    assert!(engine.requests().iter().all(|request| !request.extra.contains_key("n")));
    let turns = test.get("/v1/turns", &key).await.json();
    let turns = turns["data"].as_array().unwrap();
    assert_eq!(turns.iter().filter(|turn| turn["remember"] == true).count(), 1);
    let conversation = reply.headers["x-habit-conversation"].to_str().unwrap();
    assert!(
        turns.iter().all(|turn| turn["conversation"] == conversation),
        "{turns:?}"
    );
}

#[tokio::test]
async fn an_error_in_one_of_several_replies_is_the_requests() {
    let engine = Scripted::default();
    let (test, key) = over(engine.clone()).await;
    engine.fail_next(Failure::AfterDeltas(9, EngineError::Interrupted("never".into())));
    engine.fail_next(Failure::AfterDeltas(
        0,
        EngineError::Interrupted("the engine died".into()),
    ));
    let mut body = ask("hi");
    body["n"] = json!(2);
    refused(&test.post(URL, &key, &body).await, 503, "reply_interrupted", None);
    assert_eq!(engine.active(), 0);
}

#[tokio::test]
async fn probabilities_come_in_openais_shape() {
    let (test, key) = over(Scripted::default().reply("one two")).await;
    let mut body = ask("hi");
    body["logprobs"] = json!(true);
    body["top_logprobs"] = json!(2);
    let answer = test.post(URL, &key, &body).await.json();
    let logprobs = &answer["choices"][0]["logprobs"];
    assert_eq!(logprobs["refusal"], Value::Null);
    let tokens = logprobs["content"].as_array().unwrap();
    assert_eq!(tokens.len(), 2, "{answer}");
    assert_eq!(
        (&tokens[1]["token"], &tokens[1]["bytes"]),
        (&json!("two"), &json!([116, 119, 111]))
    );
    assert!((tokens[1]["logprob"].as_f64().unwrap() + std::f64::consts::LN_2).abs() < 1e-9);
    assert_eq!(tokens[1]["top_logprobs"][1]["token"], "no");
}

#[tokio::test]
async fn tool_calls_and_reasoning_come_in_openais_shape() {
    use habit_engine::{Delta, FinishReason};
    let call = |piece: Value| Delta::ToolCall(piece);
    let deltas = [
        Delta::Reasoning("hm".into()),
        call(json!({"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": ""}})),
        call(json!({"index": 0, "function": {"arguments": "{\"at\":"}})),
        call(json!({"index": 0, "function": {"arguments": "1}"}})),
    ];
    let (test, key) = over(Scripted::default().sending(deltas, FinishReason::ToolCalls)).await;
    let mut body = ask("hi");
    body["service_tier"] = json!("auto");
    let answer = test.post(URL, &key, &body).await.json();
    assert_eq!(answer["service_tier"], "default");
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let expected = json!({
        "role": "assistant", "content": null, "refusal": null, "reasoning_content": "hm",
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{\"at\":1}"}}],
    });
    assert_eq!(choice["message"], expected);
}
