//! [`Generations`]: the index that serves, with the embedder that made its vectors, and the one that is to follow it. Vectors
//! of two embedders can't be compared, so that another embedder needs all of the index anew, which takes as long as
//! embedding everything does. Meanwhile the old one goes on to serve: what is recorded comes into both, what is removed is
//! removed from both, and when nothing is left to do the new one takes over.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use async_trait::async_trait;
use habit_engine::{Embedder, EngineError, TokenEmbedder};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::MemoryError;
use crate::facts::Facts;
use crate::index::{Entry, Hit, Index, Named, Query, Removal, Section};
use crate::journal::Journal;
use crate::scope::Scope;

/// How long searches of an index that was followed may go on before what it stored is removed.
const LAST_SEARCHES: Duration = Duration::from_secs(10);

/// How often it is looked whether they are over.
const LOOK: Duration = Duration::from_millis(20);

/// An index and the embedder whose vectors it holds.
pub struct Generation {
    /// Text to vectors.
    pub embedder: Arc<dyn Embedder>,
    /// What was made of them.
    pub index: Arc<dyn Index>,
}

impl Generation {
    /// Those of these that the index has not, or has otherwise. Vectors don't count.
    async fn news(&self, entries: &[Entry]) -> Result<HashSet<Uuid>, MemoryError> {
        let known = Named::Entries(entries.iter().map(|entry| entry.id).collect());
        let known = self.index.named(&known).await?.into_iter();
        let known: HashMap<Uuid, Entry> = known.map(|entry| (entry.id, entry)).collect();
        let same = |new: &Entry| {
            let old = known.get(&new.id);
            old.is_some_and(|old| {
                let vector = old.vector.clone();
                *old == Entry { vector, ..new.clone() }
            })
        };
        Ok(entries.iter().filter(|new| !same(new)).map(|new| new.id).collect())
    }
}

/// What an index is stored in, beside those of other generations.
#[async_trait]
pub trait Storage: Send + Sync {
    /// From now on the next start takes up this index where it is, as the one to follow: everything that it has not yet is
    /// marked in the journal.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn begun(&self) -> Result<(), MemoryError>;

    /// From now on the next start opens this index as the one that serves.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn serve(&self) -> Result<(), MemoryError>;

    /// Removes what all other generations stored. What is left of them is removed at the next start.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn remove_others(&self) -> Result<(), MemoryError>;
}

/// The generation that is to follow.
pub struct Next {
    /// It, as far as it is made.
    pub generation: Arc<Generation>,
    /// What it is stored in.
    pub storage: Arc<dyn Storage>,
}

/// Makes an empty index beside the one that serves, for the embedder that is configured.
#[async_trait]
pub trait Founder: Send + Sync {
    /// Makes it, in place of one that another call made and that was not begun.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn found(&self) -> Result<Next, MemoryError>;
}

/// What has to be indexed anew before a generation may follow.
pub struct Everything {
    /// Turns and documents.
    pub journal: Arc<dyn Journal>,
    /// What is known of users.
    pub facts: Arc<dyn Facts>,
}

impl Everything {
    /// Marks all of it as not indexed; gives how much that is.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn mark_pending(&self) -> Result<u64, MemoryError> {
        Ok(self.journal.mark_all_pending().await? + self.facts.mark_all_pending().await?)
    }
}

/// See the module.
///
/// As an [`Embedder`] it makes vectors for the index that serves; what it says of itself (name, dimensions, tokens) is of the
/// embedder that is configured. As an [`Index`] it is the one that serves, but that what is removed is removed from both.
pub struct Generations {
    serving: ArcSwap<Generation>,
    next: ArcSwapOption<Next>,
    configured: Arc<dyn Embedder>,
    founder: Option<Arc<dyn Founder>>,
    /// Held from the look at what is pending until it is marked as indexed.
    writing: Mutex<()>,
    /// Dimensions of the one that served before, 0 if there was none.
    before: AtomicUsize,
}

