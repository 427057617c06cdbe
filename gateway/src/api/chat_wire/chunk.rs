//! A reply in OpenAI's chunks, as it is made.

use habit_engine::{Delta, FinishReason, TokenLogprob, Usage};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::annotation::Annotation;
use super::calls::Calls;
use super::logprobs::ChatLogprobs;
use crate::api::file_search::Cited;
use crate::api::generation::reply::{Envelope, UsageBody};
use crate::api::sse::Render;

/// A piece of a reply: the data of one server-sent event.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ChatCompletionChunk {
    /// What it is.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// One; none in the chunk that holds the usage.
    pub choices: Vec<ChunkChoice>,
    /// Only with `stream_options.include_usage`: null until the last chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<UsageBody>)]
    pub usage: Option<Option<UsageBody>>,
}

/// A piece of the reply itself.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ChunkChoice {
    /// The place of the reply that it is a piece of.
    pub index: usize,
    /// What is added.
    pub delta: ChunkDelta,
    /// The probabilities of the tokens of this piece, where they were asked for.
    pub logprobs: Option<ChatLogprobs>,
    /// Why the reply ended; null until it has.
    pub finish_reason: Option<&'static str>,
}

/// What a chunk adds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct ChunkDelta {
    /// `assistant`, in the first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// Text; null beside the role of a reply that begins with a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub content: Option<Option<String>>,
    /// Text of the reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// Pieces of tool calls, each with its `index`; the first of a call has its `id` and `type`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub tool_calls: Vec<Value>,
    /// A piece of the call, where the request has `functions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub function_call: Option<Value>,
    /// The files that were read for the reply; all of them in the chunk before its last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Annotation>,
}

/// Makes chunks of deltas.
#[derive(Debug)]
pub struct ChatChunks {
    envelope: Envelope,
    usage_later: bool,
    calls: Calls,
    /// The files that were read.
    cited: Vec<Cited>,
    replies: Vec<InTheMaking>,
}

/// What must be known of a reply to make the next chunk of it.
#[derive(Debug, Clone, Default)]
struct InTheMaking {
    /// Its role is still to be said: whether with a text or with a call is not known yet.
    unnamed: bool,
    /// Probabilities of tokens whose text is still to come.
    logprobs: Vec<TokenLogprob>,
    /// Tool calls so far.
    calls: usize,
    /// Characters of its text so far.
    characters: usize,
}

impl ChatChunks {
    /// For so many replies at once. `usage_later` says that a usage chunk will follow.
    #[must_use]
    pub fn new(envelope: Envelope, replies: usize, usage_later: bool) -> Self {
        Self {
            envelope,
            usage_later,
            calls: Calls::None,
            cited: Vec::new(),
            replies: vec![InTheMaking::default(); replies],
        }
    }

    /// For replies for which these files were read.
    #[must_use]
    pub fn citing(self, cited: Vec<Cited>) -> Self {
        Self { cited, ..self }
    }

    /// For replies whose calls are so written.
    #[must_use]
    pub fn calling(self, calls: Calls) -> Self {
        Self { calls, ..self }
    }

    fn chunk(&self, choices: Vec<ChunkChoice>) -> ChatCompletionChunk {
        ChatCompletionChunk {
            envelope: self.envelope.clone(),
            choices,
            usage: self.usage_later.then_some(None),
        }
    }

    /// Who speaks.
    fn role(&self, index: usize) -> ChatCompletionChunk {
        let delta = ChunkDelta {
            role: Some("assistant"),
            content: Some(Some(String::new())),
            ..ChunkDelta::default()
        };
        self.chunk(vec![ChunkChoice {
            index,
            delta,
            logprobs: None,
            finish_reason: None,
        }])
    }

