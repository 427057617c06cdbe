//! A journal in a Postgres database, which several gateways may share: its connections, how their writers take turns, and
//! what erasing takes.
//!
//! What is safe in SQLite because one writes at a time is safe here for the same reason: a transaction that reads before it
//! writes runs alone ([`begin`]), by an advisory lock. Turns are only ever added, so they are written beside each other.

use std::str::FromStr;
use std::time::Duration;

use habit_migrations::TABLES;
use habit_migrations::postgres::LOCKS;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sea_orm::sqlx::{ConnectOptions, Connection, PgConnection};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, RuntimeErr, SqlxPostgresConnector,
    Statement, TransactionTrait,
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::MemoryError;

/// How long a connection may take to be made or to become free.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Reads at the same time, of one gateway.
const READERS: u32 = 8;
/// How long a purge waits for those who read, and how often it looks.
const LONG_READ: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// The advisory lock of writers; that of migrations is 1.
const WRITE: i32 = 2;

/// The server's time, in Unix milliseconds.
pub const NOW: &str = "(extract(epoch from clock_timestamp()) * 1000)::bigint";

/// What every session is told: a gateway that dies without a word, or its machine, must not keep the others out, and what it
/// waits for must not be forgotten here. Times are in milliseconds where no unit is named.
const SESSION: [(&str, &str); 4] = [
    ("idle_in_transaction_session_timeout", "15s"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];

/// What is connected with.
///
/// # Errors
/// [`MemoryError::BadRequest`] if this is not the address of a Postgres database. It is not repeated: it may hold a password.
pub fn options(url: &str) -> Result<PgConnectOptions, MemoryError> {
    let bad = |why: &str| {
        MemoryError::BadRequest(format!(
            "the address of the database {why}; write postgres://user:password@host/name, with %-codes for special \
             characters in the password"
        ))
    };
    if !["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
    {
        return Err(bad("is not one of Postgres"));
    }
    let options = PgConnectOptions::from_str(url).map_err(|_| bad("can't be read"))?;
    // The statements of every request are no use in a log.
    Ok(options
        .application_name("habit")
        .options(SESSION)
        .disable_statement_logging())
}

/// What the database is called in messages: without the password.
pub fn name(options: &PgConnectOptions) -> String {
    let (database, user) = (database(options), options.get_username());
    let (host, port) = (options.get_host(), options.get_port());
    match options.get_socket() {
        Some(socket) => format!("Postgres `{database}` (user `{user}`, {})", socket.display()),
        None => format!("Postgres `{database}` (user `{user}`, {host}:{port})"),
    }
}

/// The database's own name: the user's, where none is given.
pub fn database(options: &PgConnectOptions) -> &str {
    options.get_database().unwrap_or_else(|| options.get_username())
}

/// A single connection. A pool would try for a while and then say only that it was in vain: this says why, at once.
pub async fn connect(options: &PgConnectOptions) -> Result<DatabaseConnection, DbErr> {
    let first = tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(options)).await;
    let late = |_| sea_orm::sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    let first = first.map_err(late).and_then(|connected| connected);
    let first = first.map_err(|error| DbErr::Conn(RuntimeErr::SqlxError(error.into())))?;
    // Whether it ends politely is all the same.
    drop(first.close().await);
    let one = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        // Whoever uses it begins anew when it went.
        .test_before_acquire(false);
    let one = one.connect_lazy_with(options.clone());
    Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(one))
}

/// The connections that are read on; they are opened as they are needed, and tried before they are used: the server may
/// have been started anew.
pub fn readers(options: PgConnectOptions) -> DatabaseConnection {
    let pool = PgPoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(CONNECT_TIMEOUT)
        .test_before_acquire(true);
    SqlxPostgresConnector::from_sqlx_postgres_pool(pool.connect_lazy_with(options))
}

/// What a transaction leaves behind, so that its writer can find out later whether it was committed.
#[derive(Debug, Clone, Copy)]
pub struct Seal {
    /// The writer.
    pub writer: Uuid,
    /// Counts its transactions.
    pub number: u64,
}

impl Seal {
    fn key(&self) -> String {
        format!("writer {}", self.writer)
    }
}

