//! kill -9 in each phase of a learning run, with the real model and the real trainer: it goes on, nothing is done twice, and
//! until its end everything is served as it was.

use std::path::Path;
use std::time::{Duration, Instant};

use habit_engine::{Message, Role};
use habit_learning::examples::{Example, Shares};
use habit_learning::gate::Bounds;
use habit_learning::run::Plan;
use habit_learning::run::state::State;
use habit_learning::trainer::Settings;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::process::{Server, rounds, setting};

/// In this order.
const PHASES: [&str; 4] = ["base", "training", "merging", "scoring"];

/// Rounds, unless `HABIT_ROUNDS` says how many: each kills in every phase.
const ROUNDS: usize = 1;

/// A phase may take so long, on a machine that other tests use too.
const PATIENCE: Duration = Duration::from_mins(8);

/// A run that is so small that it takes a minute: the answer is the second word of the question.
fn plan(round: usize) -> Plan {
    let model_dir = setting("HABIT_TEST_MODEL");
    let example = |number: usize| {
        let thing = ["lamp", "river"][number % 2];
        let other = format!("{:x}", (number + 1) * 2_654_435_761 % 1_000_003);
        Example {
            id: Uuid::from_u128(number as u128 + 1),
            messages: vec![Message::new(Role::User, format!("the {thing} {other}"))],
            answer: thing.to_owned(),
            at: i64::try_from(number).unwrap() * 60_000,
            weight: 1.0,
            from: Vec::new(),
            user: "u".to_owned(),
        }
    };
    Plan {
        id: Uuid::now_v7(),
        team: "t".to_owned(),
        weights: model_dir.join("model.gguf"),
        model_dir,
        examples: (0..40).map(example).collect(),
        shares: Shares::default(),
        anchors: Vec::new(),
        general: vec!["Rivers run to the sea.".to_owned(), "Snow is white.".to_owned()],
        grid: vec![Settings {
            learning_rate: 2e-3,
            epochs: 3,
            anchor_weight: 0.0,
            anchors_a_step: 0,
            checkpoint_every: 1,
            seed: round as u64,
            ..Settings::default()
        }],
        bounds: Bounds {
            items: 4,
            general_rise: 100.0,
            ..Bounds::default()
        },
        keep: false,
        memory: None,
        threads: None,
    }
}

async fn status(server: &Server) -> Value {
    server.get("/v1/learning/status").await
}

/// What serves is the base, and nothing is on trial.
async fn as_it_was(server: &Server) {
    let status = status(server).await;
    assert!(status["serving"].is_null() && status["canary"].is_null(), "{status:#}");
}

