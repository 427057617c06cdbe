//! Anthropic's JSON of a request: the body as clients really send it, and the engine's request of it.

use habit_engine::{ChatRequest, Content, Message, Role};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::tools::tools;
use crate::api::error::ApiError;
use crate::api::generation::{SamplingFields, token_limit, within};
use crate::api::responses::items::one_system;

/// Blocks of tools that Anthropic runs itself, and of reasoning: they stay in histories, but say nothing to a model here.
const SILENT: [&str; 9] = [
    "bash_code_execution_tool_result",
    "code_execution_tool_result",
    "container_upload",
    "mcp_tool_result",
    "mcp_tool_use",
    "redacted_thinking",
    "server_tool_use",
    "thinking",
    "web_search_tool_result",
];

/// The body of `POST /v1/messages`. A null is the same as an absent field; fields that are not listed are ignored.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub struct CreateMessage {
    /// The model; absent, empty or `default` is the server's default.
    pub model: Option<String>,
    /// The conversation, oldest first. If the last message is the assistant's, the reply goes on from its text.
    #[schema(required, min_items = 1)]
    pub messages: Option<Vec<MessageParam>>,
    /// The most tokens that the reply may have. More than fits into the window is as much as fits.
    #[schema(required, minimum = 1)]
    pub max_tokens: Option<i64>,
    /// What the model is told first: a text, or text blocks.
    #[schema(value_type = Option<Value>)]
    pub system: Option<Value>,
    /// The reply ends before any of these strings.
    pub stop_sequences: Option<Vec<String>>,
    /// Send the reply as server-sent events while it is made.
    pub stream: Option<bool>,
    /// Randomness, 0 (greedy) to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub temperature: Option<f64>,
    /// Nucleus sampling, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub top_p: Option<f64>,
    /// Only the k likeliest tokens.
    pub top_k: Option<i64>,
    /// Tools that the model may use, each with `name` and `input_schema`.
    #[schema(value_type = Option<Vec<Object>>)]
    pub tools: Option<Vec<Value>>,
    /// `{"type": "auto"}`, `any`, `none`, or `tool` with a `name`.
    #[schema(value_type = Option<Object>)]
    pub tool_choice: Option<Value>,
    /// `{"type": "enabled"}` or `disabled`, for models that can do both.
    #[schema(value_type = Option<Object>)]
    pub thinking: Option<Value>,
    /// `format` holds a JSON schema that the reply must fit.
    #[schema(value_type = Option<Object>)]
    pub output_config: Option<Value>,
    /// `user_id` names who asks, in the client's own terms.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
    /// Tells in the usage what of the prompt did not have to be read again, as on any block or tool; what is kept does not
    /// depend on it.
    #[schema(value_type = Option<Object>)]
    pub cache_control: Option<Value>,
}

/// One message of the conversation.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct MessageParam {
    /// `user`, `assistant` or `system`.
    pub role: MessageRole,
    /// A text, or content blocks.
    #[schema(value_type = Value)]
    pub content: Value,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MessageRole {
    /// Who asks, and what tools gave.
    User,
    /// The model.
    Assistant,
    /// Instructions.
    System,
}

impl CreateMessage {
    /// Whether any part of the prompt is marked as one to keep.
    #[must_use]
    pub fn marks_cache(&self) -> bool {
        let messages = self.messages.iter().flatten().map(|message| &message.content);
        let blocks = self.system.iter().chain(messages).filter_map(Value::as_array).flatten();
        let tools = self.tools.iter().flatten();
        self.cache_control.is_some() || blocks.chain(tools).any(is_marked)
    }

