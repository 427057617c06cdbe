//! One reply in the making: an engine gives logits, [`Reply::step`] does the rest. It chooses the token (sampling,
//! schema), turns it into text, looks for stop strings, counts, sends what can go out, and decides when the reply ends.

use std::{collections::HashSet, sync::Arc};

use llguidance::Matcher;
use tokio::sync::mpsc::UnboundedSender;

use super::{detokenize::Detokenizer, sampling::Sampler, stop::StopMatcher};
use crate::{Delta, EngineError, FinishReason, Usage};

/// Everything that a reply needs.
pub(crate) struct Reply {
    /// Where the pieces go; nobody listens any more when it is closed.
    pub(crate) pieces: UnboundedSender<Result<Delta, EngineError>>,
    pub(crate) sampler: Sampler,
    pub(crate) detokenizer: Detokenizer,
    pub(crate) stop: StopMatcher,
    /// Follows the schema that the reply must fit.
    pub(crate) grammar: Option<Matcher>,
    /// The tokens with which the model ends its turn.
    pub(crate) ends: Arc<HashSet<u32>>,
    pub(crate) prompt_tokens: usize,
    /// Of the prompt's tokens, those whose keys and values were there already.
    pub(crate) cached_tokens: usize,
    pub(crate) max_tokens: usize,
    pub(crate) completion_tokens: usize,
    /// Nothing more is to come.
    pub(crate) over: bool,
}

/// How a reply goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// With this token: the engine appends it and gives the next logits.
    Token(u32),
    /// Not at all: everything has been sent.
    End,
}

impl Reply {
    /// Takes the logits after all tokens so far; chooses the next token and sends its text.
    pub(crate) fn step(&mut self, logits: &mut [f32]) -> Step {
        if self.over || self.pieces.is_closed() {
            return self.close();
        }
        match self.next(logits) {
            Ok(Next::Token(token)) => Step::Token(token),
            Ok(Next::Finish(reason)) => self.finish(reason),
            Err(reason) => {
                self.send(Err(EngineError::Interrupted(reason)));
                self.close()
            }
        }
    }

    /// Tokens read and written so far.
    pub(crate) fn tokens(&self) -> usize {
        self.prompt_tokens + self.completion_tokens
    }

    fn next(&mut self, logits: &mut [f32]) -> Result<Next, String> {
        if let Some(grammar) = &mut self.grammar {
            restrict(grammar, logits, &self.ends)?;
        }
        let token = self
            .sampler
            .pick(logits)
            .ok_or("the model gave no usable probabilities; its file may be damaged")?;
        self.completion_tokens += 1;
        if self.ends.contains(&token) {
            return Ok(Next::Finish(FinishReason::Stop));
        }
        if let Some(grammar) = &mut self.grammar {
            grammar
                .consume_token(token)
                .map_err(|error| format!("the reply left its schema: {error}"))?;
        }
        let piece = self.detokenizer.push(token);
        let text = self.stop.push(&piece);
        self.say(text);
        let complete = self.stop.is_stopped() || self.grammar.as_ref().is_some_and(Matcher::is_stopped);
        Ok(if complete {
            Next::Finish(FinishReason::Stop)
        } else if self.completion_tokens >= self.max_tokens {
            Next::Finish(FinishReason::Length)
        } else {
            Next::Token(token)
        })
    }

    /// Sends what still waits, and the end.
    fn finish(&mut self, reason: FinishReason) -> Step {
        let rest = self.detokenizer.finish();
        let mut text = self.stop.push(&rest);
        // The last token's text may complete a stop string.
        let reason = if self.stop.is_stopped() {
            FinishReason::Stop
        } else {
            reason
        };
        text.push_str(&self.stop.finish());
        self.say(text);
        if let Some(stop) = self.stop.met() {
            self.send(Ok(Delta::StopString(stop.to_owned())));
        }
        let usage = Usage {
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            cached_tokens: self.cached_tokens,
            ..Usage::default()
        };
        self.send(Ok(Delta::Finish { reason, usage }));
        self.close()
    }

    fn close(&mut self) -> Step {
        self.over = true;
        Step::End
    }

    fn say(&self, text: String) {
        if !text.is_empty() {
            self.send(Ok(Delta::Text(text)));
        }
    }

    /// A listener that has left is seen at the next step.
    fn send(&self, piece: Result<Delta, EngineError>) {
        self.pieces.send(piece).ok();
    }
}

/// What a token means for the reply.
enum Next {
    Token(u32),
    Finish(FinishReason),
}

/// Leaves only the tokens that fit the schema, and the ends where the reply may end.
fn restrict(grammar: &mut Matcher, logits: &mut [f32], ends: &HashSet<u32>) -> Result<(), String> {
    let broken = |error: &dyn std::fmt::Display| format!("the reply can't be kept to its schema: {error}");
    let may_end = grammar.is_accepting().map_err(|error| broken(&error))?;
    let allowed = grammar.compute_mask_or_eos().map_err(|error| broken(&error))?;
    for (token, logit) in (0u32..).zip(logits) {
        let fits = if ends.contains(&token) {
            may_end
        } else {
            (token as usize) < allowed.len() && allowed.is_allowed(token)
        };
        if !fits {
            *logit = f32::NEG_INFINITY;
        }
    }
    Ok(())
}
