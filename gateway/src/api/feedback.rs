//! `/v1/feedback`: what users say of replies. What becomes of it is in [`super::learning`].

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use habit_learning::curator::{Curator, FeedbackError};
use habit_learning::feedback::{DAY_MS, Feedback, Given, Implicit, Thumb};
use habit_memory::journal::Page;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::ask::{Asker, Question};
use super::error::{self, ApiError, ErrorBody};
use crate::app::App;
use crate::auth::Caller;
use crate::turn::record;

/// Feedback on a page, unless the request says otherwise.
const PAGE: u64 = 100;

/// The field of a request's metadata that says how the reply before it was.
pub const METADATA: &str = "habit_feedback";

/// Feedback on a reply: its turn, and at least one of the others but it.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GiveFeedback {
    /// The turn (the reply's `X-Habit-Turn`), or the reply's own id in any shape: `chatcmpl-…`, `cmpl-…`, `resp_…`, `msg_…`.
    #[schema(example = "0199f3c2-a7e0-7b4c-9d1e-2f3a4b5c6d7e")]
    pub turn: Option<String>,
    /// The same, by the completion's id.
    #[schema(example = "chatcmpl-0199f3c2a7e07b4c9d1e2f3a4b5c6d7e")]
    pub completion_id: Option<String>,
    /// The same, by the response's id.
    pub response_id: Option<String>,
    /// `up` or `down`.
    #[schema(value_type = Option<String>, example = "up")]
    pub thumb: Option<Thumb>,
    /// 0 (bad) to 1 (good).
    #[schema(minimum = 0, maximum = 1)]
    pub score: Option<f32>,
    /// Words for people; nothing is learnt from them.
    pub comment: Option<String>,
    /// The answer that it should have been.
    pub correction: Option<String>,
    /// What only the client sees: `copy`, `regenerate`, `meant` (the user put it right), `continue`. It weighs little.
    #[schema(value_type = Option<String>, example = "copy")]
    pub signal: Option<Implicit>,
}

/// Feedback.
#[derive(Debug, Serialize, ToSchema)]
pub struct FeedbackView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: Uuid,
    /// Always `feedback`.
    #[schema(example = "feedback")]
    pub object: &'static str,
    /// The turn that it is about.
    #[schema(value_type = String)]
    pub turn: Uuid,
    /// Who gave it.
    pub user_id: String,
    /// `up` or `down`.
    #[schema(value_type = Option<String>)]
    pub thumb: Option<Thumb>,
    /// 0 to 1.
    pub score: Option<f32>,
    /// Words for people.
    pub comment: Option<String>,
    /// The answer that it should have been.
    pub correction: Option<String>,
    /// What the client noticed.
    #[schema(value_type = Option<String>)]
    pub signal: Option<Implicit>,
    /// When it was given, in Unix milliseconds.
    pub created_at: i64,
}

impl From<Feedback> for FeedbackView {
    fn from(feedback: Feedback) -> Self {
        let Given {
            thumb,
            score,
            comment,
            correction,
            implicit,
        } = feedback.given;
        Self {
            id: feedback.id,
            object: "feedback",
            turn: feedback.turn,
            user_id: feedback.user,
            thumb,
            score,
            comment,
            correction,
            signal: implicit,
            created_at: feedback.at,
        }
    }
}

/// Feedback, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct FeedbackList {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// What there is.
    pub data: Vec<FeedbackView>,
    /// Whether there is more: `before` goes on from the last one.
    pub has_more: bool,
}

/// That feedback is gone.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedFeedback {
    /// Its id.
    #[schema(value_type = String)]
    pub id: Uuid,
    /// Always `feedback.deleted`.
    #[schema(example = "feedback.deleted")]
    pub object: &'static str,
    /// Always true.
    pub deleted: bool,
}

/// Which feedback is listed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FeedbackQuery {
    /// Only on this turn, by any id that `POST` takes.
    pub turn: Option<String>,
    /// At most so many, 1 to 1000; 100 if absent.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u64>,
    /// Only what is older than the feedback with this id.
    #[param(value_type = Option<String>)]
    pub before: Option<Uuid>,
}

