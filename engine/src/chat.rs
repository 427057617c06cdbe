//! The one vocabulary of a chat turn: what is asked ([`ChatRequest`]) and what comes back ([`Delta`]).
//! Every engine, layer and endpoint speaks it. Wire formats (OpenAI's JSON and others) live in the gateway.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Who speaks in a [`Message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions (OpenAI's `developer` is read as this).
    System,
    /// The person, or the program, that asks.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

impl Role {
    /// The name as chat templates and OpenAI's JSON spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// What a message holds: plain text, or OpenAI's list of parts kept as it came, so that an upstream that
/// understands images or audio gets them unchanged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// OpenAI content parts, each an object with a `type`.
    Parts(Vec<Value>),
}

impl Content {
    /// The text of the content: the text parts joined by a newline; other parts have no text.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Parts(parts) => {
                let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
                texts.join("\n")
            }
        }
    }

    /// The type of the first part that is not text, such as `image_url`.
    #[must_use]
    pub fn first_non_text(&self) -> Option<&str> {
        let Self::Parts(parts) = self else { return None };
        parts
            .iter()
            .filter_map(|part| part.get("type")?.as_str())
            .find(|kind| !matches!(*kind, "text" | "input_text"))
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: Content,
    /// The speaker's name, where the client gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tool calls of an assistant message, in OpenAI's shape.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Value>,
    /// The call that a tool message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A plain text message.
    #[must_use]
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            content: Content::Text(text.into()),
            name: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }

    /// The message's text (see [`Content::text`]).
    #[must_use]
    pub fn text(&self) -> String {
        self.content.text()
    }
}

/// How the next token is chosen. `None` means the engine's default. Ranges are checked where the request enters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampling {
    /// 0 is greedy; at most 2. The default is 1.
    pub temperature: Option<f64>,
    /// Nucleus: the smallest set of tokens with this probability in all, in (0, 1].
    pub top_p: Option<f64>,
    /// Only the k most likely tokens.
    pub top_k: Option<usize>,
    /// Only tokens with at least this share of the likeliest token's probability, in [0, 1].
    pub min_p: Option<f64>,
    /// OpenAI's frequency penalty, -2 to 2.
    pub frequency_penalty: Option<f32>,
    /// OpenAI's presence penalty, -2 to 2.
    pub presence_penalty: Option<f32>,
    /// The divisor of repeated tokens' logits that llama.cpp and the webui use; 1 is off.
    pub repetition_penalty: Option<f32>,
    /// Same seed and request, same text.
    pub seed: Option<u64>,
}

/// How long a request may be kept waiting by others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Someone waits for the reply.
    #[default]
    Interactive,
    /// Nobody does: it runs when no interactive request waits.
    Background,
}

/// What is asked of an engine: one conversation, one reply.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChatRequest {
    /// The model's name as the engine knows it.
    pub model: String,
    /// The conversation, oldest first. Empty only with `raw`.
    pub messages: Vec<Message>,
    /// A prompt that is no conversation: read as it is, without the chat template. `messages` is empty then.
    pub raw: Option<RawPrompt>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The reply ends before any of these strings; none of them is ever part of the reply.
    pub stop: Vec<String>,
    /// The most tokens that the reply may have; `None` is whatever the context window leaves.
    pub max_tokens: Option<usize>,
    /// On whose behalf: where requests wait, each of these has its turn. Empty is one of them too. Never sent on.
    pub tenant: String,
    /// Whether someone waits for the reply. Never sent on.
    pub priority: Priority,
    /// Whether memory is in the messages: such a request goes only to engines that may see it.
    pub holds_memory: bool,
    /// Fields that this vocabulary does not name (`tools`, `response_format`, …), in OpenAI's shape: passed on to
    /// upstreams as they came. An engine that can't honour one that changes the answer must refuse it.
    pub extra: Map<String, Value>,
    /// The same request as the client wrote it, for an upstream that speaks the client's language: it may be sent on
    /// in the place of all of the above. Whatever changes the request on its way must take this out.
    pub verbatim: Option<Verbatim>,
}

