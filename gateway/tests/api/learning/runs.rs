//! From corrections to a model that serves, and back: with a trainer and models that are doubles, through the router.

use std::sync::Arc;
use std::time::{Duration, Instant};

use habit_gateway::learner::Workshop;
use habit_learning::testing::things;

use super::*;

pub async fn world() -> (TestApp, String) {
    taught_by(school::workshop()).await
}

/// An application that learns by this workshop, with a key of ann, of the team acme.
pub async fn taught_by(workshop: Arc<dyn Workshop>) -> (TestApp, String) {
    let test = TestApp::builder()
        .workshop(workshop)
        .config(|config| config.learning.feedback_a_day = 2_000)
        .build()
        .await;
    let key = test.key("acme", "ann").await;
    (test, key)
}

/// Puts so many answers right.
async fn teach(test: &TestApp, key: &str, count: usize) {
    for thing in things(count) {
        correct(test, key, &thing.question(), &thing.answer).await;
    }
}

/// Runs, and gives the run when it has ended.
async fn learn(test: &TestApp, key: &str) -> Value {
    let begun = test.post("/v1/learning/runs", key, &json!({})).await;
    assert_eq!(begun.status, StatusCode::OK, "{}", begun.text());
    let path = format!("/v1/learning/runs/{}", begun.json()["id"].as_str().unwrap());
    until(test, key, &path, |run| run["status"] != "running").await
}

#[tokio::test]
async fn a_folder_without_a_run_is_no_run() {
    let (test, key) = world().await;
    let folder = test
        .folder()
        .join("learning/team-acme/01a20117-8535-77f9-9af3-eab010b2e3e7");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("run.part"), "{").unwrap();
    let runs = test.get("/v1/learning/runs", &key).await.json();
    assert_eq!(runs["data"], json!([]), "as a process leaves it that ends right then");
    let path = "/v1/learning/runs/01a20117-8535-77f9-9af3-eab010b2e3e7";
    assert_eq!(test.get(path, &key).await.status, StatusCode::NOT_FOUND);
}

/// Looks until what is there is as it should be.
pub async fn until(test: &TestApp, key: &str, path: &str, done: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let seen = test.get(path, key).await.json();
        if done(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "{seen}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn corrections_become_a_model_on_trial_and_a_rollback_takes_it_back() {
    let (test, key) = world().await;
    let refused = test.post("/v1/learning/runs", &key, &json!({})).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text());
    assert!(refused.text().contains("/v1/feedback"), "{}", refused.text());

    teach(&test, &key, 160).await;
    let before = test.get("/v1/learning/status", &key).await.json();
    assert_eq!(
        (&before["own_examples"], &before["team_examples"]),
        (&json!(160), &json!(160)),
        "{before}"
    );
    let run = learn(&test, &key).await;
    assert_eq!(
        (&run["status"], &run["model"]),
        (&json!("passed"), &json!("canary")),
        "{run}"
    );
    assert!(
        run["report"]["changed"]
            .as_array()
            .is_some_and(|changed| !changed.is_empty()),
        "{run}"
    );
    let id = run["id"].as_str().unwrap();
    let markdown = test.get(&format!("/v1/learning/runs/{id}?format=markdown"), &key).await;
    assert!(markdown.text().contains("Passed"), "{}", markdown.text());
    let plot = test
        .get(&format!("/v1/learning/runs/{id}?format=right.svg"), &key)
        .await;
    assert_eq!(plot.headers["content-type"], "image/svg+xml");

    let status = test.get("/v1/learning/status", &key).await.json();
    assert_eq!(status["canary"]["id"], id, "{status}");
    let feedback = test.get("/v1/feedback?limit=1", &key).await.json();
    let feedback = feedback["data"][0]["id"].as_str().unwrap();
    let lineage = test.get(&format!("/v1/learning/lineage/{feedback}"), &key).await.json();
    assert_eq!(lineage["runs"][0]["run"], id, "{lineage}");

    let back = test
        .post("/v1/learning/rollback", &key, &json!({"why": "I liked the old one"}))
        .await;
    assert_eq!(back.status, StatusCode::OK, "{}", back.text());
    let undo = back.json()["undo"].as_str().unwrap().to_owned();
    assert!(undo.contains(&format!("habit learn promote {id}")), "{undo}");
    let status = test.get("/v1/learning/status", &key).await.json();
    assert!(status["canary"].is_null() && status["serving"].is_null(), "{status}");
    let again = test.post("/v1/learning/rollback", &key, &json!({})).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST, "{}", again.text());

    // What is forgotten marks the run, and its words leave the report.
    let changed = run["report"]["changed"][0].clone();
    let turn = changed["id"].as_str().unwrap();
    assert_eq!(
        test.delete(&format!("/v1/turns/{turn}"), &key).await.status,
        StatusCode::OK
    );
    let marked = test.get(&format!("/v1/learning/runs/{id}"), &key).await.json();
    assert_eq!(marked["forgotten"], 1, "{marked}");
    let folder = test.folder().join("learning/team-acme").join(id);
    let question = changed["question"].as_str().unwrap();
    for file in ["report.json", "report.md"] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(!text.contains(question), "{question} in {file}");
    }
    // Of an erased user the models go too.
    assert!(folder.join("model.gguf").exists());
    let erased = test.post("/v1/memories/erase", &key, &json!({"confirm": "ann"})).await;
    assert_eq!(erased.status, StatusCode::OK, "{}", erased.text());
    assert!(!folder.join("model.gguf").exists() && !folder.join("adapter").exists());
    let text = std::fs::read_to_string(folder.join("report.json")).unwrap();
    assert!(
        !things(160).iter().any(|thing| text.contains(&thing.question())),
        "{text}"
    );
}

