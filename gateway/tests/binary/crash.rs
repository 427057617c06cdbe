//! kill -9, again and again: what a client saw finished is there, the database always opens.

use futures::StreamExt;
use serde_json::{Value, json};

use crate::process::Server;
use crate::upstream::{Upstream, WORDS};

/// Rounds in all: half are killed right after a reply was read, half in mid-stream.
const ROUNDS: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_seen_finished_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let upstream = Upstream::start_gated().await;
    let mut finished: Vec<(String, String)> = Vec::new();
    for round in 0..ROUNDS {
        let server = Server::start(&data, &["--upstream", &upstream.url]).await;
        check_last(&server, &finished).await;
        let question = format!("Round {round}: remember this.");
        upstream.gate.add_permits(WORDS.len());
        let turn = read_to_the_end(&server, &question, round % 2 == 0).await;
        finished.push((turn, question));
        if round % 2 == 1 {
            break_off(&server, &upstream, round % WORDS.len()).await;
        }
        server.kill_9();
        // Permits that the broken stream did not take must not feed the next round.
        let left = upstream.gate.available_permits();
        upstream.gate.forget_permits(left);
    }
    let server = Server::start(&data, &["--upstream", &upstream.url]).await;
    for (turn, question) in &finished {
        check(&server, turn, question).await;
    }
    let turns = server.get("/v1/turns?limit=1000").await;
    let completed = turns["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|turn| turn["outcome"] == "completed")
        .count();
    assert_eq!(completed, ROUNDS, "each finished turn once");
}

/// The turn that finished right before the last kill.
async fn check_last(server: &Server, finished: &[(String, String)]) {
    if let Some((turn, question)) = finished.last() {
        check(server, turn, question).await;
    }
}

async fn check(server: &Server, turn: &str, question: &str) {
    let record = server.get(&format!("/v1/turns/{turn}")).await;
    assert_eq!(record["outcome"], "completed");
    assert_eq!(record["prompt"], question);
    assert_eq!(record["reply"], WORDS.concat());
}

/// A whole reply, streamed or not; gives the turn's id.
async fn read_to_the_end(server: &Server, question: &str, stream: bool) -> String {
    let body = json!({"messages": [{"role": "user", "content": question}], "stream": stream});
    let reply = server.chat(&body, &[]).await;
    let turn = reply.headers()["x-habit-turn"].to_str().unwrap().to_owned();
    let text = reply.text().await.unwrap();
    if stream {
        assert!(text.trim_end().ends_with("data: [DONE]"), "{text}");
    } else {
        let reply: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(reply["choices"][0]["message"]["content"], WORDS.concat());
    }
    turn
}

/// Starts a streamed reply and reads until some words of it have come.
async fn break_off(server: &Server, upstream: &Upstream, words: usize) {
    let body = json!({"messages": [{"role": "user", "content": "This will break off."}], "stream": true});
    upstream.gate.add_permits(words);
    let reply = server.chat(&body, &[]).await;
    let mut bytes = reply.bytes_stream();
    let mut text = String::new();
    // The role comes in a delta of its own, before any word.
    while text.matches("\"content\":\"").count() < words {
        text.push_str(&String::from_utf8_lossy(&bytes.next().await.unwrap().unwrap()));
    }
}
