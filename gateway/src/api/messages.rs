//! `/v1/messages`: Anthropic's Messages, so that its SDKs and Claude Code can be pointed here.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use http::header::HeaderMap;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use self::error_shape::AnthropicError;
use super::ask::replies::{Pieces, Replies, unfinished};
use super::ask::{Asker, Question};
use super::error::{self, ApiError};
use super::responses::count_tokens as tokens_of;
use super::sse;
use crate::app::App;
use crate::auth::Caller;
use crate::turn::MemoryMode;
use render::{MessageBody, Named, Render};
use wire::CreateMessage;

#[path = "messages/error.rs"]
pub mod error_shape;
pub mod render;
mod tools;
pub mod wire;

/// An event of a stream.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MessageEvent {
    /// `message_start`, `content_block_start`, `content_block_delta`, `content_block_stop`, `message_delta`,
    /// `message_stop`, `ping` or `error`.
    pub r#type: String,
    /// What the event is about.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub fields: Value,
}

/// How many tokens messages have.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MessageTokens {
    /// Template and tools included, memory not.
    pub input_tokens: usize,
}

/// Answers messages.
///
/// Memory acts as on chat completions. Errors have Anthropic's shape.
#[utoipa::path(
    post, path = "/v1/messages", tag = "messages", operation_id = "createMessage",
    params(
        ("X-Habit-Memory" = Option<String>, Header, description =
            "What memory may do: `off`, `read` (not remembered), `write` (nothing recalled) or `on`, the default"),
        ("X-Habit-Conversation" = Option<String>, Header, description = "Names the conversation"),
    ),
    request_body = CreateMessage,
    responses(
        (status = 200, description = "The reply; with `stream`, as server-sent events", content(
            (MessageBody = "application/json"),
            (MessageEvent = "text/event-stream"),
        )),
        (status = 400, description = "A field is wrong, or the messages are over the model's window", body = AnthropicError),
        (status = 401, description = "The key is missing or wrong", body = AnthropicError),
        (status = 404, description = "No such model", body = AnthropicError),
        (status = 413, description = "The body is too large", body = AnthropicError),
        (status = 415, description = "The body is not JSON", body = AnthropicError),
        (status = 429, description = "All places are taken; see `Retry-After`", body = AnthropicError),
        (status = 503, description = "The engine or the storage is not there now", body = AnthropicError),
        (status = "default", description = "An error", body = AnthropicError),
    ),
)]
pub async fn create(
    State(app): State<App>,
    State(asker): State<Asker>,
    caller: Caller,
    headers: HeaderMap,
    error::Json(body): error::Json<CreateMessage>,
) -> Result<Response, ApiError> {
    let (stream, marks_cache) = (body.stream.unwrap_or(false), body.marks_cache());
    let mut request = body.parse(true)?;
    let prompt_tokens = tokens_of(&app, &caller, &request)?;
    // Clients must name a limit and name the largest that they know: more than fits means as much as fits.
    let window = app.engine.token_counter(&app.engine.resolve(&request.model));
    let window = window.map(|counter| counter.context_window());
    let (asked, room) = (
        request.max_tokens.unwrap_or_default(),
        window.map(|all| all.saturating_sub(prompt_tokens)),
    );
    if room.is_some_and(|room| asked > room) {
        request.max_tokens = None;
    }
    let question = Question {
        request,
        store: true,
        conversation: None,
        memory: MemoryMode::On,
        sources: Vec::new(),
    };
    let render = async |replies: Replies| {
        let Replies {
            turn, trace, pieces, ..
        } = replies;
        let render = Render::new(
            format!("msg_{}", turn.simple()),
            trace.model,
            prompt_tokens,
            marks_cache,
        );
        if stream {
            let events = events(pieces, render).map(|(name, data)| sse::named(name, &data));
            return Ok(sse::response(events, sse::PING_EVERY));
        }
        Ok(Json(whole(pieces, render).await?).into_response())
    };
    asker
        .answer(caller, &headers, vec![question], |deltas| deltas, render)
        .await
}

/// How many tokens the prompt of these messages would have.
#[utoipa::path(
    post, path = "/v1/messages/count_tokens", tag = "messages", operation_id = "countMessageTokens",
    request_body = CreateMessage,
    responses((status = 200, body = MessageTokens), (status = 400, body = AnthropicError),
        (status = 401, body = AnthropicError), (status = 404, body = AnthropicError),
        (status = "default", description = "An error", body = AnthropicError)),
)]
pub async fn count_tokens(
    State(app): State<App>,
    caller: Caller,
    error::Json(body): error::Json<CreateMessage>,
) -> Result<Json<MessageTokens>, ApiError> {
    let input_tokens = tokens_of(&app, &caller, &body.parse(false)?)?;
    Ok(Json(MessageTokens { input_tokens }))
}

/// The reply's events; an error is the last of them.
fn events(mut pieces: Pieces, mut render: Render) -> impl Stream<Item = Named> + Send {
    async_stream::stream! {
        yield render.begin();
        while !render.has_ended() {
            let piece = pieces.next().await;
            match piece.map_or_else(|| Err(unfinished().into()), |(_, piece)| piece) {
                Ok(delta) => {
                    for event in render.push(delta) {
                        yield event;
                    }
                }
                Err(error) => {
                    tracing::warn!(error.code = %error.code, "a stream broke off: {}", error.message);
                    let error = serde_json::to_value(AnthropicError::from(&error)).unwrap_or_default();
                    yield ("error", error);
                    return;
                }
            }
        }
    }
}

async fn whole(mut pieces: Pieces, mut render: Render) -> Result<MessageBody, ApiError> {
    while !render.has_ended() {
        let (_, piece) = pieces.next().await.ok_or_else(unfinished)?;
        render.push(piece?);
    }
    Ok(render.into_message())
}
