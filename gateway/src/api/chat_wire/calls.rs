//! How calls are written: as `tool_calls`, or as OpenAI wrote them before there were tools, with `functions`,
//! `function_call` and the role `function`. The older way becomes the newer one on its way in, and is made of it again on
//! its way out.

use habit_engine::{FinishReason, Message};
use serde_json::{Value, json};

use super::shapes::check_function;
use crate::api::error::ApiError;

/// How a reply's calls are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Calls {
    /// There will be none: the request has no tools.
    #[default]
    None,
    /// As `tool_calls`.
    Tools,
    /// One, as `function_call`.
    Function,
}

impl Calls {
    /// Why a reply ended.
    pub(super) fn reason(self, reason: FinishReason) -> &'static str {
        match (self, reason) {
            (Self::Function, FinishReason::ToolCalls) => "function_call",
            (_, reason) => reason.as_str(),
        }
    }
}

/// `functions` and `function_call` as `tools` and `tool_choice`.
///
/// # Errors
/// 400 that names the field.
pub(super) fn as_tools(functions: Vec<Value>, call: Option<Value>) -> Result<(Vec<Value>, Option<Value>), ApiError> {
    for (at, function) in functions.iter().enumerate() {
        check_function(function, &format!("functions[{at}]"))?;
    }
    let known = |name: &Value| functions.iter().any(|function| function["name"] == *name);
    let choice = match call {
        None => None,
        Some(Value::String(word)) if word == "none" || word == "auto" => Some(Value::String(word)),
        Some(call) if known(&call["name"]) => Some(json!({"type": "function", "function": {"name": call["name"]}})),
        Some(_) => {
            let message = "`function_call` must be none, auto, or an object that names one of the `functions`";
            return Err(ApiError::invalid(message, Some("function_call")));
        }
    };
    let tools = functions.into_iter();
    let tools = tools.map(|function| json!({"type": "function", "function": function}));
    Ok((tools.collect(), choice))
}

/// The call of an assistant's message at this place, by an id that [`latest`] finds.
///
/// # Errors
/// 400 if it names no function.
pub(super) fn of_function(call: Value, at: usize) -> Result<Value, ApiError> {
    if call["name"].is_string() {
        return Ok(json!({"id": format!("call_{at}"), "type": "function", "function": call}));
    }
    let param = format!("messages[{at}].function_call");
    Err(ApiError::invalid(
        format!("`{param}` must be an object with a `name`"),
        Some(&param),
    ))
}

/// The id of the latest call of this function, which a message of the role `function` answers.
pub(super) fn latest(name: Option<&str>, before: &[Message]) -> Option<String> {
    let mut calls = before.iter().rev().flat_map(|message| &message.tool_calls);
    let call = calls.find(|call| name.is_none_or(|name| call["function"]["name"] == name))?;
    Some(call["id"].as_str()?.to_owned())
}
