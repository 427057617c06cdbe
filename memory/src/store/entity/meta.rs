//! Facts about the database itself, such as the embedder that its index was made with.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "meta")]
pub struct Model {
    /// The name of the fact.
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    /// The fact.
    pub value: String,
}

/// No joins: rows are read table by table.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
