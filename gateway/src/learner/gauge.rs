//! How far a run is, for whoever asks while it runs.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use habit_learning::run::{Phase, Watch};
use tokio::sync::Notify;

/// How far a run is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// What it does; `None` while it waits for another to end.
    pub phase: Option<Phase>,
    /// The number of the setting that is tried, from 1, and how many there are.
    pub setting: (usize, usize),
    /// Steps of the phase that are done.
    pub done: usize,
    /// Steps of the phase, about.
    pub steps: usize,
    /// What a person may want to know, such as the loss.
    pub note: String,
}

/// See the module.
pub struct Gauge {
    now: Mutex<Progress>,
    moved: Notify,
}

impl Default for Gauge {
    fn default() -> Self {
        Self {
            now: Mutex::new(Progress {
                phase: None,
                setting: (0, 0),
                done: 0,
                steps: 0,
                note: String::new(),
            }),
            moved: Notify::new(),
        }
    }
}

impl Gauge {
    /// As it is now.
    #[must_use]
    pub fn read(&self) -> Progress {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns when something may have changed.
    pub async fn tick(&self) {
        // A run that ends says nothing any more: looked at again soon.
        let _ = tokio::time::timeout(Duration::from_millis(50), self.moved.notified()).await;
    }

    fn change(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
        self.moved.notify_waiters();
    }
}

impl Watch for Gauge {
    fn phase(&self, phase: Phase, setting: (usize, usize), steps: usize) {
        self.change(|now| {
            *now = Progress {
                phase: Some(phase),
                setting,
                done: 0,
                steps,
                note: String::new(),
            };
        });
    }

    fn step(&self, done: usize, note: &str) {
        self.change(|now| {
            now.done = done;
            note.clone_into(&mut now.note);
        });
    }
}
