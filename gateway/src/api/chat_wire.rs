//! OpenAI's JSON of a chat completion: the request as clients really send it ([`ChatCompletionRequest`]) and the
//! reply, whole or in chunks. Translates to and from [`habit_engine::chat`]; asks nothing of anyone.

use habit_engine::{ChatRequest, Content, Message, Role, Sampling};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::error::ApiError;

mod reply;

pub use reply::{
    AssistantMessage, ChatCompletion, ChatCompletionChunk, Choice, ChunkChoice, ChunkDelta, Envelope, UsageBody,
};

/// The body of `POST /v1/chat/completions`. A null is the same as an absent field, and fields that are not listed
/// here (`tools`, `response_format`, …) are passed on to engines that know them.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub struct ChatCompletionRequest {
    /// The model; absent, empty or `default` is the server's default.
    pub model: Option<String>,
    /// The conversation, oldest first.
    #[schema(required, min_items = 1)]
    pub messages: Option<Vec<WireMessage>>,
    /// Send the reply as server-sent events while it is made.
    pub stream: Option<bool>,
    /// Settings of the stream.
    pub stream_options: Option<StreamOptions>,
    /// Randomness, 0 (greedy) to 2.
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f64>,
    /// Nucleus sampling, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub top_p: Option<f64>,
    /// Only the k likeliest tokens; 0 or -1 is off.
    #[schema(minimum = -1)]
    pub top_k: Option<i64>,
    /// Only tokens with at least this share of the likeliest token's probability, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub min_p: Option<f64>,
    /// -2 to 2.
    #[schema(minimum = -2, maximum = 2)]
    pub frequency_penalty: Option<f64>,
    /// -2 to 2.
    #[schema(minimum = -2, maximum = 2)]
    pub presence_penalty: Option<f64>,
    /// Divisor of repeated tokens' logits, above 0, at most 2; 1 is off.
    #[schema(maximum = 2)]
    pub repetition_penalty: Option<f64>,
    /// Same seed and request, same text; -1 is random.
    pub seed: Option<i64>,
    /// The reply ends before any of these strings.
    pub stop: Option<Stop>,
    /// The older name of `max_completion_tokens`.
    #[schema(minimum = 1)]
    pub max_tokens: Option<i64>,
    /// The most tokens that the reply may have.
    #[schema(minimum = 1)]
    pub max_completion_tokens: Option<i64>,
    /// Replies to make: 1.
    #[schema(minimum = 1, maximum = 1)]
    pub n: Option<i64>,
    /// Token probabilities: not available.
    pub logprobs: Option<bool>,
    /// False leaves no trace of this turn on the server.
    pub store: Option<bool>,
    /// `conversation_id` names the conversation, as the header `X-Habit-Conversation` does.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
    /// Everything else.
    #[serde(flatten)]
    #[schema(ignore)]
    pub extra: Map<String, Value>,
}

/// One message of the conversation.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct WireMessage {
    /// Who speaks.
    pub role: WireRole,
    /// What is said: a string, a list of parts, or null.
    pub content: Option<WireContent>,
    /// The speaker's name.
    pub name: Option<String>,
    /// Tool calls of an assistant message.
    #[schema(value_type = Option<Vec<Object>>)]
    pub tool_calls: Option<Vec<Value>>,
    /// The call that a tool message answers.
    pub tool_call_id: Option<String>,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WireRole {
    /// Instructions.
    System,
    /// The newer name of `system`.
    Developer,
    /// Who asks.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
    /// The older name of `tool`.
    Function,
}

/// What a message holds.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string, a list of content parts, or null")]
pub enum WireContent {
    /// Plain text.
    Text(String),
    /// OpenAI's content parts, each an object with a `type`.
    #[schema(value_type = Vec<Object>)]
    Parts(Vec<Value>),
}

/// One stop string or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub enum Stop {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// Settings of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
pub struct StreamOptions {
    /// Send a last chunk that holds the usage.
    pub include_usage: Option<bool>,
}

/// What the endpoint takes from a body: the engine's request, and what is the gateway's own business.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// For the engine.
    pub request: ChatRequest,
    /// Reply as server-sent events.
    pub stream: bool,
    /// End the stream with the usage.
    pub include_usage: bool,
    /// False leaves no trace.
    pub store: bool,
    /// The conversation that `metadata` names.
    pub conversation: Option<String>,
}

