//! What may follow what in a rollout. Pure: every step is a change of [`State`] that leaves an [`Entry`] which tells a
//! person what changed, why, and how to undo it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::RolloutError;
use super::choice::{Arm, Arms, Counts};
use super::watch::{self, Seen, Verdict};
use crate::tune::Knobs;

/// Entries that are kept, newest last: years of weekly runs.
const HISTORY: usize = 500;

/// How far a model has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It passed the gate and serves nobody.
    Candidate,
    /// It answers a share of the requests, and is watched.
    Canary,
    /// It answers all requests.
    Promoted,
    /// A newer one took its place; it may be promoted again.
    Replaced,
    /// It was taken back; it may be promoted again.
    RolledBack,
    /// It did not pass the gate.
    Rejected,
    /// There is none: its run trained nothing.
    Untrained,
    /// What it was trained on is to be forgotten: it never serves again.
    Withdrawn,
}

/// A model that was trained for a team.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TeamModel {
    /// UUIDv7.
    pub id: Uuid,
    /// The name of the model that it was trained from, and in whose place it answers.
    pub base: String,
    /// The merged file that is loaded.
    pub path: PathBuf,
    /// The learning run that made it.
    pub run: Option<Uuid>,
    /// Unix milliseconds.
    pub made_at: i64,
    /// How far it has come.
    pub status: Status,
    /// What the gate measured, in a line or two.
    pub summary: String,
    /// The run's report.
    pub report: Option<PathBuf>,
}

impl TeamModel {
    /// A candidate.
    #[must_use]
    pub fn new(base: impl Into<String>, path: impl Into<PathBuf>, made_at: i64) -> Self {
        Self {
            id: Uuid::now_v7(),
            base: base.into(),
            path: path.into(),
            run: None,
            made_at,
            status: Status::Candidate,
            summary: String::new(),
            report: None,
        }
    }
}

/// A model on trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// Which.
    pub model: Uuid,
    /// The share of requests that it answers, over 0 and under 1.
    pub share: f64,
    /// Since when, in Unix milliseconds.
    pub since: i64,
    /// How turns fared meanwhile, those of the canary and the others.
    pub seen: Vec<Seen>,
}

impl Canary {
    /// How it fares, in words.
    #[must_use]
    pub fn summary(&self) -> String {
        watch::summary(&self.seen)
    }
}

/// How a turn fared.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The turn; a later outcome of the same turn takes the place of the first.
    pub turn: Uuid,
    /// Who said so: what one user can do to a trial is bounded.
    pub user: String,
    /// In which way it was answered.
    pub arm: Arm,
    /// The team's model that answered; `None` for the base.
    pub model: Option<Uuid>,
    /// 0 (bad) to 1 (good).
    pub reward: f64,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A model passed the gate.
    Offered,
    /// A model did not.
    Rejected,
    /// A run trained nothing.
    Untrained,
    /// A trial began.
    Canary,
    /// A model serves all.
    Promoted,
    /// A step was taken back.
    RolledBack,
    /// A model is gone for good.
    Withdrawn,
    /// Other settings of memory serve; no model changed.
    Tuned,
}

/// One entry of the history, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// UUIDv7.
    pub id: Uuid,
    /// Unix milliseconds.
    pub at: i64,
    /// What happened.
    pub event: Event,
    /// To which model; the nil id where it is none.
    pub model: Uuid,
    /// What changed.
    pub what: String,
    /// Why.
    pub why: Vec<String>,
    /// How to undo it.
    pub undo: String,
    /// The report with the evidence.
    pub report: Option<PathBuf>,
}

/// A team's models, and which of them serves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// All that there were, oldest first.
    pub models: Vec<TeamModel>,
    /// The promoted one; `None` is the base.
    pub serving: Option<Uuid>,
    /// What served before, the latest last: where a rollback goes.
    pub before: Vec<Option<Uuid>>,
    /// The one on trial.
    pub canary: Option<Canary>,
    /// What memory may put before the model, where other than configured.
    pub knobs: Option<Knobs>,
    /// How the ways of answering fare, for live choices.
    pub arms: Arms,
    /// How replies fare with so many past answers shown, for live choices.
    pub shots: Counts,
    /// What happened, oldest first.
    pub history: Vec<Entry>,
}

impl State {
    /// A model of the team.
    #[must_use]
    pub fn model(&self, id: Uuid) -> Option<&TeamModel> {
        self.models.iter().find(|model| model.id == id)
    }

    /// The promoted model.
    #[must_use]
    pub fn promoted(&self) -> Option<&TeamModel> {
        self.serving.and_then(|id| self.model(id))
    }

