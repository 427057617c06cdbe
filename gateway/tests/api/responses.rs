//! Responses, conversations and Anthropic's messages, through the router.

use std::sync::Arc;
use std::time::Duration;

use habit_engine::scripted::{Failure, Scripted};
use habit_engine::{Delta, EngineError, FinishReason, Role};
use habit_gateway::testing::{Reply, TestApp};
use http::StatusCode;
use serde_json::{Value, json};

mod background;
mod conversations;
mod life;
mod messages;

const RESPONSES: &str = "/v1/responses";

async fn with(engine: &Scripted) -> (TestApp, String) {
    let test = TestApp::builder().engine(Arc::new(engine.clone())).build().await;
    let key = test.key("team", "me").await;
    (test, key)
}

/// The events of a stream: name and data.
fn events(reply: &Reply) -> Vec<(String, Value)> {
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.headers["content-type"], "text/event-stream");
    let text = reply.text();
    let event = |block: &str| {
        let field = |name: &str| {
            block
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap()
                .trim()
                .to_owned()
        };
        let (name, data): (String, Value) = (field("event:"), serde_json::from_str(&field("data:")).unwrap());
        assert_eq!(data["type"], json!(name), "{data}");
        (name, data)
    };
    text.split("\n\n")
        .filter(|block| block.contains("event:"))
        .map(event)
        .collect()
}

fn names(events: &[(String, Value)]) -> Vec<&str> {
    events.iter().map(|(name, _)| name.as_str()).collect()
}

fn text_of(response: &Value) -> String {
    let message = response["output"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["type"] == "message");
    message.unwrap()["content"][0]["text"].as_str().unwrap().to_owned()
}

fn call(index: u64, id: &str, name: &str, arguments: &str) -> Delta {
    let function = json!({"name": name, "arguments": arguments});
    Delta::ToolCall(json!({"index": index, "id": id, "type": "function", "function": function}))
}