impl Generations {
    /// One that serves, made by the embedder that is configured.
    #[must_use]
    pub fn new(serving: Generation) -> Self {
        Self {
            configured: Arc::clone(&serving.embedder),
            serving: ArcSwap::from_pointee(serving),
            next: ArcSwapOption::empty(),
            founder: None,
            writing: Mutex::default(),
            before: AtomicUsize::default(),
        }
    }

    /// The same, where others can be made beside it.
    #[must_use]
    pub fn with_founder(self, configured: Arc<dyn Embedder>, founder: Arc<dyn Founder>) -> Self {
        Self {
            configured,
            founder: Some(founder),
            ..self
        }
    }

    /// Goes on with one that was begun before.
    #[must_use]
    pub fn with_next(self, next: Next) -> Self {
        self.next.store(Some(Arc::new(next)));
        self
    }

    /// The id of the embedder whose index is being made, while another one serves.
    #[must_use]
    pub fn being_made(&self) -> Option<String> {
        self.next
            .load()
            .as_ref()
            .map(|next| next.generation.embedder.id().to_owned())
    }

    /// Begins to make the index anew while the old one serves; gives how much is to be indexed. Where no second index can be
    /// kept, it is emptied instead: nothing is lost, but not found until it is indexed again.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn renew(&self, everything: &Everything) -> Result<u64, MemoryError> {
        // What was read as pending before would be marked as indexed afterwards.
        let _turn = self.writing.lock().await;
        let Some(founder) = &self.founder else {
            // Twice: what another gateway indexes between the first time and the removal would be missing, and what is removed
            // before it is marked would be if this process ended here.
            everything.mark_pending().await?;
            self.remove(Removal::All).await?;
            return everything.mark_pending().await;
        };
        if self.next.load().is_some() {
            // What it has is written once more, with the rest.
            return everything.mark_pending().await;
        }
        let next = Arc::new(founder.found().await?);
        // From here on it hears of everything that is written and removed …
        self.next.store(Some(Arc::clone(&next)));
        let begun = async {
            // … so that, once all that was there before is pending, it can be relied on.
            let pending = everything.mark_pending().await?;
            next.storage.begun().await?;
            Ok(pending)
        };
        let begun = begun.await;
        if begun.is_err() {
            self.next.store(None);
        }
        begun
    }

    /// To be held from the look at what is pending until it is marked as indexed.
    pub(crate) async fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().await
    }

    /// Embeds texts and writes what `entries` makes of the vectors, one of each in the same order; to all generations.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub(crate) async fn write(
        &self,
        texts: Vec<String>,
        entries: &(dyn Fn(Vec<Vec<f32>>) -> Vec<Entry> + Sync),
    ) -> Result<(), MemoryError> {
        let serving = self.serving();
        let Some(next) = self.next.load_full() else {
            let vectors = serving.embedder.embed(texts).await?;
            return serving.index.upsert(entries(vectors)).await;
        };
        let vectors = next.generation.embedder.embed(texts.clone()).await?;
        let made = entries(vectors);
        next.generation.index.upsert(made.clone()).await?;
        if let Err(error) = serve_too(&serving, &next.generation, texts, made).await {
            // It may be what the new one is made for.
            tracing::warn!("the old index does not take what is new, the one being made has it: {error}");
        }
        Ok(())
    }

    /// Lets the next generation serve, if there is one: nothing may be pending. True if there was.
    ///
    /// # Errors
    /// [`MemoryError::Storage`]; the old one goes on to serve then.
    pub(crate) async fn succeed(&self) -> Result<bool, MemoryError> {
        let Some(next) = self.next.load_full() else {
            return Ok(false);
        };
        next.generation.index.optimize().await?;
        next.generation.index.hold().await?;
        next.storage.serve().await?;
        self.before
            .store(self.serving().embedder.dimensions(), Ordering::Relaxed);
        let old = self.serving.swap(Arc::clone(&next.generation));
        self.next.store(None);
        tracing::info!(
            "the index made by {} serves now, in place of that by {}",
            next.generation.embedder.id(),
            old.embedder.id()
        );
        let deadline = Instant::now() + LAST_SEARCHES;
        while Arc::strong_count(&old) > 1 && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
        drop(old);
        if let Err(error) = next.storage.remove_others().await {
            tracing::warn!("what the old index stored is removed at the next start: {error}");
        }
        Ok(true)
    }

    fn serving(&self) -> Arc<Generation> {
        self.serving.load_full()
    }

    /// All that there are, the one that serves last.
    fn all(&self) -> impl Iterator<Item = Arc<Generation>> {
        let next = self.next.load_full().map(|next| Arc::clone(&next.generation));
        next.into_iter().chain([self.serving()])
    }
}

