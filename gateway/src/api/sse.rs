//! Replies as OpenAI's server-sent events. What a chunk looks like is the endpoint's business ([`Render`]).

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use habit_engine::{Delta, FinishReason, Usage};
use http::header::{HeaderName, HeaderValue};
use serde::Serialize;

use super::ask::replies::{Pieces, unfinished};
use super::error::ApiError;
use super::generation::reply::Tally;

/// How long a stream may be silent before a comment shows that it is alive: proxies cut silent ones after 30 to 60
/// seconds, and a long prompt is read for longer than that.
pub const PING_EVERY: Duration = Duration::from_secs(15);

/// Tells nginx and its kin not to hold events back.
pub(super) const NO_BUFFERING: (HeaderName, HeaderValue) = (
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

/// How an endpoint puts deltas in its chunks. Each reply is known by its place.
pub trait Render: Send + 'static {
    /// What is sent.
    type Chunk: Serialize;

    /// What comes before a reply.
    fn begin(&mut self, reply: usize) -> Option<Self::Chunk>;

    /// What comes before this piece of a reply.
    fn before(&mut self, _: usize, _: &Delta) -> Option<Self::Chunk> {
        None
    }

    /// A piece of a reply.
    fn piece(&mut self, reply: usize, delta: Delta) -> Option<Self::Chunk>;

    /// What comes after all of a reply's pieces, before its end.
    fn end(&mut self, _: usize) -> Option<Self::Chunk> {
        None
    }

    /// The end of a reply.
    fn finish(&mut self, reply: usize, reason: FinishReason) -> Self::Chunk;

    /// What all replies took.
    fn usage(&mut self, usage: Usage) -> Self::Chunk;
}

/// The events of replies: what is said, why it ended, the usage if asked for, `[DONE]`. An error ends the stream with an
/// `error` event and without `[DONE]`. Dropping the stream drops the replies.
pub fn events<R: Render>(
    mut pieces: Pieces,
    mut tally: Tally,
    include_usage: bool,
    mut render: R,
) -> impl Stream<Item = Event> + Send
where
    R::Chunk: Send,
{
    async_stream::stream! {
        // The first reply has begun by the time that anything is sent; others may still wait for a place.
        let mut begun = vec![0];
        if let Some(chunk) = render.begin(0) {
            yield data(&chunk);
        }
        while let Some((reply, piece)) = pieces.next().await {
            if !begun.contains(&reply) {
                begun.push(reply);
                if let Some(chunk) = render.begin(reply) {
                    yield data(&chunk);
                }
            }
            let before = piece.as_ref().ok().and_then(|delta| render.before(reply, delta));
            if let Some(chunk) = before {
                yield data(&chunk);
            }
            match piece {
                Ok(Delta::Finish { reason, usage }) => {
                    if let Some(chunk) = render.end(reply) {
                        yield data(&chunk);
                    }
                    yield data(&render.finish(reply, reason));
                    tally.add(reply, usage);
                }
                Ok(delta) => {
                    if let Some(chunk) = render.piece(reply, delta) {
                        yield data(&chunk);
                    }
                }
                Err(error) => {
                    yield broken(&error);
                    return;
                }
            }
            if tally.is_complete() {
                if include_usage {
                    yield data(&render.usage(tally.usage()));
                }
                yield Event::default().data("[DONE]");
                return;
            }
        }
        yield broken(&unfinished().into());
    }
}

/// An event with a name.
pub fn named(name: &str, fields: &impl Serialize) -> Event {
    match Event::default().event(name).json_data(fields) {
        Ok(event) => event,
        Err(error) => ApiError::internal(format!("an event could not be written: {error}")).event(),
    }
}

fn broken(error: &ApiError) -> Event {
    tracing::warn!(error.code = %error.code, "a stream broke off: {}", error.message);
    error.event()
}

fn data(chunk: &impl Serialize) -> Event {
    let event = Event::default().json_data(chunk);
    event.unwrap_or_else(|error| ApiError::internal(format!("a chunk could not be written: {error}")).event())
}

#[cfg(test)]
mod tests;