    /// Checks the body and translates it.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn parse(self, needs_limit: bool) -> Result<ChatRequest, ApiError> {
        if needs_limit && self.max_tokens.is_none() {
            return Err(invalid(
                "max_tokens",
                "is missing; say how many tokens the reply may have",
            ));
        }
        let max_tokens = token_limit("max_tokens", self.max_tokens, 1)?;
        let sampling = SamplingFields {
            temperature: within("temperature", self.temperature, 0.0, 1.0)?,
            top_p: self.top_p,
            top_k: self.top_k,
            ..SamplingFields::default()
        };
        let mut messages = Vec::new();
        if let Some(system) = self.system.filter(|system| !system.is_null()) {
            let texts = texts(&system, "system")?;
            messages.extend((!texts.is_empty()).then(|| Message::new(Role::System, texts)));
        }
        let given = self.messages.unwrap_or_default();
        if given.is_empty() {
            return Err(invalid("messages", "is missing or empty; send at least one message"));
        }
        for (at, message) in given.into_iter().enumerate() {
            translate(message, &format!("messages[{at}]"), &mut messages)?;
        }
        let mut extra = tools(self.tools.unwrap_or_default(), self.tool_choice)?;
        if let Some(kind) = self.thinking.as_ref().and_then(|thinking| thinking["type"].as_str()) {
            let kwargs = json!({"enable_thinking": kind != "disabled"});
            extra.insert("chat_template_kwargs".to_owned(), kwargs);
        }
        if let Some(format) = self.output_config.as_ref().and_then(|config| config.get("format"))
            && format["type"] == "json_schema"
        {
            let format = json!({"type": "json_schema", "json_schema": {"name": "reply", "schema": format["schema"]}});
            extra.insert("response_format".to_owned(), format);
        }
        if let Some(user) = self
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.get("user_id")?.as_str())
        {
            extra.insert("user".to_owned(), json!(user));
        }
        let prefilled = messages
            .last()
            .is_some_and(|last| last.role == Role::Assistant && last.tool_calls.is_empty() && !last.text().is_empty());
        if prefilled {
            extra.insert("continue_final_message".to_owned(), json!(true));
            extra.insert("add_generation_prompt".to_owned(), json!(false));
        }
        Ok(ChatRequest {
            model: self.model.unwrap_or_default(),
            messages: one_system(messages),
            sampling: sampling.check()?,
            stop: self
                .stop_sequences
                .unwrap_or_default()
                .into_iter()
                .filter(|stop| !stop.is_empty())
                .collect(),
            max_tokens,
            extra,
            ..ChatRequest::default()
        })
    }
}

/// Whether a block or tool, or a block in it, has a mark.
fn is_marked(block: &Value) -> bool {
    !block["cache_control"].is_null()
        || block["content"]
            .as_array()
            .is_some_and(|inner| inner.iter().any(is_marked))
}

/// 400 about a field.
pub(super) fn invalid(param: &str, what: &str) -> ApiError {
    ApiError::invalid(format!("`{param}` {what}"), Some(param))
}

/// The texts of a string or of text blocks.
fn texts(content: &Value, param: &str) -> Result<String, ApiError> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(blocks) => {
            let text = |block: &Value| block["text"].as_str().map(str::to_owned);
            let texts: Option<Vec<String>> = blocks.iter().map(text).collect();
            let texts = texts.ok_or_else(|| invalid(param, "must be a text or a list of text blocks"))?;
            Ok(texts.join("\n\n"))
        }
        _ => Err(invalid(param, "must be a text or a list of text blocks")),
    }
}