/// Writes to the generation that serves what is written to the next one, as far as it is new there: most was there before.
async fn serve_too(
    serving: &Generation,
    next: &Generation,
    texts: Vec<String>,
    made: Vec<Entry>,
) -> Result<(), MemoryError> {
    let news = serving.news(&made).await?;
    let news = texts
        .into_iter()
        .zip(made)
        .filter(|(_, entry)| news.contains(&entry.id));
    let (texts, mut entries): (Vec<String>, Vec<Entry>) = news.unzip();
    if entries.is_empty() {
        return Ok(());
    }
    if serving.embedder.id() != next.embedder.id() {
        let vectors = serving.embedder.embed(texts).await?;
        for (entry, vector) in entries.iter_mut().zip(vectors) {
            entry.vector = vector;
        }
    }
    serving.index.upsert(entries).await
}

#[async_trait]
impl Embedder for Generations {
    async fn embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EngineError> {
        self.serving().embedder.embed(texts).await
    }

    fn dimensions(&self) -> usize {
        self.configured.dimensions()
    }

    fn id(&self) -> &str {
        self.configured.id()
    }

    fn tokens(&self) -> Option<&dyn TokenEmbedder> {
        self.configured.tokens()
    }
}

#[async_trait]
impl Index for Generations {
    /// Vectors must be of the embedder that serves, and no other may be on its way: the indexer writes to both.
    async fn upsert(&self, entries: Vec<Entry>) -> Result<(), MemoryError> {
        if self.next.load().is_some() {
            return Err(MemoryError::BadRequest(
                "the index is being made anew; write to it when that is done".to_owned(),
            ));
        }
        self.serving().index.upsert(entries).await
    }

    async fn search(&self, scope: &Scope, query: Query<'_>) -> Result<Vec<Hit>, MemoryError> {
        let serving = self.serving();
        let (now, before) = (serving.embedder.dimensions(), self.before.load(Ordering::Relaxed));
        let vector = if before == 0 || before == now {
            query.vector
        } else {
            // Embedded just before another one took over: such a question is answered by its words.
            let vector = query.vector.get().await;
            vector.filter(|vector| vector.len() != before).into()
        };
        serving.index.search(scope, Query { vector, ..query }).await
    }

    async fn remove(&self, removal: Removal) -> Result<(), MemoryError> {
        for generation in self.all() {
            generation.index.remove(removal.clone()).await?;
        }
        Ok(())
    }

    async fn entries(&self, section: &Section, most: usize) -> Result<Option<Vec<Entry>>, MemoryError> {
        self.serving().index.entries(section, most).await
    }

    async fn named(&self, names: &Named) -> Result<Vec<Entry>, MemoryError> {
        self.serving().index.named(names).await
    }

    async fn sections(&self) -> Result<Vec<(Section, usize)>, MemoryError> {
        self.serving().index.sections().await
    }

    async fn hold(&self) -> Result<(), MemoryError> {
        self.serving().index.hold().await
    }

    async fn len(&self) -> Result<u64, MemoryError> {
        self.serving().index.len().await
    }

    async fn purge(&self) -> Result<(), MemoryError> {
        for generation in self.all() {
            generation.index.purge().await?;
        }
        Ok(())
    }

    async fn optimize(&self) -> Result<(), MemoryError> {
        for generation in self.all() {
            generation.index.optimize().await?;
        }
        Ok(())
    }
}
