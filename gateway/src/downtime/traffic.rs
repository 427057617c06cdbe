//! Whether anyone is waited for, and how work outside of this process stands still meanwhile.

use std::sync::{Arc, Mutex, PoisonError};

use habit_memory::indexer::Indexer;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, Signal, System, UpdateKind};

use crate::turn::running::Running;

/// See the module.
pub trait Traffic: Send + Sync {
    /// How many requests there were, ever.
    fn begun(&self) -> u64;

    /// Whether one is being answered.
    fn is_busy(&self) -> bool;

    /// Lets the processes that compute in the background stand still, or go on. Called when that changes.
    fn hold(&self, still: bool);
}

/// The turns of this process, and what its indexer has to do.
pub struct Turns {
    running: Running,
    indexer: Indexer,
    /// The children that stand still.
    held: Mutex<bool>,
}

impl Turns {
    /// These turns, this indexer.
    #[must_use]
    pub fn new(running: Running, indexer: Indexer) -> Arc<Self> {
        Arc::new(Self {
            running,
            indexer,
            held: Mutex::new(false),
        })
    }
}

impl Traffic for Turns {
    fn begun(&self) -> u64 {
        self.running.begun()
    }

    fn is_busy(&self) -> bool {
        self.running.is_busy() || self.indexer.lag() > 0
    }

    fn hold(&self, still: bool) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing of ours stands still that is to go on: the processes need not be listed.
        if still || *held {
            *held = signal_trainers(still) && still;
        }
    }
}

/// Whether there were any.
fn signal_trainers(still: bool) -> bool {
    let Ok(own) = sysinfo::get_current_pid() else {
        return false;
    };
    let mut system = System::new();
    let what = ProcessRefreshKind::nothing().with_cmd(UpdateKind::OnlyIfNotSet);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
    let trainer = std::ffi::OsStr::new(habit_learning::trainer::apart::COMMAND);
    let trainers = system
        .processes()
        .values()
        .filter(|process| process.parent() == Some(own) && process.cmd().iter().any(|word| word == trainer));
    let signal = if still { Signal::Stop } else { Signal::Continue };
    let mut any = false;
    for process in trainers {
        any = true;
        if process.kill_with(signal) != Some(true) {
            tracing::debug!(
                pid = process.pid().as_u32(),
                "a trainer could not be signalled; its priority is low"
            );
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use sysinfo::{Pid, ProcessStatus};

    use super::*;

    fn stands_still(pid: Pid) -> bool {
        let mut system = System::new();
        system.refresh_processes(ProcessesToUpdate::Some(&[pid]), true);
        system
            .process(pid)
            .is_some_and(|process| process.status() == ProcessStatus::Stop)
    }

    fn within_a_second(what: impl Fn() -> bool) -> bool {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(1) {
            if what() {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    #[test]
    fn a_trainer_stands_still_within_a_second_and_goes_on() {
        let mut command = Command::new("sh");
        command.args(["-c", "read line", habit_learning::trainer::apart::COMMAND]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_u32(child.id());
        assert!(within_a_second(|| signal_trainers(true) && stands_still(pid)));
        assert!(within_a_second(|| signal_trainers(false) && !stands_still(pid)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