/// Adds a message; the results of tools become messages of their own, before what else the user says.
fn translate(message: MessageParam, param: &str, messages: &mut Vec<Message>) -> Result<(), ApiError> {
    let role = match message.role {
        MessageRole::User => Role::User,
        MessageRole::Assistant => Role::Assistant,
        MessageRole::System => Role::System,
    };
    let param = format!("{param}.content");
    let blocks = match message.content {
        Value::String(text) => {
            messages.push(Message::new(role, text));
            return Ok(());
        }
        Value::Array(blocks) => blocks,
        _ => return Err(invalid(&param, "must be a text or a list of content blocks")),
    };
    let (mut parts, mut calls) = (Vec::new(), Vec::new());
    let answered = blocks.iter().any(|block| block["type"] == "tool_result");
    for (at, block) in blocks.iter().enumerate() {
        let param = format!("{param}[{at}]");
        match block["type"].as_str() {
            Some("tool_use") if role == Role::Assistant => calls.push(call(block, &param)?),
            Some("tool_result") if role == Role::User => messages.push(result(block, &param)?),
            Some(kind) if SILENT.contains(&kind) => {}
            _ => parts.push(part(block, &param)?),
        }
    }
    if parts.is_empty() && calls.is_empty() && answered {
        return Ok(());
    }
    messages.push(Message {
        content: content(parts),
        tool_calls: calls,
        ..Message::new(role, "")
    });
    Ok(())
}

/// Plain text where there is only text.
fn content(parts: Vec<Value>) -> Content {
    match parts.as_slice() {
        [] => Content::Text(String::new()),
        [one] if one["type"] == "text" => Content::Text(one["text"].as_str().unwrap_or_default().to_owned()),
        _ => Content::Parts(parts),
    }
}

fn call(block: &Value, param: &str) -> Result<Value, ApiError> {
    let (Some(id), Some(name)) = (block["id"].as_str(), block["name"].as_str()) else {
        return Err(invalid(param, "must have an `id` and a `name`"));
    };
    let arguments = match &block["input"] {
        Value::Null => "{}".to_owned(),
        input => input.to_string(),
    };
    Ok(json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}))
}

fn result(block: &Value, param: &str) -> Result<Message, ApiError> {
    let id = block["tool_use_id"].as_str();
    let id = id.ok_or_else(|| invalid(param, "must have a `tool_use_id`"))?;
    let content = match &block["content"] {
        Value::Null => Content::Text(String::new()),
        Value::String(text) => Content::Text(text.clone()),
        Value::Array(blocks) => {
            let parts = blocks.iter().map(|block| part(block, &format!("{param}.content")));
            content(parts.collect::<Result<_, _>>()?)
        }
        _ => return Err(invalid(param, "must have a text or content blocks as `content`")),
    };
    Ok(Message {
        content,
        tool_call_id: Some(id.to_owned()),
        ..Message::new(Role::Tool, "")
    })
}

