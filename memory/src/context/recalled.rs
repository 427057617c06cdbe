//! The first context system, recalled: earlier turns of the same user, from all conversations, verbatim.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use crate::context::options::{self, normalised, shortened};
use crate::context::{ContextSource, Options, Request};
use crate::conversation;
use crate::error::MemoryError;
use crate::index::{Hit, Index};
use crate::indexer::Indexer;
use crate::interaction::Interaction;
use crate::journal::Journal;
use crate::passage::{Citation, Passage, SourceKind};
use crate::rank::{self, Candidate, Scored, words};

/// Characters of the user's words that a passage shows: about 150 tokens, so that ten passages stay within budget.
const SAID: usize = 600;

/// Characters of the reply that a passage shows where the user asked for something: then the reply holds what is to be
/// known.
const ANSWERED: usize = 400;

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
        let hits = options::candidates(
            SourceKind::Recalled,
            request,
            self.index.as_ref(),
            indexer,
            &self.options,
        )
        .await?;
        let ids: Vec<Uuid> = hits.iter().map(|hit| hit.id).collect();
        let turns = self.turns(request, &ids).await?;
        let visible: HashSet<String> = conversation::visible_texts(&request.messages)
            .iter()
            .map(|text| normalised(text))
            .collect();
        let hidden = |turn: &Interaction| {
            !visible.contains(&normalised(&turn.prompt))
                && (turn.reply.trim().is_empty() || !visible.contains(&normalised(&turn.reply)))
        };
        let found: Vec<(&Hit, &Interaction)> = hits
            .iter()
            .filter_map(|hit| Some((hit, turns.get(&hit.id)?)))
            .filter(|(_, turn)| !turn.prompt.trim().is_empty() && hidden(turn))
            .collect();
        let candidates: Vec<Candidate<'_>> = found
            .iter()
            .map(|(hit, turn)| Candidate {
                hit,
                text: &turn.prompt,
            })
            .collect();
        let ranked = rank::rank(&candidates, &self.options.weights);
        let near = rank::above_floor(&request.query, &candidates, ranked, &self.options.floor);
        let chosen = without_repetitions(&request.query, &found, near);
        Ok(chosen
            .into_iter()
            .take(request.limit)
            .map(|scored| passage(found[scored.place].1, scored.score))
            .collect())
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

/// Leaves out what says the same as a better one, and earlier askings of the present question where a statement
/// is there: a model that once answered "I don't know" would be led to say so again.
fn without_repetitions(query: &str, found: &[(&Hit, &Interaction)], ranked: Vec<Scored>) -> Vec<Scored> {
    let asked = words::content(query);
    let repeats = |turn: &Interaction| words::only_asks(&turn.prompt) && alike(&asked, &words::content(&turn.prompt));
    let has_statement = ranked
        .iter()
        .any(|scored| !words::only_asks(&found[scored.place].1.prompt));
    let mut seen = HashSet::new();
    ranked
        .into_iter()
        .filter(|scored| {
            let turn = found[scored.place].1;
            !(has_statement && repeats(turn)) && seen.insert(normalised(&turn.prompt))
        })
        .collect()
}

fn alike(one: &[String], other: &[String]) -> bool {
    let common = one.iter().filter(|word| other.contains(word)).count();
    let all = one.len() + other.len() - common;
    all == 0 || common as f32 / all as f32 >= SAME_QUESTION
}

fn passage(turn: &Interaction, score: f32) -> Passage {
    let said = shortened(&turn.prompt, SAID);
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
