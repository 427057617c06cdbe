//! What gateways that share an index tell one another of it.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, text};

/// See the file's head.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("index_changes")
            .if_not_exists()
            // Counts up, so that a reader knows what is new.
            .col(big_integer("id").auto_increment().primary_key())
            .col(big_integer("at"))
            .col(text("gateway"))
            // JSON: where to look.
            .col(text("news"))
            .take();
        manager.create_table(table).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("index_changes").take()).await
    }

    /// A process that dies half way leaves the database as it was.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
