//! Opening and clearing: from a place to a table that this embedder made, also where several gateways do it at once.

use std::time::{Duration, Instant};

use lancedb::arrow::arrow_schema::{DataType, SchemaRef};
use lancedb::database::CreateTableMode;
use lancedb::index::Index as Structure;
use lancedb::{Connection, Error, Table};

use super::roll::Roll;
use super::{EMBEDDER_KEY, rows, word_structure};
use crate::error::MemoryError;
use crate::store::depot::Depot;

/// How long it is tried to open a table that others are just making, and the waits in between.
const TRIED_FOR: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(250);

/// Who made the vectors of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The embedder's id.
    pub embedder: String,
    /// Floats a vector.
    pub dimensions: usize,
}

/// Who made this table; `None` if there is none.
pub(super) async fn made(depot: &Depot, name: &str) -> Result<Option<Made>, MemoryError> {
    match connect(depot).await?.open_table(name).execute().await {
        Ok(table) => made_of(&table).await.map(Some),
        Err(Error::TableNotFound { .. }) => Ok(None),
        Err(error) => Err(cannot_open(depot, &error)),
    }
}

/// The table in this place, made if there is none.
pub(super) async fn table(
    (depot, name): (&Depot, &str),
    dimensions: usize,
    embedder_id: &str,
) -> Result<Table, MemoryError> {
    let database = connect(depot).await?;
    let began = Instant::now();
    let table = loop {
        match open((&database, name), dimensions, embedder_id).await? {
            Ok(table) => break table,
            // Another gateway makes it at the same time, or an object store was away for a moment.
            Err(_) if matches!(depot, Depot::Bucket(_)) && began.elapsed() < TRIED_FOR => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(cannot_open(depot, &error)),
        }
    };
    check_embedder(&table, dimensions, embedder_id).await?;
    Ok(table)
}

/// A table that is there, with nothing kept open of what it was before.
pub(super) async fn again(depot: &Depot, name: &str) -> Result<Table, MemoryError> {
    let opened = connect(depot).await?.open_table(name).execute().await;
    opened.map_err(|error| cannot_open(depot, &error))
}

/// Throws away what is there.
pub(super) async fn clear(depot: &Depot, dimensions: usize, embedder_id: &str) -> Result<(), MemoryError> {
    match depot {
        Depot::Folder(_) => Roll::begin_anew(depot).await,
        // A new version of the same table: whoever has it open sees an empty one, not files that are gone.
        Depot::Bucket(_) => {
            let name = Roll::read(depot).await?.serving;
            let empty = connect(depot)
                .await?
                .create_empty_table(name, rows::schema(dimensions, embedder_id)?)
                .mode(CreateTableMode::Overwrite);
            empty
                .execute()
                .await
                .map(drop)
                .map_err(|error| cannot_open(depot, &error))
        }
    }
}

async fn connect(depot: &Depot) -> Result<Connection, MemoryError> {
    let connecting = match depot {
        Depot::Folder(folder) => lancedb::connect(folder.to_str().ok_or_else(|| {
            MemoryError::Storage(format!("the index needs a folder whose name is UTF-8, not {depot}"))
        })?),
        // Every read looks for what others wrote: what is kept in memory is read rarely, and must not be behind.
        Depot::Bucket(bucket) => lancedb::connect(&bucket.url())
            .storage_options(bucket.options())
            .read_consistency_interval(Duration::ZERO),
    };
    connecting.execute().await.map_err(|error| cannot_open(depot, &error))
}

/// The table, made if there is none. What LanceDB has against it may pass.
async fn open(
    (database, name): (&Connection, &str),
    dimensions: usize,
    embedder_id: &str,
) -> Result<Result<Table, Error>, MemoryError> {
    let schema = rows::schema(dimensions, embedder_id)?;
    let opened = async {
        let table = match database.open_table(name).execute().await {
            Err(Error::TableNotFound { .. }) => database.create_empty_table(name, schema).execute().await?,
            opened => opened?,
        };
        let structures = table.list_indices().await?;
        if !structures.iter().any(|structure| structure.columns == [rows::BODY]) {
            // Made while the table is empty, so that its tokenizer also rules the search of rows that are not yet
            // in it. Stop words stay: "who" and "not" carry meaning in short notes, and BM25 weighs them low.
            let words = Structure::FTS(word_structure());
            table.create_index(&[rows::BODY], words).execute().await?;
        }
        Ok(table)
    };
    Ok(opened.await)
}

fn cannot_open(depot: &Depot, error: &Error) -> MemoryError {
    let advice = match depot {
        Depot::Folder(_) => "`habit reindex` makes it anew from the journal",
        Depot::Bucket(_) => {
            "look whether the object store can be reached and this gateway may write there (data.objects); where the index \
             is damaged, `habit reindex` makes it anew from the journal"
        }
    };
    MemoryError::Storage(format!("the index in {depot} can't be opened: {error}; {advice}"))
}

async fn made_of(table: &Table) -> Result<Made, MemoryError> {
    let schema = schema(table).await?;
    let embedder = schema.metadata().get(EMBEDDER_KEY);
    let vector = schema.field_with_name(rows::VECTOR);
    let dimensions = match vector.map(|field| field.data_type().clone()) {
        Ok(DataType::FixedSizeList(_, size)) => usize::try_from(size).unwrap_or(0),
        _ => 0,
    };
    Ok(Made {
        embedder: embedder.map_or("an unknown embedder", String::as_str).to_owned(),
        dimensions,
    })
}

async fn schema(table: &Table) -> Result<SchemaRef, MemoryError> {
    let schema = table.schema().await;
    schema.map_err(|error| MemoryError::Storage(format!("the index's schema can't be read: {error}")))
}

/// Refuses a table whose vectors this embedder did not make: they can't be compared with its own.
async fn check_embedder(table: &Table, dimensions: usize, embedder_id: &str) -> Result<(), MemoryError> {
    let made = made_of(table).await?;
    if made.embedder == embedder_id && made.dimensions == dimensions {
        let schema = schema(table).await?;
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
        "the index was made with the embedder {} ({} dimensions), but {embedder_id} ({dimensions} \
         dimensions) is configured; run `habit reindex` to make the index anew, or configure the old embedder",
        made.embedder, made.dimensions
    )))
}
