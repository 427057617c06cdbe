//! Characters, presets and instruction templates: YAML files in the data directory, in text-generation-webui's format,
//! and a few that are built in. A file of the same name comes before a built-in one. What they mean for a request is in
//! [`crate::api::webui`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The longest file that is read, in bytes: a character is a page of text.
const MOST_BYTES: u64 = 1 << 20;

/// The character that is meant where none is named.
pub const DEFAULT_CHARACTER: &str = "Assistant";

/// What the files are about; each kind has a folder of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Who speaks in the modes `chat` and `chat-instruct`.
    Character,
    /// Values of sampling parameters.
    Preset,
    /// Jinja templates that turn messages into a prompt.
    Template,
}

impl Kind {
    /// The folder in the data directory.
    fn folder(self) -> &'static str {
        match self {
            Self::Character => "characters",
            Self::Preset => "presets",
            Self::Template => "instruction-templates",
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Character => "character",
            Self::Preset => "preset",
            Self::Template => "instruction template",
        }
    }

    fn builtin(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Character => &[(DEFAULT_CHARACTER, include_str!("library/builtin/assistant.yaml"))],
            Self::Preset => &[
                ("Balanced", "temperature: 0.7\ntop_p: 0.9\n"),
                ("Creative", "temperature: 1.2\nmin_p: 0.05\n"),
                ("Deterministic", "temperature: 0\n"),
                ("min_p", "temperature: 1\nmin_p: 0.05\n"),
            ],
            Self::Template => &[
                ("Alpaca", include_str!("library/builtin/alpaca.yaml")),
                ("ChatML", include_str!("library/builtin/chatml.yaml")),
                ("Llama-v3", include_str!("library/builtin/llama-v3.yaml")),
                ("Mistral", include_str!("library/builtin/mistral.yaml")),
                ("Vicuna", include_str!("library/builtin/vicuna.yaml")),
            ],
        }
    }
}

/// Who speaks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Character {
    /// The name before what it says.
    #[serde(default)]
    pub name: String,
    /// What it says first.
    #[serde(default)]
    pub greeting: String,
    /// What the model is told about it.
    #[serde(default)]
    pub context: String,
}

/// Values of sampling parameters, by their names in requests.
pub type Preset = serde_json::Map<String, serde_json::Value>;

#[derive(Debug, Deserialize)]
struct Template {
    instruction_template: String,
}

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// There is none of this name.
    #[error("there is no {} `{name}`; there are: {}", kind.as_str(), .available.join(", "))]
    Unknown {
        /// What was looked for.
        kind: Kind,
        /// Its name.
        name: String,
        /// What there is.
        available: Vec<String>,
    },
    /// It is there, but not as it must be.
    #[error("the {} `{name}` can't be used: {reason}", kind.as_str())]
    Broken {
        /// What was looked for.
        kind: Kind,
        /// Its name.
        name: String,
        /// Why, and where in the file.
        reason: String,
    },
}

/// The files of one data directory; without a directory only what is built in.
#[derive(Debug, Clone, Default)]
pub struct Library {
    root: Option<PathBuf>,
}

impl Library {
    /// Reads below `root`, which need not exist.
    #[must_use]
    pub fn new(root: Option<PathBuf>) -> Self {
        Self { root }
    }

    /// A character by its file's name. Reads a file; not for the hot path.
    ///
    /// # Errors
    /// [`LibraryError`].
    pub fn character(&self, name: &str) -> Result<Character, LibraryError> {
        self.read(Kind::Character, name)
    }

    /// A preset.
    ///
    /// # Errors
    /// [`LibraryError`].
    pub fn preset(&self, name: &str) -> Result<Preset, LibraryError> {
        self.read(Kind::Preset, name)
    }

    /// An instruction template's Jinja text.
    ///
    /// # Errors
    /// [`LibraryError`].
    pub fn template(&self, name: &str) -> Result<String, LibraryError> {
        self.read::<Template>(Kind::Template, name)
            .map(|template| template.instruction_template)
    }

