//! [`Shelves`]: an index that keeps in memory what is being asked for, in front of one that keeps everything on disk. What
//! is persisted is the other index's alone; a shelf is filled from it at startup or at the first search, kept up with every
//! write, and let go when the memory is needed. Until a shelf is filled, and where an owner has more than fits, the other one answers.
//! Where several gateways share the other index, each hears in `follow` what the others write.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::news::News;
use super::sea::Feed;
use super::shelf::{self, Alike, Shelf};
use crate::error::MemoryError;
use crate::index::{Entry, Hit, Index, Named, Query, Removal, Section, within};
use crate::passage::SourceKind;
use crate::scope::Scope;

mod cell;
mod follow;
mod lexicon;

use cell::{Cell, Change};
pub use lexicon::Lexicon;

/// How long a search waits for its shelf to be filled, which takes about 10 ms for a thousand entries; after that the other
/// index answers this one.
const PATIENCE: Duration = Duration::from_millis(60);

/// About what an entry takes in memory, to know beforehand whether an owner's entries fit: its vector's bytes and this (of 54
/// words). Too little, and a shelf would be filled only to be let go.
const ENTRY: usize = 800;

/// Entries whose words are learnt together.
const LEARNT: usize = 256;

/// Up to this many entries a search is over before it would be worth handing it to another thread.
const INLINE: usize = 20_000;

/// How long a section that could not be read is left to the other index, before it is read anew.
const READ_AGAIN: Duration = Duration::from_secs(10);

/// An index in memory over one on disk.
pub struct Shelves {
    inner: Arc<dyn Index>,
    shared: Arc<Shared>,
    /// Fillings under way, and learning; they end with the index.
    filling: Mutex<JoinSet<()>>,
    /// How much memory all shelves may take together.
    budget: usize,
    dimensions: usize,
    /// Which words of turns are alike, if that is to count.
    lexicon: Option<Arc<Lexicon>>,
    known: Mutex<Known>,
    /// Whoever changes entries does so in the other index and here before the next one: what is kept here is then as it is
    /// there.
    order: tokio::sync::Mutex<()>,
    /// Tells other gateways what changed, where they share the other index.
    feed: Option<Feed>,
    /// Counts what others removed.
    removed_elsewhere: Arc<AtomicU64>,
}

/// Which sections have entries. A section that has none needs no filling.
#[derive(Default)]
struct Known {
    /// Whether those on the disk are among them.
    listed: bool,
    /// Listed ones, and all that were written to since.
    sections: HashSet<Section>,
}

#[derive(Default)]
struct Shared {
    cells: Mutex<HashMap<Section, Arc<Cell>>>,
    clock: AtomicU64,
}

impl Shelves {
    /// Over this index, with so much memory (in bytes) for all shelves; 0 keeps none.
    #[must_use]
    pub fn new(inner: Arc<dyn Index>, dimensions: usize, budget: usize) -> Self {
        Self {
            inner,
            shared: Arc::default(),
            filling: Mutex::default(),
            budget,
            dimensions,
            lexicon: None,
            known: Mutex::default(),
            order: tokio::sync::Mutex::default(),
            feed: None,
            removed_elsewhere: Arc::default(),
        }
    }

    /// The same, for an index that other gateways use too: they are told of what is written here. What they write comes by
    /// [`Shelves::follow`].
    #[must_use]
    pub fn with_feed(self, feed: Feed) -> Self {
        Self {
            feed: Some(feed),
            ..self
        }
    }

