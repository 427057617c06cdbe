//! What users said of replies, and which runs of learning used it. No text of a turn is copied here: what is learnt from
//! is read from the turn, and goes with it.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, boolean, double_null, text, text_null};

/// See the file's head.
#[derive(DeriveMigrationName)]
pub struct Migration;

fn feedback() -> TableCreateStatement {
    Table::create()
        .table("feedback")
        .if_not_exists()
        .col(text("id").primary_key().take())
        .col(text("team"))
        .col(text("user"))
        .col(text("turn"))
        // `up` or `down`.
        .col(text_null("thumb"))
        // 0 to 1.
        .col(double_null("score"))
        .col(text_null("comment"))
        // The answer that it should have been.
        .col(text_null("correction"))
        // What a client noticed, such as `regenerate`.
        .col(text_null("implicit"))
        .col(big_integer("at"))
        .take()
}

fn uses() -> TableCreateStatement {
    let mut key = Index::create();
    key.col("run").col("feedback");
    Table::create()
        .table("learning_uses")
        .if_not_exists()
        .col(text("run"))
        .col(text("feedback"))
        .col(text("team"))
        // Empty once everything of the user was erased.
        .col(text("user"))
        // The example that the feedback made, which is the turn.
        .col(text("example"))
        // The feedback is gone: the run holds what should not be known any more.
        .col(boolean("forgotten"))
        .col(big_integer("at"))
        .primary_key(&mut key)
        .take()
}

fn indexes() -> [IndexCreateStatement; 5] {
    [
        ("feedback_list", "feedback", &["team", "user", "id"][..]),
        ("feedback_turn", "feedback", &["team", "user", "turn"]),
        ("feedback_day", "feedback", &["team", "user", "at"]),
        ("learning_uses_feedback", "learning_uses", &["team", "feedback"]),
        ("learning_uses_forgotten", "learning_uses", &["team", "forgotten"]),
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
        for table in [feedback(), uses()] {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["learning_uses", "feedback"] {
            manager.drop_table(Table::drop().table(table).take()).await?;
        }
        Ok(())
    }

    /// A process that dies half way leaves the database as it was.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
