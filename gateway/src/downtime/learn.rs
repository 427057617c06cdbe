//! Learning as a routine: one run a team, by a [`Learner`]. What learning is, the learner knows.

use std::sync::Arc;

use async_trait::async_trait;
use habit_learning::rollout::Rollouts;
use habit_memory::MemoryError;
use habit_memory::routines::{Change, Findings, Pace, Plan, Reach, Routine, Step, Target};
use serde_json::{Value, json};
use uuid::Uuid;

/// By this it is asked for.
pub const NAME: &str = "learn";

/// What came of a learning run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Learnt {
    /// What it found, for the report.
    pub findings: Findings,
    /// The model that passed the gate, and serves from now on, on trial or at once.
    pub model: Option<Uuid>,
}

/// Learns for a team.
#[async_trait]
pub trait Learner: Send + Sync {
    /// How many examples there are that no run has used yet; 0 if there is no use in one.
    ///
    /// # Errors
    /// What is wrong and what to do.
    async fn plan(&self, team: &str) -> Result<u64, String>;

    /// Why there is no use in one, for people.
    ///
    /// # Errors
    /// What is wrong and what to do.
    async fn idle(&self, team: &str) -> Result<String, String>;

    /// One run to its end, or until the pace says stop; then it gives an error, and the same call goes on where it was. What
    /// passes the gate is handed to the rollout.
    ///
    /// # Errors
    /// What is wrong and what to do.
    async fn learn(&self, team: &str, pace: &Pace) -> Result<Learnt, String>;
}

/// See the module.
pub struct Learn {
    learner: Arc<dyn Learner>,
    rollouts: Rollouts,
}

impl Learn {
    /// By this learner.
    #[must_use]
    pub fn new(learner: Arc<dyn Learner>, rollouts: Rollouts) -> Self {
        Self { learner, rollouts }
    }
}

pub(super) fn team(target: &Target) -> Result<&str, MemoryError> {
    let none = || MemoryError::BadRequest("learning is done for one team at a time".to_owned());
    target.team.as_deref().ok_or_else(none)
}

#[async_trait]
impl Routine for Learn {
    fn name(&self) -> &'static str {
        NAME
    }

    fn about(&self) -> &'static str {
        "The team's model is trained anew from the base with all corrections; it serves only if it is measured better."
    }

    fn reach(&self) -> Reach {
        Reach::Team
    }

    fn undoing(&self) -> &'static str {
        "Undoing takes the model back that the run let serve; what served before does again."
    }

    async fn plan(&self, target: &Target) -> Result<Plan, MemoryError> {
        let total = self.learner.plan(team(target)?).await.map_err(MemoryError::Storage)?;
        Ok(Plan { total })
    }

    async fn step(&self, target: &Target, _: &Value, pace: &Pace) -> Result<Step, MemoryError> {
        let team = team(target)?;
        let mut step = Step {
            done: self.learner.plan(team).await.map_err(MemoryError::Storage)?,
            ..Step::default()
        };
        if step.done == 0 {
            let why = self.learner.idle(team).await.map_err(MemoryError::Storage)?;
            step.findings.note(why);
            return Ok(step);
        }
        let learnt = self.learner.learn(team, pace).await.map_err(MemoryError::Storage)?;
        step.findings = learnt.findings;
        step.changes.extend(learnt.model.map(|model| {
            let what = format!("the model {model} passed the gate and serves the team, on trial or at once");
            Change::new(what, json!({"model": model}))
        }));
        Ok(step)
    }

    async fn undo(&self, target: &Target, change: &Change) -> Result<(), MemoryError> {
        let team = team(target)?;
        let model = change.data["model"].as_str().and_then(|id| Uuid::parse_str(id).ok());
        let state = self.rollouts.state(team);
        let tried = state.canary.as_ref().map(|canary| canary.model);
        // Whatever serves since is none of this run's business.
        if model.is_none() || (model != tried && (model != state.serving || tried.is_some())) {
            return Ok(());
        }
        let back = self.rollouts.rollback(team, "the run that made it was undone").await;
        back.map(drop).map_err(|error| MemoryError::Storage(error.to_string()))
    }
}
