//! Changed facts: memories that were given before a rule knew what they are about, and that tell the same of the same one as
//! others do. Only the newest of these holds.

use std::collections::HashMap;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::dedupe::{hold_again, id, own_facts};
use super::{Change, Pace, Parts, Plan, Reach, Routine, Step, Target};
use crate::error::MemoryError;
use crate::facts::{Fact, recognise};

/// See the module.
pub struct Supersede {
    parts: Parts,
}

impl Supersede {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts }
    }
}

/// What a fact is about, as the rules see it now, and where it counts.
fn about(fact: &Fact) -> Option<(String, [Option<String>; 3])> {
    let attribute = fact.attribute.clone().or_else(|| recognise::classify(&fact.text).1)?;
    let own = |part: Option<&str>| part.map(str::to_owned);
    Some((
        attribute,
        [
            own(fact.scope.conversation()),
            own(fact.scope.app()),
            fact.agent.clone(),
        ],
    ))
}

#[async_trait]
impl Routine for Supersede {
    fn name(&self) -> &'static str {
        "supersede"
    }

    fn about(&self) -> &'static str {
        "Of memories that tell the same of the same one, such as where a user lives, only the newest holds from its time on."
    }

    fn reach(&self) -> Reach {
        Reach::User
    }

    fn undoing(&self) -> &'static str {
        "Undoing lets the older memories hold again beside the newer ones."
    }

    async fn plan(&self, target: &Target) -> Result<Plan, MemoryError> {
        target.scope()?;
        Ok(Plan { total: 1 })
    }

    async fn step(&self, target: &Target, _: &Value, _: &Pace) -> Result<Step, MemoryError> {
        let mut facts = own_facts(&self.parts, &target.scope()?).await?;
        facts.sort_by_key(|fact| std::cmp::Reverse((fact.valid_from, fact.id)));
        let mut newest: HashMap<_, &Fact> = HashMap::new();
        let mut changes = Vec::new();
        for fact in &facts {
            let Some(key) = about(fact) else { continue };
            let Some(newer) = newest.get(&key) else {
                newest.insert(key, fact);
                continue;
            };
            let what = format!(
                "the memory {} is of the past: {} tells the same of later",
                fact.id, newer.id
            );
            let data = json!({"fact": fact.id, "by": newer.id, "at": newer.valid_from});
            changes.push(Change::new(what, data));
        }
        Ok(Step {
            changes,
            done: 1,
            ..Step::default()
        })
    }

    async fn apply(&self, target: &Target, change: &Change) -> Result<(), MemoryError> {
        let at = change.data["at"].as_i64().unwrap_or_default();
        let (old, by) = (id(change, "fact")?, id(change, "by")?);
        self.parts
            .facts
            .supersede(&target.scope()?, old, by, at)
            .await
            .map(drop)
    }

    async fn undo(&self, target: &Target, change: &Change) -> Result<(), MemoryError> {
        hold_again(&self.parts, &target.scope()?, id(change, "fact")?, id(change, "by")?).await
    }
}
