//! Tools: which functions a model may call and whether it must. How a model writes a call is in `dialect`, how calls are
//! found in what it writes in `calls`, how models are told that were not taught in `preamble`.

pub(crate) mod calls;
pub(crate) mod dialect;
pub(crate) mod preamble;

use serde_json::{Map, Value, json};

use super::options::rejected;
use crate::EngineError;

/// The longest name of a function, in bytes.
const LONGEST_NAME: usize = 256;

/// What a model may call.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Tools {
    /// Empty where nothing may be called.
    pub(crate) list: Vec<Tool>,
    /// Whether it must.
    pub(crate) choice: Choice,
    /// At most one call. Where the model must call and the request says nothing, as well: a small model that may go on
    /// calls again and again.
    pub(crate) single: bool,
}

/// One function.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tool {
    pub(crate) name: String,
    /// The schema of its arguments.
    pub(crate) parameters: Value,
    /// `{"type": "function", "function": …}`, as chat templates expect it.
    pub(crate) definition: Value,
}

/// Whether the model must call.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// As it likes.
    #[default]
    Auto,
    /// One or more.
    Required,
    /// Exactly one; the list has only the one that was named.
    Named,
}

impl Tools {
    /// Reads `tools`, `tool_choice` and `parallel_tool_calls`.
    pub(crate) fn read(extra: &Map<String, Value>) -> Result<Self, EngineError> {
        let get = |key: &str| extra.get(key).filter(|value| !value.is_null());
        let list = match get("tools") {
            None => Vec::new(),
            Some(Value::Array(list)) => list.iter().map(Tool::read).collect::<Result<_, _>>()?,
            Some(_) => return Err(rejected("tools", "tools must be a list")),
        };
        let mut tools = Self {
            list,
            ..Self::default()
        };
        for (at, tool) in tools.list.iter().enumerate() {
            if tools.list[..at].iter().any(|other| other.name == tool.name) {
                return Err(rejected(
                    "tools",
                    format!("there are two tools named `{}`; rename one", tool.name),
                ));
            }
        }
        tools.single = match get("parallel_tool_calls") {
            None => false,
            Some(Value::Bool(parallel)) => !parallel,
            Some(_) => {
                return Err(rejected(
                    "parallel_tool_calls",
                    "parallel_tool_calls must be true or false",
                ));
            }
        };
        if let Some(choice) = get("tool_choice") {
            tools.choose(choice)?;
        }
        tools.single |= tools.choice == Choice::Required && get("parallel_tool_calls").is_none();
        Ok(tools)
    }

    fn choose(&mut self, choice: &Value) -> Result<(), EngineError> {
        let name = |choice: &Value| {
            let name = choice.pointer("/function/name").or_else(|| choice.get("name"))?;
            name.as_str().map(str::to_owned)
        };
        match (choice.as_str(), choice["type"].as_str()) {
            (Some("none"), _) => self.list.clear(),
            (Some("auto"), _) => {}
            // The second is Mistral's word for it.
            (Some("required" | "any"), _) => self.must(Choice::Required)?,
            (None, Some("allowed_tools")) => {
                let allowed = choice.get("allowed_tools").unwrap_or(choice);
                let names = allowed["tools"].as_array().into_iter().flatten().filter_map(name);
                self.only(&names.collect::<Vec<_>>())?;
                if allowed["mode"] == "required" {
                    self.must(Choice::Required)?;
                }
            }
            _ => {
                let Some(name) = name(choice) else {
                    let message = "tool_choice must be \"none\", \"auto\", \"required\" or name a function";
                    return Err(rejected("tool_choice", message));
                };
                self.only(&[name])?;
                self.must(Choice::Named)?;
            }
        }
        Ok(())
    }

    fn must(&mut self, choice: Choice) -> Result<(), EngineError> {
        if self.list.is_empty() {
            return Err(rejected(
                "tool_choice",
                "tool_choice asks for a call, but there are no tools",
            ));
        }
        self.choice = choice;
        Ok(())
    }

    fn only(&mut self, names: &[String]) -> Result<(), EngineError> {
        if let Some(unknown) = names
            .iter()
            .find(|name| self.list.iter().all(|tool| tool.name != **name))
        {
            let known: Vec<&str> = self.list.iter().map(|tool| tool.name.as_str()).collect();
            let known = if known.is_empty() {
                "there are none".to_owned()
            } else {
                format!("there are: {}", known.join(", "))
            };
            return Err(rejected(
                "tool_choice",
                format!("tool_choice names the tool `{unknown}`, which is not in the list; {known}"),
            ));
        }
        self.list.retain(|tool| names.contains(&tool.name));
        Ok(())
    }
}

/// Whether a schema's `type` allows an object.
fn is_object(kind: Option<&Value>) -> bool {
    match kind {
        None | Some(Value::Null) => true,
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
        Some(kind) => kind == "object",
    }
}

