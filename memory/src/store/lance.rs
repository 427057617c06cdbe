//! [`LanceIndex`]: the index on LanceDB. One table holds every entry; its scope is in NOT NULL columns that are part
//! of the filter inside both searches. Rows and filters are in `rows`, housekeeping is in `upkeep`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Instant;

use async_trait::async_trait;
use futures::TryStreamExt;
use lancedb::arrow::arrow_array::{RecordBatch, RecordBatchIterator};
use lancedb::index::scalar::{FtsIndexBuilder, FullTextSearchQuery};
use lancedb::query::{ExecutableQuery, QueryBase, Select};
use lancedb::{DistanceType, Table};
use tokio::sync::Mutex;

use self::roll::Roll;
use super::depot::Depot;
use crate::error::MemoryError;
use crate::generations::Storage;
use crate::index::{Entry, Hit, Index, Named, Query, Removal, Section};
use crate::scope::Scope;

mod open;
mod roll;
mod rows;
mod upkeep;

pub use open::Made;

/// Where in the schema's metadata the embedder is named.
const EMBEDDER_KEY: &str = "habit.embedder";

/// Partitions of the vector structure that every search reads at least. With about sqrt(rows) partitions of exact
/// vectors, this is a tenth of them at 100,000 rows. The search goes on to further partitions while a narrow scope
/// has found too little, so that other people's entries never crowd out own ones.
const MIN_PROBES: usize = 32;

/// The index on LanceDB, in a folder, or in an object store that several gateways share.
pub struct LanceIndex {
    opened: RwLock<Opened>,
    /// The table's name.
    name: String,
    depot: Depot,
    dimensions: usize,
    /// Writers take turns: commits that collide would have to be retried, and housekeeping would lose its work.
    writer: Mutex<()>,
    /// Commits since the last housekeeping.
    changes: AtomicU64,
    /// Whether something was removed since then, which housekeeping must then erase from the disk.
    removed: AtomicBool,
}

/// The table as it was opened. LanceDB keeps every file open that a search went through, also after housekeeping removed
/// it, until the table is opened anew.
struct Opened {
    table: Table,
    at: Instant,
}

impl LanceIndex {
    /// Opens the index in this place, or makes an empty one.
    ///
    /// # Errors
    /// [`MemoryError::Storage`] if the place can't be read or written, or if its vectors were made by another
    /// embedder: the message says to run `habit reindex`.
    pub async fn open(depot: impl Into<Depot>, dimensions: usize, embedder_id: &str) -> Result<Self, MemoryError> {
        let depot = depot.into();
        let name = Roll::read(&depot).await?.serving;
        Self::of_table(depot, name, dimensions, embedder_id).await
    }

    /// Which embedder made the index that serves in this place; `None` if there is none yet.
    ///
    /// # Errors
    /// [`MemoryError::Storage`] if the place can't be read.
    pub async fn made(depot: impl Into<Depot>) -> Result<Option<Made>, MemoryError> {
        let depot = depot.into();
        let name = Roll::read(&depot).await?.serving;
        open::made(&depot, &name).await
    }

    /// The index that an earlier process began to make beside the one that serves, if it is for this embedder.
    ///
    /// # Errors
    /// [`MemoryError::Storage`] if the place can't be read.
    pub async fn next(depot: impl Into<Depot>, dimensions: usize, id: &str) -> Result<Option<Self>, MemoryError> {
        let depot = depot.into();
        let Some(name) = Roll::read(&depot).await?.next else {
            return Ok(None);
        };
        let made = open::made(&depot, &name).await?;
        if made.is_none_or(|made| made.embedder != id || made.dimensions != dimensions) {
            return Ok(None);
        }
        Self::of_table(depot, name, dimensions, id).await.map(Some)
    }

    /// Makes an empty index beside the one that serves, in place of any that did not get to serve.
    ///
    /// # Errors
    /// [`MemoryError::Storage`] if the place can't be written, or is an object store: others may use what is there.
    pub async fn beside(depot: impl Into<Depot>, dimensions: usize, id: &str) -> Result<Self, MemoryError> {
        let depot = depot.into();
        let roll = Roll::read(&depot).await?;
        let alone = Roll { next: None, ..roll };
        alone.write(&depot).await?;
        alone.remove_others(&depot).await?;
        Self::of_table(depot, alone.name_for_next(), dimensions, id).await
    }