    /// The names of all that there is of a kind, sorted.
    #[must_use]
    pub fn names(&self, kind: Kind) -> Vec<String> {
        let mut names: BTreeSet<String> = kind.builtin().iter().map(|(name, _)| (*name).to_owned()).collect();
        let files = self
            .root
            .as_ref()
            .map(|root| std::fs::read_dir(root.join(kind.folder())));
        for entry in files.into_iter().flatten().flatten().flatten() {
            let path = entry.path();
            let yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
            if let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()).filter(|_| yaml) {
                names.insert(stem.to_owned());
            }
        }
        names.into_iter().collect()
    }

    fn read<T: DeserializeOwned>(&self, kind: Kind, name: &str) -> Result<T, LibraryError> {
        let text = match self.file(kind, name)? {
            Some(text) => text,
            None => kind
                .builtin()
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, text)| (*text).to_owned())
                .ok_or_else(|| self.unknown(kind, name))?,
        };
        serde_yaml_ng::from_str(&text).map_err(|error| broken(kind, name, error.to_string()))
    }

    /// The text of a file in the data directory, if there is one.
    fn file(&self, kind: Kind, name: &str) -> Result<Option<String>, LibraryError> {
        // A name is a file's, never a path.
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0', ':']);
        if !plain {
            return Err(self.unknown(kind, name));
        }
        let Some(root) = &self.root else { return Ok(None) };
        let folder = root.join(kind.folder());
        let path = ["yaml", "yml"]
            .into_iter()
            .map(|end| folder.join(format!("{name}.{end}")))
            .find(|path| path.is_file());
        path.map(|path| read_text(&path).map_err(|reason| broken(kind, name, reason)))
            .transpose()
    }

    fn unknown(&self, kind: Kind, name: &str) -> LibraryError {
        LibraryError::Unknown {
            kind,
            name: name.to_owned(),
            available: self.names(kind),
        }
    }
}

fn broken(kind: Kind, name: &str, reason: String) -> LibraryError {
    let name = name.to_owned();
    LibraryError::Broken { kind, name, reason }
}

fn read_text(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MOST_BYTES {
        return Err(format!("it has {size} bytes; {MOST_BYTES} are allowed"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(files: &[(&str, &str)]) -> (tempfile::TempDir, Library) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let library = Library::new(Some(dir.path().to_owned()));
        (dir, library)
    }

    #[test]
    fn what_is_built_in_can_be_read() {
        let library = Library::default();
        for kind in [Kind::Character, Kind::Preset, Kind::Template] {
            assert!(!library.names(kind).is_empty());
            for name in library.names(kind) {
                match kind {
                    Kind::Character => drop(library.character(&name).unwrap()),
                    Kind::Preset => drop(library.preset(&name).unwrap()),
                    Kind::Template => drop(library.template(&name).unwrap()),
                }
            }
        }
    }

    #[test]
    fn a_file_comes_before_what_is_built_in() {
        let (_dir, library) = library(&[
            (
                "characters/Assistant.yaml",
                "name: Ada\ngreeting: Hello.\ncontext: |-\n  Ada counts.\n",
            ),
            ("presets/Odd.yml", "temperature: 0.1\nmirostat: 2\n"),
        ]);
        assert_eq!(library.character("Assistant").unwrap().name, "Ada");
        assert_eq!(library.preset("Odd").unwrap()["temperature"], 0.1);
        assert!(library.names(Kind::Preset).contains(&"Odd".to_owned()));
    }

    #[test]
    fn names_are_never_paths() {
        let (_dir, library) = library(&[("secret.yaml", "name: x\n")]);
        for name in ["../secret", "..", "", "a/b", "a\\b", "c:x", "nobody"] {
            let error = library.character(name).unwrap_err();
            assert!(matches!(error, LibraryError::Unknown { .. }), "{name}: {error}");
        }
    }

    #[test]
    fn a_broken_file_says_where() {
        let (_dir, library) = library(&[("instruction-templates/x.yaml", "nothing: here\n")]);
        let error = library.template("x").unwrap_err().to_string();
        assert!(error.contains("instruction_template"), "{error}");
    }
}
