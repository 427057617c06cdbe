//! Bodies as clients really send them.

use habit_engine::{Delta, FinishReason, Message, Role, Sampling, Usage};
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::api::ask::replies::Finished;
use crate::api::error;
use crate::api::generation::reply::Envelope;
use crate::turn::reply::Collected;

fn read(body: &Value) -> Result<Parsed, ApiError> {
    error::parse::<ChatCompletionRequest>(body.to_string().as_bytes())?.parse()
}

/// A body with one message and these fields.
fn with(mut fields: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().append(fields.as_object_mut().unwrap());
    body
}

fn param_of(body: &Value) -> String {
    let error = read(body).expect_err(&body.to_string());
    assert_eq!(error.status.as_u16(), 400, "{body}");
    error
        .param
        .unwrap_or_else(|| panic!("no param: {body}: {}", error.message))
}

#[test]
fn reads_a_plain_request() {
    let parsed = read(&with(json!({"temperature": 0, "max_tokens": 5, "seed": 7}))).unwrap();
    let expected = ChatRequest {
        model: "m".into(),
        messages: vec![Message::new(Role::User, "hi")],
        sampling: Sampling {
            temperature: Some(0.0),
            seed: Some(7),
            ..Sampling::default()
        },
        max_tokens: Some(5),
        ..ChatRequest::default()
    };
    assert_eq!(parsed.request, expected);
    assert!(parsed.store && !parsed.stream && !parsed.include_usage && parsed.conversation.is_none());
}

#[test]
fn nulls_are_absent() {
    let nulls = json!({
        "model": null, "stream": null, "stream_options": null, "temperature": null, "top_p": null, "top_k": null,
        "min_p": null, "frequency_penalty": null, "presence_penalty": null, "repetition_penalty": null, "seed": null,
        "stop": null, "max_tokens": null, "max_completion_tokens": null, "n": null, "logprobs": null, "store": null,
        "metadata": null, "tools": null, "response_format": null, "user": null, "top_logprobs": null,
        "logit_bias": null, "tool_choice": null, "parallel_tool_calls": null, "reasoning_effort": null,
        "modalities": null, "prompt_cache_key": null, "service_tier": null, "made_up": null,
    });
    let mut plain = with(json!({}));
    plain.as_object_mut().unwrap().remove("model");
    assert_eq!(read(&with(nulls)).unwrap(), read(&plain).unwrap());
}

#[test]
fn keeps_unknown_fields_for_the_engine_and_its_own_to_itself() {
    let fields = json!({
        "tools": [{"type": "custom"}], "user": "u", "made_up": {"a": [1]}, "n": 1, "store": true, "logprobs": false,
        "metadata": {"a": "b"}, "stream_options": {"include_usage": true, "other": 1}, "stream": true,
    });
    let parsed = read(&with(fields)).unwrap();
    let expected = json!({"tools": [{"type": "custom"}], "user": "u", "made_up": {"a": [1]}});
    assert_eq!(Value::Object(parsed.request.extra), expected);
    assert!(parsed.stream && parsed.include_usage);
}

#[test]
fn messages_come_in_every_shape() {
    let body = json!({"messages": [
        {"role": "developer", "content": [{"type": "text", "text": "be kind"}, "and brief"]},
        {"role": "user", "content": "", "name": "ann"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c"}], "refusal": null, "extra": 1},
        {"role": "tool", "content": [{"type": "text", "text": "42"}], "tool_call_id": "c"},
        {"role": "function", "name": "f"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}], "tool_calls": null},
    ]});
    let messages = read(&body).unwrap().request.messages;
    let roles: Vec<Role> = messages.iter().map(|message| message.role).collect();
    assert_eq!(
        roles,
        [
            Role::System,
            Role::User,
            Role::Assistant,
            Role::Tool,
            Role::Tool,
            Role::User
        ]
    );
    let texts: Vec<String> = messages.iter().map(Message::text).collect();
    assert_eq!(texts, ["be kind\nand brief", "", "", "42", "", ""]);
    assert_eq!(messages[1].name.as_deref(), Some("ann"));
    assert_eq!(messages[2].tool_calls, [json!({"id": "c"})]);
    assert_eq!(messages[3].tool_call_id.as_deref(), Some("c"));
    assert_eq!(messages[5].content.first_non_text(), Some("image_url"));
}

