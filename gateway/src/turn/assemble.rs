//! Fits what the sources proposed into the model's window, in front of the last user message. What is put in is in
//! the trace. Without passages, messages go through untouched and uncounted.
//!
//! The engine, not this layer, decides whether the client's own messages fit: when they leave no room, or can't be
//! counted, memory is left out and the engine says what is wrong in its own words.

use std::sync::Arc;
use std::task::{self, Poll};

use futures::future::BoxFuture;
use habit_engine::Engine;
use habit_memory::assembly::{Budget, assemble};
use habit_memory::passage::Passage;
use tower::{Layer, Service};

use super::knobs::KnobsOf;
use super::{Reply, Turn, TurnError, reply_tokens};

/// What the layer needs.
#[derive(Clone)]
pub struct AssembleParts {
    /// Counts tokens for the model that will answer.
    pub engine: Arc<dyn Engine>,
    /// Tokens that memory may take, at most.
    pub memory_tokens: usize,
}

/// See the module.
#[derive(Clone)]
pub struct AssembleLayer {
    parts: AssembleParts,
    knobs: Option<KnobsOf>,
}

impl AssembleLayer {
    /// With what was found to suit teams.
    #[must_use]
    pub fn with_knobs(self, knobs: KnobsOf) -> Self {
        let knobs = Some(knobs);
        Self { knobs, ..self }
    }
}

/// A layer over these parts.
#[must_use]
pub fn layer(parts: AssembleParts) -> AssembleLayer {
    AssembleLayer { parts, knobs: None }
}

impl<S> Layer<S> for AssembleLayer {
    type Service = Assemble<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Assemble {
            inner,
            parts: self.parts.clone(),
            knobs: self.knobs.clone(),
        }
    }
}

/// The layer's service.
#[derive(Clone)]
pub struct Assemble<S> {
    inner: S,
    parts: AssembleParts,
    knobs: Option<KnobsOf>,
}

impl<S> Service<Turn> for Assemble<S>
where
    S: Service<Turn, Response = Reply, Error = TurnError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Reply;
    type Error = TurnError;
    type Future = BoxFuture<'static, Result<Reply, TurnError>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), TurnError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut turn: Turn) -> Self::Future {
        let knobs = self.knobs.as_ref().and_then(|knobs| knobs(turn.scope.team()));
        let tokens = knobs.map_or(self.parts.memory_tokens, |knobs| knobs.tokens);
        let injected = self.parts.fit(&mut turn, tokens);
        let reply = self.inner.call(turn);
        Box::pin(async move {
            let mut reply = reply.await?;
            reply.trace.injected = injected;
            Ok(reply)
        })
    }
}

impl AssembleParts {
    /// Puts what fits into the turn's messages and says what that is.
    fn fit(&self, turn: &mut Turn, memory_tokens: usize) -> Vec<Passage> {
        let passages = std::mem::take(&mut turn.passages);
        if passages.is_empty() {
            return Vec::new();
        }
        let model = self.engine.resolve(&turn.request.model);
        let Some(counter) = self.engine.token_counter(&model) else {
            return Vec::new();
        };
        let window = counter.context_window();
        // Tools are in the prompt as well, beside the messages.
        let whole = counter.count_request(&turn.request).unwrap_or_default();
        let beside = whole.saturating_sub(counter.count_chat(&turn.request.messages).unwrap_or_default());
        let budget = Budget {
            context_window: window.saturating_sub(beside),
            reply_tokens: reply_tokens(&turn.request, window),
            memory_tokens,
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
