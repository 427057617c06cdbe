//! `[engine]`: the model that runs in this process, and what holds for all engines. Servers elsewhere are in
//! `upstreams.rs`.

use habit_engine::models::fit::Precision;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// `engine.model` by default: what suits.
const AUTO: &str = "auto";

/// The model that runs in this process, and what holds for all engines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Engine {
    /// The model to run here: `default`, a name from `habit models list`, a `.gguf` file, a directory with
    /// safetensors, or a hub id (`org/name`). `auto` runs the default model where there are no upstreams, and none where
    /// there are; `none` runs none.
    pub model: String,
    /// The profile (`[profiles.NAME]`) to serve: its settings are taken before those of this section.
    pub profile: Option<String>,
    /// Bits a weight, 16, 8 or 4: a finer model is quantised to it once, and takes less memory. Unset, it stays as its
    /// files have it.
    pub bits: Option<u8>,
    /// What computes a model in this process.
    pub backend: Backend,
    /// Processor threads for the model; 0 takes all cores. Fewer leave room for other programs.
    pub threads: usize,
    /// Replies made at the same time; 0 takes what suits: eight for a model that Habit's own engine runs (together they
    /// are several times as fast as one by one), one for mistral.rs (two would each take twice as long), 4096 for an
    /// upstream, which has its own limit.
    pub max_running: usize,
    /// Requests that wait for their turn before new ones are told to come back later (429). Each key has its turn, so
    /// one can't keep the others out.
    pub max_waiting: usize,
    /// Tokens that prompt and reply may have together, where less than the model's own limit is wanted (to save
    /// memory). Unset, it is the model's.
    pub context_window: Option<usize>,
}

/// What computes a model in this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Habit's own engine where it can run the model (GGUF files of llama's and Qwen's dense layouts: it is faster on
    /// processors and runs several replies together), else mistral.rs.
    #[default]
    Auto,
    /// Habit's own engine, or an error.
    Native,
    /// mistral.rs.
    MistralRs,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            model: AUTO.to_owned(),
            profile: None,
            bits: None,
            backend: Backend::default(),
            threads: 0,
            max_running: 0,
            // Clients send three or four side calls a message; room for a handful of users doing so.
            max_waiting: 32,
            context_window: None,
        }
    }
}

impl Engine {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.context_window.is_some_and(|window| window < 128) {
            return Err(ConfigError::bad(
                "engine.context_window",
                "is in tokens and must be at least 128",
            ));
        }
        if self.bits.is_some_and(|bits| Precision::of_bits(bits).is_none()) {
            return Err(ConfigError::bad("engine.bits", "must be 16, 8 or 4"));
        }
        if self.model.trim().is_empty() {
            return Err(ConfigError::bad(
                "engine.model",
                "is empty; `habit models list` shows what it may be",
            ));
        }
        Ok(())
    }
}

impl Engine {
    /// The model to run in this process, where there are so many upstreams; `None` for none.
    #[must_use]
    pub fn own_model(&self, upstreams: usize) -> Option<&str> {
        match (self.model.as_str(), upstreams) {
            (AUTO, 0) => Some("default"),
            (AUTO, _) | ("none", _) => None,
            (model, _) => Some(model),
        }
    }

    /// How finely weights are kept at most; `None` for as the files have them.
    #[must_use]
    pub fn precision(&self) -> Option<Precision> {
        self.bits.and_then(Precision::of_bits)
    }
}
