//! Downtime: runs of routines while nobody waits. One process of those that share a database does them, one run at a time;
//! between two steps it lets everyone go first who asks something, and a child process that computes stands still
//! meanwhile. What a routine does is its own business (`habit_memory::routines`, [`learn`]).
//!
//! The work itself is in `work`, when something is due in [`due`], whether anyone is waited for in [`traffic`].

use std::sync::{Arc, Mutex, PoisonError};

use habit_memory::MemoryError;
use habit_memory::clock::Clock;
use habit_memory::facts::Facts;
use habit_memory::journal::Journal;
use habit_memory::routines::{Reach, Run, Runner, Status, Target};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config;
use crate::lease::Leases;
use crate::turn::variant::Variants;

pub mod due;
pub mod learn;
pub mod traffic;
pub mod tune;
mod work;

use self::traffic::Traffic;

/// What it is built on.
pub struct DowntimeParts {
    /// Does runs.
    pub runner: Runner,
    /// Who has turns and documents.
    pub journal: Arc<dyn Journal>,
    /// Who has facts.
    pub facts: Arc<dyn Facts>,
    /// Whether anyone is waited for.
    pub traffic: Arc<dyn Traffic>,
    /// Teams' own models, whose trials end here.
    pub variants: Option<Variants>,
    /// When.
    pub config: config::Downtime,
    /// How long a trial takes.
    pub rollout: config::Rollout,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// What it holds among the processes that share a database.
    pub leases: Leases,
    /// Ends it.
    pub stop: CancellationToken,
}

/// See the module; cheap to clone.
#[derive(Clone)]
pub struct Downtime {
    inner: Arc<Inner>,
}

struct Inner {
    parts: DowntimeParts,
    now: Mutex<Now>,
    wake: Notify,
    go: watch::Sender<bool>,
}

struct Now {
    leads: bool,
    current: Option<Current>,
    active_at: i64,
    begun: u64,
}

struct Current {
    run: Run,
    stop: CancellationToken,
}

/// How things are.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Whether this process does the work.
    pub leads: bool,
    /// Whether work waits for requests now.
    pub yields: bool,
    /// Since when nobody was waited for, in Unix milliseconds.
    pub quiet_since: i64,
    /// What is being done.
    pub current: Option<Run>,
    /// What is to be done, in order.
    pub waiting: Vec<Run>,
}

impl Downtime {
    /// Over these parts; [`Downtime::work`] does the work.
    #[must_use]
    pub fn new(parts: DowntimeParts) -> Self {
        let now = Now {
            leads: false,
            current: None,
            active_at: parts.clock.now_ms(),
            begun: parts.traffic.begun(),
        };
        Self {
            inner: Arc::new(Inner {
                parts,
                now: Mutex::new(now),
                wake: Notify::new(),
                go: watch::Sender::new(true),
            }),
        }
    }

    /// What is done and known.
    #[must_use]
    pub fn runner(&self) -> &Runner {
        &self.inner.parts.runner
    }

