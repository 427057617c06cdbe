//! What may be set, and where it comes from: built-in defaults, then one `habit.toml`, then `HABIT_…` environment
//! variables, then flags; the later wins. One section a file; every field says why one would change it.
//! `deploy/habit.toml` is the same, written for the person who sets it up; a test keeps the two alike.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

mod auth;
mod data;
mod engine;
mod load;
mod memory;
mod profile;
mod secret;
mod server;

pub use auth::Auth;
pub use data::Data;
pub use engine::{Backend, Engine, Upstream};
pub use load::{ConfigError, Sources};
pub use memory::Memory;
pub use profile::Profile;
pub use secret::Secret;
pub use server::Server;

/// The whole configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where and how to listen.
    pub server: Server,
    /// Where things are kept.
    pub data: Data,
    /// What answers.
    pub engine: Engine,
    /// Models with their settings, by a name of one's own.
    pub profiles: BTreeMap<String, Profile>,
    /// What is remembered, and how much of it is put before the model.
    pub memory: Memory,
    /// Who may ask.
    pub auth: Auth,
}

impl Config {
    /// Reads the configuration from its sources and checks it.
    ///
    /// # Errors
    /// [`ConfigError`] names the field, where it was set, and the nearest right one.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let config = load::merge(sources)?;
        config.check()?;
        Ok(config)
    }

    /// The data directory (see [`Data::dir`]).
    ///
    /// # Errors
    /// [`ConfigError::Bad`] if none is set and the home directory is unknown.
    pub fn data_dir(&self) -> Result<PathBuf, ConfigError> {
        self.data.dir.clone().or_else(data::default_dir).ok_or_else(|| {
            ConfigError::bad(
                "data.dir",
                "the home directory is unknown; say where data goes with --data-dir DIR",
            )
        })
    }

    /// Where model files are kept: `data.models`, or `models` in the data directory.
    ///
    /// # Errors
    /// As [`Config::data_dir`].
    pub fn models_dir(&self) -> Result<PathBuf, ConfigError> {
        match &self.data.models {
            Some(dir) => Ok(dir.clone()),
            None => Ok(self.data_dir()?.join("models")),
        }
    }

    /// Whether memory may be put before the model that this configuration names: always for an engine in this process
    /// or on this machine, only with `memory.send_to_upstream` for any other.
    #[must_use]
    pub fn memory_may_reach_engine(&self) -> bool {
        self.memory.send_to_upstream || self.engine.upstream.url.as_deref().is_none_or(engine::is_loopback_url)
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.server.check()?;
        self.engine.check()?;
        for (name, profile) in &self.profiles {
            profile.check(name)?;
        }
        self.memory.check()?;
        if !self.auth.required && !self.server.bind.ip().is_loopback() {
            return Err(ConfigError::bad(
                "auth.required",
                format!(
                    "can only be false (--no-auth) while listening on a loopback address, but server.bind is {}; leave \
                     authentication on, or bind to 127.0.0.1",
                    self.server.bind
                ),
            ));
        }
        Ok(())
    }
}

/// The database of a data directory.
#[must_use]
pub fn database_path(data_dir: &Path) -> PathBuf {
    data_dir.join("habit.db")
}

/// The vector and full-text index of a data directory.
#[must_use]
pub fn index_path(data_dir: &Path) -> PathBuf {
    data_dir.join("index")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_to_own_engines_only_unless_allowed() {
        let mut config = Config::default();
        assert!(config.memory_may_reach_engine(), "an engine in this process is our own");
        config.engine.upstream.url = Some("http://127.0.0.1:8421".to_owned());
        assert!(config.memory_may_reach_engine(), "so is one on this machine");
        config.engine.upstream.url = Some("https://models.example.com/v1".to_owned());
        assert!(!config.memory_may_reach_engine());
        config.memory.send_to_upstream = true;
        assert!(config.memory_may_reach_engine());
    }
}
