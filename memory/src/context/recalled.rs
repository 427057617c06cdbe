//! The first context system, recalled: earlier turns of the same user, from all conversations, verbatim; and those that left
//! the prompt of this one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use habit_engine::Role;
use uuid::Uuid;

use crate::context::options::{self, normalised, shortened};
use crate::context::{ContextSource, Finding, Options, Request};
use crate::context::{left, outdated};
use crate::conversation;
use crate::error::MemoryError;
use crate::facts::Facts;
use crate::index::Index;
use crate::indexer::Indexer;
use crate::interaction::Interaction;
use crate::journal::Journal;
use crate::overflow::Earlier;
use crate::passage::{Citation, Passage, SourceKind};
use crate::rank::words;

/// Characters of the user's words that a passage shows: about 150 tokens, so that ten passages stay within budget.
const SAID: usize = 600;

/// Characters of the reply that a passage shows where the user asked for something: then the reply holds what is to be
/// known.
const ANSWERED: usize = 400;

/// Turns that are read from the journal at once.
const READ: usize = 8;

/// Words of a reply that tell which turn it is of: shorter ones are said again and again.
const TELLING: usize = 4;

/// Share of common content words from which a question counts as the present one asked before.
const SAME_QUESTION: f32 = 0.6;

/// Earlier turns.
#[derive(Clone)]
pub struct Recalled {
    journal: Arc<dyn Journal>,
    index: Arc<dyn Index>,
    indexer: Option<Indexer>,
    options: Options,
    facts: Option<Arc<dyn Facts>>,
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
            facts: None,
        }
    }

    /// The same, leaving out turns that say no more than a fact which does not hold any more.
    #[must_use]
    pub fn with_facts(self, facts: Arc<dyn Facts>) -> Self {
        Self {
            facts: Some(facts),
            ..self
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
        let mut near: Vec<(Near<'_>, f32)> = near.into_iter().map(|(id, score)| (Near::Turn(id), score)).collect();
        let left = left::near(request, &self.options).into_iter();
        near.extend(left.map(|(turn, score)| (Near::Left(turn), score)));
        // Both are ranked already; a stable sort keeps what is known of a turn before what the client says of it.
        near.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut choice = Choice::new(request);
        // The best few are nearly always enough; more are read only where some of them may not be shown.
        for near in near.chunks(request.limit.max(READ)) {
            let ids = near.iter().filter_map(|(near, _)| match near {
                Near::Turn(id) => Some(*id),
                Near::Left(_) => None,
            });
            let turns = self.turns(request, &ids.collect::<Vec<Uuid>>()).await?;
            for (near, score) in near {
                match near {
                    Near::Turn(id) => {
                        if let Some(turn) = turns.get(id) {
                            choice.consider(Said::of(turn), *score);
                        }
                    }
                    Near::Left(turn) => choice.consider(Said::left(turn, request), *score),
                }
            }
            if choice.is_full(request.limit) {
                break;
            }
        }
        Ok(choice.passages(request.limit))
    }

    fn finding(&self, finding: &Finding) -> Option<Arc<dyn ContextSource>> {
        let options = self.options.finding(finding);
        Some(Arc::new(Self {
            options,
            ..self.clone()
        }))
    }
}

impl Recalled {
    async fn turns(&self, request: &Request, ids: &[Uuid]) -> Result<HashMap<Uuid, Interaction>, MemoryError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let scope = &request.scope;
        let turns = self.journal.turns_by_id(scope, ids);
        let (turns, outdated) = match &self.facts {
            Some(facts) => {
                let (turns, said) = tokio::try_join!(turns, facts.of_turns(scope, ids))?;
                let outdated = outdated::among(facts.as_ref(), scope, &turns, said).await?;
                (turns, outdated)
            }
            None => (turns.await?, HashSet::new()),
        };
        let holds = |turn: &Interaction| !outdated.contains(&turn.id);
        Ok(turns
            .into_iter()
            .filter(|turn| turn.remember && holds(turn))
            .map(|turn| (turn.id, turn))
            .collect())
    }
}

