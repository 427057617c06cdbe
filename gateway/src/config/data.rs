//! `[data]`: where things are kept.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where things are kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// The directory with the database, the index and the models. Unset, it is `habit` in the user's data directory
    /// (`$XDG_DATA_HOME`, or `~/.local/share`). One server a directory.
    pub dir: Option<PathBuf>,
    /// The directory with model files, to share them between data directories. Unset, it is `models` in `dir`.
    pub models: Option<PathBuf>,
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
