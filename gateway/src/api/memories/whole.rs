//! What is done to memory as a whole: a concept is forgotten, everything of a user is told or erased, and rules say who
//! is not to be remembered.

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use habit_memory::consent::{Mode, Rule, Subject};
use habit_memory::memories::{Concept, Erasure, Forgotten, Line, Memories, Sort};
use habit_memory::{MemoryError, Scope};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::memories;
use crate::api::error::{self, ApiError, ErrorBody};
use crate::app::App;
use crate::auth::Caller;
use crate::keys::KeyError;

/// Things of each sort that a preview shows, unless the request says otherwise, and at most.
const FORGET: (usize, usize) = (20, 100);

/// What is to be forgotten: first `query`, for a preview; then its `token`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Forget {
    /// Words for the concept. Nothing is deleted yet.
    #[schema(example = "my old flat in Ghent")]
    pub query: Option<String>,
    /// What is looked at: `memory`, `turn`, `document` (of which whole documents go). Memories and turns, if it is not
    /// given.
    #[schema(value_type = Option<Vec<String>>)]
    pub what: Option<Vec<Sort>>,
    /// Things of each sort, 1 to 100; 20 if it is not given.
    pub limit: Option<usize>,
    /// A preview's token: deletes what it showed.
    pub token: Option<String>,
    /// With a token: ids that are to stay.
    #[schema(value_type = Vec<String>)]
    pub keep: Vec<Uuid>,
}

/// What would go, or has gone.
#[derive(Debug, Serialize, ToSchema)]
pub struct ForgetView {
    /// `memory.forget.preview`, or `memory.forgotten`.
    #[schema(example = "memory.forget.preview")]
    pub object: &'static str,
    /// Send it within a quarter of an hour to delete what is shown; absent once that is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// With a preview: whether more of a sort fits than `limit` shows. What is shown goes, the rest is found again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub has_more: Option<bool>,
    /// What would go, or has gone.
    pub results: Vec<ForgottenView>,
}

/// One thing that would go, or has gone.
#[derive(Debug, Serialize, ToSchema)]
pub struct ForgottenView {
    /// `memory`, `turn` or `document`.
    #[schema(value_type = String, example = "memory")]
    pub what: Sort,
    /// Its id.
    #[schema(value_type = String)]
    pub id: Uuid,
    /// What was found of it; not once it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// How well it fits, 0 to 1; comparable within one sort.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
}

impl From<Forgotten> for ForgottenView {
    fn from(found: Forgotten) -> Self {
        Self {
            what: found.sort,
            id: found.id,
            text: Some(found.text),
            score: Some(found.score),
        }
    }
}

/// Forgets a concept, in two steps: `query` shows what memory finds for it, and the `token` that comes with that deletes
/// just this.
#[utoipa::path(
    post, path = "/v1/memories/forget", tag = "memories", operation_id = "forgetMemories", request_body = Forget,
    responses((status = 200, body = ForgetView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody)),
)]
pub async fn forget(
    State(app): State<App>,
    caller: Caller,
    error::Json(body): error::Json<Forget>,
) -> Result<Json<ForgetView>, ApiError> {
    let memories = memories(&app)?;
    let query = body.query.as_deref().map(str::trim).filter(|query| !query.is_empty());
    match (query, &body.token) {
        (Some(query), None) => {
            let limit = body.limit.unwrap_or(FORGET.0);
            if !(1..=FORGET.1).contains(&limit) {
                return Err(ApiError::invalid(
                    format!("`limit` must be 1 to {}", FORGET.1),
                    Some("limit"),
                ));
            }
            let concept = Concept {
                query: query.to_owned(),
                sorts: body.what.unwrap_or_else(|| vec![Sort::Memory, Sort::Turn]),
                limit,
            };
            let preview = memories.forget_preview(&caller.scope, &concept).await?;
            Ok(Json(ForgetView {
                object: "memory.forget.preview",
                token: Some(preview.token),
                has_more: Some(preview.has_more),
                results: preview.items.into_iter().map(ForgottenView::from).collect(),
            }))
        }
        (None, Some(token)) => {
            let gone = memories.forget(&caller.scope, token, &body.keep).await?;
            let view = |(what, id)| ForgottenView {
                what,
                id,
                text: None,
                score: None,
            };
            Ok(Json(ForgetView {
                object: "memory.forgotten",
                token: None,
                has_more: None,
                results: gone.into_iter().map(view).collect(),
            }))
        }
        _ => {
            let message = "send `query` for a preview, or the `token` of one to delete what it showed";
            Err(ApiError::invalid(message, Some("query")))
        }
    }
}

