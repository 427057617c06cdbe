//! Doing runs: every change is written down before it is made, and noted as made after; what a crash leaves in between is
//! made (again) when the run goes on, which a routine's laws make safe.

use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use super::{Change, Pace, Routine, Run, Status, Target};
use crate::clock::Clock;
use crate::error::MemoryError;
use crate::store::sea::{INTENDED, MADE, Runs, UNDONE};

/// Changes that are made or taken back between two looks at who waits.
const AT_ONCE: u64 = 64;

/// See the module; cheap to clone.
#[derive(Clone)]
pub struct Runner {
    runs: Runs,
    routines: Arc<Vec<Arc<dyn Routine>>>,
    clock: Arc<dyn Clock>,
}

impl Runner {
    /// Of these routines.
    #[must_use]
    pub fn new(runs: Runs, routines: Vec<Arc<dyn Routine>>, clock: Arc<dyn Clock>) -> Self {
        Self {
            runs,
            routines: Arc::new(routines),
            clock,
        }
    }

    /// With one more routine, done after the others.
    #[must_use]
    pub fn with(self, routine: Arc<dyn Routine>) -> Self {
        let mut routines = self.routines.to_vec();
        routines.push(routine);
        Self {
            routines: Arc::new(routines),
            ..self
        }
    }

    /// The routines, in the order in which they are done.
    #[must_use]
    pub fn routines(&self) -> &[Arc<dyn Routine>] {
        &self.routines
    }

