//! Tools, their choice, and the text's format: from the Responses' shape to chat completions', which engines read.

use serde_json::{Map, Value, json};

use crate::api::error::ApiError;
use crate::api::file_search::FILE_SEARCH;

/// Tools that run elsewhere than with the client, and that a model here can do without: unless one is demanded, it is
/// only never called.
const FOREIGN: [&str; 14] = [
    "apply_patch",
    "code_interpreter",
    "computer",
    "computer_use_preview",
    "image_generation",
    "local_shell",
    "mcp",
    "namespace",
    "programmatic_tool_calling",
    "shell",
    "tool_search",
    "web_search",
    "web_search_preview",
    "web_search_2025_08_26",
];

/// What a request's tools mean.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tools {
    /// What the model may call, in chat completions' shape.
    pub functions: Vec<Value>,
    /// Names of those that take a text instead of arguments.
    pub custom: Vec<String>,
    /// `file_search` tools, which this server runs itself, each with its place in the request.
    pub file_search: Vec<(String, Value)>,
    /// Chat completions' `tool_choice`.
    pub choice: Option<Value>,
}

impl Tools {
    /// Reads `tools` and `tool_choice`.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn read(tools: &[Value], choice: Option<&Value>) -> Result<Self, ApiError> {
        let mut read = Self::default();
        for (at, tool) in tools.iter().enumerate() {
            read.add(tool, &format!("tools[{at}]"))?;
        }
        if let Some(choice) = choice {
            read.choose(choice)?;
        }
        Ok(read)
    }

    fn add(&mut self, tool: &Value, param: &str) -> Result<(), ApiError> {
        let wrong = |what: &str| ApiError::invalid(format!("`{param}` {what}"), Some(param));
        let kind = tool["type"]
            .as_str()
            .ok_or_else(|| wrong("must be an object with a `type`, such as function"))?;
        match kind {
            "function" => {
                // Some clients send chat completions' shape here.
                let inner = tool.get("function").filter(|inner| inner.is_object()).unwrap_or(tool);
                let name = inner["name"].as_str().filter(|name| !name.is_empty());
                let name = name.ok_or_else(|| wrong("must have a `name`"))?;
                if !matches!(inner["parameters"], Value::Null | Value::Object(_)) {
                    return Err(wrong("has `parameters` that are not a JSON schema, which is an object"));
                }
                let mut function = Map::from_iter([("name".to_owned(), json!(name))]);
                for field in ["description", "parameters", "strict"] {
                    if let Some(value) = inner.get(field).filter(|value| !value.is_null()) {
                        function.insert(field.to_owned(), value.clone());
                    }
                }
                self.functions.push(json!({"type": "function", "function": function}));
            }
            "custom" => {
                let name = tool["name"].as_str().filter(|name| !name.is_empty());
                let name = name.ok_or_else(|| wrong("must have a `name`"))?;
                let input = json!({"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"],
                    "additionalProperties": false});
                let description = tool["description"].as_str().unwrap_or_default();
                self.functions.push(json!({"type": "function",
                    "function": {"name": name, "description": description, "parameters": input}}));
                self.custom.push(name.to_owned());
            }
            FILE_SEARCH => self.file_search.push((param.to_owned(), tool.clone())),
            kind if FOREIGN.contains(&kind) => tracing::debug!(tool = kind, "a tool that is not run here is left out"),
            kind => {
                let message =
                    format!("has the type `{kind}`, which is not known here; function, custom and file_search are");
                return Err(wrong(&message));
            }
        }
        Ok(())
    }

    fn choose(&mut self, choice: &Value) -> Result<(), ApiError> {
        let wrong = |message: String| ApiError::invalid(message, Some("tool_choice"));
        let unclear =
            || wrong("`tool_choice` must be none, auto, required, or an object that names a function".to_owned());
        match (choice, choice["type"].as_str()) {
            (Value::Null, _) => {}
            (Value::String(word), _) => match word.as_str() {
                "auto" => self.choice = Some(choice.clone()),
                "none" => {
                    self.file_search.clear();
                    self.choice = Some(choice.clone());
                }
                // The search is made before the model begins: that is the call.
                "required" if !self.file_search.is_empty() => self.choice = Some(json!("auto")),
                "required" if self.functions.is_empty() => {
                    return Err(wrong(
                        "`tool_choice` asks for a call, but there are no functions in `tools`".to_owned(),
                    ));
                }
                "required" => self.choice = Some(choice.clone()),
                _ => return Err(unclear()),
            },
            (_, Some("function" | "custom")) => {
                let name = choice["name"]
                    .as_str()
                    .or(choice["function"]["name"].as_str())
                    .ok_or_else(unclear)?;
                self.known(name)?;
                self.choice = Some(json!({"type": "function", "function": {"name": name}}));
            }
            (_, Some("allowed_tools")) => {
                let listed = || choice["tools"].as_array().into_iter().flatten();
                if !listed().any(|tool| tool["type"] == FILE_SEARCH) {
                    self.file_search.clear();
                }
                let allowed: Vec<&str> = listed().filter_map(|tool| tool["name"].as_str()).collect();
                for name in &allowed {
                    self.known(name)?;
                }
                self.functions.retain(|tool| {
                    tool["function"]["name"]
                        .as_str()
                        .is_some_and(|name| allowed.contains(&name))
                });
                self.choice = match choice["mode"].as_str() {
                    Some("required") if !self.functions.is_empty() => Some(json!("required")),
                    _ => Some(json!("auto")),
                };
            }
            // The search is done before the model answers, whether it is demanded or not.
            (_, Some(FILE_SEARCH)) if !self.file_search.is_empty() => {}
            (_, Some(kind)) => {
                return Err(wrong(format!("`tool_choice` demands `{kind}`, which is not run here")));
            }
            _ => return Err(unclear()),
        }
        Ok(())
    }

    fn known(&self, name: &str) -> Result<(), ApiError> {
        if self.functions.iter().any(|tool| tool["function"]["name"] == name) {
            return Ok(());
        }
        let message = format!("`tool_choice` names the function `{name}`, which is not among the `tools`");
        Err(ApiError::invalid(message, Some("tool_choice")))
    }
}

