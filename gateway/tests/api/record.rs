//! What is recorded of a chat, as `GET /v1/turns` shows it. When it is written is tested in `turn/record/tests.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use habit_engine::EngineError;
use habit_engine::scripted::{Failure, Scripted};
use habit_gateway::testing::{Reply, TestApp, request};
use habit_memory::journal::Journal;
use habit_memory::store::ram::RamJournal;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
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

fn header(reply: &Reply, name: &str) -> String {
    reply.headers[name].to_str().unwrap().to_owned()
}

async fn turns(test: &TestApp, key: &str) -> Vec<Value> {
    test.get("/v1/turns", key).await.json()["data"]
        .as_array()
        .unwrap()
        .clone()
}

/// The turn, once it is there: what a client left is written in the background.
async fn recorded(test: &TestApp, key: &str, turn: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let reply = test.get(&format!("/v1/turns/{turn}"), key).await;
        if reply.status == StatusCode::OK {
            return reply.json();
        }
        assert!(Instant::now() < deadline, "the turn was not recorded: {}", reply.text());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_a_client_saw_finished_is_there() {
    let (test, key) = over(Scripted::default().reply("Wüff 🐕")).await;
    for stream in [false, true] {
        let mut body = ask("hi");
        body["stream"] = json!(stream);
        let reply = test.post(URL, &key, &body).await;
        let turn = test
            .get(&format!("/v1/turns/{}", header(&reply, "x-habit-turn")), &key)
            .await
            .json();
        assert_eq!(
            (turn["prompt"].as_str(), turn["reply"].as_str()),
            (Some("hi"), Some("Wüff 🐕"))
        );
        assert_eq!(
            (turn["outcome"].as_str(), turn["finish_reason"].as_str()),
            (Some("completed"), Some("stop"))
        );
        assert_eq!(turn["model"], "scripted");
        assert_eq!(turn["usage"]["completion_tokens"], 3);
        assert_eq!(turn["conversation"], header(&reply, "x-habit-conversation"));
    }
}

#[tokio::test]
async fn a_conversation_goes_on_by_its_history() {
    let (test, key) = over(Scripted::default().replies(["Hello!", "Blue. ", "Because."])).await;
    let mut messages = vec![
        json!({"role": "system", "content": "Be brief."}),
        json!({"role": "user", "content": "Hi."}),
    ];
    let mut seen = Vec::new();
    for next in ["Which colour?", "Why?", ""] {
        let reply = test.post(URL, &key, &json!({"messages": messages})).await;
        seen.push((header(&reply, "x-habit-conversation"), header(&reply, "x-habit-turn")));
        let said = reply.json()["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .trim()
            .to_owned();
        messages.extend([
            json!({"role": "assistant", "content": said}),
            json!({"role": "user", "content": next}),
        ]);
    }
    assert!(
        seen.iter().all(|(conversation, _)| *conversation == seen[0].0),
        "{seen:?}"
    );
    let turns = turns(&test, &key).await;
    let parents: Vec<_> = turns.iter().rev().map(|turn| turn["parent"].as_str()).collect();
    assert_eq!(parents, [None, Some(seen[0].1.as_str()), Some(seen[1].1.as_str())]);
    assert_eq!(turns[0]["messages"], json!([{"role": "user", "content": "Why?"}]));
    // Something new is something else, and so is the same history of somebody else.
    let other = test.post(URL, &key, &ask("Something else.")).await;
    assert_ne!(header(&other, "x-habit-conversation"), seen[0].0);
    let stranger = test.key("other", "me").await;
    let copied = test.post(URL, &stranger, &json!({"messages": messages})).await;
    assert_ne!(header(&copied, "x-habit-conversation"), seen[0].0);
}

#[tokio::test]
async fn a_named_conversation_is_that_one() {
    let (test, key) = over(Scripted::default()).await;
    let mut body = ask("hi");
    body["metadata"] = json!({"conversation_id": "from-metadata"});
    assert_eq!(
        header(&test.post(URL, &key, &body).await, "x-habit-conversation"),
        "from-metadata"
    );
    let named = request(Method::POST, URL, &key).header("content-type", "application/json");
    let named = named
        .header("x-habit-conversation", "from-header")
        .body(Body::from(body.to_string()))
        .unwrap();
    assert_eq!(header(&test.call(named).await, "x-habit-conversation"), "from-header");
}

#[tokio::test]
async fn what_is_not_stored_leaves_nothing() {
    let journal = Arc::new(RamJournal::default());
    let test = TestApp::builder().journal(Arc::clone(&journal) as _).build().await;
    let key = test.key("team", "me").await;
    for stream in [false, true] {
        let mut body = ask("My dog is called Biscuit.");
        body["store"] = json!(false);
        body["stream"] = json!(stream);
        let reply = test.post(URL, &key, &body).await;
        assert!(reply.text().contains("Biscuit"));
        let turn = format!("/v1/turns/{}", header(&reply, "x-habit-turn"));
        assert_eq!(test.get(&turn, &key).await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(journal.totals().await.unwrap().turns, 0);
    let index = &test.app.memory.as_ref().unwrap().index;
    assert_eq!(index.len().await.unwrap(), 0);
}

#[tokio::test]
async fn a_stream_that_was_left_is_recorded_as_interrupted() {
    let (engine, gate) = Scripted::default().reply("one two three").gated();
    let (test, key) = over(engine).await;
    let mut body = ask("hi");
    body["stream"] = json!(true);
    let post = request(Method::POST, URL, &key).header("content-type", "application/json");
    let response = test.send(post.body(Body::from(body.to_string())).unwrap()).await;
    let turn = response.headers()["x-habit-turn"].to_str().unwrap().to_owned();
    let mut body = response.into_body();
    gate.release(2);
    for _ in 0..3 {
        body.frame().await.unwrap().unwrap();
    }
    drop(body);
    let turn = recorded(&test, &key, &turn).await;
    assert_eq!(
        (turn["outcome"].as_str(), turn["reply"].as_str()),
        (Some("interrupted"), Some("one two "))
    );
    assert_eq!((&turn["finish_reason"], &turn["error"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn failures_are_recorded_as_such() {
    let engine = Scripted::default().reply("one two three");
    let (test, key) = over(engine.clone()).await;
    engine.fail_next(Failure::BeforeStream(EngineError::Unavailable(
        "the engine is starting".into(),
    )));
    let reply = test.post(URL, &key, &ask("hi")).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    let turn = recorded(&test, &key, &header(&reply, "x-habit-turn")).await;
    assert_eq!(
        (turn["outcome"].as_str(), turn["error"].as_str()),
        (Some("failed"), Some("the engine is starting"))
    );

    engine.fail_next(Failure::AfterDeltas(
        2,
        EngineError::Interrupted("the engine died".into()),
    ));
    let reply = test.post(URL, &key, &ask("hi")).await;
    let turn = recorded(&test, &key, &header(&reply, "x-habit-turn")).await;
    assert_eq!(
        (turn["outcome"].as_str(), turn["reply"].as_str()),
        (Some("interrupted"), Some("one two "))
    );
}

#[tokio::test]
async fn without_a_record_there_is_no_reply() {
    let journal = Arc::new(RamJournal::default());
    let test = TestApp::builder().journal(Arc::clone(&journal) as _).build().await;
    let key = test.key("team", "me").await;
    journal.close().await;
    let reply = test.post(URL, &key, &ask("hi")).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{}", reply.text());
    assert!(
        reply.json()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("could not be recorded")
    );
    let mut body = ask("hi");
    body["stream"] = json!(true);
    let reply = test.post(URL, &key, &body).await.text();
    assert!(reply.contains("event: error") && !reply.contains("[DONE]"), "{reply}");
    // What needs no record is answered.
    body["store"] = json!(false);
    assert!(test.post(URL, &key, &body).await.text().ends_with("data: [DONE]\n\n"));
}
