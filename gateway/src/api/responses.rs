//! `/v1/responses`: OpenAI's Responses. Handlers parse, put the history together, ask, and show; what a turn does is in
//! [`crate::turn`]. Conversations, which responses may be part of, are in [`super::conversations`].

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use habit_engine::ChatRequest;
use http::header::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::ask::Asker;
use super::ask::replies::Replies;
use super::error::{self, ApiError, ErrorBody};
use super::feedback;
use super::listing::{ListQuery, Listing};
use super::tokenize::counter;
use super::{sse, turns};
use crate::app::App;
use crate::auth::Caller;
use crate::turn::overflow;
use body::{ResponseBody, ResponseError, Status};
use kept::{Cabinet, Kept};
use plan::Plan;
use render::Event;
use wire::CreateResponse;

pub mod background;
pub mod body;
pub mod items;
pub mod kept;
mod plan;
pub mod render;
pub mod run;
pub mod style;
pub mod tools;
pub mod wire;

/// How long a response that this process does not make may be one that another gateway makes, in seconds; later, whoever
/// made it is taken to be gone.
const ELSEWHERE_S: i64 = 3_600;

/// How a response is to be shown.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RetrieveQuery {
    /// As server-sent events, from the first one on.
    pub stream: Option<bool>,
    /// Only the events after the one with this number.
    pub starting_after: Option<u64>,
}

/// An event of a stream.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ResponseEvent {
    /// `response.created`, `response.output_text.delta`, … and last `response.completed`, `response.incomplete`,
    /// `response.failed` or `response.cancelled`.
    pub r#type: String,
    /// Counts from 0.
    pub sequence_number: u64,
    /// What the event is about.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub fields: Value,
}

/// A deleted thing.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DeletedObject {
    /// Its id.
    pub id: String,
    /// What it was.
    pub object: &'static str,
    /// True.
    pub deleted: bool,
}

/// How many tokens an input has.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct InputTokens {
    /// `response.input_tokens`.
    pub object: &'static str,
    /// Template and tools included, memory not.
    pub input_tokens: usize,
}

/// Answers an input.
///
/// Memory acts as on chat completions. With `previous_response_id` or `conversation` the history need not be sent again.
/// A tool of the type `file_search` searches the vector stores that it names before the model answers.
/// With `background` the answer comes at once, and the response is fetched when it is done.
#[utoipa::path(
    post, path = "/v1/responses", tag = "responses", operation_id = "createResponse",
    params(
        ("X-Habit-Memory" = Option<String>, Header, description =
            "What memory may do: `off`, `read` (not remembered), `write` (nothing recalled) or `on`, the default"),
    ),
    request_body = CreateResponse,
    responses(
        (status = 200, description = "The response; with `stream`, as server-sent events", content(
            (ResponseBody = "application/json"),
            (ResponseEvent = "text/event-stream"),
        )),
        (status = 400, description = "A field is wrong, or the input is over the model's window", body = ErrorBody),
        (status = 401, description = "The key is missing or wrong", body = ErrorBody),
        (status = 404, description = "No such model, response, conversation, item or vector store", body = ErrorBody),
        (status = 413, description = "The body is too large", body = ErrorBody),
        (status = 415, description = "The body is not JSON", body = ErrorBody),
        (status = 429, description = "All places are taken; see `Retry-After`", body = ErrorBody),
        (status = 503, description = "The engine or the storage is not there now; see `Retry-After`", body = ErrorBody),
    ),
)]
pub async fn create(
    State(app): State<App>,
    State(asker): State<Asker>,
    caller: Caller,
    headers: HeaderMap,
    error::Json(body): error::Json<CreateResponse>,
) -> Result<Response, ApiError> {
    let plan = Plan::new(&app, &caller, body).await?;
    let asker = asker.over("input");
    let question = plan.question()?;
    if let Some(given) = plan.asked.feedback.clone() {
        match plan.asked.previous.as_deref().and_then(turn_of) {
            Some(before) => drop(feedback::keep(&app, &caller, before, given).await?),
            None => feedback::of_the_reply_before(&app, &asker, &caller, &headers, &question, given).await?,
        }
    }
    if plan.asked.draft.background {
        return plan.in_background(app, asker, (caller, headers), question).await;
    }
    let render = async |replies: Replies| {
        let Replies {
            turn,
            asked_at,
            trace,
            pieces,
            ..
        } = replies;
        let stream = plan.asked.stream;
        let keeper = plan.keeper(&app, trace.conversation.clone());
        let mut render = plan.render(turn, asked_at, trace.model);
        let mut begun = render.begin(false);
        begun.extend(plan.searched(&mut render, &trace.injected));
        let deltas = pieces.map(|(_, piece)| piece).boxed();
        let events = run::run(begun, render, deltas, keeper, CancellationToken::new());
        if stream {
            return Ok(told(run::told(events)));
        }
        Ok(Json(run::whole(events).await?).into_response())
    };
    asker
        .answer(caller, &headers, vec![question], |deltas| deltas, render)
        .await
}

