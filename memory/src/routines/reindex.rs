//! Whether the index holds what the journal says, and nothing else: what is missing is indexed again, what should not be there
//! is removed.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use uuid::Uuid;

use super::{Pace, Parts, Plan, Reach, Routine, Step, Target, page, turns_of};
use crate::error::MemoryError;
use crate::index::{Removal, Section};
use crate::passage::SourceKind;
use crate::scope::Scope;

/// Entries of one user that are compared one by one; beyond, a rebuild (`habit reindex`) is what repairs.
const MOST: usize = 50_000;

/// Turns younger than this may be on their way into the index.
const SETTLED_MS: i64 = 60_000;

/// How long the indexer is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// Entries that are looked up in the journal at a time.
const LOOKED_UP: usize = 500;

/// See the module.
pub struct Reindex {
    parts: Parts,
    /// The turns that the index has of the user who is looked at; another process reads them anew.
    indexed: Mutex<Option<(Target, HashSet<Uuid>)>>,
}

impl Reindex {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            parts,
            indexed: Mutex::default(),
        }
    }

    /// Reads what the index has, removes what the journal has not; the first step.
    async fn begin(&self, target: &Target, scope: &Scope) -> Result<Step, MemoryError> {
        let mut step = Step {
            next: Some(Value::String(Uuid::max().to_string())),
            ..Step::default()
        };
        self.parts.indexer.caught_up(PATIENCE).await;
        let [own, _] = Section::readable(scope, SourceKind::Recalled);
        let Some(entries) = self.parts.index.entries(&own, MOST).await? else {
            step.next = None;
            step.findings.note(format!(
                "the index has more than {MOST} turns of this user, too many to compare one by one; `habit reindex` makes it anew"
            ));
            return Ok(step);
        };
        let indexed: HashSet<Uuid> = entries.into_iter().map(|entry| entry.parent).collect();
        let ids: Vec<Uuid> = indexed.iter().copied().collect();
        let mut strays = Vec::new();
        for ids in ids.chunks(LOOKED_UP) {
            let turns = self.parts.journal.turns_by_id(scope, ids).await?;
            let right: HashSet<Uuid> = turns
                .iter()
                .filter(|turn| turn.is_recallable())
                .map(|turn| turn.id)
                .collect();
            strays.extend(ids.iter().copied().filter(|id| !right.contains(id)));
        }
        step.findings.count("entries compared", indexed.len() as u64);
        step.findings
            .count("entries removed that the journal does not have", strays.len() as u64);
        if !strays.is_empty() {
            let (team, parents) = (scope.team().to_owned(), strays);
            self.parts.index.remove(Removal::Parents { team, parents }).await?;
        }
        *self.indexed.lock().unwrap_or_else(PoisonError::into_inner) = Some((target.clone(), indexed));
        Ok(step)
    }
}

#[async_trait]
impl Routine for Reindex {
    fn name(&self) -> &'static str {
        "reindex"
    }

    fn about(&self) -> &'static str {
        "The index is compared with the journal; what is missing is indexed again, what should not be there is removed."
    }

    fn reach(&self) -> Reach {
        Reach::User
    }

    fn undoing(&self) -> &'static str {
        "There is nothing to undo: the journal is the truth, and the index follows it."
    }

    async fn plan(&self, target: &Target) -> Result<Plan, MemoryError> {
        target.scope()?;
        turns_of(&*self.parts.journal).await
    }

    async fn step(&self, target: &Target, cursor: &Value, _: &Pace) -> Result<Step, MemoryError> {
        let scope = target.scope()?;
        if cursor.is_null() {
            return self.begin(target, &scope).await;
        }
        let (turns, next) = page(&*self.parts.journal, &scope, cursor).await?;
        let settled = self.parts.clock.now_ms().saturating_sub(SETTLED_MS);
        let missing = {
            let known = self.indexed.lock().unwrap_or_else(PoisonError::into_inner);
            let known = known.as_ref().filter(|(known, _)| known == target);
            known.map(|(_, indexed)| {
                let due = turns
                    .iter()
                    .filter(|turn| turn.is_recallable() && turn.asked_at < settled);
                let ids = due.map(|turn| turn.id).filter(|id| !indexed.contains(id));
                ids.collect::<Vec<Uuid>>()
            })
        };
        let Some(missing) = missing else {
            return Ok(Step {
                next: Some(Value::Null),
                afresh: true,
                ..Step::default()
            });
        };
        let mut step = Step {
            next,
            done: turns.len() as u64,
            ..Step::default()
        };
        if !missing.is_empty() {
            let marked = self.parts.journal.mark_pending(&scope, &missing).await?;
            self.parts.indexer.wake();
            step.findings
                .count("turns indexed again that the index had not", marked);
        }
        Ok(step)
    }
}
