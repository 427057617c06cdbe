//! The guard of a turn's record: it is written once, at the end or when the guard is dropped.

use habit_engine::{Delta, EngineError, FinishReason, Usage};
use habit_memory::MemoryError;
use habit_memory::interaction::Interaction;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::RecordParts;
use super::draft::Draft;
use crate::turn::{Trace, TurnError};

/// A turn whose record is still to be written.
pub struct OpenTurn {
    /// `None` once it is written, and always for a turn that leaves no trace.
    draft: Option<Draft>,
    parts: RecordParts,
    /// Where the write runs when the guard is dropped outside of a task.
    runtime: Handle,
}

impl OpenTurn {
    /// Opens a record. Must be called within the runtime.
    pub fn new(parts: RecordParts, draft: Draft) -> Self {
        Self {
            draft: Some(draft),
            parts,
            runtime: Handle::current(),
        }
    }

    /// A turn that leaves no trace.
    pub fn untraced(parts: RecordParts) -> Self {
        Self {
            draft: None,
            parts,
            runtime: Handle::current(),
        }
    }

    /// Notes what the layers below did.
    pub fn answered(&mut self, trace: &Trace) {
        if let Some(draft) = &mut self.draft {
            draft.answered(trace);
        }
    }

    /// Notes a delta.
    pub fn saw(&mut self, delta: &Delta) {
        if let Some(draft) = &mut self.draft {
            draft.saw(delta);
        }
    }

    /// Writes a finished turn and returns when it is durable.
    ///
    /// # Errors
    /// [`TurnError::Record`] if it could not be written.
    pub async fn completed(&mut self, reason: FinishReason, usage: Usage) -> Result<(), TurnError> {
        let Some(draft) = self.draft.take() else { return Ok(()) };
        match self.write(draft.completed(reason, usage)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(TurnError::Record(error.to_string())),
            Err(_) => Err(TurnError::Record("the server is stopping".to_owned())),
        }
    }

    /// Writes a turn that met an error; the error is what the client hears, whatever becomes of the write.
    /// A turn for which there was no place is not written: nothing was begun, and the client will ask again.
    pub async fn failed(&mut self, error: &TurnError) {
        let Some(draft) = self.draft.take() else { return };
        if !matches!(error, TurnError::Engine(EngineError::Overloaded { .. })) {
            // What goes wrong here is logged where it happens.
            self.write(draft.failed(error.to_string())).await.ok();
        }
    }

    /// The write is a task of its own: a client that leaves while it is under way doesn't stop it.
    fn write(&self, turn: Interaction) -> JoinHandle<Result<(), MemoryError>> {
        let RecordParts {
            journal,
            indexer,
            lifecycle,
            ..
        } = self.parts.clone();
        let _guard = self.runtime.enter();
        lifecycle.spawn(async move {
            let (id, remember) = (turn.id, turn.remember);
            let written = journal.record(turn).await;
            match (&written, indexer) {
                // What is not to be recalled is not indexed.
                (Ok(()), Some(indexer)) if remember => indexer.wake(),
                (Ok(()), _) => {}
                (Err(error), _) => tracing::error!(turn.id = %id, "a turn could not be recorded: {error}"),
            }
            written
        })
    }
}

impl Drop for OpenTurn {
    fn drop(&mut self) {
        if let Some(draft) = self.draft.take() {
            drop(self.write(draft.interrupted()));
        }
    }
}
