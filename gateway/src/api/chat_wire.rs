//! OpenAI's JSON of a chat completion: the request as clients really send it ([`ChatCompletionRequest`]) and the
//! reply, whole or in chunks. Translates to and from [`habit_engine::chat`]; asks nothing of anyone.

use bytes::Bytes;
use habit_engine::{ChatRequest, Verbatim};
use habit_learning::feedback::Given;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::error::ApiError;
use super::generation::{MOST_CHOICES, SamplingFields, Stop, StreamOptions, check_bias, count, token_limit};

mod annotation;
mod calls;
mod chunk;
mod history;
mod logprobs;
mod reply;
mod shapes;

pub use annotation::{Annotation, CitedFile};
pub use calls::Calls;
pub use chunk::{ChatChunks, ChatCompletionChunk, ChunkChoice, ChunkDelta};
pub use logprobs::{ChatLogprobs, TokenLogprobBody, TopLogprobBody};
pub use reply::{AssistantMessage, ChatCompletion, Choice};

/// The most alternatives to a token, as OpenAI has it.
const MOST_TOP_LOGPROBS: i64 = 20;

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
    /// Replies to make.
    #[schema(minimum = 1, maximum = 128)]
    pub n: Option<i64>,
    /// Give the tokens' probabilities.
    pub logprobs: Option<bool>,
    /// Give so many alternatives to each token, with `logprobs`.
    #[schema(minimum = 0, maximum = 20)]
    pub top_logprobs: Option<i64>,
    /// Token ids to what is added to their logits, -100 to 100.
    #[schema(value_type = Option<Object>)]
    pub logit_bias: Option<Map<String, Value>>,
    /// Functions that the model may call, in OpenAI's shape; and `file_search`, with the `vector_store_ids` of the stores to
    /// search, as in the Responses API.
    #[schema(value_type = Option<Vec<Object>>)]
    pub tools: Option<Vec<Value>>,
    /// `none`, `auto`, `required`, or the function that must be called.
    #[schema(value_type = Option<Object>)]
    pub tool_choice: Option<Value>,
    /// The older name of `tools`: the functions themselves. A call is then the reply's `function_call`.
    #[schema(value_type = Option<Vec<Object>>)]
    pub functions: Option<Vec<Value>>,
    /// With `functions`: `none`, `auto`, or an object with the `name` of the function that must be called.
    #[schema(value_type = Option<Object>)]
    pub function_call: Option<Value>,
    /// Whether the model may call several at once.
    pub parallel_tool_calls: Option<bool>,
    /// The form of the reply: `text`, `json_object` or `json_schema`.
    #[schema(value_type = Option<Object>)]
    pub response_format: Option<Map<String, Value>>,
    /// How much to think before the answer, for models that do.
    pub reasoning_effort: Option<String>,
    /// What the reply may be made of: `text`.
    pub modalities: Option<Vec<String>>,
    /// The end user; not used here, and passed on.
    pub user: Option<String>,
    /// Not used here, and passed on.
    pub prompt_cache_key: Option<String>,
    /// There is only one.
    pub service_tier: Option<String>,
    /// False leaves no trace of this turn on the server.
    pub store: Option<bool>,
    /// `conversation_id` names the conversation, as the header `X-Habit-Conversation` does. `habit_feedback` says how the
    /// reply before was, as `POST /v1/feedback` does: `good`, `bad`, or a score of 0 to 1.
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
    /// The older name of `tool_calls`: one call.
    #[schema(value_type = Option<Object>)]
    pub function_call: Option<Value>,
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
    /// What `metadata` says of the reply before this one.
    pub feedback: Option<Given>,
    /// Replies to make.
    pub n: usize,
    /// Whether a service tier was named.
    pub tier: bool,
    /// How the reply's calls are written.
    pub calls: Calls,
}

