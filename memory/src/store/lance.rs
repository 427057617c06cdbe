//! [`LanceIndex`]: the index on LanceDB. One table holds every entry; its scope is in NOT NULL columns that are part
//! of the filter inside both searches. Rows and filters are in `rows`, housekeeping is in `upkeep`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use futures::TryStreamExt;
use lancedb::arrow::arrow_array::{RecordBatch, RecordBatchIterator};
use lancedb::arrow::arrow_schema::DataType;
use lancedb::index::Index as Structure;
use lancedb::index::scalar::{FtsIndexBuilder, FullTextSearchQuery};
use lancedb::query::{ExecutableQuery, QueryBase, Select};
use lancedb::{DistanceType, Table};
use tokio::sync::Mutex;

use crate::error::MemoryError;
use crate::index::{Entry, Hit, Index, Query, Removal, Section};
use crate::scope::Scope;

mod rows;
mod upkeep;

/// The table's name, and with `.lance` the name of its folder.
const TABLE: &str = "entries";

/// Where in the schema's metadata the embedder is named.
const EMBEDDER_KEY: &str = "habit.embedder";

/// Partitions of the vector structure that every search reads at least. With about sqrt(rows) partitions of exact
/// vectors, this is a tenth of them at 100,000 rows. The search goes on to further partitions while a narrow scope
/// has found too little, so that other people's entries never crowd out own ones.
const MIN_PROBES: usize = 32;

/// The index on LanceDB, in one folder.
pub struct LanceIndex {
    table: Table,
    dir: PathBuf,
    dimensions: usize,
    /// Writers take turns: commits that collide would have to be retried, and housekeeping would lose its work.
    writer: Mutex<()>,
    /// Commits since the last housekeeping.
    changes: AtomicU64,
    /// Whether something was removed since then, which housekeeping must then erase from the disk.
    removed: AtomicBool,
}

impl LanceIndex {
    /// Opens the index in this folder, or makes an empty one.
    ///
    /// # Errors
    /// [`MemoryError::Storage`] if the folder can't be read or written, or if its vectors were made by another
    /// embedder: the message says to run `habit reindex`.
    pub async fn open(dir: impl AsRef<Path>, dimensions: usize, embedder_id: &str) -> Result<Self, MemoryError> {
        let dir = dir.as_ref().to_path_buf();
        let trouble = |error: lancedb::Error| {
            MemoryError::Storage(format!(
                "the index in {} can't be opened: {error}; `habit reindex` makes it anew from the journal",
                dir.display()
            ))
        };
        let uri = dir.to_str().ok_or_else(|| {
            MemoryError::Storage(format!(
                "the index needs a folder whose name is UTF-8, not {}",
                dir.display()
            ))
        })?;
        let database = lancedb::connect(uri).execute().await.map_err(trouble)?;
        let table = match database.open_table(TABLE).execute().await {
            Ok(table) => table,
            Err(lancedb::Error::TableNotFound { .. }) => {
                let schema = rows::schema(dimensions, embedder_id)?;
                let table = database
                    .create_empty_table(TABLE, schema)
                    .execute()
                    .await
                    .map_err(trouble)?;
                // Made while the table is empty, so that its tokenizer also rules the search of rows that are not yet
                // in it. Stop words stay: "who" and "not" carry meaning in short notes, and BM25 weighs them low.
                table
                    .create_index(&[rows::BODY], Structure::FTS(word_structure()))
                    .execute()
                    .await
                    .map_err(trouble)?;
                table
            }
            Err(error) => return Err(trouble(error)),
        };
        check_embedder(&table, dimensions, embedder_id).await?;
        Ok(Self {
            table,
            dir,
            dimensions,
            writer: Mutex::new(()),
            // Whatever was left undone before the start is looked at once.
            changes: AtomicU64::new(1),
            removed: AtomicBool::new(false),
        })
    }

