//! What the database's errors mean for the person who must do something about them.

use std::path::Path;

use sea_orm::sqlx;
use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, SqlErr};

use crate::error::MemoryError;
use crate::store::taken;

// SQLite's primary result codes, from <https://www.sqlite.org/rescode.html>.
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READONLY: i32 = 8;
const IOERR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const NOTADB: i32 = 26;

/// The error of the database at `path`, with what to do about it.
pub fn explain(path: &Path, error: &DbErr) -> MemoryError {
    if let Some(SqlErr::UniqueConstraintViolation(_)) = error.sql_err() {
        return taken();
    }
    let path = path.display();
    let advice = match (code(error), error) {
        (Some(FULL), _) => "the disk is full; free some space and try again: what was recorded before is safe",
        (Some(READONLY), _) => "it can't be written; give this user write permission to the file and its folder",
        (Some(CANTOPEN), _) => "it can't be opened; check that its folder exists and that this user may write there",
        (Some(CORRUPT), _) => "it is damaged; restore a backup, or move the file away to start with an empty one",
        (Some(NOTADB), _) => "it is not a database of Habit, or damaged; restore a backup, or move the file away",
        (Some(IOERR), _) => "the disk failed to read or write; check its free space and its health",
        (Some(BUSY | LOCKED), _) => "another program keeps it locked; stop that program and try again",
        (_, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)) => "it is overloaded; try again in a moment",
        (_, DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)) => "it is closed: the server is stopping",
        (_, DbErr::Custom(_)) => "it was made by a newer version of Habit; run that version",
        _ => "the database refused; if this stays after a restart, please report it",
    };
    MemoryError::Storage(format!("{path}: {advice} ({error})"))
}

/// SQLite's primary result code, where the error is SQLite's.
fn code(error: &DbErr) -> Option<i32> {
    let (DbErr::Conn(RuntimeErr::SqlxError(source))
    | DbErr::Exec(RuntimeErr::SqlxError(source))
    | DbErr::Query(RuntimeErr::SqlxError(source))) = error
    else {
        return None;
    };
    match source.as_ref() {
        // The low byte is the primary code; the rest tells more.
        sqlx::Error::Database(error) => Some(error.code()?.parse::<i32>().ok()? & 0xff),
        _ => None,
    }
}
