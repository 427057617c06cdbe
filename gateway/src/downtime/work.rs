//! The work itself: who does it, when, and that everyone else goes first.

use std::sync::Arc;
use std::time::Duration;

use habit_memory::MemoryError;
use habit_memory::routines::{Pace, Run, Status};

use super::{Current, Downtime, due, learn};
use crate::lease::RENEW;

/// How often it is looked whether someone is to go first.
const LOOK: Duration = Duration::from_millis(100);

/// How often it is looked whether there is something to do, if nobody says so, and what other gateways changed.
const TICK: Duration = Duration::from_secs(2);

/// After the last reply work waits so long: more may follow.
const SETTLE_MS: i64 = 1_000;

/// The lease of who does the work.
const LEASE: &str = "downtime";

impl Downtime {
    /// Does what is to be done, until the process ends. What an earlier one left unfinished is first.
    pub async fn work(self) {
        let stop = self.inner.parts.stop.clone();
        let all = async { tokio::join!(self.look(), self.keep_lease(), self.follow(), self.rounds()) };
        stop.run_until_cancelled(all).await;
        let leads = self.lock().leads;
        if leads {
            // A child that stands still could not end.
            self.inner.parts.traffic.hold(false);
            self.inner.parts.leases.give_back(LEASE).await;
        }
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
            let leads = parts.leases.take(LEASE).await;
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

    /// Hears which models serve which teams, where another gateway changes that; also while work is under way here.
    async fn follow(&self) {
        let Some(variants) = &self.inner.parts.variants else {
            return;
        };
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            if let Err(error) = variants.rollouts().refresh().await {
                tracing::warn!("{error}");
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
                tracing::debug!(run = %run.id, "the routine `{}` is done", run.routine);
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
}
