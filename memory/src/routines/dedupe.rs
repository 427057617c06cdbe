//! Near-duplicates: of turns that ask the same and were answered the same only the newest is recalled, of facts that say
//! the same only one holds. The turns stay in the journal, and the facts answerable as of their time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::{Value, json};
use uuid::Uuid;

use super::likeness::{Sketch, essence};
use super::{Change, Pace, Parts, Plan, Reach, Routine, Step, Target, page, turns_of};
use crate::error::MemoryError;
use crate::facts::{self, Fact, Filter, Status};
use crate::index::Removal;
use crate::interaction::{Interaction, Outcome};
use crate::journal::Page;
use crate::scope::Scope;

/// See the module.
pub struct Dedupe {
    parts: Parts,
    /// What the run that is under way saw so far; another process begins anew.
    seen: Mutex<Option<(Target, Seen)>>,
}

/// By what was asked: the turns that asked it, with what they were answered.
type Seen = HashMap<u64, Vec<(Uuid, Sketch)>>;

/// The cursor after the last turn.
const FACTS: &str = "facts";

impl Dedupe {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            parts,
            seen: Mutex::default(),
        }
    }

    /// The duplicates among these turns, newest first, of those that were seen before; `None` if those are not known here.
    fn look(&self, target: &Target, turns: &[Interaction], first: bool) -> Option<Vec<(Uuid, Uuid)>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if first {
            *seen = Some((target.clone(), Seen::new()));
        }
        let (_, seen) = seen.as_mut().filter(|(known, _)| known == target)?;
        let mut duplicates = Vec::new();
        let fit = |turn: &&Interaction| turn.is_recallable() && turn.outcome == Outcome::Completed;
        for turn in turns.iter().filter(fit) {
            let Some(asked) = essence(&turn.prompt) else { continue };
            let reply = Sketch::of(&turn.reply);
            let alike = seen.entry(asked).or_default();
            match alike.iter().find(|(_, known)| known.is_like(&reply)) {
                // A page is looked at twice where its changes could not be written down the first time.
                Some((kept, _)) if *kept == turn.id => {}
                Some((kept, _)) => duplicates.push((turn.id, *kept)),
                None => alike.push((turn.id, reply)),
            }
        }
        Some(duplicates)
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
        let scope = target.scope()?;
        if cursor == FACTS {
            let changes = self.facts(&scope).await?;
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = None;
            return Ok(Step {
                done: 1,
                changes,
                ..Step::default()
            });
        }
        let (turns, next) = page(&*self.parts.journal, &scope, cursor).await?;
        let Some(duplicates) = self.look(target, &turns, cursor.is_null()) else {
            // Another process saw the newer ones.
            return Ok(Step {
                next: Some(Value::Null),
                afresh: true,
                ..Step::default()
            });
        };
        let change = |(id, kept): (Uuid, Uuid)| {
            let what = format!("the turn {id} was asked and answered as {kept} was; only that one is recalled");
            Change::new(what, json!({"turn": id, "as": kept}))
        };
        Ok(Step {
            next: Some(next.unwrap_or_else(|| FACTS.into())),
            changes: duplicates.into_iter().map(change).collect(),
            done: turns.len() as u64,
            ..Step::default()
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
