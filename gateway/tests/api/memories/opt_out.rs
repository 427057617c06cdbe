//! Who does not want to be remembered is not.

use super::*;

const FACT: &str = "My dog is called Biscuit.";

/// What is known after this was said, with a key of a user of its own.
async fn learnt(test: &TestApp, key: &str, words: &str, headers: &[(&str, &str)]) -> usize {
    say(test, key, words, headers).await;
    known(test, key, "?status=all").await.len()
}

#[tokio::test]
async fn a_request_may_say_so() {
    let test = TestApp::start().await;
    for (mode, expected) in [("off", 0), ("read", 0), ("write", 1), ("on", 1)] {
        let key = test.key("acme", mode).await;
        assert_eq!(
            learnt(&test, &key, FACT, &[("x-habit-memory", mode)]).await,
            expected,
            "{mode}"
        );
    }
    let key = test.key("acme", "unstored").await;
    let body = json!({"messages": [{"role": "user", "content": FACT}], "store": false});
    assert!(test.post(CHAT, &key, &body).await.status.is_success());
    test.indexed().await;
    assert!(known(&test, &key, "?status=all").await.is_empty());
}

#[tokio::test]
async fn the_configuration_may_say_so() {
    let test = TestApp::builder()
        .config(|config| config.memory.learn = false)
        .build()
        .await;
    let key = test.key("acme", "ann").await;
    assert_eq!(learnt(&test, &key, FACT, &[]).await, 0);
    // What is given is known all the same.
    add(&test, &key, FACT).await;
    assert_eq!(known(&test, &key, "").await.len(), 1);
}

#[tokio::test]
async fn rules_say_so_for_a_team_a_user_a_key_and_a_conversation() {
    let test = TestApp::start().await;
    let rule =
        |subject: &str, id: Option<&str>, mode: Option<&str>| json!({"subject": subject, "id": id, "mode": mode});
    let put = async |key: &str, body: Value| send(&test, Method::PUT, "/v1/memories/rules", key, &body, &[]).await;
    let ann = test.key("acme", "ann").await;
    let bob = test.key("acme", "bob").await;
    let admin = test.admin_key("acme", "root").await;
    // A conversation of one user.
    assert_eq!(
        put(&ann, rule("conversation", Some("c1"), Some("off"))).await.status,
        StatusCode::OK
    );
    let c1 = [("x-habit-conversation", "c1")];
    assert_eq!(learnt(&test, &ann, FACT, &c1).await, 0);
    assert_eq!(learnt(&test, &bob, FACT, &c1).await, 1);
    // A user, who reads still.
    assert_eq!(put(&ann, rule("user", None, Some("read"))).await.status, StatusCode::OK);
    assert_eq!(learnt(&test, &ann, "I live in Ghent.", &[]).await, 0);
    add(&test, &ann, "The vault opens with the word Heron.").await;
    test.indexed().await;
    assert_eq!(
        injected(&say(&test, &ann, "Which word opens the vault?", &[]).await).len(),
        1
    );
    let off = say(&test, &ann, "Which word opens the vault now?", &c1).await;
    assert!(injected(&off).is_empty(), "{off}");
    // One's own key; another's only with an admin key, and a team's too.
    let id = |key: &str| key.split('-').nth(1).unwrap().to_owned();
    assert_eq!(
        put(&ann, rule("key", Some(&id(&bob)), Some("off"))).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        put(&ann, rule("team", None, Some("off"))).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        put(&admin, rule("key", Some(&id(&bob)), Some("off"))).await.status,
        StatusCode::OK
    );
    assert_eq!(learnt(&test, &bob, "I live in Ghent.", &[]).await, 1);
    assert_eq!(
        put(&admin, rule("key", Some(&id(&bob)), None)).await.status,
        StatusCode::OK
    );
    assert_eq!(learnt(&test, &bob, "I live in Bruges.", &[]).await, 2);
    assert_eq!(
        put(&admin, rule("team", None, Some("off"))).await.status,
        StatusCode::OK
    );
    assert_eq!(learnt(&test, &bob, "I moved to Lyon.", &[]).await, 2);
    // Other teams go on.
    let other = test.key("other", "ann").await;
    assert_eq!(learnt(&test, &other, FACT, &c1).await, 1);
    let rules = test.get("/v1/memories/rules", &ann).await.json();
    assert_eq!(rules["data"].as_array().unwrap().len(), 3, "{rules}");
    let theirs = test.get("/v1/memories/rules", &other).await.json();
    assert!(theirs["data"].as_array().unwrap().is_empty(), "{theirs}");
    for wrong in [
        rule("conversation", None, Some("off")),
        rule("user", Some("bob"), Some("off")),
        rule("planet", None, Some("off")),
        rule("user", None, Some("sometimes")),
    ] {
        assert_eq!(
            put(&ann, wrong.clone()).await.status,
            StatusCode::BAD_REQUEST,
            "{wrong}"
        );
    }
}