/// A transaction: among all writers of this database the only one where it is to be `alone`, else beside those that need not
/// be. None if the earlier one, of which this is the repetition, was committed after all.
pub async fn begin(
    writer: &DatabaseConnection,
    seal: Seal,
    alone: bool,
    earlier: Option<Seal>,
) -> Result<Option<DatabaseTransaction>, DbErr> {
    let transaction = writer.begin().await?;
    let shared = if alone { "" } else { "_shared" };
    let lock = format!("pg_advisory_xact_lock{shared}({LOCKS}, {WRITE})");
    if let Some(earlier) = earlier {
        // It held the lock too: from here on it is committed or undone.
        transaction.execute_unprepared(&format!("SELECT {lock}")).await?;
        let question = format!("SELECT value FROM meta WHERE key = '{}'", earlier.key());
        let found = transaction.query_one_raw(statement(question)).await?;
        let found: Option<String> = found.map(|row| row.try_get_by_index(0)).transpose()?;
        if found == Some(earlier.number.to_string()) {
            transaction.rollback().await?;
            return Ok(None);
        }
    }
    let seal = format!(
        "INSERT INTO meta (key, value) SELECT '{}', '{}' FROM {lock} ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        seal.key(),
        seal.number
    );
    transaction.execute_unprepared(&seal).await?;
    Ok(Some(transaction))
}

/// Removes what this writer's transactions left behind: it writes no more.
pub async fn unseal(writer: &DatabaseConnection, seal: Seal) -> Result<(), DbErr> {
    let delete = format!("DELETE FROM meta WHERE key = '{}'", seal.key());
    writer.execute_unprepared(&delete).await.map(drop)
}

/// Writes the tables anew without what was deleted; false if someone still reads from before. The server's log of changes, its
/// copies and its backups are its own.
pub async fn purge(writer: &DatabaseConnection) -> Result<bool, DbErr> {
    if !outlast(writer).await? {
        return Ok(false);
    }
    for table in TABLES {
        writer
            .execute_unprepared(&format!(r#"VACUUM (FULL, ANALYZE) "{table}""#))
            .await?;
    }
    Ok(true)
}

/// Waits until the transactions have ended that run now: the server keeps deleted rows for whoever began to read before.
async fn outlast(writer: &DatabaseConnection) -> Result<bool, DbErr> {
    let until = Instant::now() + LONG_READ;
    let before = running(writer).await?;
    loop {
        let now = running(writer).await?;
        if before.iter().all(|one| !now.contains(one)) {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The transactions of this database and of the server itself, and those of other databases that write, since every later
/// snapshot remembers them. Each holds a lock on its own name.
async fn running(writer: &DatabaseConnection) -> Result<Vec<String>, DbErr> {
    let question = "SELECT l.virtualxid FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = \
                    'virtualxid' AND l.granted AND l.mode = 'ExclusiveLock' AND l.pid <> pg_backend_pid() AND (a.datid IS NULL \
                    OR a.datname = current_database() OR EXISTS (SELECT 1 FROM pg_locks w WHERE w.pid = l.pid AND w.locktype \
                    = 'transactionid' AND w.granted))";
    let rows = writer.query_all_raw(statement(question.to_owned())).await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

/// Brings what the server knows of our tables up to date.
pub fn tidy() -> String {
    let tables: Vec<String> = TABLES.iter().map(|table| format!(r#""{table}""#)).collect();
    format!("ANALYZE {}", tables.join(", "))
}

fn statement(sql: String) -> Statement {
    Statement::from_string(DbBackend::Postgres, sql)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what can go wrong here fails the test")]

    use super::*;

    #[test]
    fn an_address_that_is_none_is_refused_and_no_password_is_shown() {
        for bad in [
            "",
            "habit.db",
            "mysql://u:hunter2@h/d",
            "postgres://u:hunter2@h:port/d",
            "postgres://u:hun ter2@[/",
        ] {
            let error = options(bad).unwrap_err().to_string();
            assert!(error.contains("postgres://user:password@host/name"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let named = name(&options("postgres://ann:hunter2@db.example:5433/habit").unwrap());
        assert_eq!(named, "Postgres `habit` (user `ann`, db.example:5433)");
        let default = options("postgres://ann@db.example").unwrap();
        assert_eq!(database(&default), "ann");
    }
}
