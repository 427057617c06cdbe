//! OpenAI's fine-tuning jobs: from a file to a model under its own name, for its own team.

use axum::body::Body;
use habit_gateway::testing::request;
use habit_learning::testing::things;
use http::Method;

use super::runs::{until, world};
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
