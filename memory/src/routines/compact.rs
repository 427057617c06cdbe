//! Upkeep of the stores: small files are merged, old versions go, the database learns how its tables grew.

use async_trait::async_trait;
use serde_json::Value;

use super::{Pace, Parts, Plan, Reach, Routine, Step, Target};
use crate::error::MemoryError;

/// See the module.
pub struct Compact {
    parts: Parts,
}

impl Compact {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts }
    }
}

#[async_trait]
impl Routine for Compact {
    fn name(&self) -> &'static str {
        "compact"
    }

    fn about(&self) -> &'static str {
        "The index's small files are merged and its old versions removed; the database's statistics are brought up to date."
    }

    fn reach(&self) -> Reach {
        Reach::Everyone
    }

    fn undoing(&self) -> &'static str {
        "There is nothing to undo: what is stored stays the same."
    }

    async fn plan(&self, _: &Target) -> Result<Plan, MemoryError> {
        Ok(Plan { total: 1 })
    }

    async fn step(&self, _: &Target, _: &Value, _: &Pace) -> Result<Step, MemoryError> {
        let mut step = Step {
            done: 1,
            ..Step::default()
        };
        self.parts.index.optimize().await?;
        self.parts.runs.tidy().await?;
        step.findings
            .count("entries in the index", self.parts.index.len().await?);
        Ok(step)
    }
}
