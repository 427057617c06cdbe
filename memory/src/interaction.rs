//! A turn as it is recorded: what was asked, what was shown to the model beside it, and what came back.

use habit_engine::{FinishReason, Message, Role, Usage};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::context::SourceReport;
use crate::overflow::Left;
use crate::passage::Passage;
use crate::scope::Scope;

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The reply was finished.
    Completed,
    /// The client left, or the server stopped, before the reply was finished; what was sent is kept.
    Interrupted,
    /// The engine gave an error.
    Failed,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interaction {
    /// UUIDv7; also the reply's `X-Habit-Turn`.
    pub id: Uuid,
    /// Whose it is; the conversation is always set.
    pub scope: Scope,
    /// The recorded turn that this one continues.
    pub parent: Option<Uuid>,
    /// When it was asked, in Unix milliseconds.
    pub asked_at: i64,
    /// The model that answered.
    pub model: String,
    /// The messages that the parent does not already hold, oldest first; the last is what was asked now.
    pub messages: Vec<Message>,
    /// The text of what was asked (the last user message).
    pub prompt: String,
    /// The text of the reply, or as much of it as was sent.
    pub reply: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the turn may be recalled later; false keeps it in the journal, but out of the index.
    pub remember: bool,
    /// Why the reply ended, where it did.
    pub finish_reason: Option<FinishReason>,
    /// Tokens, as far as they are known.
    pub usage: Usage,
    /// What memory added to the prompt.
    pub injected: Vec<Passage>,
    /// How memory was asked, and what left the prompt for want of room.
    pub lookup: Lookup,
    /// [`crate::conversation::chain_hash`] of the whole history up to and with this reply: what the next request's
    /// history will hash to if it continues this turn.
    pub chain: String,
    /// Milliseconds to the first token and to the end.
    pub timing: Timing,
    /// The error's text, where the outcome is [`Outcome::Failed`].
    pub error: Option<String>,
}

impl Interaction {
    /// A turn that was answered to its end, of which nothing is known but what was said; it may be recalled.
    #[must_use]
    pub fn completed(scope: &Scope, asked_at: i64, messages: Vec<Message>, reply: impl Into<String>) -> Self {
        let asked = messages.iter().rfind(|message| message.role == Role::User);
        Self {
            id: Uuid::now_v7(),
            scope: scope.clone(),
            parent: None,
            asked_at,
            model: String::new(),
            prompt: asked.map(Message::text).unwrap_or_default(),
            messages,
            reply: reply.into(),
            outcome: Outcome::Completed,
            remember: true,
            finish_reason: None,
            usage: Usage::default(),
            injected: Vec::new(),
            lookup: Lookup::default(),
            chain: String::new(),
            timing: Timing::default(),
            error: None,
        }
    }

    /// Whether the turn goes into the index: it may be remembered, and something came of it.
    #[must_use]
    pub fn is_recallable(&self) -> bool {
        self.remember && self.outcome != Outcome::Failed
    }
}

/// How memory fared in one turn.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lookup {
    /// Each source that was asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceReport>,
    /// Why the search went by words alone, if it did: the embedder was late or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words_alone: Option<String>,
    /// What left the prompt because the conversation outgrew the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<Left>,
    /// Messages at the conversation's begin that were never asked here: a client brought them along as history.
    #[serde(skip_serializing_if = "is_zero")]
    pub brought: usize,
    /// By which model the turn was answered, where its team has one of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<Variant>,
    /// How many past answers it could be shown, where that was left to chance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shots: Option<Shots>,
}

/// How many past answers a turn could be shown, where that was left to chance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Shots {
    /// So many, at most.
    pub count: usize,
    /// The probability with which it was these many, over 0 and up to 1: what was logged can be weighed by it.
    pub propensity: f64,
}

/// How a turn was answered where there was a choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// `base`, `few_shot` or `adapter`.
    pub arm: String,
    /// The team's model that answered; `None` is the base.
    pub model: Option<Uuid>,
    /// The probability with which it was chosen, over 0 and up to 1: what was logged can be weighed by it.
    pub propensity: f64,
    /// Why it is not what was chosen, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Lookup {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How long a turn took, in milliseconds from its arrival.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Until the first token; `None` if there was none.
    pub first_token_ms: Option<u64>,
    /// Until the end.
    pub total_ms: u64,
    /// Spent in memory's layers before the engine was asked.
    pub context_ms: u64,
}
