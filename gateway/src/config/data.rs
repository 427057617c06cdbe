//! `[data]`: where things are kept.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Secret};

/// Where things are kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// The directory with the database, the index and the models. Unset, it is `habit` in the user's data directory
    /// (`$XDG_DATA_HOME`, or `~/.local/share`). One server a directory.
    pub dir: Option<PathBuf>,
    /// The directory with model files, to share them between data directories. Unset, it is `models` in `dir`.
    pub models: Option<PathBuf>,
    /// A Postgres database for all that is in the database: `postgres://user:password@host/name`. Unset, it is a SQLite file
    /// in `dir`. Several gateways may share it.
    pub database: Option<Secret>,
}

impl Data {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let schemes = ["postgres://", "postgresql://"];
        let is_postgres = |url: &Secret| schemes.iter().any(|scheme| url.expose().starts_with(scheme));
        if self.database.as_ref().is_some_and(|url| !is_postgres(url)) {
            let why = "is no address of a Postgres database; write postgres://user:password@host/name, or leave it out for \
                       SQLite in the data directory";
            return Err(ConfigError::bad("data.database", why));
        }
        Ok(())
    }
}

/// `habit` in the user's data directory, by the XDG base directory specification.
pub(super) fn default_dir() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")))?;
    Some(base.join("habit"))
}
