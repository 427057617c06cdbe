//! `GET /v1/models` and `/v1/models/{id}`.

use axum::body::Body;
use habit_gateway::keys::{KeyLimits, NewKey};
use habit_gateway::testing::{TestApp, request};
use http::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn the_default_is_shown_by_its_own_name_to_those_who_may_ask_it() {
    let test = TestApp::start().await;
    let key = test.key("team", "me").await;
    let by_name = test.get("/v1/models/scripted", &key).await.json();
    assert_eq!(by_name["id"], "scripted");
    assert_eq!(test.get("/v1/models/default", &key).await.json(), by_name);
    let new = NewKey {
        team: "team".to_owned(),
        user: "other".to_owned(),
        limits: KeyLimits {
            models: Some(vec!["another".to_owned()]),
            ..KeyLimits::default()
        },
        ..NewKey::default()
    };
    let limited = test.keys.create(new).await.unwrap().key;
    let refused = test.get("/v1/models/default", &limited).await;
    assert_eq!(
        (refused.status, refused.error_code().as_str()),
        (StatusCode::NOT_FOUND, "model_not_found")
    );
}

#[tokio::test]
async fn anthropics_clients_get_what_theirs_have_besides() {
    let test = TestApp::start().await;
    let key = test.key("team", "me").await;
    let theirs = async |path: &str| -> Value {
        let request = request(Method::GET, path, &key).header("anthropic-version", "2023-06-01");
        test.call(request.body(Body::empty()).unwrap()).await.json()
    };
    let list = theirs("/v1/models").await;
    let first = &list["data"][0];
    assert_eq!((&first["id"], &first["object"]), (&json!("scripted"), &json!("model")));
    assert_eq!(
        (&first["type"], &first["display_name"]),
        (&json!("model"), &json!("scripted"))
    );
    let at = first["created_at"].as_str().unwrap();
    assert_eq!(
        at.parse::<jiff::Timestamp>().unwrap().as_second(),
        first["created"].as_i64().unwrap()
    );
    assert_eq!(list["has_more"], false);
    assert_eq!(list["first_id"], "scripted");
    assert_eq!(list["last_id"], list["data"].as_array().unwrap().last().unwrap()["id"]);
    assert_eq!(&theirs("/v1/models/scripted").await, first);
    // OpenAI's clients get OpenAI's fields.
    let plain = test.get("/v1/models", &key).await.json();
    assert!(
        plain.get("has_more").is_none() && plain["data"][0].get("type").is_none(),
        "{plain}"
    );
}
