//! The first context system, recalled: earlier turns of the same user, from all conversations, verbatim.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use habit_engine::Role;
use uuid::Uuid;

use crate::context::options::{self, normalised, shortened};
use crate::context::{ContextSource, Options, Request};
use crate::conversation;
use crate::error::MemoryError;
use crate::index::Index;
use crate::indexer::Indexer;
use crate::interaction::Interaction;
use crate::journal::Journal;
use crate::passage::{Citation, Passage, SourceKind};
use crate::rank::words;

/// Characters of the user's words that a passage shows: about 150 tokens, so that ten passages stay within budget.
const SAID: usize = 600;

/// Characters of the reply that a passage shows where the user asked for something: then the reply holds what is to be
/// known.
const ANSWERED: usize = 400;

/// Turns that are read from the journal at once.
const READ: usize = 16;

/// Share of common content words from which a question counts as the present one asked before.
const SAME_QUESTION: f32 = 0.6;

/// Earlier turns.
pub struct Recalled {
    journal: Arc<dyn Journal>,
    index: Arc<dyn Index>,
    indexer: Option<Indexer>,
    options: Options,
}

impl Recalled {
    /// A source over this journal and its index. With an indexer, it waits a moment for the newest turns.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, index: Arc<dyn Index>, indexer: Option<Indexer>, options: Options) -> Self {
        Self {
            journal,
            index,
            indexer,
            options,
        }
    }
}

#[async_trait]
impl ContextSource for Recalled {
    fn kind(&self) -> SourceKind {
        SourceKind::Recalled
    }

    async fn passages(&self, request: &Request) -> Result<Vec<Passage>, MemoryError> {
        let indexer = self.indexer.as_ref();
        let near = options::candidates(
            SourceKind::Recalled,
            request,
            self.index.as_ref(),
            indexer,
            &self.options,
        )
        .await?;
        let mut choice = Choice::new(request);
        // The best few are nearly always enough; more are read only where some of them may not be shown.
        for near in near.chunks(request.limit.max(READ)) {
            let ids: Vec<Uuid> = near.iter().map(|(hit, _)| hit.id).collect();
            let turns = self.turns(request, &ids).await?;
            for (hit, score) in near {
                if let Some(turn) = turns.get(&hit.id) {
                    choice.consider(turn, *score);
                }
            }
            if choice.is_full(request.limit) {
                break;
            }
        }
        Ok(choice.passages(request.limit))
    }
}

impl Recalled {
    async fn turns(&self, request: &Request, ids: &[Uuid]) -> Result<HashMap<Uuid, Interaction>, MemoryError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let turns = self.journal.turns_by_id(&request.scope, ids).await?;
        Ok(turns
            .into_iter()
            .filter(|turn| turn.remember)
            .map(|turn| (turn.id, turn))
            .collect())
    }
}

/// What is shown of the turns that are near enough, which come best first: nothing that the model sees anyway, nothing
/// twice, and, where a statement is there, no earlier askings of the present question: a model that once answered "I don't
/// know" would be led to say so again.
struct Choice {
    asked: Vec<String>,
    visible: HashSet<String>,
    seen: HashSet<String>,
    /// Each with whether it is an earlier asking of the present question.
    chosen: Vec<(Passage, bool)>,
    has_statement: bool,
}

impl Choice {
    fn new(request: &Request) -> Self {
        Self {
            asked: words::content(&request.query),
            visible: conversation::visible_texts(&request.messages)
                .iter()
                .map(|text| normalised(text))
                .collect(),
            seen: HashSet::new(),
            chosen: Vec::new(),
            has_statement: false,
        }
    }

    fn consider(&mut self, turn: &Interaction, score: f32) {
        let prompt = normalised(&turn.prompt);
        let hidden = !self.visible.contains(&prompt)
            && (turn.reply.trim().is_empty() || !self.visible.contains(&normalised(&turn.reply)));
        if !hidden || prompt.is_empty() || !self.seen.insert(prompt) {
            return;
        }
        let asks = words::only_asks(&turn.prompt);
        let repeats = asks && alike(&self.asked, &words::content(&turn.prompt));
        self.has_statement |= !asks;
        self.chosen.push((passage(turn, score), repeats));
    }

    fn is_full(&self, limit: usize) -> bool {
        let shown = self
            .chosen
            .iter()
            .filter(|(_, repeats)| !(*repeats && self.has_statement));
        shown.count() >= limit
    }

    fn passages(self, limit: usize) -> Vec<Passage> {
        let has_statement = self.has_statement;
        let shown = self
            .chosen
            .into_iter()
            .filter(|(_, repeats)| !(*repeats && has_statement));
        shown.map(|(passage, _)| passage).take(limit).collect()
    }
}

fn alike(one: &[String], other: &[String]) -> bool {
    let common = one.iter().filter(|word| other.contains(word)).count();
    let all = one.len() + other.len() - common;
    all == 0 || common as f32 / all as f32 >= SAME_QUESTION
}

fn passage(turn: &Interaction, score: f32) -> Passage {
    let name = turn
        .messages
        .iter()
        .rev()
        .find(|message| message.role == Role::User)
        .and_then(|message| message.name.as_deref());
    let said = shortened(&turn.prompt, SAID);
    let said = name.map_or(said.clone(), |name| format!("{name}: {said}"));
    // What someone says of themselves needs no echo: the reply only leads small models astray.
    let reply = if words::is_about_oneself(&turn.prompt) {
        String::new()
    } else {
        shortened(&turn.reply, ANSWERED)
    };
    let text = if reply.is_empty() {
        said
    } else {
        format!("User asked: {said} Assistant answered: {reply}")
    };
    let label = jiff::Timestamp::from_millisecond(turn.asked_at)
        .map_or_else(|_| "earlier".to_owned(), |at| at.strftime("%Y-%m-%d").to_string());
    let citation = Citation {
        id: turn.id.to_string(),
        label,
        at: turn.asked_at,
        ordinal: 0,
    };
    Passage {
        text,
        source: SourceKind::Recalled,
        score,
        tokens: 0,
        citation,
    }
}
