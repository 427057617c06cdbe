//! Who gets in, with what, and what everyone else is told; and the HTTP stack around it.

use axum::body::Body;
use habit_gateway::keys::NewKey;
use habit_gateway::testing::{TestApp, request};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

/// Every route that needs a key, with a method that it answers.
const ROUTES: [(&str, &str); 115] = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/responses"),
    ("GET", "/v1/responses/resp_0"),
    ("DELETE", "/v1/responses/resp_0"),
    ("POST", "/v1/responses/resp_0/cancel"),
    ("GET", "/v1/responses/resp_0/input_items"),
    ("POST", "/v1/responses/input_tokens"),
    ("POST", "/v1/conversations"),
    ("GET", "/v1/conversations/conv_0"),
    ("POST", "/v1/conversations/conv_0"),
    ("DELETE", "/v1/conversations/conv_0"),
    ("GET", "/v1/conversations/conv_0/items"),
    ("POST", "/v1/conversations/conv_0/items"),
    ("GET", "/v1/conversations/conv_0/items/msg_0"),
    ("DELETE", "/v1/conversations/conv_0/items/msg_0"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/scripted"),
    ("GET", "/v1/turns"),
    ("GET", "/v1/turns/018f0000-0000-7000-8000-000000000000"),
    ("DELETE", "/v1/turns/018f0000-0000-7000-8000-000000000000"),
    ("GET", "/v1/documents"),
    ("POST", "/v1/documents"),
    ("DELETE", "/v1/documents"),
    ("GET", "/v1/documents/018f0000-0000-7000-8000-000000000000"),
    ("DELETE", "/v1/documents/018f0000-0000-7000-8000-000000000000"),
    ("POST", "/v1/documents/search"),
    ("GET", "/v1/memories"),
    ("POST", "/v1/memories"),
    ("DELETE", "/v1/memories"),
    ("GET", "/v1/memories/018f0000-0000-7000-8000-000000000000"),
    ("PUT", "/v1/memories/018f0000-0000-7000-8000-000000000000"),
    ("PATCH", "/v1/memories/018f0000-0000-7000-8000-000000000000"),
    ("DELETE", "/v1/memories/018f0000-0000-7000-8000-000000000000"),
    ("GET", "/v1/memories/018f0000-0000-7000-8000-000000000000/history"),
    ("POST", "/v1/memories/search"),
    ("POST", "/v1/memories/list"),
    ("GET", "/v1/ping"),
    ("POST", "/v1/memories/forget"),
    ("GET", "/v1/memories/export"),
    ("POST", "/v1/memories/erase"),
    ("GET", "/v1/memories/rules"),
    ("PUT", "/v1/memories/rules"),
    ("GET", "/v1/feedback"),
    ("POST", "/v1/feedback"),
    ("DELETE", "/v1/feedback/018f0000-0000-7000-8000-000000000000"),
    ("GET", "/v1/learning/lineage/018f0000-0000-7000-8000-000000000000"),
    ("GET", "/v1/learning/examples"),
    ("GET", "/v1/learning/export"),
    ("GET", "/v1/learning/runs"),
    ("POST", "/v1/learning/runs"),
    ("GET", "/v1/learning/runs/018f0000-0000-7000-8000-000000000000"),
    ("POST", "/v1/learning/runs/018f0000-0000-7000-8000-000000000000/cancel"),
    ("POST", "/v1/learning/rollback"),
    ("POST", "/v1/learning/promote"),
    ("GET", "/v1/learning/status"),
    ("GET", "/v1/fine_tuning/jobs"),
    ("POST", "/v1/fine_tuning/jobs"),
    ("GET", "/v1/fine_tuning/jobs/ftjob-0"),
    ("POST", "/v1/fine_tuning/jobs/ftjob-0/cancel"),
    ("GET", "/v1/fine_tuning/jobs/ftjob-0/events"),
    ("GET", "/v1/fine_tuning/jobs/ftjob-0/checkpoints"),
    ("GET", "/v1/files"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files/file-0"),
    ("DELETE", "/v1/files/file-0"),
    ("GET", "/v1/files/file-0/content"),
    ("GET", "/v1/vector_stores"),
    ("POST", "/v1/vector_stores"),
    ("GET", "/v1/vector_stores/vs_0"),
    ("POST", "/v1/vector_stores/vs_0"),
    ("DELETE", "/v1/vector_stores/vs_0"),
    ("POST", "/v1/vector_stores/vs_0/search"),
    ("GET", "/v1/vector_stores/vs_0/files"),
    ("POST", "/v1/vector_stores/vs_0/files"),
    ("GET", "/v1/vector_stores/vs_0/files/file-0"),
    ("POST", "/v1/vector_stores/vs_0/files/file-0"),
    ("DELETE", "/v1/vector_stores/vs_0/files/file-0"),
    ("GET", "/v1/vector_stores/vs_0/files/file-0/content"),
    ("POST", "/v1/vector_stores/vs_0/file_batches"),
    ("GET", "/v1/vector_stores/vs_0/file_batches/vsfb_0"),
    ("POST", "/v1/vector_stores/vs_0/file_batches/vsfb_0/cancel"),
    ("GET", "/v1/vector_stores/vs_0/file_batches/vsfb_0/files"),
    ("GET", "/v1/keys"),
    ("POST", "/v1/keys"),
    ("DELETE", "/v1/keys/0123456789abcdef"),
    ("POST", "/v1/reindex"),
    ("GET", "/v1/admin/queue"),
    ("GET", "/v1/downtime"),
    ("POST", "/v1/downtime/run"),
    ("GET", "/v1/downtime/runs"),
    ("GET", "/v1/downtime/runs/018f0000-0000-7000-8000-000000000000"),
    ("POST", "/v1/downtime/runs/018f0000-0000-7000-8000-000000000000/cancel"),
    ("POST", "/v1/downtime/runs/018f0000-0000-7000-8000-000000000000/resume"),
    ("POST", "/v1/downtime/runs/018f0000-0000-7000-8000-000000000000/undo"),
    ("POST", "/v1/admin/reload"),
    ("GET", "/v1/admin/models"),
    ("POST", "/v1/admin/models"),
    ("DELETE", "/v1/admin/models/018f0000-0000-7000-8000-000000000000"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/detokenize"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/internal/chat-prompt"),
    ("POST", "/v1/internal/decode"),
    ("POST", "/v1/internal/encode"),
    ("GET", "/v1/internal/health"),
    ("POST", "/v1/internal/logits"),
    ("GET", "/v1/internal/lora/list"),
    ("GET", "/v1/internal/model/info"),
    ("GET", "/v1/internal/model/list"),
    ("POST", "/v1/internal/model/load"),
    ("POST", "/v1/internal/model/unload"),
    ("POST", "/v1/internal/stop-generation"),
    ("POST", "/v1/internal/token-count"),
    ("POST", "/v1/rerank"),
    ("POST", "/v1/tokenize"),
];

fn openai_shaped(body: &Value) {
    let Some(error) = body["error"].as_object() else {
        unreachable!("no error object: {body}")
    };
    assert!(
        error["message"].is_string() && error["type"].is_string() && error["code"].is_string(),
        "{body}"
    );
    assert!(error.contains_key("param"), "{body}");
}

#[tokio::test]
async fn nothing_answers_without_a_valid_key() {
    let test = TestApp::start().await;
    let good = test.key("acme", "ann").await;
    let wrong_secret = format!(
        "{}{}",
        &good[..good.len() - 1],
        if good.ends_with('0') { '1' } else { '0' }
    );
    for (method, path) in ROUTES
        .iter()
        .chain(&[("GET", "/"), ("GET", "/v1/nothing"), ("PUT", "/v1/models")])
    {
        for key in [
            "",
            "hb-",
            "sk-something",
            "hb-0123456789abcdef-00",
            wrong_secret.as_str(),
        ] {
            let method: Method = method.parse().unwrap();
            let reply = test
                .call(request(method.clone(), path, key).body(Body::empty()).unwrap())
                .await;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{method} {path} with `{key}`");
            let body = reply.json();
            openai_shaped(&body);
            assert_eq!(body["error"]["code"], "invalid_api_key");
            let message = body["error"]["message"].as_str().unwrap();
            assert!(message.contains("Incorrect API key provided"), "{message}");
            let secret = wrong_secret.rsplit('-').next().unwrap();
            assert!(!message.contains(secret), "the secret is in the message");
            assert!(reply.headers.contains_key("x-request-id"));
        }
    }
}

#[tokio::test]
async fn every_documented_route_is_tested_for_keys() {
    let document = serde_json::to_value(habit_gateway::routes::documented()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        // Anthropic's routes have another shape of errors, and their own test of it.
        if path == "/health" || path.starts_with("/v1/messages") {
            continue;
        }
        let prefix = path.split('{').next().unwrap();
        for method in item
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| ["get", "post", "put", "delete"].contains(&key.as_str()))
        {
            let covered = ROUTES
                .iter()
                .any(|(tested, route)| tested.to_lowercase() == *method && route.starts_with(prefix));
            assert!(covered, "{method} {path} has no case in this test");
        }
    }
}

