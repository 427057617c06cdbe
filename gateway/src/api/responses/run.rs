//! A response on its way: the model's deltas become events, and the response is kept before its last event is given.

use std::sync::Arc;

use async_stream::stream;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use habit_engine::Delta;
use habit_memory::clock::Clock;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::body::ResponseBody;
use super::kept::{Cabinet, Kept};
use super::render::{Event, Render};
use crate::api::ask::replies::unfinished;
use crate::api::error::ApiError;

/// What a model says.
pub type Deltas = BoxStream<'static, Result<Delta, ApiError>>;

/// Where a response is kept, and what with it.
#[derive(Clone)]
pub struct Keeper {
    /// `None` for a response that leaves no trace.
    pub cabinet: Option<Cabinet>,
    /// The request's own items.
    pub input: Vec<Value>,
    /// The conversation in memory.
    pub thread: Option<String>,
    /// Keep it also when it failed: someone will ask for it.
    pub also_failed: bool,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Keeper {
    /// Keeps a response as it is now.
    ///
    /// # Errors
    /// 503 if it can't be written.
    pub async fn keep(&self, response: &ResponseBody) -> Result<(), ApiError> {
        let Some(cabinet) = &self.cabinet else { return Ok(()) };
        let kept = Kept {
            response: response.clone(),
            thread: self.thread.clone(),
        };
        cabinet.keep(&kept, &self.input, self.clock.now_ms()).await
    }
}

/// What happens: an event, or the failure with the event that tells of it.
pub type Happening = Result<Event, Box<(ApiError, Event)>>;

/// The events of a response, from those of its begin to the last. `cancel` ends it early. Dropping the stream drops the
/// reply.
pub fn run(
    begun: Vec<Event>,
    render: Render,
    deltas: Deltas,
    keeper: Keeper,
    cancel: CancellationToken,
) -> impl Stream<Item = Happening> + Send {
    let begun = futures::stream::iter(begun.into_iter().map(Ok));
    begun.chain(go_on(render, deltas, keeper, cancel))
}

/// As [`run`], of a response whose begin was told already.
pub fn go_on(
    mut render: Render,
    mut deltas: Deltas,
    keeper: Keeper,
    cancel: CancellationToken,
) -> impl Stream<Item = Happening> + Send {
    stream! {
        let mut failure = None;
        while !render.has_ended() {
            let item = tokio::select! {
                biased;
                () = cancel.cancelled() => {
                    render.cancel();
                    break;
                }
                item = deltas.next() => item,
            };
            match item {
                Some(Ok(delta)) => {
                    for event in render.push(delta) {
                        yield Ok(event);
                    }
                }
                Some(Err(error)) => failure = Some(error),
                None => failure = Some(unfinished().into()),
            }
            if let Some(error) = &failure {
                render.fail(error);
            }
        }
        // Frees the engine's place before the end is passed on.
        drop(deltas);
        let last = render.terminal(keeper.clock.now_ms());
        if (failure.is_none() || keeper.also_failed)
            && let Err(error) = keeper.keep(render.response()).await
        {
            tracing::error!("a response could not be kept: {error}");
            render.fail(&error);
            failure = Some(error);
        }
        yield match failure {
            None => Ok(last),
            Some(error) => {
                let told = if last.kind == "response.failed" { last } else { render.terminal(keeper.clock.now_ms()) };
                Err(Box::new((error, told)))
            }
        };
    }
}

/// Reads a response to its end.
///
/// # Errors
/// What went wrong.
pub async fn whole(events: impl Stream<Item = Happening> + Send) -> Result<Value, ApiError> {
    let mut events = std::pin::pin!(events);
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event.map_err(|broken| broken.0)?);
    }
    let response = last.and_then(|mut event| event.data.get_mut("response").map(Value::take));
    response.ok_or_else(|| unfinished().into())
}

/// The events alone, for those that read them as they come.
pub fn told(events: impl Stream<Item = Happening> + Send) -> impl Stream<Item = Event> + Send {
    events.map(|happening| match happening {
        Ok(event) => event,
        Err(broken) => {
            let (error, event) = *broken;
            tracing::warn!(error.code = %error.code, "a response failed: {}", error.message);
            event
        }
    })
}