/// Chat completions' part of a block.
fn part(block: &Value, param: &str) -> Result<Value, ApiError> {
    let source = &block["source"];
    let data_url = || {
        let (kind, data) = (source["media_type"].as_str()?, source["data"].as_str()?);
        Some(format!("data:{kind};base64,{data}"))
    };
    let known = match block["type"].as_str() {
        Some("text") => block["text"].as_str().map(|text| json!({"type": "text", "text": text})),
        Some("image") => match source["type"].as_str() {
            Some("url") => source["url"].as_str().map(str::to_owned),
            _ => data_url(),
        }
        .map(|url| json!({"type": "image_url", "image_url": {"url": url}})),
        Some("document") => match source["type"].as_str() {
            Some("text") => source["data"]
                .as_str()
                .map(|text| json!({"type": "text", "text": text})),
            Some("content") => texts(&source["content"], param)
                .ok()
                .map(|text| json!({"type": "text", "text": text})),
            _ => data_url().map(|data| json!({"type": "file", "file": {"file_data": data}})),
        },
        Some("search_result") => {
            let text = texts(&block["content"], param).ok();
            text.map(|text| json!({"type": "text", "text": text}))
        }
        Some("tool_reference") => block["tool_name"]
            .as_str()
            .map(|name| json!({"type": "text", "text": name})),
        _ => None,
    };
    known.ok_or_else(|| {
        invalid(
            param,
            "must be a content block: text, image, document, tool_use or tool_result",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: Value) -> Result<ChatRequest, ApiError> {
        serde_json::from_value::<CreateMessage>(body).unwrap().parse(true)
    }

    #[test]
    fn a_round_of_tools_is_read() {
        let request = parse(json!({
            "max_tokens": 10,
            "system": [{"type": "text", "text": "A", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "B"}],
            "messages": [
                {"role": "user", "content": "Weather?"},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "hm", "signature": ""},
                    {"type": "text", "text": "Let me see."},
                    {"type": "tool_use", "id": "t", "name": "f", "input": {"city": "Bonn"}},
                ]},
                {"role": "user", "content": [
                    {"type": "text", "text": "quickly"},
                    {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "sun"}]},
                ]},
            ],
            "tools": [{"name": "f", "input_schema": {"type": "object"}}, {"type": "web_search_20250305", "name": "w"}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
            "thinking": {"type": "enabled", "budget_tokens": 1024},
        }))
        .unwrap();
        let roles: Vec<Role> = request.messages.iter().map(|message| message.role).collect();
        assert_eq!(
            roles,
            [Role::System, Role::User, Role::Assistant, Role::Tool, Role::User]
        );
        assert_eq!(request.messages[0].text(), "A\n\nB");
        assert_eq!(
            request.messages[2].tool_calls[0]["function"]["arguments"],
            r#"{"city":"Bonn"}"#
        );
        assert_eq!(request.messages[3].text(), "sun");
        assert_eq!(request.extra["tools"].as_array().unwrap().len(), 1);
        assert_eq!(request.extra["tool_choice"], "required");
        assert_eq!(request.extra["parallel_tool_calls"], false);
        assert_eq!(request.extra["chat_template_kwargs"]["enable_thinking"], true);
    }

    #[test]
    fn the_assistants_last_words_are_gone_on_from() {
        let messages = json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": "{"}]);
        let request = parse(json!({"max_tokens": 1, "messages": messages})).unwrap();
        assert_eq!(request.extra["continue_final_message"], true);
    }

    #[test]
    fn parts_are_marked_anywhere() {
        let marks = |body: Value| serde_json::from_value::<CreateMessage>(body).unwrap().marks_cache();
        let mark = json!({"type": "ephemeral"});
        let block = json!({"type": "text", "text": "x", "cache_control": mark});
        let result = json!({"type": "tool_result", "tool_use_id": "t", "content": [block]});
        for body in [
            json!({"cache_control": mark}),
            json!({"system": [block]}),
            json!({"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": [block]}]}),
            json!({"messages": [{"role": "user", "content": [result]}]}),
            json!({"tools": [{"name": "f"}, {"name": "g", "cache_control": mark}]}),
        ] {
            assert!(marks(body.clone()), "{body}");
        }
        let named = json!({"properties": {"cache_control": {"type": "string"}}});
        let none = json!({"system": "x", "cache_control": null, "tools": [{"name": "f", "input_schema": named}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": null}]}]});
        assert!(!marks(none));
    }

    #[test]
    fn mistakes_are_named() {
        let user = json!([{"role": "user", "content": "x"}]);
        for (body, param) in [
            (json!({"messages": user}), "max_tokens"),
            (json!({"messages": user, "max_tokens": 0}), "max_tokens"),
            (json!({"max_tokens": 1}), "messages"),
            (json!({"max_tokens": 1, "messages": user, "system": 7}), "system"),
            (
                json!({"max_tokens": 1, "messages": [{"role": "user", "content": 7}]}),
                "messages[0].content",
            ),
            (
                json!({"max_tokens": 1, "messages": [{"role": "user", "content": [{"type": "smell"}]}]}),
                "messages[0].content[0]",
            ),
            (
                json!({"max_tokens": 1, "messages": user, "tools": [{"name": "f"}]}),
                "tools[0]",
            ),
            (
                json!({"max_tokens": 1, "messages": user, "tool_choice": {"type": "any"}}),
                "tool_choice",
            ),
            (
                json!({"max_tokens": 1, "messages": user, "temperature": 1.5}),
                "temperature",
            ),
        ] {
            assert_eq!(parse(body.clone()).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
    }
}
