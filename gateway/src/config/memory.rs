//! `[memory]`: what is remembered, and how much of it is put before the model.

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Passages of one source that a turn may get, at most.
const MAX_CHUNKS: usize = 10;

/// What becomes of a conversation that has outgrown the model's window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overflow {
    /// Its oldest turns leave the prompt, and come back by recall where they matter.
    #[default]
    Recall,
    /// It is refused: 400, `context_length_exceeded`.
    Refuse,
}

/// What is remembered, and how much of it is put before the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    /// Whether memory adds to prompts. Turns are recorded either way; a request can also say `X-Habit-Memory: off`.
    pub on: bool,
    /// The model that turns text into vectors: a name from `habit models list`, or a directory. After a
    /// change the index is made anew in the background, while the old one serves (decision 25).
    pub embedder: String,
    /// Earlier turns that a turn may get, 0 (off) to 10.
    pub recalled: usize,
    /// Passages of the user's and the team's documents, 0 (off) to 10.
    pub persistent: usize,
    /// Facts about the user and the team, 0 (off) to 10.
    pub facts: usize,
    /// Whether facts that a user states ("I moved to Lyon", "call me Ann") are noted when they are said. Off, only what
    /// is given to `/v1/memories` is known.
    pub learn: bool,
    /// Passages of the conversation's own documents, 0 (off) to 10.
    pub inference: usize,
    /// Tokens that all of them may take together; never more than a third of the model's window. Small models get
    /// worse, not better, with more than a few thousand.
    pub tokens: usize,
    /// What becomes of a conversation that outgrows the model's window: `recall` lets its oldest turns leave the prompt and
    /// come back where they matter, `refuse` answers with an error. Without memory it is always refused. A request can say
    /// `"truncation": "disabled"`, or `"auto"`.
    pub overflow: Overflow,
    /// Milliseconds that a source has to answer; a late one contributes nothing to that turn.
    pub deadline_ms: u64,
    /// Milliseconds that the question's vector may take: after that, what is found by words alone is shown. Where words find
    /// nothing, the vector is waited for up to half of `deadline_ms`.
    pub vector_ms: u64,
    /// Megabytes of the index that are kept in memory for quick and exact searches: about 1 for a thousand turns. Of what is
    /// searched least, and of users who have more than fits, the disk is read instead; 0 always reads the disk.
    pub index_mb: usize,
    /// Whether memory may be sent to an upstream on another machine. Off, because what was said to a local model was
    /// not said to anyone else. An upstream on a loopback address is this machine and needs no leave.
    pub send_to_upstream: bool,
    /// Bytes that the files of one user (`/v1/files`) may have together.
    pub file_quota: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            on: true,
            embedder: "all-minilm-l6-v2".to_owned(),
            recalled: 4,
            persistent: 4,
            facts: 4,
            learn: true,
            inference: 4,
            tokens: 2000,
            overflow: Overflow::Recall,
            // Searches take tens of milliseconds; a busy machine that is making another reply takes a few times that.
            deadline_ms: 500,
            // Embedding a question takes 4 to 6 ms on an idle machine of two cores.
            vector_ms: 12,
            index_mb: 512,
            send_to_upstream: false,
            // A few thousand documents; a bound on what one user can take from all others.
            file_quota: 10 << 30,
        }
    }
}

impl Memory {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let chunks = [
            ("recalled", self.recalled),
            ("persistent", self.persistent),
            ("facts", self.facts),
            ("inference", self.inference),
        ];
        for (field, chunks) in chunks {
            if chunks > MAX_CHUNKS {
                let why = format!("{chunks} is too many; it may be 0 (off) to {MAX_CHUNKS}");
                return Err(ConfigError::bad(&format!("memory.{field}"), why));
            }
        }
        if self.deadline_ms == 0 {
            return Err(ConfigError::bad(
                "memory.deadline_ms",
                "must be at least 1; `on = false` turns memory off",
            ));
        }
        if self.embedder.trim().is_empty() {
            return Err(ConfigError::bad(
                "memory.embedder",
                "is empty; the default is `all-minilm-l6-v2`",
            ));
        }
        Ok(())
    }
}
