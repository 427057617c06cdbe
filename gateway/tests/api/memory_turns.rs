//! The remembered conversation: what was said once is before the model when it matters, and only then.

use std::sync::Arc;

use axum::body::Body;
use habit_engine::fleet::{Fleet, Member, MemberOptions};
use habit_engine::scripted::Scripted;
use habit_gateway::testing::{Reply, TestApp, request};
use http::Method;
use serde_json::{Value, json};

const URL: &str = "/v1/chat/completions";
const FACT: &str = "My dog is called Biscuit.";
const QUESTION: &str = "What is my dog called?";

async fn start() -> (TestApp, Scripted, String) {
    let engine = Scripted::default().reply("I see.");
    let test = TestApp::builder().engine(Arc::new(engine.clone())).build().await;
    let key = test.key("team", "me").await;
    (test, engine, key)
}

fn header(reply: &Reply, name: &str) -> String {
    reply.headers[name].to_str().unwrap().to_owned()
}

/// Says something with a memory mode, waits until it is indexed, and gives the turn's record.
async fn say(test: &TestApp, key: &str, words: &str, mode: &str) -> Value {
    let body = json!({"messages": [{"role": "user", "content": words}]});
    let post = request(Method::POST, URL, key).header("content-type", "application/json");
    let reply = test
        .call(
            post.header("x-habit-memory", mode)
                .body(Body::from(body.to_string()))
                .unwrap(),
        )
        .await;
    assert!(reply.status.is_success(), "{}", reply.text());
    test.indexed().await;
    let record = test
        .get(&format!("/v1/turns/{}", header(&reply, "x-habit-turn")), key)
        .await;
    record.json()
}

