//! OpenAI's items: what goes into a response, comes out of it, and stands in a conversation. Makes one shape of the
//! many in which clients send them, and the engine's messages of that.

use habit_engine::{Content, Message, Role};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::api::error::ApiError;

/// Items of tools that OpenAI runs itself: they are kept in a history, but say nothing to a model here.
const FOREIGN: [&str; 16] = [
    "apply_patch_call",
    "apply_patch_call_output",
    "code_interpreter_call",
    "compaction",
    "computer_call",
    "computer_call_output",
    "file_search_call",
    "image_generation_call",
    "local_shell_call",
    "local_shell_call_output",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "mcp_list_tools",
    "shell_call",
    "web_search_call",
];

/// A new id of a thing of this kind.
#[must_use]
pub fn new_id(prefix: &str) -> String {
    format!("{prefix}_{}", Uuid::now_v7().simple())
}

/// The items of an input; a text is a message of the user.
///
/// # Errors
/// 400 that names the item.
pub fn normalise(items: Vec<Value>, param: &str) -> Result<Vec<Value>, ApiError> {
    let one = |(at, item)| normalise_one(item, &format!("{param}[{at}]"));
    items.into_iter().enumerate().map(one).collect()
}

/// A user's message of this text.
#[must_use]
pub fn user_text(text: &str) -> Value {
    json!({"type": "message", "id": new_id("msg"), "status": "completed", "role": "user",
        "content": [{"type": "input_text", "text": text}]})
}

fn normalise_one(item: Value, param: &str) -> Result<Value, ApiError> {
    let wrong = |what: &str| ApiError::invalid(format!("`{param}` {what}"), Some(param));
    let item = match item {
        Value::String(text) => return Ok(user_text(&text)),
        Value::Object(item) => item,
        _ => return Err(wrong("must be an object with a `type`")),
    };
    let kind = match item.get("type") {
        None | Some(Value::Null) if item.contains_key("role") => "message".to_owned(),
        Some(Value::String(kind)) => kind.clone(),
        _ => return Err(wrong("must have a `type`, such as message")),
    };
    let text = |field: &str| {
        let text = item.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        text.map(str::to_owned)
            .ok_or_else(|| wrong(&format!("must have a `{field}`")))
    };
    let given = item.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
    let id = |prefix: &str| given.map_or_else(|| new_id(prefix), str::to_owned);
    let status = item
        .get("status")
        .cloned()
        .filter(Value::is_string)
        .unwrap_or_else(|| json!("completed"));
    Ok(match kind.as_str() {
        "message" => {
            let role = text("role")?;
            if role_of(&role).is_none() {
                return Err(wrong("has a `role` that is not user, assistant, system or developer"));
            }
            let content = parts(item.get("content"), &role, &format!("{param}.content"))?;
            json!({"type": "message", "id": id("msg"), "status": status, "role": role, "content": content})
        }
        "function_call" => json!({"type": kind, "id": id("fc"), "call_id": text("call_id")?, "name": text("name")?,
            "arguments": loose_text(item.get("arguments")), "status": status}),
        "custom_tool_call" => json!({"type": kind, "id": id("ctc"), "call_id": text("call_id")?, "name": text("name")?,
            "input": loose_text(item.get("input")), "status": status}),
        "function_call_output" | "custom_tool_call_output" => {
            let output = match item.get("output") {
                Some(Value::Array(_)) => Value::Array(parts(item.get("output"), "tool", &format!("{param}.output"))?),
                output => json!(loose_text(output)),
            };
            json!({"type": kind, "id": id("fco"), "call_id": text("call_id")?, "output": output, "status": status})
        }
        "item_reference" => json!({"type": kind, "id": text("id")?}),
        "reasoning" => {
            let list = |field: &str| item.get(field).cloned().filter(Value::is_array);
            let mut kept =
                json!({"type": kind, "id": id("rs"), "summary": list("summary").unwrap_or_else(|| json!([]))});
            if let (Some(content), Some(fields)) = (list("content"), kept.as_object_mut()) {
                fields.insert("content".to_owned(), content);
            }
            kept
        }
        other if FOREIGN.contains(&other) => {
            let mut kept = item.clone();
            kept.insert("id".to_owned(), json!(id("item")));
            Value::Object(kept)
        }
        other => {
            return Err(wrong(&format!(
                "has the type `{other}`, which is not known here; send message, function_call, function_call_output, \
                 reasoning or item_reference"
            )));
        }
    })
}

