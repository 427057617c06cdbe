//! Makes room where a conversation has outgrown the model's window: its oldest turns leave the prompt before memory is
//! asked, so that what matters of them may come back by recall ([`habit_memory::overflow`]). What left is in the trace.
//!
//! Where nothing may leave, or leaving would not help, messages go through untouched, and the engine says that they are
//! too long, with its limit and its count.

use std::sync::Arc;

use habit_engine::{ChatRequest, Engine};
use habit_memory::overflow::{Gone, Left, Room, Shortened, shorten};

use super::step::{Step, StepLayer};
use super::{MemoryMode, Trace, Turn, TurnError, reply_tokens};

/// The share of the window that is kept for what is recalled is one part in so many, and never more than memory may take.
const MEMORY_SHARE: usize = 6;

/// What a request wants where its conversation has outgrown the window (OpenAI's `truncation`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overflow {
    /// What the configuration says.
    #[default]
    Configured,
    /// The oldest turns leave, whatever the configuration says (`auto`).
    Shorten,
    /// An error (`disabled`).
    Refuse,
}

/// What the layer needs.
#[derive(Clone)]
pub struct OverflowParts {
    /// Counts tokens for the model that will answer.
    pub engine: Arc<dyn Engine>,
    /// Whether turns leave where a request says nothing.
    pub recall: bool,
    /// Tokens that memory may take, at most; 0 where there is none.
    pub memory_tokens: usize,
    /// Whether memory may be put before this model: without it, what left would not come back.
    pub may_leave: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

/// See the module.
pub type OverflowLayer = StepLayer<OverflowParts>;

/// A layer over these parts.
#[must_use]
pub fn layer(parts: OverflowParts) -> OverflowLayer {
    StepLayer(parts)
}

impl OverflowParts {
    /// Without memory: turns leave only where a request says so.
    #[must_use]
    pub fn without_memory(engine: Arc<dyn Engine>) -> Self {
        Self {
            engine,
            recall: false,
            memory_tokens: 0,
            may_leave: Arc::new(|_| false),
        }
    }
}

impl Step for OverflowParts {
    type Done = Option<Left>;

    async fn change(&self, turn: &mut Turn) -> Result<Self::Done, TurnError> {
        Ok(self.make_room(turn))
    }

    fn tell(left: Self::Done, trace: &mut Trace) {
        trace.left = left;
    }
}

impl OverflowParts {
    /// Takes out what must leave, and says what that is.
    fn make_room(&self, turn: &mut Turn) -> Option<Left> {
        let room = self.room(turn.overflow, turn.memory, &turn.request)?;
        let Shortened {
            messages,
            left,
            earlier,
        } = shortened(&*self.engine, &turn.request, |window| room.of(window, &turn.request))?;
        turn.request.messages = messages;
        // The client's own words are not what is asked any more.
        turn.request.verbatim = None;
        turn.gone = Gone {
            turns: Arc::new(earlier),
            brought: turn.gone.brought,
        };
        Some(left)
    }

    /// How much room is to be made; `None` where nothing may leave.
    fn room(&self, overflow: Overflow, memory: MemoryMode, request: &ChatRequest) -> Option<Wanted> {
        let recalls = self.recall && memory.reads() && (self.may_leave)(&request.model);
        let may = match overflow {
            Overflow::Refuse => false,
            Overflow::Shorten => true,
            Overflow::Configured => recalls,
        };
        let memory_tokens = if recalls { self.memory_tokens } else { 0 };
        may.then_some(Wanted { memory_tokens })
    }
}

/// Room that is wanted beside the conversation and the reply.
struct Wanted {
    memory_tokens: usize,
}

impl Wanted {
    fn of(&self, window: usize, request: &ChatRequest) -> Room {
        let most = window.saturating_sub(reply_tokens(request, window));
        Room {
            most,
            aim: most.saturating_sub(self.memory_tokens.min(window / MEMORY_SHARE)),
            // Where the reply may be of any length, one token of it is enough.
            limit: window.saturating_sub(request.max_tokens.unwrap_or(1)),
        }
    }
}

/// The request without its oldest turns, where it must and can be shortened.
fn shortened(engine: &dyn Engine, request: &ChatRequest, room: impl Fn(usize) -> Room) -> Option<Shortened> {
    if request.raw.is_some() || request.messages.len() < 2 {
        return None;
    }
    let model = engine.resolve(&request.model);
    let counter = engine.token_counter(&model)?;
    if !counter.is_exact() && !says_window(engine, &model) {
        return None;
    }
    match shorten(request, room(counter.context_window()), &*counter) {
        Ok(shortened) => shortened,
        Err(error) => {
            tracing::debug!("a conversation could not be measured, and goes to the engine whole: {error}");
            None
        }
    }
}

/// Whether an upstream says how large the model's window is: a guess is no reason to leave anything out.
fn says_window(engine: &dyn Engine, model: &str) -> bool {
    let models = engine.models();
    let named = models.iter().find(|info| info.id == model);
    named.is_some_and(|info| info.context_window.is_some())
}

/// The messages that `truncation: auto` leaves of a request, without memory: for those who only count them.
pub fn truncate(engine: &dyn Engine, request: &mut ChatRequest) {
    let wanted = Wanted { memory_tokens: 0 };
    if let Some(shortened) = shortened(engine, request, |window| wanted.of(window, request)) {
        request.messages = shortened.messages;
    }
}
