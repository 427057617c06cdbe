//! Watching what is served: a test that may be looked at after every turn, and stopped at any, without its error growing.
//!
//! Each arm's mean outcome has a confidence sequence: bounds that hold at all times together, with the stated
//! probability. It is the predictable plug-in empirical-Bernstein sequence of Waudby-Smith and Ramdas, "Estimating means of
//! bounded random variables by betting" (Journal of the Royal Statistical Society B, 2024, theorem 2), intersected over
//! time. It needs a handful of sums, so it is kept with the rollout and goes on after a restart. Half of the error is
//! spent on each arm, so the difference's bounds hold at all times too.

use serde::{Deserialize, Serialize};

use super::Interval;

/// The most that is bet on one outcome; the paper advises a half or three quarters.
const LARGEST_BET: f64 = 0.75;

/// A confidence sequence of the mean of outcomes in [0, 1].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sequence {
    /// The probability that it is ever wrong.
    error: f64,
    count: u64,
    sum: f64,
    squares: f64,
    bets: f64,
    bet_outcomes: f64,
    spent: f64,
    lower: f64,
    upper: f64,
}

impl Sequence {
    /// One that is wrong, at any time, with at most this probability (in (0, 1)).
    #[must_use]
    pub fn new(error: f64) -> Self {
        Self {
            error: error.clamp(1e-9, 0.999),
            count: 0,
            sum: 0.0,
            squares: 0.0,
            bets: 0.0,
            bet_outcomes: 0.0,
            spent: 0.0,
            lower: 0.0,
            upper: 1.0,
        }
    }

    /// Takes the next outcome; what is outside [0, 1] counts as its nearer end, what is no number not at all.
    pub fn see(&mut self, outcome: f64) {
        if outcome.is_nan() {
            return;
        }
        let outcome = outcome.clamp(0.0, 1.0);
        let seen = self.count as f64;
        // What was known before this outcome: the paper's estimates, which begin at a half and a quarter.
        let mean = (0.5 + self.sum) / (seen + 1.0);
        let variance = (0.25 + self.squares) / (seen + 1.0);
        let now = seen + 1.0;
        let log = (2.0 / self.error).ln();
        let bet = (2.0 * log / (variance * now * (1.0 + now).ln()))
            .sqrt()
            .min(LARGEST_BET);
        self.bets += bet;
        self.bet_outcomes += bet * outcome;
        self.spent += (outcome - mean).powi(2) * (-(1.0 - bet).ln() - bet);
        self.count += 1;
        self.sum += outcome;
        let mean = (0.5 + self.sum) / (now + 1.0);
        self.squares += (outcome - mean).powi(2);
        let centre = self.bet_outcomes / self.bets;
        let radius = (log + self.spent) / self.bets;
        self.lower = self.lower.max(centre - radius).min(1.0);
        self.upper = self.upper.min(centre + radius).max(0.0);
    }

    /// Outcomes seen.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean and its bounds now. Before anything was seen: anything.
    #[must_use]
    pub fn interval(&self) -> Interval {
        let mean = if self.count == 0 {
            0.5
        } else {
            self.sum / self.count as f64
        };
        Interval {
            mean,
            lower: self.lower,
            upper: self.upper,
        }
    }
}

/// What is known of a candidate that is served to a share of turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is better than what it would replace.
    Better,
    /// It is worse, by more than is tolerated: take it back.
    Worse,
    /// Nobody knows yet.
    Open,
}

/// A candidate and what it would replace, by how their turns went. Law: whichever is drawn must be drawn by chance, not by
/// what is asked. At any time, a candidate that is no worse than tolerated has been called worse with at most the
/// stated error, and one that is not better has been called better with at most that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    candidate: Sequence,
    served: Sequence,
    /// How much worse it may be, in outcomes' units, and still not be taken back.
    tolerance: f64,
}

impl Canary {
    /// Nothing seen. `error` is shared by the two arms; `tolerance` is 0 or more.
    #[must_use]
    pub fn new(error: f64, tolerance: f64) -> Self {
        Self {
            candidate: Sequence::new(error / 2.0),
            served: Sequence::new(error / 2.0),
            tolerance: tolerance.max(0.0),
        }
    }

    /// A turn of one of the two went so: 0 is bad, 1 is good.
    pub fn see(&mut self, candidate: bool, outcome: f64) {
        if candidate {
            self.candidate.see(outcome);
        } else {
            self.served.see(outcome);
        }
    }

    /// How much better the candidate's mean outcome is.
    #[must_use]
    pub fn difference(&self) -> Interval {
        let (new, old) = (self.candidate.interval(), self.served.interval());
        Interval {
            mean: new.mean - old.mean,
            lower: new.lower - old.upper,
            upper: new.upper - old.lower,
        }
    }

    /// Turns with an outcome, of the candidate and of what is served.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.candidate.count(), self.served.count())
    }

    /// What is known now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let Interval { lower, upper, .. } = self.difference();
        if upper < -self.tolerance {
            Standing::Worse
        } else if lower > 0.0 {
            Standing::Better
        } else {
            Standing::Open
        }
    }
}
