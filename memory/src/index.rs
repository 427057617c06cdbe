//! The index: finds turns and chunks by meaning and by words. Rebuildable from the journal at any time.

use async_trait::async_trait;
use uuid::Uuid;

use crate::error::MemoryError;
use crate::passage::SourceKind;
use crate::scope::Scope;

/// Who may find an entry. Each field is a column of the index and part of the filter inside both searches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The team, always.
    pub team: String,
    /// The user; `None` is the whole team.
    pub user: Option<String>,
    /// The conversation, for what was given for one conversation only (never set for recalled turns, which are
    /// found from every conversation of their user); the vector store, for [`SourceKind::Stored`].
    pub conversation: Option<String>,
}

/// One searchable unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The turn's or the chunk's id; unique.
    pub id: Uuid,
    /// The document of a chunk, the turn itself otherwise: deletions go by it.
    pub parent: Uuid,
    /// The context system that it belongs to.
    pub source: SourceKind,
    /// Who may find it.
    pub owner: Owner,
    /// The conversation in which a turn was said (for session features and for leaving out the present one).
    pub session: String,
    /// What full-text search reads (for turns: the turn and its neighbour).
    pub text: String,
    /// What is embedded (for turns: the turn alone).
    pub vector: Vec<f32>,
    /// When it was said or ingested, in Unix milliseconds.
    pub at: i64,
}

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    /// The context system.
    pub source: SourceKind,
    /// The words, for full-text search.
    pub text: &'a str,
    /// The meaning; `None` (the embedder was late) searches by words alone.
    pub vector: Option<&'a [f32]>,
    /// Only entries with one of these parents; `None` is all.
    pub parents: Option<&'a [Uuid]>,
    /// Candidates of each leg, at most.
    pub limit: usize,
}

/// What a scope reads beyond its user's and its team's own: its conversation, or for files of stores its store.
#[must_use]
pub fn within(scope: &Scope, source: SourceKind) -> Option<&str> {
    match source {
        SourceKind::Stored => scope.store(),
        SourceKind::Recalled | SourceKind::Persistent | SourceKind::Inference => scope.conversation(),
    }
}

/// A candidate, with what each leg says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The entry's id.
    pub id: Uuid,
    /// The conversation or document that it is from.
    pub session: String,
    /// When it was said or ingested, in Unix milliseconds.
    pub at: i64,
    /// BM25 score, where the text matched.
    pub bm25: Option<f32>,
    /// Cosine similarity, -1 to 1, where the vector leg found it.
    pub cosine: Option<f32>,
}

/// Which entries to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// Everything with one of these parents, within the team.
    Parents {
        /// The team.
        team: String,
        /// The turns or documents.
        parents: Vec<Uuid>,
    },
    /// Everything, of everyone: before a rebuild.
    All,
}

/// Finds entries.
///
/// Laws:
/// 1. `search` gives only entries whose owner the scope may read: same team; no user or the scope's user; no
///    conversation or the scope's conversation (for [`SourceKind::Stored`] the scope's store, see [`within`]); and of the
///    query's parents, where it names any. The filter is inside both legs: foreign entries never crowd out own ones.
/// 2. After `upsert` returns, its entries are found; an entry with a known id replaces the old one.
/// 3. After `remove` returns, removed entries are never found.
/// 4. Every vector has the index's dimensions, else [`MemoryError::BadRequest`].
#[expect(clippy::len_without_is_empty, reason = "a count for reports, not a collection")]
#[async_trait]
pub trait Index: Send + Sync {
    /// Adds or replaces entries.
    ///
    /// # Errors
    /// [`MemoryError::Storage`], [`MemoryError::BadRequest`].
    async fn upsert(&self, entries: Vec<Entry>) -> Result<(), MemoryError>;

    /// Candidates of both legs, each once, unordered.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn search(&self, scope: &Scope, query: Query<'_>) -> Result<Vec<Hit>, MemoryError>;

    /// Removes entries.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn remove(&self, removal: Removal) -> Result<(), MemoryError>;

    /// How many entries there are, of everyone.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn len(&self) -> Result<u64, MemoryError>;

    /// Housekeeping: merge small files, bring the search structures up to date. Safe at any time.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn optimize(&self) -> Result<(), MemoryError>;
}
