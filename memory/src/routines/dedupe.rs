//! Near-duplicates: of turns that ask the same and were answered the same only the newest is recalled, of facts that say
//! the same only one holds. The turns stay in the journal, and the facts answerable as of their time.

use std::collections::HashMap;

use async_trait::async_trait;
use serde_json::{Value, json};
use uuid::Uuid;

use super::likeness::{Sketch, essence};
use super::walk::{Place, Walk};
use super::{Change, Pace, Parts, Plan, Reach, Routine, Step, Target, turns_of};
use crate::error::MemoryError;
use crate::facts::{self, Fact, Filter, Status};
use crate::index::Removal;
use crate::interaction::{Interaction, Outcome};
use crate::journal::Page;
use crate::scope::Scope;

/// See the module.
pub struct Dedupe {
    parts: Parts,
    walk: Walk<Seen>,
}

/// By what was asked: the turns that asked it, with what they were answered.
type Seen = HashMap<u64, Vec<(Uuid, Sketch)>>;

impl Dedupe {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            parts,
            walk: Walk::new(),
        }
    }

    async fn facts(&self, scope: &Scope) -> Result<Vec<Change>, MemoryError> {
        let mut facts = own_facts(&self.parts, scope).await?;
        // Pinned ones are kept, then the newest.
        facts.sort_by_key(|fact| (!fact.pinned, std::cmp::Reverse(fact.id)));
        let mut kept: HashMap<_, Uuid> = HashMap::new();
        let mut changes = Vec::new();
        for fact in &facts {
            let Some(said) = essence(&fact.text) else { continue };
            let key = (said, place(fact), fact.attribute.clone());
            match kept.get(&key) {
                None => {
                    kept.insert(key, fact.id);
                }
                Some(by) => {
                    let what = format!(
                        "the memory {} says what {by} says; that one holds in its place",
                        fact.id
                    );
                    changes.push(Change::new(what, json!({"fact": fact.id, "by": by})));
                }
            }
        }
        Ok(changes)
    }
}

/// The duplicates among these turns, of those that were seen before: each with the one that stays.
fn duplicates(seen: &mut Seen, turns: &[Interaction]) -> Vec<(Uuid, Uuid)> {
    let mut duplicates = Vec::new();
    let fit = |turn: &&Interaction| turn.is_recallable() && turn.outcome == Outcome::Completed;
    for turn in turns.iter().filter(fit) {
        let Some(asked) = essence(&turn.prompt) else { continue };
        let reply = Sketch::of(&turn.reply);
        let alike = seen.entry(asked).or_default();
        match alike.iter().find(|(_, known)| known.is_like(&reply)) {
            // The same page again.
            Some((kept, _)) if *kept == turn.id => {}
            Some((kept, _)) => duplicates.push((turn.id, *kept)),
            None => alike.push((turn.id, reply)),
        }
    }
    duplicates
}

/// Where a fact counts.
fn place(fact: &Fact) -> [Option<String>; 3] {
    let own = |part: Option<&str>| part.map(str::to_owned);
    [
        own(fact.scope.conversation()),
        own(fact.scope.app()),
        fact.agent.clone(),
    ]
}

/// A user's own facts that hold now.
pub(super) async fn own_facts(parts: &Parts, scope: &Scope) -> Result<Vec<Fact>, MemoryError> {
    let filter = Filter {
        team_wide: Some(false),
        status: Some(Status::Active),
        ..Filter::default()
    };
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let limit = Page::MOST;
        let facts = parts.facts.list(scope, &filter, Page { limit, before }).await?;
        before = facts.last().map(|fact| fact.id);
        let whole = facts.len() as u64 == limit;
        all.extend(facts);
        if !whole {
            return Ok(all);
        }
    }
}

/// An id in a change's data.
pub(super) fn id(change: &Change, field: &str) -> Result<Uuid, MemoryError> {
    let text = change.data[field].as_str().unwrap_or_default();
    Uuid::parse_str(text)
        .map_err(|_| MemoryError::Storage(format!("the change {} is damaged in the database", change.id)))
}

#[async_trait]
impl Routine for Dedupe {
    fn name(&self) -> &'static str {
        "dedupe"
    }

    fn about(&self) -> &'static str {
        "Of turns that were asked and answered the same only the newest is recalled, of memories that say the same one holds."
    }

    fn reach(&self) -> Reach {
        Reach::User
    }

    fn undoing(&self) -> &'static str {
        "Undoing lets the turns be recalled, and the memories hold, as before."
    }

    async fn plan(&self, target: &Target) -> Result<Plan, MemoryError> {
        target.scope()?;
        turns_of(&*self.parts.journal).await
    }

    async fn step(&self, target: &Target, cursor: &Value, _: &Pace) -> Result<Step, MemoryError> {
        let (duplicates, step) = match self.walk.next(&*self.parts.journal, target, cursor, duplicates).await? {
            Place::Turns(duplicates, step) => (duplicates, step),
            Place::Lost(step) => return Ok(step),
            Place::Facts => {
                return Ok(Step {
                    done: 1,
                    changes: self.facts(&target.scope()?).await?,
                    ..Step::default()
                });
            }
        };
        let change = |(id, kept): (Uuid, Uuid)| {
            let what = format!("the turn {id} was asked and answered as {kept} was; only that one is recalled");
            Change::new(what, json!({"turn": id, "as": kept}))
        };
        Ok(Step {
            changes: duplicates.into_iter().map(change).collect(),
            ..step
        })
    }

    async fn apply(&self, target: &Target, change: &Change) -> Result<(), MemoryError> {
        let scope = target.scope()?;
        if change.data.get("fact").is_some() {
            let (old, by) = (id(change, "fact")?, id(change, "by")?);
            self.parts
                .facts
                .supersede(&scope, old, by, self.parts.clock.now_ms())
                .await?;
            return Ok(());
        }
        let turn = id(change, "turn")?;
        self.parts.journal.set_remember(&scope, &[turn], false).await?;
        let team = scope.team().to_owned();
        let parents = vec![turn];
        self.parts.index.remove(Removal::Parents { team, parents }).await
    }

    async fn undo(&self, target: &Target, change: &Change) -> Result<(), MemoryError> {
        let scope = target.scope()?;
        if change.data.get("fact").is_some() {
            return hold_again(&self.parts, &scope, id(change, "fact")?, id(change, "by")?).await;
        }
        let turn = id(change, "turn")?;
        self.parts.journal.set_remember(&scope, &[turn], true).await?;
        self.parts.indexer.wake();
        Ok(())
    }
}

/// Takes a supersession back, unless something else became of the fact since.
pub(super) async fn hold_again(parts: &Parts, scope: &Scope, old: Uuid, by: Uuid) -> Result<(), MemoryError> {
    let found = parts.facts.get(scope, old).await?;
    if found.is_some_and(|fact| fact.status == Status::Superseded && fact.superseded_by == Some(by)) {
        let change = facts::Change {
            status: Some(Status::Active),
            ..facts::Change::default()
        };
        parts.facts.change(scope, old, change).await?;
        parts.indexer.wake();
    }
    Ok(())
}
