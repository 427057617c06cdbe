//! `[profiles.NAME]`: models with their settings under a name of one's own, to serve or load by it.

use serde::{Deserialize, Serialize};

use super::{ConfigError, Engine};

/// A model and how to run it. What is absent is as `[engine]` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// As `engine.model`.
    pub model: Option<String>,
    /// As `engine.bits`.
    pub bits: Option<u8>,
    /// As `engine.context_window`.
    pub context_window: Option<usize>,
    /// As `engine.threads`.
    pub threads: Option<usize>,
    /// As `engine.max_running`.
    pub max_running: Option<usize>,
}

impl Profile {
    /// The engine's settings with this profile's in their place.
    #[must_use]
    pub fn over(&self, engine: &Engine) -> Engine {
        let mut engine = engine.clone();
        if let Some(model) = &self.model {
            engine.model.clone_from(model);
        }
        engine.bits = self.bits.or(engine.bits);
        engine.context_window = self.context_window.or(engine.context_window);
        engine.threads = self.threads.unwrap_or(engine.threads);
        engine.max_running = self.max_running.unwrap_or(engine.max_running);
        engine
    }

    pub(super) fn check(&self, name: &str) -> Result<(), ConfigError> {
        self.over(&Engine::default()).check().map_err(|error| match error {
            ConfigError::Bad { place, field, why } => ConfigError::Bad {
                place,
                field: field.replace("engine.", &format!("profiles.{name}.")),
                why,
            },
            error => error,
        })
    }
}