#[tokio::test]
async fn all_three_headers_carry_the_key() {
    let test = TestApp::start().await;
    let key = test.key("acme", "ann").await;
    let bearer = format!("Bearer {key}");
    for (name, value) in [("authorization", &bearer), ("x-api-key", &key), ("api-key", &key)] {
        let request = Request::get("/v1/models")
            .header(name, value)
            .body(Body::empty())
            .unwrap();
        assert_eq!(test.call(request).await.status, StatusCode::OK, "{name}");
    }
}

#[tokio::test]
async fn health_and_the_description_need_no_key_and_tell_nothing() {
    let test = TestApp::start().await;
    let health = test.get("/health", "").await;
    assert_eq!(health.status, StatusCode::OK, "{}", health.text());
    assert_eq!(health.json()["status"], "ok");
    let description = test.get("/openapi.yaml", "").await;
    assert_eq!(description.status, StatusCode::OK);
    assert!(description.text().contains("/v1/chat/completions"));
}

#[tokio::test]
async fn revoked_and_expired_keys_stop_working() {
    let test = TestApp::start().await;
    let new = NewKey {
        team: "acme".into(),
        user: "ann".into(),
        ..NewKey::default()
    };
    let created = test.keys.create(new.clone()).await.unwrap();
    assert_eq!(test.get("/v1/models", &created.key).await.status, StatusCode::OK);
    assert!(test.keys.revoke(&created.info.id, None).await.unwrap());
    assert_eq!(
        test.get("/v1/models", &created.key).await.status,
        StatusCode::UNAUTHORIZED
    );
    let expired = test
        .keys
        .create(NewKey {
            expires_at: Some(1),
            ..new
        })
        .await
        .unwrap();
    assert_eq!(
        test.get("/v1/models", &expired.key).await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn administration_needs_an_admin() {
    let test = TestApp::start().await;
    let key = test.key("acme", "ann").await;
    for (method, path) in [
        ("GET", "/v1/keys"),
        ("DELETE", "/v1/keys/0123456789abcdef"),
        ("POST", "/v1/reindex"),
        ("GET", "/v1/downtime"),
        ("GET", "/v1/downtime/runs"),
    ] {
        let reply = test
            .call(
                request(method.parse().unwrap(), path, &key)
                    .body(Body::empty())
                    .unwrap(),
            )
            .await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{method} {path}");
        openai_shaped(&reply.json());
    }
    let reply = test
        .post("/v1/keys", &key, &json!({"user": "ann", "admin": true}))
        .await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN, "a key must not grant itself more");
}

#[tokio::test]
async fn without_auth_only_this_machine_may_ask() {
    let test = TestApp::builder().without_auth().build().await;
    let get = |headers: &[(&str, &str)]| {
        let request = headers
            .iter()
            .fold(Request::get("/v1/models"), |request, (name, value)| {
                request.header(*name, *value)
            });
        request.body(Body::empty()).unwrap()
    };
    assert_eq!(
        test.call(get(&[("host", "127.0.0.1:8420")])).await.status,
        StatusCode::OK
    );
    assert_eq!(test.call(get(&[("host", "localhost")])).await.status, StatusCode::OK);
    assert_eq!(
        test.call(get(&[("host", "evil.example")])).await.status,
        StatusCode::FORBIDDEN
    );
    let crossed = get(&[("host", "127.0.0.1"), ("origin", "https://evil.example")]);
    assert_eq!(test.call(crossed).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn paths_have_many_spellings() {
    let test = TestApp::start().await;
    let key = test.key("acme", "ann").await;
    for path in [
        "/v1/models",
        "/models",
        "/v1/models/",
        "//v1//models",
        "/models/scripted",
        "/v1/models/scripted/",
    ] {
        assert_eq!(test.get(path, &key).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn model_ids_may_have_slashes() {
    let engine = habit_engine::scripted::Scripted::new("org/name");
    let test = TestApp::builder().engine(std::sync::Arc::new(engine)).build().await;
    let key = test.key("acme", "ann").await;
    for path in ["/v1/models/org/name", "/v1/models/org%2Fname", "/models/org/name/"] {
        let reply = test.get(path, &key).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text());
        assert_eq!(reply.json()["id"], "org/name");
    }
    let reply = test.get("/v1/models/other", &key).await;
    assert_eq!(
        (reply.status, reply.error_code().as_str()),
        (StatusCode::NOT_FOUND, "model_not_found")
    );
    assert!(reply.text().contains("org/name"), "the names that exist are told");
}

#[tokio::test]
async fn errors_outside_of_handlers_have_the_shape_too() {
    let test = TestApp::builder()
        .config(|config| config.server.body_limit = 2048)
        .build()
        .await;
    let key = test.key("acme", "ann").await;
    let reply = test.get("/v1/nothing", &key).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    openai_shaped(&reply.json());
    let reply = test.delete("/v1/models", &key).await;
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
    openai_shaped(&reply.json());
    let reply = test.get("/v1/turns/not-a-uuid", &key).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    openai_shaped(&reply.json());
    let reply = test.get("/v1/turns?limit=many", &key).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    openai_shaped(&reply.json());
    let reply = test.get("/v1/turns?limit=0", &key).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);

    let long = json!({"messages": [{"role": "user", "content": "x".repeat(4096)}]});
    let reply = test.post("/v1/chat/completions", &key, &long).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    openai_shaped(&reply.json());
    // Announced as too long: refused before it is read.
    let announced = request(Method::POST, "/v1/chat/completions", &key).header("content-length", "999999");
    let reply = test.call(announced.body(Body::empty()).unwrap()).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    let packed = request(Method::POST, "/v1/chat/completions", &key).header("content-encoding", "br");
    let reply = test
        .call(
            packed
                .header("content-type", "application/json")
                .body(Body::from("x"))
                .unwrap(),
        )
        .await;
    assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    openai_shaped(&reply.json());
    let multipart = request(Method::POST, "/v1/documents", &key).header("content-type", "text/plain");
    let reply = test.call(multipart.body(Body::from("x")).unwrap()).await;
    assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    openai_shaped(&reply.json());
}

#[tokio::test]
async fn request_ids_are_kept_or_made() {
    let test = TestApp::start().await;
    let given = Request::get("/health")
        .header("x-request-id", "mine")
        .body(Body::empty())
        .unwrap();
    assert_eq!(test.call(given).await.headers["x-request-id"], "mine");
    let made = test.get("/health", "").await;
    assert!(uuid::Uuid::parse_str(made.headers["x-request-id"].to_str().unwrap()).is_ok());
}

#[tokio::test]
async fn browsers_are_let_in_only_where_configured() {
    let preflight = || {
        let request = Request::builder().method(Method::OPTIONS).uri("/v1/chat/completions");
        let request = request
            .header("origin", "https://app.example")
            .header("access-control-request-method", "POST");
        request
            .header("access-control-request-headers", "authorization,x-stainless-lang")
            .body(Body::empty())
            .unwrap()
    };
    let closed = TestApp::start().await;
    let reply = closed.call(preflight()).await;
    assert!(!reply.headers.contains_key("access-control-allow-origin"));
    let origins = vec!["https://app.example".to_owned()];
    let open = TestApp::builder()
        .config(|config| config.server.cors_origins = origins)
        .build()
        .await;
    let reply = open.call(preflight()).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.headers["access-control-allow-origin"], "https://app.example");
    let headers = reply.headers["access-control-allow-headers"].to_str().unwrap();
    assert!(
        headers.contains("authorization") && headers.contains("x-stainless-lang"),
        "{headers}"
    );
    let simple = Request::get("/health").header("origin", "https://app.example");
    let reply = open.call(simple.body(Body::empty()).unwrap()).await;
    let exposed = reply.headers["access-control-expose-headers"].to_str().unwrap();
    assert!(exposed.split(',').any(|name| name == "request-id"), "{exposed}");
}
