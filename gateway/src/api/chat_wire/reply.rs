//! A whole reply in OpenAI's JSON.

use habit_engine::{FinishReason, Usage};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::annotation::Annotation;
use super::calls::Calls;
use super::logprobs::ChatLogprobs;
use crate::api::ask::replies::Finished;
use crate::api::file_search::Cited;
use crate::api::generation::reply::{Envelope, UsageBody};

/// A whole reply.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ChatCompletion {
    /// What it is.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// As many as `n` asked for.
    pub choices: Vec<Choice>,
    /// Tokens.
    pub usage: UsageBody,
}

/// The reply itself.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Choice {
    /// Its place.
    pub index: usize,
    /// What the model says.
    pub message: AssistantMessage,
    /// The tokens' probabilities, where they were asked for.
    pub logprobs: Option<ChatLogprobs>,
    /// `stop`, `length`, `tool_calls`, `function_call` or `content_filter`.
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
    /// The call, where the request has `functions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub function_call: Option<Value>,
    /// The files that were read for it, with the tool `file_search`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Annotation>,
}

impl ChatCompletion {
    /// Finished replies to one question, for which these files were read, with their calls so written.
    #[must_use]
    pub fn new(
        envelope: Envelope,
        replies: Vec<Finished>,
        usage: Usage,
        logprobs: bool,
        cited: &[Cited],
        calls: Calls,
    ) -> Self {
        let choice = |(index, finished)| Choice::new(index, finished, logprobs, cited, calls);
        Self {
            envelope,
            choices: replies.into_iter().enumerate().map(choice).collect(),
            usage: usage.into(),
        }
    }
}

impl Choice {
    fn new(index: usize, finished: Finished, logprobs: bool, cited: &[Cited], calls: Calls) -> Self {
        let Finished { mut reply, reason, .. } = finished;
        let annotations = Annotation::all(cited, reply.text.chars().count());
        let content = (!reply.text.is_empty() || reply.tool_calls.is_empty()).then_some(reply.text);
        let function_call = match calls {
            Calls::Function => {
                let first = std::mem::take(&mut reply.tool_calls).into_iter().next();
                first.and_then(|mut call| call.get_mut("function").map(Value::take))
            }
            Calls::None | Calls::Tools => None,
        };
        Self {
            index,
            message: AssistantMessage {
                role: "assistant",
                content,
                refusal: None,
                reasoning_content: (!reply.reasoning.is_empty()).then_some(reply.reasoning),
                tool_calls: reply.tool_calls,
                function_call,
                annotations,
            },
            logprobs: logprobs.then(|| ChatLogprobs::new(reply.logprobs)),
            finish_reason: calls.reason(reason.unwrap_or(FinishReason::Stop)),
        }
    }
}
