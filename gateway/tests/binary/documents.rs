//! Documents: on the command line and over HTTP, for good and for one conversation, found and really removed.

use std::path::Path;

use serde_json::{Value, json};

use crate::process::{Server, run};

const HANDBOOK: &str = "# Harbour handbook\n\n## Cranes\n\nThe big crane may lift 40 tonnes. Its inspector is Ms Adeyemi.\n\n\
    ## Gates\n\nThe north gate closes at 21:30 in winter.\n\n## Canteen\n\nOn Thursdays there is pea soup.\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_ingested_file_answers_and_a_deleted_one_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let handbook = dir.path().join("handbook.md");
    let broken = dir.path().join("photo.bin");
    std::fs::write(&handbook, HANDBOOK).unwrap();
    std::fs::write(&broken, [0_u8, 159, 146, 150, 0, 1, 2, 3]).unwrap();

    // A file that can't be read is named; the other still goes in; the command fails. With no server running.
    let output = run(
        &data,
        &["ingest", "--team", "t", "--user", "u", path(&broken), path(&handbook)],
    );
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!output.status.success());
    assert!(text.contains("photo.bin"), "{text}");

    let server = Server::start(&data, &[]).await;
    let documents = server.get("/v1/documents").await;
    let names: Vec<&str> = documents["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["handbook.md"]);

    let injected = injected_for(&server, "When does the north gate close in winter?", &[]).await;
    assert!(injected.to_string().contains("21:30"), "{injected}");
    let passage = injected
        .as_array()
        .unwrap()
        .iter()
        .find(|passage| passage["text"].to_string().contains("21:30"))
        .unwrap();
    assert_eq!(passage["source"], "persistent");
    let label = passage["citation"]["label"].as_str().unwrap();
    assert!(label.contains("handbook.md") && label.contains("Gates"), "{label}");
    assert!(
        !passage["text"].to_string().contains("pea soup"),
        "only the chunk that matters: {passage}"
    );

    let id = documents["data"][0]["id"].as_str().unwrap();
    let gone = server
        .request(reqwest::Method::DELETE, &format!("/v1/documents/{id}"))
        .send()
        .await
        .unwrap();
    assert!(gone.status().is_success());
    let injected = injected_for(&server, "When does the north gate close in summer or winter?", &[]).await;
    assert!(!injected.to_string().contains("\"persistent\""), "{injected}");
    let found: Value = search(&server, "north gate").await;
    assert_eq!(found["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversations_document_stays_in_it_until_it_is_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let notes = dir.path().join("notes.txt");
    std::fs::write(&notes, "The password of the regatta is heliotrope.").unwrap();
    let server = Server::start(&data, &[]).await;
    // With a server running on the same data directory.
    let output = run(
        &data,
        &[
            "ingest",
            "--team",
            "t",
            "--user",
            "u",
            "--conversation",
            "boat",
            path(&notes),
        ],
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let question = "What is the password of the regatta?";
    let inside = injected_for(&server, question, &[("X-Habit-Conversation", "boat")]).await;
    assert!(inside.to_string().contains("heliotrope"), "{inside}");
    assert!(inside.to_string().contains("\"inference\""), "{inside}");
    let outside = injected_for(&server, question, &[("X-Habit-Conversation", "train")]).await;
    assert!(!outside.to_string().contains("\"inference\""), "{outside}");

    let cleared = server
        .request(reqwest::Method::DELETE, "/v1/documents?conversation=boat")
        .send()
        .await
        .unwrap();
    assert!(cleared.status().is_success());
    let inside = injected_for(&server, question, &[("X-Habit-Conversation", "boat")]).await;
    assert!(!inside.to_string().contains("\"inference\""), "{inside}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_index_is_rebuilt_from_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &[]).await;
    server
        .ask("My dog is called Biscuit, I work at the harbour.", &[])
        .await;
    assert!(server.terminate().await.success());
    std::fs::remove_dir_all(data.join("index")).unwrap();
    let output = run(&data, &["reindex"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let server = Server::start(&data, &[]).await;
    let injected = injected_for(&server, "What is my dog called?", &[]).await;
    assert!(injected.to_string().contains("Biscuit"), "{injected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_brings_in_just_the_tables_that_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let schema = dir.path().join("used_cars.sql");
    std::fs::write(&schema, include_str!("../data/used_cars.sql")).unwrap();
    let server = Server::start(&data, &[]).await;
    let output = run(&data, &["ingest", "--team", "t", "--user", "u", path(&schema)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (question, needed) in [
        (
            "top 5 bids with the advertisement's title",
            &["advertisement", "bid", "car"][..],
        ),
        ("which cars cost less than 10000", &["car"]),
        (
            "title of the car advertisement with the highest bid",
            &["advertisement", "bid", "car"],
        ),
        ("how many users live in each city", &["city", "users"]),
        ("average rating of dealers", &["dealer_review"]),
        ("what is the weather in Paris?", &[]),
    ] {
        let found = search(&server, question).await;
        let passages = found["data"].as_array().unwrap().iter();
        let mut tables: Vec<_> = passages
            .map(|passage| passage["citation"]["label"].as_str().unwrap())
            .map(|label| label.rsplit(' ').next().unwrap().to_owned())
            .collect();
        tables.sort();
        assert_eq!(tables, needed, "{question}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_listed_and_deleted_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let folder = dir.path().join("docs");
    std::fs::create_dir(&folder).unwrap();
    for name in ["a file.md", "b.md"] {
        std::fs::write(folder.join(name), HANDBOOK).unwrap();
    }
    let server = Server::start(&data, &[]).await;
    let habit = |args: &[&str]| {
        let output = run(&data, &[args, &["--team", "t", "--user", "u"]].concat());
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), said(&output.stdout), said(&output.stderr))
    };
    let (done, _, error) = habit(&["ingest", path(&folder)]);
    assert!(done, "{error}");
    let (done, listed, error) = habit(&["documents", "list", "docs/a file.md"]);
    assert!(
        done && listed.contains("docs/a file.md") && !listed.contains("b.md"),
        "{listed}{error}"
    );
    for command in ["list", "delete"] {
        let (done, _, error) = habit(&["documents", command, "a file.md"]);
        assert!(!done && error.contains("no document is called `a file.md`"), "{error}");
    }
    let (done, told, error) = habit(&["documents", "delete", "docs/a file.md"]);
    assert!(done && told.contains("docs/a file.md deleted"), "{told}{error}");
    let left = server.get("/v1/documents").await;
    assert_eq!(left["data"].as_array().unwrap().len(), 1, "{left}");
    assert_eq!(left["data"][0]["name"], "docs/b.md");
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn injected_for(server: &Server, question: &str, headers: &[(&str, &str)]) -> Value {
    let body = json!({"messages": [{"role": "user", "content": question}], "max_tokens": 1});
    let reply = server.chat(&body, headers).await;
    let turn = reply.headers()["x-habit-turn"].to_str().unwrap().to_owned();
    assert!(reply.status().is_success());
    reply.bytes().await.unwrap();
    server.get(&format!("/v1/turns/{turn}")).await["injected"].clone()
}

async fn search(server: &Server, query: &str) -> Value {
    let body = json!({"query": query, "limit": 5});
    let reply = server
        .request(reqwest::Method::POST, "/v1/documents/search")
        .json(&body)
        .send()
        .await
        .unwrap();
    reply.json().await.unwrap()
}
