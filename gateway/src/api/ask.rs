//! From a request of any endpoint to a turn of the stack: whose it is, its conversation, what memory may do; and the
//! headers that say so on the reply. Every endpoint that asks a model goes through here. Wire formats are the
//! endpoints' business, what a turn does is in [`crate::turn`].

use std::sync::Arc;
use std::time::Instant;

use axum::extract::FromRef;
use axum::response::Response;
use futures::StreamExt;
use habit_engine::{ChatRequest, Delta, DeltaStream, Engine, EngineError, FinishReason, Priority, Usage};
use habit_memory::Scope;
use habit_memory::clock::Clock;
use habit_memory::context::Slot;
use habit_memory::interaction::Variant;
use habit_memory::overflow::Gone;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tower::ServiceExt;
use uuid::Uuid;

use super::error::ApiError;
use crate::app::App;
use crate::auth::Caller;
use crate::learner::private;
use crate::turn::overflow::Overflow;
use crate::turn::reply::Collected;
use crate::turn::{MemoryMode, Reply, Turn, TurnService, route};

mod charge;
pub mod replies;

/// What a request allows memory to do: `off`, `read`, `write` or `on`.
pub const MEMORY: HeaderName = HeaderName::from_static("x-habit-memory");
/// Names the application that asks: facts that count in one application only are shown to no other.
pub const APP: HeaderName = HeaderName::from_static("x-habit-app");
/// Names the conversation; on replies, the one that the turn belongs to.
pub const CONVERSATION: HeaderName = HeaderName::from_static("x-habit-conversation");
/// Whether someone waits for the reply: `interactive`, or `background`, which lets all others go first.
pub const PRIORITY: HeaderName = HeaderName::from_static("x-habit-priority");
/// On replies: which model answers, where the team has one of its own: `base` or `adapter`, with its id, and the
/// probability with which it was chosen.
pub const VARIANT: HeaderName = HeaderName::from_static("x-habit-model-variant");
/// On replies: the turn's id, for `GET /v1/turns/{id}`.
pub const TURN: HeaderName = HeaderName::from_static("x-habit-turn");

/// The longest name of a conversation, in bytes: it is a key in the database, and comes back as a header.
const CONVERSATION_MAX: usize = 128;

/// Asks models on behalf of callers; what endpoints need of the application.
#[derive(Clone)]
pub struct Asker {
    turns: TurnService,
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    /// Whether memory adds to prompts at all.
    memory: bool,
    /// The field that holds what is asked, for errors.
    input: &'static str,
}

impl FromRef<App> for Asker {
    fn from_ref(app: &App) -> Self {
        Self {
            turns: app.turns.clone(),
            engine: Arc::clone(&app.engine),
            memory: app.memory.is_some() && app.config.memory.on,
            clock: Arc::clone(&app.clock),
            input: "messages",
        }
    }
}

/// What an endpoint asks.
#[derive(Debug, Clone)]
pub struct Question {
    /// For the engine.
    pub request: ChatRequest,
    /// False leaves no trace of the turn.
    pub store: bool,
    /// The conversation that the body names; the header comes before it.
    pub conversation: Option<String>,
    /// What memory may do where the header says nothing: on for conversations, off for raw prompts.
    pub memory: MemoryMode,
    /// Sources that the request itself names.
    pub sources: Vec<Slot>,
}

impl Asker {
    /// For an endpoint whose body holds what is asked in this field, instead of in `messages`.
    #[must_use]
    pub fn over(self, input: &'static str) -> Self {
        Self { input, ..self }
    }

    /// The turn of this question.
    ///
    /// # Errors
    /// 400 if a header, or the conversation's name, is wrong; 403 if the key may not ask the model.
    pub fn turn(&self, caller: Caller, headers: &HeaderMap, question: Question) -> Result<Turn, ApiError> {
        let mut request = question.request;
        self.check_model(&caller, &mut request)?;
        request.priority = priority(headers, &request)?;
        request.tenant = caller.key_id;
        let overflow = truncation(&mut request)?;
        Ok(Turn {
            id: Uuid::now_v7(),
            scope: in_app(scope(caller.scope, headers, question.conversation)?, headers)?,
            request,
            memory: memory_mode(headers)?.unwrap_or(question.memory),
            store: question.store,
            overflow,
            asked_at: self.clock.now_ms(),
            arrived: Instant::now(),
            gone: Gone::default(),
            sources: question.sources,
            passages: Vec::new(),
            meter: caller.meter,
        })
    }

    /// Whether a request for this model would be sent on just as its client wrote it: the engine is an upstream, and
    /// memory adds nothing.
    #[must_use]
    pub fn relays(&self, model: &str, headers: &HeaderMap) -> bool {
        let reads = self.memory && !matches!(memory_mode(headers), Ok(Some(mode)) if !mode.reads());
        !reads && self.engine.relays(&route::resolve(&*self.engine, model))
    }

