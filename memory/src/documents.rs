//! Documents: what they are, how their text is extracted, and how it is cut into chunks that can be cited.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::scope::Scope;

mod chunk;
mod extract;
mod read;
pub(crate) mod schema;

pub use chunk::{Cut, split};
pub use extract::extract;
pub use read::{USUAL_CUT, read};

/// Where a document counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In every conversation of its user.
    User,
    /// In every conversation of everyone in the team.
    Team,
    /// In the scope's conversation only.
    Conversation,
    /// In the scope's vector store only: found when that store is asked, and never by the way.
    Store,
}

/// An ingested document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// UUIDv7.
    pub id: Uuid,
    /// Who gave it; the conversation is set if and only if the place is [`Place::Conversation`], the store if and only
    /// if it is [`Place::Store`].
    pub scope: Scope,
    /// Where it counts.
    pub place: Place,
    /// The file's name, without folders.
    pub name: String,
    /// The media type that its text was extracted as, such as `text/markdown`.
    pub media_type: String,
    /// The file's size in bytes.
    pub bytes: u64,
    /// SHA-256 of the file, lowercase hex.
    pub sha256: String,
    /// How many chunks it was cut into.
    pub chunks: u32,
    /// When it was ingested, in Unix milliseconds.
    pub ingested_at: i64,
}

/// A piece of a document, small enough to be put before a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// UUIDv7.
    pub id: Uuid,
    /// Its place in the document, counted from 0.
    pub ordinal: u32,
    /// Its text, verbatim.
    pub text: String,
    /// Page, heading or symbol, for the citation; empty where there is none.
    pub locator: String,
}

/// The text of a document, in sections that a citation can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extracted {
    /// The media type that was recognised.
    pub media_type: String,
    /// The sections, in order.
    pub sections: Vec<Section>,
}

/// A stretch of a document under one locator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Page, heading or symbol; empty where there is none.
    pub locator: String,
    /// The text.
    pub text: String,
}
