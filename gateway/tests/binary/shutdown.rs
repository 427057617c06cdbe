//! SIGTERM: replies under way are finished and recorded, then the process ends with success.

use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::json;

use crate::process::Server;
use crate::upstream::{Upstream, WORDS};

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_under_way_is_finished_and_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let upstream = Upstream::start_gated().await;
    let server = Server::start(&data, &["--upstream", &upstream.url]).await;
    upstream.gate.add_permits(2);
    let body = json!({"messages": [{"role": "user", "content": "Take your time."}], "stream": true});
    let reply = server.chat(&body, &[]).await;
    let turn = reply.headers()["x-habit-turn"].to_str().unwrap().to_owned();
    let mut bytes = reply.bytes_stream();
    let mut text = String::new();
    while !text.contains(WORDS[1].trim()) {
        text.push_str(&String::from_utf8_lossy(&bytes.next().await.unwrap().unwrap()));
    }

    server.signal("TERM");
    // No new work is taken once it drains.
    let deadline = Instant::now() + Duration::from_secs(10);
    while server
        .request(reqwest::Method::GET, "/health")
        .send()
        .await
        .is_ok_and(|reply| reply.status().is_success())
    {
        assert!(Instant::now() < deadline, "still taking requests 10 s after SIGTERM");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    upstream.gate.add_permits(WORDS.len() - 2);
    while let Some(piece) = bytes.next().await {
        text.push_str(&String::from_utf8_lossy(&piece.unwrap()));
    }
    assert!(text.trim_end().ends_with("data: [DONE]"), "{text}");
    assert!(server.terminate().await.success());

    let server = Server::start(&data, &["--upstream", &upstream.url]).await;
    let record = server.get(&format!("/v1/turns/{turn}")).await;
    assert_eq!(record["outcome"], "completed");
    assert_eq!(record["reply"], WORDS.concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_recorded_as_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let upstream = Upstream::start_gated().await;
    let server = Server::start(&data, &["--upstream", &upstream.url]).await;
    upstream.gate.add_permits(3);
    let body = json!({"messages": [{"role": "user", "content": "I will leave."}], "stream": true});
    let reply = server.chat(&body, &[]).await;
    let turn = reply.headers()["x-habit-turn"].to_str().unwrap().to_owned();
    let mut bytes = reply.bytes_stream();
    let mut text = String::new();
    while text.matches("\"content\":\"").count() < 3 {
        text.push_str(&String::from_utf8_lossy(&bytes.next().await.unwrap().unwrap()));
    }
    drop(bytes);

    let deadline = Instant::now() + Duration::from_secs(30);
    let record = loop {
        let reply = server
            .request(reqwest::Method::GET, &format!("/v1/turns/{turn}"))
            .send()
            .await
            .unwrap();
        if reply.status().is_success() {
            break reply.json::<serde_json::Value>().await.unwrap();
        }
        assert!(Instant::now() < deadline, "the turn was not recorded");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(record["outcome"], "interrupted");
    assert!(WORDS.concat().starts_with(record["reply"].as_str().unwrap()));
    assert!(!record["reply"].as_str().unwrap().is_empty());
}
