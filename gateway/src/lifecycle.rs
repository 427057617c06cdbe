//! How the process ends: first softly (nothing new is taken, running replies finish), then, when the grace period is
//! over or someone insists, at once. Every background task belongs to the tracker, so none is cut off unseen.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Time for the records of replies that were cut off at the end of the grace period.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// Shutdown signals and tasks of one running application; cheap to clone.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    tracker: TaskTracker,
    grace: Duration,
}

impl Lifecycle {
    /// A running application that may take `grace` to finish what it has begun.
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        Self {
            soft: CancellationToken::new(),
            hard: CancellationToken::new(),
            tracker: TaskTracker::new(),
            grace,
        }
    }

    /// Cancelled when nothing new should be begun.
    #[must_use]
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when everything must stop now.
    #[must_use]
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    /// Where tasks are counted that the end of the process waits for: for parts that spawn their own.
    #[must_use]
    pub fn tracker(&self) -> TaskTracker {
        self.tracker.clone()
    }

    /// Runs a task that the end of the process waits for.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(task)
    }

    /// Stops in order: soft, then as long as the grace period for tracked tasks, then hard. `insist` (a second signal)
    /// ends the grace period early. Returns whether everything finished by itself.
    pub async fn shut_down(&self, insist: impl Future<Output = ()>) -> bool {
        self.soft.cancel();
        self.tracker.close();
        let finished = tokio::select! {
            () = self.tracker.wait() => true,
            () = tokio::time::sleep(self.grace) => false,
            () = insist => false,
        };
        self.hard.cancel();
        // Connections that were just dropped record what they had sent: that is short, and must not be lost.
        if tokio::time::timeout(LAST_WRITES, self.tracker.wait()).await.is_err() {
            tracing::warn!("stopped while {} tasks were still running", self.tracker.len());
        }
        finished
    }
}

/// Resolves at the next SIGTERM or SIGINT (Ctrl-C).
///
/// # Errors
/// If the process can't listen for signals.
pub fn signals() -> std::io::Result<Signals> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }
    #[cfg(not(unix))]
    {
        Ok(Signals {})
    }
}

/// Resolves at every SIGHUP; never where there is no such signal.
///
/// # Errors
/// If the process can't listen for it.
pub fn hangups() -> std::io::Result<Hangups> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Hangups {
            hup: signal(SignalKind::hangup())?,
        })
    }
    #[cfg(not(unix))]
    {
        Ok(Hangups {})
    }
}

/// See [`hangups`].
#[derive(Debug)]
pub struct Hangups {
    #[cfg(unix)]
    hup: tokio::signal::unix::Signal,
}

impl Hangups {
    /// Waits for the next one.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        if self.hup.recv().await.is_some() {
            return;
        }
        std::future::pending::<()>().await;
    }
}

/// See [`signals`].
#[derive(Debug)]
pub struct Signals {
    #[cfg(unix)]
    term: tokio::signal::unix::Signal,
    #[cfg(unix)]
    int: tokio::signal::unix::Signal,
}

impl Signals {
    /// Waits for the next one.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_for_tasks_within_the_grace_period() {
        let lifecycle = Lifecycle::new(Duration::from_mins(1));
        let soft = lifecycle.soft().clone();
        let task = lifecycle.spawn(async move {
            soft.cancelled().await;
            7
        });
        assert!(lifecycle.shut_down(std::future::pending()).await);
        assert_eq!(task.await.ok(), Some(7));
    }

    #[tokio::test]
    async fn a_second_signal_ends_the_grace_period() {
        let lifecycle = Lifecycle::new(Duration::from_hours(1));
        let hard = lifecycle.hard().clone();
        lifecycle.spawn(async move { hard.cancelled().await });
        assert!(!lifecycle.shut_down(std::future::ready(())).await);
    }
}