#[test]
fn stop_is_a_string_or_a_list() {
    for (stop, expected) in [
        (json!("x"), vec!["x"]),
        (
            json!(["a", "", "b", "c", "d", "e", "f"]),
            vec!["a", "b", "c", "d", "e", "f"],
        ),
        (json!([]), vec![]),
        (json!(""), vec![]),
    ] {
        assert_eq!(read(&with(json!({"stop": stop}))).unwrap().request.stop, expected);
    }
    assert_eq!(param_of(&with(json!({"stop": 3}))), "stop");
    assert_eq!(param_of(&with(json!({"stop": ["a", 3]}))), "stop");
}

#[test]
fn sampling_out_of_range_is_refused_by_name() {
    let cases = [
        ("temperature", json!(2.1)),
        ("temperature", json!(-0.1)),
        ("top_p", json!(1.5)),
        ("top_p", json!(-1)),
        ("min_p", json!(2)),
        ("top_k", json!(-2)),
        ("frequency_penalty", json!(-2.5)),
        ("presence_penalty", json!(3)),
        ("repetition_penalty", json!(0)),
        ("max_tokens", json!(0)),
        ("max_completion_tokens", json!(-1)),
        ("n", json!(0)),
        ("n", json!(129)),
        ("n", json!("2")),
        ("logprobs", json!(3)),
        ("top_logprobs", json!(21)),
        ("top_logprobs", json!(2)),
        ("logit_bias", json!({"a": 1})),
        ("logit_bias", json!({"5": 101})),
        ("logit_bias", json!([])),
        ("user", json!(3)),
        ("metadata", json!("x")),
        ("modalities", json!(["text", "audio"])),
        ("parallel_tool_calls", json!("no")),
        ("stream_options", json!(true)),
        ("temperature", json!("hot")),
        ("max_tokens", json!(1.5)),
        ("seed", json!("x")),
        ("stream", json!("yes")),
        ("model", json!(3)),
    ];
    for (param, value) in cases {
        assert_eq!(param_of(&with(json!({param: value}))), param, "{value}");
    }
}

#[test]
fn sampling_at_the_ends_of_its_ranges_is_taken() {
    let sampling = |fields: Value| read(&with(fields)).unwrap().request.sampling;
    assert_eq!(sampling(json!({"temperature": 2, "top_p": 1})).temperature, Some(2.0));
    assert_eq!(
        sampling(json!({"top_p": 0})),
        Sampling {
            top_k: Some(1),
            ..Sampling::default()
        }
    );
    for off in [0, -1] {
        assert_eq!(sampling(json!({"top_k": off})).top_k, None);
    }
    assert_eq!(sampling(json!({"seed": -1})).seed, None);
    assert_eq!(sampling(json!({"seed": 0})).seed, Some(0));
    assert_eq!(sampling(json!({"seed": -2})).seed, Some(u64::MAX - 1));
    assert_eq!(sampling(json!({"presence_penalty": -2})).presence_penalty, Some(-2.0));
}

#[test]
fn the_newer_name_of_the_token_limit_wins() {
    let tokens = |fields: Value| read(&with(fields)).unwrap().request.max_tokens;
    assert_eq!(tokens(json!({"max_tokens": 5})), Some(5));
    assert_eq!(tokens(json!({"max_completion_tokens": 6})), Some(6));
    assert_eq!(tokens(json!({"max_tokens": 5, "max_completion_tokens": 6})), Some(6));
}

