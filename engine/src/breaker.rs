//! Stops asking an engine that fails again and again: after so many failures in a row nobody asks it for a while, then
//! one request tries, and its outcome opens the way for all or for none. What counts as a failure is the caller's
//! business; so is the time. No locks: it stands in the way of every request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// When to stop asking, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerOptions {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open the first time; doubled each time that a try fails.
    pub wait: Duration,
    /// The longest that it stays open.
    pub longest: Duration,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            failures: 3,
            wait: Duration::from_secs(2),
            longest: Duration::from_secs(30),
        }
    }
}

/// Whether requests pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// All do.
    Closed,
    /// None does, for so long still.
    Open(Duration),
    /// One may try.
    HalfOpen,
}

/// See the module.
#[derive(Debug)]
pub struct Breaker {
    options: BreakerOptions,
    born: Instant,
    /// Failures since the last success.
    failures: AtomicU32,
    /// How often it has opened since it was last closed.
    openings: AtomicU32,
    /// Milliseconds since `born` at which it may be tried; 0 while it is closed.
    try_at: AtomicU64,
    /// Whether someone tries now.
    trying: AtomicBool,
}

impl Breaker {
    /// Closed.
    #[must_use]
    pub fn new(options: BreakerOptions) -> Self {
        Self {
            options,
            born: Instant::now(),
            failures: AtomicU32::new(0),
            openings: AtomicU32::new(0),
            try_at: AtomicU64::new(0),
            trying: AtomicBool::new(false),
        }
    }

    /// Whether requests pass at this time.
    #[must_use]
    pub fn state(&self, now: Instant) -> State {
        let try_at = self.try_at.load(Ordering::Acquire);
        let now = self.since(now);
        match try_at {
            0 => State::Closed,
            _ if now < try_at => State::Open(Duration::from_millis(try_at - now)),
            _ => State::HalfOpen,
        }
    }

    /// Leave to send one request, to be told how it went; `None` while nobody may.
    #[must_use]
    pub fn pass(self: &Arc<Self>, now: Instant) -> Option<Pass> {
        let tries = match self.state(now) {
            State::Closed => false,
            State::Open(_) => return None,
            State::HalfOpen => {
                let first = self
                    .trying
                    .compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire);
                first.ok()?;
                true
            }
        };
        Some(Pass {
            breaker: Arc::clone(self),
            tries,
            told: false,
        })
    }

    /// Something else showed that it may be back: an open breaker may be tried at once.
    pub fn may_be_back(&self, now: Instant) {
        let now = self.since(now).max(1);
        let sooner = |at: u64| (at > now).then_some(now);
        // Nothing to do where it is closed, or may be tried already.
        let _ = self.try_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, sooner);
    }

    fn succeeded(&self) {
        // Written only where something changes: this is the path of every good request.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if self.try_at.load(Ordering::Relaxed) != 0 {
            self.openings.store(0, Ordering::Relaxed);
            self.try_at.store(0, Ordering::Release);
        }
    }

    fn failed(&self, tried: bool, now: Instant) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let closed = self.try_at.load(Ordering::Acquire) == 0;
        // Requests from before it opened may fail after it: they say nothing new.
        if !tried && (!closed || failures < self.options.failures) {
            return;
        }
        let openings = self.openings.fetch_add(1, Ordering::Relaxed).min(16);
        let wait = self
            .options
            .wait
            .saturating_mul(1 << openings)
            .min(self.options.longest);
        let at = self.since(now).saturating_add(millis(wait)).max(1);
        self.try_at.store(at, Ordering::Release);
    }

    fn since(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.born))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Leave to send one request. Dropped without a word (the client left), it says nothing about the engine, and the next
/// may try.
#[derive(Debug)]
pub struct Pass {
    breaker: Arc<Breaker>,
    /// Whether it is the one that tries a half-open breaker.
    tries: bool,
    told: bool,
}

impl Pass {
    /// Whether it is the one request that tries whether the engine is back.
    #[must_use]
    pub fn tries(&self) -> bool {
        self.tries
    }

    /// The engine answered.
    pub fn succeeded(mut self) {
        self.told = true;
        self.breaker.succeeded();
        self.end();
    }

    /// The engine failed at this time.
    pub fn failed(mut self, now: Instant) {
        self.told = true;
        self.breaker.failed(self.tries, now);
        self.end();
    }

    fn end(&self) {
        if self.tries {
            self.breaker.trying.store(false, Ordering::Release);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.told {
            self.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> (Arc<Breaker>, Instant) {
        let breaker = Arc::new(Breaker::new(BreakerOptions {
            failures: 2,
            wait: Duration::from_secs(1),
            longest: Duration::from_secs(3),
        }));
        let now = breaker.born;
        (breaker, now)
    }

    fn fail(breaker: &Arc<Breaker>, now: Instant) {
        breaker.pass(now).unwrap().failed(now);
    }

    #[test]
    fn opens_after_failures_in_a_row_only() {
        let (breaker, now) = breaker();
        for _ in 0..5 {
            fail(&breaker, now);
            breaker.pass(now).unwrap().succeeded();
        }
        assert_eq!(breaker.state(now), State::Closed);
        fail(&breaker, now);
        fail(&breaker, now);
        assert_eq!(breaker.state(now), State::Open(Duration::from_secs(1)));
        assert!(breaker.pass(now).is_none());
    }

    #[test]
    fn one_tries_and_decides_for_all() {
        let (breaker, now) = breaker();
        fail(&breaker, now);
        fail(&breaker, now);
        let later = now + Duration::from_secs(1);
        let first = breaker.pass(later).unwrap();
        assert!(breaker.pass(later).is_none(), "one at a time");
        first.failed(later);
        assert_eq!(
            breaker.state(later),
            State::Open(Duration::from_secs(2)),
            "longer each time"
        );
        let later = later + Duration::from_secs(2);
        drop(breaker.pass(later).unwrap());
        breaker.pass(later).unwrap().succeeded();
        assert_eq!(breaker.state(later), State::Closed);
        fail(&breaker, later);
        assert_eq!(breaker.state(later), State::Closed, "it begins to count anew");
    }

    #[test]
    fn late_failures_change_nothing_and_the_wait_has_an_end() {
        let (breaker, now) = breaker();
        let early: Vec<Pass> = (0..6).map(|_| breaker.pass(now).unwrap()).collect();
        for pass in early {
            pass.failed(now);
        }
        assert_eq!(breaker.state(now), State::Open(Duration::from_secs(1)));
        let mut at = now;
        for _ in 0..20 {
            at += Duration::from_secs(3);
            fail(&breaker, at);
        }
        assert_eq!(breaker.state(at), State::Open(Duration::from_secs(3)));
        breaker.may_be_back(at);
        assert_eq!(breaker.state(at), State::HalfOpen);
    }
}
