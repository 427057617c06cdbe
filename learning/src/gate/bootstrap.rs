//! How sure a mean of paired differences is: the percentile bootstrap (Efron and Tibshirani, "An introduction to the
//! bootstrap", 1993, chapter 13). The differences are drawn anew, with replacement, and the mean of each draw is noted; the
//! interval lies between the percentiles of these means. Nothing is assumed of the differences but that each item says
//! as much as any other.

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// A mean and where it may as well lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The mean of what was seen.
    pub mean: f64,
    /// The lower end.
    pub lower: f64,
    /// The upper end.
    pub upper: f64,
}

impl Interval {
    /// Of nothing: anything is possible. Zero-width intervals around zero are never above it.
    pub const NOTHING: Self = Self {
        mean: 0.0,
        lower: -1.0,
        upper: 1.0,
    };
}

impl std::fmt::Display for Interval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:+.3} [{:+.3}, {:+.3}]", self.mean, self.lower, self.upper)
    }
}

/// The interval of the mean of `differences`, each in [-1, 1] or in any one unit. `confidence` is for both sides
/// together. No differences give [`Interval::NOTHING`]; one alone gives itself, which is no proof of anything: who
/// asks must want enough of them.
#[must_use]
pub fn bootstrap(differences: &[f64], confidence: f64, resamples: usize, seed: u64) -> Interval {
    clustered(&[differences.to_vec()], confidence, resamples, seed)
}

/// As [`bootstrap()`] for differences that belong together in groups, such as those of one repetition of a measurement:
/// groups are drawn anew, and within each its differences. Each group counts the same. Empty groups do not count.
#[must_use]
pub fn clustered(groups: &[Vec<f64>], confidence: f64, resamples: usize, seed: u64) -> Interval {
    let groups: Vec<&[f64]> = groups
        .iter()
        .map(Vec::as_slice)
        .filter(|group| !group.is_empty())
        .collect();
    if groups.is_empty() {
        return Interval::NOTHING;
    }
    let mean = |values: &mut dyn Iterator<Item = f64>, count: usize| values.sum::<f64>() / count as f64;
    let whole = mean(
        &mut groups.iter().map(|group| mean(&mut group.iter().copied(), group.len())),
        groups.len(),
    );
    let mut random = Random::new(seed);
    let mut means: Vec<f64> = Vec::with_capacity(resamples.max(1));
    for _ in 0..resamples.max(1) {
        let mut sum = 0.0;
        for _ in 0..groups.len() {
            let group = groups[random.below(groups.len())];
            sum += mean(
                &mut (0..group.len()).map(|_| group[random.below(group.len())]),
                group.len(),
            );
        }
        means.push(sum / groups.len() as f64);
    }
    means.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - confidence.clamp(0.0, 1.0)) / 2.0;
    // Outwards, so that a coarse draw never makes an interval narrower.
    let from_end = ((tail * means.len() as f64).floor() as usize).min(means.len() - 1);
    Interval {
        mean: whole,
        lower: means[from_end],
        upper: means[means.len() - 1 - from_end],
    }
}