impl From<FeedbackError> for ApiError {
    fn from(error: FeedbackError) -> Self {
        match error {
            FeedbackError::TooMuch(_) => {
                let wait = Duration::from_millis(DAY_MS.unsigned_abs() / 24);
                let message = error.to_string();
                Self::new(StatusCode::TOO_MANY_REQUESTS, "feedback_limit_exceeded", message).with_retry_after(wait)
            }
            FeedbackError::Memory(error) => error.into(),
        }
    }
}

/// Says how a reply was: a thumb, a score, a comment, and best of all the answer that it should have been. It is learnt
/// from as `GET /v1/learning/lineage/{feedback}` tells.
#[utoipa::path(
    post, path = "/v1/feedback", tag = "learning", operation_id = "giveFeedback", request_body = GiveFeedback,
    responses((status = 200, body = FeedbackView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 429, body = ErrorBody)),
)]
pub async fn give(
    State(app): State<App>,
    caller: Caller,
    error::Json(body): error::Json<GiveFeedback>,
) -> Result<Json<FeedbackView>, ApiError> {
    let named = [
        ("turn", &body.turn),
        ("completion_id", &body.completion_id),
        ("response_id", &body.response_id),
    ];
    let mut named = named.into_iter().filter_map(|(name, id)| Some((name, id.as_deref()?)));
    let (Some((name, id)), None) = (named.next(), named.next()) else {
        let message = "name the reply by one of `turn`, `completion_id` and `response_id`";
        return Err(ApiError::invalid(message, Some("turn")));
    };
    let turn = turn_of(id).ok_or_else(|| bad_id(name, id))?;
    let given = Given {
        thumb: body.thumb,
        score: body.score,
        comment: body.comment,
        correction: body.correction,
        implicit: body.signal,
    };
    Ok(Json(keep(&app, &caller, turn, given).await?.into()))
}

/// The user's feedback, newest first.
#[utoipa::path(
    get, path = "/v1/feedback", tag = "learning", operation_id = "listFeedback", params(FeedbackQuery),
    responses((status = 200, body = FeedbackList), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<FeedbackQuery>,
) -> Result<Json<FeedbackList>, ApiError> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=Page::MOST).contains(&limit) {
        let message = format!("`limit` must be 1 to {}", Page::MOST);
        return Err(ApiError::invalid(message, Some("limit")));
    }
    let turn = query
        .turn
        .as_deref()
        .map(|id| turn_of(id).ok_or_else(|| bad_id("turn", id)));
    let turns: Vec<Uuid> = turn.transpose()?.into_iter().collect();
    let page = Page {
        limit,
        before: query.before,
    };
    let found = curator(&app)?.list(&caller.scope, &turns, page).await?;
    Ok(Json(FeedbackList {
        object: "list",
        has_more: found.len() as u64 == limit,
        data: found.into_iter().map(FeedbackView::from).collect(),
    }))
}