#[tokio::test]
async fn of_several_gateways_one_trains_a_team() {
    let (test, key) = taught_by(school::slow().0).await;
    teach(&test, &key, 160).await;
    let runs = test.app.memory.as_ref().unwrap().runs.clone();
    let (name, now, minute) = ("learn:acme", test.app.clock.now_ms(), 60_000);
    assert!(runs.lease(name, "another gateway", now, minute).await.unwrap());
    let refused = test.post("/v1/learning/runs", &key, &json!({})).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text());
    assert_eq!(refused.error_code(), "run_under_way");
    assert!(refused.text().contains("another gateway"), "{}", refused.text());
    runs.release(name, "another gateway").await.unwrap();

    let begun = test.post("/v1/learning/runs", &key, &json!({})).await.json();
    assert!(
        !runs.lease(name, "another gateway", now, minute).await.unwrap(),
        "held while it runs: {begun}"
    );
    let cancel = format!("/v1/learning/runs/{}/cancel", begun["id"].as_str().unwrap());
    assert_eq!(test.post(&cancel, &key, &json!({})).await.status, StatusCode::OK);
    assert!(
        runs.lease(name, "another gateway", now, minute).await.unwrap(),
        "free when it has ended"
    );
}

#[tokio::test]
async fn a_run_that_trains_nothing_says_so_and_rejects_no_model() {
    let (test, key) = world().await;
    teach(&test, &key, 20).await;
    let run = learn(&test, &key).await;
    assert_eq!(
        (&run["status"], &run["model"]),
        (&json!("untrained"), &Value::Null),
        "{run}"
    );
    assert!(run["reasons"][0].as_str().unwrap().contains("more feedback"), "{run}");
    let status = test.get("/v1/learning/status", &key).await.json();
    let what = status["history"][0]["what"].as_str().unwrap();
    assert_eq!(what, "a learning run trained nothing", "{status}");
    let body = json!({"run": run["id"]});
    let refused = test.post("/v1/learning/promote", &key, &body).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text());
}

#[tokio::test]
async fn downtime_tells_why_there_is_no_use_in_a_run_as_a_run_would() {
    let (test, key) = world().await;
    let admin = test.admin_key("acme", "ann").await;
    teach(&test, &key, 20).await;
    let body = json!({"routine": "learn"});
    let asked = test.post("/v1/downtime/run", &admin, &body).await;
    assert_eq!(asked.status, StatusCode::OK, "{}", asked.text());
    let path = format!("/v1/downtime/runs/{}", asked.json()["data"][0]["id"].as_str().unwrap());
    let run = until(&test, &admin, &path, |run| run["status"] == "finished").await;
    let why = "of 20 examples 3 would be left to judge by, and fewer than 12";
    assert!(run["report"].as_str().unwrap().contains(why), "{run:#}");
}

#[tokio::test]
async fn of_a_run_that_was_broken_off_nothing_is_left_when_its_user_is_erased() {
    let (test, key) = world().await;
    teach(&test, &key, 160).await;
    let id = learn(&test, &key).await["id"].clone();
    let run = test.folder().join("learning/team-acme").join(id.as_str().unwrap());
    std::fs::remove_file(run.join("report.json")).unwrap();
    std::fs::create_dir_all(run.join("setting-1")).unwrap();
    for file in ["run.part", "setting-1/job.json"] {
        std::fs::write(run.join(file), things(1)[0].question()).unwrap();
    }
    let erased = test.post("/v1/memories/erase", &key, &json!({"confirm": "ann"})).await;
    assert_eq!(erased.status, StatusCode::OK, "{}", erased.text());
    assert!(!run.exists());
}

