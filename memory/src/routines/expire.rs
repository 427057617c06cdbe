//! What has expired: facts and small objects whose time is over are deleted.

use async_trait::async_trait;
use serde_json::Value;

use super::{Pace, Parts, Plan, Reach, Routine, Step, Target};
use crate::error::MemoryError;
use crate::objects;

/// What is counted at most; more is deleted all the same.
const COUNTED: u64 = 10_000;

/// See the module.
pub struct Expire {
    parts: Parts,
}

impl Expire {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts }
    }
}

#[async_trait]
impl Routine for Expire {
    fn name(&self) -> &'static str {
        "expire"
    }

    fn about(&self) -> &'static str {
        "What was given a time to live is deleted when it is over."
    }

    fn reach(&self) -> Reach {
        Reach::Everyone
    }

    fn undoing(&self) -> &'static str {
        "It can't be undone: its owners wanted it deleted by then."
    }

    async fn plan(&self, _: &Target) -> Result<Plan, MemoryError> {
        Ok(Plan { total: 1 })
    }

    async fn step(&self, _: &Target, _: &Value, _: &Pace) -> Result<Step, MemoryError> {
        let parts = &self.parts;
        let mut step = Step {
            done: 1,
            ..Step::default()
        };
        let facts = parts.facts.expired(COUNTED).await?.len() as u64;
        let objects = parts.objects.expired(COUNTED).await?.len() as u64;
        parts.memories.sweep_once().await?;
        objects::sweep_once(&*parts.objects, &*parts.expiry).await?;
        step.findings
            .count("memories deleted, since their time was over", facts);
        step.findings
            .count("other things deleted, since their time was over", objects);
        Ok(step)
    }
}
