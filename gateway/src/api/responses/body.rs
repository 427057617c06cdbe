//! A response in OpenAI's JSON, as it is sent and as it is kept.

use habit_engine::Usage;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// A response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResponseBody {
    /// `resp_…`, made from the turn's id.
    #[schema(example = "resp_0199f3c2a7e07b4c9d1e2f3a4b5c6d7e")]
    pub id: String,
    /// `response`.
    pub object: String,
    /// Unix seconds.
    pub created_at: i64,
    /// How far it is.
    pub status: Status,
    /// Whether it is made in the background.
    pub background: bool,
    /// Unix seconds; null until it is complete.
    pub completed_at: Option<i64>,
    /// Why it failed; null if it did not.
    pub error: Option<ResponseError>,
    /// Why it is incomplete; null if it is not.
    pub incomplete_details: Option<IncompleteDetails>,
    /// As in the request.
    pub instructions: Option<String>,
    /// As in the request.
    pub max_output_tokens: Option<usize>,
    /// As in the request.
    pub max_tool_calls: Option<i64>,
    /// The model that answers.
    pub model: String,
    /// What the model made: reasoning, messages, calls.
    #[schema(value_type = Vec<Object>)]
    pub output: Vec<Value>,
    /// As in the request.
    pub parallel_tool_calls: bool,
    /// As in the request.
    pub previous_response_id: Option<String>,
    /// The conversation that it is part of, or null.
    pub conversation: Option<ConversationId>,
    /// As in the request.
    pub prompt_cache_key: Option<String>,
    /// As in the request.
    pub reasoning: ReasoningEcho,
    /// As in the request.
    pub safety_identifier: Option<String>,
    /// `default`: there is one tier.
    pub service_tier: String,
    /// Whether it is kept.
    pub store: bool,
    /// As in the request.
    pub temperature: f64,
    /// As in the request.
    #[schema(value_type = Object)]
    pub text: Value,
    /// As in the request: a word or an object.
    #[schema(value_type = Value)]
    pub tool_choice: Value,
    /// As in the request.
    #[schema(value_type = Vec<Object>)]
    pub tools: Vec<Value>,
    /// As in the request.
    pub top_logprobs: usize,
    /// As in the request.
    pub top_p: f64,
    /// As in the request.
    pub truncation: String,
    /// Tokens; null until it has ended.
    pub usage: Option<ResponseUsage>,
    /// As in the request.
    pub user: Option<String>,
    /// As in the request.
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
}

/// How far a response is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// In the background, not begun.
    Queued,
    /// It is being made.
    #[default]
    InProgress,
    /// All of it is there.
    Completed,
    /// It was cut.
    Incomplete,
    /// Its client cancelled it.
    Cancelled,
    /// Something went wrong.
    Failed,
}

impl Status {
    /// Whether nothing more will come.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::InProgress)
    }
}

/// Why a response failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResponseError {
    /// For programs.
    #[schema(example = "server_error")]
    pub code: String,
    /// For people.
    pub message: String,
}

/// Why a response is incomplete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IncompleteDetails {
    /// `max_output_tokens` or `content_filter`.
    #[schema(example = "max_output_tokens")]
    pub reason: String,
}

/// Names a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConversationId {
    /// Its id.
    #[schema(example = "conv_0199f3c2a7e07b4c9d1e2f3a4b5c6d7e")]
    pub id: String,
}

/// How the model was asked to reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReasoningEcho {
    /// How much.
    pub effort: Option<String>,
    /// Whether as a summary.
    pub summary: Option<String>,
}

/// Tokens that a response took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResponseUsage {
    /// Of the prompt, memory and template included.
    pub input_tokens: usize,
    /// What is known of them.
    pub input_tokens_details: InputTokensDetails,
    /// Of the reply, reasoning included.
    pub output_tokens: usize,
    /// What is known of them.
    pub output_tokens_details: OutputTokensDetails,
    /// Both.
    pub total_tokens: usize,
}

/// What is known of a prompt's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InputTokensDetails {
    /// Those that did not have to be read again.
    pub cached_tokens: usize,
    /// 0: nobody is charged for keeping them.
    pub cache_write_tokens: usize,
}

/// What is known of a reply's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutputTokensDetails {
    /// Those of the reasoning.
    pub reasoning_tokens: usize,
}

impl From<Usage> for ResponseUsage {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputTokensDetails {
                cached_tokens: usage.cached_tokens,
                cache_write_tokens: 0,
            },
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputTokensDetails {
                reasoning_tokens: usage.reasoning_tokens,
            },
            total_tokens: usage.prompt_tokens + usage.completion_tokens,
        }
    }
}

impl Default for ResponseBody {
    fn default() -> Self {
        Self {
            id: String::new(),
            object: "response".to_owned(),
            created_at: 0,
            status: Status::default(),
            background: false,
            completed_at: None,
            error: None,
            incomplete_details: None,
            instructions: None,
            max_output_tokens: None,
            max_tool_calls: None,
            model: String::new(),
            output: Vec::new(),
            parallel_tool_calls: true,
            previous_response_id: None,
            conversation: None,
            prompt_cache_key: None,
            reasoning: ReasoningEcho::default(),
            safety_identifier: None,
            service_tier: "default".to_owned(),
            store: true,
            temperature: 1.0,
            text: serde_json::json!({"format": {"type": "text"}}),
            tool_choice: Value::from("auto"),
            tools: Vec::new(),
            top_logprobs: 0,
            top_p: 1.0,
            truncation: "disabled".to_owned(),
            usage: None,
            user: None,
            metadata: Map::new(),
        }
    }
}
