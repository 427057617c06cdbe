//! The database's schema, as migrations that run in order. A migration that was released is never changed: what comes
//! later is a new file, listed last. Everything here works on SQLite and on Postgres: ids are text (UUIDv7, which sorts
//! by time), times are Unix milliseconds in a `BIGINT`, and structures are JSON text.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{DatabaseConnection, DbBackend};

mod m20261121_000001_journal;
mod m20261121_000002_objects;
mod m20261121_000003_key_limits;
mod m20261121_000004_turn_lookup;
mod m20261121_000005_facts;
mod m20261121_000006_feedback;
mod m20261121_000007_downtime;
mod m20261121_000008_index_changes;
pub mod postgres;

/// All migrations, oldest first.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261121_000001_journal::Migration),
            Box::new(m20261121_000002_objects::Migration),
            Box::new(m20261121_000003_key_limits::Migration),
            Box::new(m20261121_000004_turn_lookup::Migration),
            Box::new(m20261121_000005_facts::Migration),
            Box::new(m20261121_000006_feedback::Migration),
            Box::new(m20261121_000007_downtime::Migration),
            Box::new(m20261121_000008_index_changes::Migration),
        ]
    }
}

/// The tables, beside the list of migrations that sea-orm keeps.
pub const TABLES: &[&str] = &[
    "turns",
    "documents",
    "chunks",
    "api_keys",
    "meta",
    "objects",
    "facts",
    "fact_events",
    "memory_rules",
    "feedback",
    "learning_uses",
    "rollouts",
    "downtime_runs",
    "downtime_changes",
    "leases",
    "index_changes",
];

/// Brings the database up to date; does nothing, and logs nothing, when it is. Several processes may do so at once. On
/// Postgres the connection must be a single one, since a lock is its own.
///
/// # Errors
/// The database's error; [`DbErr::Custom`] if it has migrations that this version does not know, because a newer
/// version made it.
pub async fn migrate(database: &DatabaseConnection) -> Result<(), DbErr> {
    if database.get_database_backend() != DbBackend::Postgres {
        return up(database).await;
    }
    postgres::lock(database).await?;
    let done = async {
        up(database).await?;
        postgres::settle(database).await
    };
    let done = done.await;
    done.and(postgres::unlock(database).await)
}

async fn up(database: &DatabaseConnection) -> Result<(), DbErr> {
    let pending = Migrator::get_pending_migrations_read_only(database).await?;
    if pending.is_empty() {
        return Ok(());
    }
    Migrator::up(database, None).await
}
