//! Ingested documents, without their text.

use sea_orm::entity::prelude::*;

/// [`Model::place`]: counts for its user.
pub const USER: &str = "user";
/// [`Model::place`]: counts for the whole team.
pub const TEAM: &str = "team";
/// [`Model::place`]: counts in one conversation.
pub const CONVERSATION: &str = "conversation";
/// [`Model::place`]: counts in one vector store.
pub const STORE: &str = "store";

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "documents")]
pub struct Model {
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Whose it is.
    pub team: String,
    /// Who gave it.
    pub user: String,
    /// The one conversation, or the one vector store, in which it counts, if that is its place.
    pub conversation: Option<String>,
    /// `user`, `team`, `conversation` or `store`.
    pub place: String,
    /// The file's name.
    pub name: String,
    /// What its text was extracted as.
    pub media_type: String,
    /// The file's size.
    pub bytes: i64,
    /// Of the file, lowercase hex.
    pub sha256: String,
    /// How many.
    pub chunks: i64,
    /// Unix milliseconds.
    pub ingested_at: i64,
}

/// No joins: rows are read table by table.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
