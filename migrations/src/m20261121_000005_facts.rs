//! What is known of users and teams: facts with their validity and where they come from, what became of each, and who
//! does not want to be remembered.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, boolean, text, text_null};

/// See the file's head.
#[derive(DeriveMigrationName)]
pub struct Migration;

fn facts() -> TableCreateStatement {
    Table::create()
        .table("facts")
        .if_not_exists()
        .col(key("id"))
        .col(text("team"))
        .col(text("user"))
        // For everyone in the team.
        .col(boolean("team_wide"))
        // Set for facts that count in one conversation, or one application, or for one agent only.
        .col(text_null("conversation"))
        .col(text_null("app"))
        .col(text_null("agent"))
        // Empty once it is deleted.
        .col(text("text"))
        // SHA-256 of the words: says that two facts say the same, and that a turn says no more than a fact.
        .col(text("words_sha256"))
        .col(text("kind"))
        .col(text_null("attribute"))
        .col(text("status"))
        .col(big_integer("valid_from"))
        .col(big_integer_null("valid_to"))
        .col(text_null("superseded_by"))
        .col(text("said_by"))
        .col(text_null("turn"))
        .col(text_null("document"))
        .col(boolean("pinned"))
        // JSON.
        .col(text("metadata"))
        .col(big_integer("created_at"))
        .col(big_integer("updated_at"))
        .col(big_integer_null("expires_at"))
        // Still to be embedded and indexed.
        .col(boolean("pending"))
        .take()
}

fn events() -> TableCreateStatement {
    Table::create()
        .table("fact_events")
        .if_not_exists()
        .col(key("id"))
        .col(text("fact"))
        .col(text("team"))
        .col(text("user"))
        .col(text("event"))
        .col(text_null("old_text"))
        .col(text_null("new_text"))
        .col(big_integer("at"))
        .take()
}

fn rules() -> TableCreateStatement {
    let mut key = Index::create();
    key.col("team").col("kind").col("subject");
    Table::create()
        .table("memory_rules")
        .if_not_exists()
        .col(text("team"))
        // `team`, `user`, `key` or `conversation`.
        .col(text("kind"))
        .col(text("subject"))
        .col(text("mode"))
        .primary_key(&mut key)
        .take()
}

fn key(name: &'static str) -> ColumnDef {
    text(name).primary_key().take()
}

fn indexes() -> [IndexCreateStatement; 7] {
    [
        ("facts_list", "facts", &["team", "user", "id"][..]),
        ("facts_team", "facts", &["team", "team_wide", "id"]),
        ("facts_attribute", "facts", &["team", "user", "attribute"]),
        ("facts_turn", "facts", &["team", "user", "turn"]),
        ("facts_pending", "facts", &["pending", "id"]),
        ("facts_expired", "facts", &["expires_at"]),
        ("fact_events_fact", "fact_events", &["fact", "id"]),
    ]
    .map(|(name, table, columns)| {
        let mut index = Index::create();
        index.name(name).table(table).if_not_exists();
        for column in columns {
            index.col(*column);
        }
        index
    })
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [facts(), events(), rules()] {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["memory_rules", "fact_events", "facts"] {
            manager.drop_table(Table::drop().table(table).take()).await?;
        }
        Ok(())
    }

    /// A process that dies half way leaves the database as it was.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