impl Tool {
    /// Reads an item of `tools`.
    fn read(tool: &Value) -> Result<Self, EngineError> {
        let wrong = |message: String| Err(rejected("tools", message));
        let function = match tool["type"].as_str() {
            Some("function") => tool.get("function").unwrap_or(tool),
            Some(other) => {
                return wrong(format!(
                    "this model calls functions only, and tools has one of type `{other}`"
                ));
            }
            None => return wrong("every item of tools needs a type, \"function\"".to_owned()),
        };
        let Some(name) = function["name"].as_str() else {
            return wrong("every function in tools needs a name".to_owned());
        };
        let plain = |letter: char| !letter.is_control() && letter != '"' && letter != '\\';
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(plain) {
            return wrong(format!(
                "`{name}` can't be a function's name: use letters, digits, `_` and `-`, at most 64"
            ));
        }
        let parameters = match function.get("parameters") {
            None | Some(Value::Null) => json!({"type": "object", "properties": {}, "additionalProperties": false}),
            Some(schema @ Value::Object(fields)) if is_object(fields.get("type")) => schema.clone(),
            Some(_) => {
                return wrong(format!(
                    "the parameters of the tool `{name}` must be a JSON schema of type object"
                ));
            }
        };
        let definition = json!({"type": "function", "function": function});
        Ok(Self {
            name: name.to_owned(),
            parameters,
            definition,
        })
    }

    /// The schema of its arguments, which are always an object.
    pub(crate) fn arguments(&self) -> Value {
        let mut schema = self.parameters.clone();
        if let Some(fields) = schema.as_object_mut() {
            let combined = ["$ref", "allOf", "anyOf", "oneOf"];
            if !combined.iter().any(|key| fields.contains_key(*key)) {
                fields.insert("type".to_owned(), json!("object"));
            }
        }
        schema
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::{Choice, Tools};
    use crate::EngineError;

    /// Two functions, `look` with a city and `wait` without anything.
    pub(crate) fn two() -> Value {
        json!([{"type": "function", "function": {"name": "look", "description": "Looks at a city.", "parameters":
            {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}},
            {"type": "function", "function": {"name": "wait"}}])
    }

    pub(crate) fn tools(extra: Value) -> Result<Tools, EngineError> {
        let Value::Object(extra) = extra else {
            panic!("an object")
        };
        Tools::read(&extra)
    }

    fn names(tools: &Tools) -> Vec<&str> {
        tools.list.iter().map(|tool| tool.name.as_str()).collect()
    }

    #[test]
    fn choices_are_read() {
        let with = |choice: Value| tools(json!({"tools": two(), "tool_choice": choice})).expect("tools");
        assert_eq!(with(Value::Null).choice, Choice::Auto);
        assert!(with(json!("none")).list.is_empty());
        assert_eq!(with(json!("required")).choice, Choice::Required);
        let named = with(json!({"type": "function", "function": {"name": "wait"}}));
        assert_eq!((named.choice, names(&named)), (Choice::Named, vec!["wait"]));
        let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "required",
            "tools": [{"type": "function", "function": {"name": "look"}}]}});
        let allowed = with(allowed);
        assert_eq!((allowed.choice, names(&allowed)), (Choice::Required, vec!["look"]));
        assert!(
            tools(json!({"tools": two(), "parallel_tool_calls": false}))
                .expect("tools")
                .single
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let function = |function: Value| json!({"tools": [{"type": "function", "function": function}]});
        for (extra, param, hint) in [
            (json!({"tools": "x"}), "tools", "list"),
            (json!({"tools": [{"type": "retrieval"}]}), "tools", "`retrieval`"),
            (json!({"tools": [{}]}), "tools", "type"),
            (function(json!({})), "tools", "name"),
            (function(json!({"name": ""})), "tools", "name"),
            (function(json!({"name": "a\"b"})), "tools", "name"),
            (function(json!({"name": "look", "parameters": []})), "tools", "`look`"),
            (
                function(json!({"name": "look", "parameters": {"type": "nothing"}})),
                "tools",
                "`look`",
            ),
            (
                json!({"tools": [two()[0], two()[0]]}),
                "tools",
                "two tools named `look`",
            ),
            (
                json!({"tools": two(), "tool_choice": "maybe"}),
                "tool_choice",
                "\"auto\"",
            ),
            (
                json!({"tools": two(), "tool_choice": {"type": "function", "function": {"name": "go"}}}),
                "tool_choice",
                "`go`",
            ),
            (json!({"tool_choice": "required"}), "tool_choice", "no tools"),
            (
                json!({"tools": two(), "parallel_tool_calls": 1}),
                "parallel_tool_calls",
                "true",
            ),
        ] {
            let Err(EngineError::Rejected {
                message,
                param: Some(named),
            }) = tools(extra.clone())
            else {
                panic!("{extra} was not refused")
            };
            assert_eq!(named, param, "{extra}");
            assert!(message.contains(hint), "{message}");
        }
    }
}