/// Waits until the run is in this phase or a later one, has done some of it, or has ended; the phase's steps that are done.
async fn in_phase(server: &Server, run: &str, wanted: usize) -> Option<(usize, u64)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = server.get(&format!("/v1/learning/runs/{run}")).await;
        let phase = now["progress"]["phase"].as_str();
        let at = phase.and_then(|phase| PHASES.iter().position(|known| *known == phase));
        let done = now["progress"]["done"].as_u64().unwrap_or_default();
        if let Some(at) = at.filter(|at| *at > wanted || (*at == wanted && (done > 0 || wanted == 2))) {
            return Some((at, done));
        }
        if now["status"] != "running" {
            return None;
        }
        assert!(Instant::now() < deadline, "{now:#}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_survives_kill_9_in_every_phase() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let served = std::fs::metadata(setting("HABIT_TEST_MODEL").join("model.gguf")).unwrap();
    for round in 0..rounds(ROUNDS) {
        let plan = plan(round);
        let id = plan.id.to_string();
        let team = data.join("learning/team-t");
        let folder = team.join(&id);
        std::fs::create_dir_all(&folder).unwrap();
        State::new(plan, 0).unwrap().keep(&folder).unwrap();
        let before = names(&team).len();
        let mut trained = 0;
        for (at, phase) in PHASES.iter().enumerate() {
            let server = Server::start(&data, &[]).await;
            if round == 0 {
                as_it_was(&server).await;
            }
            let Some((now, done)) = in_phase(&server, &id, at).await else {
                panic!(
                    "the run ended before it was {phase}:\n{}",
                    crate::process::log_of(&data)
                );
            };
            if now == 1 {
                assert!(done >= trained, "step {trained} was done, and now it is at {done}");
                trained = done;
            }
            server.kill_9();
            assert!(!folder.join("report.json").exists(), "{phase}");
            assert_eq!(names(&team).len(), before, "{phase}");
        }
        // The report is there, and what comes of it is not noted yet, or just so.
        let server = Server::start(&data, &[]).await;
        let deadline = Instant::now() + PATIENCE;
        while !folder.join("report.json").exists() {
            assert!(
                Instant::now() < deadline,
                "{}",
                server.get(&format!("/v1/learning/runs/{id}")).await
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.kill_9();

        let server = Server::start(&data, &[]).await;
        let told = loop {
            let status = status(&server).await;
            let of_run = |entry: &&Value| entry["model"] == id.as_str();
            let told: Vec<Value> = status["history"]
                .as_array()
                .unwrap()
                .iter()
                .filter(of_run)
                .cloned()
                .collect();
            if !told.is_empty() {
                break told;
            }
            assert!(Instant::now() < deadline, "{status:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let events: Vec<&str> = told.iter().map(|entry| entry["event"].as_str().unwrap()).collect();
        let run = server.get(&format!("/v1/learning/runs/{id}")).await;
        assert_eq!(run["status"], "passed", "{run:#}");
        assert_eq!(events, ["canary", "offered"], "each once: {told:#?}");
        assert_eq!(status(&server).await["canary"]["id"], id.as_str());
        let left = [
            "adapter",
            "likelihood.svg",
            "model.gguf",
            "report.json",
            "report.md",
            "right.svg",
        ];
        assert_eq!(names(&folder), left, "nothing else is left of it");
        let runs = server.get("/v1/learning/runs").await;
        assert_eq!(runs["data"].as_array().unwrap().len(), before, "{runs:#}");
        assert!(server.terminate().await.success());
    }
    let after = std::fs::metadata(setting("HABIT_TEST_MODEL").join("model.gguf")).unwrap();
    assert_eq!(
        (after.len(), after.modified().unwrap()),
        (served.len(), served.modified().unwrap())
    );
}

/// Before there is a plan on the disk there is nothing of a run; after that it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_at_its_begin_is_there_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Server::start(&data, &[]).await;
    for number in 0..3 {
        let body = json!({"messages": [{"role": "user", "content": format!("number {number}")}], "max_tokens": 1});
        let reply = server.chat(&body, &[]).await;
        let turn = reply.headers()["x-habit-turn"].to_str().unwrap().to_owned();
        reply.bytes().await.unwrap();
        let said = json!({"turn": turn, "correction": "yes"});
        let given = server
            .request(reqwest::Method::POST, "/v1/feedback")
            .json(&said)
            .send()
            .await;
        assert!(given.unwrap().status().is_success());
    }
    let mut begun = 0;
    for wait in [1, 20] {
        let asked = server
            .request(reqwest::Method::POST, "/v1/learning/runs")
            .json(&json!({}));
        let asked = tokio::spawn(asked.send());
        tokio::time::sleep(Duration::from_millis(wait)).await;
        server.kill_9();
        drop(asked.await);
        server = Server::start(&data, &[]).await;
        let deadline = Instant::now() + PATIENCE;
        let runs = loop {
            let runs = server.get("/v1/learning/runs").await["data"]
                .as_array()
                .unwrap()
                .clone();
            if runs.iter().all(|run| run["status"] == "untrained") {
                break runs;
            }
            assert!(Instant::now() < deadline, "{runs:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(runs.len() == begun || runs.len() == begun + 1, "{runs:#?}");
        begun = runs.len();
        let history = status(&server).await["history"].as_array().unwrap().len();
        assert_eq!(history, begun, "each is told once");
    }
    let again = server
        .request(reqwest::Method::POST, "/v1/learning/runs")
        .json(&json!({}))
        .send();
    assert!(again.await.unwrap().status().is_success());
}
