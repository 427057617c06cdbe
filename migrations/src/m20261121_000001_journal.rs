//! The first tables: turns, documents with their chunks, API keys, and facts about the database itself. Every row that
//! belongs to someone names its team and user, and every index that serves a read of someone begins with them.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, boolean, text, text_null};

/// See the file's head.
#[derive(DeriveMigrationName)]
pub struct Migration;

/// The tables in the order of their making: a table comes after those that it refers to.
fn tables() -> Vec<TableCreateStatement> {
    vec![turns(), documents(), chunks(), api_keys(), meta()]
}

fn turns() -> TableCreateStatement {
    Table::create()
        .table("turns")
        .if_not_exists()
        .col(key("id"))
        .col(text("team"))
        .col(text("user"))
        .col(text("conversation"))
        .col(text_null("parent"))
        .col(big_integer("asked_at"))
        .col(text("model"))
        // JSON: the messages that the parent does not hold.
        .col(text("messages"))
        .col(text("prompt"))
        .col(text("reply"))
        .col(text("outcome"))
        .col(boolean("remember"))
        .col(text_null("finish_reason"))
        // JSON: tokens of prompt and reply.
        .col(text("usage"))
        // JSON: the passages that were put before the model.
        .col(text("injected"))
        .col(text("chain"))
        // JSON: milliseconds.
        .col(text("timing"))
        .col(text_null("error"))
        // Still to be embedded and indexed.
        .col(boolean("pending"))
        .take()
}

fn documents() -> TableCreateStatement {
    Table::create()
        .table("documents")
        .if_not_exists()
        .col(key("id"))
        .col(text("team"))
        .col(text("user"))
        // Set for documents of one conversation only.
        .col(text_null("conversation"))
        .col(text("place"))
        .col(text("name"))
        .col(text("media_type"))
        .col(big_integer("bytes"))
        .col(text("sha256"))
        .col(big_integer("chunks"))
        .col(big_integer("ingested_at"))
        .take()
}

fn chunks() -> TableCreateStatement {
    Table::create()
        .table("chunks")
        .if_not_exists()
        .col(key("id"))
        .col(text("document"))
        .col(text("team"))
        .col(text("user"))
        .col(big_integer("ordinal"))
        .col(text("text"))
        .col(text("locator"))
        .col(boolean("pending"))
        .foreign_key(
            ForeignKey::create()
                .name("chunks_document")
                .from("chunks", "document")
                .to("documents", "id")
                .on_delete(ForeignKeyAction::Cascade),
        )
        .take()
}

fn api_keys() -> TableCreateStatement {
    Table::create()
        .table("api_keys")
        .if_not_exists()
        .col(key("public_id"))
        // Never the secret itself.
        .col(text("secret_sha256"))
        .col(text("team"))
        .col(text("user"))
        .col(boolean("admin"))
        .col(text("label"))
        .col(big_integer("created_at"))
        .col(big_integer_null("expires_at"))
        .col(big_integer_null("revoked_at"))
        .take()
}

fn meta() -> TableCreateStatement {
    Table::create()
        .table("meta")
        .if_not_exists()
        .col(key("key"))
        .col(text("value"))
        .take()
}

/// Ids sort by time, so an index that ends with the id serves "newest first" as well.
fn indexes() -> Vec<IndexCreateStatement> {
    vec![
        index("turns_scope_time", "turns", &["team", "user", "id"]),
        index("turns_conversation", "turns", &["team", "user", "conversation", "id"]),
        index("turns_chain", "turns", &["team", "user", "chain", "id"]),
        index("turns_pending", "turns", &["pending", "id"]),
        index("documents_scope_time", "documents", &["team", "user", "id"]),
        index("documents_name", "documents", &["team", "place", "name"]),
        index("documents_conversation", "documents", &["team", "user", "conversation"]),
        index("chunks_document_order", "chunks", &["document", "ordinal"]),
        index("chunks_pending", "chunks", &["pending", "id"]),
        index("api_keys_scope", "api_keys", &["team", "user"]),
    ]
}

fn key(name: &'static str) -> ColumnDef {
    text(name).primary_key().take()
}

fn index(name: &'static str, table: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    let mut index = Index::create();
    index.name(name).table(table).if_not_exists();
    for column in columns {
        index.col(*column);
    }
    index
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in tables() {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["meta", "api_keys", "chunks", "documents", "turns"] {
            manager.drop_table(Table::drop().table(table).take()).await?;
        }
        Ok(())
    }

    /// A process that dies half way leaves the database as it was.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_someone_names_team_and_user() {
        for table in tables() {
            let sql = table.to_string(PostgresQueryBuilder);
            if !sql.contains(r#""meta""#) {
                assert!(sql.contains(r#""team" text NOT NULL"#), "{sql}");
                assert!(sql.contains(r#""user" text NOT NULL"#), "{sql}");
            }
        }
    }

    #[test]
    fn times_are_wide_in_postgres() {
        for (table, column) in [
            (turns(), "asked_at"),
            (documents(), "ingested_at"),
            (api_keys(), "created_at"),
        ] {
            let sql = table.to_string(PostgresQueryBuilder);
            assert!(sql.contains(&format!(r#""{column}" bigint NOT NULL"#)), "{sql}");
        }
    }
}