#[test]
fn errors_in_messages_name_the_place() {
    let messages = |messages: Value| json!({"model": "m", "messages": messages});
    assert_eq!(param_of(&json!({"model": "m"})), "messages");
    assert_eq!(param_of(&messages(json!([]))), "messages");
    assert_eq!(param_of(&messages(Value::Null)), "messages");
    assert_eq!(param_of(&messages(json!("hi"))), "messages");
    let user = json!({"role": "user", "content": "hi"});
    assert_eq!(
        param_of(&messages(json!([user, {"role": "king", "content": "hi"}]))),
        "messages[1].role"
    );
    assert_eq!(
        param_of(&messages(json!([user, {"role": "user", "content": 3}]))),
        "messages[1].content"
    );
    assert_eq!(
        param_of(&messages(json!([{"role": "user", "content": [{"text": "x"}]}]))),
        "messages[0].content[0]"
    );
    assert_eq!(
        param_of(&messages(json!([{"role": "user", "content": ["x", 3]}]))),
        "messages[0].content[1]"
    );
    for nothing in [json!({"role": "user"}), json!({"role": "user", "content": null})] {
        assert_eq!(param_of(&messages(json!([user, nothing]))), "messages[1].content");
    }
    assert!(
        read(&messages(json!([{"content": "hi"}])))
            .unwrap_err()
            .message
            .contains("role")
    );
}

#[test]
fn a_tools_message_answers_a_call_that_was_made() {
    let user = json!({"role": "user", "content": "x"});
    let made = json!({"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f"}}]});
    for answer in [
        json!({"role": "tool", "content": "42"}),
        json!({"role": "tool", "content": "42", "tool_call_id": null}),
        json!({"role": "tool", "content": "42", "tool_call_id": "d"}),
    ] {
        let body = json!({"messages": [user, made, answer]});
        assert_eq!(param_of(&body), "messages[2].tool_call_id");
    }
    let early = json!({"messages": [user, {"role": "tool", "content": "42", "tool_call_id": "c"}, made]});
    assert_eq!(param_of(&early), "messages[1].tool_call_id");
}

