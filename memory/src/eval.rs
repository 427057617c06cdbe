//! Measuring recall: what a file of conversations and questions holds ([`dataset`]), and how well what was found meets the
//! evidence ([`Tally`]). How the questions are asked is the gateway's `habit eval recall`: by the very path that serves.

use std::collections::HashSet;
use std::hash::Hash;

pub mod dataset;

/// How many passages are asked for: as many as a turn may get.
pub const DEPTH: usize = 10;

/// How one question fared.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Outcome {
    /// Place of the first evidence among what was found, from 0.
    pub first: Option<usize>,
    /// Whether all evidence was found.
    pub all: bool,
}

impl Outcome {
    /// Of what was found, best first, and the evidence.
    pub fn of<T: Eq + Hash>(found: &[T], evidence: &HashSet<T>) -> Self {
        let found = &found[..found.len().min(DEPTH)];
        Self {
            first: found.iter().position(|item| evidence.contains(item)),
            all: evidence.iter().all(|item| found.contains(item)),
        }
    }
}

/// Sums over questions; all shares are in percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Tally {
    /// Questions.
    pub questions: usize,
    any: [usize; 3],
    all: usize,
    reciprocal: f64,
}

impl Tally {
    /// The depths at which any evidence counts.
    pub const DEPTHS: [usize; 3] = [1, 5, DEPTH];

    /// Adds a question.
    pub fn add(&mut self, outcome: Outcome) {
        self.questions += 1;
        for (count, depth) in self.any.iter_mut().zip(Self::DEPTHS) {
            *count += usize::from(outcome.first.is_some_and(|first| first < depth));
        }
        self.all += usize::from(outcome.all);
        self.reciprocal += outcome.first.map_or(0.0, |first| 1.0 / (first + 1) as f64);
    }

    /// Questions of which any evidence is among the first 1, 5 and 10.
    #[must_use]
    pub fn any(&self) -> [f64; 3] {
        self.any.map(|count| self.share(count as f64))
    }

    /// Questions of which all evidence is among the first 10.
    #[must_use]
    pub fn all(&self) -> f64 {
        self.share(self.all as f64)
    }

    /// The mean of one over the place of the first evidence.
    #[must_use]
    pub fn mrr(&self) -> f64 {
        self.share(self.reciprocal)
    }

    fn share(&self, sum: f64) -> f64 {
        sum * 100.0 / self.questions.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count() {
        let evidence = HashSet::from([3, 4]);
        let mut tally = Tally::default();
        tally.add(Outcome::of(&[3, 4], &evidence));
        tally.add(Outcome::of(&[1, 4], &evidence));
        tally.add(Outcome::of(&[1, 2], &evidence));
        tally.add(Outcome::of(&[0, 1, 2, 9, 8, 7, 6, 5, 10, 11, 3, 4], &evidence));
        assert_eq!(tally.questions, 4);
        assert!((tally.any()[0] - 25.0).abs() < 1e-9);
        assert!((tally.any()[2] - 50.0).abs() < 1e-9);
        assert!((tally.all() - 25.0).abs() < 1e-9);
        assert!((tally.mrr() - 37.5).abs() < 1e-9);
        assert!(Tally::default().mrr().abs() < 1e-9);
    }
}
