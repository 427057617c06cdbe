//! `POST /v1/completions`: prompts that are no conversations.

use std::sync::Arc;

use habit_engine::RawPrompt;
use habit_engine::scripted::Scripted;
use habit_gateway::testing::TestApp;
use serde_json::{Value, json};

const URL: &str = "/v1/completions";

async fn over(engine: Scripted) -> (TestApp, String) {
    let test = TestApp::builder().engine(Arc::new(engine)).build().await;
    let key = test.key("team", "me").await;
    (test, key)
}

fn texts(answer: &Value) -> Vec<&str> {
    let choices = answer["choices"].as_array().unwrap_or_else(|| panic!("{answer}"));
    choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn answers_in_openais_shape_and_leaves_no_trace() {
    let engine = Scripted::default().reply(" and on.");
    let (test, key) = over(engine.clone()).await;
    let reply = test
        .post(URL, &key, &json!({"prompt": "It goes on", "temperature": 0}))
        .await;
    let answer = reply.json();
    let turn = reply.headers["x-habit-turn"].to_str().unwrap().replace('-', "");
    let expected = json!({
        "id": format!("cmpl-{turn}"), "object": "text_completion", "created": answer["created"], "model": "scripted",
        "system_fingerprint": "fp_habit_0.1.0",
        "choices": [{"text": " and on.", "index": 0, "logprobs": null, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0},
        },
    });
    assert_eq!(answer, expected);
    let request = &engine.requests()[0];
    assert!(matches!(&request.raw, Some(RawPrompt::Text { prompt, suffix: None }) if prompt == "It goes on"));
    assert_eq!((request.messages.len(), request.max_tokens), (0, Some(16)));
    assert_eq!(test.get("/v1/turns", &key).await.json()["data"], json!([]));

    let stored = test
        .post(URL, &key, &json!({"prompt": "Keep this", "store": true}))
        .await;
    assert_eq!(stored.status, 200);
    assert_eq!(
        test.get("/v1/turns", &key).await.json()["data"][0]["prompt"],
        "Keep this"
    );
}

#[tokio::test]
async fn many_prompts_are_answered_in_order() {
    // Without a reply of its own, the double repeats the prompt.
    let (test, key) = over(Scripted::default()).await;
    let answer = test
        .post(URL, &key, &json!({"prompt": ["a", "bb", "ccc"], "n": 2}))
        .await
        .json();
    assert_eq!(texts(&answer), ["a", "a", "bb", "bb", "ccc", "ccc"]);
    let places: Vec<_> = answer["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| choice["index"].as_u64().unwrap())
        .collect();
    assert_eq!(places, [0, 1, 2, 3, 4, 5]);
    // Each prompt once, each reply.
    assert_eq!(
        (&answer["usage"]["prompt_tokens"], &answer["usage"]["completion_tokens"]),
        (&json!(3), &json!(6))
    );
    let tokens = |text: &str| u32::from_le_bytes(text.as_bytes().try_into().unwrap());
    let answer = test
        .post(URL, &key, &json!({"prompt": [tokens("four"), tokens("word")]}))
        .await
        .json();
    assert_eq!(texts(&answer), ["fourword"]);
    let answer = test
        .post(
            URL,
            &key,
            &json!({"prompt": [[tokens("four")], [tokens("word")]], "echo": true}),
        )
        .await
        .json();
    assert_eq!(texts(&answer), ["fourfour", "wordword"]);
}

#[tokio::test]
async fn the_prompt_is_sent_back_where_it_is_asked_for() {
    let engine = Scripted::default().reply(" two");
    let (test, key) = over(engine.clone()).await;
    let answer = test
        .post(URL, &key, &json!({"prompt": "one", "echo": true}))
        .await
        .json();
    assert_eq!(texts(&answer), ["one two"]);
    let answer = test
        .post(URL, &key, &json!({"prompt": "one", "echo": true, "max_tokens": 0}))
        .await
        .json();
    assert_eq!(
        (texts(&answer), &answer["choices"][0]["finish_reason"]),
        (vec!["one"], &json!("length"))
    );
    let answer = test
        .post(URL, &key, &json!({"prompt": "def f():", "suffix": "return x"}))
        .await;
    assert_eq!(answer.status, 200);
    let requests = engine.requests();
    assert!(matches!(&requests[2].raw, Some(RawPrompt::Text { suffix: Some(suffix), .. }) if suffix == "return x"));
}

#[tokio::test]
async fn probabilities_come_in_the_older_shape() {
    let (test, key) = over(Scripted::default().reply("one two")).await;
    let answer = test
        .post(URL, &key, &json!({"prompt": "Wüff", "logprobs": 2}))
        .await
        .json();
    let logprobs = &answer["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"], json!(["one ", "two"]), "{answer}");
    assert_eq!(logprobs["text_offset"], json!([4, 8]));
    assert_eq!(logprobs["token_logprobs"].as_array().unwrap().len(), 2);
    let top = logprobs["top_logprobs"][1].as_object().unwrap();
    assert_eq!(top.keys().collect::<Vec<_>>(), ["no", "two"]);
    let answer = test.post(URL, &key, &json!({"prompt": "hi"})).await.json();
    assert_eq!(answer["choices"][0]["logprobs"], Value::Null);
}

#[tokio::test]
async fn the_best_of_several_is_given() {
    // A reply of more words has the same mean here, so the first of the best stays first; an empty one is the worst.
    let (test, key) = over(Scripted::default().replies(["", "good", ""])).await;
    let answer = test
        .post(URL, &key, &json!({"prompt": "hi", "best_of": 3, "n": 1}))
        .await
        .json();
    assert_eq!(texts(&answer), ["good"]);
    assert_eq!(answer["choices"][0]["logprobs"], Value::Null);
    assert_eq!(answer["choices"][0]["index"], 0);
}

#[tokio::test]
async fn streams_have_the_same_pieces() {
    let (test, key) = over(Scripted::default().reply("one two")).await;
    let body = json!({
        "prompt": ["a", "b"], "stream": true, "echo": true, "logprobs": 1, "stream_options": {"include_usage": true},
    });
    let reply = test.post(URL, &key, &body).await;
    assert_eq!(reply.headers["content-type"], "text/event-stream");
    let whole = reply.text();
    let events: Vec<&str> = whole
        .split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "))
        .collect();
    assert_eq!(events.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let mut said = [String::new(), String::new()];
    for chunk in &chunks {
        assert_eq!(chunk["object"], "text_completion");
        for choice in chunk["choices"].as_array().unwrap() {
            said[usize::try_from(choice["index"].as_u64().unwrap()).unwrap()] += choice["text"].as_str().unwrap();
        }
    }
    assert_eq!(said, ["aone two", "bone two"]);
    let last = chunks.last().unwrap();
    assert_eq!(
        (&last["choices"], &last["usage"]["total_tokens"]),
        (&json!([]), &json!(6))
    );
    assert!(chunks[..chunks.len() - 1].iter().all(|chunk| chunk["usage"].is_null()));
    let finished = chunks
        .iter()
        .filter(|chunk| chunk["choices"][0]["finish_reason"] == "stop");
    assert_eq!(finished.count(), 2);
    assert!(
        chunks
            .iter()
            .any(|chunk| chunk["choices"][0]["logprobs"]["tokens"] == json!(["two"]))
    );
}

#[tokio::test]
async fn errors_have_openais_shape() {
    let (test, key) = over(Scripted::default().window(20)).await;
    for (body, status, code, param) in [
        (json!({}), 400, "invalid_value", "prompt"),
        (json!({"prompt": 3}), 400, "invalid_type", "prompt"),
        (
            json!({"prompt": "a", "model": "other"}),
            404,
            "model_not_found",
            "model",
        ),
        (
            json!({"prompt": "a".repeat(100)}),
            400,
            "context_length_exceeded",
            "prompt",
        ),
        (
            json!({"prompt": [4_294_967_295_u32], "echo": true}),
            400,
            "invalid_value",
            "prompt",
        ),
    ] {
        let reply = test.post(URL, &key, &body).await;
        assert_eq!(reply.status.as_u16(), status, "{body}: {}", reply.text());
        let error = reply.json()["error"].clone();
        assert_eq!(
            (error["code"].as_str(), error["param"].as_str()),
            (Some(code), Some(param)),
            "{body}"
        );
    }
}
