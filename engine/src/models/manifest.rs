//! What the store remembers of a prepared model: one `manifest.json` beside its files. It makes the second use instant
//! (nothing is hashed or read again while sizes and times are as they were) and says where everything came from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::catalogue::Kind;
use super::error::ModelError;
use super::{LocalModel, Weights};

/// The file's name.
pub const FILE: &str = "manifest.json";

/// The version of what preparation makes; raised when models must be prepared anew.
pub const FORMAT: u32 = 1;

/// One prepared model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`] when it was written.
    pub format: u32,
    /// The name by which it is asked for.
    pub id: String,
    /// What it is for.
    pub kind: Kind,
    /// Where it came from, for people.
    pub source: String,
    /// The weights' licence, where it is known.
    pub licence: Option<String>,
    /// SHA-256 of what was downloaded, in hex; `None` for a file that was already here.
    pub sha256: Option<String>,
    /// The weights.
    pub weights: Files,
    /// Whether the exact tokenizer lies in the model's directory (or, for safetensors, among its files).
    pub tokenizer: bool,
    /// The architecture, as the model's files name it.
    pub architecture: Option<String>,
    /// How many tensors there are of each type.
    pub types: BTreeMap<String, usize>,
    /// Tokens that prompt and reply may have together.
    pub context_window: Option<usize>,
    /// When it was prepared, in Unix seconds.
    pub created: i64,
    /// The files that must be as they were for this to hold.
    pub files: Vec<Stamp>,
}

/// The weights of a manifest: paths are relative to it, or absolute where the files are the user's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Files {
    /// A GGUF file.
    Gguf(PathBuf),
    /// A directory of safetensors.
    Safetensors(PathBuf),
}

/// A file as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Where: relative to the manifest, or absolute.
    pub path: PathBuf,
    /// Its bytes.
    pub size: u64,
    /// Its time, in Unix milliseconds; only of the user's own files (ours may be copied about).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<u64>,
}

impl Stamp {
    /// The file as it is now; `path` as in [`Stamp::path`].
    pub(crate) fn take(dir: &Path, path: &Path) -> Result<Self, ModelError> {
        let full = dir.join(path);
        let metadata = std::fs::metadata(&full).map_err(ModelError::io("read", &full))?;
        let modified = path.is_absolute().then(|| metadata.modified().ok()).flatten();
        let modified = modified
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .and_then(|since| u64::try_from(since.as_millis()).ok());
        Ok(Self {
            path: path.to_owned(),
            size: metadata.len(),
            modified,
        })
    }
}

impl Manifest {
    /// Reads a model's manifest; `None` if there is none that this version can use, or a file has changed.
    #[must_use]
    pub fn read(dir: &Path) -> Option<Self> {
        let manifest: Self = serde_json::from_slice(&std::fs::read(dir.join(FILE)).ok()?).ok()?;
        let unchanged = |stamp: &Stamp| Stamp::take(dir, &stamp.path).is_ok_and(|now| now == *stamp);
        (manifest.format == FORMAT && manifest.files.iter().all(unchanged)).then_some(manifest)
    }

    /// Writes it.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), ModelError> {
        let path = dir.join(FILE);
        let text = serde_json::to_string_pretty(self).map_err(|error| ModelError::invalid(&path, error.to_string()))?;
        std::fs::write(&path, text).map_err(ModelError::io("write", &path))
    }

    /// The model, as what loads it wants it.
    #[must_use]
    pub fn local(&self, dir: &Path) -> LocalModel {
        let (weights, tokenizer_dir) = match &self.weights {
            Files::Gguf(path) => (Weights::Gguf(dir.join(path)), dir.to_owned()),
            Files::Safetensors(path) => (Weights::Safetensors(dir.join(path)), dir.join(path)),
        };
        LocalModel {
            id: self.id.clone(),
            weights,
            tokenizer_dir: self.tokenizer.then_some(tokenizer_dir),
            context_window: self.context_window,
            created: self.created,
        }
    }
}
