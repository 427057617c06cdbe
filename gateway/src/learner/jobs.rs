//! Fine-tuning from files: a training of its own for each job, whose model is served under its own name to its team. What
//! OpenAI's clients see of it is in [`crate::api::fine_tuning`]; the training is a learning run with given examples
//! ([`habit_learning::run`]), which is told by its report but not judged by it.
//!
//! A job is a folder: `job.json` says whose it is and how it stands, the rest is the run's. It survives a restart.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use habit_engine::fleet::Fleet;
use habit_learning::curator::Forgotten;
use habit_learning::examples::{Example, Shares};
use habit_learning::run::state::State;
use habit_learning::run::{self, Plan, Report, RunError};
use habit_learning::trainer::Settings;
use habit_learning::{gate, general};
use habit_memory::{MemoryError, Scope};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::place::{ids, names, remove, storage};
use super::private::{self, Named};
use super::{Gauge, LearnError, Learner, Progress};

/// A job's own file.
const FILE: &str = "job.json";

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It waits, or trains.
    Running,
    /// Its model is served.
    Succeeded,
    /// It came to nothing.
    Failed,
    /// It was stopped.
    Cancelled,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// UUIDv7.
    pub id: Uuid,
    /// Whose it is.
    pub team: String,
    /// Whose it is.
    pub user: String,
    /// The model that it was made from.
    pub base: String,
    /// The name of what it makes.
    pub name: String,
    /// As it was asked for.
    pub suffix: Option<String>,
    /// The file of examples.
    pub training_file: String,
    /// The file of examples to measure by.
    pub validation_file: Option<String>,
    /// How to train.
    pub settings: Settings,
    /// Examples.
    pub examples: usize,
    /// Whatever its owner keeps with it.
    pub metadata: Map<String, Value>,
    /// How it stands.
    pub status: Status,
    /// Why it failed.
    pub problem: Option<String>,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub finished_at: Option<i64>,
}

/// A job, and how far it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The job.
    pub job: Job,
    /// How far it is; `None` if it does not run now.
    pub progress: Option<Progress>,
    /// What its run found.
    pub report: Option<Report>,
}

type Now = HashMap<Uuid, (Arc<Gauge>, CancellationToken)>;

/// See the module; cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    learner: Learner,
    fleet: Arc<Fleet>,
    now: Arc<Mutex<Now>>,
}

impl Jobs {
    /// Models that are made are served by this fleet.
    #[must_use]
    pub fn new(learner: Learner, fleet: Arc<Fleet>) -> Self {
        Self {
            learner,
            fleet,
            now: Arc::default(),
        }
    }

    /// The name of the model that jobs begin from.
    ///
    /// # Errors
    /// [`LearnError::Nothing`] if there is none.
    pub async fn base(&self) -> Result<String, LearnError> {
        let served = self.learner.inner.parts.workshop.served().await;
        Ok(served.map_err(LearnError::Nothing)?.name)
    }

    /// Begins a job; it goes on by itself. `measure` are examples to measure by, the newest of all if there are none.
    ///
    /// # Errors
    /// [`LearnError`]: nothing was begun.
    pub async fn create(&self, job: Job, train: Vec<Example>, measure: Vec<Example>) -> Result<Seen, LearnError> {
        let served = self.learner.inner.parts.workshop.served().await;
        let served = served.map_err(LearnError::Nothing)?;
        let (mut examples, mut shares) = (
            train,
            Shares {
                gate: 10,
                canary: 0,
                report: 0,
            },
        );
        if !measure.is_empty() {
            // Newer than all that is trained on, and just as many as there are.
            let gate = (measure.len() * 100).div_ceil(examples.len() + measure.len());
            shares.gate = gate;
            examples.extend(measure);
        }
        let plan = Plan {
            id: job.id,
            team: job.team.clone(),
            weights: served.weights,
            model_dir: served.model_dir,
            examples,
            shares,
            anchors: Vec::new(),
            general: general::SENTENCES.map(str::to_owned).to_vec(),
            grid: vec![job.settings.clone()],
            bounds: gate::Bounds::default(),
            keep: true,
            memory: None,
            threads: None,
        };
        // Written down before it waits, so that a restart goes on with it. The job's own file comes first: texts whose owner
        // nobody knows would never be erased.
        let state = State::new(plan, job.created_at)?;
        self.keep(&job)?;
        if let Err(error) = state.keep(&self.place(job.id)) {
            remove(&self.place(job.id))?;
            return Err(error.into());
        }
        self.spawn(job.clone(), state.plan);
        self.seen(job)
    }

