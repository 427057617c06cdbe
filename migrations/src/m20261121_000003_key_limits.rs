//! What a key may use: requests and tokens a minute, requests at the same time, models.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer_null, text_null};

/// See the file's head.
#[derive(DeriveMigrationName)]
pub struct Migration;

/// The columns; each is added by itself, because SQLite adds one at a time.
fn columns() -> [ColumnDef; 4] {
    [
        big_integer_null("requests_per_minute"),
        big_integer_null("tokens_per_minute"),
        big_integer_null("concurrency"),
        // JSON: the names of models; null is all of them.
        text_null("models"),
    ]
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in columns() {
            let add = Table::alter().table("api_keys").add_column(column).take();
            manager.alter_table(add).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in ["requests_per_minute", "tokens_per_minute", "concurrency", "models"] {
            let drop = Table::alter().table("api_keys").drop_column(column).take();
            manager.alter_table(drop).await?;
        }
        Ok(())
    }
}
