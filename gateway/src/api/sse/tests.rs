//! The stream, byte by byte.

#![expect(clippy::unnecessary_wraps, reason = "they make items of a stream")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::stream;
use habit_engine::EngineError;
use http_body_util::BodyExt;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::api::chat_wire::ChatChunks;
use crate::api::generation::reply::Envelope;

const HEAD: &str = r#"data: {"id":"chatcmpl-00000000000000000000000000000000","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp_habit_0.1.0","choices":["#;

fn envelope() -> Envelope {
    Envelope::chat(Uuid::nil(), 1000, "m".into()).chunk()
}

/// The events of one reply.
fn chat_events<S>(deltas: S, include_usage: bool) -> impl Stream<Item = Event> + Send + use<S>
where
    S: Stream<Item = Result<Delta, EngineError>> + Send + 'static,
{
    let pieces = deltas.map(|item| (0, item.map_err(ApiError::from))).boxed();
    let chunks = ChatChunks::new(envelope(), 1, include_usage);
    events(pieces, Tally::new(1, 1), include_usage, chunks)
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
    let events = chat_events(stream::iter(deltas), include_usage);
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
        body.contains(r#""delta":{"tool_calls":[{"id":"c","index":0,"type":"function"}]}"#),
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
    let response = response(chat_events(stream::iter([finish()]), false), PING_EVERY);
    let headers = response.headers();
    assert_eq!(headers["content-type"], "text/event-stream");
    assert_eq!(headers["cache-control"], "no-cache");
    assert_eq!(headers["x-accel-buffering"], "no");
    assert!(!headers.contains_key("content-encoding"));
}

#[tokio::test]
async fn a_silent_stream_pings() {
    let silent = stream::pending();
    let response = response(chat_events(silent, false), Duration::from_millis(5));
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
    let deltas = stream::pending().inspect(held);
    let mut body = response(chat_events(deltas, false), PING_EVERY).into_body();
    body.frame().await.unwrap().unwrap();
    assert!(!dropped.load(Ordering::SeqCst));
    drop(body);
    assert!(dropped.load(Ordering::SeqCst));
}

fn token(text: &str, logprob: f64) -> habit_engine::TokenLogprob {
    habit_engine::TokenLogprob {
        token: text.to_owned(),
        bytes: text.as_bytes().to_vec(),
        logprob,
        top: Vec::new(),
    }
}

#[tokio::test]
async fn probabilities_go_with_their_text() {
    let deltas = vec![
        Ok(Delta::Logprobs(vec![token("W", -0.5), token("o", f64::NEG_INFINITY)])),
        text("Wo"),
        Ok(Delta::Logprobs(vec![token("!", -1.0)])),
        finish(),
    ];
    let body = body(deltas, false).await;
    let first = r#"{"content":"Wo"},"logprobs":{"content":[{"token":"W","logprob":-0.5,"bytes":[87],"top_logprobs":[]},{"token":"o","logprob":-9999.0,"bytes":[111],"top_logprobs":[]}],"refusal":null}"#;
    assert!(body.contains(first), "{body}");
    assert!(
        body.contains(r#""delta":{},"logprobs":{"content":[{"token":"!""#),
        "{body}"
    );
}

#[tokio::test]
async fn several_replies_are_told_apart_and_end_one_by_one() {
    let deltas = [(0, text("a")), (1, text("b")), (1, finish()), (0, finish())];
    let pieces = stream::iter(deltas)
        .map(|(at, item)| (at, item.map_err(ApiError::from)))
        .boxed();
    let chunks = ChatChunks::new(envelope(), 2, true);
    let events = events(pieces, Tally::new(1, 2), true, chunks);
    let body = response(events, PING_EVERY)
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    assert_eq!(body.matches(r#""role":"assistant""#).count(), 2);
    assert_eq!(body.matches(r#""finish_reason":"stop""#).count(), 2);
    assert!(body.contains(r#"{"index":1,"delta":{"content":"b"}"#), "{body}");
    // The prompt once, both replies.
    assert!(
        body.contains(r#""usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7"#),
        "{body}"
    );
    assert!(body.ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn unnumbered_tool_calls_are_numbered() {
    let deltas = vec![
        Ok(Delta::ToolCall(
            json!({"id": "a", "function": {"name": "f", "arguments": "{}"}}),
        )),
        Ok(Delta::ToolCall(
            json!({"id": "b", "function": {"name": "g", "arguments": "{"}}),
        )),
        Ok(Delta::ToolCall(json!({"function": {"arguments": "}"}}))),
        Ok(Delta::ToolCall(json!({"index": 7, "function": {"arguments": "}"}}))),
        finish(),
    ];
    let body = body(deltas, false).await;
    let numbers: Vec<_> = body
        .match_indices(r#""index":"#)
        .map(|(at, found)| &body[at + found.len()..=at + found.len()])
        .collect();
    // Each chunk has the reply's place, then the call's.
    assert_eq!(numbers, ["0", "0", "0", "0", "1", "0", "1", "0", "7", "0"]);
}
