//! API keys: who may ask, and as whom.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "api_keys")]
pub struct Model {
    /// The part of the key that is no secret.
    #[sea_orm(primary_key, auto_increment = false)]
    pub public_id: String,
    /// SHA-256 of the secret part, lowercase hex.
    pub secret_sha256: String,
    /// The team that it speaks for.
    pub team: String,
    /// The user that it speaks for.
    pub user: String,
    /// May manage keys and rebuild the index.
    pub admin: bool,
    /// A note for people.
    pub label: String,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Not valid from then on (Unix milliseconds).
    pub expires_at: Option<i64>,
    /// Not valid since then (Unix milliseconds).
    pub revoked_at: Option<i64>,
    /// Requests a minute; null is no limit, here and below.
    pub requests_per_minute: Option<i64>,
    /// Tokens a minute.
    pub tokens_per_minute: Option<i64>,
    /// Requests at the same time.
    pub concurrency: Option<i64>,
    /// JSON: the names of the models that it may ask.
    pub models: Option<String>,
}

/// No joins: rows are read table by table.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
