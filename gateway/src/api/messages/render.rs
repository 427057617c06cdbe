//! A reply in Anthropic's JSON: as named events while it is made, and whole.

use habit_engine::{Delta, FinishReason, Usage};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::api::blocks::{Block, Blocks, End, Kind, Step};

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct MessageBody {
    /// `msg_…`, made from the turn's id.
    #[schema(example = "msg_0199f3c2a7e07b4c9d1e2f3a4b5c6d7e")]
    pub id: String,
    /// `message`.
    pub r#type: &'static str,
    /// `assistant`.
    pub role: &'static str,
    /// The model that answers.
    pub model: String,
    /// What it made: `thinking`, `text` and `tool_use` blocks.
    #[schema(value_type = Vec<Object>)]
    pub content: Vec<Value>,
    /// `end_turn`, `max_tokens`, `stop_sequence`, `tool_use` or `refusal`; null until it has ended.
    #[schema(example = "end_turn")]
    pub stop_reason: Option<&'static str>,
    /// The stop sequence that ended it, or null.
    pub stop_sequence: Option<String>,
    /// Tokens.
    pub usage: MessageUsage,
}

/// Tokens that a reply took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct MessageUsage {
    /// Of the prompt; where the request marks parts to keep (`cache_control`), those that had to be read.
    pub input_tokens: usize,
    /// 0: nobody is charged for keeping them.
    pub cache_creation_input_tokens: usize,
    /// Of the prompt, those that did not have to be read again; 0 where the request marks nothing.
    pub cache_read_input_tokens: usize,
    /// Of the reply.
    pub output_tokens: usize,
}

impl MessageUsage {
    /// Clients that mark nothing take `input_tokens` for the whole prompt, as `count_tokens` gives it.
    fn new(usage: Usage, marks_cache: bool) -> Self {
        let cached = if marks_cache { usage.cached_tokens } else { 0 };
        Self {
            input_tokens: usage.prompt_tokens.saturating_sub(cached),
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: cached,
            output_tokens: usage.completion_tokens,
        }
    }
}

/// An event: its name, and its data, which has the name as `type`.
pub type Named = (&'static str, Value);

/// Makes events and the whole reply of deltas.
#[derive(Debug)]
pub struct Render {
    message: MessageBody,
    blocks: Blocks,
    /// What the open block is.
    kind: Kind,
    /// Whether the request marks parts of the prompt to keep.
    marks_cache: bool,
    ended: bool,
}

impl Render {
    /// For a message with this id. `prompt_tokens` is what is known before the model begins.
    #[must_use]
    pub fn new(id: String, model: String, prompt_tokens: usize, marks_cache: bool) -> Self {
        Self {
            message: MessageBody {
                id,
                r#type: "message",
                role: "assistant",
                model,
                content: Vec::new(),
                stop_reason: None,
                stop_sequence: None,
                usage: MessageUsage {
                    input_tokens: prompt_tokens,
                    ..MessageUsage::default()
                },
            },
            blocks: Blocks::default(),
            kind: Kind::Text,
            marks_cache,
            ended: false,
        }
    }

    /// Whether the reply is complete.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The reply.
    #[must_use]
    pub fn into_message(self) -> MessageBody {
        self.message
    }

    /// The first event.
    #[must_use]
    pub fn begin(&self) -> Named {
        event("message_start", json!({"message": self.message}))
    }

    /// What a delta adds.
    pub fn push(&mut self, delta: Delta) -> Vec<Named> {
        let steps = self.blocks.push(delta);
        steps.into_iter().flat_map(|step| self.step(step)).collect()
    }

    fn step(&mut self, step: Step) -> Vec<Named> {
        match step {
            Step::Open(at, kind) => {
                self.kind = kind.clone();
                let block = match kind {
                    Kind::Text => json!({"type": "text", "text": ""}),
                    Kind::Reasoning => json!({"type": "thinking", "thinking": "", "signature": ""}),
                    Kind::Call { id, name } => json!({"type": "tool_use", "id": id, "name": name, "input": {}}),
                };
                let begun = event("content_block_start", json!({"index": at, "content_block": block}));
                if at == 0 {
                    vec![begun, event("ping", json!({}))]
                } else {
                    vec![begun]
                }
            }
            Step::Add(at, text, _) => {
                let delta = match self.kind {
                    Kind::Text => json!({"type": "text_delta", "text": text}),
                    Kind::Reasoning => json!({"type": "thinking_delta", "thinking": text}),
                    Kind::Call { .. } => json!({"type": "input_json_delta", "partial_json": text}),
                };
                vec![event("content_block_delta", json!({"index": at, "delta": delta}))]
            }
            Step::Close(at, block) => {
                self.message.content.push(whole(block));
                vec![event("content_block_stop", json!({"index": at}))]
            }
            Step::End(end) => self.end(end),
        }
    }

    fn end(&mut self, end: End) -> Vec<Named> {
        self.ended = true;
        let calls = self.message.content.iter().any(|block| block["type"] == "tool_use");
        let reason = match end.reason {
            FinishReason::Length => "max_tokens",
            FinishReason::ContentFilter => "refusal",
            FinishReason::Stop if end.stop.is_some() => "stop_sequence",
            FinishReason::ToolCalls => "tool_use",
            FinishReason::Stop if calls => "tool_use",
            FinishReason::Stop => "end_turn",
        };
        self.message.stop_reason = Some(reason);
        self.message.stop_sequence = end.stop.filter(|_| reason == "stop_sequence");
        self.message.usage = MessageUsage::new(end.usage, self.marks_cache);
        let delta = json!({"stop_reason": reason, "stop_sequence": self.message.stop_sequence});
        vec![
            event("message_delta", json!({"delta": delta, "usage": self.message.usage})),
            event("message_stop", json!({})),
        ]
    }
}

fn event(name: &'static str, fields: Value) -> Named {
    let mut data = json!({"type": name});
    if let (Some(data), Value::Object(fields)) = (data.as_object_mut(), fields) {
        data.extend(fields);
    }
    (name, data)
}

fn whole(block: Block) -> Value {
    let text = block.text;
    match block.kind {
        Kind::Text => json!({"type": "text", "text": text}),
        Kind::Reasoning => json!({"type": "thinking", "thinking": text, "signature": ""}),
        Kind::Call { id, name } => {
            let input = match serde_json::from_str::<Value>(&text) {
                Ok(input @ Value::Object(_)) => input,
                // Half of an object is none: `stop_reason` says that it was cut.
                _ if text.trim().is_empty() || text.trim_start().starts_with('{') => json!({}),
                // Made by an upstream that enforces nothing: shown as it is.
                _ => json!({"arguments": text}),
            };
            json!({"type": "tool_use", "id": id, "name": name, "input": input})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_marks_parts_is_told_of_those_that_were_kept() {
        let took = Usage {
            prompt_tokens: 10,
            completion_tokens: 2,
            cached_tokens: 8,
            reasoning_tokens: 0,
        };
        let of = |marks| {
            let usage = MessageUsage::new(took, marks);
            (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens)
        };
        assert_eq!(of(false), (10, 0, 2));
        assert_eq!(of(true), (2, 8, 2));
    }
}