    /// How things are, as this team may see it.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn report(&self, team: &str) -> Result<Report, MemoryError> {
        let open = self.runner().runs().open().await?;
        let seen = |run: &Run| run.target.team.as_deref().is_none_or(|own| own == team);
        let now = self.lock();
        let current = now.current.as_ref().map(|current| current.run.clone());
        let waiting = open
            .into_iter()
            .filter(|run| seen(run) && current.as_ref().is_none_or(|current| current.id != run.id));
        Ok(Report {
            leads: now.leads,
            yields: !*self.inner.go.borrow(),
            quiet_since: now.active_at,
            waiting: waiting.collect(),
            current: current.filter(seen),
        })
    }

    /// Asks for runs now: of one routine or all of them, for one user of the team or for everyone in it. What waits
    /// already is not asked for twice.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub async fn ask(
        &self,
        team: &str,
        routine: Option<&str>,
        user: Option<&str>,
        cause: &str,
    ) -> Result<Vec<Run>, MemoryError> {
        let runner = self.runner();
        if let Some(name) = routine {
            runner.routine(name)?;
        }
        let open = runner.runs().open().await?;
        let mut runs = Vec::new();
        for one in runner
            .routines()
            .iter()
            .filter(|one| routine.is_none_or(|name| one.name() == name))
        {
            for target in self.targets(one.reach()).await? {
                let own = target.team.as_deref().is_none_or(|own| own == team);
                let wanted = user.is_none() || target.user.is_none() || target.user.as_deref() == user;
                if !own || !wanted {
                    continue;
                }
                let waits = open
                    .iter()
                    .find(|run| run.routine == one.name() && run.target == target);
                runs.push(match waits {
                    Some(run) => run.clone(),
                    None => runner.ask(one.name(), &target, cause).await?,
                });
            }
        }
        self.inner.wake.notify_one();
        Ok(runs)
    }

    /// A run that this team may see, as it is now.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`], [`MemoryError::Storage`].
    pub async fn run(&self, team: &str, id: Uuid) -> Result<Run, MemoryError> {
        let found = self.runner().runs().get(Some(team), id).await?;
        let unknown = || MemoryError::NotFound(format!("there is no run {id}; GET /v1/downtime/runs lists them"));
        found.ok_or_else(unknown)
    }

    /// Stops a run, after the step that it is in. It can be resumed.
    ///
    /// # Errors
    /// As [`Downtime::run`]; [`MemoryError::BadRequest`] if it is at its end.
    pub async fn cancel(&self, team: &str, id: Uuid) -> Result<Run, MemoryError> {
        let mut run = self.run(team, id).await?;
        if !matches!(run.status, Status::Waiting | Status::Running) {
            return Err(MemoryError::BadRequest(
                "only a run that waits or is under way can be cancelled".to_owned(),
            ));
        }
        let doing = {
            let now = self.lock();
            let current = now.current.as_ref().filter(|current| current.run.id == id);
            current.inspect(|current| current.stop.cancel()).is_some()
        };
        if doing {
            // A child that stands still could not end.
            self.inner.parts.traffic.hold(false);
        } else {
            self.runner().stop(&mut run, Status::Cancelled, "cancelled").await?;
        }
        Ok(run)
    }

    /// Lets a run that was cancelled, or that failed, go on where it stopped.
    ///
    /// # Errors
    /// As [`Downtime::run`]; [`MemoryError::BadRequest`] if there is nothing to go on with.
    pub async fn resume(&self, team: &str, id: Uuid) -> Result<Run, MemoryError> {
        let mut run = self.run(team, id).await?;
        self.runner().resume(&mut run).await?;
        self.inner.wake.notify_one();
        Ok(run)
    }

    /// Has all taken back that a run changed.
    ///
    /// # Errors
    /// As [`Downtime::run`]; [`MemoryError::BadRequest`] if it is under way or was undone.
    pub async fn undo(&self, team: &str, id: Uuid) -> Result<Run, MemoryError> {
        let mut run = self.run(team, id).await?;
        self.runner().ask_undo(&mut run).await?;
        self.inner.wake.notify_one();
        Ok(run)
    }

    async fn targets(&self, reach: Reach) -> Result<Vec<Target>, MemoryError> {
        if reach == Reach::Everyone {
            return Ok(vec![Target::default()]);
        }
        let mut owners = self.inner.parts.journal.owners().await?;
        owners.extend(self.inner.parts.facts.owners().await?);
        let target = |scope: &habit_memory::Scope| match reach {
            Reach::User => Target::user(scope),
            Reach::Team | Reach::Everyone => Target::team(scope.team()),
        };
        let mut targets: Vec<Target> = owners.iter().map(target).collect();
        targets.sort_by(|a, b| (&a.team, &a.user).cmp(&(&b.team, &b.user)));
        targets.dedup();
        Ok(targets)
    }

    /// Nothing panics with the lock held.
    fn lock(&self) -> std::sync::MutexGuard<'_, Now> {
        self.inner.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
