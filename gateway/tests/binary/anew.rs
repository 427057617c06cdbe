//! Another embedder, and the index made anew, with kill -9 in between: the old index answers until the new one does, and then
//! everything is in it once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::crash_files::{SECTIONS, found, id, post, settled, upload};
use crate::process::{Server, habit, rounds, run, setting};
use crate::upstream::Upstream;

/// Turns beside the file.
const TURNS: usize = 60;

/// Rounds, unless `HABIT_ROUNDS` says how many: each kills once with another embedder, and once with the same.
const ROUNDS: usize = 2;

/// A gateway whose embedder may change.
struct Gateway {
    dir: PathBuf,
    upstream: Upstream,
    server: Server,
    admin: String,
    store: String,
}

impl Gateway {
    /// With turns and a file in a store.
    async fn filled(dir: &Path) -> Self {
        let models = setting("HABIT_TEST_EMBEDDER");
        for name in ["first-minilm", "second-minilm"] {
            let copy = dir.join(name);
            std::fs::create_dir(&copy).unwrap();
            for file in std::fs::read_dir(&models).unwrap().map(|file| file.unwrap().path()) {
                // The manifest names it, and these are to have names of their own.
                if file.is_file() && !file.ends_with("manifest.json") {
                    std::fs::copy(&file, copy.join(file.file_name().unwrap())).unwrap();
                }
            }
        }
        let upstream = Upstream::start().await;
        let server = start(dir, &upstream, "first-minilm").await;
        let output = run(
            &dir.join("data"),
            &["keys", "create", "--team", "t", "--user", "u", "--admin"],
        );
        let file = upload(&server).await;
        let store = id(&post(&server, "/v1/vector_stores", &json!({"file_ids": [file]})).await);
        settled(&server, &format!("/v1/vector_stores/{store}")).await;
        for turn in 0..TURNS {
            server.ask(&format!("The key number {turn} opens the shed."), &[]).await;
        }
        let gateway = Self {
            dir: dir.to_owned(),
            upstream,
            server,
            admin: String::from_utf8(output.stdout).unwrap().trim().to_owned(),
            store,
        };
        gateway.until_made().await;
        gateway
    }

    /// Ends, and starts again.
    async fn killed_and_started(self, embedder: &str) -> Self {
        self.server.kill_9();
        let server = start(&self.dir, &self.upstream, embedder).await;
        Self { server, ..self }
    }

    /// Everything is found now, and each part once.
    async fn answers(&self) {
        let texts = found(&self.server, &self.store).await;
        assert_eq!(texts, SECTIONS, "sections of the file");
    }

    async fn until_made(&self) {
        let deadline = Instant::now() + Duration::from_mins(2);
        loop {
            let health = self.server.get("/health").await;
            if health["index"]["pending"] == 0 && health["index"].get("anew").is_none() {
                return;
            }
            assert!(Instant::now() < deadline, "{health:#}");
            self.answers().await;
        }
    }

    /// The index has what the journal has, and nothing else.
    async fn is_right(&self) {
        self.answers().await;
        let asked = self
            .ruled(
                Method::POST,
                "/v1/downtime/run",
                &json!({"routine": "reindex", "user": "u"}),
            )
            .await;
        let run = asked["data"][0]["id"].as_str().unwrap().to_owned();
        let deadline = Instant::now() + Duration::from_mins(1);
        let counts = loop {
            let run = self
                .ruled(Method::GET, &format!("/v1/downtime/runs/{run}"), &Value::Null)
                .await;
            if run["status"] == "finished" {
                break run["counts"].clone();
            }
            assert!(Instant::now() < deadline, "{run:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(counts["entries compared"], TURNS, "{counts}");
        assert!(
            counts.get("entries removed that the journal does not have").is_none(),
            "{counts}"
        );
    }

    async fn ruled(&self, method: Method, path: &str, body: &Value) -> Value {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = http.request(method, format!("{}{path}", self.server.url));
        let reply = request.bearer_auth(&self.admin).json(body).send().await.unwrap();
        let (status, text) = (reply.status(), reply.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The tables on the disk.
    fn tables(&self) -> usize {
        let names = std::fs::read_dir(self.dir.join("data/index")).unwrap();
        let names = names.map(|entry| entry.unwrap().path());
        names
            .filter(|path| path.extension().is_some_and(|extension| extension == "lance"))
            .count()
    }
}

async fn start(dir: &Path, upstream: &Upstream, embedder: &str) -> Server {
    let mut command = program(dir, embedder);
    command.args(["serve", "--bind", "127.0.0.1:0", "--upstream", &upstream.url]);
    Server::start_command(&dir.join("data"), command).await
}

fn program(dir: &Path, embedder: &str) -> Command {
    let mut command = habit();
    command
        .env("HABIT_DATA_MODELS", dir.join("models"))
        .env("HABIT_MEMORY_EMBEDDER", dir.join(embedder))
        .arg("--data-dir")
        .arg(dir.join("data"));
    command
}

/// The files below a folder.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return BTreeSet::new();
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                BTreeSet::from([path])
            }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_too_the_index_is_made_anew_through_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::filled(dir.path()).await;
    let index = dir.path().join("data/index");
    for round in 0..rounds(ROUNDS) {
        let Gateway { server, .. } = gateway;
        server.kill_9();
        let before = files(&index);
        let mut command = program(dir.path(), "first-minilm");
        let mut running = command.arg("reindex").stdout(Stdio::null()).spawn().unwrap();
        // Killed soon after it began to change the index: the first time at once.
        let deadline = Instant::now() + Duration::from_mins(1);
        while files(&index) == before && running.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "nothing is made anew");
        }
        let moment = Instant::now() + Duration::from_millis(u64::try_from(round * 13 % 200).unwrap());
        while Instant::now() < moment && running.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        running.kill().unwrap();
        running.wait().unwrap();
        let server = start(dir.path(), &gateway.upstream, "first-minilm").await;
        gateway = Gateway { server, ..gateway };
        let deadline = Instant::now() + Duration::from_mins(1);
        while gateway.server.get("/health").await["index"]["pending"] != 0 {
            assert!(Instant::now() < deadline, "the rest is not indexed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        gateway.is_right().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_is_made_anew_through_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::filled(dir.path()).await;
    gateway.is_right().await;
    for round in 0..rounds(ROUNDS) {
        let moment = Duration::from_millis(u64::try_from(round * 37 % 400).unwrap());
        let embedder = ["second-minilm", "first-minilm"][round % 2];
        // Killed while the index is made for another embedder: the first time as soon as it answers.
        gateway = gateway.killed_and_started(embedder).await;
        busy_for(&gateway, moment).await;
        gateway = gateway.killed_and_started(embedder).await;
        gateway.answers().await;
        gateway.until_made().await;
        gateway.is_right().await;
        // And while it is made for the same.
        gateway.ruled(Method::POST, "/v1/reindex", &Value::Null).await;
        busy_for(&gateway, moment).await;
        gateway = gateway.killed_and_started(embedder).await;
        gateway.answers().await;
        gateway.until_made().await;
        gateway.is_right().await;
        let deadline = Instant::now() + Duration::from_mins(1);
        while gateway.tables() > 1 {
            assert!(Instant::now() < deadline, "the old index is still there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Asks meanwhile, as users do.
async fn busy_for(gateway: &Gateway, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        gateway.answers().await;
    }
}
