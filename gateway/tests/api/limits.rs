//! Limits of keys, the queue, and the list of upstreams, through the router.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use habit_engine::admission::Admission;
use habit_engine::fleet::Fleet;
use habit_engine::scripted::Scripted;
use habit_gateway::config::Sources;
use habit_gateway::keys::{KeyLimits, NewKey};
use habit_gateway::testing::{Reply, TestApp, request};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::upstream::{Upstream, WORDS};

const CHAT: &str = "/v1/chat/completions";

async fn key(test: &TestApp, user: &str, limits: KeyLimits) -> String {
    let new = NewKey {
        team: "acme".into(),
        user: user.into(),
        limits,
        ..NewKey::default()
    };
    test.keys.create(new).await.unwrap().key
}

fn hello(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello there"}]})
}

fn streamed(key: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut body = hello("scripted");
    body["stream"] = json!(true);
    let mut request = request(Method::POST, CHAT, key).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.to_string())).unwrap()
}

fn header<'a>(reply: &'a Reply, name: &str) -> &'a str {
    reply.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what} never came true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn requests_a_minute_are_counted_and_shown_as_openai_does() {
    let test = TestApp::start().await;
    let limits = KeyLimits {
        requests_per_minute: Some(2),
        ..KeyLimits::default()
    };
    let key = key(&test, "ann", limits).await;
    for left in ["1", "0"] {
        let reply = test.post(CHAT, &key, &hello("scripted")).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        assert_eq!(header(&reply, "x-ratelimit-limit-requests"), "2");
        assert_eq!(header(&reply, "x-ratelimit-remaining-requests"), left);
        assert!(header(&reply, "x-ratelimit-reset-requests").ends_with('s'));
        assert_eq!(header(&reply, "x-ratelimit-limit-tokens"), "", "tokens are not limited");
    }
    let refused = test.post(CHAT, &key, &hello("scripted")).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.error_code(), "rate_limit_exceeded");
    let seconds: u64 = header(&refused, "retry-after").parse().unwrap();
    let millis: u64 = header(&refused, "retry-after-ms").parse().unwrap();
    assert!((1..=30).contains(&seconds) && (1..=30_000).contains(&millis));
    assert_eq!(header(&refused, "x-ratelimit-remaining-requests"), "0");
    // What makes no work is not counted, and others are not concerned.
    assert_eq!(test.get("/v1/models", &key).await.status, StatusCode::OK);
    let other = test.key("acme", "bob").await;
    let reply = test.post(CHAT, &other, &hello("scripted")).await;
    assert_eq!(
        (reply.status, header(&reply, "x-ratelimit-limit-requests")),
        (StatusCode::OK, "")
    );
}

#[tokio::test]
async fn tokens_a_minute_are_charged_by_what_a_reply_took() {
    let engine = Scripted::default().reply("word ".repeat(800));
    let test = TestApp::builder().engine(Arc::new(engine)).build().await;
    let limits = KeyLimits {
        tokens_per_minute: Some(1000),
        ..KeyLimits::default()
    };
    let key = key(&test, "ann", limits).await;
    let first = test.post(CHAT, &key, &hello("scripted")).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text());
    assert_eq!(header(&first, "x-ratelimit-limit-tokens"), "1000");
    let taken = first.json()["usage"]["total_tokens"].as_u64().unwrap();
    assert!(taken > 1000, "the reply took {taken} tokens");
    assert_eq!(header(&first, "x-ratelimit-remaining-tokens"), "0");
    let refused = test.post(CHAT, &key, &hello("scripted")).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{}", refused.text());
    assert!(refused.text().contains("tokens a minute"));
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
}

#[tokio::test]
async fn a_request_that_fails_costs_no_tokens() {
    let test = TestApp::start().await;
    let limits = KeyLimits {
        tokens_per_minute: Some(1000),
        ..KeyLimits::default()
    };
    let key = key(&test, "ann", limits).await;
    for _ in 0..20 {
        let reply = test.post(CHAT, &key, &hello("no-such-model")).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{}", reply.text());
        assert_eq!(header(&reply, "x-ratelimit-remaining-tokens"), "1000");
    }
}

