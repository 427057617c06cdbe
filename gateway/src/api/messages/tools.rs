//! Anthropic's tools and their choice in chat completions' shape, which engines read.

use serde_json::{Map, Value, json};

use super::wire::invalid;
use crate::api::error::ApiError;

/// The fields `tools`, `tool_choice` and `parallel_tool_calls` in chat completions' shape.
///
/// # Errors
/// 400 that names the field.
pub(super) fn tools(tools: Vec<Value>, choice: Option<Value>) -> Result<Map<String, Value>, ApiError> {
    let mut functions = Vec::new();
    for (at, tool) in tools.iter().enumerate() {
        let param = format!("tools[{at}]");
        if tool["type"].as_str().is_some_and(|kind| kind != "custom") {
            tracing::debug!(tool = %tool["type"], "a tool that is not run here is left out");
            continue;
        }
        let name = tool["name"].as_str().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| invalid(&param, "must have a `name`"))?;
        if !tool["input_schema"].is_object() {
            return Err(invalid(&param, "must have an `input_schema`, which is an object"));
        }
        let description = tool["description"].as_str().unwrap_or_default();
        functions.push(json!({"type": "function", "function": {
            "name": name, "description": description, "parameters": tool["input_schema"]}}));
    }
    let mut extra = Map::new();
    let Some(choice) = choice.filter(|choice| !choice.is_null()) else {
        if !functions.is_empty() {
            extra.insert("tools".to_owned(), Value::Array(functions));
        }
        return Ok(extra);
    };
    let name = choice["name"].as_str();
    let chosen = match (choice["type"].as_str(), name) {
        (Some(word @ ("auto" | "none")), _) => json!(word),
        (Some("any" | "tool"), _) if functions.is_empty() => {
            return Err(invalid(
                "tool_choice",
                "asks for a tool, but there are none in `tools` that are run here",
            ));
        }
        (Some("any"), _) => json!("required"),
        (Some("tool"), Some(name)) if functions.iter().any(|tool| tool["function"]["name"] == name) => {
            json!({"type": "function", "function": {"name": name}})
        }
        (Some("tool"), _) => return Err(invalid("tool_choice", "must name one of the `tools`")),
        _ => return Err(invalid("tool_choice", "must have the type auto, any, tool or none")),
    };
    if functions.is_empty() {
        return Ok(extra);
    }
    extra.insert("tools".to_owned(), Value::Array(functions));
    extra.insert("tool_choice".to_owned(), chosen);
    if choice["disable_parallel_tool_use"] == true {
        extra.insert("parallel_tool_calls".to_owned(), json!(false));
    }
    Ok(extra)
}
