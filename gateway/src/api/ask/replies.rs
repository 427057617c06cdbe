//! Several replies to one request: `n`, or a list of prompts. The first question is asked before anything is sent,
//! so that what is wrong with the request has a status; the others as places become free.

use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::future::ready;
use futures::stream::{self, BoxStream};
use habit_engine::{Delta, DeltaStream, EngineError, FinishReason, Usage};
use http::header::HeaderMap;
use uuid::Uuid;

use super::{Asker, Question, name_turn};
use crate::api::error::ApiError;
use crate::auth::Caller;
use crate::turn::reply::Collected;
use crate::turn::{MemoryMode, Reply, Trace, Turn};

/// Of one request's further questions, how many are asked at the same time: enough to keep an engine busy that works
/// on several, and not so many that one request fills the queue.
const AT_ONCE: usize = 4;

/// The pieces of all replies as they are made, each with its question's place.
pub type Pieces = BoxStream<'static, (usize, Result<Delta, ApiError>)>;

/// The replies to a request's questions.
pub struct Replies {
    /// The first question's turn.
    pub turn: Uuid,
    /// When it was asked, in Unix milliseconds.
    pub asked_at: i64,
    /// What the layers did with the first question.
    pub trace: Trace,
    /// What is said.
    pub pieces: Pieces,
    questions: usize,
}

/// One whole reply.
#[derive(Debug, Clone, Default)]
pub struct Finished {
    /// What was said.
    pub reply: Collected,
    /// Why it ended.
    pub reason: Option<FinishReason>,
    /// What it took.
    pub usage: Usage,
}

impl Question {
    /// The same question so many times over, each with a seed of its own where a seed is given.
    #[must_use]
    pub fn times(self, n: usize) -> Vec<Self> {
        let draft = |at: usize| {
            let mut question = self.clone();
            let seed = &mut question.request.sampling.seed;
            *seed = seed.map(|seed| seed.wrapping_add(at as u64));
            question
        };
        (0..n).map(draft).collect()
    }
}

impl Asker {
    /// Asks all of the questions (at least one), renders the replies, and names the first one's turn on the response,
    /// be it an error. Only the first is remembered: the others are drafts of the same turn. `shape` is what the endpoint
    /// does to each reply before anyone sees it.
    ///
    /// # Errors
    /// As [`Asker::turn`].
    pub async fn answer<S, F>(
        &self,
        caller: Caller,
        headers: &HeaderMap,
        questions: Vec<Question>,
        shape: S,
        render: F,
    ) -> Result<Response, ApiError>
    where
        S: Fn(DeltaStream) -> DeltaStream + Clone + Send + 'static,
        F: AsyncFnOnce(Replies) -> Result<Response, ApiError>,
    {
        let turns = questions.into_iter().enumerate().map(|(place, question)| {
            let mut turn = self.turn(caller.clone(), headers, question)?;
            if place > 0 {
                turn.memory = unremembered(turn.memory);
            }
            Ok(turn)
        });
        let mut turns = turns.collect::<Result<Vec<Turn>, ApiError>>()?.into_iter();
        let first = turns.next().ok_or_else(|| ApiError::internal("nothing was asked"))?;
        let (turn, asked_at) = (first.id, first.asked_at);
        let answer = async {
            let Reply { deltas, trace } = self.ask(first).await?;
            let (conversation, variant) = (trace.conversation.clone(), trace.variant.clone());
            let rest: Vec<Turn> = turns.map(|turn| beside(turn, conversation.as_deref())).collect();
            let questions = rest.len() + 1;
            let replies = Replies {
                turn,
                asked_at,
                trace,
                pieces: self.merged(shape(deltas), rest, shape),
                questions,
            };
            Ok::<_, ApiError>((render(replies).await?, conversation, variant))
        };
        let (mut response, conversation, variant) =
            answer.await.unwrap_or_else(|error| (error.into_response(), None, None));
        name_turn(&mut response, turn, conversation, variant.as_ref());
        Ok(response)
    }

    fn merged<S>(&self, first: DeltaStream, rest: Vec<Turn>, shape: S) -> Pieces
    where
        S: Fn(DeltaStream) -> DeltaStream + Clone + Send + 'static,
    {
        let first = placed(0, first);
        if rest.is_empty() {
            return first;
        }
        let asker = self.clone();
        let rest = stream::iter(rest.into_iter().zip(1..))
            .map(move |(turn, place)| asker.clone().later(place, turn, shape.clone()));
        stream::select(first, rest.flatten_unordered(AT_ONCE)).boxed()
    }

    /// A reply whose question is asked when it is its turn.
    fn later<S>(self, place: usize, turn: Turn, shape: S) -> Pieces
    where
        S: Fn(DeltaStream) -> DeltaStream + Send + 'static,
    {
        let asked = async move { self.ask(turn).await };
        let pieces = move |asked: Result<Reply, ApiError>| match asked {
            Ok(reply) => placed(place, shape(reply.deltas)),
            Err(error) => stream::once(ready((place, Err(error)))).boxed(),
        };
        stream::once(asked).flat_map(pieces).boxed()
    }
}

fn placed(place: usize, deltas: DeltaStream) -> Pieces {
    deltas.map(move |item| (place, item.map_err(ApiError::from))).boxed()
}

/// A further turn belongs where the first one does.
fn beside(turn: Turn, conversation: Option<&str>) -> Turn {
    let Some(conversation) = conversation else { return turn };
    Turn {
        scope: turn.scope.clone().in_conversation(conversation),
        ..turn
    }
}

/// What memory may do for a reply that is not remembered.
fn unremembered(mode: MemoryMode) -> MemoryMode {
    match mode {
        MemoryMode::On | MemoryMode::Read => MemoryMode::Read,
        MemoryMode::Write | MemoryMode::Off => MemoryMode::Off,
    }
}

impl Replies {
    /// Whether the (only) reply is one that an upstream wrote and that is to be passed on. Known as soon as the upstream
    /// has begun to answer.
    pub async fn are_written(&mut self) -> bool {
        let Some(first) = self.pieces.next().await else {
            return false;
        };
        let written = matches!(first.1, Ok(Delta::Written(_)));
        let rest = std::mem::replace(&mut self.pieces, stream::empty().boxed());
        self.pieces = stream::iter([first]).chain(rest).boxed();
        written
    }

    /// Reads all replies to their ends, in the questions' order.
    ///
    /// # Errors
    /// The first that any of them meets.
    pub async fn whole(mut self) -> Result<Vec<Finished>, ApiError> {
        let mut replies = vec![Finished::default(); self.questions];
        while let Some((place, piece)) = self.pieces.next().await {
            let Some(finished) = replies.get_mut(place) else {
                continue;
            };
            match piece? {
                Delta::Finish { reason, usage } => {
                    finished.reason = Some(reason);
                    finished.usage = usage;
                }
                delta => finished.reply.push(delta),
            }
        }
        if replies.iter().any(|reply| reply.reason.is_none()) {
            return Err(unfinished().into());
        }
        Ok(replies)
    }
}

/// A reply that ended without its end.
#[must_use]
pub fn unfinished() -> EngineError {
    EngineError::Interrupted("the engine ended it without saying why".to_owned())
}
