//! Long work shown in the terminal: a bar where there is one, a line where the output goes to a file.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use habit_engine::models::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// Bars on standard error.
#[derive(Default)]
pub struct Bars {
    now: Mutex<Option<ProgressBar>>,
}

impl Progress for Bars {
    fn begin(&self, label: &str, total: Option<u64>) {
        if !std::io::stderr().is_terminal() {
            eprintln!("{label} …");
            return;
        }
        let bar = bar(label, total, "{bytes}/{total_bytes} {bytes_per_sec} {eta}");
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
    }

    fn advance(&self, n: u64) {
        if let Some(bar) = self.now.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            bar.inc(n);
        }
    }

    fn end(&self) {
        if let Some(bar) = self.now.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}

/// A bar that counts things; hidden by itself where there is no terminal.
#[must_use]
pub fn counting(label: &str, total: u64) -> ProgressBar {
    bar(label, Some(total), "{pos}/{len}")
}

fn bar(label: &str, total: Option<u64>, figures: &str) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), format!("{{msg}} [{{bar:30}}] {figures}")),
        None => (ProgressBar::new_spinner(), "{msg} {spinner} {bytes}".to_owned()),
    };
    bar.enable_steady_tick(Duration::from_millis(200));
    let style = ProgressStyle::with_template(&template);
    let bar = bar.with_message(label.to_owned());
    match style {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        // A bad template would be a bug of ours, but not one to fail a download for.
        Err(_) => bar,
    }
}
