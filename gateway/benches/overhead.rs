//! What the gateway adds to its engine: time per request and to the first token, over HTTP on loopback, with a scripted
//! engine that answers at once, so that everything measured is ours. The arms are interleaved; the engine alone is the
//! floor. `make bench` runs it; the embedder's directory comes from `HABIT_TEST_EMBEDDER`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use habit_engine::embedder::MiniLm;
use habit_engine::scripted::Scripted;
use habit_engine::{ChatRequest, Embedder, Engine, Message, Role};
use habit_gateway::http::listen;
use habit_gateway::routes;
use habit_gateway::testing::TestApp;
use habit_memory::store::lance::LanceIndex;
use habit_memory::store::sea::SeaJournal;
use serde_json::json;

/// Requests of each arm.
const REQUESTS: usize = 400;
/// Turns that are told before memory is measured.
const TOLD: usize = 1_000;

#[tokio::main]
async fn main() {
    // `cargo test` builds and starts benches too, with no wish to measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let embedder =
        PathBuf::from(std::env::var_os("HABIT_TEST_EMBEDDER").expect("HABIT_TEST_EMBEDDER: run `make bench`"));
    let embedder: Arc<dyn Embedder> = Arc::new(MiniLm::load(&embedder, 0).unwrap());
    let engine: Arc<dyn Engine> = Arc::new(Scripted::default());
    let dir = tempfile::tempdir().unwrap();
    let journal = SeaJournal::open(&dir.path().join("habit.db")).await.unwrap();
    let index = LanceIndex::open(dir.path().join("index"), embedder.dimensions(), embedder.id())
        .await
        .unwrap();
    let app = TestApp::builder()
        .engine(Arc::clone(&engine))
        .journal(Arc::new(journal))
        .index(Arc::new(index))
        .embedder(embedder)
        .build()
        .await;
    let key = app.key("team", "user").await;
    let listener = listen::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(listen::serve(
        listener,
        routes::router(app.app.clone()),
        app.app.lifecycle.clone(),
    ));
    let client = Client {
        http: reqwest::Client::builder().no_proxy().build().unwrap(),
        url,
        key,
    };

    for number in 0..TOLD {
        client
            .ask(
                &format!("Fact {number}: my friend {number} lives in house {}.", number * 7),
                "on",
                true,
            )
            .await;
    }
    app.indexed().await;

    let mut floor = Times::default();
    let mut arms = [
        ("memory off, not stored", "off", false),
        ("memory off, recorded", "off", true),
        ("memory on, 1,000 turns", "on", true),
    ]
    .map(|arm| (arm, Times::default()));
    for number in 0..REQUESTS {
        let question = format!("Where does my friend {number} live?");
        floor.push(alone(&*engine, &question).await);
        for ((_, mode, store), times) in &mut arms {
            times.push(client.ask(&question, mode, *store).await);
        }
    }
    println!("engine alone               {}", floor.table());
    for ((name, ..), times) in &arms {
        println!("{name:24}   {}", times.table());
    }
}

/// Times of one arm: to the first token, and in all.
#[derive(Default)]
struct Times {
    first: Vec<Duration>,
    whole: Vec<Duration>,
}

impl Times {
    fn push(&mut self, (first, whole): (Duration, Duration)) {
        self.first.push(first);
        self.whole.push(whole);
    }

    fn table(&self) -> String {
        format!(
            "first token {}   whole {}",
            percentiles(&self.first),
            percentiles(&self.whole)
        )
    }
}

/// Milliseconds at the 50th and 99th percentile.
fn percentiles(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
    format!("p50 {:7.3} ms  p99 {:7.3} ms", at(0.5), at(0.99))
}

async fn alone(engine: &dyn Engine, question: &str) -> (Duration, Duration) {
    let began = Instant::now();
    let request = ChatRequest {
        model: engine.models()[0].id.clone(),
        messages: vec![Message::new(Role::User, question)],
        ..ChatRequest::default()
    };
    let mut deltas = engine.chat(request).await.unwrap();
    let mut first = None;
    while let Some(delta) = deltas.next().await {
        delta.unwrap();
        first.get_or_insert_with(|| began.elapsed());
    }
    (first.unwrap(), began.elapsed())
}

struct Client {
    http: reqwest::Client,
    url: String,
    key: String,
}

impl Client {
    async fn ask(&self, question: &str, memory: &str, store: bool) -> (Duration, Duration) {
        let body = json!({"messages": [{"role": "user", "content": question}], "stream": true, "store": store});
        let began = Instant::now();
        let reply = self
            .http
            .post(format!("{}/v1/chat/completions", self.url))
            .bearer_auth(&self.key)
            .header("x-habit-memory", memory)
            .json(&body)
            .send()
            .await
            .unwrap();
        assert!(reply.status().is_success());
        let mut bytes = reply.bytes_stream();
        let mut first = None;
        while let Some(piece) = bytes.next().await {
            piece.unwrap();
            first.get_or_insert_with(|| began.elapsed());
        }
        (first.unwrap(), began.elapsed())
    }
}
