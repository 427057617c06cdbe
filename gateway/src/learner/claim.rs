//! Who trains a team: one run at a time, in this process and among those that share the database.

use std::sync::Arc;

use habit_learning::run::{Report, RunError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Gauge, LearnError, Learner};

/// The lease on a team's learning.
fn lease(team: &str) -> String {
    format!("learn:{team}")
}

impl Learner {
    /// Marks the team as busy, here and for other processes.
    pub(super) async fn claim(&self, team: &str, id: Uuid) -> Result<(Arc<Gauge>, CancellationToken), LearnError> {
        let claimed = self.mark(team, id)?;
        match self.inner.parts.leases.take(&lease(team)).await {
            Ok(true) => Ok(claimed),
            Ok(false) => {
                self.unmark(team, None);
                Err(LearnError::Elsewhere)
            }
            Err(error) => {
                self.unmark(team, None);
                Err(error.into())
            }
        }
    }

    /// The team is free again; `problem` says why its run failed.
    pub(super) async fn end(&self, team: &str, id: Uuid, problem: Option<String>) {
        // While the team is still marked: whoever marks it next takes the lease anew.
        self.inner.parts.leases.give_back(&lease(team)).await;
        self.unmark(team, problem.map(|problem| (id, problem)));
    }

    /// Does a run while the lease on its team is kept; it is stopped if another process has it.
    pub(super) async fn alone(
        &self,
        team: &str,
        run: impl Future<Output = Result<Report, LearnError>>,
        cancel: &CancellationToken,
    ) -> Result<Report, LearnError> {
        let mut run = std::pin::pin!(run);
        let name = lease(team);
        tokio::select! {
            done = &mut run => return done,
            () = self.inner.parts.leases.keep(&name) => cancel.cancel(),
        }
        match run.await {
            Err(LearnError::Run(RunError::Cancelled)) => Err(LearnError::Elsewhere),
            done => done,
        }
    }

    fn mark(&self, team: &str, id: Uuid) -> Result<(Arc<Gauge>, CancellationToken), LearnError> {
        let mut teams = self.teams();
        let work = teams.entry(team.to_owned()).or_default();
        if let Some((now, ..)) = &work.now {
            return Err(LearnError::Busy(*now));
        }
        let gauge = Arc::new(Gauge::default());
        let cancel = self.inner.parts.lifecycle.soft().child_token();
        work.now = Some((id, Arc::clone(&gauge), cancel.clone()));
        Ok((gauge, cancel))
    }

    fn unmark(&self, team: &str, failed: Option<(Uuid, String)>) {
        let mut teams = self.teams();
        let work = teams.entry(team.to_owned()).or_default();
        work.now = None;
        work.failed = failed.or(work.failed.take());
    }
}
