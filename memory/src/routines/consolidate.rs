//! Facts that users stated and that were not noted when they were said: the rules knew them not yet, or learning was off.

use std::collections::HashSet;

use async_trait::async_trait;
use serde_json::{Value, json};
use uuid::Uuid;

use super::dedupe::id;
use super::{Change, Pace, Parts, Plan, Reach, Routine, Step, Target, page, turns_of};
use crate::error::MemoryError;
use crate::facts::{Filter, Status, recognise, words_sha256};
use crate::index::Removal;
use crate::interaction::Interaction;
use crate::journal::Page;
use crate::scope::Scope;

/// See the module.
pub struct Consolidate {
    parts: Parts,
}

impl Consolidate {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts }
    }

    /// What is known of the user, whatever it is worth now: nothing of it is news.
    async fn said(&self, scope: &Scope) -> Result<HashSet<String>, MemoryError> {
        let (mut said, mut before) = (HashSet::new(), None);
        loop {
            let limit = Page::MOST;
            let facts = self
                .parts
                .facts
                .list(scope, &Filter::all(), Page { limit, before })
                .await?;
            before = facts.last().map(|fact| fact.id);
            said.extend(facts.iter().map(|fact| words_sha256(&fact.text)));
            if (facts.len() as u64) < limit {
                return Ok(said);
            }
        }
    }
}

#[async_trait]
impl Routine for Consolidate {
    fn name(&self) -> &'static str {
        "consolidate"
    }

    fn about(&self) -> &'static str {
        "What users stated of themselves in turns of which nothing was noted is noted as memories."
    }

    fn reach(&self) -> Reach {
        Reach::User
    }

    fn undoing(&self) -> &'static str {
        "Undoing deletes the memories that were noted; they are not noted again from the same turns."
    }

    async fn plan(&self, target: &Target) -> Result<Plan, MemoryError> {
        target.scope()?;
        turns_of(&*self.parts.journal).await
    }

    async fn step(&self, target: &Target, cursor: &Value, _: &Pace) -> Result<Step, MemoryError> {
        let scope = target.scope()?;
        if !self.parts.learns {
            let mut step = Step::default();
            step.findings
                .note("nothing is learnt from what users say: memory.learn is off");
            return Ok(step);
        }
        let (turns, next) = page(&*self.parts.journal, &scope, cursor).await?;
        let stating = turns
            .iter()
            .filter(|turn| turn.is_recallable() && !recognise::taught(turn).is_empty());
        let stating: Vec<Uuid> = stating.map(|turn| turn.id).collect();
        let said = self.said(&scope).await?;
        let news = |turn: &&Interaction| {
            let taught = recognise::taught(turn);
            taught.iter().any(|fact| !said.contains(&words_sha256(&fact.text)))
        };
        let stating = turns.iter().filter(|turn| stating.contains(&turn.id)).filter(news);
        let stating: Vec<Uuid> = stating.map(|turn| turn.id).collect();
        let known = self.parts.facts.of_turns(&scope, &stating).await?;
        let known: HashSet<Uuid> = known.into_iter().map(|fact| fact.turn).collect();
        let change = |turn: &Uuid| {
            let what = format!("what the user stated in the turn {turn} is noted, but for what was deleted since");
            Change::new(what, json!({"turn": turn}))
        };
        Ok(Step {
            next,
            changes: stating
                .iter()
                .filter(|turn| !known.contains(turn))
                .map(change)
                .collect(),
            done: turns.len() as u64,
            ..Step::default()
        })
    }

    async fn apply(&self, target: &Target, change: &Change) -> Result<(), MemoryError> {
        let scope = target.scope()?;
        let Some(turn) = self.parts.journal.turn(&scope, id(change, "turn")?).await? else {
            return Ok(());
        };
        if turn.is_recallable() {
            self.parts.facts.add(&turn.scope, recognise::taught(&turn)).await?;
            self.parts.indexer.wake();
        }
        Ok(())
    }

    async fn undo(&self, target: &Target, change: &Change) -> Result<(), MemoryError> {
        let scope = target.scope()?;
        let facts = self.parts.facts.of_turns(&scope, &[id(change, "turn")?]).await?;
        let facts = facts.into_iter().filter(|fact| fact.status != Status::Deleted);
        let facts: Vec<Uuid> = facts.map(|fact| fact.id).collect();
        let parents = self.parts.facts.delete(&scope, &facts).await?;
        if parents.is_empty() {
            return Ok(());
        }
        let team = scope.team().to_owned();
        self.parts.index.remove(Removal::Parents { team, parents }).await
    }
}