impl ChatCompletionRequest {
    /// Checks the body and translates it.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn parse(self) -> Result<Parsed, ApiError> {
        let sampling = self.sampling()?;
        let max_tokens = self.max_tokens()?;
        self.refuse_unavailable()?;
        let messages = messages(self.messages)?;
        let conversation = self
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.get("conversation_id"));
        let conversation = match conversation {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) if id.is_empty() => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => {
                let param = "metadata.conversation_id";
                return Err(ApiError::invalid(format!("`{param}` must be a string"), Some(param)));
            }
        };
        let stop = match self.stop {
            None => Vec::new(),
            Some(Stop::One(stop)) => vec![stop],
            Some(Stop::Many(stops)) => stops,
        };
        let mut extra = self.extra;
        extra.retain(|_, value| !value.is_null());
        let request = ChatRequest {
            model: self.model.unwrap_or_default(),
            messages,
            raw: None,
            sampling,
            // An empty stop string would end every reply at once; clients send them from empty form fields.
            stop: stop.into_iter().filter(|stop| !stop.is_empty()).collect(),
            max_tokens,
            extra,
        };
        Ok(Parsed {
            request,
            stream: self.stream.unwrap_or(false),
            include_usage: self
                .stream_options
                .and_then(|options| options.include_usage)
                .unwrap_or(false),
            store: self.store.unwrap_or(true),
            conversation,
        })
    }

    fn sampling(&self) -> Result<Sampling, ApiError> {
        let temperature = within("temperature", self.temperature, 0.0, 2.0)?;
        let mut top_p = within("top_p", self.top_p, 0.0, 1.0)?;
        let min_p = within("min_p", self.min_p, 0.0, 1.0)?;
        let frequency_penalty = within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        let presence_penalty = within("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        let repetition_penalty = within("repetition_penalty", self.repetition_penalty, 0.0, 2.0)?;
        if repetition_penalty == Some(0.0) {
            return Err(ApiError::invalid(
                "`repetition_penalty` must be above 0",
                Some("repetition_penalty"),
            ));
        }
        let mut top_k = match self.top_k {
            None | Some(-1 | 0) => None,
            Some(k) => Some(
                usize::try_from(k)
                    .map_err(|_| ApiError::invalid(format!("`top_k` must be -1 or more, not {k}"), Some("top_k")))?,
            ),
        };
        // OpenAI allows 0, and an empty nucleus still holds the likeliest token.
        if top_p == Some(0.0) {
            (top_p, top_k) = (None, Some(1));
        }
        // -1 is what the webui and llama.cpp send for "random"; any other number is a seed, bit for bit.
        let seed = self.seed.filter(|seed| *seed != -1).map(i64::cast_unsigned);
        Ok(Sampling {
            temperature,
            top_p,
            top_k,
            min_p,
            frequency_penalty: frequency_penalty.map(narrow),
            presence_penalty: presence_penalty.map(narrow),
            repetition_penalty: repetition_penalty.map(narrow),
            seed,
        })
    }

    fn max_tokens(&self) -> Result<Option<usize>, ApiError> {
        let (param, asked) = match self.max_completion_tokens {
            Some(tokens) => ("max_completion_tokens", Some(tokens)),
            None => ("max_tokens", self.max_tokens),
        };
        let Some(tokens) = asked else { return Ok(None) };
        let usable = usize::try_from(tokens).ok().filter(|tokens| *tokens > 0);
        let message = format!("`{param}` must be 1 or more, not {tokens}; leave it out for as much as fits");
        usable.map(Some).ok_or_else(|| ApiError::invalid(message, Some(param)))
    }

    /// What would change the reply's shape in a way that is not there: better refused than silently left out.
    fn refuse_unavailable(&self) -> Result<(), ApiError> {
        if self.n.is_some_and(|n| n != 1) {
            return Err(ApiError::invalid(
                "`n` must be 1; send the request several times instead",
                Some("n"),
            ));
        }
        if self.logprobs == Some(true) {
            return Err(ApiError::invalid(
                "`logprobs` are not available; leave the field out",
                Some("logprobs"),
            ));
        }
        Ok(())
    }
}

/// A number in its range, ends included.
fn within(param: &str, value: Option<f64>, low: f64, high: f64) -> Result<Option<f64>, ApiError> {
    match value {
        Some(number) if !(low..=high).contains(&number) => Err(ApiError::invalid(
            format!("`{param}` must be between {low} and {high}, not {number}"),
            Some(param),
        )),
        value => Ok(value),
    }
}

/// Penalties have few digits: nothing is lost that matters.
fn narrow(number: f64) -> f32 {
    number as f32
}

fn messages(messages: Option<Vec<WireMessage>>) -> Result<Vec<Message>, ApiError> {
    let messages = messages.unwrap_or_default();
    if messages.is_empty() {
        return Err(ApiError::invalid(
            "`messages` is missing or empty; send at least one message",
            Some("messages"),
        ));
    }
    messages
        .into_iter()
        .enumerate()
        .map(|(at, message)| message.translate(at))
        .collect()
}

impl WireMessage {
    /// The engine's message; `at` is its place, for errors.
    fn translate(self, at: usize) -> Result<Message, ApiError> {
        let role = match self.role {
            WireRole::System | WireRole::Developer => Role::System,
            WireRole::User => Role::User,
            WireRole::Assistant => Role::Assistant,
            WireRole::Tool | WireRole::Function => Role::Tool,
        };
        let content = match self.content {
            None => Content::Text(String::new()),
            Some(WireContent::Text(text)) => Content::Text(text),
            Some(WireContent::Parts(parts)) => Content::Parts(check_parts(parts, at)?),
        };
        let tool_calls = self.tool_calls.unwrap_or_default();
        Ok(Message {
            role,
            content,
            name: self.name,
            tool_calls,
            tool_call_id: self.tool_call_id,
        })
    }
}

/// Parts are kept as they came, but each must be an object with a type: a string among them is taken as text.
fn check_parts(parts: Vec<Value>, message: usize) -> Result<Vec<Value>, ApiError> {
    let check = |(at, part): (usize, Value)| match part {
        Value::String(text) => Ok(serde_json::json!({"type": "text", "text": text})),
        Value::Object(ref fields) if fields.get("type").is_some_and(Value::is_string) => Ok(part),
        _ => {
            let param = format!("messages[{message}].content[{at}]");
            Err(ApiError::invalid(
                format!("`{param}` must be an object with a `type`, such as text"),
                Some(&param),
            ))
        }
    };
    parts.into_iter().enumerate().map(check).collect()
}

#[cfg(test)]
mod tests;
