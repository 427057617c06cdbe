//! Asks memory what it knows about what is asked now: all sources at the same time, each with its deadline. What they
//! propose travels in [`Turn::passages`] to the assemble layer; how they fared is in the trace.
//!
//! Memory never fails a turn. Sources that the request names itself are asked also where memory is off, and refused
//! where what they find may not go to the model.

use std::sync::Arc;
use std::time::Duration;

use habit_engine::{Embedder, EngineError, Role};
use habit_memory::context::{Gathered, Request, Slot, SourceReport, gather};
use habit_memory::query_vector::{Promise, QueryVector};

use super::knobs::{self, KnobsOf};
use super::step::{Step, StepLayer};
use super::{Trace, Turn, TurnError};

/// How much of the last user message is looked for, in characters. The default embedder reads 256 tokens, which is
/// about this much; long pastes say what they want at their beginning or their end, so that half is taken of each.
const QUERY_CHARS: usize = 1000;

/// What the layer needs.
#[derive(Clone)]
pub struct ContextParts {
    /// Memory's sources that are switched on, with their limits.
    pub slots: Arc<[Slot]>,
    /// Turns the query into a vector, once for all sources.
    pub embedder: Arc<dyn Embedder>,
    /// For a vector that is later than this nobody waits, if the sources find something by words alone.
    pub vector_deadline: Duration,
    /// Where they find nothing, it is waited for this long.
    pub patience: Duration,
    /// Whether memory may be put before this model: not where only outside upstreams serve it, and the configuration
    /// does not allow that it goes to any of them.
    pub may_leave: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// What was found to suit teams better.
    pub knobs: Option<KnobsOf>,
}

/// See the module.
pub type ContextLayer = StepLayer<ContextParts>;

/// A layer over these parts.
#[must_use]
pub fn layer(parts: ContextParts) -> ContextLayer {
    StepLayer(parts)
}

impl Step for ContextParts {
    type Done = (Vec<SourceReport>, Option<String>);

    async fn change(&self, turn: &mut Turn) -> Result<Self::Done, TurnError> {
        let (Gathered { passages, reports }, words_alone) = self.look_up(turn).await?;
        turn.passages.extend(passages);
        Ok((reports, words_alone))
    }

    fn tell((reports, words_alone): Self::Done, trace: &mut Trace) {
        trace.sources = reports;
        trace.words_alone = words_alone;
    }
}

impl ContextParts {
    /// What the sources found, and why memory's went by words alone, if they did.
    async fn look_up(&self, turn: &Turn) -> Result<(Gathered, Option<String>), TurnError> {
        let reads = turn.memory.reads() && self.slots.iter().any(|slot| slot.chunks > 0);
        if !reads && turn.sources.is_empty() {
            return Ok((Gathered::default(), None));
        }
        if !(self.may_leave)(&turn.request.model) {
            return if turn.sources.is_empty() {
                Ok((self.kept_home(), None))
            } else {
                Err(kept_here())
            };
        }
        let Some(query) = query(turn) else {
            return Ok((Gathered::default(), None));
        };
        let suited = self.knobs.as_ref().and_then(|knobs| knobs(turn.scope.team()));
        let suited = suited.map(|knobs| knobs::slots(&self.slots, &knobs));
        let own = suited.as_deref().unwrap_or(&self.slots).iter().filter(|_| reads);
        let slots: Vec<Slot> = turn.sources.iter().chain(own).cloned().collect();
        let request = Request {
            scope: turn.scope.clone(),
            messages: Arc::new(turn.request.messages.clone()),
            query,
            asked_at: turn.asked_at,
            vector: QueryVector::default(),
            // Each slot has its own limit.
            limit: 0,
            gone: turn.gone.clone(),
        };
        // Stores make their own vectors: they may be asked for other words.
        if !reads {
            return Ok((gather(&slots, &request).await, None));
        }
        Ok(self.in_time(&slots, request).await)
    }

