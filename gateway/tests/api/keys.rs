//! Keys: what is kept of them, who may make and revoke them, how fast a revocation works.

use habit_gateway::keys::{KeyStore, NewKey};
use habit_gateway::testing::TestApp;
use habit_memory::clock::SystemClock;
use habit_memory::store::sea::SeaJournal;
use habit_memory::testing::Postgres;
use http::StatusCode;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn new(team: &str, user: &str) -> NewKey {
    NewKey {
        team: team.to_owned(),
        user: user.to_owned(),
        label: "test".to_owned(),
        ..NewKey::default()
    }
}

#[tokio::test]
async fn a_key_is_verified_and_its_secret_is_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("habit.db");
    let journal = SeaJournal::open(&path).await.unwrap();
    let keys = KeyStore::new(journal.database(), Arc::new(SystemClock));
    assert!(!keys.any_live().await.unwrap());
    let created = keys.create(new("acme", "ann")).await.unwrap();
    assert!(keys.any_live().await.unwrap());
    let secret = created.key.rsplit('-').next().unwrap();
    assert_eq!(secret.len(), 64, "256 bits in hex");
    let caller = keys.verify(&created.key).await.unwrap().unwrap();
    assert_eq!(
        (caller.scope.team(), caller.scope.user(), caller.admin),
        ("acme", "ann", false)
    );
    assert_eq!(caller.key_id, created.info.id);
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(
            !bytes.windows(secret.len()).any(|window| window == secret.as_bytes()),
            "the secret is on the disk"
        );
    }
    for wrong in [
        "",
        "hb-",
        "hb--",
        "hb-x-y",
        &created.key[..created.key.len() - 1],
        &created.key.to_uppercase(),
    ] {
        assert!(keys.verify(wrong).await.unwrap().is_none(), "{wrong}");
    }
    let other = keys.create(new("acme", "bob")).await.unwrap();
    let mixed = format!("hb-{}-{secret}", other.info.id);
    assert!(
        keys.verify(&mixed).await.unwrap().is_none(),
        "one key's name with another's secret"
    );
}

#[tokio::test]
async fn names_are_checked() {
    let test = TestApp::start().await;
    for (team, user) in [("", "ann"), ("acme", ""), ("a b", "ann"), ("acme", "x'y")] {
        assert!(test.keys.create(new(team, user)).await.is_err(), "{team}/{user}");
    }
    let admin = test.admin_key("acme", "ann").await;
    let reply = test.post("/v1/keys", &admin, &json!({"user": "not a name"})).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
}

#[tokio::test]
async fn a_revocation_by_another_process_works_within_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("habit.db");
    let in_file = [
        SeaJournal::open(&path).await.unwrap(),
        SeaJournal::open(&path).await.unwrap(),
    ];
    let server = Postgres::start().await;
    let in_postgres = [server.open().await, server.open().await];
    for [one, two] in [in_file, in_postgres] {
        let here = KeyStore::new(one.database(), Arc::new(SystemClock));
        let elsewhere = KeyStore::new(two.database(), Arc::new(SystemClock));
        let created = elsewhere.create(new("acme", "ann")).await.unwrap();
        assert!(here.verify(&created.key).await.unwrap().is_some());
        assert!(elsewhere.revoke(&created.info.id, None).await.unwrap());
        let began = Instant::now();
        while here.verify(&created.key).await.unwrap().is_some() {
            assert!(began.elapsed() < Duration::from_secs(5), "the key still works");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_begin_at_once_make_one_first_key() {
    let server = Postgres::start().await;
    let (one, two) = (server.open().await, server.open().await);
    let keys = [&one, &two].map(|journal| KeyStore::new(journal.database(), Arc::new(SystemClock)));
    let made = tokio::join!(
        keys[0].create_first(new("acme", "ann")),
        keys[1].create_first(new("acme", "bob"))
    );
    let (made_here, made_there) = (made.0.unwrap(), made.1.unwrap());
    assert!(made_here.is_some() != made_there.is_some());
    assert_eq!(keys[0].list(None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_admin_makes_lists_and_revokes_keys_over_http() {
    let test = TestApp::start().await;
    let admin = test.admin_key("acme", "ann").await;
    let reply = test
        .post("/v1/keys", &admin, &json!({"user": "bob", "label": "laptop"}))
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let made = reply.json();
    assert_eq!(
        (made["team"].as_str(), made["user"].as_str()),
        (Some("acme"), Some("bob"))
    );
    let (key, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    assert_eq!(test.get("/v1/models", key).await.status, StatusCode::OK);
    let list = test.get("/v1/keys", &admin).await.json();
    let row = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["id"] == id)
        .unwrap()
        .clone();
    assert_eq!(row["label"], "laptop");
    assert!(row.get("key").is_none() && !list.to_string().contains(key.rsplit('-').next().unwrap()));
    assert_eq!(
        test.delete(&format!("/v1/keys/{id}"), &admin).await.status,
        StatusCode::OK
    );
    assert_eq!(test.get("/v1/models", key).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        test.delete("/v1/keys/0123456789abcdef", &admin).await.status,
        StatusCode::NOT_FOUND
    );
    let reply = test
        .post("/v1/keys", &admin, &json!({"user": "bob", "team": "other"}))
        .await;
    assert_eq!(
        reply.status,
        StatusCode::BAD_REQUEST,
        "the team is never from the request"
    );
}

#[tokio::test]
async fn a_fixed_key_opens_a_worker() {
    let caller = {
        let scope = habit_memory::Scope::new("default", "me").unwrap();
        habit_gateway::auth::Caller {
            key_id: "worker".into(),
            scope,
            admin: false,
            meter: None,
        }
    };
    let keys = KeyStore::fixed("anything", caller, Arc::new(SystemClock));
    assert!(keys.verify("anything").await.unwrap().is_some());
    assert!(keys.verify("anything else").await.unwrap().is_none());
    assert!(keys.create(new("acme", "ann")).await.is_err());
}
