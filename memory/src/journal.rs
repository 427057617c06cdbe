//! The journal: the source of truth. Everything else ([`crate::index`], learned state) can be rebuilt from it.

use async_trait::async_trait;
use uuid::Uuid;

use crate::documents::{Chunk, Document};
use crate::error::MemoryError;
use crate::interaction::Interaction;
use crate::scope::Scope;

/// A page of a listing, newest first.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// At most so many, 1 to 1000.
    pub limit: u64,
    /// Only items older than this one.
    pub before: Option<Uuid>,
}

impl Page {
    /// The longest page.
    pub const MOST: u64 = 1000;
}

/// What still has to be embedded and indexed.
#[derive(Debug, Clone, PartialEq)]
pub enum Pending {
    /// A turn that may be recalled ([`Interaction::is_recallable`]).
    Turn {
        /// The turn.
        turn: Box<Interaction>,
        /// The prompt and reply of the turn that it continues, if that one may be recalled too.
        before: Option<(String, String)>,
    },
    /// A chunk of a document.
    Chunk {
        /// Whose it is and where it applies.
        document: Box<Document>,
        /// The chunk.
        chunk: Chunk,
    },
}

/// Keeps turns and documents.
///
/// Laws:
/// 1. When `record` or `add_document` returns Ok, the data survives the death of the process.
/// 2. Every read takes a [`Scope`] and gives only what that scope may see; an id of another scope is not found.
/// 3. A document is there with all its chunks, or not at all.
/// 4. What was deleted is gone from every later read and from `pending`.
/// 5. `pending` gives, oldest first and at most `limit`, what `mark_indexed` was not yet called for; of turns, only
///    those that may be recalled ([`Interaction::is_recallable`]).
/// 6. Newest and oldest are told by the ids, which are UUIDv7: a page goes on where the last one ended, even if the
///    turn there was deleted meanwhile.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Writes a turn; a second write of the same id replaces the first.
    ///
    /// # Errors
    /// [`MemoryError::Storage`] if it could not be made durable; [`MemoryError::BadRequest`] if its scope has no
    /// conversation, or its id is another user's.
    async fn record(&self, turn: Interaction) -> Result<(), MemoryError>;

    /// One turn of this user.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn turn(&self, scope: &Scope, id: Uuid) -> Result<Option<Interaction>, MemoryError>;

    /// These turns of this user, in any order; ids that the scope can't see are left out.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn turns_by_id(&self, scope: &Scope, ids: &[Uuid]) -> Result<Vec<Interaction>, MemoryError>;

    /// This user's turns, newest first; those of the scope's conversation only, if it has one.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn turns(&self, scope: &Scope, page: Page) -> Result<Vec<Interaction>, MemoryError>;

    /// The newest turn of this user whose `chain` is this hash.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn turn_by_chain(&self, scope: &Scope, chain: &str) -> Result<Option<Interaction>, MemoryError>;

    /// Deletes a turn of this user; false if there is none.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn delete_turn(&self, scope: &Scope, id: Uuid) -> Result<bool, MemoryError>;

    /// Writes a document with all its chunks, whose number is put into the document. A document with the same owner,
    /// place and name (and conversation, where it counts in one only) is replaced; in a store nothing is, files there
    /// are told apart by their ids alone. Returns the ids of replaced documents.
    ///
    /// # Errors
    /// [`MemoryError::Storage`]; [`MemoryError::BadRequest`] if its place is a conversation or a store and none is
    /// named, or an id is taken.
    async fn add_document(&self, document: Document, chunks: Vec<Chunk>) -> Result<Vec<Uuid>, MemoryError>;

    /// Documents that this scope sees (its own, its team's, and those of its conversation and its store), newest first.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn documents(&self, scope: &Scope) -> Result<Vec<Document>, MemoryError>;

    /// One of them.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn document(&self, scope: &Scope, id: Uuid) -> Result<Option<Document>, MemoryError>;

    /// These chunks, with their documents, as far as the scope sees them.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn chunks_by_id(&self, scope: &Scope, ids: &[Uuid]) -> Result<Vec<(Document, Chunk)>, MemoryError>;

    /// All chunks of a document that the scope sees, in order.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn chunks(&self, scope: &Scope, document: Uuid) -> Result<Vec<Chunk>, MemoryError>;

    /// Every document that this user gave, wherever it counts, oldest first.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn given(&self, scope: &Scope) -> Result<Vec<Document>, MemoryError>;

    /// Deletes all turns of this user, and all documents that the user gave, those for the whole team only with
    /// `team_wide`.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn erase(&self, scope: &Scope, team_wide: bool) -> Result<Erased, MemoryError>;

    /// Makes sure that nothing of what was deleted is left where the journal is kept. It may take long, and writes wait
    /// for it.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn purge(&self) -> Result<(), MemoryError>;

    /// Deletes a document and its chunks; false if the scope sees none with this id. A team's document may be
    /// deleted by any of its users.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn delete_document(&self, scope: &Scope, id: Uuid) -> Result<bool, MemoryError>;

    /// What is not yet indexed, for the background indexer: the one read without a scope, never shown to anyone.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn pending(&self, limit: u64, first: First) -> Result<Vec<Pending>, MemoryError>;

    /// Notes that these turns and chunks are in the index.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn mark_indexed(&self, ids: &[Uuid]) -> Result<(), MemoryError>;

    /// Forgets what is indexed, so that everything is pending again; returns how many items that is.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn mark_all_pending(&self) -> Result<u64, MemoryError>;

    /// Everyone who has turns or documents, by team and user: for work in the background, one by one, never shown to anyone.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn owners(&self) -> Result<Vec<Scope>, MemoryError>;

    /// Says of these turns of the user whether they may be recalled from now on; returns how many that changes. Those that may
    /// are pending then, those that may not never.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn set_remember(&self, scope: &Scope, ids: &[Uuid], remember: bool) -> Result<u64, MemoryError>;

    /// Makes these turns of the user pending again, as far as they may be recalled; returns how many that are.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn mark_pending(&self, scope: &Scope, ids: &[Uuid]) -> Result<u64, MemoryError>;

    /// Turns and chunks in all, and how many of them are pending.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn totals(&self) -> Result<Totals, MemoryError>;

    /// Waits until no other process that shares this journal indexes, and keeps them from it until what is given is dropped;
    /// when a process dies, its right ends. An indexer asks before it reads what is pending, so that nothing is embedded
    /// twice. A journal that no other process shares has nothing to wait for.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn index_alone(&self) -> Result<Alone, MemoryError> {
        Ok(Alone::default())
    }

    /// Waits for writes under way; no write is taken afterwards.
    async fn close(&self);
}

/// Which of what is pending come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// Those that were recorded first.
    Oldest,
    /// Those that were recorded last.
    Newest,
}

/// What only one process has at a time, until this is dropped.
#[must_use = "it ends when this is dropped"]
#[derive(Default)]
pub struct Alone(Option<Box<dyn std::any::Any + Send + Sync>>);

impl Alone {
    /// Ends when `held` is dropped.
    pub fn until_dropped(held: impl Send + Sync + 'static) -> Self {
        Self(Some(Box::new(held)))
    }

    /// Whether anything is kept from anyone.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.0.is_some()
    }
}

/// What [`Journal::erase`] deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Erased {
    /// How many turns.
    pub turns: u64,
    /// Which documents.
    pub documents: Vec<Uuid>,
}

/// Sizes of a journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Turns.
    pub turns: u64,
    /// Documents.
    pub documents: u64,
    /// Chunks of documents.
    pub chunks: u64,
    /// Turns and chunks that are not indexed yet.
    pub pending: u64,
}
