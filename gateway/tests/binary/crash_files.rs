//! kill -9 while a file comes into a vector store: after the next start it is in the store or not, its status says which,
//! and nothing of it is missing or there twice.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::process::{Server, rounds};
use crate::upstream::Upstream;

/// Sections of the file, each a chunk of its own.
pub const SECTIONS: usize = 24;

/// Rounds, unless `HABIT_ROUNDS` says how many.
const ROUNDS: usize = MOMENTS.len();

/// How long after the request the server is killed, in milliseconds: from before it is read until after it is answered.
const MOMENTS: [u64; 8] = [0, 5, 15, 30, 60, 120, 300, 1500];

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_whole_in_a_store_or_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let upstream = Upstream::start_gated().await;
    let arguments = ["--upstream", upstream.url.as_str()];
    let mut server = Server::start(&data, &arguments).await;
    let file = upload(&server).await;
    let whole = post(&server, "/v1/vector_stores", &json!({"file_ids": [file]})).await;
    let whole = settled(&server, &format!("/v1/vector_stores/{}", id(&whole))).await;
    let mut stores = vec![id(&whole)];
    for moment in MOMENTS.into_iter().cycle().take(rounds(ROUNDS)) {
        let store = id(&post(&server, "/v1/vector_stores", &json!({})).await);
        let attach = server
            .request(Method::POST, &format!("/v1/vector_stores/{store}/files"))
            .json(&json!({"file_id": file}));
        let answer = tokio::spawn(attach.send());
        // Not to wait for anything: the moment is what is tested.
        tokio::time::sleep(Duration::from_millis(moment)).await;
        let answered = answer.is_finished();
        server.kill_9();
        answer.abort();
        server = Server::start(&data, &arguments).await;
        let files = server.get(&format!("/v1/vector_stores/{store}/files")).await;
        match files["data"].as_array().unwrap().as_slice() {
            [] => assert!(!answered, "a file that was taken in is gone"),
            [attached] => {
                let status = attached["status"].as_str().unwrap();
                assert!(["in_progress", "completed"].contains(&status), "{attached}");
                stores.push(store);
            }
            more => panic!("{more:?}"),
        }
    }
    for store in stores {
        search_until_whole(&server, &store).await;
        let store = settled(&server, &format!("/v1/vector_stores/{store}")).await;
        assert_eq!(store["file_counts"], whole["file_counts"], "{store}");
        assert_eq!(store["usage_bytes"], whole["usage_bytes"], "{store}");
    }
    assert_eq!(server.get("/v1/files").await["data"].as_array().unwrap().len(), 1);
}

pub fn id(object: &Value) -> String {
    object["id"].as_str().unwrap().to_owned()
}

pub async fn upload(server: &Server) -> String {
    let mut text = String::new();
    for section in 0..SECTIONS {
        let words = "The lighthouse keeper wrote in his log about wind, rain and ships. ".repeat(6);
        write!(text, "# Day {section}\n\nKeeper's entry number {section}. {words}\n\n").unwrap();
    }
    let part = Part::bytes(text.into_bytes()).file_name("log.md");
    let form = Form::new().text("purpose", "assistants").part("file", part);
    let reply = server.request(Method::POST, "/v1/files").multipart(form).send().await;
    let body = reply.unwrap().text().await.unwrap();
    id(&serde_json::from_str(&body).unwrap())
}

pub async fn post(server: &Server, path: &str, body: &Value) -> Value {
    let reply = server.request(Method::POST, path).json(body).send().await.unwrap();
    let (status, body) = (reply.status(), reply.text().await.unwrap());
    assert!(status.is_success(), "{path}: {status} {body}");
    serde_json::from_str(&body).unwrap()
}

pub async fn settled(server: &Server, path: &str) -> Value {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let body = server.get(path).await;
        if body["status"] == "completed" {
            return body;
        }
        assert!(Instant::now() < deadline, "{body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How many sections of the file are found in this store, each once.
pub async fn found(server: &Server, store: &str) -> usize {
    let search = json!({"query": "lighthouse keeper's entry", "max_num_results": 50});
    let found = post(server, &format!("/v1/vector_stores/{store}/search"), &search).await;
    let texts: Vec<&str> = found["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| found["content"][0]["text"].as_str().unwrap())
        .collect();
    let once: BTreeSet<&str> = texts.iter().copied().collect();
    assert_eq!(once.len(), texts.len(), "a chunk is there twice");
    texts.len()
}

async fn search_until_whole(server: &Server, store: &str) {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let found = found(server, store).await;
        if found == SECTIONS {
            return;
        }
        assert!(found < SECTIONS && Instant::now() < deadline, "{found} of {SECTIONS}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
