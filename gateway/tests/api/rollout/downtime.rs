//! Routines: when they begin, that they go after everyone else, what they change, and that it can be taken back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::body::Body;
use habit_engine::scripted::Scripted;
use habit_gateway::config;
use habit_gateway::testing::{Reply, TestApp, request};
use habit_memory::clock::Clock;
use habit_memory::index::Removal;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Hand;

const CHAT: &str = "/v1/chat/completions";
const RUN: &str = "/v1/downtime/run";
const MINUTE: i64 = 60_000;
const ROUTINES: [&str; 8] = [
    "expire",
    "dedupe",
    "consolidate",
    "supersede",
    "reindex",
    "audit",
    "compact",
    "tune",
];

struct World {
    test: TestApp,
    clock: Arc<Hand>,
    admin: String,
}

async fn world(engine: Scripted, change: impl FnOnce(&mut config::Downtime)) -> World {
    let clock = Arc::new(Hand::default());
    clock.0.store(400 * 24 * 60 * MINUTE, Ordering::SeqCst);
    let test = TestApp::builder()
        .engine(Arc::new(engine))
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .config(|config| change(&mut config.downtime))
        .on_disk()
        .build()
        .await;
    let admin = test.admin_key("a", "ann").await;
    World { test, clock, admin }
}

