//! The engine apart: `habit worker` in one process, `habit serve --upstream` in another, same answers.

use serde_json::{Value, json};

use crate::process::{Server, habit};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_gives_the_same_answers_as_the_embedded_engine() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there, apart) = (
        dir.path().join("here"),
        dir.path().join("there"),
        dir.path().join("apart"),
    );
    let worker_port = free_port();
    let mut worker = habit();
    worker.arg("--data-dir").arg(&apart).args([
        "worker",
        "--bind",
        &format!("127.0.0.1:{worker_port}"),
        "--key",
        "worker-secret",
    ]);
    let mut worker = worker
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let url = format!("http://127.0.0.1:{worker_port}");
    wait_for(&url, &mut worker).await;

    let near = Server::start(&here, &[]).await;
    let far = Server::start(&there, &["--upstream", &url, "--upstream-key", "worker-secret"]).await;
    for question in [
        "What is the capital of France?",
        "Count from one to five.",
        "Say hello in German: ä, ö, ü.",
    ] {
        let (near, far) = (reply(&near, question).await, reply(&far, question).await);
        assert_eq!(
            near["choices"][0]["message"]["content"],
            far["choices"][0]["message"]["content"]
        );
        assert_eq!(near["choices"][0]["finish_reason"], far["choices"][0]["finish_reason"]);
        assert_eq!(near["usage"], far["usage"]);
    }
    // What was said to a gateway is remembered by it, wherever the engine runs.
    far.ask("My dog is called Biscuit, I work at the harbour.", &[]).await;
    let (_, answer) = far.ask("What is my dog called?", &[]).await;
    assert!(answer.contains("Biscuit"), "the answer was: {answer}");

    worker.kill().unwrap();
    worker.wait().unwrap();
    let gone = far
        .chat(&json!({"messages": [{"role": "user", "content": "Hello?"}]}), &[])
        .await;
    assert_eq!(gone.status(), 503);
    let gone: Value = gone.json().await.unwrap();
    assert!(gone["error"]["message"].as_str().unwrap().contains(&url), "{gone}");
}

async fn reply(server: &Server, question: &str) -> Value {
    let body = json!({
        "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 24
    });
    let reply = server.chat(&body, &[("X-Habit-Memory", "off")]).await;
    assert!(reply.status().is_success());
    reply.json().await.unwrap()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

async fn wait_for(url: &str, worker: &mut std::process::Child) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(2);
    while !http
        .get(format!("{url}/health"))
        .send()
        .await
        .is_ok_and(|reply| reply.status().is_success())
    {
        assert!(worker.try_wait().unwrap().is_none(), "the worker ended at its start");
        assert!(std::time::Instant::now() < deadline, "the worker did not start");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
