//! What runs of routines changed.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "downtime_changes")]
pub struct Model {
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// The run.
    pub run: String,
    /// `intended`, `made` or `undone`.
    pub status: String,
    /// For people: ids, never anyone's words.
    pub what: String,
    /// JSON: all that is needed to make it and to take it back.
    pub data: String,
    /// Unix milliseconds.
    pub at: i64,
}

/// No joins: rows are read table by table.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