#[tokio::test]
async fn of_a_run_that_is_cancelled_or_erased_in_its_training_nothing_is_left() {
    let (test, key) = taught_by(school::slow().0).await;
    teach(&test, &key, 160).await;
    for erase in [false, true] {
        let begun = test.post("/v1/learning/runs", &key, &json!({})).await.json();
        let id = begun["id"].as_str().unwrap();
        let path = format!("/v1/learning/runs/{id}");
        let run = test.folder().join("learning/team-acme").join(id);
        until(&test, &key, &path, |_| run.join("setting-1/job.json").exists()).await;
        let (way, body) = if erase {
            ("/v1/memories/erase".to_owned(), json!({"confirm": "ann"}))
        } else {
            (format!("{path}/cancel"), json!({}))
        };
        let done = test.post(&way, &key, &body).await;
        assert_eq!(done.status, StatusCode::OK, "{}", done.text());
        assert!(!run.exists(), "{way}");
    }
}

/// The server stops after the report was written, before its model was on trial.
#[tokio::test]
async fn a_model_whose_run_ended_just_before_the_server_comes_on_trial_after_the_restart() {
    let (first, key) = world().await;
    teach(&first, &key, 160).await;
    let id = learn(&first, &key).await["id"].clone();
    let folder = first.folder().to_path_buf();
    let run = folder.join("learning/team-acme").join(id.as_str().unwrap());
    std::fs::create_dir_all(run.join("setting-1")).unwrap();
    std::fs::write(run.join("setting-1/job.json"), "someone's words").unwrap();
    std::fs::write(run.join("run.json"), "someone's words").unwrap();
    // The folder of the runs with another database: nothing was noted there.
    let second = TestApp::builder()
        .workshop(school::workshop())
        .config(|config| config.data.dir = Some(folder))
        .build()
        .await;
    let key = second.key("acme", "ann").await;
    let path = "/v1/learning/status";
    let status = until(&second, &key, path, |status| status["canary"].is_object()).await;
    assert_eq!(status["canary"]["id"], id, "{status}");
    assert_eq!(status["history"].as_array().unwrap().len(), 2, "{status}");
    let left = ["setting-1", "run.json"].map(|name| run.join(name).exists());
    assert_eq!(left, [false, false], "what only a run under way needs is gone");
}

#[tokio::test]
async fn one_users_bad_corrections_teach_the_team_nothing() {
    let (test, ann) = world().await;
    let mallory = test.key("acme", "mallory").await;
    for number in 0..120 {
        correct(
            &test,
            &mallory,
            &format!("where is branch {number} of {number}"),
            "nowhere",
        )
        .await;
    }
    for key in [&ann, &mallory] {
        let refused = test.post("/v1/learning/runs", key, &json!({})).await;
        assert_eq!(
            refused.status,
            StatusCode::FORBIDDEN,
            "of a team of several an admin: {}",
            refused.text()
        );
    }
    let admin = test.admin_key("acme", "ann").await;
    let refused = test.post("/v1/learning/runs", &admin, &json!({})).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text());
    assert!(refused.text().contains("users"), "{}", refused.text());
    let status = test.get("/v1/learning/status", &mallory).await.json();
    assert_eq!(
        (
            &status["own_examples"],
            &status["team_examples"],
            &status["users_needed"]
        ),
        (&json!(120), &json!(0), &json!(2))
    );
}

#[tokio::test]
async fn other_teams_see_nothing_of_a_run() {
    let (test, ann) = world().await;
    teach(&test, &ann, 160).await;
    let run = learn(&test, &ann).await;
    let id = run["id"].as_str().unwrap();
    let stranger = test.admin_key("other", "ann").await;
    let path = format!("/v1/learning/runs/{id}");
    for path in [
        path.clone(),
        format!("{path}?format=markdown"),
        format!("{path}?format=right.svg"),
    ] {
        assert_eq!(test.get(&path, &stranger).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(
        test.post(&format!("{path}/cancel"), &stranger, &json!({})).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(test.get("/v1/learning/runs", &stranger).await.json()["data"], json!([]));
    let back = test.post("/v1/learning/rollback", &stranger, &json!({})).await;
    assert_eq!(back.status, StatusCode::BAD_REQUEST, "{}", back.text());
    assert_eq!(
        test.get(&path, &ann).await.json()["model"],
        "canary",
        "a stranger took it back"
    );
    // A colleague sees how it went, and none of ann's words.
    let bob = test.key("acme", "bob").await;
    let seen = test.get(&path, &bob).await.json();
    assert_eq!(
        (&seen["status"], &seen["report"]["changed"]),
        (&json!("passed"), &json!([])),
        "{seen}"
    );
}
