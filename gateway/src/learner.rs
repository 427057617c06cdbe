//! Learning runs of teams: what they are made of, where they are kept, and what becomes of them. A run itself is in
//! [`habit_learning::run`], which model serves in [`habit_learning::rollout`]; the model's files and what trains on them
//! come from a [`Workshop`].
//!
//! A team has at most one run at a time, on whichever machine, and a machine trains one at a time. Runs have a folder
//! each, by team and id.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use habit_engine::Embedder;
use habit_learning::curator::Curator;
use habit_learning::examples::Example;
use habit_learning::examples::curate::Curated;
use habit_learning::feedback::Tainted;
use habit_learning::general;
use habit_learning::rollout::{RolloutError, Rollouts};
use habit_learning::run::{self, Plan, Report, RunError, grid};
use habit_learning::trainer::Settings;
use habit_memory::clock::Clock;
use habit_memory::{MemoryError, Scope};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config;
use crate::keys::KeyStore;
use crate::lease::Leases;
use crate::lifecycle::Lifecycle;

mod claim;
mod forget;
mod gauge;
pub mod jobs;
mod outcome;
mod place;
pub mod private;
mod routine;
pub mod workshop;

use outcome::summary;
use place::{folders, has_begun, names, remove, storage};

pub use gauge::{Gauge, Progress};
pub use workshop::{Served, Workshop};

/// What it is built on.
pub struct Parts {
    /// Examples, and what runs used.
    pub curator: Curator,
    /// Which model serves a team.
    pub rollouts: Rollouts,
    /// Finds what is nearest.
    pub embedder: Arc<dyn Embedder>,
    /// Models' files and the trainer.
    pub workshop: Arc<dyn Workshop>,
    /// Who is in a team; `None` where everyone is the one user.
    pub keys: Option<KeyStore>,
    /// How many must agree, and how runs are made.
    pub learning: config::Learning,
    /// How a new model comes to serve.
    pub rollout: config::Rollout,
    /// Where runs are kept.
    pub folder: PathBuf,
    /// What this process holds among those that share the database.
    pub leases: Leases,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Runs them.
    pub lifecycle: Lifecycle,
}

/// See the module; cheap to clone.
#[derive(Clone)]
pub struct Learner {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Parts,
    /// Runs under way, and the last one that failed, by team.
    teams: Mutex<HashMap<String, Work>>,
    /// The machine trains one at a time.
    bench: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Work {
    now: Option<(Uuid, Arc<Gauge>, CancellationToken)>,
    failed: Option<(Uuid, String)>,
}

/// Why a run did not begin or did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// The team's run goes on.
    #[error("the run {0} of this team is under way; wait for it, or cancel it")]
    Busy(Uuid),
    /// The team's run goes on in another process.
    #[error("another gateway trains a model of this team now; ask again when it is done")]
    Elsewhere,
    /// There is no such run of this team.
    #[error("the team has no run {0}; GET /v1/learning/runs lists them")]
    Unknown(Uuid),
    /// Nothing can be learnt now; the message says what is missing.
    #[error("{0}")]
    Nothing(String),
    /// The run's own error.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The state of the team's models.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// What was said can't be read, or what was used can't be noted.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// A run, as far as it has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// Its id.
    pub id: Uuid,
    /// How far it is, if it runs now.
    pub progress: Option<Progress>,
    /// What it found, if it has ended.
    pub report: Option<Report>,
    /// Why it stopped, if it failed since the server began.
    pub problem: Option<String>,
    /// Examples that were forgotten since, of those that it used.
    pub forgotten: usize,
}

/// What a run is made with.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Settings to try first; the best of the last run, or the measured recipe, where there are none.
    pub settings: Option<Settings>,
}

