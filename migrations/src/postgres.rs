//! What Postgres needs beside the tables: that one process at a time changes them, an order of text that is that of its
//! bytes, and no samples of what people wrote.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{DatabaseConnection, Statement};

/// The first number of every advisory lock of Habit; the second says for what it is.
pub const LOCKS: i32 = 0x0048_6162;
/// Changing the tables.
const MIGRATE: i32 = 1;

/// Columns with what people wrote. The server keeps samples of columns to plan queries by, which would outlive a deletion;
/// no query is planned by these.
const WORDS: &[(&str, &[&str])] = &[
    ("turns", &["messages", "prompt", "reply", "injected", "lookup", "error"]),
    ("chunks", &["text"]),
    ("facts", &["text", "metadata"]),
    ("fact_events", &["old_text", "new_text"]),
    ("feedback", &["comment", "correction"]),
    ("objects", &["body"]),
    ("downtime_runs", &["findings", "cursor"]),
    ("downtime_changes", &["what", "data"]),
];

/// Waits until no other process changes the tables of this database. The connection must be a single one.
///
/// # Errors
/// What the database says.
pub async fn lock(database: &DatabaseConnection) -> Result<(), DbErr> {
    let lock = format!("SELECT pg_advisory_lock({LOCKS}, {MIGRATE})");
    database.execute_unprepared(&lock).await.map(drop)
}

/// Lets others change the tables; also done by the end of the connection.
///
/// # Errors
/// What the database says.
pub async fn unlock(database: &DatabaseConnection) -> Result<(), DbErr> {
    let unlock = format!("SELECT pg_advisory_unlock({LOCKS}, {MIGRATE})");
    database.execute_unprepared(&unlock).await.map(drop)
}

/// Sets up the columns, where they are not yet. Text is ordered by its bytes, as in SQLite and in this program: a database's
/// own order may put names elsewhere, and changes with the system's libraries, which breaks indexes.
///
/// # Errors
/// What the database says.
pub async fn settle(database: &DatabaseConnection) -> Result<(), DbErr> {
    let tables: Vec<String> = super::TABLES.iter().map(|table| format!("'{table}'")).collect();
    let question = format!(
        "SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema = current_schema() \
         AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C' AND table_name IN ({})",
        tables.join(", ")
    );
    for (table, column) in pairs(database, question).await? {
        let change = format!(r#"ALTER TABLE "{table}" ALTER COLUMN "{column}" TYPE text COLLATE "C""#);
        database.execute_unprepared(&change).await?;
    }
    let words: Vec<String> = WORDS
        .iter()
        .flat_map(|(table, columns)| columns.iter().map(move |column| format!("('{table}', '{column}')")))
        .collect();
    let question = format!(
        "SELECT c.relname::text, a.attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE \
         c.relnamespace = current_schema()::regnamespace AND COALESCE(a.attstattarget, -1) <> 0 AND \
         (c.relname::text, a.attname::text) IN ({})",
        words.join(", ")
    );
    for (table, column) in pairs(database, question).await? {
        let change = format!(r#"ALTER TABLE "{table}" ALTER COLUMN "{column}" SET STATISTICS 0"#);
        database.execute_unprepared(&change).await?;
    }
    Ok(())
}

async fn pairs(database: &DatabaseConnection, question: String) -> Result<Vec<(String, String)>, DbErr> {
    let question = Statement::from_string(database.get_database_backend(), question);
    let rows = database.query_all_raw(question).await?;
    rows.iter()
        .map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?)))
        .collect()
}
