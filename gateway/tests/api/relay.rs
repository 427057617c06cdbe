//! Chat over an upstream: what the client wrote goes there as it was written, and what the upstream says comes back as it
//! is, through the whole router, recorded all the same.

use std::sync::Arc;

use axum::body::Body;
use habit_engine::worker::{Worker, WorkerOptions};
use habit_gateway::testing::{Reply, TestApp, request};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

const URL: &str = "/v1/chat/completions";

/// What no gateway knows of: odd spacing, exact numbers, fields of tomorrow.
const BODY: &str = "{ \"model\":\"m\",\"messages\": [{\"role\":\"user\",\"content\":\"hi\",\"tomorrow\":1}],\"n\":2,\
    \"logprobs\":true , \"temperature\":0.70, \"guided\":{\"a\":1e3}}";

const STREAM: &str = concat!(
    ": warming up\n\n",
    "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"tomorrow\":1}\n\n",
    "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"hm\"},\"logprobs\":{\"content\":[]}}]}\n\n",
    "data: {\"id\":\"x\",\"choices\":[{\"index\":1,\"delta\":{\"content\":\"other\"}}]}\n\n",
    "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Grü\"}}]}\n\n",
    "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}}]}\n\n",
    "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n",
);

const USAGE: &str = "data: {\"id\":\"x\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"prompt_tokens_details\":{\"cached_tokens\":2}}}\n\n";

struct Bench {
    upstream: MockServer,
    app: TestApp,
    key: String,
}

async fn bench(reply: ResponseTemplate) -> Bench {
    let upstream = MockServer::start().await;
    let models = json!({"data": [{"id": "m", "max_model_len": 8192}]});
    Mock::given(method("GET"))
        .and(path("/v1/models"))
        .respond_with(ResponseTemplate::new(200).set_body_json(models))
        .mount(&upstream)
        .await;
    Mock::given(method("POST")).respond_with(reply).mount(&upstream).await;
    let options = WorkerOptions {
        base_url: upstream.uri(),
        api_key: Some("secret".into()),
        name: "up".into(),
        ..WorkerOptions::default()
    };
    let worker = Worker::new(options).unwrap();
    worker.connect().await.unwrap();
    let app = TestApp::builder()
        .config(|config| config.memory.on = false)
        .engine(Arc::new(worker))
        .build()
        .await;
    let key = app.key("team", "me").await;
    Bench { upstream, app, key }
}

fn events(body: String) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_raw(body.into_bytes(), "text/event-stream")
}

