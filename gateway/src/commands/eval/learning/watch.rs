//! A run's phases as progress bars; as lines where the output goes to a file.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use habit_learning::run::{Phase, Watch};
use indicatif::ProgressBar;

use crate::commands::progress;

/// One bar at a time.
pub struct Bar {
    label: String,
    now: Mutex<Option<ProgressBar>>,
}

impl Bar {
    /// `label` says which run.
    #[must_use]
    pub fn new(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            now: Mutex::default(),
        }
    }

    /// Nothing more comes.
    pub fn end(&self) {
        if let Some(bar) = self.now.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}

impl Watch for Bar {
    fn phase(&self, phase: Phase, (setting, settings): (usize, usize), steps: usize) {
        self.end();
        let which = if settings > 1 {
            format!(" {setting}/{settings}")
        } else {
            String::new()
        };
        let label = format!("{}: {}{which}", self.label, phase.label());
        if !std::io::stderr().is_terminal() {
            eprintln!("{label} …");
        }
        let bar = progress::counting(&label, steps as u64);
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
    }

    fn step(&self, done: usize, note: &str) {
        if let Some(bar) = self.now.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            bar.set_position(done as u64);
            if !note.is_empty() {
                let label = bar.message();
                let label = label.split(" (").next().unwrap_or_default();
                bar.set_message(format!("{label} ({note})"));
            }
        }
    }
}
