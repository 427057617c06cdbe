//! Turns, as recorded.

use sea_orm::entity::prelude::*;

/// [`Model::outcome`]: the engine gave an error.
pub const FAILED: &str = "failed";

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "turns")]
pub struct Model {
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Whose it is.
    pub team: String,
    /// Whose it is.
    pub user: String,
    /// Where it was said.
    pub conversation: String,
    /// The turn that it continues.
    pub parent: Option<String>,
    /// Unix milliseconds.
    pub asked_at: i64,
    /// Who answered.
    pub model: String,
    /// JSON: what the parent does not hold.
    pub messages: String,
    /// What was asked.
    pub prompt: String,
    /// What was answered.
    pub reply: String,
    /// `completed`, `interrupted` or `failed`.
    pub outcome: String,
    /// May be recalled.
    pub remember: bool,
    /// OpenAI's name of it.
    pub finish_reason: Option<String>,
    /// JSON: tokens.
    pub usage: String,
    /// JSON: the passages that were injected.
    pub injected: String,
    /// JSON: how memory was asked, and what left the prompt; null where there is nothing to tell.
    pub lookup: Option<String>,
    /// The hash of the history up to and with the reply.
    pub chain: String,
    /// JSON: milliseconds.
    pub timing: String,
    /// Why it failed.
    pub error: Option<String>,
    /// Still to be indexed.
    pub pending: bool,
}

/// No joins: rows are read table by table.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
