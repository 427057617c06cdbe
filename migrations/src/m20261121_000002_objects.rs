//! Small objects of users: responses, conversations, files' cards, vector stores. One table for all kinds, since none
//! of them is ever searched by what its body holds.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, text, text_null};

/// See the file's head.
#[derive(DeriveMigrationName)]
pub struct Migration;

fn objects() -> TableCreateStatement {
    let mut key = Index::create();
    key.col("team").col("user").col("kind").col("id");
    Table::create()
        .table("objects")
        .if_not_exists()
        .col(text("team"))
        .col(text("user"))
        .col(text("kind"))
        .col(text("id"))
        .col(text_null("parent"))
        // UUIDv7 of the first write: the order of listings, whatever the id looks like.
        .col(text("place"))
        .col(big_integer("created_at"))
        .col(big_integer_null("expires_at"))
        // JSON.
        .col(text("body"))
        // Ids may come from clients, so each owner has ids of his own.
        .primary_key(&mut key)
        .take()
}

fn indexes() -> [IndexCreateStatement; 3] {
    [
        ("objects_list", &["team", "user", "kind", "place"][..]),
        ("objects_children", &["team", "user", "kind", "parent", "place"]),
        ("objects_expired", &["expires_at"]),
    ]
    .map(|(name, columns)| {
        let mut index = Index::create();
        index.name(name).table("objects").if_not_exists();
        for column in columns {
            index.col(*column);
        }
        index
    })
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(objects()).await?;
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("objects").take()).await
    }

    /// A process that dies half way leaves the database as it was.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