    /// Notes a model that passed the gate.
    pub fn offer(&mut self, mut model: TeamModel, now: i64) -> Entry {
        model.status = Status::Candidate;
        let (what, why) = (
            format!(
                "a model trained from `{}` passed the gate; it serves nobody yet",
                model.base
            ),
            vec![model.summary.clone()],
        );
        self.add(
            model,
            Event::Offered,
            what,
            why,
            "nothing serves it: there is nothing to undo",
            now,
        )
    }

    /// Notes a model that did not pass it.
    pub fn reject(&mut self, mut model: TeamModel, why: &[String], now: i64) -> Entry {
        model.status = Status::Rejected;
        let what = format!("a model trained from `{}` was rejected; it never served", model.base);
        self.add(
            model,
            Event::Rejected,
            what,
            why.to_vec(),
            "nothing changed: there is nothing to undo",
            now,
        )
    }

    /// Notes that a run made no model at all.
    pub fn untrained(&mut self, mut none: TeamModel, why: &[String], now: i64) -> Entry {
        none.status = Status::Untrained;
        let what = "a learning run trained nothing".to_owned();
        let undo = "nothing changed: there is nothing to undo";
        self.add(none, Event::Untrained, what, why.to_vec(), undo, now)
    }

    fn add(&mut self, model: TeamModel, event: Event, what: String, why: Vec<String>, undo: &str, now: i64) -> Entry {
        let id = model.id;
        self.models.retain(|known| known.id != id);
        self.models.push(model);
        self.note(event, id, (what, why, undo), now)
    }

    /// Begins a trial.
    ///
    /// # Errors
    /// [`RolloutError`].
    pub fn begin_canary(&mut self, id: Uuid, share: f64, now: i64) -> Result<Entry, RolloutError> {
        if !(share > 0.0 && share <= 1.0) {
            let why = format!("a canary's share is over 0 and at most 1, not {share}");
            return Err(RolloutError::Impossible(why));
        }
        self.admit(id)?;
        if share >= 1.0 {
            return self.promote(id, "it passed the gate, and no trial is wanted", now);
        }
        if self.serving == Some(id) {
            return Err(RolloutError::Impossible(format!(
                "the model {id} answers all requests already"
            )));
        }
        let mut why = vec!["it passed the gate".to_owned()];
        if let Some(old) = self.canary.take().filter(|old| old.model != id) {
            self.set(old.model, Status::Replaced);
            why.push(format!("the trial of {} ends with it", old.model));
        }
        self.canary = Some(Canary {
            model: id,
            share,
            since: now,
            seen: Vec::new(),
        });
        self.set(id, Status::Canary);
        let what = format!(
            "the model {id} answers {:.0} % of the team's requests, watched",
            share * 100.0
        );
        Ok(self.note(Event::Canary, id, (what, why, UNDO), now))
    }

    /// Lets a model answer everything.
    ///
    /// # Errors
    /// [`RolloutError`].
    pub fn promote(&mut self, id: Uuid, why: &str, now: i64) -> Result<Entry, RolloutError> {
        self.admit(id)?;
        if self.serving == Some(id) {
            return Err(RolloutError::Impossible(format!(
                "the model {id} answers all requests already"
            )));
        }
        if let Some(canary) = self.canary.take().filter(|canary| canary.model != id) {
            self.set(canary.model, Status::Replaced);
        }
        if let Some(old) = self.serving {
            self.set(old, Status::Replaced);
        }
        self.before.push(self.serving);
        self.serving = Some(id);
        self.set(id, Status::Promoted);
        let what = format!("the model {id} answers all of the team's requests");
        Ok(self.note(Event::Promoted, id, (what, vec![why.to_owned()], UNDO), now))
    }

    /// Takes back the last step.
    ///
    /// # Errors
    /// [`RolloutError::Impossible`].
    pub fn rollback(&mut self, why: &str, now: i64) -> Result<Entry, RolloutError> {
        if let Some(canary) = self.canary.take() {
            self.set(canary.model, Status::RolledBack);
            let what = format!("the trial of the model {} ended; it answers nobody", canary.model);
            let why = vec![why.to_owned(), canary.summary()];
            return Ok(self.note(Event::RolledBack, canary.model, (what, why, &again(canary.model)), now));
        }
        let Some(id) = self.serving.take() else {
            let why = "the base model serves already: there is nothing to take back".to_owned();
            return Err(RolloutError::Impossible(why));
        };
        self.set(id, Status::RolledBack);
        self.serving = self.earlier();
        if let Some(earlier) = self.serving {
            self.set(earlier, Status::Promoted);
        }
        let what = format!("the model {id} answers nobody any more; {}", self.who());
        Ok(self.note(Event::RolledBack, id, (what, vec![why.to_owned()], &again(id)), now))
    }

