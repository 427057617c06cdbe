//! Models that were trained for a team: who gets them, how many of the requests, and that nobody waits or loses a reply
//! while they come and go.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use habit_engine::fleet::Fleet;
use habit_engine::scripted::{Failure, Scripted};
use habit_engine::{Engine, EngineError};
use habit_gateway::config::{self, Config};
use habit_gateway::loader::{Load, Loader};
use habit_gateway::testing::{Reply, TestApp};
use habit_learning::rollout::{Rollouts, TeamModel};
use habit_memory::clock::Clock;
use http::StatusCode;
use serde_json::json;

use super::Hand;

const CHAT: &str = "/v1/chat/completions";

/// Brings up engines that say their file's name; `broken` does not come up, `full` has no room for
/// the first request.
struct Doubles;

#[async_trait]
impl Load for Doubles {
    async fn load(&self, wanted: &config::Engine) -> anyhow::Result<Arc<dyn Engine>> {
        anyhow::ensure!(wanted.model != "broken", "its file is cut short");
        let engine = Scripted::new(wanted.model.clone()).reply(wanted.model.clone());
        if wanted.model == "full" {
            return Ok(Arc::new(engine.failing(Failure::BeforeStream(
                EngineError::Unavailable("no room".to_owned()),
            ))));
        }
        Ok(Arc::new(engine))
    }

    fn ready(&self) -> anyhow::Result<Vec<String>> {
        Ok(Vec::new())
    }
}

struct World {
    test: TestApp,
    clock: Arc<Hand>,
}

async fn world(loaded: usize) -> World {
    let clock = Arc::new(Hand::default());
    let fleet = Arc::new(Fleet::new(vec![Arc::new(Scripted::new("base").reply("base"))]));
    let loader = Loader::new(Arc::new(Config::default()), Arc::new(Doubles), Arc::clone(&fleet));
    let test = TestApp::builder()
        .fleet(fleet)
        .loader(loader)
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .config(|config| config.rollout.loaded = loaded)
        .build()
        .await;
    World { test, clock }
}

impl World {
    fn rollouts(&self) -> &Rollouts {
        self.test.app.variants.as_ref().unwrap().rollouts()
    }

    async fn promoted(&self, team: &str, file: &str) -> TeamModel {
        let model = TeamModel::new("base", file, 0);
        self.rollouts().offer(team, &model).await.unwrap();
        self.rollouts().promote(team, model.id, "the gate").await.unwrap();
        model
    }

    async fn ask(&self, key: &str, model: &str) -> Reply {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "x"}]});
        let reply = self.test.post(CHAT, key, &body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        reply
    }

    async fn says(&self, key: &str) -> String {
        said(&self.ask(key, "base").await)
    }

    /// Asks until this is said: a model is loaded beside what goes on.
    async fn until(&self, key: &str, words: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let reply = self.ask(key, "base").await;
            if said(&reply) == words {
                return;
            }
            assert!(Instant::now() < deadline, "`{}`, {:?}", said(&reply), reply.headers);
            tokio::task::yield_now().await;
        }
    }
}

