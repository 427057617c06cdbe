//! Shows the model good past answers to questions like the one that is asked: what the user said was right, as turns of
//! the conversation right before the question, nearest last. What stands before them stays as it is from turn to turn, so
//! that an engine can keep what it computed for it. Replies that were judged to be bad are not recalled.
//!
//! Nothing is shown where nothing is near enough. It never fails a turn; what was shown is in the trace and in the record,
//! with what memory injects.

use std::sync::Arc;
use std::time::Duration;

use habit_engine::{Embedder, Engine, Message, Role, TokenCounter};
use habit_learning::few_shot::{Bank, Banks, Shot};
use habit_memory::conversation::visible_texts;
use habit_memory::interaction::Shots;
use habit_memory::passage::{Citation, Passage, SourceKind};
use uuid::Uuid;

use super::knobs::KnobsOf;
use super::step::{Step, StepLayer};
use super::{Trace, Turn, TurnError, reply_tokens};
use crate::lifecycle::Lifecycle;

/// The share of the window that examples never exceed is one part in so many.
const SHARE_OF_WINDOW: usize = 3;

/// Tokens that a template puts around two messages, roughly; the whole prompt is measured in the end.
const AROUND: usize = 10;

/// Takes one of several counts of examples for a turn of a team; with the probability of that.
pub type Draw = Arc<dyn Fn(&str, Uuid, &[usize]) -> Option<Shots> + Send + Sync>;

/// What the layer needs.
#[derive(Clone)]
pub struct FewShotParts {
    /// Users' examples.
    pub banks: Banks,
    /// Turns the question into a vector.
    pub embedder: Arc<dyn Embedder>,
    /// Counts tokens for the model that will answer.
    pub engine: Arc<dyn Engine>,
    /// Whether what users said may be put before this model.
    pub may_leave: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// Examples, at most.
    pub k: usize,
    /// How near they must be.
    pub floor: f32,
    /// What was found to suit a team better.
    pub knobs: Option<KnobsOf>,
    /// How many are shown is left to this, where it is found out while serving.
    pub draw: Option<Draw>,
    /// Tokens that they may take together.
    pub tokens: usize,
    /// A turn does not wait longer for them; they are made ready for the next one all the same.
    pub patience: Duration,
    /// Makes them ready.
    pub lifecycle: Lifecycle,
}

/// See the module.
pub type FewShotLayer = StepLayer<FewShotParts>;

/// A layer over these parts.
#[must_use]
pub fn layer(parts: FewShotParts) -> FewShotLayer {
    StepLayer(parts)
}

/// What the layer did.
#[derive(Debug, Default)]
pub struct Done {
    shown: Vec<Passage>,
    drawn: Option<Shots>,
}

impl Step for FewShotParts {
    type Done = Done;

    async fn change(&self, turn: &mut Turn) -> Result<Self::Done, TurnError> {
        Ok(self.show(turn).await)
    }

    fn tell(done: Self::Done, trace: &mut Trace) {
        trace.injected.splice(0..0, done.shown);
        trace.shots = done.drawn;
    }
}

impl FewShotParts {
    /// How many, at most, and how near.
    fn wanted(&self, team: &str) -> (usize, f32) {
        let suited = self.knobs.as_ref().and_then(|knobs| knobs(team)?.shots);
        match suited.filter(|_| self.k > 0) {
            Some(shots) => (shots.count, shots.near()),
            None => (self.k, self.floor),
        }
    }

    /// Puts examples into the turn's messages, and says which.
    async fn show(&self, turn: &mut Turn) -> Done {
        let asks = turn.request.messages.last().filter(|last| last.role == Role::User);
        let Some(question) = asks.map(Message::text).filter(|text| !text.trim().is_empty()) else {
            return Done::default();
        };
        if !turn.memory.reads() || !(self.may_leave)(&turn.request.model) {
            return Done::default();
        }
        let Some(bank) = self.bank(turn).await else {
            return Done::default();
        };
        turn.passages.retain(|passage| {
            let bad = |turn| bank.is_bad(turn);
            passage.source != SourceKind::Recalled || !Uuid::parse_str(&passage.citation.id).is_ok_and(bad)
        });
        let (k, floor) = self.wanted(turn.scope.team());
        if k == 0 || bank.examples().is_empty() {
            return Done::default();
        }
        let Some(vector) = self.vector(question).await else {
            return Done::default();
        };
        let visible = visible_texts(&turn.request.messages);
        let mut shots = bank.nearest(&vector, k, floor);
        // What the model sees anyway is not shown twice, unless the answer there was another.
        shots.retain(|shot| {
            let (question, answer) = (shot.example.question(), shot.example.answer.trim());
            !visible.contains(question.trim()) || !visible.contains(answer)
        });
        // Chance decides only where there is something to decide.
        let draw = self.draw.as_ref().filter(|_| !shots.is_empty());
        let drawn = draw.and_then(|draw| draw(turn.scope.team(), turn.id, &counts(k)));
        shots.truncate(drawn.map_or(k, |drawn| drawn.count));
        Done {
            shown: self.insert(turn, shots),
            drawn,
        }
    }

