//! Several gateways on the same data: one Postgres database, one place in an object store, a data directory each.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use habit_memory::testing::line::Line;
use habit_memory::testing::{Postgres, s3};
use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::process::{Server, new_key, run};
use crate::upstream::Upstream;

const TOLD: &str = "The harbour office closes at noon on Fridays because of the regatta.";
const ASKED: &str = "When does the harbour office close on Fridays?";

/// How long it may take until something is known elsewhere, on a machine that other tests use too.
const SOON: Duration = Duration::from_mins(1);

/// What the gateways share.
struct World {
    dir: tempfile::TempDir,
    database: Postgres,
    bucket: String,
    upstream: Upstream,
}

impl World {
    async fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            database: Postgres::start().await,
            bucket: s3::bucket_url().await,
            upstream: Upstream::start().await,
        }
    }

    fn data(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A gateway with a data directory of this name.
    async fn start(&self, name: &str) -> Gateway {
        let line = Line::to(&s3::server()).await;
        let data = self.data(name);
        std::fs::create_dir_all(&data).unwrap();
        let options = s3::options(&line.url());
        let options: Vec<String> = options
            .iter()
            .map(|(name, value)| format!("{name} = {value:?}"))
            .collect();
        let options = options.join("\n");
        let config = format!(
            "[data]\ndatabase = {:?}\nobjects = \"{}/shared\"\n[data.objects_options]\n{options}",
            self.database.url(),
            self.bucket
        );
        std::fs::write(data.join("habit.toml"), config).unwrap();
        let server = Server::start(&data, &["--upstream", &self.upstream.url]).await;
        let made = run(&data, &["keys", "create", "--team", "t", "--user", "u", "--admin"]);
        let admin = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        Gateway { server, line, admin }
    }
}

/// A gateway, its line to the object store, and a key that may look into its downtime.
struct Gateway {
    server: Server,
    line: Line,
    admin: String,
}

impl Gateway {
    /// What a question gets of memory.
    async fn recalls(&self) -> String {
        let (turn, _) = self.server.ask(ASKED, &[("X-Habit-Memory", "read")]).await;
        let record = self.server.get(&format!("/v1/turns/{turn}")).await;
        record["injected"].to_string()
    }

    async fn recalls_soon(&self, word: &str) {
        let deadline = Instant::now() + SOON;
        loop {
            let injected = self.recalls().await;
            if injected.contains(word) {
                return;
            }
            assert!(Instant::now() < deadline, "`{word}` is not recalled: {injected}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let reply = self.server.request(Method::POST, path).json(body).send().await.unwrap();
        let (status, body) = (reply.status(), reply.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn delete(&self, path: &str) {
        let reply = self.server.request(Method::DELETE, path).send().await.unwrap();
        assert!(reply.status().is_success(), "{path}: {}", reply.text().await.unwrap());
    }

    async fn upload(&self, text: &str) -> reqwest::Response {
        let part = Part::bytes(text.as_bytes().to_vec()).file_name("rules.md");
        let form = Form::new().text("purpose", "assistants").part("file", part);
        let request = self.server.request(Method::POST, "/v1/files").multipart(form);
        request.send().await.unwrap()
    }

    /// Whether this key opens anything here.
    async fn lets_in(&self, key: &str) -> bool {
        let request = reqwest::Client::new().get(format!("{}/v1/turns", self.server.url));
        let status = request.bearer_auth(key).send().await.unwrap().status();
        assert!(status.is_success() || status == StatusCode::UNAUTHORIZED, "{status}");
        status.is_success()
    }

    async fn leads(&self) -> bool {
        let request = reqwest::Client::new().get(format!("{}/v1/downtime", self.server.url));
        let reply = request.bearer_auth(&self.admin).send().await.unwrap();
        let downtime: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
        downtime["leads"] == true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_knows_the_other_knows() {
    let world = World::new().await;
    let (a, b) = tokio::join!(world.start("a"), world.start("b"));
    assert!(!b.recalls().await.contains("regatta"));

    let (told, _) = a.server.ask(TOLD, &[]).await;
    a.recalls_soon("regatta").await;
    b.recalls_soon("regatta").await;
    // What the journal no longer has is not shown from the first moment on, whatever is still in memory.
    a.delete(&format!("/v1/turns/{told}")).await;
    for gateway in [&b, &a] {
        assert!(!gateway.recalls().await.contains("regatta"));
    }

    let text = "# Berths\n\nA berth at the north pier costs seven guilders a night.\n";
    let file: Value = a.upload(text).await.json().await.unwrap();
    let file = file["id"].as_str().unwrap();
    let store = a.post("/v1/vector_stores", &json!({"file_ids": [file]})).await;
    let search = format!("/v1/vector_stores/{}/search", store["id"].as_str().unwrap());
    let deadline = Instant::now() + SOON;
    loop {
        let found = b.post(&search, &json!({"query": "price of a berth"})).await;
        if found.to_string().contains("seven guilders") {
            break;
        }
        assert!(Instant::now() < deadline, "{found}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let content = b.server.request(Method::GET, &format!("/v1/files/{file}/content"));
    assert_eq!(content.send().await.unwrap().text().await.unwrap(), text);
    b.delete(&format!("/v1/files/{file}")).await;
    let gone = a.server.request(Method::GET, &format!("/v1/files/{file}/content"));
    assert_eq!(gone.send().await.unwrap().status(), StatusCode::NOT_FOUND);
    let found = a.post(&search, &json!({"query": "price of a berth"})).await;
    assert!(!found.to_string().contains("seven guilders"), "{found}");

    let key = new_key(&world.data("a"), "t", "guest");
    assert!(a.lets_in(&key).await && b.lets_in(&key).await);
    let id = key.split('-').nth(1).unwrap();
    let revoked = run(&world.data("a"), &["keys", "revoke", id]);
    assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stderr));
    let deadline = Instant::now() + SOON;
    while b.lets_in(&key).await {
        assert!(Instant::now() < deadline, "a revoked key still opens");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // One of them does the work of downtime, and the other when that one ends.
    let deadline = Instant::now() + SOON;
    let (leader, other) = loop {
        match (a.leads().await, b.leads().await) {
            (true, true) => panic!("both lead"),
            (true, false) => break (a, b),
            (false, true) => break (b, a),
            (false, false) => assert!(Instant::now() < deadline, "nobody leads"),
        }
    };
    assert!(leader.server.terminate().await.success());
    while !other.leads().await {
        assert!(Instant::now() < deadline + SOON, "nobody leads");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_object_store_turns_go_on() {
    let world = World::new().await;
    let (a, b) = tokio::join!(world.start("a"), world.start("b"));
    a.server
        .ask("The lighthouse was painted by the pilot's sister.", &[])
        .await;
    a.server.ask(TOLD, &[]).await;
    a.recalls_soon("regatta").await;

    a.line.cut();
    b.line.cut();
    let (late, answer) = a
        .server
        .ask("On Fridays the harbour office sells smoked herring.", &[])
        .await;
    assert!(!answer.is_empty());
    assert!(a.recalls().await.contains("regatta"), "what is in memory is found");
    assert_eq!(a.server.get(&format!("/v1/turns/{late}")).await["id"], late.as_str());
    let refused = a.upload("some text").await;
    assert!(refused.status().is_server_error(), "{}", refused.status());
    // What this one recorded and could not index, the other does.
    a.server.kill_9();
    b.line.mend();
    b.recalls_soon("herring").await;
    assert!(b.upload("some text").await.status().is_success());
}
