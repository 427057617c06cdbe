//! How items look, from their blocks.

use habit_engine::TokenLogprob;
use serde_json::{Value, json};

use crate::api::blocks::{Block, Kind};
use crate::api::chat_wire::TokenLogprobBody;
use crate::api::file_search::Cited;

/// How items are shown.
#[derive(Debug, Clone, Default)]
pub struct Style {
    /// Reasoning goes into summaries.
    pub summarise: bool,
    /// Names of tools that take a text.
    pub custom: Vec<String>,
    /// The files that texts rest on.
    pub cited: Vec<Cited>,
}

impl Style {
    /// What ids of such items begin with.
    pub(super) fn prefix(&self, kind: &Kind) -> &'static str {
        match kind {
            Kind::Reasoning => "rs",
            Kind::Text => "msg",
            Kind::Call { name, .. } if self.custom.contains(name) => "ctc",
            Kind::Call { .. } => "fc",
        }
    }

    /// An item of which nothing is there yet.
    pub(super) fn opened(&self, id: &str, block: &Block) -> Value {
        let mut item = self.item(id, block, "in_progress");
        if let Some(fields) = item.as_object_mut() {
            for list in ["content", "summary"] {
                if fields.contains_key(list) {
                    fields.insert(list.to_owned(), json!([]));
                }
            }
        }
        item
    }

    /// An item of this block.
    pub(super) fn item(&self, id: &str, block: &Block, status: &str) -> Value {
        let text = &block.text;
        match &block.kind {
            Kind::Text => json!({"id": id, "type": "message", "status": status, "role": "assistant",
                "content": [self.text_part(text, block.logprobs.clone())]}),
            Kind::Reasoning if self.summarise => json!({"id": id, "type": "reasoning", "status": status,
                "summary": [{"type": "summary_text", "text": text}], "encrypted_content": null}),
            Kind::Reasoning => json!({"id": id, "type": "reasoning", "status": status, "summary": [],
                "content": [{"type": "reasoning_text", "text": text}], "encrypted_content": null}),
            Kind::Call { id: call, name } if self.custom.contains(name) => json!({"id": id, "type": "custom_tool_call",
                "status": status, "call_id": call, "name": name, "input": custom_input(text)}),
            Kind::Call { id: call, name } => json!({"id": id, "type": "function_call", "status": status,
                "call_id": call, "name": name, "arguments": text}),
        }
    }

    /// The part that a message's text is.
    pub(super) fn text_part(&self, text: &str, tokens: Vec<TokenLogprob>) -> Value {
        json!({"type": "output_text", "text": text, "annotations": self.annotations(text), "logprobs": logprobs(tokens)})
    }

    /// What a text rests on. Which of its words are from where, the model does not say: it is noted at the text's end.
    pub(super) fn annotations(&self, text: &str) -> Vec<Value> {
        let index = text.chars().count();
        let cited = self.cited.iter().filter(|_| index > 0);
        cited
            .map(|Cited { file, name }| json!({"type": "file_citation", "file_id": file, "filename": name, "index": index}))
            .collect()
    }
}

/// A search of files of which nothing is there yet.
pub(super) fn opened_search(item: &Value) -> Value {
    json!({"id": item["id"], "type": item["type"], "status": "in_progress", "queries": [], "results": null})
}

/// Probabilities in OpenAI's JSON.
pub(super) fn logprobs(tokens: Vec<TokenLogprob>) -> Value {
    let tokens = tokens
        .into_iter()
        .map(|token| serde_json::to_value(TokenLogprobBody::from(token)).unwrap_or_default());
    Value::Array(tokens.collect())
}

/// The text that a custom tool is called with: the arguments are an object with it, as far as the model kept to that.
pub(super) fn custom_input(arguments: &str) -> String {
    let parsed = serde_json::from_str::<Value>(arguments).ok();
    let input = parsed.and_then(|arguments| arguments.get("input")?.as_str().map(str::to_owned));
    input.unwrap_or_else(|| arguments.to_owned())
}
