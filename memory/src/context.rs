//! The seam of the three context systems: a [`ContextSource`] proposes passages for a turn. [`gather`] asks all
//! sources at the same time, each with its deadline; a late or failed one contributes nothing and is reported.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use habit_engine::Message;
use serde::{Deserialize, Serialize};

use crate::error::MemoryError;
use crate::overflow::Gone;
use crate::passage::{Passage, SourceKind};
use crate::query_vector::QueryVector;
use crate::scope::Scope;

mod documents;
mod facts;
mod left;
mod options;
mod outdated;
mod recalled;
mod tables;

pub use documents::{inference, persistent};
pub use facts::KnownFacts;
pub(crate) use options::normalised;
pub use options::{Finding, Options};
pub use recalled::Recalled;

/// What a source is asked: the turn as the client sent it, but for what left the prompt.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who asks, and in which conversation.
    pub scope: Scope,
    /// The client's messages.
    pub messages: Arc<Vec<Message>>,
    /// What is asked now (the last user message), already cut to a sensible length for a query.
    pub query: String,
    /// When it is asked, in Unix milliseconds: "last week" is seen from here.
    pub asked_at: i64,
    /// The query's vector, shared by the sources; none if the embedder was late or failed.
    pub vector: QueryVector,
    /// Passages at most.
    pub limit: usize,
    /// What left the prompt, and is not among the messages.
    pub gone: Gone,
}

/// Proposes passages.
///
/// Laws: only passages that the scope may see; at most `limit`; best first; none below its floor, so that an
/// unrelated question gets none; never a turn that the messages already show; scores fall.
#[async_trait]
pub trait ContextSource: Send + Sync {
    /// Which of the three it is.
    fn kind(&self) -> SourceKind;

    /// The passages for this turn.
    ///
    /// # Errors
    /// [`MemoryError`]: the turn goes on without this source.
    async fn passages(&self, request: &Request) -> Result<Vec<Passage>, MemoryError>;

    /// The same source, which finds otherwise; `None` where that can't be said of it.
    fn finding(&self, _: &Finding) -> Option<Arc<dyn ContextSource>> {
        None
    }
}

/// A source that is switched on, with its limits.
#[derive(Clone)]
pub struct Slot {
    /// The source.
    pub source: Arc<dyn ContextSource>,
    /// Passages at most (0 is off).
    pub chunks: usize,
    /// It must answer within this time.
    pub deadline: Duration,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("source", &self.source.kind())
            .field("chunks", &self.chunks)
            .field("deadline", &self.deadline)
            .finish()
    }
}

/// How a source fared in one turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceReport {
    /// Which.
    pub source: SourceKind,
    /// Passages that it proposed.
    pub found: usize,
    /// Milliseconds that it took, with the wait for the query's vector.
    pub took_ms: f64,
    /// Why it contributed nothing, if it was late or failed.
    pub problem: Option<String>,
}

/// What all sources gave.
#[derive(Debug, Clone, Default)]
pub struct Gathered {
    /// Passages of all sources, each source's best first.
    pub passages: Vec<Passage>,
    /// One a source asked.
    pub reports: Vec<SourceReport>,
}

/// Asks all sources at the same time. Never fails: trouble is in the reports and in the log.
pub async fn gather(slots: &[Slot], request: &Request) -> Gathered {
    let asked = slots
        .iter()
        .filter(|slot| slot.chunks > 0)
        .map(|slot| ask(slot, request));
    let mut gathered = Gathered::default();
    for (passages, report) in futures::future::join_all(asked).await {
        gathered.passages.extend(passages);
        gathered.reports.push(report);
    }
    say_once(&mut gathered.passages);
    gathered
}

/// Leaves out facts that a recalled turn says in the same words: most facts are part of what was said.
fn say_once(passages: &mut Vec<Passage>) {
    let recalled = passages.iter().filter(|passage| passage.source == SourceKind::Recalled);
    let said: Vec<String> = recalled.map(|passage| normalised(&passage.text)).collect();
    passages.retain(|passage| {
        passage.source != SourceKind::Fact || !said.iter().any(|said| said.contains(&normalised(&passage.text)))
    });
}

async fn ask(slot: &Slot, request: &Request) -> (Vec<Passage>, SourceReport) {
    let source = slot.source.kind();
    let began = std::time::Instant::now();
    let request = Request {
        limit: slot.chunks,
        ..request.clone()
    };
    let answer = tokio::time::timeout(slot.deadline, slot.source.passages(&request)).await;
    let took_ms = began.elapsed().as_secs_f64() * 1e3;
    let (passages, problem) = match answer {
        Ok(Ok(passages)) => (passages, None),
        Ok(Err(error)) => (Vec::new(), Some(error.to_string())),
        Err(_) => (
            Vec::new(),
            Some(format!("no answer within {} ms", slot.deadline.as_millis())),
        ),
    };
    if let Some(problem) = &problem {
        tracing::warn!(memory.source = ?source, "a context source was left out of this turn: {problem}");
    }
    let report = SourceReport {
        source,
        found: passages.len(),
        took_ms,
        problem,
    };
    (passages, report)
}
