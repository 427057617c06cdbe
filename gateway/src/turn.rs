//! One chat turn, from the parsed request to the stream of the reply: the types that travel through the layers of
//! [`stack`]. Endpoints translate to and from these; they know nothing of what the layers do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use habit_engine::{ChatRequest, DeltaStream, EngineError};
use habit_memory::Scope;
use habit_memory::consent::Mode;
use habit_memory::context::{Slot, SourceReport};
use habit_memory::interaction::{Shots, Variant};
use habit_memory::overflow::{Gone, Left};
use habit_memory::passage::Passage;
use tower::util::BoxCloneSyncService;
use uuid::Uuid;

use crate::keys::Meter;

pub mod assemble;
pub mod context;
pub mod few_shot;
pub mod knobs;
pub mod overflow;
pub mod record;
pub mod reply;
pub mod route;
pub mod running;
pub mod stack;
pub mod step;
pub mod variant;

/// What a request allows memory to do (`X-Habit-Memory`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MemoryMode {
    /// Neither read nor remembered for recall (the turn is still in the journal unless `store` is false).
    Off,
    /// Read, but this turn is not remembered.
    Read,
    /// Remembered, but nothing is read.
    Write,
    /// Both.
    #[default]
    On,
}

impl MemoryMode {
    /// Whether memory may add to the prompt.
    #[must_use]
    pub fn reads(self) -> bool {
        matches!(self, Self::Read | Self::On)
    }

    /// What both this and a rule allow.
    #[must_use]
    pub fn within(self, rule: Mode) -> Self {
        match (self.reads() && rule.reads(), self.writes() && rule.writes()) {
            (true, true) => Self::On,
            (true, false) => Self::Read,
            (false, true) => Self::Write,
            (false, false) => Self::Off,
        }
    }

    /// Whether this turn may be recalled later.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(self, Self::Write | Self::On)
    }
}

/// A turn on its way in.
#[derive(Debug, Clone)]
pub struct Turn {
    /// UUIDv7, made where the request enters; sent back as `X-Habit-Turn`.
    pub id: Uuid,
    /// Whose it is. The conversation is set if the client named one; the record layer sets it otherwise.
    pub scope: Scope,
    /// What is asked. Layers change its messages; the record keeps them as they came.
    pub request: ChatRequest,
    /// What memory may do.
    pub memory: MemoryMode,
    /// False leaves no trace at all (OpenAI's `store: false`).
    pub store: bool,
    /// What is wanted where the conversation has outgrown the window.
    pub overflow: overflow::Overflow,
    /// When the request arrived, in Unix milliseconds, and on the monotonic clock for durations.
    pub asked_at: i64,
    /// See `asked_at`.
    pub arrived: Instant,
    /// What the overflow layer took out of the messages, for recall.
    pub gone: Gone,
    /// Sources that the request itself names (`file_search`): they are asked whatever memory may do.
    pub sources: Vec<Slot>,
    /// What the context layer found, for the assemble layer to fit.
    pub passages: Vec<Passage>,
    /// What its key uses, where that is limited.
    pub meter: Option<Arc<Meter>>,
}

/// A turn's reply on its way out.
pub struct Reply {
    /// The deltas.
    pub deltas: DeltaStream,
    /// What the layers did, for the record and for the reply's headers.
    pub trace: Trace,
}

/// What the layers did with a turn.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// The model that answers, aliases resolved.
    pub model: String,
    /// The conversation that the turn belongs to.
    pub conversation: Option<String>,
    /// Passages that are in the prompt, with their size in tokens.
    pub injected: Vec<Passage>,
    /// How each context source fared.
    pub sources: Vec<SourceReport>,
    /// Why the sources went by words alone, if they did.
    pub words_alone: Option<String>,
    /// What left the prompt because the conversation outgrew the window.
    pub left: Option<Left>,
    /// Whether the upstream got the request as it was written, so that its reply may be passed on as it is.
    pub relayed: bool,
    /// Which model answers, where the team has one of its own.
    pub variant: Option<Variant>,
    /// How many past answers could be shown, where that was left to chance.
    pub shots: Option<Shots>,
    /// Milliseconds from arrival until the engine was asked.
    pub context_ms: u64,
}

/// Why a turn has no reply.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// The engine said so.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The turn can't be recorded, so it must not be answered.
    #[error("the turn could not be recorded: {0}")]
    Record(String),
}

/// The whole stack, ready to be called; cheap to clone.
pub type TurnService = BoxCloneSyncService<Turn, Reply, TurnError>;

/// The share of the window that is kept for the reply when the request names no `max_tokens`: a quarter.
const REPLY_SHARE: usize = 4;

/// More than this need not be kept for a reply of no stated length, however large the window is.
const LONG_REPLY: usize = 4096;

/// Tokens that are kept for the reply.
fn reply_tokens(request: &ChatRequest, window: usize) -> usize {
    request.max_tokens.unwrap_or((window / REPLY_SHARE).min(LONG_REPLY))
}

/// Whole milliseconds of a duration.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
