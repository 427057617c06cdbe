//! No route shows, changes or deletes what belongs to another team, or to another user of the same team. One case a
//! route: `data/routes.txt` has all of them in a table ([`attack`]), and the tests here look closer at some.

mod attack;

use habit_gateway::testing::TestApp;
use http::StatusCode;
use serde_json::{Value, json};

const SECRET: &[u8] = b"The vault of acme opens with the word Heron.";
const QUESTION: &str = "Which word opens the vault of acme?";

/// What ann of acme has: a turn, documents of all three places, a key; and everyone else's keys.
struct World {
    test: TestApp,
    ann: String,
    /// Another team; another user of the same team.
    strangers: [String; 2],
    turn: String,
    own: String,
    team_wide: String,
    in_conversation: String,
}

async fn world() -> World {
    let test = TestApp::start().await;
    let ann = test.admin_key("acme", "ann").await;
    // The same user name in another team is another person.
    let strangers = [
        test.admin_key("other", "ann").await,
        test.admin_key("acme", "bob").await,
    ];
    let said = test
        .post(
            "/v1/chat/completions",
            &ann,
            &json!({
                "messages": [{"role": "user", "content": "The vault of acme opens with the word Heron."}],
                "metadata": {"conversation_id": "c1"},
            }),
        )
        .await;
    assert_eq!(said.status, StatusCode::OK, "{}", said.text());
    let turn = said.headers["x-habit-turn"].to_str().unwrap().to_owned();
    let id = |reply: Value| reply["data"][0]["id"].as_str().unwrap().to_owned();
    let own = id(test.upload(&ann, &[("own.txt", SECRET)], &[]).await.json());
    let team_wide = id(test
        .upload(
            &ann,
            &[("team.txt", b"The garage opens at seven.")],
            &[("team_wide", "true")],
        )
        .await
        .json());
    let in_conversation = id(test
        .upload(&ann, &[("conv.txt", SECRET)], &[("conversation", "c1")])
        .await
        .json());
    test.indexed().await;
    World {
        test,
        ann,
        strangers,
        turn,
        own,
        team_wide,
        in_conversation,
    }
}

