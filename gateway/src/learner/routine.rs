//! Learning as a routine of downtime: whether there is something new to learn from, and a run to its end.

use async_trait::async_trait;
use habit_learning::examples::Shares;
use habit_learning::gate::Bounds;
use habit_learning::run::{self, Report, RunError};
use habit_memory::routines::Pace;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{LearnError, Learner, Wish, summary};
use crate::downtime::learn::Learnt;

impl Learner {
    /// Begins a run, or goes on with one that was broken off, and waits for its end.
    ///
    /// # Errors
    /// [`LearnError`]; [`RunError::Cancelled`] in it when `cancel` said so: then the same call goes on.
    pub async fn learn(&self, team: &str, cancel: &CancellationToken) -> Result<Report, LearnError> {
        let old = self
            .broken_off()
            .into_iter()
            .find(|(of, _)| of == team)
            .map(|(_, id)| id);
        let id = old.unwrap_or_else(Uuid::now_v7);
        let (gauge, own) = match self.claim(team, id).await {
            Ok(claimed) => claimed,
            Err(LearnError::Busy(other)) => return self.other(team, other, cancel).await,
            Err(error) => return Err(error),
        };
        let plan = match run::state::State::read(&self.folder(team, id)) {
            Ok(Some(state)) => Ok(state.plan),
            Ok(None) => self.plan(team, id, Wish::default()).await,
            Err(error) => Err(error.into()),
        };
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => {
                self.end(team, id, None).await;
                return Err(error);
            }
        };
        // A task of its own: who stops waiting must not leave the team marked as busy.
        let (learner, team, stop) = (self.clone(), team.to_owned(), own.clone());
        let task = async move { learner.work(&team, plan, &gauge, &own).await };
        let mut work = self.inner.parts.lifecycle.spawn(task);
        let done = tokio::select! {
            done = &mut work => done,
            () = cancel.cancelled() => {
                stop.cancel();
                work.await
            }
        };
        done.unwrap_or(Err(LearnError::Run(RunError::Cancelled)))
    }

    /// The report of a run that somebody else began, when it has ended.
    async fn other(&self, team: &str, id: Uuid, cancel: &CancellationToken) -> Result<Report, LearnError> {
        let ended = cancel.run_until_cancelled(self.stopped(team, id)).await;
        ended.ok_or(RunError::Cancelled)?;
        let report = Report::read(&self.folder(team, id))?;
        report.ok_or_else(|| LearnError::Nothing(format!("the run {id}, which was under way, came to no end")))
    }

    /// Examples of the team that no run has seen yet; 0 where that is too few to show anything, or nothing can be trained.
    ///
    /// # Errors
    /// [`LearnError`].
    pub async fn fresh(&self, team: &str) -> Result<usize, LearnError> {
        let parts = &self.inner.parts;
        if parts.workshop.served().await.is_err() {
            return Ok(0);
        }
        if self.broken_off().iter().any(|(of, _)| of == team) {
            return Ok(1);
        }
        let examples = self.material(team).await?.examples;
        if too_few(examples.len()).is_some() {
            return Ok(0);
        }
        let runs = self.runs(team).await?;
        let last = runs.iter().find(|run| run.report.is_some());
        let seen = last.map_or(0, |run| time(run.id));
        let new = examples.iter().filter(|one| one.from.iter().any(|id| time(*id) > seen));
        let serving = self.rollouts().state(team).serving;
        let anew = runs.iter().any(|run| run.forgotten > 0 && Some(run.id) == serving);
        Ok(new.count() + usize::from(anew))
    }

    /// Why there is no use in a run now, with the numbers.
    ///
    /// # Errors
    /// [`LearnError`].
    pub async fn idle(&self, team: &str) -> Result<String, LearnError> {
        if let Err(why) = self.inner.parts.workshop.served().await {
            return Ok(why);
        }
        match self.examples(team).await {
            Ok(examples) => Ok(too_few(examples.len()).unwrap_or_else(|| {
                let many = examples.len();
                format!("there is nothing new to learn from: the last run knew all {many} examples")
            })),
            Err(LearnError::Nothing(why)) => Ok(why),
            Err(error) => Err(error),
        }
    }
}

/// Why nothing could be shown with so many examples; `None` if it could.
fn too_few(examples: usize) -> Option<String> {
    let judging = (examples * Shares::default().gate).div_ceil(100);
    let least = Bounds::default().items;
    let why = || {
        format!(
            "of {examples} examples {judging} would be left to judge by, and fewer than {least} say nothing; give more \
             feedback"
        )
    };
    (judging < least).then(why)
}

#[async_trait]
impl crate::downtime::learn::Learner for Learner {
    async fn plan(&self, team: &str) -> Result<u64, String> {
        let fresh = self.fresh(team).await.map_err(|error| error.to_string())?;
        Ok(fresh as u64)
    }

    async fn idle(&self, team: &str) -> Result<String, String> {
        Self::idle(self, team).await.map_err(|error| error.to_string())
    }

    async fn learn(&self, team: &str, pace: &Pace) -> Result<Learnt, String> {
        let report = Self::learn(self, team, pace.stop()).await;
        let report = report.map_err(|error| error.to_string())?;
        let mut learnt = Learnt::default();
        learnt.findings.count("examples trained on", report.counts.train as u64);
        learnt.findings.count("examples judged by", report.counts.gate as u64);
        learnt
            .findings
            .note(format!("the run {}: {}", report.id, summary(&report)));
        if report.verdict.promote && report.model.is_some() {
            learnt.model = Some(report.id);
        }
        Ok(learnt)
    }
}

/// When a UUIDv7 was made, in Unix milliseconds.
fn time(id: Uuid) -> u128 {
    id.as_u128() >> 80
}
