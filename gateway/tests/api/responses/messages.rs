//! `/v1/messages`, in Anthropic's shape.

use super::*;

const MESSAGES: &str = "/v1/messages";

fn asked(more: Value) -> Value {
    let mut body = json!({"model": "scripted", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn a_message_is_answered_in_anthropics_shape() {
    let engine = Scripted::default().reply("Hello there.");
    let (test, key) = with(&engine).await;
    let body = asked(json!({"system": "Be kind.", "metadata": {"user_id": "u"}, "top_k": 5}));
    let reply = test.post("/v1/messages?beta=true", &key, &body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert!(reply.headers.contains_key("request-id") && reply.headers.contains_key("x-habit-turn"));
    let message = reply.json();
    assert_eq!(
        (&message["type"], &message["role"]),
        (&json!("message"), &json!("assistant"))
    );
    assert_eq!(message["content"], json!([{"type": "text", "text": "Hello there."}]));
    assert_eq!(
        (&message["stop_reason"], &message["stop_sequence"]),
        (&json!("end_turn"), &Value::Null)
    );
    assert_eq!(
        (&message["usage"]["input_tokens"], &message["usage"]["output_tokens"]),
        (&json!(11), &json!(3))
    );
    let request = engine.requests().pop().unwrap();
    assert_eq!(request.messages[0].text(), "Be kind.");
    assert_eq!((request.sampling.top_k, request.max_tokens), (Some(5), Some(100)));
    let counted = test.post("/v1/messages/count_tokens", &key, &body).await.json();
    assert_eq!(counted, json!({"input_tokens": 11}));
}

#[tokio::test]
async fn a_stream_has_anthropics_events() {
    let (test, key) = with(&Scripted::default().reply("Hello there.")).await;
    let events = events(&test.post(MESSAGES, &key, &asked(json!({"stream": true}))).await);
    assert_eq!(
        names(&events),
        [
            "message_start",
            "content_block_start",
            "ping",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    assert_eq!(events[0].1["message"]["content"], json!([]));
    assert!(events[0].1["message"]["usage"]["input_tokens"].as_u64().unwrap() > 0);
    assert_eq!(events[3].1["delta"], json!({"type": "text_delta", "text": "Hello "}));
    assert_eq!(
        events[6].1["delta"],
        json!({"stop_reason": "end_turn", "stop_sequence": null})
    );
    assert_eq!(events[6].1["usage"]["output_tokens"], 3);
}

#[tokio::test]
async fn thinking_and_tools_are_blocks() {
    let deltas = [
        Delta::Reasoning("hm".into()),
        call(0, "call_a", "f", "{\"city\":"),
        Delta::ToolCall(json!({"index": 0, "function": {"arguments": "\"Bonn\"}"}})),
        call(1, "call_b", "g", ""),
    ];
    let (test, key) = with(&Scripted::default().sending(deltas, FinishReason::ToolCalls)).await;
    let tools =
        json!([{"name": "f", "input_schema": {"type": "object"}}, {"name": "g", "input_schema": {"type": "object"}}]);
    let message = test.post(MESSAGES, &key, &asked(json!({"tools": tools}))).await.json();
    assert_eq!(message["stop_reason"], "tool_use");
    assert_eq!(message["content"][0]["thinking"], "hm");
    let call = json!({"type": "tool_use", "id": "call_a", "name": "f", "input": {"city": "Bonn"}});
    assert_eq!(message["content"][1], call);
    assert_eq!(message["content"][2]["input"], json!({}));
    let events = events(
        &test
            .post(MESSAGES, &key, &asked(json!({"tools": tools, "stream": true})))
            .await,
    );
    let pieces: String = events
        .iter()
        .filter_map(|(_, data)| data["delta"]["partial_json"].as_str())
        .collect();
    assert_eq!(pieces, "{\"city\":\"Bonn\"}");
    let starts = events.iter().filter(|(name, _)| name == "content_block_start");
    let kinds: Vec<&str> = starts
        .map(|(_, data)| data["content_block"]["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["thinking", "tool_use", "tool_use"]);
}

#[tokio::test]
async fn the_end_says_why() {
    let (test, key) = with(&Scripted::default().reply("one two three")).await;
    let stopped = test
        .post(MESSAGES, &key, &asked(json!({"stop_sequences": ["nothing", "three"]})))
        .await
        .json();
    assert_eq!(
        (&stopped["stop_reason"], &stopped["stop_sequence"]),
        (&json!("stop_sequence"), &json!("three"))
    );
    assert_eq!(stopped["content"][0]["text"], "one two ");
    let cut = test.post(MESSAGES, &key, &asked(json!({"max_tokens": 1}))).await.json();
    assert_eq!(cut["stop_reason"], "max_tokens");
    // A limit beyond the window is as much as fits.
    let free = test.post(MESSAGES, &key, &asked(json!({"max_tokens": 64000}))).await;
    assert_eq!(free.status, StatusCode::OK, "{}", free.text());
}

#[tokio::test]
async fn errors_have_anthropics_shape() {
    let engine = Scripted::default().reply("one two three");
    let (test, key) = with(&engine).await;
    for (reply, status, kind) in [
        (
            test.post(MESSAGES, "hb-wrong", &asked(json!({}))).await,
            401,
            "authentication_error",
        ),
        (
            test.post(MESSAGES, &key, &json!({"messages": []})).await,
            400,
            "invalid_request_error",
        ),
        (
            test.post(MESSAGES, &key, &json!([])).await,
            400,
            "invalid_request_error",
        ),
        (
            test.post(MESSAGES, &key, &asked(json!({"model": "none"}))).await,
            404,
            "not_found_error",
        ),
        (test.get(MESSAGES, &key).await, 405, "invalid_request_error"),
        (
            test.post("/messages/count_tokens/", &key, &json!({})).await,
            400,
            "invalid_request_error",
        ),
    ] {
        assert_eq!(reply.status.as_u16(), status, "{}", reply.text());
        let body = reply.json();
        assert_eq!(
            (&body["type"], &body["error"]["type"]),
            (&json!("error"), &json!(kind)),
            "{body}"
        );
        assert!(
            body["error"]["message"]
                .as_str()
                .is_some_and(|message| !message.is_empty())
        );
        assert_eq!(body["request_id"], reply.headers["request-id"].to_str().unwrap());
    }
    engine.fail_next(Failure::AfterDeltas(1, EngineError::Interrupted("it fell over".into())));
    let events = events(&test.post(MESSAGES, &key, &asked(json!({"stream": true}))).await);
    let (name, data) = events.last().unwrap();
    assert_eq!(
        (name.as_str(), &data["error"]["type"]),
        ("error", &json!("overloaded_error"))
    );
    // Other routes keep theirs.
    assert!(test.get("/v1/models", "hb-wrong").await.json()["error"]["code"].is_string());
}

#[tokio::test]
async fn memory_recalls_what_was_said_here() {
    let engine = Scripted::default().reply("noted");
    let (test, key) = with(&engine).await;
    let told =
        asked(json!({"messages": [{"role": "user", "content": "The vault of acme opens with the word Heron."}]}));
    assert_eq!(test.post(MESSAGES, &key, &told).await.status, StatusCode::OK);
    test.indexed().await;
    for (path, body) in [
        (
            MESSAGES,
            asked(json!({"messages": [{"role": "user", "content": "Which word opens the vault of acme?"}]})),
        ),
        (RESPONSES, json!({"input": "Which word opens the vault of acme?"})),
    ] {
        assert_eq!(test.post(path, &key, &body).await.status, StatusCode::OK);
        let asked = engine.requests().pop().unwrap();
        assert!(
            asked.messages.last().unwrap().text().contains("Heron"),
            "{path}: {:?}",
            asked.messages
        );
    }
}
