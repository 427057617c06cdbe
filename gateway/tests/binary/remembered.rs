//! The main promise: what was said in one conversation is known in the next, with the real model and embedder.

use serde_json::{Value, json};

use crate::process::Server;
use crate::upstream::Upstream;

const TOLD: &str = "My dog is called Biscuit, I work at the harbour.";

#[tokio::test(flavor = "multi_thread")]
async fn a_fact_is_remembered_in_another_conversation() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &[]).await;
    let (told, _) = server.ask(TOLD, &[]).await;

    let (turn, answer) = server.ask("What is my dog called?", &[]).await;
    assert!(answer.contains("Biscuit"), "the answer was: {answer}");
    let record = server.get(&format!("/v1/turns/{turn}")).await;
    let injected = record["injected"].as_array().unwrap();
    let passage = injected
        .iter()
        .find(|passage| passage["citation"]["id"] == told.as_str())
        .expect("the turn that told it");
    assert!(passage["text"].as_str().unwrap().contains("Biscuit"));
    assert_eq!(passage["source"], "recalled");
    assert!(passage["score"].as_f64().unwrap() > 0.0);
    assert!(passage["tokens"].as_u64().unwrap() > 0);
    assert!(!passage["citation"]["label"].as_str().unwrap().is_empty());

    // Off: nothing is injected, though all of it is known.
    let (turn, answer) = server.ask("What is my dog called?", &[("X-Habit-Memory", "off")]).await;
    assert!(
        !answer.contains("Biscuit"),
        "with memory off the model can't know: {answer}"
    );
    assert_eq!(server.get(&format!("/v1/turns/{turn}")).await["injected"], json!([]));

    // store: false leaves no trace.
    let body = json!({
        "messages": [{"role": "user", "content": "My cat is called Marzipan."}], "max_tokens": 4, "store": false
    });
    let reply = server.chat(&body, &[]).await;
    assert!(reply.status().is_success());
    let reply: Value = reply.json().await.unwrap();
    assert!(reply["usage"]["prompt_tokens"].as_u64().unwrap() > 0);
    let turns = server.get("/v1/turns?limit=100").await;
    assert!(!turns.to_string().contains("Marzipan"));
    let (turn, _) = server.ask("What is my cat called?", &[]).await;
    let injected = server.get(&format!("/v1/turns/{turn}")).await["injected"].clone();
    assert!(!injected.to_string().contains("Marzipan"));
    assert!(server.terminate().await.success());
    let bytes = std::process::Command::new("grep")
        .args(["-rl", "Marzipan"])
        .arg(&data)
        .output()
        .unwrap();
    assert!(
        bytes.stdout.is_empty(),
        "found in {}",
        String::from_utf8_lossy(&bytes.stdout)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_turns_in_between_hide_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    // The talk is recorded through an upstream that answers at once; the question goes to the real model.
    let upstream = Upstream::start().await;
    let server = Server::start(&data, &["--upstream", &upstream.url]).await;
    server.ask(TOLD, &[]).await;
    for number in 0..200 {
        server.ask(&other_talk(number), &[]).await;
    }
    assert!(server.terminate().await.success());

    let server = Server::start(&data, &[]).await;
    let (turn, answer) = server.ask("What is my dog called?", &[]).await;
    let injected = server.get(&format!("/v1/turns/{turn}")).await["injected"].clone();
    assert!(injected.to_string().contains("Biscuit"), "injected: {injected}");
    assert!(
        answer.contains("Biscuit"),
        "the answer was: {answer}; injected: {injected}"
    );
    let (turn, answer) = server.ask("Where do I work?", &[]).await;
    let injected = server.get(&format!("/v1/turns/{turn}")).await["injected"].clone();
    assert!(injected.to_string().contains("harbour"), "injected: {injected}");
    assert!(answer.to_lowercase().contains("harbour"), "the answer was: {answer}");
}

/// Three hundred turns in a window of 2,048 tokens, of which the client sends all each time: what was said at the begin has
/// long left the prompt, and is still known.
#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_that_outgrows_the_window_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let upstream = Upstream::start().await;
    let server = Server::start(&data, &["--upstream", &upstream.url]).await;
    let mut messages = Vec::new();
    for number in 0..300 {
        let words = if number == 5 {
            TOLD.to_owned()
        } else {
            other_talk(number)
        };
        messages.push(json!({"role": "user", "content": words}));
        let reply = server.chat(&json!({"messages": messages, "max_tokens": 8}), &[]).await;
        let reply: Value = reply.json().await.unwrap();
        messages.push(reply["choices"][0]["message"].clone());
    }
    assert!(server.terminate().await.success());

    let server = Server::start(&data, &["--context-window", "2048"]).await;
    let mut answered = 0;
    let questions = [("What is my dog called?", "biscuit"), ("Where do I work?", "harbour")];
    for (question, word) in questions {
        let asked = messages
            .iter()
            .cloned()
            .chain([json!({"role": "user", "content": question})]);
        let body = json!({"messages": asked.collect::<Vec<_>>(), "max_tokens": 24, "temperature": 0});
        // A machine that is busy may be too late for a source; then it is asked again.
        let deadline = std::time::Instant::now() + std::time::Duration::from_mins(5);
        let (reply, record) = loop {
            let reply = server.chat(&body, &[]).await;
            assert!(reply.status().is_success(), "{}", reply.text().await.unwrap());
            let turn = reply.headers()["x-habit-turn"].to_str().unwrap().to_owned();
            let reply: Value = reply.json().await.unwrap();
            let record = server.get(&format!("/v1/turns/{turn}")).await;
            let late = |source: &Value| !source["problem"].is_null();
            if !record["lookup"]["sources"].as_array().unwrap().iter().any(late) || std::time::Instant::now() > deadline
            {
                break (reply, record);
            }
        };
        assert!(
            reply["usage"]["prompt_tokens"].as_u64().unwrap() + 24 <= 2048,
            "{reply}"
        );
        let answer = reply["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .to_lowercase();
        answered += usize::from(answer.contains(word));
        let back = record["injected"].as_array().unwrap().iter();
        let fact = back.filter(|passage| passage["text"].as_str().unwrap().contains("Biscuit"));
        let fact: Vec<&Value> = fact.collect();
        assert!(
            fact.len() == 1 && fact[0]["returned"] == true,
            "{question}: {}",
            record["injected"]
        );
        assert!(
            record["lookup"]["left"]["turns"].as_u64().unwrap() > 100,
            "{}",
            record["lookup"]
        );
    }
    // How many of them the smallest of models gets right is told, not asserted: what is before it is what counts here.
    eprintln!("{answered} of {} questions answered by the model", questions.len());
}

/// Everyday talk on other things; no two alike.
fn other_talk(number: usize) -> String {
    const TOPICS: [&str; 10] = [
        "How do I boil {} eggs at the same time?",
        "Please give me {} ideas for a birthday cake.",
        "What happened in the year 1{}?",
        "Write a short poem about {} clouds.",
        "My train was {} minutes late this morning.",
        "Translate 'good morning' into {} languages.",
        "I read {} pages of a novel about the sea yesterday.",
        "How many litres of paint do I need for {} square metres?",
        "The cinema in our street has {} seats.",
        "What is {} times seven?",
    ];
    TOPICS[number % TOPICS.len()].replace("{}", &(100 + number).to_string())
}
