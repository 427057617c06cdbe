//! Runs of routines.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "downtime_runs")]
pub struct Model {
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Empty for what concerns every team.
    pub team: String,
    /// Empty for what concerns the whole team.
    pub user: String,
    /// By its name.
    pub routine: String,
    /// [`crate::routines::Status`].
    pub status: String,
    /// Why it was begun, and for what it stopped.
    pub cause: String,
    /// JSON: where it goes on.
    pub cursor: String,
    /// Steps that are done, in the routine's own measure.
    pub done: i64,
    /// Of so many, as far as is known.
    pub total: i64,
    /// JSON: what it found.
    pub findings: String,
    /// Unix milliseconds.
    pub started_at: i64,
    /// Unix milliseconds.
    pub updated_at: i64,
    /// Unix milliseconds.
    pub ended_at: Option<i64>,
}

/// No joins: rows are read table by table.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
