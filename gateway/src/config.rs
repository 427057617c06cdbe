//! What may be set, and where it comes from: built-in defaults, then one `habit.toml`, then `HABIT_…` environment
//! variables, then flags; the later wins. One section a file; every field says why one would change it.
//! `deploy/habit.toml` is the same, written for the person who sets it up; a test keeps the two alike.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

mod auth;
mod data;
mod downtime;
mod engine;
mod learning;
mod load;
pub mod memory;
mod profile;
mod rollout;
mod secret;
mod server;
mod upstreams;

pub use auth::Auth;
pub use data::Data;
pub use downtime::Downtime;
pub use engine::{Backend, Engine};
pub use learning::Learning;
pub use load::{ConfigError, Sources};
pub use memory::Memory;
pub use profile::Profile;
pub use rollout::Rollout;
pub use secret::Secret;
pub use server::Server;
pub use upstreams::{Kind, Upstream};

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
    /// Servers elsewhere that answer, beside or instead of a model here.
    pub upstreams: Vec<Upstream>,
    /// Further names of models: the name, and the model that it means.
    pub aliases: BTreeMap<String, String>,
    /// What is remembered, and how much of it is put before the model.
    pub memory: Memory,
    /// What users may say of replies, and what becomes of it.
    pub learning: Learning,
    /// When the work is done for which nobody waits.
    pub downtime: Downtime,
    /// How trained models come to serve.
    pub rollout: Rollout,
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

    fn check(&self) -> Result<(), ConfigError> {
        self.server.check()?;
        self.data.check()?;
        self.engine.check()?;
        for (name, profile) in &self.profiles {
            profile.check(name)?;
        }
        for upstream in &self.upstreams {
            upstream.check()?;
        }
        let mut names: Vec<String> = self.upstreams.iter().map(Upstream::display_name).collect();
        names.sort();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let why = format!("`{}` is there twice; give each upstream a name of its own", twice[0]);
            return Err(ConfigError::bad("upstreams.name", why));
        }
        if let Some((name, _)) = self
            .aliases
            .iter()
            .find(|(name, model)| name.is_empty() || model.is_empty())
        {
            let why = format!("has an empty name or model at `{name}`; write name = \"model\"");
            return Err(ConfigError::bad("aliases", why));
        }
        self.memory.check()?;
        self.learning.check()?;
        self.downtime.check()?;
        self.rollout.check()?;
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

/// What `habit models tune` found, in a data directory.
#[must_use]
pub fn tuned_path(data_dir: &Path) -> PathBuf {
    data_dir.join("tuned.json")
}

/// Learning runs and what they made, in a data directory.
#[must_use]
pub fn learning_path(data_dir: &Path) -> PathBuf {
    data_dir.join("learning")
}

/// The files that users keep, in a data directory.
#[must_use]
pub fn files_path(data_dir: &Path) -> PathBuf {
    data_dir.join("files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_to_this_machine_only_unless_allowed() {
        let mut memory = Memory::default();
        let upstream = |url: &str, allowed| Upstream {
            url: url.to_owned(),
            memory: allowed,
            ..Upstream::default()
        };
        let (near, far) = ("http://127.0.0.1:8421", "https://models.example.com/v1");
        assert!(upstream(near, None).sees_memory(&memory), "it is our own");
        assert!(!upstream(near, Some(false)).sees_memory(&memory));
        assert!(!upstream(far, None).sees_memory(&memory));
        assert!(upstream(far, Some(true)).sees_memory(&memory));
        memory.send_to_upstream = true;
        assert!(upstream(far, None).sees_memory(&memory));
        assert!(
            !upstream(far, Some(false)).sees_memory(&memory),
            "the entry says more than the default"
        );
    }
}
