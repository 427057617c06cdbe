//! One reply from beginning to end: a place, the engine, and the stream that the caller reads.

use std::sync::Arc;

use mistralrs_core::{
    Constraint, CustomLogitsProcessor, NormalRequest, Request, RequestMessage, Response, SamplingParams, StopTokens,
};
use tokio::sync::mpsc;

use super::{
    Shared,
    load::Runner,
    picker::{Picker, Primer, Work},
};
use crate::{
    Delta, DeltaStream, EngineError,
    generate::language::{Ask, Pieces},
};

/// What the engine sends besides one note a token: the end, or an error.
const SPARE_NOTES: usize = 8;

/// The reply's stream. Work begins when it is first read; dropping it ends the wait for a place at once, and the work
/// at the next token.
pub(super) fn stream(shared: Arc<Shared>, ask: Ask) -> DeltaStream {
    Box::pin(async_stream::stream! {
        let mut running = match start(&shared, ask).await {
            Ok(running) => running,
            Err(error) => {
                yield Err(error);
                return;
            }
        };
        loop {
            let piece = running.next().await;
            let last = matches!(piece, Err(_) | Ok(Delta::Finish { .. }));
            yield piece;
            if last {
                return;
            }
        }
    })
}

/// A reply that the engine works on.
struct Running {
    pieces: Pieces,
    /// The engine's own stream. Only its errors matter; the pieces come from the [`Picker`].
    notes: mpsc::Receiver<Response>,
    begun: bool,
    /// Keeps the model while a reply is read, also when another has taken its place.
    _runner: Arc<Runner>,
}

async fn start(shared: &Shared, ask: Ask) -> Result<Running, EngineError> {
    let place = Arc::clone(&shared.place).acquire_owned().await;
    let place = place.map_err(|_| EngineError::Unavailable("the engine is shutting down".to_owned()))?;
    let runner = shared.runner()?;
    let mut matching = runner.cache.matching(&ask.prompt);
    if runner.cache.is_over() || matching.is_broken {
        runner.recycle().await?;
        matching.tokens = 0;
    }
    if ask.repeatable && matching.tokens > 0 {
        prime(&runner, &ask.prompt).await?;
        matching.tokens = 0;
    }
    let steps = ask.steps();
    let (prompt, mut reply, pieces) = shared.language.begin(ask);
    // A prompt that is read piece by piece is not the one that was looked for.
    reply.cached_tokens = matching.tokens.min(prompt.len().saturating_sub(1));
    // The engine waits for room in the notes while it holds everything: there must be room for the whole reply.
    let (note, notes) = mpsc::channel(steps + SPARE_NOTES);
    let picker = Picker::new(Work {
        reply,
        tokens: prompt.clone(),
        closing: runner.closing,
        cache: Arc::clone(&runner.cache),
        place: Some(place),
    });
    let request = request(&runner, prompt, note, Arc::new(picker));
    runner.sender().send(request).await.map_err(|_| crashed(false))?;
    Ok(Running {
        pieces,
        notes,
        begun: false,
        _runner: runner,
    })
}

/// Has the engine read a prompt for nothing, so that it reads it again for the reply.
///
/// The engine takes as much of a prompt as it can from earlier sequences, unless it knows the prompt to its end: then it
/// reads all of it again, as it did the first time, and the reply is the same to the bit.
async fn prime(runner: &Runner, prompt: &[u32]) -> Result<(), EngineError> {
    let primer = Primer {
        prompt: prompt.to_vec(),
        closing: runner.closing,
        cache: Arc::clone(&runner.cache),
    };
    let (note, mut notes) = mpsc::channel(SPARE_NOTES);
    let request = request(runner, prompt.to_vec(), note, Arc::new(primer));
    runner.sender().send(request).await.map_err(|_| crashed(false))?;
    // The reply itself finds out whether anything went wrong.
    while notes.recv().await.is_some() {}
    Ok(())
}

/// The engine's request: its tokens are chosen by `processor` alone.
fn request(
    runner: &Runner,
    prompt: Vec<u32>,
    note: mpsc::Sender<Response>,
    processor: Arc<dyn CustomLogitsProcessor>,
) -> Request {
    Request::Normal(Box::new(NormalRequest {
        messages: RequestMessage::CompletionTokens(prompt),
        // The processor leaves one token to choose, so the likeliest it is.
        sampling_params: SamplingParams {
            temperature: Some(0.0),
            stop_toks: Some(StopTokens::Ids(vec![runner.closing])),
            ..SamplingParams::neutral()
        },
        response: note,
        return_logprobs: false,
        is_streaming: true,
        id: runner.next_id(),
        constraint: Constraint::None,
        suffix: None,
        tools: None,
        tool_choice: None,
        logits_processors: Some(vec![processor]),
        return_raw_logits: false,
        web_search_options: None,
        model_id: None,
        truncate_sequence: false,
    }))
}

impl Running {
    /// The next piece; the end or an error is the last.
    async fn next(&mut self) -> Result<Delta, EngineError> {
        let piece = loop {
            tokio::select! {
                biased;
                piece = self.pieces.recv() => break piece,
                Some(note) = self.notes.recv() => if let Some(error) = self.failure(note) {
                    return Err(error);
                },
            }
        };
        match piece {
            Some(piece) => {
                self.begun |= piece.is_ok();
                piece
            }
            None => Err(self.why_it_ended().await),
        }
    }

    /// The engine let go of the reply before its end: it said why, or it is dead.
    async fn why_it_ended(&mut self) -> EngineError {
        while let Some(note) = self.notes.recv().await {
            if let Some(error) = self.failure(note) {
                return error;
            }
        }
        crashed(self.begun)
    }

    /// The error in one of the engine's notes.
    fn failure(&self, note: Response) -> Option<EngineError> {
        let reason = match note {
            Response::CompletionModelError(reason, _) | Response::ModelError(reason, _) => reason,
            Response::InternalError(reason) => reason.to_string(),
            Response::ValidationError(reason) => {
                return Some(EngineError::Rejected {
                    message: format!("the engine refused the request: {reason}"),
                    param: None,
                });
            }
            _ => return None,
        };
        tracing::error!(error = reason, "the engine failed in a reply");
        Some(broken(self.begun, format!("the engine failed: {reason}")))
    }
}

fn crashed(begun: bool) -> EngineError {
    broken(
        begun,
        "the engine stopped and is being restarted; try again in a few seconds".to_owned(),
    )
}

/// Nothing of the reply has been sent yet, or something has.
fn broken(begun: bool, reason: String) -> EngineError {
    if begun {
        EngineError::Interrupted(reason)
    } else {
        EngineError::Unavailable(reason)
    }
}
