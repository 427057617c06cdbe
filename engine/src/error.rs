//! What can go wrong between a request and its reply, in the words that a caller can act on.

/// Why an engine did not give a (whole) reply.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// All places are taken and the queue is full; try again after the given time.
    #[error(
        "the engine is busy: {running} requests are running and {waiting} are waiting; try again in {retry_after_s} s"
    )]
    Overloaded {
        /// Requests being answered now.
        running: usize,
        /// Requests in the queue.
        waiting: usize,
        /// A fair guess at when a place is free, in seconds.
        retry_after_s: u64,
    },
    /// No engine serves a model of this name.
    #[error("the model `{model}` does not exist here; available: {}", available.join(", "))]
    UnknownModel {
        /// The name asked for.
        model: String,
        /// The names that exist.
        available: Vec<String>,
    },
    /// The prompt (and the reply asked for) is larger than the model's context window. The message begins as OpenAI's
    /// does: litellm knows the error by these words.
    #[error(
        "this model's maximum context length is {limit} tokens, but the messages have {prompt} tokens{}; shorten the messages or ask for fewer tokens",
        asked.map(|n| format!(" and {n} more were asked for the reply")).unwrap_or_default()
    )]
    ContextLengthExceeded {
        /// The window, in tokens.
        limit: usize,
        /// The prompt, in tokens.
        prompt: usize,
        /// Tokens asked for the reply, where the request named a number.
        asked: Option<usize>,
    },
    /// The request can't be served as it is: the caller must change it.
    #[error("{message}")]
    Rejected {
        /// What is wrong and what to do.
        message: String,
        /// The field at fault, in OpenAI's name.
        param: Option<String>,
    },
    /// The engine or upstream is not there (starting, crashed, unreachable): the request was not begun.
    #[error("{0}")]
    Unavailable(String),
    /// The reply broke off after it had begun.
    #[error("the reply broke off: {0}")]
    Interrupted(String),
}

impl EngineError {
    /// Whether the same request may succeed later, or on another engine, with nothing of a reply sent yet.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Overloaded { .. } | Self::Unavailable(_))
    }
}
