//! Which way of answering a turn gets: the base alone, with examples, or the team's model. Discounted Beta Thompson
//! sampling: what did well lately is taken more often, nothing falls below a floor, and the probability with which it was
//! taken is told, so that what was logged can be judged later as if another policy had chosen.

use std::collections::BTreeMap;

use crate::random::Random;
use serde::{Deserialize, Serialize};

/// A way of answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// The base model alone.
    Base,
    /// The base model with good past examples.
    FewShot,
    /// The team's trained model.
    Adapter,
}

impl Arm {
    /// By this it is known in headers and records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::FewShot => "few_shot",
            Self::Adapter => "adapter",
        }
    }
}

/// How choices are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// The least probability of each arm that there is.
    pub floor: f64,
    /// What an older outcome counts against the one after it, 0 to 1.
    pub discount: f64,
    /// How many outcomes the team's mean over all arms stands for, as what is believed of an arm beforehand.
    pub prior: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            floor: 0.05,
            // Half of what is known is of the last seventy outcomes.
            discount: 0.99,
            prior: 2.0,
        }
    }
}

/// Good and bad outcomes of an arm, discounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Tally {
    good: f64,
    bad: f64,
}

impl Tally {
    /// What is known counts a little less.
    fn fade(&mut self) {
        let discount = Policy::default().discount;
        self.good *= discount;
        self.bad *= discount;
    }

    fn add(&mut self, reward: f64) {
        self.good += reward;
        self.bad += 1.0 - reward;
    }
}

/// How each arm of a team fares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Arms {
    base: Tally,
    few_shot: Tally,
    adapter: Tally,
}

/// Draws by which the probabilities are estimated: enough for two places.
const DRAWS: u64 = 512;

impl Arms {
    /// Notes an outcome, 0 to 1; what was known before counts a little less.
    pub fn learn(&mut self, arm: Arm, reward: f64) {
        for tally in [&mut self.base, &mut self.few_shot, &mut self.adapter] {
            tally.fade();
        }
        let tally = match arm {
            Arm::Base => &mut self.base,
            Arm::FewShot => &mut self.few_shot,
            Arm::Adapter => &mut self.adapter,
        };
        tally.add(reward);
    }

    fn tally(&self, arm: Arm) -> Tally {
        match arm {
            Arm::Base => self.base,
            Arm::FewShot => self.few_shot,
            Arm::Adapter => self.adapter,
        }
    }

    /// The probability with which each of these arms is taken: that of being the best, as far as is known, and never under
    /// the floor. They sum to 1; the same outcomes give the same probabilities.
    #[must_use]
    pub fn probabilities(&self, arms: &[Arm], policy: &Policy) -> Vec<f64> {
        let tallies: Vec<Tally> = arms.iter().map(|arm| self.tally(*arm)).collect();
        chances(&tallies, policy)
    }

    /// Takes one of these arms by a number from 0 up to but without 1; with its probability. `None` of none.
    #[must_use]
    pub fn choose(&self, arms: &[Arm], policy: &Policy, at: f64) -> Option<(Arm, f64)> {
        let tallies: Vec<Tally> = arms.iter().map(|arm| self.tally(*arm)).collect();
        take(arms, &tallies, policy, at)
    }
}

/// How replies of a team fare with so many past answers shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counts(BTreeMap<usize, Tally>);

impl Counts {
    /// Notes an outcome, 0 to 1; what was known before counts a little less.
    pub fn learn(&mut self, count: usize, reward: f64) {
        self.0.values_mut().for_each(Tally::fade);
        self.0.entry(count).or_default().add(reward);
    }

    /// Takes one of these counts, as [`Arms::choose`] takes an arm.
    #[must_use]
    pub fn choose(&self, counts: &[usize], policy: &Policy, at: f64) -> Option<(usize, f64)> {
        let tally = |count: &usize| self.0.get(count).copied().unwrap_or_default();
        let tallies: Vec<Tally> = counts.iter().map(tally).collect();
        take(counts, &tallies, policy, at)
    }
}

/// Takes one by a number from 0 up to but without 1; with its probability. `None` of none.
fn take<T: Copy>(ways: &[T], tallies: &[Tally], policy: &Policy, at: f64) -> Option<(T, f64)> {
    let probabilities = chances(tallies, policy);
    let mut rest = at;
    for (way, probability) in ways.iter().zip(&probabilities) {
        if rest < *probability {
            return Some((*way, *probability));
        }
        rest -= probability;
    }
    // Rounding left a crumb over.
    Some((*ways.last()?, *probabilities.last()?))
}

/// The probability with which each of these is taken.
fn chances(tallies: &[Tally], policy: &Policy) -> Vec<f64> {
    if tallies.len() <= 1 {
        return vec![1.0; tallies.len()];
    }
    let good: f64 = tallies.iter().map(|tally| tally.good).sum();
    let bad: f64 = tallies.iter().map(|tally| tally.bad).sum();
    // The pooled prior; of nothing, the uniform one.
    let mean = (good + 1.0) / (good + bad + 2.0);
    let mut draws = Draws::new(0x5eed);
    let mut wins = vec![0.0; tallies.len()];
    for _ in 0..DRAWS {
        let mut best = (0, -1.0);
        for (place, tally) in tallies.iter().enumerate() {
            let drawn = draws.beta(
                policy.prior.mul_add(mean, tally.good),
                policy.prior.mul_add(1.0 - mean, tally.bad),
            );
            if drawn > best.1 {
                best = (place, drawn);
            }
        }
        wins[best.0] += 1.0;
    }
    let total: f64 = wins.iter().sum();
    let count = tallies.iter().fold(0.0, |sum, _| sum + 1.0);
    let floor = policy.floor.clamp(0.0, 1.0 / count);
    let rest = floor.mul_add(-count, 1.0);
    wins.iter().map(|won| (won / total).mul_add(rest, floor)).collect()
}

/// A number from 0 up to but without 1 that is the same for the same words and looks random between others: who is in a
/// share stays in it.
#[must_use]
pub fn lot(words: &[&[u8]]) -> f64 {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for word in words {
        hash.update(u64::try_from(word.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(word);
    }
    let digest = hash.finalize();
    let bits = u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]);
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

/// Draws from distributions, the same every time.
struct Draws(Random);

impl Draws {
    fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    /// Over 0 and at most 1.
    fn uniform(&mut self) -> f64 {
        1.0 - self.0.unit()
    }

    /// By Box and Muller.
    fn normal(&mut self) -> f64 {
        let (a, b) = (self.uniform(), self.uniform());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    /// By Marsaglia and Tsang (2000); shapes under 1 by way of the next.
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let larger = self.gamma(shape + 1.0);
            return larger * self.uniform().powf(1.0 / shape.max(1e-9));
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && self.uniform().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    fn beta(&mut self, good: f64, bad: f64) -> f64 {
        let (a, b) = (self.gamma(good), self.gamma(bad));
        if a + b > 0.0 { a / (a + b) } else { 0.5 }
    }
}
