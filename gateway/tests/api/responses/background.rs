//! Responses in the background.

use super::*;

/// Polls until the response has ended.
pub async fn finished(test: &TestApp, key: &str, id: &str) -> Value {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let response = test.get(&format!("/v1/responses/{id}"), key).await.json();
        if !["queued", "in_progress"].contains(&response["status"].as_str().unwrap()) {
            return response;
        }
        assert!(tokio::time::Instant::now() < deadline, "{response}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn it_is_made_while_nobody_waits() {
    let (engine, gate) = Scripted::default().reply("Hello there.").gated();
    let (test, key) = with(&engine).await;
    let reply = test
        .post(RESPONSES, &key, &json!({"input": "Hi", "background": true}))
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let id = reply.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(reply.json()["status"], "queued");
    let early = json!({"input": "b", "previous_response_id": id});
    assert_eq!(
        test.post(RESPONSES, &key, &early).await.status,
        StatusCode::BAD_REQUEST,
        "it is not done"
    );
    gate.open();
    let response = finished(&test, &key, &id).await;
    assert_eq!(
        (text_of(&response).as_str(), &response["status"]),
        ("Hello there.", &json!("completed"))
    );
    // Its events are still there, from any number on.
    let all = events(&test.get(&format!("/v1/responses/{id}?stream=true"), &key).await);
    assert_eq!(
        names(&all)[..3],
        ["response.created", "response.queued", "response.in_progress"]
    );
    assert_eq!(all.last().unwrap().0, "response.completed");
    let rest = events(
        &test
            .get(&format!("/v1/responses/{id}?stream=true&starting_after=4"), &key)
            .await,
    );
    assert_eq!(rest[..], all[5..]);
    // A client that cancels too late gets what there is.
    let cancelled = test.post(&format!("/v1/responses/{id}/cancel"), &key, &json!({})).await;
    assert_eq!(cancelled.json(), response);
}

#[tokio::test]
async fn it_is_cancelled_with_what_there_is() {
    let (engine, gate) = Scripted::default().reply("one two three").gated();
    let (test, key) = with(&engine).await;
    let made = test
        .post(RESPONSES, &key, &json!({"input": "Hi", "background": true}))
        .await
        .json();
    let id = made["id"].as_str().unwrap();
    gate.release(1);
    let run = test
        .app
        .background
        .find(&habit_memory::Scope::new("team", "me").unwrap(), id)
        .unwrap();
    // Its first piece of text has come.
    let mut events = std::pin::pin!(run.follow(0));
    while let Some(event) = futures::StreamExt::next(&mut events).await {
        if event.kind == "response.output_text.delta" {
            break;
        }
    }
    let cancelled = test.post(&format!("/v1/responses/{id}/cancel"), &key, &json!({})).await;
    assert_eq!(cancelled.status, StatusCode::OK, "{}", cancelled.text());
    assert_eq!(cancelled.json()["status"], "cancelled");
    assert_eq!(text_of(&cancelled.json()), "one ");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while engine.active() > 0 {
        assert!(tokio::time::Instant::now() < deadline, "the engine still works");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn failures_are_found_by_polling() {
    let engine = Scripted::default().failing(Failure::BeforeStream(EngineError::Unavailable("gone".into())));
    let (test, key) = with(&engine).await;
    let made = test
        .post(RESPONSES, &key, &json!({"input": "Hi", "background": true}))
        .await
        .json();
    let response = finished(&test, &key, made["id"].as_str().unwrap()).await;
    assert_eq!(
        (&response["status"], &response["error"]["code"]),
        (&json!("failed"), &json!("server_error"))
    );
}

#[tokio::test]
async fn it_can_be_streamed_as_well() {
    let (test, key) = with(&Scripted::default().reply("Hello there.")).await;
    let body = json!({"input": "Hi", "background": true, "stream": true});
    let events = events(&test.post(RESPONSES, &key, &body).await);
    assert_eq!(events.last().unwrap().0, "response.completed");
    for (number, (_, data)) in events.iter().enumerate() {
        assert_eq!(data["sequence_number"], json!(number));
    }
}
