//! The engine room of a running server, with the real model: seeds, swaps while clients ask, and settings that were found
//! by `habit models tune`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use habit_engine::models::{Silent, Store, fingerprint};
use habit_engine::tune::{Measured, Runner, Setting};
use habit_gateway::tuned::{self, Entry, Tuned};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::process::{Server, run, setting};

const MODEL: &str = "smollm2-135m-instruct";
/// What that model is called at 4 bits.
const SMALLER: &str = "smollm2-135m-instruct-4bit";
/// Memory of an earlier request may change what a later one is told.
const NO_MEMORY: (&str, &str) = ("X-Habit-Memory", "off");

fn story(n: usize) -> Value {
    let text = format!(
        "{}Tell me a story about fox number {n}.",
        "Once upon a time. ".repeat(n % 7)
    );
    json!({"messages": [{"role": "user", "content": text}], "seed": n, "temperature": 0.9, "max_tokens": 20})
}

async fn told(server: &Server, body: &Value) -> String {
    let reply = server.chat(body, &[NO_MEMORY]).await;
    let status = reply.status();
    let reply: Value = reply.json().await.unwrap();
    assert!(status.is_success(), "{status}: {reply}");
    reply["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

async fn streamed(server: &Server, body: &Value) -> String {
    let mut body = body.clone();
    body["stream"] = json!(true);
    let reply = server.chat(&body, &[NO_MEMORY]).await.text().await.unwrap();
    let chunks = reply.lines().filter_map(|line| line.strip_prefix("data: {"));
    let texts = chunks.map(|chunk| {
        let chunk: Value = serde_json::from_str(&format!("{{{chunk}")).unwrap();
        chunk["choices"][0]["delta"]["content"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    });
    texts.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_gives_the_same_text_alone_streamed_and_among_sixteen_others() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]).await;
    let mut alone = Vec::new();
    for n in 0..3 {
        alone.push(told(&server, &story(n)).await);
    }
    assert_ne!(alone[0], alone[1]);
    let bodies: Vec<Value> = (0..17).map(story).collect();
    let all = async || futures::future::join_all(bodies.iter().map(|body| told(&server, body))).await;
    let (first, again) = (all().await, all().await);
    assert_eq!(first[..3], alone);
    assert_eq!(first, again, "with what was kept of the first time");
    for (body, alone) in bodies.iter().zip(&alone) {
        assert_eq!(&streamed(&server, body).await, alone);
    }
}

/// Resident memory of the server, in MiB.
fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Someone who may change which models are served.
struct Admin {
    key: String,
    http: reqwest::Client,
    url: String,
}

impl Admin {
    fn of(server: &Server, data: &Path) -> Self {
        let made = run(data, &["keys", "create", "--admin", "--team", "t", "--user", "boss"]);
        let made = String::from_utf8(made.stdout).unwrap();
        let key = made.split_whitespace().find(|word| word.starts_with("hb-")).unwrap();
        Self {
            key: key.to_owned(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            url: server.url.clone(),
        }
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> (StatusCode, String) {
        let request = self
            .http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.key);
        let reply = request.json(body).send().await.unwrap();
        (reply.status(), reply.text().await.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_swapped_under_way_and_no_request_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Arc::new(Server::start(&data, &[]).await);
    let admin = Admin::of(&server, &data);

    // Clients that name no model, and clients that name the first one: both always get an answer.
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = ["", MODEL, "", MODEL]
        .into_iter()
        .enumerate()
        .map(|(n, model)| {
            let (server, stop, answered) = (Arc::clone(&server), Arc::clone(&stop), Arc::clone(&answered));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let mut body = story(n);
                    body["model"] = json!(model);
                    body["max_tokens"] = json!(8);
                    let text = if n < 2 {
                        told(&server, &body).await
                    } else {
                        streamed(&server, &body).await
                    };
                    assert!(!text.is_empty());
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let more = async |n: usize| {
        let (enough, deadline) = (
            answered.load(Ordering::Relaxed) + n,
            Instant::now() + Duration::from_mins(2),
        );
        while answered.load(Ordering::Relaxed) < enough {
            assert!(Instant::now() < deadline, "the clients stopped getting answers");
            assert!(clients.iter().all(|client| !client.is_finished()), "a client failed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let served = async || {
        let (_, text) = admin.ask(Method::GET, "/v1/admin/models", &json!({})).await;
        let list: Value = serde_json::from_str(&text).unwrap();
        let ids = list["loaded"].as_array().unwrap().iter();
        ids.map(|model| model["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    more(8).await;
    let mut before = 0;
    for round in 0..3 {
        // Beside, and given up again.
        let smaller = json!({"model": MODEL, "bits": 4});
        let (status, text) = admin.ask(Method::POST, "/v1/admin/models", &smaller).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        assert!(served().await.iter().any(|id| id == SMALLER));
        more(4).await;
        let path = format!("/v1/admin/models/{SMALLER}");
        assert_eq!(
            admin.ask(Method::DELETE, &path, &json!({})).await.0,
            StatusCode::NO_CONTENT
        );
        more(4).await;
        // In its place, and back by text-generation-webui's way.
        let swap = json!({"model": MODEL, "bits": 4, "replaces": MODEL, "default": true});
        let (status, text) = admin.ask(Method::POST, "/v1/admin/models", &swap).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        assert_eq!(served().await[0], SMALLER);
        more(8).await;
        let back = json!({"model_name": MODEL});
        let (status, text) = admin.ask(Method::POST, "/v1/internal/model/load", &back).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        assert_eq!(served().await[0], MODEL);
        more(8).await;
        if round == 0 {
            before = resident(&server);
        }
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    // Six engines came up since, each of more than a hundred MiB, and none of them is left. Prefix caches have grown, and
    // the allocator keeps some for the next load: thirty rounds by hand stayed within 600 MiB of the first.
    let deadline = Instant::now() + Duration::from_secs(20);
    while resident(&server) > before + 500 {
        assert!(
            Instant::now() < deadline,
            "{before} MiB, then {} MiB",
            resident(&server)
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_tune_found_is_served_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let best = Setting {
        runner: Runner::Native,
        bits: None,
        threads: 1,
        running: 3,
    };
    // One setting, really measured, as the search measures each.
    let one = serde_json::to_string(&best).unwrap();
    let output = run(&data, &["models", "tune", "--only", &one, "--", MODEL]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let measured: Measured = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        measured.prompt_tokens > 50 && measured.first_token_s > 0.0,
        "{measured:?}"
    );
    assert!(measured.decode > 0.0 && measured.together > 0.0, "{measured:?}");

    let store = Store::open(setting("HABIT_TEST_MODELS")).unwrap();
    let model = store.resolve(MODEL, Arc::new(Silent)).await.unwrap();
    let entry = Entry {
        machine: tuned::machine(),
        fingerprint: fingerprint(&model).unwrap(),
        model: MODEL.to_owned(),
        setting: best,
        measured,
        found: 0,
    };
    Tuned::of(&data).keep(entry).unwrap();
    let shown = shown(&data);
    assert!(shown.contains(MODEL) && shown.contains("3 at once"), "{shown}");
    assert_eq!(max_running(&data, &[]).await, 3);
    assert_eq!(max_running(&data, &["--max-running", "2"]).await, 2);

    let forgotten = run(&data, &["models", "tune", "--forget", MODEL]);
    assert_eq!(String::from_utf8_lossy(&forgotten.stdout).trim(), "forgotten: 1");
    assert!(self::shown(&data).contains("nothing was tuned yet"));
    let broken = run(&data, &["models", "tune", "--only", "{}", "--", MODEL]);
    assert!(String::from_utf8_lossy(&broken.stderr).contains("--only"), "{broken:?}");
}

fn shown(data: &Path) -> String {
    String::from_utf8(run(data, &["models", "tune", "--show"]).stdout).unwrap()
}

/// How many replies a server makes at the same time.
async fn max_running(data: &Path, flags: &[&str]) -> u64 {
    let server = Server::start(data, flags).await;
    let (status, queue) = Admin::of(&server, data)
        .ask(Method::GET, "/v1/admin/queue", &json!({}))
        .await;
    assert_eq!(status, StatusCode::OK, "{queue}");
    assert!(server.terminate().await.success());
    let queue: Value = serde_json::from_str(&queue).unwrap();
    queue["data"][0]["max_running"].as_u64().unwrap()
}