#[test]
fn the_older_calls_are_read_as_calls() {
    let call =
        |name: &str| json!({"role": "assistant", "content": null, "function_call": {"name": name, "arguments": "{}"}});
    let body = json!({"messages": [
        {"role": "user", "content": "x"}, call("f"), {"role": "function", "name": "f", "content": "1"},
        call("g"), {"role": "function", "name": "g", "content": "2"},
    ]});
    let messages = read(&body).unwrap().request.messages;
    assert_eq!(
        messages[1].tool_calls,
        [json!({"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}})]
    );
    let answered = [&messages[2], &messages[4]].map(|message| message.tool_call_id.as_deref());
    assert_eq!(answered, [Some("call_1"), Some("call_3")]);
    let nameless = json!({"messages": [{"role": "assistant", "function_call": {"arguments": "{}"}}]});
    assert_eq!(param_of(&nameless), "messages[0].function_call");
    for (fields, param) in [
        (json!({"functions": [{}]}), "functions[0]"),
        (
            json!({"functions": [{"name": "f", "parameters": 3}]}),
            "functions[0].parameters",
        ),
        (
            json!({"functions": [{"name": "f"}], "function_call": {"name": "g"}}),
            "function_call",
        ),
        (
            json!({"functions": [{"name": "f"}], "function_call": "always"}),
            "function_call",
        ),
    ] {
        assert_eq!(param_of(&with(fields)), param);
    }
}

#[test]
fn a_refusal_is_read_as_its_text() {
    let refusal = json!({"role": "assistant", "content": [{"type": "refusal", "refusal": "I won't."}]});
    let messages = read(&json!({"messages": [refusal]})).unwrap().request.messages;
    assert_eq!(messages[0].text(), "I won't.");
    assert_eq!(messages[0].content.first_non_text(), None);
}

#[test]
fn settings_of_a_stream_need_one_and_metadata_are_strings() {
    for fields in [
        json!({"stream_options": {"include_usage": true}}),
        json!({"stream_options": {}, "stream": false}),
    ] {
        assert_eq!(param_of(&with(fields)), "stream_options");
    }
    for value in [json!(1), json!(true), json!({}), json!([])] {
        assert_eq!(param_of(&with(json!({"metadata": {"a": value}}))), "metadata.a");
    }
    let parsed = read(&with(json!({"metadata": {"a": "b", "c": null, "habit_feedback": 0.5}}))).unwrap();
    assert!(parsed.feedback.is_some());
}

#[test]
fn metadata_may_name_the_conversation() {
    let conversation = |metadata: Value| read(&with(json!({"metadata": metadata})));
    assert_eq!(
        conversation(json!({"conversation_id": "c1"}))
            .unwrap()
            .conversation
            .as_deref(),
        Some("c1")
    );
    for none in [
        json!({}),
        json!({"conversation_id": null}),
        json!({"conversation_id": ""}),
        json!({"x": "y"}),
    ] {
        assert_eq!(conversation(none).unwrap().conversation, None);
    }
    assert_eq!(
        conversation(json!({"conversation_id": 3}))
            .unwrap_err()
            .param
            .as_deref(),
        Some("metadata.conversation_id")
    );
}

fn envelope() -> Envelope {
    Envelope::chat(Uuid::nil(), 1_700_000_000_999, "m".into())
}

#[test]
fn a_whole_reply_is_openais() {
    let reply = Collected {
        text: "Hé 🐕".into(),
        ..Collected::default()
    };
    let usage = Usage {
        prompt_tokens: 3,
        completion_tokens: 2,
        cached_tokens: 0,
        reasoning_tokens: 0,
    };
    let reply = Finished {
        reply,
        reason: Some(FinishReason::Stop),
        usage,
    };
    let body = serde_json::to_string(&ChatCompletion::new(
        envelope(),
        vec![reply],
        usage,
        false,
        &[],
        Calls::None,
    ))
    .unwrap();
    let expected = concat!(
        r#"{"id":"chatcmpl-00000000000000000000000000000000","object":"chat.completion","created":1700000000,"#,
        r#""model":"m","system_fingerprint":"fp_habit_0.1.0","choices":[{"index":0,"message":{"role":"assistant","content":"Hé 🐕","refusal":null},"#,
        r#""logprobs":null,"finish_reason":"stop"}],"#,
        r#""usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}"#,
    );
    assert_eq!(body, expected);
}

#[test]
fn content_is_null_beside_tool_calls_only() {
    let mut calls = Collected::default();
    calls.push(Delta::ToolCall(
        json!({"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}),
    ));
    let message = |reply| {
        let reply = Finished {
            reply,
            reason: Some(FinishReason::ToolCalls),
            usage: Usage::default(),
        };
        let reply = ChatCompletion::new(envelope(), vec![reply], Usage::default(), false, &[], Calls::None);
        serde_json::to_value(&reply).unwrap()["choices"][0]["message"].clone()
    };
    let with_calls = message(calls);
    assert_eq!(with_calls["content"], Value::Null);
    assert_eq!(with_calls["tool_calls"][0]["function"]["name"], "f");
    let empty = message(Collected::default());
    assert_eq!((&empty["content"], empty.get("tool_calls")), (&json!(""), None));
}

#[test]
fn tools_and_formats_are_checked_where_they_are_wrong() {
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}});
    let cases = [
        (json!({"tools": {}}), "tools"),
        (json!({"tools": [3]}), "tools[0]"),
        (
            json!({"tools": [tool, {"type": "function", "function": {}}]}),
            "tools[1].function",
        ),
        (
            json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": 3}}]}),
            "tools[0].function.parameters",
        ),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"tools": [tool], "tool_choice": "sometimes"}), "tool_choice"),
        (json!({"tools": [tool], "tool_choice": 3}), "tool_choice"),
        (
            json!({"tools": [tool], "tool_choice": {"type": "function", "function": {"name": "g"}}}),
            "tool_choice",
        ),
        (json!({"response_format": "json"}), "response_format"),
        (json!({"response_format": {"type": "xml"}}), "response_format.type"),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}),
            "response_format.json_schema",
        ),
    ];
    for (fields, param) in cases {
        assert_eq!(param_of(&with(fields.clone())), param, "{fields}");
    }
    let fields = json!({
        "tools": [tool], "tool_choice": {"type": "function", "function": {"name": "f"}}, "parallel_tool_calls": false,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
        "logprobs": true, "top_logprobs": 2, "logit_bias": {"5": -100},
    });
    assert_eq!(
        Value::Object(read(&with(fields.clone())).unwrap().request.extra),
        fields
    );
}
