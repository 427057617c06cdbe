//! A token bucket: holds a minute's worth, fills evenly, and says how long one must wait. Pure; the caller brings the
//! time.

use std::time::{Duration, Instant};

const MINUTE_S: f64 = 60.0;

/// See the module.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// What it holds at most, and what flows in each minute.
    capacity: f64,
    /// What is in it; below zero is a debt that must flow in first.
    level: f64,
    at: Instant,
}

impl Bucket {
    /// Full, at this time.
    #[must_use]
    pub fn new(per_minute: u32, now: Instant) -> Self {
        let capacity = f64::from(per_minute.max(1));
        Self {
            capacity,
            level: capacity,
            at: now,
        }
    }

    /// Takes so much, or says how long to wait until it is there. Who asks for more than the bucket can ever hold gets
    /// a full one, and owes the rest.
    ///
    /// # Errors
    /// The time to wait.
    pub fn take(&mut self, amount: u32, now: Instant) -> Result<(), Duration> {
        self.flow(now);
        let amount = f64::from(amount);
        // The smallest step of a float must not make anyone wait for it.
        let missing = amount.min(self.capacity) - self.level;
        if missing > 1e-9 {
            return Err(self.time_for(missing));
        }
        self.level -= amount;
        Ok(())
    }

    /// Corrects what was taken: a positive difference takes more, a negative one gives back.
    pub fn correct(&mut self, difference: i64, now: Instant) {
        self.flow(now);
        self.level = (self.level - difference as f64).min(self.capacity);
    }

    /// What could be taken now, in whole units.
    #[must_use]
    pub fn remaining(&self, now: Instant) -> u32 {
        // Never negative, never above the capacity, which is a u32.
        (self.level_at(now) + 1e-9).max(0.0) as u32
    }

    /// How long until it is full.
    #[must_use]
    pub fn reset(&self, now: Instant) -> Duration {
        self.time_for(self.capacity - self.level_at(now))
    }

    /// What it holds at most.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity as u32
    }

    fn flow(&mut self, now: Instant) {
        self.level = self.level_at(now);
        self.at = self.at.max(now);
    }

    fn level_at(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.level + passed * self.capacity / MINUTE_S).min(self.capacity)
    }

    fn time_for(&self, amount: f64) -> Duration {
        Duration::from_secs_f64((amount * MINUTE_S / self.capacity).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is asked when, no minute gives more than two buckets (a full one, and what flows in), and who waits
        /// as long as told gets what was asked.
        #[test]
        fn never_gives_more_than_its_rate(
            rate in 1..500_u32,
            asks in proptest::collection::vec((0..5_000_u64, 1..200_u32), 1..200),
        ) {
            let start = Instant::now();
            let (mut bucket, mut now) = (Bucket::new(rate, start), start);
            let mut given: Vec<(Instant, u32)> = Vec::new();
            for (wait, amount) in asks {
                let amount = amount.min(rate);
                now += Duration::from_millis(wait);
                if let Err(wait) = bucket.take(amount, now) {
                    prop_assert!(wait > Duration::ZERO && wait <= Duration::from_mins(1));
                    let mut later = bucket.clone();
                    prop_assert!(later.take(amount, now + wait + Duration::from_micros(1)).is_ok());
                } else {
                    given.push((now, amount));
                }
                prop_assert!(bucket.remaining(now) <= rate);
                let minute = given.iter().filter(|(at, _)| now - *at < Duration::from_mins(1));
                prop_assert!(minute.map(|(_, amount)| amount).sum::<u32>() <= 2 * rate);
            }
        }
    }

    #[test]
    fn corrections_are_owed_or_given_back() {
        let now = Instant::now();
        let mut bucket = Bucket::new(60, now);
        bucket.take(10, now).unwrap();
        bucket.correct(-10, now);
        assert_eq!(bucket.remaining(now), 60);
        bucket.correct(-10, now);
        assert_eq!(bucket.remaining(now), 60, "never more than it holds");
        bucket.correct(90, now);
        assert_eq!(bucket.remaining(now), 0);
        assert_eq!(bucket.take(1, now), Err(Duration::from_secs(31)));
        assert_eq!(bucket.reset(now), Duration::from_secs(90));
    }

    #[test]
    fn more_than_it_holds_takes_a_full_one() {
        let now = Instant::now();
        let mut bucket = Bucket::new(60, now);
        assert!(bucket.take(100, now).is_ok());
        assert_eq!(bucket.remaining(now), 0);
        assert_eq!(bucket.take(100, now), Err(Duration::from_secs(100)));
    }
}