impl Learner {
    /// Over these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            inner: Arc::new(Inner {
                parts,
                teams: Mutex::default(),
                bench: tokio::sync::Mutex::default(),
            }),
        }
    }

    /// What the team's model would learn from now.
    ///
    /// # Errors
    /// [`LearnError::Memory`].
    pub async fn material(&self, team: &str) -> Result<Curated, LearnError> {
        let users = self.agreeing(team).await?;
        Ok(self.inner.parts.curator.of_team(team, users).await?)
    }

    /// Different users that must say the same: as configured, or all that the team has.
    ///
    /// # Errors
    /// [`LearnError::Memory`].
    pub async fn agreeing(&self, team: &str) -> Result<usize, LearnError> {
        let people = self.people(team).await?.len();
        Ok(self.inner.parts.learning.min_users.min(people).max(1))
    }

    /// Whether nobody else is in this user's team.
    ///
    /// # Errors
    /// [`LearnError::Memory`].
    pub async fn is_alone(&self, scope: &Scope) -> Result<bool, LearnError> {
        Ok(self.people(scope.team()).await?.iter().all(|user| user == scope.user()))
    }

    /// The users of a team: those who have keys, and those who said how replies were.
    async fn people(&self, team: &str) -> Result<BTreeSet<String>, LearnError> {
        let parts = &self.inner.parts;
        let mut users = parts.curator.users(team).await?;
        if let Some(keys) = &parts.keys {
            users.extend(keys.people(team).await.map_err(storage)?);
        }
        Ok(users)
    }

    /// Begins a run of this team and returns its id; it goes on by itself.
    ///
    /// # Errors
    /// [`LearnError`]: nothing was begun.
    pub async fn start(&self, team: &str, wish: Wish) -> Result<Uuid, LearnError> {
        // A task of its own: who stops waiting must not leave the team marked as busy.
        let (learner, team) = (self.clone(), team.to_owned());
        let task = async move { learner.begin(&team, wish).await };
        let begun = self.inner.parts.lifecycle.spawn(task).await;
        begun.unwrap_or(Err(LearnError::Run(RunError::Cancelled)))
    }

    async fn begin(&self, team: &str, wish: Wish) -> Result<Uuid, LearnError> {
        let id = Uuid::now_v7();
        let (gauge, cancel) = self.claim(team, id).await?;
        match self.plan(team, id, wish).await {
            Ok(plan) => {
                self.spawn(team, plan, gauge, cancel);
                Ok(id)
            }
            Err(error) => {
                self.end(team, id, None).await;
                Err(error)
            }
        }
    }

    /// Goes on with all runs that were broken off, team by team: those that had not ended, and those of whose end nothing
    /// came yet.
    pub fn resume(&self) {
        self.tell_untold();
        for (team, id) in self.broken_off() {
            let Ok(Some(state)) = run::state::State::read(&self.folder(&team, id)) else {
                continue;
            };
            let learner = self.clone();
            drop(self.inner.parts.lifecycle.spawn(async move {
                match learner.claim(&team, id).await {
                    Ok((gauge, cancel)) => {
                        tracing::info!(run = %id, "a learning run that was broken off goes on");
                        learner.spawn(&team, state.plan, gauge, cancel);
                    }
                    Err(error) => tracing::info!(run = %id, "a learning run that was broken off waits: {error}"),
                }
            }));
        }
    }

    /// Stops the team's run; what it did is kept, and it goes on when the server starts again, unless its folder goes.
    ///
    /// # Errors
    /// [`LearnError::Unknown`] if that is not under way; [`LearnError::Run`] if its folder can't be removed.
    pub async fn cancel(&self, team: &str, id: Uuid) -> Result<(), LearnError> {
        let token = self.teams().get(team).and_then(|work| {
            let now = work.now.as_ref().filter(|(running, ..)| *running == id);
            now.map(|(_, _, token)| token.clone())
        });
        match token {
            Some(token) => {
                token.cancel();
                self.stopped(team, id).await;
            }
            None if !self.folder(team, id).join("run.json").exists() => return Err(LearnError::Unknown(id)),
            None => {}
        }
        self.discard(team, id)
    }

    /// The team's runs, newest first.
    ///
    /// # Errors
    /// [`LearnError::Run`] if their folder can't be read; [`LearnError::Memory`].
    pub async fn runs(&self, team: &str) -> Result<Vec<Known>, LearnError> {
        let tainted = self.inner.parts.curator.ledger().tainted(team).await?;
        let mut ids = folders(&self.team_folder(team));
        if let Some((now, ..)) = self.teams().get(team).and_then(|work| work.now.as_ref()) {
            ids.push(*now);
        }
        ids.sort_unstable();
        ids.dedup();
        ids.reverse();
        ids.into_iter().map(|id| self.known(team, id, &tainted)).collect()
    }

    /// One of them.
    ///
    /// # Errors
    /// [`LearnError`].
    pub async fn run(&self, team: &str, id: Uuid) -> Result<Known, LearnError> {
        let tainted = self.inner.parts.curator.ledger().tainted(team).await?;
        let known = self.known(team, id, &tainted)?;
        if known.progress.is_none() && known.report.is_none() && !has_begun(&self.folder(team, id)) {
            return Err(LearnError::Unknown(id));
        }
        Ok(known)
    }

    /// The folder of a run.
    #[must_use]
    pub fn folder(&self, team: &str, id: Uuid) -> PathBuf {
        self.team_folder(team).join(id.to_string())
    }

    /// Which model serves a team.
    #[must_use]
    pub fn rollouts(&self) -> &Rollouts {
        &self.inner.parts.rollouts
    }

    /// A team's name may be `..`, a folder's may not.
    fn team_folder(&self, team: &str) -> PathBuf {
        self.inner.parts.folder.join(format!("team-{team}"))
    }

    fn known(&self, team: &str, id: Uuid, tainted: &[Tainted]) -> Result<Known, LearnError> {
        let report = Report::read(&self.folder(team, id))?;
        let name = id.to_string();
        let forgotten = tainted.iter().find(|one| one.run == name);
        let teams = self.teams();
        let work = teams.get(team);
        let now = work.and_then(|work| work.now.as_ref()).filter(|(now, ..)| *now == id);
        let failed = work
            .and_then(|work| work.failed.as_ref())
            .filter(|(failed, _)| *failed == id);
        Ok(Known {
            id,
            progress: now.map(|(_, gauge, _)| gauge.read()),
            problem: failed.map(|(_, why)| why.clone()).filter(|_| report.is_none()),
            report,
            forgotten: forgotten.map_or(0, |one| one.examples.len()),
        })
    }

    async fn plan(&self, team: &str, id: Uuid, wish: Wish) -> Result<Plan, LearnError> {
        let parts = &self.inner.parts;
        let served = parts.workshop.served().await.map_err(LearnError::Nothing)?;
        let examples = self.examples(team).await?;
        let name = id.to_string();
        parts.curator.note_run(team, &name, &examples).await?;
        // From here on whoever forgets something finds the run; what was forgotten just before is found here.
        let tainted = parts.curator.ledger().tainted(team).await?;
        if tainted.iter().any(|one| one.run == name) {
            let why = "something of what was to be learnt from was forgotten just now; start the run again";
            return Err(LearnError::Nothing(why.to_owned()));
        }
        let best = wish.settings.or_else(|| self.last_best(team));
        Ok(Plan {
            id,
            team: team.to_owned(),
            weights: served.weights,
            model_dir: served.model_dir,
            examples,
            shares: habit_learning::examples::Shares::default(),
            anchors: Vec::new(),
            general: general::SENTENCES.map(str::to_owned).to_vec(),
            grid: grid(best.as_ref(), parts.learning.tries),
            bounds: habit_learning::gate::Bounds::default(),
            keep: false,
            memory: None,
            threads: None,
        })
    }

    async fn examples(&self, team: &str) -> Result<Vec<Example>, LearnError> {
        let curated = self.material(team).await?;
        if !curated.examples.is_empty() {
            return Ok(curated.examples);
        }
        let why = curated
            .left_out
            .first()
            .map(|left| format!(" (of what there is: {})", left.why));
        let why = why.unwrap_or_default();
        Err(LearnError::Nothing(format!(
            "there is nothing to learn from yet{why}; say how replies were with POST /v1/feedback, best with a `correction`"
        )))
    }

    /// The settings of the newest run that passed.
    fn last_best(&self, team: &str) -> Option<Settings> {
        folders(&self.team_folder(team)).into_iter().rev().find_map(|id| {
            let report = Report::read(&self.folder(team, id)).ok()??;
            let best = report.best.filter(|_| report.verdict.promote)?;
            Some(report.tried.get(best)?.settings.clone())
        })
    }

    fn spawn(&self, team: &str, plan: Plan, gauge: Arc<Gauge>, cancel: CancellationToken) {
        let (learner, team) = (self.clone(), team.to_owned());
        let task = async move { learner.work(&team, plan, &gauge, &cancel).await };
        drop(self.inner.parts.lifecycle.spawn(async move {
            if let Err(error) = task.await {
                tracing::warn!("a learning run ended early: {error}");
            }
        }));
    }

    /// Runs a plan to its end, and hands what came of it to the rollout.
    async fn work(
        &self,
        team: &str,
        plan: Plan,
        gauge: &Gauge,
        cancel: &CancellationToken,
    ) -> Result<Report, LearnError> {
        let id = plan.id;
        let folder = self.folder(team, id);
        let run = self.run_plan(&folder, plan, gauge, cancel);
        let done = self.alone(team, run, cancel).await;
        let done = match done {
            Ok(report) => self.roll_out(team, &report).await.map(|()| report),
            Err(error) => Err(error),
        };
        let problem = done.as_ref().err().map(ToString::to_string);
        self.end(team, id, problem).await;
        done
    }

    async fn run_plan(
        &self,
        folder: &Path,
        plan: Plan,
        gauge: &Gauge,
        cancel: &CancellationToken,
    ) -> Result<Report, LearnError> {
        let parts = &self.inner.parts;
        let turn = cancel.run_until_cancelled(self.inner.bench.lock()).await;
        let _bench = turn.ok_or(RunError::Cancelled)?;
        let tools = parts.workshop.tools().await.map_err(LearnError::Nothing)?;
        let work = run::Parts {
            base: tools.base,
            trainer: tools.trainer,
            loader: tools.loader,
            embedder: Arc::clone(&parts.embedder),
            clock: Arc::clone(&parts.clock),
        };
        Ok(run::go(folder, plan, &work, gauge, cancel).await?)
    }

    /// Waits until a run that was told to stop has.
    async fn stopped(&self, team: &str, id: Uuid) {
        loop {
            let gauge = self.teams().get(team).and_then(|work| {
                let now = work.now.as_ref().filter(|(now, ..)| *now == id);
                now.map(|(_, gauge, _)| Arc::clone(gauge))
            });
            let Some(gauge) = gauge else { return };
            gauge.tick().await;
        }
    }

    /// Removes a run's folder, unless it has a report.
    fn discard(&self, team: &str, id: Uuid) -> Result<(), LearnError> {
        let folder = self.folder(team, id);
        if Report::read(&folder)?.is_none() {
            remove(&folder)?;
        }
        Ok(())
    }

    /// All runs that have begun and not ended.
    fn broken_off(&self) -> Vec<(String, Uuid)> {
        let under_way = |(team, id): &(String, Uuid)| {
            let folder = self.folder(team, *id);
            folder.join("run.json").exists() && !folder.join("report.json").exists()
        };
        self.all().into_iter().filter(under_way).collect()
    }

    /// All runs that have a folder, with their teams.
    fn all(&self) -> Vec<(String, Uuid)> {
        let teams = names(&self.inner.parts.folder).into_iter();
        let teams = teams.filter_map(|name| name.strip_prefix("team-").map(str::to_owned));
        teams
            .flat_map(|team| {
                let runs = folders(&self.team_folder(&team));
                runs.into_iter().map(move |id| (team.clone(), id))
            })
            .collect()
    }

    fn teams(&self) -> MutexGuard<'_, HashMap<String, Work>> {
        self.inner.teams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