impl World {
    async fn say(&self, words: &str) -> String {
        let body = json!({"messages": [{"role": "user", "content": words}]});
        let reply = self.test.post(CHAT, &self.admin, &body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        reply.headers["x-habit-turn"].to_str().unwrap().to_owned()
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let reply = self.test.post(path, &self.admin, body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        reply.json()
    }

    async fn get(&self, path: &str) -> Value {
        let reply = self.test.get(path, &self.admin).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        reply.json()
    }

    async fn run(&self, routine: &str) -> Value {
        let asked = self.post(RUN, &json!({"routine": routine})).await;
        let id = asked["data"][0]["id"].as_str().unwrap().to_owned();
        self.ended(&id, "finished").await
    }

    async fn act(&self, id: &str, act: &str) -> Reply {
        let path = format!("/v1/downtime/runs/{id}/{act}");
        let request = request(Method::POST, &path, &self.admin);
        self.test.call(request.body(Body::empty()).unwrap()).await
    }

    /// Waits until the run is so.
    async fn ended(&self, id: &str, status: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let run = self.get(&format!("/v1/downtime/runs/{id}")).await;
            if run["status"] == status {
                return run;
            }
            assert!(Instant::now() < deadline, "{run:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn remembered(&self, turn: &str) -> bool {
        self.get(&format!("/v1/turns/{turn}")).await["remember"] == true
    }
}

fn greeting() -> Scripted {
    Scripted::new("m").reply("It is 42, as far as anyone knows.")
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_leave_recall_with_a_report_and_come_back() {
    let world = world(greeting(), |_| {}).await;
    let old = world.say("What is the answer to the question?").await;
    let other = world.say("What is the price of tea in China?").await;
    let new = world.say("what is the answer to the question").await;
    world.test.indexed().await;
    let run = world.run("dedupe").await;
    assert_eq!(run["changes"].as_array().unwrap().len(), 1, "{run:#}");
    let report = run["report"].as_str().unwrap();
    assert!(
        report.contains(&old) && report.contains(&new) && report.contains("habit downtime undo"),
        "{report}"
    );
    assert!(
        !report.contains("question"),
        "a report repeats nobody's words: {report}"
    );
    assert!(!world.remembered(&old).await && world.remembered(&new).await && world.remembered(&other).await);
    let again = world.run("dedupe").await;
    assert_eq!(again["changes"], json!([]), "what is done is done");
    let id = run["id"].as_str().unwrap();
    assert_eq!(world.act(id, "undo").await.status, StatusCode::OK);
    let undone = world.ended(id, "undone").await;
    assert_eq!(undone["changes"][0]["status"], "undone");
    assert!(world.remembered(&old).await);
    let twice = world.act(id, "undo").await;
    assert_eq!(twice.status, StatusCode::BAD_REQUEST, "{}", twice.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn memories_that_say_the_same_become_one_and_what_the_index_lost_comes_back() {
    let world = world(greeting(), |_| {}).await;
    for text in [
        "The boat is called Nixie",
        "the boat is really called Nixie!",
        "The boat isn't called Nixie",
    ] {
        world.post("/v1/memories", &json!({"text": text})).await;
    }
    world.run("dedupe").await;
    let known = world.get("/v1/memories").await;
    assert_eq!(known["results"].as_array().unwrap().len(), 2, "{known:#}");
    let turn = world.say("Where did we moor the boat last summer?").await;
    world.test.indexed().await;
    let index = Arc::clone(&world.test.app.memory.as_ref().unwrap().index);
    let before = index.len().await.unwrap();
    let (team, parents) = ("a".to_owned(), vec![turn.parse().unwrap()]);
    index.remove(Removal::Parents { team, parents }).await.unwrap();
    world.clock.0.fetch_add(10 * MINUTE, Ordering::SeqCst);
    let run = world.run("reindex").await;
    assert_eq!(
        run["counts"]["turns indexed again that the index had not"], 1,
        "{run:#}"
    );
    world.test.indexed().await;
    assert_eq!(index.len().await.unwrap(), before);
    let audit = world.run("audit").await;
    assert_eq!(audit["counts"]["turns"], 1, "{audit:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_begins_when_nobody_asks_and_not_before() {
    let world = world(greeting(), |downtime| (downtime.on, downtime.every_hours) = (true, 24)).await;
    world.say("What is the answer?").await;
    world.test.indexed().await;
    // Looked at ten times a second: the turn is to be seen before the clock moves on.
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.clock.0.fetch_add(9 * MINUTE, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(world.get("/v1/downtime/runs").await["data"], json!([]));
    world.clock.0.fetch_add(2 * MINUTE, Ordering::SeqCst);
    let deadline = Instant::now() + Duration::from_secs(20);
    let done = loop {
        let runs = world.get("/v1/downtime/runs").await;
        let runs = runs["data"].as_array().unwrap().clone();
        let done = |name: &&str| {
            runs.iter()
                .any(|run| run["routine"] == **name && run["status"] == "finished")
        };
        if ROUTINES.iter().all(done) {
            break runs;
        }
        assert!(Instant::now() < deadline, "{runs:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(
        done.iter()
            .all(|run| run["cause"].as_str().unwrap().contains("nobody asked")),
        "{done:#?}"
    );
    let foreign = world.test.admin_key("b", "bob").await;
    let seen = world.test.get("/v1/downtime/runs", &foreign).await.json();
    let foreign_runs = seen["data"].as_array().unwrap();
    assert!(foreign_runs.iter().all(|run| run["team"].is_null()), "{seen:#}");
    let own = done.iter().find(|run| run["team"] == "a").unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/v1/downtime/runs/{own}");
    assert_eq!(world.test.get(&path, &foreign).await.status, StatusCode::NOT_FOUND);
    let plain = world.test.key("a", "eve").await;
    assert_eq!(
        world.test.get("/v1/downtime", &plain).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        world.test.post(RUN, &plain, &json!({})).await.status,
        StatusCode::FORBIDDEN
    );
    let unknown = world.test.post(RUN, &world.admin, &json!({"routine": "dance"})).await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_under_way_goes_first_and_a_run_can_be_cancelled_and_resumed() {
    let (engine, gate) = greeting().gated();
    let world = world(engine, |_| {}).await;
    gate.release(100);
    world.say("Hello there, how are things?").await;
    world.test.indexed().await;
    let body = json!({"messages": [{"role": "user", "content": "x"}], "stream": true});
    let slow = request(Method::POST, CHAT, &world.admin).header("content-type", "application/json");
    // Never read: the reply stays under way.
    let reply = world.test.send(slow.body(Body::from(body.to_string())).unwrap()).await;
    let began = Instant::now();
    while world.get("/v1/downtime").await["yields"] != true {
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "work goes on though someone waits"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let asked = world.post(RUN, &json!({"routine": "audit"})).await;
    let id = asked["data"][0]["id"].as_str().unwrap().to_owned();
    let twice = world.post(RUN, &json!({"routine": "audit"})).await;
    assert_eq!(twice["data"][0]["id"], id.as_str(), "one at a time for the same user");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let waits = world.get(&format!("/v1/downtime/runs/{id}")).await;
    assert_eq!(
        (waits["status"].as_str(), waits["done"].as_u64()),
        (Some("waiting"), Some(0))
    );
    assert_eq!(world.act(&id, "cancel").await.status, StatusCode::OK);
    world.ended(&id, "cancelled").await;
    assert_eq!(world.act(&id, "resume").await.status, StatusCode::OK);
    drop(reply);
    let run = world.ended(&id, "finished").await;
    assert_eq!(run["counts"]["turns"], 2, "{run:#}");
}

#[tokio::test]
async fn one_process_holds_the_lease() {
    let test = TestApp::start().await;
    let runs = test.app.memory.as_ref().unwrap().runs.clone();
    assert!(runs.lease("work", "one", 0, 100).await.unwrap());
    assert!(!runs.lease("work", "two", 50, 100).await.unwrap());
    assert!(runs.lease("work", "one", 90, 100).await.unwrap(), "kept");
    assert!(runs.lease("work", "two", 191, 109).await.unwrap(), "the other is gone");
    assert!(!runs.lease("work", "one", 192, 108).await.unwrap());
    runs.release("work", "one").await.unwrap();
    assert!(
        !runs.lease("work", "three", 200, 100).await.unwrap(),
        "it was not that one's to give"
    );
}