#[tokio::test]
async fn requests_at_the_same_time_are_bounded_until_their_last_byte() {
    let (engine, gate) = Scripted::default().gated();
    let test = TestApp::builder().engine(Arc::new(engine)).build().await;
    let limits = KeyLimits {
        concurrency: Some(1),
        ..KeyLimits::default()
    };
    let key = key(&test, "ann", limits).await;
    let running = test.send(streamed(&key, &[])).await;
    assert_eq!(running.status(), StatusCode::OK);
    let refused = test.post(CHAT, &key, &hello("scripted")).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.text().contains("at the same time"));
    // A client that leaves makes room.
    drop(running);
    gate.open();
    let reply = test.post(CHAT, &key, &hello("scripted")).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(test.post(CHAT, &key, &hello("scripted")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_key_asks_only_its_models_whatever_they_are_called() {
    let fleet = Fleet::new(vec![Arc::new(Scripted::new("small")), Arc::new(Scripted::new("large"))]);
    fleet.alias("fast", "small");
    fleet.alias("cheap", "large");
    let test = TestApp::builder().fleet(Arc::new(fleet)).build().await;
    let limits = KeyLimits {
        models: Some(vec!["small".into()]),
        ..KeyLimits::default()
    };
    let key = key(&test, "ann", limits).await;
    for model in ["small", "fast", "", "default"] {
        let reply = test.post(CHAT, &key, &hello(model)).await;
        assert_eq!(reply.status, StatusCode::OK, "{model}: {}", reply.text());
    }
    for model in ["large", "cheap", "nothing"] {
        let reply = test.post(CHAT, &key, &hello(model)).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{model}: {}", reply.text());
    }
    let list = test.get("/v1/models", &key).await.json();
    let ids: Vec<&str> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["small", "fast"]);
    let tools = |model: &str| {
        [
            ("/v1/tokenize", json!({"model": model, "prompt": "hello"})),
            ("/v1/detokenize", json!({"model": model, "tokens": [1]})),
            ("/v1/embeddings", json!({"model": model, "input": "hello"})),
            (
                "/v1/rerank",
                json!({"model": model, "query": "hello", "documents": ["hello"]}),
            ),
            ("/v1/responses/input_tokens", json!({"model": model, "input": "hello"})),
            (
                "/v1/messages/count_tokens",
                json!({"model": model, "messages": [{"role": "user", "content": "hello"}]}),
            ),
            ("/v1/internal/chat-prompt", hello(model)),
        ]
    };
    for (path, body) in ["large", "cheap"].into_iter().flat_map(tools) {
        let reply = test.post(path, &key, &body).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{path} {body}: {}", reply.text());
        assert!(reply.text().contains("`large`"), "{path} {body}: {}", reply.text());
    }
    // The server's own embedder is a model like others.
    for (path, body) in ["", "default"].into_iter().flat_map(tools) {
        let reply = test.post(path, &key, &body).await;
        let embeds = ["/v1/embeddings", "/v1/rerank"].contains(&path);
        assert_eq!(
            reply.status == StatusCode::FORBIDDEN,
            embeds,
            "{path} {body}: {}",
            reply.text()
        );
    }
    assert_eq!(test.get("/v1/models/large", &key).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn limits_are_made_and_listed_over_http() {
    let test = TestApp::start().await;
    let admin = test.admin_key("acme", "ann").await;
    let body = json!({"user": "bob", "rpm": 5, "tpm": 1000, "concurrency": 2, "models": ["scripted"]});
    let made = test.post("/v1/keys", &admin, &body).await.json();
    for view in [&made, &test.get("/v1/keys", &admin).await.json()["data"][0]] {
        for field in ["rpm", "tpm", "concurrency", "models"] {
            assert_eq!(view[field], body[field], "{field}: {view}");
        }
    }
    let reply = test.post(CHAT, made["key"].as_str().unwrap(), &hello("scripted")).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(header(&reply, "x-ratelimit-limit-requests"), "5");
    for wrong in [json!({"user": "bob", "rpm": 0}), json!({"user": "bob", "tpm": -1})] {
        let reply = test.post("/v1/keys", &admin, &wrong).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
    }
}

#[tokio::test]
async fn who_waits_is_visible_and_leaves_the_queue_with_its_client() {
    let (engine, gate) = Scripted::default().gated();
    let engine = Arc::new(Admission::new(Arc::new(engine), 1, 2));
    let test = Arc::new(TestApp::builder().engine(engine.clone()).build().await);
    let admin = test.admin_key("acme", "ann").await;
    let user = test.key("acme", "bob").await;
    assert_eq!(test.get("/v1/admin/queue", &user).await.status, StatusCode::FORBIDDEN);

    let running = test.send(streamed(&user, &[])).await;
    let wait = |headers: &'static [(&'static str, &'static str)]| {
        let (test, user) = (Arc::clone(&test), user.clone());
        tokio::spawn(async move { test.send(streamed(&user, headers)).await })
    };
    let waiting = wait(&[]);
    let background = wait(&[("x-habit-priority", "background")]);
    until("both wait", || async { engine.waiting() == 2 }).await;
    let queue = test.get("/v1/admin/queue", &admin).await.json();
    let row = &queue["data"][0];
    assert_eq!(
        (
            &row["running"],
            &row["waiting"],
            &row["waiting_background"],
            &row["max_running"]
        ),
        (&json!(1), &json!(2), &json!(1), &json!(1)),
        "{queue}"
    );
    let health = test.get("/health", "").await.json();
    assert_eq!(
        (&health["engines"]["running"], &health["engines"]["waiting"]),
        (&json!(1), &json!(2))
    );
    // The queue is full, but what may wait gives way to what may not.
    let urgent = wait(&[]);
    let gave_way = background.await.unwrap();
    assert_eq!(gave_way.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(gave_way.headers().contains_key("retry-after"));
    let full = test.send(streamed(&user, &[])).await;
    assert_eq!(full.status(), StatusCode::TOO_MANY_REQUESTS);

    waiting.abort();
    until("it has left", || async { engine.waiting() == 1 }).await;
    drop(running);
    gate.open();
    assert_eq!(urgent.await.unwrap().status(), StatusCode::OK);
    let wrong = test.call(streamed(&user, &[("x-habit-priority", "urgent")])).await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST, "{}", wrong.text());
}

fn write(file: &Path, upstreams: &[(&str, &Upstream)], more: &str) {
    let entries = upstreams
        .iter()
        .map(|(name, upstream)| format!("[[upstreams]]\nname = \"{name}\"\nurl = \"{}\"\n", upstream.url));
    std::fs::write(file, format!("{}{more}", entries.collect::<String>())).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_of_upstreams_changes_under_load_and_no_request_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("habit.toml");
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    write(&file, &[("one", &one)], "");
    let test = Arc::new(TestApp::start().await);
    let sources = Sources {
        file: Some(file.clone()),
        ..Sources::default()
    };
    test.app.engines.reload_from(sources, &test.app.lifecycle).unwrap();
    let admin = test.admin_key("acme", "ann").await;
    let reload = async || test.post("/v1/admin/reload", &admin, &json!({})).await;
    let first = reload().await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text());
    assert_eq!(first.json()["added"], json!(["one"]));

    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let (test, admin) = (Arc::clone(&test), admin.clone());
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let reply = test.post(CHAT, &admin, &hello("talker")).await;
                    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
                    let text = reply.json()["choices"][0]["message"]["content"].clone();
                    assert_eq!(text, WORDS.concat());
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let lists: [&[(&str, &Upstream)]; 4] = [
        &[("one", &one), ("two", &two)],
        &[("two", &two)],
        &[("two again", &two), ("one", &one)],
        &[("one", &one)],
    ];
    for list in lists.iter().cycle().take(12) {
        let before = answered.load(Ordering::Relaxed);
        write(&file, list, "[aliases]\nchatty = \"talker\"\n");
        let reply = reload().await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        until("requests go on", || async {
            answered.load(Ordering::Relaxed) > before + 6
        })
        .await;
    }
    // What is wrong changes nothing.
    std::fs::write(&file, "[[upstreams]]\nurl = \"http://127.0.0.1:1\"\nwieght = 2\n").unwrap();
    let wrong = reload().await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    assert!(wrong.text().contains("upstreams.weight"), "{}", wrong.text());
    let reply = test.post(CHAT, &admin, &hello("chatty")).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn an_upstream_that_is_down_stops_nothing_and_comes_back() {
    let reserved = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let test = TestApp::builder()
        .config(|config| {
            let upstream = habit_gateway::config::Upstream {
                url: format!("http://{address}"),
                name: Some("gpu".into()),
                retries: 0,
                ..Default::default()
            };
            config.upstreams.push(upstream);
        })
        .build()
        .await;
    let admin = test.admin_key("acme", "ann").await;
    // What is here still answers; what may be there is not called unknown.
    assert_eq!(test.post(CHAT, &admin, &hello("scripted")).await.status, StatusCode::OK);
    let gone = test.post(CHAT, &admin, &hello("talker")).await;
    assert_eq!(gone.status, StatusCode::SERVICE_UNAVAILABLE, "{}", gone.text());
    assert!(gone.text().contains(&address.to_string()), "{}", gone.text());
    let health = test.get("/health", "").await;
    assert_eq!(health.status, StatusCode::OK);
    assert_eq!(health.json()["engines"]["ready"], 1);
    let queue = test.get("/v1/admin/queue", &admin).await.json();
    assert_eq!(
        (&queue["data"][1]["name"], &queue["data"][1]["status"]),
        (&json!("gpu"), &json!("unavailable"))
    );

    let _back = Upstream::start_at(address).await;
    until("it is back", || async {
        test.post(CHAT, &admin, &hello("talker")).await.status == StatusCode::OK
    })
    .await;
}