/// A field that should be a text; anything else is taken as its JSON.
fn loose_text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn parts(content: Option<&Value>, role: &str, param: &str) -> Result<Vec<Value>, ApiError> {
    let kind = if role == "assistant" {
        "output_text"
    } else {
        "input_text"
    };
    let of_text = |text: &str| match kind {
        "output_text" => json!({"type": kind, "text": text, "annotations": []}),
        _ => json!({"type": kind, "text": text}),
    };
    match content {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![of_text(text)]),
        Some(Value::Array(parts)) => {
            let part = |(at, part): (usize, &Value)| match part {
                Value::String(text) => Ok(of_text(text)),
                Value::Object(fields) => known_part(fields, &format!("{param}[{at}]")).map(|()| part.clone()),
                _ => Err(wrong_part(&format!("{param}[{at}]"))),
            };
            parts.iter().enumerate().map(part).collect()
        }
        Some(_) => Err(ApiError::invalid(
            format!("`{param}` must be a string or a list of parts"),
            Some(param),
        )),
    }
}

fn wrong_part(param: &str) -> ApiError {
    let message =
        format!("`{param}` must be an object with a `type`: input_text, input_image, input_file or output_text");
    ApiError::invalid(message, Some(param))
}

fn known_part(part: &Map<String, Value>, param: &str) -> Result<(), ApiError> {
    let is_text = |field: &str| part.get(field).is_some_and(Value::is_string);
    let fits = match part.get("type").and_then(Value::as_str) {
        Some("input_text" | "output_text" | "text" | "summary_text" | "reasoning_text") => is_text("text"),
        Some("refusal") => is_text("refusal"),
        Some("input_image" | "image_url" | "input_file" | "input_audio") => true,
        _ => false,
    };
    if fits { Ok(()) } else { Err(wrong_part(param)) }
}

fn role_of(role: &str) -> Option<Role> {
    Some(match role {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" | "developer" => Role::System,
        _ => return None,
    })
}

/// The conversation that normalised items make, after these instructions.
///
/// # Errors
/// 400 for what the engine's messages have no place for.
pub fn messages(instructions: Option<&str>, items: &[Value]) -> Result<Vec<Message>, ApiError> {
    let mut messages: Vec<Message> = Vec::new();
    messages.extend(instructions.map(|text| Message::new(Role::System, text)));
    for item in items {
        let text = |field: &str| item[field].as_str().unwrap_or_default();
        match text("type") {
            "message" => {
                let role = role_of(text("role")).unwrap_or(Role::User);
                let content = content(&item["content"])?;
                messages.push(Message {
                    content,
                    ..Message::new(role, "")
                });
            }
            "function_call" => called(&mut messages, text("call_id"), text("name"), text("arguments")),
            "custom_tool_call" => {
                let arguments = json!({"input": text("input")}).to_string();
                called(&mut messages, text("call_id"), text("name"), &arguments);
            }
            "function_call_output" | "custom_tool_call_output" => messages.push(Message {
                content: content(&item["output"])?,
                tool_call_id: Some(text("call_id").to_owned()),
                ..Message::new(Role::Tool, "")
            }),
            // Reasoning is not read again: templates leave it out as well.
            _ => {}
        }
    }
    Ok(one_system(messages))
}

/// Adds a call to the assistant's message that makes it.
fn called(messages: &mut Vec<Message>, id: &str, name: &str, arguments: &str) {
    if messages.last().is_none_or(|last| last.role != Role::Assistant) {
        messages.push(Message::new(Role::Assistant, ""));
    }
    if let Some(last) = messages.last_mut() {
        let call = json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        last.tool_calls.push(call);
    }
}

/// Instructions at the begin become one message: many templates know only one.
pub fn one_system(messages: Vec<Message>) -> Vec<Message> {
    let leading = messages
        .iter()
        .take_while(|message| message.role == Role::System)
        .count();
    if leading < 2 {
        return messages;
    }
    let texts: Vec<String> = messages.iter().take(leading).map(Message::text).collect();
    let first = Message::new(Role::System, texts.join("\n\n"));
    std::iter::once(first)
        .chain(messages.into_iter().skip(leading))
        .collect()
}

