//! Tables that others keep in the journal's database. They are written by the journal's writer, in its transactions, so that
//! two writers never wait for each other's locks, and what is erased is purged with all else.

use async_trait::async_trait;
use sea_orm::DbErr;

use super::SeaJournal;
use super::database::Database;
use super::transaction::Transaction;
use super::write::Write;
use super::writer::Writer;
use crate::error::MemoryError;

/// What the database says, and within it what the write has to say.
pub type Outcome = Result<Result<u64, MemoryError>, DbErr>;

/// A write to tables of one's own. It may be applied twice: the first time in a group that is undone.
#[async_trait]
pub trait GuestWrite: Send + Sync {
    /// Does it; how many rows it was, by the guest's own count. An error undoes it, and only it.
    async fn apply(&self, db: &Transaction) -> Outcome;
}

/// The journal's database, for tables of one's own; cheap to clone. After the journal was closed it takes no writes.
#[derive(Clone)]
pub struct Guest {
    database: Database,
    writer: Writer,
}

impl SeaJournal {
    /// The same database, for tables that are no part of memory; they are made by a migration.
    #[must_use]
    pub fn guest(&self) -> Guest {
        Guest {
            database: self.database.clone(),
            writer: self.writer.clone(),
        }
    }
}

impl Guest {
    /// For reads.
    #[must_use]
    pub fn readers(&self) -> &Database {
        &self.database
    }

    /// Returns when the write is durable; its rows.
    ///
    /// # Errors
    /// What the write says; [`MemoryError::Storage`] if it could not be made durable.
    pub async fn write(&self, write: impl GuestWrite + 'static) -> Result<u64, MemoryError> {
        Ok(self.writer.write(Write::Guest(Box::new(write))).await?.rows)
    }

    /// What an error of the database means.
    #[must_use]
    pub fn explain(&self, error: &DbErr) -> MemoryError {
        self.database.explain(error)
    }
}
