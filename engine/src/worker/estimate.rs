//! Counts tokens of a model whose tokenizer is elsewhere: a careful estimate that is rather too high.

use crate::{ChatRequest, EngineError, Message, ModelInfo, RawPrompt, TokenCounter};

/// Fewer bytes a token than English or code take with any current tokenizer (about four).
const BYTES_A_TOKEN: usize = 3;
/// What a chat template puts around a message.
const TOKENS_A_MESSAGE: usize = 4;
/// Assumed where the upstream names no window: so large that the upstream has the last word.
const UNSAID_WINDOW: usize = 131_072;

/// The estimate for one model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Estimate {
    window: usize,
}

impl Estimate {
    pub(super) fn of(info: &ModelInfo) -> Self {
        Self {
            window: info.context_window.unwrap_or(UNSAID_WINDOW),
        }
    }
}

impl TokenCounter for Estimate {
    fn count(&self, text: &str) -> usize {
        estimate(text)
    }

    fn count_chat(&self, messages: &[Message]) -> Result<usize, EngineError> {
        let tokens = |message: &Message| {
            let calls: usize = message.tool_calls.iter().map(|call| estimate(&call.to_string())).sum();
            estimate(&message.text()) + calls + TOKENS_A_MESSAGE
        };
        Ok(messages.iter().map(tokens).sum())
    }

    fn count_request(&self, request: &ChatRequest) -> Result<usize, EngineError> {
        match &request.raw {
            Some(RawPrompt::Text { prompt, suffix }) => {
                Ok(estimate(prompt) + suffix.as_deref().map(estimate).unwrap_or_default())
            }
            Some(RawPrompt::Tokens(tokens)) => Ok(tokens.len()),
            None => self.count_chat(&request.messages),
        }
    }

    fn context_window(&self) -> usize {
        self.window
    }

    fn is_exact(&self) -> bool {
        false
    }
}

/// Tokens of a text, rather too many.
pub(super) fn estimate(text: &str) -> usize {
    estimate_bytes(text.len())
}

/// Tokens of so many bytes of text, rather too many.
pub(super) fn estimate_bytes(bytes: usize) -> usize {
    bytes.div_ceil(BYTES_A_TOKEN)
}
