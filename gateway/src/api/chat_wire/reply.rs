//! A reply in OpenAI's JSON: whole, and in chunks.

use habit_engine::{FinishReason, Usage};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::turn::reply::Collected;

/// What a whole reply and each of its chunks say of themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Envelope {
    /// `chatcmpl-…`, the same for all chunks; made from the turn's id.
    #[schema(example = "chatcmpl-0199f3c2a7e07b4c9d1e2f3a4b5c6d7e")]
    pub id: String,
    /// `chat.completion` or `chat.completion.chunk`.
    pub object: &'static str,
    /// Unix seconds.
    pub created: i64,
    /// The model that answers.
    pub model: String,
}

impl Envelope {
    /// Of a whole reply; `asked_at` is in Unix milliseconds.
    #[must_use]
    pub fn new(turn: Uuid, asked_at: i64, model: String) -> Self {
        let id = format!("chatcmpl-{}", turn.simple());
        Self {
            id,
            object: "chat.completion",
            created: asked_at.div_euclid(1000),
            model,
        }
    }

    /// The same of a chunk.
    #[must_use]
    pub fn chunk(self) -> Self {
        Self {
            object: "chat.completion.chunk",
            ..self
        }
    }
}

/// A whole reply.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ChatCompletion {
    /// What it is.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// One.
    pub choices: Vec<Choice>,
    /// Tokens.
    pub usage: UsageBody,
}

/// The reply itself.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Choice {
    /// 0.
    pub index: u32,
    /// What the model says.
    pub message: AssistantMessage,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub logprobs: Option<Value>,
    /// `stop`, `length`, `tool_calls` or `content_filter`.
    #[schema(example = "stop")]
    pub finish_reason: &'static str,
}

/// What the model says.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AssistantMessage {
    /// `assistant`.
    pub role: &'static str,
    /// The text; null if there are only tool calls.
    pub content: Option<String>,
    /// Always null.
    pub refusal: Option<String>,
    /// The model's reasoning, where it is told apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// Tool calls, if there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub tool_calls: Vec<Value>,
}

/// Tokens that the turn took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct UsageBody {
    /// Of the prompt, memory and template included.
    pub prompt_tokens: usize,
    /// Of the reply.
    pub completion_tokens: usize,
    /// Both.
    pub total_tokens: usize,
    /// What is known of the prompt's tokens.
    pub prompt_tokens_details: PromptTokensDetails,
    /// What is known of the reply's tokens.
    pub completion_tokens_details: CompletionTokensDetails,
}

/// What is known of a prompt's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct PromptTokensDetails {
    /// Those that did not have to be read again.
    pub cached_tokens: usize,
}

/// What is known of a reply's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct CompletionTokensDetails {
    /// Those of the reasoning.
    pub reasoning_tokens: usize,
}

impl From<Usage> for UsageBody {
    fn from(usage: Usage) -> Self {
        let Usage {
            prompt_tokens,
            completion_tokens,
            cached_tokens,
            reasoning_tokens,
        } = usage;
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            prompt_tokens_details: PromptTokensDetails { cached_tokens },
            completion_tokens_details: CompletionTokensDetails { reasoning_tokens },
        }
    }
}

impl ChatCompletion {
    /// A finished reply.
    #[must_use]
    pub fn new(envelope: Envelope, reply: Collected, reason: FinishReason, usage: Usage) -> Self {
        let content = (!reply.text.is_empty() || reply.tool_calls.is_empty()).then_some(reply.text);
        let message = AssistantMessage {
            role: "assistant",
            content,
            refusal: None,
            reasoning_content: (!reply.reasoning.is_empty()).then_some(reply.reasoning),
            tool_calls: reply.tool_calls,
        };
        let choice = Choice {
            index: 0,
            message,
            logprobs: None,
            finish_reason: reason.as_str(),
        };
        Self {
            envelope,
            choices: vec![choice],
            usage: usage.into(),
        }
    }
}

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
    /// 0.
    pub index: u32,
    /// What is added.
    pub delta: ChunkDelta,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub logprobs: Option<Value>,
    /// Why the reply ended; null until it has.
    pub finish_reason: Option<&'static str>,
}

/// What a chunk adds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct ChunkDelta {
    /// `assistant`, in the first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// Text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Text of the reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// Pieces of tool calls, each with its `index`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub tool_calls: Vec<Value>,
}

impl ChunkDelta {
    /// The first: who speaks.
    #[must_use]
    pub fn role() -> Self {
        Self {
            role: Some("assistant"),
            content: Some(String::new()),
            ..Self::default()
        }
    }

    /// Text.
    #[must_use]
    pub fn text(text: String) -> Self {
        Self {
            content: Some(text),
            ..Self::default()
        }
    }

    /// Reasoning.
    #[must_use]
    pub fn reasoning(text: String) -> Self {
        Self {
            reasoning_content: Some(text),
            ..Self::default()
        }
    }

    /// A piece of a tool call. Clients take `index` for granted; an upstream that leaves it out means its first call.
    #[must_use]
    pub fn tool_call(mut call: Value) -> Self {
        if let Some(fields) = call.as_object_mut() {
            fields.entry("index").or_insert(json!(0));
        }
        Self {
            tool_calls: vec![call],
            ..Self::default()
        }
    }
}

impl ChatCompletionChunk {
    /// A chunk with a choice. `usage_later` says that a usage chunk will follow.
    #[must_use]
    pub fn delta(envelope: &Envelope, delta: ChunkDelta, finish: Option<FinishReason>, usage_later: bool) -> Self {
        let finish_reason = finish.map(FinishReason::as_str);
        let choice = ChunkChoice {
            index: 0,
            delta,
            logprobs: None,
            finish_reason,
        };
        Self {
            envelope: envelope.clone(),
            choices: vec![choice],
            usage: usage_later.then_some(None),
        }
    }

    /// The last chunk, with the usage.
    #[must_use]
    pub fn usage(envelope: &Envelope, usage: Usage) -> Self {
        Self {
            envelope: envelope.clone(),
            choices: Vec::new(),
            usage: Some(Some(usage.into())),
        }
    }
}
