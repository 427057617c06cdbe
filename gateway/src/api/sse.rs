//! A reply as OpenAI's server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use habit_engine::{Delta, DeltaStream, EngineError};
use http::header::{HeaderName, HeaderValue};
use serde::Serialize;

use super::chat_wire::{ChatCompletionChunk, ChunkDelta, Envelope};
use super::error::ApiError;

/// How long a stream may be silent before a comment shows that it is alive: proxies cut silent ones after 30 to 60
/// seconds, and a long prompt is read for longer than that.
pub const PING_EVERY: Duration = Duration::from_secs(15);

/// Tells nginx and its kin not to hold events back.
const NO_BUFFERING: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-accel-buffering"),
    HeaderValue::from_static("no"),
);

/// A response of these events, with a `: ping` comment after every silence of `ping_every`.
pub fn response<S>(events: S, ping_every: Duration) -> Response
where
    S: Stream<Item = Event> + Send + 'static,
{
    let ping = KeepAlive::new().interval(ping_every).text("ping");
    let sse = Sse::new(events.map(Ok::<_, Infallible>)).keep_alive(ping);
    ([NO_BUFFERING], sse).into_response()
}

/// The events of a chat completion: the role, what the model says, why it ended, the usage if asked for, `[DONE]`.
/// An error ends the stream with an `error` event and without `[DONE]`. Dropping the stream drops the reply.
pub fn chat_events(
    mut deltas: DeltaStream,
    envelope: Envelope,
    include_usage: bool,
) -> impl Stream<Item = Event> + Send {
    async_stream::stream! {
        let chunk = |delta, finish| data(&ChatCompletionChunk::delta(&envelope, delta, finish, include_usage));
        yield chunk(ChunkDelta::role(), None);
        while let Some(item) = deltas.next().await {
            match item {
                Ok(Delta::Text(text)) => yield chunk(ChunkDelta::text(text), None),
                Ok(Delta::Reasoning(text)) => yield chunk(ChunkDelta::reasoning(text), None),
                // The renderer of probabilities asks for them; this one does not.
                Ok(Delta::Logprobs(_)) => {}
                Ok(Delta::ToolCall(call)) => yield chunk(ChunkDelta::tool_call(call), None),
                Ok(Delta::Finish { reason, usage }) => {
                    yield chunk(ChunkDelta::default(), Some(reason));
                    if include_usage {
                        yield data(&ChatCompletionChunk::usage(&envelope, usage));
                    }
                    yield Event::default().data("[DONE]");
                    return;
                }
                Err(error) => {
                    yield broken(error);
                    return;
                }
            }
        }
        yield broken(EngineError::Interrupted("the engine ended it without saying why".to_owned()));
    }
}

fn broken(error: EngineError) -> Event {
    let error = ApiError::from(error);
    tracing::warn!(error.code = %error.code, "a stream broke off: {}", error.message);
    error.event()
}

fn data(chunk: &impl Serialize) -> Event {
    let event = Event::default().json_data(chunk);
    event.unwrap_or_else(|error| ApiError::internal(format!("a chunk could not be written: {error}")).event())
}

#[cfg(test)]
mod tests;
