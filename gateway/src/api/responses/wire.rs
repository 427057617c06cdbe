//! The body of `POST /v1/responses`, and what it asks for.

use habit_engine::ChatRequest;
use habit_learning::feedback::Given;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::body::{ConversationId, ReasoningEcho, ResponseBody, Status};
use super::items;
use super::tools::{Tools, response_format};
use crate::api::error::ApiError;
use crate::api::feedback::in_metadata;
use crate::api::generation::{SamplingFields, Stop, count, token_limit};

/// The most alternatives to each token.
const MOST_TOP_LOGPROBS: i64 = 20;

/// In `include`: the probabilities of the text's tokens.
const LOGPROBS: &str = "message.output_text.logprobs";

/// In `include`: what file searches have found.
const RESULTS: &str = "file_search_call.results";

/// The body of `POST /v1/responses`. A null is the same as an absent field; fields that are not listed are ignored.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub struct CreateResponse {
    /// The model; absent, empty or `default` is the server's default.
    pub model: Option<String>,
    /// A text, or items: messages, calls of functions and their results, references to items.
    pub input: Option<Input>,
    /// What the model is told before everything else; not carried over to the next response.
    pub instructions: Option<String>,
    /// The response that this one goes on from.
    pub previous_response_id: Option<String>,
    /// The conversation that this response is part of.
    pub conversation: Option<ConversationRef>,
    /// Functions that the model may call; and `file_search`, with the `vector_store_ids` of the stores to search.
    #[schema(value_type = Option<Vec<Object>>)]
    pub tools: Option<Vec<Value>>,
    /// `none`, `auto`, `required`, or an object that names a function.
    #[schema(value_type = Option<Object>)]
    pub tool_choice: Option<Value>,
    /// Whether several functions may be called at once.
    pub parallel_tool_calls: Option<bool>,
    /// The text's format.
    pub text: Option<TextOptions>,
    /// How the model reasons.
    pub reasoning: Option<ReasoningOptions>,
    /// The most tokens of the reply, reasoning included.
    #[schema(minimum = 1)]
    pub max_output_tokens: Option<i64>,
    /// Accepted; functions are called by the client.
    pub max_tool_calls: Option<i64>,
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
    /// The likeliest tokens to give for each token, 0 to 20.
    #[schema(minimum = 0, maximum = 20)]
    pub top_logprobs: Option<i64>,
    /// What else the response should hold: `message.output_text.logprobs`, `file_search_call.results`.
    pub include: Option<Vec<String>>,
    /// Up to 16 pairs of texts that come back with the response. `habit_feedback` says how the reply before was, as
    /// `POST /v1/feedback` does: `good`, `bad`, or a score of 0 to 1.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
    /// False leaves no trace of this response on the server.
    pub store: Option<bool>,
    /// Send the response as server-sent events while it is made.
    pub stream: Option<bool>,
    /// Answer at once, and make the response in the background.
    pub background: Option<bool>,
    /// Where a conversation outgrows the window: `auto` leaves out its oldest turns, `disabled` refuses it. Without it, what
    /// `memory.overflow` says: by default the oldest turns leave, and come back by recall where they matter.
    pub truncation: Option<String>,
    /// Who asks, in the client's own terms.
    pub user: Option<String>,
    /// As `user`.
    pub safety_identifier: Option<String>,
    /// Comes back with the response; prefixes are found without it.
    pub prompt_cache_key: Option<String>,
    /// Accepted; there is one tier.
    pub service_tier: Option<String>,
    /// Given to the model's chat template.
    #[schema(value_type = Option<Object>)]
    pub chat_template_kwargs: Option<Map<String, Value>>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or a list of items")]
pub enum Input {
    /// A message of the user.
    Text(String),
    /// Items, oldest first.
    #[schema(value_type = Vec<Object>)]
    Items(Vec<Value>),
}

