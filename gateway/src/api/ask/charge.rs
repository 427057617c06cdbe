//! Charges a turn's tokens to its key: a careful guess is set aside before the engine is asked, and what the reply
//! really took is charged at its end, or, where a reply is broken off, what it has taken by then.

use std::time::Instant;

use futures::StreamExt;
use habit_engine::{ChatRequest, Delta, DeltaStream, RawPrompt};

use crate::api::error::ApiError;
use crate::keys::meter::{LimitReached, Reserved};
use crate::turn::Turn;

/// Bytes of text that make a token, roughly, in most languages and tokenizers.
const BYTES_A_TOKEN: usize = 4;

/// Tokens that a reply is thought to take where the request sets no limit.
const REPLY_GUESS: usize = 256;

/// Sets aside what a turn may take; `None` where tokens are not limited.
pub(super) fn reserve(turn: &Turn) -> Result<Option<Charge>, ApiError> {
    let Some(meter) = turn
        .meter
        .as_ref()
        .filter(|meter| meter.limits().tokens_per_minute.is_some())
    else {
        return Ok(None);
    };
    let prompt = prompt_guess(&turn.request);
    let guess = prompt + turn.request.max_tokens.unwrap_or(REPLY_GUESS);
    let reserved = meter.reserve(clamped(guess), Instant::now())?;
    Ok(Some(Charge {
        reserved,
        prompt,
        reply_bytes: 0,
    }))
}

/// Tokens that were set aside for a turn, and what it has taken so far.
pub(super) struct Charge {
    reserved: Reserved,
    /// A guess at the prompt's tokens.
    prompt: usize,
    reply_bytes: usize,
}

impl Charge {
    fn saw(&mut self, delta: &Delta) {
        match delta {
            Delta::Finish { usage, .. } => {
                self.reserved
                    .used(clamped(usage.prompt_tokens + usage.completion_tokens));
            }
            Delta::Text(text) | Delta::Reasoning(text) => {
                self.reply_bytes += text.len();
                self.reserved
                    .used(clamped(self.prompt + self.reply_bytes.div_ceil(BYTES_A_TOKEN)));
            }
            _ => {}
        }
    }
}

/// The same stream; what it takes is charged when it ends or is dropped.
pub(super) fn charged(deltas: DeltaStream, mut charge: Charge) -> DeltaStream {
    deltas
        .inspect(move |item| {
            if let Ok(delta) = item {
                charge.saw(delta);
            }
        })
        .boxed()
}

fn prompt_guess(request: &ChatRequest) -> usize {
    let raw = match &request.raw {
        Some(RawPrompt::Tokens(tokens)) => return tokens.len(),
        Some(RawPrompt::Text { prompt, suffix }) => prompt.len() + suffix.as_ref().map_or(0, String::len),
        None => 0,
    };
    let messages: usize = request.messages.iter().map(|message| message.text().len()).sum();
    (raw + messages).div_ceil(BYTES_A_TOKEN)
}

fn clamped(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

impl From<LimitReached> for ApiError {
    fn from(reached: LimitReached) -> Self {
        let wait = reached.wait;
        Self::new(
            http::StatusCode::TOO_MANY_REQUESTS,
            "rate_limit_exceeded",
            reached.to_string(),
        )
        .with_retry_after(wait)
    }
}