fn ids(list: &Value) -> Vec<&str> {
    list["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|item| item["id"].as_str())
        .collect()
}

#[tokio::test]
async fn chat_does_not_recall_what_others_said() {
    let world = world().await;
    for stranger in &world.strangers {
        let body = json!({
            "messages": [{"role": "user", "content": QUESTION}],
            // Naming the conversation does not open it either.
            "metadata": {"conversation_id": "c1"},
        });
        let reply = world.test.post("/v1/chat/completions", stranger, &body).await;
        let turn = reply.headers["x-habit-turn"].to_str().unwrap();
        let record = world.test.get(&format!("/v1/turns/{turn}"), stranger).await.json();
        assert!(!record["injected"].to_string().contains("Heron"), "{record}");
    }
    let body = json!({"messages": [{"role": "user", "content": QUESTION}]});
    let reply = world.test.post("/v1/chat/completions", &world.ann, &body).await;
    let turn = reply.headers["x-habit-turn"].to_str().unwrap();
    let record = world.test.get(&format!("/v1/turns/{turn}"), &world.ann).await.json();
    assert!(
        record["injected"].to_string().contains("Heron"),
        "the test proves nothing: {record}"
    );
}

#[tokio::test]
async fn turns() {
    let world = world().await;
    let path = format!("/v1/turns/{}", world.turn);
    for stranger in &world.strangers {
        assert_eq!(world.test.get(&path, stranger).await.status, StatusCode::NOT_FOUND);
        assert_eq!(world.test.delete(&path, stranger).await.status, StatusCode::NOT_FOUND);
        for list in ["/v1/turns", "/v1/turns?conversation=c1"] {
            assert!(ids(&world.test.get(list, stranger).await.json()).is_empty(), "{list}");
        }
        let before = format!("/v1/turns?before={}", uuid::Uuid::now_v7());
        assert!(ids(&world.test.get(&before, stranger).await.json()).is_empty());
    }
    assert_eq!(
        ids(&world.test.get("/v1/turns", &world.ann).await.json()),
        [world.turn.as_str()]
    );
    assert_eq!(world.test.delete(&path, &world.ann).await.status, StatusCode::OK);
    assert_eq!(world.test.get(&path, &world.ann).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn documents_of_a_user() {
    let world = world().await;
    for stranger in &world.strangers {
        for (id, query) in [
            (&world.own, ""),
            (&world.in_conversation, ""),
            (&world.in_conversation, "?conversation=c1"),
        ] {
            let path = format!("/v1/documents/{id}{query}");
            assert_eq!(
                world.test.get(&path, stranger).await.status,
                StatusCode::NOT_FOUND,
                "{path}"
            );
            assert_eq!(
                world.test.delete(&path, stranger).await.status,
                StatusCode::NOT_FOUND,
                "{path}"
            );
        }
        for list in ["/v1/documents", "/v1/documents?conversation=c1"] {
            let reply = world.test.get(list, stranger).await.json();
            let seen = ids(&reply);
            assert!(
                !seen.contains(&world.own.as_str()) && !seen.contains(&world.in_conversation.as_str()),
                "{list}"
            );
        }
        let cleared = world
            .test
            .delete("/v1/documents?conversation=c1", stranger)
            .await
            .json();
        assert_eq!(cleared["deleted"], json!([]));
        let search = json!({"query": QUESTION, "limit": 50, "conversation": "c1"});
        let found = world.test.post("/v1/documents/search", stranger, &search).await;
        assert!(!found.text().contains("Heron"), "{}", found.text());
    }
    let all = world.test.get("/v1/documents?conversation=c1", &world.ann).await.json();
    assert_eq!(ids(&all).len(), 3, "a stranger deleted something: {all}");
}

#[tokio::test]
async fn documents_of_a_team() {
    let world = world().await;
    let path = format!("/v1/documents/{}", world.team_wide);
    let [other_team, same_team] = &world.strangers;
    assert_eq!(world.test.get(&path, other_team).await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.test.delete(&path, other_team).await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.test.get(&path, same_team).await.status, StatusCode::OK);
    assert_eq!(world.test.delete(&path, same_team).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_upload_never_replaces_a_strangers_document() {
    let world = world().await;
    for stranger in &world.strangers {
        let reply = world
            .test
            .upload(stranger, &[("own.txt", b"Something else.")], &[])
            .await;
        assert_eq!(reply.status, StatusCode::OK);
        let reply = world
            .test
            .upload(stranger, &[("conv.txt", b"Something else.")], &[("conversation", "c1")])
            .await;
        assert_eq!(reply.status, StatusCode::OK);
    }
    for (id, query) in [(&world.own, ""), (&world.in_conversation, "?conversation=c1")] {
        let path = format!("/v1/documents/{id}{query}");
        assert_eq!(world.test.get(&path, &world.ann).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn keys_of_a_team() {
    let world = world().await;
    let [other_team, _] = &world.strangers;
    let list = world.test.get("/v1/keys", &world.ann).await.json();
    assert_eq!(ids(&list).len(), 2, "ann's and bob's: {list}");
    let foreign = world.test.get("/v1/keys", other_team).await.json();
    for id in ids(&list) {
        assert!(!ids(&foreign).contains(&id));
        assert_eq!(
            world.test.delete(&format!("/v1/keys/{id}"), other_team).await.status,
            StatusCode::NOT_FOUND
        );
    }
    assert_eq!(
        world.test.get("/v1/models", &world.ann).await.status,
        StatusCode::OK,
        "a stranger revoked a key"
    );
    let made = world
        .test
        .post("/v1/keys", other_team, &json!({"user": "ann"}))
        .await
        .json();
    assert_eq!(made["team"], "other", "a new key is of the caller's own team");
}

#[tokio::test]
async fn feedback_is_its_users_own() {
    let world = world().await;
    let say = json!({"turn": world.turn, "correction": "The word is Heron, and nobody else's business."});
    let given = world.test.post("/v1/feedback", &world.ann, &say).await.json();
    let id = given["id"].as_str().unwrap();
    for stranger in &world.strangers {
        let refused = world.test.post("/v1/feedback", stranger, &say).await;
        assert_eq!(
            refused.status,
            StatusCode::NOT_FOUND,
            "another's turn: {}",
            refused.text()
        );
        for path in [
            "/v1/feedback",
            "/v1/learning/examples",
            "/v1/learning/export",
            "/v1/learning/export?format=kto",
        ] {
            let text = world.test.get(path, stranger).await.text();
            assert!(!text.contains("Heron"), "{path}: {text}");
        }
        let lineage = world.test.get(&format!("/v1/learning/lineage/{id}"), stranger).await;
        assert_eq!(lineage.status, StatusCode::NOT_FOUND, "{}", lineage.text());
        let deleted = world.test.delete(&format!("/v1/feedback/{id}"), stranger).await;
        assert_eq!(deleted.status, StatusCode::NOT_FOUND, "{}", deleted.text());
    }
    let own = world.test.get("/v1/learning/export", &world.ann).await.text();
    assert!(own.contains("Heron"), "{own}");
}

#[tokio::test]
async fn runs_of_downtime_are_the_teams_own() {
    let world = world().await;
    let body = json!({"routine": "audit"});
    let asked = world.test.post("/v1/downtime/run", &world.ann, &body).await.json();
    let run = asked["data"][0]["id"].as_str().unwrap();
    let other = &world.strangers[0];
    for path in ["/v1/downtime", "/v1/downtime/runs"] {
        let text = world.test.get(path, other).await.text();
        assert!(!text.contains(run) && !text.contains("acme"), "{path}: {text}");
    }
    let path = format!("/v1/downtime/runs/{run}");
    assert_eq!(world.test.get(&path, other).await.status, StatusCode::NOT_FOUND);
    for act in ["cancel", "resume", "undo"] {
        let refused = world.test.post(&format!("{path}/{act}"), other, &json!({})).await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND, "{act}: {}", refused.text());
    }
    let theirs = world
        .test
        .post("/v1/downtime/run", other, &json!({"user": "ann"}))
        .await
        .text();
    assert!(!theirs.contains("acme"), "{theirs}");
}

#[tokio::test]
async fn models_and_health_say_nothing_of_anyone() {
    let world = world().await;
    for (path, key) in [
        ("/v1/models", world.strangers[0].as_str()),
        ("/health", ""),
        ("/openapi.yaml", ""),
    ] {
        let text = world.test.get(path, key).await.text();
        assert!(!text.contains("acme") && !text.contains("Heron"), "{path}: {text}");
    }
    let model = world.test.get("/v1/models/scripted", &world.strangers[0]).await;
    assert_eq!(model.status, StatusCode::OK);
}

#[tokio::test]
async fn a_rebuilt_index_keeps_everyone_apart() {
    let world = world().await;
    let rebuild = habit_gateway::testing::request(http::Method::POST, "/v1/reindex", &world.strangers[0]);
    let reply = world.test.call(rebuild.body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    world.test.indexed().await;
    for stranger in &world.strangers {
        let found = world
            .test
            .post("/v1/documents/search", stranger, &json!({"query": QUESTION}))
            .await;
        assert!(!found.text().contains("Heron"), "{}", found.text());
    }
    let found = world
        .test
        .post("/v1/documents/search", &world.ann, &json!({"query": QUESTION}))
        .await;
    assert!(found.text().contains("Heron"), "{}", found.text());
}
