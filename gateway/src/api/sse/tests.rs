//! The stream, byte by byte.

#![expect(clippy::unnecessary_wraps, reason = "they make items of a stream")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::stream;
use habit_engine::{FinishReason, Usage};
use http_body_util::BodyExt;
use serde_json::json;
use uuid::Uuid;

use super::*;

const HEAD: &str = r#"data: {"id":"chatcmpl-00000000000000000000000000000000","object":"chat.completion.chunk","created":1,"model":"m","choices":["#;

fn envelope() -> Envelope {
    Envelope::new(Uuid::nil(), 1000, "m".into()).chunk()
}

fn finish() -> Result<Delta, EngineError> {
    Ok(Delta::Finish {
        reason: FinishReason::Stop,
        usage: Usage {
            prompt_tokens: 3,
            completion_tokens: 2,
            cached_tokens: 0,
            reasoning_tokens: 0,
        },
    })
}

fn text(text: &str) -> Result<Delta, EngineError> {
    Ok(Delta::Text(text.to_owned()))
}

async fn body(deltas: Vec<Result<Delta, EngineError>>, include_usage: bool) -> String {
    let events = chat_events(stream::iter(deltas).boxed(), envelope(), include_usage);
    let body = response(events, PING_EVERY)
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// A chunk as it goes over the wire; `tail` follows the choices.
fn chunk(delta: &str, finish: &str, tail: &str) -> String {
    format!("{HEAD}{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}]{tail}}}\n\n")
}

#[tokio::test]
async fn a_plain_stream() {
    let expected = [
        chunk(r#"{"role":"assistant","content":""}"#, "null", ""),
        chunk(r#"{"content":"Wo"}"#, "null", ""),
        chunk(r#"{"content":"of \n🐕 \"é\""}"#, "null", ""),
        chunk("{}", r#""stop""#, ""),
        "data: [DONE]\n\n".to_owned(),
    ];
    assert_eq!(
        body(vec![text("Wo"), text("of \n🐕 \"é\""), finish()], false).await,
        expected.concat()
    );
}

#[tokio::test]
async fn usage_comes_last_and_only_if_asked_for() {
    let null = r#","usage":null"#;
    let expected = [
        chunk(r#"{"role":"assistant","content":""}"#, "null", null),
        chunk(r#"{"content":"a"}"#, "null", null),
        chunk("{}", r#""stop""#, null),
        format!(
            "{HEAD}],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5,\"prompt_tokens_details\":{{\"cached_tokens\":0}},\"completion_tokens_details\":{{\"reasoning_tokens\":0}}}}}}\n\n"
        ),
        "data: [DONE]\n\n".to_owned(),
    ];
    assert_eq!(body(vec![text("a"), finish()], true).await, expected.concat());
}

#[tokio::test]
async fn reasoning_and_tool_calls_have_their_fields() {
    let deltas = vec![
        Ok(Delta::Reasoning("hm".into())),
        Ok(Delta::ToolCall(json!({"id": "c"}))),
        finish(),
    ];
    let body = body(deltas, false).await;
    assert!(body.contains(r#""delta":{"reasoning_content":"hm"}"#), "{body}");
    assert!(
        body.contains(r#""delta":{"tool_calls":[{"id":"c","index":0}]}"#),
        "{body}"
    );
}

#[tokio::test]
async fn an_error_is_an_event_and_nothing_follows_it() {
    for deltas in [
        vec![text("a"), Err(EngineError::Interrupted("gone".into()))],
        vec![text("a")],
    ] {
        let body = body(deltas, true).await;
        let (before, event) = body.split_once("event: error\ndata: ").unwrap();
        assert!(before.ends_with("\n\n") && before.contains(r#""content":"a""#));
        let (data, rest) = event.split_once("\n\n").unwrap();
        let error: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(error["error"]["code"], "reply_interrupted");
        assert!(error["error"]["message"].as_str().unwrap().contains("broke off"));
        assert_eq!(rest, "");
    }
}

#[tokio::test]
async fn says_that_it_must_not_be_held_back() {
    let response = response(
        chat_events(stream::iter([finish()]).boxed(), envelope(), false),
        PING_EVERY,
    );
    let headers = response.headers();
    assert_eq!(headers["content-type"], "text/event-stream");
    assert_eq!(headers["cache-control"], "no-cache");
    assert_eq!(headers["x-accel-buffering"], "no");
    assert!(!headers.contains_key("content-encoding"));
}

#[tokio::test]
async fn a_silent_stream_pings() {
    let silent = stream::pending().boxed();
    let response = response(chat_events(silent, envelope(), false), Duration::from_millis(5));
    let mut body = response.into_body();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(body.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    assert!(seen[0].starts_with(b"data: {"));
    assert_eq!(
        (&*seen[1], &*seen[2]),
        (b": ping\n\n".as_slice(), b": ping\n\n".as_slice())
    );
}

#[tokio::test]
async fn dropping_the_body_drops_the_reply() {
    struct Flag(Arc<AtomicBool>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = Flag(Arc::clone(&dropped));
    let held = move |_: &Result<Delta, EngineError>| {
        let _held = &flag;
    };
    let deltas = stream::pending().inspect(held).boxed();
    let mut body = response(chat_events(deltas, envelope(), false), PING_EVERY).into_body();
    body.frame().await.unwrap().unwrap();
    assert!(!dropped.load(Ordering::SeqCst));
    drop(body);
    assert!(dropped.load(Ordering::SeqCst));
}