    /// The reply to a turn.
    ///
    /// # Errors
    /// What the stack says; 429 if the key has no tokens left.
    pub async fn ask(&self, turn: Turn) -> Result<Reply, ApiError> {
        let reserved = charge::reserve(&turn)?;
        let reply = self.turns.clone().oneshot(turn).await;
        let reply = reply.map_err(|error| ApiError::from(error).of_input(self.input))?;
        Ok(match reserved {
            None => reply,
            Some(reserved) => Reply {
                deltas: charge::charged(reply.deltas, reserved),
                ..reply
            },
        })
    }

    /// Refuses a model that the key may not ask: the one that is meant, whatever alias names it. The name is resolved
    /// for good then, so that it can't come to mean another model in the meantime.
    fn check_model(&self, caller: &Caller, request: &mut ChatRequest) -> Result<(), ApiError> {
        if caller.is_limited_to_models() || private::is_private(&request.model) {
            request.model = self.engine.resolve(&request.model);
            caller.check_model(&request.model)?;
        }
        Ok(())
    }
}

/// Reads a reply to its end.
///
/// # Errors
/// The engine's, before or in the middle of the reply.
pub async fn whole(mut deltas: DeltaStream) -> Result<(Collected, FinishReason, Usage), EngineError> {
    let mut reply = Collected::default();
    while let Some(delta) = deltas.next().await {
        match delta? {
            Delta::Finish { reason, usage } => return Ok((reply, reason, usage)),
            delta => reply.push(delta),
        }
    }
    Err(replies::unfinished())
}

/// Puts the turn's id and its conversation on a reply, also on an error: a failed turn has a record as well.
pub fn name_turn(response: &mut Response, id: Uuid, conversation: Option<String>, variant: Option<&Variant>) {
    let variant = variant.map(|variant| {
        let model = variant.model.map(|id| format!("; model={id}")).unwrap_or_default();
        format!("{}{model}; p={:.3}", variant.arm, variant.propensity)
    });
    let named = [
        (TURN, Some(id.to_string())),
        (CONVERSATION, conversation),
        (VARIANT, variant),
    ];
    for (name, value) in named {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// What the header says, or else OpenAI's `service_tier`, of which `flex` is the one that may wait.
fn priority(headers: &HeaderMap, request: &ChatRequest) -> Result<Priority, ApiError> {
    let Some(value) = headers.get(PRIORITY) else {
        let flex = request.extra.get("service_tier").and_then(|tier| tier.as_str()) == Some("flex");
        return Ok(if flex {
            Priority::Background
        } else {
            Priority::Interactive
        });
    };
    match value.as_bytes().trim_ascii().to_ascii_lowercase().as_slice() {
        b"interactive" => Ok(Priority::Interactive),
        b"background" => Ok(Priority::Background),
        other => {
            let other = String::from_utf8_lossy(other).into_owned();
            let message = format!("the header `X-Habit-Priority` must be interactive or background, not `{other}`");
            Err(ApiError::invalid(message, Some("X-Habit-Priority")))
        }
    }
}

/// What the body says of a conversation that outgrows the window: `truncation`, in the words of OpenAI's responses. It is
/// not the engine's business.
fn truncation(request: &mut ChatRequest) -> Result<Overflow, ApiError> {
    match request.extra.remove("truncation") {
        None | Some(Value::Null) => Ok(Overflow::Configured),
        Some(Value::String(text)) if text == "auto" => Ok(Overflow::Shorten),
        Some(Value::String(text)) if text == "disabled" => Ok(Overflow::Refuse),
        Some(_) => {
            let message = "`truncation` must be auto or disabled";
            Err(ApiError::invalid(message, Some("truncation")))
        }
    }
}

/// What the header allows memory to do; `None` without one.
fn memory_mode(headers: &HeaderMap) -> Result<Option<MemoryMode>, ApiError> {
    let Some(value) = headers.get(MEMORY) else {
        return Ok(None);
    };
    let mode = match value.as_bytes().trim_ascii().to_ascii_lowercase().as_slice() {
        b"off" => MemoryMode::Off,
        b"read" => MemoryMode::Read,
        b"write" => MemoryMode::Write,
        b"on" => MemoryMode::On,
        other => {
            let other = String::from_utf8_lossy(other).into_owned();
            let message = format!("the header `X-Habit-Memory` must be off, read, write or on, not `{other}`");
            return Err(ApiError::invalid(message, Some("X-Habit-Memory")));
        }
    };
    Ok(Some(mode))
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

/// The same scope in the application that the header names.
fn in_app(scope: Scope, headers: &HeaderMap) -> Result<Scope, ApiError> {
    let Some(name) = headers.get(APP).map(HeaderValue::as_bytes).map(<[u8]>::trim_ascii) else {
        return Ok(scope);
    };
    let fits = (1..=CONVERSATION_MAX).contains(&name.len())
        && name.iter().all(|b| b.is_ascii_alphanumeric() || b"._:@/-".contains(b));
    if fits {
        return Ok(scope.in_app(String::from_utf8_lossy(name)));
    }
    let message = format!("`X-Habit-App` must be 1 to {CONVERSATION_MAX} letters, digits or any of `._:@/-`");
    Err(ApiError::invalid(message, Some("X-Habit-App")))
}

#[cfg(test)]
mod tests;
