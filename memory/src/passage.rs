//! A piece of context: what a source contributes, and what a turn's record shows of it.

use serde::{Deserialize, Serialize};

use crate::documents::{Chunk, Document};

/// The three context systems, and what a request may ask for beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// Interaction memory: earlier turns, verbatim.
    Recalled,
    /// Lasting knowledge: documents ingested for a user or a team.
    Persistent,
    /// Documents given for one conversation.
    Inference,
    /// Files of vector stores, where a request asks for them.
    Stored,
    /// Lasting knowledge too: single facts about a user or a team.
    Fact,
    /// A good past answer to a similar question, shown as an example.
    Example,
}

/// Text that may be put before the model, with where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Passage {
    /// The text itself, verbatim.
    pub text: String,
    /// The context system that found it.
    pub source: SourceKind,
    /// How well it fits, 0 to 1; comparable within one source only.
    pub score: f32,
    /// Its size in the model's tokens, set when it is assembled.
    pub tokens: usize,
    /// Where it comes from, for the reader.
    pub citation: Citation,
    /// Whether it is a turn that left this very prompt because the conversation outgrew the window.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub returned: bool,
}

impl Passage {
    /// A chunk of a document.
    #[must_use]
    pub fn of_chunk(source: SourceKind, document: &Document, chunk: &Chunk, score: f32) -> Self {
        let label = match chunk.locator.as_str() {
            "" => document.name.clone(),
            locator => format!("{}, {locator}", document.name),
        };
        Self {
            text: chunk.text.clone(),
            source,
            score,
            tokens: 0,
            citation: Citation {
                id: document.id.to_string(),
                label,
                at: document.ingested_at,
                ordinal: chunk.ordinal,
            },
            returned: false,
        }
    }
}

/// Where a passage comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Citation {
    /// The turn's or the document's id.
    pub id: String,
    /// A short label: the date of a turn, or a file's name with page or heading.
    pub label: String,
    /// When it was said or ingested, in Unix milliseconds: passages are shown in this order.
    pub at: i64,
    /// The chunk's place in its document, counted from 0; 0 for turns.
    pub ordinal: u32,
}
