//! What of OpenAI's optional fields this engine honours, what it must refuse, and what it may ignore.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::{ChatRequest, EngineError};

/// The largest bias that OpenAI's API allows; it bans or forces a token.
const LARGEST_BIAS: f64 = 100.0;

/// The fields of [`ChatRequest::extra`] that change how a reply is made here.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Extras {
    /// The JSON schema that the reply must fit.
    pub(crate) schema: Option<Value>,
    /// Added to the tokens' logits (`logit_bias`).
    pub(crate) bias: HashMap<u32, f32>,
}

impl Extras {
    /// Reads a request's extra fields; unknown ones are ignored, nulls are absent.
    pub(crate) fn read(request: &ChatRequest) -> Result<Self, EngineError> {
        let get = |key: &str| request.extra.get(key).filter(|value| !value.is_null());
        refuse_tools(&request.extra)?;
        if get("n").is_some_and(|n| n.as_u64() != Some(1)) {
            return Err(rejected(
                "n",
                "this model gives one reply a request; ask again for another",
            ));
        }
        if request.max_tokens == Some(0) {
            return Err(rejected("max_tokens", "max_tokens must be at least 1"));
        }
        let schema = get("response_format").map(schema).transpose()?.flatten();
        let bias = get("logit_bias").map(bias).transpose()?.unwrap_or_default();
        Ok(Self { schema, bias })
    }
}

pub(crate) fn rejected(param: &str, message: impl Into<String>) -> EngineError {
    EngineError::Rejected {
        message: message.into(),
        param: Some(param.to_owned()),
    }
}

fn refuse_tools(extra: &Map<String, Value>) -> Result<(), EngineError> {
    let given = |key: &str| {
        extra
            .get(key)
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty())
    };
    let chosen = |key: &str| extra.get(key).is_none_or(|choice| choice != "none");
    for (tools, choice) in [("tools", "tool_choice"), ("functions", "function_call")] {
        if given(tools) && chosen(choice) {
            let message = format!(
                "models run by Habit itself don't call tools yet; send the request to an upstream that does, or set \
                 {choice} to \"none\""
            );
            return Err(rejected(tools, message));
        }
    }
    Ok(())
}

/// The schema that a `response_format` asks for; `None` for plain text.
fn schema(format: &Value) -> Result<Option<Value>, EngineError> {
    let mut schema = match format["type"].as_str() {
        Some("text") => return Ok(None),
        Some("json_object") => json!({"type": "object"}),
        Some("json_schema") => {
            let schema = format.get("json_schema").and_then(|named| named.get("schema"));
            schema
                .cloned()
                .ok_or_else(|| rejected("response_format", "json_schema.schema is missing"))?
        }
        _ => {
            let message = "response_format.type must be \"text\", \"json_object\" or \"json_schema\"";
            return Err(rejected("response_format", message));
        }
    };
    if let Some(schema) = schema.as_object_mut() {
        // Python's separators and no free white space: small models would go on with blank lines for ever.
        let style = json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
        schema.entry("x-guidance").or_insert(style);
    }
    Ok(Some(schema))
}

fn bias(bias: &Value) -> Result<HashMap<u32, f32>, EngineError> {
    let wrong = || {
        rejected(
            "logit_bias",
            format!("logit_bias maps token ids to numbers from -{LARGEST_BIAS} to {LARGEST_BIAS}"),
        )
    };
    let entries = bias.as_object().ok_or_else(wrong)?;
    let entry = |(token, value): (&String, &Value)| {
        let value = value.as_f64().filter(|value| value.abs() <= LARGEST_BIAS)?;
        Some((token.parse().ok()?, value as f32))
    };
    entries.iter().map(entry).collect::<Option<_>>().ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Extras;
    use crate::{ChatRequest, EngineError};

    fn read(extra: Value) -> Result<Extras, EngineError> {
        let Value::Object(extra) = extra else {
            panic!("an object")
        };
        Extras::read(&ChatRequest {
            extra,
            ..ChatRequest::default()
        })
    }

    fn refused(extra: Value) -> String {
        match read(extra) {
            Err(EngineError::Rejected { param: Some(param), .. }) => param,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_it_cannot_honour_is_refused_by_name() {
        assert_eq!(refused(json!({"tools": [{"type": "function"}]})), "tools");
        assert_eq!(refused(json!({"functions": [{}], "tool_choice": "none"})), "functions");
        assert_eq!(refused(json!({"n": 2})), "n");
        assert_eq!(refused(json!({"response_format": {"type": "xml"}})), "response_format");
        assert_eq!(
            refused(json!({"response_format": {"type": "json_schema"}})),
            "response_format"
        );
        assert_eq!(refused(json!({"logit_bias": {"5": 101}})), "logit_bias");
        let none = ChatRequest {
            max_tokens: Some(0),
            ..ChatRequest::default()
        };
        assert!(matches!(Extras::read(&none), Err(EngineError::Rejected { .. })));
    }

    #[test]
    fn what_changes_nothing_is_ignored() {
        let extra = json!({"tools": [], "functions": null, "n": 1, "response_format": {"type": "text"}, "user": "u",
            "logit_bias": null, "stream_options": {"include_usage": true}});
        assert_eq!(read(extra).expect("extras"), Extras::default());
        assert_eq!(
            read(json!({"tools": [{}], "tool_choice": "none"})).expect("extras"),
            Extras::default()
        );
    }

    #[test]
    fn schemas_and_biases_are_read() {
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}});
        let extras = read(json!({"response_format": format, "logit_bias": {"5": -100, "7": 1.5}})).expect("extras");
        assert_eq!(extras.schema.expect("a schema")["type"], "array");
        assert_eq!((extras.bias[&5], extras.bias[&7]), (-100.0, 1.5));
    }
}