/// What an export holds.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// Whether the bytes of files are in it, as base64; they are, if it is not given.
    pub files: Option<bool>,
}

/// Everything that is kept of the key's user: turns, memories with their history, documents, files, responses,
/// conversations, rules, feedback and the examples made of it; one JSON object a line, each with its `type`.
#[utoipa::path(
    get, path = "/v1/memories/export", tag = "memories", operation_id = "exportMemories", params(ExportQuery),
    responses((status = 200, description = "JSON lines.", content_type = "application/jsonl", body = String),
        (status = 401, body = ErrorBody)),
)]
pub async fn export(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    let memories = memories(&app)?.clone();
    let (scope, with_files) = (caller.scope, query.files != Some(false));
    let lines = memories.export(&scope).and_then(move |line| {
        let (memories, scope) = (memories.clone(), scope.clone());
        async move { written(&memories, &scope, line, with_files).await }
    });
    // An export that breaks off must not look like a whole one: the connection ends without its end.
    let lines = lines.inspect_err(|error| tracing::error!("an export broke off: {error}"));
    let headers = [
        (CONTENT_TYPE, "application/jsonl"),
        (CONTENT_DISPOSITION, "attachment; filename=\"habit-export.jsonl\""),
    ];
    Ok((headers, Body::from_stream(lines.boxed())).into_response())
}

async fn written(memories: &Memories, scope: &Scope, line: Line, with_files: bool) -> Result<Bytes, MemoryError> {
    let unwritable = |error: serde_json::Error| MemoryError::Storage(format!("an export can't be written: {error}"));
    let bytes = match &line {
        Line::File { id, .. } if with_files => match memories.file(scope, id).await {
            Ok(bytes) => Some(STANDARD.encode(bytes)),
            // Deleted since its card was read.
            Err(MemoryError::NotFound(_)) => None,
            Err(error) => return Err(error),
        },
        _ => None,
    };
    let mut json = serde_json::to_value(&line).map_err(unwritable)?;
    if let (Some(bytes), Some(object)) = (bytes, json.as_object_mut()) {
        object.insert("content_base64".to_owned(), Value::String(bytes));
    }
    let mut text = serde_json::to_vec(&json).map_err(unwritable)?;
    text.push(b'\n');
    Ok(text.into())
}

/// That everything is to be erased.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Erase {
    /// The name of the key's user, as a confirmation.
    #[schema(example = "ann")]
    #[serde(default)]
    pub confirm: String,
    /// Also what the user gave the whole team.
    #[serde(default)]
    pub team_wide: bool,
}

/// What was erased.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErasedView {
    /// Always `memory.erased`.
    #[schema(example = "memory.erased")]
    pub object: &'static str,
    /// The user.
    pub user_id: String,
    /// Recorded turns.
    pub turns: u64,
    /// Memories.
    pub memories: u64,
    /// Documents.
    pub documents: u64,
    /// Files, responses, conversations, vector stores and their parts.
    pub objects: u64,
    /// Feedback; what was learnt from it is marked as to be made anew without it.
    pub feedback: u64,
}

/// Erases everything that is kept of the key's user: from the database, the index, and the disk. It can't be undone, and
/// takes a while where there is much of everyone's.
#[utoipa::path(
    post, path = "/v1/memories/erase", tag = "memories", operation_id = "eraseMemories", request_body = Erase,
    responses((status = 200, body = ErasedView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
)]
pub async fn erase(
    State(app): State<App>,
    caller: Caller,
    error::Json(body): error::Json<Erase>,
) -> Result<Json<ErasedView>, ApiError> {
    let user = caller.scope.user().to_owned();
    if body.confirm != user {
        let message =
            format!("this erases everything of the user `{user}` for good; confirm it with \"confirm\": \"{user}\"");
        return Err(ApiError::invalid(message, Some("confirm")));
    }
    let memories = memories(&app)?.clone();
    // In a task of its own: a client that leaves must not leave half of it behind.
    let scope = caller.scope;
    let work = app
        .lifecycle
        .spawn(async move { memories.erase(&scope, body.team_wide).await });
    let stopped = |_| ApiError::unavailable("the server is stopping; erase again when it is back");
    let Erasure {
        turns,
        memories,
        documents,
        objects,
        learnt,
    } = work.await.map_err(stopped)??;
    Ok(Json(ErasedView {
        object: "memory.erased",
        user_id: user,
        turns,
        memories,
        documents,
        objects,
        feedback: learnt,
    }))
}

