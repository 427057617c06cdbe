//! OpenAI's fine-tuning jobs: from a file to a model under its own name, for its own team.

use axum::body::Body;
use habit_gateway::testing::request;
use habit_learning::testing::things;
use http::Method;

use super::runs::{taught_by, until, world};
use super::*;

const JOBS: &str = "/v1/fine_tuning/jobs";

/// Uploads so many examples; the file's id.
async fn upload(test: &TestApp, key: &str, purpose: &str, count: usize) -> String {
    let line = |thing: &habit_learning::examples::Example| {
        let answer = json!({"role": "assistant", "content": thing.answer});
        json!({"messages": [{"role": "user", "content": thing.question()}, answer]}).to_string()
    };
    let lines: Vec<String> = things(count).iter().map(line).collect();
    let text = lines.join("\n");
    let reply = test
        .upload_to(
            "/v1/files",
            key,
            &[("train.jsonl", text.as_bytes())],
            &[("purpose", purpose)],
        )
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply.json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_file_becomes_a_model_of_ones_own() {
    let (test, key) = world().await;
    let file = upload(&test, &key, "fine-tune", 60).await;
    let body = json!({"model": "pupil", "training_file": file, "suffix": "things", "seed": 7,
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto"}}}});
    let made = test.post(JOBS, &key, &body).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text());
    let job = made.json();
    let id = job["id"].as_str().unwrap();
    assert!(
        id.starts_with("ftjob-") && job["object"] == "fine_tuning.job" && job["seed"] == 7,
        "{job}"
    );
    assert_eq!(job["hyperparameters"]["n_epochs"], 2, "{job}");
    let done = until(&test, &key, &format!("{JOBS}/{id}"), |job| job["finished_at"].is_i64()).await;
    assert_eq!(done["status"], "succeeded", "{done}");
    let model = done["fine_tuned_model"].as_str().unwrap();
    assert!(model.starts_with("ft:pupil:things:"), "{model}");

    let ask_it = json!({"model": model, "messages": [{"role": "user", "content": things(1)[0].question()}]});
    let reply = ask(&test, &key, &ask_it).await.json();
    assert_eq!(
        reply["choices"][0]["message"]["content"],
        things(1)[0].answer,
        "{reply}"
    );
    let events = test.get(&format!("{JOBS}/{id}/events"), &key).await.json();
    assert_eq!(events["data"][0]["object"], "fine_tuning.job.event", "{events}");
    let checkpoints = test.get(&format!("{JOBS}/{id}/checkpoints"), &key).await.json();
    assert_eq!(
        checkpoints["data"][0]["fine_tuned_model_checkpoint"], model,
        "{checkpoints}"
    );
    let list = test.get(&format!("{JOBS}?limit=1"), &key).await.json();
    assert_eq!(
        (&list["data"][0]["id"], &list["has_more"]),
        (&json!(id), &json!(false)),
        "{list}"
    );
    let cancelled = test.post(&format!("{JOBS}/{id}/cancel"), &key, &json!({})).await.json();
    assert_eq!(
        cancelled["status"], "succeeded",
        "what has ended is not stopped: {cancelled}"
    );

    // Others neither see nor ask it, not even a colleague the job.
    let (stranger, colleague) = (test.admin_key("other", "ann").await, test.key("acme", "bob").await);
    for other in [&stranger, &colleague] {
        for path in [
            format!("{JOBS}/{id}"),
            format!("{JOBS}/{id}/events"),
            format!("{JOBS}/{id}/checkpoints"),
        ] {
            assert_eq!(test.get(&path, other).await.status, StatusCode::NOT_FOUND, "{path}");
        }
        assert_eq!(test.get(JOBS, other).await.json()["data"], json!([]));
        let body = json!({"model": "pupil", "training_file": file});
        assert_eq!(
            test.post(JOBS, other, &body).await.status,
            StatusCode::NOT_FOUND,
            "another's file"
        );
    }
    assert!(!test.get("/v1/models", &stranger).await.text().contains(model));
    for path in [CHAT, "/v1/tokenize"] {
        let mut body = json!({"model": model, "messages": [{"role": "user", "content": "hello"}]});
        if path == "/v1/tokenize" {
            body = json!({"model": model, "prompt": "hello"});
        }
        let refused = test.post(path, &stranger, &body).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}: {}", refused.text());
    }
    assert_eq!(ask(&test, &colleague, &ask_it).await.status, StatusCode::OK);

    let erased = test.post("/v1/memories/erase", &key, &json!({"confirm": "ann"})).await;
    assert_eq!(erased.status, StatusCode::OK, "{}", erased.text());
    assert_eq!(test.post(CHAT, &key, &ask_it).await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        std::fs::read_dir(test.folder().join("learning/jobs")).unwrap().count(),
        0
    );
}

/// Begins a job on such a file; its id.
async fn begin(test: &TestApp, key: &str, file: &str) -> String {
    let made = test
        .post(JOBS, key, &json!({"model": "pupil", "training_file": file}))
        .await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text());
    made.json()["id"].as_str().unwrap().to_owned()
}

