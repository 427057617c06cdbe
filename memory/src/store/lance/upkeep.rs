//! Housekeeping of the LanceDB table: merges small files, brings search structures up to date, erases old versions.

use lancedb::index::Index as Structure;
use lancedb::index::scalar::{BTreeIndexBuilder, BitmapIndexBuilder};
use lancedb::index::vector::IvfFlatIndexBuilder;
use lancedb::table::{CompactionOptions, Duration, OptimizeAction, OptimizeOptions};
use lancedb::{DistanceType, Error, Table};

use super::rows;

/// From this many rows on, the columns of the filter get structures of their own; below, reading them is faster.
const SCALAR_FROM: usize = 10_000;

/// From this many rows on, vectors are partitioned; below, comparing all of them takes a few milliseconds and misses none.
const VECTOR_FROM: usize = 50_000;

/// Old versions of the table stay this long, for searches that are still reading them.
const KEEP_MINUTES: i64 = 10;

/// [`KEEP_MINUTES`] as a duration: after it, files of versions that are gone need not be open any more.
pub(super) const KEPT: std::time::Duration = std::time::Duration::from_mins(KEEP_MINUTES.unsigned_abs());

/// Does all of it. The caller holds the writer's lock, so that no other write is under way in this process; where it is
/// `alone`, the data directory's lock keeps other processes out.
pub(super) async fn run(table: &Table, erase: bool, alone: bool) -> Result<(), Error> {
    let mut options = CompactionOptions::default();
    if erase {
        // What was removed must leave the disk, not only be marked.
        options.materialize_deletions_threshold = 0.0;
    }
    table
        .optimize(OptimizeAction::Compact {
            options,
            remap_options: None,
        })
        .await?;
    make_structures(table).await?;
    table
        .optimize(OptimizeAction::Index(OptimizeOptions::default()))
        .await?;
    let prune = OptimizeAction::Prune {
        older_than: Duration::try_minutes(KEEP_MINUTES),
        // Files that no version names are left over from a write that died, or another gateway is writing them: those stay
        // for a week.
        delete_unverified: Some(alone),
        error_if_tagged_old_versions: None,
    };
    table.optimize(prune).await?;
    Ok(())
}

/// As [`run`], and nothing of what was removed stays: every search structure is made anew, and no old version is kept.
pub(super) async fn purge(table: &Table, alone: bool) -> Result<(), Error> {
    table
        .optimize(OptimizeAction::Compact {
            options: CompactionOptions {
                materialize_deletions_threshold: 0.0,
                ..CompactionOptions::default()
            },
            remap_options: None,
        })
        .await?;
    let present: Vec<String> = table
        .list_indices()
        .await?
        .into_iter()
        .flat_map(|index| index.columns)
        .collect();
    for column in &present {
        let structure = match column.as_str() {
            rows::BODY => Structure::FTS(super::word_structure()),
            rows::VECTOR => Structure::IvfFlat(IvfFlatIndexBuilder::default().distance_type(DistanceType::Cosine)),
            rows::TEAM | rows::KIND => Structure::Bitmap(BitmapIndexBuilder::default()),
            _ => Structure::BTree(BTreeIndexBuilder::default()),
        };
        table.create_index(&[column], structure).replace(true).execute().await?;
    }
    table
        .optimize(OptimizeAction::Prune {
            older_than: Some(Duration::zero()),
            delete_unverified: Some(alone),
            error_if_tagged_old_versions: None,
        })
        .await?;
    Ok(())
}

/// Makes the search structures that the table's size asks for and that it does not have yet.
async fn make_structures(table: &Table) -> Result<(), Error> {
    let size = table.count_rows(None).await?;
    if size < SCALAR_FROM {
        return Ok(());
    }
    let present: Vec<String> = table
        .list_indices()
        .await?
        .into_iter()
        .flat_map(|index| index.columns)
        .collect();
    let missing = |column: &str| !present.iter().any(|name| name == column);
    for column in [rows::ID, rows::PARENT, rows::USER, rows::CONVERSATION] {
        if missing(column) {
            table
                .create_index(&[column], Structure::BTree(BTreeIndexBuilder::default()))
                .execute()
                .await?;
        }
    }
    for column in [rows::TEAM, rows::KIND] {
        if missing(column) {
            table
                .create_index(&[column], Structure::Bitmap(BitmapIndexBuilder::default()))
                .execute()
                .await?;
        }
    }
    if size >= VECTOR_FROM && missing(rows::VECTOR) {
        // Exact vectors within the partitions: the cosine that the ranking reads is the true one.
        let flat = IvfFlatIndexBuilder::default().distance_type(DistanceType::Cosine);
        table
            .create_index(&[rows::VECTOR], Structure::IvfFlat(flat))
            .execute()
            .await?;
    }
    Ok(())
}
