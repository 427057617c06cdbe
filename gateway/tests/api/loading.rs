//! Models that come and go while the server runs, through the router.

use std::sync::Arc;

use async_trait::async_trait;
use habit_engine::Engine;
use habit_engine::fleet::Fleet;
use habit_engine::scripted::Scripted;
use habit_gateway::config::{self, Config, Profile};
use habit_gateway::loader::{Load, Loader};
use habit_gateway::testing::TestApp;
use http::StatusCode;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const ADMIN: &str = "/v1/admin/models";

/// Brings up engines that say their model's name and settings.
struct Doubles;

#[async_trait]
impl Load for Doubles {
    async fn load(&self, wanted: &config::Engine) -> anyhow::Result<Arc<dyn Engine>> {
        anyhow::ensure!(wanted.model != "broken", "its file is cut short");
        let says = format!("{} at {:?}", wanted.model, wanted.bits);
        Ok(Arc::new(Scripted::new(wanted.model.clone()).reply(says)))
    }

    fn ready(&self) -> anyhow::Result<Vec<String>> {
        Ok(vec!["first".to_owned(), "second".to_owned()])
    }
}

async fn over(first: Scripted) -> (TestApp, String) {
    let mut config = Config::default();
    let profile = Profile {
        model: Some("second".to_owned()),
        bits: Some(8),
        ..Profile::default()
    };
    config.profiles.insert("second-8bit".to_owned(), profile);
    let fleet = Arc::new(Fleet::new(vec![Arc::new(first)]));
    let loader = Loader::new(Arc::new(config), Arc::new(Doubles), Arc::clone(&fleet));
    let test = TestApp::builder().fleet(fleet).loader(loader).build().await;
    let admin = test.admin_key("team", "boss").await;
    (test, admin)
}

fn ask(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "x"}]})
}

async fn says(test: &TestApp, key: &str, model: &str) -> String {
    let reply = test.post(CHAT, key, &ask(model)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply.json()["choices"][0]["message"]["content"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn a_model_is_loaded_beside_and_given_up_again() {
    let (test, admin) = over(Scripted::new("first").reply("first")).await;
    let loaded = test.post(ADMIN, &admin, &json!({"profile": "second-8bit"})).await;
    assert_eq!(loaded.status, StatusCode::OK, "{}", loaded.text());
    assert_eq!(loaded.json()["id"], "second");
    assert_eq!(says(&test, &admin, "second").await, "second at Some(8)");
    assert_eq!(says(&test, &admin, "").await, "first");
    let listed = test.get(ADMIN, &admin).await.json();
    assert_eq!(listed["loaded"].as_array().unwrap().len(), 2);
    assert_eq!(listed["profiles"], json!(["second-8bit"]));
    assert_eq!(
        test.delete("/v1/admin/models/second", &admin).await.status,
        StatusCode::NO_CONTENT
    );
    let gone = test.post(CHAT, &admin, &ask("second")).await;
    assert_eq!(
        (gone.status, gone.error_code().as_str()),
        (StatusCode::NOT_FOUND, "model_not_found")
    );
}

#[tokio::test]
async fn a_swap_drops_no_reply() {
    let (first, gate) = Scripted::new("first").reply("one two three").gated();
    let (test, admin) = over(first.clone()).await;
    let test = Arc::new(test);
    let replies: Vec<_> = (0..4)
        .map(|_| {
            let (test, admin) = (Arc::clone(&test), admin.clone());
            tokio::spawn(async move { says(&test, &admin, "first").await })
        })
        .collect();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while first.requests().len() < 4 {
        assert!(tokio::time::Instant::now() < deadline, "the engine was not asked");
        tokio::task::yield_now().await;
    }
    let swap = json!({"model": "second", "replaces": "first", "default": true});
    let swapped = test.post(ADMIN, &admin, &swap).await;
    assert_eq!(swapped.status, StatusCode::OK, "{}", swapped.text());
    assert_eq!(says(&test, &admin, "first").await, "second at None");
    assert_eq!(says(&test, &admin, "default").await, "second at None");
    gate.open();
    for reply in replies {
        assert_eq!(reply.await.unwrap(), "one two three");
    }
}

#[tokio::test]
async fn a_name_goes_on_meaning_what_took_its_place() {
    let (test, admin) = over(Scripted::new("first").reply("first")).await;
    for (model, replaces) in [("second", "first"), ("third", "second"), ("first", "third")] {
        let swap = json!({"model": model, "replaces": replaces, "default": true});
        assert_eq!(test.post(ADMIN, &admin, &swap).await.status, StatusCode::OK);
        let expected = format!("{model} at None");
        for name in ["", "first", replaces] {
            assert_eq!(
                says(&test, &admin, name).await,
                expected,
                "{name} after {replaces} became {model}"
            );
        }
        let listed = test.get("/v1/models", &admin).await.json();
        assert_eq!(listed["data"][0]["id"], model);
    }
    // Names that only lead to each other mean nothing, and end.
    let gone = test.delete("/v1/admin/models/first", &admin).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert_eq!(
        test.post(CHAT, &admin, &ask("second")).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn what_can_not_be_loaded_changes_nothing() {
    let (test, admin) = over(Scripted::new("first").reply("first")).await;
    let code = |body: Value| {
        let (test, admin) = (&test, &admin);
        async move {
            let reply = test.post(ADMIN, admin, &body).await;
            (
                reply.status.as_u16(),
                reply.json()["error"]["message"].as_str().unwrap().to_owned(),
            )
        }
    };
    let (status, why) = code(json!({"model": "broken", "replaces": "first"})).await;
    assert_eq!(status, 422);
    assert!(why.contains("cut short"), "{why}");
    assert_eq!(code(json!({})).await.0, 400);
    assert_eq!(code(json!({"profile": "none"})).await.0, 400);
    assert_eq!(code(json!({"model": "second", "bits": 5})).await.0, 400);
    assert_eq!(code(json!({"model": "second", "replaces": "nobody"})).await.0, 404);
    assert_eq!(
        test.delete("/v1/admin/models/nobody", &admin).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(says(&test, &admin, "first").await, "first");
}

#[tokio::test]
async fn it_takes_an_admin_key() {
    let (test, admin) = over(Scripted::new("first")).await;
    let user = test.key("team", "user").await;
    for reply in [
        test.get(ADMIN, &user).await,
        test.post(ADMIN, &user, &json!({"model": "second"})).await,
        test.delete("/v1/admin/models/first", &user).await,
        test.get("/v1/internal/model/list", &user).await,
        test.post("/v1/internal/model/load", &user, &json!({"model_name": "second"}))
            .await,
        test.post("/v1/internal/model/unload", &user, &json!({})).await,
    ] {
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{}", reply.text());
    }
    let list = test.get("/v1/internal/model/list", &admin).await.json();
    assert_eq!(list["model_names"], json!(["first", "second", "second-8bit"]));
    let load = json!({"model_name": "second-8bit", "args": {}, "settings": {}});
    assert_eq!(
        test.post("/v1/internal/model/load", &admin, &load).await.status,
        StatusCode::OK
    );
    let info = test.get("/v1/internal/model/info", &user).await.json();
    assert_eq!(info["model_name"], "second");
    assert_eq!(says(&test, &user, "first").await, "second at Some(8)");
}
