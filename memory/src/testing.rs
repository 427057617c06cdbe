//! For tests: a Postgres database or a bucket of one's own, on the servers that `scripts/test-servers` starts.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "test code, though not in a test module: what can't go wrong in a test is unwrapped"
)]

pub mod line;
pub mod s3;

use std::path::PathBuf;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sea_orm::{ConnectionTrait, DatabaseConnection, SqlxPostgresConnector, Statement};
use uuid::Uuid;

use crate::store::sea::SeaJournal;

/// The variable that names the server.
const SERVER: &str = "HABIT_TEST_POSTGRES";

/// An empty database, which goes with this.
pub struct Postgres {
    name: String,
    server: String,
}

impl Postgres {
    /// Makes it.
    pub async fn start() -> Self {
        let Ok(server) = std::env::var(SERVER) else {
            panic!(
                "{SERVER} names no Postgres server: run tests with `make test`, or as `scripts/test-servers cargo test …`"
            );
        };
        let name = format!("habit_{}", Uuid::now_v7().simple());
        let new = Self { name, server };
        new.admin(&format!(r#"CREATE DATABASE "{}""#, new.name)).await;
        new
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').unwrap();
        format!("{server}/{}", self.name)
    }

    /// Opens it as a gateway does.
    pub async fn open(&self) -> SeaJournal {
        SeaJournal::connect(&self.url()).await.unwrap()
    }

    /// A connection for questions of the test's own.
    pub async fn connection(&self) -> DatabaseConnection {
        connection(&self.url()).await
    }

    /// Ends all sessions of this database, as a server does that stops.
    pub async fn end_sessions(&self) {
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
            self.name
        );
        self.admin(&end).await;
    }

    /// Where the server keeps the bytes of this database.
    pub async fn folder(&self) -> PathBuf {
        let question = "SELECT current_setting('data_directory') || '/base/' || oid FROM pg_database WHERE datname = current_database()";
        let connection = self.connection().await;
        let question = Statement::from_string(connection.get_database_backend(), question);
        let row = connection.query_one_raw(question).await.unwrap().unwrap();
        PathBuf::from(row.try_get_by_index::<String>(0).unwrap())
    }

    async fn admin(&self, sql: &str) {
        connection(&self.server).await.execute_unprepared(sql).await.unwrap();
    }
}

async fn connection(url: &str) -> DatabaseConnection {
    let options: PgConnectOptions = url.parse().unwrap();
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await;
    SqlxPostgresConnector::from_sqlx_postgres_pool(pool.unwrap())
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A runtime of its own: the test's may be the one thread that waits here.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let drop = format!(r#"DROP DATABASE "{name}" WITH (FORCE)"#);
                connection(&server).await.execute_unprepared(&drop).await.map(|_| ())
            })
        });
        if !std::thread::panicking() {
            dropped.join().unwrap().unwrap();
        }
    }
}