impl ChatCompletionRequest {
    /// Checks the body and translates it.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn parse(mut self) -> Result<Parsed, ApiError> {
        let sampling = self.sampling().check()?;
        let max_tokens = match self.max_completion_tokens {
            Some(tokens) => token_limit("max_completion_tokens", Some(tokens), 1)?,
            None => token_limit("max_tokens", self.max_tokens, 1)?,
        };
        let n = count("n", self.n, 1..=MOST_CHOICES, 1)?;
        self.check_metadata()?;
        let conversation = self.conversation();
        let feedback = super::feedback::in_metadata(self.metadata.as_ref())?;
        let stream = self.stream.unwrap_or(false);
        let include_usage = StreamOptions::usage(self.stream_options, stream)?;
        let calls = self.calls()?;
        let extra = self.extra()?;
        let request = ChatRequest {
            model: self.model.unwrap_or_default(),
            messages: history::messages(self.messages)?,
            raw: None,
            verbatim: None,
            sampling,
            stop: Stop::strings(self.stop),
            max_tokens,
            extra,
            ..ChatRequest::default()
        };
        Ok(Parsed {
            request,
            stream,
            include_usage,
            store: self.store.unwrap_or(true),
            conversation,
            feedback,
            n,
            tier: self.service_tier.is_some(),
            calls,
        })
    }

    /// The same request as it was written, in `body`; `None` where it asks for what only Habit can do.
    #[must_use]
    pub fn verbatim(&self, body: Bytes) -> Option<Verbatim> {
        let function = |tool: &Value| tool["type"] == "function";
        if !self.tools.iter().flatten().all(function) {
            return None;
        }
        Some(Verbatim {
            body,
            model: self.model.clone(),
            stream: self.stream == Some(true),
            include_usage: self
                .stream_options
                .map(|options| options.include_usage.unwrap_or(false)),
            // What is stored, and by which name, is between the client and this server.
            private: match (&self.store, &self.metadata) {
                (None, None) => &[],
                (Some(_), None) => &["store"],
                (None, Some(_)) => &["metadata"],
                (Some(_), Some(_)) => &["store", "metadata"],
            },
        })
    }

    /// The fields that choose tokens.
    #[must_use]
    pub fn sampling(&self) -> SamplingFields {
        SamplingFields {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
        }
    }

    /// Puts others in their place.
    pub fn set_sampling(&mut self, fields: SamplingFields) {
        self.temperature = fields.temperature;
        self.top_p = fields.top_p;
        self.top_k = fields.top_k;
        self.min_p = fields.min_p;
        self.frequency_penalty = fields.frequency_penalty;
        self.presence_penalty = fields.presence_penalty;
        self.repetition_penalty = fields.repetition_penalty;
        self.seed = fields.seed;
    }

    /// Values of metadata are strings; only what is said of the reply before may be a number, which is read elsewhere.
    fn check_metadata(&self) -> Result<(), ApiError> {
        let wrong = |(name, value): &(&String, &Value)| {
            !value.is_string() && !value.is_null() && name.as_str() != super::feedback::METADATA
        };
        match self.metadata.iter().flatten().find(wrong) {
            None => Ok(()),
            Some((name, _)) => {
                let param = format!("metadata.{name}");
                Err(ApiError::invalid(format!("`{param}` must be a string"), Some(&param)))
            }
        }
    }

    /// How the reply's calls are to be written. The older fields become the newer ones.
    fn calls(&mut self) -> Result<Calls, ApiError> {
        let functions = self.functions.take().unwrap_or_default();
        if self.tools.as_ref().is_some_and(|tools| !tools.is_empty()) {
            return Ok(Calls::Tools);
        }
        if functions.is_empty() {
            return Ok(Calls::None);
        }
        let (tools, choice) = calls::as_tools(functions, self.function_call.take())?;
        (self.tools, self.tool_choice) = (Some(tools), choice);
        self.parallel_tool_calls = Some(false);
        Ok(Calls::Function)
    }

    /// The conversation that the metadata names.
    fn conversation(&self) -> Option<String> {
        let named = self.metadata.as_ref()?.get("conversation_id")?.as_str()?;
        (!named.is_empty()).then(|| named.to_owned())
    }

    /// What the engine gets besides the conversation: the fields that were checked here, and those that are not known
    /// here.
    fn extra(&mut self) -> Result<Map<String, Value>, ApiError> {
        check_bias(self.logit_bias.as_ref())?;
        shapes::check_tools(self.tools.as_deref(), self.tool_choice.as_ref())?;
        shapes::check_format(self.response_format.as_ref())?;
        shapes::check_modalities(self.modalities.as_deref())?;
        let top = count("top_logprobs", self.top_logprobs, 0..=MOST_TOP_LOGPROBS, 0)?;
        let logprobs = self.logprobs == Some(true);
        if top > 0 && !logprobs {
            return Err(ApiError::invalid(
                "`top_logprobs` needs `logprobs` to be true",
                Some("top_logprobs"),
            ));
        }
        let mut extra = std::mem::take(&mut self.extra);
        extra.retain(|_, value| !value.is_null());
        let text = |text: &mut Option<String>| text.take().map(Value::String);
        let fields = [
            ("logprobs", logprobs.then_some(Value::Bool(true))),
            ("top_logprobs", (top > 0).then(|| Value::from(top))),
            ("logit_bias", self.logit_bias.take().map(Value::Object)),
            ("tools", self.tools.take().map(Value::Array)),
            ("tool_choice", self.tool_choice.take()),
            ("parallel_tool_calls", self.parallel_tool_calls.map(Value::Bool)),
            ("response_format", self.response_format.take().map(Value::Object)),
            ("reasoning_effort", text(&mut self.reasoning_effort)),
            ("user", text(&mut self.user)),
            ("prompt_cache_key", text(&mut self.prompt_cache_key)),
        ];
        let given = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        extra.extend(given);
        Ok(extra)
    }
}

#[cfg(test)]
mod tests;
