//! A journal whose writes wait, or fail, as a test says.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use habit_memory::documents::{Chunk, Document};
use habit_memory::interaction::Interaction;
use habit_memory::journal::{Erased, First, Journal, Page, Pending, Totals};
use habit_memory::store::ram::RamJournal;
use habit_memory::{MemoryError, Scope};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// One permit, one write.
pub struct Held {
    pub inner: RamJournal,
    pub writes: Semaphore,
    pub broken: AtomicBool,
}

impl Held {
    /// Lets so many writes through before they wait.
    pub fn new(writes: usize) -> Self {
        Self {
            inner: RamJournal::default(),
            writes: Semaphore::new(writes),
            broken: AtomicBool::new(false),
        }
    }

    /// Writes and reads of turns fail from now on.
    pub fn break_down(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }

    fn check(&self) -> Result<(), MemoryError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(MemoryError::Storage("the disk is full; free some space".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl Journal for Held {
    async fn record(&self, turn: Interaction) -> Result<(), MemoryError> {
        self.writes.acquire().await.expect("never closed").forget();
        self.check()?;
        self.inner.record(turn).await
    }
    async fn turn(&self, scope: &Scope, id: Uuid) -> Result<Option<Interaction>, MemoryError> {
        self.inner.turn(scope, id).await
    }
    async fn turns_by_id(&self, scope: &Scope, ids: &[Uuid]) -> Result<Vec<Interaction>, MemoryError> {
        self.inner.turns_by_id(scope, ids).await
    }
    async fn turns(&self, scope: &Scope, page: Page) -> Result<Vec<Interaction>, MemoryError> {
        self.check()?;
        self.inner.turns(scope, page).await
    }
    async fn turn_by_chain(&self, scope: &Scope, chain: &str) -> Result<Option<Interaction>, MemoryError> {
        self.check()?;
        self.inner.turn_by_chain(scope, chain).await
    }
    async fn delete_turn(&self, scope: &Scope, id: Uuid) -> Result<bool, MemoryError> {
        self.inner.delete_turn(scope, id).await
    }
    async fn add_document(&self, document: Document, chunks: Vec<Chunk>) -> Result<Vec<Uuid>, MemoryError> {
        self.inner.add_document(document, chunks).await
    }
    async fn documents(&self, scope: &Scope) -> Result<Vec<Document>, MemoryError> {
        self.inner.documents(scope).await
    }
    async fn document(&self, scope: &Scope, id: Uuid) -> Result<Option<Document>, MemoryError> {
        self.inner.document(scope, id).await
    }
    async fn chunks_by_id(&self, scope: &Scope, ids: &[Uuid]) -> Result<Vec<(Document, Chunk)>, MemoryError> {
        self.inner.chunks_by_id(scope, ids).await
    }
    async fn chunks(&self, scope: &Scope, document: Uuid) -> Result<Vec<Chunk>, MemoryError> {
        self.inner.chunks(scope, document).await
    }
    async fn given(&self, scope: &Scope) -> Result<Vec<Document>, MemoryError> {
        self.inner.given(scope).await
    }
    async fn erase(&self, scope: &Scope, team_wide: bool) -> Result<Erased, MemoryError> {
        self.inner.erase(scope, team_wide).await
    }
    async fn purge(&self) -> Result<(), MemoryError> {
        self.inner.purge().await
    }
    async fn delete_document(&self, scope: &Scope, id: Uuid) -> Result<bool, MemoryError> {
        self.inner.delete_document(scope, id).await
    }
    async fn pending(&self, limit: u64, first: First) -> Result<Vec<Pending>, MemoryError> {
        self.inner.pending(limit, first).await
    }
    async fn mark_indexed(&self, ids: &[Uuid]) -> Result<(), MemoryError> {
        self.inner.mark_indexed(ids).await
    }
    async fn mark_all_pending(&self) -> Result<u64, MemoryError> {
        self.inner.mark_all_pending().await
    }
    async fn owners(&self) -> Result<Vec<Scope>, MemoryError> {
        self.inner.owners().await
    }
    async fn set_remember(&self, scope: &Scope, ids: &[Uuid], remember: bool) -> Result<u64, MemoryError> {
        self.inner.set_remember(scope, ids, remember).await
    }
    async fn mark_pending(&self, scope: &Scope, ids: &[Uuid]) -> Result<u64, MemoryError> {
        self.inner.mark_pending(scope, ids).await
    }
    async fn totals(&self) -> Result<Totals, MemoryError> {
        self.inner.totals().await
    }
    async fn close(&self) {
        self.inner.close().await;
    }
}