    /// Where runs are kept.
    #[must_use]
    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    /// A routine by its name.
    ///
    /// # Errors
    /// [`MemoryError::BadRequest`] names those that there are.
    pub fn routine(&self, name: &str) -> Result<&Arc<dyn Routine>, MemoryError> {
        let found = self.routines.iter().find(|routine| routine.name() == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.routines.iter().map(|routine| routine.name()).collect();
            MemoryError::BadRequest(format!("there is no routine `{name}`; there are: {}", names.join(", ")))
        })
    }

    /// Writes down that a routine is to be done.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub async fn ask(&self, routine: &str, target: &Target, cause: &str) -> Result<Run, MemoryError> {
        self.routine(routine)?;
        let now = self.clock.now_ms();
        let run = Run {
            id: Uuid::now_v7(),
            routine: routine.to_owned(),
            target: target.clone(),
            status: Status::Waiting,
            cause: cause.to_owned(),
            cursor: Value::Null,
            done: 0,
            total: 0,
            findings: super::Findings::default(),
            started_at: now,
            ended_at: None,
        };
        self.runs.add(&run, now).await?;
        Ok(run)
    }

    /// Makes a run ready to go on: what was written down and perhaps not made is made.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub async fn take_up(&self, run: &mut Run) -> Result<(), MemoryError> {
        let routine = Arc::clone(self.routine(&run.routine)?);
        if run.cursor.is_null() {
            run.total = routine.plan(&run.target).await?.total;
        }
        run.status = Status::Running;
        run.ended_at = None;
        self.runs.put(run, self.clock.now_ms()).await?;
        loop {
            let left = self.runs.changes(run.id, Some(INTENDED), AT_ONCE).await?;
            if left.is_empty() {
                return Ok(());
            }
            let left: Vec<Change> = left.into_iter().map(|made| made.change).collect();
            self.make(&*routine, run, &left).await?;
        }
    }

    /// One step; whether the run is at its end.
    ///
    /// # Errors
    /// [`MemoryError`]; the run is where it was before.
    pub async fn advance(&self, run: &mut Run, pace: &Pace) -> Result<bool, MemoryError> {
        let routine = Arc::clone(self.routine(&run.routine)?);
        let step = routine.step(&run.target, &run.cursor, pace).await?;
        self.runs.intend(run.id, &step.changes, self.clock.now_ms()).await?;
        self.make(&*routine, run, &step.changes).await?;
        let now = self.clock.now_ms();
        if step.afresh {
            (run.done, run.findings) = (0, super::Findings::default());
        }
        run.done = run.done.saturating_add(step.done);
        run.total = run.total.max(run.done);
        run.findings.take(step.findings);
        let finished = step.next.is_none();
        if let Some(next) = step.next {
            run.cursor = next;
        } else {
            run.status = Status::Finished;
            run.total = run.done;
            run.ended_at = Some(now);
        }
        self.runs.put(run, now).await?;
        Ok(finished)
    }

    /// Ends a run before its end.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn stop(&self, run: &mut Run, status: Status, why: &str) -> Result<(), MemoryError> {
        let now = self.clock.now_ms();
        run.status = status;
        run.cause = format!("{}; {why}", run.cause);
        run.ended_at = Some(now);
        self.runs.put(run, now).await
    }

    /// Lets a run wait for its turn again, from where it stopped.
    ///
    /// # Errors
    /// [`MemoryError::BadRequest`] if it is at its end.
    pub async fn resume(&self, run: &mut Run) -> Result<(), MemoryError> {
        if !matches!(run.status, Status::Cancelled | Status::Failed) {
            let message = "only a run that was cancelled, or that failed, can be resumed".to_owned();
            return Err(MemoryError::BadRequest(message));
        }
        run.status = Status::Waiting;
        run.ended_at = None;
        self.runs.put(run, self.clock.now_ms()).await
    }

    /// Writes down that a run is to be taken back.
    ///
    /// # Errors
    /// [`MemoryError::BadRequest`] if it is under way, or was taken back.
    pub async fn ask_undo(&self, run: &mut Run) -> Result<(), MemoryError> {
        let message = match run.status {
            Status::Waiting | Status::Running => "the run is under way; cancel it first, then undo it",
            Status::Undone => "the run was undone already",
            Status::Cancelled | Status::Failed | Status::Finished | Status::Undoing => {
                run.status = Status::Undoing;
                run.ended_at = None;
                return self.runs.put(run, self.clock.now_ms()).await;
            }
        };
        Err(MemoryError::BadRequest(message.to_owned()))
    }

    /// Takes back all that a run changed, the last first. Done again after a crash, it goes on.
    ///
    /// # Errors
    /// As [`Runner::ask_undo`]; [`MemoryError`].
    pub async fn undo(&self, run: &mut Run, pace: &mut Pace) -> Result<u64, MemoryError> {
        let routine = Arc::clone(self.routine(&run.routine)?);
        self.ask_undo(run).await?;
        let mut undone = 0;
        // What was written down and perhaps not made is undone as well.
        for status in [INTENDED, MADE] {
            loop {
                if !pace.ready().await {
                    return Ok(undone);
                }
                let mut made = self.runs.changes(run.id, Some(status), u64::from(u32::MAX)).await?;
                let first = made
                    .len()
                    .saturating_sub(usize::try_from(AT_ONCE).unwrap_or(usize::MAX));
                let last = made.split_off(first);
                if last.is_empty() {
                    break;
                }
                for one in last.iter().rev() {
                    routine.undo(&run.target, &one.change).await?;
                    undone += 1;
                }
                let ids: Vec<Uuid> = last.iter().map(|one| one.change.id).collect();
                self.runs.mark(run.id, &ids, UNDONE).await?;
            }
        }
        run.status = Status::Undone;
        run.ended_at = Some(self.clock.now_ms());
        self.runs.put(run, self.clock.now_ms()).await?;
        Ok(undone)
    }

    async fn make(&self, routine: &dyn Routine, run: &Run, changes: &[Change]) -> Result<(), MemoryError> {
        for change in changes {
            routine.apply(&run.target, change).await?;
        }
        let ids: Vec<Uuid> = changes.iter().map(|change| change.id).collect();
        self.runs.mark(run.id, &ids, MADE).await
    }
}