/// Waits until a job is so.
async fn becomes(test: &TestApp, key: &str, id: &str, status: &str) -> Value {
    until(test, key, &format!("{JOBS}/{id}"), |job| job["status"] == status).await
}

/// The folder of a job.
fn place(folder: &std::path::Path, id: &str) -> std::path::PathBuf {
    let id = uuid::Uuid::parse_str(id.strip_prefix("ftjob-").unwrap()).unwrap();
    folder.join("learning/jobs").join(id.to_string())
}

/// Waits until a job is in the middle of its training.
async fn trains(test: &TestApp, key: &str, id: &str) {
    let text = place(test.folder(), id).join("setting-1/job.json");
    until(test, key, JOBS, |_| text.exists()).await;
}

fn files(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[tokio::test]
async fn a_job_that_waits_or_was_cancelled_is_listed_and_erased_like_any_other() {
    let (workshop, open) = school::slow();
    let (test, ann) = taught_by(workshop).await;
    let bob = test.key("acme", "bob").await;
    let (hers, his) = (
        upload(&test, &ann, "fine-tune", 20).await,
        upload(&test, &bob, "fine-tune", 20).await,
    );
    let first = begin(&test, &ann, &hers).await;
    trains(&test, &ann, &first).await;
    assert_eq!(becomes(&test, &ann, &first, "running").await["error"], Value::Null);
    let second = begin(&test, &ann, &hers).await;
    let third = begin(&test, &ann, &hers).await;
    let events = test.get(&format!("{JOBS}/{third}/events?limit=1"), &ann).await.json();
    assert_eq!(events["data"][0]["message"], "waiting for another job", "{events}");

    for id in [&first, &third] {
        let cancelled = test.post(&format!("{JOBS}/{id}/cancel"), &ann, &json!({})).await.json();
        assert_eq!(cancelled["status"], "cancelled", "{cancelled}");
        assert_eq!(
            files(&place(test.folder(), id)),
            ["job.json"],
            "no text and no checkpoint"
        );
    }
    trains(&test, &ann, &second).await;
    let fourth = begin(&test, &ann, &hers).await;
    let other = begin(&test, &bob, &his).await;
    let list = test.get(JOBS, &ann).await.json();
    let seen: Vec<(&str, &str)> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| (job["id"].as_str().unwrap(), job["status"].as_str().unwrap()))
        .collect();
    let wanted = [
        (fourth.as_str(), "queued"),
        (&third, "cancelled"),
        (&second, "running"),
        (&first, "cancelled"),
    ];
    assert_eq!(seen, wanted, "{list}");

    let erased = test.post("/v1/memories/erase", &ann, &json!({"confirm": "ann"})).await;
    assert_eq!(erased.status, StatusCode::OK, "{}", erased.text());
    assert_eq!(files(&test.folder().join("learning/jobs")).len(), 1, "bob's");
    open.cancel();
    let done = becomes(&test, &bob, &other, "succeeded").await;
    let model = done["fine_tuned_model"].as_str().unwrap();
    let served = test.get("/v1/models", &ann).await.json().to_string();
    assert_eq!(
        (served.matches("ft:").count(), served.contains(model)),
        (1, true),
        "{served}"
    );
    assert_eq!(test.get(JOBS, &ann).await.json()["data"], json!([]));
}

/// The process ends with one job in its training, one that waits, one whose data is lost, and one that was just cancelled.
#[tokio::test]
async fn jobs_go_on_after_a_restart_also_those_that_had_not_begun() {
    let (first, ann) = taught_by(school::slow().0).await;
    let file = upload(&first, &ann, "fine-tune", 20).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(begin(&first, &ann, &file).await);
    }
    trains(&first, &ann, &ids[0]).await;
    let folder = first.folder().to_path_buf();
    std::fs::remove_file(place(&folder, &ids[2]).join("run.json")).unwrap();
    let cancelled = place(&folder, &ids[3]);
    let path = format!("{JOBS}/{}/cancel", ids[3]);
    assert_eq!(first.post(&path, &ann, &json!({})).await.status, StatusCode::OK);
    std::fs::write(cancelled.join("run.json"), "someone's words").unwrap();
    let second = restarted(&folder).await;
    let ann = second.key("acme", "ann").await;
    for (id, status) in ids.iter().zip(["succeeded", "succeeded", "failed", "cancelled"]) {
        becomes(&second, &ann, id, status).await;
    }
    assert_eq!(files(&cancelled), ["job.json"]);
    let lost = problem(&second, &ann, &ids[2]).await;
    assert!(lost.contains("create it again"), "{lost}");
}

