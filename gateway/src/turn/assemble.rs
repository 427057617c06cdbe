//! Fits what the sources proposed into the model's window, in front of the last user message. What is put in is in
//! the trace. Without passages, messages go through untouched and uncounted.
//!
//! The engine, not this layer, decides whether the client's own messages fit: when they leave no room, or can't be
//! counted, memory is left out and the engine says what is wrong in its own words.

use std::sync::Arc;

use habit_engine::Engine;
use habit_memory::assembly::{Budget, assemble};
use habit_memory::passage::Passage;

use super::knobs::KnobsOf;
use super::step::{Step, StepLayer};
use super::{Trace, Turn, TurnError, reply_tokens};

/// What the layer needs.
#[derive(Clone)]
pub struct AssembleParts {
    /// Counts tokens for the model that will answer.
    pub engine: Arc<dyn Engine>,
    /// Tokens that memory may take, at most.
    pub memory_tokens: usize,
    /// What was found to suit teams better.
    pub knobs: Option<KnobsOf>,
}

/// See the module.
pub type AssembleLayer = StepLayer<AssembleParts>;

/// A layer over these parts.
#[must_use]
pub fn layer(parts: AssembleParts) -> AssembleLayer {
    StepLayer(parts)
}

impl Step for AssembleParts {
    type Done = Vec<Passage>;

    async fn change(&self, turn: &mut Turn) -> Result<Self::Done, TurnError> {
        Ok(self.fit(turn))
    }

    fn tell(injected: Self::Done, trace: &mut Trace) {
        trace.injected = injected;
    }
}

impl AssembleParts {
    /// Puts what fits into the turn's messages and says what that is.
    fn fit(&self, turn: &mut Turn) -> Vec<Passage> {
        let passages = std::mem::take(&mut turn.passages);
        if passages.is_empty() {
            return Vec::new();
        }
        let model = self.engine.resolve(&turn.request.model);
        let Some(counter) = self.engine.token_counter(&model) else {
            return Vec::new();
        };
        let knobs = self.knobs.as_ref().and_then(|knobs| knobs(turn.scope.team()));
        let window = counter.context_window();
        // Tools are in the prompt as well, beside the messages.
        let whole = counter.count_request(&turn.request).unwrap_or_default();
        let beside = whole.saturating_sub(counter.count_chat(&turn.request.messages).unwrap_or_default());
        let budget = Budget {
            context_window: window.saturating_sub(beside),
            reply_tokens: reply_tokens(&turn.request, window),
            memory_tokens: knobs.map_or(self.memory_tokens, |knobs| knobs.tokens),
        };
        match assemble(&turn.request.messages, passages, &budget, &*counter) {
            Ok(assembled) => {
                turn.request.messages = assembled.messages;
                // From here on it goes only where memory may go.
                turn.request.holds_memory |= !assembled.injected.is_empty();
                // The client's own words are not what is asked any more.
                turn.request.verbatim = None;
                assembled.injected
            }
            Err(error) => {
                tracing::debug!("memory was left out of a turn: {error}");
                Vec::new()
            }
        }
    }
}

#[cfg(test)]
mod tests;
