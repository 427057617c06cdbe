//! The life of a memory through the router: what is learnt and what is not, how it is found, changed, doubted, forgotten,
//! told and erased, and that nobody else has a part in it.

mod isolation;
mod life;
mod mcp;
mod opt_out;
mod whole;

use axum::body::Body;
use habit_gateway::testing::{Reply, TestApp, request};
use http::{Method, StatusCode};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const MEMORIES: &str = "/v1/memories";

/// An application with a key of ann, of the team acme.
async fn start() -> (TestApp, String) {
    let test = TestApp::start().await;
    let key = test.key("acme", "ann").await;
    (test, key)
}

async fn send(test: &TestApp, method: Method, path: &str, key: &str, body: &Value, headers: &[(&str, &str)]) -> Reply {
    let mut request = request(method, path, key).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    test.call(request.body(Body::from(body.to_string())).unwrap()).await
}

async fn patch(test: &TestApp, id: &str, key: &str, body: &Value) -> Reply {
    send(test, Method::PATCH, &format!("{MEMORIES}/{id}"), key, body, &[]).await
}

/// Says something, waits until it is learnt, and gives the turn's record.
async fn say(test: &TestApp, key: &str, words: &str, headers: &[(&str, &str)]) -> Value {
    let body = json!({"messages": [{"role": "user", "content": words}]});
    let reply = send(test, Method::POST, CHAT, key, &body, headers).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    test.indexed().await;
    let turn = reply.headers["x-habit-turn"].to_str().unwrap();
    test.get(&format!("/v1/turns/{turn}"), key).await.json()
}

/// Remembers a text, and gives its id.
async fn add(test: &TestApp, key: &str, text: &str) -> String {
    let reply = test.post(MEMORIES, key, &json!({"text": text})).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply.json()["results"][0]["id"].as_str().unwrap().to_owned()
}

fn texts(reply: &Value) -> Vec<&str> {
    let results = reply["results"].as_array().unwrap_or_else(|| panic!("{reply}"));
    results
        .iter()
        .map(|memory| memory["memory"].as_str().unwrap())
        .collect()
}

/// What is known, by a query such as `?status=all`.
async fn known(test: &TestApp, key: &str, query: &str) -> Vec<String> {
    let reply = test.get(&format!("{MEMORIES}{query}"), key).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    texts(&reply.json()).into_iter().map(str::to_owned).collect()
}

/// Source and text of what was put before the model.
fn injected(turn: &Value) -> Vec<(&str, &str)> {
    let passages = turn["injected"].as_array().unwrap().iter();
    passages
        .map(|passage| (passage["source"].as_str().unwrap(), passage["text"].as_str().unwrap()))
        .collect()
}