    /// Takes a model away for good.
    ///
    /// # Errors
    /// [`RolloutError::Unknown`].
    pub fn withdraw(&mut self, id: Uuid, why: &str, now: i64) -> Result<Entry, RolloutError> {
        self.model(id).ok_or(RolloutError::Unknown(id))?;
        self.set(id, Status::Withdrawn);
        if self.canary.as_ref().is_some_and(|canary| canary.model == id) {
            self.canary = None;
        }
        if self.serving == Some(id) {
            self.serving = self.earlier();
            if let Some(earlier) = self.serving {
                self.set(earlier, Status::Promoted);
            }
        }
        let what = format!("the model {id} is withdrawn for good; {}", self.who());
        let undo = "it can't be undone: what it was trained on is to be forgotten; the next run trains without it";
        Ok(self.note(Event::Withdrawn, id, (what, vec![why.to_owned()], undo), now))
    }

    /// Takes other settings of memory, or those of the configuration again.
    pub fn tune(&mut self, knobs: Option<Knobs>, why: &str, now: i64) -> Entry {
        self.knobs = knobs;
        let what = match knobs {
            Some(knobs) => format!("memory puts {knobs} before the model"),
            None => "memory puts as much before the model as is configured".to_owned(),
        };
        let undo = "`habit downtime undo RUN` takes the run back that tuned it";
        self.note(Event::Tuned, Uuid::nil(), (what, vec![why.to_owned()], undo), now)
    }

    /// Notes how a turn fared; an entry, if that ends a trial.
    pub fn observe(&mut self, outcome: Outcome, now: i64) -> Option<Entry> {
        let reward = outcome.reward.clamp(0.0, 1.0);
        self.arms.learn(outcome.arm, reward);
        let canary = self.canary.as_mut()?;
        let tried = outcome.model == Some(canary.model);
        // What an earlier model did says nothing of those that serve now.
        if !tried && outcome.model != self.serving {
            return None;
        }
        watch::note(
            &mut canary.seen,
            Seen {
                turn: outcome.turn,
                user: watch::mark(&outcome.user),
                tried,
                reward,
            },
        );
        let (model, verdict) = (canary.model, watch::verdict(&canary.seen));
        match verdict {
            Verdict::Open => None,
            Verdict::Worse(why) => self.rollback(&format!("by itself: {why}"), now).ok(),
            Verdict::Better(why) => self.promote(model, &format!("by itself: {why}"), now).ok(),
        }
    }

    /// The latest that served before and may serve.
    fn earlier(&mut self) -> Option<Uuid> {
        let id = self.before.pop()??;
        let gone = |model: &TeamModel| model.status == Status::Withdrawn;
        if self.model(id).is_none_or(gone) {
            return self.earlier();
        }
        Some(id)
    }

    fn who(&self) -> String {
        match self.serving {
            Some(id) => format!("the model {id} does again"),
            None => "the base model does".to_owned(),
        }
    }

    /// Whether a model may serve.
    fn admit(&self, id: Uuid) -> Result<(), RolloutError> {
        let model = self.model(id).ok_or(RolloutError::Unknown(id))?;
        match model.status {
            Status::Rejected => Err(RolloutError::Impossible(format!(
                "the model {id} did not pass the gate, so it may not serve; train another"
            ))),
            Status::Untrained => Err(RolloutError::Impossible(format!(
                "the run {id} trained nothing, so there is no model of it that could serve; its report says why"
            ))),
            Status::Withdrawn => Err(RolloutError::Impossible(format!(
                "the model {id} was trained on what is to be forgotten, so it may not serve; train another"
            ))),
            _ => Ok(()),
        }
    }

    fn set(&mut self, id: Uuid, status: Status) {
        for model in self.models.iter_mut().filter(|model| model.id == id) {
            model.status = status;
        }
    }

    fn note(&mut self, event: Event, model: Uuid, told: (String, Vec<String>, &str), now: i64) -> Entry {
        let (what, why, undo) = told;
        let entry = Entry {
            id: Uuid::now_v7(),
            at: now,
            event,
            model,
            what,
            why: why.into_iter().filter(|line| !line.is_empty()).collect(),
            undo: undo.to_owned(),
            report: self.model(model).and_then(|model| model.report.clone()),
        };
        self.history.push(entry.clone());
        let over = self.history.len().saturating_sub(HISTORY);
        self.history.drain(..over);
        entry
    }
}

const UNDO: &str = "`habit learn rollback` takes it back at once";

fn again(model: Uuid) -> String {
    format!("`habit learn promote {model}` lets it serve again")
}