    async fn of_table(depot: Depot, name: String, dimensions: usize, embedder_id: &str) -> Result<Self, MemoryError> {
        let table = open::table((&depot, &name), dimensions, embedder_id).await?;
        Ok(Self {
            opened: RwLock::new(Opened {
                table,
                at: Instant::now(),
            }),
            name,
            depot,
            dimensions,
            writer: Mutex::new(()),
            // Whatever was left undone before the start is looked at once.
            changes: AtomicU64::new(1),
            removed: AtomicBool::new(false),
        })
    }

    /// Throws away what is in this place and opens an empty index for this embedder: the way out when the embedder
    /// was changed or the files are damaged. The journal must be set to pending beside it. In an object store the old
    /// entries stay as a version that the next housekeeping removes: other gateways may be reading them.
    ///
    /// # Errors
    /// [`MemoryError::Storage`] if the place can't be cleared or written.
    pub async fn rebuild(depot: impl Into<Depot>, dimensions: usize, embedder_id: &str) -> Result<Self, MemoryError> {
        let depot = depot.into();
        open::clear(&depot, dimensions, embedder_id).await?;
        Self::open(depot, dimensions, embedder_id).await
    }

    fn table(&self) -> Table {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        opened.table.clone()
    }

    /// Lets go of the files that housekeeping removed. Searches under way end on the table that they began with.
    async fn open_anew(&self) {
        let table = match open::again(&self.depot, &self.name).await {
            Ok(table) => table,
            Err(error) => {
                tracing::warn!("files that were removed from the index stay open: {error}");
                return;
            }
        };
        let at = Instant::now();
        *self.opened.write().unwrap_or_else(PoisonError::into_inner) = Opened { table, at };
    }

    fn trouble(&self, doing: &str, error: &lancedb::Error) -> MemoryError {
        MemoryError::Storage(format!("{doing} the index in {} failed: {error}", self.depot))
    }

    /// Whether nobody else writes here.
    fn alone(&self) -> bool {
        matches!(self.depot, Depot::Folder(_))
    }

    fn check_dimensions(&self, vector: &[f32]) -> Result<(), MemoryError> {
        if vector.len() == self.dimensions {
            return Ok(());
        }
        Err(MemoryError::BadRequest(format!(
            "a vector has {} dimensions, but this index has {}",
            vector.len(),
            self.dimensions
        )))
    }

    async fn by_words(&self, filter: &str, query: &Query<'_>) -> Result<Vec<RecordBatch>, lancedb::Error> {
        if !query.text.chars().any(char::is_alphanumeric) {
            return Ok(Vec::new());
        }
        let words = FullTextSearchQuery::new(query.text.to_owned()).with_column(rows::BODY.to_owned())?;
        self.table()
            .query()
            .full_text_search(words)
            .only_if(filter)
            .limit(query.limit)
            .select(found(rows::SCORE))
            .execute()
            .await?
            .try_collect()
            .await
    }

    async fn by_meaning(&self, filter: &str, query: &Query<'_>) -> Result<Vec<RecordBatch>, lancedb::Error> {
        let Some(vector) = query
            .vector
            .get()
            .await
            .filter(|vector| vector.len() == self.dimensions)
        else {
            return Ok(Vec::new());
        };
        self.table()
            .query()
            .nearest_to(vector.as_slice())?
            .column(rows::VECTOR)
            .distance_type(DistanceType::Cosine)
            .minimum_nprobes(MIN_PROBES)?
            .maximum_nprobes(None)?
            .only_if(filter)
            .limit(query.limit)
            .select(found(rows::DISTANCE))
            .execute()
            .await?
            .try_collect()
            .await
    }
}

#[async_trait]
impl Storage for LanceIndex {
    async fn begun(&self) -> Result<(), MemoryError> {
        let roll = Roll::read(&self.depot).await?;
        let next = Some(self.name.clone());
        Roll { next, ..roll }.write(&self.depot).await
    }

    async fn serve(&self) -> Result<(), MemoryError> {
        Roll::of(&self.name).write(&self.depot).await
    }

    async fn remove_others(&self) -> Result<(), MemoryError> {
        Roll::of(&self.name).remove_others(&self.depot).await
    }
}

/// How words are searched.
fn word_structure() -> FtsIndexBuilder {
    FtsIndexBuilder::default()
        .stem(true)
        .remove_stop_words(false)
        .with_position(false)
}

/// What a search reads, and what it adds.
fn found(added: &str) -> Select {
    Select::columns(&[&rows::FOUND[..], &[added]].concat())
}