fn injected(turn: &Value) -> Vec<&str> {
    turn["injected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|passage| passage["text"].as_str().unwrap())
        .collect()
}

/// What the model last saw, all messages in one.
fn prompt(engine: &Scripted) -> String {
    let requests = engine.requests();
    let texts: Vec<String> = requests
        .last()
        .unwrap()
        .messages
        .iter()
        .map(habit_engine::Message::text)
        .collect();
    texts.join("\n")
}

#[tokio::test]
async fn a_fact_is_there_in_another_conversation_and_can_be_inspected() {
    let (test, engine, key) = start().await;
    let told = say(&test, &key, FACT, "on").await;
    let asked = say(&test, &key, QUESTION, "on").await;
    assert_ne!(told["conversation"], asked["conversation"]);
    let prompt = prompt(&engine);
    assert!(prompt.contains("Biscuit") && prompt.contains(QUESTION), "{prompt}");
    let [passage] = asked["injected"].as_array().unwrap().as_slice() else {
        panic!("{asked}")
    };
    assert!(passage["text"].as_str().unwrap().contains(FACT), "{passage}");
    assert_eq!(
        (passage["source"].as_str(), &passage["citation"]["id"]),
        (Some("recalled"), &told["id"])
    );
    assert!(passage["tokens"].as_u64().unwrap() > 0 && passage["score"].as_f64().unwrap() > 0.0);
    assert!(!passage["citation"]["label"].as_str().unwrap().is_empty());
    // The record keeps what the client sent, not what memory made of it.
    assert_eq!(
        (asked["prompt"].as_str(), asked["messages"][0]["content"].as_str()),
        (Some(QUESTION), Some(QUESTION))
    );
    assert!(asked["usage"]["prompt_tokens"].as_u64() > told["usage"]["prompt_tokens"].as_u64());
}

#[tokio::test]
async fn an_unrelated_question_gets_nothing() {
    let (test, engine, key) = start().await;
    say(&test, &key, FACT, "on").await;
    let asked = say(&test, &key, "Seventeen times twelve?", "on").await;
    assert!(injected(&asked).is_empty(), "{asked}");
    assert_eq!(prompt(&engine), "Seventeen times twelve?");
}

#[tokio::test]
async fn reading_and_writing_are_switched_apart() {
    // How it is told, how it is asked, and whether it is there.
    for (told, asked, there) in [
        ("on", "on", true),
        ("write", "read", true),
        ("on", "read", true),
        ("on", "off", false),
        ("on", "write", false),
        ("off", "on", false),
        ("read", "on", false),
    ] {
        let (test, _, key) = start().await;
        let first = say(&test, &key, FACT, told).await;
        assert_eq!(first["remember"].as_bool(), Some(matches!(told, "on" | "write")));
        let second = say(&test, &key, QUESTION, asked).await;
        assert_eq!(
            !injected(&second).is_empty(),
            there,
            "told {told}, asked {asked}: {second}"
        );
        // Either way the turns are in the journal.
        assert_eq!(
            test.get("/v1/turns", &key).await.json()["data"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
    }
}

#[tokio::test]
async fn what_is_visible_anyway_is_not_repeated() {
    let (test, engine, key) = start().await;
    say(&test, &key, FACT, "on").await;
    let body = json!({"messages": [
        {"role": "user", "content": FACT},
        {"role": "assistant", "content": "I see."},
        {"role": "user", "content": QUESTION},
    ]});
    let reply = test.post(URL, &key, &body).await;
    let turn = test
        .get(&format!("/v1/turns/{}", header(&reply, "x-habit-turn")), &key)
        .await
        .json();
    assert!(injected(&turn).is_empty(), "{turn}");
    assert_eq!(prompt(&engine).matches("Biscuit").count(), 1);
}

#[tokio::test]
async fn nobody_else_is_told() {
    let (test, engine, key) = start().await;
    say(&test, &key, FACT, "on").await;
    for (team, user) in [("team", "you"), ("other", "me")] {
        let stranger = test.key(team, user).await;
        let asked = say(&test, &stranger, QUESTION, "on").await;
        assert!(
            injected(&asked).is_empty() && !prompt(&engine).contains("Biscuit"),
            "{team}/{user}: {asked}"
        );
    }
}

#[tokio::test]
async fn an_outside_upstream_gets_memory_only_if_it_may() {
    for allowed in [false, true] {
        let engine = Scripted::default().reply("I see.");
        let options = MemberOptions {
            sees_memory: allowed,
            ..MemberOptions::default()
        };
        let member = Member::remote(Arc::new(engine.clone()), options);
        let fleet = Fleet::of(vec![Arc::new(member)]);
        fleet.first_look(std::time::Duration::from_secs(5)).await;
        let test = TestApp::builder().fleet(Arc::new(fleet)).build().await;
        let key = test.key("team", "me").await;
        say(&test, &key, FACT, "on").await;
        say(&test, &key, QUESTION, "on").await;
        assert_eq!(prompt(&engine).contains("Biscuit"), allowed);
    }
}

#[tokio::test]
async fn memory_never_pushes_out_what_the_client_sent() {
    let engine = Scripted::default().reply("I see.").window(24);
    let test = TestApp::builder().engine(Arc::new(engine.clone())).build().await;
    let key = test.key("team", "me").await;
    say(&test, &key, FACT, "on").await;
    let asked = say(&test, &key, QUESTION, "on").await;
    assert_eq!((prompt(&engine).as_str(), injected(&asked)), (QUESTION, Vec::new()));
}

#[tokio::test]
async fn documents_of_one_conversation_stay_in_it() {
    let (test, engine, key) = start().await;
    let uploaded = test
        .upload(
            &key,
            &[("dogs.md", b"My dog is called Biscuit.")],
            &[("conversation", "c1")],
        )
        .await;
    assert!(uploaded.status.is_success(), "{}", uploaded.text());
    test.indexed().await;
    for (conversation, there) in [("c1", true), ("c2", false)] {
        let body = json!({
            "messages": [{"role": "user", "content": QUESTION}],
            "metadata": {"conversation_id": conversation},
        });
        let reply = test.post(URL, &key, &body).await;
        let turn = test
            .get(&format!("/v1/turns/{}", header(&reply, "x-habit-turn")), &key)
            .await
            .json();
        assert_eq!(prompt(&engine).contains("Biscuit"), there, "{conversation}");
        let source = turn["injected"][0]["source"].as_str();
        assert_eq!(source, there.then_some("inference"), "{turn}");
    }
}

mod complaints;
mod overflow;
