//! What one key uses, against its limits: requests and tokens a minute, and requests at the same time. In this
//! process's memory: several gateways before one database count apart, and a restart begins with full buckets.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::bucket::Bucket;

/// How long who has too many running requests is told to wait: nobody knows when one of them ends.
const BUSY_WAIT: Duration = Duration::from_secs(1);

/// What a key may use; what is `None` is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyLimits {
    /// Requests a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute, of prompts and replies together.
    pub tokens_per_minute: Option<u32>,
    /// Requests at the same time.
    pub concurrency: Option<u32>,
    /// The models that it may ask, by their own names (aliases are resolved first).
    pub models: Option<Vec<String>>,
}

/// Which limit is reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this key's limit of {limit} {what} is reached; try again in {:.3} s", wait.as_secs_f64())]
pub struct LimitReached {
    /// The limit.
    pub limit: u32,
    /// Of what.
    pub what: &'static str,
    /// When there is room again.
    pub wait: Duration,
}

/// One kind of limit, as replies' headers show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What may be used a minute.
    pub limit: u32,
    /// What is left of it.
    pub remaining: u32,
    /// When all of it is there again.
    pub reset: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Meter {
    limits: KeyLimits,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    running: u32,
}

impl PartialEq for Meter {
    fn eq(&self, other: &Self) -> bool {
        self.limits == other.limits
    }
}

impl Eq for Meter {}

impl Meter {
    /// Nothing used yet.
    #[must_use]
    pub fn new(limits: KeyLimits) -> Self {
        let now = Instant::now();
        let bucket = |rate: Option<u32>| rate.map(|rate| Bucket::new(rate, now));
        let state = State {
            requests: bucket(limits.requests_per_minute),
            tokens: bucket(limits.tokens_per_minute),
            running: 0,
        };
        Self {
            limits,
            state: Mutex::new(state),
        }
    }

    /// What it measures against.
    #[must_use]
    pub fn limits(&self) -> &KeyLimits {
        &self.limits
    }

    /// Counts a request; it runs until the slot is dropped.
    ///
    /// # Errors
    /// [`LimitReached`]; nothing is counted then.
    pub fn begin(self: &Arc<Self>, now: Instant) -> Result<Slot, LimitReached> {
        let mut state = self.state();
        if let Some(limit) = self.limits.concurrency.filter(|limit| state.running >= *limit) {
            return Err(LimitReached {
                limit,
                what: "requests at the same time",
                wait: BUSY_WAIT,
            });
        }
        take(state.requests.as_mut(), 1, "requests a minute", now)?;
        // A request needs some token at least: one that has none left need not even be read.
        if let Some(tokens) = state.tokens.as_mut() {
            tokens
                .take(1, now)
                .map_err(|wait| reached(tokens, "tokens a minute", wait))?;
            tokens.correct(-1, now);
        }
        state.running += 1;
        Ok(Slot(Arc::clone(self)))
    }

    /// Sets tokens aside before it is known how many a reply takes.
    ///
    /// # Errors
    /// [`LimitReached`].
    pub fn reserve(self: &Arc<Self>, tokens: u32, now: Instant) -> Result<Reserved, LimitReached> {
        take(self.state().tokens.as_mut(), tokens, "tokens a minute", now)?;
        Ok(Reserved {
            meter: Arc::clone(self),
            reserved: tokens,
            used: 0,
        })
    }

    /// How the requests and the tokens stand, where they are limited.
    #[must_use]
    pub fn standing(&self, now: Instant) -> [Option<Standing>; 2] {
        let state = self.state();
        [&state.requests, &state.tokens].map(|bucket| {
            bucket.as_ref().map(|bucket| Standing {
                limit: bucket.capacity(),
                remaining: bucket.remaining(now),
                reset: bucket.reset(now),
            })
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take(bucket: Option<&mut Bucket>, amount: u32, what: &'static str, now: Instant) -> Result<(), LimitReached> {
    let Some(bucket) = bucket else { return Ok(()) };
    bucket.take(amount, now).map_err(|wait| reached(bucket, what, wait))
}

fn reached(bucket: &Bucket, what: &'static str, wait: Duration) -> LimitReached {
    LimitReached {
        limit: bucket.capacity(),
        what,
        wait,
    }
}

/// A request that runs; it has ended when this is dropped.
#[derive(Debug)]
pub struct Slot(Arc<Meter>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.state().running -= 1;
    }
}

/// Tokens that were set aside; on drop, what was not used goes back, and what was used beyond them is owed.
#[derive(Debug)]
pub struct Reserved {
    meter: Arc<Meter>,
    reserved: u32,
    used: u32,
}

impl Reserved {
    /// Sets what has been used so far.
    pub fn used(&mut self, tokens: u32) {
        self.used = tokens;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let difference = i64::from(self.used) - i64::from(self.reserved);
        if let Some(tokens) = self.meter.state().tokens.as_mut() {
            tokens.correct(difference, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(limits: KeyLimits) -> Arc<Meter> {
        Arc::new(Meter::new(limits))
    }

    #[test]
    fn requests_run_until_their_slot_is_dropped() {
        let meter = meter(KeyLimits {
            concurrency: Some(1),
            ..KeyLimits::default()
        });
        let now = Instant::now();
        let first = meter.begin(now).unwrap();
        assert_eq!(meter.begin(now).unwrap_err().what, "requests at the same time");
        drop(first);
        assert!(meter.begin(now).is_ok());
    }

    #[test]
    fn tokens_are_charged_for_what_was_used() {
        let meter = meter(KeyLimits {
            tokens_per_minute: Some(1_000_000),
            ..KeyLimits::default()
        });
        let left = || meter.standing(Instant::now())[1].unwrap().remaining;
        let now = Instant::now();
        let mut reserved = meter.reserve(500_000, now).unwrap();
        reserved.used(900_000);
        drop(reserved);
        // A little flows in while the test runs.
        assert!((100_000..200_000).contains(&left()), "{}", left());
        let refused = meter.reserve(500_000, Instant::now()).unwrap_err();
        assert!(refused.wait > Duration::from_secs(10) && refused.wait < Duration::from_secs(30));
        drop(meter.reserve(50_000, Instant::now()).unwrap());
        assert!(left() >= 100_000, "what was not used comes back");
    }
}