    /// A piece of a call. A reply that begins with one has its role beside it, as OpenAI's have.
    fn call(&mut self, index: usize, piece: Value) -> Option<ChunkDelta> {
        let reply = self.replies.get_mut(index)?;
        let mut piece = reply.numbered(piece);
        let mut delta = ChunkDelta::default();
        if self.calls == Calls::Function {
            // There is room for one call only.
            let first = piece["index"] == 0;
            delta.function_call = Some(piece.get_mut("function").filter(|_| first)?.take());
        } else {
            delta.tool_calls = vec![piece];
        }
        if std::mem::take(&mut reply.unnamed) {
            delta.role = Some("assistant");
            delta.content = Some(None);
        }
        Some(delta)
    }

    fn choice(&mut self, index: usize, delta: ChunkDelta, finish: Option<FinishReason>) -> ChatCompletionChunk {
        let tokens = self
            .replies
            .get_mut(index)
            .map(|reply| std::mem::take(&mut reply.logprobs))
            .unwrap_or_default();
        self.chunk(vec![ChunkChoice {
            index,
            delta,
            logprobs: (!tokens.is_empty()).then(|| ChatLogprobs::new(tokens)),
            finish_reason: finish.map(|reason| self.calls.reason(reason)),
        }])
    }
}

impl Render for ChatChunks {
    type Chunk = ChatCompletionChunk;

    fn begin(&mut self, index: usize) -> Option<ChatCompletionChunk> {
        if self.calls == Calls::None {
            return Some(self.role(index));
        }
        self.replies.get_mut(index)?.unnamed = true;
        None
    }

    fn before(&mut self, index: usize, next: &Delta) -> Option<ChatCompletionChunk> {
        let is_said = matches!(next, Delta::Text(_) | Delta::Reasoning(_) | Delta::Finish { .. });
        let reply = self.replies.get_mut(index)?;
        (is_said && std::mem::take(&mut reply.unnamed)).then(|| self.role(index))
    }

    fn piece(&mut self, index: usize, delta: Delta) -> Option<ChatCompletionChunk> {
        let delta = match delta {
            Delta::Text(text) => {
                self.replies.get_mut(index)?.characters += text.chars().count();
                ChunkDelta {
                    content: Some(Some(text)),
                    ..ChunkDelta::default()
                }
            }
            Delta::Reasoning(text) => ChunkDelta {
                reasoning_content: Some(text),
                ..ChunkDelta::default()
            },
            Delta::ToolCall(call) => self.call(index, call)?,
            Delta::Logprobs(tokens) => {
                self.replies.get_mut(index)?.logprobs.extend(tokens);
                return None;
            }
            // What an upstream wrote is passed on, not rendered.
            Delta::Written(_) | Delta::StopString(_) | Delta::Finish { .. } => return None,
        };
        Some(self.choice(index, delta, None))
    }

    fn end(&mut self, index: usize) -> Option<ChatCompletionChunk> {
        let annotations = Annotation::all(&self.cited, self.replies.get(index)?.characters);
        let delta = ChunkDelta {
            annotations,
            ..ChunkDelta::default()
        };
        (!delta.annotations.is_empty()).then(|| self.choice(index, delta, None))
    }

    fn finish(&mut self, index: usize, reason: FinishReason) -> ChatCompletionChunk {
        self.choice(index, ChunkDelta::default(), Some(reason))
    }

    fn usage(&mut self, usage: Usage) -> ChatCompletionChunk {
        ChatCompletionChunk {
            usage: Some(Some(usage.into())),
            ..self.chunk(Vec::new())
        }
    }
}

impl InTheMaking {
    /// A piece of a tool call with what clients take for granted: its number, and at the begin of a call its type. An
    /// upstream that numbers nothing sends whole calls: one with an id is then a new one.
    fn numbered(&mut self, mut call: Value) -> Value {
        let Some(fields) = call.as_object_mut() else {
            return call;
        };
        let begins = fields
            .get("id")
            .and_then(Value::as_str)
            .is_some_and(|id| !id.is_empty());
        let next = self.calls + usize::from(begins);
        fields.entry("index").or_insert_with(|| json!(next.saturating_sub(1)));
        if begins {
            self.calls = next;
            fields.entry("type").or_insert_with(|| json!("function"));
        }
        call
    }
}
