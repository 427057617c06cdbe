//! `[learning]`: what users may say of replies, and what becomes of it.

use habit_learning::run::MOST_SETTINGS;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Examples that a turn may get, at most.
const MOST_SHOTS: usize = 16;

/// What users may say of replies, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Learning {
    /// Pieces of feedback that one user may give within a day: a bound on what one can do to what is learnt.
    pub feedback_a_day: u64,
    /// Different users that must say the same of nearly the same question before the team's model learns it. In a team
    /// with fewer users all of them must; what users said counts for themselves in any case. 1 takes everybody's word for
    /// everybody.
    pub min_users: usize,
    /// Settings that a learning run tries, 1 to 6: each costs a training, and makes the gate stricter.
    pub tries: usize,
    /// Good past answers to similar questions that a turn may be shown, 0 (off) to 16.
    pub few_shot: usize,
    /// How similar a past question must be, 0 to 1 (the cosine of the embedder's vectors).
    pub few_shot_floor: f32,
    /// Whether it is found out while serving how many of them help: none, half as many or all are shown by chance, those
    /// that do well more often, each at least one time in twenty. Off, all are shown.
    pub few_shot_explore: bool,
    /// Tokens that they may take together; never more than a third of the model's window.
    pub few_shot_tokens: usize,
}

impl Default for Learning {
    fn default() -> Self {
        Self {
            feedback_a_day: 500,
            min_users: 2,
            tries: 1,
            few_shot: 4,
            few_shot_floor: 0.55,
            few_shot_explore: false,
            few_shot_tokens: 600,
        }
    }
}

impl Learning {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.min_users == 0 {
            return Err(ConfigError::bad(
                "learning.min_users",
                "must be at least 1, which takes everybody's word for everybody",
            ));
        }
        if !(1..=MOST_SETTINGS).contains(&self.tries) {
            let why = format!("is {}; it may be 1 to {MOST_SETTINGS}", self.tries);
            return Err(ConfigError::bad("learning.tries", why));
        }
        if self.few_shot > MOST_SHOTS {
            let why = format!("{} is too many; it may be 0 (off) to {MOST_SHOTS}", self.few_shot);
            return Err(ConfigError::bad("learning.few_shot", why));
        }
        if !(0.0..=1.0).contains(&self.few_shot_floor) {
            return Err(ConfigError::bad("learning.few_shot_floor", "must be 0 to 1"));
        }
        Ok(())
    }
}
