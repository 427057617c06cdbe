//! `[rollout]`: how models that were trained for a team come to serve it.

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// How models that were trained for a team come to serve it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rollout {
    /// The share of a team's requests that a new model answers at first, over 0; 1 lets it answer all at once.
    pub canary_share: f64,
    /// Hours after which a canary that nothing speaks against answers all requests. What users say of it may end the
    /// trial before, either way.
    pub canary_hours: u32,
    /// Teams' models that are in memory at the same time, beside the base. Of those that are not, the base answers until
    /// they are loaded. 0 lets no trained model serve.
    pub loaded: usize,
    /// Whether a promoted model keeps being compared: the ways of answering are then taken by chance, those that do well
    /// more often, each at least one time in twenty. Off, a promoted model answers everything.
    pub explore: bool,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            canary_share: 0.1,
            canary_hours: 24,
            loaded: 2,
            explore: false,
        }
    }
}

impl Rollout {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !(self.canary_share > 0.0 && self.canary_share <= 1.0) {
            let why = format!("is {}; it may be over 0 and up to 1 (all requests)", self.canary_share);
            return Err(ConfigError::bad("rollout.canary_share", why));
        }
        Ok(())
    }
}
