//! Records every turn, outermost of the layers. Finds out which conversation a turn belongs to, keeps what the client
//! sent and what came back, and writes it **before** the end of the reply is passed on: what a client saw finished is
//! durable. A dropped reply is recorded with what was sent of it. `store: false` leaves no trace.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::StreamExt;
use futures::future::BoxFuture;
use habit_engine::{Delta, DeltaStream, EngineError, FinishReason, Usage};
use habit_memory::MemoryError;
use habit_memory::consent::{Consents, Mode};
use habit_memory::indexer::Indexer;
use habit_memory::journal::Journal;
use tower::{Layer, Service};
use uuid::Uuid;

use self::draft::Draft;
use self::open::OpenTurn;
use super::{Reply, Turn, TurnError};
use crate::lifecycle::Lifecycle;

mod draft;
mod locate;
mod open;

/// The recorded turn that this one continues, if there is one.
///
/// # Errors
/// If the journal can't be read.
pub async fn continued(journal: &dyn Journal, turn: &Turn) -> Result<Option<Uuid>, MemoryError> {
    Ok(locate::locate(journal, turn).await?.parent)
}

/// What the layer needs.
#[derive(Clone)]
pub struct RecordParts {
    /// Where turns are written.
    pub journal: Arc<dyn Journal>,
    /// Woken by every recorded turn; `None` if nothing indexes in this process.
    pub indexer: Option<Indexer>,
    /// Who is not to be remembered; `None` where nobody can say so.
    pub consents: Option<Arc<dyn Consents>>,
    /// Waits for writes under way when the process ends.
    pub lifecycle: Lifecycle,
}

/// See the module.
#[derive(Clone)]
pub struct RecordLayer {
    parts: RecordParts,
}

/// A layer over these parts.
#[must_use]
pub fn layer(parts: RecordParts) -> RecordLayer {
    RecordLayer { parts }
}

impl<S> Layer<S> for RecordLayer {
    type Service = Record<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Record {
            inner,
            parts: self.parts.clone(),
        }
    }
}

/// The layer's service.
#[derive(Clone)]
pub struct Record<S> {
    inner: S,
    parts: RecordParts,
}

impl<S> Service<Turn> for Record<S>
where
    S: Service<Turn, Response = Reply, Error = TurnError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Reply;
    type Error = TurnError;
    type Future = BoxFuture<'static, Result<Reply, TurnError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TurnError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, turn: Turn) -> Self::Future {
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let parts = self.parts.clone();
        Box::pin(async move {
            let (turn, mut open) = begin(parts, turn).await?;
            match inner.call(turn).await {
                Ok(Reply { deltas, trace }) => {
                    open.answered(&trace);
                    Ok(Reply {
                        deltas: tee(deltas, open),
                        trace,
                    })
                }
                Err(error) => {
                    open.failed(&error).await;
                    Err(error)
                }
            }
        })
    }
}

/// Finds the turn's conversation and opens its record. A turn that is not stored is only given a conversation that
/// exists already.
async fn begin(parts: RecordParts, mut turn: Turn) -> Result<(Turn, OpenTurn), TurnError> {
    let located = locate::locate(&*parts.journal, &turn).await;
    if !turn.store {
        turn.gone.brought = locate::brought(&turn.request.messages);
        if let Ok(Some(id)) = located.map(locate::Located::known) {
            turn.scope = turn.scope.in_conversation(id);
        }
        abide(&parts, &mut turn).await;
        return Ok((turn, OpenTurn::untraced(parts)));
    }
    let located = located.map_err(|error| TurnError::Record(error.to_string()))?;
    turn.scope = turn.scope.in_conversation(located.conversation.clone());
    turn.gone.brought = located.brought;
    abide(&parts, &mut turn).await;
    let draft = Draft::new(&turn, &located);
    Ok((turn, OpenTurn::new(parts, draft)))
}

/// Takes from memory what a rule for the team, the user, the key or the conversation does not allow. A rule that can't be
/// read allows nothing.
async fn abide(parts: &RecordParts, turn: &mut Turn) {
    let Some(consents) = &parts.consents else { return };
    let allowed = consents
        .mode(&turn.scope, &turn.request.tenant)
        .await
        .unwrap_or_else(|error| {
            tracing::warn!("memory is off for a turn, since the rules on it can't be read: {error}");
            Mode::Off
        });
    turn.memory = turn.memory.within(allowed);
}

/// Passes the deltas on and keeps them. `open` is dropped with the stream: whatever was not written by then is written
/// as interrupted.
fn tee(mut deltas: DeltaStream, mut open: OpenTurn) -> DeltaStream {
    async_stream::stream! {
        while let Some(item) = deltas.next().await {
            match item {
                Ok(Delta::Finish { reason, usage }) => {
                    yield finish(&mut open, reason, usage).await;
                    return;
                }
                Ok(delta) => {
                    open.saw(&delta);
                    yield Ok(delta);
                }
                Err(error) => {
                    let error = TurnError::Engine(error);
                    open.failed(&error).await;
                    if let TurnError::Engine(error) = error {
                        yield Err(error);
                    }
                    return;
                }
            }
        }
        let error = EngineError::Interrupted("the engine ended it without saying why".to_owned());
        open.failed(&TurnError::Engine(error.clone())).await;
        yield Err(error);
    }
    .boxed()
}

/// The end of the reply once it is written; an error in its place if it can't be.
async fn finish(open: &mut OpenTurn, reason: FinishReason, usage: Usage) -> Result<Delta, EngineError> {
    match open.completed(reason, usage).await {
        Ok(()) => Ok(Delta::Finish { reason, usage }),
        Err(error) => Err(EngineError::Unavailable(error.to_string())),
    }
}

#[cfg(test)]
mod tests;