#[async_trait]
impl Index for LanceIndex {
    async fn upsert(&self, entries: Vec<Entry>) -> Result<(), MemoryError> {
        for entry in &entries {
            self.check_dimensions(&entry.vector)?;
        }
        if entries.is_empty() {
            return Ok(());
        }
        let batch = rows::batch(entries, self.dimensions)?;
        let schema = batch.schema();
        let reader = Box::new(RecordBatchIterator::new([Ok(batch)], schema));
        let _turn = self.writer.lock().await;
        let mut merge = self.table().merge_insert(&[rows::ID]);
        merge.when_matched_update_all(None).when_not_matched_insert_all();
        merge
            .execute(reader)
            .await
            .map_err(|error| self.trouble("writing", &error))?;
        self.changes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn search(&self, scope: &Scope, query: Query<'_>) -> Result<Vec<Hit>, MemoryError> {
        if let Some(vector) = query.vector.known() {
            self.check_dimensions(vector)?;
        }
        if query.limit == 0 {
            return Ok(Vec::new());
        }
        let filter = rows::filter(scope, query.source, query.parents);
        let (words, meaning) = tokio::join!(self.by_words(&filter, &query), self.by_meaning(&filter, &query));
        let words = words.map_err(|error| self.trouble("searching", &error))?;
        let meaning = meaning.map_err(|error| self.trouble("searching", &error))?;
        rows::merge(&query, &words, &meaning)
    }

    async fn remove(&self, removal: Removal) -> Result<(), MemoryError> {
        let _turn = self.writer.lock().await;
        for filter in rows::removal_filters(&removal) {
            self.table()
                .delete(filter.as_str())
                .await
                .map_err(|error| self.trouble("removing from", &error))?;
            self.changes.fetch_add(1, Ordering::Relaxed);
            self.removed.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn entries(&self, section: &Section, most: usize) -> Result<Option<Vec<Entry>>, MemoryError> {
        let filter = rows::section_filter(section);
        let failed = |error| self.trouble("reading", &error);
        if self.table().count_rows(Some(filter.clone())).await.map_err(failed)? > most {
            return Ok(None);
        }
        let rows: Vec<RecordBatch> = async {
            self.table()
                .query()
                .only_if(filter)
                .select(Select::columns(&rows::ALL))
                .execute()
                .await?
                .try_collect()
                .await
        }
        .await
        .map_err(failed)?;
        rows::entries(&rows).map(Some)
    }

    async fn named(&self, names: &Named) -> Result<Vec<Entry>, MemoryError> {
        let mut entries = Vec::new();
        for filter in rows::named_filters(names) {
            let rows: Result<Vec<RecordBatch>, lancedb::Error> = async {
                let query = self.table().query().only_if(filter).select(Select::columns(&rows::ALL));
                query.execute().await?.try_collect().await
            }
            .await;
            let rows = rows.map_err(|error| self.trouble("reading", &error))?;
            entries.extend(rows::entries(&rows)?);
        }
        Ok(entries)
    }

    async fn sections(&self) -> Result<Vec<(Section, usize)>, MemoryError> {
        let failed = |error| self.trouble("reading", &error);
        let rows = async {
            let query = self.table().query().select(Select::columns(&rows::SECTION));
            query.execute().await
        };
        let mut rows = rows.await.map_err(failed)?;
        let mut sections: HashMap<Section, usize> = HashMap::new();
        while let Some(batch) = rows.try_next().await.map_err(failed)? {
            rows::count_sections(&batch, &mut sections)?;
        }
        Ok(sections.into_iter().collect())
    }

    async fn len(&self) -> Result<u64, MemoryError> {
        let rows = self
            .table()
            .count_rows(None)
            .await
            .map_err(|error| self.trouble("counting", &error))?;
        Ok(rows as u64)
    }

    async fn purge(&self) -> Result<(), MemoryError> {
        let _turn = self.writer.lock().await;
        upkeep::purge(&self.table(), self.alone())
            .await
            .map_err(|error| self.trouble("purging", &error))?;
        self.open_anew().await;
        self.changes.store(0, Ordering::Relaxed);
        self.removed.store(false, Ordering::Relaxed);
        Ok(())
    }

    async fn optimize(&self) -> Result<(), MemoryError> {
        let _turn = self.writer.lock().await;
        let changes = self.changes.load(Ordering::Relaxed);
        if changes == 0 {
            return Ok(());
        }
        let removed = self.removed.load(Ordering::Relaxed);
        upkeep::run(&self.table(), removed, self.alone())
            .await
            .map_err(|error| self.trouble("tidying", &error))?;
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner).at;
        if opened.elapsed() >= upkeep::KEPT {
            self.open_anew().await;
        }
        self.changes.store(0, Ordering::Relaxed);
        self.removed.store(false, Ordering::Relaxed);
        Ok(())
    }
}