/// The engine's content: plain text where it is one text, else chat completions' parts.
fn content(content: &Value) -> Result<Content, ApiError> {
    let parts = match content {
        Value::Array(parts) => parts,
        other => return Ok(Content::Text(loose_text(Some(other)))),
    };
    let parts: Vec<Value> = parts.iter().map(chat_part).collect::<Result<_, _>>()?;
    Ok(match parts.as_slice() {
        [] => Content::Text(String::new()),
        [one] if one["type"] == "text" => Content::Text(one["text"].as_str().unwrap_or_default().to_owned()),
        _ => Content::Parts(parts),
    })
}

fn chat_part(part: &Value) -> Result<Value, ApiError> {
    Ok(match part["type"].as_str().unwrap_or_default() {
        "refusal" => json!({"type": "text", "text": part["refusal"]}),
        "input_image" | "image_url" => {
            let url = match &part["image_url"] {
                Value::Object(image) => image.get("url").cloned().unwrap_or_default(),
                url => url.clone(),
            };
            if !url.is_string() {
                let message =
                    "images must be given as `image_url`, such as a data: URL; files of images are not read here";
                return Err(ApiError::invalid(message, Some("input")));
            }
            let detail = part["detail"].as_str().unwrap_or("auto");
            json!({"type": "image_url", "image_url": {"url": url, "detail": detail}})
        }
        "input_file" => {
            let mut file = part.as_object().cloned().unwrap_or_default();
            file.remove("type");
            json!({"type": "file", "file": file})
        }
        "input_audio" => part.clone(),
        _ => json!({"type": "text", "text": part["text"]}),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(items: Value) -> Vec<Message> {
        let items = normalise(items.as_array().unwrap().clone(), "input").unwrap();
        messages(None, &items).unwrap()
    }

    #[test]
    fn a_round_of_tools_becomes_three_messages() {
        let read = read(json!([
            {"role": "user", "content": "Weather?"},
            {"type": "reasoning", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
            {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "b", "name": "g", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "sun"},
            {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "rain"}]},
        ]));
        let roles: Vec<Role> = read.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::User, Role::Assistant, Role::Tool, Role::Tool]);
        assert_eq!(read[1].text(), "Let me see.");
        assert_eq!(read[1].tool_calls[1]["function"]["name"], "g");
        assert_eq!(
            (read[3].text().as_str(), read[3].tool_call_id.as_deref()),
            ("rain", Some("b"))
        );
    }

    #[test]
    fn parts_become_those_of_chat() {
        let read = read(json!([{"role": "user", "content": [
            {"type": "input_text", "text": "What is it?"},
            {"type": "input_image", "image_url": "data:image/png;base64,AA=="},
        ]}]));
        let Content::Parts(parts) = &read[0].content else {
            panic!("{read:?}")
        };
        assert_eq!(
            parts[1]["image_url"],
            json!({"url": "data:image/png;base64,AA==", "detail": "auto"})
        );
    }

    #[test]
    fn instructions_at_the_begin_are_one() {
        let items = normalise(
            vec![
                json!({"role": "developer", "content": "B"}),
                json!({"role": "user", "content": "C"}),
            ],
            "input",
        );
        let read = messages(Some("A"), &items.unwrap()).unwrap();
        assert_eq!((read.len(), read[0].text().as_str()), (2, "A\n\nB"));
    }

    #[test]
    fn mistakes_are_named() {
        for (item, param) in [
            (json!(7), "input[0]"),
            (json!({}), "input[0]"),
            (json!({"type": "message", "role": "robot", "content": "x"}), "input[0]"),
            (json!({"type": "function_call", "name": "f"}), "input[0]"),
            (json!({"type": "wish"}), "input[0]"),
            (json!({"role": "user", "content": 7}), "input[0].content"),
            (
                json!({"role": "user", "content": [{"type": "smell"}]}),
                "input[0].content[0]",
            ),
            (
                json!({"role": "user", "content": [{"type": "input_text"}]}),
                "input[0].content[0]",
            ),
        ] {
            let error = normalise(vec![item.clone()], "input").unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{item}");
        }
    }
}
