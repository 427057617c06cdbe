//! JSON schemas as clients send them, made ready for the machine that enforces them.

use serde_json::{Map, Value, json};

use super::options::rejected;
use crate::EngineError;

/// The schema that a `response_format` asks for; `None` for plain text.
pub(crate) fn of_format(format: &Value) -> Result<Option<Value>, EngineError> {
    let refused = |message: &str| Err(rejected("response_format", message));
    match format["type"].as_str() {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(json!({"type": "object"}))),
        Some("json_schema") => match format.get("json_schema").and_then(|named| named.get("schema")) {
            Some(schema @ (Value::Object(_) | Value::Bool(_))) => Ok(Some(schema.clone())),
            Some(_) => refused("json_schema.schema must be a JSON schema, an object"),
            None => refused("json_schema.schema is missing"),
        },
        _ => refused("response_format.type must be \"text\", \"json_object\" or \"json_schema\""),
    }
}

/// The schema as it is enforced.
///
/// Small models would go on with white space or with properties of their own for ever, so neither is allowed where the
/// schema does not ask for it; what comes out fits the schema all the same. `careful` refuses what can't be enforced to
/// the letter; without it that is left out.
pub(crate) fn prepared(mut schema: Value, careful: bool) -> Value {
    close(&mut schema);
    if schema == Value::Bool(true) {
        schema = json!({});
    }
    if let Some(fields) = schema.as_object_mut() {
        let style = json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": ",
            "coerce_one_of": true, "lenient": !careful});
        fields.insert("x-guidance".to_owned(), style);
    }
    schema
}

/// Allows an object's named properties only, where the schema leaves others open. Not below what combines schemas: there
/// one part may name what another leaves open.
fn close(schema: &mut Value) {
    const COMBINED: [&str; 9] = [
        "$ref",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "if",
        "patternProperties",
        "minProperties",
        "unevaluatedProperties",
    ];
    let Some(fields) = schema.as_object_mut() else { return };
    if COMBINED.iter().any(|key| fields.contains_key(*key)) {
        return;
    }
    if names_properties(fields) {
        fields.entry("additionalProperties").or_insert(Value::Bool(false));
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(close);
    }
    if let Some(items) = fields.get_mut("items") {
        close(items);
    }
}

/// Whether the schema names properties, and all that it requires.
fn names_properties(fields: &Map<String, Value>) -> bool {
    let Some(Value::Object(properties)) = fields.get("properties") else {
        return false;
    };
    let required = fields.get("required").and_then(Value::as_array);
    let named = |name: &Value| name.as_str().is_some_and(|name| properties.contains_key(name));
    !properties.is_empty() && required.is_none_or(|names| names.iter().all(named))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{close, of_format};

    fn closed(mut schema: Value) -> Value {
        close(&mut schema);
        schema
    }

    #[test]
    fn open_objects_are_closed_where_that_is_safe() {
        let inner = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        let list = closed(json!({"type": "array", "items": inner}));
        assert_eq!(list["items"]["additionalProperties"], false);
        let nested = closed(json!({"properties": {"x": inner}}));
        assert_eq!(nested["properties"]["x"]["additionalProperties"], false);
        for open in [
            json!({"type": "object"}),
            json!({"properties": {}}),
            json!({"properties": {"a": {}}, "required": ["b"]}),
            json!({"properties": {"a": {}}, "additionalProperties": {"type": "string"}}),
            json!({"allOf": [inner], "properties": {"b": inner}}),
        ] {
            assert_eq!(closed(open.clone()), open);
        }
    }

    #[test]
    fn formats_are_read() {
        assert_eq!(of_format(&json!({"type": "text"})).expect("a format"), None);
        assert_eq!(
            of_format(&json!({"type": "json_object"})).expect("a format"),
            Some(json!({"type": "object"}))
        );
        let named = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}});
        assert_eq!(of_format(&named).expect("a format"), Some(json!({"type": "array"})));
        for wrong in [
            json!({"type": "xml"}),
            json!("json"),
            json!({"type": "json_schema"}),
            json!({"type": "json_schema", "json_schema": {"schema": "x"}}),
        ] {
            assert!(of_format(&wrong).is_err(), "{wrong}");
        }
    }
}
