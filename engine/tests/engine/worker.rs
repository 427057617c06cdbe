//! What a worker makes of every kind of answer that an upstream may give.

use std::time::Duration;

use futures::StreamExt;
use habit_engine::worker::{Worker, WorkerOptions};
use habit_engine::{ChatRequest, Delta, Engine, EngineError, FinishReason, Health, Message, Role, Sampling, Usage};
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

const KEY: &str = "sk-test";

async fn upstream() -> (MockServer, Worker) {
    let server = MockServer::start().await;
    let models = json!({"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 100}, {"id": "n"}]});
    Mock::given(method("GET"))
        .and(path("/v1/models"))
        .respond_with(json_reply(200, &models))
        .mount(&server)
        .await;
    let options = WorkerOptions {
        base_url: server.uri(),
        api_key: Some(KEY.into()),
        name: "the upstream".into(),
        ..WorkerOptions::default()
    };
    let worker = Worker::new(options).unwrap();
    worker.connect().await.unwrap();
    (server, worker)
}

fn json_reply(status: u16, body: &Value) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(body)
}

fn stream_reply(body: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_raw(body.as_bytes(), "text/event-stream")
}

fn ask() -> ChatRequest {
    ChatRequest {
        model: "m".into(),
        messages: vec![Message::new(Role::User, "hello")],
        ..ChatRequest::default()
    }
}

/// What comes of one answer to a chat request: an error at once, or the stream's items.
async fn answered(reply: ResponseTemplate) -> Result<Vec<Result<Delta, EngineError>>, EngineError> {
    let (server, worker) = upstream().await;
    Mock::given(method("POST"))
        .and(path("/v1/chat/completions"))
        .respond_with(reply)
        .mount(&server)
        .await;
    Ok(worker.chat(ask()).await?.collect().await)
}

async fn deltas(body: &str) -> Vec<Delta> {
    answered(stream_reply(body))
        .await
        .unwrap()
        .into_iter()
        .map(Result::unwrap)
        .collect()
}

#[tokio::test]
async fn models_and_their_windows_are_read() {
    let (_server, worker) = upstream().await;
    let windows: Vec<_> = worker
        .models()
        .into_iter()
        .map(|info| (info.id, info.context_window))
        .collect();
    assert_eq!(windows, [("m".to_owned(), Some(100)), ("n".to_owned(), None)]);
    let counter = worker.token_counter("m").unwrap();
    assert_eq!(
        (counter.context_window(), counter.is_exact(), counter.count("12345")),
        (100, false, 2)
    );
    assert_eq!(worker.health().await, Health::Ready);
}

#[tokio::test]
async fn the_request_is_openais_with_extra_fields_untouched() {
    let (server, worker) = upstream().await;
    Mock::given(method("POST"))
        .respond_with(stream_reply("data: [DONE]\n\n"))
        .mount(&server)
        .await;
    let mut request = ask();
    request.sampling = Sampling {
        temperature: Some(0.0),
        seed: Some(7),
        ..Sampling::default()
    };
    request.stop = vec!["END".into()];
    request.max_tokens = Some(5);
    request.extra.insert("tools".into(), json!([{"type": "function"}]));
    request.extra.insert("stream".into(), json!(false));
    worker.chat(request).await.unwrap().collect::<Vec<_>>().await;

    let sent = server.received_requests().await.unwrap().pop().unwrap();
    assert_eq!(sent.headers["authorization"], format!("Bearer {KEY}"));
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    let expected = json!({
        "model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": true,
        "stream_options": {"include_usage": true}, "temperature": 0.0, "seed": 7, "stop": ["END"], "max_tokens": 5,
        "tools": [{"type": "function"}],
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn text_reasoning_tools_finish_and_usage_become_deltas() {
    let made = deltas(concat!(
        ": ping\r\n\r\ndata: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\r\n\r\n",
        "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"Grü\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"1\",\"function\":{\"name\":\"f\"}}]}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n",
    ))
    .await;
    let usage = Usage {
        prompt_tokens: 3,
        completion_tokens: 4,
        cached_tokens: 0,
        reasoning_tokens: 0,
    };
    let call = json!({"id": "1", "function": {"name": "f"}, "index": 0});
    assert_eq!(
        made,
        [
            Delta::Reasoning("hm".into()),
            Delta::Text("Grü".into()),
            Delta::ToolCall(call),
            Delta::Finish {
                reason: FinishReason::ToolCalls,
                usage
            },
        ]
    );
}

#[tokio::test]
async fn careless_upstreams_are_understood() {
    // No usage, no empty line at the end, no [DONE].
    let made = deltas("data: {\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"eos_token\"}]}").await;
    assert_eq!(made[0], Delta::Text("hi".into()));
    assert!(matches!(made[1], Delta::Finish { reason: FinishReason::Stop, usage } if usage.completion_tokens == 1));
    // A whole reply where a stream was asked for.
    let whole = json!({"choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2}});
    let made = answered(json_reply(200, &whole)).await.unwrap();
    assert!(matches!(&made[0], Ok(Delta::Text(text)) if text == "hi"));
    assert!(
        matches!(
            made[1],
            Ok(Delta::Finish {
                reason: FinishReason::Length,
                ..
            })
        ),
        "{made:?}"
    );
}

#[tokio::test]
async fn a_reply_that_breaks_off_is_an_error() {
    let text = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
    for end in [
        "",
        "data: {\"error\":{\"message\":\"out of memory\"}}\n\n",
        "data: {\"choi\n\n",
    ] {
        let made = answered(stream_reply(&format!("{text}{end}"))).await.unwrap();
        assert_eq!(made.len(), 2, "{made:?}");
        assert!(matches!(made[1], Err(EngineError::Interrupted(_))), "{made:?}");
    }
    let made = answered(stream_reply("data: {\"error\":\"no such adapter\"}\n\n"))
        .await
        .unwrap();
    assert!(
        matches!(&made[0], Err(EngineError::Unavailable(why)) if why.contains("no such adapter")),
        "{made:?}"
    );
}

#[tokio::test]
async fn errors_are_told_apart() {
    let error = |code: &str, message: &str| json!({"error": {"message": message, "code": code, "param": "x"}});
    let get = |status: u16, body: Value| async move { answered(json_reply(status, &body)).await.err().unwrap() };

    let long = get(
        400,
        error(
            "context_length_exceeded",
            "maximum context length is 100 tokens, you have 120 tokens",
        ),
    )
    .await;
    assert!(
        matches!(
            long,
            EngineError::ContextLengthExceeded {
                limit: 100,
                prompt: 120,
                ..
            }
        ),
        "{long:?}"
    );
    let bad = get(400, error("", "temperature is too high")).await;
    assert!(
        matches!(&bad, EngineError::Rejected { message, param } if message.contains("too high") && param.as_deref() == Some("x"))
    );
    let detail = get(422, json!({"detail": [{"msg": "field required"}]})).await;
    assert!(
        matches!(&detail, EngineError::Rejected { message, .. } if message.contains("field required")),
        "{detail:?}"
    );
    let unknown = get(404, error("model_not_found", "no model")).await;
    assert!(matches!(unknown, EngineError::UnknownModel { .. }));
    let key = get(401, error("invalid_api_key", "wrong key")).await;
    assert!(
        matches!(&key, EngineError::Unavailable(why) if why.contains("HABIT_UPSTREAM_KEY") && !why.contains(KEY)),
        "{key:?}"
    );
    let html = answered(ResponseTemplate::new(404).set_body_string("<h1>nginx</h1>"))
        .await
        .err()
        .unwrap();
    assert!(
        matches!(&html, EngineError::Unavailable(why) if why.contains("/v1")),
        "{html:?}"
    );

    let busy = ResponseTemplate::new(429)
        .insert_header("retry-after", "7")
        .set_body_json(error("rate_limit", "slow down"));
    let busy = answered(busy).await.err().unwrap();
    assert!(
        matches!(busy, EngineError::Overloaded { retry_after_s: 7, .. }),
        "{busy:?}"
    );
}

#[tokio::test]
async fn a_failing_upstream_is_tried_again_and_a_refusing_one_is_not() {
    let (server, worker) = upstream().await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(503))
        .up_to_n_times(2)
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .respond_with(stream_reply("data: [DONE]\n\n"))
        .with_priority(9)
        .mount(&server)
        .await;
    assert!(worker.chat(ask()).await.is_ok());
    assert_eq!(
        server.received_requests().await.unwrap().len(),
        4,
        "one list, three tries"
    );

    let (server, worker) = upstream().await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(400))
        .expect(1)
        .mount(&server)
        .await;
    assert!(worker.chat(ask()).await.is_err());
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_unavailable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let options = WorkerOptions {
        base_url: format!("http://{free}"),
        api_key: None,
        name: "the upstream".into(),
        ..WorkerOptions::default()
    };
    let worker = Worker::new(options).unwrap();
    let connected = tokio::time::timeout(Duration::from_secs(20), worker.connect())
        .await
        .unwrap();
    assert!(
        matches!(&connected, Err(EngineError::Unavailable(why)) if why.contains("is it running?")),
        "{connected:?}"
    );
    assert!(matches!(worker.health().await, Health::Unavailable(_)));
}
