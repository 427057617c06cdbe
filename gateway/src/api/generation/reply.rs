//! What every generated reply says of itself: its [`Envelope`], and its [`UsageBody`], counted by a [`Tally`].

use habit_engine::Usage;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// Changes when what answers changes: same fingerprint, seed and request, same text.
const FINGERPRINT: &str = concat!("fp_habit_", env!("CARGO_PKG_VERSION"));

/// What a whole reply and each of its chunks say of themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Envelope {
    /// `chatcmpl-…` or `cmpl-…`, the same for all chunks; made from the turn's id.
    #[schema(example = "chatcmpl-0199f3c2a7e07b4c9d1e2f3a4b5c6d7e")]
    pub id: String,
    /// `chat.completion`, `chat.completion.chunk` or `text_completion`.
    pub object: &'static str,
    /// Unix seconds.
    pub created: i64,
    /// The model that answers.
    pub model: String,
    /// Names what answers.
    #[schema(example = "fp_habit_0.1.0")]
    pub system_fingerprint: &'static str,
    /// `default`, where the request named a tier: there is only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<&'static str>,
}

impl Envelope {
    fn of(prefix: &str, object: &'static str, turn: Uuid, asked_at: i64, model: String) -> Self {
        Self {
            id: format!("{prefix}-{}", turn.simple()),
            object,
            created: asked_at.div_euclid(1000),
            model,
            system_fingerprint: FINGERPRINT,
            service_tier: None,
        }
    }

    /// Of a whole reply to a conversation; `asked_at` is in Unix milliseconds.
    #[must_use]
    pub fn chat(turn: Uuid, asked_at: i64, model: String) -> Self {
        Self::of("chatcmpl", "chat.completion", turn, asked_at, model)
    }

    /// Of a reply to a raw prompt, whole or a chunk; `asked_at` is in Unix milliseconds.
    #[must_use]
    pub fn text(turn: Uuid, asked_at: i64, model: String) -> Self {
        Self::of("cmpl", "text_completion", turn, asked_at, model)
    }

    /// The same of a chunk of a reply to a conversation.
    #[must_use]
    pub fn chunk(self) -> Self {
        Self {
            object: "chat.completion.chunk",
            ..self
        }
    }

    /// The same for a request that named a service tier, or didn't.
    #[must_use]
    pub fn tier(self, named: bool) -> Self {
        Self {
            service_tier: named.then_some("default"),
            ..self
        }
    }
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

/// A logarithm of a probability as JSON can hold it: it has no infinity, and this is OpenAI's own stand-in.
#[must_use]
pub fn finite(logprob: f64) -> f64 {
    logprob.max(-9999.0)
}

/// Adds up the usage of a request's replies: each prompt counts once, however many replies it has.
#[derive(Debug, Clone, Copy)]
pub struct Tally {
    each: usize,
    open: usize,
    usage: Usage,
}

impl Tally {
    /// Of so many prompts with so many replies each.
    #[must_use]
    pub fn new(prompts: usize, each: usize) -> Self {
        Self {
            each: each.max(1),
            open: prompts * each,
            usage: Usage::default(),
        }
    }

    /// The reply at this place ended, and took so much.
    pub fn add(&mut self, place: usize, usage: Usage) {
        self.open = self.open.saturating_sub(1);
        self.usage.completion_tokens += usage.completion_tokens;
        self.usage.reasoning_tokens += usage.reasoning_tokens;
        if place.is_multiple_of(self.each) {
            self.usage.prompt_tokens += usage.prompt_tokens;
            self.usage.cached_tokens += usage.cached_tokens;
        }
    }

    /// Whether all replies have ended.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.open == 0
    }

    /// What was added up.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_counts_once_however_many_replies_it_has() {
        let took = |prompt_tokens, completion_tokens| Usage {
            prompt_tokens,
            completion_tokens,
            ..Usage::default()
        };
        let mut tally = Tally::new(2, 2);
        for (place, usage) in [(1, took(5, 1)), (0, took(5, 2)), (3, took(7, 3))] {
            tally.add(place, usage);
            assert!(!tally.is_complete());
        }
        tally.add(2, took(7, 4));
        assert!(tally.is_complete());
        assert_eq!(tally.usage(), took(12, 10));
    }
}
