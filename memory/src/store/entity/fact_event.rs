//! What became of facts. See [`crate::facts::Event`].

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "fact_events")]
pub struct Model {
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// The fact's id.
    pub fact: String,
    /// The fact's.
    pub team: String,
    /// The fact's.
    pub user: String,
    /// What happened.
    pub event: String,
    /// The text before.
    pub old_text: Option<String>,
    /// The text after.
    pub new_text: Option<String>,
    /// Unix milliseconds.
    pub at: i64,
}

/// No joins: rows are read table by table.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
