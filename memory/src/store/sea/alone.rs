//! What one process does at a time, among all that share a database: [`Database::alone`].

use std::sync::PoisonError;
use std::time::Duration;

use habit_migrations::postgres::LOCKS;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, Statement};
use tokio::runtime::Handle;

use super::database::{Database, Patience};
use super::failure;
use super::site::Site;
use crate::error::MemoryError;
use crate::journal::Alone;

/// How long the server waits for a lock before it says that it is taken, in milliseconds. It is asked again then; this is for
/// the waits of processes that are gone.
const LOCK_TIMEOUT: &str = "SET lock_timeout = 2000";
/// Between two questions after a trouble.
const PAUSE: Duration = Duration::from_millis(50);

/// What is done by one process at a time.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    /// Embedding and indexing what is pending.
    Indexing,
    /// Making the first key.
    FirstKey,
    /// Changing small objects by what is read of them.
    Objects,
}

impl Work {
    /// The second number of its advisory lock; migrations and writers have 1 and 2.
    fn number(self) -> i32 {
        match self {
            Self::Indexing => 3,
            Self::FirstKey => 4,
            Self::Objects => 5,
        }
    }

    fn ask(self, function: &str, database: &impl ConnectionTrait) -> Statement {
        let sql = format!("SELECT {function}({LOCKS}, {})", self.number());
        Statement::from_string(database.get_database_backend(), sql)
    }
}

impl Database {
    /// Waits until no other process does this, and keeps them from it until what is given is dropped; when a process dies,
    /// its right ends. A file is of one process alone: there is nothing to wait for.
    ///
    /// # Errors
    /// [`MemoryError::Storage`] if the database is away for longer than a restart takes.
    pub async fn alone(&self, work: Work) -> Result<Alone, MemoryError> {
        if let Site::Sqlite { .. } = self.site() {
            return Ok(Alone::default());
        }
        let mut patience = Patience::default();
        loop {
            // Not put back unless the lock was given back: if this is cancelled, its session ends, and the lock with it.
            let kept = self.idle().lock().unwrap_or_else(PoisonError::into_inner).pop();
            let taken = match kept {
                Some(connection) => lock(connection, work).await,
                None => match self.fresh().await {
                    Ok(connection) => lock(connection, work).await,
                    Err(error) => Err(error),
                },
            };
            match taken {
                Ok(connection) => {
                    return Ok(Alone::until_dropped(Held {
                        database: self.clone(),
                        work,
                        connection: Some(connection),
                        runtime: Handle::current(),
                    }));
                }
                // Another has it: that is no trouble, however long it takes.
                Err(error) if failure::is_locked(&error) => {}
                Err(error) if failure::passes(self.get_database_backend(), &error) && patience.pause().await => {}
                Err(error) => return Err(self.explain(&error)),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn fresh(&self) -> Result<DatabaseConnection, DbErr> {
        let connection = self.site().connect().await?;
        connection.execute_unprepared(LOCK_TIMEOUT).await?;
        Ok(connection)
    }
}

async fn lock(connection: DatabaseConnection, work: Work) -> Result<DatabaseConnection, DbErr> {
    let question = work.ask("pg_advisory_lock", &connection);
    connection.query_one_raw(question).await?;
    Ok(connection)
}

/// A lock that is held.
struct Held {
    database: Database,
    work: Work,
    connection: Option<DatabaseConnection>,
    runtime: Handle,
}

impl Drop for Held {
    fn drop(&mut self) {
        let (Some(connection), work, database) = (self.connection.take(), self.work, self.database.clone()) else {
            return;
        };
        // Where this does not run to its end, the connection ends, and the lock with it.
        self.runtime.spawn(async move {
            let unlock = work.ask("pg_advisory_unlock", &connection);
            let unlocked = connection.query_one_raw(unlock).await;
            if matches!(
                unlocked.and_then(|row| row.map(|row| row.try_get_by_index(0)).transpose()),
                Ok(Some(true))
            ) {
                let mut idle = database.idle().lock().unwrap_or_else(PoisonError::into_inner);
                idle.push(connection);
            }
        });
    }
}