/// A response that is kept, or is being made in the background.
#[utoipa::path(
    get, path = "/v1/responses/{id}", tag = "responses", operation_id = "getResponse",
    params(("id" = String, Path, description = "The response's id."), RetrieveQuery),
    responses(
        (status = 200, description = "The response; with `stream`, as server-sent events", content(
            (ResponseBody = "application/json"),
            (ResponseEvent = "text/event-stream"),
        )),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
)]
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<RetrieveQuery>,
) -> Result<Response, ApiError> {
    let response = current(&app, &caller, &id).await?.response;
    if !query.stream.unwrap_or(false) {
        return Ok(Json(response).into_response());
    }
    let from = query.starting_after.map_or(0, |number| number.saturating_add(1));
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    if let Some(run) = app.background.find(&caller.scope, &id) {
        return Ok(told(run.follow(from)));
    }
    let mut events = render::replay(response);
    // The numbers are those of the stream that was, which had more pieces: its end is told in any case.
    let rest = from.min(events.len().saturating_sub(1));
    if let Some(last) = events.last_mut().filter(|_| from > rest) {
        last.data["sequence_number"] = Value::from(from);
    }
    Ok(told(futures::stream::iter(events.split_off(rest))))
}

/// Deletes a response and what was recorded of its turn; a response in the background is cancelled.
#[utoipa::path(
    delete, path = "/v1/responses/{id}", tag = "responses", operation_id = "deleteResponse",
    params(("id" = String, Path, description = "The response's id.")),
    responses((status = 200, body = DeletedObject), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<DeletedObject>, ApiError> {
    let cabinet = cabinet(&app, &caller)?;
    let found = cabinet.response(&id).await?;
    if let Some(run) = app.background.find(&caller.scope, &id) {
        run.stop().await;
    }
    app.background.forget(&caller.scope, &id);
    cabinet.delete(&id).await?;
    if let Some(turn) = turn_of(&found.response.id) {
        turns::remove(app.memory()?, &caller.scope, turn).await?;
    }
    Ok(Json(DeletedObject {
        id,
        object: "response",
        deleted: true,
    }))
}

/// Cancels a response in the background; one that has ended stays as it is.
#[utoipa::path(
    post, path = "/v1/responses/{id}/cancel", tag = "responses", operation_id = "cancelResponse",
    params(("id" = String, Path, description = "The response's id.")),
    responses((status = 200, body = ResponseBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody)),
)]
pub async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<ResponseBody>, ApiError> {
    let response = current(&app, &caller, &id).await?.response;
    if !response.background {
        let message = format!("the response `{id}` was not made with `background`: only such ones can be cancelled");
        return Err(ApiError::invalid(message, Some("response_id")));
    }
    if let Some(run) = app.background.find(&caller.scope, &id) {
        run.stop().await;
    }
    Ok(Json(current(&app, &caller, &id).await?.response))
}

