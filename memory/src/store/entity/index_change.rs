//! What gateways changed in the index that they share.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "index_changes")]
pub struct Model {
    /// Counts up; one that was given out earlier may appear later.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// When, by the clock of who changed it, in Unix milliseconds.
    pub at: i64,
    /// Who changed it: a name for as long as a process lives.
    pub gateway: String,
    /// JSON: [`crate::store::news::News`].
    pub news: String,
}

/// No joins: rows are read table by table.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
