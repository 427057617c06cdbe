//! `POST /v1/chat/completions` with `stream`: the events as they go over the wire.

use std::sync::Arc;

use axum::body::Body;
use habit_engine::EngineError;
use habit_engine::scripted::{Failure, Scripted};
use habit_gateway::testing::{Reply, TestApp, request};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

const URL: &str = "/v1/chat/completions";

fn ask(text: &str) -> Value {
    json!({"messages": [{"role": "user", "content": text}], "stream": true})
}

async fn over(engine: Scripted) -> (TestApp, String) {
    let test = TestApp::builder().engine(Arc::new(engine)).build().await;
    let key = test.key("team", "me").await;
    (test, key)
}

/// The data of all events.
fn data(reply: &Reply) -> Vec<String> {
    let body = String::from_utf8(reply.body.clone()).expect("characters are never split");
    let events = body
        .strip_suffix("\n\n")
        .expect("the last event is whole")
        .split("\n\n");
    events
        .filter_map(|event| Some(event.lines().find_map(|line| line.strip_prefix("data: "))?.to_owned()))
        .collect()
}

fn text(reply: &Reply) -> String {
    let chunks = data(reply)
        .into_iter()
        .filter_map(|data| serde_json::from_str::<Value>(&data).ok());
    chunks
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn byte_by_byte() {
    let (test, key) = over(Scripted::default().reply("Wüff 🐕 wuff")).await;
    let mut body = ask("hi");
    body["stream_options"] = json!({"include_usage": true});
    let reply = test.post(URL, &key, &body).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.headers["content-type"], "text/event-stream");
    assert_eq!(reply.headers["x-accel-buffering"], "no");
    assert!(!reply.headers.contains_key("content-encoding") && !reply.headers.contains_key("content-length"));
    let id = format!(
        "chatcmpl-{}",
        reply.headers["x-habit-turn"].to_str().unwrap().replace('-', "")
    );
    let first: Value = serde_json::from_str(&data(&reply)[0]).unwrap();
    let head = format!(
        r#"data: {{"id":"{id}","object":"chat.completion.chunk","created":{},"model":"scripted","system_fingerprint":"fp_habit_0.1.0","choices":["#,
        first["created"]
    );
    let chunk = |delta: &str, finish: &str| {
        format!(r#"{head}{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}],"usage":null}}"#)
    };
    let expected = [
        chunk(r#"{"role":"assistant","content":""}"#, "null"),
        chunk(r#"{"content":"Wüff "}"#, "null"),
        chunk(r#"{"content":"🐕 "}"#, "null"),
        chunk(r#"{"content":"wuff"}"#, "null"),
        chunk("{}", r#""stop""#),
        format!(
            r#"{head}],"usage":{{"prompt_tokens":5,"completion_tokens":4,"total_tokens":9,"prompt_tokens_details":{{"cached_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0}}}}}}"#
        ),
        "data: [DONE]".to_owned(),
        String::new(),
    ];
    assert_eq!(reply.text(), expected.join("\n\n"));
}

#[tokio::test]
async fn there_is_no_usage_unless_it_is_asked_for() {
    let (test, key) = over(Scripted::default()).await;
    for options in [
        Value::Null,
        json!({}),
        json!({"include_usage": false}),
        json!({"include_usage": null}),
    ] {
        let mut body = ask("hi");
        body["stream_options"] = options;
        let reply = test.post(URL, &key, &body).await;
        assert!(!reply.text().contains("usage") && reply.text().ends_with("data: [DONE]\n\n"));
    }
}

#[tokio::test]
async fn streams_say_the_same_as_whole_replies() {
    let (test, key) = over(Scripted::default()).await;
    for said in [
        "plain words",
        "",
        "zwei\nZeilen\r\n\tund \"Zeichen\" \\ \u{2028}",
        "日本語 🧑‍🚀 עברית",
        "data: [DONE]\n\n",
    ] {
        for extra in [json!({}), json!({"stop": "und"}), json!({"max_tokens": 1})] {
            let mut body = ask(said);
            body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            // Nothing is remembered, so that both prompts are the same.
            body["store"] = json!(false);
            let streamed = test.post(URL, &key, &body).await;
            body["stream"] = json!(false);
            let whole = test.post(URL, &key, &body).await.json();
            assert_eq!(
                text(&streamed),
                whole["choices"][0]["message"]["content"].as_str().unwrap()
            );
            let events = data(&streamed);
            let last: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
            assert_eq!(
                last["choices"][0]["finish_reason"],
                whole["choices"][0]["finish_reason"]
            );
            assert_eq!(events.last().unwrap(), "[DONE]");
        }
    }
}

#[tokio::test]
async fn errors_before_the_stream_have_a_status() {
    let engine = Scripted::default();
    let (test, key) = over(engine.clone()).await;
    engine.fail_next(Failure::BeforeStream(EngineError::Overloaded {
        running: 1,
        waiting: 1,
        retry_after_s: 1,
    }));
    let reply = test.post(URL, &key, &ask("hi")).await;
    assert_eq!(
        (reply.status.as_u16(), reply.error_code().as_str()),
        (429, "overloaded")
    );
    assert_eq!(reply.headers["content-type"], "application/json");
    let mut unknown = ask("hi");
    unknown["model"] = json!("other");
    assert_eq!(test.post(URL, &key, &unknown).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn errors_in_mid_stream_are_events() {
    let engine = Scripted::default().reply("one two three");
    let (test, key) = over(engine.clone()).await;
    engine.fail_next(Failure::AfterDeltas(
        2,
        EngineError::Interrupted("the engine died".into()),
    ));
    let reply = test.post(URL, &key, &ask("hi")).await;
    assert_eq!((reply.status, text(&reply).as_str()), (StatusCode::OK, "one two "));
    let whole = reply.text();
    let (_, error) = whole.split_once("event: error\ndata: ").unwrap();
    let error: Value = serde_json::from_str(error.trim_end()).unwrap();
    assert_eq!(error["error"]["code"], "reply_interrupted");
    assert_eq!(error["error"]["type"], "server_error");
    assert!(error["error"]["message"].as_str().unwrap().contains("the engine died"));
    assert!(!whole.contains("[DONE]") && !whole.contains("finish_reason\":\"stop"));
}

#[tokio::test]
async fn deltas_arrive_as_they_are_made_and_leaving_frees_the_place() {
    let (engine, gate) = Scripted::default().reply("one two three").gated();
    let (test, key) = over(engine.clone()).await;
    let post = request(Method::POST, URL, &key).header("content-type", "application/json");
    let response = test.send(post.body(Body::from(ask("hi").to_string())).unwrap()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body();
    let mut next = async || {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        String::from_utf8(frame.to_vec()).unwrap()
    };
    assert!(next().await.contains(r#""role":"assistant""#));
    for word in ["one ", "two "] {
        gate.release(1);
        assert!(next().await.contains(word));
    }
    assert_eq!(engine.active(), 1);
    drop(body);
    assert_eq!(engine.active(), 0);
}
