//! Administration: `/v1/keys` and `/v1/reindex`. An admin key rules its own team only; keys of other teams are made
//! with `habit keys`, on the machine where the data is.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use habit_memory::generations::Everything;
use habit_memory::scope::BadName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::error::{self, ApiError, ErrorBody};
use crate::api::turns::Deleted;
use crate::app::App;
use crate::auth::Caller;
use crate::keys::{KeyError, KeyInfo, KeyLimits, KeyStore, NewKey};

/// A key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyView {
    /// The public part of the key.
    #[schema(example = "0f3a5c9d2b7e4816")]
    pub id: String,
    /// Always `key`.
    #[schema(example = "key")]
    pub object: &'static str,
    /// The team whose memory it reaches.
    pub team: String,
    /// The user as whom it writes.
    pub user: String,
    /// May use the administrative routes.
    pub admin: bool,
    /// What it is for.
    pub label: String,
    /// When it was made, in Unix milliseconds.
    pub created_at: i64,
    /// When it stops working, in Unix milliseconds.
    pub expires_at: Option<i64>,
    /// When it was revoked, in Unix milliseconds.
    pub revoked_at: Option<i64>,
    /// What it may use.
    #[serde(flatten)]
    pub limits: Limits,
}

/// What a key may use; what is null is not limited.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Limits {
    /// Requests a minute.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub rpm: Option<u32>,
    /// Tokens a minute, of prompts and replies together.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub tpm: Option<u32>,
    /// Requests at the same time.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub concurrency: Option<u32>,
    /// The models that it may ask, by their own names.
    #[serde(default)]
    pub models: Option<Vec<String>>,
}

impl From<KeyLimits> for Limits {
    fn from(limits: KeyLimits) -> Self {
        Self {
            rpm: limits.requests_per_minute,
            tpm: limits.tokens_per_minute,
            concurrency: limits.concurrency,
            models: limits.models,
        }
    }
}

/// A new key, with its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedKeyView {
    /// The whole key. It is shown this once and kept nowhere.
    #[schema(example = "hb-0f3a5c9d2b7e4816-…")]
    pub key: String,
    /// What was made.
    #[serde(flatten)]
    pub info: KeyView,
}

/// Keys.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyList {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// The team's keys, newest first.
    pub data: Vec<KeyView>,
}

/// What a new key is to be. Its team is the caller's.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// The user as whom it writes.
    pub user: String,
    /// May use the administrative routes.
    #[serde(default)]
    pub admin: bool,
    /// What it is for.
    #[serde(default)]
    pub label: String,
    /// When it stops working, in Unix milliseconds; never, if it is not given.
    #[serde(default)]
    pub expires_at: Option<i64>,
    /// Requests a minute; not limited, if it is not given.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub rpm: Option<u32>,
    /// Tokens a minute, of prompts and replies together; not limited, if it is not given.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub tpm: Option<u32>,
    /// Requests at the same time; not limited, if it is not given.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub concurrency: Option<u32>,
    /// The models that it may ask, by their own names; all, if they are not given.
    #[serde(default)]
    pub models: Option<Vec<String>>,
}

/// That the index is being rebuilt.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reindex {
    /// Turns and passages that will be indexed again; `GET /health` shows how many are left.
    pub pending: u64,
}

impl From<KeyInfo> for KeyView {
    fn from(info: KeyInfo) -> Self {
        let KeyInfo {
            id,
            team,
            user,
            admin,
            label,
            created_at,
            expires_at,
            revoked_at,
            limits,
        } = info;
        Self {
            id,
            object: "key",
            team,
            user,
            admin,
            label,
            created_at,
            expires_at,
            revoked_at,
            limits: limits.into(),
        }
    }
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Limit(field) => Self::invalid(error.to_string(), Some(field)),
            KeyError::Name(BadName(_)) => Self::invalid(error.to_string(), Some("user")),
            KeyError::Storage(_) | KeyError::Random(_) => Self::unavailable(error.to_string()),
            KeyError::Fixed => Self::not_found(error.to_string()),
        }
    }
}

/// The keys of the caller's team.
#[utoipa::path(
    get, path = "/v1/keys", tag = "administration", operation_id = "listKeys",
    responses((status = 200, body = KeyList), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody)),
)]
pub async fn list(State(app): State<App>, caller: Caller) -> Result<Json<KeyList>, ApiError> {
    let keys = store(&app, &caller)?.list(Some(caller.scope.team())).await?;
    Ok(Json(KeyList {
        object: "list",
        data: keys.into_iter().map(KeyView::from).collect(),
    }))
}

/// Makes a key for a user of the caller's team.
#[utoipa::path(
    post, path = "/v1/keys", tag = "administration", operation_id = "createKey", request_body = CreateKey,
    responses(
        (status = 200, body = CreatedKeyView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
    ),
)]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    error::Json(body): error::Json<CreateKey>,
) -> Result<Json<CreatedKeyView>, ApiError> {
    let CreateKey {
        user,
        admin,
        label,
        expires_at,
        rpm,
        tpm,
        concurrency,
        models,
    } = body;
    let team = caller.scope.team().to_owned();
    let created = store(&app, &caller)?
        .create(NewKey {
            team,
            user,
            admin,
            label,
            expires_at,
            limits: KeyLimits {
                requests_per_minute: rpm,
                tokens_per_minute: tpm,
                concurrency,
                models,
            },
        })
        .await?;
    Ok(Json(CreatedKeyView {
        key: created.key,
        info: created.info.into(),
    }))
}

/// Revokes a key of the caller's team: it stops working within two seconds.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "administration", operation_id = "revokeKey",
    params(("id" = String, Path, description = "The public part of the key.")),
    responses(
        (status = 200, body = Deleted), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
)]
pub async fn revoke(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<Deleted>, ApiError> {
    if !store(&app, &caller)?.revoke(&id, Some(caller.scope.team())).await? {
        return Err(ApiError::not_found(format!(
            "your team has no key `{id}`; GET /v1/keys lists them"
        )));
    }
    Ok(Json(Deleted {
        id,
        object: "key.deleted",
        deleted: true,
    }))
}

/// Makes the index anew from the journal, in the background. The old one goes on to serve until it is done; where the index is
/// in an object store, what is not indexed again yet is not found meanwhile. Nothing is lost.
#[utoipa::path(
    post, path = "/v1/reindex", tag = "administration", operation_id = "reindex",
    responses((status = 200, body = Reindex), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody)),
)]
pub async fn reindex(State(app): State<App>, caller: Caller) -> Result<Json<Reindex>, ApiError> {
    caller.require_admin()?;
    let memory = app.memory()?;
    let everything = Everything {
        journal: Arc::clone(&memory.journal),
        facts: Arc::clone(&memory.facts),
    };
    let pending = memory.generations.renew(&everything).await?;
    memory.indexer.wake();
    tracing::info!("the index is being rebuilt: {pending} items");
    Ok(Json(Reindex { pending }))
}

fn store<'a>(app: &'a App, caller: &Caller) -> Result<&'a KeyStore, ApiError> {
    caller.require_admin()?;
    app.keys
        .as_ref()
        .ok_or_else(|| ApiError::not_found("this server runs without keys (--no-auth)"))
}