/// The items of a response's own input.
#[utoipa::path(
    get, path = "/v1/responses/{id}/input_items", tag = "responses", operation_id = "listResponseInputItems",
    params(("id" = String, Path, description = "The response's id."), ListQuery),
    responses((status = 200, body = Listing<Object>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody)),
)]
pub async fn input_items(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Listing<Value>>, ApiError> {
    let cabinet = cabinet(&app, &caller)?;
    cabinet.response(&id).await?;
    let slice = kept::items_of(&id, query.slice()?);
    let items = cabinet.inputs(&id, &slice).await?;
    Ok(Json(Listing::of(items, &slice, |object| object.body)))
}

/// How many tokens the input of a response would have.
#[utoipa::path(
    post, path = "/v1/responses/input_tokens", tag = "responses", operation_id = "countResponseInputTokens",
    request_body = CreateResponse,
    responses((status = 200, body = InputTokens), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody)),
)]
pub async fn input_tokens(
    State(app): State<App>,
    caller: Caller,
    error::Json(body): error::Json<CreateResponse>,
) -> Result<Json<InputTokens>, ApiError> {
    let plan = Plan::new(&app, &caller, body).await?;
    let mut request = plan.request()?;
    if plan.asked.truncation.as_deref() == Some("auto") {
        overflow::truncate(&*app.engine, &mut request);
    }
    let input_tokens = count_tokens(&app, &caller, &request)?;
    Ok(Json(InputTokens {
        object: "response.input_tokens",
        input_tokens,
    }))
}

/// Tokens of the prompt that a request makes.
///
/// # Errors
/// As [`counter`]; 400 if the model's template can't express the messages.
pub fn count_tokens(app: &App, caller: &Caller, request: &ChatRequest) -> Result<usize, ApiError> {
    let counter = counter(app, caller, &request.model)?;
    Ok(counter.count_request(request)?)
}

/// The caller's responses and conversations.
fn cabinet(app: &App, caller: &Caller) -> Result<Cabinet, ApiError> {
    Ok(Cabinet::new(Arc::clone(&app.memory()?.objects), caller.scope.clone()))
}

/// A response as it is now. One that was being made when the process ended will never be complete.
async fn current(app: &App, caller: &Caller, id: &str) -> Result<Kept, ApiError> {
    let mut kept = cabinet(app, caller)?.response(id).await?;
    let running = || {
        app.background
            .find(&caller.scope, id)
            .is_some_and(|run| run.is_running())
    };
    if !kept.response.status.is_final() && !running() {
        // It may have ended between the two looks.
        kept = cabinet(app, caller)?.response(id).await?;
        if !kept.response.status.is_final() && !is_made_elsewhere(app, &kept) {
            kept.response.status = Status::Failed;
            kept.response.error = Some(ResponseError {
                code: "server_error".to_owned(),
                message: "the server stopped while it made this response; send the request again".to_owned(),
            });
        }
    }
    Ok(kept)
}

/// Whether another gateway may be making it, as far as that can be known: it was asked for a short while ago, and others use
/// the same database.
fn is_made_elsewhere(app: &App, kept: &Kept) -> bool {
    let since = app.clock.now_ms() / 1000 - kept.response.created_at;
    app.config.data.database.is_some() && since < ELSEWHERE_S
}

fn response_id(turn: Uuid) -> String {
    format!("resp_{}", turn.simple())
}

fn turn_of(id: &str) -> Option<Uuid> {
    Uuid::try_parse(id.strip_prefix("resp_")?).ok()
}

fn told(events: impl Stream<Item = Event> + Send + 'static) -> Response {
    sse::response(events.map(|event| sse::named(event.kind, &event.data)), sse::PING_EVERY)
}
