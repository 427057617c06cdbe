//! What the database's errors mean for the person who must do something about them.

use sea_orm::sqlx;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::{ConnAcquireErr, DbBackend, DbErr, RuntimeErr, SqlErr};

use super::postgres;
use super::site::Site;
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

/// The error of this database, with what to do about it.
pub fn explain(site: &Site, error: &DbErr) -> MemoryError {
    if let Some(SqlErr::UniqueConstraintViolation(_)) = error.sql_err() {
        return taken();
    }
    let name = site.name();
    let advice = match (site, error) {
        (_, DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)) => {
            "it is closed: the server is stopping".into()
        }
        (_, DbErr::Custom(_)) => "it was made by a newer version of Habit; run that version".into(),
        (Site::Sqlite { .. }, _) => of_sqlite(error).to_owned(),
        (Site::Postgres { options, .. }, _) => match of_postgres(options, error) {
            Ok(advice) => advice,
            Err(refused) => return MemoryError::BadRequest(refused.to_owned()),
        },
    };
    MemoryError::Storage(format!("{name}: {advice} ({error})"))
}

fn of_sqlite(error: &DbErr) -> &'static str {
    // The low byte is the primary code; the rest tells more.
    let code = code(error).and_then(|code| Some(code.parse::<i32>().ok()? & 0xff));
    match (code, error) {
        (Some(FULL), _) => "the disk is full; free some space and try again: what was recorded before is safe",
        (Some(READONLY), _) => "it can't be written; give this user write permission to the file and its folder",
        (Some(CANTOPEN), _) => "it can't be opened; check that its folder exists and that this user may write there",
        (Some(CORRUPT), _) => "it is damaged; restore a backup, or move the file away to start with an empty one",
        (Some(NOTADB), _) => "it is not a database of Habit, or damaged; restore a backup, or move the file away",
        (Some(IOERR), _) => "the disk failed to read or write; check its free space and its health",
        (Some(BUSY | LOCKED), _) => "another program keeps it locked; stop that program and try again",
        (_, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)) => "it is overloaded; try again in a moment",
        _ => "the database refused; if this stays after a restart, please report it",
    }
}

/// By SQLSTATE, from <https://www.postgresql.org/docs/current/errcodes-appendix.html>. The error is the caller's to mend.
fn of_postgres(options: &PgConnectOptions, error: &DbErr) -> Result<String, &'static str> {
    let (user, database) = (options.get_username(), postgres::database(options));
    let (host, port) = (options.get_host(), options.get_port());
    let advice = match code(error).as_deref() {
        Some("28P01" | "28000") => {
            return Ok(format!(
                "the server refused the user `{user}`; check user and password in data.database, and the server's pg_hba.conf"
            ));
        }
        Some("3D000") => {
            return Ok(format!(
                "there is no such database; make it with: createdb --host {host} --port {port} --owner {user} {database}"
            ));
        }
        Some("42501") => {
            return Ok(format!(
                "the user may not do this; as the database's owner: GRANT ALL ON SCHEMA public TO {user}"
            ));
        }
        // A character or a number that it can't hold, or more than an index can.
        Some("22021" | "22P05") => return Err("this holds characters that the database can't keep; leave them out"),
        Some("54000") => return Err("a name is too long for the database; at most 2,000 bytes"),
        Some("53100") => {
            "the server's disk is full; free some space there and try again: what was recorded before is safe"
        }
        Some("53200") => "the server is out of memory; give it more, and try again",
        Some("53300") => {
            "the server takes no more connections; raise its max_connections (a gateway takes up to 11), or stop what uses them"
        }
        Some("25006") => "the server takes no writes; give the address of the primary, not of a copy",
        Some("57P01" | "57P02" | "57P03") => {
            "the server is stopping or starting; try again in a moment: what was acknowledged before is safe"
        }
        Some("55P03" | "40001" | "40P01") => "another program is in the way; try again",
        Some("58030" | "XX001" | "XX002") => "the server's disk failed, or its data is damaged; see its log",
        Some(_) => "the database refused; if this stays after a restart, please report it",
        None => match (source(error), error) {
            (Some(sqlx::Error::Tls(_)), _) => {
                "no secure connection could be made; see sslmode and sslrootcert in the address"
            }
            (Some(sqlx::Error::Io(_)), _) => {
                "the server can't be reached; check that it runs, and host and port in data.database"
            }
            (_, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)) => {
                "the server does not answer, or is overloaded; check that it runs, and try again in a moment"
            }
            _ => "the database refused; if this stays after a restart, please report it",
        },
    };
    Ok(advice.to_owned())
}

/// Whether the same may go well a moment later, and is known not to have been done, unless it was being committed: the
/// connection went, the server is starting, or another transaction was in the way. Never of a file.
pub fn passes(backend: DbBackend, error: &DbErr) -> bool {
    if backend != DbBackend::Postgres {
        return false;
    }
    if let Some(code) = code(error) {
        let codes = ["57P01", "57P02", "57P03", "53300", "40001", "40P01", "25P03"];
        return codes.contains(&code.as_str()) || code.starts_with("08");
    }
    matches!(source(error), Some(sqlx::Error::Io(_)))
        || matches!(error, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))
}

/// Whether a lock was waited for in vain.
pub fn is_locked(error: &DbErr) -> bool {
    code(error).as_deref() == Some("55P03")
}

fn source(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(source))
        | DbErr::Exec(RuntimeErr::SqlxError(source))
        | DbErr::Query(RuntimeErr::SqlxError(source)) => Some(source.as_ref()),
        _ => None,
    }
}

/// The database's own code: SQLite's number, or a SQLSTATE.
fn code(error: &DbErr) -> Option<String> {
    match source(error)? {
        sqlx::Error::Database(error) => error.code().map(|code| code.into_owned()),
        _ => None,
    }
}
