//! text-generation-webui's dialect through the router.

use std::sync::Arc;

use habit_engine::scripted::Scripted;
use habit_gateway::testing::TestApp;
use http::StatusCode;
use serde_json::json;

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_dialogue_reaches_the_engine_with_its_template_and_stops() {
    let engine = Scripted::default().reply(" Hello, Ada.");
    let test = TestApp::builder().engine(Arc::new(engine.clone())).build().await;
    let key = test.key("team", "me").await;
    let body = json!({"mode": "chat", "name1": "Ada", "messages": [{"role": "user", "content": "Hi"}]});
    let reply = test.post(CHAT, &key, &body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.json()["choices"][0]["message"]["content"], "Hello, Ada.");
    let asked = engine.requests().pop().unwrap();
    assert!(asked.stop.contains(&"\nAda:".to_owned()), "{:?}", asked.stop);
    assert!(asked.extra["chat_template"].as_str().unwrap().contains("name1"));
    assert!(!asked.extra.contains_key("mode"));

    let reply = test
        .post(
            CHAT,
            &key,
            &json!({"mode": "chat", "character": "Nobody", "messages": [{"role": "user", "content": "Hi"}]}),
        )
        .await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert_eq!(reply.json()["error"]["param"], "character");
}

#[tokio::test]
async fn continuing_streams_the_old_text_first() {
    let test = TestApp::builder()
        .engine(Arc::new(Scripted::default().reply(",3")))
        .build()
        .await;
    let key = test.key("team", "me").await;
    let messages = json!([{"role": "user", "content": "count"}, {"role": "assistant", "content": "1, 2"}]);
    let reply = test
        .post(
            CHAT,
            &key,
            &json!({"messages": messages, "continue_": true, "stream": true}),
        )
        .await;
    let text = reply.text();
    let (old, new) = (text.find("1, 2").unwrap(), text.find(",3").unwrap());
    assert!(old < new && text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[tokio::test]
async fn a_user_stops_only_what_is_his_own() {
    let (engine, gate) = Scripted::default().reply("one two three").gated();
    let test = Arc::new(TestApp::builder().engine(Arc::new(engine.clone())).build().await);
    let (ada, bob) = (test.key("team", "ada").await, test.key("team", "bob").await);
    let asking = tokio::spawn({
        let (test, ada) = (Arc::clone(&test), ada.clone());
        async move {
            test.post(CHAT, &ada, &json!({"messages": [{"role": "user", "content": "x"}]}))
                .await
        }
    });
    gate.release(1);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while engine.requests().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "the engine was never asked");
        tokio::task::yield_now().await;
    }
    let stop = "/v1/internal/stop-generation";
    assert_eq!(test.post(stop, &bob, &json!({})).await.status, StatusCode::OK);
    assert!(!asking.is_finished());
    // The reply is listed a moment after the engine was asked.
    while !asking.is_finished() {
        assert!(tokio::time::Instant::now() < deadline, "the reply was not stopped");
        assert_eq!(test.post(stop, &ada, &json!({})).await.status, StatusCode::OK);
        tokio::task::yield_now().await;
    }
    let reply = asking.await.unwrap();
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let choice = &reply.json()["choices"][0];
    assert_eq!(choice["finish_reason"], "stop");
    assert_ne!(choice["message"]["content"], "one two three");
}

#[tokio::test]
async fn its_own_endpoints_answer() {
    let test = TestApp::start().await;
    let key = test.key("team", "me").await;
    let count = test
        .post("/v1/internal/token-count", &key, &json!({"text": "12345678"}))
        .await;
    assert_eq!(count.json(), json!({"length": 2}));
    assert_eq!(
        test.get("/v1/internal/health", &key).await.json(),
        json!({"status": "ok"})
    );
    let info = test.get("/v1/internal/model/info", &key).await;
    assert_eq!(info.json(), json!({"model_name": "scripted", "lora_names": []}));
    let encoded = test
        .post("/v1/internal/encode", &key, &json!({"text": "some text"}))
        .await
        .json();
    assert_eq!(
        encoded["tokens"].as_array().unwrap().len() as u64,
        encoded["length"].as_u64().unwrap()
    );
    let decoded = test
        .post("/v1/internal/decode", &key, &json!({"tokens": encoded["tokens"]}))
        .await;
    assert_eq!(decoded.json(), json!({"text": "some text"}));
    assert_eq!(
        test.get("/v1/internal/health", "hb-wrong-key").await.status,
        StatusCode::UNAUTHORIZED
    );
    let foreign = test
        .post("/v1/internal/decode", &key, &json!({"tokens": [u32::MAX]}))
        .await;
    assert_eq!(foreign.status, StatusCode::BAD_REQUEST);
    assert!(foreign.text().contains("not the model's"), "{}", foreign.text());
    let logits = test
        .post("/v1/internal/logits", &key, &json!({"prompt": "yes yes"}))
        .await;
    assert_eq!(logits.status, StatusCode::OK, "{}", logits.text());
    let logits = logits.json()["logits"].as_object().unwrap().clone();
    // The likeliest first, which is not the alphabet's order.
    assert_eq!(logits.keys().collect::<Vec<_>>(), ["yes ", "no"]);
    let malformed = test.post("/v1/internal/decode", &key, &json!({"tokens": "x"})).await;
    assert_eq!(malformed.status, StatusCode::BAD_REQUEST);
}
