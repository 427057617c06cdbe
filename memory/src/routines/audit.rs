//! A look at all that is remembered of a user, for a report: duplicates, junk, secrets, and what was never of use. Nothing is
//! changed, and no words are repeated.

use std::collections::HashSet;

use async_trait::async_trait;
use serde_json::Value;
use uuid::Uuid;

use super::dedupe::own_facts;
use super::likeness::essence;
use super::walk::{Place, Walk};
use super::{Findings, Pace, Parts, Plan, Reach, Routine, Step, Target, turns_of};
use crate::error::MemoryError;
use crate::interaction::Interaction;
use crate::scope::Scope;
use crate::secrets;

/// A turn that was not recalled in this time may be called useless.
const USELESS_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// See the module.
pub struct Audit {
    parts: Parts,
    walk: Walk<Seen>,
}

#[derive(Default)]
struct Seen {
    asked: HashSet<u64>,
    /// Turns that a newer one recalled.
    recalled: HashSet<Uuid>,
}

impl Audit {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            parts,
            walk: Walk::new(),
        }
    }

    async fn facts(&self, scope: &Scope) -> Result<Findings, MemoryError> {
        let mut findings = Findings::default();
        let mut said = HashSet::new();
        for fact in own_facts(&self.parts, scope).await? {
            findings.count("memories", 1);
            if essence(&fact.text).is_none_or(|text| !said.insert(text)) {
                findings.count("memories that say what another says, or nothing", 1);
            }
            if let Some(kind) = secrets::found(&fact.text) {
                findings.count("memories that seem to hold a secret", 1);
                findings.note(format!("memory {}: seems to hold a secret ({kind})", fact.id));
            }
        }
        Ok(findings)
    }
}

/// What is seen in these turns, after the newer ones.
fn look(seen: &mut Seen, turns: &[Interaction], long_ago: i64) -> Findings {
    let mut findings = Findings::default();
    for turn in turns {
        let injected = turn.injected.iter();
        seen.recalled
            .extend(injected.filter_map(|passage| Uuid::parse_str(&passage.citation.id).ok()));
        findings.count("turns", 1);
        if !turn.is_recallable() {
            findings.count("turns that are not recalled (failed, or not to be remembered)", 1);
            continue;
        }
        match essence(&turn.prompt) {
            None => {
                findings.count("turns that say nothing", 1);
                findings.note(format!("turn {}: says nothing", turn.id));
            }
            Some(asked) if !seen.asked.insert(asked) => findings.count("turns that ask what a newer one asks", 1),
            Some(_) => {}
        }
        if turn.reply.trim().is_empty() {
            findings.count("turns without an answer", 1);
        }
        let secret = secrets::found(&turn.prompt).or_else(|| secrets::found(&turn.reply));
        if let Some(kind) = secret {
            findings.count("turns that seem to hold a secret", 1);
            findings.note(format!("turn {}: seems to hold a secret ({kind})", turn.id));
        }
        if turn.asked_at < long_ago && !seen.recalled.contains(&turn.id) {
            findings.count("turns of more than 30 days ago that were never recalled", 1);
        }
    }
    findings
}

#[async_trait]
impl Routine for Audit {
    fn name(&self) -> &'static str {
        "audit"
    }

    fn about(&self) -> &'static str {
        "Counts what is remembered of a user, with duplicates, junk, what looks like a secret, and what was never recalled."
    }

    fn reach(&self) -> Reach {
        Reach::User
    }

    fn undoing(&self) -> &'static str {
        "There is nothing to undo: it only looks."
    }

    async fn plan(&self, target: &Target) -> Result<Plan, MemoryError> {
        target.scope()?;
        turns_of(&*self.parts.journal).await
    }

    async fn step(&self, target: &Target, cursor: &Value, _: &Pace) -> Result<Step, MemoryError> {
        let long_ago = self.parts.clock.now_ms().saturating_sub(USELESS_MS);
        let look = |seen: &mut Seen, turns: &[Interaction]| look(seen, turns, long_ago);
        Ok(
            match self.walk.next(&*self.parts.journal, target, cursor, look).await? {
                Place::Turns(findings, step) => Step { findings, ..step },
                Place::Lost(step) => step,
                Place::Facts => Step {
                    findings: self.facts(&target.scope()?).await?,
                    done: 1,
                    ..Step::default()
                },
            },
        )
    }
}