async fn restarted(folder: &std::path::Path) -> TestApp {
    let folder = folder.to_path_buf();
    TestApp::builder()
        .workshop(school::workshop())
        .config(|config| config.data.dir = Some(folder))
        .build()
        .await
}

async fn problem(test: &TestApp, key: &str, id: &str) -> String {
    let job = test.get(&format!("{JOBS}/{id}"), key).await.json();
    job["error"]["message"].as_str().unwrap().to_owned()
}

/// The process ends when the report is written, and the job does not know yet.
#[tokio::test]
async fn a_job_whose_run_ended_just_before_the_server_succeeds_after_the_restart() {
    let (first, ann) = world().await;
    let file = upload(&first, &ann, "fine-tune", 20).await;
    let id = begin(&first, &ann, &file).await;
    becomes(&first, &ann, &id, "succeeded").await;
    let own = place(first.folder(), &id).join("job.json");
    let mut job: Value = serde_json::from_slice(&std::fs::read(&own).unwrap()).unwrap();
    (job["status"], job["finished_at"]) = (json!("running"), Value::Null);
    std::fs::write(&own, job.to_string()).unwrap();
    let second = restarted(first.folder()).await;
    let ann = second.key("acme", "ann").await;
    let done = becomes(&second, &ann, &id, "succeeded").await;
    let served = second.get("/v1/models", &ann).await.text();
    assert!(served.contains(done["fine_tuned_model"].as_str().unwrap()), "{served}");
}

#[tokio::test]
async fn a_job_tells_how_many_examples_it_trained_on_and_measured_by() {
    let (test, ann) = world().await;
    let line = |thing: &str| {
        json!({"messages": [{"role": "user", "content": format!("where is the {thing}")}, {"role": "assistant", "content": "here"}]})
            .to_string()
    };
    let text = vec![line("red bicycle of the mayor"); 12].join("\n");
    let reply = test
        .upload_to(
            "/v1/files",
            &ann,
            &[("a.jsonl", text.as_bytes())],
            &[("purpose", "fine-tune")],
        )
        .await;
    let file = reply.json()["id"].as_str().unwrap().to_owned();
    let id = begin(&test, &ann, &file).await;
    becomes(&test, &ann, &id, "succeeded").await;
    let events = test.get(&format!("{JOBS}/{id}/events"), &ann).await.json().to_string();
    assert!(events.contains("12 examples in"), "{events}");
    assert!(
        events.contains("10 examples were trained on and 0 measured by; 2, nearly"),
        "{events}"
    );
    let checkpoints = test.get(&format!("{JOBS}/{id}/checkpoints"), &ann).await.json();
    let metrics = &checkpoints["data"][0]["metrics"];
    assert!(
        metrics["full_valid_mean_token_accuracy"].is_null() && metrics["valid_loss"].is_null(),
        "{checkpoints}"
    );
}

#[tokio::test]
async fn what_can_t_be_trained_is_refused_and_says_why() {
    let (test, key) = world().await;
    let good = upload(&test, &key, "fine-tune", 12).await;
    let few = upload(&test, &key, "fine-tune", 3).await;
    let other = upload(&test, &key, "assistants", 12).await;
    for (body, hint) in [
        (json!({"model": "gpt-4o", "training_file": good}), "can't be trained"),
        (json!({"model": "pupil", "training_file": few}), "the least"),
        (json!({"model": "pupil", "training_file": other}), "fine-tune"),
        (
            json!({"model": "pupil", "training_file": good, "suffix": "a b"}),
            "suffix",
        ),
        (
            json!({"model": "pupil", "training_file": good, "hyperparameters": {"n_epochs": 0}}),
            "n_epochs",
        ),
        (
            json!({"model": "pupil", "training_file": good, "method": {"type": "dpo"}}),
            "supervised",
        ),
    ] {
        let reply = test.post(JOBS, &key, &body).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{body}: {}", reply.text());
        assert!(reply.text().contains(hint), "{}", reply.text());
    }
    for (method, path) in [
        (Method::GET, "ftjob-x"),
        (Method::GET, "ftjob-0"),
        (Method::POST, "x/cancel"),
    ] {
        let gone = request(method, &format!("{JOBS}/{path}"), &key)
            .body(Body::empty())
            .unwrap();
        assert_eq!(test.call(gone).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}