/// Takes feedback back: it is gone from examples, exports and few-shot, and runs that were made with it are marked as to
/// be made anew, from base.
#[utoipa::path(
    delete, path = "/v1/feedback/{id}", tag = "learning", operation_id = "deleteFeedback",
    params(("id" = String, Path, description = "The feedback's id.")),
    responses((status = 200, body = DeletedFeedback), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Json<DeletedFeedback>, ApiError> {
    if !curator(&app)?.forget(&caller.scope, id).await? {
        return Err(unknown(id));
    }
    Ok(Json(DeletedFeedback {
        id,
        object: "feedback.deleted",
        deleted: true,
    }))
}

/// Who knows what became of feedback.
///
/// # Errors
/// 404 in a process without memory.
pub fn curator(app: &App) -> Result<&Curator, ApiError> {
    Ok(&app.memory()?.curator)
}

/// That there is no such feedback of the caller.
#[must_use]
pub fn unknown(id: Uuid) -> ApiError {
    ApiError::not_found(format!("there is no feedback {id} of yours; GET /v1/feedback lists it"))
}

fn bad_id(name: &'static str, id: &str) -> ApiError {
    let message = format!("`{id}` is no id of a reply; X-Habit-Turn and the `id` of a reply are ones");
    ApiError::invalid(message, Some(name))
}

/// The turn of any id that a reply has: what comes after the prefix is the turn's.
fn turn_of(id: &str) -> Option<Uuid> {
    let id = id.trim();
    let bare = ["chatcmpl-", "cmpl-", "resp_", "msg_"]
        .iter()
        .find_map(|prefix| id.strip_prefix(prefix));
    Uuid::parse_str(bare.unwrap_or(id)).ok()
}

/// What a request's metadata says of the reply before it.
///
/// # Errors
/// 400 if it is neither `good`, `bad` nor a score.
pub fn in_metadata(metadata: Option<&Map<String, Value>>) -> Result<Option<Given>, ApiError> {
    let said = metadata.and_then(|metadata| metadata.get(METADATA));
    let word = match said {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(word)) => word.trim().to_ascii_lowercase(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => String::new(),
    };
    let thumb = |thumb| Given {
        thumb: Some(thumb),
        ..Given::default()
    };
    match (word.as_str(), word.parse::<f32>()) {
        ("good" | "up", _) => Ok(Some(thumb(Thumb::Up))),
        ("bad" | "down", _) => Ok(Some(thumb(Thumb::Down))),
        (_, Ok(score)) if (0.0..=1.0).contains(&score) => Ok(Some(Given {
            score: Some(score),
            ..Given::default()
        })),
        _ => {
            let param = "metadata.habit_feedback";
            let message = format!("`{param}` says how the reply before was: good, bad, or a score of 0 to 1");
            Err(ApiError::invalid(message, Some(param)))
        }
    }
}

/// Keeps what a question's metadata says of the reply before it.
///
/// # Errors
/// 400 if there is no such reply, 429 if the user has given enough.
pub async fn of_the_reply_before(
    app: &App,
    asker: &Asker,
    caller: &Caller,
    headers: &HeaderMap,
    question: &Question,
    given: Given,
) -> Result<(), ApiError> {
    let turn = asker.turn(caller.clone(), headers, question.clone())?;
    let Some(before) = record::continued(&*app.memory()?.journal, &turn).await? else {
        let param = "metadata.habit_feedback";
        let message = "there is no recorded reply before this request: send its history, or name its conversation";
        return Err(ApiError::invalid(message, Some(param)));
    };
    keep(app, caller, before, given).await.map(drop)
}

/// Keeps what was said of a turn.
///
/// # Errors
/// 404 if there is no such turn of the caller, 429 if the user has given enough.
pub async fn keep(app: &App, caller: &Caller, turn: Uuid, given: Given) -> Result<Feedback, ApiError> {
    let feedback = curator(app)?.submit(&caller.scope, turn, given).await?;
    weigh(app, caller, &feedback).await;
    Ok(feedback)
}

/// What was said of a reply counts for or against the model that gave it, where the team's models are compared.
async fn weigh(app: &App, caller: &Caller, feedback: &Feedback) {
    let (Some(variants), Some(reward)) = (&app.variants, reward(&feedback.given)) else {
        return;
    };
    let Ok(memory) = app.memory() else { return };
    let turn = memory.journal.turn(&caller.scope, feedback.turn).await;
    let noted = match turn {
        Ok(Some(turn)) => variants.heard(&turn, reward).await.map_err(|error| error.to_string()),
        Ok(None) => Ok(()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = noted {
        tracing::warn!("feedback is kept, but does not count in the trial of a model: {error}");
    }
}

/// How good a reply was, 0 to 1, by what a user said outright; what a client only noticed says too little.
fn reward(given: &Given) -> Option<f64> {
    let thumb = given.thumb.map(|thumb| match thumb {
        Thumb::Up => 1.0,
        Thumb::Down => 0.0,
    });
    // Who writes what it should have been did not like what it was.
    let corrected = given.correction.is_some().then_some(0.0);
    given.score.map(f64::from).or(thumb).or(corrected)
}
