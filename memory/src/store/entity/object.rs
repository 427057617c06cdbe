//! Small objects of a user. See [`crate::objects`].

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "objects")]
pub struct Model {
    /// Whose it is.
    #[sea_orm(primary_key, auto_increment = false)]
    pub team: String,
    /// Who put it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user: String,
    /// What it is.
    #[sea_orm(primary_key, auto_increment = false)]
    pub kind: String,
    /// Unique within its kind and owner.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// The object that it belongs to.
    pub parent: Option<String>,
    /// UUIDv7 of its first write: the place in listings.
    pub place: String,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub expires_at: Option<i64>,
    /// JSON.
    pub body: String,
}

/// No joins: rows are read table by table.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