/// Names a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a conversation's id, or an object with an id")]
pub enum ConversationRef {
    /// By its id.
    Id(String),
    /// By an object with its id.
    Object(ConversationId),
}

/// The text's format.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, ToSchema)]
pub struct TextOptions {
    /// `{"type": "text"}`, `json_object`, or `json_schema` with `name` and `schema`.
    #[schema(value_type = Option<Object>)]
    pub format: Option<Value>,
    /// Accepted.
    pub verbosity: Option<String>,
}

/// How the model reasons.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
pub struct ReasoningOptions {
    /// How much, for models that know efforts: `none` to `high`.
    pub effort: Option<String>,
    /// Give the reasoning as a summary (`auto`, `concise`, `detailed`) rather than as its text.
    pub summary: Option<String>,
    /// The older name of `summary`.
    pub generate_summary: Option<String>,
}

/// What a body asks for. Histories are still to be put before `items`.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The request without its messages.
    pub request: ChatRequest,
    /// What the model is told first.
    pub instructions: Option<String>,
    /// The input, in one shape.
    pub items: Vec<Value>,
    /// Goes on from this response.
    pub previous: Option<String>,
    /// Part of this conversation.
    pub conversation: Option<String>,
    /// What `metadata` says of the reply before this one.
    pub feedback: Option<Given>,
    /// What the tools mean.
    pub tools: Tools,
    /// The response as far as the request tells; it has no id yet.
    pub draft: ResponseBody,
    /// `auto`, `disabled`, or whatever the configuration says.
    pub truncation: Option<String>,
    /// As server-sent events.
    pub stream: bool,
    /// Reasoning goes into summaries.
    pub summarise: bool,
    /// What file searches have found is shown.
    pub show_results: bool,
}

