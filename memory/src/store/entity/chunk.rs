//! The chunks of documents.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "chunks")]
pub struct Model {
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// The document's id; the chunk goes with it.
    pub document: String,
    /// The document's.
    pub team: String,
    /// The document's.
    pub user: String,
    /// Its place in the document, counted from 0.
    pub ordinal: i64,
    /// Verbatim.
    pub text: String,
    /// Page, heading or symbol.
    pub locator: String,
    /// Still to be indexed.
    pub pending: bool,
}

/// No joins: rows are read table by table.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
