//! Calls on `POST /v1/chat/completions`: with tools, and with the functions that came before them.

use std::sync::Arc;

use habit_engine::scripted::Scripted;
use habit_engine::{Delta, FinishReason};
use habit_gateway::testing::TestApp;
use http::StatusCode;
use serde_json::{Value, json};

const URL: &str = "/v1/chat/completions";

async fn over(engine: &Scripted) -> (TestApp, String) {
    let test = TestApp::builder().engine(Arc::new(engine.clone())).build().await;
    let key = test.key("team", "me").await;
    (test, key)
}

fn calling() -> Scripted {
    let pieces = [
        json!({"index": 0, "id": "call_a", "type": "function", "function": {"name": "look", "arguments": ""}}),
        json!({"index": 0, "function": {"arguments": "{\"at\":1}"}}),
    ];
    Scripted::default().sending(pieces.map(Delta::ToolCall), FinishReason::ToolCalls)
}

/// A request with these fields beside its message.
fn asked(fields: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    body
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}])
}

/// What the chunks of a stream add, and how it ended.
async fn streamed(engine: &Scripted, fields: Value) -> (Vec<Value>, Value) {
    let (test, key) = over(engine).await;
    let mut body = asked(fields);
    body["stream"] = json!(true);
    let reply = test.post(URL, &key, &body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let text = reply.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: {"));
    let chunks: Vec<Value> = data
        .map(|data| serde_json::from_str(&format!("{{{data}")).unwrap())
        .collect();
    let end = chunks.last().unwrap()["choices"][0]["finish_reason"].clone();
    let deltas = chunks.into_iter().map(|mut chunk| chunk["choices"][0]["delta"].take());
    (deltas.collect(), end)
}

#[tokio::test]
async fn a_stream_that_begins_with_a_call_says_so_in_its_first_chunk() {
    let (deltas, end) = streamed(&calling(), json!({"tools": tools()})).await;
    let first = json!({"role": "assistant", "content": null, "tool_calls": [
        {"index": 0, "id": "call_a", "type": "function", "function": {"name": "look", "arguments": ""}}]});
    let next = json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"at\":1}"}}]});
    assert_eq!(deltas, [first, next, json!({})]);
    assert_eq!(end, "tool_calls");
}

#[tokio::test]
async fn a_stream_of_text_begins_as_ever_where_there_are_tools() {
    let role = json!({"role": "assistant", "content": ""});
    let (deltas, _) = streamed(
        &Scripted::default().reply("no call"),
        json!({"tools": tools(), "logprobs": true}),
    )
    .await;
    assert_eq!(
        deltas,
        [
            role.clone(),
            json!({"content": "no "}),
            json!({"content": "call"}),
            json!({})
        ]
    );
    let (deltas, _) = streamed(&Scripted::default().reply(""), json!({"tools": tools()})).await;
    assert_eq!(deltas.first(), Some(&role));
    let (deltas, _) = streamed(&Scripted::default().reply("a"), json!({"tools": tools(), "n": 2})).await;
    assert_eq!(deltas.iter().filter(|delta| **delta == role).count(), 2);
    let thinks = [Delta::Reasoning("hm".into())];
    let thinks = Scripted::default().sending(thinks.into_iter().chain(calls_only()), FinishReason::ToolCalls);
    let (deltas, _) = streamed(&thinks, json!({"tools": tools()})).await;
    assert_eq!(deltas[..2], [role, json!({"reasoning_content": "hm"})]);
    assert!(deltas[2].get("role").is_none() && deltas[2]["tool_calls"].is_array());
}

fn calls_only() -> [Delta; 1] {
    [Delta::ToolCall(
        json!({"index": 0, "id": "c", "function": {"name": "look", "arguments": "{}"}}),
    )]
}

#[tokio::test]
async fn the_older_functions_are_answered_in_the_older_way() {
    let fields =
        json!({"functions": [{"name": "look", "parameters": {"type": "object"}}], "function_call": {"name": "look"}});
    let engine = calling();
    let (test, key) = over(&engine).await;
    let reply = test.post(URL, &key, &asked(fields.clone())).await;
    let choice = &reply.json()["choices"][0];
    assert_eq!(
        choice["message"],
        json!({"role": "assistant", "content": null, "refusal": null,
            "function_call": {"name": "look", "arguments": "{\"at\":1}"}})
    );
    assert_eq!(choice["finish_reason"], "function_call");
    let extra = engine.requests().pop().unwrap().extra;
    assert_eq!(extra["tools"], tools());
    assert_eq!(
        extra["tool_choice"],
        json!({"type": "function", "function": {"name": "look"}})
    );
    assert!(!extra.contains_key("functions") && !extra.contains_key("function_call"));

    let (deltas, end) = streamed(&calling(), fields).await;
    let first = json!({"role": "assistant", "content": null, "function_call": {"name": "look", "arguments": ""}});
    let next = json!({"function_call": {"arguments": "{\"at\":1}"}});
    assert_eq!(deltas, [first, next, json!({})]);
    assert_eq!(end, "function_call");
}
