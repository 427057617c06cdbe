//! Downtime: runs of routines while nobody waits. One process of those that share a database does them, one run at a time;
//! between two steps it lets everyone go first who asks something, and a child process that computes stands still
//! meanwhile. What a routine does is its own business (`habit_memory::routines`, [`learn`]).
//!
//! When something is due is in [`due`], whether anyone is waited for in [`traffic`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use habit_memory::MemoryError;
use habit_memory::clock::Clock;
use habit_memory::facts::Facts;
use habit_memory::journal::Journal;
use habit_memory::routines::{Pace, Reach, Run, Runner, Status, Target};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config;
use crate::turn::variant::Variants;

pub mod due;
pub mod learn;
pub mod traffic;
pub mod tune;

use self::traffic::Traffic;

/// How often it is looked whether someone is to go first.
const LOOK: Duration = Duration::from_millis(100);

/// How often it is looked whether there is something to do, if nobody says so.
const TICK: Duration = Duration::from_secs(2);

/// After the last reply work waits so long: more may follow.
const SETTLE_MS: i64 = 1_000;

/// The lease of who does the work, and how long it is held without a word.
const LEASE: &str = "downtime";
const LEASE_MS: i64 = 30_000;

/// How often the lease is renewed.
const RENEW: Duration = Duration::from_secs(8);

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
    /// This process, among those that share a database: the same after a restart, so that nobody waits for a lease of the
    /// dead.
    pub holder: String,
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

    /// Does what is to be done, until the process ends. What an earlier one left unfinished is first.
    pub async fn work(self) {
        let stop = self.inner.parts.stop.clone();
        let all = async { tokio::join!(self.look(), self.keep_lease(), self.rounds()) };
        stop.run_until_cancelled(all).await;
        let leads = self.lock().leads;
        if leads {
            // A child that stands still could not end.
            self.inner.parts.traffic.hold(false);
            if let Err(error) = self
                .inner
                .parts
                .runner
                .runs()
                .release(LEASE, &self.inner.parts.holder)
                .await
            {
                tracing::debug!("the lease on downtime ends by itself: {error}");
            }
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

    /// Looks whether someone is to go first, ten times a second.
    async fn look(&self) {
        let parts = &self.inner.parts;
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        // The process's own time: the clock may stand still.
        let mut quiet = None::<tokio::time::Instant>;
        loop {
            ticks.tick().await;
            let begun = parts.traffic.begun();
            let busy = {
                let mut now = self.lock();
                let busy = parts.traffic.is_busy() || begun != now.begun;
                if busy {
                    now.active_at = parts.clock.now_ms();
                    now.begun = begun;
                }
                busy
            };
            let go = if busy {
                quiet = Some(tokio::time::Instant::now());
                false
            } else {
                let settle = Duration::from_millis(SETTLE_MS.unsigned_abs());
                quiet.is_none_or(|since| since.elapsed() >= settle)
            };
            if self.inner.go.send_if_modified(|old| std::mem::replace(old, go) != go) {
                let traffic = Arc::clone(&parts.traffic);
                // Listing processes blocks.
                if let Err(error) = tokio::task::spawn_blocking(move || traffic.hold(!go)).await {
                    tracing::warn!("work outside of this process was not told to wait or to go on: {error}");
                }
            }
        }
    }

    async fn keep_lease(&self) {
        let parts = &self.inner.parts;
        let mut ticks = tokio::time::interval(RENEW);
        loop {
            ticks.tick().await;
            let now = parts.clock.now_ms();
            let until = now.saturating_add(LEASE_MS);
            let leads = parts.runner.runs().lease(LEASE, &parts.holder, now, until).await;
            let leads = leads.unwrap_or_else(|error| {
                tracing::warn!("nobody knows who does the work of downtime: {error}");
                false
            });
            let mut now = self.lock();
            if now.leads && !leads {
                // Another took it: this process was away for too long. The run is the other's now.
                now.current.iter().for_each(|current| current.stop.cancel());
            }
            let new = leads && !now.leads;
            now.leads = leads;
            drop(now);
            if new {
                self.inner.wake.notify_one();
            }
        }
    }

    async fn rounds(&self) {
        loop {
            let woken = tokio::time::timeout(TICK, self.inner.wake.notified());
            // Either way: it is time to look.
            let _ = woken.await;
            if let Err(error) = self.round().await {
                tracing::warn!("downtime waits, since something is wrong: {error}");
            }
        }
    }

    async fn round(&self) -> Result<(), MemoryError> {
        let parts = &self.inner.parts;
        if let Some(variants) = &parts.variants
            && let Err(error) = variants.rollouts().refresh().await
        {
            tracing::warn!("{error}");
        }
        loop {
            if !self.lock().leads {
                return Ok(());
            }
            self.graduate().await;
            let mut open = parts.runner.runs().open().await?;
            let next = if open.is_empty() {
                self.due().await?
            } else {
                Some(open.swap_remove(0))
            };
            let Some(run) = next else { return Ok(()) };
            self.done(run).await;
            if parts.stop.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Does a run to its end, or until it is to stop.
    async fn done(&self, mut run: Run) {
        let stop = self.inner.parts.stop.child_token();
        self.lock().current = Some(Current {
            run: run.clone(),
            stop: stop.clone(),
        });
        let mut pace = Pace::new(self.inner.go.subscribe(), stop.clone());
        let result = self.steps(&mut run, &mut pace).await;
        let leads = {
            let mut now = self.lock();
            now.current = None;
            now.leads
        };
        let ended = match result {
            // The next start, or who leads now, goes on with it.
            _ if self.inner.parts.stop.is_cancelled() || !leads => return,
            Ok(true) => return,
            Ok(false) if run.status == Status::Undoing => return,
            Ok(false) => self.runner().stop(&mut run, Status::Cancelled, "cancelled").await,
            Err(_) if stop.is_cancelled() => self.runner().stop(&mut run, Status::Cancelled, "cancelled").await,
            Err(error) => {
                tracing::warn!(run = %run.id, "the routine `{}` failed: {error}", run.routine);
                self.runner()
                    .stop(&mut run, Status::Failed, &format!("failed: {error}"))
                    .await
            }
        };
        if let Err(error) = ended {
            tracing::warn!(run = %run.id, "how a run ended can't be written, it is taken up again: {error}");
        }
    }

    /// Whether it came to its end.
    async fn steps(&self, run: &mut Run, pace: &mut Pace) -> Result<bool, MemoryError> {
        let runner = self.runner();
        if run.status == Status::Undoing {
            runner.undo(run, pace).await?;
            return Ok(run.status == Status::Undone);
        }
        if !pace.ready().await {
            return Ok(false);
        }
        runner.take_up(run).await?;
        loop {
            self.show(run);
            if !pace.ready().await {
                return Ok(false);
            }
            if runner.advance(run, pace).await? {
                tracing::info!(run = %run.id, "the routine `{}` is done", run.routine);
                return Ok(true);
            }
        }
    }

    fn show(&self, run: &Run) {
        if let Some(current) = &mut self.lock().current {
            current.run = run.clone();
        }
    }

    /// The next run that is due by itself.
    async fn due(&self) -> Result<Option<Run>, MemoryError> {
        let parts = &self.inner.parts;
        let (now, active_at) = (parts.clock.now_ms(), self.lock().active_at);
        let Some(cause) = due::cause(&parts.config, now, active_at) else {
            return Ok(None);
        };
        let latest = parts.runner.runs().latest().await?;
        for routine in parts.runner.routines() {
            if routine.name() == learn::NAME && !parts.config.learn {
                continue;
            }
            for target in self.targets(routine.reach()).await? {
                let last = latest.get(&(routine.name().to_owned(), target.clone())).copied();
                if due::is_due(&parts.config, now, last) {
                    return Ok(Some(parts.runner.ask(routine.name(), &target, cause).await?));
                }
            }
        }
        Ok(None)
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

    /// Ends trials whose time is over.
    async fn graduate(&self) {
        let parts = &self.inner.parts;
        let Some(variants) = &parts.variants else { return };
        let since = parts
            .clock
            .now_ms()
            .saturating_sub(i64::from(parts.rollout.canary_hours) * 3_600_000);
        for team in variants.rollouts().teams() {
            match variants.rollouts().graduate(&team, since).await {
                Ok(Some(entry)) => tracing::info!(team, model = %entry.model, "{}", entry.what),
                Ok(None) => {}
                Err(error) => tracing::warn!(team, "a trial could not be ended: {error}"),
            }
        }
    }

    /// Nothing panics with the lock held.
    fn lock(&self) -> std::sync::MutexGuard<'_, Now> {
        self.inner.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