/// The body of an OpenAI chat completion request as its client wrote it, and what was read of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verbatim {
    /// One JSON object.
    pub body: Bytes,
    /// The model's name in it; `None` without one.
    pub model: Option<String>,
    /// Whether it asks for a stream.
    pub stream: bool,
    /// Whether it asks for the usage at the stream's end; `None` if it says nothing of the stream's options.
    pub include_usage: Option<bool>,
    /// Names of fields that are not for others to read.
    pub private: &'static [&'static str],
}

/// A prompt that is not a conversation (OpenAI's legacy completions).
#[derive(Debug, Clone, PartialEq)]
pub enum RawPrompt {
    /// Text; with `suffix`, the reply goes between the two (fill in the middle), for models that can.
    Text {
        /// What comes before the reply.
        prompt: String,
        /// What comes after it.
        suffix: Option<String>,
    },
    /// The model's own tokens.
    Tokens(Vec<u32>),
}

/// A token of the reply with its probability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// The token's text; of bytes that are no whole character, the replacement character.
    pub token: String,
    /// The token's bytes.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability, before temperature and all that follows it. At most 0; not a number
    /// (in JSON: null) for the first token of a prompt, which nothing stands before.
    pub logprob: f64,
    /// The likeliest tokens at this place, likeliest first; as many as were asked for.
    pub top: Vec<TopLogprob>,
}

/// A token that could have stood there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopLogprob {
    /// As in [`TokenLogprob`].
    pub token: String,
    /// As in [`TokenLogprob`].
    pub bytes: Vec<u8>,
    /// As in [`TokenLogprob`].
    pub logprob: f64,
}

/// Why a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its turn, or a stop string was reached.
    Stop,
    /// `max_tokens` or the context window was reached.
    Length,
    /// The model calls tools.
    ToolCalls,
    /// An upstream's filter cut the reply.
    ContentFilter,
}

impl FinishReason {
    /// The name in OpenAI's JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
        }
    }
}

/// Tokens that a turn took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, template included.
    pub prompt_tokens: usize,
    /// Tokens of the reply, reasoning included.
    pub completion_tokens: usize,
    /// Of the prompt's tokens, those that did not have to be read again.
    #[serde(default)]
    pub cached_tokens: usize,
    /// Of the reply's tokens, those of the reasoning.
    #[serde(default)]
    pub reasoning_tokens: usize,
}

/// A piece of a reply, in the order in which it was made.
#[derive(Debug, Clone, PartialEq)]
pub enum Delta {
    /// Text to append; whole characters, never empty.
    Text(String),
    /// Text of the model's reasoning, where it is told apart from the answer.
    Reasoning(String),
    /// The probabilities of the tokens of the next [`Delta::Text`] (or, at the end, of tokens that gave no text). Only
    /// where the request asked for them. With `echo`, those of the raw prompt's tokens come before all else, as one
    /// delta without a text.
    Logprobs(Vec<TokenLogprob>),
    /// A piece of a tool call, in the shape of OpenAI's `delta.tool_calls[i]`.
    ToolCall(Value),
    /// The stop string that ended the reply, where it is known; right before the end.
    StopString(String),
    /// A piece of the reply to a [`Verbatim`] request, as the upstream wrote it, to be passed on as it is: whole
    /// server-sent events without the closing `[DONE]`, or, where no stream was asked for, the whole JSON. It stands for
    /// all other deltas but the finish. An empty one only says that such pieces will come.
    Written(Bytes),
    /// The end: always the last item of a stream that did not fail, and there only once.
    Finish {
        /// Why it ended.
        reason: FinishReason,
        /// What it took.
        usage: Usage,
    },
}

impl Delta {
    /// Whether it only says that the reply will come as it was written ([`Delta::Written`], empty): nothing of it has yet.
    #[must_use]
    pub fn is_mark(&self) -> bool {
        matches!(self, Self::Written(piece) if piece.is_empty())
    }
}
