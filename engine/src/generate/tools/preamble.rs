//! Tools for models whose chat template does not know of them: told in the system message, calls and results as text.

use super::{
    Choice, Tools,
    dialect::{HERMES, HERMES_END},
};
use crate::{Content, Message, Role};

/// What encloses a tool's result.
const RESULT: (&str, &str) = ("<tool_response>", "</tool_response>");

/// The conversation with everything about tools as text.
pub(crate) fn told(messages: &[Message], tools: &Tools) -> Vec<Message> {
    let mut told: Vec<Message> = Vec::with_capacity(messages.len() + 1);
    for message in messages {
        match message.role {
            Role::Tool => {
                let result = format!("{}\n{}\n{}", RESULT.0, message.text(), RESULT.1);
                // Results follow each other, but speakers must take turns.
                match told.last_mut() {
                    Some(last) if last.role == Role::User && last.text().ends_with(RESULT.1) => {
                        last.content = Content::Text(format!("{}\n{result}", last.text()));
                    }
                    _ => told.push(Message::new(Role::User, result)),
                }
            }
            Role::Assistant if !message.tool_calls.is_empty() => {
                let mut text = message.text();
                for call in &message.tool_calls {
                    if !text.is_empty() {
                        text.push('\n');
                    }
                    text.push_str(&written(call));
                }
                told.push(Message::new(Role::Assistant, text));
            }
            _ => told.push(message.clone()),
        }
    }
    if !tools.list.is_empty() {
        let rules = rules(tools);
        match told.first_mut() {
            Some(first) if first.role == Role::System => {
                first.content = Content::Text(format!("{}\n\n{rules}", first.text()));
            }
            _ => told.insert(0, Message::new(Role::System, rules)),
        }
    }
    told
}

/// A call of an earlier reply as the model wrote it.
fn written(call: &serde_json::Value) -> String {
    let function = &call["function"];
    let name = &function["name"];
    let arguments = match &function["arguments"] {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    format!("{HERMES}\n{{\"name\": {name}, \"arguments\": {arguments}}}\n{HERMES_END}")
}

fn rules(tools: &Tools) -> String {
    let list: Vec<String> = tools
        .list
        .iter()
        .map(|tool| tool.definition["function"].to_string())
        .collect();
    let list = list.join("\n");
    let when = match tools.choice {
        Choice::Auto => "Call one only when it helps; otherwise answer in plain text.",
        Choice::Required | Choice::Named => "Answer by calling.",
    };
    format!(
        "You can call these functions, each described by a line of JSON:\n<tools>\n{list}\n</tools>\n{when} A call is \
         written like this, with the function's name and its arguments:\n{HERMES}\n{{\"name\": \"...\", \"arguments\": \
         {{...}}}}\n{HERMES_END}"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::told;
    use crate::{
        Message, Role,
        generate::tools::tests::{tools, two},
    };

    #[test]
    fn everything_becomes_text_and_speakers_take_turns() {
        let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "look", "arguments": "{\"city\": \"Rome\"}"}});
        let mut calls = Message::new(Role::Assistant, "");
        calls.tool_calls = vec![call("a"), call("b")];
        let messages = [
            Message::new(Role::System, "Be kind."),
            Message::new(Role::User, "How is Rome?"),
            calls,
            Message::new(Role::Tool, "sunny"),
            Message::new(Role::Tool, "warm"),
            Message::new(Role::User, "And now?"),
        ];
        let tools = tools(json!({"tools": two()})).expect("tools");
        let told = told(&messages, &tools);
        let roles: Vec<Role> = told.iter().map(|message| message.role).collect();
        assert_eq!(
            roles,
            [Role::System, Role::User, Role::Assistant, Role::User, Role::User]
        );
        assert!(told[0].text().starts_with("Be kind.\n\n") && told[0].text().contains("\"name\":\"look\""));
        assert_eq!(
            told[2]
                .text()
                .matches("{\"name\": \"look\", \"arguments\": {\"city\": \"Rome\"}}")
                .count(),
            2
        );
        assert_eq!(told[3].text().matches("<tool_response>").count(), 2);
        assert!(told.iter().all(|message| message.tool_calls.is_empty()));
    }
}