    /// Counts what other gateways removed: whoever keeps something of it has to look again.
    #[must_use]
    pub fn removed_elsewhere(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.removed_elsewhere)
    }

    /// The same, in which words of turns also find those that mean nearly the same.
    #[must_use]
    pub fn with_lexicon(self, lexicon: Lexicon) -> Self {
        Self {
            lexicon: Some(Arc::new(lexicon)),
            ..self
        }
    }

    /// The shelf of a section, if it is filled, or is soon.
    async fn shelf(&self, section: &Section) -> Option<Arc<RwLock<Shelf>>> {
        let cell = self.cell(section);
        cell.used
            .store(self.shared.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        if let Some(ready) = cell.ready() {
            return Some(ready);
        }
        let mut filled = cell.filled.subscribe();
        drop(tokio::time::timeout(PATIENCE, filled.wait_for(|filled| *filled)).await);
        cell.ready()
    }

    /// The cell of a section; a new one is being filled from now on.
    fn cell(&self, section: &Section) -> Arc<Cell> {
        let mut cells = lock(&self.shared.cells);
        if let Some(cell) = cells.get(section) {
            return Arc::clone(cell);
        }
        let empty = {
            let known = lock(&self.known);
            known.listed && !known.sections.contains(section)
        };
        let cell = Arc::new(Cell::new(empty));
        cells.insert(section.clone(), Arc::clone(&cell));
        drop(cells);
        if empty {
            return cell;
        }
        let (inner, shared, budget) = (Arc::clone(&self.inner), Arc::clone(&self.shared), self.budget);
        let most = budget / (self.dimensions + ENTRY);
        let lexicon = self.lexicon.clone().filter(|_| section.source == SourceKind::Recalled);
        let (section, filling) = (section.clone(), Arc::clone(&cell));
        let mut tasks = lock(&self.filling);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let entries = inner.entries(&section, most).await;
            let texts: Vec<String> = match (&lexicon, &entries) {
                (Some(_), Ok(Some(entries))) => entries.iter().map(|entry| entry.text.clone()).collect(),
                _ => Vec::new(),
            };
            let failed = entries.is_err();
            filling.fill(entries).await;
            if failed {
                tokio::time::sleep(READ_AGAIN).await;
                shared.forget(&section, &filling);
            }
            shared.let_go(budget);
            // Last, because it takes longest, and a search does without.
            if let Some(lexicon) = lexicon {
                for texts in texts.chunks(LEARNT) {
                    lexicon
                        .learn(&texts.iter().map(String::as_str).collect::<Vec<_>>())
                        .await;
                }
            }
            filling.learnt.send_replace(true);
        });
        cell
    }

    /// Writes entries to those shelves that there are.
    fn put(&self, entries: Vec<Entry>) {
        for entry in entries {
            let cell = lock(&self.shared.cells).get(&Section::of(&entry)).cloned();
            if let Some(cell) = cell {
                cell.change(Change::Put(Box::new(entry)));
            }
        }
    }

    /// Removes from those shelves that there are.
    fn take(&self, removal: &Removal) {
        match removal {
            Removal::All => lock(&self.shared.cells).clear(),
            Removal::User { team, user } => lock(&self.shared.cells)
                .retain(|section, _| section.team != *team || section.user.as_ref() != Some(user)),
            Removal::Parents { team, parents } => {
                for cell in self.cells(|section| section.team == *team) {
                    for parent in parents {
                        cell.change(Change::Remove(*parent));
                    }
                }
            }
        }
    }

    fn cells(&self, wanted: impl Fn(&Section) -> bool) -> Vec<Arc<Cell>> {
        let cells = lock(&self.shared.cells);
        let found = cells.iter().filter(|(section, _)| wanted(section));
        found.map(|(_, cell)| Arc::clone(cell)).collect()
    }

    /// Notes that these sections have entries: before they are written, since a section that is taken for empty must never
    /// have any.
    fn know(&self, entries: &[Entry]) {
        let sections: HashSet<Section> = entries.iter().map(Section::of).collect();
        lock(&self.known).sections.extend(sections);
    }

    /// Has the words of those entries that are turns learnt, in the background: new ones are most of the work where much is
    /// new, and a search does without.
    fn learn(&self, entries: &[Entry]) {
        let Some(lexicon) = &self.lexicon else { return };
        let turns = entries.iter().filter(|entry| entry.source == SourceKind::Recalled);
        let texts: Vec<&str> = turns.map(|entry| entry.text.as_str()).collect();
        if lexicon.note(&texts) {
            let lexicon = Arc::clone(lexicon);
            lock(&self.filling).spawn(async move { lexicon.work().await });
        }
    }

    async fn tell(&self, news: impl FnOnce() -> News) -> Result<(), MemoryError> {
        match &self.feed {
            Some(feed) => feed.tell(&news()).await,
            None => Ok(()),
        }
    }
}

impl Shared {
    /// Lets go of this shelf, unless there is another one in its place.
    fn forget(&self, section: &Section, cell: &Arc<Cell>) {
        let mut cells = lock(&self.cells);
        if cells.get(section).is_some_and(|there| Arc::ptr_eq(there, cell)) {
            cells.remove(section);
        }
    }

