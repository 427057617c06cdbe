//! An open database: [`Database`], for reads, and for single statements that write.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, Statement};
use tokio::time::Instant;

use super::failure;
use super::site::Site;
use super::transaction::fitting;
use crate::error::MemoryError;

/// How long the end of a trouble that passes is waited for, such as a restart of the server, and the waits in between: from
/// the first, doubled each time, to the longest.
const PATIENCE: Duration = Duration::from_secs(8);
const FIRST_WAIT: Duration = Duration::from_millis(30);
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// An open database; cheap to clone. Reads run on a pool of connections; one that fails because its connection went is
/// asked again on another. A single statement that writes runs there too, and is never repeated: whether it was done would
/// not be known. In SQLite it waits for the journal's writer, up to five seconds.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    site: Site,
    readers: DatabaseConnection,
    /// Connections on which locks are held, while they hold none.
    idle: Mutex<Vec<DatabaseConnection>>,
}

impl Database {
    pub(super) fn new(site: Site) -> Self {
        Self {
            inner: Arc::new(Inner {
                readers: site.readers(),
                site,
                idle: Mutex::default(),
            }),
        }
    }

    pub(super) fn site(&self) -> &Site {
        &self.inner.site
    }

    pub(super) fn idle(&self) -> &Mutex<Vec<DatabaseConnection>> {
        &self.inner.idle
    }

    /// What an error of this database means, with what to do about it.
    #[must_use]
    pub fn explain(&self, error: &DbErr) -> MemoryError {
        failure::explain(self.site(), error)
    }

    /// Whether this error is worth another try. A pool that had no connection to give has tried for long enough itself.
    async fn again(&self, error: &DbErr, patience: &mut Patience) -> bool {
        let waited = matches!(error, DbErr::ConnectionAcquire(_));
        !waited && failure::passes(self.get_database_backend(), error) && patience.pause().await
    }
}

/// Waits between tries, until it ends.
pub(super) struct Patience {
    until: Instant,
    wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            until: Instant::now() + PATIENCE,
            wait: FIRST_WAIT,
        }
    }
}

impl Patience {
    /// Waits a moment; false, at once, if that was done for long enough.
    pub(super) async fn pause(&mut self) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        true
    }
}

/// Whether asking twice is asking once.
fn only_reads(statement: &Statement) -> bool {
    statement.sql.starts_with("SELECT ")
}

#[async_trait]
impl ConnectionTrait for Database {
    fn get_database_backend(&self) -> DbBackend {
        self.inner.readers.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.inner.readers.execute_raw(fitting(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.inner.readers.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let statement = fitting(statement);
        let mut patience = Patience::default();
        loop {
            match self.inner.readers.query_one_raw(statement.clone()).await {
                Err(error) if only_reads(&statement) && self.again(&error, &mut patience).await => {}
                result => return result,
            }
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let statement = fitting(statement);
        let mut patience = Patience::default();
        loop {
            match self.inner.readers.query_all_raw(statement.clone()).await {
                Err(error) if only_reads(&statement) && self.again(&error, &mut patience).await => {}
                result => return result,
            }
        }
    }
}
