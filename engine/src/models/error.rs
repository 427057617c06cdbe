//! Why a model could not be found, fetched or prepared, and what to do about it.

use std::path::{Path, PathBuf};

use crate::EngineError;

/// What went wrong in the model store.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Nothing has this name.
    #[error(
        "there is no model `{spec}`{}; give a name from `habit models list`, the path of a .gguf file or of a model directory, \
         or a hub id such as org/name",
        nearest(near)
    )]
    Unknown {
        /// What was asked for.
        spec: String,
        /// The known names that are most like it, nearest first.
        near: Vec<String>,
    },
    /// The name fits several things.
    #[error("`{spec}` could be any of {}; name one of them", choices.join(", "))]
    Ambiguous {
        /// What was asked for.
        spec: String,
        /// What it could mean, each as it can be asked for.
        choices: Vec<String>,
    },
    /// It could not be found or downloaded; the message says what to try.
    #[error("{0}")]
    Fetch(String),
    /// What was downloaded is not what is pinned.
    #[error(
        "{name} has the wrong checksum (expected SHA-256 {expected}, got {actual}); the download was deleted. Try again; if it \
         happens again, what serves the file serves something else than the pinned version, and it must not be used"
    )]
    Checksum {
        /// The file.
        name: String,
        /// The pinned hash, in hex.
        expected: String,
        /// The hash of what came, in hex.
        actual: String,
    },
    /// A file is not a model that can be loaded.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file or directory.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The disk refused.
    #[error("can't {doing} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ModelError {
    /// A file that can't be loaded as a model.
    pub(crate) fn invalid(path: &Path, reason: impl Into<String>) -> Self {
        Self::Invalid {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    /// For `map_err`: what was tried on which path.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

impl From<ModelError> for EngineError {
    fn from(error: ModelError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

fn nearest(near: &[String]) -> String {
    if near.is_empty() {
        String::new()
    } else {
        format!(" (did you mean {}?)", near.join(" or "))
    }
}
