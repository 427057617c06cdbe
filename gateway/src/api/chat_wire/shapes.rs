//! Checks the shape of fields that are passed on as they came, so that a mistake is named where it was made. What they
//! mean, and whether a model can do it, is the engine's business.

use serde_json::{Map, Value};

use crate::api::error::ApiError;

/// Checks `tools` and `tool_choice`.
///
/// # Errors
/// 400 that names the field.
pub(super) fn check_tools(tools: Option<&[Value]>, choice: Option<&Value>) -> Result<(), ApiError> {
    let tools = tools.unwrap_or_default();
    for (at, tool) in tools.iter().enumerate() {
        check_tool(tool, &format!("tools[{at}]"))?;
    }
    let wrong = |message: &str| Err(ApiError::invalid(message, Some("tool_choice")));
    match choice {
        None => Ok(()),
        Some(Value::String(word)) => match word.as_str() {
            "none" | "auto" => Ok(()),
            "required" | "any" if tools.is_empty() => wrong("`tool_choice` asks for a call, but there are no `tools`"),
            "required" | "any" => Ok(()),
            _ => wrong("`tool_choice` must be none, auto, required, or an object that names a function"),
        },
        Some(Value::Object(fields)) => match named(fields) {
            Some(name) if !tools.iter().any(|tool| tool_name(tool) == Some(name)) => wrong(&format!(
                "`tool_choice` names the function `{name}`, which is not among the `tools`"
            )),
            _ => Ok(()),
        },
        Some(_) => wrong("`tool_choice` must be none, auto, required, or an object that names a function"),
    }
}

fn named(choice: &Map<String, Value>) -> Option<&str> {
    choice.get("function")?.get("name")?.as_str()
}

fn tool_name(tool: &Value) -> Option<&str> {
    tool.get("function")?.get("name")?.as_str()
}

fn check_tool(tool: &Value, param: &str) -> Result<(), ApiError> {
    let wrong = |param: &str, must: &str| Err(ApiError::invalid(format!("`{param}` must be {must}"), Some(param)));
    let Some(kind) = tool.get("type").and_then(Value::as_str) else {
        return wrong(param, "an object with a `type`, such as function");
    };
    if kind != "function" {
        return Ok(());
    }
    check_function(&tool["function"], &format!("{param}.function"))
}

/// Checks what is said of one function.
///
/// # Errors
/// 400 that names the field.
pub(super) fn check_function(function: &Value, param: &str) -> Result<(), ApiError> {
    let wrong = |param: &str, must: &str| Err(ApiError::invalid(format!("`{param}` must be {must}"), Some(param)));
    if function["name"].as_str().is_none_or(str::is_empty) {
        return wrong(param, "an object with a `name`");
    }
    match &function["parameters"] {
        Value::Null | Value::Object(_) => Ok(()),
        _ => wrong(&format!("{param}.parameters"), "a JSON schema, which is an object"),
    }
}

/// Checks `response_format`.
///
/// # Errors
/// 400 that names the field.
pub(super) fn check_format(format: Option<&Map<String, Value>>) -> Result<(), ApiError> {
    let Some(format) = format else { return Ok(()) };
    let wrong = |param: &str, message: &str| Err(ApiError::invalid(format!("`{param}` {message}"), Some(param)));
    match format.get("type").and_then(Value::as_str) {
        Some("text" | "json_object") => Ok(()),
        Some("json_schema") => match format.get("json_schema").and_then(|named| named.get("schema")) {
            Some(Value::Object(_) | Value::Bool(_)) => Ok(()),
            _ => wrong("response_format.json_schema", "must be an object with a `schema`"),
        },
        _ => wrong("response_format.type", "must be text, json_object or json_schema"),
    }
}

/// Checks `modalities`: a reply is text.
///
/// # Errors
/// 400 that names the field.
pub(super) fn check_modalities(modalities: Option<&[String]>) -> Result<(), ApiError> {
    match modalities.unwrap_or_default().iter().find(|one| *one != "text") {
        None => Ok(()),
        Some(other) => {
            let message = format!("`modalities` names `{other}`, but replies here are text; leave the field out");
            Err(ApiError::invalid(message, Some("modalities")))
        }
    }
}