/// A turn that is near enough.
enum Near<'a> {
    /// One that the journal has.
    Turn(Uuid),
    /// One that only the client has.
    Left(&'a Earlier),
}

/// What counts of a turn for showing it.
struct Said<'a> {
    prompt: &'a str,
    reply: &'a str,
    name: Option<&'a str>,
    citation: Citation,
}

impl<'a> Said<'a> {
    fn of(turn: &'a Interaction) -> Self {
        let asked = turn.messages.iter().rev().find(|message| message.role == Role::User);
        let label = jiff::Timestamp::from_millisecond(turn.asked_at)
            .map_or_else(|_| "earlier".to_owned(), |at| at.strftime("%Y-%m-%d").to_string());
        Self {
            prompt: &turn.prompt,
            reply: &turn.reply,
            name: asked.and_then(|message| message.name.as_deref()),
            citation: Citation {
                id: turn.id.to_string(),
                label,
                at: turn.asked_at,
                ordinal: 0,
            },
        }
    }

    fn left(turn: &'a Earlier, request: &Request) -> Self {
        Self {
            prompt: &turn.prompt,
            reply: &turn.reply,
            name: turn.name.as_deref(),
            citation: Citation {
                id: format!("message-{}", turn.place),
                label: "earlier in this conversation".to_owned(),
                at: left::at(request, turn),
                ordinal: 0,
            },
        }
    }
}

/// What is shown of the turns that are near enough, which come best first: nothing that the model sees anyway, nothing
/// twice, and, where a statement is there, no earlier askings of the present question: a model that once answered "I don't
/// know" would be led to say so again.
struct Choice<'a> {
    asked: Vec<String>,
    visible: HashSet<String>,
    /// The user's words in those that left the prompt.
    left: HashSet<&'a str>,
    seen: HashSet<String>,
    /// Each with whether it is an earlier asking of the present question.
    chosen: Vec<(Passage, bool)>,
    has_statement: bool,
}

impl<'a> Choice<'a> {
    fn new(request: &'a Request) -> Self {
        Self {
            asked: words::content(&request.query),
            visible: conversation::visible_texts(&request.messages)
                .iter()
                .map(|text| normalised(text))
                .collect(),
            left: request.gone.turns.iter().map(|turn| turn.prompt.trim()).collect(),
            seen: HashSet::new(),
            chosen: Vec::new(),
            has_statement: false,
        }
    }

    fn consider(&mut self, turn: Said<'_>, score: f32) {
        let prompt = normalised(turn.prompt);
        let reply = normalised(turn.reply);
        let tells = turn.reply.split_whitespace().count() >= TELLING;
        let returns = self.left.contains(turn.prompt.trim());
        // What left is not there any more, whatever else got the same reply.
        let answered = !returns && tells && self.visible.contains(&reply);
        let hidden = !self.visible.contains(&prompt) && !answered;
        if !hidden || prompt.is_empty() || !self.seen.insert(prompt) {
            return;
        }
        let asks = words::only_asks(turn.prompt);
        let repeats = asks && alike(&self.asked, &words::content(turn.prompt));
        self.has_statement |= !asks;
        self.chosen.push((passage(turn, score, returns), repeats));
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

fn passage(turn: Said<'_>, score: f32, returned: bool) -> Passage {
    let said = shortened(turn.prompt, SAID);
    let said = turn.name.map_or(said.clone(), |name| format!("{name}: {said}"));
    // What someone says of themselves needs no echo: the reply only leads small models astray.
    let reply = if words::is_about_oneself(turn.prompt) {
        String::new()
    } else {
        shortened(turn.reply, ANSWERED)
    };
    let text = if reply.is_empty() {
        said
    } else {
        format!("User asked: {said} Assistant answered: {reply}")
    };
    Passage {
        text,
        source: SourceKind::Recalled,
        score,
        tokens: 0,
        citation: turn.citation,
        returned,
    }
}
