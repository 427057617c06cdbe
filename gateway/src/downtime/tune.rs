//! Tuning as a routine: the turns of a team that users corrected are replayed under other settings of memory and of past
//! answers shown; what is shown to do better serves the team from then on ([`habit_learning::tune`]).

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use habit_engine::{Embedder, Engine};
use habit_learning::examples::Example;
use habit_learning::few_shot::Banks;
use habit_learning::gate::Bounds;
use habit_learning::rollout::Rollouts;
use habit_learning::score::{self, Model};
use habit_learning::tune::{Knobs, Replay, Shots, TuneError, search};
use habit_memory::assembly::{Budget, assemble};
use habit_memory::context::{Request, Slot, gather};
use habit_memory::overflow::Gone;
use habit_memory::passage::SourceKind;
use habit_memory::routines::{Change, Pace, Plan, Reach, Routine, Step, Target};
use habit_memory::{MemoryError, Scope};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::learner::Learner;
use crate::turn::{few_shot, knobs};

/// By this it is asked for.
pub const NAME: &str = "tune";

/// More is proposed than is shown, since what was said after a turn is left out of its replay.
const MORE: usize = 3;

/// What it is built on.
pub struct TuneParts {
    /// Knows what users said was right, as far as enough of them agree.
    pub learner: Learner,
    /// Where settings are kept.
    pub rollouts: Rollouts,
    /// What answers.
    pub engine: Arc<dyn Engine>,
    /// Memory's sources, as configured.
    pub slots: Arc<[Slot]>,
    /// Tokens that they may take together, as configured.
    pub tokens: usize,
    /// Users' examples.
    pub banks: Banks,
    /// Past answers that are shown, as configured; `None` where they are switched off.
    pub shots: Option<Shots>,
    /// Tokens that these may take together.
    pub shot_tokens: usize,
    /// Text to vectors that are compared with those of the banks.
    pub embedder: Arc<dyn Embedder>,
    /// Text to vectors that are compared with those of the index.
    pub asking: Arc<dyn Embedder>,
}

/// See the module.
pub struct Tune {
    parts: Arc<TuneParts>,
}

impl Tune {
    /// Over these parts.
    #[must_use]
    pub fn new(parts: TuneParts) -> Self {
        Self { parts: Arc::new(parts) }
    }
}

impl TuneParts {
    /// What serves a team.
    fn now(&self, team: &str) -> Knobs {
        let chunks = |kind| {
            let mut slots = self.slots.iter().filter(|slot| slot.source.kind() == kind);
            slots.next().map_or(0, |slot| slot.chunks)
        };
        let mut knobs = self.rollouts.state(team).knobs.unwrap_or_else(|| Knobs {
            recalled: chunks(SourceKind::Recalled),
            persistent: chunks(SourceKind::Persistent),
            facts: chunks(SourceKind::Fact),
            tokens: self.tokens,
            finding: None,
            shots: None,
        });
        knobs.shots = knobs.shots.filter(|_| self.shots.is_some()).or(self.shots);
        knobs
    }

    async fn examples(&self, team: &str) -> Result<Vec<Example>, MemoryError> {
        let material = self.learner.material(team).await;
        let material = material.map_err(|error| MemoryError::Storage(error.to_string()))?;
        Ok(material.examples)
    }
}

/// A team's corrected turns, asked again.
struct Again {
    parts: Arc<TuneParts>,
    team: String,
    model: Model,
    examples: HashMap<Uuid, Example>,
    pace: Pace,
}