    /// Lets go of shelves, longest unused first, until the rest fits.
    fn let_go(&self, budget: usize) {
        let mut cells = lock(&self.cells);
        let mut sizes: Vec<(u64, usize, Section)> = cells
            .iter()
            .filter_map(|(section, cell)| {
                let bytes = read(&*cell.ready()?).bytes();
                Some((cell.used.load(Ordering::Relaxed), bytes, section.clone()))
            })
            .collect();
        sizes.sort_by_key(|(used, ..)| *used);
        let mut total: usize = sizes.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, section) in sizes {
            if total <= budget {
                return;
            }
            cells.remove(&section);
            total -= bytes;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(shelf: &RwLock<Shelf>) -> std::sync::RwLockReadGuard<'_, Shelf> {
    shelf.read().unwrap_or_else(PoisonError::into_inner)
}

/// Searches shelves that are in memory.
async fn search(
    shelves: Vec<Arc<RwLock<Shelf>>>,
    scope: &Scope,
    query: &Query<'_>,
    lexicon: Option<Arc<Lexicon>>,
) -> Vec<Hit> {
    let size: usize = shelves.iter().map(|shelf| read(shelf).len()).sum();
    if size <= INLINE {
        let vector = query.vector.settled().await;
        let query = Query {
            vector,
            ..query.clone()
        };
        return search_now(&shelves, within(scope, query.source), &query, lexicon.as_deref());
    }
    let inside = within(scope, query.source).map(str::to_owned);
    let parents = query.parents.map(<[Uuid]>::to_vec);
    let (text, vector) = (query.text.to_owned(), query.vector.clone());
    let (source, limit, around) = (query.source, query.limit, query.around);
    let work = tokio::task::spawn_blocking(move || {
        let query = Query {
            source,
            text: &text,
            vector,
            parents: parents.as_deref(),
            limit,
            around,
        };
        search_now(&shelves, inside.as_deref(), &query, lexicon.as_deref())
    });
    work.await.unwrap_or_default()
}

fn search_now(
    shelves: &[Arc<RwLock<Shelf>>],
    inside: Option<&str>,
    query: &Query<'_>,
    lexicon: Option<&Lexicon>,
) -> Vec<Hit> {
    let shelves: Vec<_> = shelves.iter().map(|shelf| read(shelf)).collect();
    let shelves: Vec<&Shelf> = shelves.iter().map(|shelf| &**shelf).collect();
    let alike = || lexicon.map_or_else(Alike::new, |lexicon| lexicon.alike(query.text));
    shelf::search(&shelves, inside, query, alike)
}

#[async_trait]
impl Index for Shelves {
    async fn upsert(&self, entries: Vec<Entry>) -> Result<(), MemoryError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.know(&entries);
        self.learn(&entries);
        let ids = entries.iter().map(|entry| entry.id).collect();
        {
            let _order = self.order.lock().await;
            self.inner.upsert(entries.clone()).await?;
            self.put(entries);
        }
        self.tell(|| News::Put(ids)).await
    }

    async fn search(&self, scope: &Scope, query: Query<'_>) -> Result<Vec<Hit>, MemoryError> {
        // Also says what is wrong with a vector.
        let wrong = query
            .vector
            .known()
            .is_some_and(|vector| vector.len() != self.dimensions);
        if query.limit == 0 || wrong || self.budget == 0 {
            return self.inner.search(scope, query).await;
        }
        let [own, team] = Section::readable(scope, query.source);
        let (own, team) = tokio::join!(self.shelf(&own), self.shelf(&team));
        match (own, team) {
            (Some(own), Some(team)) => {
                let lexicon = self.lexicon.clone().filter(|_| query.source == SourceKind::Recalled);
                if let Some(lexicon) = &lexicon {
                    lexicon.meet(query.text).await;
                }
                Ok(search(vec![own, team], scope, &query, lexicon).await)
            }
            _ => self.inner.search(scope, query).await,
        }
    }

    async fn remove(&self, removal: Removal) -> Result<(), MemoryError> {
        {
            let _order = self.order.lock().await;
            self.inner.remove(removal.clone()).await?;
            self.take(&removal);
        }
        self.tell(|| News::Removed(removal)).await
    }

    async fn entries(&self, section: &Section, most: usize) -> Result<Option<Vec<Entry>>, MemoryError> {
        self.inner.entries(section, most).await
    }

    async fn named(&self, names: &Named) -> Result<Vec<Entry>, MemoryError> {
        self.inner.named(names).await
    }

    async fn sections(&self) -> Result<Vec<(Section, usize)>, MemoryError> {
        self.inner.sections().await
    }

    async fn hold(&self) -> Result<(), MemoryError> {
        if self.budget == 0 {
            return Ok(());
        }
        let mut sections = self.inner.sections().await?;
        {
            let mut known = lock(&self.known);
            known
                .sections
                .extend(sections.iter().map(|(section, _)| section.clone()));
            known.listed = true;
        }
        // The largest first: they take longest when someone waits for them.
        sections.sort_by_key(|(_, entries)| std::cmp::Reverse(*entries));
        let (mut left, mut cells) = (self.budget, Vec::new());
        for (section, entries) in sections {
            let bytes = entries * (self.dimensions + ENTRY);
            if bytes > left {
                continue;
            }
            left -= bytes;
            let cell = self.cell(&section);
            // One after the other: a question that comes meanwhile has a core to itself.
            drop(cell.filled.subscribe().wait_for(|filled| *filled).await);
            cells.push(cell);
        }
        for cell in cells {
            drop(cell.learnt.subscribe().wait_for(|learnt| *learnt).await);
        }
        if let Some(lexicon) = &self.lexicon {
            lexicon.learnt().await;
        }
        Ok(())
    }

    async fn len(&self) -> Result<u64, MemoryError> {
        self.inner.len().await
    }

    async fn purge(&self) -> Result<(), MemoryError> {
        self.inner.purge().await
    }

    async fn optimize(&self) -> Result<(), MemoryError> {
        self.inner.optimize().await?;
        self.shared.let_go(self.budget);
        Ok(())
    }
}
