//! What users say of replies, through the router: how it is taken, what it makes, what it did, and that it goes when it is
//! to go.

mod few_shot;
mod fine_tuning;
mod ledger;
mod runs;

use habit_gateway::testing::{Reply, TestApp};
use http::StatusCode;
use serde_json::{Value, json};

use crate::school;

const CHAT: &str = "/v1/chat/completions";
const FEEDBACK: &str = "/v1/feedback";

/// An application with a key of ann, of the team acme.
async fn start() -> (TestApp, String) {
    let test = TestApp::start().await;
    let key = test.key("acme", "ann").await;
    (test, key)
}

/// Says something and gives the reply.
async fn ask(test: &TestApp, key: &str, body: &Value) -> Reply {
    let reply = test.post(CHAT, key, body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply
}

/// Says something; the turn's id.
async fn say(test: &TestApp, key: &str, words: &str) -> String {
    let body = json!({"messages": [{"role": "user", "content": words}]});
    turn(&ask(test, key, &body).await)
}

fn turn(reply: &Reply) -> String {
    reply.headers["x-habit-turn"].to_str().unwrap().to_owned()
}

/// Gives feedback; its id.
async fn give(test: &TestApp, key: &str, body: &Value) -> String {
    let reply = test.post(FEEDBACK, key, body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply.json()["id"].as_str().unwrap().to_owned()
}

/// Says something and puts the reply right; the feedback's id.
async fn correct(test: &TestApp, key: &str, words: &str, answer: &str) -> String {
    let turn = say(test, key, words).await;
    give(test, key, &json!({"turn": turn, "correction": answer})).await
}
