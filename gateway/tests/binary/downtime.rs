//! kill -9 in the middle of a routine, and of taking it back: nothing lost, nothing done twice, nothing half there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::{Server, habit, rounds, run};
use crate::upstream::Upstream;

/// Different questions, and how often each was asked.
const QUESTIONS: usize = 30;
const TIMES: usize = 5;

/// Rounds, unless `HABIT_ROUNDS` says how many: each kills twice.
const ROUNDS: usize = 3;

struct Gateway {
    server: Server,
    http: reqwest::Client,
    admin: String,
}

impl Gateway {
    async fn start(data: &Path, upstream: &Upstream, admin: Option<String>) -> Self {
        Self::start_that(true, data, upstream, admin).await
    }

    /// One that notes what users state, or does not.
    async fn start_that(learns: bool, data: &Path, upstream: &Upstream, admin: Option<String>) -> Self {
        let mut command = habit();
        command
            .env("HABIT_MEMORY_LEARN", learns.to_string())
            .arg("--data-dir")
            .arg(data)
            .args(["serve", "--bind", "127.0.0.1:0", "--upstream", &upstream.url]);
        let server = Server::start_command(data, command).await;
        let admin = admin.unwrap_or_else(|| {
            let output = run(data, &["keys", "create", "--team", "t", "--user", "u", "--admin"]);
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { server, http, admin }
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: &Value) -> Value {
        let request = self.http.request(method, format!("{}{path}", self.server.url));
        let reply = request.bearer_auth(&self.admin).json(body).send().await.unwrap();
        let status = reply.status();
        let text = reply.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        self.call(reqwest::Method::GET, path, &Value::Null).await
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        self.call(reqwest::Method::POST, path, body).await
    }

    /// Waits until the run is so.
    async fn until(&self, run: &str, status: &str) -> Value {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let now = self.get(&format!("/v1/downtime/runs/{run}")).await;
            if now["status"] == status {
                return now;
            }
            assert!(Instant::now() < deadline, "{now:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Which of these are noted, sorted, as often as they are.
    async fn noted(&self, stated: &BTreeSet<String>) -> Vec<String> {
        let memories = self.get("/v1/memories?limit=1000").await;
        let memories = memories["results"].as_array().unwrap().iter();
        let texts = memories.map(|memory| memory["memory"].as_str().unwrap().to_owned());
        let mut noted: Vec<String> = texts.filter(|text| stated.contains(text)).collect();
        noted.sort();
        noted
    }

    /// Of each question, which turns may be recalled and which not.
    async fn recalled(&self) -> BTreeMap<String, [usize; 2]> {
        let turns = self.get("/v1/turns?limit=1000").await;
        let mut questions = BTreeMap::<String, [usize; 2]>::new();
        for turn in turns["data"].as_array().unwrap() {
            let place = usize::from(turn["remember"] != true);
            questions
                .entry(turn["prompt"].as_str().unwrap().to_owned())
                .or_default()[place] += 1;
        }
        questions
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_routine_survives_kill_9_whole() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let upstream = Upstream::start().await;
    let mut gateway = Gateway::start(&data, &upstream, None).await;
    for time in 0..TIMES {
        for question in 0..QUESTIONS {
            // Each time in other clothes.
            let mark = "!".repeat(time);
            let body =
                json!({"messages": [{"role": "user", "content": format!("What about number {question}{mark}")}]});
            gateway.post("/v1/chat/completions", &body).await;
        }
    }
    for round in 0..rounds(ROUNDS) {
        let asked = gateway
            .post("/v1/downtime/run", &json!({"routine": "dedupe", "user": "u"}))
            .await;
        let run = asked["data"][0]["id"].as_str().unwrap().to_owned();
        gateway = killed(gateway, &data, &upstream, &run, round).await;
        let done = gateway.until(&run, "finished").await;
        let changes = done["changes"].as_array().unwrap();
        assert!(changes.iter().all(|change| change["status"] == "made"), "{done:#}");
        let mut turns: Vec<&str> = changes.iter().map(|change| change["what"].as_str().unwrap()).collect();
        turns.sort_unstable();
        turns.dedup();
        assert_eq!(turns.len(), QUESTIONS * (TIMES - 1), "each once, in round {round}");
        let recalled = gateway.recalled().await;
        let kept: usize = recalled.values().map(|[kept, _]| kept).sum();
        let left: usize = recalled.values().map(|[_, left]| left).sum();
        assert_eq!(
            (kept, left),
            (QUESTIONS, QUESTIONS * (TIMES - 1)),
            "in round {round}: {recalled:#?}"
        );
        gateway
            .post(&format!("/v1/downtime/runs/{run}/undo"), &Value::Null)
            .await;
        gateway = killed(gateway, &data, &upstream, &run, round).await;
        gateway.until(&run, "undone").await;
        let recalled = gateway.recalled().await;
        assert!(
            recalled.values().all(|[_, left]| *left == 0),
            "in round {round}: {recalled:#?}"
        );
        assert_eq!(
            recalled.values().map(|[kept, _]| kept).sum::<usize>(),
            QUESTIONS * TIMES
        );
    }
}

/// Statements a round.
const STATEMENTS: usize = 25;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stated_is_noted_once_through_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let upstream = Upstream::start().await;
    let mut admin = None;
    for round in 0..rounds(ROUNDS) {
        let deaf = Gateway::start_that(false, &data, &upstream, admin).await;
        let stated: BTreeSet<String> = (0..STATEMENTS)
            .map(|n| format!("My favourite {} is lemon.", word(round * STATEMENTS + n)))
            .collect();
        for text in &stated {
            let body = json!({"messages": [{"role": "user", "content": text}]});
            deaf.post("/v1/chat/completions", &body).await;
        }
        let deadline = Instant::now() + Duration::from_mins(1);
        while deaf.get("/health").await["index"]["pending"] != 0 {
            assert!(Instant::now() < deadline, "what was said is not indexed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(
            deaf.noted(&stated).await,
            Vec::<String>::new(),
            "it is not to note anything"
        );
        let again = deaf.admin.clone();
        deaf.server.kill_9();
        let mut gateway = Gateway::start(&data, &upstream, Some(again)).await;
        let asked = json!({"routine": "consolidate", "user": "u"});
        let asked = gateway.post("/v1/downtime/run", &asked).await;
        let run = asked["data"][0]["id"].as_str().unwrap().to_owned();
        gateway = killed(gateway, &data, &upstream, &run, round).await;
        gateway.until(&run, "finished").await;
        let noted = gateway.noted(&stated).await;
        assert!(noted.iter().eq(&stated), "each once, in round {round}: {noted:#?}");
        gateway
            .post(&format!("/v1/downtime/runs/{run}/undo"), &Value::Null)
            .await;
        gateway = killed(gateway, &data, &upstream, &run, round).await;
        gateway.until(&run, "undone").await;
        assert_eq!(gateway.noted(&stated).await, Vec::<String>::new(), "in round {round}");
        admin = Some(gateway.admin.clone());
    }
}

/// A word of its own for each number.
fn word(mut number: usize) -> String {
    let mut word = String::from("tune");
    for _ in 0..3 {
        word.push(char::from(b'a' + u8::try_from(number % 26).unwrap()));
        number /= 26;
    }
    word
}

/// Kills it a little later each round, and starts it again. The run goes on by itself.
async fn killed(gateway: Gateway, data: &Path, upstream: &Upstream, run: &str, round: usize) -> Gateway {
    let until = Instant::now() + Duration::from_millis(u64::try_from(round * 7 % 60).unwrap());
    while Instant::now() < until {
        // Keeps it busy with a look at the run, as a person's progress bar would.
        gateway.get(&format!("/v1/downtime/runs/{run}")).await;
    }
    let admin = gateway.admin.clone();
    gateway.server.kill_9();
    Gateway::start(data, upstream, Some(admin)).await
}