/// What memory may do for someone. The strictest rule counts.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleView {
    /// `team`, `user`, `key` or `conversation`.
    #[schema(example = "conversation")]
    pub subject: String,
    /// Which key, by the part after `hb-`, or which conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `off`, `read` (remember nothing), `write` (add nothing to prompts) or `on`; null takes the rule away.
    #[schema(value_type = Option<String>, example = "off")]
    pub mode: Option<Mode>,
}

/// Rules.
#[derive(Debug, Serialize, ToSchema)]
pub struct RuleList {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// The team's, the user's own, those of the user's conversations, and of the user's key.
    pub data: Vec<RuleView>,
}

impl From<Rule> for RuleView {
    fn from(rule: Rule) -> Self {
        let (subject, id) = match rule.subject {
            Subject::Team => ("team", None),
            Subject::User => ("user", None),
            Subject::Key(id) => ("key", Some(id)),
            Subject::Conversation(id) => ("conversation", Some(id)),
        };
        Self {
            subject: subject.to_owned(),
            id,
            mode: Some(rule.mode),
        }
    }
}

/// The rules on memory that concern the caller. An admin key sees those of all keys of its team.
#[utoipa::path(
    get, path = "/v1/memories/rules", tag = "memories", operation_id = "listMemoryRules",
    responses((status = 200, body = RuleList), (status = 401, body = ErrorBody)),
)]
pub async fn rules(State(app): State<App>, caller: Caller) -> Result<Json<RuleList>, ApiError> {
    let rules = memories(&app)?.consents().rules(&caller.scope).await?;
    let seen = |rule: &Rule| match &rule.subject {
        Subject::Key(id) => caller.admin || *id == caller.key_id,
        _ => true,
    };
    Ok(Json(RuleList {
        object: "list",
        data: rules.into_iter().filter(seen).map(RuleView::from).collect(),
    }))
}

/// Refuses a key that is not of the caller's team, as one that nobody has.
async fn of_the_team(app: &App, caller: &Caller, id: &str) -> Result<(), ApiError> {
    let Some(keys) = &app.keys else { return Ok(()) };
    let known = match keys.list(Some(caller.scope.team())).await {
        Ok(known) => known,
        // Those of a file: there is one team.
        Err(KeyError::Fixed) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if known.iter().any(|key| key.id == id) {
        return Ok(());
    }
    let message = format!("your team has no key `{id}`; GET /v1/keys lists them");
    Err(ApiError::not_found(message).with_param("id"))
}

/// Says what memory may do for the caller's user, for one of their conversations, for a key, or for the whole team; the
/// last two, for another key than the caller's, with an admin key only.
#[utoipa::path(
    put, path = "/v1/memories/rules", tag = "memories", operation_id = "setMemoryRule", request_body = RuleView,
    responses((status = 200, body = RuleList), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn set_rule(
    State(app): State<App>,
    caller: Caller,
    error::Json(body): error::Json<RuleView>,
) -> Result<Json<RuleList>, ApiError> {
    let id = body.id.as_deref().map(str::trim).filter(|id| !id.is_empty());
    let subject = match (body.subject.as_str(), id) {
        ("team", None) => {
            caller.require_admin()?;
            Subject::Team
        }
        ("user", None) => Subject::User,
        ("key", id) => {
            let id = id.unwrap_or(&caller.key_id);
            if id != caller.key_id {
                caller.require_admin()?;
                of_the_team(&app, &caller, id).await?;
            }
            Subject::Key(id.to_owned())
        }
        ("conversation", Some(id)) => Subject::Conversation(id.to_owned()),
        ("conversation", None) => {
            return Err(ApiError::invalid("name the conversation: \"id\": \"…\"", Some("id")));
        }
        ("team" | "user", Some(_)) => {
            let message = "a rule for the team or the user has no `id`: it is the key's own";
            return Err(ApiError::invalid(message, Some("id")));
        }
        (other, _) => {
            let message = format!("`subject` must be team, user, key or conversation, not `{other}`");
            return Err(ApiError::invalid(message, Some("subject")));
        }
    };
    memories(&app)?
        .consents()
        .set(&caller.scope, &subject, body.mode)
        .await?;
    rules(State(app), caller).await
}