    /// Throws away what is in this folder and opens an empty index for this embedder: the way out when the embedder
    /// was changed or the files are damaged. The journal must be set to pending beside it.
    ///
    /// # Errors
    /// [`MemoryError::Storage`] if the folder can't be cleared or written.
    pub async fn rebuild(dir: impl AsRef<Path>, dimensions: usize, embedder_id: &str) -> Result<Self, MemoryError> {
        let old = dir.as_ref().join(format!("{TABLE}.lance"));
        match tokio::fs::remove_dir_all(&old).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(MemoryError::Storage(format!(
                "the old index {} can't be removed: {error}",
                old.display()
            ))),
            _ => Self::open(dir, dimensions, embedder_id).await,
        }
    }

    fn trouble(&self, doing: &str, error: &lancedb::Error) -> MemoryError {
        MemoryError::Storage(format!("{doing} the index in {} failed: {error}", self.dir.display()))
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
        self.table
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
        let Some(vector) = query.vector else {
            return Ok(Vec::new());
        };
        self.table
            .query()
            .nearest_to(vector)?
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

/// Refuses a table whose vectors this embedder did not make: they can't be compared with its own.
async fn check_embedder(table: &Table, dimensions: usize, embedder_id: &str) -> Result<(), MemoryError> {
    let schema = table
        .schema()
        .await
        .map_err(|error| MemoryError::Storage(format!("the index's schema can't be read: {error}")))?;
    let made_by = schema
        .metadata()
        .get(EMBEDDER_KEY)
        .map_or("an unknown embedder", String::as_str);
    let made_for = match schema
        .field_with_name(rows::VECTOR)
        .map(|field| field.data_type().clone())
    {
        Ok(DataType::FixedSizeList(_, size)) => usize::try_from(size).unwrap_or(0),
        _ => 0,
    };
    if made_by == embedder_id && made_for == dimensions {
        if rows::ALL.iter().all(|column| schema.field_with_name(column).is_ok()) {
            return Ok(());
        }
        return Err(MemoryError::Storage(
            "the index was made by an older Habit, with other columns; run `habit reindex` to make it anew from the \
             journal"
                .to_owned(),
        ));
    }
    Err(MemoryError::Storage(format!(
        "the index was made with the embedder {made_by} ({made_for} dimensions), but {embedder_id} ({dimensions} \
         dimensions) is configured; run `habit reindex` to make the index anew, or configure the old embedder"
    )))
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
        let mut merge = self.table.merge_insert(&[rows::ID]);
        merge.when_matched_update_all(None).when_not_matched_insert_all();
        merge
            .execute(reader)
            .await
            .map_err(|error| self.trouble("writing", &error))?;
        self.changes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn search(&self, scope: &Scope, query: Query<'_>) -> Result<Vec<Hit>, MemoryError> {
        if let Some(vector) = query.vector {
            self.check_dimensions(vector)?;
        }
        if query.limit == 0 {
            return Ok(Vec::new());
        }
        let filter = rows::filter(scope, query.source, query.parents);
        let (words, meaning) = tokio::join!(self.by_words(&filter, &query), self.by_meaning(&filter, &query));
        let words = words.map_err(|error| self.trouble("searching", &error))?;
        let meaning = meaning.map_err(|error| self.trouble("searching", &error))?;
        rows::merge(query.text, &words, &meaning)
    }

    async fn remove(&self, removal: Removal) -> Result<(), MemoryError> {
        let _turn = self.writer.lock().await;
        for filter in rows::removal_filters(&removal) {
            self.table
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
        if self.table.count_rows(Some(filter.clone())).await.map_err(failed)? > most {
            return Ok(None);
        }
        let rows: Vec<RecordBatch> = async {
            self.table
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
        rows::entries(&rows, section).map(Some)
    }

    async fn sections(&self) -> Result<Vec<(Section, usize)>, MemoryError> {
        let failed = |error| self.trouble("reading", &error);
        let rows = async {
            let query = self.table.query().select(Select::columns(&rows::SECTION));
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
            .table
            .count_rows(None)
            .await
            .map_err(|error| self.trouble("counting", &error))?;
        Ok(rows as u64)
    }

    async fn purge(&self) -> Result<(), MemoryError> {
        let _turn = self.writer.lock().await;
        upkeep::purge(&self.table)
            .await
            .map_err(|error| self.trouble("purging", &error))?;
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
        upkeep::run(&self.table, removed)
            .await
            .map_err(|error| self.trouble("tidying", &error))?;
        self.changes.store(0, Ordering::Relaxed);
        self.removed.store(false, Ordering::Relaxed);
        Ok(())
    }
}
