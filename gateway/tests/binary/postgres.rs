//! `habit serve` and the commands on a Postgres server, which is started anew under them.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use habit_memory::testing::Postgres;
use serde_json::json;

use crate::process::{Server, log_of, new_key, run, setting};
use crate::upstream::Upstream;

const PASSWORD: &str = "hunter2";

/// A data directory whose settings name this database.
fn settle(data: &Path, database: &Postgres) {
    let url = database
        .url()
        .replacen("postgres@", &format!("postgres:{PASSWORD}@"), 1);
    std::fs::create_dir_all(data).unwrap();
    std::fs::write(data.join("habit.toml"), format!("[data]\ndatabase = \"{url}\"\n")).unwrap();
}

async fn injected(server: &Server, question: &str) -> String {
    let (turn, _) = server.ask(question, &[]).await;
    server.get(&format!("/v1/turns/{turn}")).await["injected"].to_string()
}

/// What a command that went well said.
fn said(data: &Path, args: &[&str]) -> String {
    let output = run(data, args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    assert!(!error.contains(PASSWORD), "{error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn memory<'a>(what: &[&'a str]) -> Vec<&'a str> {
    [&["memory"], what, &["--team", "t", "--user", "u"]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_lives_on_postgres_and_outlives_its_restart() {
    let database = Postgres::start().await;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    settle(&data, &database);
    let upstream = Upstream::start().await;
    let args = ["--upstream", upstream.url.as_str()];
    let server = Server::start(&data, &args).await;
    assert!(!data.join("habit.db").exists(), "nothing is in a file");

    // A first answer, and an earlier turn that is found again.
    server
        .ask("My dog is called Biscuit, I work at the harbour.", &[])
        .await;
    let found = injected(&server, "What is my dog called?").await;
    assert!(found.contains("Biscuit"), "{found}");
    let form = reqwest::multipart::Form::new().text("purpose", "assistants").part(
        "file",
        reqwest::multipart::Part::bytes(b"The mooring is number 41.".to_vec()).file_name("notes.txt"),
    );
    let kept = server
        .request(reqwest::Method::POST, "/v1/files")
        .multipart(form)
        .send()
        .await
        .unwrap();
    assert!(kept.status().is_success(), "{}", kept.text().await.unwrap());
    assert_eq!(server.get("/v1/files").await["data"][0]["filename"], "notes.txt");

    // Commands beside the server.
    new_key(&data, "t", "other");
    assert!(said(&data, &["keys", "list"]).contains("other"));
    said(&data, &memory(&["add", "I moor at pier nine."]));
    assert!(said(&data, &memory(&["list"])).contains("pier nine"));

    let acknowledged = restart_under_traffic(&server).await;
    assert!(acknowledged.len() > 20, "only {}", acknowledged.len());
    for (turn, question) in &acknowledged {
        assert_eq!(
            server.get(&format!("/v1/turns/{turn}")).await["prompt"],
            question.as_str()
        );
    }
    assert!(server.terminate().await.success());

    // After a restart of the gateway all is there, each turn once.
    let server = Server::start(&data, &args).await;
    let turns = server.get("/v1/turns?limit=1000").await;
    let turns = turns["data"].as_array().unwrap();
    for (turn, question) in &acknowledged {
        let same = turns.iter().filter(|one| one["prompt"] == question.as_str()).count();
        assert_eq!(same, 1, "{turn} {question}");
    }
    let found = injected(&server, "What is my dog called?").await;
    assert!(found.contains("Biscuit"), "{found}");
    assert!(server.terminate().await.success());
    assert!(!log_of(&data).contains(PASSWORD), "{}", log_of(&data));

    // Without a server: the command works on the database itself.
    let erased = said(&data, &memory(&["erase", "--confirm", "u"]));
    assert!(erased.contains("erased"), "{erased}");
    assert!(
        said(&data, &memory(&["export"]))
            .lines()
            .all(|line| !line.contains("Biscuit"))
    );
    assert!(!data.join("habit.db").exists());
}

/// Asks all the time while the server is stopped and started, twice: the answers that came back whole.
async fn restart_under_traffic(server: &Server) -> Vec<(String, String)> {
    let (over, number) = (AtomicBool::new(false), AtomicUsize::new(0));
    let traffic = async || {
        let mut acknowledged = Vec::new();
        while !over.load(Ordering::SeqCst) {
            let question = format!("Question {}", number.fetch_add(1, Ordering::SeqCst));
            let body = json!({"messages": [{"role": "user", "content": question}]});
            let reply = server.chat(&body, &[]).await;
            let (status, turn) = (reply.status(), reply.headers().get("x-habit-turn").cloned());
            let text = reply.text().await.unwrap();
            // It may be too long for someone: then it says so, and nothing else.
            assert!(status.is_success() || status == 503, "{status}: {text}");
            assert!(!text.contains(PASSWORD), "{text}");
            if let (true, Some(turn)) = (status.is_success(), turn) {
                acknowledged.push((turn.to_str().unwrap().to_owned(), question));
            }
        }
        acknowledged
    };
    let restarts = async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let restart = setting("HABIT_TEST_POSTGRES_RESTART");
            let done = tokio::task::spawn_blocking(move || Command::new(restart).output()).await;
            let done = done.unwrap().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            let begun = Instant::now();
            while !server
                .chat(&json!({"messages": [{"role": "user", "content": "And now?"}]}), &[])
                .await
                .status()
                .is_success()
            {
                assert!(begun.elapsed() < Duration::from_secs(30), "it does not go on by itself");
            }
        }
        over.store(true, Ordering::SeqCst);
    };
    let (one, two, three, ()) = tokio::join!(traffic(), traffic(), traffic(), restarts);
    [one, two, three].concat()
}
