//! OpenAI's JSON as an upstream reads and writes it.

use serde_json::{Map, Value, json};

use crate::{ChatRequest, EngineError, FinishReason, ModelInfo, RawPrompt, Sampling, Usage};

/// The body of a chat completion request: always a stream, always with usage; fields that the vocabulary doesn't name
/// go as they came.
///
/// # Errors
/// [`EngineError::Rejected`] for several replies at once.
pub(super) fn body(request: &ChatRequest) -> Result<Value, EngineError> {
    if request.extra.get("n").and_then(Value::as_u64).is_some_and(|n| n > 1) {
        let message = "`n` over 1 is not supported: ask several times".to_owned();
        return Err(EngineError::Rejected {
            message,
            param: Some("n".into()),
        });
    }
    let mut body: Map<String, Value> = request.extra.clone();
    body.insert("model".into(), request.model.clone().into());
    match &request.raw {
        None => drop(body.insert("messages".into(), json!(request.messages))),
        Some(prompt) => raw(&mut body, prompt),
    }
    body.insert("stream".into(), true.into());
    body.insert("stream_options".into(), json!({"include_usage": true}));
    let Sampling {
        temperature,
        top_p,
        top_k,
        min_p,
        frequency_penalty,
        presence_penalty,
        repetition_penalty,
        seed,
    } = request.sampling;
    let mut set = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(field.into(), value);
        }
    };
    set("temperature", temperature.map(Value::from));
    set("top_p", top_p.map(Value::from));
    set("top_k", top_k.map(Value::from));
    set("min_p", min_p.map(Value::from));
    set("frequency_penalty", frequency_penalty.map(Value::from));
    set("presence_penalty", presence_penalty.map(Value::from));
    set("repetition_penalty", repetition_penalty.map(Value::from));
    set("seed", seed.map(Value::from));
    set("max_tokens", request.max_tokens.map(Value::from));
    set("stop", (!request.stop.is_empty()).then(|| json!(request.stop)));
    Ok(Value::Object(body))
}

/// The fields of a raw prompt. Probabilities have another shape there, and what is echoed is put before the reply by
/// whoever asked.
fn raw(body: &mut Map<String, Value>, prompt: &RawPrompt) {
    let (prompt, suffix) = match prompt {
        RawPrompt::Text { prompt, suffix } => (json!(prompt), suffix.as_deref()),
        RawPrompt::Tokens(tokens) => (json!(tokens), None),
    };
    body.insert("prompt".into(), prompt);
    if let Some(suffix) = suffix {
        body.insert("suffix".into(), suffix.into());
    }
    body.shift_remove("echo");
    let top = body.shift_remove("top_logprobs");
    if body.shift_remove("logprobs").is_some() {
        body.insert("logprobs".into(), top.unwrap_or(json!(0)));
    }
}

/// The models of a `/v1/models` answer. The window goes by several names (Habit, vLLM, LiteLLM and others).
pub(super) fn models(list: &Value) -> Vec<ModelInfo> {
    let items = list["data"].as_array().or_else(|| list.as_array());
    items.into_iter().flatten().filter_map(model).collect()
}

fn model(item: &Value) -> Option<ModelInfo> {
    let names = [
        "context_window",
        "max_model_len",
        "max_context_length",
        "context_length",
    ];
    let window = names
        .iter()
        .find_map(|name| item[*name].as_u64())
        .or_else(|| item["meta"]["n_ctx_train"].as_u64());
    Some(ModelInfo {
        id: item["id"].as_str()?.to_owned(),
        context_window: window.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0),
        owned_by: item["owned_by"].as_str().unwrap_or("upstream").to_owned(),
        created: item["created"].as_i64().unwrap_or(0),
    })
}

/// The model that text-generation-webui has loaded, as its `internal/model/info` says; none if that is `None`.
pub(super) fn loaded_in_webui(info: &Value) -> Vec<ModelInfo> {
    let name = info["model_name"].as_str().filter(|name| !matches!(*name, "" | "None"));
    let model = name.map(|name| ModelInfo {
        id: name.to_owned(),
        context_window: None,
        owned_by: "webui".to_owned(),
        created: 0,
    });
    model.into_iter().collect()
}

/// What a chunk (or a whole reply) says of the reply's end.
pub(super) fn finish_reason(reason: &str) -> FinishReason {
    match reason {
        "length" | "max_tokens" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::ContentFilter,
        // `stop`, and what servers call it besides: `eos`, `eos_token`, `end_turn`, `stop_sequence`.
        _ => FinishReason::Stop,
    }
}

/// The usage of a chunk, if it is any.
pub(super) fn usage(usage: &Value) -> Option<Usage> {
    let number = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
    Some(Usage {
        prompt_tokens: number(&usage["prompt_tokens"])?,
        completion_tokens: number(&usage["completion_tokens"]).unwrap_or(0),
        cached_tokens: number(&usage["prompt_tokens_details"]["cached_tokens"]).unwrap_or(0),
        reasoning_tokens: number(&usage["completion_tokens_details"]["reasoning_tokens"]).unwrap_or(0),
    })
}

/// The text of an error body, in any of the shapes that servers have for it.
pub(super) fn error_text(body: &Value) -> Option<String> {
    let error = &body["error"];
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    text(&error["message"])
        .or_else(|| text(error))
        .or_else(|| text(&body["message"]))
        .or_else(|| text(&body["detail"]))
        // FastAPI's validation errors: a list of objects.
        .or_else(|| text(&body["detail"][0]["msg"]))
}
