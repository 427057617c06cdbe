//! `/v1/responses`.

use super::*;

#[tokio::test]
async fn a_text_is_answered_in_openais_shape() {
    let engine = Scripted::default().reply("Hello there.");
    let (test, key) = with(&engine).await;
    let body = json!({"model": "scripted", "input": "Hi", "instructions": "Be kind.", "max_output_tokens": 50,
        "metadata": {"a": "b"}, "temperature": 0.5, "user": "ada", "unknown": [1], "tools": null});
    let reply = test.post(RESPONSES, &key, &body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let response = reply.json();
    assert_eq!(
        (&response["object"], &response["status"]),
        (&json!("response"), &json!("completed"))
    );
    assert_eq!(text_of(&response), "Hello there.");
    assert_eq!(response["instructions"], "Be kind.");
    assert_eq!(
        (&response["temperature"], &response["top_p"]),
        (&json!(0.5), &json!(1.0))
    );
    assert_eq!(response["metadata"], json!({"a": "b"}));
    assert_eq!(
        response["usage"]["total_tokens"].as_u64().unwrap(),
        response["usage"]["input_tokens"].as_u64().unwrap() + response["usage"]["output_tokens"].as_u64().unwrap()
    );
    assert_eq!(response["usage"]["input_tokens_details"]["cached_tokens"], 0);
    assert_eq!(response["usage"]["output_tokens_details"]["reasoning_tokens"], 0);
    assert!(response["completed_at"].is_i64() && response["error"].is_null());
    let asked = engine.requests().pop().unwrap();
    let roles: Vec<Role> = asked.messages.iter().map(|message| message.role).collect();
    assert_eq!((roles, asked.max_tokens), (vec![Role::System, Role::User], Some(50)));

    // It was kept, and so was its turn.
    let id = response["id"].as_str().unwrap();
    assert_eq!(test.get(&format!("/v1/responses/{id}"), &key).await.json(), response);
    let items = test.get(&format!("/v1/responses/{id}/input_items"), &key).await.json();
    assert_eq!(
        items["data"][0]["content"],
        json!([{"type": "input_text", "text": "Hi"}])
    );
    assert_eq!(
        (&items["first_id"], &items["has_more"]),
        (&items["data"][0]["id"], &json!(false))
    );
    let turn = reply.headers["x-habit-turn"].to_str().unwrap();
    assert_eq!(
        test.get(&format!("/v1/turns/{turn}"), &key).await.json()["reply"],
        "Hello there."
    );

    // Deleted with its turn.
    let deleted = test.delete(&format!("/v1/responses/{id}"), &key).await;
    assert_eq!(deleted.json(), json!({"id": id, "object": "response", "deleted": true}));
    assert_eq!(
        test.get(&format!("/v1/responses/{id}"), &key).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        test.delete(&format!("/v1/responses/{id}"), &key).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        test.get(&format!("/v1/turns/{turn}"), &key).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_stream_has_openais_order_and_numbers() {
    let (test, key) = with(&Scripted::default().reply("Hello there.")).await;
    let reply = test
        .post(RESPONSES, &key, &json!({"input": "Hi", "stream": true}))
        .await;
    let events = events(&reply);
    assert_eq!(
        names(&events),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    for (number, (_, data)) in events.iter().enumerate() {
        assert_eq!(data["sequence_number"], json!(number));
    }
    let item = &events[2].1["item"]["id"];
    for (_, data) in &events[3..8] {
        assert_eq!(
            (&data["item_id"], &data["output_index"], &data["content_index"]),
            (item, &json!(0), &json!(0))
        );
    }
    assert_eq!(events[0].1["response"]["status"], "in_progress");
    let last = &events.last().unwrap().1["response"];
    assert_eq!(text_of(last), "Hello there.");
    assert!(last["usage"]["output_tokens"].as_u64().unwrap() > 0);

    // The same again, as it is kept.
    let id = last["id"].as_str().unwrap();
    assert_eq!(&test.get(&format!("/v1/responses/{id}"), &key).await.json(), last);
    let again = super::events(&test.get(&format!("/v1/responses/{id}?stream=true"), &key).await);
    assert_eq!(names(&again).first(), Some(&"response.created"));
    assert_eq!(again.last().unwrap().1["response"], *last);
    let texts: String = again.iter().filter_map(|(_, data)| data["delta"].as_str()).collect();
    assert_eq!(texts, "Hello there.");
    let rest = super::events(
        &test
            .get(&format!("/v1/responses/{id}?stream=true&starting_after=7"), &key)
            .await,
    );
    assert_eq!(rest[0].1["sequence_number"], 8);
    // The stream that was had more events than this one: its end is told in any case.
    let end = super::events(
        &test
            .get(&format!("/v1/responses/{id}?stream=true&starting_after=99"), &key)
            .await,
    );
    assert_eq!(
        (names(&end), &end[0].1["sequence_number"]),
        (vec!["response.completed"], &json!(100))
    );
}

#[tokio::test]
async fn reasoning_and_calls_are_items_of_their_own() {
    let deltas = [
        Delta::Reasoning("hm".into()),
        Delta::Text("I look.".into()),
        call(0, "call_a", "f", "{\"a\""),
        Delta::ToolCall(json!({"index": 0, "function": {"arguments": ":1}"}})),
        call(1, "call_b", "say", "{\"input\":\"hello\"}"),
    ];
    let engine = Scripted::default().sending(deltas, FinishReason::ToolCalls);
    let (test, key) = with(&engine).await;
    let tools = json!([{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true},
        {"type": "custom", "name": "say"}, {"type": "web_search"}]);
    let body = json!({"input": "Hi", "tools": tools, "tool_choice": "required", "stream": true});
    let events = events(&test.post(RESPONSES, &key, &body).await);
    let wanted = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.custom_tool_call_input.delta",
        "response.custom_tool_call_input.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(names(&events), wanted);
    let response = &events.last().unwrap().1["response"];
    let output = response["output"].as_array().unwrap();
    let kinds: Vec<&str> = output.iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call", "custom_tool_call"]);
    assert_eq!(output[2]["arguments"], "{\"a\":1}");
    assert_eq!(
        (&output[2]["call_id"], &output[2]["name"]),
        (&json!("call_a"), &json!("f"))
    );
    assert_eq!(output[3]["input"], "hello");
    assert_eq!(response["tools"], tools);
    let asked = engine.requests().pop().unwrap();
    assert_eq!(asked.extra["tools"].as_array().unwrap().len(), 2);
    assert_eq!(asked.extra["tool_choice"], "required");
    let id = response["id"].as_str().unwrap();
    let again = super::events(&test.get(&format!("/v1/responses/{id}?stream=true"), &key).await);
    let ends: Vec<&str> = names(&again)
        .into_iter()
        .filter(|name| !name.ends_with(".delta"))
        .collect();
    let ends_wanted: Vec<&str> = wanted.into_iter().filter(|name| !name.ends_with(".delta")).collect();
    assert_eq!(ends, ends_wanted);

    // The results of the calls go on from there.
    let results = json!({"previous_response_id": response["id"], "input": [
        {"type": "function_call_output", "call_id": "call_a", "output": "one"},
        {"type": "custom_tool_call_output", "call_id": "call_b", "output": "two"},
    ]});
    assert_eq!(test.post(RESPONSES, &key, &results).await.status, StatusCode::OK);
    let asked = engine.requests().pop().unwrap();
    let roles: Vec<Role> = asked.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::Tool, Role::Tool]);
    assert_eq!(asked.messages[1].tool_calls.len(), 2);
    // With a summary asked for, the reasoning is one.
    let body = json!({"input": "Hi", "reasoning": {"effort": "low", "summary": "auto"}});
    let response = test.post(RESPONSES, &key, &body).await.json();
    assert_eq!(
        response["output"][0]["summary"],
        json!([{"type": "summary_text", "text": "hm"}])
    );
    assert_eq!(engine.requests().pop().unwrap().extra["reasoning_effort"], "low");
}

#[tokio::test]
async fn what_is_cut_is_incomplete() {
    let (test, key) = with(&Scripted::default().reply("one two three four five six")).await;
    for stream in [false, true] {
        let body = json!({"input": "Count", "max_output_tokens": 2, "stream": stream});
        let reply = test.post(RESPONSES, &key, &body).await;
        let response = if stream {
            let mut events = events(&reply);
            let (name, mut data) = events.pop().unwrap();
            assert_eq!(name, "response.incomplete");
            data["response"].take()
        } else {
            reply.json()
        };
        assert_eq!(response["status"], "incomplete");
        assert_eq!(response["incomplete_details"], json!({"reason": "max_output_tokens"}));
        assert_eq!(response["output"][0]["status"], "incomplete");
    }
}

#[tokio::test]
async fn a_chain_of_responses_is_one_conversation() {
    let engine = Scripted::default().replies(["one", "two", "three"]);
    let (test, key) = with(&engine).await;
    let first = test
        .post(RESPONSES, &key, &json!({"input": "a", "instructions": "Only once."}))
        .await;
    let next = json!({"input": "b", "previous_response_id": first.json()["id"]});
    let second = test.post(RESPONSES, &key, &next).await;
    let next = json!({"input": "c", "previous_response_id": second.json()["id"]});
    let third = test.post(RESPONSES, &key, &next).await;
    let asked = engine.requests().pop().unwrap();
    let texts: Vec<String> = asked.messages.iter().map(habit_engine::Message::text).collect();
    assert_eq!(
        texts,
        ["a", "one", "b", "two", "c"],
        "instructions are not carried over"
    );
    let conversations: Vec<_> = [&first, &second, &third]
        .map(|reply| reply.headers["x-habit-conversation"].clone())
        .into();
    assert!(
        conversations.iter().all(|one| *one == conversations[0]),
        "{conversations:?}"
    );

    // An item of it, by reference.
    let item = &second.json()["output"][0]["id"];
    let input = json!([{"type": "item_reference", "id": item}, {"role": "user", "content": "d"}]);
    let reply = test.post(RESPONSES, &key, &json!({"input": input})).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(engine.requests().pop().unwrap().messages[0].text(), "two");
    // Items may be sent back as they came.
    let mut input = vec![json!({"role": "user", "content": "a"})];
    input.extend(first.json()["output"].as_array().unwrap().clone());
    input.push(json!({"role": "user", "content": "b"}));
    assert_eq!(
        test.post(RESPONSES, &key, &json!({"input": input})).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn what_is_not_stored_leaves_no_trace() {
    let (test, key) = with(&Scripted::default().reply("secret")).await;
    let reply = test.post(RESPONSES, &key, &json!({"input": "a", "store": false})).await;
    let id = reply.json()["id"].clone();
    assert_eq!(reply.json()["store"], false);
    let path = format!("/v1/responses/{}", id.as_str().unwrap());
    assert_eq!(test.get(&path, &key).await.status, StatusCode::NOT_FOUND);
    assert!(
        test.get("/v1/turns", &key).await.json()["data"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let next = test
        .post(RESPONSES, &key, &json!({"input": "b", "previous_response_id": id}))
        .await;
    assert_eq!(
        (next.status, next.error_code().as_str()),
        (StatusCode::BAD_REQUEST, "previous_response_not_found")
    );
    assert!(
        next.text().contains("not found") && next.text().contains("store"),
        "{}",
        next.text()
    );
}

#[tokio::test]
async fn formats_probabilities_and_counts() {
    let engine = Scripted::default().reply("{}");
    let (test, key) = with(&engine).await;
    let schema = json!({"type": "object", "properties": {}, "additionalProperties": false});
    let body = json!({"input": "Hi", "text": {"format": {"type": "json_schema", "name": "x", "schema": schema, "strict": true}},
        "include": ["message.output_text.logprobs"], "top_logprobs": 1, "parallel_tool_calls": false});
    let response = test.post(RESPONSES, &key, &body).await.json();
    let asked = engine.requests().pop().unwrap();
    assert_eq!(asked.extra["response_format"]["json_schema"]["schema"], schema);
    assert_eq!(
        (&asked.extra["logprobs"], &asked.extra["top_logprobs"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(asked.extra["parallel_tool_calls"], false);
    let token = &response["output"][0]["content"][0]["logprobs"][0];
    assert_eq!((&token["token"], &token["bytes"]), (&json!("{}"), &json!([123, 125])));
    assert_eq!(response["text"]["format"]["type"], "json_schema");

    let counted = test
        .post("/v1/responses/input_tokens", &key, &json!({"input": "12345678"}))
        .await
        .json();
    assert_eq!(counted, json!({"object": "response.input_tokens", "input_tokens": 6}));
}

#[tokio::test]
async fn truncation_can_be_refused_and_asked_for() {
    let engine = Scripted::default().window(64).reply("ok");
    let (test, key) = with(&engine).await;
    let long = json!([{"role": "user", "content": "x".repeat(300)}, {"role": "user", "content": "short"}]);
    let reply = test
        .post(RESPONSES, &key, &json!({"input": long, "truncation": "disabled"}))
        .await;
    assert_eq!(
        (reply.status, reply.error_code().as_str()),
        (StatusCode::BAD_REQUEST, "context_length_exceeded")
    );
    assert_eq!(reply.json()["error"]["param"], "input");
    let reply = test
        .post(RESPONSES, &key, &json!({"input": long, "truncation": "auto"}))
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(engine.requests().pop().unwrap().messages.len(), 1);
}

#[tokio::test]
async fn failures_are_told_where_they_happen() {
    let broken = || EngineError::Interrupted("it fell over".into());
    let engine = Scripted::default().reply("one two three");
    let (test, key) = with(&engine).await;
    engine.fail_next(Failure::BeforeStream(EngineError::Unavailable("gone".into())));
    let reply = test.post(RESPONSES, &key, &json!({"input": "a", "stream": true})).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    engine.fail_next(Failure::AfterDeltas(2, broken()));
    let reply = test.post(RESPONSES, &key, &json!({"input": "a"})).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    engine.fail_next(Failure::AfterDeltas(2, broken()));
    let events = events(&test.post(RESPONSES, &key, &json!({"input": "a", "stream": true})).await);
    let (name, data) = events.last().unwrap();
    assert_eq!(name, "response.failed");
    assert_eq!(data["response"]["error"]["code"], "server_error");
    assert_eq!(text_of(&data["response"]), "one two ", "what there was is in it");
    assert_eq!(data["sequence_number"], json!(events.len() - 1));
}

#[tokio::test]
async fn mistakes_are_named() {
    let (test, key) = with(&Scripted::default()).await;
    for (body, status, param) in [
        (json!({}), 400, "input"),
        (json!({"input": []}), 400, "input"),
        (json!({"input": 7}), 400, "input"),
        (json!({"input": [{"type": "wish"}]}), 400, "input[0]"),
        (json!({"input": "x", "temperature": 9}), 400, "temperature"),
        (json!({"input": "x", "max_output_tokens": 0}), 400, "max_output_tokens"),
        (json!({"input": "x", "top_logprobs": 21}), 400, "top_logprobs"),
        (json!({"input": "x", "metadata": {"a": 1}}), 400, "metadata"),
        (json!({"input": "x", "tools": [{"type": "function"}]}), 400, "tools[0]"),
        (json!({"input": "x", "tool_choice": "required"}), 400, "tool_choice"),
        (
            json!({"input": "x", "text": {"format": {"type": "xml"}}}),
            400,
            "text.format.type",
        ),
        (json!({"input": "x", "truncation": "some"}), 400, "truncation"),
        (
            json!({"input": "x", "background": true, "store": false}),
            400,
            "background",
        ),
        (
            json!({"input": "x", "previous_response_id": "a", "conversation": "b"}),
            400,
            "conversation",
        ),
        (
            json!({"input": "x", "previous_response_id": "a"}),
            400,
            "previous_response_id",
        ),
        (
            json!({"input": "x", "conversation": {"id": "conv_none"}}),
            404,
            "conversation",
        ),
        (
            json!({"input": [{"type": "item_reference", "id": "none"}]}),
            404,
            "input",
        ),
        (json!({"input": "x", "model": "none"}), 404, "model"),
    ] {
        let reply = test.post(RESPONSES, &key, &body).await;
        assert_eq!(reply.status.as_u16(), status, "{body}: {}", reply.text());
        assert_eq!(reply.json()["error"]["param"], param, "{body}");
    }
    for path in [
        "/v1/responses/none",
        "/v1/responses/none/input_items",
        "/v1/responses/none?stream=true",
    ] {
        assert_eq!(test.get(path, &key).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(
        test.post("/v1/responses/none/cancel", &key, &json!({})).await.status,
        StatusCode::NOT_FOUND
    );
    let made = test.post(RESPONSES, &key, &json!({"input": "x"})).await.json();
    let path = format!("/v1/responses/{}", made["id"].as_str().unwrap());
    assert_eq!(
        test.post(&format!("{path}/cancel"), &key, &json!({})).await.status,
        StatusCode::BAD_REQUEST
    );
    for query in ["limit=0", "limit=101", "order=up", "after=none"] {
        let reply = test.get(&format!("{path}/input_items?{query}"), &key).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{query}: {}", reply.text());
    }
}

#[tokio::test]
async fn strangers_find_nothing() {
    let (test, key) = with(&Scripted::default().reply("secret")).await;
    let made = test
        .post(RESPONSES, &key, &json!({"input": "x", "background": true}))
        .await
        .json();
    let id = made["id"].as_str().unwrap();
    let done = background::finished(&test, &key, id).await;
    for stranger in [test.key("other", "me").await, test.key("team", "bob").await] {
        for path in [
            format!("/v1/responses/{id}"),
            format!("/v1/responses/{id}?stream=true"),
            format!("/v1/responses/{id}/input_items"),
        ] {
            assert_eq!(test.get(&path, &stranger).await.status, StatusCode::NOT_FOUND, "{path}");
        }
        let path = format!("/v1/responses/{id}");
        assert_eq!(test.delete(&path, &stranger).await.status, StatusCode::NOT_FOUND);
        assert_eq!(
            test.post(&format!("{path}/cancel"), &stranger, &json!({})).await.status,
            StatusCode::NOT_FOUND
        );
        let body = json!({"input": "x", "previous_response_id": id});
        assert_eq!(
            test.post(RESPONSES, &stranger, &body).await.error_code(),
            "previous_response_not_found"
        );
        let body = json!({"input": [{"type": "item_reference", "id": done["output"][0]["id"]}]});
        assert_eq!(
            test.post(RESPONSES, &stranger, &body).await.status,
            StatusCode::NOT_FOUND
        );
    }
    assert_eq!(
        test.get(&format!("/v1/responses/{id}"), &key).await.status,
        StatusCode::OK
    );
}
