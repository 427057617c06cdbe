//! What is known of users and teams. See [`crate::facts`].

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "facts")]
pub struct Model {
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Whose it is.
    pub team: String,
    /// Who gave it.
    pub user: String,
    /// For everyone in the team.
    pub team_wide: bool,
    /// The one conversation in which it counts.
    pub conversation: Option<String>,
    /// The one application in which it counts.
    pub app: Option<String>,
    /// The agent that keeps it.
    pub agent: Option<String>,
    /// Empty once it is deleted.
    pub text: String,
    /// See [`crate::facts::words_sha256`].
    pub words_sha256: String,
    /// `fact`, `preference` or `instruction`.
    pub kind: String,
    /// What it tells of whom.
    pub attribute: Option<String>,
    /// `active`, `superseded`, `quarantined` or `deleted`.
    pub status: String,
    /// Unix milliseconds.
    pub valid_from: i64,
    /// Unix milliseconds.
    pub valid_to: Option<i64>,
    /// The id of the fact that took its place.
    pub superseded_by: Option<String>,
    /// `user`, or a name.
    pub said_by: String,
    /// The turn that it was said in.
    pub turn: Option<String>,
    /// The document that it stands in.
    pub document: Option<String>,
    /// Shown in every turn.
    pub pinned: bool,
    /// JSON.
    pub metadata: String,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub updated_at: i64,
    /// Unix milliseconds.
    pub expires_at: Option<i64>,
    /// Still to be indexed.
    pub pending: bool,
}

/// No joins: rows are read table by table.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
