//! Where a journal is kept: all that differs between SQLite and Postgres is decided here.

use std::path::{Path, PathBuf};

use sea_orm::sea_query::Expr;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::{DatabaseConnection, DbErr};

use super::postgres::Seal;
use super::transaction::Transaction;
use super::{failure, postgres, sqlite};
use crate::error::MemoryError;

/// Where a journal is kept, and how to get there.
pub enum Site {
    /// A file of this gateway's own.
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Its settings.
        options: Box<SqliteConnectOptions>,
    },
    /// A database that gateways may share.
    Postgres {
        /// What it is called in messages.
        name: String,
        /// How to connect; with the password.
        options: Box<PgConnectOptions>,
    },
}

impl Site {
    /// A file.
    pub fn sqlite(path: &Path) -> Self {
        Self::Sqlite {
            path: path.to_owned(),
            options: Box::new(sqlite::options(path)),
        }
    }

    /// A server's database.
    ///
    /// # Errors
    /// [`MemoryError::BadRequest`] if this is no address of one.
    pub fn postgres(url: &str) -> Result<Self, MemoryError> {
        let options = Box::new(postgres::options(url)?);
        let name = postgres::name(&options);
        Ok(Self::Postgres { name, options })
    }

    /// What it is called in messages.
    pub fn name(&self) -> String {
        match self {
            Self::Sqlite { path, .. } => path.display().to_string(),
            Self::Postgres { name, .. } => name.clone(),
        }
    }

    /// Makes the database ready: what must be there is there, and the tables are those of this version. Gives the connection
    /// that it was done on.
    pub async fn prepare(&self) -> Result<DatabaseConnection, MemoryError> {
        let explain = |error| failure::explain(self, &error);
        if let Self::Sqlite { path, .. } = self {
            sqlite::prepare_file(path)?;
        }
        let connection = self.connect().await.map_err(explain)?;
        if let Self::Sqlite { .. } = self
            && !sqlite::is_durable(&connection).await.map_err(explain)?
        {
            let reason =
                "this file system can't hold SQLite's write-ahead log; choose a data directory on a local disk";
            return Err(MemoryError::Storage(format!("{}: {reason}", self.name())));
        }
        habit_migrations::migrate(&connection).await.map_err(explain)?;
        Ok(connection)
    }

    /// A single connection.
    pub async fn connect(&self) -> Result<DatabaseConnection, DbErr> {
        match self {
            Self::Sqlite { options, .. } => sqlite::connect((**options).clone()).await,
            Self::Postgres { options, .. } => postgres::connect(options).await,
        }
    }

    /// The connections that are read on.
    pub fn readers(&self) -> DatabaseConnection {
        match self {
            Self::Sqlite { options, .. } => sqlite::readers((**options).clone()),
            Self::Postgres { options, .. } => postgres::readers((**options).clone()),
        }
    }

    /// A transaction that may write; see [`postgres::begin`] for what only several gateways need.
    pub async fn begin(
        &self,
        writer: &DatabaseConnection,
        seal: Seal,
        alone: bool,
        earlier: Option<Seal>,
    ) -> Result<Option<Transaction>, DbErr> {
        let begun = match self {
            Self::Sqlite { .. } => Some(sqlite::begin(writer).await?),
            Self::Postgres { .. } => postgres::begin(writer, seal, alone, earlier).await?,
        };
        Ok(begun.map(Transaction::new))
    }

    /// The end of a writer's work.
    pub async fn end(&self, writer: &DatabaseConnection, seal: Seal) -> Result<(), DbErr> {
        match self {
            Self::Sqlite { .. } => Ok(()),
            Self::Postgres { .. } => postgres::unseal(writer, seal).await,
        }
    }

    /// Overwrites what was deleted. False if a long read was in the way.
    pub async fn purge(&self, writer: &DatabaseConnection) -> Result<bool, DbErr> {
        match self {
            Self::Sqlite { .. } => sqlite::purge(writer).await,
            Self::Postgres { .. } => postgres::purge(writer).await,
        }
    }

    /// The statement that brings what the database knows of its own tables up to date.
    pub fn tidy(&self) -> String {
        match self {
            Self::Sqlite { .. } => "PRAGMA optimize".to_owned(),
            Self::Postgres { .. } => postgres::tidy(),
        }
    }

    /// The time, in Unix milliseconds: this process's, or the server's where several machines go by it.
    pub fn now(&self, here: i64) -> Expr {
        match self {
            Self::Sqlite { .. } => Expr::value(here),
            Self::Postgres { .. } => Expr::cust(postgres::NOW),
        }
    }
}