impl Bench {
    async fn send(&self, body: &str) -> Reply {
        let request = request(Method::POST, URL, &self.key).header("content-type", "application/json");
        self.app.call(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    /// What the upstream got.
    async fn got(&self) -> String {
        let request = self.upstream.received_requests().await.unwrap().pop().unwrap();
        assert_eq!(request.headers["authorization"], "Bearer secret");
        assert_eq!(
            request.headers["content-length"],
            request.body.len().to_string().as_str()
        );
        String::from_utf8(request.body).unwrap()
    }

    async fn turn(&self, reply: &Reply) -> Value {
        let id = reply.headers["x-habit-turn"].to_str().unwrap();
        self.app.get(&format!("/v1/turns/{id}"), &self.key).await.json()
    }
}

#[tokio::test]
async fn a_whole_reply_is_the_upstreams_byte_by_byte() {
    let said = "{\"id\" : \"x\",\"choices\":[{\"index\":1,\"message\":{\"content\":\"other\"}},\
        {\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"hello\",\"tomorrow\":[]},\"finish_reason\":\"stop\"}],\
        \"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"details\":1.50}}";
    let bench = bench(ResponseTemplate::new(200).set_body_raw(said.as_bytes(), "application/json")).await;
    let reply = bench.send(BODY).await;
    assert_eq!((reply.status, reply.text().as_str()), (StatusCode::OK, said));
    assert_eq!(reply.headers["content-type"], "application/json");
    assert_eq!(bench.got().await, BODY);
    let turn = bench.turn(&reply).await;
    assert_eq!(
        (&turn["reply"], &turn["outcome"]),
        (&json!("hello"), &json!("completed"))
    );
    assert_eq!(turn["usage"]["completion_tokens"], 4);
    assert_eq!(turn["messages"][0]["content"], "hi");
}

#[tokio::test]
async fn a_stream_is_the_upstreams_byte_by_byte() {
    let bench = bench(events([STREAM, USAGE, "data: [DONE]\n\n"].concat())).await;
    let asked = BODY.replacen('{', "{\"stream\":true,\"stream_options\":{\"include_usage\":true},", 1);
    let reply = bench.send(&asked).await;
    assert_eq!(reply.text(), [STREAM, USAGE, "data: [DONE]\n\n"].concat());
    assert_eq!(reply.headers["content-type"], "text/event-stream");
    assert_eq!(bench.got().await, asked);
    let turn = bench.turn(&reply).await;
    assert_eq!(
        (&turn["reply"], &turn["finish_reason"]),
        (&json!("Grü"), &json!("tool_calls"))
    );
    assert_eq!(turn["usage"]["prompt_tokens"], 3);
}

#[tokio::test]
async fn usage_is_asked_for_and_kept_from_who_did_not_ask() {
    let bench = bench(events([STREAM, USAGE, "data: [DONE]\n\n"].concat())).await;
    let asked = BODY.replacen('{', "{\"stream\":true,\"store\":true,", 1);
    let reply = bench.send(&asked).await;
    assert_eq!(reply.text(), [STREAM, "data: [DONE]\n\n"].concat());
    let got: Value = serde_json::from_str(&bench.got().await).unwrap();
    assert_eq!(got["stream_options"], json!({"include_usage": true}));
    // Whether a turn is stored is between the client and this server.
    assert_eq!((got.get("store"), &got["guided"]), (None, &json!({"a": 1e3})));
    assert_eq!(bench.turn(&reply).await["usage"]["completion_tokens"], 4);
}

#[tokio::test]
async fn the_default_model_is_named() {
    let bench = bench(events([STREAM, "data: [DONE]\n\n"].concat())).await;
    let reply = bench
        .send(r#"{"messages":[{"role":"user","content":"hi"}],"model":"default","stream":true}"#)
        .await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(
        bench.got().await,
        r#"{"model":"m","stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}],"stream":true}"#
    );
}

#[tokio::test]
async fn an_upstreams_errors_are_openais() {
    let error = json!({"detail": [{"msg": "field required"}]});
    let refused = bench(ResponseTemplate::new(422).set_body_json(error)).await;
    let reply = refused.send(BODY).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert!(
        reply.json()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("field required")
    );

    let broken = [STREAM, "data: {\"error\":{\"message\":\"out of memory\"}}\n\n", STREAM].concat();
    let bench = bench(events(broken)).await;
    let reply = bench.send(&BODY.replacen('{', "{\"stream\":true,", 1)).await;
    let text = reply.text();
    let error = text
        .strip_prefix(STREAM)
        .unwrap()
        .strip_prefix("event: error\ndata: ")
        .unwrap();
    let error: Value = serde_json::from_str(error.trim_end()).unwrap();
    assert_eq!(error["error"]["code"], "reply_interrupted");
    assert!(error["error"]["message"].as_str().unwrap().contains("out of memory"));
    let turn = bench.turn(&reply).await;
    assert_eq!(
        (&turn["outcome"], &turn["reply"]),
        (&json!("interrupted"), &json!("Grü"))
    );
}

#[tokio::test]
async fn an_upstream_that_answers_otherwise_than_asked_is_translated() {
    let said = json!({"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]});
    let bench = bench(ResponseTemplate::new(200).set_body_json(said)).await;
    let reply = bench
        .send(r#"{"messages":[{"role":"user","content":"hi"}],"stream":true}"#)
        .await;
    let text = reply.text();
    assert!(
        text.contains(r#""content":"hello""#) && text.ends_with("data: [DONE]\n\n"),
        "{text}"
    );
}