    /// Goes on with what was broken off, and serves what was made; at the start.
    pub fn resume(&self) {
        for id in ids(&self.folder()) {
            let Ok(Some(job)) = self.read(id) else { continue };
            match job.status {
                Status::Running => match (State::read(&self.place(id)), Report::read(&self.place(id))) {
                    (Ok(Some(state)), _) => self.spawn(job, state.plan),
                    // The server ended between the run's end and the job's.
                    (_, Ok(Some(report))) => {
                        let jobs = self.clone();
                        let end = async move { jobs.end(job, Ok(report)).await };
                        drop(self.learner.inner.parts.lifecycle.spawn(end));
                    }
                    _ => {
                        let problem = "the server ended, and what the job was to train on is gone; create it again";
                        self.note(job, Status::Failed, Some(problem.to_owned()));
                    }
                },
                Status::Succeeded => {
                    let jobs = self.clone();
                    drop(self.learner.inner.parts.lifecycle.spawn(async move {
                        if let Err(error) = jobs.serve(&job).await {
                            tracing::warn!("the model {} is not served: {error}", job.name);
                        }
                    }));
                }
                // A server that ends right after it has noted the end leaves the rest.
                Status::Failed | Status::Cancelled => {
                    if let Err(error) = self.tidy(id) {
                        tracing::warn!("a fine-tuning job that has ended left something behind: {error}");
                    }
                }
            }
        }
    }

    /// This user's jobs, newest first.
    ///
    /// # Errors
    /// [`LearnError::Run`].
    pub fn list(&self, scope: &Scope) -> Result<Vec<Seen>, LearnError> {
        let mut jobs = Vec::new();
        for id in ids(&self.folder()).into_iter().rev() {
            if let Some(job) = self.read(id)?.filter(|job| owns(scope, job)) {
                jobs.push(self.seen(job)?);
            }
        }
        Ok(jobs)
    }

    /// One of them; `None` if this user has no such job.
    ///
    /// # Errors
    /// [`LearnError::Run`].
    pub fn get(&self, scope: &Scope, id: Uuid) -> Result<Option<Seen>, LearnError> {
        let job = self.read(id)?.filter(|job| owns(scope, job));
        job.map(|job| self.seen(job)).transpose()
    }

    /// Stops a job, if it runs; as it is then. `None` if this user has no such job.
    ///
    /// # Errors
    /// [`LearnError::Run`].
    pub async fn cancel(&self, scope: &Scope, id: Uuid) -> Result<Option<Seen>, LearnError> {
        let Some(seen) = self.get(scope, id)? else {
            return Ok(None);
        };
        if seen.job.status != Status::Running {
            return Ok(Some(seen));
        }
        self.stop(id).await;
        // It may have come to its end in the meantime.
        if let Some(job) = self.read(id)?.filter(|job| job.status == Status::Running) {
            self.finish(job, Status::Cancelled, None)?;
        }
        self.get(scope, id)
    }

    /// Removes all jobs of this user, their models and files.
    ///
    /// # Errors
    /// [`MemoryError::Storage`]: something is left.
    pub async fn erase(&self, scope: &Scope) -> Result<(), MemoryError> {
        for id in ids(&self.folder()) {
            let Some(job) = self.read(id).map_err(storage)?.filter(|job| owns(scope, job)) else {
                continue;
            };
            self.stop(id).await;
            remove(&self.place(id)).map_err(storage)?;
            drop(self.fleet.remove(&job.name));
        }
        Ok(())
    }

    /// Tells a job to stop, and waits until it has.
    async fn stop(&self, id: Uuid) {
        loop {
            let gauge = self.now().get(&id).map(|(gauge, cancel)| {
                cancel.cancel();
                Arc::clone(gauge)
            });
            let Some(gauge) = gauge else { return };
            gauge.tick().await;
        }
    }

    fn spawn(&self, job: Job, plan: Plan) {
        let gauge = Arc::new(Gauge::default());
        let cancel = self.learner.inner.parts.lifecycle.soft().child_token();
        self.now().insert(job.id, (Arc::clone(&gauge), cancel.clone()));
        let jobs = self.clone();
        drop(self.learner.inner.parts.lifecycle.spawn(async move {
            let id = job.id;
            jobs.work(job, plan, &gauge, &cancel).await;
            jobs.now().remove(&id);
        }));
    }

    async fn work(&self, job: Job, plan: Plan, gauge: &Gauge, cancel: &CancellationToken) {
        let done = self.learner.run_plan(&self.place(job.id), plan, gauge, cancel).await;
        self.end(job, done).await;
    }

    /// Serves what a run made, and notes how the job ended.
    async fn end(&self, job: Job, done: Result<Report, LearnError>) {
        let done = match done {
            Ok(report) if report.model.is_some() => self.serve(&job).await,
            Ok(report) => Err(LearnError::Nothing(report.verdict.reasons.join("; "))),
            // Whoever stopped it says how it stands; a server that ends leaves it to be gone on with.
            Err(LearnError::Run(RunError::Cancelled)) => return,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => self.note(job, Status::Succeeded, None),
            Err(error) => self.note(job, Status::Failed, Some(error.to_string())),
        }
    }