    /// Asks with the query's vector, or by words alone where that is late and words find something. Words are looked up
    /// while the vector is made.
    async fn in_time(&self, slots: &[Slot], mut request: Request) -> (Gathered, Option<String>) {
        let query = request.query.clone();
        let mut embedding = std::pin::pin!(self.embed(&query));
        let (promise, coming) = QueryVector::coming();
        request.vector = coming;
        let making = kept(promise, tokio::time::timeout(self.vector_deadline, embedding.as_mut()));
        // The embedder is asked first: what is looked up may itself want something embedded.
        let (made, gathered) = tokio::join!(biased; making, gather(slots, &request));
        match made {
            Ok(Ok(())) => return (gathered, None),
            Ok(Err(why)) => return (gathered, Some(why)),
            Err(_) if !gathered.passages.is_empty() => {
                let late = format!("no vector within {} ms", super::millis(self.vector_deadline));
                return (gathered, Some(late));
            }
            Err(_) => {}
        }
        match tokio::time::timeout(self.patience, embedding).await {
            Ok(Ok(vector)) => {
                request.vector = Some(vector).into();
                (gather(slots, &request).await, None)
            }
            Ok(Err(why)) => (gathered, Some(why)),
            Err(_) => (
                gathered,
                Some(format!("no vector within {} ms", super::millis(self.patience))),
            ),
        }
    }

    /// The query's vector, or why there is none.
    async fn embed(&self, query: &str) -> Result<Arc<Vec<f32>>, String> {
        match self.embedder.embed(vec![query.to_owned()]).await {
            Ok(mut vectors) => vectors
                .pop()
                .map(Arc::new)
                .ok_or_else(|| "the embedder gave no vector".to_owned()),
            Err(error) => {
                tracing::warn!("recall goes by words alone in this turn: {error}");
                Err(error.to_string())
            }
        }
    }

    /// The reports of sources that were not asked, so that a turn's record says why nothing was injected.
    fn kept_home(&self) -> Gathered {
        let why = "not asked: memory is not sent to an outside upstream; allow it with memory = true in its [[upstreams]] entry";
        let on = self.slots.iter().filter(|slot| slot.chunks > 0);
        let reports = on.map(|slot| SourceReport {
            source: slot.source.kind(),
            found: 0,
            took_ms: 0.0,
            problem: Some(why.to_owned()),
        });
        Gathered {
            passages: Vec::new(),
            reports: reports.collect(),
        }
    }
}

/// Keeps the promise with what is made, or breaks it where that is late or fails.
async fn kept<E>(
    promise: Promise,
    making: impl Future<Output = Result<Result<Arc<Vec<f32>>, String>, E>>,
) -> Result<Result<(), String>, E> {
    making.await.map(|made| made.map(|vector| promise.keep(vector)))
}

/// The answer to a request that names files for a model that they may not go to.
fn kept_here() -> TurnError {
    let message = "file_search finds what is not sent to the outside upstream that serves this model; name another \
                   model, leave the tool out, or allow it with memory = true in the upstream's [[upstreams]] entry";
    TurnError::Engine(EngineError::Rejected {
        message: message.to_owned(),
        param: Some("tools".to_owned()),
    })
}

/// What is looked for: the last user message, cut to [`QUERY_CHARS`]. `None` if nothing is asked.
fn query(turn: &Turn) -> Option<String> {
    let asked = turn
        .request
        .messages
        .iter()
        .rev()
        .find(|message| message.role == Role::User)?
        .text();
    let asked = asked.trim();
    (!asked.is_empty()).then(|| cut(asked))
}

fn cut(text: &str) -> String {
    let half = QUERY_CHARS / 2;
    if text.chars().count() <= QUERY_CHARS {
        return text.to_owned();
    }
    let head = text.char_indices().nth(half).map_or(text.len(), |(at, _)| at);
    let tail = text.char_indices().nth_back(half - 1).map_or(0, |(at, _)| at);
    format!("{} {}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests;