#[async_trait]
impl Replay for Again {
    async fn loss(&self, knobs: &Knobs, turn: Uuid) -> Result<Option<f64>, TuneError> {
        let mut pace = self.pace.clone();
        if !pace.ready().await {
            return Err(TuneError::Stopped);
        }
        let failed = |error: &dyn std::fmt::Display| TuneError::Failed(error.to_string());
        let Some(example) = self.examples.get(&turn) else {
            return Ok(None);
        };
        let Some(counter) = self.model.engine.token_counter(&self.model.name) else {
            return Ok(None);
        };
        let query = example.question();
        let vectors = self.parts.asking.embed(vec![query.clone()]).await;
        let vector = vectors.map_err(|error| failed(&error))?.into_iter().next();
        let scope = Scope::new(&self.team, &example.user).map_err(|error| failed(&error))?;
        let mut slots = knobs::slots(&self.parts.slots, knobs);
        for slot in &mut slots {
            slot.chunks *= MORE;
        }
        let request = Request {
            scope: scope.clone(),
            messages: Arc::new(example.messages.clone()),
            query,
            asked_at: example.at,
            vector: vector.into(),
            limit: 0,
            gone: Gone::default(),
        };
        let mut passages = gather(&slots, &request).await.passages;
        // What was said later was not known then, the turn itself least of all.
        passages.retain(|passage| passage.citation.at < example.at && passage.citation.id != turn.to_string());
        let mut left: HashMap<SourceKind, usize> = slots
            .iter()
            .map(|slot| (slot.source.kind(), slot.chunks / MORE))
            .collect();
        passages.retain(|passage| {
            let left = left.entry(passage.source).or_default();
            let shown = *left > 0;
            *left = left.saturating_sub(1);
            shown
        });
        let window = counter.context_window();
        let budget = Budget {
            context_window: window,
            reply_tokens: counter.count(&example.answer) + 1,
            memory_tokens: knobs.tokens,
        };
        let mut messages = example.messages.clone();
        if let Some(shots) = knobs.shots {
            let vectors = self.parts.embedder.embed(vec![example.question()]).await;
            let vector = vectors.map_err(|error| failed(&error))?.pop().unwrap_or_default();
            let bank = self.parts.banks.of(&scope).await.map_err(|error| failed(&error))?;
            let near = bank.nearest_before(&vector, shots.count, shots.near(), example.at);
            messages = few_shot::with(&messages, &few_shot::fitting(near, self.parts.shot_tokens, &*counter));
        }
        let Ok(assembled) = assemble(&messages, passages, &budget, &*counter) else {
            return Ok(None);
        };
        let asked = Example {
            messages: assembled.messages,
            ..example.clone()
        };
        score::likelihood(&self.model, &asked)
            .await
            .map_err(|error| failed(&error))
    }
}

#[async_trait]
impl Routine for Tune {
    fn name(&self) -> &'static str {
        NAME
    }

    fn about(&self) -> &'static str {
        "How much memory puts before the model, and how it finds that, is tried anew on corrected turns; what is shown to do \
         better is kept."
    }

    fn reach(&self) -> Reach {
        Reach::Team
    }

    fn undoing(&self) -> &'static str {
        "Undoing brings the settings back that served before."
    }

    async fn plan(&self, target: &Target) -> Result<Plan, MemoryError> {
        let team = super::learn::team(target)?;
        let total = self.parts.examples(team).await?.len() as u64;
        Ok(Plan { total })
    }

    async fn step(&self, target: &Target, _: &Value, pace: &Pace) -> Result<Step, MemoryError> {
        let team = super::learn::team(target)?;
        let mut examples = self.parts.examples(team).await?;
        examples.sort_by_key(|example| example.at);
        let turns: Vec<Uuid> = examples.iter().map(|example| example.id).collect();
        let again = Again {
            parts: Arc::clone(&self.parts),
            team: team.to_owned(),
            model: Model {
                name: self.parts.engine.resolve(""),
                engine: Arc::clone(&self.parts.engine),
            },
            examples: examples.into_iter().map(|example| (example.id, example)).collect(),
            pace: pace.clone(),
        };
        let now = self.parts.now(team);
        let tuned = search(now, &turns, &again, &Bounds::default()).await;
        let tuned = tuned.map_err(|error| MemoryError::Storage(error.to_string()))?;
        let mut step = Step {
            done: turns.len() as u64,
            ..Step::default()
        };
        step.findings.count("settings tried", tuned.tried as u64);
        step.findings.note(format!("what serves: {now}"));
        if tuned.reasons.is_empty() {
            let what = format!(
                "memory puts {} before the model, no more {now}: right answers gain {:.3} nats a token ({:.3} to {:.3}) over \
                 {} turns that chose nothing",
                tuned.best, tuned.gain.mean, tuned.gain.lower, tuned.gain.upper, tuned.turns[1]
            );
            let before = self.parts.rollouts.state(team).knobs;
            step.changes
                .push(Change::new(what, json!({"knobs": tuned.best, "before": before})));
        }
        for reason in tuned.reasons {
            step.findings.note(reason);
        }
        Ok(step)
    }

    async fn apply(&self, target: &Target, change: &Change) -> Result<(), MemoryError> {
        self.set(target, &change.data["knobs"], &change.what).await
    }

    async fn undo(&self, target: &Target, change: &Change) -> Result<(), MemoryError> {
        let team = super::learn::team(target)?;
        // What was tuned since is none of this run's business.
        if json!(self.parts.rollouts.state(team).knobs) != change.data["knobs"] {
            return Ok(());
        }
        self.set(target, &change.data["before"], "the run that tuned it was undone")
            .await
    }
}

impl Tune {
    async fn set(&self, target: &Target, knobs: &Value, why: &str) -> Result<(), MemoryError> {
        let team = super::learn::team(target)?;
        let storage = |error: &dyn std::fmt::Display| MemoryError::Storage(error.to_string());
        let knobs: Option<Knobs> = serde_json::from_value(knobs.clone()).map_err(|error| storage(&error))?;
        let set = self.parts.rollouts.tune(team, knobs, why).await;
        set.map(drop).map_err(|error| storage(&error))
    }
}
