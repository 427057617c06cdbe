//! Probabilities of a reply's tokens in OpenAI's JSON.

use habit_engine::{TokenLogprob, TopLogprob};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::generation::reply::finite;

/// The probabilities of a reply's tokens.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ChatLogprobs {
    /// A token each, in order.
    pub content: Vec<TokenLogprobBody>,
    /// Always null.
    #[schema(value_type = Option<Vec<TokenLogprobBody>>)]
    pub refusal: Option<()>,
}

/// A token with its probability.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TokenLogprobBody {
    /// Its text; of bytes that are no whole character, the replacement character.
    pub token: String,
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The likeliest tokens at this place, likeliest first.
    pub top_logprobs: Vec<TopLogprobBody>,
}

/// A token that could have stood there.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TopLogprobBody {
    /// Its text.
    pub token: String,
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl ChatLogprobs {
    /// Of these tokens.
    #[must_use]
    pub fn new(tokens: Vec<TokenLogprob>) -> Self {
        Self {
            content: tokens.into_iter().map(TokenLogprobBody::from).collect(),
            refusal: None,
        }
    }
}

impl From<TokenLogprob> for TokenLogprobBody {
    fn from(of: TokenLogprob) -> Self {
        Self {
            token: of.token,
            logprob: finite(of.logprob),
            bytes: of.bytes,
            top_logprobs: of.top.into_iter().map(TopLogprobBody::from).collect(),
        }
    }
}

impl From<TopLogprob> for TopLogprobBody {
    fn from(of: TopLogprob) -> Self {
        Self {
            token: of.token,
            logprob: finite(of.logprob),
            bytes: of.bytes,
        }
    }
}
