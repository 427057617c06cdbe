//! The index: finds turns and chunks by meaning and by words. Rebuildable from the journal at any time.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::MemoryError;
use crate::passage::SourceKind;
use crate::query_vector::QueryVector;
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
    /// Who says it, where a name is known.
    pub speaker: Option<String>,
    /// What full-text search reads.
    pub text: String,
    /// Words of what it says (of a turn: the user's, without the reply's).
    pub words: u32,
    /// Whether it states something, rather than only asking or wishing.
    pub states: bool,
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
    /// The meaning; without one (the embedder was late) words alone are searched.
    pub vector: QueryVector,
    /// Only entries with one of these parents; `None` is all.
    pub parents: Option<&'a [Uuid]>,
    /// Candidates of each leg, at most (more only where they are equal).
    pub limit: usize,
    /// Whether what stands beside an entry in its session counts for it too: in a conversation, a question's words lead
    /// to the answer that follows.
    pub around: bool,
}

/// Where an entry stands: whose it is, and of which context system. A scope reads whole sections, but for what was given
/// for another conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Section {
    /// The team.
    pub team: String,
    /// The user; `None` is what the whole team may find.
    pub user: Option<String>,
    /// The context system.
    pub source: SourceKind,
}

impl Section {
    /// An entry's section.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        Self {
            team: entry.owner.team.clone(),
            user: entry.owner.user.clone(),
            source: entry.source,
        }
    }

    /// The two sections that a scope reads: its user's and its team's.
    #[must_use]
    pub fn readable(scope: &Scope, source: SourceKind) -> [Self; 2] {
        [Some(scope.user().to_owned()), None].map(|user| Self {
            team: scope.team().to_owned(),
            user,
            source,
        })
    }
}

/// What a scope reads beyond its user's and its team's own: its conversation, or for files of stores its store.
#[must_use]
pub fn within(scope: &Scope, source: SourceKind) -> Option<&str> {
    match source {
        SourceKind::Stored => scope.store(),
        SourceKind::Recalled
        | SourceKind::Persistent
        | SourceKind::Inference
        | SourceKind::Fact
        | SourceKind::Example => scope.conversation(),
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
    /// BM25 score, where the text (with [`Query::around`], or what stands beside it) matched.
    pub bm25: Option<f32>,
    /// Cosine similarity, -1 to 1, where it is known.
    pub cosine: Option<f32>,
    /// The share of the query's content words that the text has, 0 to 1, rare words counting more.
    pub overlap: f32,
    /// The mean cosine of what stands before and after it in its session, where it is known.
    pub around: Option<f32>,
    /// The mean BM25 of the three best of its session, where it is known.
    pub session_words: Option<f32>,
    /// The mean cosine of the three nearest of its session, where it is known.
    pub session_meaning: Option<f32>,
    /// Words of what it says.
    pub words: u32,
    /// Whether it states something, rather than only asking or wishing.
    pub states: bool,
    /// Whether it is said by the one speaker whom the query names; `None` where it names none, or several.
    pub named: Option<bool>,
    /// How many entries it was chosen from, where that is known.
    pub among: Option<usize>,
}

/// Which entries to remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Removal {
    /// Everything with one of these parents, within the team.
    Parents {
        /// The team.
        team: String,
        /// The turns or documents.
        parents: Vec<Uuid>,
    },
    /// Everything of this user's own: what is the whole team's stays.
    User {
        /// The team.
        team: String,
        /// The user.
        user: String,
    },
    /// Everything, of everyone: before a rebuild.
    All,
}

/// Entries by name, whoever's they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// Those with these ids.
    Entries(Vec<Uuid>),
    /// Those with one of these parents, within the team.
    Parents {
        /// The team.
        team: String,
        /// The turns or documents.
        parents: Vec<Uuid>,
    },
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
/// 5. A query whose vector is still to come gives what it would give if it had come before, or where none comes, what words
///    alone give; of other dimensions it counts as one that did not come.
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

    /// All entries of a section, in any order; `None` if there are more than `most`.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn entries(&self, section: &Section, most: usize) -> Result<Option<Vec<Entry>>, MemoryError>;

    /// Those of these entries that there are, in any order: for what is kept of the index elsewhere, never shown to anyone.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn named(&self, names: &Named) -> Result<Vec<Entry>, MemoryError>;

    /// Every section that has entries, with how many.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn sections(&self) -> Result<Vec<(Section, usize)>, MemoryError>;

    /// Reads into memory what this index keeps there, so that the first search of it is as quick as the next; returns when
    /// that is done. Searches may go on meanwhile.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn hold(&self) -> Result<(), MemoryError> {
        Ok(())
    }

    /// How many entries there are, of everyone.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn len(&self) -> Result<u64, MemoryError>;

    /// Makes sure that nothing of what was removed is left where entries are stored, not in old versions or search
    /// structures either. It may take long, and a search that is under way may fail.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn purge(&self) -> Result<(), MemoryError> {
        self.optimize().await
    }

    /// Housekeeping: merge small files, bring the search structures up to date. Safe at any time.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn optimize(&self) -> Result<(), MemoryError>;
}
