//! What commands that measure have in common: a place of their own, and percentiles.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use uuid::Uuid;

/// A data directory for one run only.
pub struct Place(PathBuf);

impl Place {
    /// A new directory; `what` is in its name.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn new(what: &str) -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("habit-{what}-{}", Uuid::now_v7()));
        std::fs::create_dir_all(&dir).with_context(|| format!("{} can't be made", dir.display()))?;
        Ok(Self(dir))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What can't be removed is in the system's directory for what may go.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Milliseconds at the 50th, 95th and 99th percentile.
#[must_use]
pub fn percentiles(mut times: Vec<Duration>) -> [f64; 3] {
    times.sort_unstable();
    let at = |share: f64| {
        let place = (times.len().saturating_sub(1) as f64 * share).round() as usize;
        times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    [at(0.5), at(0.95), at(0.99)]
}