    /// The user's examples, unless they are late; then they are ready for the next turn.
    async fn bank(&self, turn: &Turn) -> Option<Arc<Bank>> {
        let (banks, scope) = (self.banks.clone(), turn.scope.clone());
        let made = self.lifecycle.spawn(async move { banks.of(&scope).await });
        match tokio::time::timeout(self.patience, made).await {
            Ok(Ok(Ok(bank))) => Some(bank).filter(|bank| !bank.is_empty()),
            Ok(Ok(Err(error))) => {
                tracing::warn!("a turn goes without examples: {error}");
                None
            }
            // Late, or the server is stopping.
            Ok(Err(_)) | Err(_) => None,
        }
    }

    async fn vector(&self, question: String) -> Option<Vec<f32>> {
        match tokio::time::timeout(self.patience, self.embedder.embed(vec![question])).await {
            Ok(Ok(mut vectors)) => vectors.pop(),
            Ok(Err(error)) => {
                tracing::warn!("a turn goes without examples: {error}");
                None
            }
            Err(_) => None,
        }
    }

    /// Puts as many of them before the question as there is room for, the nearest first taken and last shown.
    fn insert(&self, turn: &mut Turn, shots: Vec<Shot<'_>>) -> Vec<Passage> {
        let model = self.engine.resolve(&turn.request.model);
        let Some(counter) = self.engine.token_counter(&model).filter(|_| !shots.is_empty()) else {
            return Vec::new();
        };
        let window = counter.context_window();
        let base = counter.count_request(&turn.request).unwrap_or(window);
        let free = window
            .saturating_sub(base)
            .saturating_sub(reply_tokens(&turn.request, window));
        let mut chosen = fitting(shots, self.tokens.min(free), &*counter);
        let plain = turn.request.messages.clone();
        // Sizes add up only roughly: the whole prompt is what counts. At most one round an example.
        while !chosen.is_empty() {
            turn.request.messages = with(&plain, &chosen);
            let whole = counter.count_request(&turn.request);
            if whole.is_ok_and(|whole| whole <= base + self.tokens.min(free)) {
                turn.request.holds_memory = true;
                // The client's own words are not what is asked any more.
                turn.request.verbatim = None;
                return chosen.iter().rev().map(passage).collect();
            }
            chosen.pop();
        }
        turn.request.messages = plain;
        Vec::new()
    }
}

/// The counts that are tried for `k`.
fn counts(k: usize) -> Vec<usize> {
    let mut counts = vec![0, k.div_ceil(2), k];
    counts.dedup();
    counts
}

/// As many of them as fit into these tokens, and into their share of the window; each with its size.
pub fn fitting<'a>(shots: Vec<Shot<'a>>, tokens: usize, counter: &dyn TokenCounter) -> Vec<(Shot<'a>, usize)> {
    let mut left = tokens.min(counter.context_window() / SHARE_OF_WINDOW);
    let mut chosen = Vec::new();
    for shot in shots {
        let tokens = counter.count(&shot.example.question()) + counter.count(&shot.example.answer) + AROUND;
        if tokens <= left {
            left -= tokens;
            chosen.push((shot, tokens));
        }
    }
    chosen
}

/// The messages with these examples before the last, nearest last.
#[must_use]
pub fn with(messages: &[Message], chosen: &[(Shot<'_>, usize)]) -> Vec<Message> {
    let (question, before) = messages
        .split_last()
        .map_or((None, messages), |(last, before)| (Some(last), before));
    let mut whole = before.to_vec();
    for (shot, _) in chosen.iter().rev() {
        whole.push(Message::new(Role::User, shot.example.question()));
        whole.push(Message::new(Role::Assistant, shot.example.answer.clone()));
    }
    whole.extend(question.cloned());
    whole
}

fn passage((shot, tokens): &(Shot<'_>, usize)) -> Passage {
    let example = shot.example;
    let day = jiff::Timestamp::from_millisecond(example.at).map(|at| at.strftime("%Y-%m-%d").to_string());
    Passage {
        text: format!("User: {}\nAssistant: {}", example.question(), example.answer),
        source: SourceKind::Example,
        score: shot.score.clamp(0.0, 1.0),
        tokens: *tokens,
        citation: Citation {
            id: example.id.to_string(),
            label: format!("example, {}", day.unwrap_or_default()),
            at: example.at,
            ordinal: 0,
        },
        returned: false,
    }
}
