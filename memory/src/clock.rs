//! Where the time comes from, so that tests can set it.

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch (1970-01-01 00:00 UTC).
    fn now_ms(&self) -> i64;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        jiff::Timestamp::now().as_millisecond()
    }
}
