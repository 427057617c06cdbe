//! `POST /v1/chat/completions`: parses, asks the turn stack, renders. What a turn does is in [`crate::turn`].

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{FromRef, State};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use habit_engine::{Delta, DeltaStream, EngineError};
use habit_memory::Scope;
use habit_memory::clock::Clock;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use tower::ServiceExt;
use uuid::Uuid;

use super::chat_wire::{ChatCompletion, ChatCompletionRequest, Envelope, Parsed};
use super::error::{ApiError, ErrorBody, Json};
use super::sse;
use crate::app::App;
use crate::auth::Caller;
use crate::turn::reply::Collected;
use crate::turn::{MemoryMode, Reply, Turn, TurnService};

/// What a request allows memory to do: `off`, `read`, `write` or `on`.
pub const MEMORY: HeaderName = HeaderName::from_static("x-habit-memory");
/// Names the conversation; on replies, the one that the turn belongs to.
pub const CONVERSATION: HeaderName = HeaderName::from_static("x-habit-conversation");
/// On replies: the turn's id, for `GET /v1/turns/{id}`.
pub const TURN: HeaderName = HeaderName::from_static("x-habit-turn");

/// The longest name of a conversation, in bytes: it is a key in the database, and comes back as a header.
const CONVERSATION_MAX: usize = 128;

/// What the handler needs of the application.
#[derive(Clone)]
pub struct ChatState {
    turns: TurnService,
    clock: Arc<dyn Clock>,
}

impl FromRef<App> for ChatState {
    fn from_ref(app: &App) -> Self {
        Self {
            turns: app.turns.clone(),
            clock: Arc::clone(&app.clock),
        }
    }
}

/// Answers a conversation.
///
/// With memory on, what was said in earlier conversations and what stands in documents is put before the model where
/// it bears on the last message; `GET /v1/turns/{id}` shows what that was. A client that leaves stops the reply.
///
/// # Errors
/// In OpenAI's shape, as documented below.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    tag = "chat",
    operation_id = "createChatCompletion",
    params(
        ("X-Habit-Memory" = Option<String>, Header, description =
            "What memory may do in this turn: `off`, `read` (not remembered), `write` (nothing recalled) or `on`, the default"),
        ("X-Habit-Conversation" = Option<String>, Header, description =
            "Names the conversation, 1 to 128 letters, digits or `._:@/-`. Without it, a conversation is known by the history that is sent"),
    ),
    request_body = ChatCompletionRequest,
    responses(
        (status = 200, description = "The reply; with `stream`, as server-sent events that end with `[DONE]`", content(
            (ChatCompletion = "application/json"),
            (super::chat_wire::ChatCompletionChunk = "text/event-stream"),
        ), headers(
            ("X-Habit-Turn" = String, description = "The turn's id"),
            ("X-Habit-Conversation" = String, description = "The conversation's id"),
        )),
        (status = 400, description = "A field is wrong, or the messages are over the model's window", body = ErrorBody),
        (status = 401, description = "The key is missing or wrong", body = ErrorBody),
        (status = 404, description = "No such model", body = ErrorBody),
        (status = 413, description = "The body is too large", body = ErrorBody),
        (status = 415, description = "The body is not JSON", body = ErrorBody),
        (status = 429, description = "All places are taken; see `Retry-After`", body = ErrorBody),
        (status = 503, description = "The engine or the storage is not there now; see `Retry-After`", body = ErrorBody),
    ),
)]
pub async fn completions(
    State(state): State<ChatState>,
    caller: Caller,
    headers: HeaderMap,
    Json(body): Json<ChatCompletionRequest>,
) -> Result<Response, ApiError> {
    let Parsed {
        request,
        stream,
        include_usage,
        store,
        conversation,
    } = body.parse()?;
    let turn = Turn {
        id: Uuid::now_v7(),
        scope: scope(caller.scope, &headers, conversation)?,
        request,
        memory: memory_mode(&headers)?,
        store,
        asked_at: state.clock.now_ms(),
        arrived: Instant::now(),
        passages: Vec::new(),
    };
    let (id, asked_at) = (turn.id, turn.asked_at);
    let answer = async {
        let Reply { deltas, trace } = state.turns.oneshot(turn).await?;
        let envelope = Envelope::new(id, asked_at, trace.model);
        let response = if stream {
            sse::response(
                sse::chat_events(deltas, envelope.chunk(), include_usage),
                sse::PING_EVERY,
            )
        } else {
            axum::Json(whole(deltas, envelope).await?).into_response()
        };
        Ok::<_, ApiError>((response, trace.conversation))
    };
    // The headers are on errors too: a failed turn has a record as well.
    let (mut response, conversation) = answer.await.unwrap_or_else(|error| (error.into_response(), None));
    let named = [(TURN, Some(id.to_string())), (CONVERSATION, conversation)];
    for (name, value) in named {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// Reads a reply to its end.
async fn whole(mut deltas: DeltaStream, envelope: Envelope) -> Result<ChatCompletion, EngineError> {
    let mut reply = Collected::default();
    while let Some(delta) = deltas.next().await {
        match delta? {
            Delta::Finish { reason, usage } => return Ok(ChatCompletion::new(envelope, reply, reason, usage)),
            delta => reply.push(&delta),
        }
    }
    Err(EngineError::Interrupted(
        "the engine ended it without saying why".to_owned(),
    ))
}

fn memory_mode(headers: &HeaderMap) -> Result<MemoryMode, ApiError> {
    let Some(value) = headers.get(MEMORY) else {
        return Ok(MemoryMode::default());
    };
    match value.as_bytes().trim_ascii().to_ascii_lowercase().as_slice() {
        b"off" => Ok(MemoryMode::Off),
        b"read" => Ok(MemoryMode::Read),
        b"write" => Ok(MemoryMode::Write),
        b"on" => Ok(MemoryMode::On),
        other => {
            let other = String::from_utf8_lossy(other).into_owned();
            let message = format!("the header `X-Habit-Memory` must be off, read, write or on, not `{other}`");
            Err(ApiError::invalid(message, Some("X-Habit-Memory")))
        }
    }
}

/// The caller's scope, in the conversation that the header, or else the metadata, names.
fn scope(caller: Scope, headers: &HeaderMap, metadata: Option<String>) -> Result<Scope, ApiError> {
    let header = headers
        .get(CONVERSATION)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned());
    let header = header
        .filter(|id| !id.is_empty())
        .map(|id| (id, "X-Habit-Conversation"));
    let Some((id, param)) = header.or(metadata.map(|id| (id, "metadata.conversation_id"))) else {
        return Ok(caller);
    };
    let fits = id.len() <= CONVERSATION_MAX && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:@/-".contains(&b));
    if fits {
        return Ok(caller.in_conversation(id));
    }
    let message = format!("`{param}` must be 1 to {CONVERSATION_MAX} letters, digits or any of `._:@/-`");
    Err(ApiError::invalid(message, Some(param)))
}

#[cfg(test)]
mod tests;