fn said(reply: &Reply) -> String {
    let json = reply.json();
    json["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

fn variant(reply: &Reply) -> &str {
    reply
        .headers
        .get("x-habit-model-variant")
        .map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_promoted_model_answers_its_team_alone_and_the_record_says_so() {
    let world = world(2).await;
    let (ann, bob) = (world.test.key("a", "ann").await, world.test.key("b", "bob").await);
    let model = world.promoted("a", "better").await;
    world.until(&ann, "better").await;
    let reply = world.ask(&ann, "").await;
    assert_eq!(said(&reply), "better", "the default means the base");
    assert_eq!(variant(&reply), format!("adapter; model={}; p=1.000", model.id));
    assert_eq!(reply.json()["model"], "base", "it is known by the base's name");
    let turn = reply.headers["x-habit-turn"].to_str().unwrap();
    let record = world.test.get(&format!("/v1/turns/{turn}"), &ann).await.json();
    assert_eq!(record["lookup"]["variant"]["model"], model.id.to_string());
    assert_eq!(record["lookup"]["variant"]["propensity"], 1.0);
    let other = world.ask(&bob, "base").await;
    assert_eq!((said(&other).as_str(), variant(&other)), ("base", ""));
    let listed = world.test.get("/v1/models", &bob).await.text();
    assert!(!listed.contains("better"), "{listed}");
    world.rollouts().rollback("a", "by hand").await.unwrap();
    assert_eq!(world.says(&ann).await, "base");
}

#[tokio::test]
async fn a_canary_has_its_share_and_its_probability_is_told() {
    let world = world(2).await;
    let ann = world.test.key("a", "ann").await;
    let model = TeamModel::new("base", "new", 0);
    world.rollouts().offer("a", &model).await.unwrap();
    assert_eq!(world.says(&ann).await, "base", "a candidate serves nobody");
    world.rollouts().canary("a", model.id, 0.3).await.unwrap();
    world.until(&ann, "new").await;
    let mut tried = 0;
    for _ in 0..300 {
        let reply = world.ask(&ann, "base").await;
        let (text, told) = (said(&reply), variant(&reply).to_owned());
        assert!(
            (text == "new" && told.ends_with("p=0.300")) || (text == "base" && told == "base; p=0.700"),
            "{text}: {told}"
        );
        tried += i32::from(text == "new");
    }
    assert!((60..=120).contains(&tried), "{tried} of 300, where 90 are meant");
}

#[tokio::test]
async fn no_request_is_lost_while_models_come_and_go() {
    let world = world(2).await;
    let ann = world.test.key("a", "ann").await;
    let mut replies = Vec::new();
    for file in ["one", "broken", "full", "two"] {
        world.promoted("a", file).await;
        world.clock.0.fetch_add(3_600_000, Ordering::SeqCst);
        for _ in 0..20 {
            replies.push(world.ask(&ann, "base").await);
            tokio::task::yield_now().await;
        }
    }
    world.until(&ann, "two").await;
    assert!(replies.iter().any(|reply| said(reply) == "one"));
    let fine = |reply: &Reply| ["base", "one", "full", "two"].contains(&said(reply).as_str());
    assert!(
        replies.iter().all(fine),
        "what can't be loaded or has no room is answered by the base"
    );
    let notes = replies.iter().filter(|reply| variant(reply) == "base; p=1.000");
    assert!(notes.count() >= 20, "and says so");
}

#[tokio::test]
async fn only_so_many_models_are_loaded_and_two_teams_do_not_make_them_come_and_go() {
    let world = world(1).await;
    let (ann, bob) = (world.test.key("a", "ann").await, world.test.key("b", "bob").await);
    let variants = world.test.app.variants.clone().unwrap();
    let first = world.promoted("a", "of a").await;
    let second = world.promoted("b", "of b").await;
    world.until(&ann, "of a").await;
    for _ in 0..20 {
        assert_eq!(world.says(&bob).await, "base", "there is one place, and it is in use");
        assert_eq!(world.says(&ann).await, "of a");
    }
    assert_eq!(variants.loaded(), [first.id]);
    world.clock.0.fetch_add(60_000, Ordering::SeqCst);
    world.until(&bob, "of b").await;
    assert_eq!(variants.loaded(), [second.id]);
    assert_eq!(world.says(&ann).await, "base");
}

#[tokio::test]
async fn what_users_say_of_a_bad_canary_ends_its_trial() {
    let world = world(2).await;
    let users = [
        world.test.key("a", "ann").await,
        world.test.key("a", "bob").await,
        world.test.key("a", "eve").await,
    ];
    let model = TeamModel::new("base", "worse", 0);
    world.rollouts().offer("a", &model).await.unwrap();
    world.rollouts().canary("a", model.id, 0.5).await.unwrap();
    world.until(&users[0], "worse").await;
    let mut asked = 0;
    while world.rollouts().state("a").canary.is_some() {
        asked += 1;
        assert!(
            asked < 300,
            "nobody noticed: {}",
            world.rollouts().state("a").canary.clone().unwrap().summary()
        );
        let key = &users[asked % users.len()];
        let reply = world.ask(key, "base").await;
        let turn = reply.headers["x-habit-turn"].to_str().unwrap();
        let thumb = if said(&reply) == "worse" { "down" } else { "up" };
        let given = world
            .test
            .post("/v1/feedback", key, &json!({"turn": turn, "thumb": thumb}))
            .await;
        assert_eq!(given.status, StatusCode::OK, "{}", given.text());
    }
    assert!(asked > 6, "{asked} turns prove nothing");
    assert_eq!(world.says(&users[0]).await, "base");
    let state = world.rollouts().state("a");
    let last = state.history.last().unwrap();
    assert!(last.why[0].contains("does worse") && !last.undo.is_empty(), "{last:?}");
}
