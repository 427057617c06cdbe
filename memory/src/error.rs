//! What can go wrong in memory.

/// Why memory could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The database or the index can't be read or written; the message says which and why.
    #[error("{0}")]
    Storage(String),
    /// The caller must change something; the message says what.
    #[error("{0}")]
    BadRequest(String),
    /// What was sent is larger than there is room for; the message says what the limit is.
    #[error("{0}")]
    TooLarge(String),
    /// What was asked for is not there, or not this user's; the message names it.
    #[error("{0}")]
    NotFound(String),
    /// A document can't be read; the message names it and says why.
    #[error("{name}: {reason}")]
    UnreadableDocument {
        /// The file's name.
        name: String,
        /// Why, and what can be done.
        reason: String,
    },
    /// The embedder failed.
    #[error("embedding failed: {0}")]
    Embedding(#[from] habit_engine::EngineError),
}
