//! What happens while nobody waits: which model serves a team, the runs of routines with what each changed, and who may
//! run them.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, text};

/// See the file's head.
#[derive(DeriveMigrationName)]
pub struct Migration;

fn rollouts() -> TableCreateStatement {
    Table::create()
        .table("rollouts")
        .if_not_exists()
        .col(key("team"))
        // Counts changes: a change is written only over the version that it was made from.
        .col(big_integer("version"))
        // JSON: models, which of them serves, and what became of each.
        .col(text("state"))
        .col(big_integer("updated_at"))
        .take()
}

fn runs() -> TableCreateStatement {
    Table::create()
        .table("downtime_runs")
        .if_not_exists()
        .col(key("id"))
        // Empty for what concerns every team.
        .col(text("team"))
        // Empty for what concerns the whole team.
        .col(text("user"))
        .col(text("routine"))
        .col(text("status"))
        // Why it was begun, and for what it stopped.
        .col(text("cause"))
        // JSON: where it goes on.
        .col(text("cursor"))
        .col(big_integer("done"))
        .col(big_integer("total"))
        // JSON: what it found, for the report.
        .col(text("findings"))
        .col(big_integer("started_at"))
        .col(big_integer("updated_at"))
        .col(big_integer_null("ended_at"))
        .take()
}

fn changes() -> TableCreateStatement {
    Table::create()
        .table("downtime_changes")
        .if_not_exists()
        .col(key("id"))
        .col(text("run"))
        // `intended` before it is made, then `made`, and `undone` when it was taken back.
        .col(text("status"))
        // For people.
        .col(text("what"))
        // JSON: all that is needed to make it, once or again, and to take it back.
        .col(text("data"))
        .col(big_integer("at"))
        .take()
}

fn leases() -> TableCreateStatement {
    Table::create()
        .table("leases")
        .if_not_exists()
        .col(key("name"))
        .col(text("holder"))
        .col(big_integer("until"))
        .take()
}

fn key(name: &'static str) -> ColumnDef {
    text(name).primary_key().take()
}

fn indexes() -> [IndexCreateStatement; 3] {
    [
        ("downtime_runs_list", "downtime_runs", &["team", "id"][..]),
        ("downtime_runs_status", "downtime_runs", &["status"]),
        ("downtime_changes_run", "downtime_changes", &["run", "id"]),
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
        for table in [rollouts(), runs(), changes(), leases()] {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["leases", "downtime_changes", "downtime_runs", "rollouts"] {
            manager.drop_table(Table::drop().table(table).take()).await?;
        }
        Ok(())
    }

    /// A process that dies half way leaves the database as it was.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
