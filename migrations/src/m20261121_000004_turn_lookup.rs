//! How memory fared in a turn: its sources, whether the search went by words alone, and what left the prompt.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::text_null;

/// See the file's head.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // JSON; null where there is nothing to tell.
        let add = Table::alter().table("turns").add_column(text_null("lookup")).take();
        manager.alter_table(add).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let drop = Table::alter().table("turns").drop_column("lookup").take();
        manager.alter_table(drop).await
    }
}
