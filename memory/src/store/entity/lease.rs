//! Who may do what only one may.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "leases")]
pub struct Model {
    /// What may be done.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// By whom.
    pub holder: String,
    /// Until when, in Unix milliseconds.
    pub until: i64,
}

/// No joins: rows are read table by table.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
