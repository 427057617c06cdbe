//! The table of rollouts, a row a team.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "rollouts")]
pub struct Model {
    /// Whose models.
    #[sea_orm(primary_key, auto_increment = false)]
    pub team: String,
    /// Counts changes.
    pub version: i64,
    /// JSON: [`super::State`].
    pub state: String,
    /// Unix milliseconds.
    pub updated_at: i64,
}

/// No joins.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
