//! A journal in a SQLite file: the file, its settings, the two kinds of connections, and what erasing takes.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::Duration;

use sea_orm::sqlx::ConnectOptions;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, RuntimeErr, SqliteTransactionMode,
    SqlxSqliteConnector, Statement, TransactionOptions, TransactionTrait,
};

use crate::error::MemoryError;

/// How long a statement waits for another process's lock, such as `habit keys create` beside a server.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Reads at the same time; each connection has its own thread.
const READERS: u32 = 8;

/// Makes the folder and an empty file where there are none, so that an error of the file system is told as such. The
/// file is for its owner only: it holds conversations. SQLite gives its side files the same permissions.
pub fn prepare_file(path: &Path) -> Result<(), MemoryError> {
    let cannot = |what: &Path, error: std::io::Error| {
        let what = what.display();
        MemoryError::Storage(format!(
            "{what} can't be written ({error}): free space, fix its permissions, or choose another data directory"
        ))
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(|error| cannot(folder, error))?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop).map_err(|error| cannot(path, error))
}

/// What every connection is opened with.
pub fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        // Readers and the writer don't wait for each other.
        .journal_mode(SqliteJournalMode::Wal)
        // A commit is on the disk when it returns, not only in the system's cache: it survives a loss of power.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        // What is deleted is overwritten at once, not only marked as free.
        .pragma("secure_delete", "ON")
        .busy_timeout(BUSY_TIMEOUT)
        // The statements of every request are no use in a log.
        .disable_statement_logging()
}

/// A single connection, such as the one that the journal writes on.
pub async fn connect(options: SqliteConnectOptions) -> Result<DatabaseConnection, DbErr> {
    let pool = pool(1).connect_with(options).await;
    let pool = pool.map_err(|error| DbErr::Conn(RuntimeErr::SqlxError(error.into())))?;
    Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool))
}

/// The connections that are read on; they are opened as they are needed.
pub fn readers(options: SqliteConnectOptions) -> DatabaseConnection {
    SqlxSqliteConnector::from_sqlx_sqlite_pool(pool(READERS).connect_lazy_with(options))
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY_TIMEOUT)
        // A connection to a file does not go stale.
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

/// Overwrites what was deleted: in the file, which is written anew without it, and in the write-ahead log, which ends
/// empty. False if a long read was in the way.
pub async fn purge(writer: &DatabaseConnection) -> Result<bool, DbErr> {
    for statement in [
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "VACUUM",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    ] {
        let question = Statement::from_string(writer.get_database_backend(), statement);
        if let Some(row) = writer.query_one_raw(question).await? {
            // The first column of a checkpoint says whether someone was in its way.
            let busy: i64 = row.try_get_by_index(0)?;
            if busy != 0 {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// A transaction that may write: SQLite has one at a time.
pub async fn begin(writer: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let immediate = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    writer.begin_with_options(immediate).await
}

/// Whether the file is written as durability needs it.
pub async fn is_durable(writer: &DatabaseConnection) -> Result<bool, DbErr> {
    let question = Statement::from_string(writer.get_database_backend(), "PRAGMA journal_mode");
    let mode = writer.query_one_raw(question).await?;
    let mode: Option<String> = mode.map(|row| row.try_get_by_index(0)).transpose()?;
    Ok(mode.as_deref() == Some("wal"))
}
