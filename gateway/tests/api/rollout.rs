//! What happens while nobody waits, and what comes of it: routines, and the models that were trained for a team.

use std::sync::atomic::{AtomicI64, Ordering};

use habit_memory::clock::Clock;

mod downtime;
mod models;

/// A clock that stands still until it is moved.
#[derive(Default)]
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}