/// Chat completions' `response_format` of `text.format`; `None` for plain text.
///
/// # Errors
/// 400 that names the field.
pub fn response_format(format: Option<&Value>) -> Result<Option<Value>, ApiError> {
    let Some(format) = format.filter(|format| !format.is_null()) else {
        return Ok(None);
    };
    let wrong = |param: &str, message: &str| ApiError::invalid(format!("`{param}` {message}"), Some(param));
    match format["type"].as_str() {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(json!({"type": "json_object"}))),
        Some("json_schema") => {
            let named = format
                .get("json_schema")
                .filter(|named| named.is_object())
                .unwrap_or(format);
            if !matches!(named["schema"], Value::Object(_) | Value::Bool(_)) {
                return Err(wrong("text.format.schema", "must be a JSON schema"));
            }
            let mut inner = Map::new();
            for field in ["name", "description", "schema", "strict"] {
                if let Some(value) = named.get(field).filter(|value| !value.is_null()) {
                    inner.insert(field.to_owned(), value.clone());
                }
            }
            inner.entry("name").or_insert_with(|| json!("reply"));
            Ok(Some(json!({"type": "json_schema", "json_schema": inner})))
        }
        _ => Err(wrong("text.format.type", "must be text, json_object or json_schema")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_of_functions_are_read() {
        let flat = json!({"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true});
        let nested = json!({"type": "function", "function": {"name": "g"}});
        let search = json!({"type": "web_search"});
        let tools = Tools::read(&[flat, nested, search], Some(&json!({"type": "function", "name": "g"}))).unwrap();
        assert_eq!(tools.functions.len(), 2);
        assert_eq!(tools.functions[0]["function"]["strict"], true);
        assert_eq!(tools.choice.unwrap()["function"]["name"], "g");
    }

    #[test]
    fn allowed_tools_leave_the_others_out() {
        let tools = ["f", "g"].map(|name| json!({"type": "function", "name": name}));
        let choice = json!({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]});
        let read = Tools::read(&tools, Some(&choice)).unwrap();
        assert_eq!(read.functions.len(), 1);
        assert_eq!(read.choice, Some(json!("required")));
    }

    #[test]
    fn mistakes_are_named() {
        let f = json!({"type": "function", "name": "f"});
        for (tool, choice, param) in [
            (json!({}), Value::Null, "tools[0]"),
            (json!({"type": "function"}), Value::Null, "tools[0]"),
            (
                json!({"type": "function", "name": "f", "parameters": 1}),
                Value::Null,
                "tools[0]",
            ),
            (json!({"type": "teleport"}), Value::Null, "tools[0]"),
            (f.clone(), json!("perhaps"), "tool_choice"),
            (f.clone(), json!({"type": "function", "name": "g"}), "tool_choice"),
            (f, json!({"type": "web_search"}), "tool_choice"),
        ] {
            let error = Tools::read(std::slice::from_ref(&tool), Some(&choice)).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{tool} {choice}");
        }
        assert!(Tools::read(&[], Some(&json!("required"))).is_err());
        assert!(response_format(Some(&json!({"type": "json_schema", "name": "x"}))).is_err());
        assert_eq!(response_format(Some(&json!({"type": "text"}))).unwrap(), None);
    }
}