    /// Serves what a job made, under its own name.
    async fn serve(&self, job: &Job) -> Result<(), LearnError> {
        let tools = self
            .learner
            .inner
            .parts
            .workshop
            .tools()
            .await
            .map_err(LearnError::Nothing)?;
        let model = tools.loader.load(&self.place(job.id).join("model.gguf")).await;
        let model = model.map_err(LearnError::Nothing)?;
        let engine: Arc<dyn habit_engine::Engine> = Arc::new(Named::new(model.engine, &job.name));
        drop(self.fleet.replace(&job.name, &engine));
        // Whoever erased the job meanwhile did not find it served yet.
        if self.read(job.id)?.is_none() {
            drop(self.fleet.remove(&job.name));
        }
        Ok(())
    }

    /// Finishes a job where nobody waits to hear of an error.
    fn note(&self, job: Job, status: Status, problem: Option<String>) {
        if let Err(error) = self.finish(job, status, problem) {
            tracing::warn!("how a fine-tuning job ended could not be kept: {error}");
        }
    }

    /// Keeps how a job ended, and removes what only one under way needs.
    fn finish(&self, job: Job, status: Status, problem: Option<String>) -> Result<(), LearnError> {
        let finished_at = Some(self.learner.inner.parts.clock.now_ms());
        let job = Job {
            status,
            problem,
            finished_at,
            ..job
        };
        self.keep(&job)?;
        self.tidy(job.id)
    }

    /// Removes the texts and checkpoints of a job that has ended: all but its own file, where no report stands for the run.
    fn tidy(&self, id: Uuid) -> Result<(), LearnError> {
        let folder = self.place(id);
        if Report::read(&folder)?.is_some() {
            return Ok(run::tidy(&folder)?);
        }
        let mut rest = names(&folder).into_iter().filter(|name| name != FILE);
        Ok(rest.try_for_each(|name| remove(&folder.join(name)))?)
    }

    fn folder(&self) -> PathBuf {
        self.learner.inner.parts.folder.join("jobs")
    }

    fn place(&self, id: Uuid) -> PathBuf {
        self.folder().join(id.to_string())
    }

    fn read(&self, id: Uuid) -> Result<Option<Job>, LearnError> {
        let path = self.place(id).join(FILE);
        match std::fs::read(&path) {
            Ok(text) => Ok(serde_json::from_slice(&text)
                .map(Some)
                .map_err(|why| failed(path, "read", &why))?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(path, "read", &error).into()),
        }
    }

    /// Writes it whole or not at all.
    fn keep(&self, job: &Job) -> Result<(), LearnError> {
        let folder = self.place(job.id);
        let (path, beside) = (folder.join(FILE), folder.join("job.part"));
        let text = serde_json::to_vec_pretty(job).map_err(|error| failed(path.clone(), "written", &error))?;
        let written = std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&beside, text))
            .and_then(|()| std::fs::rename(&beside, &path));
        Ok(written.map_err(|error| failed(path, "written", &error))?)
    }

    fn seen(&self, job: Job) -> Result<Seen, LearnError> {
        Ok(Seen {
            progress: self.now().get(&job.id).map(|(gauge, _)| gauge.read()),
            report: Report::read(&self.place(job.id))?,
            job,
        })
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Jobs hold what their owner's files said.
#[async_trait]
impl Forgotten for Jobs {
    async fn forgotten(&self, scope: &Scope, erased: bool) -> Result<(), MemoryError> {
        if erased {
            return self.erase(scope).await;
        }
        Ok(())
    }
}

impl Job {
    /// A new one of this user.
    #[must_use]
    pub fn new(scope: &Scope, base: &str, suffix: Option<String>, now: i64) -> Self {
        let id = Uuid::now_v7();
        Self {
            id,
            team: scope.team().to_owned(),
            user: scope.user().to_owned(),
            name: private::name(scope.team(), base, suffix.as_deref().unwrap_or_default(), id),
            base: base.to_owned(),
            suffix,
            training_file: String::new(),
            validation_file: None,
            settings: Settings::default(),
            examples: 0,
            metadata: Map::new(),
            status: Status::Running,
            problem: None,
            created_at: now,
            finished_at: None,
        }
    }
}

fn owns(scope: &Scope, job: &Job) -> bool {
    scope.team() == job.team && scope.user() == job.user
}

fn failed(path: PathBuf, doing: &'static str, why: &dyn std::fmt::Display) -> RunError {
    RunError::Folder {
        path,
        doing,
        why: why.to_string(),
    }
}