impl CreateResponse {
    /// Checks the body and translates it.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn parse(self) -> Result<Asked, ApiError> {
        let sampling = self.sampling().check()?;
        let max_tokens = token_limit("max_output_tokens", self.max_output_tokens, 1)?;
        let top_logprobs = count("top_logprobs", self.top_logprobs, 0..=MOST_TOP_LOGPROBS, 0)?;
        let feedback = in_metadata(self.metadata.as_ref())?;
        let metadata = check_metadata(self.metadata)?;
        let named = |id: Option<String>| id.filter(|id| !id.is_empty());
        let previous = named(self.previous_response_id);
        let conversation = named(self.conversation.map(ConversationRef::into_id));
        if previous.is_some() && conversation.is_some() {
            let message = "`previous_response_id` and `conversation` can't be used together; leave one out";
            return Err(ApiError::invalid(message, Some("conversation")));
        }
        let (background, store) = (self.background.unwrap_or(false), self.store.unwrap_or(true));
        if background && !store {
            let message = "a response in the background must be stored to be found: leave `store` out, or `background`";
            return Err(ApiError::invalid(message, Some("background")));
        }
        let truncation = self.truncation.filter(|text| !text.is_empty());
        if truncation
            .as_deref()
            .is_some_and(|text| !matches!(text, "auto" | "disabled"))
        {
            let message = "`truncation` must be auto or disabled";
            return Err(ApiError::invalid(message, Some("truncation")));
        }
        let items = match self.input {
            Some(Input::Text(text)) => vec![items::user_text(&text)],
            Some(Input::Items(items)) => items::normalise(items, "input")?,
            None => Vec::new(),
        };
        if items.is_empty() && previous.is_none() && conversation.is_none() {
            let message = "`input` is missing or empty; send a text or at least one item";
            return Err(ApiError::invalid(message, Some("input")));
        }
        let tools = Tools::read(self.tools.as_deref().unwrap_or_default(), self.tool_choice.as_ref())?;
        let text = self.text.unwrap_or_default();
        let format = response_format(text.format.as_ref())?;
        let reasoning = self.reasoning.unwrap_or_default();
        let summary = reasoning.summary.or(reasoning.generate_summary);
        let include = self.include.unwrap_or_default();
        let logprobs = top_logprobs > 0 || include.iter().any(|one| one == LOGPROBS);
        let flag = |yes: bool| yes.then_some(Value::Bool(true));
        let extra = [
            (
                "tools",
                (!tools.functions.is_empty()).then(|| Value::Array(tools.functions.clone())),
            ),
            (
                "tool_choice",
                tools.choice.clone().filter(|_| !tools.functions.is_empty()),
            ),
            ("parallel_tool_calls", self.parallel_tool_calls.map(Value::Bool)),
            ("response_format", format),
            ("logprobs", flag(logprobs)),
            ("top_logprobs", (top_logprobs > 0).then(|| json!(top_logprobs))),
            ("reasoning_effort", reasoning.effort.clone().map(Value::String)),
            ("chat_template_kwargs", self.chat_template_kwargs.map(Value::Object)),
            ("truncation", truncation.clone().map(Value::String)),
            ("user", self.user.clone().map(Value::String)),
            ("prompt_cache_key", self.prompt_cache_key.clone().map(Value::String)),
        ];
        let extra = extra
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let draft = ResponseBody {
            background,
            store,
            instructions: self.instructions.clone(),
            max_output_tokens: max_tokens,
            max_tool_calls: self.max_tool_calls,
            parallel_tool_calls: self.parallel_tool_calls.unwrap_or(true),
            previous_response_id: previous.clone(),
            conversation: conversation.clone().map(|id| ConversationId { id }),
            prompt_cache_key: self.prompt_cache_key,
            reasoning: ReasoningEcho {
                effort: reasoning.effort,
                summary: summary.clone(),
            },
            safety_identifier: self.safety_identifier,
            temperature: self.temperature.unwrap_or(1.0),
            top_p: self.top_p.unwrap_or(1.0),
            text: json!({"format": text.format.unwrap_or_else(|| json!({"type": "text"})),
                "verbosity": text.verbosity.as_deref().unwrap_or("medium")}),
            tool_choice: self.tool_choice.unwrap_or_else(|| json!("auto")),
            tools: self.tools.unwrap_or_default(),
            top_logprobs,
            truncation: truncation.clone().unwrap_or_else(|| "disabled".to_owned()),
            user: self.user,
            metadata,
            status: Status::InProgress,
            ..ResponseBody::default()
        };
        Ok(Asked {
            request: ChatRequest {
                model: self.model.unwrap_or_default(),
                sampling,
                stop: Stop::strings(self.stop),
                max_tokens,
                extra: extra.collect(),
                ..ChatRequest::default()
            },
            instructions: self.instructions.filter(|text| !text.is_empty()),
            items,
            previous,
            conversation,
            feedback,
            tools,
            draft,
            truncation,
            stream: self.stream.unwrap_or(false),
            summarise: summary.is_some(),
            show_results: include.iter().any(|one| one == RESULTS),
        })
    }

    fn sampling(&self) -> SamplingFields {
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
}

impl ConversationRef {
    fn into_id(self) -> String {
        match self {
            Self::Id(id) | Self::Object(ConversationId { id }) => id,
        }
    }
}

/// OpenAI's limits: 16 pairs of texts, names of up to 64 characters, values of up to 512.
///
/// # Errors
/// 400 that names the field.
pub fn check_metadata(metadata: Option<Map<String, Value>>) -> Result<Map<String, Value>, ApiError> {
    let metadata = metadata.unwrap_or_default();
    let fits = |(name, value): (&String, &Value)| {
        name.chars().count() <= 64 && value.as_str().is_some_and(|text| text.chars().count() <= 512)
    };
    if metadata.len() <= 16 && metadata.iter().all(fits) {
        return Ok(metadata);
    }
    let message = "`metadata` may have 16 pairs; names are texts of at most 64 characters, values texts of at most 512";
    Err(ApiError::invalid(message, Some("metadata")))
}
