//! The gate: whether a changed system is better enough to be served. Pure statistics over what both systems said to the
//! same items; what says it is in [`crate::score`], what runs it all in [`crate::run`].
//!
//! A candidate passes when, on items that it has not been trained on,
//! 1. the lower bound of its paired gain in exact matches is above zero;
//! 2. so is that of the gain beyond chance: a reply that is right only because it is a frequent answer counts by how much
//!    oftener it is right here than it would be under any other item (Cohen, "A coefficient of agreement for nominal
//!    scales", 1960). It is what feedback without a meaning can't pass, however well its answers' frequencies are learnt;
//! 3. general text has not become less likely to it by more than a bound.
//!
//! What passed before and fails now is always listed. Too few items are a reason against, never for it. The bounds are
//! those of a [bootstrap](self::bootstrap()); where several candidates were tried on the same items, the error is divided
//! among them (Bonferroni). What is watched while it is served, and looked at all the time, is for [`canary`].

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub mod bootstrap;
pub mod canary;

pub use bootstrap::{Interval, bootstrap, clustered};
pub use canary::{Canary, Standing};

/// What must be shown, and how surely.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bounds {
    /// Fewer items than this say nothing.
    pub items: usize,
    /// How sure an interval is, both sides together, in (0, 1).
    pub confidence: f64,
    /// How often items are drawn anew for an interval.
    pub resamples: usize,
    /// How much the negative log-likelihood of general text may rise, in nats a token.
    pub general_rise: f64,
    /// Of the draws.
    pub seed: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            // Below a dozen pairs a bootstrap's percentiles are far from what they say.
            items: 12,
            confidence: 0.98,
            resamples: 10_000,
            general_rise: 0.05,
            seed: 0,
        }
    }
}

/// What both systems said to one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Of the item.
    pub id: Uuid,
    /// The right answer.
    pub wanted: String,
    /// What was served said, and whether that was right.
    pub before: (String, bool),
    /// What would be served says, and whether that is right.
    pub after: (String, bool),
}

/// The gate's answer, with its reasons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it may be served.
    pub promote: bool,
    /// Why it may not, a sentence each; empty if it may.
    pub reasons: Vec<String>,
    /// Items that both were asked.
    pub items: usize,
    /// The share of right answers, before and after.
    pub right: (f64, f64),
    /// The paired gain in right answers.
    pub gain: Interval,
    /// The same beyond what the answers' frequencies alone would give.
    pub beyond_chance: Interval,
    /// How much less likely general text became, in nats a token; `None` where the engine tells no probabilities.
    pub general_rise: Option<f64>,
    /// Wrong before and right now.
    pub won: Vec<Uuid>,
    /// Right before and wrong now.
    pub lost: Vec<Uuid>,
    /// How many candidates shared these items.
    pub tried: usize,
}

impl Bounds {
    /// The interval of the mean of these paired differences, with the error divided among `tried` candidates.
    #[must_use]
    pub fn interval(&self, differences: &[f64], tried: usize) -> Interval {
        let confidence = 1.0 - (1.0 - self.confidence.clamp(0.0, 1.0)) / tried.max(1) as f64;
        bootstrap(differences, confidence, self.resamples, self.seed)
    }

    /// Judges a candidate, one of `tried`, by items that none of them was trained on.
    #[must_use]
    pub fn judge(&self, pairs: &[Pair], general_rise: Option<f64>, tried: usize) -> Verdict {
        let share = |right: fn(&Pair) -> bool| {
            pairs.iter().filter(|pair| right(pair)).count() as f64 / pairs.len().max(1) as f64
        };
        let gain: Vec<f64> = pairs
            .iter()
            .map(|pair| f64::from(pair.after.1) - f64::from(pair.before.1))
            .collect();
        let luck = |reply: &str, of: &Pair| luck(pairs, reply, of.id);
        let beyond: Vec<f64> = pairs
            .iter()
            .zip(&gain)
            .map(|(pair, gain)| gain - luck(&pair.after.0, pair) + luck(&pair.before.0, pair))
            .collect();
        let ids = |of: fn(&Pair) -> bool| pairs.iter().filter(|pair| of(pair)).map(|pair| pair.id).collect();
        let mut verdict = Verdict {
            promote: false,
            reasons: Vec::new(),
            items: pairs.len(),
            right: (share(|pair| pair.before.1), share(|pair| pair.after.1)),
            gain: self.interval(&gain, tried),
            beyond_chance: self.interval(&beyond, tried),
            general_rise,
            won: ids(|pair| !pair.before.1 && pair.after.1),
            lost: ids(|pair| pair.before.1 && !pair.after.1),
            tried: tried.max(1),
        };
        verdict.reasons = self.against(&verdict);
        verdict.promote = verdict.reasons.is_empty();
        verdict
    }

    /// What speaks against it.
    fn against(&self, verdict: &Verdict) -> Vec<String> {
        let mut reasons = Vec::new();
        if verdict.items < self.items {
            reasons.push(format!(
                "there are {} examples to judge by, and fewer than {} say nothing; give more feedback",
                verdict.items, self.items
            ));
            return reasons;
        }
        let Interval { mean, lower, .. } = verdict.gain;
        // What is not a number is no proof.
        if lower.is_nan() || lower <= 0.0 {
            reasons.push(format!(
                "it is not shown to be better: it gains {mean:+.3} exact matches an example, and as little as {lower:+.3} \
                 can't be ruled out"
            ));
        } else if verdict.beyond_chance.lower.is_nan() || verdict.beyond_chance.lower <= 0.0 {
            reasons.push(format!(
                "its right answers are no more than the frequent answers would get by chance ({:+.3} beyond chance, and as \
                 little as {:+.3} can't be ruled out): the feedback does not tell when to say what",
                verdict.beyond_chance.mean, verdict.beyond_chance.lower
            ));
        }
        match verdict.general_rise {
            None => reasons.push(
                "how likely general text is to it could not be measured: the engine gives no probabilities of prompts"
                    .to_owned(),
            ),
            Some(rise) if rise.is_nan() || rise >= self.general_rise => reasons.push(format!(
                "it forgets: general text costs {rise:+.3} nats a token more, and less than {:+.3} is allowed",
                self.general_rise
            )),
            Some(_) => {}
        }
        reasons
    }
}

/// The share of the other items for which this reply would be right.
fn luck(pairs: &[Pair], reply: &str, own: Uuid) -> f64 {
    let others = || pairs.iter().filter(|pair| pair.id != own);
    let right = others().filter(|pair| pair.wanted.trim() == reply.trim()).count();
    right as f64 / others().count().max(1) as f64
}

#[cfg(test)]
mod tests;
