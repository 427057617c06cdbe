//! The conversation of a request: messages as clients write them, as the engine's.

use habit_engine::{Content, Message, Role};
use serde_json::{Value, json};

use super::{WireContent, WireMessage, WireRole, calls};
use crate::api::error::ApiError;

/// The engine's messages.
///
/// # Errors
/// 400 that names the place.
pub(super) fn messages(messages: Option<Vec<WireMessage>>) -> Result<Vec<Message>, ApiError> {
    let messages = messages.unwrap_or_default();
    if messages.is_empty() {
        return Err(ApiError::invalid(
            "`messages` is missing or empty; send at least one message",
            Some("messages"),
        ));
    }
    let mut history = Vec::with_capacity(messages.len());
    for message in messages {
        let message = message.translate(&history)?;
        history.push(message);
    }
    Ok(history)
}

impl WireMessage {
    /// The engine's message, after those before it.
    fn translate(self, before: &[Message]) -> Result<Message, ApiError> {
        let at = before.len();
        let role = match self.role {
            WireRole::System | WireRole::Developer => Role::System,
            WireRole::User => Role::User,
            WireRole::Assistant => Role::Assistant,
            WireRole::Tool | WireRole::Function => Role::Tool,
        };
        let content = match self.content {
            None if self.role == WireRole::User => {
                let param = format!("messages[{at}].content");
                let problem = format!("`{param}` is missing; a user's message needs it, if only as an empty text");
                return Err(ApiError::invalid(problem, Some(&param)));
            }
            None => Content::Text(String::new()),
            Some(WireContent::Text(text)) => Content::Text(text),
            Some(WireContent::Parts(parts)) => Content::Parts(check_parts(parts, at)?),
        };
        let tool_call_id = match self.role {
            WireRole::Tool => Some(answered(self.tool_call_id, before)?),
            WireRole::Function => calls::latest(self.name.as_deref(), before),
            _ => self.tool_call_id,
        };
        let mut tool_calls = self.tool_calls.unwrap_or_default();
        if let Some(call) = self.function_call.filter(|_| tool_calls.is_empty()) {
            tool_calls.push(calls::of_function(call, at)?);
        }
        Ok(Message {
            role,
            content,
            name: self.name,
            tool_calls,
            tool_call_id,
        })
    }
}

/// The call that a tool's message answers: one that was made before it.
fn answered(id: Option<String>, before: &[Message]) -> Result<String, ApiError> {
    let param = format!("messages[{}].tool_call_id", before.len());
    let wrong = |problem: String| ApiError::invalid(format!("`{param}` {problem}"), Some(&param));
    let id = id.ok_or_else(|| wrong("is missing; a tool's message names the call that it answers".to_owned()))?;
    let mut made = before.iter().flat_map(|message| &message.tool_calls);
    if made.any(|call| call["id"] == id) {
        return Ok(id);
    }
    Err(wrong(format!("is `{id}`, which no call in the messages before it has")))
}

/// Parts are kept as they came, but each must be an object with a type: a string among them is taken as text, and so is
/// what an assistant refused with.
fn check_parts(parts: Vec<Value>, message: usize) -> Result<Vec<Value>, ApiError> {
    let text = |text: &Value| json!({"type": "text", "text": text});
    let check = |(at, part): (usize, Value)| match part {
        Value::String(_) => Ok(text(&part)),
        Value::Object(ref fields) if fields.get("type").is_some_and(|kind| kind == "refusal") => {
            Ok(text(&part["refusal"]))
        }
        Value::Object(ref fields) if fields.get("type").is_some_and(Value::is_string) => Ok(part),
        _ => {
            let param = format!("messages[{message}].content[{at}]");
            Err(ApiError::invalid(
                format!("`{param}` must be an object with a `type`, such as text"),
                Some(&param),
            ))
        }
    };
    parts.into_iter().enumerate().map(check).collect()
}
